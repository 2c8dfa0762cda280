"""How a password is stored: `{SCHEME}text`, as Dovecot writes it. One table row a scheme.

Everything here blocks and is slow on purpose; call it in threads.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ..credentials import ApopCredentials, CramMd5Credentials, ScramKeys
from . import kdf
from .digests import DIGESTS
from .libcrypt import crypt
from .md5 import hmac_matches
from .stored import SUFFIXES, Scheme, accept_any, decode
from .stored import BadSecret as BadSecret

_TAGGED: Final = re.compile(r"\{([^}.]*)(?:\.([^}]*))?\}(.*)", re.DOTALL)
_NO_STATES: Final = bytes(32)


def _check_plain(password: bytes, stored: bytes) -> bool:
    return hmac.compare_digest(password, stored)


def _check_crypt(password: bytes, stored: bytes) -> bool:
    computed = crypt(password, stored)
    return computed is not None and hmac.compare_digest(computed, stored)


# What SHA-crypt and bcrypt hashes say of their own cost. These take half a second and a second.
_COST: Final = re.compile(rb"\$[56]\$rounds=([0-9]+)\$|\$2[abxy]\$([0-9]{2})\$")
_MOST_ROUNDS: Final = 1_000_000
_MOST_LOG_ROUNDS: Final = 14


def _accept_crypt(stored: bytes) -> None:
    # A "!" or "*" locks an account; no password has such a hash, and that is well.
    if not re.fullmatch(rb"[!-9;-~]+", stored):
        raise BadSecret("not a crypt(3) hash")
    if (match := _COST.match(stored)) and (int(match[1] or 0) > _MOST_ROUNDS or int(match[2] or 0) > _MOST_LOG_ROUNDS):
        raise BadSecret("a crypt(3) hash that takes seconds to check")


_PROVED_BY_CLEARTEXT: Final = frozenset({"APOP", "CRAM-MD5", *kdf.SCRAM_SCHEMES.values()})
_PLAIN: Final = Scheme(accept_any, _check_plain, methods=_PROVED_BY_CLEARTEXT)
_CRYPT: Final = Scheme(_accept_crypt, _check_crypt)
SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "PLAIN": _PLAIN,
        "CLEAR": _PLAIN,
        "CLEARTEXT": _PLAIN,
        "CRYPT": _CRYPT,
        "DES-CRYPT": _CRYPT,
        "MD5-CRYPT": _CRYPT,
        "SHA256-CRYPT": _CRYPT,
        "SHA512-CRYPT": _CRYPT,
        "BLF-CRYPT": _CRYPT,
        **kdf.KDFS,
        **DIGESTS,
    }
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A stored password. It shows its scheme only."""

    scheme: str
    octets: bytes = field(repr=False)

    def is_of(self, password: bytes) -> bool:
        """Whether this is that password's. An empty password is nobody's, an empty secret nothing's."""
        return SCHEMES[self.scheme].check(password, self.octets) and bool(password) and bool(self.octets)

    @property
    def mark(self) -> str:
        """Scheme and octets as one text: another one for every other secret. As secret as they are."""
        return f"{self.scheme} {self.octets.hex()}"

    @property
    def methods(self) -> frozenset[str]:
        """What can be proved with it besides a password, as in `LoginMethods.login_methods`."""
        return SCHEMES[self.scheme].methods

    @property
    def cleartext(self) -> str | None:
        """The password itself, if it is stored as it is."""
        return self.octets.decode("utf-8", "surrogateescape") if SCHEMES[self.scheme] is _PLAIN else None

    def answers(self, credentials: ApopCredentials | CramMd5Credentials) -> bool:
        """Whether the digest was made with this password; it takes the same time for all kinds of secrets."""
        text = self.cleartext
        good = credentials.matches(text or "") and bool(text)
        if isinstance(credentials, CramMd5Credentials):
            stored = SCHEMES[self.scheme] is SCHEMES["CRAM-MD5"]
            states = self.octets if stored else _NO_STATES
            good |= hmac_matches(states, credentials.challenge, credentials.digest) and stored
        return good

    def scram_keys(self, hash_name: str) -> ScramKeys | None:
        """The keys that are stored for "sha1" or "sha256"; None if it is another kind of secret."""
        return kdf.parse_scram(self.octets, hash_name) if kdf.SCRAM_SCHEMES[hash_name] == self.scheme else None


def parse_secret(stored: str) -> Secret:
    """Read `{SCHEME}text` or `{SCHEME.ENCODING}text`; without a scheme it is a crypt(3) hash, as in Dovecot.

    Raises BadSecret.
    """
    match = _TAGGED.fullmatch(stored)
    name, suffix, text = (match[1].upper(), match[2], match[3]) if match else ("CRYPT", None, stored)
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise BadSecret(f"unknown password scheme {{{name}}}, known are {', '.join(SCHEMES)}")
    if suffix is not None and suffix.upper() not in SUFFIXES:
        raise BadSecret(f"unknown encoding {{{name}.{suffix}}}, known are {', '.join(SUFFIXES)}")
    encoding = None if suffix is None else SUFFIXES[suffix.upper()]
    octets = decode(text.encode("utf-8", "surrogateescape"), scheme, encoding)
    if not octets:
        raise BadSecret("empty password")
    scheme.accept(octets)
    return Secret(name, octets)


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
    {**kdf.HASHERS, "SHA512-CRYPT": _hash_sha512, "PLAIN": _hash_plain}
)
