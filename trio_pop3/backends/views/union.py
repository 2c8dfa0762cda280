"""Several maildrops as one: the inbox, and behind it the folders whose mail would be missed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from ...backend import (
    Arrivals,
    BackendError,
    ClientInfo,
    CommitIncomplete,
    ConnectionHooks,
    Expiry,
    Maildrop,
    MessageInfo,
    NoSuchFolder,
    Policy,
    Store,
)
from ..loops import checkpoint, shielded
from .view import View

logger = logging.getLogger("trio_pop3.views")

_AT_ONCE: Final = 1000
_HASH_DIGITS: Final = 40


def unique_id(name: str, uid: str, taken: Callable[[str], bool]) -> str:
    """The unique-id in a union of a message of the part `name`: made of this and its own, and of nothing else.

    Its own would not do: many stores count from 1 in every folder, and a client that has fetched number 5 of one would
    never fetch number 5 of another. `taken` are those of the first part, which stay: if one of them is the same, which
    takes somebody who means it to be, the next of an endless row of hashes is taken.
    """
    found = uid
    while found is uid or taken(found):
        found = hashlib.sha256(f"{name}\0{found}".encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_DIGITS]
    return found


class Union(View):
    """Shows the maildrops of a user in several stores as one.

    The messages of `store` come first, with the numbers and unique-ids they have without the union, so that putting one
    on or taking it off makes no client fetch them again. Those of `parts` follow, part by part; their unique-ids are
    made of the name of the part and their own, so they stay the same as long as the part keeps its name.

    All maildrops are locked, `store` first and then the parts in their order, or none. A part whose `open` raises
    NoSuchFolder is taken for empty. At QUIT, every part is told what to delete of it, in the same order, whatever
    became of the ones before; if messages remain, the client hears how many.

    EXPIRE is the shortest of all parts, and is announced if every one has it. Everything else that `store` can do
    besides, such as checking logins, is done by it.

    Args:
        store: a store, or a backend; what a client gets without the union.
        parts: further stores, each with a name, which must stay the same for ever.

    Raises ValueError if there are no parts, TypeError if one of them has connection hooks: nobody would call them.
    """

    def __init__(self, store: Store, parts: Mapping[str, Store]) -> None:
        if not parts:
            raise ValueError("a union needs at least one part")
        super().__init__(store)
        self._parts: Final = MappingProxyType(dict(parts))
        for name, part in parts.items():
            if isinstance(part, ConnectionHooks):
                raise TypeError(f"a part of a union must not have connection hooks: {name!r}")
        if hasattr(self, "expiry"):
            del self.expiry
            if all(isinstance(part, Expiry) for part in parts.values()):
                self.expiry = self._expiry

    async def _expiry(self, user: str | None) -> Policy:
        policies = [
            await part.expiry(user) for part in (self._store, *self._parts.values()) if isinstance(part, Expiry)
        ]
        days = [policy.value for policy in policies if policy.value is not None]
        return Policy(min(days, default=None), per_user=any(policy.per_user for policy in policies))

    async def open(self, user: str, client: ClientInfo) -> UnionMaildrop:
        """Lock all parts, or none. Raises as `trio_pop3.backend.Store` says."""
        async with AsyncExitStack() as opened:
            first = await self._store.open(user, client)
            opened.push_async_callback(shielded, first.release)
            others: dict[str, Maildrop] = {}
            for name, part in self._parts.items():
                try:
                    others[name] = await part.open(user, client)
                except NoSuchFolder:
                    continue
                opened.push_async_callback(shielded, others[name].release)
            union = UnionMaildrop(first, others)
            await union.number()
            opened.pop_all()
            return union
        raise AssertionError  # the block returns or raises


@dataclass(frozen=True, slots=True)
class _Member(MessageInfo):
    """A message of a part that is not the first: where it is, and what it is there."""

    union: UnionMaildrop = field(repr=False, compare=False)
    part: Maildrop = field(repr=False, compare=False)
    message: MessageInfo


class UnionMaildrop:
    """Several open maildrops as one."""

    def __init__(self, first: Maildrop, others: Mapping[str, Maildrop]) -> None:
        self.messages: list[MessageInfo] = []
        self._first = first
        self._others = others
        self._parts = (first, *others.values())
        if all(isinstance(part, Arrivals) for part in self._parts):
            self.arrivals = self._arrivals
        if any(hasattr(part, "retrieved") for part in self._parts):
            self.retrieved = self._retrieved

    async def number(self) -> None:
        """Take over the messages of all parts."""
        uids: set[str] = set()
        for some in _slices(self._first.messages):
            self.messages += some
            uids.update(message.uid for message in some)
            await checkpoint()
        for name, part in self._others.items():
            own = partial(unique_id, name, taken=uids.__contains__)
            for some in _slices(part.messages):
                self.messages += [_Member(own(message.uid), message.octets, self, part, message) for message in some]
                await checkpoint()

    async def _arrivals(self) -> Sequence[float]:
        return [arrived for part in self._parts if isinstance(part, Arrivals) for arrived in await part.arrivals()]

    def _place(self, message: MessageInfo) -> tuple[Any, MessageInfo]:
        """The part that a message is in, and what it is there."""
        if isinstance(message, _Member) and message.union is self:
            return message.part, message.message
        return self._first, message

    def _retrieved(self, message: MessageInfo) -> None:
        part, inner = self._place(message)
        if hasattr(part, "retrieved"):
            part.retrieved(inner)

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterable[bytes]:
        """See `trio_pop3.backend.Maildrop`."""
        part, inner = self._place(message)
        return await part.retrieve(inner)  # type: ignore[no-any-return]

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Every part is tried. Raises CommitIncomplete if messages remain, in whatever part, or what a part raised.

        Cut by a deadline, some parts have been told and the others not; it can be repeated.
        """
        marked: dict[int, list[MessageInfo]] = {id(part): [] for part in self._parts}
        for some in _slices(deleted):
            for message in some:
                part, inner = self._place(message)
                marked[id(part)].append(inner)
            await checkpoint()
        failures: list[Exception] = []
        remaining = 0
        for part in self._parts:
            try:
                await part.commit(marked[id(part)])
            except CommitIncomplete as failure:
                failures.append(failure)
                remaining += failure.remaining
            except Exception as failure:
                # What is not known to be gone has to be taken for still there.
                failures.append(failure)
                remaining += len(marked[id(part)])
        unexpected = [failure for failure in failures if not isinstance(failure, BackendError)]
        if unexpected:
            raise ExceptionGroup("parts of a union failed", unexpected)
        if remaining:
            raise CommitIncomplete(remaining) from failures[0]
        if failures:
            raise failures[0]

    async def release(self) -> None:
        """Every part is told, whatever becomes of the others."""
        async with AsyncExitStack() as opened:
            for part in self._parts:
                opened.push_async_callback(part.release)


def _slices(messages: Sequence[MessageInfo]) -> Iterator[Sequence[MessageInfo]]:
    for start in range(0, len(messages), _AT_ONCE):
        yield messages[start : start + _AT_ONCE]
