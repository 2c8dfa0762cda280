"""What a users file may ask of us, and the keys of SCRAM."""

from __future__ import annotations

import base64
import hmac
import sys

import argon2
import pytest

from trio_pop3.auth import kdf
from trio_pop3.auth.schemes import HASHERS, BadSecret, Secret, parse_secret

SALT = "c2FsdHNhbHRzYWx0"
KEY = "c2FsdHNhbHRzYWx0c2FsdA"
SHA1_KEY = base64.b64encode(bytes(20)).decode()
SHA256_KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ("{SCRYPT}nonsense", "not an scrypt hash"),
        (f"{{SCRYPT}}$scrypt$ln=40,r=8,p=1${SALT}${KEY}", "out of range"),
        (f"{{SCRYPT}}$scrypt$ln=15,r=8,p=999${SALT}${KEY}", "out of range"),
        (f"{{SCRYPT}}$scrypt$ln=0,r=8,p=1${SALT}${KEY}", "out of range"),
        (f"{{SCRYPT}}$scrypt$ln=4,r=1,p=1${SALT}$c2E", "key too short"),
        (f"{{SCRYPT}}$scrypt$ln=4,r=1,p=1$a${KEY}", "not base64"),
        ("{ARGON2ID}nonsense", "not an Argon2 hash"),
        (f"{{ARGON2ID}}$argon2d$v=19$m=65536,t=3,p=1${SALT}${KEY}", "not an Argon2 hash"),
        (f"{{ARGON2ID}}$argon2id$v=19$m=65536,t=3,p=0${SALT}${KEY}", "out of range"),
        (f"{{ARGON2ID}}$argon2id$v=19$m=65536,t=3,p=17${SALT}${KEY}", "out of range"),
        (f"{{ARGON2ID}}$argon2id$v=19$m=65536,t=0,p=1${SALT}${KEY}", "out of range"),
        (f"{{ARGON2ID}}$argon2id$v=19$m=7,t=3,p=1${SALT}${KEY}", "out of range"),
        (f"{{ARGON2ID}}$argon2id$v=19$m=262145,t=1,p=1${SALT}${KEY}", "out of range"),
        (f"{{ARGON2ID}}$argon2id$v=19$m=65536,t=25,p=1${SALT}${KEY}", "out of range"),
        ("{PBKDF2}nonsense", "not a PBKDF2 hash"),
        (f"{{PBKDF2}}$2$salt$5000${'0' * 40}", "not a PBKDF2 hash"),
        (f"{{PBKDF2}}$1$salt$5000${'0' * 39}", "not a PBKDF2 hash"),
        (f"{{PBKDF2}}$1$salt$0${'0' * 40}", "out of range"),
        (f"{{PBKDF2}}$1$salt$3000001${'0' * 40}", "out of range"),
        ("{SCRAM-SHA-1}nonsense", "not a SCRAM secret"),
        (f"{{SCRAM-SHA-1}}4095,{SALT},{SHA1_KEY},{SHA1_KEY}", "out of range"),
        (f"{{SCRAM-SHA-1}}3000001,{SALT},{SHA1_KEY},{SHA1_KEY}", "out of range"),
        (f"{{SCRAM-SHA-1}}4096,a===,{SHA1_KEY},{SHA1_KEY}", "not base64"),
        (f"{{SCRAM-SHA-1}}4096,{SALT},{SHA1_KEY},{SHA256_KEY}", "another length than SCRAM-SHA-1"),
        (f"{{SCRAM-SHA-256}}4096,{SALT},{SHA1_KEY},{SHA1_KEY}", "another length than SCRAM-SHA-256"),
    ],
)
def test_bad_secrets_and_unbounded_work(stored: str, complaint: str) -> None:
    """P4; R5802-10: at least 4096 iterations."""
    with pytest.raises(BadSecret) as failure:
        parse_secret(stored)
    assert complaint in str(failure.value)


def test_the_most_that_may_be_asked() -> None:
    for stored in (
        f"{{SCRYPT}}$scrypt$ln=18,r=8,p=1${SALT}${KEY}",
        f"{{ARGON2ID}}$argon2id$v=19$m=262144,t=6,p=16${SALT}${KEY}",
        f"{{ARGON2I}}$argon2i$v=19$m=65536,t=24,p=1${SALT}${KEY}",
        f"{{PBKDF2}}$1$$3000000${'aB' * 20}",
        f"{{SCRAM-SHA-256}}3000000,{SALT},{SHA256_KEY},{SHA256_KEY}",
    ):
        assert parse_secret(stored).scheme in stored


@pytest.mark.parametrize("kind", [argon2.Type.I, argon2.Type.ID])
@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("scheme", ["ARGON2I", "argon2id"])
def test_hashes_of_argon2_cffi(kind: argon2.Type, lanes: int, scheme: str) -> None:
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=512, parallelism=lanes, type=kind)
    hashed = hasher.hash("caf\u00e9")
    secret = parse_secret(f"{{{scheme}}}{hashed}")
    assert secret.is_of("caf\u00e9".encode())
    assert not secret.is_of(b"cafe")


def test_argon2_cffi_takes_ours() -> None:
    stored = HASHERS["ARGON2ID"](b"password").removeprefix("{ARGON2ID}")
    assert argon2.PasswordHasher().verify(stored, b"password")
    assert argon2.extract_parameters(stored).memory_cost == 64 * 1024


def test_without_the_extra_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argon2.low_level", None)
    for work in (
        lambda: parse_secret(f"{{ARGON2ID}}$argon2id$v=19$m=512,t=1,p=1${SALT}${KEY}"),
        lambda: HASHERS["ARGON2ID"](b"x"),
    ):
        with pytest.raises(BadSecret, match=r"trio-pop3\[argon2\]"):
            work()


# The exchanges of RFC 5802 section 5 and RFC 7677 section 3, as in PROTOCOL.md: user "user", password "pencil".
EXCHANGES = {
    "sha1": (
        "QSXCR+Q6sek8bf92",
        "n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "sha256": (
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        "n=user,r=rOprNGfwEbeRWgbNEkqO",
        "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


@pytest.mark.parametrize("hash_name", EXCHANGES)
def test_keys_are_those_of_the_rfcs(hash_name: str) -> None:
    """RFC 5802 section 3: the server signature over the published exchange comes out."""
    salt, first, nonce, signature = EXCHANGES[hash_name]
    message = f"{first},r={nonce},s={salt},i=4096,c=biws,r={nonce}"
    keys = kdf.derive_scram(b"pencil", hash_name, base64.b64decode(salt))
    assert base64.b64encode(hmac.digest(keys.server_key, message.encode(), hash_name)).decode() == signature
    assert keys.iterations == 4096


def test_what_is_stored_for_scram_can_be_had() -> None:
    secret = parse_secret(HASHERS["SCRAM-SHA-256"](b"password"))
    keys = secret.scram_keys("sha256")
    assert keys is not None
    assert keys == kdf.derive_scram(b"password", "sha256", keys.salt, keys.iterations)
    assert secret.scram_keys("sha1") is None
    assert Secret("PLAIN", b"password").scram_keys("sha1") is None
