"""One session per Maildir: an entry in this process, then flock against other processes. Blocking; called in threads.

Delivery agents and IMAP servers do not look at this lock, so it never holds them up. The kernel frees it when the
process dies, however it dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import Final

LOCK_NAME: Final = b".trio-pop3.lock"

_held: set[tuple[int, int]] = set()
_guard = threading.Lock()


class MaildirLock:
    """The lock on one Maildir, held from construction to `release`.

    Raises BlockingIOError if somebody else holds it, OSError if the Maildir cannot be locked.
    """

    __slots__ = ("_fd", "_key")

    def __init__(self, maildir: bytes, owner: str) -> None:
        status = os.stat(maildir)
        self._fd: int | None = None
        self._key = (status.st_dev, status.st_ino)
        with _guard:
            if self._key in _held:
                raise BlockingIOError(errno.EWOULDBLOCK, "held by this process")
            _held.add(self._key)
        try:
            fd = os.open(maildir + b"/" + LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()} {owner}\n".encode(), 0)
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            self._leave()
            raise
        self._fd = fd

    def release(self) -> None:
        """Give it back; does nothing the second time.

        The file stays: whoever deletes a lock file can delete it under a process that has it open and is about to
        lock it.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
            self._leave()

    def _leave(self) -> None:
        with _guard:
            _held.discard(self._key)
