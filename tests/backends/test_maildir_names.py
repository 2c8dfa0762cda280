"""Identity, unique-id and order of Maildir files, and new names."""

from __future__ import annotations

import os
import re
import socket

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_pop3.backends.maildir import names
from trio_pop3.backends.maildir.names import (
    TIME_OCTETS,
    arrival,
    base_name,
    new_name,
    path_id,
    sort_key,
    unique_id,
    unique_ids,
)

# Any octets a file name can hold.
octets = st.binary(min_size=1, max_size=90).filter(lambda name: b"/" not in name and b"\0" not in name)
bases = octets.filter(lambda name: b":" not in name)
UID = re.compile(r"[\x21-\x7e]{1,70}")


@given(bases, st.text("DFPRST", max_size=4))
def test_flags_are_no_part_of_the_identity(base: bytes, flags: str) -> None:
    """F2: new/, cur/ without and with flags: one message, one unique-id."""
    assert base_name(base) == base_name(base + b":2," + flags.encode()) == base_name(base + b":1,x:y") == base


@given(octets)
def test_unique_ids_are_legal(name: bytes) -> None:
    """F1, R1939-61: whatever the name. Hashes are of fixed width (F4)."""
    uid = unique_id(base_name(name))
    assert UID.fullmatch(uid)
    assert uid.encode() == base_name(name) or re.fullmatch("[0-9a-f]{40}", uid)


@given(bases, bases)
def test_unique_ids_differ(one: bytes, other: bytes) -> None:
    """F1, F3: R1939-63."""
    assume(one != other)
    assert unique_id(one) != unique_id(other)


@given(octets)
def test_no_name_can_be_made_of_another_ones_unique_id(name: bytes) -> None:
    """F1, F3: else whoever names a file could keep its owner from every message."""
    base = base_name(name)
    assert unique_id(base) == base.decode("latin-1") or unique_id(unique_id(base).encode()) != unique_id(base)
    assert unique_id(path_id(b"cur/" + name).encode()) != path_id(b"cur/" + name)


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        (b"x" * 70, True), (b"x" * 71, False), (b"1.a b.c", False), (b"", False), (b"1.\xff.h", False),
        (b"1.\x7f", False), (b"1\n", False), (b"!~", True), (b"1700000000.M1P1.host,S=5,W=6", True),
    ],
)  # fmt: skip
def test_what_is_legal_stays_as_it_is(base: bytes, kept: bool) -> None:
    """F1: at the edges of length and character range."""
    assert (unique_id(base) == base.decode("latin-1")) is kept


def test_unique_ids_are_the_same_in_every_release() -> None:
    """F2, P3, R1939-62: the hash is a promise; a change of it makes every client fetch everything again."""
    assert unique_id(b"1700000000.M1P1.h\xf6st") == "140fec93bb120f77321c3c02e8062749fcbe54ac"


IN_ORDER = [
    b"5.x",
    b"999999999.M1P1.host",
    b"1000000000.old.host",
    b"1700000000.M2P1.host",
    b"1700000000.V801I2c0067M3.host",  # Postfix
    b"1700000000.M3P1V0801I00D1C1E2_0.host,S=9",  # Courier
    b"1700000000.M999999P1.host",
    b"1700000001",
    b"1700000001.12345_1.host",  # procmail
]


def test_order_is_by_time_of_delivery() -> None:
    """C7: by seconds as a number, then microseconds, then the name."""
    times = [arrival(base, 7)[:2] for base in IN_ORDER]
    assert times == [
        (5, 0), (999999999, 1), (1000000000, 0), (1700000000, 2), (1700000000, 3), (1700000000, 3),
        (1700000000, 999999), (1700000001, 0), (1700000001, 0),
    ]  # fmt: skip
    assert times == sorted(times)
    for order in (IN_ORDER[::-1], sorted(IN_ORDER)):
        ordered = sorted(order, key=lambda base: arrival(base, 0))
        assert [arrival(base, 7)[:2] for base in ordered] == times


@pytest.mark.parametrize("base", [b"mail", b"12ab.x", b"20240101-a.eml", b".5", b"1" * 13 + b".x", b"M5.x"])
def test_a_name_without_a_time_goes_by_the_file(base: bytes) -> None:
    """C7."""
    assert arrival(base, 1234) == (1234, 0, base)


@given(st.lists(st.tuples(bases, st.integers(0, 2**40)), unique_by=lambda item: item[0]), st.randoms())
def test_order_does_not_depend_on_readdir(files: list[tuple[bytes, int]], random: object) -> None:
    """C7: total, so the same in every session."""
    shuffled = files[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(files, key=lambda f: arrival(*f)) == sorted(shuffled, key=lambda f: arrival(*f))


def test_looking_for_microseconds_takes_no_time() -> None:
    """P4: names chosen to make a regular expression try everything."""
    for tail in (b"V" * 250, b"V0" * 120, b"M" * 250, b"M" + b"0" * 249, b".V" * 120):
        assert arrival(b"1." + tail, 0)[:2] == (1, 0)


def test_new_names_are_unique_ordered_and_unique_ids_as_they_are() -> None:
    """F1, F3, F5."""
    made = [new_name() for _ in range(500)]
    assert len(set(made)) == 500
    assert all(unique_id(name.encode()) == name for name in made)
    assert [arrival(name.encode(), 0)[:2] for name in made] == sorted(arrival(name.encode(), 0)[:2] for name in made)


@pytest.mark.parametrize(
    "host", ["h", "mail.example.org", "mx-17.eu-central.mail.example.org", "a/b:c", "..", "", "h\xf6st", "x" * 255]
)
def test_names_fit_whatever_the_host_is_called(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: with the largest pid, the millionth message, and a size of ten digits, the name still is a unique-id."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(os, "getpid", lambda: 4194304)
    monkeypatch.setattr(names, "_sequence", iter([1_000_000]))
    name = new_name() + ",S=9999999999"
    assert unique_id(name.encode()) == name
    assert re.fullmatch(r"[0-9]{10}\.M[0-9]{6}P4194304Q1000000R[0-9a-f]{8}\.[A-Za-z0-9.-]+,S=9999999999", name)


odd_bases = st.one_of(
    bases,
    st.from_regex(rb"[0-9a-f]{40}", fullmatch=True),
    st.from_regex(rb"[0-9]{1,13}(\.M[0-9]{1,6})?(\.[a-z]{1,60})?", fullmatch=True),
)


@given(st.lists(odd_bases, max_size=8))
def test_many_unique_ids_are_those_of_each(some: list[bytes]) -> None:
    """P3, F4: made together, for speed."""
    assert unique_ids(some) == [unique_id(base) for base in some]


@given(odd_bases, odd_bases)
def test_keys_sort_as_arrivals_do(first: bytes, second: bytes) -> None:
    """C7."""
    assert (sort_key(first) < sort_key(second)) == (arrival(first, 0) < arrival(second, 0))
    assert sort_key(first)[TIME_OCTETS:] == first
