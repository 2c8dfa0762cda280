"""A small POP3 client on trio, over the client role of the core."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import trio

from .sansio import (
    NEED_DATA,
    TRANSITIONS,
    Apop,
    Capa,
    Command,
    Data,
    Dele,
    Err,
    Event,
    Greeting,
    List,
    LocalProtocolError,
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
from .sansio.writers import write_command

T = TypeVar("T")

_RECEIVE_OCTETS: Final = 64 * 1024
# Commands under way at a time; the core is told the same.
_MOST_OUTSTANDING: Final = 512
# Half a million messages with UIDs of 25 octets; more is an attack on our memory.
_MOST_LISTING_OCTETS: Final = 16 * 1024 * 1024
# RFC 2449 section 5 allows lines of 512 octets; servers announce twenty or so.
_MOST_CAPABILITY_OCTETS: Final = 64 * 1024
# One line of a listing: a number and a UID, with room for what servers append.
_MOST_LINE_OCTETS: Final = 4096
_MOST_PIPELINE_OCTETS: Final = 128 * 1024 * 1024


class ReplyError(Exception):
    """The server answered `-ERR`, or greeted with it. After any but a refused greeting the session goes on."""

    def __init__(self, reply: Err) -> None:
        # Somebody else's words may end on a terminal: no control characters.
        text = reply.text if reply.text.isprintable() else ascii(reply.text)
        super().__init__(text if reply.code is None else f"[{reply.code.value}] {text}")
        self.reply: Final = reply

    @property
    def code(self) -> ResponseCode | None:
        """The response code, if there was one we know."""
        return self.reply.code

    @property
    def text(self) -> str:
        """The server's words, as they came."""
        return self.reply.text


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

    Every method may raise

    - ReplyError for an `-ERR`; the session goes on;
    - LocalProtocolError if the call is not valid here (STAT before the login, anything after QUIT) or an argument
      cannot be sent; the session goes on;
    - RemoteProtocolError if the server leaves the protocol, exceeds a limit, or closes in the middle of an exchange;
    - `trio.BrokenResourceError` if the connection is lost, and after any of the failures that end a session;
    - `trio.ClosedResourceError` after `aclose`, `trio.BusyResourceError` if another task is using the client.

    There are no timeouts here: put `trio.fail_after` around what must not take for ever. A call that is cancelled or
    fails in the middle of an exchange closes the connection, since nobody knows any more which reply belongs to what.
    Closing sends nothing: without `quit` nothing is deleted.

    Args:
        stream: connected, nothing read from it yet. The client closes it.
        max_listing: octets of a LIST or UIDL reply that are taken. What is kept of it is up to thirty times that.
        max_message: octets of a RETR or TOP reply that are taken; None for any number.
        lenient_terminator: accept a final dot line that ends in a bare LF, for servers that send such.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        max_listing: int = _MOST_LISTING_OCTETS,
        max_message: int | None = None,
        lenient_terminator: bool = False,
    ) -> None:
        self.timestamp: str | None = None  # of the greeting, if the server offers APOP
        self._stream = stream
        self._connection = Pop3Connection(
            Role.CLIENT, max_outstanding=_MOST_OUTSTANDING, lenient_terminator=lenient_terminator
        )
        self._max_listing = max_listing
        self._max_message = max_message
        self._capabilities: dict[str, tuple[str, ...]] | None = None
        self._busy = False
        self._broken = False
        self._closed = False

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._connection.state

    async def aclose(self) -> None:
        """Close the connection without a word."""
        self._closed = True
        await self._stream.aclose()

    # --- session ---------------------------------------------------------------------------------------------------

    async def greeting(self) -> str:
        """Read the greeting, once, before anything else; returns its text. Raises ReplyError if the server refuses."""
        async with self._exchange():
            if self.state is not State.GREETING:
                raise LocalProtocolError("the greeting was read already")
            self._broken = True  # until all of it is here
            event = await self._event()
            self._broken = False
            if isinstance(event, Err):
                raise ReplyError(event)
            assert isinstance(event, Greeting)
            self.timestamp = event.timestamp
            return event.text

    async def capa(self) -> dict[str, tuple[str, ...]]:
        """What the server can do: tag in upper case -> arguments. Empty if it knows no CAPA (RFC 2449 section 5)."""
        try:
            body = await self._gather(Capa(), _MOST_CAPABILITY_OCTETS)
        except ReplyError:
            body = b""
        self._capabilities = parse_capabilities(_text(body).split("\r\n"))
        return dict(self._capabilities)

    async def login(self, user: str, password: str) -> None:
        """USER and PASS. On a cleartext connection everybody on the way can read the password."""
        octets = _secret(password)
        async with self._exchange():
            await self._status(User(user))
            await self._status(Pass(octets))

    async def apop(self, user: str, secret: str) -> None:
        """APOP (RFC 1939 section 7). Raises LocalProtocolError if the greeting had no timestamp."""
        if self.timestamp is None:
            raise LocalProtocolError("the server does not offer APOP")
        digest = hashlib.md5(self.timestamp.encode("ascii") + _secret(secret), usedforsecurity=False).digest()
        await self._simple(Apop(user, digest))

    async def quit(self) -> None:
        """End the session; marked messages are removed. After a ReplyError some of them are still there."""
        await self._simple(Quit())

    # --- mail ------------------------------------------------------------------------------------------------------

    async def stat(self) -> Status:
        """Count and octets of the undeleted messages."""
        return Status(*await self._ask(Stat(), parse_numbers))

    async def list(self) -> dict[int, int]:
        """Number -> octets of every undeleted message."""
        return await self._listing(List(), parse_numbers)

    async def size(self, number: int) -> int:
        """Octets of one message."""
        return await self._ask_about(number, List(number), parse_numbers)

    async def uidl(self) -> dict[int, str]:
        """Number -> unique-id of every undeleted message. Two messages may have the same, on a bad server."""
        return await self._listing(Uidl(), parse_unique_id)

    async def uid(self, number: int) -> str:
        """The unique-id of one message."""
        return await self._ask_about(number, Uidl(number), parse_unique_id)

    @asynccontextmanager
    async def retrieve(self, number: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """A message in pieces as they arrive, without dot-stuffing:

            async with client.retrieve(1) as pieces:
                async for piece in pieces: ...

        Leaving the block early reads the rest of the message and throws it away; leaving it by an exception closes the
        connection, unless the message was read to its end. A timeout belongs around the whole block.
        """
        async with self._exchange():
            await self._status(Retr(number))
            async with contextlib.aclosing(self._pieces(self._max_message)) as pieces:
                yield pieces
            await self._drain()

    async def fetch(self, number: int) -> bytes:
        """A whole message."""
        return await self._gather(Retr(number), self._max_message)

    async def top(self, number: int, lines: int) -> bytes:
        """The headers of a message and so many lines of its body."""
        return await self._gather(Top(number, lines), self._max_message)

    async def dele(self, number: int) -> None:
        """Mark a message; `quit` removes it."""
        await self._simple(Dele(number))

    async def rset(self) -> None:
        """Take all marks back."""
        await self._simple(Rset())

    async def noop(self) -> None:
        """Nothing, but it keeps the session from timing out."""
        await self._simple(Noop())

    # --- pipelining ------------------------------------------------------------------------------------------------

    async def pipeline(
        self, commands: Sequence[Command], *, max_octets: int = _MOST_PIPELINE_OCTETS
    ) -> Sequence[Reply]:
        """Send many commands, then take their replies: one round trip instead of many (RFC 2449 section 6.6).

        Replies are read while commands are written, so that neither side waits for the other. If the server did not
        announce PIPELINING (asked for with CAPA if it was not yet) the commands go one at a time. An `-ERR` is a
        Reply, not an exception; there are fewer replies than commands only if a refused login left the rest unsendable.

        Raises LocalProtocolError, with nothing sent, if one of the commands is not valid where it stands, and
        RemoteProtocolError if the bodies have more than `max_octets` together.
        """
        if self._capabilities is None:
            await self.capa()
        assert self._capabilities is not None
        at_once = _MOST_OUTSTANDING if "PIPELINING" in self._capabilities else 1
        replies: list[Reply] = []
        async with self._exchange():
            if (valid := self._sendable(commands)) < len(commands):
                raise LocalProtocolError(f"{type(commands[valid]).__name__} is not valid as command {valid}")
            while batch := commands[len(replies) : len(replies) + at_once]:
                batch = batch[: self._sendable(batch)]
                if not batch:
                    break
                for reply in await self._batch(batch, max_octets):
                    max_octets -= len(reply.body or b"")
                    replies.append(reply)
        return replies

    def _sendable(self, commands: Sequence[Command]) -> int:
        """How many of the commands can be sent from here on, if all before them succeed.

        Raises LocalProtocolError for one that cannot be written. The core would say the same, but half-way through.
        """
        state = self.state
        for position, command in enumerate(commands):
            step = TRANSITIONS[state].get(type(command))
            if step is None:
                return position
            write_command(command, space_in_user=False)
            state = step.ok
        return len(commands)

    async def _batch(self, commands: Sequence[Command], max_octets: int) -> Sequence[Reply]:
        """Write all, reading meanwhile. The first failure on either side is raised; what follows it is its doing."""
        data = b"".join(self._connection.send(command) for command in commands)
        replies: list[Reply] = []
        failures: list[Exception] = []

        async def write() -> None:
            try:
                await self._stream.send_all(data)
            except Exception as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            try:
                for command in commands:
                    replies.append(await self._reply(command, max_octets))
                    max_octets -= len(replies[-1].body or b"")
            except Exception as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        return replies

    async def _reply(self, command: Command, max_octets: int) -> Reply:
        """The reply to a command that was sent."""
        status = await self._event()
        assert isinstance(status, (Ok, Err))
        if isinstance(status, Err) or shape_of(command) is Shape.SINGLE:
            return Reply(status)
        return Reply(status, await self._body(max_octets))

    # --- one exchange ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _exchange(self) -> AsyncIterator[None]:
        """Guards the time from the first octet sent to the last one read; closes if it ends in the middle."""
        if self._busy:
            raise trio.BusyResourceError("another task is using this client")
        if self._closed:
            raise trio.ClosedResourceError("this client was closed")
        if self._broken:
            raise trio.BrokenResourceError("this session broke off earlier")
        self._busy = True
        try:
            if self._connection.unread:
                # Read now it would pass for the reply to what we are about to say.
                raise self._nonsense("the server spoke out of turn")
            yield
        finally:
            self._busy = False
            if self._broken or self._connection.outstanding or self.state is State.ERROR:
                self._broken = True
                await trio.aclose_forcefully(self._stream)

    def _nonsense(self, text: str) -> RemoteProtocolError:
        """What to raise at a server that broke a rule the core does not know."""
        self._broken = True
        return RemoteProtocolError(text)

    async def _event(self) -> Event:
        """The next event. The core raises RemoteProtocolError at the end of the stream: something is owed."""
        while (event := self._connection.next_event()) is NEED_DATA:
            self._connection.receive_data(await self._stream.receive_some(_RECEIVE_OCTETS))
        assert isinstance(event, Event)
        return event

    async def _status(self, command: Command) -> Ok:
        """Send a command and read its status line."""
        await self._stream.send_all(self._connection.send(command))
        status = await self._event()
        if isinstance(status, Err):
            raise ReplyError(status)
        assert isinstance(status, Ok)
        return status

    async def _pieces(self, limit: int | None) -> AsyncGenerator[bytes, None]:
        """The rest of a multi-line reply."""
        taken = 0
        while isinstance(event := await self._event(), Data):
            taken += len(event.data)
            if limit is not None and taken > limit:
                raise self._nonsense(f"the server sent more than {limit} octets")
            yield event.data

    async def _drain(self) -> None:
        """Throw away what is left of a message, so that the next reply is the next command's."""
        if self._connection.in_body and not self._broken:
            async for _ in self._pieces(self._max_message):
                pass

    async def _body(self, limit: int | None) -> bytes:
        """The rest of a multi-line reply, in one piece."""
        body = bytearray()
        async with contextlib.aclosing(self._pieces(limit)) as pieces:
            async for piece in pieces:
                body += piece
        return bytes(body)

    async def _simple(self, command: Command) -> None:
        """A command whose reply says yes or no."""
        async with self._exchange():
            await self._status(command)

    async def _gather(self, command: Command, limit: int | None) -> bytes:
        """A command with a multi-line reply; returns all of it."""
        async with self._exchange():
            await self._status(command)
            return await self._body(limit)

    async def _ask(self, command: Command, parser: Callable[[str], T]) -> T:
        """A command whose reply text is to be understood."""
        async with self._exchange():
            return self._parse(parser, (await self._status(command)).text)

    async def _ask_about(self, number: int, command: Command, parser: Callable[[str], tuple[int, T]]) -> T:
        """A command about one message; the reply must be about the same."""
        async with self._exchange():
            about, value = self._parse(parser, (await self._status(command)).text)
            if about != number:
                raise self._nonsense(f"asked about message {number}, the server spoke of {about}")
            return value

    async def _listing(self, command: Command, parser: Callable[[str], tuple[int, T]]) -> dict[int, T]:
        """A listing, understood as it arrives: reading it at the end would hold up everybody else."""
        found: dict[int, T] = {}
        rest = b""
        async with self._exchange():
            await self._status(command)
            async with contextlib.aclosing(self._pieces(self._max_listing)) as pieces:
                async for piece in pieces:
                    *lines, rest = (rest + piece).split(b"\r\n")
                    if len(rest) > _MOST_LINE_OCTETS:
                        raise self._nonsense("the server sent a listing line without end")
                    found.update(self._parse(parser, _text(line)) for line in lines)
        return found

    def _parse(self, parser: Callable[[str], T], line: str) -> T:
        """Understand a reply; a session whose server talks nonsense is over."""
        try:
            return parser(line)
        except RemoteProtocolError:
            self._broken = True
            raise


@asynccontextmanager
async def connect(
    host: str,
    port: int = 110,
    *,
    max_listing: int = _MOST_LISTING_OCTETS,
    max_message: int | None = None,
    lenient_terminator: bool = False,
) -> AsyncIterator[Pop3Client]:
    """Connect, read the greeting, and close at the end of the block.

        async with connect("127.0.0.1", 1110) as client:
            await client.login("demo", "secret")
            print(await client.stat())
            await client.quit()

    Leaving the block without `quit` deletes nothing. Arguments as for `Pop3Client`. Raises OSError if there is no
    connection to be had, ReplyError if the server refuses it, RemoteProtocolError if it speaks something else.
    """
    stream = await trio.open_tcp_stream(host, port)
    async with Pop3Client(
        stream, max_listing=max_listing, max_message=max_message, lenient_terminator=lenient_terminator
    ) as client:
        await client.greeting()
        yield client


def _text(line: bytes) -> str:
    return line.decode("ascii", "replace")


def _secret(text: str) -> bytes:
    """A password's octets; those that were not UTF-8 come as lone surrogates and go out as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise LocalProtocolError("a password holds characters that have no octets") from None
