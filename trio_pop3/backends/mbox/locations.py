"""Where what we keep of a mailbox is: the lock of its session, the journal of its commits, unique-ids."""

from __future__ import annotations

import fnmatch
import glob
import os
import urllib.parse
from collections.abc import Iterator
from typing import Final

from ..maildir.paths import PathPattern

STATE_NAME: Final = ".trio-pop3"
LOCK_SUFFIX: Final = b".lock"


def state_of(path: bytes, state: str | None) -> bytes:
    """What the names of all of it begin with. `state`: a directory for all mailboxes; None is one beside each."""
    if state is None:
        return b"%s/%s/%s" % (os.path.dirname(path), STATE_NAME.encode(), os.path.basename(path))
    return os.fsencode(state) + b"/" + urllib.parse.quote(os.path.abspath(path), safe="").encode()


def session_locks(pattern: PathPattern, state: str | None) -> Iterator[tuple[bytes, bytes]]:
    """Mailbox and lock file of every session there ever was; the mailbox itself need not be there."""
    fits = os.path.abspath(pattern.glob)
    if state is None:
        directory, name = os.path.split(fits)
        for found in glob.iglob(os.path.join(directory, STATE_NAME, name + os.fsdecode(LOCK_SUFFIX))):
            lock = os.fsencode(found)
            yield os.path.dirname(os.path.dirname(lock)) + b"/" + _stem(lock), lock
        return
    for found in glob.iglob(os.path.join(glob.escape(state), "*" + os.fsdecode(LOCK_SUFFIX))):
        lock = os.fsencode(found)
        mailbox = urllib.parse.unquote_to_bytes(_stem(lock))
        # Here, other than in `glob`, a * matches a slash as well.
        if mailbox.count(b"/") == fits.count("/") and fnmatch.fnmatchcase(os.fsdecode(mailbox), fits):
            yield mailbox, lock


def _stem(lock: bytes) -> bytes:
    return os.path.basename(lock).removesuffix(LOCK_SUFFIX)
