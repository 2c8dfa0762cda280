"""Signed tokens and the keys they are signed with (RFC 7515, RFC 7517, RFC 7519, RFC 8725). The one user of joserfc."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws, jwt
from joserfc.errors import ClaimError, JoseError
from joserfc.jwk import Key as Key
from joserfc.jwk import OKPKey, import_key

from .outcomes import Refused

# What can be allowed: signatures with public keys. No "none"; no HMAC, as then whoever can check a token can make one.
KEY_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{f"{family}{bits}": "RSA" for family in ("RS", "PS") for bits in (256, 384, 512)},
        **{f"ES{bits}": "EC" for bits in (256, 384, 512)},
        **dict.fromkeys(("EdDSA", "Ed25519", "Ed448"), "OKP"),
    }
)

_THREE_PARTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 8725 section 3.11: a JWT that was made for something else is not taken for an access token.
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
# Of a key only what is public, so that a private one published by mistake is not even looked at.
_KEY_MEMBERS: Final = frozenset({"kty", "kid", "alg", "n", "e", "crv", "x", "y"})
_KINDS: Final = tuple(set(KEY_TYPES.values()))
_RSA_BITS: Final = range(2048, 8192 + 1)
_CURVES: Final = frozenset({"Ed25519", "Ed448"})
_MOST_KEYS: Final = 100


class BadKeys(ValueError):
    """Not a JWKS, or none of its keys can be used."""


class Header(NamedTuple):
    """What a token says of how it is signed."""

    algorithm: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The usable keys of a JWKS."""

    keys: tuple[Key, ...] = ()

    def find(self, header: Header) -> Key | None:
        """The key a token says it is signed with. A token that does not say can only mean the one key that fits."""
        fitting = [key for key in self.keys if _fits(key, header.algorithm)]
        if header.key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == header.key_id), None)


def _fits(key: Key, algorithm: str) -> bool:
    if key.key_type != KEY_TYPES[algorithm]:
        return False
    # RFC 9864 has new names for what RFC 8037 calls EdDSA: there it is the curve that says which it is.
    return isinstance(key, OKPKey) or key.alg in (None, algorithm)


def parse_keys(document: object) -> KeyRing:
    """The keys of a JWKS, a mapping or JSON. What cannot be used is left out (RFC 7517 section 5). Raises BadKeys."""
    if isinstance(document, bytes):
        try:
            document = json.loads(document)
        except (ValueError, RecursionError):
            raise BadKeys("not JSON") from None
    found = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(found, list | tuple):
        raise BadKeys("not a JWKS")
    if len(found) > _MOST_KEYS:
        raise BadKeys(f"more than {_MOST_KEYS} keys")
    keys = tuple(key for key in map(_key, found) if key is not None)
    if not keys:
        raise BadKeys("no key that can be used")
    return KeyRing(keys)


def _key(member: object) -> Key | None:
    if not isinstance(member, Mapping) or member.get("kty") not in _KINDS or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list | tuple) or "verify" not in operations:
        return None
    if not all(isinstance(member[name], str) for name in _KEY_MEMBERS & member.keys()):
        return None
    try:
        # Not left to the library, which imports a weak key with a warning.
        if member["kty"] == "RSA" and _bits(member["n"]) not in _RSA_BITS:
            return None
        key = import_key({name: member[name] for name in _KEY_MEMBERS & member.keys()})
    except (JoseError, ValueError, KeyError, UnsupportedAlgorithm):
        return None
    return None if isinstance(key, OKPKey) and key.curve_name not in _CURVES else key


def _bits(number: str) -> int:
    return int.from_bytes(_decode(number), "big").bit_length()


def _decode(text: str) -> bytes:
    """Octets from base64url without padding. Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_header(token: str, algorithms: Collection[str]) -> Header:
    """What a token says of its signature; nothing of it is proven yet. Raises Refused."""
    match = _THREE_PARTS.fullmatch(token)
    if match is None:
        raise Refused("not a signed token")
    try:
        header = json.loads(_decode(match[1]))
    except (ValueError, RecursionError):
        raise Refused("unreadable header") from None
    if not isinstance(header, dict):
        raise Refused("unreadable header")
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Refused("algorithm not allowed")
    if not isinstance(key_id, str | None) or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Refused("header kid or typ")
    if "crit" in header or "b64" in header:
        raise Refused("extension in header")  # RFC 7515 section 4.1.11; RFC 7797 section 7
    return Header(algorithm, key_id)


class _Signatures(jws.JWSRegistry):
    """Every algorithm of KEY_TYPES: `read_header` has seen to it that it is one that is allowed."""

    max_header_length = 16 * 1024  # some have certificates in it

    def get_alg(self, name: str) -> Any:
        """The library's own warns of EdDSA, whose name is what is out of date (RFC 9864)."""
        return self.algorithms[name]


# Unknown members of a header are ignored (RFC 7515 section 4).
_SIGNATURES: Final = _Signatures(strict_check_header=False)


def verified_claims(token: str, key: Key, *, issuer: str, now: float, leeway: int) -> dict[str, Any]:
    """The claims of a token that this key signed and that this issuer lets be used now. Raises Refused."""
    registry = jwt.JWTClaimsRegistry(
        now=int(now), leeway=leeway, iss={"essential": True, "value": issuer}, exp={"essential": True}
    )
    try:
        claims = jwt.decode(token, key, registry=_SIGNATURES).claims
        registry.validate(claims)
    except ClaimError as failure:
        raise Refused(f"claim {failure.claim}") from None
    except JoseError as failure:
        raise Refused(failure.error or "signature") from None
    except (ValueError, RecursionError):
        raise Refused("unreadable token") from None
    return claims
