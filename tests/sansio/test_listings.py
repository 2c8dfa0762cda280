"""What a client reads out of reply texts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import RemoteProtocolError
from trio_pop3.sansio.listings import parse_capabilities, parse_numbers, parse_unique_id


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("2 320", (2, 320)),
        ("2 320 octets", (2, 320)),
        ("1 4294967296000", (1, 4294967296000)),
        ("02 007", (2, 7)),
        (" 2  320 ", (2, 320)),
        ("0 0", (0, 0)),
        ("2 320 octets, and as many more words as a server may like", (2, 320)),
    ],
)
def test_numbers(line: str, numbers: tuple[int, int]) -> None:
    """R1939-78, A15, B3."""
    assert parse_numbers(line) == numbers


@pytest.mark.parametrize("line", ["", "1", "x 1", "1 x", "+1 2", "1 -2", "1_0 2", "\u0661 2", "1 " + "9" * 20])
def test_what_are_no_numbers(line: str) -> None:
    """C3: nothing that `int` would take beyond ASCII digits."""
    with pytest.raises(RemoteProtocolError):
        parse_numbers(line)


@pytest.mark.parametrize(("words", "what"), [("1 x", "a number"), ("1 \u00e4", "a unique-id"), ("", "a unique-id")])
def test_what_was_got_instead_is_quoted_within_reason(words: str, what: str) -> None:
    """A12, A13: the first 80 characters of the line."""
    line = f"{words} {'x' * 100}" if words else ""
    with pytest.raises(RemoteProtocolError) as failure:
        (parse_numbers if what == "a number" else parse_unique_id)(line)
    assert str(failure.value) == f"expected {what}, got {line[:80]!r}"


def test_unique_ids() -> None:
    """A12, A15: longer ones than allowed are taken, within reason."""
    assert parse_unique_id("1 abc") == (1, "abc")
    assert parse_unique_id("1 " + "x" * 512) == (1, "x" * 512)
    assert parse_unique_id("1 !~ what a host appends") == (1, "!~")


@pytest.mark.parametrize(
    "line", ["", "1", "1 ", "x abc", "1 " + "x" * 513, "1 a\x1fb", "1 a\x7f", "1 \u00e4", "1\tabc"]
)
def test_what_is_no_unique_id(line: str) -> None:
    """A12, R1939-61: a unique-id is printable ASCII, and bounded."""
    with pytest.raises(RemoteProtocolError):
        parse_unique_id(line)


def test_capabilities() -> None:
    """R2449-08: case does not matter, repeated tags are joined, empty lines are nothing."""
    lines = ["top", "SASL PLAIN", "", "sasl SCRAM-SHA-256 PLAIN", "EXPIRE 60 USER"]
    expected = {"TOP": (), "SASL": ("PLAIN", "SCRAM-SHA-256"), "EXPIRE": ("60", "USER")}
    assert parse_capabilities(lines) == expected


def test_a_capability_repeated_without_end() -> None:
    """P4: joining costs no square of the lines; this one would take minutes."""
    lines = [f"SASL {number}" for number in range(50_000)]
    assert len(parse_capabilities(lines)["SASL"]) == 50_000


@given(st.text(max_size=40))
def test_any_line_is_understood_or_refused(line: str) -> None:
    parse_capabilities([line])
    for parser in (parse_numbers, parse_unique_id):
        with contextlib.suppress(RemoteProtocolError):
            parser(line)
