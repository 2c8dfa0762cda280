"""Running coroutines that never wait, and a whole server side over them: no event loop anywhere."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from trio_pop3.backend import Backend, ClientInfo
from trio_pop3.replies import BodyBroken, Multiline
from trio_pop3.sansio import (
    NEED_DATA,
    BadCommand,
    Command,
    ConnectionClosed,
    Data,
    EndOfBody,
    LocalProtocolError,
    Pop3Connection,
    Profile,
    Role,
)
from trio_pop3.session import Session

T = TypeVar("T")
CLIENT = ClientInfo("test", "127.0.0.1", 4711, loopback=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("the coroutine waited for something")


class Dialogue:
    """Core and session on one backend: octets in, octets out."""

    def __init__(self, backend: Backend, *, profile: Profile = Profile.DEFAULT, **options: Any) -> None:
        self.connection = Pop3Connection(Role.SERVER, profile=profile)
        self.session = Session(backend, CLIENT, **options)
        self.greeting = self.connection.send(run(self.session.greet()))
        self.over = self.session.ended is not None
        self.broke_off = False

    def send(self, data: bytes) -> bytes:
        """What the server answers to these octets; b"" is the end of the stream."""
        sent = bytearray()
        if not self.over:
            self.connection.receive_data(data)
        while not self.over:
            event = self.connection.next_event()
            if event is NEED_DATA:
                break
            if isinstance(event, ConnectionClosed):
                self.close("client closed")
                break
            assert isinstance(event, Command | BadCommand)
            sent += self._answer(event)
            if self.session.ended is not None:
                self.close(self.session.ended)
        return bytes(sent)

    def ask(self, line: str | bytes) -> bytes:
        """One command, its reply."""
        return self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")

    def login(self, user: str = "alice", password: str = "secret") -> bytes:
        """USER and PASS; the reply to the second."""
        self.ask(f"USER {user}")
        return self.ask(f"PASS {password}")

    def close(self, reason: str = "lost") -> None:
        """The connection is gone, however."""
        self.over = True
        run(self.session.close(reason))

    def _answer(self, event: Command | BadCommand) -> bytes:
        reply = run(self.session.respond(event))
        if not isinstance(reply, Multiline):
            return self.connection.send(reply)
        sent = self.connection.send(reply.status)
        try:
            sent += run(self._body(reply))
        except (BodyBroken, LocalProtocolError):
            self.broke_off = True
            self.close("broke off")
        return sent

    async def _body(self, reply: Multiline) -> bytes:
        sent = b""
        try:
            async for chunk in reply:
                assert len(chunk) <= 65536
                sent += self.connection.send(Data(chunk))
            return sent + self.connection.send(EndOfBody(reply.octets))
        finally:
            await reply.aclose()
