"""THE COMMAND TABLE and the state tables made from it, against table 2.2 of the requirements written out by hand."""

from __future__ import annotations

import pytest

from trio_pop3 import sansio
from trio_pop3.sansio import COMMANDS, TRANSITIONS, Command, Shape, State, capability_tags, shape_of
from trio_pop3.sansio.states import on_command, on_refusal, step_for

A, AU, T, X = State.AUTHORIZATION, State.USER_GIVEN, State.TRANSACTION, State.CLOSED

# PROTOCOL 2.2, by hand: verb -> {state: (after +OK, after -ERR)}. What is not here is -ERR.
EXPECTED: dict[str, dict[State, tuple[State, State]]] = {
    "User": {A: (AU, A)},
    "Pass": {AU: (T, A)},
    "Apop": {A: (T, A)},
    "Capa": {A: (A, A), AU: (AU, AU), T: (T, T)},
    "Stat": {T: (T, T)},
    "List": {T: (T, T)},
    "Retr": {T: (T, T)},
    "Dele": {T: (T, T)},
    "Noop": {T: (T, T)},
    "Rset": {T: (T, T)},
    "Top": {T: (T, T)},
    "Uidl": {T: (T, T)},
    "Quit": {A: (X, X), AU: (X, X), T: (X, X)},
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_state_and_command(name: str, state: State) -> None:
    """R1939-14, 29, 48, 66, 67; D2, G2 for what is served."""
    command: type[Command] = getattr(sansio, name)
    step = step_for(state, command)
    assert (None if step is None else tuple(step)) == EXPECTED[name].get(state)
    assert TRANSITIONS[state].get(command) == step


def test_quit_enters_update_only_from_transaction() -> None:
    """R1939-29, R1939-49, E7."""
    assert on_command(T, sansio.Quit) is State.UPDATE
    assert on_command(A, sansio.Quit) is A
    assert on_command(T, sansio.Noop) is T


@pytest.mark.parametrize("state", State)
def test_a_refused_line_forgets_the_user(state: State) -> None:
    """A-15."""
    assert on_refusal(state) is (A if state is AU else state)


def test_the_table_is_whole() -> None:
    served = [row for row in COMMANDS if row.event is not None]
    assert {row.event.__name__ for row in served if row.event} == set(EXPECTED)
    assert {row.verb for row in COMMANDS if row.event is None} == {b"AUTH", b"STLS", b"UTF8", b"LANG", b"LAST"}
    assert all(row.verb.decode().capitalize() == row.event.__name__ for row in served if row.event)
    assert all(row.section.startswith("RFC ") for row in COMMANDS)


def test_shapes() -> None:
    """PROTOCOL 1.3: decided by the command, not by the reply."""
    listings = {"Capa", "List", "Uidl"}
    for row in COMMANDS:
        if row.event is not None and row.event.__name__ in ("Retr", "Top"):
            assert row.shape is Shape.MESSAGE
        elif row.event is not None:
            assert (row.shape is Shape.LISTING) == (row.event.__name__ in listings)
    assert shape_of(sansio.List(1)) is shape_of(sansio.Uidl(1)) is Shape.SINGLE
    assert shape_of(sansio.List()) is shape_of(sansio.Uidl()) is Shape.LISTING


def test_capability_tags() -> None:
    """R2449-13, R2449-14, R3206-05, D8: what is served is announced, and nothing else."""
    assert capability_tags() == ("USER", "TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE")
    assert "USER" not in capability_tags(frozenset({"USER"}))
