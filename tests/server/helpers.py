"""What the server's tests share: the far end of a connection, drivers on memory streams, difficult backends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio
import trio.testing

from trio_pop3.backend import Backend, ClientInfo, Credentials, MessageInfo
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.login import Gate, OpenGate
from trio_pop3.server.driver import Driver
from trio_pop3.server.options import DEFAULTS, Options
from trio_pop3.server.peers import HostCounter

USER, PASSWORD = "fred", "s3cret-Wort"
LOGIN = b"USER fred\r\nPASS s3cret-Wort\r\n"
# A connection that stays on this machine, and one that does not.
LOCAL = ClientInfo("a1", "127.0.0.1", 4711, "127.0.0.1", 110, loopback=True)
REMOTE = ClientInfo("a2", "192.0.2.7", 4711, "192.0.2.1", 110)

Pair: TypeAlias = Callable[[], tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]]


def mail_for_fred(*messages: bytes) -> MemoryBackend:
    """A memory backend with one user and these messages."""
    backend = MemoryBackend()
    backend.add_user(USER, PASSWORD)
    for message in messages:
        backend.deliver(USER, message)
    return backend


def contents(backend: MemoryBackend) -> list[bytes]:
    """What Fred's maildrop holds now."""
    return list(backend.messages(USER).values())


class Client:
    """The far end of a connection: writes octets as they are, reads replies."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._heard = bytearray()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def _until(self, end: bytes, start: int = 0) -> bytes:
        while (found := self._heard.find(end, start)) < 0:
            data = await self.stream.receive_some(65536)
            assert data, f"the server closed after {bytes(self._heard)!r}"
            self._heard += data
        found += len(end)
        taken = bytes(self._heard[:found])
        del self._heard[:found]
        return taken

    async def line(self) -> bytes:
        """One line, its end included."""
        return await self._until(b"\r\n")

    async def multiline(self) -> bytes:
        """A whole multi-line reply: status, body, terminator."""
        return await self._until(b"\r\n.\r\n")

    async def ask(self, command: bytes) -> bytes:
        """Send one command line, read one line."""
        await self.send(command + b"\r\n")
        return await self.line()

    async def login(self) -> None:
        assert (await self.line()).startswith(b"+OK")
        await self.send(LOGIN)
        assert (await self.line()).startswith(b"+OK")
        assert (await self.line()).startswith(b"+OK")

    async def rest(self) -> bytes:
        """Everything until the server closes its side."""
        while data := await self.stream.receive_some(65536):
            self._heard += data
        rest, self._heard = bytes(self._heard), bytearray()
        return rest


class Far(Client):
    """The far end of a driver under test, and handles on the driver."""

    def __init__(self, stream: trio.abc.Stream, driver: Driver) -> None:
        super().__init__(stream)
        self.driver = driver
        self.scope = trio.CancelScope()
        self.done = trio.Event()


@asynccontextmanager
async def driving(
    backend: Backend,
    options: Options = DEFAULTS,
    *,
    client: ClientInfo = LOCAL,
    timestamp: str | None = None,
    implicit_tls: bool = False,
    xclient: bool = False,
    gate: Gate | None = None,
    pair: Pair = trio.testing.memory_stream_pair,
) -> AsyncIterator[Far]:
    """A driver on one end of a pair of streams. Leaving the block closes the other end and waits for the driver."""
    near, away = pair()
    driver = Driver(
        near,
        backend,
        client,
        options,
        gate=OpenGate() if gate is None else gate,
        timestamp=timestamp,
        implicit_tls=implicit_tls,
        proxy_place=HostCounter(None).place() if xclient else None,
    )
    far = Far(away, driver)

    async def run() -> None:
        try:
            with far.scope:
                async with near:
                    await far.driver.run()
        finally:
            far.done.set()

    async with trio.open_nursery() as nursery, away:
        nursery.start_soon(run)
        yield far


class Script(trio.abc.HalfCloseableStream):
    """A client without a task: says one segment per read, keeps what it was sent, then ends or breaks.

    `broken_at` is the operation (a read or a write, counted from 1) at which the connection is lost; `ends_at` the one
    from which on the client says nothing more. With `room` a write is like one to a socket whose buffer is not full:
    cancelled before or not at all. Without, a cancellation that comes meanwhile leaves it undone.
    """

    def __init__(
        self,
        *segments: bytes,
        broken_end: bool = False,
        broken_at: int | None = None,
        ends_at: int | None = None,
        room: bool = True,
    ) -> None:
        self._segments = list(segments)
        self._broken_end = broken_end
        self._broken_at = broken_at
        self._ends_at = ends_at
        self._room = room
        self.operations = 0
        self.asked = bytearray()  # what the server has read
        self.heard = bytearray()  # what left the server whole
        self.writes = 0
        self.closed = False

    def _operate(self) -> None:
        self.operations += 1
        if self._broken_at is not None and self.operations >= self._broken_at:
            raise trio.BrokenResourceError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self._operate()
        if self._ends_at is not None and self.operations >= self._ends_at:
            self._segments.clear()
        if not self._segments:
            if self._broken_end:
                raise trio.BrokenResourceError
            return b""
        segment = self._segments.pop(0)
        if max_bytes is not None and len(segment) > max_bytes:
            self._segments.insert(0, segment[max_bytes:])
            segment = segment[:max_bytes]
        self.asked += segment
        return segment

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._room:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        self._operate()
        self.writes += 1
        self.heard += data
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError("not used")

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@dataclass
class Counts:
    """How often a backend was called, and how far a commit got."""

    connects: int = 0
    disconnects: int = 0
    opens: int = 0
    releases: int = 0
    commits_begun: int = 0
    commits_done: int = 0
    reasons: list[str] = field(default_factory=list)


async def _pause(where: str) -> None:
    await trio.lowlevel.checkpoint()


class BusyBackend:
    """Fred's mail with an await before and after every real step, each a call of `pause(name of the method)`.

    `pause` may suspend, sleep or raise. Everything here keeps the contract nevertheless: `open` gives its lock back
    if it is cut, `release` always releases.
    """

    def __init__(self, inner: MemoryBackend, pause: Callable[[str], Awaitable[None]] = _pause) -> None:
        self.inner = inner
        self.pause = pause
        self.counts = Counts()

    async def connect(self, client: ClientInfo) -> None:
        self.counts.connects += 1
        await self.pause("connect")

    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        self.counts.disconnects += 1
        self.counts.reasons.append(reason)
        await self.pause("disconnect")

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        await self.pause("authenticate")
        user = await self.inner.authenticate(credentials, client)
        await self.pause("authenticate")
        return user

    async def open(self, user: str, client: ClientInfo) -> BusyMaildrop:
        await self.pause("open")
        maildrop = await self.inner.open(user, client)
        try:
            await self.pause("open")
        except BaseException:
            await maildrop.release()
            raise
        self.counts.opens += 1
        return BusyMaildrop(self, maildrop)


class BusyMaildrop:
    """Messages come in pieces of 32 octets; a commit removes one message at a time."""

    def __init__(self, backend: BusyBackend, inner: Any) -> None:
        self._backend = backend
        self._inner = inner
        self.messages: list[MessageInfo] = inner.messages

    async def retrieve(self, message: MessageInfo) -> AsyncIterator[bytes]:
        await self._backend.pause("retrieve")
        content: bytes = await self._inner.retrieve(message)
        return self._pieces(content)

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 32):
            await self._backend.pause("read")
            yield content[start : start + 32]
        await self._backend.pause("read")

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        self._backend.counts.commits_begun += 1
        for message in deleted:
            await self._backend.pause("commit")
            await self._inner.commit([message])
        await self._backend.pause("commit")
        self._backend.counts.commits_done += 1

    async def release(self) -> None:
        self._backend.counts.releases += 1
        try:
            await self._backend.pause("release")
        finally:
            await self._inner.release()


class Noting(MemoryBackend):
    """Fred's mail; remembers who connected, and for whom it opened a maildrop."""

    def __init__(self, *messages: bytes) -> None:
        super().__init__()
        self.add_user(USER, PASSWORD)
        for message in messages:
            self.deliver(USER, message)
        self.connected: list[ClientInfo] = []
        self.opened: list[ClientInfo] = []

    async def connect(self, client: ClientInfo) -> None:
        self.connected.append(client)

    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        pass

    async def open(self, user: str, client: ClientInfo) -> Any:
        self.opened.append(client)
        return await super().open(user, client)


def hang_in(*names: str) -> Callable[[str], Awaitable[None]]:
    """A pause that never ends in the methods named."""

    async def pause(where: str) -> None:
        if where in names:
            await trio.sleep_forever()

    return pause


def fail_in(*names: str) -> Callable[[str], Awaitable[None]]:
    """A pause that raises, with words no client may see, in the methods named."""

    async def pause(where: str) -> None:
        if where in names:
            raise RuntimeError("the inner words")

    return pause


class OneMessage:
    """A backend and its own maildrop, with one message that is whatever `retrieve` returns."""

    def __init__(self, octets: int, retrieve: Callable[[], Any]) -> None:
        self.messages = [MessageInfo("only", octets)]
        self._retrieve = retrieve

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        return credentials.user

    async def open(self, user: str, client: ClientInfo) -> OneMessage:
        return self

    async def retrieve(self, message: MessageInfo) -> Any:
        return self._retrieve()

    async def commit(self, deleted: object) -> None:
        pass

    async def release(self) -> None:
        pass


class Pieces:
    """A source of octets that notes how many pieces were taken and whether it was closed."""

    def __init__(self, *pieces: bytes, failure: Exception | None = None, hang: bool = False) -> None:
        self._pieces = list(pieces)
        self._failure = failure
        self._hang = hang
        self.taken = 0
        self.closed = 0

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces:
            self.taken += 1
            return self._pieces.pop(0)
        if self._hang:
            await trio.sleep_forever()
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


class StepCounter(trio.abc.Instrument):
    """Counts the steps of one task: how often it let others run, plus one."""

    def __init__(self, hook: Callable[[int], None] | None = None) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.steps = 0
        self._hook = hook

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps += 1
            if self._hook is not None:
                self._hook(self.steps)
