"""Several ways to know users, asked one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..backend import AuthenticationFailed, Authenticator, ClientInfo, ScramSecrets, login_methods
from ..credentials import (
    AnonymousCredentials,
    ApopCredentials,
    CertificateCredentials,
    CramMd5Credentials,
    Credentials,
    PasswordCredentials,
    ScramKeys,
    TokenCredentials,
)

# Kind of credentials -> what an authenticator has among its `login_methods` if it can check them.
_METHODS: Final[Mapping[type[Credentials], frozenset[str]]] = {
    PasswordCredentials: frozenset({"PLAIN"}),
    ApopCredentials: frozenset({"APOP"}),
    CramMd5Credentials: frozenset({"CRAM-MD5"}),
    TokenCredentials: frozenset({"OAUTHBEARER", "XOAUTH2"}),
    CertificateCredentials: frozenset({"EXTERNAL"}),
    AnonymousCredentials: frozenset({"ANONYMOUS"}),
}


class FirstOf:
    """The first authenticator that accepts the credentials says who it is.

    Only those are asked that can check such credentials at all. A failure other than AuthenticationFailed ends the
    search: while one of them is out of order nobody can be said to be unknown.
    """

    def __init__(self, *authenticators: Authenticator) -> None:
        self._authenticators: Final = authenticators

    @property
    def login_methods(self) -> frozenset[str]:
        """What any of them can check now."""
        return frozenset().union(*(login_methods(one) for one in self._authenticators))

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """See `trio_pop3.backend.Authenticator`."""
        wanted = _METHODS[type(credentials)]
        for one in self._authenticators:
            if wanted.intersection(login_methods(one)):
                try:
                    return await one.authenticate(credentials, client)
                except AuthenticationFailed:
                    continue
        raise AuthenticationFailed

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        """See `trio_pop3.backend.ScramSecrets`. All are asked: an unknown user takes no longer than a known one."""
        found: ScramKeys | None = None
        for one in self._authenticators:
            if isinstance(one, ScramSecrets):
                keys = await one.scram_keys(user, hash_name, client)
                found = found or keys
        return found
