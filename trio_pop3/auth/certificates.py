"""Users by their TLS client certificates (SASL EXTERNAL, RFC 4422 appendix A)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ..backend import AuthenticationFailed, ClientInfo
from ..credentials import CertificateCredentials, ClientCertificate, Credentials

# How a certificate says whose it is. More than one name is no name: which of them would be meant?
NAMES: Final[Mapping[str, Callable[[ClientCertificate], tuple[str, ...]]]] = MappingProxyType(
    {
        "email": lambda certificate: certificate.names("email") or certificate.subject("emailAddress"),
        "common-name": lambda certificate: certificate.subject("commonName"),
    }
)


class CertificateUsers:
    """The user is who the certificate says. Whose certificates count is for the `client_ca` of `Tls`.

    Args:
        name: "email" (the subject alternative name, or else the subject's e-mail address) or "common-name".
        known: whether there is such a user; a certificate of anybody else is not accepted. None accepts every name.
        users: fingerprints (SHA-256, lower-case hex) and their users. If it is given, no other certificate counts, and
            what stands in them does not matter.

    Raises ValueError for another `name`.
    """

    login_methods: Final = frozenset({"EXTERNAL"})

    def __init__(
        self,
        name: str = "email",
        *,
        known: Callable[[str], bool] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        if name not in NAMES:
            raise ValueError(f"name must be one of {', '.join(NAMES)}, not {name!r}")
        self._names: Final = NAMES[name]
        self._known: Final = known
        self._users: Final = None if users is None else dict(users)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """See `trio_pop3.backend.Authenticator`."""
        if not isinstance(credentials, CertificateCredentials):
            raise AuthenticationFailed
        certificate = credentials.certificate
        if self._users is not None:
            user = self._users.get(certificate.fingerprint)
        else:
            names = self._names(certificate)
            user = names[0] if len(names) == 1 else None
        if not user or not (self._known is None or self._known(user)):
            raise AuthenticationFailed
        return user
