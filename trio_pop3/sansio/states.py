"""All state logic, and none of it knows which role we play.

A command moves the state once its reply is complete; QUIT in TRANSACTION also moves it when it is read, because from
then on the session is in UPDATE whatever the reply will be (RFC 1939 section 6). Commands that are illegal in a state
are those the table has no entry for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .commands import BY_EVENT, Step
from .enums import State
from .events import Command, Quit

TRANSITIONS: Final[Mapping[State, Mapping[type[Command], Step]]] = MappingProxyType(
    {
        state: MappingProxyType({event: row.steps[state] for event, row in BY_EVENT.items() if state in row.steps})
        for state in State
    }
)


def step_for(state: State, command: type[Command]) -> Step | None:
    """Where this command leads from here; None if it is not allowed here."""
    return TRANSITIONS[state].get(command)


def on_command(state: State, command: type[Command]) -> State:
    """The state while the reply to a legal command is owed."""
    return State.UPDATE if state is State.TRANSACTION and command is Quit else state


def on_refusal(state: State) -> State:
    """The state after a line that is no command here. PASS must follow USER directly (RFC 1939 section 7)."""
    return State.AUTHORIZATION if state is State.USER_GIVEN else state
