"""MD5 with its state in the open, against hashlib."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.auth import md5


@given(st.binary(max_size=300))
def test_it_is_md5(data: bytes) -> None:
    assert md5.digest(data) == hashlib.md5(data).digest()


@given(st.binary(max_size=150), st.binary(max_size=300))
def test_hmac_goes_on_from_its_states(key: bytes, message: bytes) -> None:
    states = md5.hmac_states(key)
    assert len(states) == 32
    assert md5.hmac_resume(states, message) == hmac.digest(key, message, "md5")
    assert md5.hmac_matches(states, message, hmac.digest(key, message, "md5"))
    assert not md5.hmac_matches(states, message + b"x", hmac.digest(key, message, "md5"))


def test_blocks_to_the_octet() -> None:
    """Where the padding changes shape."""
    for octets in range(50, 70):
        assert md5.digest(b"x" * octets) == hashlib.md5(b"x" * octets).digest()
