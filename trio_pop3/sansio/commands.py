"""THE COMMAND TABLE. One row a verb; parser, states, CAPA, client and tests all read it and nothing else.

To add a command: an event class in `events`, a row here, a method in `trio_pop3.session`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from .enums import Shape, State
from .events import Apop, Capa, Command, Dele, List, Noop, Pass, Quit, Retr, Rset, Stat, Top, Uidl, User


class Arguments(Enum):
    """What may stand behind the keyword."""

    NONE = ""
    OPTIONAL_NUMBER = "[msg]"
    NUMBER = "msg"
    NUMBER_AND_LINES = "msg n"
    NAME = "name"
    NAME_AND_DIGEST = "name digest"
    PASSWORD = "string"


class Step(NamedTuple):
    """Where a command leads: the state after `+OK` and the state after `-ERR`."""

    ok: State
    err: State


class Row(NamedTuple):
    """One verb. `event` is None for a verb that is known, reserved and not served: it is answered `-ERR`."""

    verb: bytes
    event: type[Command] | None
    arguments: Arguments
    shape: Shape  # of the +OK reply; LIST and UIDL are single-line when they have an argument
    steps: Mapping[State, Step]  # an absent state means: not here
    capability: str | None  # the CAPA tag that announces it
    section: str


_A, _AU, _T, _X = State.AUTHORIZATION, State.USER_GIVEN, State.TRANSACTION, State.CLOSED
_IN_TRANSACTION: Final = {_T: Step(_T, _T)}
_ANYWHERE: Final = {_A: Step(_A, _A), _AU: Step(_AU, _AU), _T: Step(_T, _T)}
_NOT_SERVED: Final[dict[State, Step]] = {}

_ARG, _SHAPE = Arguments, Shape
COMMANDS: Final = (
    Row(b"USER", User, _ARG.NAME, _SHAPE.SINGLE, {_A: Step(_AU, _A)}, "USER", "RFC 1939 section 7"),
    Row(b"PASS", Pass, _ARG.PASSWORD, _SHAPE.SINGLE, {_AU: Step(_T, _A)}, "USER", "RFC 1939 section 7"),
    Row(b"APOP", Apop, _ARG.NAME_AND_DIGEST, _SHAPE.SINGLE, {_A: Step(_T, _A)}, None, "RFC 1939 section 7"),
    Row(b"CAPA", Capa, _ARG.NONE, _SHAPE.LISTING, _ANYWHERE, None, "RFC 2449 section 5"),
    Row(b"STAT", Stat, _ARG.NONE, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"LIST", List, _ARG.OPTIONAL_NUMBER, _SHAPE.LISTING, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"RETR", Retr, _ARG.NUMBER, _SHAPE.MESSAGE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"DELE", Dele, _ARG.NUMBER, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"NOOP", Noop, _ARG.NONE, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"RSET", Rset, _ARG.NONE, _SHAPE.SINGLE, _IN_TRANSACTION, None, "RFC 1939 section 5"),
    Row(b"TOP", Top, _ARG.NUMBER_AND_LINES, _SHAPE.MESSAGE, _IN_TRANSACTION, "TOP", "RFC 1939 section 7"),
    Row(b"UIDL", Uidl, _ARG.OPTIONAL_NUMBER, _SHAPE.LISTING, _IN_TRANSACTION, "UIDL", "RFC 1939 section 7"),
    Row(
        b"QUIT", Quit, _ARG.NONE, _SHAPE.SINGLE,
        {_A: Step(_X, _X), _AU: Step(_X, _X), _T: Step(_X, _X)}, None, "RFC 1939 sections 5 and 6",
    ),
    # Doors: known names that this version answers with -ERR.
    Row(b"AUTH", None, _ARG.NAME, _SHAPE.SINGLE, _NOT_SERVED, "SASL", "RFC 5034 section 4"),
    Row(b"STLS", None, _ARG.NONE, _SHAPE.SINGLE, _NOT_SERVED, "STLS", "RFC 2595 section 4"),
    Row(b"UTF8", None, _ARG.NONE, _SHAPE.SINGLE, _NOT_SERVED, "UTF8", "RFC 6856 section 2"),
    Row(b"LANG", None, _ARG.NAME, _SHAPE.LISTING, _NOT_SERVED, "LANG", "RFC 6856 section 3"),
    Row(b"LAST", None, _ARG.NONE, _SHAPE.SINGLE, _NOT_SERVED, None, "RFC 1460 section 5"),
)  # fmt: skip

BY_VERB: Final[Mapping[bytes, Row]] = MappingProxyType({row.verb: row for row in COMMANDS})
BY_EVENT: Final[Mapping[type[Command], Row]] = MappingProxyType(
    {row.event: row for row in COMMANDS if row.event is not None}
)

# Capabilities that no single command stands for: they describe every reply, and are always true of this core.
ALWAYS_ANNOUNCED: Final = ("PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")


def shape_of(command: Command) -> Shape:
    """The shape of the `+OK` reply to this very command."""
    if isinstance(command, List | Uidl) and command.number is not None:
        return Shape.SINGLE
    return BY_EVENT[type(command)].shape


def capability_tags(without: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """CAPA tags for every command served here, minus those in `without`, in table order (RFC 2449 section 6)."""
    served = dict.fromkeys(row.capability for row in COMMANDS if row.event is not None)
    return tuple(tag for tag in (*served, *ALWAYS_ANNOUNCED) if tag is not None and tag not in without)
