"""Lines out of octets: limits, chunking, and work that is bounded by what arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio.buffer import OVERLONG_LINE, OVERLONG_STREAM, Overlong, ReceiveBuffer

from .strategies import cut, cuts

Lines = list[bytes | Overlong]
streams = st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b"ab", b"x" * 9, b"y" * 40]) | st.binary(max_size=5), max_size=12
).map(b"".join)


def lines_of(chunks: list[bytes], *, line_end: bytes = b"\n", max_line: int = 10, max_dropped: int = 40) -> Lines:
    buffer = ReceiveBuffer(line_end=line_end)
    lines: Lines = []
    for chunk in chunks:
        buffer.append(chunk)
        while (line := buffer.next_line(max_line, max_dropped)) is not None:
            lines.append(line)
            if line is OVERLONG_STREAM:
                return lines
    return lines


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@given(data=streams, places=cuts)
def test_lines_do_not_depend_on_chunks(line_end: bytes, data: bytes, places: list[int]) -> None:
    """P6, D5."""
    assert lines_of(cut(data, places), line_end=line_end) == lines_of([data], line_end=line_end)
    assert lines_of([bytes([octet]) for octet in data], line_end=line_end) == lines_of([data], line_end=line_end)


@pytest.mark.parametrize(
    ("data", "line_end", "lines"),
    [
        (b"a\r\nb\nc", b"\n", [b"a", b"b"]),
        (b"a\r\r\n", b"\n", [b"a\r"]),
        (b"\n\r\n", b"\n", [b"", b""]),
        (b"\nab\r", b"\n", [b""]),
        (b"a\nb\r\n", b"\r\n", [b"a\nb"]),
        (b"a\r\nb\r", b"\r\n", [b"a"]),
        (b"12345678\r\n", b"\n", [b"12345678"]),
        (b"123456789\r\nok\r\n", b"\n", [OVERLONG_LINE, b"ok"]),
        (b"x" * 38 + b"\r\nok\r\n", b"\n", [OVERLONG_LINE, b"ok"]),
        (b"x" * 39 + b"\r\nok\r\n", b"\n", [OVERLONG_STREAM]),
        (b"x" * 40, b"\n", [OVERLONG_STREAM]),
    ],
)
def test_examples(data: bytes, line_end: bytes, lines: Lines) -> None:
    """A-01, A-04."""
    assert lines_of([data], line_end=line_end) == lines


def test_an_unfinished_line_costs_no_memory() -> None:
    """I1: nothing but its last octet is kept once it is too long."""
    buffer = ReceiveBuffer(line_end=b"\n")
    for _ in range(900):
        buffer.append(b"0123456789")
        assert buffer.next_line(10, 10_000) is None
        assert len(buffer) == 1
    buffer.append(b"\nnext\n")
    assert buffer.next_line(10, 10_000) is OVERLONG_LINE
    assert buffer.next_line(10, 10_000) == b"next"


def test_take_and_put_back() -> None:
    buffer = ReceiveBuffer(line_end=b"\n")
    buffer.append(b"one\ntwo\nthree\n")
    assert buffer.next_line(10, 40) == b"one"
    assert buffer.take() == b"two\nthree\n"
    assert len(buffer) == 0
    buffer.append(b"four\n")
    buffer.put_back(b"three\n")
    assert [buffer.next_line(10, 40), buffer.next_line(10, 40)] == [b"three", b"four"]


def test_a_stream_without_an_end_is_given_up_at_the_very_octet() -> None:
    """A-04: where no line may be dropped, what cannot end in time any more is not waited for."""
    assert lines_of([b"x" * 39], max_line=40) == []
    assert lines_of([b"x" * 40], max_line=40) == [OVERLONG_STREAM]


def test_limits_are_those_of_the_line_that_is_next() -> None:
    """A-04: one buffer, long lines where they are expected and short ones elsewhere."""
    buffer = ReceiveBuffer(line_end=b"\n")
    buffer.append(b"x" * 30)
    assert buffer.next_line(100, 100) is None
    assert len(buffer) == 30
    buffer.append(b"\n" + b"y" * 30 + b"\n")
    assert buffer.next_line(100, 100) == b"x" * 30
    assert buffer.next_line(10, 40) is OVERLONG_LINE


@pytest.mark.parametrize(
    ("data", "begins"),
    [(b"AUTH x", True), (b"auth x", True), (b"aUtH ", True), (b"AUTH", False), (b"XAUTH ", False), (b"", False)],
)
def test_what_a_line_begins_with(data: bytes, begins: bool) -> None:
    buffer = ReceiveBuffer(line_end=b"\n")
    buffer.append(b"one\n" + data)
    assert not buffer.begins(b"AUTH ")
    assert buffer.next_line(10, 40) == b"one"
    assert buffer.begins(b"AUTH ") is begins


def test_the_tail_of_an_over_long_line_begins_nothing() -> None:
    """I1: what is left of a line that was dropped is not the beginning of one."""
    buffer = ReceiveBuffer(line_end=b"\n")
    buffer.append(b"x" * 20 + b"A")
    assert buffer.next_line(10, 40) is None
    buffer.append(b"UTH x\nAUTH y\n")
    assert not buffer.begins(b"AUTH ")
    assert buffer.next_line(10, 40) is OVERLONG_LINE
    assert buffer.begins(b"AUTH ")


def test_search_is_linear() -> None:
    """Octets are searched once, however they arrive: counted, not timed."""

    class Counting(bytearray):
        searched = 0

        def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]
            found = super().find(sub, start)
            Counting.searched += (len(self) if found < 0 else found + len(sub)) - start
            return found

    buffer = ReceiveBuffer(line_end=b"\r\n")
    buffer._data = Counting()
    total = 0
    for _ in range(4000):
        buffer.append(b"x")
        total += 1
        buffer.next_line(8192, 8192)
    assert Counting.searched <= 3 * total
