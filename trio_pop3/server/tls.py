"""TLS on the server's side: certificates and their keys, which of them a client sees, and when they are renewed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import ssl
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, final
from weakref import WeakKeyDictionary

import trio

from ..credentials import ClientCertificate
from ..x509 import Certificate, certificates_in

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
        self._turn = trio.Lock()
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
        tls._turn = trio.Lock()
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
        try:
            return _stamps(stamps) != stamps
        except TlsError:
            return True

    def wrap(self, stream: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
        """The server's side of TLS on a stream. Do the `handshake` next, and end it with `close`.

        A client that goes away without the farewell of TLS has just gone away: nothing is done without a QUIT.
        """
        return trio.SSLStream(stream, self._loaded.context, server_side=True, https_compatible=True)

    async def handshake(self, stream: trio.SSLStream[Any]) -> TlsInfo:
        """Come to terms with the client. The deadline is the caller's.

        A signature takes a millisecond or more, and many clients may ask for one at the same moment: they take turns
        then, and other tasks get theirs in between.

        Raises HandshakeFailed. Nothing may be written to the stream below then, nor after a cancellation.
        """
        if isinstance(stream.transport_stream, trio.SocketStream):
            await trio.lowlevel.wait_readable(stream.transport_stream.socket)
        async with self._turn:
            await trio.lowlevel.checkpoint()
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
            _warn(chain[0], path)
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


def _context(certificate: str, key: str, authorities: Iterable[Certificate]) -> ssl.SSLContext:
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
    if not stat.S_ISREG(status.st_mode):
        raise TlsError(f"{path} is not a regular file")  # reading a FIFO would wait for whoever writes it
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read_certificates(path: str) -> list[Certificate]:
    """All certificates in a PEM file. Raises TlsError if there is none, or one that cannot be read."""
    try:
        with open(path, "rb") as file:
            certificates = certificates_in(file.read())
    except OSError as failure:
        raise TlsError(f"{path} cannot be read: {failure.strerror}") from None
    except ValueError:
        raise TlsError(f"{path} holds a certificate that is damaged") from None
    if not certificates:
        raise TlsError(f"{path} holds no certificate in PEM")
    return certificates


def _warn(certificate: Certificate, path: str) -> None:
    """Log it if a certificate is not good today. Clients will say so too, and may have to live with it."""
    now = datetime.now(UTC)
    if now > certificate.ends:
        logger.warning("%s expired at %s", path, certificate.ends)
    elif now < certificate.begins:
        logger.warning("%s is not good before %s", path, certificate.begins)
