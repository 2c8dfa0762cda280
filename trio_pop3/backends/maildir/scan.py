"""What is in a Maildir. Blocking; called in threads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ...backend import MessageInfo
from ...sansio import OctetCounter
from .names import arrival, base_name, unique_id

READ_OCTETS: Final = 256 * 1024
# How often to look for files that others keep renaming before giving up.
MOST_LOOKS: Final = 8

# What opening a thing that is no regular file ends in.
_NO_MAIL: Final = (errno.EINVAL, errno.ELOOP, errno.ENXIO)


@dataclass(frozen=True, slots=True)
class MaildirMessage(MessageInfo):
    """A message of a snapshot. `base` finds its file, whatever it is called by now."""

    base: bytes


class Whereabouts:
    """Where the message files of a Maildir are: base name -> path below the Maildir, as of the last look.

    Other agents rename files at any time, so a path is a hint and the base name the identity.
    """

    __slots__ = ("maildir", "paths")

    def __init__(self, maildir: bytes) -> None:
        self.maildir: Final = maildir
        self.paths: dict[bytes, bytes] = {}

    def look(self) -> dict[bytes, bytes]:
        """Look at the directories. Raises OSError if new/ or cur/ cannot be read.

        readdir may leave out a file that is renamed meanwhile, so this goes on until two scans agree on the base
        names, and what any of them has seen counts. A later path wins: it is where the file was last.
        """
        last = self._scan()
        found = dict(last)
        for _ in range(MOST_LOOKS):
            seen = self._scan()
            found.update(seen)
            if seen.keys() == last.keys():
                break
            last = seen
        self.paths = found
        return found

    def _scan(self) -> dict[bytes, bytes]:
        # new/ first: a file moved to cur/ between the two is then seen in one of them at least, and in cur/ for good.
        return {
            base_name(name): b"%s/%s" % (part, name)
            for part in (b"new", b"cur")
            for name in os.listdir(b"%s/%s" % (self.maildir, part))
            if not name.startswith(b".")
        }

    def path(self, base: bytes) -> bytes:
        """The full path. Raises KeyError for a message the last look did not see."""
        return b"%s/%s" % (self.maildir, self.paths[base])

    def open(self, base: bytes) -> tuple[int, os.stat_result]:
        """A descriptor of a message, wherever it is now, and its status.

        Raises FileNotFoundError if it is gone, OSError if it cannot be opened.
        """
        for _ in range(MOST_LOOKS):
            if base in self.paths:
                try:
                    return open_message(self.path(base))
                except FileNotFoundError:
                    pass  # renamed or gone
            if base not in self.look():
                raise FileNotFoundError(errno.ENOENT, "gone", base)
        raise OSError(errno.EBUSY, "renamed again and again", base)


def open_message(path: bytes) -> tuple[int, os.stat_result]:
    """A descriptor of a file and its status. Never follows a symbolic link, never waits for a FIFO.

    Raises OSError; EINVAL if it is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def measure(path: bytes) -> tuple[int, int]:
    """The exact size of a message as it will be sent, in octets, and its modification time. Raises OSError."""
    fd, status = open_message(path)
    try:
        counter = OctetCounter()
        while chunk := os.read(fd, READ_OCTETS):
            counter.update(chunk)
        return counter.finish(), int(status.st_mtime)
    except OSError as failure:
        failure.filename = path  # read does not say whose fault it was
        raise
    finally:
        os.close(fd)


def snapshot(files: Whereabouts) -> list[MaildirMessage]:
    """Every message, oldest first, with its exact size. What is no regular file, or vanishes for good, is left out.

    Raises OSError if the directories or a message that is there cannot be read: mail that is there is never hidden.
    """
    measured: dict[bytes, tuple[int, int]] = {}
    waiting: Iterable[bytes] = files.look()
    for _ in range(MOST_LOOKS):
        moved = [base for base in waiting if not _measure_into(measured, files, base)]
        there = files.look() if moved else {}
        waiting = [base for base in moved if base in there]
        if not waiting:
            break
    else:
        raise OSError(errno.EBUSY, "files are renamed again and again", files.maildir)
    messages = [MaildirMessage(unique_id(base), octets, base) for base, (octets, _) in measured.items()]
    messages.sort(key=lambda message: arrival(message.base, measured[message.base][1]))
    return messages


def _measure_into(measured: dict[bytes, tuple[int, int]], files: Whereabouts, base: bytes) -> bool:
    """Measure a message if it is one; whether something was found in its place."""
    try:
        measured[base] = measure(files.path(base))
    except FileNotFoundError:
        return False
    except OSError as failure:
        if failure.errno not in _NO_MAIL:
            raise
    return True
