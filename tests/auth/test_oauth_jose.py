"""Keys and signed tokens, without any server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.auth.oauth.jose import (
    KEY_TYPES,
    BadKeys,
    Header,
    Key,
    KeyRing,
    parse_keys,
    read_header,
    verified_claims,
)
from trio_pop3.auth.oauth.outcomes import Refused

from .oauth_server import ISSUER, NOW, claims, key, sign

RSA, EC, OKP = key("RSA 2048", "rsa-1"), key("EC P-256", "ec-1"), key("OKP Ed25519", "okp-1")
KINDS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA 2048"),
    "ES256": "EC P-256",
    "ES384": "EC P-384",
    "ES512": "EC P-521",
    "EdDSA": "OKP Ed25519",
    "Ed25519": "OKP Ed25519",
    "Ed448": "OKP Ed448",
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def public(*keys: Key, **changes: Any) -> dict[str, Any]:
    return {"keys": [{**one.as_dict(private=False), **changes} for one in keys]}


def check(token: str, signed_by: Key, *, now: float = NOW, leeway: int = 60) -> dict[str, Any]:
    return verified_claims(token, signed_by, issuer=ISSUER, now=now, leeway=leeway)


@pytest.mark.parametrize("algorithm", KEY_TYPES)
def test_every_algorithm(algorithm: str) -> None:
    signer = key(KINDS[algorithm], "k")
    token = sign(signer, algorithm, claims())
    header = read_header(token, KEY_TYPES)
    assert header == Header(algorithm, "k")
    found = parse_keys(public(signer)).find(header)
    assert found is not None and not found.is_private
    assert check(token, found) == claims()


def test_the_key_that_is_named() -> None:
    ring = parse_keys(public(RSA, EC, OKP, key("RSA 2048", "rsa-2")))
    assert [one.kid for one in ring.keys] == ["rsa-1", "ec-1", "okp-1", "rsa-2"]
    for algorithm, kid in [("RS256", "rsa-1"), ("PS256", "rsa-2"), ("ES256", "ec-1"), ("Ed25519", "okp-1")]:
        found = ring.find(Header(algorithm, kid))
        assert found is not None and found.kid == kid
    assert ring.find(Header("RS256", "ec-1")) is None
    assert ring.find(Header("RS256", "rsa-3")) is None
    assert ring.find(Header("RS256", None)) is None  # there are two
    only = ring.find(Header("ES256", None))
    assert only is not None and only.kid == "ec-1"


def test_a_key_is_for_its_algorithm() -> None:
    """RFC 8725 section 3.1; but a new name for the same signature is not another one."""
    ring = parse_keys(public(RSA, alg="PS256"))
    assert ring.find(Header("PS256", "rsa-1")) is not None
    assert ring.find(Header("RS256", "rsa-1")) is None
    assert parse_keys(public(OKP, alg="EdDSA")).find(Header("Ed25519", "okp-1")) is not None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("use", "enc"),
        ("key_ops", ["sign"]),
        ("key_ops", "verify"),
        ("kty", "oct"),
        ("kty", "AKP"),
        ("kty", ["RSA"]),
        ("kid", 7),
        ("n", "!"),
        ("n", None),
        ("e", "AA"),
    ],
)
def test_keys_that_cannot_be_used_are_left_out(member: str, value: object) -> None:
    odd = {**RSA.as_dict(private=False), member: value}
    assert [one.kid for one in parse_keys({"keys": [odd, *public(EC)["keys"]]}).keys] == ["ec-1"]
    with pytest.raises(BadKeys, match="no key that can be used"):
        parse_keys({"keys": [odd]})


@pytest.mark.parametrize("kind", ["RSA 1024", "OKP X25519"])
def test_weak_keys_and_keys_for_something_else(kind: str) -> None:
    with pytest.raises(BadKeys):
        parse_keys(public(key(kind, "odd")))


def test_usable_key_operations() -> None:
    assert parse_keys(public(RSA, use="sig", key_ops=["verify"])).keys


def test_a_curve_nobody_knows() -> None:
    with pytest.raises(BadKeys):
        parse_keys(public(EC, crv="P-255"))


def test_what_is_private_is_dropped() -> None:
    (kept,) = parse_keys({"keys": [RSA.as_dict(private=True)]}).keys
    assert not kept.is_private


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JWKS"),
        (b'{"keys": {}}', "not a JWKS"),
        (None, "not a JWKS"),
        ({"keys": [{}] * 101}, "more than 100 keys"),
        ({"keys": []}, "no key that can be used"),
    ],
)
def test_what_is_no_jwks(document: object, complaint: str) -> None:
    with pytest.raises(BadKeys, match=complaint):
        parse_keys(document)


@given(member=st.sampled_from(["kty", "kid", "alg", "n", "e", "crv", "x", "y", "use", "key_ops"]), value=ANYTHING)
@pytest.mark.parametrize("one", [RSA, EC, OKP], ids=lambda one: one.key_type)
def test_any_jwks_is_read_or_refused(one: Key, member: str, value: object) -> None:
    """P6: whatever stands in a member of a key."""
    ring = parse_keys({"keys": [{**one.as_dict(private=False), member: value}, *public(EC)["keys"]]})
    assert 1 <= len(ring.keys) <= 2
    for algorithm in KEY_TYPES:
        ring.find(Header(algorithm, "rsa-1"))


def header_of(**members: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=") + ".e30.e30"


@pytest.mark.parametrize("kind", [None, "JWT", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_types_of_tokens(kind: str | None) -> None:
    token = sign(RSA, "RS256", claims(), typ=kind, kid=None, x5t="unknown members do no harm", more=1)
    assert read_header(token, ["RS256"]) == Header("RS256", None)
    assert check(token, RSA) == claims()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "opaque",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        "e30.e30.e30=",
        " e30.e30.e30",
        "e.e30.e30",
        "_w.e30.e30",
        base64.urlsafe_b64encode(b"[" * 12_000).decode() + ".e30.e30",
        base64.urlsafe_b64encode(b'["alg"]').decode().rstrip("=") + ".e30.e30",
        header_of(),
        header_of(alg="none"),
        header_of(alg="HS256"),
        header_of(alg="ES256"),
        header_of(alg=["RS256"]),
        header_of(alg={}),
        header_of(alg="RS256", kid=1),
        header_of(alg="RS256", typ=1),
        header_of(alg="RS256", typ="logout+jwt"),
        header_of(alg="RS256", typ="dpop+jwt"),
        header_of(alg="RS256", crit=["exp"], exp=1),
        header_of(alg="RS256", b64=False),
    ],
)
def test_headers_that_are_refused(token: str) -> None:
    """Also whatever is not signed, or signed with what everybody who checks must know (RFC 8725 section 3.1)."""
    with pytest.raises(Refused):
        read_header(token, ["RS256"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://evil.example/"}, "claim iss"),
        ({"iss": [ISSUER]}, "claim iss"),
        ({"iss": None}, "claim iss"),
        ({"exp": None}, "claim exp"),
        ({"exp": "tomorrow"}, "claim exp"),
        ({"exp": True}, "claim exp"),
        ({"exp": float("nan")}, "claim exp"),
        ({"exp": NOW - 60}, "claim exp"),
        ({"nbf": NOW + 61}, "claim nbf"),
        ({"iat": NOW + 61}, "claim iat"),
        ({"iat": "now"}, "claim iat"),
    ],
)
def test_claims_that_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check(sign(RSA, "RS256", claims(**changes)), RSA)


@pytest.mark.parametrize(
    "changes", [{"exp": NOW - 59}, {"nbf": NOW + 60}, {"iat": NOW + 60}, {"iat": None, "nbf": None}]
)
def test_clocks_may_differ_a_little(changes: dict[str, Any]) -> None:
    token = sign(RSA, "RS256", claims(**changes))
    assert check(token, RSA) == claims(**changes)


def test_without_leeway() -> None:
    token = sign(RSA, "RS256", claims(exp=NOW))
    assert check(token, RSA, now=NOW - 1, leeway=0)
    with pytest.raises(Refused):
        check(token, RSA, now=NOW, leeway=0)


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", b"[" * 60_000], ids=repr)
def test_signed_nonsense(payload: bytes) -> None:
    from joserfc import jws

    token = jws.serialize_compact({"alg": "RS256", "kid": "rsa-1"}, payload, RSA)
    with pytest.raises(Refused):
        check(token, RSA)


def test_a_key_of_another_kind_or_curve() -> None:
    token = sign(key("EC P-384", "k"), "ES384", claims())
    for wrong in (RSA, EC):
        with pytest.raises(Refused):
            check(token, wrong)
    with pytest.raises(Refused):
        check(sign(OKP, "EdDSA", claims()), key("OKP X25519", "x"))


def test_a_public_key_is_no_hmac_secret() -> None:
    """RFC 8725 section 2.1: HS256 with the RSA key, which everybody knows, as the secret."""
    from joserfc.jwk import OctKey

    forged = sign(OctKey.import_key(RSA.as_dict(private=False)["n"]), "HS256", claims(), kid="rsa-1")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="algorithm not allowed"):
        read_header(forged, KEY_TYPES)
    with pytest.raises(Refused):
        check(forged, RSA)


GOOD = {
    algorithm: sign(signer, algorithm, claims())
    for algorithm, signer in [("RS256", RSA), ("ES256", EC), ("Ed25519", OKP)]
}
RING = parse_keys(public(RSA, EC, OKP))


@given(
    st.sampled_from(sorted(GOOD)),
    st.floats(0, 1, exclude_max=True),
    st.text("ABCDEFGHabcdefgh0123456789-_.", max_size=4),
    st.integers(0, 4),
)
def test_no_other_token_is_good(algorithm: str, place: float, inserted: str, removed: int) -> None:
    """P6: a token that was changed anywhere is refused, and in no other way than by Refused."""
    good = GOOD[algorithm]
    at = int(place * len(good))
    token = good[:at] + inserted + good[at + removed :]
    try:
        found = RING.find(read_header(token, KEY_TYPES))
        accepted = found is not None and check(token, found) == claims()
    except Refused:
        accepted = False
    assert accepted == (token == good)


def test_an_empty_ring_knows_nothing() -> None:
    assert KeyRing().find(Header("RS256", None)) is None
