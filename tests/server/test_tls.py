"""TLS: which certificate a client sees, what is known of it then, and what becomes of renewed files."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import ssl
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.server.tls import HandshakeFailed, Tls, TlsError, TlsInfo, close
from trio_pop3.x509 import tls_server_end_point

Files: TypeAlias = tuple[str, str]
Issue: TypeAlias = Callable[..., Files]
Client: TypeAlias = trio.SSLStream[trio.abc.Stream]
Server: TypeAlias = trio.SSLStream[trio.abc.Stream]

CA = trustme.CA()
STRANGERS = trustme.CA()
MOMENT = 0.1


def write(blob: trustme.LeafCert, certificate: Path, key: Path) -> Files:
    certificate.write_bytes(b"".join(part.bytes() for part in blob.cert_chain_pems))
    key.write_bytes(blob.private_key_pem.bytes())
    return str(certificate), str(key)


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """Writes a certificate for some names, and its key."""

    def issue(*names: str, name: str = "pop", ca: trustme.CA = CA, **options: Any) -> Files:
        return write(ca.issue_cert(*names, **options), tmp_path / f"{name}.pem", tmp_path / f"{name}.key")

    return issue


def self_signed(key: Any, algorithm: Any, rsa_padding: Any = None, names: tuple[str, ...] = ("pop.example",)) -> Any:
    """A certificate of our own making."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    return builder.sign(key, algorithm, rsa_padding=rsa_padding)


def key_pem(key: Any, passphrase: bytes | None = None) -> bytes:
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    octets: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return octets


def write_own(tmp_path: Path, certificate: Any, key: Any) -> Files:
    (tmp_path / "own.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "own.key").write_bytes(key_pem(key))
    return str(tmp_path / "own.pem"), str(tmp_path / "own.key")


def trusting(*, check: bool = False) -> ssl.SSLContext:
    """A client's context. Without `check`, it takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if not check:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def connected(
    tls: Tls, name: str | None = None, context: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None
) -> AsyncIterator[tuple[Server, Client, TlsInfo]]:
    """Both ends of a connection after the handshake."""
    below, above = trio.testing.memory_stream_pair()
    server = tls.wrap(above)
    client: Client = trio.SSLStream(below, context or trusting(), server_hostname=name)
    if session is not None:
        client.session = session
    info: list[TlsInfo] = []

    async def serve() -> None:
        info.append(await tls.handshake(server))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await client.do_handshake()
        yield server, client, info[0]
    finally:
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(above)


async def seen(tls: Tls, name: str | None = None, context: ssl.SSLContext | None = None) -> SimpleNamespace:
    """What a client sees, and what the server knows of it."""
    async with connected(tls, name, context) as (_, client, info):
        der = client.getpeercert(binary_form=True)
        return SimpleNamespace(der=der, names=dns_names(der), info=info, alpn=client.selected_alpn_protocol())


def dns_names(der: bytes) -> list[str]:
    extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


async def failure(tls: Tls, context: ssl.SSLContext) -> str:
    """Why a handshake failed, on the server's side."""
    below, above = trio.testing.memory_stream_pair()
    client: Client = trio.SSLStream(below, context, server_hostname="pop.example")
    server = tls.wrap(above)

    async def shake() -> None:
        try:
            await client.do_handshake()
            await client.receive_some()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(below)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake)
        with pytest.raises(HandshakeFailed) as failed:
            await tls.handshake(server)
        await close(server)
    return str(failed.value)


# --- versions, suites, ALPN ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(issue: Issue, version: ssl.TLSVersion) -> None:
    """R8314-05, R8314-09: 1.2 and 1.3, and the log can say which, and the suite."""
    context = trusting()
    context.minimum_version = context.maximum_version = version
    found = await seen(Tls(issue("pop.example")), None, context)
    assert found.info.version == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert "GCM" in found.info.cipher
    assert found.info.certificate is None


async def test_old_versions_are_refused(issue: Issue) -> None:
    """R8997-01, R2595-16."""
    context = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert await failure(Tls(issue("pop.example")), context) == "unsupported protocol"


async def test_weak_suites_are_refused(issue: Issue) -> None:
    """R8314-06, R2595-18: without forward secrecy, nothing."""
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-GCM-SHA384:AES128-SHA:@SECLEVEL=0")
    tls = Tls(issue("pop.example", key_type=trustme.KeyType.RSA))
    assert await failure(tls, context) == "no shared cipher"


async def test_every_suite_has_forward_secrecy_and_nothing_is_compressed_or_renegotiated(issue: Issue) -> None:
    """R8314-06, R5929-02."""
    async with connected(Tls(issue("pop.example"))) as (server, _, _):
        context: ssl.SSLContext = server.context
        assert server.compression() is None
    assert all(suite["name"].startswith(("TLS_", "ECDHE-", "DHE-")) for suite in context.get_ciphers())
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not context.post_handshake_auth


@pytest.mark.parametrize(("offered", "chosen"), [(["imap", "pop3"], "pop3"), (["imap"], None), ([], None)])
async def test_alpn(issue: Issue, offered: list[str], chosen: str | None) -> None:
    context = trusting()
    if offered:
        context.set_alpn_protocols(offered)
    assert (await seen(Tls(issue("pop.example")), None, context)).alpn == chosen


# --- which certificate ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "shown", "known_as"),
    [
        ("pop.example", "pop.example", "pop.example"),
        ("POP.Example", "pop.example", "pop.example"),
        ("mail.other", "mail.other", "mail.other"),
        ("Mail.OTHER", "mail.other", "mail.other"),
        ("a.wild.example", "*.wild.example", "a.wild.example"),
        ("exact.wild.example", "mail.other", "exact.wild.example"),
        ("a.b.wild.example", "pop.example", "a.b.wild.example"),
        ("wild.example", "pop.example", "wild.example"),
        ("unknown.example", "pop.example", "unknown.example"),
        ("localhost", "pop.example", "localhost"),
        (None, "pop.example", None),
    ],
)
async def test_a_certificate_for_each_name(issue: Issue, asked: str | None, shown: str, known_as: str | None) -> None:
    """A wildcard stands for one label, the first; without a match, it is the first pair."""
    tls = Tls(
        issue("pop.example", "192.0.2.1", name="one"),
        issue("mail.other", "exact.wild.example", "pop.example", name="two"),
        issue("*.Wild.example", name="three"),
    )
    found = await seen(tls, asked)
    assert shown in found.names
    assert found.info.server_name == known_as
    assert found.info.end_point == hashlib.sha256(found.der).digest()


async def test_the_client_can_check_each_of_them(issue: Issue) -> None:
    tls = Tls(issue("pop.example", name="one"), issue("*.wild.example", name="two"))
    for name in ("pop.example", "a.wild.example"):
        assert (await seen(tls, name, trusting(check=True))).info.server_name == name


@pytest.mark.parametrize(
    ("name", "known_as"), [(b"pop.example.", "pop.example"), (b"a\r\nfaked: log", None), (b"*.wild.example", None)]
)
async def test_names_that_no_host_has(issue: Issue, name: bytes, known_as: str | None) -> None:
    """What could make a line in a log is not remembered, and gets the first certificate."""
    tls = Tls(issue("pop.example", name="one"), issue("*.wild.example", name="two"))
    placeholder = b"x" * len(name)
    below, above = trio.testing.memory_stream_pair()
    server = tls.wrap(above)
    info = await_first_flight(below, placeholder, name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(info)
        with pytest.raises(HandshakeFailed):  # the client did not say what was sent
            await tls.handshake(server)
    assert server.server_hostname == known_as


def await_first_flight(below: Any, placeholder: bytes, name: bytes) -> Callable[[], Any]:
    """Sends a ClientHello with a name that no library would send, and goes away."""

    async def send() -> None:
        out = ssl.MemoryBIO()
        hello = trusting().wrap_bio(ssl.MemoryBIO(), out, server_hostname=placeholder.decode())
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        flight = out.read()
        assert flight.count(placeholder) == 1
        await below.send_all(flight.replace(placeholder, name))
        await below.send_eof()

    return send


async def test_a_name_that_is_no_text_ends_its_own_connection_only(
    issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G8: Python refuses it before we see it, and says so on standard error."""
    reports: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append(report.exc_type))
    tls = Tls(issue("pop.example"))
    below, above = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(await_first_flight(below, b"xxxx", b"\xff\xfe\x80x"))
        with pytest.raises(HandshakeFailed):
            await tls.handshake(tls.wrap(above))
    assert reports == [UnicodeDecodeError]
    assert (await seen(tls, "pop.example")).names == ["pop.example"]


async def test_a_storm_of_unknown_names_leaves_nothing(issue: Issue) -> None:
    """G8: CVE-2017-15130 was a configuration made and kept for each name asked for."""
    tls = Tls(issue("pop.example", name="one"), issue("*.wild.example", name="two"))

    async def storm(number: int) -> int:
        for index in range(number):
            below, above = trio.testing.memory_stream_pair()
            name = f"host-{index:08}.example".encode()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(await_first_flight(below, b"x" * len(name), name))
                with pytest.raises(HandshakeFailed):
                    await tls.handshake(tls.wrap(above))
        gc.collect()
        return len(gc.get_objects())

    await storm(20)
    before = await storm(20)
    assert await storm(400) - before < 100


async def test_what_is_known_is_of_one_connection(issue: Issue) -> None:
    """G6: two clients in the middle of their handshakes at the same time."""
    tls = Tls(issue("pop.example", name="one"), issue("mail.other", name="two"))
    async with connected(tls, "pop.example") as (one, _, _), connected(tls, "mail.other") as (other, _, _):
        assert tls.describe(one).server_name == "pop.example"
        assert tls.describe(other).server_name == "mail.other"
        assert tls.describe(one).end_point != tls.describe(other).end_point
    async with connected(tls) as (_, _, info):
        assert info.server_name is None


def test_a_certificate_nobody_will_see_is_reported(issue: Issue, caplog: pytest.LogCaptureFixture) -> None:
    Tls(issue("pop.example", name="one"), issue("pop.example", name="two"), issue("192.0.2.1", name="three"))
    assert [record.getMessage().partition("/")[2].rpartition("/")[2] for record in caplog.records] == [
        f"{name}.pem is of no use: it has no DNS name that no other certificate has" for name in ("two", "three")
    ]


# --- client certificates -------------------------------------------------------------------------------------------


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes("# Unsere Behörde\n".encode() + CA.cert_pem.bytes())
    return str(path)


def identified(ca: trustme.CA = CA) -> ssl.SSLContext:
    context = trusting()
    ca.issue_cert("jane@example.org", common_name="jane").configure_cert(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate(issue: Issue, ca_file: str, version: ssl.TLSVersion) -> None:
    """R8314-12, R2595-09: what EXTERNAL needs; also of a certificate that SNI has chosen."""
    context = identified()
    context.maximum_version = version
    tls = Tls(issue("pop.example", name="one"), issue("mail.other", name="two"), client_ca=ca_file)
    certificate = (await seen(tls, "mail.other", context)).info.certificate
    assert certificate is not None
    assert certificate.names("email") == ("jane@example.org",)
    assert certificate.subject("commonName") == ("jane",)
    assert certificate.fingerprint == hashlib.sha256(certificate.der).hexdigest()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_that_is_resumed_is_of_the_same_client(
    issue: Issue, ca_file: str, version: ssl.TLSVersion
) -> None:
    """R5929-03, R2595-09: no certificate crosses the wire again, and all is known as it was."""
    context = identified()
    context.maximum_version = version
    tls = Tls(issue("pop.example", name="one"), issue("mail.other", name="two"), client_ca=ca_file)
    async with connected(tls, "mail.other", context) as (server, client, first):
        await talk(server, client)
        session = client.session
    async with connected(tls, "mail.other", context, session) as (server, client, second):
        assert client.session_reused
    assert second == first


async def test_a_client_without_certificate_is_welcome(issue: Issue, ca_file: str) -> None:
    """R8314-02."""
    assert (await seen(Tls(issue("pop.example"), client_ca=ca_file))).info.certificate is None


async def test_a_client_with_a_certificate_of_strangers_is_not(issue: Issue, ca_file: str) -> None:
    """R2595-16, G4."""
    reason = await failure(Tls(issue("pop.example"), client_ca=ca_file), identified(STRANGERS))
    assert reason == "client certificate not accepted: unable to get local issuer certificate"


async def test_an_intermediate_authority_will_do(issue: Issue, tmp_path: Path) -> None:
    child = CA.create_child_ca()
    (tmp_path / "child.pem").write_bytes(child.cert_pem.bytes())
    tls = Tls(issue("pop.example"), client_ca=tmp_path / "child.pem")
    assert (await seen(tls, None, identified(child))).info.certificate is not None


async def test_no_certificate_is_asked_for_that_is_not_of_use(issue: Issue) -> None:
    """R8314-11: a client that has one does not get to send it."""
    async with connected(Tls(issue("pop.example")), None, identified()) as (server, _, info):
        assert info.certificate is None
        assert server.context.verify_mode is ssl.CERT_NONE


# --- files that change ---------------------------------------------------------------------------------------------


async def talk(server: Server, client: Client) -> bytes:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"+OK\r\n")
        received = await client.receive_some()
    return bytes(received)


async def test_renewed_files_are_for_new_connections(issue: Issue) -> None:
    """G8: connections that are there live on with what they have."""
    tls = Tls(issue("pop.example"))
    async with connected(tls) as (server, client, info):
        assert not tls.changed()
        issue("pop.example", "new.example")
        assert tls.changed()
        assert (await seen(tls)).names == ["pop.example"]
        assert tls.reload()
        assert not tls.changed()
        found = await seen(tls)
        assert found.names == ["pop.example", "new.example"]
        assert found.info.end_point == hashlib.sha256(found.der).digest()
        assert await talk(server, client) == b"+OK\r\n"
        assert tls.describe(server) == info


def test_the_same_files_are_nothing_new(issue: Issue) -> None:
    tls = Tls(issue("pop.example"))
    assert not tls.reload()


async def test_a_reload_during_a_handshake(issue: Issue) -> None:
    """The handshake goes on with the files it began with, and the channel binding is theirs."""
    tls = Tls(issue("pop.example", name="one"), issue("mail.other", name="two"))
    below, above = trio.testing.memory_stream_pair()
    server = tls.wrap(above)
    issue("mail.other", name="two")
    assert tls.reload()
    client: Client = trio.SSLStream(below, trusting(), server_hostname="mail.other")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        info = await tls.handshake(server)
    assert info.end_point == hashlib.sha256(client.getpeercert(binary_form=True)).digest()


async def test_old_contexts_are_gone(issue: Issue) -> None:
    """G8: a certificate renewed for years does not fill the memory."""
    tls = Tls(issue("pop.example", name="one"), issue("mail.other", name="two"))
    async with connected(tls, "mail.other") as (server, _, _):
        old = weakref.ref(server.context)
    del server
    tls.reload()
    await trio.testing.wait_all_tasks_blocked()  # the loop lets go of what it has just run
    gc.collect()
    assert old() is None


def become_directory(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


def spoil(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


FOREIGN = CA.issue_cert("foreign.example")
DAMAGED = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"
SPOILED: dict[str, tuple[Callable[[str, str, str], None], str]] = {
    "key gone": (lambda _, key, __: os.unlink(key), "{key} cannot be read: No such file or directory"),
    "certificate gone": (
        lambda certificate, _, __: os.unlink(certificate),
        "{certificate} cannot be read: No such file or directory",
    ),
    "authorities gone": (lambda _, __, ca: os.unlink(ca), "{ca} cannot be read: No such file or directory"),
    "no key": (lambda _, key, __: spoil(key, b"nonsense"), "{key} holds no key in PEM"),
    "no certificate": (lambda certificate, _, __: spoil(certificate, b""), "{certificate} holds no certificate in PEM"),
    "not base64": (
        lambda certificate, _, __: spoil(certificate, DAMAGED % b"%%%%"),
        "{certificate} holds a certificate that is damaged",
    ),
    "not DER": (
        lambda certificate, _, __: spoil(certificate, DAMAGED % b"MAMCAQE="),
        "{certificate} holds a certificate that is damaged",
    ),
    "damaged chain": (
        lambda certificate, _, __: spoil(certificate, Path(certificate).read_bytes() + DAMAGED % b"MAA="),
        "{certificate} holds a certificate that is damaged",
    ),
    "no authorities": (lambda _, __, ca: spoil(ca, b"nonsense"), "{ca} holds no certificate in PEM"),
    "mismatch": (
        lambda _, key, __: spoil(key, FOREIGN.private_key_pem.bytes()),
        "the key in {key} does not belong to the certificate in {certificate}",
    ),
    "mismatch of kinds": (
        lambda _, key, __: spoil(key, key_pem(ed25519.Ed25519PrivateKey.generate())),
        "the key in {key} does not belong to the certificate in {certificate}",
    ),
    "encrypted": (
        lambda _, key, __: spoil(key, key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret")),
        "{key} is encrypted; a server needs a key without a passphrase",
    ),
    "directory": (
        lambda _, key, __: become_directory(key),
        "{key} is not a regular file",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
async def test_files_of_no_use_change_nothing(issue: Issue, ca_file: str, what: str) -> None:
    """G8: new connections go on with the old certificate, and the reason is one sentence with a path."""
    certificate, key = issue("pop.example")
    tls = Tls((certificate, key), client_ca=ca_file)
    do, complaint = SPOILED[what]
    do(certificate, key, ca_file)
    assert tls.changed()
    with pytest.raises(TlsError) as failed:
        tls.reload()
    assert str(failed.value) == complaint.format(certificate=certificate, key=key, ca=ca_file)
    assert failed.value.__suppress_context__ or failed.value.__context__ is None
    assert tls.changed()
    assert (await seen(tls)).names == ["pop.example"]
    with pytest.raises(TlsError):
        Tls((certificate, key), client_ca=ca_file)


def test_a_key_that_is_too_small(tmp_path: Path) -> None:
    """R8314-06: OpenSSL's own judgement, in words."""
    key = rsa.generate_private_key(65537, 1024)
    files = write_own(tmp_path, self_signed(key, hashes.SHA256()), key)
    with pytest.raises(TlsError) as failed:
        Tls(files)
    assert str(failed.value) == f"{files[0]} with {files[1]} is not accepted by OpenSSL: ee key too small"


def test_a_file_replaced_while_it_is_read(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel binding must be of the certificate that is shown."""
    certificate, key = issue("pop.example")
    tls = Tls((certificate, key))
    load = ssl.SSLContext.load_cert_chain

    def slow(self: ssl.SSLContext, *args: Any) -> None:
        load(self, *args)
        issue("pop.example")

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", slow)
    with pytest.raises(TlsError) as failed:
        tls.reload()
    assert str(failed.value) == f"{certificate} was replaced while it was being read"
    monkeypatch.undo()
    assert tls.changed()
    assert tls.reload()


@pytest.mark.parametrize("touch", ["time", "size", "inode"])
def test_what_shows_that_a_file_is_another(issue: Issue, tmp_path: Path, touch: str) -> None:
    certificate, key = issue("pop.example")
    tls = Tls((certificate, key))
    status = os.stat(key)
    if touch == "time":
        os.utime(key, ns=(0, status.st_mtime_ns + 1))
    elif touch == "size":
        with open(key, "ab") as file:
            file.write(b"\n")
        os.utime(key, ns=(0, status.st_mtime_ns))
    else:
        (tmp_path / "copy").write_bytes(Path(key).read_bytes())
        os.utime(tmp_path / "copy", ns=(0, status.st_mtime_ns))
        os.replace(tmp_path / "copy", key)
    assert tls.changed()
    assert not tls.reload()  # but the certificate is the same
    assert not tls.changed()


@pytest.mark.parametrize(
    ("begins", "ends", "complaint"),
    [(-2, -1, "expired at"), (1, 2, "is not good before"), (-1, 1, None)],
)
async def test_a_certificate_that_is_not_good_today_is_served_and_reported(
    issue: Issue, caplog: pytest.LogCaptureFixture, begins: int, ends: int, complaint: str | None
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    files = issue("pop.example", not_before=now + timedelta(begins), not_after=now + timedelta(ends))
    assert (await seen(Tls(files))).names == ["pop.example"]
    assert [record.levelno for record in caplog.records] == ([logging.WARNING] if complaint else [])
    if complaint:
        when = now + timedelta(ends if ends < 0 else begins)
        assert caplog.records[0].getMessage() == f"{files[0]} {complaint} {when}"


def test_dates_of_the_next_half_century(issue: Issue, caplog: pytest.LogCaptureFixture) -> None:
    """Both ways of writing a date (RFC 5280 section 4.1.2.5)."""
    day = {"not_before": datetime(1955, 1, 1, tzinfo=UTC), "not_after": datetime(2060, 1, 1, tzinfo=UTC)}
    Tls(issue("pop.example", **day))
    assert not caplog.records


def test_no_pair_is_no_tls() -> None:
    with pytest.raises(ValueError, match="a certificate and its key"):
        Tls()


# --- a context of somebody else ------------------------------------------------------------------------------------


async def test_a_context_of_somebody_else(issue: Issue) -> None:
    certificate, key = issue("pop.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    bound, unbound = Tls.from_context(context, certificate), Tls.from_context(context)
    found = await seen(bound, "pop.example")
    assert found.info.end_point == hashlib.sha256(found.der).digest()
    assert found.info.server_name is None
    assert (await seen(unbound)).info.end_point is None
    issue("pop.example")
    assert not bound.changed()
    assert not bound.reload()
    assert (await seen(bound)).der == found.der


async def test_a_context_that_switches_by_itself_is_not_bound_to_the_wrong_certificate(issue: Issue) -> None:
    one, two = issue("pop.example", name="one"), issue("mail.other", name="two")
    context, other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*one)
    other.load_cert_chain(*two)

    def switch(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = other

    context.sni_callback = switch
    assert (await seen(Tls.from_context(context, one[0]), "mail.other")).info.end_point is None


def test_a_context_of_the_wrong_side(issue: Issue) -> None:
    with pytest.raises(ValueError, match="for clients"):
        Tls.from_context(trusting())


def test_a_context_with_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="cannot be read"):
        Tls.from_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "none.pem")


# --- channel binding -----------------------------------------------------------------------------------------------

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())
SIGNED: dict[str, tuple[Any, Any, Any]] = {
    "rsa sha224": (RSA_KEY, hashes.SHA224(), None),
    "rsa sha256": (RSA_KEY, hashes.SHA256(), None),
    "rsa sha384": (RSA_KEY, hashes.SHA384(), None),
    "rsa sha512": (RSA_KEY, hashes.SHA512(), None),
    "pss sha256": (RSA_KEY, hashes.SHA256(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
    "pss sha512": (RSA_KEY, hashes.SHA512(), padding.PSS(padding.MGF1(hashes.SHA512()), 64)),
    "ecdsa sha224": (EC_KEY, hashes.SHA224(), None),
    "ecdsa sha256": (EC_KEY, hashes.SHA256(), None),
    "ecdsa sha384": (EC_KEY, hashes.SHA384(), None),
    "ecdsa sha512": (EC_KEY, hashes.SHA512(), None),
}


def independent(der: bytes) -> bytes:
    """By another library's idea of the certificate."""
    algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    assert algorithm is not None
    weak = isinstance(algorithm, (hashes.SHA1, hashes.MD5))
    digest = hashes.Hash(hashes.SHA256() if weak else algorithm)
    digest.update(der)
    return digest.finalize()


@pytest.mark.parametrize("kind", SIGNED)
async def test_the_end_point_is_the_certificate_under_its_own_hash(tmp_path: Path, kind: str) -> None:
    """R5929-03."""
    key, algorithm, rsa_padding = SIGNED[kind]
    tls = Tls(write_own(tmp_path, self_signed(key, algorithm, rsa_padding), key))
    found = await seen(tls)
    assert found.info.end_point == independent(found.der)
    assert len(found.info.end_point) == algorithm.digest_size


@pytest.mark.parametrize("kind", ["rsa sha256", "ecdsa sha256"])
@pytest.mark.parametrize("weak", ["sha1", "md5"])
def test_sha_256_stands_for_weak_hashes(kind: str, weak: str) -> None:
    """R5929-03: nobody signs with MD5 or SHA-1 any more, so the identifier is put into a certificate by hand."""
    der = self_signed(*SIGNED[kind]).public_bytes(serialization.Encoding.DER)
    rsa_with, ecdsa_with = bytes.fromhex("06092a864886f70d0101"), bytes.fromhex("06072a8648ce3d04")
    if kind.startswith("rsa"):
        old = der.replace(rsa_with + b"\x0b", rsa_with + (b"\x05" if weak == "sha1" else b"\x04"))
        assert old != der
        assert independent(old) == tls_server_end_point(old) == hashlib.sha256(old).digest()
    else:
        # One octet shorter: ecdsa-with-SHA1 is an identifier of its own.
        algorithm = bytes.fromhex("300906072a8648ce3d0401")
        outer = sequence(sequence(b""), algorithm, b"\x03\x01\x00")
        assert ecdsa_with in algorithm
        assert tls_server_end_point(outer) == hashlib.sha256(outer).digest()


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()])
async def test_no_hash_no_end_point(tmp_path: Path, key: Any) -> None:
    """R5929-03: signatures with Ed25519 and Ed448 have no hash of their own."""
    found = await seen(Tls(write_own(tmp_path, self_signed(key, None), key)))
    assert found.info.end_point is None


def sequence(*parts: bytes, tag: int = 0x30) -> bytes:
    content = b"".join(parts)
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


SHA1 = bytes.fromhex("06052b0e03021a")
SHA256, SHA512 = bytes.fromhex("0609608648016503040201"), bytes.fromhex("0609608648016503040203")
PSS, MGF1 = bytes.fromhex("06092a864886f70d01010a"), bytes.fromhex("06092a864886f70d010108")
NULL = b"\x05\x00"


def pss(hash_of: bytes | None, mask: bytes | None) -> bytes:
    parts = b""
    if hash_of is not None:
        parts += sequence(sequence(hash_of, NULL), tag=0xA0)
    if mask is not None:
        parts += sequence(sequence(MGF1, sequence(mask, NULL)), tag=0xA1)
    return sequence(sequence(b""), sequence(PSS, sequence(parts)), b"\x03\x01\x00")


@pytest.mark.parametrize(
    ("der", "name"),
    [
        (pss(None, None), "sha256"),  # SHA-1 twice, by default
        (pss(SHA1, SHA1), "sha256"),
        (pss(SHA512, SHA512), "sha512"),
        (pss(SHA512, SHA256), None),
        (pss(SHA256, None), None),
        (pss(None, SHA256), None),
        (sequence(sequence(b""), sequence(PSS), b"\x03\x01\x00"), None),
        (sequence(sequence(b""), sequence(b"\x06\x01\x2a"), b"\x03\x01\x00"), None),
    ],
)
def test_a_signature_with_two_hashes_has_no_end_point(der: bytes, name: str | None) -> None:
    """R5929-03: it is defined for one hash."""
    assert tls_server_end_point(der) == (None if name is None else hashlib.new(name, der).digest())


REAL = self_signed(*SIGNED["pss sha256"]).public_bytes(serialization.Encoding.DER)


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255), st.integers(0, len(REAL)))
def test_any_octets_are_a_certificate_or_are_not(at: int, octet: int, end: int) -> None:
    """Totality: ValueError and nothing else."""
    for der in (REAL[:at] + bytes([octet]) + REAL[at + 1 :], REAL[:end]):
        try:
            point = tls_server_end_point(der)
        except ValueError:
            assert der != REAL
        else:
            assert point is None or point == hashlib.sha256(der).digest()


@given(st.binary(max_size=40))
def test_octets_that_are_no_certificate(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|not a|expected at least"):
        tls_server_end_point(octets)


@given(at=st.integers(0, len(REAL) - 1), octet=st.integers(0, 255))
def test_any_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, at: int, octet: int) -> None:
    """Totality: TlsError and nothing else."""
    path = tmp_path_factory.getbasetemp() / "mutated.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(REAL[:at] + bytes([octet]) + REAL[at + 1 :]))
    complaint = ""
    try:
        Tls.from_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), path)
    except TlsError as failed:
        complaint = str(failed)
    assert complaint in ("", f"{path} holds a certificate that is damaged")


@pytest.mark.parametrize("tbs", [b"", sequence(b""), b"\x02\x01\x01" * 3])
def test_certificates_with_fields_missing(tmp_path: Path, tbs: bytes) -> None:
    der = sequence(sequence(tbs), sequence(b"\x06\x01\x2a"), b"\x03\x01\x00")
    (tmp_path / "short.pem").write_text(ssl.DER_cert_to_PEM_cert(der))
    with pytest.raises(TlsError, match="damaged"):
        Tls.from_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "short.pem")


def test_an_empty_identifier() -> None:
    with pytest.raises(ValueError, match="no identifier"):
        tls_server_end_point(sequence(sequence(b""), sequence(b"\x06\x00"), b"\x03\x01\x00"))


async def test_a_certificate_without_names_may_be_the_first(tmp_path: Path) -> None:
    key = SIGNED["ecdsa sha256"][0]
    tls = Tls(write_own(tmp_path, self_signed(*SIGNED["ecdsa sha256"], names=()), key))
    assert (await connected_version(tls)).startswith("TLS")


async def connected_version(tls: Tls) -> str:
    async with connected(tls, "pop.example") as (_, _, info):
        return info.version


def test_no_secret_shows() -> None:
    """P5: channel binding data is nobody's business."""
    assert "end_point" not in repr(TlsInfo("TLSv1.3", "x", None, b"secret", None))
    assert "secret" not in repr(TlsInfo("TLSv1.3", "x", None, b"secret", None))


# --- handshakes that fail, and the end -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"CAPA\r\nUSER jane\r\n", "wrong version number"),
        (b"GET / HTTP/1.0\r\n\r\n", "http request"),
        (b"", "connection lost"),
        (b"\x16\x03\x01", "connection lost"),
    ],
)
async def test_a_failed_handshake_is_silent(issue: Issue, said: bytes, reason: str) -> None:
    """G4, R2595-19: a client that goes on in clear gets not one octet, and why is known."""
    client, above = trio.testing.memory_stream_pair()
    tls = Tls(issue("pop.example"))
    server = tls.wrap(above)
    if said:
        await client.send_all(said)
    await client.send_eof()
    with pytest.raises(HandshakeFailed) as failed:
        await tls.handshake(server)
    assert str(failed.value) == reason
    with pytest.raises(trio.NeedHandshakeError):
        tls.describe(server)
    await close(server)
    assert await client.receive_some() == b""


async def test_a_connection_lost_during_the_handshake(issue: Issue) -> None:
    client, above = trio.testing.memory_stream_pair()
    tls = Tls(issue("pop.example"))

    async def lost() -> None:
        raise trio.BrokenResourceError

    above.receive_stream.receive_some_hook = lost
    server = tls.wrap(above)
    await client.send_all(b"\x16\x03\x01")
    with pytest.raises(HandshakeFailed, match="connection lost"):
        await tls.handshake(server)


async def test_a_stalled_handshake_ends_on_time(issue: Issue, autojump_clock: trio.testing.MockClock) -> None:
    """G5: under the caller's deadline, and closing it does not begin another handshake."""
    client, above = trio.testing.memory_stream_pair()
    tls = Tls(issue("pop.example"))
    server = tls.wrap(above)
    with trio.move_on_after(30) as scope:
        await tls.handshake(server)
    assert scope.cancelled_caught
    await close(server)
    assert trio.current_time() == pytest.approx(30)
    assert await client.receive_some() == b""


async def test_closing_before_any_handshake_says_nothing(issue: Issue, autojump_clock: trio.testing.MockClock) -> None:
    client, above = trio.testing.memory_stream_pair()
    await close(Tls(issue("pop.example")).wrap(above))
    assert trio.current_time() < MOMENT
    assert await client.receive_some() == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_end_is_announced(
    issue: Issue, autojump_clock: trio.testing.MockClock, version: ssl.TLSVersion
) -> None:
    """R8314-04: a client that insists on a close alert gets it, behind the last reply; nobody waits."""
    context = trusting()
    context.maximum_version = version
    async with connected(Tls(issue("pop.example")), None, context) as (server, client, _):

        async def read() -> None:
            assert await client.receive_some() == b"+OK bye\r\n"
            assert await client.receive_some() == b""  # would raise if the stream below had just ended
            await client.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await server.send_all(b"+OK bye\r\n")
            await close(server)
        await close(server)
        assert trio.current_time() < MOMENT


async def test_a_client_that_just_goes_away(issue: Issue, autojump_clock: trio.testing.MockClock) -> None:
    """A missing close alert is an end like any other: truncation harms nobody, as nothing is done without a QUIT."""
    async with connected(Tls(issue("pop.example"))) as (server, client, _):
        await client.send_all(b"NOOP\r\n")
        await trio.aclose_forcefully(client.transport_stream)
        assert await server.receive_some() == b"NOOP\r\n"
        assert await server.receive_some() == b""
        await close(server)
        assert trio.current_time() < MOMENT


async def test_a_client_that_was_told_first(issue: Issue, autojump_clock: trio.testing.MockClock) -> None:
    """A client that ends TLS gets our alert in return."""
    async with connected(Tls(issue("pop.example"))) as (server, client, _), trio.open_nursery() as nursery:
        nursery.start_soon(client.unwrap)
        assert await server.receive_some() == b""
        await close(server)
        assert trio.current_time() < MOMENT


async def test_a_client_that_does_not_answer_the_farewell(issue: Issue, autojump_clock: trio.testing.MockClock) -> None:
    """Five seconds, then it is closed all the same."""
    async with connected(Tls(issue("pop.example"))) as (server, client, _):
        await close(server)
        assert trio.current_time() == pytest.approx(5, abs=MOMENT)
        assert await client.receive_some() == b""
        await close(server)


@pytest.mark.parametrize(
    ("pieces", "late", "told", "seconds"),
    [(1, False, True, 5), (1, True, True, 5), (10, False, True, 5), (100, True, True, 0), (100, False, False, 0)],
)
async def test_a_client_that_goes_on_talking(
    issue: Issue, autojump_clock: trio.testing.MockClock, pieces: int, late: bool, told: bool, seconds: int
) -> None:
    """R8314-04: what it sends is thrown away, up to a bound, so that it can read the last reply and the alert."""
    closed: list[float] = []
    async with connected(Tls(issue("pop.example"))) as (server, client, _), trio.open_nursery() as nursery:

        async def talk() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                for _ in range(pieces):
                    await client.send_all(b"x" * 10_000)

        async def end() -> None:
            await close(server)
            closed.append(trio.current_time())

        await server.send_all(b"+OK bye\r\n")
        if not late:
            await talk()
        nursery.start_soon(end)
        assert await client.receive_some() == b"+OK bye\r\n"
        with contextlib.nullcontext() if told else pytest.raises(trio.BrokenResourceError):
            assert await client.receive_some() == b""
        if late:
            await talk()
    assert closed == [pytest.approx(seconds, abs=MOMENT)]


async def test_a_client_that_talks_and_goes(issue: Issue, autojump_clock: trio.testing.MockClock) -> None:
    async with connected(Tls(issue("pop.example"))) as (server, client, _):
        await client.send_all(b"NOOP\r\n" * 1000)
        await client.aclose()
        await close(server)
        assert trio.current_time() < MOMENT


async def test_cut_off_is_no_end(issue: Issue) -> None:
    """Cancelled, the stream is closed at once and without an alert: the client knows that it was cut off."""
    async with connected(Tls(issue("pop.example"))) as (server, client, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await close(server)
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await server.send_all(b"x")


async def test_a_broken_stream_is_closed(issue: Issue) -> None:
    async with connected(Tls(issue("pop.example"))) as (server, client, _):
        await client.transport_stream.send_all(b"not TLS at all")
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
        await close(server)
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()


async def test_a_real_client_sees_the_last_reply_of_a_server_that_did_not_read_all(issue: Issue) -> None:
    """R8314-04, over TCP with OpenSSL's own client: no reset takes the reply from it."""
    tls = Tls(issue("pop.example"))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def serve(stream: trio.SocketStream) -> None:
        server = tls.wrap(stream)
        info = await tls.handshake(server)
        assert await server.receive_some(4) == b"QUIT"
        await server.send_all(b"+OK bye " + info.version.encode() + b"\r\n")
        await close(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        command = [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{port}",
            "-alpn",
            "pop3",
            "-servername",
            "pop.example",
        ]
        done = await trio.run_process(
            [*command, "-quiet", "-ign_eof"], stdin=b"QUIT\n" + b"NOOP\n" * 20_000, capture_stdout=True, check=False,
            capture_stderr=True,
        )  # fmt: skip
        nursery.cancel_scope.cancel()
    assert (done.returncode, done.stdout) == (0, b"+OK bye TLSv1.3\r\n")
