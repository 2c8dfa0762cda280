"""A users file as an authenticator."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_pop3 import backend as be
from trio_pop3.auth import PasswdFile, PasswdFileError
from trio_pop3.auth.passwd import _MOST_WAITING, parse_users

from ..driving import CLIENT


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("# people\n\nalice:{PLAIN}secret:1000:1000::/home/alice::\nbob:{PLAIN}b o b\n")
    path.chmod(0o600)
    return path


async def can_log_in(file: PasswdFile, user: str, password: str) -> bool:
    try:
        return await file.authenticate(be.PasswordCredentials(user, password), CLIENT) == user
    except be.AuthenticationFailed:
        return False


async def test_users_log_in(users: Path) -> None:
    file = PasswdFile(users)
    assert file.users == ("alice", "bob")
    assert await can_log_in(file, "alice", "secret")
    assert await can_log_in(file, "bob", "b o b")
    assert not await can_log_in(file, "alice", "wrong")
    assert not await can_log_in(file, "carol", "secret")
    assert not await can_log_in(file, "carol", "")
    assert not await can_log_in(file, "alice", "")


async def test_other_credentials_fail(users: Path) -> None:
    with pytest.raises(be.AuthenticationFailed):
        await PasswdFile(users).authenticate(be.Credentials("alice"), CLIENT)


async def test_an_unknown_user_costs_what_a_known_one_does(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H7: the same scheme is checked, once, whoever asks: counted, not timed."""
    from trio_pop3.auth import schemes

    checked: list[str] = []
    real = schemes.Secret.is_of

    def counting(self: schemes.Secret, password: bytes) -> bool:
        checked.append(self.scheme)
        return real(self, password)

    monkeypatch.setattr(schemes.Secret, "is_of", counting)
    file = PasswdFile(users)
    await can_log_in(file, "alice", "wrong")
    await can_log_in(file, "nobody", "wrong")
    assert checked == ["PLAIN", "PLAIN"]


def test_an_empty_file_knows_nobody(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    assert not trio.run(can_log_in, PasswdFile(tmp_path / "users"), "alice", "x")


def test_changes_are_seen_and_broken_ones_refused(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = PasswdFile(users)
    users.write_text("alice:{PLAIN}changed-it\n")
    assert trio.run(can_log_in, file, "alice", "changed-it")
    assert not trio.run(can_log_in, file, "bob", "b o b")
    users.write_text("alice:{PLAIN}again\nthis is no line\n")
    assert trio.run(can_log_in, file, "alice", "changed-it")
    assert "line 2" in caplog.text
    users.unlink()
    assert trio.run(can_log_in, file, "alice", "changed-it")
    assert "the users known so far stay" in caplog.text
    assert "changed-it" not in caplog.text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("alice", "line 1: expected name:{SCHEME}secret"),
        ("a:{PLAIN}x\n:{PLAIN}x", "line 2: expected name:{SCHEME}secret"),
        ("a:{PLAIN}x\n\n a:{PLAIN}x", "line 3: expected name:{SCHEME}secret"),
        ("a:{PLAIN}x\na:{PLAIN}y", "line 2: user a is there already"),
        ("a:", "line 1: empty password"),
        ("a:{NOPE}hunter2", "line 1: unknown password scheme {NOPE}"),
    ],
)
def test_bad_lines_are_named(text: str, complaint: str) -> None:
    """Issue A 6: bad line N in users; and no secret in the sentence."""
    with pytest.raises(PasswdFileError) as failure:
        parse_users(text, "users")
    assert str(failure.value).startswith(f"users: {complaint}")
    assert "hunter2" not in str(failure.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PasswdFileError, match="No such file"):
        PasswdFile(tmp_path / "missing")


def test_a_file_for_everybody_is_warned_of(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    users.chmod(0o644)
    PasswdFile(users)
    assert "chmod 600" in caplog.text
    assert repr(PasswdFile(users)) == f"PasswdFile({os.fspath(users)!r})"


async def test_the_queue_is_bounded(users: Path) -> None:
    """P4: more logins than can wait are told to come back, and are no wrong passwords (H9)."""
    limiter = trio.CapacityLimiter(1)
    file = PasswdFile(users, limiter=limiter)
    async with trio.open_nursery() as nursery:
        limiter.acquire_on_behalf_of_nowait("a thread that hashes")
        for _ in range(_MOST_WAITING):
            nursery.start_soon(can_log_in, file, "alice", "secret")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(be.TemporaryFailure):
            await can_log_in(file, "alice", "secret")
        limiter.release_on_behalf_of("a thread that hashes")
