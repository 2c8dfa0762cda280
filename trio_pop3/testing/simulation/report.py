"""What comes out of a simulation: a report, or the first thing that was not as it must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A simulation in which everything held. The same arguments give an equal report.

    `digest` is of every octet on every wire and of every call of the store, with their virtual times.
    """

    seed: int
    sessions: int
    instances: int
    digest: str
    steps: int  # octets that went one way, calls of the store, and what else happened: each is one
    seconds: float  # of virtual time
    endings: Mapping[str, int]  # how clients ended their sessions
    faults: Mapping[str, int]  # what the store was told to do wrong, "operation kind"
    replies: Mapping[str, int]  # by command, "+OK" or "-ERR" behind it
    crashes: int
    drains: int
    delivered: int
    removed: int
    lost: int  # taken away by somebody else than POP3
    left: int

    def table(self) -> str:
        """For a person to read."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.sessions} sessions, {self.instances} instances, {_duration(self.seconds)} of virtual time"
        yield f"instances    {self.crashes} crashed, {self.drains} drained and started again"
        yield (
            f"messages     {self.delivered} delivered, {self.removed} removed, {self.lost} lost to others, "
            f"{self.left} left"
        )
        for title, counts in (("endings", self.endings), ("faults", self.faults), ("replies", self.replies)):
            yield title
            yield from (f"  {count:>8}  {name}" for name, count in counts.items())
        yield f"{self.steps} steps, digest {self.digest}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


class SimulationFailure(AssertionError):
    """Something was not as it must be. Its text has all that is needed to see it again.

    seed, step: when it was found.
    invariant: which of P1 to P4, or "end" for what is still there when everything is over.
    text: what is wrong.
    transcripts: of the sessions concerned, their last lines.
    command: runs the same again.
    """

    def __init__(
        self, *, seed: int, step: int, seconds: float, invariant: str, text: str, transcripts: list[str], command: str
    ) -> None:
        self.seed = seed
        self.step = step
        self.invariant = invariant
        self.text = text
        self.transcripts = transcripts
        self.command = command
        parts = (
            f"{invariant}: {text}",
            f"seed {seed}, step {step}, {seconds:.3f} s of virtual time",
            *transcripts,
            f"again: {command}",
        )
        super().__init__("\n".join(parts))
