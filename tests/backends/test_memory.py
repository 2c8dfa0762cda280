"""The plainest backend."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.credentials import AnonymousCredentials, CramMd5Credentials, TokenCredentials
from trio_pop3.sasl import derive_keys

from ..driving import CLIENT, run


@pytest.fixture
def memory() -> MemoryBackend:
    mail = MemoryBackend()
    mail.add_user("alice", "secret")
    return mail


def test_wrong_kinds_of_credentials_fail(memory: MemoryBackend) -> None:
    """H6."""
    for credentials in (
        be.Credentials("alice"),
        be.PasswordCredentials("alice", ""),
        be.PasswordCredentials("bob", ""),
        be.ApopCredentials("bob", "<1@h>", bytes(16)),
        be.ApopCredentials("bob", "<1@h>", hashlib.md5(b"<1@h>", usedforsecurity=False).digest()),
        CramMd5Credentials("bob", b"<1@h>", hmac.digest(b"", b"<1@h>", "md5")),
        TokenCredentials("alice", "secret"),
        AnonymousCredentials("alice", ""),
    ):
        with pytest.raises(be.AuthenticationFailed):
            run(memory.authenticate(credentials, CLIENT))


@pytest.mark.parametrize(
    "credentials",
    [
        be.PasswordCredentials("alice", "secret"),
        be.ApopCredentials("alice", "<1@h>", hashlib.md5(b"<1@h>secret", usedforsecurity=False).digest()),
        CramMd5Credentials("alice", b"<1@h>", hmac.digest(b"secret", b"<1@h>", "md5")),
    ],
)
def test_right_kinds_of_credentials_succeed(memory: MemoryBackend, credentials: be.Credentials) -> None:
    """R1939-76, R2195-02."""
    assert run(memory.authenticate(credentials, CLIENT)) == "alice"


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_scram_keys(memory: MemoryBackend, hash_name: str) -> None:
    """R5802-10, H7: the same salt each time, another for each user and each backend; none for nobody."""
    other = MemoryBackend()
    for backend, user in ((memory, "carol"), (other, "alice")):
        backend.add_user(user, "secret")
    keys = run(memory.scram_keys("alice", hash_name, CLIENT))
    assert keys is not None
    assert keys.iterations >= 4096
    assert keys == derive_keys("secret", keys.salt, keys.iterations, hash_name)
    assert keys == run(memory.scram_keys("alice", hash_name, CLIENT))
    others = [memory.scram_keys("carol", hash_name, CLIENT), other.scram_keys("alice", hash_name, CLIENT)]
    assert len({keys.salt, *(found.salt for found in map(run, others) if found)}) == 3
    assert run(memory.scram_keys("bob", hash_name, CLIENT)) is None


@pytest.mark.parametrize(("password", "sent"), [("\u2168", "IX"), ("p\u00adw", "pw"), ("\U0001f600", "\U0001f600")])
def test_passwords_are_kept_prepared(password: str, sent: str) -> None:
    """R6856-12, R6856-15: what a client's is compared with has been prepared as well."""
    memory = MemoryBackend()
    memory.add_user("alice", password)
    assert run(memory.authenticate(be.PasswordCredentials("alice", sent), CLIENT)) == "alice"


@pytest.mark.parametrize("password", ["bell\x07", "\udcff", "\u00ad"])
def test_passwords_that_cannot_be_prepared(password: str) -> None:
    """A-03, H7: good where nothing is prepared, and in SCRAM like nobody's."""
    memory = MemoryBackend()
    memory.add_user("alice", password)
    assert run(memory.authenticate(be.PasswordCredentials("alice", password), CLIENT)) == "alice"
    assert run(memory.scram_keys("alice", "sha256", CLIENT)) is None


def test_two_equal_messages_are_two(memory: MemoryBackend) -> None:
    """F5, F3."""
    first, second = memory.deliver("alice", b"same"), memory.deliver("alice", b"same")
    assert first != second
    assert memory.messages("alice") == {first: b"same", second: b"same"}


def test_changing_a_password_keeps_the_mail(memory: MemoryBackend) -> None:
    memory.deliver("alice", b"kept")
    memory.add_user("alice", "other")
    assert len(memory.messages("alice")) == 1
    assert run(memory.authenticate(be.PasswordCredentials("alice", "other"), CLIENT)) == "alice"


def test_a_maildrop_that_is_not_there_is_not_locked(memory: MemoryBackend) -> None:
    """I9, R1939-24: as half of a combined backend it may be asked for users it does not have."""
    with pytest.raises(be.AuthenticationFailed):
        run(memory.open("bob", CLIENT))
    assert not memory.locked("bob")


def test_a_message_that_somebody_else_removed_is_unavailable(memory: MemoryBackend) -> None:
    """C5, C6, E6: and removing it again is success."""
    memory.deliver("alice", b"x")
    first = run(memory.open("alice", CLIENT))
    run(first.commit(first.messages))
    with pytest.raises(be.MessageUnavailable):
        run(first.retrieve(first.messages[0]))
    run(first.commit(first.messages))


def test_unknown_users_are_key_errors(memory: MemoryBackend) -> None:
    for call in (lambda: memory.deliver("bob", b""), lambda: memory.messages("bob")):
        with pytest.raises(KeyError):
            call()
