"""Signed tokens of a server over HTTP."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from trio_pop3 import backend as be
from trio_pop3.auth.oauth import JwtTokens
from trio_pop3.credentials import TokenCredentials

from .oauth_server import AUDIENCE, CLIENT, ISSUER, NOW, AuthorizationServer, claims, key, serving, sign

ALICE = "alice@example.org"


@pytest.fixture
def server() -> Iterator[AuthorizationServer]:
    with serving() as running:
        yield running


def tokens_of(server: AuthorizationServer, **changes: Any) -> JwtTokens:
    usual = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": f"{server.url}/jwks", "clock": lambda: NOW}
    return JwtTokens(**{**usual, **changes})


async def log_in(tokens: JwtTokens, token: str, user: str = "") -> str | None:
    """The user; None if the token is refused."""
    try:
        return await tokens.authenticate(TokenCredentials(user, token), CLIENT)
    except be.AuthenticationFailed:
        return None


async def test_a_token_of_each_key(server: AuthorizationServer) -> None:
    tokens = tokens_of(server)
    for signer, algorithm in zip(server.keys, ["RS256", "ES256", "EdDSA"], strict=True):
        token = sign(signer, algorithm, claims())
        assert await log_in(tokens, token) == ALICE
        assert await log_in(tokens, token, ALICE) == ALICE
        assert await log_in(tokens, token, "bob@example.org") is None
    assert server.requests == ["GET /jwks"]


async def test_algorithms_are_a_choice(server: AuthorizationServer) -> None:
    tokens = tokens_of(server, algorithms=["ES256"])
    assert await log_in(tokens, sign(key("EC P-256", "ec-1"), "ES256", claims())) == ALICE
    assert await log_in(tokens, sign(key("RSA 2048", "rsa-1"), "RS256", claims())) is None


@pytest.mark.parametrize("algorithm", ["RS512", "HS256", "none"])
async def test_other_algorithms_are_refused(server: AuthorizationServer, algorithm: str) -> None:
    from joserfc.jwk import OctKey

    signer = key("RSA 2048", "rsa-1") if algorithm == "RS512" else OctKey.generate_key(256, {"kid": "rsa-1"})
    assert await log_in(tokens_of(server), sign(signer, algorithm, claims())) is None
    assert not server.requests


async def test_a_key_of_somebody_else(server: AuthorizationServer) -> None:
    tokens = tokens_of(server)
    assert await log_in(tokens, sign(key("RSA 2048", "other"), "RS256", claims())) is None
    assert await log_in(tokens, sign(key("RSA 2048", "other"), "RS256", claims(), kid="rsa-1")) is None


async def test_keys_are_changed(server: AuthorizationServer) -> None:
    now = NOW
    tokens = tokens_of(server, clock=lambda: now)
    assert await log_in(tokens, sign(server.keys[0], "RS256", claims())) == ALICE
    server.keys = [key("RSA 2048", "rsa-2")]
    now += 10
    assert await log_in(tokens, sign(server.keys[0], "RS256", claims())) == ALICE


@pytest.mark.parametrize(
    ("options", "changes", "good"),
    [
        ({}, {}, True),
        ({}, {"exp": NOW - 60}, False),
        ({}, {"exp": NOW - 59}, True),
        ({"leeway": 0}, {"exp": NOW}, False),
        ({}, {"iss": "https://login.example.org"}, False),
        ({}, {"aud": "imap.example.org"}, False),
        ({}, {"aud": None}, False),
        ({"audience": ["x", AUDIENCE]}, {"aud": ["y", AUDIENCE]}, True),
        ({"scope": "mail.pop"}, {}, True),
        ({"scope": ["mail.pop", "mail.send"]}, {}, False),
        ({"scope": {"mail.pop", "mail.send"}}, {}, False),
        ({"user_claim": "preferred_username"}, {}, False),
        ({"user_claim": ("preferred_username", "email")}, {}, True),
        ({}, {"email_verified": False}, False),
    ],
)
async def test_claims_are_checked(
    server: AuthorizationServer, options: dict[str, Any], changes: dict[str, Any], good: bool
) -> None:
    token = sign(server.keys[0], "RS256", claims(**changes))
    assert await log_in(tokens_of(server, **options), token) == (ALICE if good else None)


async def test_a_server_in_trouble_is_no_wrong_token(
    server: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    """H9, H8: a temporary failure, and no octet of the token in any log, error or repr."""
    caplog.set_level(logging.DEBUG)
    tokens = tokens_of(server)
    token = sign(server.keys[0], "RS256", claims())
    server.behaviour = "error"
    with pytest.raises(be.TemporaryFailure) as failure:
        await log_in(tokens, token)
    assert not str(failure.value)
    assert f"test: token not checked: {server.url}/jwks: no keys at hand" in caplog.text
    assert repr(tokens) == f"JwtTokens(issuer={ISSUER!r}, jwks='{server.url}/jwks')"
    assert not [part for part in token.split(".") if part in caplog.text]


async def test_refused_tokens_are_not_in_the_log(server: AuthorizationServer, caplog: pytest.LogCaptureFixture) -> None:
    """H8."""
    caplog.set_level(logging.DEBUG)
    tokens = tokens_of(server)
    token = sign(server.keys[0], "RS256", claims(aud="somebody"))
    for odd in (token, token[:-4] + "AAAA", token + "x", "s3cret", sign(key("RSA 2048", "other"), "RS256", claims())):
        assert await log_in(tokens, odd) is None
    assert "token refused: claim aud" in caplog.text
    assert "token refused: unknown key" in caplog.text
    assert not [part for part in [*token.split("."), "s3cret"] if part in caplog.text]


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": ["RS256", "none"]},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"leeway": -1},
        {"issuer": ""},
        {"audience": ()},
        {"user_claim": ""},
        {"jwks": "http://login.example.org/"},
        {"timeout": 0},
        {"refresh": 0},
    ],
)
def test_arguments_that_are_refused(server: AuthorizationServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not allowed here: (none|HS256)|must|not empty|https"):
        tokens_of(server, **wrong)


@pytest.mark.parametrize("missing", ["jose", "fetch"])
def test_the_extra_is_named_when_it_is_missing(
    server: AuthorizationServer, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trio_pop3.auth.oauth as package

    monkeypatch.delattr(package, missing)
    monkeypatch.setitem(sys.modules, f"trio_pop3.auth.oauth.{missing}", None)
    with pytest.raises(ImportError, match=r"pip install 'trio-pop3\[oauth\]'"):
        tokens_of(server)
