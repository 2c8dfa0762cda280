"""What becomes of the file of a message that is removed. Blocking; called in threads."""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

from .deliver import sync_directory
from .names import base_name

_DELETED: Final = b"T"


class Disposal(Protocol):
    """One way for a file to go. Paths are below the Maildir, such as `cur/x:2,S`."""

    def dispose(self, maildir: bytes, path: bytes) -> None:
        """Raises FileNotFoundError if nothing is there any more, OSError if it cannot be done."""

    def is_done(self, path: bytes) -> bool:
        """Whether a file at such a path counts as removed."""

    def sync(self, maildir: bytes) -> None:
        """Make what was done durable. Raises OSError."""


def _sync(maildir: bytes) -> None:
    """Both directories, always: what is gone may have been removed by a session that did not live to sync it."""
    for part in (b"new", b"cur"):
        sync_directory(b"%s/%s" % (maildir, part))


class Unlink:
    """Gone for good."""

    def dispose(self, maildir: bytes, path: bytes) -> None:
        """Unlink it."""
        os.unlink(b"%s/%s" % (maildir, path))

    def is_done(self, path: bytes) -> bool:
        """Never: it would not be there."""
        return False

    def sync(self, maildir: bytes) -> None:
        """new/ and cur/."""
        _sync(maildir)


class Flag:
    """Marked with T, as IMAP servers mark what has `\\Deleted`; expunging is left to them."""

    def dispose(self, maildir: bytes, path: bytes) -> None:
        """Rename it, into cur/ if it is in new/: only there a name has flags."""
        target = _flagged(path)
        if os.path.lexists(b"%s/%s" % (maildir, target)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(b"%s/%s" % (maildir, path), b"%s/%s" % (maildir, target))

    def is_done(self, path: bytes) -> bool:
        """Whether it has the flag, whoever has set it."""
        return is_flagged(path)

    def sync(self, maildir: bytes) -> None:
        """new/ and cur/."""
        _sync(maildir)


def is_flagged(path: bytes) -> bool:
    """Whether a file is marked as deleted: `cur/x:2,ST`. In new/ nothing has flags."""
    base, flags, _ = _flags(path[len(b"new/") :])
    return path.startswith(b"cur/") and base != b"" and _DELETED in flags


def _flagged(path: bytes) -> bytes:
    base, flags, rest = _flags(path[len(b"new/") :])
    if not base or base_name(path[len(b"new/") :]) != base:
        # A name that begins with a colon is an identity as a whole, and has no place for flags.
        raise OSError(errno.EINVAL, "no flag can be set", path)
    return b"cur/%s:2,%s%s" % (base, bytes(sorted({*flags, *_DELETED})), rest)


def _flags(name: bytes) -> tuple[bytes, bytes, bytes]:
    """Base name, flags, and what other programs have put behind them and a comma."""
    base, _, info = name.partition(b":")
    if not info.startswith(b"2,"):
        return base, b"", b""
    flags, comma, rest = info[2:].partition(b",")
    return base, flags, comma + rest
