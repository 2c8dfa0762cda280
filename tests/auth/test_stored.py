"""How the octets of a secret are written."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.auth.stored import BadSecret, Encoding, Scheme, accept_any, decode


def never(password: bytes, stored: bytes) -> bool:
    raise AssertionError("decoding compares nothing")


FREE = Scheme(accept_any, never, Encoding.BASE64)
FIXED = Scheme(accept_any, never, Encoding.BASE64, 20)
TEXT = Scheme(accept_any, never)


@given(st.binary(max_size=60))
def test_what_is_said_holds(octets: bytes) -> None:
    for scheme in (FREE, TEXT):
        assert decode(octets.hex().encode(), scheme, Encoding.HEX) == octets
        assert decode(octets.hex().upper().encode(), scheme, Encoding.HEX) == octets
        assert decode(base64.b64encode(octets), scheme, Encoding.BASE64) == octets
    assert decode(octets, TEXT, None) == octets
    assert decode(base64.b64encode(octets), FREE, None) == octets


@given(st.binary(min_size=20, max_size=20))
def test_the_length_tells_hexadecimal_from_base64(octets: bytes) -> None:
    for scheme in (FIXED, Scheme(accept_any, never, Encoding.HEX, 20)):
        assert decode(octets.hex().encode(), scheme, None) == octets
        assert decode(base64.b64encode(octets), scheme, None) == octets


@pytest.mark.parametrize(
    ("text", "scheme", "encoding", "complaint"),
    [
        (b"secret!", FREE, None, "not base64"),
        (b"abc", FREE, None, "not base64"),
        (b"\xff\xfe", FREE, None, "not base64"),
        (b"abc", TEXT, Encoding.HEX, "not hexadecimal"),
        (b"a b c ", TEXT, Encoding.HEX, "not hexadecimal"),
        (b"zz", TEXT, Encoding.HEX, "not hexadecimal"),
        (b"zz" * 20, FIXED, None, "not hexadecimal"),
        (b"c2VjcmV0", FIXED, None, "6 octets in a secret that has 20"),
    ],
)
def test_what_does_not_fit(text: bytes, scheme: Scheme, encoding: Encoding | None, complaint: str) -> None:
    with pytest.raises(BadSecret) as failure:
        decode(text, scheme, encoding)
    assert str(failure.value) == complaint
