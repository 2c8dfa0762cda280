"""The machines on what is ours: core, both roles, session with each backend, and a server over TCP."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import settings

from trio_pop3 import ClientInfo, MemoryBackend, MessageInfo, PermanentFailure, Profile, Rules, serve
from trio_pop3.testing import (
    CoreMachine,
    MemoryWire,
    PairMachine,
    Portal,
    SocketWire,
    Violation,
    differential,
    machine_for,
    machine_for_server,
    replay,
    run_machine,
)
from trio_pop3.testing.benches import maildir_bench, memory_bench

# A1-A5, A14, B1, B2, C1-C5, D1-D5, D9, D10, E1-E7, E9, E10, F1-F3, F5, F7, H1, H2, H4, I4, I10.
TestMemory = machine_for(memory_bench).TestCase
TestMemoryStrict = machine_for(memory_bench, profile=Profile.STRICT).TestCase
TestMaildir = machine_for(maildir_bench).TestCase
# A few dozen threads an example.
TestMaildir.settings = settings(max_examples=20, deadline=None)
TestCore = CoreMachine.TestCase
TestPair = PairMachine.TestCase


class StrictCore(CoreMachine):
    """CRLF only, and nothing outside the grammar."""

    profile = Profile.STRICT


class StrictPair(PairMachine):
    """The same for both roles."""

    profile = Profile.STRICT


TestStrictCore = StrictCore.TestCase
TestStrictPair = StrictPair.TestCase


@pytest.mark.parametrize("destructive", [True, False])
def test_a_server_over_tcp(destructive: bool) -> None:
    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    mail = [b"Subject: 1\n\n.\n", b"..\r\nx", b"", b"a" * 3000]

    def reset() -> None:
        for message in mail[len(backend.messages("alice")) :]:
            backend.deliver("alice", message)

    reset()
    with Portal() as portal:
        (listener,) = portal.start(partial(serve, backend, listen=["127.0.0.1:0"]))
        machine = machine_for_server(
            lambda: SocketWire("127.0.0.1", listener.port), "alice", "secret", destructive=destructive, reset=reset
        )
        assert run_machine(machine, seed=1, max_examples=30) is None
    if not destructive:
        assert list(backend.messages("alice").values()) == mail


class RemovesWhatWasRead(MemoryBackend):
    """EXPIRE 0: what was retrieved goes at QUIT (RFC 2449 section 6.7)."""

    async def open(self, user: str, client: ClientInfo) -> Any:
        maildrop = await super().open(user, client)
        read: list[MessageInfo] = []
        retrieve, commit = maildrop.retrieve, maildrop.commit

        async def noted(message: MessageInfo) -> bytes:
            read.append(message)
            return await retrieve(message)

        maildrop.retrieve = noted  # type: ignore[method-assign]
        maildrop.commit = lambda deleted: commit([*deleted, *read])  # type: ignore[method-assign]
        return maildrop


def test_nothing_is_removed_without_leave() -> None:
    """Not even on a server that removes what was retrieved: neither DELE nor QUIT is said."""
    backend = RemovesWhatWasRead()
    backend.add_user("alice", "secret")
    for message in (b"one", b"two", b"three"):
        backend.deliver("alice", message)
    with Portal() as portal:

        def dial() -> MemoryWire:
            return MemoryWire(portal, backend, rules=Rules(max_bad_commands=None, max_auth_failures=None))

        assert run_machine(machine_for_server(dial, "alice", "secret"), seed=1, max_examples=30) is None
        assert len(backend.messages("alice")) == 3
        run_machine(differential(dial, dial, "alice", "secret"), seed=1, max_examples=5, shrink=False)
        assert len(backend.messages("alice")) == 3


class OnlySometimes(MemoryBackend):
    """After the first looks each login is refused, for a reason that no client can mend."""

    logins = 0

    async def open(self, user: str, client: ClientInfo) -> Any:
        self.logins += 1
        if self.logins > 3:  # two looks, and one that sees that the lock of the second is free
            raise PermanentFailure("no more")
        return await super().open(user, client)


def test_the_password_of_a_server_is_in_no_finding() -> None:
    """P5: neither in what is wrong, which quotes the line that was answered, nor in the dialogue."""
    backend = OnlySometimes()
    backend.add_user("alice", "hunter2 hunter2")
    with Portal() as portal:

        class Machine(machine_for_server(lambda: MemoryWire(portal, backend), "alice", "hunter2 hunter2")):  # type: ignore[misc]
            """Logs in, which is refused."""

        machine = Machine()
        with pytest.raises(Violation) as caught:
            machine.say(1, [b"USER alice", b"PASS hunter2 hunter2"])
        machine.clients.clear()
    assert "hunter2" not in str(caught.value)
    assert "b'PASS \\{password}' must be answered +OK" in caught.value.message
    assert "C: PASS \\{password}" in str(caught.value)


def test_a_finding_is_a_transcript_that_replays() -> None:
    """What a machine prints can be pasted into a test."""

    said = """
        S: +OK ...
        C: USER alice
        S: +OK send PASS
        C: PASS secret
        S: +OK maildrop has 0 ...
        C: QUIT
        S: +OK goodbye
        S! closes
    """
    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    with Portal() as portal:
        transcript = replay(said, lambda: MemoryWire(portal, backend))
        with pytest.raises(AssertionError, match="the server says"):
            replay(said.replace("goodbye", "good night"), lambda: MemoryWire(portal, backend))
    assert "C: QUIT" in str(transcript)
