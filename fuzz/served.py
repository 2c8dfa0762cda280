"""A whole server without a loop: core, session, and mail in memory. Nothing in it is left to chance."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from trio_pop3.backend import ClientInfo
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.replies import Multiline, Reply
from trio_pop3.rules import Headers, Rules
from trio_pop3.sansio import BadCommand, Command, ConnectionClosed, Data, EndOfBody, Event, Pop3Connection, Role
from trio_pop3.sasl import MECHANISMS, Mechanism, ServerContext, ServerExchange
from trio_pop3.session import Session

from .harness import Input, finish, options_of

CLIENT: Final = ClientInfo("fuzz", "127.0.0.1", 4711, loopback=True)
TIMESTAMP: Final = "<1.2@host>"


def _same_each_time(mechanism: Mechanism) -> Mechanism:
    def server(context: ServerContext, message: bytes) -> ServerExchange:
        return mechanism.server(replace(context, random=bytes, clock=lambda: 0.0), message)

    return replace(mechanism, server=server)


# Those that MemoryBackend checks, without SCRAM, whose keys take milliseconds and which has a target of its own.
_MECHANISMS: Final[Mapping[str, Mechanism]] = {
    name: _same_each_time(MECHANISMS[name]) for name in ("PLAIN", "CRAM-MD5", "LOGIN")
}
_STATUS: Final = re.compile(rb"(?:\+OK|-ERR) [^\r\n]{1,506}\r\n|\+ [A-Za-z0-9+/=]*\r\n")


def unstuffed(reply: bytes) -> bytes:
    """The body of a reply, b"" if it has none; it ends where it ends and nowhere before."""
    status = _STATUS.match(reply)
    assert status, f"not a reply: {reply!r:.99}"
    # What a session makes of exceptions that nobody thought of, and of a mail store that lies.
    assert b"[SYS/" not in status[0], f"something went wrong inside: {status[0]!r}"
    body = b"\r\n" + reply[status.end() :]
    assert len(body) == 2 or body.find(b"\r\n.\r\n") == len(body) - 5, "no end, or one too early"
    return body.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")[2:]


@functools.cache
def rules_of(options: int) -> Rules:
    """What is allowed and announced."""
    core = options_of(Input(options, (1, 1), b""))
    return Rules(
        max_bad_commands=None if options & 1 << 8 else 10,
        stls=bool(options & 1 << 9),
        apop=True,
        mechanisms=_MECHANISMS,
        profile=core["profile"],
        space_in_user=core["space_in_user"],
        utf8=core["utf8_user"],
        headers=(Headers.PASS, Headers.PASS, Headers.SURROGATE, Headers.REFUSE)[options >> 10 & 3],
    )


class Server:
    """Alice's server; her password is "secret".

    dialogue: what was understood and what was answered to it, oldest first.
    mail: her messages when it started, by uid.
    """

    def __init__(self, given: Input, messages: list[bytes]) -> None:
        self.backend: Final = MemoryBackend()
        self.backend.add_user("alice", "secret")
        self.mail: Final = {self.backend.deliver("alice", message): message for message in messages}
        # Bits 8 to 11 are the session's.
        self._session: Final = Session(
            self.backend, CLIENT, rules_of(given.options & 0xF07), timestamp=TIMESTAMP, xclient=given.flag(12)
        )
        self._connection: Final = Pop3Connection(Role.SERVER, **options_of(given))
        self.greeting: Final = self._connection.send(finish(self._session.greet()))
        self.dialogue: Final[list[tuple[Event, bytes]]] = []

    @property
    def user(self) -> str | None:
        """Who is logged in."""
        return self._session.user

    def receive(self, data: bytes) -> None:
        """Answer what has arrived whole; b"" is the end of the stream, and the client is gone."""
        if self._session.ended is None:
            self._connection.receive_data(data)
        while self._session.ended is None:
            event = self._connection.next_event()
            if not isinstance(event, Command | BadCommand):
                assert not data or not isinstance(event, ConnectionClosed), "closed before its time"
                break
            reply = finish(self._session.respond(event))
            self.dialogue.append((event, finish(self._written(reply))))
        if not data:
            finish(self._session.close("gone"))

    async def _written(self, reply: Reply) -> bytes:
        if not isinstance(reply, Multiline):
            return self._connection.send(reply)
        wire = self._connection.send(reply.status)
        async for chunk in reply:
            wire += self._connection.send(Data(chunk))
        wire += self._connection.send(EndOfBody(reply.octets))
        reply.sent()
        await reply.aclose()
        return wire
