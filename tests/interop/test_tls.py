"""TLS as others see it: `openssl s_client`, somebody who writes between the client and us, and SIGHUP."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..sansio.test_body import canon
from .certificates import HOST, Authority, Pair
from .server import AWKWARD, PASSWORD, USER, Mail, Served, message, program, serving
from .test_hostile import read_all, read_until

OTHER_HOST = "mail.example.net"
LOGIN = f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode()
MARKERS = [message(f"marker{n}", b"marker %d\n" % n) for n in range(1, 4)]


@pytest.fixture(scope="module")
def other_pair(authority: Authority) -> Pair:
    return authority.issue(OTHER_HOST, common_name=OTHER_HOST)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, pair: Pair, other_pair: Pair) -> Iterator[Served]:
    """A server with two certificates, for tests that change nothing."""
    mail = Mail(tmp_path_factory.mktemp("mail") / "served")
    mail.put(AWKWARD["dots"])
    with serving(mail, "--tls-listen", "127.0.0.1:0", *pair.options, *other_pair.options) as server:
        yield server


@pytest.fixture
def served(shared: Served) -> Served:
    shared.log.skip()
    return shared


# --- openssl s_client ------------------------------------------------------------------------------------------------

# How s_client connects -> the kind of port.
WAYS = {("-starttls", "pop3"): "", (): "tls"}
each_way = pytest.mark.parametrize("way", WAYS, ids=["STLS", "implicit TLS"])


def s_client(
    server: Served, way: tuple[str, ...], authority: Authority, *options: str, said: bytes = b"QUIT\r\n"
) -> subprocess.CompletedProcess[bytes]:
    """Run it until the server closes. It takes no commands of its own from what it is to send."""
    address = f"127.0.0.1:{server.ports[WAYS[way]]}"
    command = [program("openssl"), "s_client", "-connect", address, *way, "-ign_eof", "-CAfile", str(authority.path)]
    return subprocess.run([*command, *options], input=said, capture_output=True, timeout=60, check=False)


@each_way
def test_a_whole_session_with_s_client(way: tuple[str, ...], served: Served, authority: Authority) -> None:
    """R2595-12, R2595-05, R8314-01: what comes out is exactly what a POP3 server says, STLS no longer announced."""
    said = b"CAPA\r\n" + LOGIN + b"LIST\r\nRETR 1\r\nQUIT\r\n"
    done = s_client(served, way, authority, "-quiet", "-verify_return_error", said=said)
    assert done.returncode == 0
    octets = len(canon(AWKWARD["dots"]))
    capabilities, _, rest = done.stdout.partition(b"\r\n.\r\n")
    words = capabilities.split()
    assert b"STLS" not in words
    assert {b"PLAIN", b"SCRAM-SHA-256-PLUS", b"USER", b"UIDL"} <= set(words)
    assert rest == (
        b"+OK send PASS\r\n+OK maildrop has 1 message (%d octets)\r\n" % (octets,)
        + b"+OK 1 message follows\r\n1 %d\r\n.\r\n+OK %d octets follow\r\n" % (octets, octets)
        + canon(AWKWARD["dots"]).replace(b"\r\n.", b"\r\n..")
        + b".\r\n+OK goodbye\r\n"
    )
    (session,) = served.log.sessions()
    assert (session["user"], session["tls"], session["reason"]) == (USER, "TLSv1.3", "quit")


@each_way
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(way: tuple[str, ...], version: str, served: Served, authority: Authority) -> None:
    """R8314-05, G4: not one octet of POP3 after the failed handshake, and the log says why."""
    # Without the security level OpenSSL would not even try.
    done = s_client(served, way, authority, version, "-cipher", "DEFAULT@SECLEVEL=0", "-quiet", said=LOGIN)
    assert done.returncode != 0
    assert done.stdout == b""
    (session,) = served.log.sessions()
    assert session["reason"] == "TLS handshake failed: unsupported protocol"
    assert (session["user"], session["tls"], session["method"]) == ("-", "no", "-")


@each_way
@pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_new_versions_are_taken_and_end_with_a_farewell(
    way: tuple[str, ...], option: str, version: str, served: Served, authority: Authority, tmp_path: Path
) -> None:
    """R8314-04, R8314-05, R8314-09: close_notify comes, and the log names version and cipher."""
    record = tmp_path / "record"
    done = s_client(served, way, authority, option, "-msg", "-msgfile", str(record), "-verify_return_error")
    assert done.returncode == 0
    negotiated = re.search(rb"^New, \S+, Cipher is (\S+)$", done.stdout, re.MULTILINE)
    assert negotiated is not None
    assert re.search(rf"<<< {version[:3]} {version[4:]}, Alert .* warning close_notify", record.read_text())
    (session,) = served.log.sessions()
    assert (session["tls"], session["cipher"]) == (version, negotiated[1].decode())


@each_way
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (["-alpn", "pop3"], b"ALPN protocol: pop3"),
        (["-alpn", "imap,pop3"], b"ALPN protocol: pop3"),
        ([], b"No ALPN negotiated"),
    ],
)  # fmt: skip
def test_alpn(way: tuple[str, ...], asked: list[str], answer: bytes, served: Served, authority: Authority) -> None:
    assert answer in s_client(served, way, authority, *asked).stdout.splitlines()


@each_way
@pytest.mark.parametrize(
    ("name", "second"),
    [(HOST, False), (OTHER_HOST, True), (OTHER_HOST.upper(), True), ("nobody.example", False), (None, False)],
)
def test_the_certificate_is_chosen_by_name(
    way: tuple[str, ...],
    name: str | None,
    second: bool,
    served: Served,
    authority: Authority,
    pair: Pair,
    other_pair: Pair,
) -> None:
    """G8: by SNI; the first for a name that nobody has, and for clients that name none."""
    asked = ["-noservername"] if name is None else ["-servername", name]
    done = s_client(served, way, authority, *asked, "-verify_return_error")
    assert (other_pair if second else pair).pem.encode() in done.stdout
    assert done.returncode == 0


# --- what is written behind STLS -------------------------------------------------------------------------------------

ALICE, MALLORY = (base64.b64encode(f"\0{user}\0{PASSWORD}".encode()) for user in (USER, "mallory"))
INJECTED = {
    "deletion as alice": LOGIN + b"DELE 1\r\nDELE 2\r\nQUIT\r\n",
    "login as mallory": b"USER mallory\r\nPASS " + PASSWORD.encode() + b"\r\n",
    "name of mallory": b"USER mallory\r\n",
    "end": b"QUIT\r\n",
    "half a line": b"USER mallory\r\nPASS wonder",
    "one octet": b"D",
    "a line but its end": b"QUIT\r",
    "line without end": b"A" * 3000,
    "SASL as mallory": b"AUTH PLAIN " + MALLORY + b"\r\n",
    "SASL in two lines": b"AUTH PLAIN\r\n" + MALLORY + b"\r\n",
    "half an exchange": b"AUTH PLAIN\r\n",
    "half an answer": b"AUTH PLAIN\r\n" + MALLORY[:9],
    "second STLS": b"STLS\r\nSTLS\r\n",
    "bad commands": b"X\r\n" * 20,
}
each_injected = pytest.mark.parametrize("injected", INJECTED.values(), ids=INJECTED)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[Served]:
    """A server for two users."""
    mail = Mail(tmp_path_factory.mktemp("mail") / "served")
    with (mail.path / "users").open("a") as users:
        users.write(f"mallory:{{PLAIN}}{PASSWORD}\n")
    for part in ("cur", "new", "tmp"):
        (mail.path / "mail" / "mallory" / part).mkdir(parents=True)
    for content in MARKERS:
        mail.put(content)
    with serving(mail, *pair.options) as server:
        yield server


@pytest.fixture
def attacked(victim: Served) -> Iterator[Served]:
    """At the end of a test all mail must be there, and nobody but alice have logged in."""
    victim.log.skip()
    yield victim
    assert sorted(victim.mail.held().values()) == sorted(MARKERS)
    ended = {(session["user"], session["removed"]) for session in victim.log.sessions()}
    assert ended <= {(USER, "0"), ("-", "0")}
    assert "mallory" not in victim.log.text()


@contextlib.contextmanager
def in_clear(server: Served) -> Iterator[socket.socket]:
    """A connection, greeting read."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        yield sock


def normal_session(sock: socket.socket, authority: Authority) -> None:
    """What a client does after the `+OK` to STLS, and what it must see: replies to its own commands and no others."""
    with authority.client_context().wrap_socket(sock, server_hostname=HOST) as tls:
        for command, reply in (
            (b"STAT", b"-ERR"),  # nobody is logged in
            (b"PASS " + PASSWORD.encode(), b"-ERR"),  # nobody was named
            (f"USER {USER}".encode(), b"+OK"),
            (b"PASS " + PASSWORD.encode(), b"+OK maildrop has 3 messages"),
            (b"STAT", b"+OK 3 "),
            (b"NOOP", b"+OK"),
        ):
            tls.sendall(command + b"\r\n")
            assert read_until(tls, b"\r\n").startswith(reply), command
        tls.sendall(b"RETR 1\r\n")
        assert read_until(tls, b"\r\n.\r\n").endswith(b"follow\r\n" + canon(MARKERS[0]) + b".\r\n")
        tls.sendall(b"QUIT\r\n")
        assert read_all(tls) == b"+OK goodbye\r\n"


@each_injected
def test_injected_in_the_same_segment(injected: bytes, attacked: Served, authority: Authority) -> None:
    """G1, G3, R2595-19: thrown away, which the log says, and the session is the client's own."""
    with in_clear(attacked) as sock:
        sock.sendall(b"STLS\r\n" + injected)
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        normal_session(sock, authority)
    (session,) = attacked.log.sessions()
    assert (session["user"], session["tls"], session["method"]) == (USER, "TLSv1.3", "PASS")
    assert (session["retr"].partition("/")[0], session["reason"]) == ("1", "quit")
    attacked.log.until(rf"WARNING .*: {len(injected)} octets in clear behind STLS were thrown away")


@each_injected
def test_injected_before_the_handshake(injected: bytes, attacked: Served, authority: Authority) -> None:
    """G1, G4, R2595-19: the handshake fails, nothing is said in clear any more, and the next client is
    served."""
    with in_clear(attacked) as sock:
        sock.sendall(b"STLS\r\n")
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        said = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(injected)
            sock.sendall(hello(authority))
            said = until_closed(sock)
    # At most an alert.
    assert said[:1] in (b"", b"\x15")
    assert b"+OK" not in said and b"-ERR" not in said
    (session,) = attacked.log.sessions()
    assert (session["user"], session["tls"], session["method"]) == ("-", "no", "-")
    assert session["reason"].startswith("TLS handshake failed")
    with in_clear(attacked) as sock:
        sock.sendall(b"STLS\r\n")
        read_until(sock, b"\r\n")
        normal_session(sock, authority)


def test_injected_octet_by_octet(attacked: Served, authority: Authority) -> None:
    """G1, R2595-19: part of it is here with STLS and part comes later. Whatever becomes of TLS, it never acts."""
    said = b""
    # We may find the connection closed while we still send.
    with in_clear(attacked) as sock, contextlib.suppress(OSError):
        for octet in b"STLS\r\n" + INJECTED["deletion as alice"]:
            sock.sendall(bytes([octet]))
        sock.sendall(hello(authority))
        sock.shutdown(socket.SHUT_WR)
        said = until_closed(sock)
    assert said.count(b"+OK") <= 1 and b"-ERR" not in said
    (session,) = attacked.log.sessions()
    assert (session["user"], session["method"]) == ("-", "-")


@pytest.mark.parametrize(
    ("before", "replies"),
    [
        (f"USER {USER}\r\n".encode(), 1),
        (b"AUTH PLAIN\r\n*\r\n", 2),
        (b"USER mallory\r\nCAPA\r\n", 2),
    ],
)  # fmt: skip
def test_what_was_said_before_stls_is_forgotten(
    before: bytes, replies: int, attacked: Served, authority: Authority
) -> None:
    """G3: a name that somebody gave in clear is nobody's in TLS."""
    with in_clear(attacked) as sock:
        sock.sendall(before)
        read_until(sock, b"\r\n.\r\n" if b"CAPA" in before else b"\r\n", 1 if b"CAPA" in before else replies)
        sock.sendall(b"STLS\r\n")
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        normal_session(sock, authority)
    (session,) = attacked.log.sessions()
    assert session["user"] == USER


def test_an_exchange_in_clear_is_not_continued_by_stls(attacked: Served, authority: Authority) -> None:
    """G1: STLS in the middle of an exchange is an answer, and a bad one; TLS can begin after it."""
    with in_clear(attacked) as sock:
        sock.sendall(b"AUTH PLAIN\r\nSTLS\r\n")
        assert re.fullmatch(rb"\+ \r\n-ERR [^\r]*\r\n", read_until(sock, b"\r\n", 2))
        sock.sendall(b"STLS\r\n")
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        normal_session(sock, authority)


def hello(authority: Authority) -> bytes:
    """What a client begins TLS with."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def until_closed(sock: socket.socket) -> bytes:
    """Everything until the server closes, or resets because it did not read everything."""
    seen = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(1 << 16):
            seen += data
    return bytes(seen)


# --- SIGHUP ----------------------------------------------------------------------------------------------------------

BIG = message("big", b"a line of a message that takes a while, as nobody reads it yet\n" * 130_000)
STAYS = "ERROR the certificates in use stay: "

Spoil = Callable[[Pair, Authority], None]
SPOILED: dict[str, Spoil] = {
    "garbage": lambda pair, _: os.truncate(pair.certificate, 100),
    "the key of another": lambda pair, authority: os.replace(authority.issue(HOST).key, pair.key),
    "gone": lambda pair, _: pair.certificate.unlink(),
}


@contextlib.contextmanager
def encrypted(server: Served, authority: Authority) -> Iterator[ssl.SSLSocket]:
    """A connection to the TLS port, greeting read, with a receive buffer that does not take a big message."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", server.ports["tls"]))
        with authority.client_context().wrap_socket(sock, server_hostname=HOST) as tls:
            assert read_until(tls, b"\r\n").startswith(b"+OK")
            yield tls


def shown(server: Served, authority: Authority) -> bytes | None:
    """The certificate that a new connection sees."""
    with encrypted(server, authority) as tls:
        tls.sendall(b"QUIT\r\n")
        read_all(tls)
        return tls.getpeercert(binary_form=True)


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_certificates_are_renewed_under_way(spoil: Spoil, authority: Authority, tmp_path: Path) -> None:
    """G8: SIGHUP while a message is on its way. That session goes on, new ones see the new certificate; one that
    cannot be used is refused in one line, and the last good one stays until the next."""
    pair, second, third = (authority.issue(HOST) for _ in range(3))
    old, new, newest = pair.der, second.der, third.der
    mail = Mail(tmp_path / "served")
    mail.put(BIG)
    with serving(mail, "--tls-listen", "127.0.0.1:0", *pair.options) as server:

        def reload(answer: str) -> None:
            server.log.skip()
            server.process.send_signal(signal.SIGHUP)
            server.log.until(answer)

        with in_clear(server) as waiting, encrypted(server, authority) as busy:
            assert busy.getpeercert(binary_form=True) == old
            busy.sendall(LOGIN + b"RETR 1\r\n")
            head = read_until(busy, b"octets follow\r\n")
            pair.replace_by(second)
            reload("INFO certificates loaded again")
            assert shown(server, authority) == new
            spoil(pair, authority)
            reload(STAYS)
            assert shown(server, authority) == new
            server.log.sessions()
            assert len(server.log.until(STAYS)) == 1
            assert "Traceback" not in server.log.text()
            # The session from before all that.
            busy.sendall(b"NOOP\r\nQUIT\r\n")
            received = head.partition(b"follow\r\n")[2] + read_all(busy)
            assert received == canon(BIG) + b".\r\n+OK nothing done\r\n+OK goodbye\r\n"
            assert busy.getpeercert(binary_form=True) == old
            # One that was there before, and begins TLS now.
            waiting.sendall(b"STLS\r\n")
            assert read_until(waiting, b"\r\n").startswith(b"+OK")
            with authority.client_context().wrap_socket(waiting, server_hostname=HOST) as tls:
                assert tls.getpeercert(binary_form=True) == new
                tls.sendall(b"QUIT\r\n")
                read_all(tls)
            pair.replace_by(third)
            reload("INFO certificates loaded again")
            assert shown(server, authority) == newest


def test_sighup_without_certificates_changes_nothing(tmp_path: Path) -> None:
    """A server that has nothing to load again is not ended by it."""
    mail = Mail(tmp_path / "served")
    with serving(mail) as server, in_clear(server) as sock:
        server.process.send_signal(signal.SIGHUP)
        sock.sendall(b"QUIT\r\n")
        assert read_all(sock) == b"+OK goodbye\r\n"
        with in_clear(server) as other:
            other.sendall(LOGIN + b"QUIT\r\n")
            assert read_all(other).count(b"+OK") == 3
