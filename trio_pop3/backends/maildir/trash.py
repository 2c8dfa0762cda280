"""The Maildir++ folder that removed messages are moved to, and their way back. Blocking; called in threads."""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .disposal import Unlink
from .identity import own
from .names import base_name, new_name
from .origin import remember, trashed
from .scan import Whereabouts

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

    __slots__ = ("_from", "_parts", "_remembered", "_taken", "path")

    def __init__(self, path: bytes, parts: dict[str, int]) -> None:
        self.path: Final = path
        self._parts: Final = parts
        self._from: bytes | None = None
        self._taken: Collection[bytes] = ()
        self._remembered: set[bytes] = set()

    def expect(self, folder: bytes, bases: Sequence[bytes]) -> None:
        """Write down in a folder what is about to come from there, so that it can go back there.

        Durable when this returns. What is gone from the trash is forgotten. Raises OSError.
        """
        self._from = folder
        self._taken = Whereabouts(self.path).look()
        self._remembered = {base for base in trashed(folder) if base in self._taken}
        self._remembered.update(base for base in bases if base not in self._taken)
        remember(folder, self._remembered)

    def _renamed(self) -> bytes:
        name = new_name().encode("ascii")
        if self._from is not None:
            self._remembered.add(name)
            remember(self._from, self._remembered)
        return name

    # --- as a Disposal ---------------------------------------------------------------------------------------------

    def dispose(self, maildir: bytes, path: bytes) -> None:
        """Move a file into the folder, under its own name, so that it can come back with its own unique-id.

        Another file that has this name there stays: then the one that is moved gets a new name. So does one from a
        folder whose base name is there, which would tell where both came from.
        """
        part, _, name = path.partition(b"/")
        fd = self._parts[part.decode("ascii")]
        target = self._renamed() if base_name(name) in self._taken or _exists(fd, name) else name
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

    def restore(self, maildir: bytes, folder: bytes | None, discarded: Discarded) -> None:
        """Move a message back to a Maildir, or into a folder of it. Durable after `sync_restored`. Raises OSError.

        The caller has seen that no file there has its base name. No link is followed to a folder, or in it.
        """
        part = discarded.part.encode("ascii")
        with contextlib.ExitStack() as stack:
            if folder is None:
                target = _held(stack, _directory(b"%s/%s" % (maildir, part)))
            else:
                target = _held(stack, _directory(maildir))
                for name in (folder, part):
                    target = _held(stack, _directory(name, target))
            if _exists(target, discarded.name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), discarded.name)
            os.rename(discarded.name, discarded.name, src_dir_fd=self._parts[discarded.part], dst_dir_fd=target)

    def sync_restored(self, maildirs: Iterable[bytes]) -> None:
        """As `sync`, for the other direction; of these Maildirs and folders."""
        for maildir in maildirs:
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
    path = b"%s/%s" % (maildir, os.fsencode(name))
    with contextlib.ExitStack() as stack:
        root = _held(stack, _directory(maildir))
        like = os.fstat(root) if make else None
        folder = _held(stack, _subdirectory(root, path, like))
        new, cur, _ = (
            _held(stack, _subdirectory(folder, b"%s/%s" % (path, part), like)) for part in (b"new", b"cur", b"tmp")
        )
        if like is not None:
            _mark(folder, like)
        yield Trash(path, {"new": new, "cur": cur})


def _held(stack: contextlib.ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _directory(path: bytes, at: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if at is not None else 0), dir_fd=at)


def _subdirectory(at: int, path: bytes, like: os.stat_result | None) -> int:
    """The directory of a path in the directory that holds it, made if it is missing and `like` says how."""
    try:
        return _found_or_made(at, os.path.basename(path), like)
    except OSError as failure:
        failure.filename = path
        raise


def _found_or_made(at: int, name: bytes, like: os.stat_result | None) -> int:
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
