"""Maildir++ quotas: how much a Maildir may hold, and how much it does, in its file `maildirsize`. Blocking.

The file is what Courier, Dovecot, Exim and maildrop keep: a line with the quota (`1000000S,500C`: octets, messages),
then lines of octets and messages that came or went. It is a cache. Nobody writes down what a POP3 client deletes, so
before anybody is refused the Maildir itself is counted, and the file written anew.

The first line belongs to whoever wrote it: it may be all that another program knows of the user's quota. So a limit of
our own is never written there; what stands there stays, and where nothing stands, `0S` is put, which is no limit.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from ...delivery import OverQuota, OverQuotaForNow
from .identity import own
from .names import new_name

logger = logging.getLogger("trio_pop3.maildir")

_FILE: Final = "maildirsize"
_NO_LIMIT: Final = b"0S"
_UNITS: Final = MappingProxyType({b"S": "octet", b"C": "message"})
# From this size on it is written anew, as Courier does.
_MOST_OCTETS: Final = 5120
_DEFINITION: Final = re.compile(rb"(?:[0-9]{1,18}[SC])(?:,[0-9]{1,18}[SC])*")
_LINE: Final = re.compile(rb"(-?[0-9]{1,18}) +(-?[0-9]{1,18})")
_SIZE_IN_NAME: Final = re.compile(r",S=([0-9]{1,18})(?=[,:]|$)")


class Usage(NamedTuple):
    """What is in a Maildir."""

    octets: int
    messages: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit, and what happens past it.

    octets: what all messages together may have, whatever the file `maildirsize` says; None takes the limit from that
        file of each Maildir, and where there is none there is no limit.
    bounce: refuse for good, so that the sender is told at once. Without it the mail system keeps the message.
    """

    octets: int | None = None
    bounce: bool = False

    def check(self, maildir: str, size: int) -> None:
        """Whether a message of this size still has room. Raises OverQuota or OverQuotaForNow; OSError."""
        read = _read(maildir)
        if self.octets is None and read is None:
            return
        definition, used = (_NO_LIMIT, None) if read is None else read
        limit = definition if self.octets is None else b"%dS" % self.octets
        if used is None or not _fits(limit, used, size):
            used = counted(maildir)
            _write(maildir, definition, used)
        if not _fits(limit, used, size):
            raise self.over(
                f"{maildir} is over quota: it holds {_said(b'%dS,%dC' % used)}, the message has {size} octets, "
                f"and the limit is {_said(limit)}"
            )

    def over(self, text: str) -> OverQuota | OverQuotaForNow:
        """The exception for a Maildir that is full."""
        return OverQuota(text) if self.bounce else OverQuotaForNow(text)

    def add(self, maildir: str, size: int) -> None:
        """A message came. Never fails: it is delivered already, and the file can be made anew at any time."""
        try:
            fd = _opened(maildir, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(fd, b"%d 1\n" % size)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return
        except OSError as failure:
            logger.warning("cannot write to maildirsize of %a: %s", maildir, failure.strerror)


def counted(maildir: str) -> Usage:
    """What is there, folders included; not what is marked as deleted or in the folder Trash. Raises OSError."""
    octets = messages = 0
    for folder in _folders(maildir):
        for part in ("new", "cur"):
            for size in _sizes(os.path.join(folder, part)):
                octets += size
                messages += 1
    return Usage(octets, messages)


def _folders(maildir: str) -> Iterator[str]:
    yield maildir
    for name in os.listdir(maildir):
        if name.startswith(".") and name != ".Trash" and os.path.isdir(os.path.join(maildir, name, "cur")):
            yield os.path.join(maildir, name)


def _sizes(path: str) -> Iterator[int]:
    for name in os.listdir(path):
        if name.startswith(".") or "T" in name.rpartition(":2,")[2] * (":2," in name):
            continue
        if match := _SIZE_IN_NAME.search(name):
            yield int(match[1])
            continue
        with contextlib.suppress(FileNotFoundError):  # renamed or gone meanwhile
            status = os.lstat(os.path.join(path, name))
            if stat.S_ISREG(status.st_mode):
                yield status.st_size


def _fits(limit: bytes, used: Usage, size: int) -> bool:
    """Whether one more message stays within every limit; 0 is no limit."""
    after = {b"S": used.octets + size, b"C": used.messages + 1}
    limits = ((after[item[-1:]], int(item[:-1])) for item in limit.split(b","))
    return all(not most or amount <= most for amount, most in limits)


def _said(limit: bytes) -> str:
    amounts = ((int(item[:-1]), _UNITS[item[-1:]]) for item in limit.split(b","))
    return ", ".join(f"{amount} {unit}{'s' * (amount != 1)}" for amount, unit in amounts if amount)


def _opened(maildir: str, flags: int) -> int:
    """The file. Raises OSError; also for a FIFO, which would keep a thread for as long as its owner likes."""
    path = os.path.join(maildir, _FILE)
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EPERM, "not a regular file", path)
    return fd


def _read(maildir: str) -> tuple[bytes, Usage | None] | None:
    """The definition, and the sum of the lines if it can be trusted; None if there is no such file, or it is noise."""
    try:
        fd = _opened(maildir, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        first, *lines = file.read(_MOST_OCTETS).split(b"\n")
    definition = first.strip()
    if not _DEFINITION.fullmatch(definition):
        return None
    amounts = [_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
    found = [Usage(int(line[1]), int(line[2])) for line in amounts if line is not None]
    used = Usage(sum(line.octets for line in found), sum(line.messages for line in found))
    whole = len(found) == len(amounts) > 0 and len(first) + sum(map(len, lines)) + len(lines) < _MOST_OCTETS
    return definition, used if whole and used.octets >= 0 and used.messages >= 0 else None


def _write(maildir: str, definition: bytes, used: Usage) -> None:
    """Write the file anew. It is a cache, so nothing is synced; a full disk must not turn into a lost message."""
    unfinished = os.path.join(maildir, "tmp", new_name())
    try:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            own(fd, os.stat(maildir))
            file.write(b"%s\n%d %d\n" % (definition, *used))
        os.rename(unfinished, os.path.join(maildir, _FILE))
    except OSError as failure:
        logger.warning("cannot write maildirsize of %a: %s", maildir, failure.strerror)
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
