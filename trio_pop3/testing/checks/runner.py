"""Making the checks, one after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from trio_pop3.sasl import ServerRejected

from ..talk import Closed, Endless
from ..wire import Silent
from .base import Check, Level, Outcome, Skip, Verdict, clipped
from .mail import mail_seen
from .needs import ANY_TLS, DESTRUCTIVE, GUESSES, STLS
from .reaching import reach
from .target import LoginRefused, Settings, Target

# What is printed of a dialogue, of each block of lines that the server says.
_MOST_LINES: Final = 12
# What happens if the server is there no more, or lets nobody in, to every check that is left. After so many, and no
# login between them that worked, it is time to look.
_MAYBE_GONE: Final = (OSError, Silent, Closed, Endless, LoginRefused)
_MOST_TROUBLES: Final = 5


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found. `greeting` is the server's own words; `stopped` why there are checks that were not
    made: the maildrop could not be reset, or the server is gone; "" if all were."""

    greeting: str
    outcomes: tuple[Outcome, ...]
    logins: int
    failed_logins: int
    seconds: float
    stopped: str = ""

    def count(self, verdict: Verdict) -> int:
        """How many checks ended so."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes)

    @property
    def conforms(self) -> bool:
        """Whether every MUST that could be looked at holds."""
        return not self.count(Verdict.FAILED)


class _Stop(Exception):
    """No more checks can be made; the text says why."""


def run_checks(
    settings: Settings, checks: Sequence[Check], *, watch: Callable[[Check | Outcome | str], None] = lambda event: None
) -> Report:
    """Make these checks against a server. `watch` is called with each before it is made, with its outcome, and with
    what a person should know meanwhile.

    Raises NoTarget if there is no server, or none that lets us in. What `settings.reset` raises ends it, and so does a
    server that is gone: the report says so, and has what was found before.
    """
    began = time.monotonic()
    target = Target(settings)
    greeting = reach(target)
    for remark in _remarks(target, checks):
        watch(remark)
    outcomes: dict[str, Outcome] = {}
    stopped, troubles, logins = "", 0, target.logins
    for check in sorted(checks, key=lambda check: GUESSES in check.needs):
        watch(check)
        try:
            outcome, failure = _made(check, target)
            outcomes[check.number] = outcome
            watch(outcome)
            if isinstance(failure, _MAYBE_GONE):
                troubles += 1
            elif target.logins > logins:
                troubles = 0
            logins = target.logins
            if troubles == _MOST_TROUBLES:
                _see_that_it_is_there(target)
                troubles = 0
        except _Stop as why:
            stopped = clipped(target.conceal(str(why)))
            break
    return Report(
        target.conceal(greeting.text.decode("latin-1")),
        tuple(outcomes[check.number] for check in checks if check.number in outcomes),
        target.logins,
        target.failed_logins,
        time.monotonic() - began,
        stopped,
    )


def _remarks(target: Target, checks: Sequence[Check]) -> list[str]:
    """What a person should know before it begins."""
    remarks = []
    if target.login_delay:
        remarks.append(
            f"the server asks for {target.login_delay} s between logins, so this takes long: see --ignore-login-delay"
        )
    if any({STLS, ANY_TLS} & {*check.needs} for check in checks):
        with contextlib.suppress(AssertionError, OSError):  # the checks will say
            if target.no_stls is not None and target.distrusts:
                remarks.append(f"the server announces STLS, which cannot be checked: {target.no_stls}")
    return remarks


def _made(check: Check, target: Target) -> tuple[Outcome, Exception | None]:
    """What became of it, and what was raised."""
    began = time.monotonic()
    verdict, sentence, raised = Verdict.PASSED, "", None
    target.begin()
    try:
        _check_needs(check, target)
        check.run(target)
    except Skip as reason:
        verdict, sentence = Verdict.SKIPPED, str(reason)
    except (AssertionError, OSError, ServerRejected, ValueError, LookupError) as failure:
        verdict = Verdict.FAILED if check.level is Level.MUST else Verdict.WARNED
        sentence, raised = _told(failure), failure
    except BaseException:
        target.end(orderly=False)
        raise
    dialogue = target.dialogue(_MOST_LINES, failed=verdict in (Verdict.FAILED, Verdict.WARNED))
    target.end(orderly=verdict in (Verdict.PASSED, Verdict.SKIPPED))
    if DESTRUCTIVE in check.needs:
        target.changed()
    sentence = clipped(target.conceal(sentence))
    return Outcome(check, verdict, sentence, dialogue, time.monotonic() - began), raised


def _told(failure: Exception) -> str:
    if isinstance(failure, OSError):
        return f"the connection failed: {failure}"
    if isinstance(failure, (ValueError, LookupError)):
        # Nobody can foresee everything that a server may say where a number was due.
        return f"a reply makes no sense: {failure!r}"
    return str(failure)


def _check_needs(check: Check, target: Target) -> None:
    if DESTRUCTIVE in check.needs and target.settings.destructive and target.settings.reset is not None:
        try:
            target.settings.reset()
        except Exception as failure:
            raise _Stop(str(failure) or type(failure).__name__) from failure
        target.changed()
    for need in check.needs:
        if (reason := need.missing(target)) is not None:
            raise Skip(reason)


def _see_that_it_is_there(target: Target) -> None:
    """Look at the maildrop. Raises _Stop if that cannot be done any more."""
    target.begin()
    try:
        mail_seen(target.login())
    except (AssertionError, OSError, ValueError) as failure:
        target.end(orderly=False)
        raise _Stop(f"gave up, since the server is of no use any more: {_told(failure)}") from None
    target.end(orderly=True)
