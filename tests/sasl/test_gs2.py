"""The header in front of SCRAM and OAUTHBEARER messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sasl import Malformed
from trio_pop3.sasl.gs2 import Gs2Header, decode_name, encode_name, make_header, split_header

names = st.text(st.sampled_from("=,2CD3 ") | st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)


@given(names)
def test_names_round_trip(name: str) -> None:
    """R5802-03: no comma is left, and "=" only where something is escaped."""
    encoded = encode_name(name)
    assert b"," not in encoded
    assert encoded.count(b"=") == name.count("=") + name.count(",")
    assert decode_name(encoded) == name


@pytest.mark.parametrize("octets", [b"=", b"a=b", b"=2", b"=2c", b"=3d", b"=41", b"a=2C="])
def test_stray_escapes(octets: bytes) -> None:
    """R5802-04."""
    with pytest.raises(Malformed):
        decode_name(octets)


@given(st.sampled_from(["n", "y", "p=tls-server-end-point"]), names, st.binary(max_size=8))
def test_headers_round_trip(flag: str, name: str, rest: bytes) -> None:
    octets = make_header(flag, name)
    header, behind = split_header(octets + rest)
    binding = flag[2:] or None
    assert header == Gs2Header(octets, could_bind=flag == "y", binding=binding, name=name)
    assert behind == rest


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,",
        b"x,,",
        b"N,,",
        b"p,,",
        b"p=,,",
        b"p=a_b,,",
        b" n,,",
        b"n,b=x,",
        b"n,x,",
        b"n,a=b=c,",
        b"n,a=\xff,",
    ],
)
def test_what_is_no_header(message: bytes) -> None:
    """R5802-01, R5802-04."""
    with pytest.raises(Malformed):
        split_header(message)


def test_an_empty_authzid_is_none() -> None:
    """R4422-08."""
    assert split_header(b"n,a=,rest")[0].name == ""


@pytest.mark.parametrize("flag", ["", "x", "p=", "p=a,b", "n,"])
def test_a_header_we_would_not_send(flag: str) -> None:
    with pytest.raises(ValueError, match="channel binding"):
        make_header(flag, "")
