"""Benches for the backends that come with the package, and for others a pattern to go by."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trio_pop3 import Backend, ClientInfo, CommitIncomplete, MaildirStore, Maildrop, MemoryBackend, MessageInfo, combine

from .bench import TWO_USERS, Bench


def memory_bench() -> Bench:
    """A `MemoryBackend`, whose commits fail when they are told to."""
    memory = MemoryBackend()
    for user, password in TWO_USERS.items():
        memory.add_user(user, password)
    store = FailingStore(memory)
    return Bench(backend=combine(memory, store), deliver=memory.deliver, failing_commit=store.failing)


def maildir_bench(**options: Any) -> Bench:
    """A `MaildirStore` on Maildirs in a temporary directory, which is removed in the end. Options are the store's."""
    directory = Path(tempfile.mkdtemp(prefix="trio-pop3-bench-"))
    for user in TWO_USERS:
        for part in ("cur", "new", "tmp"):
            (directory / user / part).mkdir(parents=True)
    users = MemoryBackend()
    for user, password in TWO_USERS.items():
        users.add_user(user, password)
    number = 0

    def deliver(user: str, message: bytes) -> None:
        nonlocal number
        number += 1
        (directory / user / "new" / f"{number:010d}.bench").write_bytes(message)

    def reopen() -> Backend:
        return combine(users, MaildirStore(str(directory / "{user}"), **options))

    return Bench(
        backend=reopen(), deliver=deliver, reopen=reopen, close=lambda: shutil.rmtree(directory, ignore_errors=True)
    )


class FailingStore:
    """A store in front of another, which cannot remove messages while `failing` is entered."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.fails = False

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        return _FailingMaildrop(await self._store.open(user, client), self)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Nothing can be removed meanwhile."""
        self.fails = True
        try:
            yield
        finally:
            self.fails = False


class _FailingMaildrop:
    def __init__(self, maildrop: Maildrop, store: FailingStore) -> None:
        self._maildrop = maildrop
        self._store = store
        self.messages = maildrop.messages
        self.retrieve = maildrop.retrieve
        self.release = maildrop.release

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        if self._store.fails and deleted:
            raise CommitIncomplete(len(deleted))
        await self._maildrop.commit(deleted)
