"""TLS on the server's side: certificates and their keys, which of them a client sees, and when they are renewed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, final
from weakref import WeakKeyDictionary

import trio

from ..credentials import ClientCertificate

logger = logging.getLogger("trio_pop3.server")

_Path: TypeAlias = str | os.PathLike[str]
# What a file was when it was read: modification time, size, inode; None if it cannot be had.
_Stamp: TypeAlias = tuple[int, int, int] | None

# The protocol's name in ALPN, as IANA has it.
_ALPN: Final = "pop3"
# For our farewell to be taken, and for the client's to come.
_CLOSE_SECONDS: Final = 5.0
_CLOSE_OCTETS: Final = 256 * 1024
# A deadline of 0 would not even let be read what is there.
_MOMENT_SECONDS: Final = 0.001
_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
# What a client may ask for with SNI and have logged. Names of certificates are looked for among these only.
_SERVER_NAME: Final = re.compile(r"[a-z0-9._-]{1,253}")
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class TlsError(Exception):
    """Certificates or keys that cannot be used; the text is one sentence that names the file."""


class HandshakeFailed(Exception):
    """The client and we did not come to terms; the text is OpenSSL's reason. Close without a word."""


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What a handshake came to.

    `server_name` is what the client asked for with SNI, in lower case, if that can be a host name; `end_point` the
    channel binding tls-server-end-point, None if it is not defined for our certificate; `certificate` the client's.
    """

    version: str  # "TLSv1.3"
    cipher: str  # "TLS_AES_256_GCM_SHA384"
    server_name: str | None
    end_point: bytes | None = field(repr=False)
    certificate: ClientCertificate | None


class _Connection(ssl.SSLObject):
    """Remembers the client's SNI, each connection its own."""

    server_hostname: str | None = None


class _Context(ssl.SSLContext):
    sslobject_class = _Connection


@final
class Tls:
    """Certificates, and what is made of them: what `serve(tls=...)` takes.

    Each pair is the path of a certificate in PEM, the chain to its authority behind it, and the path of its key. The
    first is for clients that name no server, or one that no certificate is for; otherwise that one is chosen which has
    the server's name among its DNS names, exactly or with one label for a `*` (RFC 6066 section 3).

    TLS 1.2 and 1.3, with the cipher suites of Python's own list (RFC 9325), without renegotiation and compression.

    Args:
        pairs: at least one.
        client_ca: certificates, in PEM, of the authorities whose client certificates are good for EXTERNAL. None is not
            to ask clients for any (RFC 8314 section 4.2).

    Raises TlsError if a file cannot be used, ValueError if there is no pair.
    """

    def __init__(self, *pairs: tuple[_Path, _Path], client_ca: _Path | None = None) -> None:
        if not pairs:
            raise ValueError("TLS needs a certificate and its key")
        self._pairs = tuple((os.fspath(certificate), os.fspath(key)) for certificate, key in pairs)
        self._client_ca = None if client_ca is None else os.fspath(client_ca)
        # By the context a connection ends up with; a connection may outlive a reload.
        self._end_points: WeakKeyDictionary[ssl.SSLContext, bytes | None] = WeakKeyDictionary()
        self._loaded = self._load()

    @classmethod
    def from_context(cls, context: ssl.SSLContext, certificate: _Path | None = None) -> Tls:
        """TLS as somebody else has set it up. The context is used as it is, and never reloaded.

        `certificate` is the PEM file of the certificate in it, if it has only one, for channel binding; without it
        there is none. Raises TlsError if the file cannot be used, ValueError for a context of the client's side.
        """
        if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("this is a context for clients, not for servers")
        tls = cls.__new__(cls)
        tls._pairs = ()
        tls._client_ca = None
        tls._end_points = WeakKeyDictionary()
        if certificate is not None:
            tls._end_points[context] = _read_certificates(os.fspath(certificate))[0].end_point
        tls._loaded = _Loaded(context, {}, ())
        return tls

    def reload(self) -> bool:
        """Read all files again, for connections made from now on; whether the certificates are others than before.

        Blocks for some milliseconds, and may be called in a thread. Raises TlsError if a file cannot be used, and then
        changes nothing.
        """
        if not self._pairs:
            return False
        before, self._loaded = self._loaded, self._load()
        return before.certificates != self._loaded.certificates

    def changed(self) -> bool:
        """Whether a file is not what was loaded, by its modification time, size and inode."""
        stamps = self._loaded.stamps
        return _stamps(stamps) != stamps

    def wrap(self, stream: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
        """The server's side of TLS on a stream. Do the `handshake` next, and end it with `close`.

        A client that goes away without the farewell of TLS has just gone away: nothing is done without a QUIT.
        """
        return trio.SSLStream(stream, self._loaded.context, server_side=True, https_compatible=True)

    async def handshake(self, stream: trio.SSLStream[Any]) -> TlsInfo:
        """Come to terms with the client. The deadline is the caller's.

        Raises HandshakeFailed. Nothing may be written to the stream below then, nor after a cancellation.
        """
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as failure:
            raise HandshakeFailed(_reason(failure.__cause__)) from None
        return self.describe(stream)

    def describe(self, stream: trio.SSLStream[Any]) -> TlsInfo:
        """What the handshake came to. Raises trio.NeedHandshakeError before it is done."""
        version, cipher = stream.version(), stream.cipher()[0]
        fields = stream.getpeercert()  # empty for a certificate that nobody vouches for
        certificate = ClientCertificate(fields, stream.getpeercert(binary_form=True)) if fields else None
        return TlsInfo(version, cipher, stream.server_hostname, self._end_points.get(stream.context), certificate)

    def _load(self) -> _Loaded:
        """Everything anew. Raises TlsError."""
        paths = [path for pair in self._pairs for path in pair]
        stamps = _stamps(paths if self._client_ca is None else [*paths, self._client_ca])
        authorities = [] if self._client_ca is None else _read_certificates(self._client_ca)
        contexts: list[ssl.SSLContext] = []
        by_name: dict[str, ssl.SSLContext] = {}
        certificates = [certificate.der for certificate in authorities]
        for path, key in self._pairs:
            chain = _read_certificates(path)
            context = _context(path, key, authorities)
            self._end_points[context] = chain[0].end_point
            contexts.append(context)
            certificates += (certificate.der for certificate in chain)
            names = [name for name in chain[0].names if name not in by_name]
            by_name.update(dict.fromkeys(names, context))
            if len(contexts) > 1 and not names:
                logger.warning("%s is of no use: it has no DNS name that no other certificate has", path)
            chain[0].warn(path)
        for path, stamp in _stamps(stamps).items():
            if stamp != stamps[path]:
                raise TlsError(f"{path} was replaced while it was being read")
        contexts[0].sni_callback = _chooser(by_name)
        return _Loaded(contexts[0], stamps, tuple(certificates))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One state of the files."""

    context: ssl.SSLContext
    stamps: Mapping[str, _Stamp]
    certificates: tuple[bytes, ...]


async def close(stream: trio.SSLStream[Any]) -> None:
    """End TLS and close the stream below, on every way out. Does nothing the second time.

    After a handshake, the client is told (RFC 8314 section 3.4) and has 5 seconds to do the same or go away; what it
    still sends is thrown away, as closing with unread input would take the last reply from it. Without a handshake, or
    cancelled, nothing is said: a session that was cut off did not end.
    """
    below: Any = stream.transport_stream  # None once TLS has ended
    if below is None:
        return
    try:
        with (
            trio.move_on_after(_CLOSE_SECONDS),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            if _is_up(stream):
                await _say_farewell(stream, below)
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
            await trio.aclose_forcefully(below)


async def _say_farewell(stream: trio.SSLStream[Any], below: trio.abc.Stream) -> None:
    # What is here already has to go first: with it unread, OpenSSL fails, and trio does not send our alert.
    taken = await _discard(partial(_at_once, stream), 0)
    try:
        await stream.unwrap()
    except trio.BrokenResourceError as failure:
        if not isinstance(failure.__cause__, ssl.SSLError):
            raise
        # It goes on talking, or has gone; ours was sent.
        await _discard(below.receive_some, taken)


async def _at_once(stream: trio.abc.ReceiveStream) -> bytes | bytearray:
    """What is there to be read; b"" if that is nothing."""
    with trio.move_on_after(_MOMENT_SECONDS):
        return await stream.receive_some()
    return b""


async def _discard(read: Callable[[], Awaitable[bytes | bytearray]], taken: int) -> int:
    """Read to the end, or to the most that we take; with what was taken before, how much it was."""
    while taken < _CLOSE_OCTETS and (data := await read()):
        taken += len(data)
    return taken


def _is_up(stream: trio.SSLStream[Any]) -> bool:
    try:
        stream.version()
    except trio.NeedHandshakeError:
        return False
    return True


def _reason(failure: BaseException | None) -> str:
    """Why a handshake failed, for the log: nothing in it is the client's."""
    match failure:
        case ssl.SSLCertVerificationError():
            return f"client certificate not accepted: {failure.verify_message}"
        case ssl.SSLError(reason=str(reason)) if not isinstance(failure, ssl.SSLEOFError):
            return _words(reason)
        case _:
            return "connection lost"


def _words(reason: str) -> str:
    """OpenSSL's name for what is wrong, as words."""
    return reason.replace("_", " ").lower()


def _chooser(by_name: Mapping[str, ssl.SSLContext]) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    """The callback that switches a connection to the certificate for the server it asks for, if there is one."""

    def choose(connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        assert isinstance(connection, _Connection)
        name = "" if server_name is None else server_name.lower().removesuffix(".")
        if _SERVER_NAME.fullmatch(name):
            connection.server_hostname = name
            context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
            if context is not None:
                connection.context = context

    return choose


def _context(certificate: str, key: str, authorities: Iterable[_Certificate]) -> ssl.SSLContext:
    """A context with one certificate, which has been read already. Raises TlsError."""
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([_ALPN])
    if trusted := b"".join(authority.der for authority in authorities):
        context.load_verify_locations(cadata=trusted)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # an intermediate authority may be named

    def encrypted() -> str:
        # Without this, OpenSSL would ask whoever sits at the terminal.
        raise TlsError(f"{key} is encrypted; a server needs a key without a passphrase")

    try:
        context.load_cert_chain(certificate, key, encrypted)
    except ssl.SSLError as failure:
        raise TlsError(_complaint(certificate, key, failure.reason)) from None
    except OSError as failure:
        raise TlsError(f"{key} cannot be read: {failure.strerror}") from None
    return context


def _complaint(certificate: str, key: str, reason: str | None) -> str:
    if reason in _MISMATCHES:
        return f"the key in {key} does not belong to the certificate in {certificate}"
    if reason is None:
        return f"{key} holds no key in PEM"
    return f"{certificate} with {key} is not accepted by OpenSSL: {_words(reason)}"


def _stamps(paths: Iterable[str]) -> dict[str, _Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None  # differs from every file there is, and reading it will say why
    return status.st_mtime_ns, status.st_size, status.st_ino


# --- what is written in certificates; the standard library tells it of a peer's only -------------------------------

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_DNS_NAME: Final = 0x82
_UTC_TIME: Final = 0x17
_PSS_HASH: Final = 0xA0
_PSS_MASK: Final = 0xA1

_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_RSASSA_PSS: Final = "1.2.840.113549.1.1.10"

# Hashes by their own identifiers, and by those of signatures made with them. RFC 5929 section 4.1: SHA-256 for MD5 and
# SHA-1. Signatures that are not here have no hash of their own, such as Ed25519.
_HASHES: Final[Mapping[str, str]] = {
    "1.3.14.3.2.26": "sha256",  # SHA-1
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "1.2.840.113549.1.1.4": "sha256",  # RSA with MD5
    "1.2.840.113549.1.1.5": "sha256",  # RSA with SHA-1
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.1": "sha256",  # ECDSA with SHA-1
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}


@dataclass(frozen=True, slots=True)
class _Certificate:
    der: bytes
    names: tuple[str, ...]  # DNS names, lower case
    begins: datetime
    ends: datetime
    end_point: bytes | None

    def warn(self, path: str) -> None:
        """Log it if the certificate is not good today. Clients will say so too, and may have to live with it."""
        now = datetime.now(UTC)
        if now > self.ends:
            logger.warning("%s expired at %s", path, self.ends)
        elif now < self.begins:
            logger.warning("%s is not good before %s", path, self.begins)


def tls_server_end_point(der: bytes) -> bytes | None:
    """The channel binding tls-server-end-point (RFC 5929 section 4) of a server with this certificate, in DER.

    None if it is not defined: its signature has no hash of its own, or several. Raises ValueError if it is no
    certificate.
    """
    (_, identifier), *parameters = _elements(_parts(der)[1])
    signature = _oid(identifier)
    name = _pss_hash(parameters[0][1]) if signature == _RSASSA_PSS and parameters else _HASHES.get(signature)
    return None if name is None else hashlib.new(name, der).digest()


def _pss_hash(parameters: bytes) -> str | None:
    """The hash of a signature with RSASSA-PSS, if it is the one of its mask too (RFC 4055 section 3.1)."""
    given = dict(_elements(parameters))
    hash_of, hash_of_mask = "1.3.14.3.2.26", "1.3.14.3.2.26"
    if _PSS_HASH in given:
        hash_of = _algorithm(given[_PSS_HASH])[0]
    if _PSS_MASK in given:
        hash_of_mask = _algorithm(_algorithm(given[_PSS_MASK])[1])[0]
    return _HASHES.get(hash_of) if hash_of == hash_of_mask else None


def _read_certificates(path: str) -> list[_Certificate]:
    """All certificates in a PEM file. Raises TlsError if there is none, or one that cannot be read."""
    try:
        with open(path, "rb") as file:
            blocks = _PEM.findall(file.read())
    except OSError as failure:
        raise TlsError(f"{path} cannot be read: {failure.strerror}") from None
    if not blocks:
        raise TlsError(f"{path} holds no certificate in PEM")
    try:
        return [_certificate(base64.b64decode(b"".join(block.split()), validate=True)) for block in blocks]
    except ValueError:
        raise TlsError(f"{path} holds a certificate that is damaged") from None


def _certificate(der: bytes) -> _Certificate:
    """Raises ValueError."""
    fields = [(tag, content) for tag, content in _elements(_parts(der)[0]) if tag != _VERSION]
    if len(fields) < 6:
        raise ValueError("fields are missing")
    begins, ends = (_time(*when) for when in _elements(fields[3][1]))
    names = [name for tag, content in fields[6:] if tag == _EXTENSIONS for name in _dns_names(content)]
    return _Certificate(der, tuple(names), begins, ends, tls_server_end_point(der))


def _dns_names(extensions: bytes) -> list[str]:
    for _, extension in _elements(_content(extensions)):
        (_, identifier), *_, (_, value) = _elements(extension)
        if _oid(identifier) == _SUBJECT_ALT_NAME:
            names = _elements(_content(value))
            return [name.decode("ascii").lower() for tag, name in names if tag == _DNS_NAME]
    return []


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, up to 2049 (RFC 5280 section 4.1.2.5.1)
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _parts(der: bytes) -> tuple[bytes, bytes]:
    """What is signed, and with what algorithm."""
    parts = _elements(_content(der))
    if len(parts) != 3:
        raise ValueError("not a certificate")
    return parts[0][1], parts[1][1]


def _algorithm(octets: bytes) -> tuple[str, bytes]:
    """The identifier of an algorithm, and the first of its parameters, whole."""
    content = _content(octets)
    (_, identifier), *_ = _elements(content)
    return _oid(identifier), content[2 + len(identifier) :]


def _content(octets: bytes) -> bytes:
    """What is in a sequence that is all there is."""
    found = _elements(octets)
    if len(found) != 1 or found[0][0] != _SEQUENCE:
        raise ValueError("not a sequence")
    return found[0][1]


def _elements(octets: bytes) -> list[tuple[int, bytes]]:
    """The tags and contents of DER elements, one behind the other. Raises ValueError if they are cut off."""
    found, at = [], 0
    while at < len(octets):
        tag, size, at = octets[at], octets[at + 1 : at + 2], at + 2
        if size >= b"\x80":
            more = size[0] & 0x7F
            size, at = octets[at : at + more], at + more
        end = at + int.from_bytes(size, "big")
        if not size or end > len(octets):
            raise ValueError("cut off")
        found.append((tag, octets[at:end]))
        at = end
    return found


def _oid(content: bytes) -> str:
    """An object identifier in dots."""
    numbers, number = [], 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        raise ValueError("no identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))
