"""What is in a Maildir. Blocking; called in threads."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final

from ...backend import MessageInfo
from ...sansio import OctetCounter
from .names import arrival, base_name, unique_id

READ_OCTETS: Final = 256 * 1024
# Files that other agents rename while we read the directories can be missed, so scan until two scans agree.
_MOST_SCANS: Final = 5


@dataclass(frozen=True, slots=True)
class MaildirMessage(MessageInfo):
    """A message of a snapshot. `path` is where it was then; `base` finds it again."""

    base: bytes
    path: bytes


def locate(maildir: bytes) -> dict[bytes, bytes]:
    """Base name -> path of every message there is.

    readdir may leave out a file that is renamed meanwhile, so a base name counts as soon as one scan has seen it, and
    scans are repeated until one brings nothing new. A later path wins: it is where the file was last.

    Raises OSError if new/ or cur/ cannot be read.
    """
    found: dict[bytes, bytes] = {}
    for _ in range(_MOST_SCANS):
        seen = _scan_once(maildir)
        settled = seen.keys() == found.keys()
        found.update(seen)
        if settled:
            break
    return found


def _scan_once(maildir: bytes) -> dict[bytes, bytes]:
    # new/ first: a file moved to cur/ between the two is then seen in one of them at least, and in cur/ for good.
    return {
        base_name(name): b"%s/%s/%s" % (maildir, part, name)
        for part in (b"new", b"cur")
        for name in os.listdir(b"%s/%s" % (maildir, part))
        if not name.startswith(b".")
    }


def open_message(path: bytes) -> int:
    """A file descriptor of a message. Never follows a symbolic link, never waits for a FIFO.

    Raises OSError; with ENOENT if the path is not there, with EINVAL if it is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", os.fsdecode(path))
    return fd


def measure(path: bytes) -> tuple[int, int]:
    """The exact size of a message as it will be sent, in octets, and its modification time. Raises OSError."""
    fd = open_message(path)
    try:
        counter = OctetCounter()
        while chunk := os.read(fd, READ_OCTETS):
            counter.update(chunk)
        return counter.finish(), int(os.fstat(fd).st_mtime)
    finally:
        os.close(fd)


def snapshot(maildir: bytes) -> list[MaildirMessage]:
    """Every message, oldest first, with its exact size. What is no regular file, or vanishes for good, is left out.

    Raises OSError if the directories or a message that is there cannot be read: mail that is there is never hidden.
    """
    dated: list[tuple[tuple[int, int, bytes], MaildirMessage]] = []
    for base, path in locate(maildir).items():
        measured = _measure_wherever(maildir, base, path)
        if measured is not None:
            octets, modified, path = measured
            dated.append((arrival(base, modified), MaildirMessage(unique_id(base), octets, base, path)))
    dated.sort(key=lambda item: item[0])
    return [message for _, message in dated]


def _measure_wherever(maildir: bytes, base: bytes, path: bytes) -> tuple[int, int, bytes] | None:
    for _ in range(_MOST_SCANS):
        try:
            return *measure(path), path
        except OSError as failure:
            if failure.errno in (errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO):
                return None
            if failure.errno != errno.ENOENT:
                raise
        again = locate(maildir).get(base)
        if again is None:
            return None
        path = again
    raise OSError(errno.EBUSY, "renamed again and again", os.fsdecode(path))
