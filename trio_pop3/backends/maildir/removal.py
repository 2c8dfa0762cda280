"""Removing messages, in whatever way. Blocking; called in threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Final

from .disposal import Disposal, Unlink
from .index import forget
from .scan import MOST_LOOKS, MaildirMessage, Whereabouts

logger = logging.getLogger("trio_pop3.maildir")

# Files removed in one step; between two steps a deadline may act.
_REMOVED_AT_ONCE: Final = 500


class Removal:
    """Removes messages step by step: `while not removal.step(): ...`, then see what is `left`.

    What is gone already is a success, so that all of it can be repeated; but not where new/ and cur/ are not those of
    the login. No file is ever removed but the one that was shown: it has the base name and the inode of the message,
    and nobody has written to it since.
    """

    __slots__ = ("_disposal", "_files", "_hopeless", "_looks", "_marked", "_queue", "_removed", "left")

    def __init__(self, files: Whereabouts, marked: Sequence[MaildirMessage], disposal: Disposal | None = None) -> None:
        self._files: Final = files
        self._disposal: Final = Unlink() if disposal is None else disposal
        self._marked: Final = marked
        self._queue = list(marked)
        self._removed: set[int] = set()
        self._hopeless: set[MaildirMessage] = set()
        self._looks = 0
        self.left = list(marked)

    @property
    def remaining(self) -> int:
        """How many are left."""
        return len(self.left)

    def step(self) -> bool:
        """Go on for a while; True if that was the end of it, and what is gone stays gone after a power cut.

        Raises OSError if the directories cannot be read or synced, or are others: then nobody knows what remains.
        """
        self._files.check_directories()
        batch, self._queue = self._queue[:_REMOVED_AT_ONCE], self._queue[_REMOVED_AT_ONCE:]
        for message in batch:
            self._remove(message)
        if self._queue:
            return False
        # Only a look can tell what was renamed under our hands, or is there twice: some agents link and then unlink.
        there = self._files.look()
        self._files.check_directories()
        left = [message for message in self._marked if message.base in there and self._remains(message)]
        self.left = left
        self._looks += 1
        if self._looks < MOST_LOOKS:
            self._queue = [message for message in left if message not in self._hopeless]
        if self._queue:
            return False
        self._disposal.sync(self._files.maildir)
        return True

    def _remove(self, message: MaildirMessage) -> None:
        for path in self._files.places(message.base):
            full = self._files.full(path)
            try:
                status = os.lstat(full)
                if status.st_ino != message.inode or self._disposal.is_done(path):
                    continue
                if not message.is_as_it_was(status):
                    self._stays(message, "has been written to since login")
                    continue
                self._disposal.dispose(self._files.maildir, path)
                self._removed.add(message.inode)
            except FileNotFoundError:
                pass  # renamed or gone
            except OSError as failure:
                logger.error("cannot remove %a: %s", os.fsdecode(full), failure.strerror)
                self._hopeless.add(message)

    def _remains(self, message: MaildirMessage) -> bool:
        """Whether a message is still there, or may be, after a look that saw its base name."""
        inodes = {path: inode_of(self._files.full(path)) for path in self._files.places(message.base)}
        done = {path for path, inode in inodes.items() if inode == message.inode and self._disposal.is_done(path)}
        others = {inode for path, inode in inodes.items() if path not in done}
        if message.inode in others or None in others:
            return True
        if done or message.inode in self._removed:
            return False  # what has the name now is another message
        if message not in self._hopeless:
            self._stays(message, "is not the file that was shown")
        return True

    def _stays(self, message: MaildirMessage, why: str) -> None:
        """Leave it alone. What the index says of it may be the reason, and must not be it again at the next login."""
        logger.error("%a %s, so it stays", os.fsdecode(message.base), why)
        self._hopeless.add(message)
        try:
            forget(self._files.maildir)
        except OSError as failure:
            logger.error("cannot delete the index of %a: %s", os.fsdecode(self._files.maildir), failure.strerror)


def inode_of(path: bytes) -> int | None:
    """Of what is there now; None if nothing is. Raises OSError."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None
