"""What is shown of credentials, and what can be found out with them."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.credentials import (
    AnonymousCredentials,
    ApopCredentials,
    CertificateCredentials,
    ClientCertificate,
    CramMd5Credentials,
    Credentials,
    PasswordCredentials,
    ScramKeys,
    TokenCredentials,
)

STAMP = "<1896.697170952@dbc.mtview.ca.us>"
CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
CERTIFICATE = ClientCertificate(
    {
        "subject": ((("countryName", "DE"),), (("commonName", "Alice"), ("emailAddress", "old@example.org"))),
        "subjectAltName": (("DNS", "example.org"), ("email", "alice@example.org"), ("email", "a@example.org")),
    },
    b"DER",
)
KEY = b"k" * 32
secrets = st.text(max_size=12)
# What comes out of octets that were not UTF-8.
wire_texts = st.binary(max_size=12).map(lambda octets: octets.decode("utf-8", "surrogateescape"))


def test_vectors() -> None:
    """PROTOCOL 9, R1939-75, R2195-02, H13."""
    apop = ApopCredentials("mrose", STAMP, bytes.fromhex("c4c9334bac560ecc979e58001b3e22fb"))
    assert apop.matches("tanstaaf")
    assert not apop.matches("Tanstaaf")
    cram = CramMd5Credentials("tim", CHALLENGE, bytes.fromhex("b913a602c7eda7a495b4e6e7334d3890"))
    assert cram.matches("tanstaaftanstaaf")
    assert not cram.matches("")


@given(wire_texts, wire_texts)
def test_only_the_secret_matches(secret: str, other: str) -> None:
    """H13, A-03: whatever octets it is made of."""
    octets = secret.encode("utf-8", "surrogateescape")
    digest = hashlib.md5(STAMP.encode() + octets, usedforsecurity=False).digest()
    assert ApopCredentials("a", STAMP, digest).matches(secret)
    assert ApopCredentials("a", STAMP, digest).matches(other) == (secret == other)
    assert PasswordCredentials("a", secret).octets == octets


CREDENTIALS = [
    PasswordCredentials("alice", "hunter2"),
    ApopCredentials("alice", STAMP, b"hunter2" + bytes(9)),
    CramMd5Credentials("alice", CHALLENGE, b"hunter2" + bytes(9)),
    TokenCredentials("alice", "hunter2"),
    CertificateCredentials("", ClientCertificate({}, b"hunter2")),
    ScramKeys(b"salt", 4096, b"hunter2", b"hunter2"),
]


@pytest.mark.parametrize("credentials", CREDENTIALS, ids=lambda one: type(one).__name__)
def test_no_repr_shows_a_secret(credentials: object) -> None:
    """H8, P5."""
    assert "hunter2" not in repr(credentials)
    assert "hunter2" not in f"{[credentials]}"


@given(secrets.filter(bool), st.booleans())
def test_texts_are_hidden_however_they_are_quoted(secret: str, token: bool) -> None:
    """H8, P5: passwords and tokens alike."""
    credentials = TokenCredentials("a", secret) if token else PasswordCredentials("a", secret)
    forms = (secret, repr(secret), ascii(secret), repr(secret.encode()), repr(f"{secret} '\""), repr([f"\"'{secret}"]))
    for form in forms:
        redacted = credentials.redact(f"<<{form}>>")
        assert ("********" in redacted) is (len(secret) > 3)
        if len(secret) > 3 and not set(secret) & set("*<>'\"\\"):
            assert secret not in redacted.replace("********", "")


def test_a_short_secret_cannot_be_read_from_where_it_is_missing() -> None:
    """P5: "/lib/********ython3.11" says what the password is."""
    credentials = PasswordCredentials("alice", "p")
    assert (
        credentials.redact("/lib/python3.11") == credentials.redact("p") == "(not shown, as it might show a password)"
    )


DIGEST = bytes(range(0xA0, 0xB0))


@pytest.mark.parametrize(
    "credentials", [ApopCredentials("alice", STAMP, DIGEST), CramMd5Credentials("alice", CHALLENGE, DIGEST)]
)
def test_digests_are_hidden(credentials: Credentials) -> None:
    """H8: with what was asked they would do for guessing at home."""
    text = f"{DIGEST.hex()} {DIGEST.hex().upper()} {DIGEST!r} {[DIGEST]}"
    assert credentials.redact(text).replace("********", "x") == "x x b'x' [b'x']"


def test_where_there_is_no_secret_nothing_is_hidden() -> None:
    """H6: an empty password is between all letters."""
    for credentials in (
        Credentials("alice"),
        PasswordCredentials("alice", ""),
        TokenCredentials("alice", ""),
        AnonymousCredentials("anonymous", "alice@example.org"),
        CertificateCredentials("", CERTIFICATE),
    ):
        assert credentials.redact("alice DER text") == "alice DER text"


@given(st.lists(wire_texts, min_size=3, max_size=3), st.lists(wire_texts, min_size=3, max_size=3))
@example(["alice", "secret", ""], ["alice", "secret", "bob"])
@example(["alice", "secret", ""], ["alice", "secre", "t"])
@example(["alice", "secret", ""], ["alices", "ecret", ""])
@example(["alice", "secret", ""], ["bob", "secret", ""])
def test_fingerprints_tell_pairs_apart(one: list[str], other: list[str]) -> None:
    """H10, H12: the same for the same, another for another, and nothing runs together."""

    for kind in (PasswordCredentials, TokenCredentials):
        first, second = (kind(user, secret, authzid=authzid) for user, secret, authzid in (one, other))
        assert (first.fingerprint(KEY) == second.fingerprint(KEY)) == (one == other)
        assert first.fingerprint(KEY) != first.fingerprint(b"another key")


def test_a_fingerprint_says_nothing_without_the_key() -> None:
    """P5, H8."""
    fingerprint = PasswordCredentials("alice", "secret").fingerprint(KEY)
    assert fingerprint is not None
    assert len(fingerprint) == 32
    assert b"secret" not in fingerprint


def test_what_proves_anew_each_time_has_no_fingerprint() -> None:
    """H10."""
    for credentials in (
        Credentials("alice"),
        ApopCredentials("alice", STAMP, bytes(16)),
        CramMd5Credentials("alice", CHALLENGE, bytes(16)),
        CertificateCredentials("", CERTIFICATE),
        AnonymousCredentials("anonymous", ""),
    ):
        assert credentials.fingerprint(KEY) is None
        assert credentials.authzid == ""


def test_certificates() -> None:
    """REXT-02, R2595-09."""
    assert CERTIFICATE.names("email") == ("alice@example.org", "a@example.org")
    assert CERTIFICATE.names("URI") == ()
    assert CERTIFICATE.subject("commonName") == ("Alice",)
    assert CERTIFICATE.subject("emailAddress") == ("old@example.org",)
    assert CERTIFICATE.fingerprint == hashlib.sha256(b"DER").hexdigest()
    empty = ClientCertificate({}, b"")
    assert empty.names("email") == empty.subject("commonName") == ()


def test_a_password_that_saslprep_changes() -> None:
    """H8: neither form of it is shown, and the one that was sent is there to be tried."""
    credentials = PasswordCredentials("alice", "fish-and-chips", as_sent="\ufb01sh-and-chips")
    assert credentials.unprepared == PasswordCredentials("alice", "\ufb01sh-and-chips")
    assert credentials.redact("fish-and-chips, \ufb01sh-and-chips") == "********, ********"
    assert "chips" not in repr(credentials)
    assert PasswordCredentials("alice", "plain", as_sent="plain").unprepared is None
    assert PasswordCredentials("alice", "plain").unprepared is None


@pytest.mark.parametrize("secret", ['100% "s3cret"', "p\u00e4ss w\u00f6rd/+", "back\\slash"])
def test_what_backends_quote(secret: str) -> None:
    """H8, P5: in a URL, in JSON, in the message of PLAIN, in HTTP basic authentication."""
    credentials = PasswordCredentials("alice", secret)
    octets = secret.encode()
    forms = [
        quote(octets), quote(octets, safe=""), quote_plus(octets),
        json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1],
        b64encode(octets).decode(), b64encode(b"\0alice\0" + octets).decode(), b64encode(b"alice:" + octets).decode(),
    ]  # fmt: skip
    for form in forms:
        redacted = credentials.redact(f"<{form}>")
        assert "********" in redacted
        assert form not in redacted
