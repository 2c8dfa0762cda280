"""Changing a users file so that it is never half-written, whoever reads or edits it at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator

from .passwd import PasswdFileError, parse_users

Lines = list[str]


def add_user(path: str, name: str, secret: str) -> None:
    """Add a line for a new user; the file is made if it is not there. Raises PasswdFileError, OSError."""

    def change(lines: Lines) -> Lines:
        if _find(lines, name) is not None:
            raise PasswdFileError(f"{path}: user {name} is there already")
        return [*lines, f"{name}:{secret}"]

    _rewrite(path, change)


def change_password(path: str, name: str, secret: str) -> None:
    """Give a user another secret; the other fields of the line stay. Raises PasswdFileError, OSError."""

    def change(lines: Lines) -> Lines:
        at = _existing(lines, name, path)
        _, colon, extra = lines[at].partition(":")[2].partition(":")
        lines[at] = f"{name}:{secret}{colon}{extra}"
        return lines

    _rewrite(path, change)


def remove_user(path: str, name: str) -> None:
    """Take a user's line out. Raises PasswdFileError, OSError."""

    def change(lines: Lines) -> Lines:
        del lines[_existing(lines, name, path)]
        return lines

    _rewrite(path, change)


def _find(lines: Lines, name: str) -> int | None:
    return next((at for at, line in enumerate(lines) if line.startswith(f"{name}:")), None)


def _existing(lines: Lines, name: str, path: str) -> int:
    at = _find(lines, name)
    if at is None:
        raise PasswdFileError(f"{path}: no user {name}")
    return at


def _rewrite(path: str, change: Callable[[Lines], Lines]) -> None:
    """Replace the file by a changed copy. A copy that could not be read back is not put in place."""
    directory = os.path.dirname(path) or "."
    with _locked(directory):
        text, status = "", None
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="surrogateescape") as file:
            text, status = file.read(), os.fstat(file.fileno())
        lines = change(text.removesuffix("\n").split("\n") if text else [])
        new_text = "".join(f"{line}\n" for line in lines)
        parse_users(new_text, path)
        fd, temporary = tempfile.mkstemp(prefix=".users-", dir=directory)
        try:
            with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(new_text)
                file.flush()
                if status is not None:
                    os.fchmod(fd, status.st_mode & 0o7777)
                    if os.geteuid() == 0:
                        os.fchown(fd, status.st_uid, status.st_gid)
                os.fsync(fd)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync(directory)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One editor at a time. The directory is locked, since the file itself is replaced."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
