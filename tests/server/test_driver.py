"""One connection on memory streams and virtual time: deadlines, budgets, drain, and every way it can end."""

from __future__ import annotations

import itertools
import logging
import math
import re
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import ClientInfo, TemporaryFailure
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.sansio import Profile
from trio_pop3.server.driver import Driver, loggable
from trio_pop3.server.options import DEFAULTS, Options

from .helpers import (
    LOCAL,
    LOGIN,
    PASSWORD,
    REMOTE,
    BusyBackend,
    OneMessage,
    Pieces,
    Script,
    StepCounter,
    contents,
    driving,
    fail_in,
    hang_in,
    mail_for_fred,
)

MIB = 1024 * 1024
TOO_SLOW = b"-ERR [SYS/TEMP] the mail store takes too long\r\n"
INTERNAL = b"-ERR [SYS/TEMP] internal error, try again later\r\n"


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_pop3")


def summaries(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The summary lines logged so far."""
    return [record.getMessage() for record in caplog.records if " reason=" in record.getMessage()]


def reason(caplog: pytest.LogCaptureFixture) -> str:
    """Why the only session ended."""
    (line,) = summaries(caplog)
    return line.partition(" reason=")[2]


def run_script(script: Script, backend: Any, options: Options = DEFAULTS, client: ClientInfo = LOCAL) -> bytes:
    """Run a whole connection without a second task; what the client heard."""

    async def main() -> None:
        await Driver(script, backend, client, options).run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return bytes(script.heard)


# --- deadlines -------------------------------------------------------------------------------------------------------


async def test_login_deadline(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """PROTOCOL 2.7, A-30: 180 s from the first octet on, whatever is asked meanwhile; silent."""
    async with driving(mail_for_fred()) as far:
        assert (await far.line()).startswith(b"+OK")
        for _ in range(3):
            await trio.sleep(50)
            await far.send(b"CAPA\r\n")
            await far.multiline()
        assert await far.rest() == b""
        assert trio.current_time() == pytest.approx(180, abs=1)
    assert reason(caplog) == "'login timeout'"


async def test_strict_knows_only_the_idle_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """PROTOCOL 2.7: no login deadline; the inactivity timer of R1939-16 runs before the login too."""
    async with driving(mail_for_fred(), Options(profile=Profile.STRICT)) as far:
        await far.line()
        await trio.sleep(599)
        await far.send(b"CAPA\r\n")
        await far.multiline()
        assert await far.rest() == b""
        assert trio.current_time() == pytest.approx(599 + 600, abs=1)


async def test_idle_deadline(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """R1939-15, R1939-16, R1939-18, R1939-19, A-30, E1: after 600 s a silent close, and nothing is removed."""
    backend = mail_for_fred(b"one\n", b"two\n")
    async with driving(backend) as far:
        await far.login()
        assert (await far.ask(b"DELE 1")).startswith(b"+OK")
        start = trio.current_time()
        assert await far.rest() == b""
        assert 600 <= trio.current_time() - start <= 601
    assert contents(backend) == [b"one\n", b"two\n"]
    assert not backend.locked("fred")
    assert reason(caplog) == "'idle timeout'"


async def test_no_idle_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with driving(mail_for_fred(), Options(idle_timeout=math.inf)) as far:
        await far.login()
        await trio.sleep(86_000)
        assert (await far.ask(b"NOOP")).startswith(b"+OK")


@pytest.mark.parametrize("command", [b"NOOP", b"LIST 7", b"nonsense"])
async def test_any_command_resets_the_idle_deadline(autojump_clock: trio.testing.MockClock, command: bytes) -> None:
    """R1939-17: also one that is refused."""
    async with driving(mail_for_fred()) as far:
        await far.login()
        for _ in range(5):
            await trio.sleep(599)
            assert (await far.ask(command))[:1] in b"+-"


@pytest.mark.parametrize(("login", "seconds"), [(False, 180), (True, 600)])
async def test_dripping_octets_move_no_deadline(
    autojump_clock: trio.testing.MockClock, login: bool, seconds: float
) -> None:
    """P4, R1939-15: only a whole command counts; a client that sends one octet a minute is cut off on time."""
    async with driving(mail_for_fred()) as far, trio.open_nursery() as nursery:
        if login:
            await far.login()
        else:
            await far.line()

        async def drip() -> None:
            while True:
                await trio.sleep(20)
                await far.send(b"N")

        nursery.start_soon(drip)
        start = trio.current_time()
        assert await far.rest() == b""
        assert trio.current_time() - start == pytest.approx(seconds, abs=1)
        nursery.cancel_scope.cancel()


async def test_idle_deadline_rests_while_a_reply_is_written(autojump_clock: trio.testing.MockClock) -> None:
    """PROTOCOL 2.7, I3: a slow reader that makes progress may take longer than 600 s; idle time counts from the end."""
    body = b"x" * 76 + b"\r\n"
    backend = mail_for_fred(body * (5 * 65536 // len(body)))
    async with driving(backend, pair=trio.testing.lockstep_stream_pair) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        heard = bytearray()
        while not heard.endswith(b"\r\n.\r\n"):
            await trio.sleep(290)
            heard += await far.stream.receive_some(65536)
        assert trio.current_time() > 1200
        await trio.sleep(595)
        assert (await far.ask(b"NOOP")).startswith(b"+OK")


async def test_idle_deadline_rests_while_the_store_works(autojump_clock: trio.testing.MockClock) -> None:
    """PROTOCOL 2.7: every piece of a message has `command_timeout` of its own, small as it may be."""

    async def slow(where: str) -> None:
        if where == "read":
            await trio.sleep(290)

    message = b"x" * 62 + b"\r\n"
    async with driving(BusyBackend(mail_for_fred(message), slow)) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        assert await far.multiline() == b"+OK 64 octets\r\n" + message + b".\r\n"
        assert trio.current_time() == pytest.approx(3 * 290)


@pytest.mark.parametrize("where", ["authenticate", "open", "retrieve", "read"])
async def test_store_too_slow(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """PROTOCOL 2.7, P4: `-ERR [SYS/TEMP]` in the place of the reply, then the end; earlier replies are not lost."""
    backend = BusyBackend(mail_for_fred(b"one\n"), hang_in(where))
    options = Options(command_timeout=20)
    async with driving(backend, options) as far:
        await far.line()
        await far.send(LOGIN + b"DELE 9\r\nRETR 1\r\nNOOP\r\n")
        heard = await far.rest()
        assert trio.current_time() == pytest.approx(20, abs=1)
    assert heard.endswith(TOO_SLOW)
    assert heard.count(b"\r\n") == (4 if where in ("retrieve", "read") else 2)
    assert reason(caplog) == "'mail store too slow'"
    assert backend.counts.opens == backend.counts.releases
    assert not backend.inner.locked("fred")


async def test_store_too_slow_inside_a_body(autojump_clock: trio.testing.MockClock) -> None:
    """A10: after `+OK` neither `-ERR` nor a terminator; what the store opened is closed."""
    pieces = Pieces(b"first line\r\n" * 10_000, hang=True)
    async with driving(OneMessage(240_000, lambda: pieces), Options(command_timeout=20)) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        heard = await far.rest()
    assert heard.startswith(b"+OK 240000 octets\r\nfirst line\r\n")
    assert b"-ERR" not in heard
    assert b"\r\n.\r\n" not in heard
    assert pieces.closed == 1


async def test_connect_hook_too_slow(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A-44: the refusal is the greeting; disconnect is called all the same."""
    backend = BusyBackend(mail_for_fred(), hang_in("connect"))
    async with driving(backend, Options(command_timeout=20)) as far:
        assert await far.rest() == TOO_SLOW
        assert trio.current_time() == pytest.approx(20, abs=1)
    assert backend.counts.disconnects == 1
    assert reason(caplog) == "'mail store too slow'"


async def test_reader_that_stops(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """I3: the write deadline fires, and no more than two pieces of the message are ever in memory."""
    pieces = Pieces(*[b"x" * 65534 + b"\r\n"] * 100)
    maildrop = OneMessage(6_553_600, lambda: pieces)
    async with driving(maildrop, Options(write_timeout=77), pair=trio.testing.lockstep_stream_pair) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        start = trio.current_time()
        assert await far.stream.receive_some(10) == b"+OK 655360"
        await far.done.wait()
        assert trio.current_time() - start == pytest.approx(77, abs=1)
    assert pieces.taken <= 2
    assert pieces.closed == 1
    assert reason(caplog) == "'client too slow'"


async def test_message_in_one_piece_is_written_in_many(autojump_clock: trio.testing.MockClock) -> None:
    """I3: each 64 KiB has a write deadline of its own, however large a piece the store hands over."""
    content = (b"x" * 1022 + b"\r\n") * 1024
    async with driving(mail_for_fred(content), pair=trio.testing.lockstep_stream_pair) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        heard = bytearray()
        while not heard.endswith(b"\r\n.\r\n"):
            await trio.sleep(250)
            piece = await far.stream.receive_some(MIB)
            assert len(piece) <= 65536
            heard += piece
        assert len(heard) == len(b"+OK 1048576 octets\r\n") + MIB + len(b".\r\n")


# --- commit ----------------------------------------------------------------------------------------------------------


async def test_commit_that_hangs(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """E2, P1: `commit_timeout` ends it, the client hears `-ERR`, the lock is free."""
    backend = BusyBackend(mail_for_fred(b"one\n"), hang_in("commit"))
    async with driving(backend, Options(commit_timeout=33)) as far:
        await far.login()
        await far.ask(b"DELE 1")
        start = trio.current_time()
        reply = await far.ask(b"QUIT")
        assert trio.current_time() - start == pytest.approx(33)
        assert reply == b"-ERR [SYS/TEMP] deleted messages may not have been removed\r\n"
        assert await far.rest() == b""
    assert contents(backend.inner) == [b"one\n"]
    assert not backend.inner.locked("fred")
    assert " removed=0 remaining=1 " in summaries(caplog)[0]


async def test_commit_outlives_the_command_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """P1, E2: a commit has only its own deadline, and its reply leaves even if the command's has passed."""

    async def slow(where: str) -> None:
        if where == "commit":
            await trio.sleep(40)

    backend = BusyBackend(mail_for_fred(b"one\n"), slow)
    async with driving(backend, Options(command_timeout=10, commit_timeout=100)) as far:
        await far.login()
        await far.ask(b"DELE 1")
        assert await far.ask(b"QUIT") == b"+OK goodbye\r\n"
    assert contents(backend.inner) == []


@pytest.mark.parametrize("where", ["release", "disconnect"])
async def test_giving_back_that_hangs(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """I5: `release` and `disconnect` have a deadline too; the reply is that of the commit."""
    backend = BusyBackend(mail_for_fred(b"one\n"), hang_in(where))
    async with driving(backend, Options(commit_timeout=33)) as far:
        await far.login()
        await far.ask(b"DELE 1")
        assert await far.ask(b"QUIT") == b"+OK goodbye\r\n"
        await far.done.wait()
        assert trio.current_time() == pytest.approx(33)
    assert contents(backend.inner) == []
    assert reason(caplog) == "quit"


# --- budgets ---------------------------------------------------------------------------------------------------------


async def test_bad_command_budget(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A-31, D9: the tenth bad command in a row ends the session; a good one starts the count anew."""
    async with driving(mail_for_fred()) as far:
        await far.login()
        for _ in range(9):
            assert await far.ask(b"JUNK") == b"-ERR unknown command\r\n"
        assert (await far.ask(b"NOOP")).startswith(b"+OK")
        for _ in range(9):
            assert await far.ask(b"JUNK") == b"-ERR unknown command\r\n"
        assert await far.ask(b"JUNK") == b"-ERR too many bad commands, closing\r\n"
        assert await far.rest() == b""
    assert reason(caplog) == "'too many bad commands'"
    assert " bad=19 " in summaries(caplog)[0]


@pytest.mark.parametrize("options", [Options(profile=Profile.STRICT), Options(max_bad_commands=None)])
async def test_no_bad_command_budget(autojump_clock: trio.testing.MockClock, options: Options) -> None:
    """A-31: strict never closes; neither does a server told so."""
    async with driving(mail_for_fred(), options) as far:
        await far.login()
        for _ in range(50):
            assert await far.ask(b"JUNK") == b"-ERR unknown command\r\n"
        assert (await far.ask(b"NOOP")).startswith(b"+OK")


async def test_line_without_end(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """I1: one reply, then the end; what was sent beyond is never a command, and the reply is not lost to a reset."""
    backend = mail_for_fred(b"one\n")
    async with driving(backend) as far:
        await far.login()
        await far.ask(b"DELE 1")
        await far.send(b"x" * 9000 + b"\r\nQUIT\r\n")
        assert await far.rest() == b"-ERR command line far too long, closing\r\n"
    assert contents(backend) == [b"one\n"]
    assert reason(caplog) == "'line without end'"


async def test_failed_logins(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """PROTOCOL 2.3: the third refused login is answered like the others, then the connection ends."""
    async with driving(mail_for_fred()) as far:
        await far.line()
        for _ in range(3):
            assert (await far.ask(b"USER fred")).startswith(b"+OK")
            assert await far.ask(b"PASS wrong") == b"-ERR [AUTH] invalid user name or password\r\n"
        assert await far.rest() == b""
    assert reason(caplog) == "'too many failed logins'"
    assert " failed=3 " in summaries(caplog)[0]


async def test_failed_logins_without_end(autojump_clock: trio.testing.MockClock) -> None:
    async with driving(mail_for_fred(), Options(max_auth_failures=None)) as far:
        await far.line()
        for _ in range(20):
            await far.ask(b"USER fred")
            assert (await far.ask(b"PASS wrong")).startswith(b"-ERR [AUTH]")
        await far.send(LOGIN)
        assert (await far.line()).startswith(b"+OK")
        assert (await far.line()).startswith(b"+OK")


# --- drain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [False, True])
async def test_drain_ends_an_idle_connection(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, login: bool
) -> None:
    """J1: at once, silently, deleting nothing (A13: no words of its own)."""
    backend = mail_for_fred(b"one\n")
    async with driving(backend) as far:
        if login:
            await far.login()
            await far.ask(b"DELE 1")
        else:
            await far.line()
        await trio.testing.wait_all_tasks_blocked()
        far.driver.drain()
        assert await far.rest() == b""
        assert trio.current_time() == 0
    assert contents(backend) == [b"one\n"]
    assert reason(caplog) == "shutdown"


async def test_drain_before_the_greeting(autojump_clock: trio.testing.MockClock) -> None:
    """J1: a connection that was just accepted is greeted and ended."""
    async with driving(mail_for_fred()) as far:
        far.driver.drain()
        assert await far.rest() == b"+OK POP3 server ready\r\n"


async def test_drain_lets_received_commands_finish(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """J1: the command under way and the lines behind it are answered; half a line is not waited for."""
    go = trio.Event()

    async def wait(where: str) -> None:
        if where == "retrieve":
            await go.wait()

    backend = BusyBackend(mail_for_fred(b"one\n", b"two\n"), wait)
    async with driving(backend) as far:
        await far.login()
        await far.send(b"RETR 1\r\nDELE 1\r\nSTAT\r\nQUI")
        await trio.testing.wait_all_tasks_blocked()
        far.driver.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert not far.done.is_set()
        go.set()
        assert await far.rest() == b"+OK 5 octets\r\none\r\n.\r\n+OK message marked for deletion\r\n+OK 1 5\r\n"
    assert contents(backend.inner) == [b"one\n", b"two\n"]
    assert reason(caplog) == "shutdown"


async def test_drain_finishes_a_reply_being_written(autojump_clock: trio.testing.MockClock) -> None:
    """J1: a body is never cut by a graceful stop."""
    content = (b"x" * 1022 + b"\r\n") * 300
    async with driving(mail_for_fred(content), pair=trio.testing.lockstep_stream_pair) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        await far.stream.receive_some(1)
        far.driver.drain()
        heard = await far.rest()
    assert heard.endswith(b"\r\n.\r\n")
    assert len(heard) == len(b"OK 307200 octets\r\n") + 307_200 + len(b".\r\n")


async def test_drain_lets_quit_commit(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """J1, E2: a QUIT that was received is carried out and answered."""
    go = trio.Event()

    async def wait(where: str) -> None:
        if where == "commit":
            await go.wait()

    backend = BusyBackend(mail_for_fred(b"one\n", b"two\n"), wait)
    async with driving(backend) as far:
        await far.login()
        await far.send(b"DELE 2\r\nQUIT\r\n")
        await trio.testing.wait_all_tasks_blocked()
        far.driver.drain()
        await trio.testing.wait_all_tasks_blocked()
        go.set()
        assert await far.rest() == b"+OK message marked for deletion\r\n+OK goodbye\r\n"
    assert contents(backend.inner) == [b"one\n"]
    assert reason(caplog) == "quit"


@pytest.mark.parametrize("before", [0, 60, 61, 62, 63, 64])
async def test_commit_survives_a_hard_cancel(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    """P1, E2, E8: a commit under way finishes, and its reply leaves, however many commands came before in a row."""
    go = trio.Event()

    async def wait(where: str) -> None:
        if where == "commit":
            await go.wait()

    backend = BusyBackend(mail_for_fred(b"one\n", b"two\n"), wait)
    async with driving(backend) as far:
        await far.line()
        await far.send(LOGIN + b"DELE 1\r\n" + b"NOOP\r\n" * before + b"QUIT\r\n")
        await trio.testing.wait_all_tasks_blocked()
        far.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not far.done.is_set()
        go.set()
        assert (await far.rest()).endswith(b"+OK goodbye\r\n")
    assert contents(backend.inner) == [b"two\n"]
    assert reason(caplog) == "quit"
    assert backend.counts.releases == backend.counts.disconnects == 1


async def test_farewell_to_a_reader_that_stopped(autojump_clock: trio.testing.MockClock) -> None:
    """J1: the last reply of a cancelled connection is given five seconds, not for ever."""
    backend = mail_for_fred(b"one\n")
    go = trio.Event()

    async def wait(where: str) -> None:
        if where == "commit":
            await go.wait()

    busy = BusyBackend(backend, wait)
    async with driving(busy, pair=trio.testing.lockstep_stream_pair) as far:
        await far.login()
        await far.send(b"DELE 1\r\nQUIT\r\n")
        await trio.testing.wait_all_tasks_blocked()
        far.scope.cancel()
        go.set()
        await far.done.wait()
        assert trio.current_time() == pytest.approx(5)
    assert contents(backend) == []


async def test_hard_cancel(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """E1, P1: cancelled while idle, a session deletes nothing and gives everything back."""
    backend = BusyBackend(mail_for_fred(b"one\n"))
    async with driving(backend) as far:
        await far.login()
        await far.ask(b"DELE 1")
        far.scope.cancel()
        assert await far.rest() == b""
    assert contents(backend.inner) == [b"one\n"]
    assert backend.counts.releases == 1
    assert backend.counts.reasons == ["cut off"]
    assert reason(caplog) == "'cut off'"


# --- a backend that misbehaves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "heard"),
    [
        ("connect", INTERNAL),
        ("authenticate", b"+OK POP3 server ready\r\n+OK send PASS\r\n" + INTERNAL),
        ("open", b"+OK POP3 server ready\r\n+OK send PASS\r\n" + INTERNAL),
        ("retrieve", INTERNAL + b"+OK goodbye\r\n"),
        ("read", INTERNAL + b"+OK goodbye\r\n"),
        ("commit", b"-ERR [SYS/TEMP] deleted messages may not have been removed\r\n"),
        ("release", b".\r\n+OK goodbye\r\n"),
        ("disconnect", b".\r\n+OK goodbye\r\n"),
    ],
)
def test_backend_failures_stay_inside(caplog: pytest.LogCaptureFixture, where: str, heard: bytes) -> None:
    """I5, A13, H8: the failure is a reply and a traceback in the log; its words do not reach the client."""
    backend = BusyBackend(mail_for_fred(b"one\n"), fail_in(where))
    tail = b"" if where in ("connect", "authenticate", "open") else b"RETR 1\r\nQUIT\r\n"
    script = Script(LOGIN + tail)
    said = run_script(script, backend)
    assert said.endswith(heard)
    assert b"inner words" not in said
    assert "RuntimeError: the inner words" in caplog.text
    assert PASSWORD not in caplog.text
    assert len(summaries(caplog)) == 1
    assert backend.counts.opens == backend.counts.releases
    assert backend.counts.disconnects == 1
    assert contents(backend.inner) == [b"one\n"]
    assert not backend.inner.locked("fred")


def test_connect_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """A-44: the text of a typed failure is the greeting; nothing else is said."""

    class Refusing(BusyBackend):
        async def connect(self, client: ClientInfo) -> None:
            await super().connect(client)
            raise TemporaryFailure("come back later")

    backend = Refusing(mail_for_fred())
    assert run_script(Script(LOGIN), backend) == b"-ERR [SYS/TEMP] come back later\r\n"
    assert reason(caplog) == "refused"
    assert backend.counts.reasons == ["refused"]


def test_our_own_bug_ends_one_session(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: even an error nobody thought of is logged, not raised, and gives everything back."""
    backend = BusyBackend(mail_for_fred())
    monkeypatch.setattr("trio_pop3.sansio.Pop3Connection.next_event", lambda self: 1 / 0)
    run_script(Script(LOGIN), backend)
    assert "this is a bug in trio_pop3" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert reason(caplog) == "'internal error'"
    assert backend.counts.disconnects == 1


@pytest.mark.parametrize("verb", [b"RETR 1", b"TOP 1 999999"])
@pytest.mark.parametrize("failure", [OSError("disk gone"), None])
def test_body_that_breaks_off(caplog: pytest.LogCaptureFixture, verb: bytes, failure: Exception | None) -> None:
    """A10: no terminator and no `-ERR`; the source is closed; no later command is answered."""
    last: Any = b"" if failure else "not bytes"
    pieces = Pieces(b"a line\r\n" * 20_000, *([] if failure else [last]), failure=failure)
    said = run_script(Script(LOGIN + verb + b"\r\nNOOP\r\n"), OneMessage(160_000, lambda: pieces))
    body = said.partition(b"a line\r\n")[1:]
    assert b"".join(body) == b"a line\r\n" * 20_000
    assert pieces.closed == 1
    assert reason(caplog) == "'message broke off'"
    assert " retr=0/0 top=0 " in summaries(caplog)[0]
    assert "reading a message failed in the backend" in caplog.text


@pytest.mark.parametrize("octets", [159_999, 160_001, 8, 320_000])
@pytest.mark.parametrize("whole", [False, True])
def test_size_mismatch_has_no_terminator(caplog: pytest.LogCaptureFixture, octets: int, whole: bool) -> None:
    """P2, B1, A10: a message of another size than announced is cut, or refused if that can be known in time."""
    content = b"a line\r\n" * 20_000
    pieces = Pieces(content)
    said = run_script(Script(LOGIN + b"RETR 1\r\nNOOP\r\n"), OneMessage(octets, lambda: content if whole else pieces))
    if whole:
        assert b"-ERR [SYS/PERM] the mail store returned a message of another size\r\n+OK nothing done\r\n" in said
        assert reason(caplog) == "'client closed'"
    else:
        assert b"\r\n.\r\n" not in said
        assert b"nothing done" not in said
        assert f"announced {octets} octets, sent 160000" in caplog.text
        assert reason(caplog) == "'message broke off'"
        assert pieces.closed == 1


def test_size_mismatch_of_a_large_message() -> None:
    """P2, A10: what is too large to measure beforehand is checked at its end."""
    said = run_script(Script(LOGIN + b"RETR 1\r\n"), OneMessage(MIB + 2, lambda: b"x" * MIB + b"\r\n\r\n"))
    assert len(said) > MIB
    assert b"\r\n.\r\n" not in said


def test_source_is_closed_when_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    pieces = Pieces(b"a line\r\n", b"another\r\n")
    said = run_script(Script(LOGIN + b"RETR 1\r\nQUIT\r\n"), OneMessage(17, lambda: pieces))
    assert said.endswith(b"+OK 17 octets\r\na line\r\nanother\r\n.\r\n+OK goodbye\r\n")
    assert pieces.closed == 1
    assert " retr=1/17 " in summaries(caplog)[0]


# --- the summary line ------------------------------------------------------------------------------------------------


async def test_summary(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """J5: one line with these fields."""
    async with driving(mail_for_fred(b"one\n", b"two\n", b"three\n")) as far:
        await far.line()
        await trio.sleep(1.5)
        await far.send(b"JUNK\r\nUSER fred\r\nPASS wrong\r\n" + LOGIN)
        await far.send(b"RETR 1\r\nRETR 2\r\nTOP 3 0\r\nDELE 1\r\nDELE 2\r\nQUIT\r\n")
        await far.rest()
    (line,) = summaries(caplog)
    assert line == (
        "session a1: user=fred peer=127.0.0.1:4711 tls=no messages=3/17 retr=2/10 top=1 removed=2 remaining=0"
        " bad=1 failed=1 seconds=1.500 reason=quit"
    )


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        (ClientInfo("7", "2001:db8::1", 9, "2001:db8::2", 110, tls=True), " user=- peer=[2001:db8::1]:9 tls=yes "),
        (ClientInfo("7", loopback=True), " user=- peer=unix tls=no "),
    ],
)
def test_summary_of_other_peers(caplog: pytest.LogCaptureFixture, client: ClientInfo, shown: str) -> None:
    """J5: who it was, also without a login."""
    run_script(Script(), MemoryBackend(), client=client)
    assert shown in summaries(caplog)[0]


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """H8, P5: neither a good nor a wrong password, nor a line that was not understood, nor a quoted exception."""

    class Quoting(MemoryBackend):
        async def authenticate(self, credentials: Any, client: ClientInfo) -> str:
            raise ValueError(f"cannot digest {credentials.password}")

    for backend in (mail_for_fred(), Quoting()):
        run_script(Script(b"USER fred\r\nPASS t0p-Geheim\r\nPSAS t0p-Geheim\r\n" + LOGIN + b"QUIT\r\n"), backend)
    assert "cannot digest ********" in caplog.text
    assert "t0p-Geheim" not in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("name", ["fr ed", "a=b", "x\x1b[31m", "fred' reason='quit", "caf\xe9", "\u2028", '"'])
def test_hostile_user_names_are_escaped(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """J5, A11: a name that is no plain word is quoted, so that it cannot pass for another field or another line."""

    class Anybody(OneMessage):
        async def authenticate(self, credentials: Any, client: ClientInfo) -> str:
            return name

    run_script(Script(LOGIN), Anybody(2, bytes))
    (line,) = summaries(caplog)
    assert f" user={name!a} peer=" in line
    assert line.isascii()
    assert line.isprintable()


@given(st.text())
def test_loggable_is_one_word_or_quoted(text: str) -> None:
    """J5: plain words stay; anything else is a literal that reads back as what it was."""
    shown = loggable(text)
    assert shown.isascii()
    assert shown.isprintable()
    if shown == text:
        assert re.fullmatch(r"[!-~]+", text)
        assert not set(text) & set("\"'=")
    else:
        assert shown[0] in "\"'"
        assert shown[0] == shown[-1]


# --- the client goes away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [b"", b"QUIT", b"QUIT\r"])
def test_end_without_quit(caplog: pytest.LogCaptureFixture, tail: bytes) -> None:
    """A-33, E1: a QUIT without its line end is none."""
    backend = mail_for_fred(b"one\n")
    said = run_script(Script(LOGIN + b"DELE 1\r\n" + tail), backend)
    assert said.endswith(b"+OK message marked for deletion\r\n")
    assert contents(backend) == [b"one\n"]
    assert reason(caplog) == "'client closed'"


def test_client_gone_before_the_reply_to_quit(caplog: pytest.LogCaptureFixture) -> None:
    """A-33: a complete QUIT is carried out even if nobody hears the reply."""
    backend = mail_for_fred(b"one\n", b"two\n")
    script = Script(LOGIN + b"DELE 1\r\n", b"QUIT\r\n", broken_at=5)
    run_script(script, backend)
    assert b"goodbye" not in script.heard
    assert contents(backend) == [b"two\n"]
    assert reason(caplog) == "'connection lost'"


async def test_half_close(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A-34: complete lines that came before are executed and answered, then it is the end."""
    async with driving(mail_for_fred(b"one\n")) as far:
        await far.line()
        await far.send(LOGIN + b"STAT\r\nRETR 1\r\nNOO")
        assert isinstance(far.stream, trio.StapledStream)
        await far.stream.send_eof()
        assert (await far.rest()).endswith(b"+OK 1 5\r\n+OK 5 octets\r\none\r\n.\r\n")
    assert reason(caplog) == "'client closed'"


def thousands() -> MemoryBackend:
    return mail_for_fred(*[b"x\r\n"] * 100_000)


@pytest.mark.parametrize("command", [b"LIST\r\n", b"UIDL\r\n"])
def test_reset_inside_a_huge_listing(caplog: pytest.LogCaptureFixture, command: bytes) -> None:
    """I6: a client that leaves in the middle of a listing of 100,000 messages."""
    backend = thousands()
    script = Script(LOGIN, command, broken_at=6)
    said = run_script(script, backend)
    assert len(said) > 65536
    assert not said.endswith(b"\r\n.\r\n")
    assert reason(caplog) == "'connection lost'"
    assert len(contents(backend)) == 100_000
    assert not backend.locked("fred")


def test_reset_inside_a_message_of_a_huge_maildrop(caplog: pytest.LogCaptureFixture) -> None:
    """I6, E9: the same in a message; nothing is removed, the source is closed."""
    pieces = Pieces(*[b"x" * 65534 + b"\r\n"] * 50)
    maildrop = OneMessage(50 * 65536, lambda: pieces)
    maildrop.messages += [type(maildrop.messages[0])(f"u{n}", 3) for n in range(100_000)]
    run_script(Script(LOGIN + b"RETR 1\r\n", broken_at=6), maildrop)
    assert pieces.closed == 1
    assert pieces.taken < 10
    assert reason(caplog) == "'connection lost'"


@pytest.mark.parametrize("broken_at", range(1, 6))
def test_one_summary_wherever_it_breaks(caplog: pytest.LogCaptureFixture, broken_at: int) -> None:
    """J5, I4: one summary, one disconnect."""
    backend = BusyBackend(mail_for_fred(b"one\n"))
    run_script(Script(LOGIN, b"QUIT\r\n", broken_at=broken_at), backend)
    assert len(summaries(caplog)) == 1
    assert backend.counts.disconnects == 1
    assert backend.counts.opens == backend.counts.releases


def test_stream_closed_under_the_driver(caplog: pytest.LogCaptureFixture) -> None:
    """I5: whoever owns the stream may close it; the session ends like any that was lost."""

    class Closed(Script):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise trio.ClosedResourceError

    run_script(Closed(), MemoryBackend())
    assert reason(caplog) == "'connection lost'"


async def test_close_waits_for_a_client_that_sent_too_much(autojump_clock: trio.testing.MockClock) -> None:
    """E8: with unread input a close would be a reset that overtakes the last reply; so it is read, for five seconds."""
    async with driving(mail_for_fred()) as far:
        await far.line()
        await far.send(b"QUIT\r\n" + b"NOOP\r\n" * 10)
        assert await far.rest() == b"+OK goodbye\r\n"
        assert not far.done.is_set()
        await far.done.wait()
        assert trio.current_time() == pytest.approx(5)


async def test_close_does_not_read_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    """E8, P4: nor for more than 256 KiB."""
    async with driving(mail_for_fred()) as far:
        await far.line()
        await far.send(b"QUIT\r\n" + b"x" * MIB)
        await far.done.wait()
        assert trio.current_time() == 0


def test_close_of_a_connection_that_breaks_meanwhile() -> None:
    """E8: greeting, reading, reply; lost while the rest is read."""
    script = Script(b"QUIT\r\nNOOP\r\n", broken_at=4)
    assert run_script(script, MemoryBackend()).endswith(b"+OK goodbye\r\n")
    assert script.operations == 4


# --- policy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "options", "allowed"),
    [
        (LOCAL, DEFAULTS, True),
        (REMOTE, DEFAULTS, False),
        (REMOTE, Options(insecure_auth=True), True),
        (ClientInfo("7", "192.0.2.7", 1, "192.0.2.1", 995, tls=True), DEFAULTS, True),
    ],
)
def test_cleartext_policy(client: ClientInfo, options: Options, allowed: bool) -> None:
    """G7, P5: passwords in clear are for this machine, TLS, and those who asked for it by name."""
    said = run_script(Script(b"CAPA\r\n" + LOGIN + b"QUIT\r\n"), mail_for_fred(), options, client)
    assert (b"\r\nUSER\r\n" in said) is allowed
    assert (b"+OK maildrop" in said) is allowed
    assert (b"-ERR login without encryption is not allowed here" in said) is not allowed


# --- fairness and throughput -----------------------------------------------------------------------------------------


async def test_ten_thousand_commands_do_not_starve_others(autojump_clock: trio.testing.MockClock) -> None:
    """P4: 10,000 NOOPs in one segment; a second client is answered long before they are done."""
    flood = 10_000
    async with driving(mail_for_fred()) as first, driving(mail_for_fred()) as second:
        await first.login()
        await second.login()
        answered = bytearray()
        async with trio.open_nursery() as nursery:

            async def count() -> None:
                while answered.count(b"\n") < flood:
                    answered.extend(await first.stream.receive_some(65536))

            nursery.start_soon(count)
            await first.send(b"NOOP\r\n" * flood)
            assert (await second.ask(b"NOOP")).startswith(b"+OK")
            assert answered.count(b"\n") < flood
        assert answered == b"+OK nothing done\r\n" * flood


def steps_of(script: Script, backend: Any) -> int:
    """How often the task of a connection let others run."""
    counter = StepCounter()

    async def main() -> None:
        driver = Driver(script, backend, LOCAL, DEFAULTS)
        counter.task = trio.lowlevel.current_task()
        await driver.run()

    trio.run(main, instruments=[counter], clock=trio.testing.MockClock(autojump_threshold=0))
    return counter.steps


def test_commands_in_a_row_checkpoint() -> None:
    """P4: however many commands one read brings, no more than 64 are answered between two checkpoints."""
    script = Script(LOGIN, *[b"NOOP\r\n" * 2700] * 4)
    assert steps_of(script, mail_for_fred()) >= 4 * 2700 // 64
    assert script.heard.count(b"nothing done") == 4 * 2700


@pytest.mark.parametrize("command", [b"LIST\r\n", b"UIDL\r\n"])
def test_huge_listings_checkpoint(command: bytes) -> None:
    """P4, I6: 100,000 lines are made a thousand at a time, and others run in between."""
    backend = thousands()
    alone = steps_of(Script(LOGIN), backend)
    script = Script(LOGIN, command)
    assert steps_of(script, backend) - alone >= 100
    assert script.heard.count(b"\r\n") == 4 + 100_000 + 1


def test_replies_to_pipelined_commands_leave_together() -> None:
    """PROTOCOL 2.6, A14: a segment of commands is answered, in order, by one write."""
    script = Script(LOGIN + b"STAT\r\nLIST\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
    run_script(script, mail_for_fred(b"one\n"))
    assert script.writes == 2  # the greeting, and everything else
    assert [line[:3] for line in bytes(script.heard).split(b"\r\n")] == [
        *[b"+OK"] * 5, b"1 5", b".", b"+OK", b"one", b".", b"+OK", b"+OK", b"",
    ]  # fmt: skip


def test_replies_gathered_have_a_bound() -> None:
    """I3, P4: a client that pipelines large messages makes us hold no more than one."""
    content = b"x" * 1022 + b"\r\n"
    script = Script(LOGIN + b"RETR 1\r\n" * 100)
    run_script(script, mail_for_fred(content * 64))
    assert script.writes >= 100


DIALOGUE = (
    b"CAPA\r\nSTAT\r\n" + LOGIN + b"STAT\r\nLIST\r\nuidl 2\r\nRETR 1\r\nTOP 2 1\r\nDELE 1\r\nJUNK\r\nLIST 1\r\n"
    b"RSET\r\nDELE 2\r\n\r\nNOOP\r\nQUIT\r\nNOOP\r\n"
)


def dialogue(*segments: bytes) -> tuple[bytes, list[bytes]]:
    backend = mail_for_fred(b"Subject: 1\n\n.dot\n..\nend", b"Subject: 2\r\n\r\na\r\nb\r\n", b"")
    return run_script(Script(*segments), backend), contents(backend)


@given(st.lists(st.integers(0, len(DIALOGUE))))
def test_chunking_changes_nothing(cuts: list[int]) -> None:
    """D5, P6: the same dialogue in any segments gives the same octets and the same maildrop."""
    bounds = [0, *sorted(set(cuts) - {0, len(DIALOGUE)}), len(DIALOGUE)]
    pieces = [DIALOGUE[a:b] for a, b in itertools.pairwise(bounds)]
    assert dialogue(*pieces) == dialogue(DIALOGUE)


def test_one_octet_at_a_time() -> None:
    """D5: the dialogue means what it says, and one octet per segment changes nothing."""
    said, left = dialogue(*(bytes([octet]) for octet in DIALOGUE))
    assert said.endswith(b"+OK goodbye\r\n")
    assert left == [b"Subject: 1\n\n.dot\n..\nend", b""]
    assert (said, left) == dialogue(DIALOGUE)


async def test_two_sessions_share_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A-42, I10: the second login of one user is refused, and leaves the first one's lock alone."""
    backend = mail_for_fred(b"one\n")
    async with driving(backend) as first:
        await first.login()
        async with driving(backend) as second:
            await second.line()
            await second.send(LOGIN)
            await second.line()
            assert (await second.line()).startswith(b"-ERR [IN-USE]")
        assert backend.locked("fred")
        assert (await first.ask(b"STAT")) == b"+OK 1 5\r\n"
    assert not backend.locked("fred")

