"""Base64 as strict as RFC 5034 has it, against a definition written another way."""

from __future__ import annotations

import base64
from string import ascii_lowercase, ascii_uppercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio.base64 import decode, encode

ALPHABET = ascii_uppercase + ascii_lowercase + digits + "+/"

# Octets outside the alphabet, padding where it must not be, too few or too many, and spare bits that are not zero.
BAD_BASE64 = [
    b"=AAA", b"AAA=BBB", b"AAA=BBBB", b"AAAA=", b"AAAA==", b"AAAA====", b"AB==", b"AAB=", b"A", b"AA", b"AAA", b"A===",
    b"=", b"==", b"====", b"AA=A", b"AA==AAAA", b"AA-_", b"AA,A", b" AAAA", b"AAAA ", b"AA AA", b"AAAA\t", b"AAAA\r",
    b"AAAA\n", b"AAAA\0", b"AA\xffA", b"\xc3\xa4AA", b"*", b"**",
]  # fmt: skip


def decoded(line: bytes) -> bytes | None:
    """What a line stands for; None if that is nothing."""
    try:
        return decode(line)
    except ValueError:
        return None


@given(st.binary(max_size=200))
def test_base64_is_read_back(octets: bytes) -> None:
    """R4422-04: any octets, none included; one line."""
    line = encode(octets)
    assert line == base64.b64encode(octets)
    assert decoded(line) == octets


def naive_base64(line: str) -> bytes | None:
    """PROTOCOL 1.2, six bits at a time: whole groups of four, padding at the end, spare bits zero."""
    letters = line.rstrip("=")
    if set(letters) - set(ALPHABET) or len(letters) % 4 == 1 or len(line) != len(letters) + -len(letters) % 4:
        return None
    bits = "".join(f"{ALPHABET.index(letter):06b}" for letter in letters)
    spare = len(bits) % 8
    if "1" in bits[len(bits) - spare :]:
        return None
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - spare, 8))


@given(
    st.text(ALPHABET + "=", max_size=12) | st.text(ALPHABET + "= \r\n-_*", max_size=9) | st.text("AQgw=", max_size=8)
)
def test_base64_is_what_the_definition_says_and_nothing_else(line: str) -> None:
    """R5034-18, R5034-19."""
    assert decoded(line.encode()) == naive_base64(line)


@pytest.mark.parametrize("line", BAD_BASE64)
def test_what_is_not_base64(line: bytes) -> None:
    """R5034-16, R5034-18, R5034-19, H4."""
    assert decoded(line) is None


@pytest.mark.parametrize("line", [b"AHVzZXIAc2VjcmV0*", b"AHVzZXIAc2VjcmV0A"])
def test_what_is_refused_is_not_shown(line: bytes) -> None:
    """P5: it may be half a password."""
    with pytest.raises(ValueError, match=r"^not base64$"):
        decode(line)
