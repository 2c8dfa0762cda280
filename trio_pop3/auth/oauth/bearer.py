"""What both kinds of token checking have in common: which claims must hold, and whose maildrop a token opens."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...backend import AuthenticationFailed, ClientInfo, TemporaryFailure
from ...credentials import Credentials, TokenCredentials
from .outcomes import Refused, Unavailable

logger = logging.getLogger("trio_pop3.auth")

# RFC 6750 section 2.1: what a bearer token may look like. What a POP3 line or a SASL message may hold is shorter.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,65536}=*")


def one_or_more(given: str | Iterable[str]) -> tuple[str, ...]:
    """A text, or several of them. Raises ValueError if there is none, or an empty one."""
    texts = (given,) if isinstance(given, str) else tuple(given)
    if not texts or not all(texts):
        raise ValueError("expected a text that is not empty, or some of them")
    return texts


def words_of(scope: str | Iterable[str]) -> frozenset[str]:
    """A scope that is asked for: words in a text (RFC 6749 section 3.3), or several of them."""
    return frozenset(scope.split() if isinstance(scope, str) else scope)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What must hold of the claims of a token, whoever vouches for them.

    user_claims: names of claims; the first of them that is there names the user.
    scope: words that must all be in `scope` or `scp`.
    audience: if there are any, one of them must be in `aud`.
    """

    user_claims: tuple[str, ...]
    scope: frozenset[str]
    audience: frozenset[str]

    def user_of(self, claims: Mapping[str, Any]) -> str:
        """The user whom these claims name. Raises Refused."""
        if self.audience and self.audience.isdisjoint(_texts(claims.get("aud"))):
            raise Refused("claim aud")
        if not self.scope <= _words(claims.get("scope")) | _words(claims.get("scp")):
            raise Refused("claim scope")
        if "cnf" in claims:
            # Bound to a key of the client's (RFC 8705, RFC 9449): not for whoever merely has the token.
            raise Refused("claim cnf")
        for name in self.user_claims:
            if name in claims:
                return _named(name, claims)
        raise Refused(f"no claim {' or '.join(self.user_claims)}")


def _texts(value: object) -> frozenset[str]:
    """`aud` is one text or a list of them (RFC 7519 section 4.1.3)."""
    values = value if isinstance(value, list) else [value]
    return frozenset(text for text in values if isinstance(text, str))


def _words(value: object) -> frozenset[str]:
    """A scope is words in one text; some servers make a list of them."""
    return frozenset(word for text in _texts(value) for word in text.split())


def _named(name: str, claims: Mapping[str, Any]) -> str:
    user = claims[name]
    if not isinstance(user, str) or not user or not user.isprintable():
        raise Refused(f"claim {name}")
    if name == "email" and claims.get("email_verified", True) not in (True, "true"):
        # Anybody can say that an address is theirs; some servers let them.
        raise Refused("claim email_verified")
    return user


class BearerTokens(ABC):
    """An authenticator over bearer tokens: `_user_of` knows whose a token is."""

    @property
    def login_methods(self) -> Collection[str]:
        """Both ways to carry a token."""
        return frozenset({"OAUTHBEARER", "XOAUTH2"})

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The user whom the token names.

        Raises AuthenticationFailed if the token is not good, or names another user than the client does (compared
        exactly, so both have to be prepared alike); TemporaryFailure if that cannot be found out now.
        """
        if not isinstance(credentials, TokenCredentials):
            raise AuthenticationFailed
        try:
            if not _TOKEN.fullmatch(credentials.token):
                raise Refused("no bearer token")
            user = await self._user_of(credentials.token)
            if credentials.user not in ("", user):
                raise Refused("token of another user")
        except Refused as reason:
            logger.info("%s: token refused: %s", client.session, reason)
        except Unavailable as reason:
            logger.error("%s: token not checked: %s", client.session, reason)
            raise TemporaryFailure from None
        else:
            return user
        raise AuthenticationFailed

    @abstractmethod
    async def _user_of(self, token: str) -> str:
        """Raises Refused, Unavailable."""
