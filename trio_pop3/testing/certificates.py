"""TLS for tests: an authority of our own, made when it is first asked for, and certificates good and bad."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import ssl
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import trustme

CertificateKind: TypeAlias = Literal["good", "wrong name", "expired", "untrusted"]

# What a client of this machine calls it.
_NAMES: Final = ("127.0.0.1", "localhost", "::1")
_DAY: Final = timedelta(days=1)
_making: Final = threading.RLock()


def tls_available() -> bool:
    """Whether certificates can be made here. Loads nothing."""
    return find_spec("trustme") is not None


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The server's side of TLS: a context, and the channel binding tls-server-end-point (RFC 5929 section 4)."""

    context: ssl.SSLContext
    end_point: bytes


class Certificates:
    """One authority, and what it signs. See `certificates`."""

    def __init__(self) -> None:
        import trustme  # an extra, and with it comes a large library

        self._trustme: Final = trustme
        self._authority: Final = trustme.CA()
        self._made: dict[CertificateKind, ServerCertificate] = {}

    @functools.cached_property
    def ca_file(self) -> str:
        """The authority's certificate in PEM, in a file that lives as long as this process."""
        handle, path = tempfile.mkstemp(prefix="trio_pop3-", suffix="-ca.pem")
        atexit.register(_remove, path, os.getpid())
        with os.fdopen(handle, "wb") as file:
            file.write(self._authority.cert_pem.bytes())
        return path

    def client_context(self) -> ssl.SSLContext:
        """A new context for a client, that trusts the authority and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context

    def server(self, kind: CertificateKind = "good") -> ServerCertificate:
        """The server's side, with a certificate of this kind."""
        with _making:
            if kind not in self._made:
                self._made[kind] = self._make(kind)
            return self._made[kind]

    def _make(self, kind: CertificateKind) -> ServerCertificate:
        authority = self._trustme.CA() if kind == "untrusted" else self._authority
        names = ("wrong.example",) if kind == "wrong name" else _NAMES
        now = datetime.now(UTC)
        times: dict[str, Any] = {"not_before": now - 2 * _DAY, "not_after": now - _DAY} if kind == "expired" else {}
        leaf: trustme.LeafCert = authority.issue_cert(*names, **times)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        own = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode("ascii"))
        return ServerCertificate(context, hashlib.sha256(own).digest())


class Certified:
    """What a client needs to trust the test servers of this process."""

    @property
    def client_context(self) -> ssl.SSLContext:
        """A new context for a client, that trusts the server's authority and nobody else.

        Certificates are for 127.0.0.1, ::1 and localhost. Raises RuntimeError if trustme is not installed.
        """
        return certificates().client_context()

    @property
    def ca_file(self) -> str:
        """The path of the authority's certificate in PEM, for clients that are programs.

        It is there as long as this process. Raises RuntimeError if trustme is not installed.
        """
        return certificates().ca_file


def certificates() -> Certificates:
    """Those of this process, made with the first call. Raises RuntimeError if trustme is not installed."""
    if not tls_available():
        raise RuntimeError("TLS in tests needs trustme: pip install 'trio-pop3[testing]'")
    with _making:
        return _certificates()


@functools.cache
def _certificates() -> Certificates:
    return Certificates()


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked off
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
