"""Cyrus: what an administrator gives, and the four settings of `uidl_format`."""

from __future__ import annotations

import pytest

from trio_pop3.migration import cyrus
from trio_pop3.migration.formats import CYRUS, UidlFormat
from trio_pop3.migration.old import SourceError

PLAIN = UidlFormat(CYRUS["cyrus"])


@pytest.mark.parametrize(
    ("setting", "uid"),
    [("cyrus", "1795564812.12"), ("uidonly", "12"), ("dovecot", "0000000c6b06250c"), ("courier", "1795564812-12")],
)
def test_every_setting(setting: str, uid: str) -> None:
    found = cyrus.from_names([b"12."], 1795564812, UidlFormat(CYRUS[setting]))
    assert found.uids == {b"12.": uid}


def test_names_of_a_spool() -> None:
    """Files that came later have other names, and no UID."""
    found = cyrus.from_names([b"12.", b"3.", b"1700000000.M1P1.host", b"0.", b"012.", b"7"], 5, PLAIN)
    assert [*found.uids.items()] == [(b"3.", "5.3"), (b"12.", "5.12")]


def test_a_list() -> None:
    data = b"# UID and file\n\n12 1700000002.M1P1.host:2,S\n3 1700000001.M1P1.host\n3 1700000001.M1P1.host\n"
    found = cyrus.read_list("list", data, 5, PLAIN)
    assert [*found.uids.items()] == [(b"1700000001.M1P1.host", "5.3"), (b"1700000002.M1P1.host", "5.12")]


@pytest.mark.parametrize(
    "data", [b"x a\n", b"5\n", b"5 \n", b"0 a\n", b"5 cur/a\n", b"5 a\0\n", b"5 a\n6 a\n", b"99999999999 a\n"]
)
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(SourceError, match=f"^list line {data.count(10)}: "):
        cyrus.read_list("list", data, 5, PLAIN)


def test_no_name_of_a_spool() -> None:
    with pytest.raises(SourceError, match="give a list with --file"):
        cyrus.from_names([b"1700000000.M1P1.host"], 5, PLAIN)
