"""Nothing of a secret gets through, in whatever pieces it comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.testing import Transcript
from trio_pop3.testing.redaction import HIDDEN, Redactor, redacted, shown

LINES = {
    b"PASS secret": "PASS ***",
    b"pass  two words ": "pass ***",
    b"PASS\tsecret": "PASS\t***",
    b"PASS ": "PASS ",
    b"PASS": "PASS",
    b"USER alice": "USER alice",
    b"APOP alice 0123": "APOP alice ***",
    b"APOP alice": "APOP alice",
    b"AUTH PLAIN AHg=": "AUTH PLAIN ***",
    b"AUTH PLAIN": "AUTH PLAIN",
    b"AUTH": "AUTH",
    b"STAT": "STAT",
    b"": "",
    b"\xff\xfe": "\\xff\\xfe",
    "USER jörg".encode(): "USER jörg",
}
EXCHANGE = {b"AHg=": "***", b"*": "*", b"": "", b"PASS x": "***"}


@pytest.mark.parametrize(("line", "text"), LINES.items())
def test_lines(line: bytes, text: str) -> None:
    assert shown(line) == text


@pytest.mark.parametrize(("line", "text"), EXCHANGE.items())
def test_lines_of_an_exchange(line: bytes, text: str) -> None:
    assert shown(line, exchange=True) == text


def printed(told: bytes) -> str:
    transcript = Transcript(hide=HIDDEN)
    transcript.add("C", told)
    return str(transcript)


@given(
    st.lists(st.tuples(st.sampled_from([*LINES]), st.sampled_from([b"\r\n", b"\n"])), max_size=5),
    st.sampled_from([*LINES]),
    st.lists(st.integers(0, 80), max_size=5),
)
def test_pieces_make_no_difference(lines: list[tuple[bytes, bytes]], rest: bytes, cuts: list[int]) -> None:
    """However it is cut, the same is told; a line behind an AUTH in the same piece is hidden, and that is all."""
    data = b"".join(line + end for line, end in lines) + rest
    edges = [0, *sorted(cuts), len(data)]
    redactor = Redactor()
    told = b"".join(redactor.feed(data[a:b], exchange=False) for a, b in pairwise(edges))
    whole = b"".join(redacted(line) + end for line, end in lines) + redacted(rest)
    assert b"secret" not in told
    assert b"words" not in told
    assert b"0123" not in told
    assert b"AHg=" not in told
    if not any(line.upper().startswith(b"AUTH ") for line, _ in lines):
        assert told == whole


@given(st.text("Ab3+/=", min_size=1).map(str.encode), st.integers(0, 40))
def test_an_exchange_is_not_told(secret: bytes, cut: int) -> None:
    data = secret + b"\r\n"
    redactor = Redactor()
    told = redactor.feed(data[:cut], exchange=True) + redactor.feed(data[cut:], exchange=True)
    assert printed(told) == "C: \\{sasl}\n"


def test_what_follows_auth_in_the_same_piece_is_hidden() -> None:
    redactor = Redactor()
    told = redactor.feed(b"STAT\r\nAUTH PLAIN\r\nAHNlY3JldA==\r\nhalf", exchange=False)
    told += redactor.feed(b"Secret\r\nNOOP\r\n", exchange=False)
    lines = ["C: STAT", "C: AUTH PLAIN", "C: \\{sasl}", "C: \\{sasl}", "C: NOOP"]
    assert printed(told) == "".join(f"{line}\n" for line in lines)


def test_strict_lines_end_in_crlf_only() -> None:
    redactor = Redactor(b"\r\n")
    told = redactor.feed(b"PASS one\ntwo", exchange=False) + redactor.feed(b"\r", exchange=False)
    told += redactor.feed(b"\nNOOP\r\n", exchange=False)
    assert printed(told) == "C: PASS \\{password}\nC: NOOP\n"


def test_it_can_be_replayed_with_the_secrets() -> None:
    text = printed(Redactor().feed(b"PASS secret\r\n", exchange=False))
    assert Transcript.parse(text, {"password": b"secret"}).entries[0].data == b"PASS secret\r\n"
