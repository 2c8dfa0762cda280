"""Which messages in the trash come from a folder: the file `.trio-pop3.trashed` of that folder. Blocking.

It is in the folder and not in the trash, since the lock of the session is on the folder: sessions on two folders move
messages to one trash at the same time. It goes where the folder goes when that is renamed or removed.

A line is a base name, with `\\xHH` for what is no visible ASCII. It is written before the message is moved. A folder
whose file is missing has sent nothing there: what no folder remembers came from the inbox, which has no such file.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

from .files import read_lines, write_lines
from .uids import escaped

logger = logging.getLogger("trio_pop3.maildir")

TRASHED: Final = b".trio-pop3.trashed"
_LINE: Final = re.compile(rb"((?:[\x21-\x5b\x5d-\x7e]|\\x[0-9a-f]{2})+)\n")
_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")


def trashed(folder: bytes) -> set[bytes]:
    """Base names of what was moved from a folder to the trash, and may be gone from there by now.

    A damaged line is left out, and logged: what it was about has come from the inbox then. Raises OSError.
    """
    path = b"%s/%s" % (folder, TRASHED)
    bases: set[bytes] = set()
    bad = 0
    for line in read_lines(path):
        if match := _LINE.fullmatch(line):
            bases.add(_ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), match[1]))
        else:
            bad += 1
    if bad:
        logger.error("%a: %d damaged lines are left out", os.fsdecode(path), bad)
    return bases


def remember(folder: bytes, bases: Iterable[bytes]) -> None:
    """Write down that these are or will be in the trash, and no other; durable when this returns. Raises OSError."""
    write_lines(folder, TRASHED, (b"%s\n" % escaped(base).encode("ascii") for base in bases))


def folders(maildir: bytes) -> Iterator[bytes]:
    """The directories of the folders of a Maildir that remember something. A link is no folder. Raises OSError."""
    with os.scandir(maildir) as entries:
        for entry in entries:
            is_folder = entry.name.startswith(b".") and entry.is_dir(follow_symlinks=False)
            if is_folder and os.path.lexists(b"%s/%s" % (entry.path, TRASHED)):
                yield entry.name
