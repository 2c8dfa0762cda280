"""What all kinds of stored passwords have in common: how their text is read, and what they can do."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class BadSecret(ValueError):
    """A stored secret that cannot be used. Its message does not hold the secret."""


class Encoding(Enum):
    """How the octets of a secret are written."""

    NONE = "text"
    HEX = "hexadecimal"
    BASE64 = "base64"


# What may follow the name of a scheme after a dot, as in Dovecot.
SUFFIXES: Final[Mapping[str, Encoding]] = MappingProxyType(
    {"HEX": Encoding.HEX, "B64": Encoding.BASE64, "BASE64": Encoding.BASE64}
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to store a password. `accept` raises BadSecret for octets that do not fit.

    accept: do these octets fit.
    check: is this password the one whose octets these are.
    encoding: how the octets are written if nothing is said.
    octets: how many there must be, if it is always the same number.
    methods: what can be proved with such a secret besides a password, as in `LoginMethods.login_methods`.
    """

    accept: Callable[[bytes], object]
    check: Callable[[bytes, bytes], bool]
    encoding: Encoding = Encoding.NONE
    octets: int | None = None
    methods: frozenset[str] = frozenset()


def decode(text: bytes, scheme: Scheme, encoding: Encoding | None) -> bytes:
    """The octets of a secret. Without an encoding it is the scheme's, or what the length says. Raises BadSecret."""
    if encoding is None:
        encoding = scheme.encoding
        if encoding is not Encoding.NONE and scheme.octets is not None:
            encoding = Encoding.HEX if len(text) == 2 * scheme.octets else Encoding.BASE64
    octets = _DECODERS[encoding](text)
    if scheme.octets is not None and len(octets) != scheme.octets:
        raise BadSecret(f"{len(octets)} octets in a secret that has {scheme.octets}")
    return octets


def unbase64(text: bytes) -> bytes:
    """Raises BadSecret."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadSecret("not base64") from None


def unhex(text: bytes) -> bytes:
    """Raises BadSecret."""
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise BadSecret("not hexadecimal") from None


def accept_any(octets: bytes) -> None:
    """Any octets are a secret of the scheme."""


_DECODERS: Final[Mapping[Encoding, Callable[[bytes], bytes]]] = MappingProxyType(
    {Encoding.NONE: bytes, Encoding.HEX: unhex, Encoding.BASE64: unbase64}
)
