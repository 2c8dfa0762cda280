"""What a server reads of lines, and which dialects there are."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import COMMANDS
from trio_pop3.testing import Dialect
from trio_pop3.testing.dialect import ANY, DEFAULT, STRICT

LATITUDE = [field.name for field in fields(Dialect) if "bool | None" in str(field.type)]


def test_any_server_may_do_what_it_likes_where_it_may() -> None:
    assert all(getattr(ANY, name) is None for name in LATITUDE)
    assert ANY.may_close and ANY.more_in_listings


@pytest.mark.parametrize("dialect", [DEFAULT, STRICT])
def test_of_our_own_server_everything_is_known(dialect: Dialect) -> None:
    assert None not in [getattr(dialect, name) for name in LATITUDE]
    assert dialect.verbs >= {row.verb.decode() for row in COMMANDS if row.verb}


def test_the_profiles_differ_where_section_7_says_so() -> None:
    """A-01, A-06, section 8.4, A-39."""
    differ = {name for name in LATITUDE if getattr(DEFAULT, name) != getattr(STRICT, name)}
    assert differ == {"trailing_spaces", "bare_lf", "auth_alone", "late_utf8"}
    assert replace(STRICT, **{name: getattr(DEFAULT, name) for name in differ}) == DEFAULT


@pytest.mark.parametrize(
    ("line", "read"),
    {
        b"NOOP": [b"NOOP"],
        b"": [b""],
        b"NOOP\nSTAT": [b"NOOP", b"STAT"],
        b"NOOP\r\nSTAT": [b"NOOP", b"STAT"],
        b"RSET\n": [b"RSET", b""],
        b"\nNOOP": [b"", b"NOOP"],
        b"STAT\n\r": [b"STAT", b"\r"],
        b"a\rb\n\n": [b"a\rb", b"", b""],
    }.items(),
)
def test_a_bare_lf_ends_a_line_where_it_may(line: bytes, read: list[bytes]) -> None:
    """A-01: one CR in front of it goes with it."""
    assert DEFAULT.as_read([line, b"QUIT"]) == [*read, b"QUIT"]
    assert STRICT.as_read([line]) == [line]
    assert ANY.as_read([line]) == [line]


@given(st.lists(st.text("a\r\n", max_size=8).map(str.encode), max_size=3))
def test_what_is_read_is_what_ends_in_lf(lines: list[bytes]) -> None:
    """Against a definition on the octets that are sent: a line ends at its LF, a CR in front of it or not."""
    sent = b"".join(line + b"\r\n" for line in lines)
    assert DEFAULT.as_read(lines) == [line.removesuffix(b"\r") for line in sent.split(b"\n")[:-1]]
