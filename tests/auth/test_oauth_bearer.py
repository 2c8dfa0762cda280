"""Whose token it is, whoever vouches for it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from trio_pop3 import backend as be
from trio_pop3.auth.oauth.bearer import BearerTokens, Requirements, one_or_more, words_of
from trio_pop3.auth.oauth.outcomes import Refused, Unavailable, imported_extra
from trio_pop3.credentials import TokenCredentials

from .oauth_server import CLIENT


class Given(BearerTokens):
    """Knows what it is given."""

    def __init__(self, outcome: str | Exception) -> None:
        self.outcome = outcome

    async def _user_of(self, token: str) -> str:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def log_in(tokens: BearerTokens, credentials: be.Credentials) -> str:
    return await tokens.authenticate(credentials, CLIENT)


def test_what_can_be_checked() -> None:
    """Both ways to carry a token are the same to us."""
    assert isinstance(Given("alice"), be.LoginMethods)
    assert Given("alice").login_methods == {"OAUTHBEARER", "XOAUTH2"}


@pytest.mark.parametrize("named", ["", "alice"])
async def test_a_token_opens_the_maildrop_of_its_user(named: str) -> None:
    assert await log_in(Given("alice"), TokenCredentials(named, "t")) == "alice"


@pytest.mark.parametrize("named", ["bob", "Alice", "alice ", "alice@example.org", "\udcff"])
async def test_a_token_opens_nobody_elses(named: str) -> None:
    """H6, H12: the name the client gives is compared exactly."""
    with pytest.raises(be.AuthenticationFailed):
        await log_in(Given("alice"), TokenCredentials(named, "t"))


@pytest.mark.parametrize("token", ["", " ", "a b", "a\0", "a\r\n", "ä", "\udcff", "a=b", "=", "a,b", "x" * 65_537])
async def test_what_is_no_token(token: str) -> None:
    """RFC 6750 section 2.1: nothing else is sent to anybody, or looked at."""
    with pytest.raises(be.AuthenticationFailed):
        await log_in(Given("alice"), TokenCredentials("alice", token))


async def test_a_large_token() -> None:
    """H3: 12 KiB and more."""
    assert await log_in(Given("alice"), TokenCredentials("alice", "x" * 65_534 + "==")) == "alice"


@pytest.mark.parametrize("credentials", [be.Credentials("alice"), be.PasswordCredentials("alice", "t")])
async def test_other_credentials_fail(credentials: be.Credentials) -> None:
    with pytest.raises(be.AuthenticationFailed):
        await log_in(Given("alice"), credentials)


async def test_trouble_is_no_wrong_token(caplog: pytest.LogCaptureFixture) -> None:
    """H9: what cannot be checked is a temporary failure; each outcome is one line, without the token (P5)."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(be.TemporaryFailure) as temporary:
        await log_in(Given(Unavailable("the server is down")), TokenCredentials("alice", "t0ken"))
    with pytest.raises(be.AuthenticationFailed) as refused:
        await log_in(Given(Refused("claim aud")), TokenCredentials("alice", "t0ken"))
    assert [record.getMessage() for record in caplog.records] == [
        "test: token not checked: the server is down",
        "test: token refused: claim aud",
    ]
    assert not str(temporary.value) and not str(refused.value)
    assert refused.value.__context__ is None and temporary.value.__suppress_context__


def user_of(claims: dict[str, Any], *, names: str = "email", scope: str = "", audience: str = "") -> str:
    return Requirements(tuple(names.split()), words_of(scope), frozenset(audience.split())).user_of(claims)


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"email": "a@x"}, "a@x"),
        ({"email": "a@x", "email_verified": True}, "a@x"),
        ({"email": "a@x", "email_verified": "true"}, "a@x"),
        ({"upn": "a", "sub": "1"}, "a"),
        ({"sub": "1", "email_verified": False}, "1"),
        ({"email": "å ä@x", "upn": "a"}, "å ä@x"),
    ],
)
def test_the_first_claim_that_is_there_names_the_user(claims: dict[str, Any], user: str) -> None:
    assert user_of(claims, names="email upn sub") == user


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": "1"},
        {"email": ""},
        {"email": None},
        {"email": 1},
        {"email": ["a@x"]},
        {"email": "a\n@x"},
        {"email": "a\0"},
        {"email": "\ud800"},
        {"email": "", "upn": "a"},
        {"email": "a@x", "upn": "a", "email_verified": False},
        {"email": "a@x", "email_verified": None},
        {"email": "a@x", "email_verified": "false"},
        {"email": "a@x", "cnf": {"jkt": "x"}},
    ],
)
def test_claims_that_name_nobody(claims: dict[str, Any]) -> None:
    """H6: an empty or odd name is nobody's. An address that was not verified may be anybody's."""
    with pytest.raises(Refused):
        user_of(claims, names="email upn")


@pytest.mark.parametrize("claim", ["scope", "scp"])
@pytest.mark.parametrize("value", ["mail openid", ["mail", "openid"], ["openid mail"], "mail  openid more"])
def test_enough_scope(claim: str, value: object) -> None:
    assert user_of({"email": "a", claim: value}, scope="openid mail") == "a"


@pytest.mark.parametrize(
    "value", [None, "", "mail", "mailopenid", "Mail openid", ["mail"], [["mail", "openid"]], 1, {}]
)
def test_too_little_scope(value: object) -> None:
    with pytest.raises(Refused, match="claim scope"):
        user_of({"email": "a", "scope": value}, scope="openid mail")


@pytest.mark.parametrize("value", ["pop", ["imap", "pop"], "imap"])
def test_an_audience_we_are(value: object) -> None:
    assert user_of({"email": "a", "aud": value}, audience="pop imap") == "a"


@pytest.mark.parametrize("value", [None, "", "smtp", "pop imap", ["smtp"], [["pop"]], [], {"pop": 1}, 1])
def test_an_audience_we_are_not(value: object) -> None:
    with pytest.raises(Refused, match="claim aud"):
        user_of({"email": "a", "aud": value}, audience="pop imap")


def test_arguments() -> None:
    assert one_or_more("a b") == ("a b",)
    assert one_or_more(["a", "b"]) == ("a", "b")
    assert words_of("a b") == words_of(["a", "b"]) == words_of({"b", "a"}) == {"a", "b"}
    assert not words_of(()) | words_of("")
    for nothing in ("", (), ("a", "")):
        with pytest.raises(ValueError, match="not empty"):
            one_or_more(nothing)


def test_a_missing_extra_is_named() -> None:
    with (
        pytest.raises(ImportError, match=r"no_such_module.*pip install 'trio-pop3\[oauth\]'") as failure,
        imported_extra(),
    ):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert failure.value.name == "no_such_module"
