"""Cyrus: unique-ids made of UIDVALIDITY and UIDs that an administrator has to give, for its spool is no Maildir.

The UID of a message is the name of its file in the spool, `123.`. If the Maildir was made by copying these files under
their names, that says it all; if a program made the Maildir, a list has lines `<uid> <base name>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .formats import UidlFormat
from .old import OldIds, SourceError, base_of, number

_MOST_UID: Final = 2**32 - 1
_SPOOLED: Final = re.compile(rb"([1-9][0-9]{0,9})\.")


def read_list(path: str, data: bytes, uidvalidity: int, uidl_format: UidlFormat) -> OldIds:
    """From a list; blank lines and comments (`#`) are left out. `path` is for messages. Raises SourceError."""
    found: dict[bytes, int] = {}
    for at, line in enumerate(data.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        uid_text, _, name = line.strip().partition(b" ")
        uid, base = number(uid_text, _MOST_UID), base_of(name.strip())
        if not uid or base is None:
            raise SourceError(f"{path} line {at}: not a UID and a base name")
        if found.setdefault(base, uid) != uid:
            raise SourceError(f"{path} line {at}: another UID for the same message")
    return _ids(found, uidvalidity, uidl_format)


def from_names(bases: Iterable[bytes], uidvalidity: int, uidl_format: UidlFormat) -> OldIds:
    """From base names that are names of a Cyrus spool. Raises SourceError if none is."""
    matches = ((base, _SPOOLED.fullmatch(base)) for base in bases)
    found = {base: int(match[1]) for base, match in matches if match is not None}
    if not found:
        raise SourceError("no file of the Maildir is named as in a Cyrus spool (`123.`); give a list with --file")
    return _ids(found, uidvalidity, uidl_format)


def _ids(found: dict[bytes, int], uidvalidity: int, uidl_format: UidlFormat) -> OldIds:
    in_order = sorted(found.items(), key=lambda item: item[1])
    return OldIds({base: uidl_format(uid, uidvalidity, base, base) for base, uid in in_order})
