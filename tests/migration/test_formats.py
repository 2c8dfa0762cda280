"""Formats of unique-ids: `%08Xu%08Xv` and the like. tests/interop/test_migration.py asks a real Dovecot."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.migration.formats import CYRUS, DOVECOT, UidlFormat
from trio_pop3.migration.old import SourceError

numbers = st.integers(1, 2**32 - 1)


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        (DOVECOT, "0000002a6b04940c"), ("%u-%v", "42-1795462156"), ("%v.%u", "1795462156.42"),
        ("%v-%u", "1795462156-42"),
        ("%08Xv%08Xu", "6b04940c0000002a"), ("%Xu.%Xv", "2a.6b04940c"), ("%u", "42"), ("%010u", "0000000042"),
        ("%f", "17.M1.host,S=5"), ("%g", "0123abcd"), ("100%%-%u", "100%-42"), ("<%u>", "<42>"),
        ("%Mf", hashlib.md5(b"17.M1.host,S=5").hexdigest()),
        ("%{uid}-%{uidvalidity}", "42-1795462156"), ("%{filename}", "17.M1.host,S=5"), ("%{guid}", "0123abcd"),
        ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "0000002a6b04940c"), ("%{ uid|hex(2) }", "2a"),
    ],
)  # fmt: skip
def test_what_comes_out(text: str, uid: str) -> None:
    assert UidlFormat(text)(42, 0x6B04940C, b"17.M1.host,S=5", b"0123abcd") == uid


@given(numbers, numbers)
def test_the_default_is_of_fixed_width_in_lower_case(uid: int, uidvalidity: int) -> None:
    """F4."""
    text = UidlFormat(DOVECOT)(uid, uidvalidity, b"x", b"x")
    assert (text, len(text)) == (f"{uid:08x}{uidvalidity:08x}", 16)


@given(numbers, numbers, numbers, st.sampled_from([DOVECOT, *CYRUS.values()]))
def test_two_messages_differ(one: int, other: int, uidvalidity: int, text: str) -> None:
    """F1."""
    uidl_format = UidlFormat(text)
    assert (uidl_format(one, uidvalidity, b"", b"") == uidl_format(other, uidvalidity, b"", b"")) is (one == other)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("%m", "no Maildir can have been served with it"), ("%u%{md5}", "--from pop3://"), ("%v", "the same unique-id"),
        ("", "the same unique-id"), ("plain", "the same unique-id"), ("%q%u", "'%q' in"), ("%u%", "a % in"),
        ("%8Xu", "a % in"), ("%Lu", "'%L' in"), ("%08f", "'%08f' in"), ("%Xg", "'%Xg' in"),
        ("%Mu", "'%Mu' in"), ("%08Mf", "'%08Mf' in"), ("%{nothing}%u", "nothing"),
        ("%{uid", "a % in"), ("%{filename | hex(8)}", "filename"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed(text: str, why: str) -> None:
    """The sentence says what to do."""
    with pytest.raises(SourceError) as caught:
        UidlFormat(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
