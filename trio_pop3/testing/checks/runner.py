"""Making the checks, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from trio_pop3.sasl import ServerRejected

from .base import Check, Level, Outcome, Skip, Verdict
from .needs import DESTRUCTIVE, GUESSES
from .target import Settings, Target

# What is printed of a dialogue, of each block of lines that the server says.
_MOST_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found. `greeting` is the server's own words."""

    greeting: str
    outcomes: tuple[Outcome, ...]
    logins: int
    failed_logins: int
    seconds: float

    def count(self, verdict: Verdict) -> int:
        """How many checks ended so."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes)

    @property
    def conforms(self) -> bool:
        """Whether every MUST that could be looked at holds."""
        return not self.count(Verdict.FAILED)


def run_checks(
    settings: Settings, checks: Sequence[Check], *, watch: Callable[[Check | Outcome | str], None] = lambda event: None
) -> Report:
    """Make these checks against a server. `watch` is called with each before it is made, with its outcome, and with
    what a person should know meanwhile.

    Raises NoTarget if there is no server, or none that lets us in, and whatever `settings.reset` raises.
    """
    began = time.monotonic()
    target = Target(settings)
    greeting = target.reach()
    if target.login_delay:
        watch(
            f"the server asks for {target.login_delay} s between logins, so this takes long: see --ignore-login-delay"
        )
    outcomes: dict[str, Outcome] = {}
    for check in sorted(checks, key=lambda check: GUESSES in check.needs):
        watch(check)
        outcomes[check.number] = outcome = _made(check, target)
        watch(outcome)
    return Report(
        target.conceal(greeting.text.decode("latin-1")),
        tuple(outcomes[check.number] for check in checks),
        target.logins,
        target.failed_logins,
        time.monotonic() - began,
    )


def _made(check: Check, target: Target) -> Outcome:
    began = time.monotonic()
    verdict, sentence = Verdict.PASSED, ""
    target.begin()
    try:
        _check_needs(check, target)
        check.run(target)
    except Skip as reason:
        verdict, sentence = Verdict.SKIPPED, str(reason)
    except (AssertionError, OSError, ServerRejected, ValueError, LookupError) as failure:
        verdict = Verdict.FAILED if check.level is Level.MUST else Verdict.WARNED
        sentence = _told(failure)
    except BaseException:
        target.end(orderly=False)
        raise
    dialogue = target.dialogue(_MOST_LINES, failed=verdict in (Verdict.FAILED, Verdict.WARNED))
    target.end(orderly=verdict in (Verdict.PASSED, Verdict.SKIPPED))
    if DESTRUCTIVE in check.needs:
        target.changed()
    return Outcome(check, verdict, target.conceal(sentence), dialogue, time.monotonic() - began)


def _told(failure: Exception) -> str:
    if isinstance(failure, OSError):
        return f"the connection failed: {failure}"
    if isinstance(failure, (ValueError, LookupError)):
        # Nobody can foresee everything that a server may say where a number was due.
        return f"a reply makes no sense: {failure!r}"
    return str(failure)


def _check_needs(check: Check, target: Target) -> None:
    if DESTRUCTIVE in check.needs and target.settings.destructive and target.settings.reset is not None:
        target.settings.reset()
        target.changed()
    for need in check.needs:
        if (reason := need.missing(target)) is not None:
            raise Skip(reason)
