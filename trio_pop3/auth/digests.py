"""Schemes that store a bare hash of the password, salted or not. Fast to guess: for files that came from elsewhere."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .md5 import hmac_states
from .stored import BadSecret, Encoding, Scheme, accept_any


def _digest(name: str, octets: bytes) -> bytes:
    return hashlib.new(name, octets, usedforsecurity=False).digest()


def _unsalted(name: str, encoding: Encoding = Encoding.BASE64) -> Scheme:
    def check(password: bytes, stored: bytes) -> bool:
        return hmac.compare_digest(_digest(name, password), stored)

    return Scheme(accept_any, check, encoding, hashlib.new(name, usedforsecurity=False).digest_size)


def _salted(name: str) -> Scheme:
    """The hash of password and salt, then the salt."""
    size = hashlib.new(name, usedforsecurity=False).digest_size

    def accept(stored: bytes) -> None:
        if len(stored) <= size:
            raise BadSecret("a salted hash without salt")

    def check(password: bytes, stored: bytes) -> bool:
        return hmac.compare_digest(_digest(name, password + stored[size:]), stored[:size])

    return Scheme(accept, check, Encoding.BASE64)


def _check_cram(password: bytes, stored: bytes) -> bool:
    return hmac.compare_digest(hmac_states(password), stored)


_SHA1: Final = _unsalted("sha1")
_CRAM: Final = Scheme(accept_any, _check_cram, Encoding.HEX, 32, frozenset({"CRAM-MD5"}))

DIGESTS: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "PLAIN-MD5": _unsalted("md5", Encoding.HEX),
        "LDAP-MD5": _unsalted("md5"),
        "SMD5": _salted("md5"),
        "SHA": _SHA1,
        "SHA1": _SHA1,
        "SSHA": _salted("sha1"),
        "SHA256": _unsalted("sha256"),
        "SSHA256": _salted("sha256"),
        "SHA512": _unsalted("sha512"),
        "SSHA512": _salted("sha512"),
        "CRAM-MD5": _CRAM,
        "HMAC-MD5": _CRAM,
    }
)
