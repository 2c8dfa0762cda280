"""What is written in certificates: names, dates, and the channel binding that is made of one (RFC 5280, RFC 5929).

The standard library tells this of a peer's certificate only, and of an own one nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_DNS_NAME: Final = 0x82
_UTC_TIME: Final = 0x17
_PSS_HASH: Final = 0xA0
_PSS_MASK: Final = 0xA1

_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_RSASSA_PSS: Final = "1.2.840.113549.1.1.10"

# Hashes by their own identifiers, and by those of signatures made with them. RFC 5929 section 4.1: SHA-256 for MD5 and
# SHA-1. Signatures that are not here have no hash of their own, such as Ed25519.
_HASHES: Final[Mapping[str, str]] = {
    "1.3.14.3.2.26": "sha256",  # SHA-1
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "1.2.840.113549.1.1.4": "sha256",  # RSA with MD5
    "1.2.840.113549.1.1.5": "sha256",  # RSA with SHA-1
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.1": "sha256",  # ECDSA with SHA-1
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server has to know of one of its certificates."""

    der: bytes
    names: tuple[str, ...]  # DNS names, lower case
    begins: datetime
    ends: datetime
    end_point: bytes | None


def tls_server_end_point(der: bytes) -> bytes | None:
    """The channel binding tls-server-end-point (RFC 5929 section 4) of a server with this certificate, in DER.

    None if it is not defined: its signature has no hash of its own, or several. Raises ValueError if it is no
    certificate.
    """
    (_, identifier), *parameters = _elements(_parts(der)[1])
    signature = _oid(identifier)
    name = _pss_hash(parameters[0][1]) if signature == _RSASSA_PSS and parameters else _HASHES.get(signature)
    return None if name is None else hashlib.new(name, der).digest()


def _pss_hash(parameters: bytes) -> str | None:
    """The hash of a signature with RSASSA-PSS, if it is the one of its mask too (RFC 4055 section 3.1)."""
    given = dict(_elements(parameters))
    hash_of, hash_of_mask = "1.3.14.3.2.26", "1.3.14.3.2.26"
    if _PSS_HASH in given:
        hash_of = _algorithm(given[_PSS_HASH])[0]
    if _PSS_MASK in given:
        hash_of_mask = _algorithm(_algorithm(given[_PSS_MASK])[1])[0]
    return _HASHES.get(hash_of) if hash_of == hash_of_mask else None


def certificates_in(pem: bytes) -> list[Certificate]:
    """All certificates in PEM. Raises ValueError for one that cannot be read."""
    blocks = _PEM.findall(pem)
    return [_certificate(base64.b64decode(b"".join(block.split()), validate=True)) for block in blocks]


def _certificate(der: bytes) -> Certificate:
    """Raises ValueError."""
    fields = [(tag, content) for tag, content in _elements(_parts(der)[0]) if tag != _VERSION]
    if len(fields) < 6:
        raise ValueError("fields are missing")
    begins, ends = (_time(*when) for when in _elements(fields[3][1]))
    names = [name for tag, content in fields[6:] if tag == _EXTENSIONS for name in _dns_names(content)]
    return Certificate(der, tuple(names), begins, ends, tls_server_end_point(der))


def _dns_names(extensions: bytes) -> list[str]:
    for _, extension in _elements(_content(extensions)):
        (_, identifier), *_, (_, value) = _elements(extension)
        if _oid(identifier) == _SUBJECT_ALT_NAME:
            names = _elements(_content(value))
            return [name.decode("ascii").lower() for tag, name in names if tag == _DNS_NAME]
    return []


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, up to 2049 (RFC 5280 section 4.1.2.5.1)
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _parts(der: bytes) -> tuple[bytes, bytes]:
    """What is signed, and with what algorithm."""
    parts = _elements(_content(der))
    if len(parts) != 3:
        raise ValueError("not a certificate")
    return parts[0][1], parts[1][1]


def _algorithm(octets: bytes) -> tuple[str, bytes]:
    """The identifier of an algorithm, and the first of its parameters, whole."""
    content = _content(octets)
    (_, identifier), *_ = _elements(content)
    return _oid(identifier), content[2 + len(identifier) :]


def _content(octets: bytes) -> bytes:
    """What is in a sequence that is all there is."""
    found = _elements(octets)
    if len(found) != 1 or found[0][0] != _SEQUENCE:
        raise ValueError("not a sequence")
    return found[0][1]


def _elements(octets: bytes) -> list[tuple[int, bytes]]:
    """The tags and contents of DER elements, one behind the other. Raises ValueError if they are cut off."""
    found, at = [], 0
    while at < len(octets):
        tag, size, at = octets[at], octets[at + 1 : at + 2], at + 2
        if size >= b"\x80":
            more = size[0] & 0x7F
            size, at = octets[at : at + more], at + more
        end = at + int.from_bytes(size, "big")
        if not size or end > len(octets):
            raise ValueError("cut off")
        found.append((tag, octets[at:end]))
        at = end
    return found


def _oid(content: bytes) -> str:
    """An object identifier in dots."""
    numbers, number = [], 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if octet < 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        raise ValueError("no identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))
