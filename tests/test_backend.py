"""The contract's own small parts."""

from __future__ import annotations

import pytest

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend

from .driving import CLIENT, run


@pytest.mark.parametrize(
    ("host", "peer"), [("192.0.2.1", "192.0.2.1:99"), ("2001:db8::1", "[2001:db8::1]:99"), (None, "unix")]
)
def test_peers_are_shown_as_people_write_them(host: str | None, peer: str) -> None:
    assert be.ClientInfo("1", host, 99).peer == peer


def test_redaction_of_nothing_is_nothing() -> None:
    """H6: an empty password is between all letters."""
    assert be.PasswordCredentials("alice", "").redact("text") == "text"


def test_redaction() -> None:
    """P5, H8; in every form of quoting: test_session_hostile."""
    credentials = be.PasswordCredentials("alice", "o'hunter\n2")
    assert credentials.redact(f"bad {credentials.password} and {credentials.password!r}").count("o'hunter") == 0
    assert be.ApopCredentials("alice", "<1@h>", b"x" * 16).redact("text") == "text"
    assert be.Credentials("alice").redact("alice") == "alice"


def test_combine_takes_the_powers_of_both_halves() -> None:
    users, store = MemoryBackend(), MemoryBackend()
    for half in (users, store):
        half.add_user("alice", "secret")
    backend = be.combine(users, store)
    assert isinstance(backend, be.ApopAuthenticator)
    user = run(backend.authenticate(be.PasswordCredentials("alice", "secret"), CLIENT))
    maildrop = run(backend.open(user, CLIENT))
    assert store.locked("alice")
    assert not users.locked("alice")
    run(maildrop.release())

    class NoApop:
        authenticate = users.authenticate

    assert not isinstance(be.combine(NoApop(), store), be.ApopAuthenticator)


class Hooks:
    async def connect(self, client: be.ClientInfo) -> None: ...

    async def disconnect(self, client: be.ClientInfo, reason: str) -> None: ...


class HookedUsers(Hooks, MemoryBackend):
    pass


def test_combine_takes_hooks_from_whoever_has_them() -> None:
    """SEED 1.3: a hook that is there is called."""
    for halves in ((HookedUsers(), MemoryBackend()), (MemoryBackend(), HookedUsers())):
        assert isinstance(be.combine(*halves), be.ConnectionHooks)
    assert not isinstance(be.combine(MemoryBackend(), MemoryBackend()), be.ConnectionHooks)
    with pytest.raises(TypeError, match="only one half"):
        be.combine(HookedUsers(), HookedUsers())


def test_every_failure_has_a_text_for_the_client() -> None:
    for kind in (be.AuthenticationFailed, be.MaildropInUse, be.LoginDelayed, be.TemporaryFailure, be.PermanentFailure):
        assert kind.code is not None
        assert kind.text
    assert be.CommitIncomplete(3).remaining == 3
    assert issubclass(be.MessageUnavailable, be.TemporaryFailure)
