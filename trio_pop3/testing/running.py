"""Running a state machine outside of a test, and what comes of it. Needs Hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from .judge import Judged, Violation
from .transcript import Transcript


class JudgedMachine(Judged, RuleBasedStateMachine):
    """A state machine whose findings come with the dialogue that shows them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What `run_machine` found: what is wrong, and the shortest dialogue that shows it."""

    message: str
    transcript: Transcript

    def __str__(self) -> str:
        return f"{self.message}\n\n{self.transcript.shortened()}"


def run_machine(
    machine: type[JudgedMachine],
    *,
    seed: int = 0,
    max_examples: int = 100,
    steps: int = 20,
    shrink: bool = True,
) -> Failure | None:
    """Run a machine outside of a test: so many examples of at most so many steps, always the same ones for a seed.

    shrink: whether to look for a shorter dialogue that shows the same; it takes a few hundred more examples.

    Returns None if nothing was found. A server that answers the same dialogue in two ways is a finding as well, or
    spoils the search for a shorter one: then the shortest that was seen is returned. An exception of another kind than
    a finding is raised.
    """
    seen: list[Failure] = []
    last = Transcript()

    class Watched(machine):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            nonlocal last
            super().__init__()
            last = self.transcript

        @contextmanager
        def judging(self) -> Iterator[None]:
            try:
                with super().judging():
                    yield
            except Violation as found:
                seen.append(Failure(found.message, found.transcript))
                raise

    Watched.__name__ = Watched.__qualname__ = machine.__name__
    chosen = settings(
        max_examples=max_examples,
        stateful_step_count=steps,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(seeded(seed)(Watched), settings=chosen)
    except Violation as found:
        return Failure(found.message, found.transcript)
    except Flaky:
        unsteady = Failure("the same dialogue was answered in two ways", last)
        return min(seen, key=lambda failure: len(failure.transcript.entries), default=unsteady)
    return None
