"""9xx: dialogues made from a seed, against a model of a maildrop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from ..talk import Endless
from ..wire import NO_END, Wire
from .base import Group, Level, Outcome, Skip, Verdict, clipped
from .needs import USER
from .target import Settings, Target

PROPERTIES: Final = Group("Dialogues made from a seed")
_MOST_LINES: Final = 30
_NO_HYPOTHESIS: Final = "needs Hypothesis: pip install 'trio-pop3[check]'"
# Every try of a shorter dialogue would have to wait until the server has said nothing once more.
_SLOW: Final = ("the server said nothing", NO_END)
_TOO_LARGE: Final = "too large to try things on"
_UNSTEADY: Final = "the same dialogue was answered in two ways"


@PROPERTIES("901", "whatever a client says, the replies are those of a model that is obviously right", Level.MUST,
            "RFC 1939", "R1939-13", "R1939-14", "R1939-28", needs=(USER,))  # fmt: skip
def dialogues(target: Target) -> None:
    raise Skip("made by property_run, after the checks")


PROPERTY_CHECK: Final = PROPERTIES.checks[0]


class Unfinished(Exception):
    """The dialogues could not be had, and it is not the server that is to blame; the text says why."""


def property_run(settings: Settings, *, seed: int, max_examples: int) -> Outcome:
    """Up to `max_examples` dialogues; the shortest one found that the server answers otherwise than the model.

    Skipped without Hypothesis, and with a maildrop that is too large. Raises Unfinished if `settings.reset` raises
    something, and for every error that nobody has foreseen.
    """
    began = time.monotonic()
    target = Target(settings)
    outcome = Outcome(PROPERTY_CHECK, Verdict.FAILED)
    run = _Run(settings, seed, max_examples)
    try:
        outcome = _found(run, target)
    except Skip as reason:
        outcome = replace(outcome, verdict=Verdict.SKIPPED, sentence=str(reason))
    except AssertionError as wrong:
        # In the first look at the maildrop, before any dialogue.
        outcome = replace(outcome, sentence=str(wrong))
    except OSError as failure:
        outcome = replace(outcome, sentence=f"the connection failed: {failure}")
    except Exception as failure:
        # Whatever it is, the result of all other checks must not be lost to it.
        if run.reset_failure is None:
            told = "" if isinstance(failure, UnicodeError) else f": {failure}"  # which would quote the password
            sentence = f"check 901 could not be made: {type(failure).__name__}{told}"
            raise Unfinished(clipped(target.conceal(sentence))) from failure
    if run.reset_failure is not None:
        raise Unfinished(target.conceal(str(run.reset_failure))) from run.reset_failure
    sentence = clipped(target.conceal(outcome.sentence))
    return replace(outcome, sentence=sentence, seconds=time.monotonic() - began)


class _Run:
    """The machine, and what went wrong around it. It is run more than once, and Hypothesis repeats what it has seen."""

    def __init__(self, settings: Settings, seed: int, max_examples: int) -> None:
        self._settings: Final = settings
        self._options: Final = {"seed": seed, "max_examples": max_examples}
        self.reset_failure: Exception | None = None
        self.lost: OSError | None = None  # the last connection that could not be had

    def __call__(self, *, shrink: bool) -> Any:
        testing = import_module("trio_pop3.testing")
        settings, account = self._settings, self._settings.account
        machine = testing.machine_for_server(
            self._dial,
            account.user,
            account.password,
            # Without a way back there would soon be nothing left, and no dialogue would go as it went before.
            destructive=settings.destructive and settings.reset is not None,
            reset=None if settings.reset is None else self._resetting(settings.reset),
        )
        failure = testing.run_machine(machine, shrink=shrink, **self._options)
        if failure is not None and failure.message == _UNSTEADY and self.lost is not None:
            raise self.lost  # that is why
        return failure

    def _dial(self) -> Wire:
        try:
            return self._settings.dial_encrypted()
        except OSError as failure:
            self.lost = failure
            raise

    def _resetting(self, reset: Callable[[], None]) -> Callable[[], None]:
        def kept() -> None:
            try:
                reset()
            except Exception as failure:
                self.reset_failure = self.reset_failure or failure
                raise

        return kept


def _found(run: _Run, target: Target) -> Outcome:
    if find_spec("hypothesis") is None:
        raise Skip(_NO_HYPOTHESIS)
    target.begin()
    target.method = target.choose_method()
    for need in PROPERTY_CHECK.needs:
        if (reason := need.missing(target)) is not None:
            raise Skip(reason)
    try:
        failure = run(shrink=False)
        if failure is not None and not failure.message.startswith(_SLOW):
            failure = run(shrink=True) or failure
    except ImportError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "hypothesis":
            raise
        raise Skip(_NO_HYPOTHESIS) from None
    except ValueError as unfit:
        if _TOO_LARGE not in str(unfit):
            raise
        raise Skip(str(unfit)) from None
    except Endless as endless:
        raise Skip(f"a message is {_TOO_LARGE}: {endless}") from None
    if failure is None:
        return Outcome(PROPERTY_CHECK, Verdict.PASSED)
    dialogue = target.conceal(failure.transcript.shortened(_MOST_LINES))
    return Outcome(PROPERTY_CHECK, Verdict.FAILED, failure.message, dialogue)
