"""The maildrop as one session sees it: numbers, unique-ids, sizes and marks, fixed at login."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, overload

from .backend import MessageColumns, MessageInfo
from .replies import DELETED_MESSAGE, NO_SUCH_MESSAGE
from .sansio import Err

# Lines of a listing and messages checked between two checkpoints.
_LINES_AT_ONCE: Final = 1000

_UID: Final = re.compile(r"[\x21-\x7e]{1,70}")
_IN_UID: Final = bytes(range(0x21, 0x7F))
_UID_CHARACTERS: Final = 70
# The least is an empty line; no store holds more than the most, and a number without end could not be written.
_LEAST_OCTETS: Final = 2
_MOST_OCTETS: Final = 2**63 - 1


class Snapshot:
    """Numbered messages and the marks on them (RFC 1939 sections 4 and 5). Made by `take`.

    uids and sizes are read once and kept: what a backend says of a message later was never checked.
    """

    __slots__ = ("_deleted", "_deleted_octets", "_octets", "messages", "sizes", "stored", "uids")

    def __init__(self, messages: Sequence[MessageInfo], uids: tuple[str, ...], sizes: tuple[int, ...]) -> None:
        self.messages: Final = messages
        self.uids: Final = uids
        self.stored: Final = sizes  # of the messages as they are in the store
        self.sizes = sizes  # of the messages as they are sent
        self._octets = sum(sizes)
        self._deleted: set[int] = set()
        self._deleted_octets = 0

    @classmethod
    async def take(cls, messages: Sequence[MessageInfo], checkpoint: Callable[[], Awaitable[None]]) -> Snapshot:
        """Take over a backend's list of messages; nothing in it is trusted. Raises ValueError."""
        uids: list[str] = []
        sizes: list[int] = []
        different: set[str] = set()
        for start in range(0, len(messages), _LINES_AT_ONCE):
            stop = start + _LINES_AT_ONCE
            if isinstance(messages, MessageColumns):
                some_uids, some_sizes = list(messages.uids[start:stop]), list(messages.octets[start:stop])
            else:
                some = messages[start:stop]
                some_uids, some_sizes = [message.uid for message in some], [message.octets for message in some]
            if not _all_good(some_uids, some_sizes):
                _find_fault(some_uids, some_sizes)
            different.update(some_uids)
            uids += some_uids
            sizes += some_sizes
            await checkpoint()
        if not len(different) == len(uids) == len(sizes) == len(messages):
            raise ValueError("two messages have the same unique-id")
        return cls(messages, tuple(uids), tuple(sizes))

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def octets(self) -> int:
        """Of all messages, marked ones included."""
        return self._octets

    @property
    def left(self) -> tuple[int, int]:
        """Count and octets of the messages that are not marked."""
        return len(self.messages) - len(self._deleted), self._octets - self._deleted_octets

    @property
    def deleted(self) -> Marked:
        """The messages that are marked now, in order. None of them is made for it."""
        return Marked(self.messages, sorted(self._deleted))

    def missing(self, number: int) -> Err | None:
        """The reply to a command that names a message which is not there, or not there any more."""
        if not 1 <= number <= len(self.messages):
            return NO_SUCH_MESSAGE
        return DELETED_MESSAGE if number in self._deleted else None

    def delete(self, number: int) -> None:
        """Mark a message that is not missing."""
        self._deleted.add(number)
        self._deleted_octets += self.sizes[number - 1]

    def reset(self) -> None:
        """Take all marks back."""
        self._deleted.clear()
        self._deleted_octets = 0

    def resize(self, sizes: Mapping[int, int]) -> None:
        """Messages that will be sent in another form: number -> octets of that form. All others as they are."""
        stored = self.stored
        self.sizes = tuple(sizes.get(number, octets) for number, octets in enumerate(stored, 1)) if sizes else stored
        self._octets = sum(self.sizes)
        self._deleted_octets = sum(self.sizes[number - 1] for number in self._deleted)

    def slices(self, values: tuple[object, ...]) -> Iterator[bytes]:
        """The lines of a listing of unmarked messages, so many at a time."""
        deleted = frozenset(self._deleted)
        for start in range(0, len(values), _LINES_AT_ONCE):
            numbered = enumerate(values[start : start + _LINES_AT_ONCE], start + 1)
            yield "".join(f"{n} {value}\r\n" for n, value in numbered if n not in deleted).encode("ascii")


class Marked(Sequence[MessageInfo]):
    """Some messages of a snapshot, each made when it is asked for: all at once would hold up every other session.

    Equal to any sequence of the same messages, as a list is to a list.
    """

    __slots__ = ("_messages", "_numbers")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, messages: Sequence[MessageInfo], numbers: Sequence[int]) -> None:
        self._messages: Final = messages
        self._numbers: Final = numbers  # from 1

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int, /) -> MessageInfo: ...
    @overload
    def __getitem__(self, at: slice, /) -> Marked: ...
    def __getitem__(self, at: int | slice, /) -> MessageInfo | Marked:
        if isinstance(at, slice):
            return Marked(self._messages, self._numbers[at])
        return self._messages[self._numbers[at] - 1]

    def __eq__(self, other: object) -> bool:
        return [*self] == [*other] if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return f"<{len(self)} marked messages>"


def _all_good(uids: list[str], sizes: list[int]) -> bool:
    """Whether nothing is wrong with any of some messages."""
    if set(map(type, uids)) != {str} or set(map(type, sizes)) != {int}:
        return False
    longest = max(map(len, uids))
    joined = "\n".join(uids)
    return (
        longest <= _UID_CHARACTERS
        and all(uids)
        and joined.isascii()
        and joined.encode("ascii").translate(None, _IN_UID) == b"\n" * (len(uids) - 1)
        and min(sizes) >= _LEAST_OCTETS
        and max(sizes) <= _MOST_OCTETS
    )


def _find_fault(uids: list[str], sizes: list[int]) -> None:
    """Raises ValueError for the first message with which something is wrong."""
    for uid, octets in zip(uids, sizes, strict=True):  # pragma: no branch - there is one
        if type(uid) is not str or not _UID.fullmatch(uid):
            raise ValueError(f"a unique-id must be 1 to 70 characters in 0x21-0x7E: {uid!r:.200}")
        if type(octets) is not int or not _LEAST_OCTETS <= octets <= _MOST_OCTETS:
            raise ValueError(f"a size must be an int from 2 to 2**63 - 1: {octets!r:.200} (uid {uid})")
