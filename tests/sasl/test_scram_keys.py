"""What both sides of SCRAM compute, and nonces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio.base64 import decode
from trio_pop3.sasl import derive_keys
from trio_pop3.sasl.mechanisms.scram_keys import NONCE_OCTETS, make_nonce

from .wire import KEYS, SALT

# As PostgreSQL's scram_build_secret writes it, with the salt and password of RFC 7677 section 3.
STORED_KEY = b"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
SERVER_KEY = b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="


def test_known_keys() -> None:
    keys = derive_keys("pencil", decode(b"W22ZaJ0SNY7soEsUEjb6gQ=="), 4096, "sha256")
    assert keys.stored_key == decode(STORED_KEY)
    assert keys.server_key == decode(SERVER_KEY)
    assert (keys.salt, keys.iterations) == (decode(b"W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)


def test_passwords_are_prepared() -> None:
    """R5802-22, PROTOCOL 6.7: as stored strings."""
    assert derive_keys("pen\u00adcil", SALT, 4096, "sha1") == KEYS["sha1"]
    for password in ("", "\u00ad", "\x07", "hunter2\u0221", "\udcff"):
        with pytest.raises(ValueError, match=r"character|empty") as failure:
            derive_keys(password, SALT, 4096, "sha1")
        assert "hunter2" not in str(failure.value)


def test_limits() -> None:
    """R5802-10."""
    with pytest.raises(ValueError, match="at least 4096"):
        derive_keys("pencil", SALT, 4095, "sha256")
    with pytest.raises(ValueError, match="no SCRAM with 'md5'"):
        derive_keys("pencil", SALT, 4096, "md5")


def test_keys_do_not_show() -> None:
    """H8, P5."""
    shown = repr(KEYS["sha256"])
    assert "stored_key" not in shown
    assert "server_key" not in shown


@given(st.binary(min_size=1, max_size=40))
def test_nonces_are_printable_and_without_commas(octets: bytes) -> None:
    nonce = make_nonce(octets)
    assert len(nonce) == len(octets)
    assert all(0x21 <= octet <= 0x7E and octet != ord(",") for octet in nonce)
    assert make_nonce(nonce) == nonce


def test_nonces_cannot_be_guessed() -> None:
    """R5802-09: no character comes from more than three of 256 octets."""
    characters = make_nonce(bytes(range(256)))
    most = max(characters.count(character) for character in set(characters))
    assert most <= 3
    assert (256 / most) ** NONCE_OCTETS > 2**128
