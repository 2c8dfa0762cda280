"""What a conformance check is, and the few words that checks are written with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from ..talk import Reply, Talk
from ..transcript import escape as escape

if TYPE_CHECKING:
    from .target import CheckedTalk, Target

_QUOTED: Final = re.compile(r'"([^"]*)"')
_MOST_CHARACTERS: Final = 600
# What a reply to STAT holds (RFC 1939 section 5); more may follow.
STAT: Final = re.compile(rb"(?P<count>[0-9]+) (?P<octets>[0-9]+)(?P<rest>.*)", re.DOTALL)


class Level(Enum):
    """How much a document demands it (RFC 2119). Where RFC 1939 uses plain prose, the level is our reading."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Verdict(Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"  # a MUST does not hold
    WARNED = "warned"  # something less does not hold
    SKIPPED = "skipped"


class Skip(Exception):
    """The check cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Need:
    """Something without which a check cannot be made. `missing` says why it is not there, or None."""

    name: str
    missing: Callable[[Target], str | None]


_Run: TypeAlias = "Callable[[Target], None]"


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about a server, and the way to see whether it holds.

    `number` is three digits for ever, the first one the group's. `title` states what must hold. `requirements` are the
    ids of docs/rfc.md that it proves. `run` talks to the server: AssertionError says in one sentence what does not
    hold, `Skip` that it cannot be seen here.
    """

    number: str
    title: str
    level: Level
    section: str
    requirements: tuple[str, ...]
    needs: tuple[Need, ...]
    run: _Run
    group: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a check. `sentence` is why it failed or was skipped; `dialogue` what was said, without secrets."""

    check: Check
    verdict: Verdict
    sentence: str = ""
    dialogue: str = ""
    seconds: float = 0.0


class Group:
    """Checks about one thing. Used as a decorator, it adds one."""

    def __init__(self, title: str) -> None:
        self.title: Final = title
        self.checks: Final[list[Check]] = []

    def __call__(
        self, number: str, title: str, level: Level, section: str, *requirements: str, needs: tuple[Need, ...] = ()
    ) -> Callable[[_Run], _Run]:
        """Make a function a check of this group."""

        def add(run: _Run) -> _Run:
            self.checks.append(Check(number, title, level, section, requirements, needs, run, self.title))
            return run

        return add


# --- the words ------------------------------------------------------------------------------------------------------


def expect(holds: object, sentence: str) -> None:
    """The sentence says what is wrong if it does not hold."""
    if not holds:
        raise AssertionError(sentence)


def accepted(talk: Talk, line: bytes, *, multiline: bool = False) -> Reply:
    """Send a line, which must be answered with +OK; the reply."""
    reply = talk.ask(line, multiline=multiline)
    expect(reply.ok, f"{named(line)} was refused")
    return reply


def refused(talk: Talk, line: bytes) -> Reply:
    """Send a line, which must be answered with -ERR; the reply."""
    reply = talk.ask(line)
    expect(reply.ok is False, f"{named(line)} was not refused with -ERR")
    return reply


def all_refused(talk: CheckedTalk, *lines: bytes) -> None:
    """Each of these lines is refused, and the session, logged in, goes on."""
    for line in lines:
        with talk.settling():
            refused(talk, line)
            # A server may give up on a client that sends nothing but errors: this is none.
            in_step(talk)


def in_step(talk: Talk) -> tuple[int, int]:
    """The session is logged in and goes on, and the next reply is the one to the next command: STAT. Its numbers."""
    reply = talk.ask(b"STAT")
    match = STAT.fullmatch(reply.text) if reply.ok else None
    if match is None:
        raise AssertionError("the reply to the STAT that followed is not one: the session is over, or out of step")
    return int(match["count"]), int(match["octets"])


def says_goodbye(talk: Talk) -> Reply:
    """QUIT is answered with one +OK, and then the server closes."""
    reply = accepted(talk, b"QUIT")
    talk.expect_end()
    return reply


def named(line: bytes) -> str:
    """A line, for a sentence: all of it, for there may be a secret in it, of which a part would not be recognised."""
    return f'"{escape(line)}"'


def clipped(sentence: str) -> str:
    """A sentence, and what is quoted in it, as long as a person reads. What is secret must be concealed before."""
    cut = _QUOTED.sub(lambda match: match[0] if len(match[1]) <= 60 else f'"{match[1][:57]}..."', sentence)
    return cut if len(cut) <= _MOST_CHARACTERS else f"{cut[:_MOST_CHARACTERS]}..."


def printable(text: str) -> str:
    """Escaped what does something to a terminal, or cannot be in XML: control characters, those that turn the direction
    of what is written, and what is no character at all."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
