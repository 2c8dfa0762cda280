"""Tokens that a server is asked about."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3 import backend as be
from trio_pop3.auth.oauth import IntrospectedTokens, introspection
from trio_pop3.credentials import TokenCredentials

from .oauth_server import CLIENT, NOW, US, AuthorizationServer, serving

TOKEN = "2YotnFZFEjr1zCsicMWpAA"


@pytest.fixture
def server() -> Iterator[AuthorizationServer]:
    with serving() as running:
        running.active[TOKEN] = {"username": "alice", "scope": "mail.pop openid", "exp": NOW + 20, "aud": "pop3"}
        yield running


def tokens_of(server: AuthorizationServer, **changes: Any) -> IntrospectedTokens:
    usual = {
        "endpoint": f"{server.url}/introspect",
        "client_id": US[0],
        "client_secret": US[1],
        "clock": lambda: NOW,
    }
    return IntrospectedTokens(**{**usual, **changes})


async def log_in(tokens: IntrospectedTokens, token: str = TOKEN, user: str = "") -> str | None:
    """The user; None if the token is refused."""
    try:
        return await tokens.authenticate(TokenCredentials(user, token), CLIENT)
    except be.AuthenticationFailed:
        return None


async def test_the_server_says_whose_token_it_is(server: AuthorizationServer) -> None:
    tokens = tokens_of(server, cache_seconds=0)
    assert await log_in(tokens) == "alice"
    assert await log_in(tokens, user="alice") == "alice"
    assert await log_in(tokens, user="bob") is None
    assert await log_in(tokens, "unknown") is None
    assert server.requests == ["POST /introspect"] * 4


async def test_answers_are_kept_for_a_while(server: AuthorizationServer) -> None:
    now = NOW
    tokens = tokens_of(server, clock=lambda: now, cache_seconds=5)
    assert await log_in(tokens) == "alice"
    now += 4.9
    assert await log_in(tokens) == "alice"
    assert len(server.requests) == 1
    now += 0.1
    del server.active[TOKEN]
    assert await log_in(tokens) is None
    assert len(server.requests) == 2


async def test_a_cached_token_is_its_users_only(server: AuthorizationServer) -> None:
    """H12: what is kept is whose the token is, not that somebody got in with it."""
    tokens = tokens_of(server)
    assert await log_in(tokens, user="alice") == "alice"
    assert await log_in(tokens, user="bob") is None
    assert await log_in(tokens, TOKEN.lower()) is None
    assert await log_in(tokens, TOKEN + "=") is None


async def test_the_cache_shows_no_token(server: AuthorizationServer) -> None:
    """H8: a keyed hash, and another one in another object."""
    one, other = tokens_of(server), tokens_of(server)
    assert await log_in(one) == await log_in(other) == "alice"
    assert TOKEN not in repr(one._cache)
    assert one._cache.keys().isdisjoint(other._cache.keys())


@pytest.mark.parametrize("exp", [NOW + 5, int(NOW) + 5, str(NOW), True, float("nan"), NOW])
async def test_nothing_is_kept_past_its_end(server: AuthorizationServer, exp: object) -> None:
    server.active[TOKEN]["exp"] = exp
    now = NOW
    tokens = tokens_of(server, clock=lambda: now)
    assert await log_in(tokens) == "alice"
    now += 5
    del server.active[TOKEN]
    assert await log_in(tokens) is None


async def test_what_never_ends_is_kept_too(server: AuthorizationServer) -> None:
    del server.active[TOKEN]["exp"]
    tokens = tokens_of(server)
    assert await log_in(tokens) == await log_in(tokens) == "alice"
    assert len(server.requests) == 1


async def test_refusals_and_a_clock_that_is_set_back_are_not_kept(server: AuthorizationServer) -> None:
    now = NOW
    tokens = tokens_of(server, clock=lambda: now, scope="mail.pop")
    server.active[TOKEN]["scope"] = ""
    assert await log_in(tokens) is None
    server.active[TOKEN]["scope"] = "mail.pop"
    assert await log_in(tokens) == "alice"
    now -= 1
    assert await log_in(tokens) == "alice"
    assert len(server.requests) == 3


async def test_the_cache_is_bounded(server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: the oldest go first."""
    monkeypatch.setattr(introspection, "_MOST_CACHED", 2)
    for token in ("a", "b", "c"):
        server.active[token] = server.active[TOKEN]
    tokens = tokens_of(server)
    for token in ("a", "b", "c", "c", "b"):
        assert await log_in(tokens, token) == "alice"
    assert len(server.requests) == 3
    assert await log_in(tokens, "a") == "alice"
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ({"scope": "mail.pop"}, True),
        ({"scope": "mail.send"}, False),
        ({"audience": "pop3"}, True),
        ({"audience": ("imap", "pop3")}, True),
        ({"audience": "imap"}, False),
        ({"user_claim": "sub"}, False),
        ({"user_claim": ("sub", "username")}, True),
    ],
)
async def test_claims_are_checked(server: AuthorizationServer, options: dict[str, Any], good: bool) -> None:
    assert await log_in(tokens_of(server, **options)) == ("alice" if good else None)


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        ("error", "HTTP status 500"),
        ("too many", "HTTP status 429"),
        ("redirect", "HTTP status 302"),
        ("page", "not an introspection response"),
        ("garbage", "not an introspection response"),
        ("deep", "not an introspection response"),
        ("list", "not an introspection response"),
        ("words", "not an introspection response"),
        ("no keys", "not an introspection response"),
        ("endless", "an answer of more than 65536 octets"),
        ("closes", "RemoteProtocolError"),
    ],
)
async def test_trouble_is_no_wrong_token(
    server: AuthorizationServer, caplog: pytest.LogCaptureFixture, behaviour: str, complaint: str
) -> None:
    """H9, H8: a temporary failure with one line of ours in the log, without token or secret, whatever the level."""
    caplog.set_level(logging.DEBUG)
    server.behaviour = behaviour
    tokens = tokens_of(server)
    with pytest.raises(be.TemporaryFailure) as failure:
        await log_in(tokens)
    ours = [record.getMessage() for record in caplog.records if record.name == "trio_pop3.auth"]
    assert ours == [f"test: token not checked: {server.url}/introspect: {complaint}"]
    for secret in (TOKEN, "s3cret", "cG9wMytzZXJ2ZXI6"):
        assert secret not in caplog.text + str(failure.value) + repr(tokens)


async def test_a_secret_the_server_does_not_know(server: AuthorizationServer, caplog: pytest.LogCaptureFixture) -> None:
    """H9: our trouble, not the user's."""
    with pytest.raises(be.TemporaryFailure):
        await log_in(tokens_of(server, client_secret="other"))
    assert "HTTP status 401" in caplog.text


async def test_a_silent_server(server: AuthorizationServer, mock_clock: trio.testing.MockClock) -> None:
    """20 at once and 100 who wait, all of them for the same 10 seconds; the next is sent away at once (P4)."""
    server.behaviour = "silent"
    tokens = tokens_of(server)
    failures = 0

    async def impatient() -> None:
        nonlocal failures
        with pytest.raises(be.TemporaryFailure):
            await log_in(tokens)
        failures += 1

    async with trio.open_nursery() as nursery:
        for _ in range(120):
            nursery.start_soon(impatient)
        for _ in range(20):
            await trio.to_thread.run_sync(server.arrived.acquire)
        await impatient()
        assert failures == 1
        mock_clock.jump(10)
    assert failures == 121
    assert len(server.requests) == 20


async def test_a_cancelled_login_makes_room(server: AuthorizationServer) -> None:
    server.behaviour = "silent"
    tokens = tokens_of(server)
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(log_in, tokens)
        for _ in range(20):
            await trio.to_thread.run_sync(server.arrived.acquire)
        nursery.cancel_scope.cancel()
    server.behaviour = None
    assert await log_in(tokens) == "alice"


@pytest.mark.parametrize(
    "wrong", [{"cache_seconds": -1}, {"timeout": 0}, {"user_claim": ()}, {"endpoint": "http://login.example.org/"}]
)
def test_arguments_that_are_refused(server: AuthorizationServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|not empty|https"):
        tokens_of(server, **wrong)


def test_the_extra_is_named_when_it_is_missing(server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import trio_pop3.auth.oauth as package

    monkeypatch.delattr(package, "fetch", raising=False)
    monkeypatch.setitem(sys.modules, "trio_pop3.auth.oauth.fetch", None)
    with pytest.raises(ImportError, match=r"pip install 'trio-pop3\[oauth\]'"):
        tokens_of(server)
