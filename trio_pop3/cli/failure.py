"""How a command speaks, and how it fails."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


class Failure(Exception):
    """One sentence for the person at the keyboard, and the exit status."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


class Unread(Failure):
    """Whoever read what we print has enough of it, as `head` has."""


def reason(failure: OSError) -> str:
    """What went wrong: what the system says of it, or else Python, without decoration."""
    return (failure.strerror or (os.strerror(failure.errno) if failure.errno else str(failure))).lower()


def say(text: str) -> None:
    """Print it now, so that it is out before anything depends on it. Raises Failure if nobody can read it."""
    if sys.stdout is None:
        raise Failure("standard output is closed")
    _write(sys.stdout, text + "\n")


def flush() -> None:
    """Get out what was printed so far. Raises Failure."""
    if sys.stdout is not None:
        _write(sys.stdout, "")


def complain(sentence: object) -> None:
    """Print it on standard error, with our name. If nobody can read it, the exit status has to do."""
    if sys.stderr is not None:
        with contextlib.suppress(Failure):
            _write(sys.stderr, f"trio-pop3: {sentence}\n")


def _write(stream: TextIO, text: str) -> None:
    if stream.closed:
        return  # here, and said so
    try:
        if text:
            # A file name may hold what no terminal can show.
            stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        stream.flush()
    except OSError as failure:
        # Closed, or the interpreter tries again when it ends, complains in its own words and changes the exit status.
        with contextlib.suppress(OSError):
            stream.close()
        kind = Unread if isinstance(failure, BrokenPipeError) else Failure
        raise kind(f"cannot write to standard output: {reason(failure)}") from None
