"""Everything that travels: one frozen class per command, and the parts of a reply.

The events a client sends are exactly the ones a server receives, and the other way round. Attributes are plain values;
whether an event may travel *now* is for `connection` and the tables to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from .body import BodyEncoder
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
    """USER name (RFC 1939 section 7). The name is printable ASCII, or UTF-8 where that is announced (RFC 6856)."""

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
class Auth(Command):
    """AUTH mechanism [initial-response] (RFC 5034 section 4). Answered with `Challenge`, `Ok` or `Err`.

    `mechanism` is in upper case. `initial` holds the decoded octets: None if there were none, b"" for `=`.
    """

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthList(Command):
    """AUTH alone: which mechanisms are there? Older than CAPA, and some clients still ask so."""


@dataclass(frozen=True, slots=True)
class SaslResponse(Command):
    """A client's line in a SASL exchange, decoded (RFC 5034 section 4). Answered with `Challenge`, `Ok` or `Err`."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaslCancel(Command):
    """`*` in a SASL exchange: the client gives up. Answered with `Err`, always."""


@dataclass(frozen=True, slots=True)
class Stls(Command):
    """STLS (RFC 2595 section 4). After `Ok` the next octets are a TLS handshake; then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Utf8(Command):
    """UTF8 (RFC 6856 section 2)."""


@dataclass(frozen=True, slots=True)
class Lang(Command):
    """LANG [tag] (RFC 6856 section 3). `tag` is None for the list of languages, "*" for the server's own choice."""

    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Xclient(Command):
    """XCLIENT name=value ...: a proxy says who its client is. Not standardised; names are in upper case."""

    attributes: tuple[tuple[str, str], ...]


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
class Challenge(Event):
    """`+ base64`: the server's part of a SASL exchange (RFC 5034 section 4).

    A client that gets one with `data` None got something that is not base64, and answers with `SaslCancel`.
    """

    data: bytes | None = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Greeting(Event):
    """The server's first line. `timestamp` (with its angle brackets) is there only if APOP is offered."""

    text: str
    timestamp: str | None = None
    code: ResponseCode | None = None


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


@dataclass(frozen=True, slots=True, init=False)
class WholeBody(Event):
    """All of a message at once, instead of `Data` and `EndOfBody`. For servers, and for what is small.

    Made of the message as it is stored, in any line ends, which is encoded there and then: once for its size and for
    sending it.

    `wire` is what leaves, terminator included; `octets` is the size of the message as a client will count it.
    """

    wire: bytes = field(repr=False)
    octets: int

    def __init__(self, message: bytes) -> None:
        encoder = BodyEncoder()
        wire = encoder.encode(message) + encoder.finish(empty_line=True)
        object.__setattr__(self, "wire", wire)
        object.__setattr__(self, "octets", encoder.octets)


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
