"""Several authenticators in a row."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.auth.first_of import FirstOf
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
from trio_pop3.sasl import MECHANISMS

from ..driving import CLIENT, run

KEYS = ScramKeys(b"salt", 4096, b"stored", b"server")
OTHER_KEYS = ScramKeys(b"pepper", 4096, b"stored", b"server")
KINDS: dict[str, Credentials] = {
    "PLAIN": PasswordCredentials("alice", "secret"),
    "APOP": ApopCredentials("alice", "<1@h>", bytes(16)),
    "CRAM-MD5": CramMd5Credentials("alice", b"<1@h>", bytes(16)),
    "OAUTHBEARER": TokenCredentials("alice", "token"),
    "XOAUTH2": TokenCredentials("alice", "token"),
    "EXTERNAL": CertificateCredentials("", ClientCertificate({}, b"")),
    "ANONYMOUS": AnonymousCredentials("anonymous", ""),
}


class One:
    """Gives an answer, or fails with it, and counts how often it was asked."""

    def __init__(self, answer: str | Exception, *methods: str) -> None:
        self.answer = answer
        self.login_methods = frozenset(methods or ("PLAIN",))
        self.asked = 0

    async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Scram(One):
    def __init__(self, keys: ScramKeys | None) -> None:
        super().__init__("nobody", "SCRAM-SHA-256")
        self.keys = keys

    async def scram_keys(self, user: str, hash_name: str, client: be.ClientInfo) -> ScramKeys | None:
        self.asked += 1
        return self.keys


def no() -> be.AuthenticationFailed:
    return be.AuthenticationFailed()


def test_the_first_that_accepts_says_who_it_is() -> None:
    """H6: and those behind it are not asked."""
    ones = One(no()), One("alice"), One("bob")
    assert run(FirstOf(*ones).authenticate(KINDS["PLAIN"], CLIENT)) == "alice"
    assert [one.asked for one in ones] == [1, 1, 0]


@pytest.mark.parametrize("ones", [(), (One(no()), One(no())), (One("alice", "XOAUTH2"),)])
def test_if_nobody_accepts_it_fails(ones: tuple[One, ...]) -> None:
    """H6, H7."""
    with pytest.raises(be.AuthenticationFailed):
        run(FirstOf(*ones).authenticate(KINDS["PLAIN"], CLIENT))


@pytest.mark.parametrize("failure", [be.TemporaryFailure(), OSError()])
def test_while_one_is_out_of_order_nobody_is_unknown(failure: Exception) -> None:
    """H9: not a wrong password, and not for the next one to say."""
    last = One("bob")
    with pytest.raises(type(failure)):
        run(FirstOf(One(no()), One(failure), last).authenticate(KINDS["PLAIN"], CLIENT))
    assert last.asked == 0


@pytest.mark.parametrize("method", KINDS)
def test_only_those_are_asked_that_can_check_such_credentials(method: str) -> None:
    """D8: each kind of credentials, and whoever does not say what it checks takes passwords."""

    class Silent:
        async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
            return "by password"

    ones = [One(name, name) for name in KINDS]
    user = run(FirstOf(*ones).authenticate(KINDS[method], CLIENT))
    assert type(KINDS[user]) is type(KINDS[method])
    assert sum(one.asked for one in ones) == 1
    silent = FirstOf(*(one for one in ones if one.answer != "PLAIN"), Silent())
    assert (run(silent.authenticate(KINDS[method], CLIENT)) == "by password") == (method == "PLAIN")


@given(st.lists(st.frozensets(st.sampled_from(sorted(KINDS))), max_size=4))
def test_what_any_of_them_can_check_can_be_checked(methods: list[frozenset[str]]) -> None:
    """D8: and asked anew each time, since a file may be read again."""
    ones = [One("alice") for _ in methods]
    first = FirstOf(*ones)
    for one, some in zip(ones, methods, strict=True):
        one.login_methods = some
    assert first.login_methods == frozenset(itertools.chain.from_iterable(methods))
    assert FirstOf(One("x"), object()).login_methods == be.PASSWORDS_ONLY  # type: ignore[arg-type]


def test_every_method_of_the_table_has_its_kind_of_credentials() -> None:
    """What a mechanism asks a backend for, somebody here can be asked for; SCRAM goes another way."""
    assert {row.method for row in MECHANISMS.values()} - {"SCRAM-SHA-1", "SCRAM-SHA-256"} <= set(KINDS)


def test_all_are_asked_for_scram_keys_and_the_first_counts() -> None:
    """H7, R4422-06: it takes as long for whom none of them knows."""
    ones = One("alice"), Scram(None), Scram(KEYS), Scram(OTHER_KEYS)
    first = FirstOf(*ones)
    assert isinstance(first, be.ScramSecrets)
    assert run(first.scram_keys("alice", "sha256", CLIENT)) is KEYS
    assert [one.asked for one in ones] == [0, 1, 1, 1]
    assert run(FirstOf(Scram(None), One("alice")).scram_keys("alice", "sha1", CLIENT)) is None
    assert run(FirstOf().scram_keys("alice", "sha1", CLIENT)) is None
