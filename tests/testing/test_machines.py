"""The machines on what is ours: core, both roles, session with each backend, and a server over TCP."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import settings

from trio_pop3 import MemoryBackend, Profile, serve
from trio_pop3.testing import (
    CoreMachine,
    MemoryWire,
    PairMachine,
    Portal,
    SocketWire,
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
