"""Line ends, dot-stuffing, sizes and TOP, against definitions written one octet at a time."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.sansio import BodyDecoder, BodyEncoder, OctetCounter, TopCutter, octets_of

from .strategies import cut, cuts, messages


def canon(stored: bytes) -> bytes:
    """PROTOCOL 1.4, as a definition."""
    out = bytearray()
    for octet in stored:
        if octet == 0x0A and out[-1:] != b"\r":
            out.append(0x0D)
        out.append(octet)
    return bytes(out) if out.endswith(b"\r\n") else bytes(out) + b"\r\n"


def encode(chunks: list[bytes], *, empty_line: bool = True) -> tuple[bytes, int]:
    encoder = BodyEncoder()
    wire = b"".join([encoder.encode(chunk) for chunk in chunks]) + encoder.finish(empty_line=empty_line)
    return wire, encoder.octets


def decode(chunks: list[bytes], *, lenient: bool = False) -> tuple[bytes, bytes, bool]:
    decoder = BodyDecoder(lenient=lenient)
    body = b""
    for index, chunk in enumerate(chunks):
        body += decoder.decode(chunk)
        if decoder.done:
            return body, decoder.rest + b"".join(chunks[index + 1 :]), True
    return body, b"", False


def naive_top(stored: bytes, lines: int) -> bytes:
    """Headers, the blank line and n lines of the canonical form."""
    rows = canon(stored).split(b"\r\n")[:-1]
    # A lone CR before CRLF is an octet of the line, so only a row without any octet is blank.
    blank = next((index for index, row in enumerate(rows) if not row), None)
    shown = rows if blank is None else rows[: blank + 1 + lines]
    return b"".join(row + b"\r\n" for row in shown)


@given(messages, cuts)
def test_what_is_decoded_is_the_canonical_form(message: bytes, places: list[int]) -> None:
    """PROTOCOL 1.4 round-trip law; A1-A5, A24-A28, B1; R1939-08..12, 40, 41."""
    wire, octets = encode(cut(message, places))
    body, rest, done = decode(cut(wire + b"+OK next\r\n", places))
    assert done
    assert body == canon(message)
    assert rest == b"+OK next\r\n"
    assert octets == len(body)


@given(messages, cuts)
def test_encoding_and_counting_do_not_depend_on_chunks(message: bytes, places: list[int]) -> None:
    """A2."""
    counter = OctetCounter()
    for chunk in cut(message, places):
        counter.update(chunk)
    assert encode(cut(message, places)) == encode([message])
    assert counter.finish() == octets_of(message) == len(canon(message))


@given(messages)
def test_the_terminator_is_at_the_end_and_nowhere_else(message: bytes) -> None:
    """A3, A5: also for a client that takes bare LF or CR for a line end: no line of the body is a lone dot."""
    wire, _ = encode([message])
    assert wire.endswith(b"\r\n.\r\n")
    assert (b"\r\n" + wire).index(b"\r\n.\r\n") == len(wire) - 3
    assert all(line != b"." for line in wire.replace(b"\r\n", b"\n").split(b"\n")[:-2])


@given(messages, st.integers(0, 6), cuts)
@example(b"a\n\n" + b"x\n" * 9000, 8000, [100])
@example(b"a\n\n" + b"x\n" * 9000, 10, [])
# Long chunks, where lines are counted by halves: more lines than one chunk has, lines that are not spread evenly, and
# as many as the first half has, which ends within a line.
@example(b"a\n\n" + b"x\n" * 18000, 17990, [18000])
@example(b"a\n\n" + b"\n" * 6000 + b"x" * 6000 + b"\ny\n", 5999, [])
@example(b"a\n\n" + b"wxyz\n" * 3001, 1500, [])
def test_top_is_what_the_definition_says_and_a_prefix_of_retr(message: bytes, lines: int, places: list[int]) -> None:
    """B5, A18, A-20; R1939-57, R1939-58."""
    cutter = TopCutter(lines)
    shown: list[bytes] = []
    for chunk in cut(message, places):
        shown.append(cutter.cut(chunk))
        if cutter.done:
            break
    top = decode([encode(shown)[0]])[0]
    assert top == naive_top(message, lines)
    assert canon(message).startswith(top)


def test_top_beyond_the_end_is_the_whole_message() -> None:
    """R1939-58."""
    message = b"h: v\n\n1\n2\n3"
    assert TopCutter(10**10).cut(message) == message
    assert canon(TopCutter(0).cut(message)) == b"h: v\r\n\r\n"


def test_top_says_when_there_is_no_need_to_read_on() -> None:
    """R1939-58."""
    cutter = TopCutter(1)
    assert cutter.cut(b"h: v\n") == b"h: v\n"
    assert cutter.done is False
    assert cutter.cut(b"\n1\n2\n") == b"\n1\n"
    assert cutter.done is True


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b"\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),  # A1
        (b"x", b"x\r\n.\r\n"),
        (b"x\r\n", b"x\r\n.\r\n"),  # A4
        (b"a\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n.\r\n"),
        (b"a\rb\r", b"a\rb\r\r\n.\r\n"),
        (b"\r.\r", b"\r.\r\r\n.\r\n"),
        (b"\0\xff\n", b"\0\xff\r\n.\r\n"),  # A8, A-27
    ],
)
def test_examples(message: bytes, wire: bytes) -> None:
    assert encode([message])[0] == wire


def test_a_listing_without_lines_is_the_terminator_only() -> None:
    """R1939-35, F7."""
    assert encode([], empty_line=False) == (b".\r\n", 0)
    assert decode([b".\r\n"]) == (b"", b"", True)


def test_only_crlf_ends_a_line_for_the_decoder_unless_it_is_lenient() -> None:
    """A-01."""
    assert decode([b"a\n.\nb\r\n.\r\n"]) == (b"a\n.\nb\r\n", b"", True)
    assert decode([b"a\r\n.\nrest"]) == (b"a\r\n\nrest", b"", False)
    assert decode([b"a\r\n.\nrest"], lenient=True) == (b"a\r\n", b"rest", True)
    decoder = BodyDecoder()
    assert decoder.decode(b"a\r\n.\nrest\r\n") == b"a\r\n\nrest"
    assert (decoder.done, decoder.rest) == (False, b"")


@given(st.binary(max_size=80), cuts)
def test_the_decoder_takes_anything(data: bytes, places: list[int]) -> None:
    """Totality and chunking of the reader's side."""
    assert decode(cut(data, places))[::2] == decode([data])[::2] or not decode([data])[2]
    if decode([data])[2]:
        assert decode(cut(data, places)) == decode([data])


def test_an_empty_chunk_changes_nothing() -> None:
    counter = OctetCounter()
    for chunk in (b"a\r", b"", b"\nb"):
        counter.update(chunk)
    assert counter.finish() == 6
    assert encode([b"a\r", b"", b"\nb"]) == encode([b"a\r\nb"])
