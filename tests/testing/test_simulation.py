"""Days of mail that go well, and bugs put in on purpose that do not go unnoticed."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

import trio_pop3
from trio_pop3 import Backend, ClientInfo, Credentials, Maildrop, MessageInfo, Session
from trio_pop3.sansio import Ok, TopCutter
from trio_pop3.sansio import events as ev
from trio_pop3.server.driver import Driver
from trio_pop3.session import _HANDLERS
from trio_pop3.snapshot import Snapshot
from trio_pop3.testing.simulation import Report, SimulationFailure, simulate
from trio_pop3.testing.simulation.__main__ import main
from trio_pop3.testing.simulation.clients import ENDINGS
from trio_pop3.testing.simulation.lines import Asked, Framing
from trio_pop3.testing.simulation.mail import canonical, top
from trio_pop3.testing.simulation.store import FAULTS, Store
from trio_pop3.testing.simulation.wire import Pipe, ServerEnd

MOST = {"sessions": 400, "trouble": 6.0}


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """Three days with much trouble."""
    return [simulate(seed, **MOST) for seed in (1, 2, 3)]  # type: ignore[arg-type]


# --- days that go well -----------------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_day(reports: list[Report]) -> None:
    """To the last octet; and no two seeds are the same."""
    assert simulate(1, **MOST) == reports[0]  # type: ignore[arg-type]
    assert len({report.digest for report in reports}) == 3


def test_another_process_has_the_same_day() -> None:
    """Whatever the order of its sets and the names of its objects."""
    command = [sys.executable, "-m", "trio_pop3.testing.simulation", "--seed", "7", "--sessions", "60"]
    outputs = [
        subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}
        ).stdout
        for hash_seed in ("1", "2")
    ]
    first, second = (output.splitlines()[:-1] for output in outputs)  # the last line is the time it took
    assert first == second
    assert simulate(7, sessions=60).digest in first[-1]


def test_everything_happened(reports: list[Report]) -> None:
    """The simulation is not asleep: every fault, every ending, both replies to nearly every command."""
    endings = {name for report in reports for name in report.endings}
    assert endings >= ENDINGS.keys() | {"was left", "was reset", "was refused", "could not log in"}
    faults = {name for report in reports for name in report.faults}
    assert faults == {f"{call} {kind}" for call, kinds in FAULTS.items() for kind in kinds}
    replies = {name for report in reports for name in report.replies}
    assert replies >= {
        *(f"{verb} +OK" for verb in ("CAPA", "DELE", "LIST", "NOOP", "PASS", "QUIT", "RETR", "RSET", "STAT", "TOP")),
        *(f"PASS -ERR [{code}]" for code in ("AUTH", "IN-USE", "SYS/TEMP", "SYS/PERM")),
        *(f"{verb} -ERR [SYS/{code}]" for verb in ("QUIT", "RETR") for code in ("TEMP", "PERM")),
        *("greeting -ERR [SYS/TEMP]", "UIDL +OK", "UIDL -ERR", "LIST -ERR", "DELE -ERR", "RETR -ERR", "nonsense -ERR"),
    }
    assert all(report.crashes and report.drains and report.removed and report.left for report in reports)


def test_a_report_adds_up(reports: list[Report]) -> None:
    for report in reports:
        assert sum(report.endings.values()) == report.sessions
        assert report.delivered == report.removed + report.lost + report.left
        assert report.replies["USER +OK"] >= report.replies["PASS +OK"] >= report.replies["QUIT +OK"] / 2
        table = report.table()
        assert report.digest in table
        assert "commit incomplete" in table
        assert f"{report.crashes} crashed" in table


def test_without_trouble_the_store_does_not_fail() -> None:
    report = simulate(4, sessions=100, instances=1, trouble=0.0)
    assert not report.faults
    assert not report.lost
    assert report.instances == 1


@pytest.mark.parametrize("bad", [{"sessions": 0}, {"instances": 0}, {"trouble": -1.0}, {"trouble": 99.0}])
def test_numbers_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        simulate(1, **bad)


def test_without_hypothesis_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        simulate(1, sessions=1)


def test_the_log_is_given_back(caplog: pytest.LogCaptureFixture) -> None:
    """While it runs the server's log is read by the simulation; before and after, it is as it was."""
    logger = logging.getLogger("trio_pop3")
    before = (logger.level, logger.propagate, list(logger.handlers))
    simulate(1, sessions=30, trouble=20.0)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert not caplog.records


def test_a_wrapper_that_does_nothing_changes_nothing() -> None:
    assert simulate(5, sessions=100, wrap=Through) == simulate(5, sessions=100)


# --- bugs put in on purpose ------------------------------------------------------------------------------------------


class Through:
    """Hands every call on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.connect = self.inner.connect
        self.disconnect = self.inner.disconnect

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        user: str = await self.inner.authenticate(credentials, client)
        return user

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        return self.drop(await self.inner.open(user, client))

    def drop(self, maildrop: Any) -> Maildrop:
        return ThroughDrop(maildrop)


class ThroughDrop:
    """The same for a maildrop."""

    def __init__(self, inner: Maildrop) -> None:
        self.inner = inner
        self.messages: Sequence[MessageInfo] = inner.messages

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterable[bytes]:
        return await self.inner.retrieve(message)

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        await self.inner.commit(deleted)

    async def release(self) -> None:
        await self.inner.release()


class TwoMore(Through):
    """Sizes are off by two."""

    def drop(self, maildrop: Any) -> Maildrop:
        through = ThroughDrop(maildrop)
        through.messages = [replace(message, octets=message.octets + 2) for message in maildrop.messages]
        return through


class Promises(Through):
    """A commit returns at once, and is done later."""

    def drop(self, maildrop: Any) -> Maildrop:
        class Later(ThroughDrop):
            async def commit(self, deleted: Sequence[MessageInfo]) -> None:
                trio.lowlevel.spawn_system_task(self._some_time, deleted)

            async def _some_time(self, deleted: Sequence[MessageInfo]) -> None:
                await trio.sleep(1)

        return Later(maildrop)


class Twice(Through):
    """A commit is done again, as after a reply that was lost."""

    def drop(self, maildrop: Any) -> Maildrop:
        class Again(ThroughDrop):
            async def commit(self, deleted: Sequence[MessageInfo]) -> None:
                await self.inner.commit(deleted)
                await self.inner.commit(deleted)

        return Again(maildrop)


class OneAtATime(Through):
    """All sessions of an instance share one lock: what hangs for one hangs for all."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.lock = trio.Lock()

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        async with self.lock:
            return await super().authenticate(credentials, client)


class LocksStay(Through):
    """A release that forgets the lock."""

    def drop(self, maildrop: Any) -> Maildrop:
        class Kept(ThroughDrop):
            async def release(self) -> None:
                await trio.lowlevel.checkpoint()

        return Kept(maildrop)


class TooEarly(Through):
    """The lock is given back before the commit."""

    def drop(self, maildrop: Any) -> Maildrop:
        class Early(ThroughDrop):
            async def commit(self, deleted: Sequence[MessageInfo]) -> None:
                await self.inner.release()
                await self.inner.commit(deleted)

        return Early(maildrop)


@pytest.mark.parametrize(
    ("wrap", "invariant", "text"),
    [
        (TwoMore, "P2", "where it should be"),
        (Promises, "P1", "to QUIT, and|without a commit"),
        (Twice, "P1", "second commit"),
        (OneAtATime, "P4", "waited for nothing of its own"),
        (LocksStay, "P1", "lock"),
        (TooEarly, "P1", "lock was given back"),
    ],
)
def test_a_bug_around_the_store_is_found(wrap: Callable[[Backend], Backend], invariant: str, text: str) -> None:
    found(invariant, text, wrap=wrap)


def found(invariant: str, text: str, **options: Any) -> SimulationFailure:
    """A bug is found within 300 sessions, and found again where it was."""
    with pytest.raises(SimulationFailure) as caught:
        simulate(11, sessions=300, **options)
    failure = caught.value
    assert re.fullmatch(invariant, failure.invariant), failure
    assert re.search(text, failure.text), failure
    with pytest.raises(SimulationFailure) as again:
        simulate(11, sessions=300, **options)
    assert str(again.value) == str(failure)
    return failure


def test_a_commit_without_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: a session that is cut off removes what was marked."""

    async def close(self: Session, reason: str) -> None:
        if self._maildrop is not None and self._mail.deleted:
            await self._maildrop.commit(self._mail.deleted)
        await honest(self, reason)

    honest = Session.close
    monkeypatch.setattr(Session, "close", close)
    failure = found("P1", "without a QUIT|second commit|asked for")
    assert "C: DELE" in failure.transcripts[0]


def test_a_lock_that_is_not_released_on_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(self: Session, reason: str) -> None:
        if reason != "quit":
            self._maildrop = None
        await honest(self, reason)

    honest = Session.close
    monkeypatch.setattr(Session, "close", close)
    found("P1", "its lock is held for ever")


def test_ok_to_quit_without_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def quit_(self: Session, command: ev.Quit) -> Ok:
        self.ended = "quit"
        await self._release()
        return Ok("goodbye")

    monkeypatch.setitem(_HANDLERS, ev.Quit, quit_)
    found("P1", "QUIT was answered .* without a commit|\\+OK to QUIT, and")


def test_ok_to_quit_whatever_the_commit_did(monkeypatch: pytest.MonkeyPatch) -> None:
    async def quit_(self: Session, command: ev.Quit) -> Any:
        await honest(self, command)
        return Ok("goodbye")

    honest = Session._quit
    monkeypatch.setitem(_HANDLERS, ev.Quit, quit_)
    found("P1|P2", "to QUIT, and|is no reply to a call of the store", trouble=5.0)


def test_a_unique_id_that_is_used_again_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: a counter that was not durable."""
    count = [0]

    def new_uid(self: Store, user: str) -> str:
        count[0] += 1
        return f"u{count[0]}"

    def orphan_all(self: Store, instance: Any) -> None:
        count[0] = 0
        honest(self, instance)

    def day(**options: Any) -> Report:
        count[0] = 0
        return simulate(**options)

    honest = Store.orphan_all
    monkeypatch.setattr(Store, "new_uid", new_uid)
    monkeypatch.setattr(Store, "orphan_all", orphan_all)
    with pytest.raises(SimulationFailure, match=r"P3: unique-id .* was another message's before\nseed 11"):
        day(seed=11, sessions=300)


def test_the_wrong_message_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(self: Snapshot, number: int) -> None:
        self._deleted.add(max(1, number - 1))

    monkeypatch.setattr(Snapshot, "delete", delete)
    found("P1|P2", "a commit of|should be|asked for")


def test_rset_forgets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(self: Snapshot) -> None:
        if self._deleted:
            self._deleted.pop()

    monkeypatch.setattr(Snapshot, "reset", reset)
    found("P1|P2", "a commit of|should be|asked for")


def test_replies_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flush(self: Driver) -> None:
        lines = bytes(self._out).split(b"\r\n")
        if len(lines) == 3:
            self._out[:] = b"\r\n".join((lines[1], lines[0], b""))
        await honest(self)

    honest = Driver._flush
    monkeypatch.setattr(Driver, "_flush", flush)
    found("P2", "where it should be|is no reply|neither")


def test_a_reply_that_waits_for_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flush(self: Driver) -> None:
        if self._out.startswith(b"+OK message marked") and self._session.ended is None:
            return
        await honest(self)

    honest = Driver._flush
    monkeypatch.setattr(Driver, "_flush", flush)
    found("P4", "owes 1 replies")


def test_top_sends_a_line_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_pop3.session.TopCutter", lambda lines: TopCutter(lines + 1))
    found("P2", "lines of that message's body")


def test_a_server_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: Driver) -> None:
        raise ValueError("words")

    monkeypatch.setattr(Driver, "run", run)
    found("end", "should not have happened: ExceptionGroup$")


def test_sessions_that_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts return to zero at the end of the day: the server is done with a client, and its task stays."""

    async def aclose(self: ServerEnd) -> None:
        await honest(self)
        await trio.sleep(10_000)

    honest = ServerEnd.aclose
    monkeypatch.setattr(ServerEnd, "aclose", aclose)
    monkeypatch.setattr("trio_pop3.server.stream._CLOSE_SECONDS", 10_000)
    found("end|P4", "sessions do not end|that the client is gone", trouble=0.0)


# --- what a person sees ----------------------------------------------------------------------------------------------


def test_a_failure_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line replays it, to the same words."""
    monkeypatch.setattr("trio_pop3.session.TopCutter", lambda lines: TopCutter(lines + 1))
    failure = found("P2", "lines of that message's body")
    assert failure.seed == 11
    assert re.search(r"^C: TOP \d", failure.transcripts[0], re.MULTILINE)
    assert re.search(r"^# [0-9.]+ s: store: retrieve .*: done$", failure.transcripts[0], re.MULTILINE)
    trio_pop3.testing.Transcript.parse(failure.transcripts[0])  # it can be pasted into a test
    command, _, options = failure.command.partition(" --")
    assert command == "python -m trio_pop3.testing.simulation"
    assert main(f"--{options}".split()) == 1
    assert str(failure) in capsys.readouterr().out


def test_a_failure_of_a_wrapper_names_it() -> None:
    assert "wrap=<class" in found("P1", "second commit", wrap=Twice).command


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--sessions", "20"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("seed 1\n20 sessions, 2 instances")
    assert not output.err


def test_a_seed_is_chosen_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sessions", "5"]) == 0
    assert re.match(r"seed \d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [["--sessions", "0"], ["--trouble", "99"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "error: t" in capsys.readouterr().err


def test_what_is_no_number_is_usage_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--seed", "x"])
    assert caught.value.code == 2


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["--seed", "1", "--sessions", "60"]) == 0
    assert capsys.readouterr().err == "\r50 of 60 sessions\r60 of 60 sessions\n"


# --- what it is made of ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (b"", b"\r\n"),
        (b"a", b"a\r\n"),
        (b"a\n\n", b"a\r\n\r\n"),
        (b"a\r\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r\r\n", b"a\rb\r\r\n"),
    ],
)
def test_canonical(stored: bytes, sent: bytes) -> None:
    assert canonical(stored) == sent
    assert len(sent) == trio_pop3.sansio.octets_of(stored)


def test_top() -> None:
    message = b"A: b\r\n\r\n1\r\n2\r\n\r\n4\r\n"
    assert top(message, 0) == b"A: b\r\n\r\n"
    assert top(message, 3) == b"A: b\r\n\r\n1\r\n2\r\n\r\n"
    assert top(message, 9) == message
    assert top(b"A: b\r\n", 1) == b"A: b\r\n"


def test_lines_count_when_the_server_has_read_them() -> None:
    asked = Asked()
    asked.sent(b"USER a\r\nPASS b\r\nDELE 1\r\nRETR 2\r\nRETR 1\r\nQU")
    asked.sent(b"IT\r\nRSET\r\n")
    assert len(asked.lines) == 7
    asked.taken(len(b"USER a\r\nPASS b\r\nDELE 1\r\nRETR 2"))
    assert (asked.read, asked.logins) == (3, [("a", "b", 2)])
    assert asked.marks(0, 2) == ({1}, [], False)
    asked.taken(100)
    assert asked.marks(0, 2) == ({1}, [2], True)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_framing(size: int) -> None:
    """However it is cut: status lines, bodies, empty bodies, dots."""
    said = b"+OK hi\r\n+OK\r\n.\r\n-ERR no\r\n+OK list\r\n..a\r\n...\r\nb\r\n.\r\n+OK\r\n"
    bodies: Iterator[bool] = iter([False, True, True, False])
    framing = Framing(lambda: next(bodies))
    replies: list[tuple[bytes, bytes | None, int]] = []
    for start in range(0, len(said), size):
        for status, body in framing.feed(said[start : start + size]):
            replies.append((status, body, framing.octets))
    assert replies == [
        (b"+OK hi", None, 8),
        (b"+OK", b"", 16),
        (b"-ERR no", None, 25),
        (b"+OK list", b".a\r\n..\r\nb\r\n", 51),
        (b"+OK", None, 56),
    ]


async def test_a_pipe_holds_what_there_is_room_for() -> None:
    pipe, accepted = Pipe(4), bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.send, b"0123456789", accepted.extend)
        await trio.testing.wait_all_tasks_blocked()
        assert accepted == b"0123"
        assert await pipe.receive(3) == b"012"
        await trio.testing.wait_all_tasks_blocked()
        assert accepted == b"0123456"
        assert [await pipe.receive(99), await pipe.receive(99)] == [b"3456", b"789"]
    pipe.end()
    assert await pipe.receive(1) == b""


async def test_a_pipe_that_nobody_reads() -> None:
    """The first write after the reader has gone is lost, the next one fails; so it is with TCP."""
    pipe, accepted = Pipe(4), bytearray()
    pipe.leave()
    await pipe.send(b"0123456789", accepted.extend)
    assert accepted == b"0123456789"
    with pytest.raises(trio.BrokenResourceError):
        await pipe.send(b"x", accepted.extend)


async def test_a_pipe_that_was_reset() -> None:
    pipe = Pipe(4)
    await pipe.send(b"0123", bytearray().extend)
    pipe.reset()
    with pytest.raises(trio.BrokenResourceError):
        await pipe.receive(1)
