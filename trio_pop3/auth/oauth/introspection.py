"""Tokens that only the server which issued them can read: it is asked about each (RFC 7662)."""

from __future__ import annotations

import base64
import hmac
import json
import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus

import trio

from .bearer import BearerTokens, Requirements, one_or_more, words_of
from .outcomes import Refused, Unavailable, imported_extra

_MOST_OCTETS: Final = 64 * 1024
_AT_ONCE: Final = 20
_MOST_WAITING: Final = 100
_MOST_CACHED: Final = 10_000


class _Known(NamedTuple):
    """What was found out about a token."""

    user: str
    asked_at: float
    expires_at: float


class IntrospectedTokens(BearerTokens):
    """An authenticator that asks the authorization server whose a token is.

    20 questions at once; 100 more logins wait, others are told to come back later. What the answer says of the user is
    kept for `cache_seconds` under a keyed hash of the token, never past the time when the token expires: that long a
    token which is taken back still opens the maildrop.

    Args:
        endpoint: https URL of the introspection endpoint, http for a loopback address.
        client_id, client_secret: what we are at the server (HTTP Basic, RFC 6749 section 2.3.1).
        user_claim: the claim that names the user, or several, of which the first that is there counts. An `email` that
            the server says it has not verified is refused.
        scope: words the token's scope must have, all of them.
        audience: if given, what `aud` must have one of. Without it any token of the server with the right scope is
            good, also one that was meant for another service (RFC 7662 section 4).
        timeout: seconds for a login, waiting and asking.
        cache_seconds: 0 keeps nothing.
        tls: for https; by default what the system trusts.
        clock: seconds since 1970.

    Raises ImportError if the extra is not installed, ValueError for arguments that are none of the above.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        client_id: str,
        client_secret: str,
        user_claim: str | Collection[str] = "username",
        scope: str | Collection[str] = (),
        audience: str | Collection[str] = (),
        timeout: float = 10.0,
        cache_seconds: float = 30.0,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        with imported_extra():
            from .fetch import Endpoint
        if cache_seconds < 0:
            raise ValueError("cache_seconds must not be negative")
        both = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        self._authorization: Final = f"Basic {base64.b64encode(both.encode()).decode()}"
        self._endpoint: Final = Endpoint(endpoint, timeout=timeout, most_octets=_MOST_OCTETS, tls=tls)
        self._timeout: Final = timeout
        self._requirements: Final = Requirements(
            one_or_more(user_claim), words_of(scope), frozenset(one_or_more(audience) if audience else ())
        )
        self._cache_seconds: Final = cache_seconds
        self._clock: Final = clock
        self._limiter: Final = trio.CapacityLimiter(_AT_ONCE)
        self._hash_key: Final = os.urandom(32)
        self._cache: Final[OrderedDict[bytes, _Known]] = OrderedDict()  # in the order in which they were asked

    def __repr__(self) -> str:
        return f"IntrospectedTokens(endpoint={self._endpoint.shown!r})"

    async def _user_of(self, token: str) -> str:
        name = hmac.digest(self._hash_key, token.encode(), "sha256")
        known = self._cache.get(name)
        now = self._clock()
        if known is not None and 0 <= now - known.asked_at < self._cache_seconds and now < known.expires_at:
            return known.user
        claims = await self._claims_of(token)
        user = self._requirements.user_of(claims)
        self._remember(name, _Known(user, now, _expiry(claims)))
        return user

    def _remember(self, name: bytes, known: _Known) -> None:
        self._cache.pop(name, None)
        if self._cache_seconds and known.asked_at < known.expires_at:
            self._cache[name] = known
            if len(self._cache) > _MOST_CACHED:
                self._cache.popitem(last=False)

    async def _claims_of(self, token: str) -> Mapping[str, Any]:
        """What the server says of a token that is active."""
        if self._limiter.statistics().tasks_waiting >= _MOST_WAITING:
            raise Unavailable(f"{self._endpoint.shown}: too many questions at once")
        form = {"token": token, "token_type_hint": "access_token"}
        with trio.move_on_after(self._timeout) as scope:
            async with self._limiter:
                answer = await self._endpoint.ask(form, authorization=self._authorization)
        if scope.cancelled_caught:
            raise Unavailable(f"{self._endpoint.shown}: no answer within {self._timeout:g} seconds")
        claims = _claims(answer)
        if claims is None:
            raise Unavailable(f"{self._endpoint.shown}: not an introspection response")
        if not claims["active"]:
            raise Refused("not active")
        return claims


def _claims(answer: bytes) -> dict[str, Any] | None:
    """An introspection response (RFC 7662 section 2.2); None if it is none."""
    try:
        claims = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) and isinstance(claims.get("active"), bool) else None


def _expiry(claims: Mapping[str, Any]) -> float:
    """Seconds since 1970; what cannot be understood has expired, what never expires never does."""
    expires_at = claims.get("exp", float("inf"))
    return expires_at if isinstance(expires_at, int | float) else 0.0
