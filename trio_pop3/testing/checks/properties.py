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
    machine = testing.machine_for_server(
        settings.dial_encrypted,
        account.user,
        account.password,
        destructive=settings.destructive,
        reset=settings.reset,
    )
    failure: Any = testing.run_machine(machine, seed=seed, max_examples=max_examples)
    seconds = time.monotonic() - began
    if failure is None:
        return Outcome(PROPERTY_CHECK, Verdict.PASSED, seconds=seconds)
    target = Target(settings)
    dialogue = target.conceal(failure.transcript.shortened(_MOST_LINES))
    return Outcome(PROPERTY_CHECK, Verdict.FAILED, target.conceal(failure.message), dialogue, seconds)
