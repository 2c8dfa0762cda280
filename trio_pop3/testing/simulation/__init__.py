"""Many sessions, some instances of the server, a store with injected faults; in virtual time, from one seed.

    python -m trio_pop3.testing.simulation --seed 1 --sessions 10000

What the server promises is checked at every call of the store and at every reply: that nothing is lost (P1), that what
is announced is what is sent (P2), that unique-ids are for ever (P3), and that one session's trouble is its own (P4). A
seed always gives the same day, to the last octet, so that a failure can be looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
import trio.testing

from trio_pop3 import Backend

from .report import Report as Report
from .report import SimulationFailure as SimulationFailure
from .world import World

# With more, nobody would ever log in.
MOST_TROUBLE: Final = 20.0


def simulate(
    seed: int,
    *,
    sessions: int = 1000,
    instances: int = 2,
    trouble: float = 1.0,
    wrap: Callable[[Backend], Backend] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Run one day and see that everything held.

    Args:
        seed: what the day is made from; any whole number.
        sessions: how many connections are made, at least 1; 10,000 are a day, fewer a part of one.
        instances: how many servers there are on the one store, at least 1.
        trouble: how often the store fails; 1.0 is about one call in 100, 0.0 never, 10.0 all the time.
        wrap: puts something between an instance and the store, a cache say, that is to be tried with them. Called for
            each instance that starts. For each call it gets it must make one, and at once.
        progress: called with the number of sessions that have ended.

    The same arguments give an equal report, `digest` included; with another release of this package, of trio or of
    Python it may be another day.

    Raises SimulationFailure at the first thing that does not hold, ValueError for numbers out of range. Not to be
    called inside trio. Ctrl-C ends it.
    """
    if sessions < 1 or instances < 1:
        raise ValueError(f"there must be at least 1 session and 1 instance, not {sessions} and {instances}")
    if not 0 <= trouble <= MOST_TROUBLE:
        raise ValueError(f"trouble must be from 0 to {MOST_TROUBLE:g}, not {trouble!r}")
    world = World(seed, sessions, instances, trouble, wrap, progress)
    seconds = _run_reproducibly(world)
    chronicle, ledger = world.chronicle, world.ledger
    if (violation := chronicle.violation) is not None:
        arguments = {"seed": seed, "sessions": sessions, "instances": instances, "trouble": trouble}
        options = " ".join(f"--{name} {value}" for name, value in arguments.items())
        called = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise SimulationFailure(
            seed=seed,
            step=violation.step,
            seconds=violation.seconds,
            invariant=violation.invariant,
            text=violation.text,
            transcripts=violation.transcripts,
            command=f"python -m {__name__} {options}" if wrap is None else f"simulate({called}, wrap={wrap!r})",
        )
    return Report(
        seed=seed,
        sessions=sessions,
        instances=instances,
        digest=chronicle.digest,
        steps=chronicle.steps,
        seconds=seconds,
        endings=dict(chronicle.endings.most_common()),
        faults=dict(sorted(chronicle.faults.items())),
        replies=dict(sorted(chronicle.replies.items())),
        crashes=world.crashes,
        drains=world.drains,
        delivered=ledger.delivered,
        removed=ledger.removed,
        lost=ledger.lost,
        left=ledger.left,
    )


def _run_reproducibly(world: World) -> float:
    """Run in virtual time, with tasks scheduled in an order that is always the same.

    trio shuffles the tasks that are ready with a generator of its own, on purpose. It has registered that generator
    with Hypothesis, which seeds all that are registered before it runs an example; so this is one example, of nothing.
    Hypothesis is not told of failures: it would run them again.
    """
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
    except ImportError:
        raise ImportError("the simulation needs Hypothesis for its schedule: pip install hypothesis") from None

    clock = trio.testing.MockClock(autojump_threshold=0)
    outcomes: list[float | Exception] = []

    @settings(
        max_examples=1,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.none())
    def example(_: None) -> None:
        try:
            outcomes.append(trio.run(world.run, clock=clock))
        except Exception as failure:
            outcomes.append(failure)

    example()
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
