"""Where machines work: a backend on the bench, a server that is there already, and the first look at either."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module

import pytest

from trio_pop3 import Backend, MemoryBackend, Profile
from trio_pop3.testing import BadReply, Bench, Closed, Dialect, Mismatch, Talk, Transcript, Violation, Wire
from trio_pop3.testing.dialect import ANY, DEFAULT, STRICT
from trio_pop3.testing.worlds import BenchWorld, ServerWorld, World, learnt, patient_login

from .scripted import AnsweringWire, ScriptedWire, multiline

OK, LOGIN = b"+OK\r\n", {b"USER alice": b"+OK\r\n", b"PASS secret": b"+OK\r\n", b"QUIT": b"+OK\r\n"}
Dials = list[AnsweringWire]


def dialling(answers: dict[bytes, bytes], dialled: Dials) -> Callable[[], Wire]:
    """A server that is a table; its connections are written down."""

    def dial() -> Wire:
        dialled.append(AnsweringWire({**LOGIN, **answers}))
        return dialled[-1]

    return dial


@pytest.fixture
def dialled() -> Iterator[Dials]:
    """What was dialled in a test. In the end every connection is closed."""
    wires: Dials = []
    yield wires
    assert all("close" in wire.done for wire in wires)


# --- what a server says of itself ------------------------------------------------------------------------------------


def test_what_is_announced_is_learnt(dialled: Dials) -> None:
    capabilities = [b"USER", b"top", b"UIDL", b"SASL SCRAM-SHA-256 PLAIN", b"PIPELINING", b"", b"EXPIRE NEVER"]
    dialect = learnt(dialling({b"CAPA": multiline(capabilities)}, dialled), ANY)
    assert dialect == replace(
        ANY,
        verbs=ANY.verbs | {"TOP", "UIDL", "CAPA", "AUTH"},
        mechanisms=("SCRAM-SHA-256", "PLAIN"),
        pipelining=True,
    )
    assert dialled[0].lines == [b"CAPA"]  # nobody logs in for that


@pytest.mark.parametrize("capa", [b"-ERR what\r\n", multiline([])])
def test_what_is_not_announced_is_not_there(capa: bytes, dialled: Dials) -> None:
    assert learnt(dialling({b"CAPA": capa}, dialled), ANY) == ANY


@pytest.mark.parametrize("known", [DEFAULT, STRICT])
def test_of_a_server_that_is_known_only_the_mechanisms_are_learnt(known: Dialect, dialled: Dials) -> None:
    dial = dialling({b"CAPA": multiline([b"SASL PLAIN"])}, dialled)
    assert learnt(dial, known) == replace(known, mechanisms=("PLAIN",))


def test_a_server_that_says_no_more_than_its_greeting() -> None:
    wire = ScriptedWire(b"-ERR full\r\n")
    with pytest.raises(Closed):
        learnt(lambda: wire, ANY)
    assert wire.done == ["close"]


# --- the login -------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Time that passes when somebody sleeps."""

    now: float = 100.0
    slept: int = 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(import_module("trio_pop3.testing.worlds"), "time", clock)
    return clock


@pytest.mark.parametrize(
    "reply",
    [b"-ERR [IN-USE] taken\r\n", b"-ERR [LOGIN-DELAY] later\r\n", b"-ERR [SYS/TEMP] disk\r\n", b"-ERR Lock busy\r\n"],
)
def test_a_login_waits_for_the_last_client_to_be_gone(reply: bytes, clock: Clock) -> None:
    """I4: with a connection of its own for each try."""
    wires = [AnsweringWire({**LOGIN, b"PASS secret": answer}) for answer in (reply, reply, OK)]
    transcript = Transcript()
    talk = patient_login(iter(wires).__next__, "alice", "secret", transcript, 7)
    assert talk.wire is wires[2]
    assert [wire.done for wire in wires] == [["close"], ["close"], []]
    assert clock.slept == 2
    assert {entry.number for entry in transcript.entries} == {7}
    assert str(transcript).count("C! closes") == 2


def test_patience_ends(clock: Clock, dialled: Dials) -> None:
    dial = dialling({b"PASS secret": b"-ERR [IN-USE] taken\r\n"}, dialled)
    with pytest.raises(Mismatch, match=r"refused for 10 s: b'\[IN-USE\] taken'"):
        patient_login(dial, "alice", "secret")
    assert 10 < clock.now - 100 < 10.1
    tries = len(dialled)
    with pytest.raises(Mismatch, match="refused for 1 s"):
        patient_login(dial, "alice", "secret", patience=1)
    assert 40 < len(dialled) - tries < 60


@pytest.mark.parametrize("reply", [b"-ERR [AUTH] wrong\r\n", b"-ERR no\r\n"])
def test_a_login_that_will_never_be_is_not_waited_for(reply: bytes, clock: Clock, dialled: Dials) -> None:
    with pytest.raises(Mismatch, match="the login was refused: b'"):
        patient_login(dialling({b"PASS secret": reply}, dialled), "alice", "secret")
    assert clock.slept == 0
    assert len(dialled) == 1


@pytest.mark.parametrize("reply", [b"", b"what\r\n"])
def test_a_login_that_breaks_leaves_nothing_open(reply: bytes, dialled: Dials) -> None:
    with pytest.raises(BadReply):
        patient_login(dialling({b"PASS secret": reply}, dialled), "alice", "secret")


# --- a server that is there ------------------------------------------------------------------------------------------

MAIL = {
    b"CAPA": multiline([b"UIDL"]),
    b"LIST": multiline([b"1 3", b"2 5 x"]),
    b"RETR 1": multiline([b"a"]),
    b"RETR 2": multiline([b"b", b""]),
    b"UIDL": multiline([b"1 one", b"2 two"]),
}


def server(
    dialled: Dials,
    answers: dict[bytes, bytes],
    *,
    deliver: Callable[[bytes], object] | None = None,
    destructive: bool = False,
) -> ServerWorld:
    dial = dialling(answers, dialled)
    return ServerWorld(dial, "alice", "secret", deliver=deliver, reset=None, destructive=destructive, dialect=ANY)


def test_what_is_there_is_looked_at(dialled: Dials) -> None:
    world: World = server(dialled, MAIL)
    (maildrop,) = world.store.values()
    assert [(message.octets, message.uid) for message in maildrop.messages] == [
        (b"a\r\n", b"one"),
        (b"b\r\n\r\n", b"two"),
    ]
    assert world.users == {"alice": "secret"}
    assert "UIDL" in world.dialect.verbs
    assert b"QUIT" not in dialled[-1].lines, "some servers remove what was retrieved"
    assert not world.deliver("alice", b"x")
    assert not world.again(crash=True) and not world.again(crash=False)
    with world.failing() as fails:
        assert not fails
    assert world.patience > 0
    world.close()


def test_a_look_ends_with_quit_where_messages_may_be_removed(dialled: Dials) -> None:
    server(dialled, {**MAIL, b"QUIT": b"+OK\r\n"}, destructive=True)
    assert dialled[-1].lines[-1] == b"QUIT"


def test_a_server_without_uids(dialled: Dials) -> None:
    world = server(dialled, {**MAIL, b"CAPA": b"-ERR\r\n", b"UIDL": b"-ERR\r\n"})
    assert [message.uid for message in world.store["alice"].messages] == [None, None]
    assert b"UIDL" not in dialled[-1].lines


def test_mail_is_delivered_if_there_is_a_way(dialled: Dials) -> None:
    delivered: list[bytes] = []
    world = server(dialled, MAIL, deliver=delivered.append)
    assert world.deliver("alice", b"new")
    assert delivered == [b"new"]
    assert len(world.store["alice"].messages) == 2  # that is told to the model by who delivers


def test_the_maildrop_is_put_back_before_it_is_looked_at() -> None:
    done: list[str] = []

    def dial() -> Wire:
        done.append("dialled")
        return AnsweringWire({**LOGIN, b"LIST": multiline([])})

    def reset() -> None:
        done.append("reset")

    ServerWorld(dial, "alice", "secret", deliver=None, reset=reset, destructive=True, dialect=ANY)
    assert done == ["reset", "dialled", "dialled"]


def test_a_maildrop_that_is_too_large_is_left_alone(dialled: Dials) -> None:
    """And what to do is said: try another one. Nothing of it is read."""
    rows = [b"%d 3" % number for number in range(1, 52)]
    with pytest.raises(ValueError, match="a maildrop of 51 messages is too large to try things on; at most 50"):
        server(dialled, {**MAIL, b"LIST": multiline(rows)})
    assert not any(line.startswith(b"RETR") for wire in dialled for line in wire.lines)


def test_a_maildrop_of_50_messages_is_not_too_large(dialled: Dials) -> None:
    rows = [b"%d 3" % number for number in range(1, 51)]
    answers = {b"RETR %d" % number: multiline([b"a"]) for number in range(1, 51)}
    world = server(dialled, {**answers, b"LIST": multiline(rows)})
    assert len(world.store["alice"].messages) == 50


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ({b"LIST": multiline([b"1 4", b"2 5"])}, "LIST says b'1 4', RETR 1 sends 3 octets"),
        ({b"LIST": multiline([b"1 3", b"3 5"])}, "LIST says b'3 5', RETR 2 sends 5 octets"),
        ({b"LIST": multiline([b"1 30"])}, "LIST says b'1 30', RETR 1 sends 3 octets"),
        ({b"LIST": multiline([b"nonsense"])}, "LIST says b'nonsense'"),
        ({b"RETR 2": b"-ERR\r\n"}, "LIST says b'2 5 x', RETR 2 sends 0 octets"),
        ({b"UIDL": multiline([b"1 one"])}, "UIDL has 1 lines, LIST 2"),
        ({b"UIDL": b"-ERR\r\n"}, "UIDL has 0 lines, LIST 2"),
        ({b"UIDL": multiline([b"1 one", b"2 one"])}, "belongs, or belonged, to another message"),
        ({b"UIDL": multiline([b"1 one", b"2"])}, "a unique-id is 1 to 70 octets"),
    ],
)
def test_what_is_wrong_at_first_sight_is_a_finding(answers: dict[bytes, bytes], wrong: str, dialled: Dials) -> None:
    with pytest.raises(Violation, match=wrong):
        server(dialled, {**MAIL, **answers})


# --- a backend on the bench ------------------------------------------------------------------------------------------


def mailbox() -> MemoryBackend:
    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    return backend


def log_in(world: BenchWorld) -> Talk:
    return patient_login(world.dial, "alice", "secret", patience=world.patience)


@contextmanager
def bench_world(bench: Bench, profile: Profile = Profile.DEFAULT) -> Iterator[BenchWorld]:
    world = BenchWorld(lambda: bench, profile)
    try:
        yield world
    finally:
        world.close()


def test_a_plain_backend() -> None:
    backend = mailbox()
    with bench_world(Bench(backend=backend, deliver=backend.deliver, users={"alice": "secret"})) as world:
        assert world.deliver("alice", b"x")
        talk = log_in(world)
        assert talk.ask(b"LIST", multiline=True).lines == (b"1 3",)
        talk.close()
        assert list(world.users) == list(world.store) == ["alice"]
        assert "PLAIN" in world.dialect.mechanisms
        assert not world.again(crash=False) and not world.again(crash=True)
        with world.failing() as fails:
            assert not fails


@pytest.mark.parametrize(("profile", "dialect"), [(Profile.DEFAULT, DEFAULT), (Profile.STRICT, STRICT)])
def test_the_profile_decides(profile: Profile, dialect: Dialect) -> None:
    backend = mailbox()
    bench = Bench(backend=backend, deliver=backend.deliver, users={"alice": "secret"})
    with bench_world(bench, profile) as world:
        assert replace(world.dialect, mechanisms=DEFAULT.mechanisms) == dialect
        talk = log_in(world)
        assert talk.ask(b"STAT ").ok is (profile is Profile.DEFAULT)
        talk.close()


def test_a_store_may_refuse_some_octets() -> None:
    def deliver(user: str, message: bytes) -> None:
        message.decode("ascii")

    with bench_world(Bench(backend=mailbox(), deliver=deliver, users={"alice": "secret"})) as world:
        assert world.deliver("alice", b"x")
        assert not world.deliver("alice", b"\xff")


class Everything:
    """All that can be done to a backend, with a note of what was done, and whether in the loop's thread."""

    def __init__(self, *, asynchronous: bool) -> None:
        self.done: list[str] = []
        self.threads: set[int] = set()
        self.asynchronous = asynchronous
        self.backend = mailbox()

    def note(self, what: str) -> None:
        self.done.append(what)
        self.threads.add(threading.get_ident())

    def called(self, what: str) -> Callable[..., object]:
        def plain(*arguments: object) -> Backend:
            self.note(what)
            return self.backend

        async def asynchronous(*arguments: object) -> Backend:
            return plain()

        return asynchronous if self.asynchronous else plain

    @contextmanager
    def failing(self) -> Iterator[None]:
        self.note("fails")
        try:
            yield
        finally:
            self.note("fails no more")

    def bench(self) -> Bench:
        return Bench(
            backend=self.backend,
            deliver=self.called("deliver"),
            users={"alice": "secret"},
            reopen=self.called("reopen"),  # type: ignore[arg-type]
            crash=self.called("crash"),
            failing_commit=self.failing,
            close=self.called("close"),
        )


@pytest.mark.parametrize("asynchronous", [False, True])
def test_everything_that_can_be_done_is_done_in_the_loop(asynchronous: bool) -> None:
    all_of_it = Everything(asynchronous=asynchronous)

    async def make() -> Bench:
        return all_of_it.bench()

    world = BenchWorld(make if asynchronous else all_of_it.bench, Profile.DEFAULT)
    assert world.deliver("alice", b"x")
    assert world.again(crash=False)
    assert world.again(crash=True)
    with pytest.raises(ZeroDivisionError), world.failing() as fails:
        assert fails / 0  # True, that is
    world.close()
    expected = ["deliver", "reopen", "crash", "reopen", "fails", "fails no more", "close"]
    assert all_of_it.done == expected
    assert len(all_of_it.threads) == 1
    assert threading.get_ident() not in all_of_it.threads


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_bench_that_cannot_be_made_leaves_nothing_behind() -> None:
    before = threads()

    def make() -> Bench:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        BenchWorld(make, Profile.DEFAULT)
    assert threads() == before


def test_a_backend_that_fails_at_first_sight_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, closed = threads(), []

    def close() -> None:
        closed.append(True)
        assert 1 / 0

    def learnt(*arguments: object) -> object:
        raise LookupError("it says nothing")

    backend = mailbox()
    bench = Bench(backend=backend, deliver=backend.deliver, users={"alice": "secret"}, close=close)
    world = BenchWorld(lambda: bench, Profile.DEFAULT)
    with pytest.raises(ZeroDivisionError):  # and the loop is gone nevertheless
        world.close()
    assert closed == [True]
    assert threads() == before
    monkeypatch.setattr(import_module("trio_pop3.testing.worlds"), "learnt", learnt)
    with pytest.raises(LookupError, match="it says nothing"):
        BenchWorld(lambda: replace(bench, close=lambda: closed.append(True)), Profile.DEFAULT)
    assert closed == [True, True]
    assert threads() == before
