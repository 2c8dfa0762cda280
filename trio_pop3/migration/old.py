"""What the readers of this package return, and how they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..backends.maildir.names import base_name


class SourceError(Exception):
    """An old server's unique-ids cannot be had. One sentence for a person; it names the line if there is one."""


@dataclass(frozen=True, slots=True)
class OldIds:
    """The unique-ids of an old server.

    uids: base name -> unique-id, in the order in which the old server numbers them. Not checked: two messages may have
        the same, or one that RFC 1939 does not allow.
    unsure: base names of messages that the old server may have as well; nobody can tell under which unique-id.
    remarks: what else a person should know, a sentence each.
    """

    uids: Mapping[bytes, str]
    unsure: Sequence[bytes] = ()
    remarks: Sequence[str] = field(default=())


def base_of(name: bytes) -> bytes | None:
    """The base name of a file in a Maildir; None if no file can be called so."""
    return None if not name or b"/" in name or b"\0" in name else base_name(name)


def number(text: bytes | str, most: int = 2**64 - 1) -> int | None:
    """A decimal number without a sign; None if it is none, or a larger one than there can be."""
    if not (text.isdigit() and text.isascii()) or len(text) > 20:
        return None
    value = int(text)
    return value if value <= most else None
