"""What is raised when something is not as it must be, and how the dialogue that shows it comes along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from trio_pop3.sansio import ProtocolError

from .transcript import Transcript

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
            raise Violation(self.transcript.conceal(str(failure)), self.transcript) from None


def judged(method: Callable[Concatenate[_M, P], None]) -> Callable[Concatenate[_M, P], None]:
    """A method of a machine, run with `judging`."""

    @wraps(method)
    def run(self: _M, /, *arguments: P.args, **named: P.kwargs) -> None:
        with self.judging():
            method(self, *arguments, **named)

    return run
