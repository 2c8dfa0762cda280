"""One connection in virtual time: deadlines, budgets, commit, drain."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.backends.memory import MemoryBackend, MemoryMaildrop
from trio_pop3.login import OpenGate
from trio_pop3.sansio import Profile
from trio_pop3.server.driver import Driver
from trio_pop3.server.options import DEFAULTS, Options, make_options

from .driven import MIB, TOO_SLOW, reason, summaries
from .helpers import (
    LOCAL,
    LOGIN,
    PASSWORD,
    USER,
    BusyBackend,
    OneMessage,
    Pieces,
    Script,
    contents,
    driving,
    hang_in,
    mail_for_fred,
)


class Noted(MemoryBackend):
    """Knows whether its maildrop is still there."""

    there: weakref.ref[MemoryMaildrop]

    async def open(self, user: str, client: ClientInfo) -> MemoryMaildrop:
        maildrop = await super().open(user, client)
        self.there = weakref.ref(maildrop)
        return maildrop


@pytest.mark.parametrize("end", [b"QUIT\r\n", b"RETR 1\r\n", b"XYZZY\r\n" * 20], ids=["quit", "cut off", "bad"])
async def test_a_connection_that_is_over_leaves_nothing_for_the_garbage_collector(end: bytes) -> None:
    """P4: or one dead session after the other stays, with all its messages, until it stops everybody to collect them.

    Not even the driver, which has buffers.
    """
    backend = Noted()
    backend.add_user(USER, PASSWORD)
    backend.deliver(USER, b"one\n")
    gc.disable()
    try:
        script = Script(LOGIN, b"LIST\r\nTOP 1 0\r\nRETR 1\r\n", end)
        driver = Driver(script, backend, LOCAL, DEFAULTS, gate=OpenGate())
        running = weakref.ref(driver)
        await driver.run()
        assert backend.there() is None
        del driver
        assert running() is None
    finally:
        gc.enable()


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
    async with driving(mail_for_fred(), make_options(profile=Profile.STRICT)) as far:
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
    async with driving(mail_for_fred(), make_options(idle_timeout=math.inf)) as far:
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
            piece = await far.stream.receive_some(65536)
            assert piece
            heard += piece
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
        assert await far.multiline() == b"+OK 64 octets follow\r\n" + message + b".\r\n"
        assert trio.current_time() == pytest.approx(3 * 290)


@pytest.mark.parametrize("where", ["authenticate", "open", "retrieve", "read"])
async def test_store_too_slow(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """PROTOCOL 2.7, P4: `-ERR [SYS/TEMP]` in the place of the reply, then the end; earlier replies are not lost."""
    backend = BusyBackend(mail_for_fred(b"one\n"), hang_in(where))
    options = make_options(command_timeout=20)
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


async def test_store_too_slow_inside_a_body(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A10: after `+OK` neither `-ERR` nor a terminator; what the store opened is closed."""
    pieces = Pieces(b"first line\r\n" * 10_000, hang=True)
    async with driving(OneMessage(240_000, lambda: pieces), make_options(command_timeout=20)) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        heard = await far.rest()
    assert heard.startswith(b"+OK 240000 octets follow\r\nfirst line\r\n")
    assert b"-ERR" not in heard
    assert b"\r\n.\r\n" not in heard
    assert pieces.closed == 1
    assert reason(caplog) == "'mail store too slow'"


async def test_connect_hook_too_slow(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A-44: the refusal is the greeting; disconnect is called all the same."""
    backend = BusyBackend(mail_for_fred(), hang_in("connect"))
    async with driving(backend, make_options(command_timeout=20)) as far:
        assert await far.rest() == TOO_SLOW
        assert trio.current_time() == pytest.approx(20, abs=1)
    assert backend.counts.disconnects == 1
    assert reason(caplog) == "'mail store too slow'"


async def test_reader_that_stops(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """I3: the write deadline fires, and no more than two pieces of the message are ever in memory."""
    pieces = Pieces(*[b"x" * 65534 + b"\r\n"] * 100)
    maildrop = OneMessage(6_553_600, lambda: pieces)
    async with driving(maildrop, make_options(write_timeout=77), pair=trio.testing.lockstep_stream_pair) as far:
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
            assert 0 < len(piece) <= 65536
            heard += piece
        assert len(heard) == len(b"+OK 1048576 octets follow\r\n") + MIB + len(b".\r\n")


# --- commit ----------------------------------------------------------------------------------------------------------


async def test_commit_that_hangs(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """E2, P1: `commit_timeout` ends it, the client hears `-ERR`, the lock is free."""
    backend = BusyBackend(mail_for_fred(b"one\n"), hang_in("commit"))
    async with driving(backend, make_options(commit_timeout=33)) as far:
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
    async with driving(backend, make_options(command_timeout=10, commit_timeout=100)) as far:
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
    async with driving(backend, make_options(commit_timeout=33)) as far:
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


@pytest.mark.parametrize("options", [make_options(profile=Profile.STRICT), make_options(max_bad_commands=None)])
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
    async with driving(mail_for_fred(), make_options(max_auth_failures=None)) as far:
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
        assert await far.rest() == b"+OK 5 octets follow\r\none\r\n.\r\n+OK message marked for deletion\r\n+OK 1 5\r\n"
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
    assert len(heard) == len(b"OK 307200 octets follow\r\n") + 307_200 + len(b".\r\n")


async def test_drain_lets_quit_commit(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
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
