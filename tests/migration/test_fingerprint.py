"""A message is known again whatever another server does to its line ends and to its own header fields."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.migration.fingerprint import Fingerprint, Prints

text = st.text(st.sampled_from("ab:\n \t."), max_size=40).map(str.encode)


def prints(message: bytes, sizes: list[int] | None = None) -> Prints:
    fingerprint = Fingerprint()
    for size in sizes or []:
        fingerprint.update(message[:size])
        message = message[size:]
    fingerprint.update(message)
    return fingerprint.finish()


@given(text, st.lists(st.integers(0, 9), max_size=6))
def test_pieces_do_not_matter(message: bytes, sizes: list[int]) -> None:
    """P6."""
    assert prints(message, sizes) == prints(message)


@given(text, st.integers(0, 3))
def test_line_ends_do_not_matter(message: bytes, more: int) -> None:
    """LF, CRLF, and what is added to the end of a message."""
    assert prints(message.replace(b"\n", b"\r\n")) == prints(message)
    if b"\n\n" in message:
        assert prints(message + b"\n" * more) == prints(message)


@given(text, text)
def test_messages_that_differ(one: bytes, other: bytes) -> None:
    header = b"Subject: x\n\n"
    same = one.rstrip(b"\n") == other.rstrip(b"\n")
    assert (prints(header + one).whole == prints(header + other).whole) is same
    assert prints(header + one).header == prints(header + other).header


@pytest.mark.parametrize("body", [b"", b"\n", b"body\n", b"\nbody"])
def test_top_gives_the_header_of_the_whole(body: bytes) -> None:
    """With the blank line at its end, or without it, as servers send it."""
    header = b"Subject: x\nTo: y\n"
    whole = prints(header + b"\n" + body).header
    for top in (header, header + b"\n", header + b"\r\n", header.rstrip()):
        assert prints(top).header == whole


def test_fields_of_servers_do_not_matter() -> None:
    """Those of mboxes; folded ones, too."""
    plain = b"Subject: x\nTo: y\n\nbody\n"
    other = b"Status: RO\nSubject: x\nX-UIDL: 1\n\tfolded\nX-IMAPbase: 1 2\nTo: y\nContent-Length: 5\n\nbody\n"
    assert prints(plain) == prints(other)
    assert prints(plain).header != prints(b"Subject: x\nX-Statuses: RO\nTo: y\n\nbody\n").header


def test_a_header_without_end_does_not_take_all_memory() -> None:
    """P4: two megabytes of header are one of header and one of body, however they come."""
    message = random.Random(1).randbytes(2_000_000).replace(b"\n", b"x").replace(b"\r", b"x")
    assert prints(message, [100_000] * 20) == prints(message)
    fingerprint = Fingerprint()
    fingerprint.update(message[:1_500_000])
    assert fingerprint.header_is_whole


def test_an_empty_header() -> None:
    assert prints(b"\nbody\n").header == prints(b"\r\n").header == prints(b"").header
    assert prints(b"\nbody\n").whole != prints(b"\nother\n").whole
