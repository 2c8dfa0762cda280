"""What is in a Maildir. Blocking; called in threads."""

from __future__ import annotations

import bisect
import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ...backend import MessageInfo
from ...sansio import OctetCounter
from .names import arrival, base_name
from .uids import UidMap, read_map

READ_OCTETS: Final = 256 * 1024
# How often to look for files that others keep renaming before giving up.
MOST_LOOKS: Final = 8

# What opening a thing that is no regular file ends in.
_NO_MAIL: Final = (errno.EINVAL, errno.ELOOP, errno.ENXIO)
# Messages sorted at a time, give or take, which takes about a millisecond; the bounds come from every so manyth.
_PORTION: Final = 2048
_SAMPLED: Final = 64


@dataclass(frozen=True, slots=True)
class MaildirMessage(MessageInfo):
    """A message of a snapshot. `base` finds its file, whatever it is called by now, and `inode` makes sure of it."""

    base: bytes
    inode: int


class Whereabouts:
    """Where the message files of a Maildir are: base name -> path below the Maildir, as of the last look.

    Other agents rename files at any time, so a path is a hint and the base name the identity.

    Two different files with one base name break the rule that the format rests on, and nothing else is left to know a
    message by: an inode does not outlive a restored backup, and flags change. So the file that was written first keeps
    the base name, and each further one goes by its path, as long as that stays; when its flags change, clients fetch it
    once more. That is better than one that is never shown, or that is removed unseen.
    """

    __slots__ = ("_further", "maildir", "paths")

    def __init__(self, maildir: bytes) -> None:
        self.maildir: Final = maildir
        self.paths: dict[bytes, bytes] = {}
        self._further: dict[bytes, list[bytes]] = {}

    def look(self) -> dict[bytes, bytes]:
        """Look at the directories; returns `paths`. Raises OSError if new/ or cur/ cannot be read.

        readdir may leave out a file that is renamed meanwhile, so this goes on until two scans agree on the base
        names, and what any of them has seen counts.
        """
        paths = last = self._scan()
        for _ in range(MOST_LOOKS):
            seen = self._scan()
            if seen == last:
                break
            paths = list(dict.fromkeys(itertools.chain(paths, seen)))
            if _bases(seen) == _bases(last):
                break
            last = seen
        self.paths, self._further = {_base(path): path for path in paths}, {}
        if len(self.paths) < len(paths):
            self._tell_apart(paths)
        return self.paths

    def _scan(self) -> list[bytes]:
        # new/ first: a file moved to cur/ between the two is then seen in one of them at least, and in cur/ for good.
        return [
            b"%s/%s" % (part, name)
            for part in (b"new", b"cur")
            for name in os.listdir(b"%s/%s" % (self.maildir, part))
            if not name.startswith(b".")
        ]

    def _tell_apart(self, paths: Iterable[bytes]) -> None:
        """Find out which of the paths with one base name are different files: a file may have been seen twice."""
        shared: dict[bytes, list[bytes]] = {}
        for path in paths:
            latest = self.paths[_base(path)]
            if latest is not path:
                shared.setdefault(_base(path), [latest]).append(path)
        for base, group in shared.items():
            files: dict[int, tuple[int, bytes]] = {}
            for path in sorted(group):
                with contextlib.suppress(FileNotFoundError):  # the old name of one that is seen under its new name
                    status = os.lstat(self.full(path))
                    # Anything else would hide a message behind something that is none.
                    if stat.S_ISREG(status.st_mode):
                        files[status.st_ino] = (status.st_mtime_ns, path)
            if files:
                first, *further = [path for _, path in sorted(files.values())]
                self.paths[base], self._further[base] = first, further

    def full(self, path: bytes) -> bytes:
        """A path below the Maildir, made one to open."""
        return b"%s/%s" % (self.maildir, path)

    def places(self, base: bytes) -> Sequence[bytes]:
        """Where the last look saw files with a base name: paths below the Maildir, of different files, oldest first."""
        if base not in self.paths:
            return ()
        return (self.paths[base], *self._further.get(base, ()))

    def open(self, message: MaildirMessage) -> tuple[int, os.stat_result]:
        """A descriptor of a message, wherever it is now, and its status.

        Raises FileNotFoundError if it is gone, also if another file has its name; OSError if it cannot be opened.
        """
        looked = False
        for _ in range(MOST_LOOKS):
            moved = False
            for path in self.places(message.base):
                try:
                    fd, status = open_message(self.full(path))
                except FileNotFoundError:
                    moved = True
                except OSError as failure:
                    if failure.errno not in _NO_MAIL:
                        raise
                else:
                    if status.st_ino == message.inode:
                        return fd, status
                    os.close(fd)
            if looked and not moved:
                raise FileNotFoundError(errno.ENOENT, "gone", message.base)
            self.look()
            looked = True
        raise OSError(errno.EBUSY, "renamed again and again", message.base)


def _base(path: bytes) -> bytes:
    return base_name(path[len(b"new/") :])


def _bases(paths: Iterable[bytes]) -> set[bytes]:
    return {_base(path) for path in paths}


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


def measure(path: bytes) -> tuple[int, int, int]:
    """The exact size of a message as it will be sent, in octets; its modification time; its inode. Raises OSError."""
    fd, status = open_message(path)
    try:
        counter = OctetCounter()
        # No further than it was long: somebody may be writing faster than we read.
        left = status.st_size
        while left > 0 and (chunk := os.read(fd, min(left, READ_OCTETS))):
            counter.update(chunk)
            left -= len(chunk)
        return counter.finish(), int(status.st_mtime), status.st_ino
    except OSError as failure:
        failure.filename = path  # read does not say whose fault it was
        raise
    finally:
        os.close(fd)


# Seconds, microseconds and base name (see `arrival`), which of the files with this base name; then uid, octets, inode.
# Never the same twice, and of nothing that the garbage collector would look at more than once.
_Arrived: TypeAlias = tuple[int, int, bytes, int, str, int, int]


def snapshot(files: Whereabouts) -> list[MaildirMessage]:
    """Every message, oldest first, with its exact size. What is no regular file, or vanishes for good, is left out.

    Raises OSError if the directories or a message that is there cannot be read: mail that is there is never hidden;
    UidMapError if imported unique-ids cannot be understood.
    """
    arrived: list[_Arrived] = []
    waiting: Iterable[bytes] = files.look()
    uids = read_map(files.maildir)
    for _ in range(MOST_LOOKS):
        moved = [base for base in waiting if not _measure_into(arrived, files, uids, base)]
        there = files.look() if moved else {}
        waiting = [base for base in moved if base in there]
        if not waiting:
            break
    else:
        raise OSError(errno.EBUSY, "files are renamed again and again", files.maildir)
    uids.forget()
    in_order = _emptied_in_order(arrived)
    return [MaildirMessage(uid, octets, base, inode) for _, _, base, _, uid, octets, inode in in_order]


def _emptied_in_order(arrived: list[_Arrived]) -> Iterator[_Arrived]:
    """Sort into bounded portions first: while Python sorts many things, or forgets them, no other thread runs."""
    bounds = sorted(arrived[::_SAMPLED])[_PORTION // _SAMPLED :: _PORTION // _SAMPLED]
    portions: list[list[_Arrived]] = [[] for _ in range(len(bounds) + 1)]
    for entry in arrived:
        portions[bisect.bisect(bounds, entry)].append(entry)
    arrived.clear()
    portions.reverse()
    while portions:
        yield from sorted(portions.pop())


def _measure_into(arrived: list[_Arrived], files: Whereabouts, uids: UidMap, base: bytes) -> bool:
    """Measure the messages with a base name, mostly one; False, and none of them, if one is not where it was."""
    measured: list[_Arrived] = []
    for nth, path in enumerate(files.places(base)):
        try:
            octets, modified, inode = measure(files.full(path))
        except FileNotFoundError:
            return False
        except OSError as failure:
            if failure.errno not in _NO_MAIL:
                raise
        else:
            measured.append((*arrival(base, modified), nth, uids.of(base, path, nth), octets, inode))
    arrived += measured
    return True
