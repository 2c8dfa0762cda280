"""Base64 without any licence: exactly one text stands for exactly one string of octets (RFC 5034 section 4)."""

from __future__ import annotations

import binascii


def decode(text: bytes) -> bytes:
    """The octets. Raises ValueError for everything that `encode` would not have written.

    Python's own checks, strict as they can be made, still take `AAAA=`, `AAAA====`, and spare bits as in `AB==`.
    """
    try:
        octets = binascii.a2b_base64(text)
    except binascii.Error:
        raise ValueError("not base64") from None
    if encode(octets) != text:
        raise ValueError("not base64")
    return octets


def encode(octets: bytes) -> bytes:
    """One line without its end."""
    return binascii.b2a_base64(octets, newline=False)
