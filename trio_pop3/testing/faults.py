r"""Servers that misbehave on purpose, for testing clients.

A fault is a value. It says which replies it strikes, how often, and what becomes of them; several work together, in
the order in which they are given:

    with server.fault(Refuse("PASS", "IN-USE", times=2), Slow(octets=10, seconds=0.01)):
        ...

Every fault takes `command` (a verb, several, or None for every command; `GREETING` stands for the greeting and "SASL"
for the lines of a SASL exchange), `number` (of a message, to strike no other) and `times` (how often it strikes; None
is always). A fault that finds nothing to do has not struck.

    Refuse          -ERR, with a response code; nothing is done
    Say             any octets at all in place of the reply
    NoReply         no reply
    ExtraLine       a second reply behind the first; behind the +OK to STLS it is an injection
    LongLine        a status line of thousands of octets
    BareLf          lines that end in LF
    WrongSize       STAT, LIST and RETR tell another size than is sent
    Unstuffed       dots at line starts are not doubled: a line of one dot ends the message
    NoTerminator    a multi-line reply without its final dot
    DoubledTerminator  ... with two of them
    Uids            UIDL with the same uid for all, a blank one, one of 200 octets, new ones each time
    Capabilities    CAPA without some, or with others
    LostDeletion    +OK to QUIT, and every message is still there
    Delay           nothing for some seconds, then the reply
    Slow            the reply in small pieces, with pauses
    DropAt          the connection is closed, or reset, inside a reply
    StallAt         the server falls silent inside a reply
    BrokenTls       a TLS handshake that fails

`FAULT_SCRIPTS` has ready-made ones by name. For one of your own, subclass `Fault` and override `apply` or `instead`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final, Literal, TypeAlias

# What a greeting is called where a fault names commands. Lower case: no command is.
GREETING: Final = "greeting"

Commands: TypeAlias = str | tuple[str, ...] | None
TlsKind: TypeAlias = Literal["garbage", "close", "silent", "wrong name", "expired", "untrusted"]

_CRLF: Final = b"\r\n"
_LAST: Final = b".\r\n"
_LISTED: Final = ("LIST", "UIDL", "STAT")
# What must not be less than this.
_LEAST: Final[Mapping[str, int]] = MappingProxyType({"times": 1, "number": 1, "octets": 0, "seconds": 0})


class Ending(Enum):
    """What becomes of the connection behind a reply."""

    GO_ON = "go on"
    FAREWELL = "farewell"  # the dialogue is over: closed, and politely so under TLS
    DROP = "drop"  # closed without a word
    RESET = "reset"  # by a RST; what the client has not read yet may be lost
    SILENCE = "silence"  # what the client sends is thrown away, until it closes


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reply is for."""

    verb: str  # in upper case, whatever the client wrote; "SASL" in an exchange; GREETING
    number: int | None = None  # of a message, if the command has one
    connection: int = 1  # which connection of the server this is
    user: str | None = None  # who is logged in


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be said, and how."""

    octets: bytes
    delay: float = 0.0  # seconds before the first octet
    piece: int | None = None  # octets at a time; None is all
    pause: float = 0.0  # seconds between pieces
    stop: int | None = None  # octets that are sent; None is all
    ending: Ending = Ending.GO_ON


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Base of all faults. See the module for what `command`, `number` and `times` say.

    Raises ValueError for a `number` or `times` under 1, and for octets or seconds under 0.
    """

    command: Commands = None
    number: int | None = None
    times: int | None = None

    # Whether `number` picks a line of a whole listing.
    _listing: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name, None)
            if isinstance(value, (int, float)) and not value >= least:
                raise ValueError(f"{name} must be at least {least}, not {value!r}")

    def __str__(self) -> str:
        """As it was written: without what is as usual."""
        values = ((each, getattr(self, each.name)) for each in fields(self))
        return f"{type(self).__name__}({', '.join(f'{e.name}={v!r}' for e, v in values if v != e.default)})"

    def concerns(self, asked: Asked) -> bool:
        """Whether this is a reply to strike."""
        if self.command is None:
            named = asked.verb != GREETING
        else:
            names = (self.command,) if isinstance(self.command, str) else self.command
            named = asked.verb in (name if name == GREETING else name.upper() for name in names)
        whole = self._listing and asked.number is None and asked.verb in _LISTED
        return named and (self.number is None or self.number == asked.number or whole)

    def instead(self, asked: Asked) -> Plan | None:
        """What is said without the command's being done; None to have it done."""
        return None

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        """What becomes of what is about to be said. The same plan, unchanged, is no strike."""
        return plan


# --- in place of a reply -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """`-ERR [code] text`; the command is not done. A refused greeting ends the connection.

    Stands for a maildrop that another session holds (`Refuse("PASS", "IN-USE", times=n)`), a store that is down
    (SYS/TEMP), a message that has vanished, a command that is not served, a server that is full.
    """

    command: Commands = "PASS"
    code: str | None = None
    text: str = "not now"
    then_close: bool = False

    def instead(self, asked: Asked) -> Plan:
        code = "" if self.code is None else f"[{self.code}] "
        closing = self.then_close or asked.verb == GREETING
        return Plan(f"-ERR {code}{self.text}\r\n".encode(), ending=Ending.DROP if closing else Ending.GO_ON)


@dataclass(frozen=True, slots=True)
class Say(Fault):
    """These octets in place of the reply: no line end is added. The command is done, or not, with `done=False`.

    Stands for whatever was seen somewhere: `+ERR`, an SMTP greeting, an HTML page, a size with a thousands separator.
    """

    command: Commands
    octets: bytes
    done: bool = True

    def instead(self, asked: Asked) -> Plan | None:
        return None if self.done else Plan(self.octets)

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return replace(plan, octets=self.octets) if self.done else plan


@dataclass(frozen=True, slots=True)
class LostDeletion(Fault):
    """`+OK` to a QUIT after the login, and nothing was removed.

    Stands for servers that answer before they delete, or never do: the client meets the same mail again.
    """

    command: Commands = field(default="QUIT", kw_only=True)

    def instead(self, asked: Asked) -> Plan | None:
        return None if asked.user is None else Plan(b"+OK goodbye\r\n", ending=Ending.FAREWELL)


@dataclass(frozen=True, slots=True)
class NoReply(Fault):
    """The command is done, and no reply comes. `NoReply(GREETING)` is a server that accepts and says nothing.

    Stands for servers that forget the reply to RSET or NOOP, and for firewalls that let connections through to nowhere.
    """

    command: Commands

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        ending = Ending.SILENCE if plan.ending is Ending.FAREWELL else plan.ending
        return replace(plan, octets=b"", ending=ending)


# --- other words ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExtraLine(Fault):
    """The reply, and one more behind it in the same piece: the client is out of step by one from then on.

    Stands for servers that answer RSET or QUIT twice. `ExtraLine("STLS")` is text in clear behind the `+OK` to STLS,
    which a client must not take for a reply under TLS (RFC 2595 section 4).
    """

    command: Commands
    line: bytes = b"+OK\r\n"

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return replace(plan, octets=plan.octets + self.line)


@dataclass(frozen=True, slots=True)
class LongLine(Fault):
    """The status line is filled up to so many octets, CRLF included; RFC 2449 section 4 allows 512.

    Stands for banners and error texts that overflow buffers. poplib takes 2,048 octets.
    """

    octets: int = 3000
    command: Commands = field(default=None, kw_only=True)

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        status, rest = split(plan.octets)
        if len(status) >= self.octets or not status.endswith(_CRLF):
            return plan
        line = status[:-2] + b" "
        return replace(plan, octets=line.ljust(self.octets - 2, b"x") + _CRLF + rest)


@dataclass(frozen=True, slots=True)
class BareLf(Fault):
    """Every CRLF of the reply is an LF.

    Stands for servers that print lines as their operating system does.
    """

    command: Commands = None

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return reworded(plan, plan.octets.replace(_CRLF, b"\n"))


@dataclass(frozen=True, slots=True)
class WrongSize(Fault):
    """Sizes that are told are `by` octets more than what is sent; less, if it is negative, but never under 0.

    Stands for servers that count LF as one octet, or forget about the line that was cut off. With `number`, it is that
    message only, in STAT too.
    """

    by: int = 7
    command: Commands = field(default=("STAT", "LIST", "RETR"), kw_only=True)

    _listing: ClassVar[bool] = True
    _size: ClassVar[re.Pattern[bytes]] = re.compile(rb"(\+OK \d+ |\+OK (?=\d+ octets))(\d+)")

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        status, rest = split(plan.octets)
        if asked.verb == "LIST" and asked.number is None:
            rest = each_listed(rest, self.number, self._wrong_of)
        else:
            status = self._size.sub(self._wrong, status, count=1)
        return reworded(plan, status + rest)

    def _wrong(self, match: re.Match[bytes]) -> bytes:
        return match[1] + b"%d" % max(0, int(match[2]) + self.by)

    def _wrong_of(self, number: int, size: bytes) -> bytes:
        return b"%d" % max(0, int(size) + self.by) if size.isdigit() else size


@dataclass(frozen=True, slots=True)
class Uids(Fault):
    """UIDL tells this of every message; `{number}`, `{uid}` and `{connection}` may stand in it.

    Stands for servers with the same uid twice (`"same"`), with blank ones (`""`: they took them from Message-ID), with
    over-long ones (`"{number:0200}"`; RFC 1939 section 7 allows 70 octets), or with others at the next login
    (`"{connection}-{uid}"`).
    """

    uid: str = "same"
    command: Commands = field(default="UIDL", kw_only=True)

    _listing: ClassVar[bool] = True

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        status, rest = split(plan.octets)
        other = partial(self._other, asked.connection)
        if asked.number is None:
            rest = each_listed(rest, self.number, other)
        elif match := re.fullmatch(rb"\+OK (\d+) (\S+)\r\n", status):
            status = b"+OK %s %s\r\n" % (match[1], other(int(match[1]), match[2]))
        return reworded(plan, status + rest)

    def _other(self, connection: int, number: int, uid: bytes) -> bytes:
        return self.uid.format(number=number, uid=uid.decode(), connection=connection).encode()


@dataclass(frozen=True, slots=True)
class Capabilities(Fault):
    """CAPA without some capabilities, by their first word, and with other lines.

    Stands for servers that announce less than they can, or what they cannot. What is hidden works all the same:
    `Refuse("TOP")` beside it makes it go. `Refuse("CAPA")` is a server that knows no CAPA.
    """

    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    command: Commands = field(default="CAPA", kw_only=True)

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if str in map(type, (self.without, self.also)):
            raise TypeError('capabilities come in a tuple, as in Capabilities(without=("TOP",))')

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        status, rest = split(plan.octets)
        if not rest.endswith(_LAST):
            return plan
        hidden = {name.upper().encode() for name in self.without}
        lines = rest.removesuffix(_LAST).splitlines(keepends=True)
        kept = b"".join(line for line in lines if line.split()[0].upper() not in hidden)
        more = "".join(f"{line}\r\n" for line in self.also).encode()
        return reworded(plan, status + kept + more + _LAST)


# --- another end of the body ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unstuffed(Fault):
    """Dots at line starts are sent as they are (RFC 1939 section 3 wants them doubled).

    Stands for servers that forgot. A message with a line of one dot ends there, and its rest is taken for replies.
    """

    command: Commands = ("RETR", "TOP")

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        status, rest = split(plan.octets)
        return reworded(plan, status + re.sub(rb"(?m)^\.(?=\.)", b"", rest))


@dataclass(frozen=True, slots=True)
class NoTerminator(Fault):
    """A multi-line reply without its final line `.`; then the connection is closed, or just goes on.

    Stands for servers that break off without a word, and for a final dot that a proxy held back.
    """

    command: Commands = "RETR"
    then_close: bool = False

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        if not ends_in_dot(plan.octets):
            return plan
        ending = Ending.DROP if self.then_close else plan.ending
        return replace(plan, octets=plan.octets.removesuffix(_LAST), ending=ending)


@dataclass(frozen=True, slots=True)
class DoubledTerminator(Fault):
    """The final line `.` twice: the second is where the next reply should begin.

    Stands for servers whose layers both add it.
    """

    command: Commands = "RETR"

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return replace(plan, octets=plan.octets + _LAST) if ends_in_dot(plan.octets) else plan


# --- when, and how far ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """Nothing for some seconds, then the reply. `Delay(GREETING, 5)` is a greeting that is late.

    Stands for loaded servers, name lookups before the greeting, slow logins on purpose.
    """

    command: Commands
    seconds: float

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return replace(plan, delay=plan.delay + self.seconds)


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """The reply in pieces of so many octets, with a pause of so many seconds before each but the first.

    Stands for bad lines, and for whoever drips to get around a timeout that each octet starts anew.
    """

    octets: int = 1
    seconds: float = 0.01
    command: Commands = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.octets < 1:
            raise ValueError(f"octets must be at least 1, not {self.octets!r}")

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return replace(plan, piece=self.octets, pause=self.seconds)


@dataclass(frozen=True, slots=True)
class DropAt(Fault):
    """So many octets of the reply are sent, then the connection is closed, or reset. A shorter reply is left alone.

    Octets are those on the wire, status line included. What was asked for is done: `DropAt(0, command="QUIT")` is a
    server that deletes and does not say so. Stands for crashes, restarts, and everything between.
    """

    octets: int
    command: Commands = field(default="RETR", kw_only=True)
    reset: bool = field(default=False, kw_only=True)

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        if self.octets >= len(plan.octets):
            return plan
        return replace(plan, stop=self.octets, ending=Ending.RESET if self.reset else Ending.DROP)


@dataclass(frozen=True, slots=True)
class StallAt(Fault):
    """So many octets of the reply are sent, then nothing more comes, ever. A shorter reply is left alone.

    Stands for a line that is gone without either side being told. The server waits until the client closes.
    """

    octets: int
    command: Commands = field(default="RETR", kw_only=True)

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return plan if self.octets >= len(plan.octets) else replace(plan, stop=self.octets, ending=Ending.SILENCE)


@dataclass(frozen=True, slots=True)
class BrokenTls(Fault):
    """A handshake that fails, behind STLS and where TLS comes first.

    - "garbage": text in clear where the handshake should be, as from a port that knows no TLS;
    - "close": the connection is closed;
    - "silent": nothing comes until the client closes;
    - "wrong name": a certificate for `wrong.example`, of the authority that is trusted;
    - "expired": one that was good until a day ago;
    - "untrusted": one of another authority.

    `command` and `number` mean nothing here.
    """

    kind: TlsKind = "garbage"

    def concerns(self, asked: Asked) -> bool:
        return False


# --- what faults are made with -------------------------------------------------------------------------------------


def split(octets: bytes) -> tuple[bytes, bytes]:
    """The status line of a reply, and the rest of it, empty if there is no body."""
    end = octets.find(b"\n") + 1
    return octets[:end], octets[end:]


def reworded(plan: Plan, octets: bytes) -> Plan:
    """The plan with these octets; the same if they are what it says already."""
    return plan if octets == plan.octets else replace(plan, octets=octets)


def ends_in_dot(octets: bytes) -> bool:
    """Whether a reply has a body that ends as it should."""
    return split(octets)[1] == _LAST or octets.endswith(_CRLF + _LAST)


def each_listed(rest: bytes, only: int | None, change: Callable[[int, bytes], bytes]) -> bytes:
    """A listing with what stands behind each number, or behind one of them, changed."""

    def line(match: re.Match[bytes]) -> bytes:
        number = int(match[1])
        return match[0] if only not in (None, number) else b"%d %s\r\n" % (number, change(number, match[2]))

    return re.sub(rb"(?m)^(\d+) (\S+)\r\n", line, rest)
