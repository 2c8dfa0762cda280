"""Stored passwords: what verifies, what never does, and what a users file may ask of us."""

from __future__ import annotations

import pytest

from trio_pop3.auth.schemes import HASHERS, SCHEMES, BadSecret, Secret, parse_secret

# Made by other programs: doveadm pw, mkpasswd, Python's passlib.
FOREIGN = {
    "{PLAIN}pass:word": "pass:word",
    "{plain}pw": "pw",
    "{CLEARTEXT}pw": "pw",
    "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/": "password",
    "{CRYPT}$6$saltsalt$"
    "qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/": "password",
    "{BLF-CRYPT}$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe": "password",
}  # fmt: skip


@pytest.mark.parametrize("stored", FOREIGN)
def test_foreign_hashes(stored: str) -> None:
    secret = parse_secret(stored)
    assert secret.is_of(FOREIGN[stored].encode())
    assert not secret.is_of(FOREIGN[stored].encode() + b"x")
    assert not secret.is_of(b"")


@pytest.mark.parametrize("scheme", HASHERS)
@pytest.mark.parametrize("password", [b"secret", b" two  spaces ", "caf\u00e9".encode(), b"\xff\xfe", b"x" * 70])
def test_what_we_write_we_accept(scheme: str, password: bytes) -> None:
    """D3: octet for octet."""
    secret = parse_secret(HASHERS[scheme](password))
    assert secret.is_of(password)
    for wrong in (password[:-1], password + b" ", b""):
        assert not secret.is_of(wrong)


def test_salts_are_fresh() -> None:
    assert HASHERS["SCRYPT"](b"x") != HASHERS["SCRYPT"](b"x")


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ("{ROT13}frperg", "unknown password scheme {ROT13}"),
        ("{PLAIN}", "empty password"),
        ("", "empty password"),
        ("{SCRYPT}nonsense", "not an scrypt hash"),
        ("{SCRYPT}$scrypt$ln=40,r=8,p=1$c2FsdA$c2FsdHNhbHRzYWx0c2FsdA", "out of range"),
        ("{SCRYPT}$scrypt$ln=15,r=8,p=999$c2FsdA$c2FsdHNhbHRzYWx0c2FsdA", "out of range"),
        ("{SCRYPT}$scrypt$ln=0,r=8,p=1$c2FsdA$c2FsdHNhbHRzYWx0c2FsdA", "out of range"),
        ("{SCRYPT}$scrypt$ln=4,r=1,p=1$c2FsdA$c2E", "key too short"),
        ("{SCRYPT}$scrypt$ln=4,r=1,p=1$a$c2FsdHNhbHRzYWx0c2FsdA", "not base64"),
        ("{CRYPT}with space", "not a crypt(3) hash"),
    ],
)
def test_bad_secrets(stored: str, complaint: str) -> None:
    with pytest.raises(BadSecret) as failure:
        parse_secret(stored)
    assert complaint in str(failure.value)


@pytest.mark.parametrize("stored", ["{CRYPT}!", "{CRYPT}*", "!locked", "{CRYPT}$9$what$ever", "{CRYPT}x"])
def test_locked_accounts_and_unknown_kinds_are_nobodys(stored: str) -> None:
    """H6."""
    for password in (b"", b"!", b"*", b"x"):
        assert not parse_secret(stored).is_of(password)


def test_empty_is_nobodys() -> None:
    """H6: an empty secret equals nothing, whatever the scheme says."""
    assert not Secret("PLAIN", "").is_of(b"")
    assert not Secret("PLAIN", "x").is_of(b"")


def test_a_secret_does_not_show() -> None:
    """P5."""
    assert "hunter2" not in repr(parse_secret("{PLAIN}hunter2"))
    assert set(SCHEMES) >= set(HASHERS)


def test_a_password_with_nul_is_nobodys_in_crypt() -> None:
    with pytest.raises(BadSecret):
        HASHERS["SHA512-CRYPT"](b"a\0b")
