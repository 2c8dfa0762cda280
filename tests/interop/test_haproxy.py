"""Debian's haproxy in front of us: what it says of its clients with the PROXY protocol, and who is not believed."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_pop3.sansio.proxy import ProxyHeaderParser

from ..sansio.test_body import canon
from .certificates import HOST, Authority, Pair
from .server import AWKWARD, PASSWORD, USER, Mail, Served, eventually, own_address, program, serving
from .test_hostile import read_all, read_until
from .test_tls import until_closed

# Where clients come from. haproxy itself connects from 127.0.0.1.
CLIENT = "127.0.0.2"
FROM_CLIENT = r"127\.0\.0\.2:\d+"
PORT = 1110
# TLS at haproxy, and everything that it can say of it.
ENDS_TLS = "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,ssl-cipher,cert-sig,cert-key,unique-id"

CONFIGURATION = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend front
    bind {address}:{port} {bind}
    unique-id-format %[uuid()]
    default_backend back
backend back
    {backend}
    server ours 127.0.0.1:{to} {server}
"""


@contextlib.contextmanager
def haproxy(folder: Path, to: int, server: str = "", *, bind: str = "", backend: str = "") -> Iterator[str]:
    """haproxy before a port of ours; the address that it has for itself. It has accepted a connection already."""
    address = own_address()
    folder.mkdir()
    file, log = folder / "haproxy.cfg", folder / "haproxy.log"
    values = {"address": address, "port": PORT, "bind": bind, "backend": backend, "to": to, "server": server}
    file.write_text(CONFIGURATION.format(**values))
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [program("haproxy"), "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or accepts(address), bool, log.read_text)
            assert process.poll() is None, log.read_text()
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)


def accepts(address: str) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, PORT)) == 0


@contextlib.contextmanager
def connected(address: str, port: int = PORT, *, source: str = CLIENT) -> Iterator[socket.socket]:
    """A connection from the client's address, nothing read."""
    with socket.create_connection((address, port), timeout=60, source_address=(source, 0)) as sock:
        yield sock


def curl(address: str, authority: Authority, scheme: str) -> bytes:
    """The message, fetched by the name that the certificate is for."""
    command = [program("curl"), "-sS", "--ssl-reqd", "--cacert", str(authority.path), "--interface", CLIENT]
    command += ["--resolve", f"{HOST}:{PORT}:{address}", "--user", f"{USER}:{PASSWORD}", f"{scheme}://{HOST}:{PORT}/1"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Iterator[Served]:
    mail = Mail(tmp_path_factory.mktemp("mail") / "served")
    mail.put(AWKWARD["dots"])
    options = ["--tls-listen", "127.0.0.1:0,proxy", "--proxy-from", "127.0.0.1", *pair.options]
    with serving(mail, *options, listen="127.0.0.1:0,proxy") as server:
        yield server


@pytest.fixture
def served(shared: Served) -> Served:
    shared.log.skip()
    return shared


@pytest.mark.parametrize("sent", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize(("scheme", "listener"), [("pop3", "proxy"), ("pop3s", "tls,proxy")])
def test_the_client_is_who_haproxy_says(
    sent: str, scheme: str, listener: str, served: Served, authority: Authority, tmp_path: Path
) -> None:
    """G9, RPRX-01, RPRX-03, RPRX-08: before STLS and before implicit TLS, in both versions."""
    with haproxy(tmp_path / "haproxy", served.ports[listener], sent) as address:
        assert curl(address, authority, scheme) == canon(AWKWARD["dots"])
    (session,) = served.log.sessions(peer=FROM_CLIENT)
    assert (session["user"], session["tls"], session["reason"]) == (USER, "TLSv1.3", "quit")


@pytest.mark.parametrize("sent", ["send-proxy", "send-proxy-v2"])
def test_a_client_behind_haproxy_is_not_on_this_machine(sent: str, served: Served, tmp_path: Path) -> None:
    """G7, RPRX-03, RPRX-08: its password would have come in clear, so none is taken; the log has its port too."""
    with haproxy(tmp_path / "haproxy", served.ports["proxy"], sent) as address, connected(address) as sock:
        port = sock.getsockname()[1]
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        sock.sendall(b"CAPA\r\n")
        capabilities = read_until(sock, b"\r\n.\r\n")
        assert b"\r\nSTLS\r\n" in capabilities
        assert b"\r\nUSER\r\n" not in capabilities and b"PLAIN" not in capabilities
        sock.sendall(f"USER {USER}\r\nQUIT\r\n".encode())
        refusal, farewell, _ = read_all(sock).split(b"\r\n")
        assert (refusal[:4], farewell[:3]) == (b"-ERR", b"+OK")
    (session,) = served.log.sessions(peer=FROM_CLIENT)
    assert session["peer"] == f"{CLIENT}:{port}"


@pytest.mark.parametrize("sent", ["send-proxy-v2-ssl", "send-proxy-v2-ssl-cn", ENDS_TLS])
def test_tls_that_ends_at_haproxy(sent: str, authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """RPRX-07, RPRX-09: the client's TLS counts for `--require-tls`, and stands in the log; STLS is over, and there is
    nothing to bind a channel to."""
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    mail = Mail(tmp_path / "served")
    mail.put(AWKWARD["dots"])
    options = ["--proxy-from", "loopback", "--require-tls", *pair.options]
    with (
        serving(mail, *options, listen="127.0.0.1:0,proxy") as server,
        haproxy(tmp_path / "haproxy", server.ports["proxy"], sent, bind=f"ssl crt {both} alpn pop3") as address,
    ):
        assert curl(address, authority, "pop3s") == canon(AWKWARD["dots"])
        (session,) = server.log.sessions(peer=FROM_CLIENT)
        assert (session["user"], session["method"], session["tls"]) == (USER, "PLAIN", "TLSv1.3")
        assert ("cipher" in sent) == session["cipher"].startswith("TLS_")
        context = authority.client_context()
        with connected(address) as sock, context.wrap_socket(sock, server_hostname=HOST) as tls:
            assert read_until(tls, b"\r\n").startswith(b"+OK")
            tls.sendall(b"CAPA\r\nSTLS\r\nQUIT\r\n")
            said = read_all(tls)
            assert b"\r\nUSER\r\n" in said
            assert {b"PLAIN", b"SCRAM-SHA-256"} <= set(said.split())
            assert {b"STLS", b"SCRAM-SHA-256-PLUS", b"EXTERNAL"}.isdisjoint(said.split())
            assert b"-ERR TLS is active already\r\n" in said


def test_everything_that_haproxy_says_is_understood(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """RPRX-07, RPRX-09: name asked for, TLS, cipher, client certificate, haproxy's name of the session, right sum."""
    both, alice = tmp_path / "both.pem", authority.issue("alice@example.org", common_name=USER)
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    bind = f"ssl crt {both} ca-file {authority.path} verify optional"
    context = authority.client_context()
    context.load_cert_chain(alice.certificate, alice.key)
    with socket.create_server(("127.0.0.1", 0)) as behind:
        behind.settimeout(60)
        port = behind.getsockname()[1]
        with (
            haproxy(tmp_path / "haproxy", port, ENDS_TLS, bind=bind) as address,
            connected(address) as sock,
            context.wrap_socket(sock, server_hostname=HOST) as tls,
            behind.accept()[0] as ours,
        ):
            ours.settimeout(60)
            parser, raw, header = ProxyHeaderParser(), b"", None
            while header is None:
                data = ours.recv(4096)
                assert data, raw
                raw += data
                header = parser.feed(data)
            cipher = tls.cipher()
            assert header.source == tls.getsockname()
            assert header.destination == (address, PORT)
    assert cipher is not None
    assert (header.tls, header.tls_version, header.cipher) == (True, "TLSv1.3", cipher[0])
    assert (header.server_name, header.client_common_name) == (HOST, USER)
    assert header.unique_id is not None and len(header.unique_id) == 36
    assert b"\x03\x00\x04" in raw and parser.rest == b""


def test_without_tls_at_haproxy_nobody_logs_in(pair: Pair, tmp_path: Path) -> None:
    """R2595-14: the vector that says so says that there is none."""
    mail = Mail(tmp_path / "served")
    options = ["--proxy-from", "loopback", "--require-tls", *pair.options]
    with (
        serving(mail, *options, listen="127.0.0.1:0,proxy") as server,
        haproxy(tmp_path / "haproxy", server.ports["proxy"], "send-proxy-v2-ssl") as address,
        connected(address) as sock,
    ):
        sock.sendall(f"CAPA\r\nUSER {USER}\r\nAUTH PLAIN\r\nAUTH SCRAM-SHA-256\r\nQUIT\r\n".encode())
        said = read_all(sock)
        assert b"STLS" in said.split() and b"SASL" not in said.split()
        assert said.count(b"-ERR") == 3
        (session,) = server.log.sessions(peer=FROM_CLIENT)
        assert (session["tls"], session["cipher"]) == ("no", "-")


@pytest.mark.parametrize("sent", ["send-proxy", "send-proxy-v2"])
def test_health_checks(sent: str, served: Served, tmp_path: Path) -> None:
    """RPRX-08: haproxy speaks for itself then, in version 2 with LOCAL, and is served under its own address."""
    check = "option tcp-check\n    tcp-check expect rstring ^\\+OK\n    tcp-check send QUIT\\r\\n"
    check += "\n    tcp-check expect string +OK"
    server = f"{sent} check check-send-proxy inter 50ms"
    with haproxy(tmp_path / "haproxy", served.ports["proxy"], server, backend=check):
        sessions = served.log.until(r"peer=127\.0\.0\.1:\d+ .* reason=quit$", 3)
    assert sessions
    assert "WARNING" not in served.log.text()


@pytest.mark.parametrize("listener", ["proxy", "tls,proxy"])
def test_a_proxy_that_is_not_listed_is_not_heard(listener: str, served: Served, tmp_path: Path) -> None:
    """G9, RPRX-02: the real haproxy, from another address than `--proxy-from` says."""
    with (
        haproxy(tmp_path / "haproxy", served.ports[listener], "send-proxy-v2 source 127.0.0.9") as address,
        connected(address) as sock,
    ):
        assert read_all(sock) == b""
    served.log.until(r"WARNING session \w+: closed a connection from 127\.0\.0\.9:\d+: this is no proxy of ours")
    assert "peer=" not in served.log.text()


@pytest.mark.parametrize(
    "said", [b"CAPA\r\nQUIT\r\n", b"PROXY TCP4 1.2.3.4\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
)
@pytest.mark.parametrize("listener", ["proxy", "tls,proxy"])
def test_a_connection_without_a_header_is_closed(listener: str, said: bytes, served: Served, tmp_path: Path) -> None:
    """G9, RPRX-01, RPRX-04: haproxy without `send-proxy`, or somebody on this machine: neither hears a word."""
    port = served.ports[listener]
    with haproxy(tmp_path / "haproxy", port) as address:
        for where, at, source in ((address, PORT, CLIENT), ("127.0.0.1", port, "127.0.0.1")):
            served.log.skip()
            with connected(where, at, source=source) as sock:
                sock.sendall(said)
                assert until_closed(sock) == b""
            served.log.until(r"WARNING session \w+: closed a connection from 127\.0\.0\.1:\d+: (?!this is no proxy)")
    assert "peer=" not in served.log.text()
