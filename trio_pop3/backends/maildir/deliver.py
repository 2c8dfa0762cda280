"""Putting a message into a Maildir so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable
from typing import Final

from .names import new_name

# The rule of maildir(5): what nobody has touched in tmp/ for 36 hours was left by a delivery that died.
_FORGOTTEN_SECONDS: Final = 36 * 60 * 60


def make_maildir(path: str | os.PathLike[str]) -> None:
    """Make a Maildir for its owner only, and the directories above it; what exists is left alone. Raises OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    for part in ("tmp", "new", "cur"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(path, part), 0o700)


def deliver(maildir: str | os.PathLike[str], message: bytes | Iterable[bytes]) -> str:
    """Deliver a message and return its base name, once it would survive a power cut.

    Written to tmp/, synced, moved to new/, and the directory synced. Raises OSError, and then nothing is left behind.
    What deliveries that died 36 hours ago or more have left in tmp/ is removed.
    """
    chunks = (message,) if isinstance(message, bytes) else message
    root = os.fspath(maildir)
    _clean(os.path.join(root, "tmp"))
    unfinished = os.path.join(root, "tmp", new_name())
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    written = unfinished
    try:
        with open(fd, "wb") as file:
            size = sum(file.write(chunk) for chunk in chunks)
            file.flush()
            os.fsync(fd)
        name = f"{os.path.basename(unfinished)},S={size}"
        finished = os.path.join(root, "new", name)
        os.rename(unfinished, finished)
        written = finished
        sync_directory(os.fsencode(os.path.dirname(finished)))
    except BaseException:
        # Also out of new/: the sender has been told of a failure and delivers again.
        with contextlib.suppress(OSError):
            os.unlink(written)
        raise
    return name


def _clean(path: str) -> None:
    """Remove forgotten files; first, since it may make room. What cannot be removed must not hold up the mail."""
    forgotten = time.time() - _FORGOTTEN_SECONDS
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                # Changed, and not modified: a copy that is being made may have been given the time of its original.
                if stat.S_ISREG(status.st_mode) and max(status.st_atime, status.st_ctime) < forgotten:
                    os.unlink(entry.path)


def sync_directory(path: bytes) -> None:
    """Make what was created, renamed or removed in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
