"""The plainest backend."""

from __future__ import annotations

import pytest

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend

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
    ):
        with pytest.raises(be.AuthenticationFailed):
            run(memory.authenticate(credentials, CLIENT))
    with pytest.raises(be.AuthenticationFailed):
        run(memory.authenticate_apop(be.ApopCredentials("bob", "<1@h>", bytes(16)), CLIENT))


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
    with pytest.raises(KeyError):
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
