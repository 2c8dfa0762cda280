"""The test server for synchronous tests: what it holds, what it tells, and what it promises about time."""

from __future__ import annotations

import asyncio
import poplib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path

import pytest
import trio

import trio_pop3
from trio_pop3 import MemoryBackend, Profile
from trio_pop3.testing import Bench, DropAt, NoReply, Pop3TestServer, Refuse, Slow, Transcript

from . import raw


def logged_in(server: Pop3TestServer, user: str = "alice", password: str = "secret") -> poplib.POP3:
    client = poplib.POP3(server.host, server.port, timeout=10)
    client.user(user)
    client.pass_(password)
    return client


# --- mail ----------------------------------------------------------------------------------------------------------


def test_deliver_fetch_delete(server: Pop3TestServer) -> None:
    one = server.deliver("alice", b"Subject: One\r\n\r\n.\r\n")
    two = server.deliver("alice", "Subject: Zw\u00f6lf\n\n")
    message = EmailMessage()
    message["Subject"] = "Three"
    message.set_content("Text\n")
    three = server.deliver("alice", message)
    client = logged_in(server)
    assert client.uidl()[1] == [f"{n} {uid}".encode() for n, uid in enumerate((one, two, three), 1)]
    assert client.retr(1)[1] == [b"Subject: One", b"", b"."]
    assert client.retr(2)[1] == ["Subject: Zw\u00f6lf".encode(), b""]
    assert client.retr(3)[1][0] == b"Subject: Three"
    client.dele(2)
    client.quit()
    left = server.maildrop("alice")
    assert [each.uid for each in left] == [one, three]
    assert left[0].content == b"Subject: One\r\n\r\n.\r\n"
    assert left[0].octets == 19
    with pytest.raises(TypeError, match=r"bytes, str or email\.message\.Message, not list"):
        server.deliver("alice", [b"x"])  # type: ignore[arg-type]


def test_users(server: Pop3TestServer) -> None:
    assert server.users == {"alice": "secret"}
    server.add_user("bob", "hidden")
    server.deliver("bob", "x\n")
    client = logged_in(server, "bob", "hidden")
    assert client.stat() == (1, 3)
    client.quit()
    assert server.maildrop("alice") == []
    with pytest.raises(KeyError, match=r"no user 'carol', there are alice, bob; add_user\(\) makes more"):
        server.deliver("carol", "x\n")
    with pytest.raises(KeyError, match="no user 'carol'"):
        server.maildrop("carol")
    server.reset()
    assert server.users == {"alice": "secret"}


# --- races ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(20))
def test_a_client_that_quits_and_does_not_wait(server: Pop3TestServer, attempt: int) -> None:
    """What was sent before the call is done when it returns, the QUIT of a client that has gone with it."""
    server.deliver("alice", b"x" * 10_000 * attempt + b"\n")
    with raw.connected(server) as connection:
        connection.sendall(raw.LOGIN + b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
    assert server.maildrop("alice") == []
    assert server.asked[-1] == "QUIT"


@pytest.mark.parametrize("attempt", range(20))
def test_half_a_quit_is_none(server: Pop3TestServer, attempt: int) -> None:
    del attempt
    server.deliver("alice", b"x\n")
    with raw.connected(server) as connection:
        connection.sendall(raw.LOGIN + b"DELE 1\r\nQUIT")
    assert len(server.maildrop("alice")) == 1
    server.wait_closed()
    assert server.asked[-1] == "DELE 1"


def test_many_clients_at_once(server: Pop3TestServer) -> None:
    """From many threads, each with a user of its own."""

    def work(number: int) -> int:
        user = f"user{number}"
        server.add_user(user, "secret")
        for _ in range(5):
            server.deliver(user, f"Subject: {user}\n\n")
        client = logged_in(server, user)
        client.dele(1)
        client.quit()
        return len(server.maildrop(user))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [4] * 24
    server.wait_closed()
    assert server.connections == 24
    assert server.open_connections == 0


def test_a_client_that_never_stops_does_not_hold_up_a_look(server: Pop3TestServer) -> None:
    stop = threading.Event()

    def hammer() -> None:
        client = logged_in(server)
        while not stop.is_set():
            client.noop()
        client.quit()

    server.add_user("bob", "hidden")
    server.deliver("bob", "x\n")
    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        assert len(server.maildrop("bob")) == 1
    finally:
        stop.set()
        thread.join()


def test_waiting_for_the_end(server: Pop3TestServer) -> None:
    client = logged_in(server)
    with pytest.raises(TimeoutError, match=r"1 connections are open after 0\.01 s: did the client close them\?"):
        server.wait_closed(0.01)
    client.close()
    server.wait_closed()
    assert server.open_connections == 0


def test_a_server_that_goes_away(server: Pop3TestServer) -> None:
    server.deliver("alice", "x\n")
    client = logged_in(server)
    client.dele(1)
    server.close_connections()
    with pytest.raises((poplib.error_proto, ConnectionError)):
        client.quit()
    client.close()
    assert len(server.maildrop("alice")) == 1
    logged_in(server).quit()


def test_a_dropped_client_can_come_back_at_once(server: Pop3TestServer) -> None:
    """When it sees the end, its lock is gone."""
    server.deliver("alice", "x\n")
    for _ in range(20):
        with server.fault(DropAt(5)):
            client = logged_in(server)
            with pytest.raises(poplib.error_proto, match="EOF"):
                client.retr(1)
            client.close()
    logged_in(server).quit()


# --- from one test to the next -------------------------------------------------------------------------------------


def test_reset(server: Pop3TestServer) -> None:
    server.deliver("alice", "x\n")
    server.configure(apop=True)
    server.fault(NoReply("NOOP"))
    client = logged_in(server)
    backend, ports = server.backend, (server.port, server.tls_port)
    server.reset()
    assert client.sock.recv(1) == b""
    client.close()
    assert server.maildrop("alice") == []
    assert (server.transcripts, server.asked, server.faults, server.connections) == ([], [], (), 0)
    assert not server.rules.apop
    assert server.backend is not backend
    assert (server.port, server.tls_port) == ports
    with pytest.raises(RuntimeError, match="no client has connected"):
        _ = server.transcript
    assert server.report() == "No client has connected.\n"


def test_options_until_the_next_reset(server: Pop3TestServer) -> None:
    server.reset(apop=True, utf8=False)
    client = poplib.POP3(server.host, server.port)
    assert "UTF8" not in client.capa()
    assert client.apop("alice", "secret").startswith(b"+OK")
    client.quit()
    server.configure(profile=Profile.STRICT)
    assert (server.rules.apop, server.rules.strict) == (True, True)
    server.reset()
    client = poplib.POP3(server.host, server.port)
    assert "UTF8" in client.capa()
    with pytest.raises(poplib.error_proto, match="not supported"):
        client.apop("alice", "secret")
    client.quit()
    with pytest.raises(TypeError, match="no_such"):
        server.reset(no_such=True)
    server.reset()


def test_passwords_are_refused_in_clear_if_they_should_be(server: Pop3TestServer) -> None:
    server.configure(require_tls=True)
    client = poplib.POP3(server.host, server.port)
    with pytest.raises(poplib.error_proto, match="not allowed"):
        client.user("alice")
    client.stls(server.client_context)
    client.user("alice")
    client.pass_("secret")
    client.quit()


def test_a_wrong_option_is_an_error_at_once() -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        Pop3TestServer(no_such_option=1)
    with pytest.raises(RuntimeError, match="the server is not running"):
        Pop3TestServer().reset()


def test_started_more_than_once() -> None:
    server = Pop3TestServer(stls=False)
    for _ in range(2):
        with server:
            client = logged_in(server)
            assert "STLS" not in client.capa()
            client.quit()
    with pytest.raises(RuntimeError, match="the server is not running"):
        _ = server.asked


def test_what_is_still_open_in_the_end_is_cut() -> None:
    with Pop3TestServer() as server:
        client = logged_in(server)
    assert client.sock.recv(1) == b""
    client.close()


# --- any backend ---------------------------------------------------------------------------------------------------


def test_a_backend_of_ones_own(server: Pop3TestServer) -> None:
    """The seven functions, with what is not said by a Bench left to itself."""
    mail = {"a": b"Subject: A\n\n", "b": b"Subject: B\n\n"}
    backend = trio_pop3.CallbackBackend(
        authenticate=lambda user, password, ip: (user, password) == ("me", "mine"),
        list=lambda user: list(mail),
        retrieve=lambda user, uid: mail[uid],
        delete=lambda user, uid: mail.pop(uid),
    )
    server.reset(lambda: backend)
    client = logged_in(server, "me", "mine")
    client.dele(1)
    client.quit()
    server.settle()
    assert mail == {"b": b"Subject: B\n\n"}
    with pytest.raises(TypeError, match=r"CallbackBackend has no add_user\(user, password\)"):
        server.add_user("you", "yours")
    with pytest.raises(TypeError, match=r"has no deliver\(user, message\): serve a trio_pop3\.testing\.Bench"):
        server.deliver("me", "x\n")
    assert [each.content for each in server.maildrop("me")] == [b"Subject: B\n\n"]


def test_a_bench(server: Pop3TestServer, tmp_path: Path) -> None:
    """Real mail in files: delivered, listed, locked, deleted."""
    count = iter(range(100))

    def deliver(user: str, message: bytes) -> None:
        (tmp_path / user / "new" / f"{next(count)}.host").write_bytes(message)

    def make() -> Bench:
        for name in ("new", "cur", "tmp"):
            (tmp_path / "alice" / name).mkdir(parents=True, exist_ok=True)
        backend = MemoryBackend()
        backend.add_user("alice", "secret")
        store = trio_pop3.MaildirStore(str(tmp_path / "{user}"))
        return Bench(backend=trio_pop3.combine(backend, store), deliver=deliver, users={"alice": "secret"})

    server.reset(make)
    uid = server.deliver("alice", "Subject: One\n\nText\n")
    server.deliver("alice", "Subject: Two\n\n")
    assert server.maildrop("alice")[0].uid == uid
    client = logged_in(server)
    client.dele(1)
    with pytest.raises(RuntimeError, match="a session holds the maildrop of alice"):
        server.maildrop("alice")
    client.quit()
    assert [each.content for each in server.maildrop("alice")] == [b"Subject: Two\n\n"]


# --- what was said -------------------------------------------------------------------------------------------------


def test_what_was_asked(server: Pop3TestServer) -> None:
    client = poplib.POP3(server.host, server.port)
    client.user("alice")
    with pytest.raises(poplib.error_proto):
        client.pass_("guess")
    client._putcmd("AUTH PLAIN")  # type: ignore[attr-defined]
    client._getresp()  # type: ignore[attr-defined]
    client._shortcmd("AGFsaWNlAHNlY3JldA==")  # type: ignore[attr-defined]
    with pytest.raises(poplib.error_proto):
        client._shortcmd("xyzzy")  # type: ignore[attr-defined]
    client.quit()
    asked = ["USER alice", "PASS ***", "AUTH PLAIN", "***", "xyzzy", "QUIT"]
    assert server.asked == asked
    assert server.received == [b"USER alice", b"PASS guess", b"AUTH PLAIN", b"AGFsaWNlAHNlY3JldA==", b"xyzzy", b"QUIT"]
    printed = str(server.transcript) + repr(server.transcripts) + server.report()
    assert "guess" not in printed
    assert "AGFsaWNl" not in printed
    assert "C: PASS \\{password}\nS: -ERR [AUTH] " in printed


def test_a_transcript_is_octet_for_octet(server: Pop3TestServer) -> None:
    heard = raw.hear(server, b"NOOP\r\nQUIT\r\n")
    said = b"".join(entry.data for entry in server.transcript.entries if entry.who == "S")
    assert said == heard
    assert str(Transcript.parse(str(server.transcript))) == str(server.transcript)
    assert [len(server.transcripts), server.connections] == [1, 1]


def test_over_tls_it_is_written_down_as_well(server: Pop3TestServer) -> None:
    client = poplib.POP3_SSL(server.host, server.tls_port, context=server.client_context)
    client.quit()
    server.wait_closed()
    expected = "# over TLS from the beginning\nS: +OK POP3 server ready\nC: QUIT\nS: +OK goodbye\nS! closes\n"
    assert str(server.transcript) == expected


def test_channel_binding(server: Pop3TestServer) -> None:
    """SCRAM is bound to the channel under TLS (RFC 5929 section 4), so that clients can try it."""

    async def main() -> None:
        with trio.fail_after(10):
            async with trio_pop3.connect(server.host, server.tls_port, tls=server.client_context) as client:
                await client.scram("alice", "secret")
                await client.quit()

    trio.run(main)
    assert "AUTH SCRAM-SHA-256-PLUS ***" in server.asked


# --- from inside of loops ------------------------------------------------------------------------------------------


async def test_from_a_trio_loop(server: Pop3TestServer) -> None:
    """A test that is on trio may use it, too; its loop stands still meanwhile."""
    server.deliver("alice", "x\n")
    with trio.fail_after(10):
        async with trio_pop3.connect(server.host, server.port) as client:
            await client.login("alice", "secret")
            await client.dele(1)
            await client.quit()
    assert server.maildrop("alice") == []
    with Pop3TestServer() as another:
        assert another.port != server.port


def test_from_asyncio(server: Pop3TestServer) -> None:
    async def main() -> bytes:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        server.deliver("alice", "x\n")
        writer.write(raw.LOGIN + b"QUIT\r\n")
        heard = await reader.read()
        writer.close()
        await writer.wait_closed()
        return heard

    assert asyncio.run(main()) == raw.GREETING + raw.LOGGED_IN % 3 + raw.GOODBYE


def test_a_client_under_its_own_timeout(server: Pop3TestServer) -> None:
    """What a fault puts off is not waited for by who looks."""
    server.deliver("alice", "Subject: One\n\n")
    server.fault(Slow(1, 3600, command="RETR"), Refuse("LIST"))
    client = poplib.POP3(server.host, server.port, timeout=0.1)
    client.user("alice")
    client.pass_("secret")
    with pytest.raises(socket.timeout):
        client.retr(1)
    client.close()
    assert len(server.maildrop("alice")) == 1
    assert str(server.transcript).endswith("S> +\n")
