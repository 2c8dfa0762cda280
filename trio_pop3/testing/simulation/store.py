"""A store that keeps mail for ever and everything else badly: slow, failing, hanging, dying with its instance.

What is durable is here once, for all instances. An instance has a `StoreClient`, which is the backend it serves; when
the instance dies, so does that, and locks it held run out some time later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import trio

from trio_pop3 import (
    AuthenticationFailed,
    ClientInfo,
    CommitIncomplete,
    Credentials,
    MaildropInUse,
    MessageInfo,
    MessageUnavailable,
    PermanentFailure,
    TemporaryFailure,
)

from .chronicle import Chronicle
from .ledger import Ledger
from .mail import Stored, canonical
from .watch import MOST_PENALTY, Outcome, Watch

if TYPE_CHECKING:
    from .world import Instance

# Until a lock is free whose holder died.
LEASE: Final = 60.0
# A message up to this size is handed over whole, a larger one in pieces.
_WHOLE: Final = 20_000
_PIECE: Final = 60_000

# What goes wrong, in so many of 10,000 calls.
FAULTS: Final = MappingProxyType({
    "connect": {"temporary": 15, "unexpected": 10, "hang": 5},
    "authenticate": {"temporary": 15, "permanent": 10, "unexpected": 10, "hang": 10, "crash": 3},
    "open": {"temporary": 15, "permanent": 10, "unexpected": 10, "hang": 10, "crash": 5},
    "retrieve": {
        "unavailable": 15, "vanished": 10, "damaged": 10, "temporary": 5, "permanent": 5, "unexpected": 10, "hang": 5,
        "crash": 2,
    },
    "read": {"unexpected": 60, "hang": 20, "crash": 10},
    "commit": {"temporary": 30, "permanent": 20, "incomplete": 80, "unexpected": 40, "hang": 40, "crash": 40},
    "release": {"unexpected": 20, "hang": 20},
    "disconnect": {"unexpected": 20},
})  # fmt: skip
_RAISED: Final[dict[str, Callable[[], Exception]]] = {
    "temporary": TemporaryFailure,
    "permanent": PermanentFailure,
    "unavailable": MessageUnavailable,
    "unexpected": lambda: OSError(5, "injected"),
}


class Dead(Exception):
    """The instance that calls is no more."""


@dataclass(slots=True)
class Lock:
    """Who holds a maildrop. `expires` is set when its holder cannot give it back."""

    watch: Watch
    instance: Instance
    expires: float | None = None


class Store:
    """What survives everything.

    Args:
        random: for whatever is not certain about a store.
        trouble: how much more often than `FAULTS` says something goes wrong.
    """

    def __init__(
        self, chronicle: Chronicle, ledger: Ledger, random: Random, passwords: dict[str, str], trouble: float
    ) -> None:
        self.chronicle: Final = chronicle
        self.ledger: Final = ledger
        self.random: Final = random
        self.passwords: Final = passwords
        self.trouble: Final = trouble
        self.locks: Final[dict[str, Lock]] = {}
        self._mail: Final[dict[str, dict[str, Stored]]] = {user: {} for user in passwords}
        self._serial = 0

    def deliver(self, user: str, draw: Callable[[Random, int], bytes]) -> None:
        """A new message, at the end of a maildrop."""
        self._serial += 1
        content = draw(self.random, self._serial)
        uid, form = self.new_uid(user), canonical(content)
        message = Stored(uid, len(form), self._serial, content, form)
        self.chronicle.done("store", None, f"{user} gets {uid} of {len(form)} octets")
        self._mail[user][uid] = message
        self.ledger.deliver(user, message)

    def new_uid(self, user: str) -> str:
        """One that no message has had."""
        return f"{self._serial:06x}"

    def count(self, user: str) -> int:
        """Messages in a maildrop."""
        return len(self._mail[user])

    def snapshot(self, user: str) -> tuple[Stored, ...]:
        """All messages of a maildrop, oldest first."""
        return tuple(self._mail[user].values())

    def has(self, user: str, uid: str) -> bool:
        """Whether a message is there."""
        return uid in self._mail[user]

    def remove(self, watch: Watch, uid: str) -> None:
        """Durably; what is gone already is gone."""
        self._mail[watch.user].pop(uid, None)
        self.ledger.remove(watch, uid)

    def lose(self, user: str, uid: str) -> None:
        """Somebody else removes a message."""
        if self._mail[user].pop(uid, None) is not None:
            self.ledger.lose(user, uid)

    def locked(self, user: str) -> bool:
        """Whether somebody holds a maildrop."""
        lock = self.locks.get(user)
        return lock is not None and (lock.expires is None or lock.expires > trio.current_time())

    def orphan_all(self, instance: Instance) -> None:
        """An instance is dead."""
        for lock in self.locks.values():
            if lock.instance is instance and lock.expires is None:
                self.orphan(lock)

    def orphan(self, lock: Lock) -> None:
        """Its holder will not give it back."""
        lock.expires = trio.current_time() + LEASE


class StoreClient:
    """The backend of one instance, until that dies."""

    def __init__(self, store: Store, instance: Instance) -> None:
        self.store: Final = store
        self.instance: Final = instance
        self.watches: Final[dict[str, Watch]] = {}  # by session

    @contextmanager
    def call(self, watch: Watch, name: str, outcome: Outcome, *, waits: float = 0.0) -> Iterator[None]:
        """One call: its time, its outcome, and that the dead do not call."""
        if not self.instance.alive:
            raise Dead
        with watch.step(waits=waits):
            try:
                yield
                outcome.what = "done"
            finally:
                self.store.chronicle.done(watch.session, watch.minutes, f"store: {name}: {outcome.what}")

    async def work(self, name: str) -> str | None:
        """Take the time that it takes; what then goes wrong, if something does."""
        store = self.store
        dice = store.random.random()
        if dice < 0.02:
            await self.sleep(store.random.uniform(1.0, 8.0))
        elif dice < 0.3:
            await self.sleep(store.random.expovariate(50))
        else:
            await trio.lowlevel.checkpoint()
        dice = store.random.random() * 10_000
        for kind, often in FAULTS[name].items():
            dice -= often * store.trouble
            if dice < 0:
                store.chronicle.faults[f"{name} {kind}"] += 1
                return kind
        return None

    async def sleep(self, seconds: float) -> None:
        """Raises Dead if the instance is no more when it is over."""
        await trio.sleep(seconds)
        if not self.instance.alive:
            raise Dead

    async def fail(self, kind: str, outcome: Outcome) -> None:
        """What a fault does that is nothing special to one call."""
        if kind == "hang":
            await trio.sleep_forever()
        if kind == "crash":
            self.instance.crash()
            raise Dead
        outcome.what = kind
        raise _RAISED[kind]()

    # --- the contract ----------------------------------------------------------------------------------------------

    async def connect(self, client: ClientInfo) -> None:
        """May refuse a client."""
        watch = self.watches[client.session]
        watch.connected = True
        watch.greeting = Outcome()
        with self.call(watch, "connect", watch.greeting):
            if kind := await self.work("connect"):
                await self.fail(kind, watch.greeting)

    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        """Called once."""
        watch, outcome = self.watches[client.session], Outcome()
        with self.call(watch, "disconnect", outcome):
            if not watch.connected:
                watch.violated("end", "the store was told twice that the session is over")
            watch.connected = False
            if kind := await self.work("disconnect"):
                await self.fail(kind, outcome)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """Compares passwords."""
        watch = self.watches[client.session]
        guessed = any(login.what == "wrong" for login in watch.logins)
        outcome = watch.login(credentials)
        with self.call(watch, "authenticate", outcome, waits=MOST_PENALTY if guessed else 0.0):
            if kind := await self.work("authenticate"):
                await self.fail(kind, outcome)
            if self.store.passwords.get(credentials.user) != getattr(credentials, "password", None):
                outcome.what = "wrong"
                raise AuthenticationFailed
        return credentials.user

    async def open(self, user: str, client: ClientInfo) -> DropClient:
        """Locks a maildrop."""
        watch, store = self.watches[client.session], self.store
        outcome = watch.logins[-1]
        outcome.what = "cut"
        with self.call(watch, "open", outcome):
            if kind := await self.work("open"):
                await self.fail(kind, outcome)
            if store.locked(user):
                outcome.what = "in use"
                store.locks[user].watch.still_needed()
                raise MaildropInUse
            store.locks[user] = watch.lock = Lock(watch, self.instance)
            try:
                await self.sleep(store.random.choice((0.0, 0.0, 0.01)))
            except BaseException:
                if self.instance.alive:
                    self.unlock(watch)
                raise
            watch.opened(store.snapshot(user))
        return DropClient(self, watch)

    def unlock(self, watch: Watch) -> None:
        """Give a lock back, once."""
        lock, watch.lock = watch.lock, None
        if lock is None or self.store.locks.get(watch.user) is not lock:
            watch.violated("P1", "a lock is given back that the session does not hold")
        else:
            del self.store.locks[watch.user]


class DropClient:
    """A maildrop as an instance sees it."""

    def __init__(self, client: StoreClient, watch: Watch) -> None:
        self.messages: Final = watch.snapshot
        self._client: Final = client
        self._store: Final = client.store
        self._watch: Final = watch

    async def retrieve(self, message: MessageInfo) -> bytes | Pieces:
        """A message, whole or in pieces."""
        assert isinstance(message, Stored)
        client, watch = self._client, self._watch
        outcome = watch.fetch(message)
        with client.call(watch, f"retrieve {message.uid}", outcome):
            self._holds()
            kind = await client.work("retrieve")
            if kind == "vanished":
                self._store.lose(watch.user, message.uid)
            elif kind is not None and kind != "damaged":
                await client.fail(kind, outcome)
            if not self._store.has(watch.user, message.uid):
                await client.fail("unavailable", outcome)
            content = message.content
        if kind == "damaged":
            outcome.what = kind
            content = content[: len(content) // 2]
        if len(content) > _WHOLE:
            return Pieces(client, watch, content, outcome)
        return content

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Removes one message after the other, each durably."""
        client, watch = self._client, self._watch
        outcome = watch.committing([message.uid for message in deleted])
        with client.call(watch, f"commit of {len(deleted)}", outcome):
            self._holds()
            kind = await client.work("commit")
            if kind == "incomplete" and not deleted:
                kind = "temporary"
            if kind in ("temporary", "permanent"):
                await client.fail(kind, outcome)
            # Where in the middle it goes wrong, if it does.
            wrong = self._store.random.randrange(len(deleted)) if deleted else 0
            for message in deleted[:wrong]:
                await client.sleep(self._store.random.choice((0.0, 0.0, 0.002)))
                self._store.remove(watch, message.uid)
            if kind == "incomplete":
                outcome.what = kind
                raise CommitIncomplete(self._store.ledger.remaining(watch.user, [m.uid for m in deleted[wrong:]]))
            if kind is not None:
                await client.fail(kind, outcome)
            for message in deleted[wrong:]:
                self._store.remove(watch, message.uid)

    async def release(self) -> None:
        """Gives the lock back."""
        client, watch = self._client, self._watch
        outcome = Outcome()
        with client.call(watch, "release", outcome):
            self._holds()
            if kind := await client.work("release"):
                if kind == "hang":
                    assert watch.lock is not None
                    self._store.orphan(watch.lock)
                else:
                    client.unlock(watch)
                await client.fail(kind, outcome)
            client.unlock(watch)

    def _holds(self) -> None:
        lock = self._watch.lock
        if lock is None or lock.expires is not None or self._store.locks.get(self._watch.user) is not lock:
            self._watch.violated("P1", "a maildrop is used whose lock was given back")


class Pieces:
    """A message piece by piece, any of which may fail."""

    def __init__(self, client: StoreClient, watch: Watch, content: bytes, outcome: Outcome) -> None:
        self._client: Final = client
        self._watch: Final = watch
        self._outcome: Final = outcome
        self._rest = content

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        outcome = Outcome()
        try:
            with self._client.call(self._watch, "read", outcome):
                if kind := await self._client.work("read"):
                    await self._client.fail(kind, outcome)
        finally:
            if outcome.what != "done":
                self._outcome.what = outcome.what
        piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
        return piece

    async def aclose(self) -> None:
        """Nothing is open."""
        self._rest = b""
