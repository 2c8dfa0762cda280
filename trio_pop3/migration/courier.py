"""Courier's `courierpop3dsizelist`, all versions.

    /3 7 1795564812
    1700000001.M1P1.host:2,S 517 1:1795564812:0

- 3: `<file name> <octets> <n>:<uidvalidity>:<whether it has UTF-8 headers>`; 2: the same without the last.
- 1: `/1 <next>`, and `<file name> <octets> <n>`.
- 0: no first line, and `<file name> <octets>`.

The unique-id is `UID<n>-<uidvalidity>`, or `UID<n>` without one; for n = 0 and in version 0 the base name, with `+HH`
for some octets. The sizes are not used: Courier counts messages with CRLF wrong.
"""

from __future__ import annotations

import re
from typing import Final

from .old import OldIds, SourceError, base_of, number

FILE_NAME: Final = "courierpop3dsizelist"
_HEADER: Final = re.compile(rb"/([123]) [0-9]+(?: [0-9]+)?\s*")
# How many numbers the last field of a line has.
_NUMBERS: Final = {b"0": (0,), b"1": (1,), b"2": (2,), b"3": (2, 3)}
_ESCAPED: Final = re.compile(rb"[^\x21-\x7e]|['\"+]")


def read_sizelist(path: str, data: bytes) -> OldIds:
    """The unique-ids that Courier gives. `path` is for messages. Raises SourceError."""
    lines = data.split(b"\n")
    if lines.pop():
        raise SourceError(f"{path} line {len(lines) + 1}: cut off; is Courier writing to it?")
    version = b"0"
    first = 1
    if lines and lines[0].startswith(b"/"):
        header = _HEADER.fullmatch(lines.pop(0))
        if header is None:
            raise SourceError(f"{path} line 1: not a courierpop3dsizelist of version 0 to 3")
        version, first = header[1], 2
    return OldIds(dict(_entry(path, at, line, version) for at, line in enumerate(lines, first)))


def _entry(path: str, at: int, line: bytes, version: bytes) -> tuple[bytes, str]:
    """Base name and unique-id. A file name may have blanks."""
    name, *words = line.rsplit(b" ", 1 if version == b"0" else 2)
    size, numbers = (words[0], words[1:]) if words else (b"", [])
    values = [number(word) for word in numbers[0].split(b":")] if numbers else []
    base = base_of(name)
    if base is None or None in (number(size), *values) or len(values) not in _NUMBERS[version]:
        raise SourceError(f"{path} line {at}: not a file name, its size and its number")
    if not values or not values[0]:
        return base, _ESCAPED.sub(lambda match: b"+%02X" % ord(match[0]), base).decode("ascii")
    return base, f"UID{values[0]}-{values[1]}" if len(values) > 1 and values[1] else f"UID{values[0]}"
