"""One session per Maildir: an entry in this process, then flock against other processes. Blocking; called in threads.

Delivery agents and IMAP servers do not look at this lock, so it never holds them up. The kernel frees it when the
process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from typing import Final

LOCK_NAME: Final = b".trio-pop3.lock"

# Always the same length, so that the file need not be truncated: that costs fifty times as much as writing it.
_NOTE_OCTETS: Final = 64

_held: set[tuple[int, int]] = set()
_guard = threading.Lock()


class MaildirLock:
    """The lock on one Maildir, not yet taken."""

    __slots__ = ("_fd", "_key", "_maildir", "_owner")

    def __init__(self, maildir: bytes, owner: str) -> None:
        self._maildir: Final = maildir
        self._owner: Final = owner
        self._key: tuple[int, int] | None = None
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take it now or not at all.

        Raises BlockingIOError if somebody else holds it, OSError if there is no Maildir or it cannot be locked.
        """
        # cur/ stands for the Maildir: whatever path leads there, and a directory that is no Maildir gets no lock file.
        status = os.stat(self._maildir + b"/cur")
        key = (status.st_dev, status.st_ino)
        with _guard:
            if key in _held:
                raise BlockingIOError(errno.EWOULDBLOCK, "held by this process")
            _held.add(key)
        self._key = key
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self._maildir + b"/" + LOCK_NAME, flags, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.release()
            raise
        # Who holds it is for people to read. A full disk must not keep anybody from emptying a maildrop.
        with contextlib.suppress(OSError):
            note = f"{os.getpid()} {self._owner}".encode("ascii", "replace")[: _NOTE_OCTETS - 1]
            os.pwrite(self._fd, note.ljust(_NOTE_OCTETS - 1) + b"\n", 0)

    def release(self) -> None:
        """Give it back; does nothing if it is not held.

        The file stays: whoever deletes a lock file can delete it under a process that has it open and is about to
        lock it, and then two hold "the" lock.
        """
        fd, self._fd = self._fd, None
        key, self._key = self._key, None
        try:
            if fd is not None:
                os.close(fd)
        finally:
            if key is not None:
                with _guard:
                    _held.discard(key)
