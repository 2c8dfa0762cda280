"""What is in a maildrop, as LIST and UIDL say, and whether two such views are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..talk import Reply, Talk
from ..transcript import escape
from .base import accepted, expect

# What is looked at of a large maildrop.
_MOST_MESSAGES: Final = 12
_MOST_OCTETS: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Mail:
    """What is in the maildrop: message number -> octets, and -> uid where there is UIDL.

    Sizes hold for one session: servers are free to keep notes of their own in a message when it was looked at.
    """

    sizes: Mapping[int, int]
    uids: Mapping[int, bytes] | None

    @property
    def some(self) -> list[int]:
        """Numbers of messages to look at: all, or of a large maildrop the last one and small ones."""
        small = sorted((size, number) for number, size in self.sizes.items() if size <= _MOST_OCTETS)
        numbers = {number for _, number in small[: _MOST_MESSAGES - 2]} | {number for _, number in small[-2:]}
        return sorted(numbers)

    def without(self, number: int) -> Mail:
        """The same, a message marked."""
        sizes = {key: value for key, value in self.sizes.items() if key != number}
        uids = None if self.uids is None else {key: value for key, value in self.uids.items() if key != number}
        return Mail(sizes, uids)

    @property
    def contents(self) -> list[bytes]:
        """What tells messages apart from one session to the next, in order: uids, or else sizes."""
        return [*self.uids.values()] if self.uids is not None else [b"%d" % size for size in self.sizes.values()]


def mail_seen(talk: Talk) -> Mail:
    """What LIST and UIDL say in this session."""
    sizes = scan(accepted(talk, b"LIST", multiline=True))
    uids = talk.ask(b"UIDL", multiline=True)
    return Mail(
        {number: int(size) if size.isdigit() else -1 for number, size in sizes.items()}, scan(uids) if uids.ok else None
    )


def scan(reply: Reply) -> dict[int, bytes]:
    """A listing: number -> what stands behind it."""
    listing: dict[int, bytes] = {}
    for line in reply.lines or ():
        number, space, rest = line.partition(b" ")
        expect(number.isdigit() and space, f'a line of a listing is not a number, a space and more: "{escape(line)}"')
        listing[int(number)] = rest.partition(b" ")[0]
    return listing


def same_session(expected: Mail, found: Mail) -> None:
    """Numbers, sizes and uids are these."""
    expect(list(expected.sizes) == list(found.sizes), f"LIST has {_told(found)} instead of {_told(expected)}")
    expect(expected.sizes == found.sizes, "the sizes in LIST are other ones")
    expect(expected.uids == found.uids, "LIST is right, but UIDL is not")


def same_messages(before: list[bytes], found: Mail) -> None:
    """Another session finds these messages, and no other."""
    count = len(found.sizes)
    expect(len(before) == count, f"there are {len(before)} messages to be found, and LIST has {count}")
    expect(before == found.contents, "as many messages are found, but other ones")


def _told(mail: Mail) -> str:
    return ", ".join(map(str, list(mail.sizes)[:10])) or "no message"
