"""All state logic, and none of it knows which role we play.

A command moves the state once its reply is complete; QUIT in TRANSACTION also moves it when it is read, because from
then on the session is in UPDATE whatever the reply will be (RFC 1939 section 6). Commands that are illegal in a state
are those the table has no entry for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from .commands import BY_EVENT, Step
from .enums import Profile, State
from .events import Command, Quit

Transitions: TypeAlias = Mapping[State, Mapping[type[Command], Step]]


def _transitions(*, lenient: bool) -> Transitions:
    every = {event: {**row.steps, **(row.lenient if lenient else {})} for event, row in BY_EVENT.items()}
    return MappingProxyType(
        {
            state: MappingProxyType({event: steps[state] for event, steps in every.items() if state in steps})
            for state in State
        }
    )


# What is legal where, as the RFCs have it; and as a server of the default profile has it.
TRANSITIONS: Final = _transitions(lenient=False)
LENIENT_TRANSITIONS: Final = _transitions(lenient=True)

_REFUSED: Final = {State.USER_GIVEN: State.AUTHORIZATION, State.AUTHENTICATING: State.AUTHORIZATION}


def transitions_of(profile: Profile) -> Transitions:
    """The table that a server of this profile goes by."""
    return TRANSITIONS if profile is Profile.STRICT else LENIENT_TRANSITIONS


def on_command(state: State, command: type[Command]) -> State:
    """The state while the reply to a legal command is owed."""
    return State.UPDATE if state is State.TRANSACTION and command is Quit else state


def on_refusal(state: State) -> State:
    """The state after a line that is no command here.

    PASS must follow USER directly (RFC 1939 section 7); what is no response ends a SASL exchange (RFC 5034 section 4).
    """
    return _REFUSED.get(state, state)
