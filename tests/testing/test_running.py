"""Running a machine: what a server that is not the same twice does to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from trio_pop3 import ClientInfo, MemoryBackend, Rules
from trio_pop3.testing import JudgedMachine, MemoryWire, Portal, machine_for_server, run_machine


class Unsteady(MemoryBackend):
    """Every so manieth time that a maildrop is opened, a message is in it that was not there, and goes again."""

    every = 7
    opened = 0

    async def open(self, user: str, client: ClientInfo) -> Any:
        maildrop = await super().open(user, client)
        self.opened += 1
        if self.opened % self.every == 0:
            maildrop.messages = maildrop.messages[:-1]
        return maildrop


@pytest.mark.parametrize("every", [5, 7, 11, 30])
@pytest.mark.parametrize("shrink", [False, True])
def test_a_server_that_is_not_the_same_twice_is_a_finding(every: int, shrink: bool) -> None:
    """I10: Hypothesis gives up on it, with an exception that tells nobody anything; the dialogue tells."""
    backend = Unsteady()
    backend.every = every
    backend.add_user("alice", "secret")
    for message in (b"one", b"two", b"three"):
        backend.deliver("alice", message)
    with Portal() as portal:

        def dial() -> MemoryWire:
            return MemoryWire(portal, backend, rules=Rules(max_bad_commands=None, max_auth_failures=None))

        machine = machine_for_server(dial, "alice", "secret")
        found = run_machine(machine, seed=1, max_examples=30, shrink=shrink)
    assert found is not None
    assert "is not there as it was" in found.message or "lines came" in found.message or "must be" in found.message
    assert found.transcript.entries


class Wavering(JudgedMachine):
    """What can be asked next depends on nothing that the dialogue shows."""

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).runs += 1

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        with self.judging():
            self.transcript.add("C", b"NOOP\r\n")
            data.draw(st.booleans() if type(self).runs % 2 else st.tuples(st.text(), st.integers()))


def test_answers_that_differ_without_being_wrong_are_a_finding() -> None:
    """Nothing was seen that is wrong by itself: the last dialogue is what there is to show."""
    found = run_machine(Wavering, seed=1, max_examples=100)
    assert found is not None
    assert found.message == "the same dialogue was answered in two ways"
    assert found.transcript.entries
