"""Each fault as a raw socket sees it, octet for octet, and as clients do."""

from __future__ import annotations

import poplib
import socket
import ssl
import subprocess
from dataclasses import dataclass, replace

import pytest
import trio

import trio_pop3
from trio_pop3.client import ReplyError
from trio_pop3.sansio import RemoteProtocolError
from trio_pop3.testing import (
    FAULT_SCRIPTS,
    GREETING,
    Asked,
    BareLf,
    BrokenTls,
    Capabilities,
    Delay,
    DoubledTerminator,
    DropAt,
    ExtraLine,
    Fault,
    LongLine,
    LostDeletion,
    NoReply,
    NoTerminator,
    Plan,
    Pop3TestServer,
    Refuse,
    Say,
    Slow,
    StallAt,
    Uids,
    Unstuffed,
    WrongSize,
    open_pop3_server,
)

from . import raw

# Stored so, listed with 28 octets, sent with a dot more.
MAIL = b"Subject: Hello\n\n.\n.dot\nx\n"
OCTETS = 30
WIRE = b"Subject: Hello\r\n\r\n..\r\n..dot\r\nx\r\n"
STATUS = b"+OK 30 octets follow\r\n"
DONE = b"+OK nothing done\r\n"


def said_to(server: Pop3TestServer, *lines: bytes) -> bytes:
    """What is said to these after the login, and to the QUIT behind them; without the greeting and the login."""
    heard = raw.hear(server, raw.LOGIN + b"".join(line + b"\r\n" for line in lines) + b"QUIT\r\n")
    before = raw.GREETING + raw.LOGGED_IN % OCTETS
    assert heard.startswith(before)
    return heard.removeprefix(before)


@pytest.fixture
def server(server: Pop3TestServer) -> Pop3TestServer:
    server.deliver("alice", MAIL)
    return server


RETR = STATUS + WIRE
CASES: dict[str, tuple[Fault, list[bytes], bytes]] = {
    "say": (Say("NOOP", b"HTTP/1.0 400\n"), [b"NOOP", b"STAT"], b"HTTP/1.0 400\n+OK 1 30\r\n" + raw.GOODBYE),
    "refuse": (Refuse("STAT", "SYS/TEMP", "gone"), [b"STAT"], b"-ERR [SYS/TEMP] gone\r\n" + raw.GOODBYE),
    "refuse, close": (Refuse("STAT", then_close=True), [b"STAT"], b"-ERR not now\r\n"),
    "no reply": (NoReply("NOOP"), [b"NOOP", b"STAT"], b"+OK 1 30\r\n" + raw.GOODBYE),
    "no reply to quit": (NoReply("QUIT"), [b"NOOP"], DONE),
    "extra line": (ExtraLine("NOOP"), [b"NOOP"], DONE + b"+OK\r\n" + raw.GOODBYE),
    "long line": (LongLine(40, command="NOOP"), [b"NOOP"], DONE[:-2] + b" " + b"x" * 21 + b"\r\n" + raw.GOODBYE),
    "bare LF": (BareLf("RETR"), [b"RETR 1"], RETR.replace(b"\r", b"") + b".\n" + raw.GOODBYE),
    "wrong sum": (WrongSize(), [b"STAT"], b"+OK 1 37\r\n" + raw.GOODBYE),
    "wrong size": (WrongSize(-7), [b"LIST 1"], b"+OK 1 23\r\n" + raw.GOODBYE),
    "wrong sizes": (WrongSize(1 << 32), [b"LIST"], b"+OK 1 message follows\r\n1 4294967326\r\n.\r\n" + raw.GOODBYE),
    "wrong RETR": (WrongSize(-99), [b"RETR 1"], b"+OK 0 octets follow\r\n" + WIRE + b".\r\n" + raw.GOODBYE),
    "uid": (Uids("{connection}-{number}-{uid}"), [b"UIDL 1"], b"+OK 1 1-1-00000001\r\n" + raw.GOODBYE),
    "blank uids": (Uids(""), [b"UIDL"], b"+OK 1 message follows\r\n1 \r\n.\r\n" + raw.GOODBYE),
    "long uids": (Uids("{number:0200}"), [b"UIDL 1"], b"+OK 1 " + b"1".zfill(200) + b"\r\n" + raw.GOODBYE),
    "unstuffed": (
        Unstuffed(),
        [b"RETR 1"],
        STATUS + b"Subject: Hello\r\n\r\n.\r\n.dot\r\nx\r\n.\r\n" + raw.GOODBYE,
    ),
    "unstuffed top": (
        Unstuffed(),
        [b"TOP 1 1"],
        b"+OK top of message follows\r\nSubject: Hello\r\n\r\n.\r\n.\r\n" + raw.GOODBYE,
    ),
    "no terminator": (NoTerminator(), [b"RETR 1"], RETR + raw.GOODBYE),
    "no terminator, close": (NoTerminator("LIST", then_close=True), [b"LIST"], b"+OK 1 message follows\r\n1 30\r\n"),
    "two terminators": (DoubledTerminator(), [b"RETR 1"], RETR + b".\r\n.\r\n" + raw.GOODBYE),
    "slow": (Slow(3, 0.0), [b"RETR 1"], RETR + b".\r\n" + raw.GOODBYE),
    "delay": (Delay("NOOP", 0.0), [b"NOOP"], DONE + raw.GOODBYE),
    "drop": (DropAt(25), [b"NOOP", b"RETR 1", b"NOOP"], DONE + RETR[:25]),
    "drop, no reply": (DropAt(0), [b"RETR 1"], b""),
    "drop, too far": (DropAt(1000), [b"RETR 1"], RETR + b".\r\n" + raw.GOODBYE),
    "stall": (StallAt(25), [b"RETR 1", b"NOOP"], RETR[:25]),
    "lost deletion": (LostDeletion(), [b"DELE 1"], b"+OK message marked for deletion\r\n" + raw.GOODBYE),
}


@pytest.mark.parametrize(("fault", "lines", "heard"), CASES.values(), ids=CASES)
def test_what_a_raw_socket_hears(server: Pop3TestServer, fault: Fault, lines: list[bytes], heard: bytes) -> None:
    with server.fault(fault) as struck:
        assert said_to(server, *lines) == heard
    # What has no command of its own has struck each of the four replies.
    assert struck.count == {DropAt(1000): 0, Slow(3, 0.0): 4}.get(fault, 1)
    if struck.count:
        assert f"# struck by {fault}\n" in str(server.transcript)
    # None of them deletes anything, and behind the block all is well again.
    assert len(server.maildrop("alice")) == 1
    assert said_to(server, b"RETR 1") == RETR + b".\r\n" + raw.GOODBYE


GREETINGS: dict[str, tuple[Fault, bytes, bytes]] = {
    "refused": (Refuse(GREETING, "SYS/TEMP", "full"), b"QUIT\r\n", b"-ERR [SYS/TEMP] full\r\n"),
    "garbage": (Say(GREETING, b"220 hello\r\n"), b"QUIT\r\n", b"220 hello\r\n" + raw.GOODBYE),
    "none": (NoReply(GREETING), b"QUIT\r\n", raw.GOODBYE),
    "late": (Delay(GREETING, 0.01), b"QUIT\r\n", raw.GREETING + raw.GOODBYE),
    "cut": (DropAt(5, command=GREETING), b"QUIT\r\n", b"+OK P"),
}


@pytest.mark.parametrize(("fault", "said", "heard"), GREETINGS.values(), ids=GREETINGS)
def test_greetings(server: Pop3TestServer, fault: Fault, said: bytes, heard: bytes) -> None:
    with server.fault(fault) as struck:
        assert raw.hear(server, said) == heard
    assert struck.count == 1


def test_no_command_means_every_command_and_not_the_greeting(server: Pop3TestServer) -> None:
    server.fault(BareLf())
    assert (
        raw.hear(server, b"NOOP\r\nQUIT\r\n") == raw.GREETING + b"-ERR command not valid in this state\n+OK goodbye\n"
    )


def test_capabilities(server: Pop3TestServer) -> None:
    client = poplib.POP3(server.host, server.port)
    usual = client.capa()
    with server.fault(Capabilities(without=("uidl", "SASL"), also=("EXPIRE 7", "X-ODD"))):
        changed = client.capa()
    client.quit()
    assert {"UIDL", "SASL"} <= set(usual)
    expected = {name: words for name, words in usual.items() if name not in ("UIDL", "SASL")}
    assert changed == {**expected, "EXPIRE": ["7"], "X-ODD": []}


def test_a_reset_is_one(server: Pop3TestServer) -> None:
    server.fault(DropAt(5, reset=True))
    with raw.connected(server) as connection:
        connection.sendall(raw.LOGIN + b"RETR 1\r\n")
        with pytest.raises(ConnectionResetError):
            raw.rest_of(connection)
    assert str(server.transcript).endswith("S> +OK 3\nS! closes\n")


def test_a_stalled_server_waits_for_the_client(server: Pop3TestServer) -> None:
    server.fault(StallAt(25))
    client = poplib.POP3(server.host, server.port, timeout=0.2)
    client.user("alice")
    client.pass_("secret")
    with pytest.raises(TimeoutError):
        client.retr(1)
    server.settle()
    assert server.open_connections == 1
    client.close()
    server.wait_closed()


# --- which replies are struck --------------------------------------------------------------------------------------


def test_times(server: Pop3TestServer) -> None:
    """In use, twice, and then it is not."""
    with server.fault(Refuse("PASS", "IN-USE", "in use", times=2)) as struck:
        client = poplib.POP3(server.host, server.port)
        for _ in range(2):
            client.user("alice")
            with pytest.raises(poplib.error_proto, match=r"-ERR \[IN-USE\] in use"):
                client.pass_("secret")
        client.user("alice")
        assert client.pass_("secret").startswith(b"+OK maildrop has 1")
        client.quit()
        assert struck.count == 2
    assert repr(struck) == "<2 strikes of Refuse(times=2, code='IN-USE', text='in use')>"


def test_number_picks_a_message(server: Pop3TestServer) -> None:
    server.deliver("alice", b"two\n")
    server.fault(WrongSize(100, number=2), Uids("odd", number=2), Refuse("DELE", number=2), DropAt(3, number=2))
    client = poplib.POP3(server.host, server.port)
    client.user("alice")
    client.pass_("secret")
    assert client.list()[1] == [b"1 30", b"2 105"]
    assert [str(client.list(number)) for number in (1, 2)] == ["b'+OK 1 30'", "b'+OK 2 105'"]
    assert client.stat() == (2, 135)
    assert client.uidl()[1] == [b"1 00000001", b"2 odd"]
    assert client.uidl(2) == b"+OK 2 odd"
    assert client.retr(1)[2] == OCTETS
    client.dele(1)
    with pytest.raises(poplib.error_proto):
        client.dele(2)
    with pytest.raises(poplib.error_proto):
        client.retr(2)
    client.close()


def test_faults_work_together_in_their_order(server: Pop3TestServer) -> None:
    server.faults = [WrongSize(), ExtraLine("STAT", b"+OK more\r\n"), BareLf("STAT"), Slow(1, 0.0)]
    assert said_to(server, b"STAT") == b"+OK 1 37\n+OK more\n" + raw.GOODBYE
    server.faults = ()
    assert said_to(server, b"STAT") == b"+OK 1 30\r\n" + raw.GOODBYE


def test_what_is_refused_is_not_done(server: Pop3TestServer) -> None:
    with server.fault(Refuse("DELE")):
        said_to(server, b"DELE 1")
    with server.fault(Say("DELE", b"+OK\r\n", done=False)):
        said_to(server, b"DELE 1")
    assert len(server.maildrop("alice")) == 1
    with server.fault(Say("DELE", b"-ERR\r\n")):
        assert said_to(server, b"DELE 1") == b"-ERR\r\n" + raw.GOODBYE
    assert server.maildrop("alice") == []


def test_quit_without_a_login_deletes_nothing_to_lose(server: Pop3TestServer) -> None:
    with server.fault(LostDeletion()) as struck:
        raw.hear(server, b"QUIT\r\n")
    assert struck.count == 0


def test_a_refused_step_of_an_exchange(server: Pop3TestServer) -> None:
    """ "SASL" are the lines behind AUTH; the next login has nothing to do with the one that was refused."""
    server.fault(Refuse("SASL", "SYS/TEMP", "later", times=1))
    plain = b"AGFsaWNlAHNlY3JldA=="
    heard = raw.hear(server, b"AUTH PLAIN\r\n" + plain + b"\r\nAUTH PLAIN\r\n" + plain + b"\r\nQUIT\r\n")
    welcome = b"+OK maildrop has 1 message (30 octets)\r\n"
    assert heard == raw.GREETING + b"+ \r\n-ERR [SYS/TEMP] later\r\n+ \r\n" + welcome + raw.GOODBYE


# --- a fault of one's own ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shouting(Fault):
    """A fault as somebody else would write it."""

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        return replace(plan, octets=plan.octets.upper())


@dataclass(frozen=True)
class Wrong(Fault):
    """One with a mistake in it."""

    def apply(self, asked: Asked, plan: Plan) -> Plan:
        raise ZeroDivisionError(f"{asked.verb} {asked.number} {asked.user} {asked.connection}")


def test_a_fault_of_ones_own(server: Pop3TestServer) -> None:
    with server.fault(Shouting(command="NOOP")):
        assert said_to(server, b"NOOP") == b"+OK NOTHING DONE\r\n" + raw.GOODBYE


def test_a_mistake_in_a_fault_is_told_and_ends_its_connection_only(server: Pop3TestServer) -> None:
    with server.fault(Wrong(command="retr")):
        assert said_to(server, b"RETR 1") == b""
        assert said_to(server, b"STAT") == b"+OK 1 30\r\n" + raw.GOODBYE
        with pytest.raises(ExceptionGroup, match="the test server failed") as told:
            server.maildrop("alice")
    assert [str(each) for each in told.value.exceptions] == ["RETR 1 alice 1"]
    assert len(server.maildrop("alice")) == 1


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: DropAt(-1), "octets must be at least 0, not -1"),
        (lambda: Slow(0), "octets must be at least 1, not 0"),
        (lambda: Slow(1, float("nan")), "seconds must be at least 0, not nan"),
        (lambda: Refuse("PASS", times=0), "times must be at least 1, not 0"),
        (lambda: WrongSize(number=0), "number must be at least 1, not 0"),
    ],
)
def test_values_that_make_no_sense(make: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()  # type: ignore[operator]


def test_what_is_no_fault(server: Pop3TestServer) -> None:
    with pytest.raises(TypeError, match="a fault is made by a class"):
        server.fault(DropAt)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="in a tuple"):
        Capabilities(without="TOP")  # type: ignore[arg-type]
    assert server.faults == ()


# --- TLS -----------------------------------------------------------------------------------------------------------

REFUSALS = {"wrong name": "match", "expired": "expired", "untrusted": "verify failed"}


@pytest.mark.parametrize("stls", [False, True], ids=["implicit", "STLS"])
@pytest.mark.parametrize("kind", ["garbage", "close", *REFUSALS])
def test_handshakes_that_fail(server: Pop3TestServer, kind: str, stls: bool) -> None:
    """And the next one does not, as the fault strikes once."""

    def connect() -> poplib.POP3:
        if not stls:
            return poplib.POP3_SSL(server.host, server.tls_port, context=server.client_context)
        client = poplib.POP3(server.host, server.port)
        client.stls(server.client_context)
        return client

    with server.fault(BrokenTls(kind, times=1)) as struck:  # type: ignore[arg-type]
        with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
            connect()
        if kind in REFUSALS:
            assert isinstance(refused.value, ssl.SSLCertVerificationError)
            assert REFUSALS[kind] in str(refused.value)
        assert struck.count == 1
        client = connect()
        client.user("alice")
        client.pass_("secret")
        client.quit()


@pytest.mark.parametrize("stls", [False, True], ids=["implicit", "STLS"])
def test_what_a_raw_socket_hears_where_tls_should_be(server: Pop3TestServer, stls: bool) -> None:
    server.fault(BrokenTls("garbage"))
    with socket.create_connection((server.host, server.port if stls else server.tls_port), 10) as connection:
        if stls:
            connection.sendall(b"STLS\r\n")
            heard = b""
            while not heard.endswith(b"TLS\r\n"):
                heard += connection.recv(100)
            assert heard == raw.GREETING + b"+OK begin TLS\r\n"
        connection.sendall(b"\x16\x03\x01")
        connection.shutdown(socket.SHUT_WR)
        assert raw.rest_of(connection) == b"-ERR unknown command\r\n"


def test_silence_where_tls_should_be(server: Pop3TestServer) -> None:
    server.fault(BrokenTls("silent"))
    with pytest.raises(TimeoutError):
        poplib.POP3_SSL(server.host, server.tls_port, context=server.client_context, timeout=0.2)
    server.wait_closed()


def test_text_in_clear_behind_stls(server: Pop3TestServer) -> None:
    """RFC 2595 section 4: our client does not take it for a reply under TLS."""
    server.fault(ExtraLine("STLS", b"+OK injected\r\n"))

    async def client() -> None:
        connection = trio_pop3.connect(server.host, server.port, tls=server.client_context, stls=True)
        with trio.fail_after(10), pytest.raises(RemoteProtocolError, match="before TLS began"):
            async with connection:
                pass

    trio.run(client)


# --- clients -------------------------------------------------------------------------------------------------------


async def collect(server: Pop3TestServer, tls: bool) -> list[bytes]:
    """All mail, by our client, and then it is deleted."""
    where = {"port": server.port, "stls": True} if tls else {"port": server.port}
    async with trio_pop3.connect(server.host, **where, tls=server.client_context if tls else None) as client:  # type: ignore[arg-type]
        await client.capa()
        await client.login("alice", "secret")
        await client.stat()
        found = []
        uids = await client.uidl()
        for number in await client.list():
            found.append(await client.fetch(number))
            await client.dele(number)
        await client.quit()
        assert set(uids) == set(range(1, len(found) + 1))
        return found


# With these our client notices nothing: sizes are what a server says, and a uid is a word.
UNNOTICED = {
    "no CAPA",
    "sizes too small",
    "sizes too large",
    "uids all the same",
    "uids over-long",
    "uids new each time",
    "octets one by one",
}
# And with these it waits, as it has no timeouts of its own.
WAITING = {
    "greeting never comes",
    "message without terminator",
    "message stalls",
    "lines end in LF",
    "no reply to DELE",
}
OVER_TLS = {name for name in FAULT_SCRIPTS if "TLS" in name}


@pytest.mark.parametrize("name", FAULT_SCRIPTS)
def test_our_client_against_all_scripts(server: Pop3TestServer, name: str) -> None:
    """It takes no message for another one, and raises what it documents."""
    server.faults = FAULT_SCRIPTS[name]
    whole = MAIL.replace(b"\n", b"\r\n")
    seconds = 0.3 if name in WAITING else 20

    async def run() -> object:
        with trio.move_on_after(seconds):
            try:
                return await collect(server, name in OVER_TLS)
            except (ReplyError, RemoteProtocolError, trio.BrokenResourceError) as failure:
                return failure
        return "waiting"

    outcome = trio.run(run)
    if name in UNNOTICED or name == "deletions lost":
        assert outcome == [whole]
    elif name in WAITING:
        assert outcome == "waiting"
    else:
        assert isinstance(outcome, Exception), outcome
    gone = name in UNNOTICED or name == "no reply to QUIT"
    assert [each.content for each in server.maildrop("alice")] == ([] if gone else [MAIL])


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Refuse("PASS", "IN-USE", "in use"), "IN-USE"),
        (LongLine(3000, command="PASS"), "line too long"),
        (DropAt(30), "EOF"),
        (Say("STAT", b"+OK one two\r\n"), "invalid literal"),
    ],
    ids=str,
)
def test_poplib_notices(server: Pop3TestServer, fault: Fault, failure: str) -> None:
    server.fault(fault)
    client = poplib.POP3(server.host, server.port)
    client.user("alice")
    with pytest.raises((poplib.error_proto, ValueError), match=failure):  # noqa: PT012 - whichever of them it is
        client.pass_("secret")
        client.stat()
        client.retr(1)
    client.close()


def test_poplib_takes_half_a_message_for_a_whole_one(server: Pop3TestServer) -> None:
    """What dot-stuffing is for: with it forgotten, a line of one dot is the end."""
    server.fault(Unstuffed())
    client = poplib.POP3(server.host, server.port)
    client.user("alice")
    client.pass_("secret")
    assert client.retr(1)[1] == [b"Subject: Hello", b""]
    client.close()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Refuse(("PASS", "AUTH"), "AUTH", "no"), 67),
        (Refuse("RETR"), 8),
        (Refuse(GREETING), 8),
        (BrokenTls("expired"), 60),
        (BrokenTls("garbage"), 35),
        (StallAt(25), 28),
        (Slow(7, 0.0), 0),
    ],
    ids=str,
)
def test_curl_notices(server: Pop3TestServer, fault: Fault, code: int) -> None:
    tls = isinstance(fault, BrokenTls)
    place = f"pop3s://127.0.0.1:{server.tls_port}/1" if tls else f"pop3://127.0.0.1:{server.port}/1"
    server.fault(fault)
    limits = ["--max-time", "0.5" if code == 28 else "20"]
    command = ["curl", "-q", "-sS", "--noproxy", "*", *limits, "--cacert", server.ca_file, "-u", "alice:secret", place]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    if not code:
        assert done.stdout == MAIL.replace(b"\n", b"\r\n")


# --- time ----------------------------------------------------------------------------------------------------------


async def test_delays_take_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    """An hour of waiting takes none."""
    async with open_pop3_server(listen=False) as server:
        await server.deliver("alice", MAIL)
        server.fault(Delay(GREETING, 3600), Slow(1, 60, command="STAT"), StallAt(0))
        client = trio_pop3.Pop3Client(server.connect())
        await client.greeting()
        assert trio.current_time() == pytest.approx(3600)
        await client.login("alice", "secret")
        assert await client.stat() == (1, OCTETS)
        assert trio.current_time() == pytest.approx(3600 + 60 * len(b"OK 1 30\r\n"))
        with trio.move_on_after(5):
            await client.fetch(1)
        assert trio.current_time() == pytest.approx(3605 + 60 * len(b"OK 1 30\r\n"))
