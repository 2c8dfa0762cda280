"""Dialogues as people write them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.testing import Transcript

octets = st.binary(max_size=60) | st.sampled_from(
    [b"USER x\r\n", b"A" * 600 + b"\r\n", b"\r\n", b"\\{a*24} \r\n", b"\xff" * 40]
)
entries = st.lists(st.tuples(st.sampled_from("CSD"), octets, st.integers(1, 2)), max_size=8)


@given(entries=entries)
def test_what_is_printed_is_read_back(entries: list[tuple[str, bytes, int]]) -> None:
    transcript = Transcript()
    for who, data, number in entries:
        transcript.add(who, data, 1 if who == "D" else number)  # type: ignore[arg-type]
    again = Transcript.parse(str(transcript))
    assert str(again) == str(transcript)
    assert str(transcript).isascii()


def test_secrets_are_named_also_one_inside_another() -> None:
    """P5."""
    transcript = Transcript(hide={b"secret": "password", b"secretkey": "key"})
    transcript.add("C", b"PASS secretkey\r\nPASS secret\r\n")
    assert str(transcript) == "C: PASS \\{key}\nC: PASS \\{password}\n"
    with pytest.raises(ValueError, match="line 1 needs a value for key"):
        Transcript.parse(str(transcript))
    read = Transcript.parse(str(transcript), {"key": b"secretkey", "password": b"secret"})
    assert b"".join(entry.data for entry in read.entries) == b"PASS secretkey\r\nPASS secret\r\n"


@pytest.mark.parametrize("line", ["X: what", "C", "C! opens", "C: \\q", "C>", "S: ü"])
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        Transcript.parse(f"C: STAT\n{line}\n")


def test_the_middle_of_a_long_reply_is_left_out() -> None:
    transcript = Transcript()
    transcript.add("S", b"".join(b"%d\r\n" % n for n in range(100)))
    lines = transcript.shortened(10).splitlines()
    assert (lines[0], lines[5], lines[-1]) == ("S: 0", "# ... 90 lines ...", "S: 99")
