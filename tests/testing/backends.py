"""A backend that keeps every promise, suspends before and after every step, and is easily broken: a fault is a subclass
of it or of its maildrop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from trio_pop3 import (
    ApopCredentials,
    AuthenticationFailed,
    ClientInfo,
    CommitIncomplete,
    CramMd5Credentials,
    Credentials,
    MaildropInUse,
    MessageInfo,
    MessageUnavailable,
    PasswordCredentials,
    Policy,
    ScramKeys,
    TemporaryFailure,
)
from trio_pop3.sansio import octets_of
from trio_pop3.sasl import derive_keys
from trio_pop3.testing import Bench

PIECE = 64 * 1024


@dataclass
class Disk:
    """What outlives a process, and is shared by all of them. Locks are freed by the kernel when one dies."""

    passwords: dict[str, str] = field(default_factory=lambda: {"alice": "secret", "bob": "hidden"})
    mail: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"alice": {}, "bob": {}})
    locks: set[str] = field(default_factory=set)
    delivered: int = 0
    unreadable: bool = False
    undeletable: bool = False


@dataclass(frozen=True, slots=True)
class Stored(MessageInfo):
    """`key` finds it on the disk, whatever its uid."""

    key: str


class Process:
    """One view of the disk. All that there is to promise, promised."""

    drops: Callable[[Process, str], Drop]  # the maildrops it gives
    login_methods: Any = frozenset({"PLAIN", "APOP", "CRAM-MD5", "SCRAM-SHA-256"})

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.connected: list[str] = []

    # --- logins ----------------------------------------------------------------------------------------------------

    async def connect(self, client: ClientInfo) -> None:
        self.connected.append(client.session)
        await trio.lowlevel.checkpoint()

    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        if client.session in self.connected:
            self.connected.remove(client.session)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        await trio.lowlevel.checkpoint()
        if not self.good(credentials):
            raise AuthenticationFailed
        await trio.lowlevel.checkpoint()
        return credentials.user

    def good(self, credentials: Credentials) -> bool:
        secret = self.disk.passwords.get(credentials.user)
        if isinstance(credentials, PasswordCredentials):
            return secret is not None and self.is_password(credentials.user, credentials.password)
        assert isinstance(credentials, (ApopCredentials, CramMd5Credentials))
        return secret is not None and credentials.matches(secret)

    def is_password(self, user: str, password: str) -> bool:
        return self.disk.passwords[user] == password

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        await trio.lowlevel.checkpoint()
        keys = derive_keys(self.disk.passwords.get(user, "x"), user.encode().ljust(16), 4096, hash_name)
        return keys if user in self.disk.passwords else None

    async def authorize(self, user: str, authzid: str, client: ClientInfo) -> str:
        await trio.lowlevel.checkpoint()
        if (user, authzid) == ("alice", "bob"):
            return authzid
        raise AuthenticationFailed

    async def login_delay(self, user: str | None) -> Policy:
        await trio.lowlevel.checkpoint()
        return Policy(5 if user == "alice" else 60, per_user=True)

    async def expiry(self, user: str | None) -> Policy:
        await trio.lowlevel.checkpoint()
        return Policy(None if user == "alice" else 30, per_user=True)

    # --- mail ------------------------------------------------------------------------------------------------------

    async def open(self, user: str, client: ClientInfo) -> Drop:
        await trio.lowlevel.checkpoint()
        self.lock(user)
        try:
            return await self.opened(user)
        except BaseException:
            self.unlock(user)
            raise

    async def opened(self, user: str) -> Drop:
        drop = self.drop(user)
        await trio.lowlevel.checkpoint()
        return drop

    def drop(self, user: str) -> Drop:
        if self.disk.unreadable:
            raise TemporaryFailure("the disk is gone")
        return self.drops(self, user)

    def lock(self, user: str) -> None:
        if user in self.disk.locks:
            raise MaildropInUse
        self.disk.locks.add(user)

    def unlock(self, user: str) -> None:
        self.disk.locks.remove(user)

    def deliver(self, user: str, message: bytes) -> None:
        self.disk.delivered += 1
        self.disk.mail[user][self.new_uid(user, message)] = message

    def new_uid(self, user: str, message: bytes) -> str:
        return f"{self.disk.delivered:04x}"

    def infos(self, user: str) -> Sequence[Stored]:
        return [Stored(uid, octets_of(content), uid) for uid, content in self.disk.mail[user].items()]


class Drop:
    """A session's maildrop."""

    messages: Any

    def __init__(self, process: Process, user: str) -> None:
        self.process = process
        self.user = user
        self.messages = process.infos(user)

    @property
    def mail(self) -> dict[str, bytes]:
        return self.process.disk.mail[self.user]

    async def retrieve(self, message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        content = self.content(message)
        return content if len(content) <= PIECE else self.pieces(content)

    def content(self, message: Stored) -> bytes:
        try:
            return self.mail[message.key]
        except KeyError:
            raise MessageUnavailable from None

    async def pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), PIECE):
            await trio.lowlevel.checkpoint()
            yield content[start : start + PIECE]

    async def commit(self, deleted: Sequence[Any]) -> None:
        remaining = 0
        for index, message in enumerate(deleted):
            await trio.lowlevel.checkpoint()
            if self.process.disk.undeletable and index % 2:
                remaining += 1
            else:
                self.remove(message)
        await trio.lowlevel.checkpoint()
        if remaining:
            raise CommitIncomplete(remaining)

    def remove(self, message: Stored) -> None:
        self.mail.pop(message.key, None)

    async def release(self) -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self.process.unlock(self.user)


Process.drops = Drop


def bench(process: Callable[[Disk], Process] = Process, **changed: Any) -> Bench:
    """A fresh disk, and every hook there is."""
    disk = Disk()
    processes = [process(disk)]

    def reopen() -> Process:
        processes.append(process(disk))
        return processes[-1]

    @contextmanager
    def while_(attribute: str) -> Iterator[None]:
        setattr(disk, attribute, True)
        yield
        setattr(disk, attribute, False)

    hooks: dict[str, Any] = {
        "deliver": lambda user, message: processes[-1].deliver(user, message),
        "reopen": reopen,
        "crash": disk.locks.clear,
        "failing_commit": partial(while_, "undeletable"),
        "failing_open": partial(while_, "unreadable"),
        "remove": lambda user, uid: disk.mail[user].pop(uid),
    }
    return Bench(backend=processes[0], **{**hooks, **changed})
