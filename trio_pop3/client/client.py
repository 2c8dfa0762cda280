"""A small POP3 client on trio, over the client role of the core."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from ..sansio import Command, Dele, List, LocalProtocolError, Noop, Quit, Retr, Rset, Stat, Top, Uidl
from ..sansio.listings import parse_numbers, parse_unique_id
from .login import LoginClient
from .wire import MOST_OUTSTANDING, Reply

_MOST_PIPELINE_OCTETS: Final = 128 * 1024 * 1024


class Status(NamedTuple):
    """What STAT says: how many undeleted messages there are, and their octets."""

    messages: int
    octets: int


class Pop3Client(LoginClient):
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
        insecure_auth: send passwords and tokens in clear to other machines. Without it they are sent over TLS, to this
            machine, and over streams that are no sockets.
    """

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

    async def quit(self) -> None:
        """End the session; marked messages are removed. After a ReplyError some of them are still there."""
        await self._simple(Quit())

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
        at_once = MOST_OUTSTANDING if "PIPELINING" in self._capabilities else 1
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
