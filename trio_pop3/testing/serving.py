"""The test server on trio: any backend behind it, faults in front of it, and everything that was said written down."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from email.message import Message
from typing import Any, Final, TypeAlias, TypeVar

import trio
import trio.testing

from trio_pop3 import Backend, ClientInfo, MaildropInUse, MemoryBackend, Profile, Rules
from trio_pop3.sansio import octets_of

from .bench import Bench
from .certificates import Certified, certificates, tls_available
from .conversation import Conversation, shielded
from .dialogue import Dialogue
from .faults import Fault
from .script import Script, Struck
from .transcript import Transcript

T = TypeVar("T")

# Called once for each test: what is served.
MakeBackend: TypeAlias = Callable[[], Backend | Bench | Awaitable[Backend | Bench]]

HOST: Final = "127.0.0.1"
USER: Final = "alice"
PASSWORD: Final = "secret"
# What a store may take, and what a client may take to close.
PATIENCE_SECONDS: Final = 5.0
# How long the loop has to have nothing to do before what clients have sent counts as read: other threads' octets may
# still be on their way through the kernel.
_QUIET_SECONDS: Final = 0.001
_MOST_NOISE_SECONDS: Final = 0.25
_VISITOR: Final = ClientInfo("test", HOST, loopback=True)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in a maildrop: its uid, its size as LIST tells it, and its octets as they are stored."""

    uid: str
    octets: int
    content: bytes


class Logins:
    """Who logged in when: what LOGIN-DELAY is made of. Holds up nobody for guessing."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}

    async def enter(self, client: ClientInfo) -> None:
        """At once."""

    def leave(self, client: ClientInfo, credentials: object, *, failed: bool) -> None:
        """Forgotten."""

    def since_login(self, user: str) -> float | None:
        """Seconds since the user's last login."""
        return trio.current_time() - self._times[user] if user in self._times else None

    def logged_in(self, user: str, delay: int) -> None:
        """Remembered until the next test."""
        self._times[user] = trio.current_time()


class TrioPop3Server(Certified):
    """A POP3 server for tests, in the loop of the test. Made by `open_pop3_server`; use it in that loop only.

    `Pop3TestServer` is the same for synchronous tests, and says what each attribute is.
    """

    def __init__(self, nursery: trio.Nursery, backend: MakeBackend | None, rules: Mapping[str, Any]) -> None:
        self.host = HOST
        self._nursery: Final = nursery
        self._make: MakeBackend = backend or _memory
        self._options: Final = dict(rules)
        self._ports: list[int] = []
        self._script: Final = Script()
        self._conversations: list[Conversation] = []
        self._errors: Final[list[Exception]] = []
        self._idle: Final = trio.lowlevel.ParkingLot()
        self.rules = self._rules_of()

    # --- life ------------------------------------------------------------------------------------------------------

    async def listen(self, host: str = HOST) -> None:
        """Listen on two free ports, one for plain connections and STLS, one for TLS from the beginning."""
        self.host = host
        for serve in (self._serve_plain, self._serve_tls):
            (listener,) = await trio.open_tcp_listeners(0, host=host)
            self._ports.append(listener.socket.getsockname()[1])
            self._nursery.start_soon(trio.serve_listeners, serve, [listener])

    async def reset(self, backend: MakeBackend | None = None, **rules: Any) -> None:
        """As new: connections cut, faults gone, nothing written down, a fresh backend, the options of the beginning.

        `backend` and options given here are in force until the next reset.
        """
        await self._quiet(0)
        await self.close_connections()
        await self._close_bench()
        self._script.clear()
        self._conversations.clear()
        self._logins = Logins()
        self.rules = self._rules_of(**rules)
        self._bench = await _bench_of(backend or self._make)
        self.users = dict(self._bench.users)
        self.check()

    async def close(self) -> None:
        """Cut all connections and close the backend."""
        await self.close_connections()
        await self._close_bench()

    async def _close_bench(self) -> None:
        bench: Bench | None = getattr(self, "_bench", None)
        if bench is not None and bench.close is not None:
            await _awaited(bench.close())

    def check(self) -> None:
        """Raise what has gone wrong in the server itself since it was last asked: a fault of yours, for example."""
        errors = self._errors.copy()
        self._errors.clear()
        if errors:
            raise ExceptionGroup("the test server failed", errors)

    def configure(self, **rules: Any) -> None:
        """Change options for connections made from now on, until the next reset. Their names are those of `Rules`."""
        known(rules)
        self.rules = replace(self.rules, **rules)

    def _rules_of(self, **rules: Any) -> Rules:
        return rules_of({"stls": tls_available(), **self._options, **rules})

    # --- connections -----------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where plain connections are taken. Raises RuntimeError if this server does not listen."""
        if not self._ports:
            raise RuntimeError("this server does not listen: use connect(), or listen=True")
        return self._ports[0]

    @property
    def tls_port(self) -> int:
        """Where connections begin with TLS. Raises RuntimeError if this server does not listen, or has no TLS."""
        certificates()
        return self.port and self._ports[1]

    def connect(self) -> trio.StapledStream[Any, Any]:
        """A new connection, in memory: the client's side of it. Works in virtual time."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve_plain, ours)
        return theirs

    @property
    def connections(self) -> int:
        """How many there were since the last reset."""
        return len(self._conversations)

    @property
    def open_connections(self) -> int:
        """How many there are."""
        return len(self._open())

    async def close_connections(self) -> None:
        """Cut all connections without a word: a server that crashes. Nothing is deleted."""
        for conversation in self._open():
            conversation.scope.cancel()
        for conversation in self._open():
            await conversation.over.wait()

    async def wait_closed(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all connections are over, and what they did is done. Raises TimeoutError if that takes longer."""
        with trio.move_on_after(seconds):
            await self._quiet(_QUIET_SECONDS)
            while self._open():
                await self._idle.park()
        if left := self._open():
            raise TimeoutError(f"{len(left)} connections are open after {seconds:g} s: did the client close them?")
        self.check()

    async def settle(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until what clients have sent so far is done. Raises TimeoutError if the store takes longer.

        Where a fault makes the server wait, that is not waited for.
        """
        with trio.move_on_after(seconds):
            await self._quiet(_QUIET_SECONDS)
            while self._busy():
                await self._idle.park()
        if self._busy():
            raise TimeoutError(f"the store is at work for more than {seconds:g} s")
        self.check()

    async def _quiet(self, seconds: float) -> None:
        """Wait until nothing comes any more. A client that goes on and on is not waited for."""
        with trio.move_on_after(_MOST_NOISE_SECONDS):
            await trio.testing.wait_all_tasks_blocked(seconds)

    def _open(self) -> list[Conversation]:
        return [each for each in self._conversations if not each.over.is_set()]

    def _busy(self) -> bool:
        return any(each.busy for each in self._open())

    async def _serve_plain(self, stream: trio.abc.HalfCloseableStream) -> None:
        await self._serve(stream, over_tls=False)

    async def _serve_tls(self, stream: trio.abc.HalfCloseableStream) -> None:
        await self._serve(stream, over_tls=True)

    async def _serve(self, stream: trio.abc.HalfCloseableStream, *, over_tls: bool) -> None:
        number = len(self._conversations) + 1
        rules = self.rules
        dialogue = Dialogue(
            self._bench.backend,
            client=ClientInfo(f"test-{number}", HOST, number, loopback=True),
            rules=rules,
            gate=self._logins,
            timestamp=f"<{secrets.token_hex(8)}@{rules.hostname}>" if rules.apop else None,
            checkpoint=trio.lowlevel.checkpoint,
            shielded=shielded,
        )
        conversation = Conversation(
            stream,
            dialogue,
            self._script,
            number=number,
            over_tls=over_tls,
            strict=rules.profile is Profile.STRICT,
            idle=self._idle.unpark_all,
            failed=self._errors.append,
        )
        self._conversations.append(conversation)
        await conversation.run()

    # --- mail ------------------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """What is served."""
        return self._bench.backend

    def add_user(self, user: str, password: str) -> None:
        """Add a user with an empty maildrop. Raises TypeError for a backend that has no `add_user`."""
        add = getattr(self._bench.backend, "add_user", None)
        if add is None:
            raise TypeError(f"{type(self._bench.backend).__name__} has no add_user(user, password)")
        add(user, password)
        self.users[user] = password

    async def deliver(self, user: str, message: bytes | str | Message) -> str:
        """Add a message at the end of a maildrop; returns its uid. Raises KeyError for an unknown user."""
        self._known(user)
        octets = octets_in(message)
        uid = await _awaited(self._bench.deliver(user, octets))
        return uid if isinstance(uid, str) else (await self.maildrop(user))[-1].uid

    def _known(self, user: str) -> None:
        # A backend that comes without a Bench has users that we do not know of.
        if self.users and user not in self.users:
            raise KeyError(f"no user {user!r}, there are {', '.join(self.users)}; add_user() makes more")

    async def maildrop(self, user: str) -> list[StoredMessage]:
        """What is in a maildrop, oldest first, once all is done that clients have asked for so far."""
        await self.settle()
        self._known(user)
        backend = self._bench.backend
        if isinstance(backend, MemoryBackend):
            return [StoredMessage(uid, octets_of(mail), mail) for uid, mail in backend.messages(user).items()]
        try:
            maildrop = await backend.open(user, _VISITOR)
        except MaildropInUse:
            raise RuntimeError(f"a session holds the maildrop of {user}: close it, and wait_closed()") from None
        try:
            return [
                StoredMessage(info.uid, info.octets, await _content(await maildrop.retrieve(info)))
                for info in maildrop.messages
            ]
        finally:
            await shielded(maildrop.release)

    # --- faults ----------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those at work. Assigning puts others to work in their place."""
        return self._script.faults

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        faults = tuple(faults)
        self._script.clear()
        self._script.add(*faults)

    def fault(self, *faults: Fault) -> Struck:
        """Put faults to work, until the end of the `with` block if this is used as one, or else until the reset."""
        armed = self._script.add(*faults)
        return Struck(armed, lambda: self._script.remove(armed))

    # --- what was said ---------------------------------------------------------------------------------------------

    @property
    def transcripts(self) -> list[Transcript]:
        """What was said on each connection since the last reset. Secrets are not in them."""
        return [each.transcript for each in self._conversations]

    @property
    def transcript(self) -> Transcript:
        """That of the last connection. Raises RuntimeError if there was none."""
        if not self._conversations:
            raise RuntimeError("no client has connected")
        return self._conversations[-1].transcript

    @property
    def asked(self) -> list[str]:
        """The command lines that were answered, of all connections, secrets shown as `***`."""
        return [line.text for each in self._conversations for line in each.lines]

    @property
    def received(self) -> list[bytes]:
        """The same as octets, without their line ends, and with their secrets."""
        return [line.octets for each in self._conversations for line in each.lines]

    def report(self) -> str:
        """All transcripts for a person, each with its middle left out if it is long."""
        if not self._conversations:
            return "No client has connected.\n"
        parts = (f"# connection {each.number}\n{each.transcript.shortened()}" for each in self._conversations)
        return "\n".join(parts)


@asynccontextmanager
async def open_pop3_server(
    backend: MakeBackend | None = None, *, listen: bool = True, **rules: Any
) -> AsyncIterator[TrioPop3Server]:
    """A POP3 server in this loop, until the end of the block.

        async with open_pop3_server() as server:
            stream = server.connect()                                     # in memory
            stream = await trio.open_tcp_stream(server.host, server.port)  # over TCP

    In memory, nothing happens but in the loop, so that it works with `trio.testing.MockClock`.

    Args:
        backend: makes what is served, a `Backend` or a `Bench`, called anew for each reset. None is a `MemoryBackend`
            with one user, `alice`, whose password is `secret`.
        listen: whether to listen on free ports of 127.0.0.1.
        rules: options of `trio_pop3.Rules`, such as apop=True. STLS is offered if trustme is installed.

    Raises, at the end of the block, what went wrong in the server itself, in an ExceptionGroup. Cancelled, it cuts all
    connections, lets a commit finish that is under way, and closes the backend.
    """
    failed: BaseException | None = None
    async with trio.open_nursery() as nursery:
        server = TrioPop3Server(nursery, backend, rules)
        try:
            if listen:
                await server.listen()
            await server.reset()
            yield server
        except (trio.Cancelled, BaseExceptionGroup):
            raise
        except BaseException as failure:  # noqa: ASYNC103 - raised below, as the nursery would make a group of it
            failed = failure
        finally:
            with trio.CancelScope(shield=True):
                await server.close()
            nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    server.check()


def rules_of(options: Mapping[str, Any]) -> Rules:
    """The rules with these options. Raises TypeError for one that there is not, ValueError for one out of range."""
    known(options)
    return Rules(**options)


def known(options: Mapping[str, Any]) -> None:
    """Raises TypeError, with the names that there are, for an option that there is not."""
    names = [field.name for field in fields(Rules)]
    if wrong := [name for name in options if name not in names]:
        raise TypeError(f"no option {', '.join(wrong)}; there are {', '.join(names)} (see trio_pop3.Rules), and host")


def octets_in(message: bytes | str | Message) -> bytes:
    """A message as octets: text in UTF-8, and an object of `email` as that package writes it."""
    match message:
        case bytes():
            return message
        case str():
            return message.encode()
        case Message():
            return message.as_bytes()
    raise TypeError(f"a message is bytes, str or email.message.Message, not {type(message).__name__}")


def _memory() -> Bench:
    backend = MemoryBackend()
    backend.add_user(USER, PASSWORD)
    return Bench(backend=backend, deliver=backend.deliver, users={USER: PASSWORD})


async def _bench_of(make: MakeBackend) -> Bench:
    made: Any = await _awaited(make())
    if isinstance(made, Bench):
        return made
    return Bench(backend=made, deliver=getattr(made, "deliver", _no_delivery), users={})


def _no_delivery(user: str, message: bytes) -> None:
    raise TypeError("this backend has no deliver(user, message): serve a trio_pop3.testing.Bench that says how")


async def _awaited(value: T | Awaitable[T]) -> T:
    return await value if inspect.isawaitable(value) else value


async def _content(source: Any) -> bytes:
    return source if isinstance(source, bytes) else b"".join([chunk async for chunk in source])
