"""Dovecot's `dovecot-uidlist`, versions 1 and 3.

    3 V1795564812 N7 Gf0b19c3acc5a05656e150000a4d1ea5c
    1 :1700000001.M1P1.host
    2 PUID7-1699999999 W517 :1700000002.M2P1.host,S=500

Version 1 has `1 <uidvalidity> <next uid>` and lines `<uid> <file name>`; Courier's `courierimapuiddb` is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .formats import UidlFormat
from .old import OldIds, SourceError, base_of, number

FILE_NAME: Final = "dovecot-uidlist"
_MOST_UID: Final = 2**32 - 1
# Messages with an order of their own (O) come first.
_NO_ORDER: Final = 2**64


def read_uidlist(path: str, data: bytes, uidl_format: UidlFormat) -> OldIds:
    """The unique-ids that Dovecot gives: `P` of a line if it has one, else made by its `pop3_uidl_format`.

    `path` is for messages. Raises SourceError for a file that Dovecot itself would not take.
    """
    header, *lines = data.split(b"\n")
    if not lines:
        raise SourceError(f"{path}: empty, or cut off in its first line")
    if lines.pop():
        raise SourceError(f"{path} line {len(lines) + 2}: cut off; is Dovecot writing to it?")
    version, uidvalidity = _header(path, header)
    found: dict[bytes, tuple[int, int, str]] = {}
    for at, line in enumerate(lines, 2):
        uid_text, _, rest = line.partition(b" ")
        uid = number(uid_text, _MOST_UID)
        fields, name = _fields(rest.lstrip(b" ")) if version == b"3" else ({}, rest.lstrip(b" "))
        base = base_of(name)
        if not uid or base is None:
            raise SourceError(f"{path} line {at}: not a UID and a file name")
        kept = fields.get(b"P")
        text = uidl_format(uid, uidvalidity, base, fields.get(b"G", base)) if not kept else kept.decode("latin-1")
        order = number(fields.get(b"O", b""))
        # A later line wins: the file had been removed, and was put back.
        found[base] = (order or _NO_ORDER, uid, text)
    in_order = sorted(found.items(), key=lambda item: item[1][:2])
    return OldIds({base: text for base, (_, _, text) in in_order})


def _header(path: str, line: bytes) -> tuple[bytes, int]:
    """Version and UIDVALIDITY."""
    version, *words = line.split(b" ")
    if version == b"3":
        validity = next((word[1:] for word in words if word.startswith(b"V")), b"")
    elif version == b"1":
        validity = words[0] if len(words) == 2 else b""
    else:
        raise SourceError(f"{path} line 1: not a dovecot-uidlist of version 1 or 3")
    value = number(validity, _MOST_UID)
    if not value:
        raise SourceError(f"{path} line 1: no UIDVALIDITY")
    return version, value


def _fields(text: bytes) -> tuple[Mapping[bytes, bytes], bytes]:
    """Letter -> value of what stands before the colon, and the file name behind it."""
    fields: dict[bytes, bytes] = {}
    while text and not text.startswith(b":"):
        word, _, text = text.partition(b" ")
        fields[word[:1]] = word[1:]
        text = text.lstrip(b" ")
    return fields, text[1:]
