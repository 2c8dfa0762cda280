"""When the messages of a Maildir arrived. Blocking; called in threads."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from .names import arrival
from .scan import MaildirMessage, Whereabouts

# 1995, when there were no Maildirs yet: a name that begins with a smaller number does not begin with a time.
_NO_TIME_BEFORE: Final = 788_918_400


def times_of_arrival(files: Whereabouts, messages: Sequence[MaildirMessage]) -> list[int]:
    """Seconds since the epoch, message by message: what the name begins with, or when the file was written.

    A message that is gone by now is said to have come just now: a view shows what has come lately, and hides nothing
    that is not known to be old. Raises OSError.
    """
    return [_arrived(files, message) for message in messages]


def _arrived(files: Whereabouts, message: MaildirMessage) -> int:
    seconds, _, _ = arrival(message.base, 0)
    if seconds >= _NO_TIME_BEFORE:
        return seconds
    for path in files.places(message.base):
        try:
            status = os.lstat(files.full(path))
        except FileNotFoundError:
            continue
        if status.st_ino == message.inode:
            return int(status.st_mtime)
    return int(time.time())
