"""Everything that travels: one frozen class per command, and the parts of a reply.

The events a client sends are exactly the ones a server receives, and the other way round. Attributes are plain values;
whether an event may travel *now* is for `connection` and the tables to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from .enums import ResponseCode


@dataclass(frozen=True, slots=True)
class Event:
    """Base of everything `next_event` returns and `send` takes."""


# --- commands: client to server ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command(Event):
    """Base of the commands. A server that gets one owes one reply."""


@dataclass(frozen=True, slots=True)
class User(Command):
    """USER name (RFC 1939 section 7). The name is printable ASCII."""

    name: str


@dataclass(frozen=True, slots=True)
class Pass(Command):
    """PASS string (RFC 1939 section 7). Octet for octet what followed the first space; never shown in a repr."""

    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Apop(Command):
    """APOP name digest (RFC 1939 section 7). `digest` is the 16 octets of MD5(timestamp + secret), not its hex form."""

    name: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Capa(Command):
    """CAPA (RFC 2449 section 5)."""


@dataclass(frozen=True, slots=True)
class Quit(Command):
    """QUIT (RFC 1939 sections 5 and 6). In TRANSACTION the connection is now in UPDATE: commit, then reply."""


@dataclass(frozen=True, slots=True)
class Stat(Command):
    """STAT (RFC 1939 section 5)."""


@dataclass(frozen=True, slots=True)
class List(Command):
    """LIST [msg] (RFC 1939 section 5). `number` is None for the whole listing."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Retr(Command):
    """RETR msg (RFC 1939 section 5)."""

    number: int


@dataclass(frozen=True, slots=True)
class Dele(Command):
    """DELE msg (RFC 1939 section 5)."""

    number: int


@dataclass(frozen=True, slots=True)
class Noop(Command):
    """NOOP (RFC 1939 section 5)."""


@dataclass(frozen=True, slots=True)
class Rset(Command):
    """RSET (RFC 1939 section 5)."""


@dataclass(frozen=True, slots=True)
class Top(Command):
    """TOP msg n (RFC 1939 section 7). `lines` is the number of body lines, 0 or more."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Uidl(Command):
    """UIDL [msg] (RFC 1939 section 7). `number` is None for the whole listing."""

    number: int | None = None


# --- replies: server to client -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ok(Event):
    """`+OK`. If the command's reply is multi-line, `Data` and then `EndOfBody` follow."""

    text: str
    code: ResponseCode | None = None


@dataclass(frozen=True, slots=True)
class Err(Event):
    """`-ERR`. Also a greeting: the server will not serve this connection."""

    text: str
    code: ResponseCode | None = None


@dataclass(frozen=True, slots=True)
class Greeting(Event):
    """The server's first line. `timestamp` (with its angle brackets) is there only if APOP is offered."""

    text: str
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class Data(Event):
    """Octets of a multi-line reply, unstuffed, cut anywhere. A server may hand in any line ends; CRLF is sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfBody(Event):
    """The end of a multi-line reply.

    A server that announced a size puts it in `octets`; `send` then refuses to finish a message of any other size, so
    that a client never takes a wrong message for a right one. A client gets None.
    """

    octets: int | None = None


# --- neither -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadCommand(Event):
    """A line that is no command here. Send `reply` (or another `Err`); after a `fatal` one the connection is over."""

    reply: Err
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionClosed(Event):
    """The peer will send no more. A half line before it was dropped: it is not a command."""


Status: TypeAlias = Ok | Err
