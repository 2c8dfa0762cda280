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


def test_what_the_client_showed_is_not_in_the_log() -> None:
    """P5: channel binding data is in no repr."""
    assert "b'end point'" not in repr(be.ClientInfo("1", end_point=b"end point"))


def test_combine_takes_the_powers_of_both_halves() -> None:
    users, store = Clerk(), MemoryBackend()
    for half in (users, store):
        half.add_user("alice", "secret")
    backend = be.combine(users, store)
    assert be.login_methods(backend) == users.login_methods
    user = run(backend.authenticate(be.PasswordCredentials("alice", "secret"), CLIENT))
    maildrop = run(backend.open(user, CLIENT))
    assert store.locked("alice")
    assert not users.locked("alice")
    run(maildrop.release())


class Clerk(MemoryBackend):
    """Knows everything there is to know."""

    async def authorize(self, user: str, authzid: str, client: be.ClientInfo) -> str:
        return authzid

    async def login_delay(self, user: str | None) -> be.Policy:
        return be.Policy(60)

    async def expiry(self, user: str | None) -> be.Policy:
        return be.Policy(30)


POWERS = (be.ScramSecrets, be.Delegation, be.LoginDelays)


def test_who_is_asked_for_what() -> None:
    """D8: logins and delays are the authenticator's, the mail's age is the store's; what is not there is not there."""

    class Plain:
        async def authenticate(self, credentials: be.Credentials, client: be.ClientInfo) -> str:
            return "alice"

        async def open(self, user: str, client: be.ClientInfo) -> be.Maildrop:
            raise be.MaildropInUse

    clerk, plain = Clerk(), Plain()
    assert all(isinstance(be.combine(clerk, plain), power) for power in POWERS)
    assert not any(isinstance(be.combine(plain, clerk), power) for power in POWERS)
    assert isinstance(be.combine(plain, clerk), be.Expiry)
    assert not isinstance(be.combine(clerk, plain), be.Expiry)
    assert be.login_methods(be.combine(plain, clerk)) == be.login_methods(plain) == be.PASSWORDS_ONLY == {"PLAIN"}


def test_what_can_be_checked_is_asked_anew_each_time() -> None:
    """D8: a users file may be read again."""

    class Changing(MemoryBackend):
        def __init__(self) -> None:
            super().__init__()
            self.methods = {"PLAIN"}

        def __getattribute__(self, name: str) -> object:
            return self.methods if name == "login_methods" else super().__getattribute__(name)

    users = Changing()
    backend = be.combine(users, MemoryBackend())
    assert be.login_methods(backend) == {"PLAIN"}
    users.methods = {"XOAUTH2"}
    assert be.login_methods(backend) == {"XOAUTH2"}


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
    assert (be.CommitIncomplete(3).remaining, str(be.CommitIncomplete(3))) == (3, "3 deleted messages not removed")
    assert str(be.CommitIncomplete(1)) == "1 deleted message not removed"
    assert issubclass(be.MessageUnavailable, be.TemporaryFailure)


@pytest.mark.parametrize("remaining", [-1, -5])
def test_fewer_than_none_cannot_remain(remaining: int) -> None:
    """E2, J5: such a number would be a lie in the reply and in the log."""
    with pytest.raises(ValueError, match="0 or more"):
        be.CommitIncomplete(remaining)
