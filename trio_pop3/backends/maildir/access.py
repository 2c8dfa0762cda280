"""The way from the root of all mail to one Maildir, step by step: nobody else's links lead out of it. Blocking.

Who runs the server may move mail about and put links where it was. Who owns a Maildir may put a link into it as well,
to somebody else's mail; and where the server may read everything, it would. So a symbolic link is followed if root or
the user that the server runs as has made it, and no other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ...backend import NoSuchFolder
from .identity import Identity, check_powers

# As the kernel has it.
_MOST_LINKS: Final = 40


class ForeignLink(OSError):
    """A symbolic link that somebody else has made stands in the way."""


def check_owning(*, follow_symlinks: bool, as_owner: bool) -> None:
    """Raises ValueError for options that do not go together, OSError for what this process may not do."""
    if as_owner and follow_symlinks:
        raise ValueError("as_owner cannot go with follow_symlinks: a link would lead to another owner's mail")
    if as_owner:
        check_powers()


class Access:
    """How one session works on a Maildir: the way is checked before the first piece of work, and the owner found out.

    Args:
        root: what the pattern has the Maildir in.
        maildir: the user's Maildir, not a folder of it.
        folder: a directory below it, or None for the Maildir itself.
        run_sync: runs blocking work in threads.
        follow_symlinks: the way is not checked.
        as_owner: whether everything is done as the owner of the Maildir.
        parts: the directories in it, or in the folder, that are worked on.
    """

    __slots__ = (
        "_as_owner",
        "_entered",
        "_folder",
        "_follow_symlinks",
        "_identity",
        "_parts",
        "_root",
        "_run_sync",
        "maildir",
    )

    def __init__(
        self,
        root: bytes,
        maildir: bytes,
        folder: bytes | None,
        run_sync: Callable[..., Awaitable[Any]],
        *,
        follow_symlinks: bool,
        as_owner: bool,
        parts: Sequence[bytes] = (b"cur", b"new"),
    ) -> None:
        self._root: Final = root
        self.maildir: Final = maildir
        self._folder: Final = folder
        self._run_sync: Final = run_sync
        self._follow_symlinks: Final = follow_symlinks
        self._as_owner: Final = as_owner
        self._parts: Final = parts
        self._entered = False
        self._identity: Identity | None = None

    @property
    def path(self) -> bytes:
        """The directory that holds the mail of the session."""
        return self.maildir if self._folder is None else b"%s/%s" % (self.maildir, self._folder)

    async def run_sync(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run blocking work in a thread. Raises OSError or NoSuchFolder, the first time, if there is no way."""
        if self._entered and self._identity is None:
            return await self._run_sync(work, *args)
        return await self._run_sync(self.do, work, *args)

    def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """`run_sync`, in this thread."""
        if not self._entered:
            status = self._enter()
            if self._as_owner:
                self._identity = Identity.of_owner(status)
            self._entered = True
        if self._identity is None:
            return work(*args)
        with self._identity.assumed():
            return work(*args)

    def _enter(self) -> os.stat_result:
        below = b"" if self._folder is None else self._folder + b"/"
        parts = [below + part for part in self._parts]
        try:
            if self._follow_symlinks:
                for part in parts:
                    os.stat(self.maildir + b"/" + part)
                return os.stat(self.maildir)
            return check_way(self._root, self.maildir, parts)
        except FileNotFoundError:
            if self._folder is not None and os.path.exists(self.maildir + b"/cur"):
                raise NoSuchFolder from None
            raise


def check_way(root: bytes, maildir: bytes, parts: Sequence[bytes]) -> os.stat_result:
    """Walk from the root to a Maildir below it, and into its parts; returns the status of the Maildir itself.

    Of the components behind the root, a link is followed if root or our own user owns it, and so for those in what it
    leads to. The root itself is as it may be.

    What was looked at can be changed a moment later by who owns a directory on the way: this stops links that are
    there, and not somebody who races us. Working as the owner of the Maildir does (see `identity`).

    Raises OSError: ForeignLink, or if something on the way is missing or no directory.
    """
    fd = _walk(os.open(root, os.O_PATH | os.O_DIRECTORY), os.path.relpath(maildir, root))
    try:
        for part in parts:
            os.close(_walk(os.dup(fd), part))
        return os.fstat(fd)
    except OSError as failure:
        failure.filename = maildir if failure.filename is None else failure.filename
        raise
    finally:
        os.close(fd)


def _walk(fd: int, path: bytes) -> int:
    """From an open directory, which is closed, along a path; returns a descriptor of where it ends."""
    left = deque(_components(path))
    links = 0
    try:
        while left:
            component = left.popleft()
            step = os.open(component, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
            status = os.fstat(step)
            if stat.S_ISDIR(status.st_mode):
                os.close(fd)
                fd = step
                continue
            try:
                links += 1
                target = _target(step, status, component, links)
            finally:
                os.close(step)
            left.extendleft(reversed(_components(target)))
            if target.startswith(b"/"):
                top = os.open(b"/", os.O_PATH | os.O_DIRECTORY)
                os.close(fd)
                fd = top
    except BaseException:
        os.close(fd)
        raise
    return fd


def _components(path: bytes) -> list[bytes]:
    return [component for component in path.split(b"/") if component]


def _target(link: int, status: os.stat_result, name: bytes, links: int) -> bytes:
    """What is written in an open link, which is the one that was looked at, whatever has its name by now."""
    if not stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    if status.st_uid not in (0, os.geteuid()):
        reason = f"a symbolic link of uid {status.st_uid} is not followed without follow_symlinks"
        raise ForeignLink(errno.ELOOP, reason, name)
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return os.readlink(b"", dir_fd=link)
