"""THE COMMAND TABLE and the state tables made from it, against table 2.2 of the requirements written out by hand."""

from __future__ import annotations

import pytest

from trio_pop3 import sansio
from trio_pop3.sansio import (
    COMMANDS,
    LENIENT_TRANSITIONS,
    TRANSITIONS,
    Arguments,
    Command,
    Profile,
    Shape,
    State,
    capability_lines,
    shape_of,
)
from trio_pop3.sansio.commands import BY_EVENT, BY_VERB
from trio_pop3.sansio.states import on_command, on_refusal, transitions_of
from trio_pop3.testing import pair
from trio_pop3.testing.pair import STEPS, Steps

A, AU, AS, AT = State.AUTHORIZATION, State.USER_GIVEN, State.AUTHENTICATING, State.TLS_PENDING
T = State.TRANSACTION

# PROTOCOL 2.2, written by hand: event -> {state: (after +OK, after -ERR)}. What is not here is -ERR.
EXPECTED = {event.__name__: steps for event, steps in STEPS.items()}
# What the default profile takes besides (PITFALLS D10).
LENIENT: dict[str, Steps] = {"Utf8": {T: (T, T)}}
# Nothing may be sent behind these until they are answered (PROTOCOL 2.6).
WAITS = {event.__name__ for event in pair.WAITS}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_state_and_command(name: str, state: State) -> None:
    """R1939-14, R1939-29, R1939-48, R1939-66, R1939-67, R5034-05, R5034-06, R2595-04, R6856-02, R6856-20, RXCL-02,
    R4422-07; D2, G2, G3, J2: both profiles."""
    command: type[Command] = getattr(sansio, name)
    strict = EXPECTED[name].get(state)
    lenient = LENIENT.get(name, {}).get(state, strict)
    for profile, expected in ((Profile.STRICT, strict), (Profile.DEFAULT, lenient)):
        step = transitions_of(profile)[state].get(command)
        assert (None if step is None else tuple(step)) == expected
    assert transitions_of(Profile.STRICT) is TRANSITIONS
    assert transitions_of(Profile.DEFAULT) is LENIENT_TRANSITIONS


@pytest.mark.parametrize("table", [TRANSITIONS, LENIENT_TRANSITIONS])
def test_only_responses_are_valid_in_a_sasl_exchange_and_nothing_before_tls(
    table: dict[State, dict[type[Command], object]],
) -> None:
    """PROTOCOL 2.2: in AS every line is a response; in AT no POP3 octets are exchanged."""
    assert set(table) == set(State)
    assert set(table[AS]) == {sansio.SaslResponse, sansio.SaslCancel}
    assert not table[AT]
    assert not any(table[state] for state in (State.GREETING, State.UPDATE, State.CLOSED, State.ERROR))


def test_quit_enters_update_only_from_transaction() -> None:
    """R1939-29, R1939-49, E7."""
    assert on_command(T, sansio.Quit) is State.UPDATE
    assert on_command(A, sansio.Quit) is A
    assert on_command(T, sansio.Noop) is T


@pytest.mark.parametrize("state", State)
def test_a_refused_line_forgets_the_user_and_ends_an_exchange(state: State) -> None:
    """A-15, R5034-16."""
    assert on_refusal(state) is (A if state in (AU, AS) else state)


def test_the_table_is_whole() -> None:
    served = {row.event.__name__: row for row in COMMANDS if row.event is not None}
    assert set(served) == set(EXPECTED)
    assert {row.verb for row in COMMANDS if row.event is None} == {b"LAST"}
    assert {name for name, row in served.items() if row.waits} == WAITS
    assert {name for name, row in served.items() if row.lenient} == set(LENIENT)
    spelt = {"AuthList": b"AUTH", "SaslResponse": b"", "SaslCancel": b""}
    assert all(row.verb == spelt.get(name, name.upper().encode()) for name, row in served.items())
    # The two that no RFC knows say so.
    assert {name for name, row in served.items() if not row.section.startswith("RFC ")} == {"AuthList", "Xclient"}


def test_a_line_is_read_by_one_row() -> None:
    """AUTH is read by the row with arguments; lines of an exchange have no keyword and no row to be read by."""
    assert BY_VERB[b"AUTH"].event is sansio.Auth
    assert b"" not in BY_VERB
    assert len(BY_VERB) == len(COMMANDS) - 3
    assert {row.arguments for row in COMMANDS} == set(Arguments)
    assert all(BY_EVENT[row.event] is row for row in COMMANDS if row.event is not None)


def test_shapes() -> None:
    """PROTOCOL 1.3: decided by the command, not by the reply."""
    listings = {"AuthList", "Capa", "Lang", "List", "Uidl"}
    for row in COMMANDS:
        if row.event is not None and row.event.__name__ in ("Retr", "Top"):
            assert row.shape is Shape.MESSAGE
        elif row.event is not None:
            assert (row.shape is Shape.LISTING) == (row.event.__name__ in listings)
    assert shape_of(sansio.List(1)) is shape_of(sansio.Uidl(1)) is Shape.SINGLE
    assert shape_of(sansio.List()) is shape_of(sansio.Uidl()) is Shape.LISTING
    assert shape_of(sansio.Lang("en")) is shape_of(sansio.Lang("*")) is Shape.SINGLE
    assert shape_of(sansio.Lang()) is shape_of(sansio.AuthList()) is Shape.LISTING
    assert shape_of(sansio.Auth("PLAIN")) is shape_of(sansio.Auth("PLAIN", b"")) is Shape.SINGLE


def test_capability_lines() -> None:
    """R2449-10, R2449-13, R2449-14, R3206-05, D8: what is served is announced in table order, and nothing else."""
    served = ("USER", "SASL", "STLS", "UTF8", "LANG", "TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")
    assert capability_lines({}) == served
    assert capability_lines(
        {"USER": None, "SASL": "PLAIN SCRAM-SHA-256", "STLS": "", "UTF8": "USER", "LANG": None, "EXPIRE": "NEVER",
         "LOGIN-DELAY": None, "IMPLEMENTATION": "x"}
    ) == (
        "SASL PLAIN SCRAM-SHA-256", "STLS", "UTF8 USER", "TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE",
        "EXPIRE NEVER", "IMPLEMENTATION x",
    )  # fmt: skip
    assert capability_lines(dict.fromkeys(served)) == ()


def test_private_commands_are_not_announced() -> None:
    """R2449-13, R2449-43: APOP has no tag, and XCLIENT is told to those it is for by the greeting."""
    assert not {"APOP", "XCLIENT", "AUTH"} & set(capability_lines({}))
