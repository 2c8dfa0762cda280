"""One session per Maildir: a place in this process, then flock against other processes. Blocking; called in threads.

Delivery agents and IMAP servers do not look at this lock, so it never holds them up. The kernel frees it when the
process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ...backend import ClientInfo

LOCK_NAME: Final = b".trio-pop3.lock"

# Always the same length, so that the file need not be truncated: that costs fifty times as much as writing it.
NOTE_OCTETS: Final = 256

# Of every Maildir that is held or waited for: the lock that has the place, and behind it those that wait, in order.
_lines: dict[tuple[int, int], deque[MaildirLock]] = {}
_guard = threading.Lock()


def owner_note(user: str, client: ClientInfo) -> str:
    """Who holds a lock, in the words of `trio-pop3 lock list`: session, peer and user, none with a blank in it."""
    return f"{client.session} {client.peer} {quote(user, safe='@+=,!')}"


class MaildirLock:
    """The lock on one Maildir, not yet taken. `owner`: see `owner_note`; it is for people to read."""

    __slots__ = ("_fd", "_key", "_maildir", "_owner", "_wake", "waiting")

    def __init__(self, maildir: bytes, owner: str) -> None:
        self._maildir: Final = maildir
        self._owner: Final = owner
        self._key: tuple[int, int] | None = None
        self._fd: int | None = None
        self._wake: Callable[[], None] | None = None
        self.waiting = False  # the last `acquire` left us behind others of this process, and `wake` will be called

    def acquire(self, wake: Callable[[], None] | None = None) -> None:
        """Take it now or not at all; or, with `wake`, keep a place in the line of this process.

        Then `acquire` may be called again: when `wake` was called, from any thread, if `waiting`; after a while, if the
        holder is another process. To give up is to `release`.

        Raises BlockingIOError if somebody else holds it, OSError if there is no Maildir or it cannot be locked. After
        any failure but a BlockingIOError with `wake`, nothing is held.
        """
        try:
            # cur/ stands for the Maildir: whatever path leads there, and what is no Maildir gets no lock file.
            status = os.stat(self._maildir + b"/cur")
            self.waiting = not self._first_in_line((status.st_dev, status.st_ino), wake)
            if self.waiting:
                raise BlockingIOError(errno.EWOULDBLOCK, "held by this process")
            self._fd = _open(self._maildir + b"/" + LOCK_NAME, status)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as failure:
            if wake is not None and isinstance(failure, BlockingIOError):
                self._close()
            else:
                self.release()
            raise
        # Who holds it is for people to read. A full disk must not keep anybody from emptying a maildrop.
        with contextlib.suppress(OSError):
            note = f"{os.getpid()} {int(time.time())} {self._owner}".encode("ascii", "replace")[: NOTE_OCTETS - 1]
            os.pwrite(self._fd, note.ljust(NOTE_OCTETS - 1) + b"\n", 0)

    def _first_in_line(self, key: tuple[int, int], wake: Callable[[], None] | None) -> bool:
        """Whether the place in this process is ours; with `wake`, we are in line for it from now on."""
        with _guard:
            if self._key is None:
                line = _lines.setdefault(key, deque())
                if line and wake is None:
                    return False
                line.append(self)
                self._key, self._wake = key, wake
            return _lines[self._key][0] is self

    def release(self) -> None:
        """Give it back, or the place in the line; does nothing if there is neither.

        The file stays: whoever deletes a lock file can delete it under a process that has it open and is about to
        lock it, and then two hold "the" lock.
        """
        try:
            self._close()
        finally:
            self._leave_line()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _leave_line(self) -> None:
        key, self._key = self._key, None
        if key is None:
            return
        with _guard:
            line = _lines[key]
            first = line[0] is self
            line.remove(self)
            wake = line[0]._wake if line and first else None
            if not line:
                del _lines[key]
        if wake is not None:
            wake()


def _open(path: bytes, maildir: os.stat_result) -> int:
    """A descriptor of the lock file. One that root has to make belongs to the owner of the Maildir."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            fd = os.open(path, flags)
        else:
            if os.geteuid() == 0:
                os.fchown(fd, maildir.st_uid, maildir.st_gid)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError(errno.EPERM, "a lock file that is something else as well", path)
    except BaseException:
        os.close(fd)
        raise
    return fd
