"""The machines on what is ours: core, both roles, session with each backend, and a server over TCP."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

import pytest
from hypothesis import settings

from trio_pop3 import ClientInfo, MemoryBackend, MessageInfo, PermanentFailure, Profile, Rules, combine, serve
from trio_pop3.testing import (
    Bench,
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
from trio_pop3.testing.benches import FailingStore, maildir_bench, memory_bench

from .scripted import AnsweringWire, multiline

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


class LateWire(MemoryWire):
    """The server takes a while to notice that the client has gone."""

    threads: ClassVar[list[threading.Timer]] = []

    def close(self) -> None:
        if self._dialogue.over:
            super().close()
        else:
            self.threads.append(threading.Timer(0.03, super().close))
            self.threads[-1].start()


@pytest.mark.parametrize("destructive", [False, True])
def test_a_lock_may_be_given_back_late(destructive: bool) -> None:
    """B2, R1939-16: it is waited for, so that the same dialogue has the same answers."""
    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    for message in (b"one", b"two"):
        backend.deliver("alice", message)
    with Portal() as portal:

        def dial() -> LateWire:
            return LateWire(portal, backend, rules=Rules(max_bad_commands=None, max_auth_failures=None))

        machine = machine_for_server(dial, "alice", "secret", destructive=destructive)
        assert run_machine(machine, seed=1, max_examples=10, steps=8) is None
        for thread in LateWire.threads:
            thread.join()


class Other:
    """A server of another make, with the same mail for ever: what RFC 1939 allows, and we would not do."""

    def __init__(
        self,
        mail: Sequence[bytes],
        *,
        bare: bool = False,
        off: int = 0,
        uid: bytes = b"",
        password: bytes = b"secret",
    ) -> None:
        self.mail = mail
        self.password = password
        self.sizes = [len(message) + off - 2 * (bare and number == 0) for number, message in enumerate(mail)]
        self.uids = [uid or hashlib.sha256(message).hexdigest()[:20].encode() for message in mail]

    def dial(self) -> AnsweringWire:
        self.user, self.inside, self.refused = b"", False, 0
        return AnsweringWire(self.answer)

    def answer(self, line: bytes) -> bytes:
        verb, *words = line.split(b" ")
        verb = verb.upper()
        if verb == b"CAPA" and not words:
            return multiline([b"USER", b"UIDL", b"PIPELINING"])
        if not self.inside:
            good = verb == b"QUIT" or (verb == b"USER" and len(words) == 1)
            if verb == b"PASS" and self.user == b"alice" and words == [self.password]:
                good = self.inside = True
            self.user = words[0] if good and verb == b"USER" else b""
            return b"+OK\r\n" if good else b"-ERR\r\n"
        if verb == b"STAT" and not words:
            return b"+OK %d %d\r\n" % (len(self.mail), sum(self.sizes))
        if verb in (b"NOOP", b"RSET", b"QUIT") and not words:
            return b"+OK\r\n"
        columns = {b"LIST": [b"%d" % size for size in self.sizes], b"UIDL": self.uids}
        if verb in columns and not words:
            return multiline([b"%d %s" % row for row in enumerate(columns[verb], 1)])
        number = int(words[0]) - 1 if len(words) == 1 and words[0].isdigit() and len(words[0]) < 9 else -1
        if verb not in (*columns, b"RETR") or not 0 <= number < len(self.mail):
            return b"-ERR\r\n"
        if verb == b"RETR":
            return multiline(self.mail[number].split(b"\r\n")[:-1])
        return b"+OK %d %s\r\n" % (number + 1, columns[verb][number])


SAME: Final = [b"one\r\n", b"two\r\nlines\r\n", b"one\r\n"]


@pytest.mark.parametrize("bare", [False, True])
def test_what_the_rfc_allows_is_no_finding(bare: bool) -> None:
    """R1939-14: equal messages may have one hash for a unique-id; and a size may be that of the file."""
    assert run_machine(machine_for_server(Other(SAME, bare=bare).dial, "alice", "secret"), seed=1) is None


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (Other(SAME, off=1), "LIST says b'1 6', RETR 1 sends 5 octets"),
        (Other(SAME, off=-1), "LIST says b'1 4', RETR 1 sends 5 octets"),
        (Other(SAME, uid=b"x"), "the unique-id b'x' belongs, or belonged, to another message"),
        (Other(SAME, uid=b"x" * 71), "a unique-id is 1 to 70 octets"),
    ],
)
def test_what_is_wrong_at_the_first_look_comes_with_its_dialogue(server: Other, says: str) -> None:
    with pytest.raises(Violation) as caught:
        machine_for_server(server.dial, "alice", "secret")
    assert says in caught.value.message
    assert "C: LIST" in str(caught.value)
    assert "secret" not in str(caught.value)


class HasEnough(Other):
    """Closes when a third line in a row is refused, and says so in answer to whatever that is or comes then."""

    def dial(self) -> AnsweringWire:
        wire = super().dial()

        def answer(line: bytes) -> bytes:
            if self.refused > 2:
                return b""
            if self.refused == 2:
                self.refused, wire.closes = 3, True
                return b"-ERR too many bad commands\r\n"
            said = self.answer(line)
            self.refused = self.refused + 1 if said.startswith(b"-ERR") else 0
            return said

        wire._answers = answer
        return wire


def test_a_server_may_have_had_enough() -> None:
    """D10: the last -ERR need not be about the command that it answers."""
    assert run_machine(machine_for_server(HasEnough(SAME).dial, "alice", "secret"), seed=1) is None


def test_a_server_without_user_is_refused() -> None:
    wire = AnsweringWire({b"CAPA": multiline([b"SASL PLAIN"])})
    with pytest.raises(ValueError, match="announces AUTH, and not USER"):
        machine_for_server(lambda: wire, "alice", "secret")


def test_a_password_in_another_encoding() -> None:
    """What a command line cannot read as UTF-8 is sent as it was."""
    server = Other(SAME, password=b"s\xe4cret")
    assert run_machine(machine_for_server(server.dial, "alice", "s\udce4cret"), seed=1, max_examples=5) is None


def test_a_bug_that_shows_in_many_ways_is_found_once() -> None:
    """Otherwise each way is made shorter by itself, which takes minutes."""
    assert not machine_for(memory_bench).TestCase.settings.report_multiple_bugs


class KeepsTheLast(FailingStore):
    """Of several marked messages the last one stays."""

    async def open(self, user: str, client: ClientInfo) -> Any:
        maildrop = await super().open(user, client)
        commit = maildrop.commit
        maildrop.commit = lambda deleted: commit(deleted[:-1] if len(deleted) > 3 else deleted)  # type: ignore[method-assign]
        return maildrop


def test_a_maildrop_that_is_emptied_is_tried_often() -> None:
    """F1: what goes wrong only when several are marked is found with the examples of a usual run."""

    def make() -> Bench:
        memory = MemoryBackend()
        memory.add_user("alice", "secret")
        memory.add_user("bob", "hidden")
        return Bench(backend=combine(memory, KeepsTheLast(memory)), deliver=memory.deliver)

    found = run_machine(machine_for(make), seed=1, shrink=False)
    assert found is not None
    assert "DELE 4" in str(found)
