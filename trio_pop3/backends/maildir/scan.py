"""Where the messages of a Maildir are, while others rename them. Blocking; called in threads."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from ...backend import MessageInfo
from ...sansio import OctetCounter, octets_of
from .index import PORTION, UNKNOWN, Columns, State, forget, modified_ns, state_of
from .names import base_name

READ_OCTETS: Final = 256 * 1024
# How often to look for files that others keep renaming before giving up.
MOST_LOOKS: Final = 8
# How often to try to open a file that is being renamed; a look at first and after each so many tries, and a glance
# before each of the others.
MOST_TRIES: Final = 8 * MOST_LOOKS
# A directory or file is told apart from one that changed twice within a tick of the file system's clock by its age.
SETTLED_NS: Final = 2_000_000_000

# Scans in a row that must bring nothing new while files are being renamed.
_AGREEING: Final = 3
# What opening a thing that is no regular file ends in.
NO_MAIL: Final = (errno.EINVAL, errno.ELOOP, errno.ENXIO)


@dataclass(frozen=True, slots=True)
class MaildirMessage(MessageInfo):
    """A message of a snapshot. `base` finds its file, whatever it is called by now, and `inode` makes sure of it.

    path: where it was at login, below the Maildir; a hint.
    size, modified: octets as stored, and time of modification in ns, when it was measured; -1 if that is not known.
    """

    base: bytes
    inode: int
    path: bytes = field(default=b"", compare=False)
    size: int = -1
    modified: int = -1

    def is_as_it_was(self, status: os.stat_result) -> bool:
        """Whether its file has not been written to since it was measured, as far as its status tells."""
        return self.size < 0 or (status.st_size, modified_ns(status)) == (self.size, self.modified)

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Whether a file is this message, as it was."""
        return status.st_ino == self.inode and self.is_as_it_was(status)


class Whereabouts:
    """Where the message files of a Maildir are: base name -> path below the Maildir, as of the last look.

    Other agents rename files at any time, so a path is a hint and the base name the identity.

    Two different files with one base name break the rule that the format rests on, and nothing else is left to know a
    message by: an inode does not outlive a restored backup, and flags change. So the file that was written first keeps
    the base name, and each further one goes by its path, as long as that stays; when its flags change, clients fetch it
    once more. That is better than one that is never shown, or that is removed unseen.

    Args:
        maildir: the directory that holds new/ and cur/.
        locked: held during each look, against agents that respect some lock.
    """

    __slots__ = ("_directories", "_further", "_known", "_paths", "listed", "locked", "maildir", "state")

    def __init__(
        self, maildir: bytes, locked: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    ) -> None:
        self.maildir: Final = maildir
        self.locked: Final = locked
        # Every path of the last look, and the state of the directories for which these are all; else UNKNOWN.
        self.listed: list[bytes] = []
        self.state: State = UNKNOWN
        self._directories: tuple[int, ...] = ()
        self._known: Columns | None = None
        self._paths: dict[bytes, bytes] | None = None
        self._further: dict[bytes, list[bytes]] = {}

    def begin(self) -> None:
        """Note which directories new/ and cur/ are. Raises OSError."""
        self._directories = _directories(self.maildir)

    def check_directories(self) -> None:
        """Raises OSError if they are others than at `begin`: renamed, or not mounted any more. What is missing in
        those proves nothing."""
        if self._directories and _directories(self.maildir) != self._directories:
            raise OSError(errno.ESTALE, "new/ or cur/ is another directory than at login", self.maildir)

    def look(self) -> dict[bytes, bytes]:
        """Look at the directories; returns `paths`. Raises OSError if new/ or cur/ cannot be read."""
        self.scan()
        return self.paths

    def scan(self) -> None:
        """Look at the directories, and make no more of it than `listed` and `state`. Raises OSError.

        readdir may leave out a file that is renamed meanwhile. A scan is believed if the times of the directories say
        that nothing was renamed while it went on. If something was, or may have been within one tick of the file
        system's clock, this goes on until another scan brings no base name that was not seen before: three in a row,
        if renaming goes on. What any of them has seen counts. A storm without end is left after MOST_LOOKS more.
        """
        found: dict[bytes, None] = {}
        bases: set[bytes] = set()
        last: list[bytes] | None = None
        agreed = 0
        self._known, self._paths, self._further = None, None, {}
        with self.locked():
            for _ in range(MOST_LOOKS + 1):
                now, before = time.time_ns(), state_of(self.maildir)
                seen = self._listing()
                calm = state_of(self.maildir) == before
                if calm and _settled(before, now):
                    self.listed, self.state = seen, before
                    return
                if seen == last:
                    agreed += 1
                else:
                    known = len(bases)
                    bases.update(map(_base, seen))
                    agreed = agreed + 1 if last is not None and len(bases) == known else 0
                    found.update(dict.fromkeys(seen))
                    last = seen
                if agreed >= (1 if calm else _AGREEING):
                    break
        self.listed, self.state = [*found], UNKNOWN

    def glance(self, wanted: Collection[bytes]) -> None:
        """Find out quickly where some messages are by now. Raises OSError.

        Whether one is gone, and how many have the same base name, only a look can tell.
        """
        paths, wanted = self.paths, {*wanted}
        found: dict[bytes, list[bytes]] = {}
        for path in self._listing():
            base = _base(path)
            if base in wanted and base not in self._further:
                found.setdefault(base, []).append(path)
        for base, there in found.items():
            if len(there) == 1:
                paths[base] = there[0]
            else:
                self._tell_apart(base, there)

    def _listing(self) -> list[bytes]:
        # new/ first: a file moved to cur/ between the two is then seen in one of them at least, and in cur/ for good.
        paths: list[bytes] = []
        for part in (b"new", b"cur"):
            names = os.listdir(b"%s/%s" % (self.maildir, part))
            while names:  # while Python forgets many things at once no other thread runs
                paths += [b"%s/%s" % (part, name) for name in names[-PORTION:] if not name.startswith(b".")]
                del names[-PORTION:]
        return paths

    def know(self, columns: Columns) -> None:
        """Take over where messages are that are all there are, each with its base name for itself."""
        self._known, self._paths, self._further, self.listed = columns, None, {}, []

    @property
    def paths(self) -> dict[bytes, bytes]:
        """Base name -> path, made when it is asked for: a session that only lists does without."""
        if self._paths is None:
            if self._known is not None:
                self._paths = dict(zip(self._known.bases, self._known.paths(), strict=True))
            else:
                self._paths = {_base(path): path for path in self.listed}
                shared: dict[bytes, list[bytes]] = {}
                if len(self._paths) < len(self.listed):
                    for path in self.listed:
                        latest = self._paths[_base(path)]
                        if latest is not path:
                            shared.setdefault(_base(path), [latest]).append(path)
                for base, group in shared.items():
                    self._tell_apart(base, group)
            self._known, self.listed = None, []
        return self._paths

    def _tell_apart(self, base: bytes, group: list[bytes]) -> None:
        """Find out which of the paths with one base name are different files: a file may have been seen twice."""
        files: dict[int, tuple[int, bytes]] = {}
        for path in sorted(group):
            with contextlib.suppress(FileNotFoundError):  # the old name of one that is seen under its new name
                status = os.lstat(self.full(path))
                # Anything else would hide a message behind something that is none.
                if stat.S_ISREG(status.st_mode):
                    files[status.st_ino] = (status.st_mtime_ns, path)
        if files:
            first, *further = [path for _, path in sorted(files.values())]
            self.paths[base] = first
            if further:
                self._further[base] = further

    def shares(self, base: bytes) -> bool:
        """Whether the last look saw several files with this base name."""
        return self._known is None and len(self.places(base)) > 1

    def full(self, path: bytes) -> bytes:
        """A path below the Maildir, made one to open."""
        return b"%s/%s" % (self.maildir, path)

    def places(self, base: bytes) -> Sequence[bytes]:
        """Where the last look saw files with a base name: paths below the Maildir, of different files, oldest first."""
        paths = self.paths
        if base not in paths:
            return ()
        return (paths[base], *self._further.get(base, ()))

    def open(self, message: MaildirMessage) -> tuple[int, os.stat_result]:
        """A descriptor of a message, wherever it is now, and its status.

        Raises FileNotFoundError if it is gone, also if another file has its name; OSError if it cannot be opened, or
        is not of its announced size any more.
        """
        places = (message.path,) if self._is_known(message) else self.places(message.base)
        looked = False
        for nth in range(MOST_TRIES):
            moved = False
            for path in places:
                try:
                    fd, status = open_message(self.full(path))
                except FileNotFoundError:
                    moved = True
                except OSError as failure:
                    if failure.errno not in NO_MAIL:
                        raise
                else:
                    if status.st_ino == message.inode:
                        self.check(fd, status, message)
                        return fd, status
                    os.close(fd)
            if looked and not moved:
                forget(self.maildir)
                raise FileNotFoundError(errno.ENOENT, "gone", message.base)
            looked = nth % MOST_LOOKS == 0
            if looked:
                self.look()
            else:
                self.glance({message.base})
            places = self.places(message.base)
        raise OSError(errno.EBUSY, "renamed again and again", message.base)

    def not_as_announced(self) -> OSError:
        """The error for a message of another size than it was said to have: what is known of it is forgotten, so that
        the next login measures it. Raises OSError if it cannot be forgotten."""
        forget(self.maildir)
        return OSError(errno.ESTALE, "changed since login")

    def _is_known(self, message: MaildirMessage) -> bool:
        """Whether it is where it was at login, as far as anybody has needed to know where all the others are."""
        return self._known is not None and bool(message.path)

    def where(self, message: MaildirMessage) -> bytes:
        """The path of a message at the last look, to open; if that did not see it, one where nothing is."""
        return self.full(message.path if self._is_known(message) else self.paths.get(message.base, message.base))

    def check(self, fd: int, status: os.stat_result, message: MaildirMessage) -> None:
        """Closes it and raises OSError if it has been written to and is of another size now; what the index says of it
        is forgotten then."""
        if message.is_as_it_was(status):
            return
        try:
            if _octets(fd, status.st_size) != message.octets:
                raise self.not_as_announced()
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise


def _directories(maildir: bytes) -> tuple[int, ...]:
    """Device and inode of new/ and of cur/. Raises OSError."""
    new, cur = os.stat(maildir + b"/new"), os.stat(maildir + b"/cur")
    return new.st_dev, new.st_ino, cur.st_dev, cur.st_ino


def _settled(state: State, now: int) -> bool:
    """Whether directories were changed so long ago that another change would show."""
    return all(stamp < now - SETTLED_NS for stamp in (state[1], state[2], state[4], state[5]))


def _base(path: bytes) -> bytes:
    return base_name(path[len(b"new/") :])


def move_new(maildir: bytes) -> None:
    """Move what is in new/ to cur/, without flags, as Maildir readers do. Raises OSError if new/ cannot be read.

    What cannot be moved stays where it is, and is read there; so does what is no file, and what has a name in cur/
    already. Nothing is ever taken out of tmp/.
    """
    for name in os.listdir(maildir + b"/new"):
        if name.startswith(b".") or b":" in name:
            continue
        source, target = b"%s/new/%s" % (maildir, name), b"%s/cur/%s:2," % (maildir, name)
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.lstat(source).st_mode) and not os.path.lexists(target):
                os.rename(source, target)


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


def measure(path: bytes, known: Columns | None = None, at: int = 0) -> tuple[int, os.stat_result]:
    """The exact size of a message as it will be sent, in octets, and the status of its file. Raises OSError.

    A file that is the one of `known` at an index is not read.
    """
    fd, status = open_message(path)
    try:
        if known is not None and known.same(at, status):
            return known.octets[at], status
        return _octets(fd, status.st_size), status
    except OSError as failure:
        failure.filename = path  # read does not say whose fault it was
        raise
    finally:
        os.close(fd)


def _octets(fd: int, size: int) -> int:
    """The size as sent of a file, from where it is read. Raises OSError."""
    chunk = os.read(fd, min(size, READ_OCTETS))
    if len(chunk) == size:  # as most are
        return octets_of(chunk)
    counter = OctetCounter()
    counter.update(chunk)
    size -= len(chunk)
    # No further than it was long: somebody may be writing faster than we read.
    while size > 0 and (chunk := os.read(fd, min(size, READ_OCTETS))):
        counter.update(chunk)
        size -= len(chunk)
    return counter.finish()
