"""Tokens that are signed JWTs: checked here with the public keys of whoever issued them (RFC 9068)."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from .bearer import BearerTokens, Requirements, one_or_more, words_of
from .keys import Keys
from .outcomes import Refused, imported_extra

_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")


class JwtTokens(BearerTokens):
    """An authenticator over signed access tokens of one issuer.

    Checked are the signature, `iss`, `exp` (which must be there), `nbf`, `iat`, `aud`, `scope`, and that it is no token
    of another kind. The server that issues them is asked for its keys only, so a token that it takes back is good
    until it expires: let them be short-lived, or use `IntrospectedTokens`.

    Args:
        issuer: what `iss` must be, exactly.
        audience: what `aud` must have one of: the name of this service at the issuer.
        jwks: the issuer's keys: an https URL (http for a loopback address), the path of a file, or a JWKS.
        user_claim: the claim that names the user, or several, of which the first that is there counts. An `email` that
            the issuer says it has not verified is refused.
        scope: words the token's scope must have, all of them.
        algorithms: the signatures to accept: RS*, PS*, ES*, EdDSA, Ed25519, Ed448.
        leeway: seconds by which clocks may differ.
        timeout: seconds to load the keys.
        refresh: seconds until the keys are looked up again; also when an unknown one is named. If that fails the known
            ones are used for a day.
        tls: for https; by default what the system trusts.
        clock: seconds since 1970.

    Raises ImportError if the extra is not installed, ValueError for arguments that are none of the above, OSError if
    the file cannot be read.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Collection[str],
        jwks: str | os.PathLike[str] | Mapping[str, Any],
        user_claim: str | Collection[str] = "email",
        scope: str | Collection[str] = (),
        algorithms: Collection[str] = _ALGORITHMS,
        leeway: int = 60,
        timeout: float = 10.0,
        refresh: float = 3600.0,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        with imported_extra():
            from .jose import KEY_TYPES
        if unknown := set(one_or_more(algorithms)) - KEY_TYPES.keys():
            raise ValueError(f"algorithms not allowed here: {', '.join(sorted(unknown))}")
        if leeway < 0:
            raise ValueError("leeway must not be negative")
        (self._issuer,) = one_or_more(issuer)
        self._algorithms: Final = frozenset(algorithms)
        self._leeway: Final = leeway
        self._clock: Final = clock
        self._requirements: Final = Requirements(
            one_or_more(user_claim), words_of(scope), frozenset(one_or_more(audience))
        )
        self._keys: Final = Keys(jwks, refresh=refresh, timeout=timeout, tls=tls, clock=clock)

    def __repr__(self) -> str:
        return f"JwtTokens(issuer={self._issuer!r}, jwks={self._keys.shown!r})"

    async def _user_of(self, token: str) -> str:
        from .jose import read_header, verified_claims

        header = read_header(token, self._algorithms)
        key = await self._keys.find(header)
        if key is None:
            raise Refused("unknown key")
        claims = verified_claims(token, key, issuer=self._issuer, now=self._clock(), leeway=self._leeway)
        return self._requirements.user_of(claims)
