"""What an LMTP client says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .grammar import Address
from .replies import Reply


@dataclass(frozen=True, slots=True)
class Lhlo:
    """`LHLO name`: the client's name, printable ASCII without blanks. Forgets a transaction that was begun."""

    name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """`MAIL FROM:<sender>` begins a transaction. `sender` is None for `<>`, from where no message may come back."""

    sender: Address | None
    size: int | None = None  # octets, as announced (RFC 1870)
    eight_bit: bool = False  # BODY=8BITMIME (RFC 6152)
    utf8: bool = False  # SMTPUTF8: addresses and headers may be UTF-8 (RFC 6531)


@dataclass(frozen=True, slots=True)
class Rcpt:
    """`RCPT TO:<recipient>`: each one that is answered with 2xx gets a reply of its own behind the message."""

    recipient: Address


@dataclass(frozen=True, slots=True)
class Data:
    """`DATA`: answered with 354, the message follows as `Content` and `EndOfContent`."""


@dataclass(frozen=True, slots=True)
class Rset:
    """`RSET`: forget the transaction."""


@dataclass(frozen=True, slots=True)
class Noop:
    """`NOOP`."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """`VRFY something`: answered with 252, whatever it is; who asks learns nothing."""


@dataclass(frozen=True, slots=True)
class Quit:
    """`QUIT`."""


Command: TypeAlias = Lhlo | Mail | Rcpt | Data | Rset | Noop | Vrfy | Quit


@dataclass(frozen=True, slots=True)
class BadCommand:
    """A line that is no command, or not one for now; `reply` is what is due."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the message, without the dots that were put in. How it is cut means nothing."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfContent:
    """The whole message was handed out, unless `too_large`. One reply is due for each recipient, in order."""

    octets: int  # of the message as it was sent, without the dots that were put in
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The client sends no more. Half a line and half a message are thrown away."""


Event: TypeAlias = Command | BadCommand | Content | EndOfContent | ConnectionClosed
