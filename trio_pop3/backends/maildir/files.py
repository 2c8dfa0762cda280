"""Small files of ours in a Maildir, replaced as a whole, so that what was written is there or what was before."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Mapping
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
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return {}
        times: dict[str, int] = {}
        bad = 0
        with open(fd, "rb") as file:
            for line in file:
                if match := _LINE.fullmatch(line):
                    times[match[1].decode("ascii")] = int(match[2])
                else:
                    bad += 1
        if bad:
            logger.error("%a: %d damaged lines are left out", os.fsdecode(self.path), bad)
        return times

    def write(self, times: Mapping[str, int]) -> None:
        """Replace it; durable when this returns. Raises OSError, and then the old file is still there."""
        unfinished = self.path + b".tmp"
        status = os.stat(self._maildir)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)  # of a session that died; ours is the lock
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as file:
                own(fd, status)
                file.writelines(b"%s %d\n" % (uid.encode("ascii"), seconds) for uid, seconds in times.items())
                file.flush()
                os.fsync(fd)
            os.rename(unfinished, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise
        sync_directory(self._maildir)
