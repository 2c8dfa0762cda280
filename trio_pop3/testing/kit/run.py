"""Running the checks, and saying what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import trio

from ..bench import Bench, MakeBench, called
from . import cancelling, logins, mail, recovery, removing
from .trial import Broken, Check, Skipped, Trial, shown

# In the order in which they are made.
CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        row.name: row
        for room in (logins, mail, removing, cancelling, recovery)
        for row in vars(room).values()
        if isinstance(row, Check)
    }
)
# Steps that are printed of a check that failed: the last ones.
_STEPS_SHOWN: Final = 20
_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that a backend does not keep."""

    check: str
    promise: str
    happened: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        left_out = len(self.steps) - _STEPS_SHOWN
        steps = [f"    ({left_out} steps before)"] if left_out > 0 else []
        steps += [f"    {step}" for step in self.steps[-_STEPS_SHOWN:]]
        return "\n".join([f"{self.check}: {self.promise}", f"  But: {self.happened}.", *steps])


@dataclass(frozen=True, slots=True)
class KitReport:
    """What `check_backend` has tried: names of checks, and for those that were left out the reason."""

    passed: tuple[str, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} promises kept, {len(self.skipped)} not tried"]
        return "\n".join([*lines, *(f"  {name}: {reason}" for name, reason in self.skipped.items())])


class BackendFault(AssertionError):
    """A backend breaks promises: `faults` has all of them, `report` what went well or was left out.

    If the backend raised what it must not raise, that is the cause; several such are an ExceptionGroup.
    """

    def __init__(self, faults: Sequence[Fault], report: KitReport) -> None:
        count = "1 promise is" if len(faults) == 1 else f"{len(faults)} promises are"
        super().__init__("\n\n".join([f"{count} not kept, {len(report.passed)} are", *map(str, faults)]))
        self.faults: Final = tuple(faults)
        self.report: Final = report


def backend_checks() -> Mapping[str, str]:
    """Name -> promise of everything that `check_backend` tries, in its order. For a test of each: parametrize by it."""
    return MappingProxyType({name: check.promise for name, check in CHECKS.items()})


async def check_backend(
    make_backend: MakeBench,
    *,
    only: str | Collection[str] | None = None,
    skip: Collection[str] = (),
    seconds: float = _SECONDS,
) -> KitReport:
    """Try every promise of the backend contract on backends from a maker, each on a fresh one.

    The sweeps among the checks cancel a backend at every single await: at each of the first 200, then at ever fewer.
    What cannot be seen from outside is not tried: how long a refused login takes, whether UIDL reads bodies, whether
    what is durable outlives the power. The backend should not make its users wait between logins.

    Args:
        make_backend: makes a `Bench`, plain or asynchronous; called once for each check.
        only: names of checks, or one; all if it is None.
        skip: names of checks to leave out, because your backend is documented not to keep these promises.
        seconds: for each step. A step that is shielded, or blocks the loop or a thread, cannot be ended by anybody.

    Returns what passed, and what was left out and why: checks for which the bench has no hook, or of powers that the
    backend does not have.

    Raises BackendFault in the end if promises are broken, with all of them. Raises ValueError for an unknown name.
    It may be cancelled at any time; the bench it is at is closed. Under a clock that jumps (`MockClock`) threads seem
    to take for ever, so a backend that uses any needs the real one.
    """
    __tracebackhide__ = True
    wanted = set(CHECKS) if only is None else {only} if isinstance(only, str) else set(only)
    if unknown := (wanted | set(skip)) - set(CHECKS):
        raise ValueError(f"no such check: {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    passed: list[str] = []
    skipped: dict[str, str] = {}
    faults: list[Fault] = []
    causes: list[Exception] = []
    for name, check in CHECKS.items():
        if name in skip:
            skipped[name] = "left out, as asked"
            continue
        if name not in wanted:
            continue
        bench = await called(make_backend)
        trial = Trial(bench, seconds)
        try:
            await _tried(check, trial)
        except Skipped as reason:
            skipped[name] = str(reason)
        except Exception as failure:
            happened = str(failure) if isinstance(failure, Broken) else f"{shown(failure)} was raised"
            faults.append(Fault(name, check.promise, happened, tuple(trial.steps)))
            if not isinstance(failure, Broken):
                causes.append(failure)
        else:
            passed.append(name)
        finally:
            await _close(bench, seconds)
    report = KitReport(tuple(passed), MappingProxyType(skipped))
    if faults:
        cause = causes[0] if len(causes) == 1 else ExceptionGroup("raised by the backend", causes) if causes else None
        raise BackendFault(faults, report) from cause
    return report


async def _tried(check: Check, trial: Trial) -> None:
    for need in check.needs:
        if not getattr(trial.bench, need):
            raise Skipped("the bench has exclusive=False" if need == "exclusive" else f"the bench has no {need}")
    try:
        await check.function(trial)
    finally:
        await trial.finish()


async def _close(bench: Bench, seconds: float) -> None:
    if bench.close is not None:
        with trio.fail_after(seconds, shield=True):
            await called(bench.close)
