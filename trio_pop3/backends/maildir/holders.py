"""Who holds the locks of sessions, on Maildirs or others: what the kernel says, and what the holder has written down.

Nothing is locked to find out: a login at the same moment would be refused for it. Linux only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from .lock import LOCK_NAME, NOTE_OCTETS

# `1: FLOCK  ADVISORY  WRITE 4711 fe:00:2148726 0 EOF`; one that waits has an arrow before its kind.
_LOCK: Final = re.compile(r"\d+: FLOCK +ADVISORY +WRITE +(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ")
_MOUNT: Final = re.compile(r"(\d+) \d+ (\d+):(\d+) ")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock on a Maildir. `pid` is what the kernel says; the rest is None if the holder has not noted it.

    since: seconds since 1970. user: as one word; what does not look like one is left percent-encoded.
    """

    pid: int
    since: int | None = None
    session: str | None = None
    peer: str | None = None
    user: str | None = None


class Locks:
    """Every flock on this machine, as of now. Raises OSError if the kernel does not tell."""

    __slots__ = ("_devices", "_holders")

    def __init__(self) -> None:
        with open("/proc/locks", encoding="ascii") as locks:
            found = [match for line in locks if (match := _LOCK.match(line))]
        self._holders: Final[Mapping[tuple[int, int, int], int]] = {
            (int(match[2], 16), int(match[3], 16), int(match[4])): int(match[1]) for match in found
        }
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            self._devices: Final[Mapping[str, tuple[int, int]]] = {
                match[1]: (int(match[2]), int(match[3])) for line in mounts if (match := _MOUNT.match(line))
            }

    def holder(self, maildir: bytes) -> Holder | None:
        """Who holds the lock on a Maildir; None if nobody does. Raises OSError if the lock file cannot be read."""
        return self.holder_of(maildir + b"/" + LOCK_NAME)

    def holder_of(self, lock_file: bytes) -> Holder | None:
        """The same for a lock file."""
        try:
            fd = os.open(lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            pid = self._holders.get(self._kernels_name(fd))
            return None if pid is None else _described(pid, os.pread(fd, NOTE_OCTETS, 0))
        finally:
            os.close(fd)

    def _kernels_name(self, fd: int) -> tuple[int, int, int]:
        """Device and inode of an open file as /proc/locks has them: on some file systems stat says something else."""
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
            about = dict(line.split(":", 1) for line in lines)
        status = os.fstat(fd)
        device = self._devices.get(about.get("mnt_id", "").strip(), (os.major(status.st_dev), os.minor(status.st_dev)))
        return (*device, int(about.get("ino", status.st_ino)))


def _described(pid: int, note: bytes) -> Holder:
    """The note of the holder, if it is the holder's: another one has not got round to writing it, or cannot."""
    words = note.decode("ascii", "replace").split()
    if len(words) < 3 or words[0] != str(pid) or not words[1].isdigit():
        return Holder(pid)
    session, peer, user = [*words[2:5], None, None][:3]
    return Holder(pid, int(words[1]), session, peer, user and _readable(user))


def _readable(word: str) -> str:
    plain = unquote(word)
    return plain if plain.isprintable() and " " not in plain else word
