"""Wires to `serve` over TCP and TLS, to servers that misbehave below POP3, and to a backend in memory."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.server.encrypted import Authority
from trio_pop3 import ClientInfo, MemoryBackend, PermanentFailure, Pop3Listener, Rules, Tls, serve
from trio_pop3.testing import MemoryWire, Portal, Silent, SocketWire, Talk

HOST = "127.0.0.1"
MAIL = [b"Subject: 1\r\n\r\n.\r\n", b"x" * 200_000]


def mailbox() -> MemoryBackend:
    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    for message in MAIL:
        backend.deliver("alice", message)
    return backend


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(scope="module")
def listeners(portal: Portal, authority: Authority) -> list[Pop3Listener]:
    """The first begins in clear, the second with TLS."""
    addresses = [f"{HOST}:0", f"{HOST}:0,tls"]
    found: list[Pop3Listener] = portal.start(
        partial(serve, mailbox(), listen=addresses, tls=Tls(authority.files), max_connections_per_host=None)
    )
    return found


@pytest.fixture
def ports(listeners: list[Pop3Listener]) -> tuple[int, int]:
    plain, secure = (listener.port for listener in listeners)
    assert plain is not None and secure is not None
    return plain, secure


def log_in(talk: Talk) -> None:
    assert talk.ask(b"USER alice").ok
    assert talk.ask(b"PASS secret").ok


def reads_mail(talk: Talk) -> None:
    """One session, from the login to the end."""
    log_in(talk)
    assert talk.ask(b"RETR 1", multiline=True).body == MAIL[0]
    assert talk.ask(b"RETR 2", multiline=True).body == MAIL[1] + b"\r\n"
    assert talk.ask(b"QUIT").ok
    talk.expect_end()
    talk.close()


# --- serve -----------------------------------------------------------------------------------------------------------


def test_a_session_in_clear(ports: tuple[int, int]) -> None:
    wire = SocketWire(HOST, ports[0])
    talk = Talk(wire)
    assert talk.reply().ok
    reads_mail(talk)
    assert not wire.truncated


def test_a_session_behind_stls(ports: tuple[int, int], authority: Authority) -> None:
    wire = SocketWire(HOST, ports[0], tls=authority.context())
    talk = Talk(wire)
    talk.reply()
    assert talk.ask(b"STLS").ok
    talk.start_tls()
    assert b"STLS" not in (talk.ask(b"CAPA", multiline=True).lines or ())  # the server knows
    reads_mail(talk)
    assert not wire.truncated


def test_a_session_in_tls_from_the_beginning(ports: tuple[int, int], authority: Authority) -> None:
    wire = SocketWire(HOST, ports[1], tls=authority.context(), implicit=True)
    talk = Talk(wire)
    assert talk.reply().ok
    reads_mail(talk)
    assert not wire.truncated


@pytest.mark.parametrize("secure", [False, True])
def test_what_was_sent_ahead_of_the_end_is_answered(secure: bool, ports: tuple[int, int], authority: Authority) -> None:
    """A-34: what the server says after that is still read, and still decrypted."""
    wire = SocketWire(HOST, ports[secure], tls=authority.context(), implicit=secure)
    talk = Talk(wire)
    talk.reply()
    log_in(talk)
    talk.send(b"NOOP", b"RETR 2")  # more than is read in one piece
    assert talk.reply().ok
    talk.finish()
    assert talk.reply(multiline=True).body == MAIL[1] + b"\r\n"
    talk.expect_end()
    talk.finish()  # nothing more happens
    talk.close()


@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_that_was_dropped_frees_the_maildrop(
    secure: bool, ports: tuple[int, int], authority: Authority
) -> None:
    for _ in range(3):
        talk = Talk(SocketWire(HOST, ports[secure], tls=authority.context(), implicit=secure))
        talk.reply()
        talk.ask(b"USER alice")
        while (reply := talk.ask(b"PASS secret")).code == "IN-USE":
            talk.ask(b"USER alice")
        assert reply.ok
        talk.close()
        talk.wire.close()  # may be called again


@pytest.mark.parametrize("secure", [False, True])
def test_octets_for_a_server_that_has_closed_go_nowhere(
    secure: bool, ports: tuple[int, int], authority: Authority
) -> None:
    wire = SocketWire(HOST, ports[secure], tls=authority.context(), implicit=secure)
    talk = Talk(wire)
    talk.reply()
    talk.ask(b"QUIT")
    talk.expect_end()
    for _ in range(20):  # the first makes the kernel of the server say so, a later one hears it
        wire.send(b"NOOP\r\n" * 100)
    assert wire.receive() == b""
    wire.close()


# --- what cannot be had ----------------------------------------------------------------------------------------------


def test_tls_needs_a_context(ports: tuple[int, int]) -> None:
    with pytest.raises(ssl.SSLError, match="no TLS context"):
        SocketWire(HOST, ports[1], implicit=True)
    wire = SocketWire(HOST, ports[0])
    with pytest.raises(ssl.SSLError, match="no TLS context"):
        wire.start_tls()
    wire.close()


def test_a_certificate_of_strangers_is_not_taken(ports: tuple[int, int]) -> None:
    """And no descriptor stays open, or the warning would fail this."""
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        SocketWire(HOST, ports[1], tls=context, implicit=True)
    talk = Talk(SocketWire(HOST, ports[0], tls=context))
    talk.reply()
    talk.ask(b"STLS")
    with pytest.raises(ssl.SSLCertVerificationError):
        talk.start_tls()
    talk.close()


def test_nobody_listens() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        SocketWire(HOST, port)


# --- below POP3 ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection, and its port. It is over when the block is left."""
    with socket.create_server((HOST, 0)) as server:

        def serve_one() -> None:
            connection, _ = server.accept()
            with connection:
                behave(connection)

        thread = threading.Thread(target=serve_one)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join()


def until_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    """The next close is one. Before that the client has said something, or there would be no connection for it."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_server_that_says_nothing() -> None:
    with peer(until_the_end) as port:
        wire = SocketWire(HOST, port, timeout=0.05)
        with pytest.raises(Silent, match=r"said nothing for 0\.05 s"):
            wire.receive()
        wire.timeout = 0.01
        with pytest.raises(Silent, match=r"said nothing for 0\.01 s"):
            wire.receive()
        wire.close()


@pytest.mark.parametrize("slowest", [4096, 10])
def test_a_server_that_is_slow_to_no_end(slowest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every octet comes in time; who says much may take longer."""
    monkeypatch.setattr("trio_pop3.testing.wire._SLOWEST_LINE", slowest)

    def drip(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"x")
            if select.select([connection], [], [], 0.005)[0]:
                return

    with peer(drip) as port, contextlib.closing(SocketWire(HOST, port, timeout=0.04)) as wire:
        if slowest == 10:
            assert sum(len(wire.receive()) for _ in range(90)) >= 90
        else:
            with pytest.raises(Silent, match=r"slow to no end: it has said [1-9]\d* octets"):
                all(wire.receive() for _ in range(1000))
        wire.send(b"QUIT\r\n")  # a turn of ours: there is time again
        while wire.receive():
            pass


def test_a_server_that_takes_nothing() -> None:
    done = threading.Event()
    with peer(lambda _: assert_set(done)) as port:
        wire = SocketWire(HOST, port, timeout=0.05)
        with pytest.raises(Silent, match=r"took nothing for 0\.05 s"):
            wire.send(b"x" * 50_000_000)
        wire.close()
        done.set()


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def test_a_reset_is_an_end() -> None:
    with peer(reset) as port:
        wire = SocketWire(HOST, port)
        wire.send(b"NOOP\r\n")
        assert wire.receive() == b""
        assert not wire.truncated
        wire.send(b"NOOP\r\n")
        wire.finish()
        wire.close()


@pytest.mark.parametrize("ending", ["alert", "end", "reset"])
def test_tls_that_ends_without_its_alert_is_truncated(ending: str, authority: Authority) -> None:
    """RFC 8314 section 3.4."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.files)

    def behave(connection: socket.socket) -> None:
        secure = context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        secure.sendall(b"+OK\r\n")
        if ending == "reset":
            reset(secure)
        else:
            secure.recv(1)
        if ending == "alert":
            with contextlib.suppress(OSError):
                secure.unwrap()
        secure.close()

    with peer(behave) as port:
        wire = SocketWire(HOST, port, tls=authority.context(), implicit=True)
        assert wire.receive() == b"+OK\r\n"
        wire.send(b"x")
        assert wire.receive() == b""
        assert wire.truncated == (ending != "alert")
        for _ in range(20):
            wire.send(b"x")  # goes nowhere
        wire.close()


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_session_in_memory(portal: Portal) -> None:
    backend = mailbox()
    wire = MemoryWire(portal, backend)
    talk = Talk(wire)
    assert talk.reply().ok
    reads_mail(talk)
    assert not backend.locked("alice")
    wire.send(b"NOOP\r\n")  # goes nowhere
    wire.finish()
    wire.close()
    assert wire.receive() == b""


def test_memory_says_at_once_that_there_is_nothing(portal: Portal) -> None:
    wire = MemoryWire(portal, mailbox())
    assert wire.receive().startswith(b"+OK")
    wire.send(b"NOO")
    with pytest.raises(Silent, match="said nothing"):
        wire.receive()
    wire.close()


def test_the_end_of_the_stream_in_memory(portal: Portal) -> None:
    """A-33, A-34: whole lines are answered, half a QUIT is none, and the maildrop is free."""
    backend = mailbox()
    talk = Talk(MemoryWire(portal, backend))
    talk.reply()
    log_in(talk)
    talk.send_octets(b"DELE 1\r\nNOOP\r\nQUIT")
    talk.finish()
    assert talk.reply().ok
    assert talk.reply().ok
    talk.expect_end()
    assert not backend.locked("alice")
    assert list(backend.messages("alice").values()) == MAIL


def test_a_dropped_connection_in_memory_deletes_nothing(portal: Portal) -> None:
    backend = mailbox()
    talk = Talk(MemoryWire(portal, backend))
    talk.reply()
    log_in(talk)
    assert talk.ask(b"DELE 1").ok
    talk.close()
    assert not backend.locked("alice")
    assert list(backend.messages("alice").values()) == MAIL


def test_there_is_no_tls_in_memory(portal: Portal) -> None:
    wire = MemoryWire(portal, mailbox())
    with pytest.raises(ssl.SSLError, match="no TLS in memory"):
        wire.start_tls()
    wire.close()


def test_options_go_to_the_session(portal: Portal) -> None:
    elsewhere = ClientInfo("x", "192.0.2.7", 4711)
    talk = Talk(MemoryWire(portal, mailbox(), client=elsewhere, rules=Rules(banner="a banner")))
    assert talk.reply().text == b"a banner"
    assert not talk.ask(b"USER alice").ok  # in clear, from elsewhere
    talk.close()


class Refusing(MemoryBackend):
    """Lets nobody in, and says so in place of a greeting."""

    async def connect(self, client: ClientInfo) -> None:
        raise PermanentFailure

    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        raise AssertionError


def test_a_server_that_refuses_is_gone_behind_its_greeting(portal: Portal) -> None:
    talk = Talk(MemoryWire(portal, Refusing()))
    assert not talk.reply().ok
    talk.expect_end()
