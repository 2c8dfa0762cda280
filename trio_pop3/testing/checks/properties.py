"""9xx: dialogues made from a seed, against a model of a maildrop."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any, Final

from .base import Group, Level, Outcome, Skip, Verdict
from .target import Settings, Target

PROPERTIES: Final = Group("Dialogues made from a seed")
_MOST_LINES: Final = 30


@PROPERTIES("901", "whatever a client says, the replies are those of a model that is obviously right", Level.MUST,
            "RFC 1939", "R1939-13", "R1939-14", "R1939-28")  # fmt: skip
def dialogues(target: Target) -> None:
    raise Skip("made by property_run, after the checks")


PROPERTY_CHECK: Final = PROPERTIES.checks[0]


def property_run(settings: Settings, *, seed: int, max_examples: int) -> Outcome:
    """Up to `max_examples` dialogues; the shortest one found that the server answers otherwise than the model.

    Needs Hypothesis: raises ModuleNotFoundError without it. Raises what `settings.reset` raises.
    """
    began = time.monotonic()
    testing = import_module("trio_pop3.testing")
    account = settings.account
    target = Target(settings)

    def run(*, shrink: bool) -> Any:
        return testing.run_machine(machine, seed=seed, max_examples=max_examples, shrink=shrink)

    try:
        machine = testing.machine_for_server(
            settings.dial_encrypted,
            account.user,
            account.password,
            destructive=settings.destructive,
            reset=settings.reset,
        )
        failure = run(shrink=False)
        # Every try of a shorter dialogue on a server that says nothing would have to wait for it to say nothing.
        if failure is not None and not failure.message.startswith("the server said nothing"):
            failure = run(shrink=True) or failure
    except AssertionError as wrong:
        # In the first look at the maildrop, before any dialogue.
        seconds = time.monotonic() - began
        return Outcome(PROPERTY_CHECK, Verdict.FAILED, target.conceal(str(wrong)), "", seconds)
    seconds = time.monotonic() - began
    if failure is None:
        return Outcome(PROPERTY_CHECK, Verdict.PASSED, seconds=seconds)
    dialogue = target.conceal(failure.transcript.shortened(_MOST_LINES))
    return Outcome(PROPERTY_CHECK, Verdict.FAILED, target.conceal(failure.message), dialogue, seconds)
