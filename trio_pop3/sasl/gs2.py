"""What SCRAM and OAUTHBEARER messages begin with: the GS2 header (RFC 5801 section 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .exchange import Malformed
from .text import decode_text, encode_text

_HEADER: Final = re.compile(rb"(?:([ny])|p=([A-Za-z0-9.-]{1,64})),(?:a=([^,]*))?,")
_FLAG: Final = re.compile(r"[ny]|p=[A-Za-z0-9.-]{1,64}")
_STRAY_ESCAPE: Final = re.compile(rb"=(?!2C|3D)")


@dataclass(frozen=True, slots=True)
class Gs2Header:
    """A header as it was received.

    octets: all of it, with the last comma.
    could_bind: flag "y": the client could bind, and believes that the server cannot.
    binding: with flag "p", the type of channel binding the client uses; else None.
    name: from `a=`, decoded and not prepared; "" if there is none.
    """

    octets: bytes
    could_bind: bool
    binding: str | None
    name: str


def split_header(message: bytes) -> tuple[Gs2Header, bytes]:
    """The header of a message, and what follows it. Raises Malformed."""
    match = _HEADER.match(message)
    if match is None:
        raise Malformed
    flag, binding, name = match.groups()
    header = Gs2Header(
        octets=match[0],
        could_bind=flag == b"y",
        binding=None if binding is None else binding.decode("ascii"),
        name=decode_name(name or b""),
    )
    return header, message[match.end() :]


def make_header(flag: str, name: str) -> bytes:
    """The header with "n", "y" or "p=TYPE", and a name unless it is "". Raises ValueError."""
    if not _FLAG.fullmatch(flag):
        raise ValueError("not a type of channel binding")
    return flag.encode("ascii") + b"," + (b"a=" + encode_name(name) if name else b"") + b","


def encode_name(name: str) -> bytes:
    """A name between commas: saslname, RFC 5802 section 7. Raises ValueError."""
    return encode_text(name).replace(b"=", b"=3D").replace(b",", b"=2C")


def decode_name(octets: bytes) -> str:
    """The name. Raises Malformed, also if there is an "=" that begins neither `=2C` nor `=3D`."""
    if _STRAY_ESCAPE.search(octets):
        raise Malformed
    return decode_text(octets.replace(b"=2C", b",").replace(b"=3D", b"="))
