"""Putting a message into a Maildir so that it is there whole or not at all. Blocking."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import Final

from .identity import own
from .names import new_name
from .quota import Quota

# The rule of maildir(5): what nobody has touched in tmp/ for 36 hours was left by a delivery that died.
_FORGOTTEN_SECONDS: Final = 36 * 60 * 60


def make_maildir(path: str | os.PathLike[str]) -> None:
    """Make a Maildir for its owner only, and the directories above it; what exists is left alone. Raises OSError."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    for part in ("tmp", "new", "cur"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(path, part), 0o700)


class Unfinished:
    """A message in tmp/ of a Maildir, of which nobody sees anything before `finish`.

    Each method raises OSError, and OverQuota and OverQuotaForNow if there is a quota; then nothing is left behind, and
    the object is of no more use. What deliveries that died 36 hours ago or more have left in tmp/ is removed.
    What root delivers belongs to the owner of the Maildir.
    """

    def __init__(self, maildir: str | os.PathLike[str], quota: Quota | None = None) -> None:
        self._root: Final = os.fspath(maildir)
        self._quota: Final = quota
        _clean(os.path.join(self._root, "tmp"))
        self._path = os.path.join(self._root, "tmp", new_name())
        self._file = open(self._path, "xb", buffering=0, opener=_private)  # noqa: SIM115 - closed by finish or discard
        self._size = 0
        with self._nothing_left():
            # Before it is in new/: one file that its owner may not read would shut the whole maildrop.
            own(self._file.fileno(), os.stat(self._root))

    def write(self, octets: bytes) -> None:
        """The next octets."""
        with self._nothing_left():
            rest = memoryview(octets)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._size += len(octets)

    def finish(self) -> str:
        """Put it into new/ and return its base name, once it would survive a power cut."""
        with self._nothing_left():
            os.fsync(self._file.fileno())
            self._file.close()
            if self._quota is not None:
                self._quota.check(self._root, self._size)
            name = f"{os.path.basename(self._path)},S={self._size}"
            finished = os.path.join(self._root, "new", name)
            os.rename(self._path, finished)
            self._path = finished
            sync_directory(os.fsencode(os.path.dirname(finished)))
            if self._quota is not None:
                self._quota.add(self._root, self._size)
        return name

    def discard(self) -> None:
        """Remove it. Also out of new/: the sender has been told of a failure, and delivers again."""
        self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    @contextlib.contextmanager
    def _nothing_left(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.discard()
            raise


def deliver(maildir: str | os.PathLike[str], message: bytes | Iterable[bytes], quota: Quota | None = None) -> str:
    """Deliver a message and return its base name, once it would survive a power cut.

    Written to tmp/, synced, moved to new/, and the directory synced. Raises as `Unfinished` does, and whatever
    `message` raises, and then nothing is left behind.
    """
    unfinished = Unfinished(maildir, quota)
    try:
        for chunk in (message,) if isinstance(message, bytes) else message:
            unfinished.write(chunk)
    except BaseException:
        unfinished.discard()
        raise
    return unfinished.finish()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


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
