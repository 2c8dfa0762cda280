"""Small files of ours in a Maildir, replaced as a whole, so that what was written is there or what was before."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from .deliver import sync_directory
from .identity import own

logger = logging.getLogger("trio_pop3.maildir")

_LINE: Final = re.compile(rb"([\x21-\x7e]{1,70}) ([0-9]{1,12})\n")


class UidTimes:
    """A file of lines `uid seconds`, seconds since 1970: what happened to some messages, and when.

    Read and written under the lock on the Maildir.
    """

    __slots__ = ("_maildir", "_name")

    def __init__(self, maildir: bytes, name: bytes) -> None:
        self._maildir: Final = maildir
        self._name: Final = name

    @property
    def path(self) -> bytes:
        """Where it is."""
        return b"%s/%s" % (self._maildir, self._name)

    def read(self) -> dict[str, int]:
        """uid -> seconds; empty if there is no file. A line that is none is left out, and logged: mail that it was
        about is shown, and kept, as if nothing had happened to it. Raises OSError if the file cannot be read.
        """
        times: dict[str, int] = {}
        bad = 0
        for line in read_lines(self.path):
            if match := _LINE.fullmatch(line):
                times[match[1].decode("ascii")] = int(match[2])
            else:
                bad += 1
        if bad:
            lines = "1 damaged line is" if bad == 1 else f"{bad} damaged lines are"
            logger.error("%a: %s left out", os.fsdecode(self.path), lines)
        return times

    def write(self, times: Mapping[str, int]) -> None:
        """Replace it; durable when this returns. Raises OSError, and then the old file is still there."""
        write_lines(self._maildir, self._name, (b"%s %d\n" % (uid.encode("ascii"), at) for uid, at in times.items()))


def read_lines(path: bytes) -> Iterator[bytes]:
    """Every line of a file of ours; none if it is missing.

    Raises OSError that names the file if it cannot be read: EPERM if it is something else than a regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as failure:
        if failure.errno in (errno.ELOOP, errno.ENXIO):
            raise _no_file(path) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _no_file(path)
        with open(fd, "rb", closefd=False) as file:
            yield from file
    except OSError as failure:
        failure.filename = path  # what is done to a descriptor does not say whose it is
        raise
    finally:
        os.close(fd)


def _no_file(path: bytes) -> OSError:
    return OSError(errno.EPERM, "not a regular file", path)


def write_lines(maildir: bytes, name: bytes, lines: Iterable[bytes]) -> None:
    """Replace a file of ours; durable when this returns. Raises OSError, and then the old file is still there."""
    path = b"%s/%s" % (maildir, name)
    unfinished = path + b".tmp"
    status = os.stat(maildir)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)  # of a session that died; ours is the lock
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            own(fd, status)
            file.writelines(lines)
            file.flush()
            os.fsync(fd)
        os.rename(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    sync_directory(maildir)
