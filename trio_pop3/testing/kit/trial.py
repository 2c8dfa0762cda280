"""One check at work: a fresh backend, the steps that are done with it, and the table that checks stand in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import trio

from trio_pop3 import (
    Backend,
    ClientInfo,
    Credentials,
    LoginMethods,
    Maildrop,
    MaildropInUse,
    MessageInfo,
    PasswordCredentials,
)

from ..bench import Bench, called
from ..model import canonical

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

# uid -> content, oldest first.
Mail: TypeAlias = dict[str, bytes]

# What a message may give beyond its announced size before it is taken for one without end.
_BEYOND: Final = 1024 * 1024
# Over 256 KiB, so it comes in pieces wherever large messages do, and a session can be cut between them.
LONG: Final = b"Subject: long\r\n\r\n" + b"The quick brown fox jumps over the lazy dog.\r\n" * 6_000


class Broken(AssertionError):
    """A promise is not kept; the text says what happened."""


class Skipped(Exception):
    """A check cannot be made of this backend; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table. `needs`: the hooks of the bench without which it cannot be made."""

    name: str
    promise: str
    function: Callable[[Trial], Awaitable[None]]
    needs: tuple[str, ...]


def check(*needs: str) -> Callable[[Callable[[Trial], Awaitable[None]]], Check]:
    """Make a function a row of the table, under its own name; its docstring is the promise."""

    def enter(function: Callable[[Trial], Awaitable[None]]) -> Check:
        return Check(function.__name__, " ".join((function.__doc__ or "").split()), function, needs)

    return enter


def plain(word: str) -> bytes:
    """A message that any store can hold."""
    return f"Subject: {word}\r\n\r\nThis is {word}.\r\n".encode()


def shown(failure: BaseException) -> str:
    """An exception in one line."""
    if isinstance(failure, trio.Cancelled):
        return "cancelled"
    text = " ".join(str(failure).split())
    return f"{type(failure).__name__}{f' ({text:.200})' if text else ''}"


@dataclass(frozen=True, slots=True)
class Held:
    """A maildrop that is open, and its snapshot, read once as a session does."""

    user: str
    maildrop: Maildrop
    messages: tuple[MessageInfo, ...]


class Trial:
    """A bench, and everything that a session or a person could do with it. What is done is written down.

    Every step has so many seconds; one that takes longer is a fault, if it can be cancelled at all.
    """

    def __init__(self, bench: Bench, seconds: float) -> None:
        self.bench: Final = bench
        self.seconds: Final = seconds
        self.backend: Backend = bench.backend
        self.steps: Final[list[str]] = []
        self._held: list[Maildrop] = []
        self._users: dict[str, str] = {}
        self._clients = 0

    # --- steps -----------------------------------------------------------------------------------------------------

    async def do(self, step: str, work: Callable[..., Awaitable[T]], *arguments: object, shield: bool = False) -> T:
        """One step, written down with its end. What it raises is raised."""
        here = len(self.steps)
        self.steps.append(f"{step} ...")
        try:
            with trio.move_on_after(self.seconds, shield=shield) as scope:
                result = await work(*arguments)
        except BaseException as failure:
            self.steps[here] = f"{step}: {shown(failure)}"
            raise
        if scope.cancelled_caught:
            raise Broken(f"{step} has not come to an end in {self.seconds:g} seconds")
        self.steps[here] = step
        return result

    async def refused(self, kind: type[E], step: str, work: Callable[..., Awaitable[object]], *arguments: object) -> E:
        """The exception of a step that has to fail in this way."""
        try:
            result = await self.do(step, work, *arguments)
        except kind as failure:
            return failure
        except Exception as failure:
            raise Broken(f"{step}: {shown(failure)} instead of {kind.__name__}") from failure
        raise Broken(f"{step}: no {kind.__name__}, but {result!r:.80}")

    # --- users -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The user who is tried most."""
        return next(iter(self.bench.users))

    @property
    def second(self) -> str:
        """Another user."""
        if len(self.bench.users) < 2:
            raise Skipped("the bench has one user only")
        return list(self.bench.users)[1]

    @property
    def methods(self) -> frozenset[str]:
        """What the backend says it can check."""
        return frozenset(self.backend.login_methods if isinstance(self.backend, LoginMethods) else {"PLAIN"})

    def client(self) -> ClientInfo:
        """The next client, on this machine."""
        self._clients += 1
        return ClientInfo(f"kit-{self._clients}", "127.0.0.1", 40_000 + self._clients % 20_000, loopback=True)

    def wants(self, *methods: str) -> None:
        """The check is of backends that can check these."""
        for method in methods:
            if method not in self.methods:
                raise Skipped(f"the backend does not check {method}")

    async def authenticate(self, credentials: Credentials) -> str:
        """What the backend says, uncommented."""
        return await self.backend.authenticate(credentials, self.client())

    async def authenticated(self, name: str) -> str:
        """The user that somebody with the right password is."""
        right = PasswordCredentials(name, self.bench.users[name])
        user: object = await self.do(f"authenticate {name}", self.authenticate, right)
        if not isinstance(user, str) or not user:
            raise Broken(f"the right password of {name} gave {user!r:.80}, which is no name of a user")
        return user

    async def user(self, name: str) -> str:
        """Whose maildrop it is. Asked for once: hashing takes time, and most checks are of something else."""
        if name not in self._users:
            self._users[name] = await self.authenticated(name) if "PLAIN" in self.methods else name
        return self._users[name]

    # --- mail ------------------------------------------------------------------------------------------------------

    async def deliver(self, name: str, message: bytes) -> bool:
        """Add a message; False if the store cannot hold these octets."""
        try:
            await self.do(f"deliver {len(message)} octets to {name}", called, self.bench.deliver, name, message)
        except ValueError:
            return False
        return True

    async def fill(self, name: str, *messages: bytes) -> None:
        """Add messages that every store can hold."""
        for message in messages:
            if not await self.deliver(name, message):
                raise Broken(f"deliver cannot hold {message!r:.60}, which is plain mail")

    def same(self, delivered: bytes, retrieved: bytes) -> bool:
        """Whether that is the same message, as far as this store promises it."""
        if self.bench.same is not None:
            return self.bench.same(delivered, retrieved)
        return delivered == retrieved or canonical(delivered) == canonical(retrieved)

    async def open(self, name: str) -> Held:
        """Open the maildrop of somebody."""
        return await self.open_as(await self.user(name))

    async def open_as(self, user: str, backend: Backend | None = None) -> Held:
        """Open the maildrop of somebody who has logged in, and read the snapshot at once, as a session does."""
        source = self.backend if backend is None else backend
        maildrop = await self.do(f"open {user}", source.open, user, self.client())
        self._held.append(maildrop)
        return Held(user, maildrop, tuple(maildrop.messages))

    async def release(self, held: Held, *, shield: bool = True) -> None:
        """As a server does it: once, shielded."""
        self._held.remove(held.maildrop)
        await self.do(f"release {held.user}", held.maildrop.release, shield=shield)

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Held]:
        """A maildrop that is released on every way out."""
        held = await self.open(name)
        try:
            yield held
        finally:
            await self.release(held)

    async def read(self, held: Held, message: MessageInfo) -> bytes:
        """The whole content of a message."""
        return await self.do(f"retrieve {message.uid}", content_of, held.maildrop, message)

    async def read_all(self, held: Held) -> Mail:
        """uid -> content of a snapshot."""
        return {message.uid: await self.read(held, message) for message in held.messages}

    async def commit(self, held: Held, deleted: Sequence[MessageInfo]) -> None:
        """As a server does it: shielded."""
        step = f"commit {[message.uid for message in deleted]}"
        await self.do(step, held.maildrop.commit, deleted, shield=True)

    async def mail(self, name: str) -> Mail:
        """What a new session finds. A maildrop that nobody holds has to be free."""
        try:
            held = await self.open(name)
        except MaildropInUse:
            raise Broken(f"the maildrop of {name} is still locked") from None
        try:
            return await self.read_all(held)
        finally:
            await self.release(held)

    async def expect(self, name: str, expected: Mail) -> None:
        """Exactly this mail, whole, under these uids, in this order."""
        found = await self.mail(name)
        if found != expected:
            raise Broken(f"the mail of {name} {difference(expected, found)}")

    async def remove(self, name: str, message: MessageInfo) -> None:
        """Take a message away behind everybody's back."""
        remove = self.bench.remove
        assert remove is not None
        await self.do(f"remove {message.uid}", called, remove, name, message.uid)

    # --- the process -----------------------------------------------------------------------------------------------

    async def view(self) -> Backend:
        """Another view of the store."""
        reopen = self.bench.reopen
        assert reopen is not None
        return await self.do("reopen", called, reopen)

    async def reopen(self) -> None:
        """From now on with another view of the store."""
        self.backend = await self.view()

    async def crash(self) -> None:
        """The process dies, and another one takes over."""
        crash = self.bench.crash
        assert crash is not None
        await self.do("crash", called, crash)
        self._held.clear()
        await self.reopen()

    async def finish(self) -> None:
        """Give back what a check that failed still holds, so that nothing leaks into the process that runs it."""
        with trio.CancelScope(shield=True):
            while self._held:
                with suppress(Exception):  # `do` has written it down, and the check has failed already
                    await self.do("release afterwards", self._held.pop().release)


async def together(*work: Callable[[], Awaitable[None]]) -> None:
    """All at the same time. The first failure is raised, when all have ended, without a group around it."""
    failures: list[Exception] = []

    async def run(one: Callable[[], Awaitable[None]]) -> None:
        try:
            await one()
        except Exception as failure:
            failures.append(failure)

    async with trio.open_nursery() as nursery:
        for one in work:
            nursery.start_soon(run, one)
    if failures:
        raise failures[0]


async def content_of(maildrop: Maildrop, message: MessageInfo, pieces: int | None = None) -> bytes:
    """What retrieve gives, read to its end or for so many pieces, and closed as a session does it."""
    content: Any = await maildrop.retrieve(message)
    if isinstance(content, bytes):
        return content
    if not hasattr(content, "__aiter__"):
        raise Broken(f"retrieve gave {type(content).__name__}, neither bytes nor an asynchronous iterable of them")
    source = aiter(content)
    taken: list[bytes] = []
    octets = 0
    try:
        while pieces is None or len(taken) < pieces:
            piece: Any = await anext(source, None)
            if piece is None:
                break
            if not isinstance(piece, bytes):
                raise Broken(f"a piece of a message is {type(piece).__name__}, not bytes")
            taken.append(piece)
            octets += len(piece)
            if octets > message.octets + _BEYOND:
                raise Broken(f"uid {message.uid} was announced with {message.octets} octets and goes on and on")
    finally:
        await close(source, None if source is content else content)
    return b"".join(taken)


async def close(*parts: object) -> None:
    """Close what retrieve gave, cancelled or not."""
    with trio.CancelScope(shield=True):
        for part in parts:
            if (aclose := getattr(part, "aclose", None)) is not None:
                await aclose()


def difference(expected: Mail, found: Mail) -> str:
    """How the mail that is there is not the mail that should be there."""
    said = [f"has lost {uid}" for uid in expected if uid not in found]
    said += [f"has {uid} too much" for uid in found if uid not in expected]
    said += [f"has another content for {uid}" for uid, text in expected.items() if found.get(uid, text) != text]
    return ", ".join(said) or f"has another order: {list(found)}, it was {list(expected)}"


def without(mail: Mail, removed: Iterable[MessageInfo]) -> Mail:
    """What must be left."""
    gone = {message.uid for message in removed}
    return {uid: text for uid, text in mail.items() if uid not in gone}
