"""The locks that everybody who writes to an mbox file takes, and ours for a session. Blocking; called in threads.

Delivery agents and mail readers do not look at the lock of a session, so it never holds them up. The others are held
only while the file is read at login, and while it is rewritten at QUIT. They are tried all at once or not at all, and
never waited for while one of them is held: two programs that take them in different orders cannot block each other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

from ..maildir.lock import NOTE_OCTETS

# A whole file, for whoever asks, in the way of POSIX locks; but held by the open file and not by the process, so that
# threads keep each other out and closing another descriptor of the file frees nothing.
_WHOLE_FILE: Final = (os.SEEK_SET, 0, 0, 0)
_LAYOUT: Final = "hhqqi4x"
_BUSY: Final = (errno.EAGAIN, errno.EACCES)
# How often a dotlock is made to look new while it is held, in seconds: the most impatient take one of 300 s for stale.
_REFRESH_SECONDS: Final = 60.0

_held: set[tuple[int, int]] = set()
_dotlocks: set[bytes] = set()
_guard = threading.Lock()


class SessionLock:
    """The right to a session on a mailbox: an entry in this process, then flock against other processes.

    What is written into the file is that of a Maildir's lock: process, time, and who that is (`owner_note`).

    The kernel frees it when the process dies, however it dies. The file stays: whoever deletes a lock file can delete
    it under a process that has it open and is about to lock it.
    """

    __slots__ = ("_fd", "_key", "_owner", "_path")

    def __init__(self, path: bytes, owner: str) -> None:
        self._path: Final = path
        self._owner: Final = owner
        self._key: tuple[int, int] | None = None
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        return self._key is not None

    def acquire(self) -> None:
        """Take it now or not at all. Raises BlockingIOError if somebody else holds it; OSError."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino)
            with _guard:
                if key in _held:
                    raise BlockingIOError(errno.EWOULDBLOCK, "held by this process")
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _held.add(key)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._key = fd, key
        # Who holds it is for people to read. A full disk must not keep anybody from emptying a maildrop.
        with contextlib.suppress(OSError):
            note = f"{os.getpid()} {int(time.time())} {self._owner}".encode("ascii", "replace")[: NOTE_OCTETS - 1]
            os.pwrite(fd, note.ljust(NOTE_OCTETS - 1) + b"\n", 0)

    def release(self) -> None:
        """Give it back; does nothing if it is not held."""
        fd, self._fd = self._fd, None
        key, self._key = self._key, None
        try:
            if fd is not None:
                # Closing is not enough: a process that is just being started has a copy until it runs its program.
                try:
                    fcntl.flock(fd, fcntl.LOCK_UN)
                finally:
                    os.close(fd)
        finally:
            if key is not None:
                with _guard:
                    _held.discard(key)


class OpenMailbox:
    """An mbox file that is open and locked. `fd` stays open until `close`, longer than the locks."""

    __slots__ = ("_dotlock", "_kernel", "_refreshed", "fd", "path")

    def __init__(self, path: bytes, order: Sequence[str], stale_seconds: float) -> None:
        """Lock and open a file. Raises BlockingIOError if it is locked by others; OSError; and then holds nothing."""
        self.path: Final = path
        self.fd: int | None = None
        self._dotlock: bytes | None = None
        self._kernel: list[Callable[[int], None]] = []
        self._refreshed = time.monotonic()
        try:
            for name in order:
                if name == "dotlock":
                    _make_dotlock(path + b".lock", stale_seconds)
                    self._dotlock = path + b".lock"
                    _dotlocks.add(self._dotlock)
                else:
                    take, give = _KERNEL_LOCKS[name]
                    take(self._opened())
                    self._kernel.append(give)
            # Some replace the file, and have their lock on what was behind the name before.
            there, ours = os.stat(path, follow_symlinks=False), os.fstat(self._opened())
            if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
                raise BlockingIOError(errno.EWOULDBLOCK, "replaced")
        except BaseException:
            self.close()
            raise

    def _opened(self) -> int:
        if self.fd is None:
            self.fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
            status = os.fstat(self.fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EPERM, "not a regular file", self.path)
            if status.st_nlink > 1:
                # Whoever may make links to it could have us rewrite another's mail.
                raise OSError(errno.EPERM, "has a second name", self.path)
        return self.fd

    def refresh(self) -> None:
        """Keep others from taking the lock file for one that was left behind; called often while much is written."""
        now = time.monotonic()
        if self._dotlock is not None and now - self._refreshed > _REFRESH_SECONDS:
            os.utime(self._dotlock)
            self._refreshed = now

    def unlock(self) -> None:
        """Let others at the file again; `fd` stays open."""
        while self._kernel and self.fd is not None:
            self._kernel.pop()(self.fd)
        dotlock, self._dotlock = self._dotlock, None
        if dotlock is not None:
            _dotlocks.discard(dotlock)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dotlock)

    def close(self) -> None:
        """Unlock, and close the file. Does nothing the second time."""
        try:
            self.unlock()
        finally:
            fd, self.fd = self.fd, None
            if fd is not None:
                os.close(fd)


def _make_dotlock(path: bytes, stale_seconds: float) -> None:
    """Create a lock file, in place of one that was left behind. Raises BlockingIOError; OSError."""
    directory, name = os.path.split(path)
    # Written first and then linked, so that there is never one that does not say whose it is: only age would tell.
    # The name is that of the mailbox alone: one that a crash has left is in nobody's way.
    written = b"%s/.%s.trio-pop3" % (directory, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(written)
    fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with contextlib.suppress(OSError):  # a full disk must not keep anybody from emptying a maildrop
            os.write(fd, _our_note())
        if not _linked(written, path, fd) and _is_stale(path, stale_seconds):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            _linked(written, path, fd)
        if os.fstat(fd).st_nlink != 2:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked", path)
    finally:
        os.close(fd)
        os.unlink(written)


def _linked(written: bytes, path: bytes, fd: int) -> bool:
    """Whether the lock file is ours now. On NFS link can do its work and fail all the same."""
    with contextlib.suppress(FileExistsError):
        os.link(written, path)
    return os.fstat(fd).st_nlink == 2


def _our_note() -> bytes:
    return f"{os.getpid()} trio-pop3 {socket.gethostname()}\n".encode("ascii", "replace")


def _is_stale(path: bytes, stale_seconds: float) -> bool:
    """Whether a lock file was left behind: by one of us that died on this machine, or by anybody and it is old.

    What other programs write into theirs need not be a process of this machine, so that only age counts. A process that
    lives may have got the number of one of us that died, so age counts then too: the lock of the session keeps us out
    while it is another one of us that lives.
    """
    try:
        modified = os.lstat(path).st_mtime
        note = _read_note(path)
    except FileNotFoundError:
        return True
    pid, _, rest = note.partition(b" ")
    if rest == _our_note().partition(b" ")[2] and pid.isdigit():
        # In a container every one of us can have the same number.
        if int(pid) == os.getpid():
            return path not in _dotlocks
        if not _alive(int(pid)):
            return True
    return time.time() - modified > stale_seconds


def _read_note(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return b""  # of another user, and not for us to read
    try:
        return os.read(fd, 1024)
    finally:
        os.close(fd)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _ofd(kind: int) -> Callable[[int], None]:
    def lock(fd: int) -> None:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_LAYOUT, kind, *_WHOLE_FILE))
        except OSError as failure:
            if failure.errno in _BUSY:
                raise BlockingIOError(failure.errno, "locked") from None
            raise

    return lock


_KERNEL_LOCKS: Final = MappingProxyType(
    {
        "fcntl": (_ofd(fcntl.F_WRLCK), _ofd(fcntl.F_UNLCK)),
        "flock": (
            lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda fd: fcntl.flock(fd, fcntl.LOCK_UN),
        ),
    }
)
LOCK_NAMES: Final = ("dotlock", *_KERNEL_LOCKS)
