"""Faults in being cancelled, and what another process finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from trio_pop3 import (
    ClientInfo,
    CommitIncomplete,
    Credentials,
    MaildropInUse,
    TemporaryFailure,
)

from ..backends import Disk, Drop, Process, Stored
from .table import fails

LEAKED: list[int] = []  # for the test to close

# --- cancelling -------------------------------------------------------------------------------------------------------


@fails("cancelled_login")
class BusyForEver(Process):
    """A lock that a login which is cancelled keeps."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.free = trio.Semaphore(1)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        await self.free.acquire()
        try:
            return await super().authenticate(credentials, client)
        finally:
            if not isinstance(sys.exc_info()[1], trio.Cancelled):
                self.free.release()


@fails("cancelled_open", "cancelled_session", "nothing_piles_up")
class KeepsTheLockWhenCancelled(Process):
    async def open(self, user: str, client: ClientInfo) -> Drop:
        self.lock(user)
        try:
            return await self.opened(user)
        except Exception:
            self.unlock(user)
            raise


@fails("cancelled_open", "cancelled_session", "nothing_piles_up")
class CancelledIsAFailure(Process):
    async def opened(self, user: str) -> Drop:
        try:
            return await super().opened(user)
        except trio.Cancelled:
            raise TemporaryFailure from None  # noqa: ASYNC104 - this is what is wrong with it


@fails("cancelled_retrieve", "cancelled_session", "nothing_piles_up")
class ReleaseWaitsForTheReader(Drop):
    reading = False

    async def retrieve(self, message: Any) -> Any:
        self.reading = True
        await trio.lowlevel.checkpoint()
        self.reading = False
        return await super().retrieve(message)

    async def release(self) -> None:
        if self.reading:
            raise RuntimeError("somebody is reading")
        await super().release()


@fails("cancelled_session", "cancelled_retrieve")
class MarksBeforeTheCommit(Drop):
    """What is read is taken out, and put back by a release that finds no trouble."""

    whole = 0

    async def retrieve(self, message: Any) -> Any:
        content = await super().retrieve(message)
        self.whole += 1
        return content

    async def release(self) -> None:
        if 0 < self.whole < len(self.messages):
            self.remove(self.messages[0])
        await super().release()


@fails("a_commit_that_is_cut", "a_crash_in_commit")
class RemovesAllAndPutsBack(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        gone = {message.uid for message in deleted}
        kept = {uid: content for uid, content in self.mail.items() if uid not in gone}
        undeletable = self.process.disk.undeletable
        if undeletable:
            raise CommitIncomplete(len(deleted))
        self.mail.clear()
        await trio.lowlevel.checkpoint()
        self.mail.update(kept)


@fails("a_release_that_is_cut")
class ReleasesLater(Drop):
    async def release(self) -> None:
        await trio.lowlevel.checkpoint()
        self.process.unlock(self.user)


@fails("nothing_piles_up")
class LeaksDescriptors(Drop):
    async def retrieve(self, message: Any) -> Any:
        LEAKED.append(os.open(os.devnull, os.O_RDONLY))
        return await super().retrieve(message)


# --- other processes --------------------------------------------------------------------------------------------------


@fails(
    "mail_outlives_a_restart",
    "a_crash_in_a_session",
    "a_commit_outlives_a_restart",
    "a_crash_after_commit",
    "a_vanished_message_is_unavailable",
    "the_lock_is_for_all_views",
    "commit_of_what_is_gone",
    "a_crash_in_commit",
)
class UidsOfTheProcess(Process):
    started = 0

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        disk.delivered += 1000
        self.mark = f"{disk.delivered // 1000}-"

    def infos(self, user: str) -> Sequence[Stored]:
        return [replace(info, uid=self.mark + info.uid) for info in super().infos(user)]


@fails("the_lock_is_for_all_views")
class LocksOfTheProcess(Process):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.locks: set[str] = set()

    def lock(self, user: str) -> None:
        if user in self.locks:
            raise MaildropInUse
        self.locks.add(user)

    def unlock(self, user: str) -> None:
        self.locks.remove(user)


@fails("a_commit_outlives_a_restart", "a_crash_after_commit", "uids_outlive_a_restart", "a_crash_in_commit")
class RemembersWhatIsRemoved(Process):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.removed: set[str] = set()

    def infos(self, user: str) -> Sequence[Stored]:
        return [info for info in super().infos(user) if info.uid not in self.removed]


class Remembering(Drop):
    def remove(self, message: Stored) -> None:
        self.process.removed.add(message.uid)  # type: ignore[attr-defined]


RemembersWhatIsRemoved.drops = Remembering


@fails("a_crash_in_a_session", "a_crash_after_commit", "a_crash_in_commit")
class LocksForEver(Process):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.locks = disk.mail.setdefault("locks", {})

    def lock(self, user: str) -> None:
        if user in self.locks:
            raise MaildropInUse
        self.locks[user] = b""

    def unlock(self, user: str) -> None:
        del self.locks[user]


@fails("a_crash_after_commit")
class RemovesAtTheRelease(Drop):
    def __init__(self, process: Process, user: str) -> None:
        super().__init__(process, user)
        self.pending: list[Stored] = []

    def remove(self, message: Stored) -> None:
        self.pending.append(message)

    async def release(self) -> None:
        for message in self.pending:
            super().remove(message)
        await super().release()


@fails("a_crash_in_commit")
class PutsBackAtTheRelease(Drop):
    """Cut, its commit is undone by the release, which no crash waits for."""

    kept: dict[str, bytes] | None = None

    async def commit(self, deleted: Sequence[Any]) -> None:
        if self.process.disk.undeletable:
            raise CommitIncomplete(len(deleted))
        gone = {message.uid for message in deleted}
        self.kept = {uid: content for uid, content in self.mail.items() if uid not in gone}
        self.mail.clear()
        await trio.lowlevel.checkpoint()
        self.put_back()

    def put_back(self) -> None:
        if self.kept is not None:
            self.mail.update(self.kept)
            self.kept = None

    async def release(self) -> None:
        self.put_back()
        await super().release()
