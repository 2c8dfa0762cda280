"""The words the whole package uses for roles, states, signals, reply shapes and response codes."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal


class Role(Enum):
    """Which side of the dialogue we play."""

    CLIENT = "client"
    SERVER = "server"


class Profile(Enum):
    """How strictly a server reads commands where the RFCs leave room.

    `DEFAULT` is what the daemon speaks: a bare LF ends a line, trailing spaces are dropped.
    `STRICT` is the conformance reference: CRLF only, nothing outside the grammar of RFC 2449 section 3.
    """

    DEFAULT = "default"
    STRICT = "strict"


class State(Enum):
    """Where a session stands (RFC 1939 section 3).

    Three are AUTHORIZATION in a special moment: `USER_GIVEN` (USER was accepted, PASS is due), `AUTHENTICATING` (a SASL
    exchange runs, every line is a response; RFC 5034 section 4) and `TLS_PENDING` (STLS was accepted, a TLS handshake
    follows; RFC 2595 section 4).
    """

    GREETING = "greeting"
    AUTHORIZATION = "authorization"
    USER_GIVEN = "user given"
    AUTHENTICATING = "authenticating"
    TLS_PENDING = "tls pending"
    TRANSACTION = "transaction"
    UPDATE = "update"
    CLOSED = "closed"
    ERROR = "error"

    # Members are told apart by identity; the usual hash is worked out in Python each time.
    __hash__ = object.__hash__


class Signal(Enum):
    """What `Pop3Connection.next_event` returns when there is no event to return."""

    NEED_DATA = "need data"
    PAUSED = "paused"


NEED_DATA: Final[Literal[Signal.NEED_DATA]] = Signal.NEED_DATA
PAUSED: Final[Literal[Signal.PAUSED]] = Signal.PAUSED


class Shape(Enum):
    """What follows a `+OK` to a command. An `-ERR` is always a single line (RFC 1939 section 3)."""

    SINGLE = "single line"
    LISTING = "listing"  # CRLF lines and the terminator; no lines at all is legal
    MESSAGE = "message"  # a whole or partial message; an empty one is sent as one empty line


class ResponseCode(Enum):
    """Machine-readable reasons in a reply (RFC 2449 section 8, RFC 3206, RFC 6856 section 5)."""

    LOGIN_DELAY = "LOGIN-DELAY"
    IN_USE = "IN-USE"
    SYS_TEMP = "SYS/TEMP"
    SYS_PERM = "SYS/PERM"
    AUTH = "AUTH"
    UTF8 = "UTF8"
    XCLIENT = "XCLIENT"  # in a greeting: XCLIENT is taken from you; not registered
