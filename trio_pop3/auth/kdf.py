"""Schemes that make guessing slow: scrypt, Argon2, PBKDF2, SCRAM. A users file may not ask for just any work."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from ..credentials import ScramKeys
from ..sasl.mechanisms.scram_keys import derive_from_octets
from .stored import BadSecret, Scheme, unbase64, unhex

_SALT_OCTETS: Final = 16
_KEY_OCTETS: Final = 32
# scrypt as OWASP recommends it for logins: 32 MiB and about 60 ms.
_LOG2_N: Final = 15
_R: Final = 8
_P: Final = 1
# Argon2id as RFC 9106 section 4 recommends it where memory is scarce: 64 MiB. One lane, since one thread hashes: about
# 130 ms. OWASP asks for less.
_ARGON2_KIB: Final = 64 * 1024
_ARGON2_PASSES: Final = 3
# What everybody's SCRAM clients accept, and what an unknown user is shown (RFC 5802 section 5.1: at least this).
SCRAM_ITERATIONS: Final = 4096

# What a users file may ask of us: 256 MiB, and eight times the work of our own scrypt; half a second, more or less.
_MOST_MEMORY: Final = 256 * 1024 * 1024
_MOST_SCRYPT: Final = 8 * 2**_LOG2_N * _R * _P
_MOST_ARGON2: Final = 8 * _ARGON2_KIB * _ARGON2_PASSES
_MOST_LANES: Final = 16
_MOST_ITERATIONS: Final = 3_000_000

# --- scrypt ----------------------------------------------------------------------------------------------------------

# The form of passlib and others: base64 without padding.
_SCRYPT: Final = re.compile(
    rb"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,4}),p=([0-9]{1,4})\$([A-Za-z0-9/+]+)\$([A-Za-z0-9/+]+)"
)


def _parse_scrypt(stored: bytes) -> tuple[int, int, int, bytes, bytes]:
    match = _SCRYPT.fullmatch(stored)
    if match is None:
        raise BadSecret("not an scrypt hash ($scrypt$ln=15,r=8,p=1$SALT$KEY)")
    log2_n, r, p = (int(match[group]) for group in (1, 2, 3))
    if not (log2_n and r and p and 128 * r << log2_n <= _MOST_MEMORY and (r * p) << log2_n <= _MOST_SCRYPT):
        raise BadSecret("scrypt parameters out of range")
    salt, key = (unbase64(match[group] + b"=" * (-len(match[group]) % 4)) for group in (4, 5))
    if len(key) < 16:
        raise BadSecret("scrypt key too short")
    return log2_n, r, p, salt, key


def _check_scrypt(password: bytes, stored: bytes) -> bool:
    log2_n, r, p, salt, key = _parse_scrypt(stored)
    return hmac.compare_digest(_scrypt(password, salt, log2_n, r, p, len(key)), key)


def _scrypt(password: bytes, salt: bytes, log2_n: int, r: int, p: int, octets: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << log2_n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=octets)


def hash_scrypt(password: bytes) -> str:
    """`{SCRYPT}...`, with a fresh salt."""
    salt = secrets.token_bytes(_SALT_OCTETS)
    key = _scrypt(password, salt, _LOG2_N, _R, _P, _KEY_OCTETS)
    words = (base64.b64encode(octets).decode().rstrip("=") for octets in (salt, key))
    return f"{{SCRYPT}}$scrypt$ln={_LOG2_N},r={_R},p={_P}${'$'.join(words)}"


# --- Argon2 ----------------------------------------------------------------------------------------------------------

_ARGON2: Final = re.compile(
    rb"\$(argon2id?)\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$[A-Za-z0-9/+]{11,}\$[A-Za-z0-9/+]{16,}"
)
_ARGON2_KIND: Final[Mapping[bytes, str]] = MappingProxyType({b"argon2i": "I", b"argon2id": "ID"})


def _argon2() -> Any:
    try:
        import argon2.low_level
    except ImportError:
        raise BadSecret("Argon2 needs the extra `argon2`: pip install 'trio-pop3[argon2]'") from None
    return argon2.low_level


def _parse_argon2(stored: bytes) -> str:
    """The kind."""
    match = _ARGON2.fullmatch(stored)
    if match is None:
        raise BadSecret("not an Argon2 hash ($argon2id$v=19$m=65536,t=3,p=1$SALT$KEY)")
    memory, passes, lanes = (int(match[group]) for group in (2, 3, 4))
    if not (
        1 <= lanes <= _MOST_LANES
        and 8 * lanes <= memory <= _MOST_MEMORY // 1024
        and passes
        and memory * passes <= _MOST_ARGON2
    ):
        raise BadSecret("Argon2 parameters out of range")
    return _ARGON2_KIND[match[1]]


def _accept_argon2(stored: bytes) -> None:
    _parse_argon2(stored)
    _argon2()


def _check_argon2(password: bytes, stored: bytes) -> bool:
    from argon2.exceptions import VerifyMismatchError

    low_level = _argon2()
    try:
        return bool(low_level.verify_secret(stored, password, low_level.Type[_parse_argon2(stored)]))
    except VerifyMismatchError:
        return False


def hash_argon2id(password: bytes) -> str:
    """`{ARGON2ID}...`, with a fresh salt. Raises BadSecret without the extra `argon2`."""
    low_level = _argon2()
    hashed: bytes = low_level.hash_secret(
        password,
        secrets.token_bytes(_SALT_OCTETS),
        time_cost=_ARGON2_PASSES,
        memory_cost=_ARGON2_KIB,
        parallelism=1,
        hash_len=_KEY_OCTETS,
        type=low_level.Type.ID,
    )
    return "{ARGON2ID}" + hashed.decode()


# --- PBKDF2 ----------------------------------------------------------------------------------------------------------

# Dovecot's: the salt is used as it is written.
_PBKDF2: Final = re.compile(rb"\$1\$([^$]*)\$([0-9]{1,9})\$([0-9A-Fa-f]{40})", re.DOTALL)


def _iterations(digits: bytes, least: int) -> int:
    count = int(digits)
    if not least <= count <= _MOST_ITERATIONS:
        raise BadSecret(f"iterations out of range ({least} to {_MOST_ITERATIONS})")
    return count


def _parse_pbkdf2(stored: bytes) -> tuple[bytes, int, bytes]:
    match = _PBKDF2.fullmatch(stored)
    if match is None:
        raise BadSecret("not a PBKDF2 hash ($1$SALT$ROUNDS$HEX)")
    return match[1], _iterations(match[2], 1), unhex(match[3])


def _check_pbkdf2(password: bytes, stored: bytes) -> bool:
    salt, iterations, key = _parse_pbkdf2(stored)
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", password, salt, iterations), key)


# --- SCRAM -----------------------------------------------------------------------------------------------------------

SCRAM_SCHEMES: Final[Mapping[str, str]] = MappingProxyType({"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"})

_SCRAM: Final = re.compile(rb"([0-9]{1,9}),([A-Za-z0-9/+=]+),([A-Za-z0-9/+=]+),([A-Za-z0-9/+=]+)")


def parse_scram(stored: bytes, hash_name: str) -> ScramKeys:
    """Read `iterations,salt,stored,server`. Raises BadSecret."""
    match = _SCRAM.fullmatch(stored)
    if match is None:
        raise BadSecret("not a SCRAM secret (ITERATIONS,SALT,STORED,SERVER)")
    salt, stored_key, server_key = (unbase64(match[group]) for group in (2, 3, 4))
    if {len(stored_key), len(server_key)} != {hashlib.new(hash_name).digest_size}:
        raise BadSecret(f"keys of another length than {SCRAM_SCHEMES[hash_name]} has")
    return ScramKeys(salt, _iterations(match[1], SCRAM_ITERATIONS), stored_key, server_key)


def derive_scram(password: bytes, hash_name: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> ScramKeys:
    """The keys of a password, which is not prepared here (RFC 5802 section 3). Slow on purpose."""
    return derive_from_octets(password, salt, iterations, hash_name)


def hash_scram_sha256(password: bytes) -> str:
    """`{SCRAM-SHA-256}...`, with a fresh salt."""
    keys = derive_scram(password, "sha256", secrets.token_bytes(_SALT_OCTETS))
    words = (base64.b64encode(octets).decode() for octets in (keys.salt, keys.stored_key, keys.server_key))
    return f"{{SCRAM-SHA-256}}{keys.iterations},{','.join(words)}"


def _scram(hash_name: str) -> Scheme:
    def accept(stored: bytes) -> object:
        return parse_scram(stored, hash_name)

    def check(password: bytes, stored: bytes) -> bool:
        keys = parse_scram(stored, hash_name)
        derived = derive_scram(password, hash_name, keys.salt, keys.iterations)
        return hmac.compare_digest(derived.stored_key, keys.stored_key)

    return Scheme(accept, check, methods=frozenset({SCRAM_SCHEMES[hash_name]}))


_ARGON2_SCHEME: Final = Scheme(_accept_argon2, _check_argon2)
KDFS: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "SCRYPT": Scheme(_parse_scrypt, _check_scrypt),
        # As in Dovecot, either name takes either kind.
        "ARGON2I": _ARGON2_SCHEME,
        "ARGON2ID": _ARGON2_SCHEME,
        "PBKDF2": Scheme(_parse_pbkdf2, _check_pbkdf2),
        **{name: _scram(hash_name) for hash_name, name in SCRAM_SCHEMES.items()},
    }
)
HASHERS: Final[Mapping[str, Callable[[bytes], str]]] = MappingProxyType(
    {"SCRYPT": hash_scrypt, "ARGON2ID": hash_argon2id, "SCRAM-SHA-256": hash_scram_sha256}
)
