"""Core and session in one, without a driver: octets in, octets out. What the in-memory wire and the test server run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from trio_pop3 import Backend, BodyBroken, ClientInfo, Multiline, Rules, Session
from trio_pop3.sansio import (
    BadCommand,
    Command,
    ConnectionClosed,
    Data,
    EndOfBody,
    Event,
    LocalProtocolError,
    Pop3Connection,
    Role,
    State,
)

LOCAL: Final = ClientInfo("test", "127.0.0.1", 4711, loopback=True)
PLAIN_RULES: Final = Rules()


class Answer:
    """The reply to one event, in pieces as they are made. Iterate it to its end before asking for the next."""

    def __init__(self, dialogue: Dialogue, event: Command | BadCommand | None) -> None:
        self.event: Final = event  # None for the greeting
        self._dialogue = dialogue

    async def __aiter__(self) -> AsyncIterator[bytes]:
        dialogue, connection = self._dialogue, self._dialogue.connection
        if self.event is None:
            yield connection.send(await dialogue.session.greet())
            return
        reply = await dialogue.session.respond(self.event)
        if not isinstance(reply, Multiline):
            yield connection.send(reply)
            return
        try:
            yield connection.send(reply.status)
            async for chunk in reply:
                yield connection.send(Data(chunk))
            yield connection.send(EndOfBody(reply.octets))
            reply.sent()
        except (BodyBroken, LocalProtocolError):
            # It cannot be finished truthfully: no terminator, no -ERR, the connection is over.
            dialogue.broken = True
        finally:
            await reply.aclose()


class Dialogue:
    """The server's side of one connection, over any backend and under any loop.

        dialogue.receive_data(octets)          # b"" is the end of the stream
        while (answer := dialogue.next_answer()) is not None:
            async for piece in answer: ...     # goes to the client
        if dialogue.tls_due: ...               # a handshake, then dialogue.tls_started(...)

    `await greet()` first, and `await close()` once in the end, on every way out. Options are those of `Session`, but
    for `client` and `rules`, which have defaults that let everybody on this machine in.
    """

    def __init__(
        self, backend: Backend, *, client: ClientInfo = LOCAL, rules: Rules = PLAIN_RULES, **options: Any
    ) -> None:
        self.connection: Final = Pop3Connection(
            Role.SERVER, profile=rules.profile, space_in_user=rules.space_in_user, utf8_user=rules.utf8
        )
        self.session: Final = Session(backend, client, rules, **options)
        self.broken = False

    @property
    def over(self) -> bool:
        """Whether nothing more is answered."""
        return self.broken or self.session.ended is not None

    @property
    def tls_due(self) -> bool:
        """Whether the `+OK` to STLS was sent, so that a handshake is what comes next."""
        return self.connection.state is State.TLS_PENDING

    def greet(self) -> Answer:
        """The greeting."""
        return Answer(self, None)

    def receive_data(self, data: bytes) -> None:
        """Store octets of the client; b"" means that it will send no more."""
        if not self.over:
            self.connection.receive_data(data)

    def next_answer(self) -> Answer | None:
        """The answer to the next command; None if there is none yet, or never will be: see `over`."""
        if self.over:
            return None
        event = self.connection.next_event()
        if isinstance(event, ConnectionClosed):
            self.session.ended = "client closed"
            return None
        if not isinstance(event, Event):
            return None
        assert isinstance(event, (Command, BadCommand))
        return Answer(self, event)

    def tls_started(self, client: ClientInfo) -> None:
        """The handshake behind STLS is done; `client` has what it told."""
        self.connection.tls_started()
        self.session.tls_started(client)

    async def close(self, reason: str = "over") -> None:
        """Give everything back. Deletes nothing."""
        await self.session.close(self.session.ended or reason)
