"""Options of `serve` that say who may log in."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from trio_pop3.auth import PasswdFile
from trio_pop3.auth.dovecot import DovecotAuth
from trio_pop3.auth.first_of import FirstOf
from trio_pop3.auth.oauth import IntrospectedTokens, JwtTokens
from trio_pop3.backend import login_methods
from trio_pop3.cli import logins
from trio_pop3.cli.failure import Failure


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    logins.add_to(parser)
    return parser.parse_args(words)


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "users"
    path.write_text("alice:{PLAIN}secret\n")
    return str(path)


def test_a_users_file_alone(users: str) -> None:
    found = logins.authenticator(parse(), PasswdFile(users))
    assert isinstance(found, PasswdFile)
    assert logins.known_users(found) == 1


def test_several_ways(users: str, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": []}))
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    words = [
        *("--dovecot-auth", "/run/dovecot/auth-client", "--client-ca", "ca.pem"),
        *("--oauth-introspect", "https://auth.example.org/introspect", "--oauth-client", "pop3"),
        *("--oauth-secret-file", str(secret)),
    ]
    found = logins.authenticator(parse(*words), PasswdFile(users))
    assert isinstance(found, FirstOf)
    assert logins.known_users(found) is None
    assert {"PLAIN", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256"} <= set(login_methods(found))
    assert "hush" not in repr(vars(found))


def test_each_way_alone(tmp_path: Path) -> None:
    assert isinstance(logins.authenticator(parse("--dovecot-auth", "/x"), None), DovecotAuth)
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    asked = ("--oauth-introspect", "http://127.0.0.1:9/i", "--oauth-client", "me", "--oauth-secret-file", str(secret))
    assert isinstance(logins.authenticator(parse(*asked), None), IntrospectedTokens)
    signed = ("--oauth-jwks", "http://127.0.0.1:9/k", "--oauth-issuer", "https://a.example", "--oauth-audience", "pop3")
    assert isinstance(logins.authenticator(parse(*signed), None), JwtTokens)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "say who may log in"),
        (("--oauth-jwks", "https://a.example/k"), "--oauth-jwks needs --oauth-issuer and --oauth-audience"),
        (("--oauth-introspect", "https://a.example/i"), "--oauth-introspect needs --oauth-client and"),
        (
            ("--oauth-introspect", "ftp://a", "--oauth-client", "me", "--oauth-secret-file", "/dev/null"),
            "ftp://a",
        ),
        (
            ("--oauth-introspect", "https://a/i", "--oauth-client", "me", "--oauth-secret-file", "/nowhere"),
            "/nowhere: no such file",
        ),
    ],
)
def test_what_is_missing_is_said(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        logins.authenticator(parse(*words), None)


def test_keys_that_are_not_there(tmp_path: Path) -> None:
    words = ("--oauth-jwks", str(tmp_path / "none"), "--oauth-issuer", "https://a.example", "--oauth-audience", "pop3")
    with pytest.raises(Failure, match="none: no such file"):
        logins.authenticator(parse(*words), None)


def test_mechanisms_have_names() -> None:
    assert parse("--mechanism", "scram-sha-256").mechanism == ["SCRAM-SHA-256"]
    with pytest.raises(SystemExit):
        parse("--mechanism", "ROT13")
