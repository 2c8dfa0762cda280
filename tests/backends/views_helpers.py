"""Stores to put views around: one in memory that never suspends, and one that keeps every promise and always does."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import trio

from trio_pop3.backend import Backend, ClientInfo, Maildrop, MessageInfo, NoSuchFolder, Store
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.testing import Bench

from ..driving import CLIENT, run
from ..testing.backends import Disk, Drop, Process, bench

NOW = 1_700_000_000.0
DAY = 86_400.0


class Shelf(MemoryBackend):
    """Mail of alice whose times of arrival are known, and folders, each a shelf of its own with uids from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.add_user("alice", "secret")
        self.times: dict[str, float] = {}
        self.folders: dict[str, Store] = {}

    def put(self, message: bytes = b"mail\n", arrived: float = NOW) -> str:
        """A message for alice; its uid."""
        uid = self.deliver("alice", message)
        self.times[uid] = arrived
        return uid

    def drop(self, uid: str) -> None:
        """Somebody else removes a message."""
        del self._mail["alice"][uid]

    def folder(self, name: str) -> Store:
        if "/" in name:
            raise ValueError("not the name of a folder")
        return self.folders.get(name, Missing())

    async def open(self, user: str, client: ClientInfo) -> Any:
        return Timed(await super().open(user, client), self.times)


class Missing:
    """A folder that is not there."""

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        raise NoSuchFolder


class Timed:
    """A maildrop that knows when mail arrived."""

    def __init__(self, maildrop: Maildrop, times: Mapping[str, float]) -> None:
        self.messages = maildrop.messages
        self.commit = maildrop.commit
        self.release = maildrop.release
        self._maildrop = maildrop
        self._times = times

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterable[bytes]:
        return await self._maildrop.retrieve(message)

    async def arrivals(self) -> Sequence[float]:
        return [self._times[message.uid] for message in self.messages]


def shown(store: Store, user: str = "alice") -> dict[str, bytes]:
    """uid -> content of what a session sees; the sizes are those of the contents."""
    maildrop = run(store.open(user, CLIENT))
    try:
        found = {}
        for message in maildrop.messages:
            content = run(maildrop.retrieve(message))
            assert isinstance(content, bytes)
            assert message.octets == len(content.replace(b"\n", b"\r\n"))
            found[message.uid] = content
        assert len(found) == len(maildrop.messages)
        return found
    finally:
        run(maildrop.release())


def remove(store: Store, *uids: str) -> None:
    """A session that deletes these messages."""
    maildrop = run(store.open("alice", CLIENT))
    try:
        marked = [message for message in maildrop.messages if message.uid in uids]
        assert len(marked) == len(uids)
        run(maildrop.commit(marked))
    finally:
        run(maildrop.release())


class SuspendingDrop(Drop):
    """Knows when its mail arrived, too."""

    async def arrivals(self) -> Sequence[float]:
        await trio.lowlevel.checkpoint()
        return [NOW] * len(self.messages)


class Suspending(Process):
    """The backend of the kit's own tests, with folders."""

    drops = SuspendingDrop

    def folder(self, name: str) -> Store:
        return SuspendingFolder(self, name)


class SuspendingFolder:
    """A folder of every user."""

    def __init__(self, process: Process, name: str) -> None:
        self._process = process
        self._name = name

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        place = f"{user}/{self._name}"
        if place not in self._process.disk.mail:
            await trio.lowlevel.checkpoint()
            raise NoSuchFolder
        return await self._process.open(place, client)

    async def expiry(self, user: str | None) -> Any:
        return await self._process.expiry(user)


def view_bench(view: Callable[[Suspending], Backend], place: str = "{user}", uid: Callable[[str], str] = str) -> Bench:
    """A view on the workbench. Mail is delivered to the place in the store that is named so.

    uid: the unique-id in the view of a message, made of its own.
    """
    disk = Disk()
    for user in list(disk.mail):
        disk.mail[f"{user}/Junk"] = {}
    made = bench(lambda _: Suspending(disk))
    process = made.backend
    assert isinstance(process, Suspending)

    def take(user: str, wanted: str) -> None:
        mail = disk.mail[place.format(user=user)]
        del mail[next(own for own in mail if uid(own) == wanted)]

    def crash() -> None:
        disk.locks.clear()

    return replace(
        made,
        backend=view(process),
        deliver=lambda user, message: process.deliver(place.format(user=user), message),
        remove=take,
        reopen=lambda: view(Suspending(disk)),
        crash=crash,
        failing_commit=lambda: _set(disk, "undeletable"),
        failing_open=lambda: _set(disk, "unreadable"),
    )


class _set:
    """An attribute that is true for a while."""

    def __init__(self, thing: object, name: str) -> None:
        self._thing, self._name = thing, name

    def __enter__(self) -> None:
        setattr(self._thing, self._name, True)

    def __exit__(self, *_: object) -> None:
        setattr(self._thing, self._name, False)
