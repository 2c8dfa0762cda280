"""Faults in commit and release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trio_pop3 import (
    CommitIncomplete,
)

from ..backends import Drop, Process, Stored
from .table import fails


@fails(
    "commit_removes_what_is_marked",
    "commit_spares_new_mail",
    "uids_outlive_a_restart",
    "a_crash_after_commit",
    "uids_are_not_used_again",
)
class LeavesTheLast(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        await super().commit([message for message in deleted if message is not self.messages[-1]])


@fails(
    "commit_of_nothing",
    "a_commit_that_is_cut",
    "a_released_maildrop_opens",
    "a_crash_in_commit",
    "retrieve_removes_nothing",
)
class NothingMeansAll(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        await super().commit(deleted or self.messages)


@fails("commit_can_be_repeated", "commit_of_what_is_gone")
class GoneIsAKeyError(Drop):
    def remove(self, message: Stored) -> None:
        del self.mail[message.key]


@fails("commit_of_what_is_gone")
class RemovedByOthersIsIncomplete(Drop):
    def __init__(self, process: Process, user: str) -> None:
        super().__init__(process, user)
        self.removed: set[str] = set()

    def remove(self, message: Stored) -> None:
        if message.uid not in self.removed and message.uid not in self.mail:
            raise CommitIncomplete(1)
        self.removed.add(message.uid)
        super().remove(message)


@fails("commit_spares_new_mail")
class AllIsAll(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        await super().commit(deleted)
        if len(deleted) == len(self.messages) and not self.process.disk.undeletable:
            self.mail.clear()


@fails("release_removes_nothing", "cancelled_open", "a_released_maildrop_opens", "a_release_that_is_cut")
class UnreadMailGoesWithTheRelease(Drop):
    used = False

    async def retrieve(self, message: Any) -> Any:
        self.used = True
        return await super().retrieve(message)

    async def commit(self, deleted: Sequence[Any]) -> None:
        self.used = True
        await super().commit(deleted)

    async def release(self) -> None:
        if not self.used and self.messages:
            self.remove(self.messages[0])
        await super().release()


@fails("a_failed_commit_says_so")
class FailsInSilence(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        try:
            await super().commit(deleted)
        except CommitIncomplete:
            return


@fails("a_failed_commit_says_so")
class MiscountsWhatRemains(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        try:
            await super().commit(deleted)
        except CommitIncomplete:
            raise CommitIncomplete(len(deleted)) from None


@fails("a_failed_commit_says_so")
class FailsWithAnotherUid(Drop):
    async def commit(self, deleted: Sequence[Any]) -> None:
        try:
            await super().commit(deleted)
        except CommitIncomplete:
            for message in deleted:
                if (content := self.mail.pop(message.uid, None)) is not None:
                    self.process.deliver(self.user, content)
            raise
