"""The directory that `trio-pop3 serve DIR` makes: all of it, with a password that was seen, or nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.auth import PasswdFile
from trio_pop3.backend import ClientInfo, PasswordCredentials
from trio_pop3.cli.directory import is_new, make
from trio_pop3.cli.failure import Failure


def everything(path: Path) -> list[str]:
    """Every path below one, hidden ones too."""
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def whole(served: Path) -> bool:
    """One user, one Maildir with one message, and nothing else."""
    parts = [f"mail/demo/{part}" for part in ("cur", "new", "tmp")]
    messages = [f"mail/demo/new/{name}" for name in os.listdir(served / "mail" / "demo" / "new")]
    return everything(served) == sorted(["mail", "mail/demo", *parts, *messages, "users"]) and len(messages) == 1


async def opens(served: Path, password: str) -> bool:
    credentials = PasswordCredentials("demo", password)
    return await PasswdFile(served / "users").authenticate(credentials, ClientInfo("x")) == "demo"


def prepared(tmp_path: Path, there: bool) -> Path:
    served = tmp_path / "served"
    if there:
        served.mkdir()
    return served


there_or_not = pytest.mark.parametrize("there", [False, True])


@there_or_not
async def test_the_password_opens_it(tmp_path: Path, there: bool) -> None:
    served = prepared(tmp_path, there)
    assert is_new(str(served))
    password = make(str(served))
    assert whole(served)
    assert not is_new(str(served))
    assert await opens(served, password)
    assert os.listdir(tmp_path) == ["served"]


def test_directories_above_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make("a/b")
    assert whole(tmp_path / "a" / "b")


def test_what_is_there_is_filled_and_not_replaced(tmp_path: Path) -> None:
    """A mount point cannot be replaced, and a directory that somebody has made has an owner and a mode."""
    (tmp_path / "served").mkdir(mode=0o750)
    before = (tmp_path / "served").stat()
    make(str(tmp_path / "served"))
    after = (tmp_path / "served").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_link_to_a_directory_stays_one(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "served").symlink_to("target")
    make(str(tmp_path / "served"))
    assert (tmp_path / "served").is_symlink()
    assert whole(tmp_path / "target")


@pytest.mark.parametrize("name", ["lost+found", ".unfinished-x"])
def test_a_new_file_system_is_empty(tmp_path: Path, name: str) -> None:
    """So is what was left by one that was killed."""
    (tmp_path / name).mkdir()
    assert is_new(str(tmp_path))
    make(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([name, "mail", "users"])


@pytest.mark.parametrize("name", ["mail", "a", ".hidden", "lost+found2"])
def test_what_holds_something_else_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(Failure, match="holds no file `users`"):
        is_new(str(tmp_path))


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"cannot use .*/file: not a directory"):
        is_new(str(tmp_path / "file"))


@there_or_not
def test_the_password_is_announced_before_it_counts(tmp_path: Path, there: bool) -> None:
    """P5: at that moment the directory is not in its place, but all that can fail has been done."""
    served, announced = prepared(tmp_path, there), []

    def announce(password: str) -> None:
        assert is_new(str(served))
        assert list(tmp_path.rglob("users"))
        announced.append(password)

    assert make(str(served), announce) == announced[0]
    assert whole(served)


@there_or_not
@pytest.mark.parametrize("failure", [Failure("nobody reads"), KeyboardInterrupt()])
def test_a_password_that_nobody_has_seen_leaves_nothing(tmp_path: Path, there: bool, failure: BaseException) -> None:
    """P5."""

    def announce(password: str) -> None:
        raise failure

    with pytest.raises(type(failure)):
        make(str(prepared(tmp_path, there)), announce)
    assert everything(tmp_path) == ["served"] * there


def nth(call: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Fails the n-th time it is called."""
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return call(*arguments, **options)

    return counted


@there_or_not
@pytest.mark.parametrize(("name", "number"), [("mkdir", 2), ("mkdir", 5), ("fsync", 1), ("rename", 1), ("rename", 2)])
def test_a_failure_leaves_nothing(
    tmp_path: Path, there: bool, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever cannot be done; the first `rename` is the delivery's."""
    served = prepared(tmp_path, there)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, nth(getattr(os, name), number))
        with pytest.raises(Failure, match=r"cannot make .*: read-only file system"):
            make(str(served))
    assert everything(tmp_path) == ["served"] * there
    make(str(served))
    assert whole(served)


def test_the_last_step_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Maildirs are in their place, the users file cannot be put there."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", nth(os.rename, 3))
        with pytest.raises(Failure, match="cannot make"):
            make(str(tmp_path))
    assert everything(tmp_path) == []


@there_or_not
async def test_two_at_the_same_time(tmp_path: Path, there: bool) -> None:
    """The one that comes second fails, and the first one's directory is whole."""
    served = prepared(tmp_path, there)
    first: list[str] = []
    with pytest.raises(Failure, match=r"cannot make .*: directory not empty"):
        make(str(served), lambda _: first.append(make(str(served))))
    assert whole(served)
    assert await opens(served, first[0])
    assert os.listdir(tmp_path) == ["served"]
