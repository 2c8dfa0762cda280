"""`dovecot-uidlist.lock`: Dovecot renames no file of a Maildir while somebody holds it. Blocking; called in threads.

Taken the way Dovecot does: a file made exclusively, holding `PID:HOST`, removed at the end. Nobody's delivery waits for
it. It is an aid and no more: what it cannot be had for, a scan goes on without.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import Final

logger = logging.getLogger("trio_pop3.maildir")

UIDLIST_LOCK_NAME: Final = b"dovecot-uidlist.lock"

# Dovecot touches a lock that it holds every 10 s, and breaks one that nobody has touched for two minutes.
_STALE_SECONDS: Final = 120
# How long to wait; an ordinary hold takes milliseconds.
_PATIENCE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01
_NOTE_OCTETS: Final = 512


@contextlib.contextmanager
def uidlist_locked(maildir: bytes, *, patience: float = _PATIENCE_SECONDS) -> Iterator[bool]:
    """Hold the lock of a Maildir for the length of the block; whether it is held.

    Waits for it up to `patience` seconds. A lock is broken if the process that its note names is gone from this host,
    or if it has not been touched for two minutes.
    """
    path = maildir + b"/" + UIDLIST_LOCK_NAME
    fd = _take(path, patience)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            try:
                # Not if somebody has found us too slow, and it is theirs by now.
                if _is(path, fd):
                    os.unlink(path)
            except OSError as failure:
                logger.warning("cannot remove %a: %s", os.fsdecode(path), failure.strerror)
            finally:
                os.close(fd)


def _take(path: bytes, patience: float) -> int | None:
    """The lock file, open so that its inode is nobody else's; None if it cannot be had."""
    until = time.monotonic() + patience
    while True:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            if _break(path):
                continue
        except OSError as failure:
            logger.warning("cannot make %a, going on without: %s", os.fsdecode(path), failure.strerror)
            return None
        else:
            with contextlib.suppress(OSError):  # a full disk: then only age tells that it is stale
                os.write(fd, b"%d:%s" % (os.getpid(), os.fsencode(socket.gethostname())))
            return fd
        if time.monotonic() >= until:
            logger.warning("%a is held by somebody else, going on without", os.fsdecode(path))
            return None
        time.sleep(_POLL_SECONDS)


def _break(path: bytes) -> bool:
    """Remove a lock that nobody holds any more; whether it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return _stale(fd) and _moved_away(path, fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _moved_away(path: bytes, fd: int) -> bool:
    """Two may break it at a time, and the slower one must not remove the lock that the faster one has made by then: so
    it is moved first and looked at afterwards."""
    aside = path + b".%d.%d" % (os.getpid(), time.monotonic_ns())
    os.rename(path, aside)
    stale = _is(aside, fd)
    if stale:
        logger.warning("%a was left behind, removed", os.fsdecode(path))
    else:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    os.unlink(aside)
    return stale


def _stale(fd: int) -> bool:
    age = time.time() - os.fstat(fd).st_mtime
    pid, _, host = os.read(fd, _NOTE_OCTETS).partition(b":")
    if age > _STALE_SECONDS:
        return True
    return host.strip() == os.fsencode(socket.gethostname()) and pid.isdigit() and _dead(int(pid))


def _dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _is(path: bytes, fd: int) -> bool:
    """Whether a path leads to the file that is open."""
    try:
        there, ours = os.lstat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
