"""THE COMMAND TABLE. One row a verb; parser, states, CAPA, client and tests all read it and nothing else.

To add a command: an event class in `events`, a row here, a method in `trio_pop3.session`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from .enums import Shape, State
from .events import (
    Apop,
    Auth,
    AuthList,
    Capa,
    Command,
    Dele,
    Lang,
    List,
    Noop,
    Pass,
    Quit,
    Retr,
    Rset,
    SaslCancel,
    SaslResponse,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
    Xclient,
)


class Arguments(Enum):
    """What may stand behind the keyword."""

    NONE = ""
    OPTIONAL_NUMBER = "[msg]"
    NUMBER = "msg"
    NUMBER_AND_LINES = "msg n"
    NAME = "name"
    NAME_AND_DIGEST = "name digest"
    PASSWORD = "string"
    MECHANISM = "mechanism [initial-response]"
    OPTIONAL_LANGUAGE = "[language]"
    ATTRIBUTES = "name=value ..."
    RESPONSE = "base64"  # no keyword: the whole line
    CANCEL = "*"  # the same


class Step(NamedTuple):
    """Where a command leads: the state after `+OK`, None if it cannot be answered so, and the state after `-ERR`."""

    ok: State | None
    err: State


class Row(NamedTuple):
    """One verb. `event` is None for a verb that is known, reserved and not served: it is answered `-ERR`."""

    verb: bytes
    event: type[Command] | None
    arguments: Arguments
    shape: Shape  # of the +OK reply
    steps: Mapping[State, Step]  # an absent state means: not here
    capability: str | None  # the CAPA tag that announces it
    section: str
    short: str | None = None  # the attribute with which the reply is a single line
    waits: bool = False  # a client sends nothing behind it until it is answered
    lenient: Mapping[State, Step] = MappingProxyType({})  # more steps in the default profile


_A, _AU, _T, _X = State.AUTHORIZATION, State.USER_GIVEN, State.TRANSACTION, State.CLOSED
_AS, _AT = State.AUTHENTICATING, State.TLS_PENDING
_IN_TRANSACTION: Final = {_T: Step(_T, _T)}
_ANYWHERE: Final = {_A: Step(_A, _A), _AU: Step(_AU, _AU), _T: Step(_T, _T)}
_BEFORE_LOGIN: Final = {_A: Step(_A, _A), _AU: Step(_AU, _AU)}
_NOT_SERVED: Final[dict[State, Step]] = {}

_ARG, _SHAPE = Arguments, Shape
COMMANDS: Final = (
    Row(b"USER", User, _ARG.NAME, _SHAPE.SINGLE, {_A: Step(_AU, _A)}, "USER", "RFC 1939 section 7"),
    Row(b"PASS", Pass, _ARG.PASSWORD, _SHAPE.SINGLE, {_AU: Step(_T, _A)}, "USER", "RFC 1939 section 7"),
    Row(b"APOP", Apop, _ARG.NAME_AND_DIGEST, _SHAPE.SINGLE, {_A: Step(_T, _A)}, None, "RFC 1939 section 7"),
    Row(
        b"AUTH", Auth, _ARG.MECHANISM, _SHAPE.SINGLE,
        {_A: Step(_T, _A), _AU: Step(_T, _A)}, "SASL", "RFC 5034 section 4", waits=True,
    ),
    Row(b"AUTH", AuthList, _ARG.NONE, _SHAPE.LISTING, {_A: Step(_A, _A), _AU: Step(_A, _A)}, "SASL", "none"),
    # Inside the exchange lines have no keyword.
    Row(b"", SaslResponse, _ARG.RESPONSE, _SHAPE.SINGLE, {_AS: Step(_T, _A)}, "SASL", "RFC 5034 section 4", waits=True),
    Row(b"", SaslCancel, _ARG.CANCEL, _SHAPE.SINGLE, {_AS: Step(None, _A)}, "SASL", "RFC 5034 section 4", waits=True),
    Row(
        b"STLS", Stls, _ARG.NONE, _SHAPE.SINGLE,
        {_A: Step(_AT, _A), _AU: Step(_AT, _A)}, "STLS", "RFC 2595 section 4", waits=True,
    ),
    Row(
        b"UTF8", Utf8, _ARG.NONE, _SHAPE.SINGLE,
        _BEFORE_LOGIN, "UTF8", "RFC 6856 section 2", lenient=_IN_TRANSACTION,
    ),
    Row(b"LANG", Lang, _ARG.OPTIONAL_LANGUAGE, _SHAPE.LISTING, _ANYWHERE, "LANG", "RFC 6856 section 3", short="tag"),
    Row(b"XCLIENT", Xclient, _ARG.ATTRIBUTES, _SHAPE.SINGLE, {_A: Step(_A, _A), _AU: Step(_A, _A)}, None, "none"),
    Row(b"CAPA", Capa, _ARG.NONE, _SHAPE.LISTING, _ANYWHERE, None, "RFC 2449 section 5"),
    Row(b"STAT", Stat, _ARG.NONE, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(
        b"LIST", List, _ARG.OPTIONAL_NUMBER, _SHAPE.LISTING,
        _IN_TRANSACTION, None, "RFC 1939 section 5", short="number",
    ),
    Row(b"RETR", Retr, _ARG.NUMBER, _SHAPE.MESSAGE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"DELE", Dele, _ARG.NUMBER, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"NOOP", Noop, _ARG.NONE, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"RSET", Rset, _ARG.NONE, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"TOP", Top, _ARG.NUMBER_AND_LINES, _SHAPE.MESSAGE, _IN_TRANSACTION, "TOP", "RFC 1939 section 7"),
    Row(
        b"UIDL", Uidl, _ARG.OPTIONAL_NUMBER, _SHAPE.LISTING,
        _IN_TRANSACTION, "UIDL", "RFC 1939 section 7", short="number",
    ),
    Row(
        b"QUIT", Quit, _ARG.NONE, _SHAPE.SINGLE,
        {_A: Step(_X, _X), _AU: Step(_X, _X), _T: Step(_X, _X)}, None, "RFC 1939 sections 5 and 6",
    ),
    # A known name that is answered with -ERR: dropped from POP3 by RFC 1725.
    Row(b"LAST", None, _ARG.NONE, _SHAPE.SINGLE, _NOT_SERVED, None, "RFC 1460 section 5"),
)  # fmt: skip

# The row a line is read by; AUTH alone is the one verb that is another event without its arguments.
BY_VERB: Final[Mapping[bytes, Row]] = MappingProxyType(
    {row.verb: row for row in COMMANDS if row.verb and row.event is not AuthList}
)
BY_EVENT: Final[Mapping[type[Command], Row]] = MappingProxyType(
    {row.event: row for row in COMMANDS if row.event is not None}
)

# Capabilities that no single command stands for: they describe every reply, and are always true of this core.
ALWAYS_ANNOUNCED: Final = ("PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")


def shape_of(command: Command) -> Shape:
    """The shape of the `+OK` reply to this very command."""
    row = BY_EVENT[type(command)]
    if row.short is not None and getattr(command, row.short) is not None:
        return Shape.SINGLE
    return row.shape


def capability_lines(arguments: Mapping[str, str | None]) -> tuple[str, ...]:
    """The lines of CAPA in table order (RFC 2449 section 5), then what is in `arguments` and no command stands for.

    `arguments` has what stands behind a tag, or None for a tag that is not announced.
    """
    served = dict.fromkeys(row.capability for row in COMMANDS if row.event is not None and row.capability)
    tags = dict.fromkeys((*served, *ALWAYS_ANNOUNCED, *arguments))
    values = ((tag, arguments.get(tag, "")) for tag in tags)
    return tuple(f"{tag} {value}".rstrip() for tag, value in values if value is not None)
