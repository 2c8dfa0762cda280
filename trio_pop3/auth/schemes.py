"""How a password is stored: `{SCHEME}text`, as Dovecot writes it. One table row a scheme.

Everything here blocks and is slow on purpose; call it in threads.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .libcrypt import crypt

# scrypt as OWASP recommends it for logins: 32 MiB and about 60 ms.
_LOG2_N: Final = 15
_R: Final = 8
_P: Final = 1
_SALT_OCTETS: Final = 16
_KEY_OCTETS: Final = 32
# What a users file may ask of us: 256 MiB, and eight times the work of our own.
_MOST_MEMORY: Final = 256 * 1024 * 1024
_MOST_WORK: Final = 8 * 2**_LOG2_N * _R * _P

_TAGGED: Final = re.compile(r"\{([A-Za-z0-9.-]+)\}(.*)", re.DOTALL)
# The form of passlib and others: base64 without padding.
_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,4}),p=([0-9]{1,4})\$([A-Za-z0-9/+]+)\$([A-Za-z0-9/+]+)"
)


class BadSecret(ValueError):
    """A stored secret that cannot be used. Its message does not hold the secret."""


def _check_plain(password: bytes, stored: str) -> bool:
    return hmac.compare_digest(password, stored.encode("utf-8", "surrogateescape"))


def _check_crypt(password: bytes, stored: str) -> bool:
    setting = stored.encode("utf-8", "surrogateescape")
    computed = crypt(password, setting)
    return computed is not None and hmac.compare_digest(computed, setting)


def _check_scrypt(password: bytes, stored: str) -> bool:
    log2_n, r, p, salt, key = _parse_scrypt(stored)
    return hmac.compare_digest(_scrypt(password, salt, log2_n, r, p, len(key)), key)


def _scrypt(password: bytes, salt: bytes, log2_n: int, r: int, p: int, octets: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << log2_n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=octets)


def _parse_scrypt(stored: str) -> tuple[int, int, int, bytes, bytes]:
    match = _SCRYPT.fullmatch(stored)
    if match is None:
        raise BadSecret("not an scrypt hash ($scrypt$ln=15,r=8,p=1$SALT$KEY)")
    log2_n, r, p = (int(match[group]) for group in (1, 2, 3))
    if not (log2_n and r and p and 128 * r << log2_n <= _MOST_MEMORY and (r * p) << log2_n <= _MOST_WORK):
        raise BadSecret("scrypt parameters out of range")
    try:
        salt, key = (base64.b64decode(match[group] + "=" * (-len(match[group]) % 4)) for group in (4, 5))
    except ValueError:
        raise BadSecret("not base64 in an scrypt hash") from None
    if len(key) < 16:
        raise BadSecret("scrypt key too short")
    return log2_n, r, p, salt, key


def _accept(stored: str) -> None:
    """Any text is a secret of this scheme."""


def _accept_crypt(stored: str) -> None:
    # A "!" or "*" locks an account; no password has such a hash, and that is well.
    if not re.fullmatch(r"[!-9;-~]+", stored):
        raise BadSecret("not a crypt(3) hash")


def _accept_scrypt(stored: str) -> None:
    _parse_scrypt(stored)


@dataclass(frozen=True)
class Scheme:
    """One way to store a password: does this text fit, and is it this password's."""

    accept: Callable[[str], object]
    check: Callable[[bytes, str], bool]


_PLAIN: Final = Scheme(_accept, _check_plain)
_CRYPT: Final = Scheme(_accept_crypt, _check_crypt)
SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "PLAIN": _PLAIN,
        "CLEARTEXT": _PLAIN,
        "CRYPT": _CRYPT,
        "MD5-CRYPT": _CRYPT,
        "SHA256-CRYPT": _CRYPT,
        "SHA512-CRYPT": _CRYPT,
        "BLF-CRYPT": _CRYPT,
        "SCRYPT": Scheme(_accept_scrypt, _check_scrypt),
    }
)


@dataclass(frozen=True)
class Secret:
    """A stored password. It shows its scheme only."""

    scheme: str
    text: str = field(repr=False)

    def is_of(self, password: bytes) -> bool:
        """Whether this is that password's. An empty password is nobody's, an empty secret nothing's."""
        return SCHEMES[self.scheme].check(password, self.text) and bool(password) and bool(self.text)


def parse_secret(stored: str) -> Secret:
    """Read `{SCHEME}text`; without a scheme it is a crypt(3) hash, as in Dovecot. Raises BadSecret."""
    match = _TAGGED.fullmatch(stored)
    name, text = (match[1].upper(), match[2]) if match else ("CRYPT", stored)
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise BadSecret(f"unknown password scheme {{{name}}}, known are {', '.join(SCHEMES)}")
    if not text:
        raise BadSecret("empty password")
    scheme.accept(text)
    return Secret(name, text)


def _hash_scrypt(password: bytes) -> str:
    salt = secrets.token_bytes(_SALT_OCTETS)
    key = _scrypt(password, salt, _LOG2_N, _R, _P, _KEY_OCTETS)
    words = (base64.b64encode(octets).decode().rstrip("=") for octets in (salt, key))
    return f"{{SCRYPT}}$scrypt$ln={_LOG2_N},r={_R},p={_P}${'$'.join(words)}"


def _hash_plain(password: bytes) -> str:
    return "{PLAIN}" + password.decode("utf-8", "surrogateescape")


def _hash_sha512(password: bytes) -> str:
    setting = f"$6${secrets.token_hex(8)}"
    hashed = crypt(password, setting.encode())
    if hashed is None:
        raise BadSecret("this password cannot be hashed by crypt(3)")
    return "{SHA512-CRYPT}" + hashed.decode()


# What `trio-pop3 user` can write.
HASHERS: Final[Mapping[str, Callable[[bytes], str]]] = MappingProxyType(
    {"SCRYPT": _hash_scrypt, "SHA512-CRYPT": _hash_sha512, "PLAIN": _hash_plain}
)
