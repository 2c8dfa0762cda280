"""Faults in opening and reading."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import trio

from trio_pop3 import (
    ClientInfo,
    MaildropInUse,
    TemporaryFailure,
)

from ..backends import PIECE, Disk, Drop, Process, Stored
from .table import fails

# --- snapshots --------------------------------------------------------------------------------------------------------


@fails("snapshot_form")
class UidsWithBlanks(Process):
    def new_uid(self, user: str, message: bytes) -> str:
        return f"no {super().new_uid(user, message)}"


@fails("snapshot_form")
class UidsWithoutEnd(Process):
    def new_uid(self, user: str, message: bytes) -> str:
        return super().new_uid(user, message).rjust(71, "0")


@fails("snapshot_form", "sizes_are_exact")
class EmptyMessagesAreNoOctets(Process):
    def infos(self, user: str) -> Sequence[Stored]:
        mail = self.disk.mail[user]
        return [replace(info, octets=info.octets if mail[info.uid] else 0) for info in super().infos(user)]


@fails("snapshot_form")
class SizesAreFractions(Process):
    def infos(self, user: str) -> Sequence[Stored]:
        return [replace(info, octets=float(info.octets)) for info in super().infos(user)]  # type: ignore[arg-type]


@fails("empty_maildrop", "one_session_at_a_time", "one_of_many_gets_in", "commit_removes_what_is_marked")
class NoMailIsAFailure(Process):
    def infos(self, user: str) -> Sequence[Stored]:
        if not self.disk.mail[user]:
            raise TemporaryFailure
        return super().infos(user)


@fails("every_message_is_there")
class HidesWhatHasNoHeader(Process):
    def deliver(self, user: str, message: bytes) -> None:
        if message.startswith((b"Subject:", b"x")) or len(message) > 200:
            super().deliver(user, message)


@fails("sizes_are_exact")
class SizesAreAsStored(Process):
    def infos(self, user: str) -> Sequence[Stored]:
        return [Stored(uid, max(2, len(content)), uid) for uid, content in self.disk.mail[user].items()]


@fails("content_comes_back")
class KeepsNoNul(Process):
    def deliver(self, user: str, message: bytes) -> None:
        super().deliver(user, message.replace(b"\0", b""))


@fails("content_comes_back")
class QuotesFrom(Process):
    def deliver(self, user: str, message: bytes) -> None:
        super().deliver(user, message.replace(b"\nFrom ", b"\n>From "))


@fails("order_stays", "content_comes_back", "maildrops_are_apart", "mail_outlives_a_restart", "uids_stay")
class NewestFirst(Process):
    def infos(self, user: str) -> Sequence[Stored]:
        return list(reversed(super().infos(user)))


@fails("snapshot_is_frozen")
class LiveMessages(Drop):
    def __init__(self, process: Process, user: str) -> None:
        self.process, self.user = process, user

    @property
    def messages(self) -> Any:
        return self.process.infos(self.user)


@fails("snapshot_is_frozen", "a_vanished_message_is_unavailable")
class ByNumberInTheStore(Drop):
    """Numbered from the newest, as of now."""

    def content(self, message: Stored) -> bytes:
        number = len(self.messages) - [info.uid for info in self.messages].index(message.uid)
        return list(self.mail.values())[-number]


@fails("maildrops_are_apart")
class OneMaildropForAll(Process):
    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        disk.mail["bob"] = disk.mail["alice"]


# --- the lock ---------------------------------------------------------------------------------------------------------


@fails("one_session_at_a_time", "the_refused_disturb_nobody", "one_of_many_gets_in", "the_lock_is_for_all_views")
class NoLock(Process):
    def lock(self, user: str) -> None:
        pass

    def unlock(self, user: str) -> None:
        pass


@fails("one_session_at_a_time", "the_refused_disturb_nobody", "one_of_many_gets_in", "the_lock_is_for_all_views")
class TheRefusedUnlock(Process):
    def lock(self, user: str) -> None:
        try:
            super().lock(user)
        except MaildropInUse:
            self.unlock(user)
            raise

    def unlock(self, user: str) -> None:
        self.disk.locks.discard(user)


@fails("the_refused_disturb_nobody")
class TheRefusedKickTheHolder(Process):
    kicked = False

    def lock(self, user: str) -> None:
        self.kicked = False
        try:
            super().lock(user)
        except MaildropInUse:
            self.kicked = True
            raise


class Kicked(Drop):
    def content(self, message: Stored) -> bytes:
        if self.process.kicked:  # type: ignore[attr-defined]
            raise TemporaryFailure("somebody else wanted in")
        return super().content(message)


TheRefusedKickTheHolder.drops = Kicked


@fails("one_of_many_gets_in")
class LooksBeforeItLocks(Process):
    async def open(self, user: str, client: ClientInfo) -> Drop:
        if user in self.disk.locks:
            raise MaildropInUse
        await trio.lowlevel.checkpoint()
        self.disk.locks.add(user)
        try:
            return await self.opened(user)
        except BaseException:
            self.disk.locks.discard(user)
            raise

    def unlock(self, user: str) -> None:
        self.disk.locks.discard(user)


@fails(
    "a_released_maildrop_opens",
    "retrieve_removes_nothing",
    "commit_of_nothing",
    "a_commit_that_is_cut",
    "a_crash_in_commit",
)
class StaysLockedAfterNothing(Drop):
    nothing = False

    async def commit(self, deleted: Sequence[Any]) -> None:
        await super().commit(deleted)
        self.nothing = not deleted

    async def release(self) -> None:
        if not self.nothing:
            await super().release()


@fails("a_failed_open_holds_nothing")
class FailsWithTheLock(Process):
    def drop(self, user: str) -> Drop:
        drop = super().drop(user)
        self.lock(user)
        return drop

    async def open(self, user: str, client: ClientInfo) -> Drop:
        await trio.lowlevel.checkpoint()
        self.lock(user)
        if self.disk.unreadable:
            raise TemporaryFailure
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            self.unlock(user)
            raise
        return Drop(self, user)


@fails("a_failed_open_holds_nothing")
class FailsWithAnEmptyMaildrop(Process):
    def drop(self, user: str) -> Drop:
        drop = self.drops(self, user)
        if self.disk.unreadable:
            drop.messages = []
        return drop


# --- reading ----------------------------------------------------------------------------------------------------------

# What reads a message that is not short.
READERS = (
    "content_is_octets", "sizes_are_exact", "content_comes_back", "maildrops_are_apart",
    "retrieve_can_be_repeated", "content_can_be_closed", "cancelled_retrieve", "cancelled_session", "nothing_piles_up",
    "mail_outlives_a_restart", "a_crash_in_a_session",
)  # fmt: skip


@fails(*READERS)
class PiecesAreText(Drop):
    async def pieces(self, content: bytes) -> AsyncIterator[Any]:
        yield content.decode("latin-1")


@fails(*READERS)
class PlainIterables(Drop):
    def pieces(self, content: bytes) -> Any:
        return iter([content])


@fails(*READERS)
class WithoutEnd(Drop):
    async def pieces(self, content: bytes) -> AsyncIterator[bytes]:
        while True:
            yield content


@fails("retrieve_can_be_repeated", "content_can_be_closed", "snapshot_is_frozen", "a_vanished_message_is_unavailable")
class ReadOnce(Drop):
    """Small messages only once: a file that is not rewound."""

    def __init__(self, process: Process, user: str) -> None:
        super().__init__(process, user)
        self.read: set[str] = set()

    def content(self, message: Stored) -> bytes:
        content = super().content(message)
        return content if message.uid not in self.read and not self.read.add(message.uid) else b""  # type: ignore[func-returns-value]


@fails(
    "retrieve_removes_nothing", "maildrops_are_apart", "cancelled_session", "the_refused_disturb_nobody", "uids_stay"
)
class ReadMailGoesWithTheCommit(Drop):
    def __init__(self, process: Process, user: str) -> None:
        super().__init__(process, user)
        self.read: list[Stored] = []

    def content(self, message: Stored) -> bytes:
        self.read.append(message)
        return super().content(message)

    async def commit(self, deleted: Sequence[Any]) -> None:
        await super().commit([*deleted, *self.read])


class Once:
    """Pieces that can be closed once, and that hold a descriptor until then."""

    def __init__(self, content: bytes) -> None:
        self.left = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
        self.closed = False

    def __aiter__(self) -> Once:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def aclose(self) -> None:
        if self.closed:
            raise ValueError("closed already")
        self.closed = True


@fails("content_can_be_closed")
class ClosedOnce(Drop):
    def pieces(self, content: bytes) -> Any:
        return Once(content)


@fails("a_vanished_message_is_unavailable")
class VanishedIsAKeyError(Drop):
    def content(self, message: Stored) -> bytes:
        return self.mail[message.key]


@fails("a_vanished_message_is_unavailable")
class VanishedIsEmpty(Drop):
    def content(self, message: Stored) -> bytes:
        return self.mail.get(message.key, b"")


# --- unique-ids -------------------------------------------------------------------------------------------------------


@fails(
    "uids_stay",
    "a_commit_outlives_a_restart",
    "a_commit_that_is_cut",
    "a_crash_in_commit",
    "a_failed_commit_says_so",
    "a_vanished_message_is_unavailable",
    "cancelled_session",
    "commit_can_be_repeated",
    "commit_of_what_is_gone",
    "commit_removes_what_is_marked",
    "maildrops_are_apart",
    "release_removes_nothing",
    "the_refused_disturb_nobody",
    "uids_are_not_used_again",
    "uids_outlive_a_restart",
)
class UidsAreNumbers(Process):
    def infos(self, user: str) -> Sequence[Stored]:
        return [replace(info, uid=str(number)) for number, info in enumerate(super().infos(user), 1)]


@fails("uids_are_not_used_again", "uids_outlive_a_restart")
class TheNextUidIsFree(Process):
    def new_uid(self, user: str, message: bytes) -> str:
        return f"{max((int(uid, 16) for uid in self.disk.mail[user]), default=0) + 1:04x}"


@fails("uids_outlive_a_restart")
class CountsAnew(Process):
    """Each process for itself, from what is there when it starts."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.last = max((int(uid, 16) for mail in disk.mail.values() for uid in mail), default=0)

    def new_uid(self, user: str, message: bytes) -> str:
        self.last += 1
        return f"{self.last:04x}"


@fails("equal_messages_have_their_own_uids", "uids_are_not_used_again", "uids_outlive_a_restart")
class UidsAreHashes(Process):
    def new_uid(self, user: str, message: bytes) -> str:
        return hashlib.sha256(message).hexdigest()
