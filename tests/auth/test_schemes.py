"""Stored passwords: what verifies, what never does, and that Dovecot and we take each other's."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from trio_pop3.auth.schemes import HASHERS, SCHEMES, BadSecret, Secret, parse_secret
from trio_pop3.credentials import ApopCredentials, CramMd5Credentials

from . import doveadm

# Made by other programs: doveadm pw, mkpasswd, Python's passlib.
FOREIGN = {
    "{PLAIN}pass:word": "pass:word",
    "{plain}pw": "pw",
    "{CLEARTEXT}pw": "pw",
    "{Plain.b64}cGFzczp3b3Jk": "pass:word",
    "{CLEAR.Hex}7077": "pw",
    "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/": "password",
    "{CRYPT}$6$saltsalt$"
    "qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/": "password",
    "{BLF-CRYPT}$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe": "password",
}  # fmt: skip
OURS_ONLY = {"SCRYPT"}
DOVECOTS = [name for name in SCHEMES if name not in OURS_ONLY]
ENCODED = ["SHA.HEX", "ssha.hex", "SSHA512.B64", "PLAIN-MD5.BASE64", "LDAP-MD5.hex", "Cram-Md5.b64", "PBKDF2.HEX"]
ENCODED += ["SCRAM-SHA-1.B64", "SHA512-CRYPT.HEX", "ARGON2I.B64", "PLAIN.HEX"]


@pytest.mark.parametrize("stored", FOREIGN)
def test_foreign_hashes(stored: str) -> None:
    secret = parse_secret(stored)
    assert secret.is_of(FOREIGN[stored].encode())
    assert not secret.is_of(FOREIGN[stored].encode() + b"x")
    assert not secret.is_of(b"")


@pytest.mark.parametrize("scheme", [*DOVECOTS, *ENCODED])
def test_what_dovecot_writes_we_accept(scheme: str, tmp_path: Path) -> None:
    """ECOSYSTEM e: every scheme, by `doveadm pw`. DES-CRYPT looks at eight octets only."""
    for password in ("p\u00e4ss wd", "x" * 70 if scheme != "DES-CRYPT" else "x" * 8, "$"):
        secret = parse_secret(doveadm.hashed(scheme, password, tmp_path))
        assert secret.is_of(password.encode())
        assert not secret.is_of(b"y" + password.encode())
        assert not secret.is_of(b"")


@pytest.mark.parametrize("scheme", sorted(set(HASHERS) - OURS_ONLY))
def test_what_we_write_dovecot_accepts(scheme: str, tmp_path: Path) -> None:
    for password in ("p\u00e4ss wd", "x" * 70, "$"):
        stored = HASHERS[scheme](password.encode())
        assert doveadm.accepts(stored, password, tmp_path)
        assert not doveadm.accepts(stored, "other", tmp_path)


@pytest.mark.parametrize("scheme", HASHERS)
@pytest.mark.parametrize("password", [b"secret", b" two  spaces ", "caf\u00e9".encode(), b"\xff\xfe", b"x" * 70])
def test_what_we_write_we_accept(scheme: str, password: bytes) -> None:
    """D3: octet for octet."""
    secret = parse_secret(HASHERS[scheme](password))
    assert secret.is_of(password)
    for wrong in (password[:-1], password + b" ", b""):
        assert not secret.is_of(wrong)


@pytest.mark.parametrize("scheme", sorted(set(HASHERS) - {"PLAIN"}))
def test_salts_are_fresh(scheme: str) -> None:
    assert HASHERS[scheme](b"x") != HASHERS[scheme](b"x")


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ("{ROT13}frperg", "unknown password scheme {ROT13}"),
        ("{a b}x", "unknown password scheme {A B}"),
        ("{}x", "unknown password scheme {}"),
        ("{SHA.ROT13}frperg", "unknown encoding {SHA.ROT13}"),
        ("{SHA.}frperg", "unknown encoding {SHA.}"),
        ("{SHA.HEX.HEX}frperg", "unknown encoding {SHA.HEX.HEX}"),
        ("{PLAIN}", "empty password"),
        ("{PLAIN.B64}", "empty password"),
        ("", "empty password"),
        ("{CRYPT}with space", "not a crypt(3) hash"),
    ],
)
def test_bad_secrets(stored: str, complaint: str) -> None:
    with pytest.raises(BadSecret) as failure:
        parse_secret(stored)
    assert complaint in str(failure.value)
    assert "frperg" not in str(failure.value)


@pytest.mark.parametrize("stored", ["{CRYPT}!", "{CRYPT}*", "!locked", "{CRYPT}$9$what$ever", "{CRYPT}x"])
def test_locked_accounts_and_unknown_kinds_are_nobodys(stored: str) -> None:
    """H6."""
    for password in (b"", b"!", b"*", b"x"):
        assert not parse_secret(stored).is_of(password)


def test_empty_is_nobodys() -> None:
    """H6: an empty secret equals nothing, whatever the scheme says."""
    assert not Secret("PLAIN", b"").is_of(b"")
    assert not Secret("PLAIN", b"x").is_of(b"")
    assert not Secret("PLAIN", b"").answers(cram(b""))
    assert not parse_secret("{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=").is_of(b"")


def test_a_secret_does_not_show() -> None:
    """P5, H8."""
    assert "hunter2" not in repr(parse_secret("{PLAIN}hunter2"))
    assert set(SCHEMES) >= set(HASHERS)


def test_a_password_with_nul_is_nobodys_in_crypt() -> None:
    with pytest.raises(BadSecret):
        HASHERS["SHA512-CRYPT"](b"a\0b")


def cram(password: bytes) -> CramMd5Credentials:
    """The vector of RFC 2195 section 2, for any password."""
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    return CramMd5Credentials("tim", challenge, hmac.digest(password, challenge, "md5"))


def apop(password: bytes) -> ApopCredentials:
    timestamp = "<1896.697170952@dbc.mtview.ca.us>"
    return ApopCredentials("mrose", timestamp, hashlib.md5(timestamp.encode() + password).digest())


def test_the_vector_of_rfc_2195() -> None:
    """R2195-02."""
    assert cram(b"tanstaaftanstaaf").digest.hex() == "b913a602c7eda7a495b4e6e7334d3890"


@pytest.mark.parametrize("scheme", ["CRAM-MD5", "HMAC-MD5.B64", "PLAIN", "CLEARTEXT.HEX"])
@pytest.mark.parametrize("password", ["tanstaaftanstaaf", "caf\u00e9", "x" * 65])
def test_what_dovecot_stores_for_cram_md5_proves_it(scheme: str, password: str, tmp_path: Path) -> None:
    """R2195-02: a response is checked without the password being stored."""
    secret = parse_secret(doveadm.hashed(scheme, password, tmp_path))
    assert "CRAM-MD5" in secret.methods
    assert secret.answers(cram(password.encode()))
    assert not secret.answers(cram(b"other"))


def test_cleartext_proves_everything() -> None:
    secret = parse_secret("{PLAIN.HEX}ff666f6f")
    assert secret.methods == {"APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"}
    assert secret.answers(apop(b"\xfffoo"))
    assert not secret.answers(apop(b"foo"))
    assert secret.cleartext == "\udcfffoo"


@pytest.mark.parametrize(
    "stored", ["$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "{SHA256}" + "00" * 32, "{CRAM-MD5}" + "00" * 32]
)
def test_a_hash_is_not_taken_for_the_password(stored: str) -> None:
    """Whoever stole the file cannot log in with what it says."""
    secret = parse_secret(stored)
    assert secret.cleartext is None
    for known in (secret.octets, stored.encode(), b"", bytes(32)):
        assert not secret.answers(apop(known))
        assert not secret.answers(cram(known))


def test_no_states_are_nobodys() -> None:
    """The states that stand in for missing ones prove nothing of a user who has none."""
    from trio_pop3.auth.md5 import hmac_resume

    forged = CramMd5Credentials("tim", b"<1@x>", hmac_resume(bytes(32), b"<1@x>"))
    assert not parse_secret("{PLAIN}secret").answers(forged)
    assert parse_secret("{CRAM-MD5}" + "00" * 32).answers(forged)


def test_marks_tell_secrets_apart() -> None:
    """H12."""
    stored = ["{PLAIN}a", "{PLAIN}b", "{CLEARTEXT}a"]
    assert len({parse_secret(each).mark for each in stored}) == 3
