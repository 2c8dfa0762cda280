"""What both sides of SCRAM compute (RFC 5802 section 3)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from itertools import cycle
from types import MappingProxyType
from typing import Final

from ...credentials import ScramKeys
from ..saslprep import saslprep

# What a mechanism is called without -PLUS, and the octets of a hash.
_NAMES: Final[Mapping[str, str]] = MappingProxyType({"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"})
HASH_OCTETS: Final[Mapping[str, int]] = MappingProxyType({"sha1": 20, "sha256": 32})

# RFC 5802 section 5.1, RFC 7677 section 3.
LEAST_ITERATIONS: Final = 4096

# Printable ASCII without the comma stands for itself, other octets for one of the same: 24 of them are 150 bits.
_NONCE_CHARACTERS: Final = bytes(octet for octet in range(0x21, 0x7F) if octet != ord(","))
_SPARE: Final = cycle(_NONCE_CHARACTERS)
_TO_NONCE: Final = bytes(octet if octet in _NONCE_CHARACTERS else next(_SPARE) for octet in range(256))
NONCE_OCTETS: Final = 24


def make_nonce(octets: bytes) -> bytes:
    """A nonce of so many characters, made of random octets."""
    return octets.translate(_TO_NONCE)


def derive_keys(password: str, salt: bytes, iterations: int, hash_name: str) -> ScramKeys:
    """What a store keeps of a password. Slow on purpose: about 3 ms for 4096 iterations of SHA-256.

    Args:
        password: is prepared as a stored string.
        salt: 16 random octets, made anew for each user, hash and password. Unknown users are shown 16.
        iterations: 4096 or more; all users of a server should have the same, 4096 being what unknown users are shown.
        hash_name: "sha1" or "sha256".

    Raises ValueError, without the password in it, for a password that cannot be prepared or that is empty when it has
    been, and for other iterations and hashes.
    """
    name_of(hash_name)
    check_iterations(iterations)
    return derive_from_octets(prepare_password(password), salt, iterations, hash_name)


def derive_from_octets(password: bytes, salt: bytes, iterations: int, hash_name: str) -> ScramKeys:
    """The keys of octets that are taken as they are."""
    salted = salt_password(password, salt, iterations, hash_name)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    server_key = hmac.digest(salted, b"Server Key", hash_name)
    return ScramKeys(salt, iterations, hashlib.new(hash_name, client_key).digest(), server_key)


def name_of(hash_name: str) -> str:
    """The mechanism with that hash. Raises ValueError if there is none."""
    if hash_name not in _NAMES:
        raise ValueError(f"no SCRAM with {hash_name!r}")
    return _NAMES[hash_name]


def check_iterations(iterations: int) -> None:
    """Raises ValueError if they are too few for any client."""
    if iterations < LEAST_ITERATIONS:
        raise ValueError(f"SCRAM takes at least {LEAST_ITERATIONS} iterations")


def prepare_password(password: str) -> bytes:
    """The octets that are salted. Raises ValueError."""
    prepared = saslprep(password, stored=True)
    if not prepared:
        raise ValueError("empty password")
    return prepared.encode("utf-8")


def salt_password(password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
    """SaltedPassword. Releases the interpreter lock while it works."""
    return hashlib.pbkdf2_hmac(hash_name, password, salt, iterations)


def make_proof(salted: bytes, message: bytes, hash_name: str) -> bytes:
    """ClientProof for a SaltedPassword and an AuthMessage."""
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return _xor(client_key, hmac.digest(stored_key, message, hash_name))


def is_proof(proof: bytes, stored_key: bytes, message: bytes, hash_name: str) -> bool:
    """Whether a client that made this ClientProof knows the password. It has as many octets as the hash."""
    client_key = _xor(proof, hmac.digest(stored_key, message, hash_name))
    return hmac.compare_digest(hashlib.new(hash_name, client_key).digest(), stored_key)


def sign(server_key: bytes, message: bytes, hash_name: str) -> bytes:
    """ServerSignature."""
    return hmac.digest(server_key, message, hash_name)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
