"""A small POP3 client on trio, over the client role of the core."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import trio

from .sansio import (
    NEED_DATA,
    Apop,
    Capa,
    Command,
    ConnectionClosed,
    Data,
    Dele,
    EndOfBody,
    Err,
    Event,
    Greeting,
    List,
    Noop,
    Ok,
    Pass,
    Pop3Connection,
    Quit,
    RemoteProtocolError,
    ResponseCode,
    Retr,
    Role,
    Rset,
    Shape,
    Stat,
    State,
    Top,
    Uidl,
    User,
    shape_of,
)
from .sansio.listings import parse_capabilities, parse_numbers, parse_unique_id

T = TypeVar("T")

_RECEIVE_OCTETS: Final = 64 * 1024
# Commands under way at a time.
_MOST_OUTSTANDING: Final = 512
# Half a million messages with UIDs of 30 octets; more is an attack on our memory.
_MOST_LISTING_OCTETS: Final = 32 * 1024 * 1024


class ReplyError(Exception):
    """The server answered `-ERR`. `code` says why, if the server did; the session goes on."""

    def __init__(self, reply: Err) -> None:
        super().__init__(reply.text if reply.code is None else f"[{reply.code.value}] {reply.text}")
        self.reply: Final = reply

    @property
    def code(self) -> ResponseCode | None:
        """The response code, if there was one we know."""
        return self.reply.code


class Status(NamedTuple):
    """What STAT says: how many undeleted messages there are, and their octets."""

    messages: int
    octets: int


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of a pipeline: its status line, and the body if it had one."""

    status: Ok | Err
    body: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether it was `+OK`."""
        return isinstance(self.status, Ok)


class Pop3Client(trio.abc.AsyncResource):
    """One session with a POP3 server, over any stream. Most programs get one from `connect`.

    Methods raise ReplyError for an `-ERR`, after which the session goes on; RemoteProtocolError if the server leaves
    the protocol, `trio.BrokenResourceError` if the connection is lost, and `trio.BusyResourceError` if another task
    is using the client. There are no timeouts here: put `trio.fail_after` around what must not take for ever.

    A call that is cancelled or fails in the middle of an exchange leaves the session out of step: every later call
    raises `trio.BrokenResourceError`. Closing sends nothing; without `quit` nothing is deleted.

    Args:
        stream: connected, nothing read from it yet. The client closes it.
        max_listing: octets of LIST, UIDL, CAPA and TOP replies that are taken.
        lenient_terminator: accept a final dot line that ends in a bare LF, for servers that send such.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, max_listing: int = _MOST_LISTING_OCTETS, lenient_terminator: bool = False
    ) -> None:
        self.timestamp: str | None = None  # of the greeting, if the server offers APOP
        self._stream = stream
        self._connection = Pop3Connection(Role.CLIENT, lenient_terminator=lenient_terminator)
        self._max_listing = max_listing
        self._capabilities: dict[str, tuple[str, ...]] | None = None
        self._busy = False
        self._over = False

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._connection.state

    async def aclose(self) -> None:
        """Close the connection without a word."""
        self._over = True
        await self._stream.aclose()

    # --- session ---------------------------------------------------------------------------------------------------

    async def greeting(self) -> str:
        """Read the greeting, once, before anything else; returns its text. Raises ReplyError if the server refuses."""
        with self._exchange():
            event = await self._event()
        if isinstance(event, Err):
            raise ReplyError(event)
        assert isinstance(event, Greeting)
        self.timestamp = event.timestamp
        return event.text

    async def capa(self) -> dict[str, tuple[str, ...]]:
        """What the server can do: tag in upper case -> arguments. Empty if it knows no CAPA (RFC 2449 section 5)."""
        try:
            lines = await self._lines(Capa())
        except ReplyError:
            lines = []
        self._capabilities = parse_capabilities(lines)
        return dict(self._capabilities)

    async def login(self, user: str, password: str) -> None:
        """USER and PASS. On a cleartext connection everybody on the way can read the password."""
        await self._simple(User(user))
        await self._simple(Pass(password.encode("utf-8", "surrogateescape")))

    async def apop(self, user: str, secret: str) -> None:
        """APOP (RFC 1939 section 7). Raises ValueError if the server does not offer it."""
        if self.timestamp is None:
            raise ValueError("the server does not offer APOP")
        octets = self.timestamp.encode() + secret.encode("utf-8", "surrogateescape")
        await self._simple(Apop(user, hashlib.md5(octets, usedforsecurity=False).digest()))

    async def quit(self) -> None:
        """End the session; marked messages are removed. After a ReplyError some of them are still there."""
        await self._simple(Quit())

    # --- mail ------------------------------------------------------------------------------------------------------

    async def stat(self) -> Status:
        """Count and octets of the undeleted messages."""
        return Status(*self._parse(parse_numbers, await self._simple(Stat())))

    async def list(self) -> dict[int, int]:
        """Number -> octets of every undeleted message."""
        return dict(self._parse(parse_numbers, line) for line in await self._lines(List()))

    async def size(self, number: int) -> int:
        """Octets of one message."""
        return self._parse(parse_numbers, await self._simple(List(number)))[1]

    async def uidl(self) -> dict[int, str]:
        """Number -> unique-id of every undeleted message. Two messages may have the same, on a bad server."""
        return dict(self._parse(parse_unique_id, line) for line in await self._lines(Uidl()))

    async def uid(self, number: int) -> str:
        """The unique-id of one message."""
        return self._parse(parse_unique_id, await self._simple(Uidl(number)))[1]

    @asynccontextmanager
    async def retrieve(self, number: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """A message in pieces, as the server sends it, without dot-stuffing:

            async with client.retrieve(1) as pieces:
                async for piece in pieces: ...

        Leaving the block early reads the rest of the message and throws it away; leaving it by an exception breaks the
        session.
        """
        with self._exchange():
            await self._status(Retr(number))
            pieces = self._pieces()
            async with contextlib.aclosing(pieces):
                yield pieces
                async for _ in pieces:
                    pass

    async def fetch(self, number: int) -> bytes:
        """A whole message."""
        async with self.retrieve(number) as pieces:
            return b"".join([piece async for piece in pieces])

    async def top(self, number: int, lines: int) -> bytes:
        """The headers of a message and so many lines of its body."""
        return await self._body(Top(number, lines))

    async def dele(self, number: int) -> None:
        """Mark a message."""
        await self._simple(Dele(number))

    async def rset(self) -> None:
        """Take all marks back."""
        await self._simple(Rset())

    async def noop(self) -> None:
        """Nothing, but it keeps the session from timing out."""
        await self._simple(Noop())

    # --- pipelining ------------------------------------------------------------------------------------------------

    async def pipeline(self, commands: Sequence[Command], *, max_octets: int = 1 << 30) -> Sequence[Reply]:
        """Send many commands, then take their replies: one round trip instead of many (RFC 2449 section 6.6).

        Replies are read while commands are written, so that neither side waits for the other. If the server did not
        announce PIPELINING (asked for with CAPA if it was not yet) the commands go one at a time. An `-ERR` is a
        Reply, not an exception. Raises RemoteProtocolError if the bodies have more than `max_octets` together.
        """
        if self._capabilities is None:
            await self.capa()
        assert self._capabilities is not None
        batch = _MOST_OUTSTANDING if "PIPELINING" in self._capabilities else 1
        replies: list[Reply] = []
        with self._exchange():
            for start in range(0, len(commands), batch):
                for reply in await self._batch(commands[start : start + batch], max_octets):
                    max_octets -= len(reply.body or b"")
                    replies.append(reply)
        return replies

    async def _batch(self, commands: Sequence[Command], max_octets: int) -> Sequence[Reply]:
        data = b"".join(self._connection.send(command) for command in commands)
        replies: list[Reply] = []
        failures: list[Exception] = []

        async def write() -> None:
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            try:
                for command in commands:
                    replies.append(await self._reply(command, max_octets))
                    max_octets -= len(replies[-1].body or b"")
            except (RemoteProtocolError, trio.BrokenResourceError) as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]  # the cause; what follows it is a consequence
        return replies

    # --- one exchange ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Guards the time from the first octet sent to the last one read."""
        if self._busy:
            raise trio.BusyResourceError("another task is using this client")
        if self._over or self._connection.outstanding or self.state is State.ERROR:
            raise trio.BrokenResourceError("the session is out of step or closed")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def _event(self) -> Event:
        """The next event; the end of the stream is a broken connection."""
        while True:
            event = self._connection.next_event()
            if event is NEED_DATA:
                self._connection.receive_data(await self._stream.receive_some(_RECEIVE_OCTETS))
            elif isinstance(event, ConnectionClosed):
                raise trio.BrokenResourceError("the server closed the connection")
            else:
                assert isinstance(event, Event)  # a client is never PAUSED
                return event

    async def _status(self, command: Command) -> Ok:
        """Send a command and read its status line."""
        await self._stream.send_all(self._connection.send(command))
        status = await self._event()
        if isinstance(status, Err):
            raise ReplyError(status)
        assert isinstance(status, Ok)
        return status

    async def _simple(self, command: Command) -> str:
        """A command with a single-line reply; returns the text."""
        with self._exchange():
            return (await self._status(command)).text

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """The rest of a multi-line reply."""
        while not isinstance(event := await self._event(), EndOfBody):
            assert isinstance(event, Data)
            yield event.data

    async def _bounded(self, limit: int) -> bytes:
        """The rest of a multi-line reply, up to a limit."""
        body = bytearray()
        while not isinstance(event := await self._event(), EndOfBody):
            assert isinstance(event, Data)
            body += event.data
            if len(body) > limit:
                raise RemoteProtocolError(f"a reply of more than {limit} octets")
        return bytes(body)

    async def _body(self, command: Command) -> bytes:
        with self._exchange():
            await self._status(command)
            return await self._bounded(self._max_listing)

    async def _lines(self, command: Command) -> Sequence[str]:
        return (await self._body(command)).decode("ascii", "replace").splitlines()

    async def _reply(self, command: Command, max_octets: int) -> Reply:
        """The reply to a command that was sent."""
        status = await self._event()
        assert isinstance(status, (Ok, Err))
        if isinstance(status, Err) or shape_of(command) is Shape.SINGLE:
            return Reply(status)
        return Reply(status, await self._bounded(max_octets))

    def _parse(self, parser: Callable[[str], T], line: str) -> T:
        """Understand a reply; a session whose server talks nonsense is over."""
        try:
            return parser(line)
        except RemoteProtocolError:
            self._over = True
            raise


@asynccontextmanager
async def connect(
    host: str, port: int = 110, *, max_listing: int = _MOST_LISTING_OCTETS, lenient_terminator: bool = False
) -> AsyncIterator[Pop3Client]:
    """Connect, read the greeting, and close at the end of the block.

        async with connect("127.0.0.1", 1110) as client:
            await client.login("demo", "secret")
            print(await client.stat())
            await client.quit()

    Raises OSError if there is no connection to be had, ReplyError if the server refuses it. Arguments as for
    `Pop3Client`.
    """
    stream = await trio.open_tcp_stream(host, port)
    client = Pop3Client(stream, max_listing=max_listing, lenient_terminator=lenient_terminator)
    async with client:
        await client.greeting()
        yield client
