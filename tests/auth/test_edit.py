"""Editing a users file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trio_pop3.auth import PasswdFileError
from trio_pop3.auth.edit import add_user, change_password, remove_user
from trio_pop3.auth.passwd import parse_users

TEXT = "# people\n\nalice:{PLAIN}a:1000:1000::/home:\nbob:{PLAIN}b\n"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def test_other_lines_stay_as_they_are(users: Path) -> None:
    add_user(str(users), "carol", "{PLAIN}c")
    assert users.read_text() == TEXT + "carol:{PLAIN}c\n"
    change_password(str(users), "alice", "{PLAIN}z")
    assert users.read_text() == TEXT.replace("{PLAIN}a:", "{PLAIN}z:") + "carol:{PLAIN}c\n"
    remove_user(str(users), "carol")
    remove_user(str(users), "bob")
    assert users.read_text() == "# people\n\nalice:{PLAIN}z:1000:1000::/home:\n"
    assert users.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in users.parent.iterdir()] == ["users"]


def test_a_file_without_a_last_line_end(users: Path) -> None:
    users.write_text("alice:{PLAIN}a")
    add_user(str(users), "bob", "{PLAIN}b")
    assert users.read_text() == "alice:{PLAIN}a\nbob:{PLAIN}b\n"


def test_a_new_file_is_private(tmp_path: Path) -> None:
    add_user(str(tmp_path / "users"), "alice", "{PLAIN}a")
    assert (tmp_path / "users").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        (add_user, ("alice", "{PLAIN}x")),
        (change_password, ("carol", "{PLAIN}x")),
        (remove_user, ("carol",)),
        (add_user, ("carol", "{NOPE}x")),
        (add_user, ("ca rol\nmallory", "x")),
    ],
)
def test_what_cannot_be_done(users: Path, work: Callable[..., None], arguments: tuple[str, ...]) -> None:
    with pytest.raises(PasswdFileError):
        work(str(users), *arguments)
    assert users.read_text() == TEXT


def test_a_full_disk_changes_nothing(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add_user(str(users), "carol", "{PLAIN}c")
    assert users.read_text() == TEXT
    assert [path.name for path in users.parent.iterdir()] == ["users"]


def test_two_editors_lose_nothing(users: Path) -> None:
    names = [f"user{number}" for number in range(12)]
    threads = [threading.Thread(target=add_user, args=(str(users), name, "{PLAIN}x")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(parse_users(users.read_text(), "users")) == {"alice", "bob", *names}
