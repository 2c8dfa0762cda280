"""Everything that happens, in order: counted, put into the digest, and stopped at the first thing that is wrong."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Final

import trio

from ..transcript import Entry, Transcript, Who

# What is kept of each session for its transcript.
_LAST: Final = 60


def seeded(seed: int, what: str) -> Random:
    """A generator for one part of a simulation, so that more of the one does not change the other."""
    return Random(f"{seed} {what}")  # noqa: S311 - it is to be the same again


@dataclass(frozen=True, slots=True)
class Violation:
    """The first thing that was not as it must be."""

    step: int
    seconds: float
    invariant: str
    text: str
    transcripts: list[str]


class Minutes:
    """What was said and done in one session, the end of it."""

    __slots__ = ("_last", "_title")

    def __init__(self, title: str) -> None:
        self._title: Final = title
        self._last: Final[deque[Entry | str]] = deque(maxlen=_LAST)

    def add(self, entry: Entry | str) -> None:
        """Octets that went one way, or a remark."""
        self._last.append(entry)

    def __str__(self) -> str:
        return "\n".join(self._blocks())

    def _blocks(self) -> Iterator[str]:
        yield f"# {self._title}" + (", the end of it" if len(self._last) == _LAST else "")
        for remark, group in groupby(self._last, lambda each: isinstance(each, str)):
            if remark:
                yield from (f"# {each}" for each in group)
            else:
                entries = [each for each in group if isinstance(each, Entry)]
                yield Transcript(entries).shortened().rstrip("\n")


class Chronicle:
    """One simulation's. `stop` is cancelled at the first violation; what is found after it is not looked at."""

    def __init__(self) -> None:
        self.steps = 0
        self.violation: Violation | None = None
        self.stop: Final = trio.CancelScope()
        self.endings: Final[Counter[str]] = Counter()
        self.faults: Final[Counter[str]] = Counter()
        self.replies: Final[Counter[str]] = Counter()
        self._hash: Final = hashlib.blake2b(digest_size=16)

    def said(self, session: str, minutes: Minutes, who: Who, data: bytes) -> None:
        """Octets on a wire; b"" is the end of that direction."""
        self.steps += 1
        self._hash.update(b"%r %s %s %d " % (trio.current_time(), session.encode(), who.encode(), len(data)))
        self._hash.update(data)
        minutes.add(Entry(who, data))

    def done(self, session: str, minutes: Minutes | None, what: str) -> None:
        """Anything else."""
        self.steps += 1
        now = trio.current_time()
        self._hash.update(f"{now!r} {session} {what}\n".encode())
        if minutes is not None:
            minutes.add(f"{now:.3f} s: {what}")

    def violated(self, invariant: str, text: str, *minutes: Minutes) -> None:
        """Something is wrong: everything ends, and only the first is told."""
        if self.violation is None:
            transcripts = [str(each) for each in minutes]
            self.violation = Violation(self.steps, trio.current_time(), invariant, text, transcripts)
            self.stop.cancel()

    @property
    def digest(self) -> str:
        """Of all that has happened so far."""
        return self._hash.hexdigest()
