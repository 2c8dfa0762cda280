"""Putting mail in: what whoever takes mail (LMTP, `trio-pop3 deliver`) asks of whatever keeps it.

A delivery that fails says so by one exception, and each has its reply (RFC 5321, RFC 3463) and its exit status
(sysexits(3)) here and nowhere else. A mail system keeps what is refused with 4xx or status 75 and tries again; anything
else goes back to the sender. So whatever somebody can mend, a mount, a file, a permission, is of the first kind.

    DeliveryFailed        451 4.3.0    75   anything that can be mended
    +-- NoSuchUser        550 5.1.1    67
    +-- StoreFull         452 4.3.1    75
    +-- OverQuota         552 5.2.2    77
    +-- OverQuotaForNow   452 4.2.2    75   the same, where the operator wants it to wait
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import ClassVar, Final, Protocol

from .lmtp import Reply
from .lmtp.grammar import Address, read_path


class DeliveryFailed(Exception):
    """The message was not delivered to this recipient, nothing of it is left, and trying again may help.

    `reply` is for the mail system; the exception's text is for logs and people on this machine.
    """

    reply: ClassVar[Reply] = Reply(451, "4.3.0", "the mail store is not available, try again later")
    status: ClassVar[int] = os.EX_TEMPFAIL


class NoSuchUser(DeliveryFailed):
    """Nobody here has this address."""

    reply = Reply(550, "5.1.1", "no such user here")
    status = os.EX_NOUSER


class StoreFull(DeliveryFailed):
    """There is no room on the disk."""

    reply = Reply(452, "4.3.1", "the mail store is full, try again later")


class OverQuota(DeliveryFailed):
    """The user has used up the quota, and the sender is told."""

    reply = Reply(552, "5.2.2", "the mailbox is full")
    # What no mail system tries again: Exim's pipe transport takes 73 (cannot create) for temporary.
    status = os.EX_NOPERM


class OverQuotaForNow(DeliveryFailed):
    """The user has used up the quota; the mail system keeps the message meanwhile."""

    reply = Reply(452, "4.2.2", "the mailbox is full, try again later")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What comes with a message. `recipients`: the address as it was given, and the user it stands for."""

    sender: Address | None  # None is `<>`
    recipients: Sequence[tuple[Address, str]]
    trace: bytes = b""  # header lines of whoever took the message, each with its line end


class Delivery(Protocol):
    """One message on its way to its recipients. What happens to one of them is nothing to the others."""

    async def write(self, octets: bytes, /) -> None:
        """The next octets, with CRLF line ends. Trouble is kept until `finish`."""
        ...

    async def finish(self, index: int, /) -> None:
        """Deliver to one recipient; when it returns the message is there, whole and safe from a power cut.

        Raises DeliveryFailed, and then nothing of it is there.
        """
        ...

    async def discard(self) -> None:
        """Remove whatever was not delivered. Called exactly once, on every way out."""
        ...


class DeliveryTarget(Protocol):
    """Whatever takes mail."""

    async def find(self, address: Address, /) -> str:
        """The user who gets mail for this address. Raises NoSuchUser, or DeliveryFailed if that cannot be known now."""
        ...

    def begin(self, envelope: Envelope, /) -> Delivery:
        """A message comes; nothing is touched before it is written. `discard` it in the end."""
        ...


@dataclass(frozen=True, slots=True)
class Recipients:
    """How an address becomes the name of a user.

    local_part: users go by the local part alone; without it by the whole address.
    separator: what stands behind it in a local part is no part of the name (`alice+lists`), unless there is a user who
        is called just so. "" for no such thing.
    """

    local_part: bool = False
    separator: str = ""

    def names(self, address: Address) -> Iterator[str]:
        """Names to look for, best first: as it is written, then in lower case, then both without the extension.

        The domain is always in lower case, since letter case means nothing there (RFC 5321 section 2.4).
        """
        stem = address.local.partition(self.separator)[0] if self.separator else ""
        domain = "" if self.local_part else address.domain.lower()
        tail = f"@{domain}" if domain else ""
        locals_ = dict.fromkeys((address.local, address.local.lower(), stem, stem.lower()))
        return (local + tail for local in locals_ if local)

    def find(self, address: Address, path_for: Callable[[str], str | None], knows: Callable[[str], bool]) -> str:
        """The first name that has a place and is known. Raises NoSuchUser."""
        for name in self.names(address):
            if path_for(name) is not None and knows(name):
                return name
        raise NoSuchUser(f"no user for {str(address)!a}")


def read_address(text: str) -> Address | None:
    """An address as a mail system gives it on a command line, without brackets; None if it is none."""
    found = read_path(f"<{text}>")
    return found[0] if found is not None and not found[1] else None


def header(sender: str | None, recipient: str | None) -> bytes:
    """The lines that final delivery puts first (RFC 5321 section 4.4), with LF line ends; none for what is not known.

    Raises ValueError for an address that could end its line or its brackets.
    """
    lines = []
    if sender is not None:
        lines.append(f"Return-Path: <{_in_header(sender)}>\n")
    if recipient is not None:
        lines.append(f"Delivered-To: {_in_header(recipient)}\n")
    return "".join(lines).encode()


def _in_header(address: str) -> str:
    if not address.isprintable() or "<" in address or ">" in address:
        raise ValueError(f"not an address: {address!a}")
    return address


def received(by: str, name: str, peer: str, session: str, *, utf8: bool) -> bytes:
    """A trace line (RFC 5321 section 4.4; RFC 6531 section 3.7.3), with LF line ends."""
    protocol = "UTF8LMTP" if utf8 else "LMTP"
    date: Final = formatdate(time.time(), localtime=True)
    return f"Received: from {name} ({peer})\n\tby {by} with {protocol} id {session};\n\t{date}\n".encode()
