"""Certificates for servers and clients, in files."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

HOST = "pop.example.org"


@dataclass(frozen=True)
class Pair:
    """The files of a certificate with its chain, and of its key."""

    certificate: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """For `trio-pop3 serve`."""
        return ["--cert", str(self.certificate), "--key", str(self.key)]

    @property
    def der(self) -> bytes:
        """The certificate alone."""
        return ssl.PEM_cert_to_DER_cert(self.pem)

    @property
    def pem(self) -> str:
        """The certificate alone, as text."""
        end = "-----END CERTIFICATE-----\n"
        return self.certificate.read_text().partition(end)[0] + end

    def replace_by(self, other: Pair) -> None:
        """As somebody does who renews certificates: each file is changed in one step."""
        os.replace(other.certificate, self.certificate)
        os.replace(other.key, self.key)


class Authority:
    """Vouches for certificates. `path` is its own, `folder` where everything is written."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._count = 0
        self.folder = folder
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(os.fspath(self.path))

    def issue(self, *names: str, common_name: str | None = None) -> Pair:
        """A certificate for names, or addresses, of hosts or people."""
        self._count += 1
        pair = Pair(self.folder / f"{self._count}.pem", self.folder / f"{self._count}.key")
        issued = self._ca.issue_cert(*names, common_name=common_name)
        pair.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(os.fspath(pair.key))
        pair.key.chmod(0o600)
        return pair

    def client_context(self) -> ssl.SSLContext:
        """For clients that trust nobody else."""
        context = ssl.create_default_context(cafile=os.fspath(self.path))
        context.set_alpn_protocols(["pop3"])
        return context
