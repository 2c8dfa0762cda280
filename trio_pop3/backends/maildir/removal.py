"""Removing messages for good. Blocking; called in threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Final

from .deliver import sync_directory
from .scan import MOST_LOOKS, Whereabouts

logger = logging.getLogger("trio_pop3.maildir")

# Files removed in one step; between two steps a deadline may act.
_REMOVED_AT_ONCE: Final = 500


class Removal:
    """Removes messages by base name, step by step: `while not removal.step(): ...`, then see `remaining`.

    What is gone already is a success, so that all of it can be repeated. No other base name is ever removed.
    """

    __slots__ = ("_files", "_hopeless", "_looks", "_marked", "_queue", "remaining")

    def __init__(self, files: Whereabouts, bases: Iterable[bytes]) -> None:
        self._files: Final = files
        self._marked: Final = tuple(bases)
        self._queue = list(self._marked)
        self._hopeless: set[bytes] = set()
        self._looks = 0
        self.remaining = len(self._marked)

    def step(self) -> bool:
        """Go on for a while; True if that was the end of it, and what is gone stays gone after a power cut.

        Raises OSError if the directories cannot be read or synced: then nobody knows what remains.
        """
        batch, self._queue = self._queue[:_REMOVED_AT_ONCE], self._queue[_REMOVED_AT_ONCE:]
        for base in batch:
            self._unlink(base)
        if self._queue:
            return False
        # Only a look can tell what was renamed under our hands, or is there twice: some agents link and then unlink.
        there = self._files.look()
        left = [base for base in self._marked if base in there]
        self.remaining = len(left)
        self._looks += 1
        if self._looks < MOST_LOOKS:
            self._queue = [base for base in left if base not in self._hopeless]
        if self._queue:
            return False
        # Both directories, always: what was gone may have been removed by a session that did not live to sync it.
        for part in (b"new", b"cur"):
            sync_directory(b"%s/%s" % (self._files.maildir, part))
        return True

    def _unlink(self, base: bytes) -> None:
        if base not in self._files.paths:
            return
        try:
            os.unlink(self._files.path(base))
        except FileNotFoundError:
            pass
        except OSError as failure:
            logger.error("cannot remove %a: %s", os.fsdecode(self._files.path(base)), failure.strerror)
            self._hopeless.add(base)
