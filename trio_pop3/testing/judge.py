"""What is raised when something is not as it must be, and how the dialogue that shows it comes along."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from trio_pop3.sansio import ProtocolError

from .transcript import Transcript

# Octets as `repr` shows them, and one of them.
_QUOTED: Final = re.compile(r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""")
_UNIT: Final = re.compile(r"\\\{[a-z]+\}|\\x..|\\.|[^\\]")
_MOST_QUOTED: Final = 100
P = ParamSpec("P")
_M = TypeVar("_M", bound="Judged")


class Mismatch(AssertionError):
    """A server, or the core, did what it must not."""


class Violation(AssertionError):
    """What a machine found, with the dialogue that shows it."""

    def __init__(self, message: str, transcript: Transcript) -> None:
        super().__init__(f"{message}\n\n{transcript.shortened()}")
        self.message: Final = message
        self.transcript: Final = transcript


def must(condition: bool, message: str) -> None:
    """Raises Mismatch with the message if the condition does not hold; also where `assert` is switched off."""
    if not condition:
        raise Mismatch(message)


def clipped(text: str) -> str:
    """A sentence in which octets are quoted, without the end of those that go on and on.

    To be done when secrets are concealed: what is left of one that was cut is found by nobody.
    """
    return _QUOTED.sub(_clipped, text)


def _clipped(match: re.Match[str]) -> str:
    units = _UNIT.findall(match[0][2:-1])
    return match[0] if len(units) <= _MOST_QUOTED else f"{match[0][:2]}{''.join(units[:_MOST_QUOTED])}...{match[0][-1]}"


class Judged:
    """A machine with a transcript; `judging` puts it into what is raised."""

    def __init__(self) -> None:
        super().__init__()
        self.transcript: Final = Transcript()
        self.failed = False

    @contextmanager
    def judging(self) -> Iterator[None]:
        """What is raised inside as an AssertionError, or by a core of ours, comes out with the dialogue so far."""
        try:
            yield
        except Violation:
            raise
        except (AssertionError, ProtocolError) as failure:
            self.failed = True
            raise Violation(clipped(self.transcript.conceal(str(failure))), self.transcript) from None


def judged(method: Callable[Concatenate[_M, P], None]) -> Callable[Concatenate[_M, P], None]:
    """A method of a machine, run with `judging`."""

    @wraps(method)
    def run(self: _M, /, *arguments: P.args, **named: P.kwargs) -> None:
        with self.judging():
            method(self, *arguments, **named)

    return run
