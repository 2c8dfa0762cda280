"""One connection, from a backend that fails to a client that leaves; its log, its manners, its throughput."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import ClientInfo, TemporaryFailure
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.login import OpenGate
from trio_pop3.server.driver import Driver, loggable
from trio_pop3.server.options import DEFAULTS, Options, make_options

from .driven import INTERNAL, MIB, reason, run_script, summaries
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
    mail_for_fred,
)

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
    assert "this should not have happened" in caplog.text
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
    assert said.endswith(b"+OK 17 octets follow\r\na line\r\nanother\r\n.\r\n+OK goodbye\r\n")
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
        "session a1: user=fred peer=127.0.0.1:4711 tls=no cipher=- method=PASS messages=3/17 retr=2/10 top=1 removed=2"
        " remaining=0 bad=1 failed=1 seconds=1.500 reason=quit"
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
        assert (await far.rest()).endswith(b"+OK 1 5\r\n+OK 5 octets follow\r\none\r\n.\r\n")
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
        (REMOTE, make_options(insecure_auth=True), True),
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
        driver = Driver(script, backend, LOCAL, DEFAULTS, gate=OpenGate())
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


async def test_commands_behind_a_slow_login_wait_for_it(autojump_clock: trio.testing.MockClock) -> None:
    """D15, A6: neither refused nor run early; and a terminator leaves whole."""

    async def pause(where: str) -> None:
        await trio.sleep(7 if where in ("authenticate", "open") else 0)

    backend = BusyBackend(mail_for_fred(b"one\n"), pause)
    async with driving(backend) as far:
        await far.send(LOGIN + b"STAT\r\nRETR 1\r\nQUIT\r\n")
        said = await far.rest()
        assert said.splitlines()[3] == b"+OK 1 5"
        assert said.endswith(b"one\r\n.\r\n+OK goodbye\r\n")
        assert trio.current_time() >= 14


class Foreign(BaseException):
    """Like the cancellation of another event loop: no Exception, and not ours to act on."""


@pytest.mark.parametrize("where", ["connect", "authenticate", "open", "retrieve", "read", "commit"])
def test_what_is_no_exception_ends_one_connection(caplog: pytest.LogCaptureFixture, where: str) -> None:
    """I5, P4: everything is given back, and nothing reaches the accept loop."""

    async def pause(name: str) -> None:
        if name == where:
            raise Foreign

    backend = BusyBackend(mail_for_fred(b"one\n"), pause)
    run_script(Script(LOGIN + b"RETR 1\r\nQUIT\r\n"), backend)
    assert reason(caplog) == "'internal error'"
    assert "this should not have happened" in caplog.text
    assert not backend.inner.locked("fred")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_ends_it(kind: type[BaseException]) -> None:
    async def pause(name: str) -> None:
        if name == "open":
            raise kind

    with pytest.raises(kind):
        run_script(Script(LOGIN), BusyBackend(mail_for_fred(), pause))
