"""One exchange at a time: commands out, replies in, and what to do when it ends in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from ..sansio import (
    NEED_DATA,
    TRANSITIONS,
    Command,
    Data,
    Err,
    Event,
    Ok,
    Pop3Connection,
    RemoteProtocolError,
    ResponseCode,
    Role,
    Shape,
    State,
    shape_of,
)
from ..sansio.commands import BY_EVENT
from ..sansio.writers import write_command

T = TypeVar("T")

_RECEIVE_OCTETS: Final = 64 * 1024
# Commands under way at a time; the core is told the same.
MOST_OUTSTANDING: Final = 512
# Half a million messages with UIDs of 25 octets; more is an attack on our memory.
MOST_LISTING_OCTETS: Final = 16 * 1024 * 1024
# One line of a listing: a number and a UID, with room for what servers append.
_MOST_LINE_OCTETS: Final = 4096


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


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of a pipeline: its status line, and the body if it had one."""

    status: Ok | Err
    body: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether it was `+OK`."""
        return isinstance(self.status, Ok)


class Wire(trio.abc.AsyncResource):
    """A stream and the client role on it: the part of `Pop3Client` that knows of exchanges and nothing of mail."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        max_listing: int = MOST_LISTING_OCTETS,
        max_message: int | None = None,
        lenient_terminator: bool = False,
        insecure_auth: bool = False,
    ) -> None:
        self.timestamp: str | None = None  # of the greeting, if the server offers APOP
        self._stream: trio.abc.Stream = stream
        self._insecure_auth = insecure_auth
        self._connection = Pop3Connection(
            Role.CLIENT, max_outstanding=MOST_OUTSTANDING, lenient_terminator=lenient_terminator
        )
        self._max_listing = max_listing
        self._max_message = max_message
        self._capabilities: dict[str, tuple[str, ...]] | None = None
        self._utf8 = False  # UTF8 was said
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
        status = await self._line(command)
        if isinstance(status, Err):
            raise ReplyError(status)
        assert isinstance(status, Ok)
        return status

    async def _line(self, command: Command) -> Event:
        """Send a command and read the line that answers it."""
        await self._stream.send_all(self._connection.send(command))
        return await self._event()

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
                    found.update(self._parse(parser, text_of(line)) for line in lines)
        return found

    def _parse(self, parser: Callable[[str], T], line: str) -> T:
        """Understand a reply; a session whose server talks nonsense is over."""
        try:
            return parser(line)
        except RemoteProtocolError:
            self._broken = True
            raise

    def _sendable(self, commands: Sequence[Command]) -> int:
        """How many of the commands can be sent from here on, if all before them succeed.

        Raises LocalProtocolError for one that cannot be written. The core would say the same, but half-way through.
        """
        state = self.state
        for position, command in enumerate(commands):
            step = TRANSITIONS[state].get(type(command))
            if step is None or BY_EVENT[type(command)].waits:
                return position
            write_command(command, names=self._connection.names)
            state = step.ok or step.err
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


def text_of(line: bytes) -> str:
    return line.decode("ascii", "replace")
