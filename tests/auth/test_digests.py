"""Bare hashes, salted and not."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.auth.digests import DIGESTS
from trio_pop3.auth.schemes import BadSecret, parse_secret

SALTED = {"SMD5": "md5", "SSHA": "sha1", "SSHA256": "sha256", "SSHA512": "sha512"}


@pytest.mark.parametrize("scheme", SALTED)
@given(password=st.binary(min_size=1), salt=st.binary(min_size=1, max_size=40))
def test_a_salt_of_any_length(scheme: str, password: bytes, salt: bytes) -> None:
    stored = base64.b64encode(hashlib.new(SALTED[scheme], password + salt).digest() + salt).decode()
    secret = parse_secret(f"{{{scheme}}}{stored}")
    assert secret.is_of(password)
    assert not secret.is_of(password + b"x")


@pytest.mark.parametrize("scheme", SALTED)
def test_a_salted_hash_has_a_salt(scheme: str) -> None:
    octets = hashlib.new(SALTED[scheme], b"password").digest()
    for stored in (octets, octets[:-1]):
        with pytest.raises(BadSecret, match="without salt"):
            parse_secret(f"{{{scheme}}}{base64.b64encode(stored).decode()}")


@pytest.mark.parametrize("scheme", sorted(set(DIGESTS) - set(SALTED)))
def test_a_hash_of_another_length_is_none(scheme: str) -> None:
    for suffix in ("", ".HEX", ".B64"):
        with pytest.raises(BadSecret):
            parse_secret(f"{{{scheme}{suffix}}}c2VjcmV0")
