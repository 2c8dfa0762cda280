"""What deliveries have in common: who an address is for, and the lines put in front of a message."""

from __future__ import annotations

import re

import pytest

from trio_pop3.delivery import NoSuchUser, Recipients, header, read_address, received
from trio_pop3.lmtp.grammar import Address


@pytest.mark.parametrize(
    ("recipients", "address", "names"),
    [
        (Recipients(), Address("Alice", "X.org"), ["Alice@x.org", "alice@x.org"]),
        (Recipients(local_part=True), Address("Alice", "x.org"), ["Alice", "alice"]),
        (Recipients(separator="+"), Address("alice+a+b", "x.org"), ["alice+a+b@x.org", "alice@x.org"]),
        (Recipients(local_part=True, separator="-"), Address("-x", "x.org"), ["-x"]),
        (Recipients(), Address("postmaster", ""), ["postmaster"]),
    ],
)
def test_names_are_looked_for_as_written_first(recipients: Recipients, address: Address, names: list[str]) -> None:
    """RFC 5321 section 2.4: letter case means nothing in a domain, and may mean something before it."""
    assert list(recipients.names(address)) == names


def test_the_first_that_has_a_place_and_is_known() -> None:
    recipients = Recipients(local_part=True, separator="+")
    address = Address("Alice+lists", "x.org")
    places = {"alice": "/mail/alice", "Alice+lists": "/mail/odd"}
    assert recipients.find(address, places.get, {"alice"}.__contains__) == "alice"
    assert recipients.find(address, places.get, places.__contains__) == "Alice+lists"
    with pytest.raises(NoSuchUser, match=r"no user for 'Alice\+lists@x\.org'"):
        recipients.find(address, lambda name: None, places.__contains__)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alice@x.org", Address("alice", "x.org")),
        ("alice@x.org> SIZE=1", None),
        ("", None),
        ("alice@x.org>x", None),
        ("<alice@x.org>", None),
    ],
)
def test_an_address_on_a_command_line(text: str, found: Address | None) -> None:
    assert read_address(text) == found


@pytest.mark.parametrize(
    ("sender", "recipient", "lines"),
    [
        (None, None, b""),
        ("", "alice@x.org", b"Return-Path: <>\nDelivered-To: alice@x.org\n"),
        ("bob@x.org", None, b"Return-Path: <bob@x.org>\n"),
        ("b\u00f6b@x.org", None, "Return-Path: <b\u00f6b@x.org>\n".encode()),
    ],
)
def test_the_lines_of_final_delivery(sender: str | None, recipient: str | None, lines: bytes) -> None:
    """RFC 5321 section 4.4."""
    assert header(sender, recipient) == lines


@pytest.mark.parametrize("address", ["a\nX: y", "a>", "<a", "a\x7f", "a\u2028b"])
def test_an_address_ends_no_line(address: str) -> None:
    for addresses in ((address, None), (None, address)):
        with pytest.raises(ValueError, match="not an address"):
            header(*addresses)


@pytest.mark.parametrize(("utf8", "protocol"), [(False, "LMTP"), (True, "UTF8LMTP")])
def test_the_trace(utf8: bool, protocol: str) -> None:
    """RFC 5321 section 4.4, RFC 6531 section 3.7.3: folded lines, with a date at the end."""
    line = received("mx.x.org", "client.x.org", "192.0.2.1", "7", utf8=utf8).decode()
    start = f"Received: from client.x.org (192.0.2.1)\n\tby mx.x.org with {protocol} id 7;\n\t"
    assert line.startswith(start)
    assert re.fullmatch(r"\w+, .* [+-]\d{4}\n", line.removeprefix(start))
