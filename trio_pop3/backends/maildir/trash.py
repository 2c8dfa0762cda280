"""The Maildir++ folder that removed messages are moved to, and their way back. Blocking; called in threads."""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .disposal import Unlink
from .identity import own
from .names import base_name, new_name

# `.Trash`, `.INBOX.Trash`: what Maildir++ calls a folder, and no file of ours.
_FOLDER: Final = re.compile(r"(?!\.trio-pop3)(?:\.[^/.\x00-\x1f\x7f]+)+")
_SECONDS: Final = re.compile(rb"[0-9]{1,12}(?=\.)")
_DAY: Final = 86400

# Files looked at in one session, and in one step of it; what is left is for the next session.
_LOOKED_AT: Final = 5000
_AT_ONCE: Final = 500


def check_folder(name: str) -> None:
    """Raises ValueError for what is no folder of a Maildir."""
    if not _FOLDER.fullmatch(name) or len(os.fsencode(name)) > 200:
        raise ValueError(f"trash must be the name of a Maildir++ folder, such as .Trash, not {name!r}")


class Trash:
    """The folder, open. Its directories are held by descriptors: no link leads a message out of the Maildir."""

    __slots__ = ("_parts", "path")

    def __init__(self, path: bytes, parts: dict[str, int]) -> None:
        self.path: Final = path
        self._parts: Final = parts

    # --- as a Disposal ---------------------------------------------------------------------------------------------

    def dispose(self, maildir: bytes, path: bytes) -> None:
        """Move a file into the folder, under its own name, so that it can come back with its own unique-id.

        Another file that has this name there stays: then the one that is moved gets a new name.
        """
        part, _, name = path.partition(b"/")
        fd = self._parts[part.decode("ascii")]
        target = new_name().encode("ascii") if _exists(fd, name) else name
        os.rename(b"%s/%s" % (maildir, path), target, dst_dir_fd=fd)

    def is_done(self, path: bytes) -> bool:
        """Never: it would not be there."""
        return False

    def sync(self, maildir: bytes) -> None:
        """Where the files are now before where they were: a power cut may leave one in both, and never in none."""
        self._sync()
        Unlink().sync(maildir)

    def _sync(self) -> None:
        for fd in self._parts.values():
            os.fsync(fd)

    # --- what is in it ---------------------------------------------------------------------------------------------

    def expire(self, days: int) -> Iterator[None]:
        """Remove what has been here for more than so many days, step by step. Raises OSError.

        That is told by the time of the last change of the file's name or flags, so what an IMAP client has put here,
        or looked at, goes as well, so many days later.
        """
        limit = time.time() - days * _DAY
        left = _LOOKED_AT
        for fd in self._parts.values():
            # What arrived after the limit cannot have been here before it. The oldest are likeliest to be due.
            arrivals = ((_arrived(os.fsencode(name)), name) for name in os.listdir(fd))
            candidates = heapq.nsmallest(left, (arrival for arrival in arrivals if arrival[0] < limit))
            left -= len(candidates)
            for start in range(0, len(candidates), _AT_ONCE):
                for _, name in candidates[start : start + _AT_ONCE]:
                    with contextlib.suppress(FileNotFoundError):
                        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode) and status.st_ctime < limit:
                            os.unlink(name, dir_fd=fd)
                yield

    def contents(self) -> list[Discarded]:
        """Every message in it, the one that was put there last first. Raises OSError."""
        found = []
        for part, fd in self._parts.items():
            for name in map(os.fsencode, os.listdir(fd)):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append(Discarded(part, name, int(status.st_ctime), status.st_size))
        return sorted(found, key=lambda discarded: (-discarded.since, discarded.name))

    def restore(self, maildir: bytes, discarded: Discarded) -> None:
        """Move a message back to where it was. Durable after `sync_restored`. Raises OSError.

        The caller has seen that no file in the Maildir has its base name.
        """
        target = b"%s/%s/%s" % (maildir, discarded.part.encode("ascii"), discarded.name)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(discarded.name, target, src_dir_fd=self._parts[discarded.part])

    def sync_restored(self, maildir: bytes) -> None:
        """As `sync`, for the other direction."""
        Unlink().sync(maildir)
        self._sync()


@dataclass(frozen=True, slots=True)
class Discarded:
    """A message in the trash. since: seconds since 1970. stored: octets of the file, not those that RETR would send."""

    part: str
    name: bytes
    since: int
    stored: int

    @property
    def base(self) -> bytes:
        """Its base name: with it comes its unique-id."""
        return base_name(self.name)


@contextmanager
def trash(maildir: bytes, name: str, *, make: bool = True) -> Iterator[Trash]:
    """The folder, open until the end of the block; made with the mode and the owner of the Maildir if it is missing.

    Raises OSError; FileNotFoundError if it is missing and not to be made.
    """
    with contextlib.ExitStack() as stack:

        def held(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        root = held(_directory(maildir))
        like = os.fstat(root) if make else None
        folder = held(_subdirectory(root, os.fsencode(name), like))
        new, cur, _ = (held(_subdirectory(folder, part, like)) for part in (b"new", b"cur", b"tmp"))
        if like is not None:
            _mark(folder, like)
        yield Trash(b"%s/%s" % (maildir, os.fsencode(name)), {"new": new, "cur": cur})


def _directory(path: bytes, at: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if at is not None else 0), dir_fd=at)


def _subdirectory(at: int, name: bytes, like: os.stat_result | None) -> int:
    """A directory in a directory, made if it is missing and `like` says how."""
    try:
        return _directory(name, at)
    except FileNotFoundError:
        if like is None:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=at)
    fd = _directory(name, at)
    try:
        own(fd, like)
        os.fchmod(fd, stat.S_IMODE(like.st_mode))
        os.fsync(at)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _mark(folder: int, like: os.stat_result) -> None:
    """The file by which delivery agents know that this is a folder, and whose quota it counts in."""
    with contextlib.suppress(FileExistsError):
        fd = os.open("maildirfolder", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        try:
            own(fd, like)
            os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o666)
        finally:
            os.close(fd)


def _exists(fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _arrived(name: bytes) -> int:
    """Seconds, from the name; 0 if it does not say."""
    match = _SECONDS.match(name)
    return int(match[0]) if match else 0
