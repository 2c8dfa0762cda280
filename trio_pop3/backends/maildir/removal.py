"""Removing messages for good. Blocking; called in threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Final

from .deliver import sync_directory
from .scan import MOST_LOOKS, MaildirMessage, Whereabouts

logger = logging.getLogger("trio_pop3.maildir")

# Files removed in one step; between two steps a deadline may act.
_REMOVED_AT_ONCE: Final = 500


class Removal:
    """Removes messages step by step: `while not removal.step(): ...`, then see `remaining`.

    What is gone already is a success, so that all of it can be repeated. No file is ever removed but the one that was
    shown: it has the base name and the inode of the message.
    """

    __slots__ = ("_files", "_hopeless", "_looks", "_marked", "_queue", "_removed", "remaining")

    def __init__(self, files: Whereabouts, marked: Sequence[MaildirMessage]) -> None:
        self._files: Final = files
        self._marked: Final = marked
        self._queue = list(marked)
        self._removed: set[int] = set()
        self._hopeless: set[MaildirMessage] = set()
        self._looks = 0
        self.remaining = len(marked)

    def step(self) -> bool:
        """Go on for a while; True if that was the end of it, and what is gone stays gone after a power cut.

        Raises OSError if the directories cannot be read or synced: then nobody knows what remains.
        """
        batch, self._queue = self._queue[:_REMOVED_AT_ONCE], self._queue[_REMOVED_AT_ONCE:]
        for message in batch:
            self._remove(message)
        if self._queue:
            return False
        # Only a look can tell what was renamed under our hands, or is there twice: some agents link and then unlink.
        there = self._files.look()
        left = [message for message in self._marked if message.base in there and self._remains(message)]
        self.remaining = len(left)
        self._looks += 1
        if self._looks < MOST_LOOKS:
            self._queue = [message for message in left if message not in self._hopeless]
        if self._queue:
            return False
        # Both directories, always: what was gone may have been removed by a session that did not live to sync it.
        for part in (b"new", b"cur"):
            sync_directory(b"%s/%s" % (self._files.maildir, part))
        return True

    def _remove(self, message: MaildirMessage) -> None:
        for path in self._files.places(message.base):
            full = self._files.full(path)
            try:
                if _inode(full) == message.inode:
                    os.unlink(full)
                    self._removed.add(message.inode)
            except FileNotFoundError:
                pass  # renamed or gone
            except OSError as failure:
                logger.error("cannot remove %a: %s", os.fsdecode(full), failure.strerror)
                self._hopeless.add(message)

    def _remains(self, message: MaildirMessage) -> bool:
        """Whether a message is still there, or may be, after a look that saw its base name."""
        inodes = [_inode(self._files.full(path)) for path in self._files.places(message.base)]
        if message.inode in inodes or None in inodes:
            return True
        if message.inode in self._removed:
            return False  # what has the name now is another message
        if message not in self._hopeless:
            logger.error("%a is not the file that was shown, so it stays", os.fsdecode(message.base))
            self._hopeless.add(message)
        return True


def _inode(path: bytes) -> int | None:
    """Of what is there now; None if nothing is. Raises OSError."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None
