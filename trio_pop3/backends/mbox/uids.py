"""Unique-ids of messages in an mbox file, which has no place for them.

A message goes by a hash of its From_ line and its text, without the header fields that other programs rewrite
(`scan.Found.digest`), or by its X-UIDL if that is to be believed. Messages that share such a key are told apart by an
ordinal: the first has none, the next `-2`, `-3` and so on, in the order of the file.

Two messages that are equal octet for octet, From_ line and its time included, leave the same file whichever of them is
removed. So when we remove one, the ordinals of those that stay are put into a list beside the lock of the session: a
line of the key, the next ordinal to give, and the ordinals that are there, in the order of the file. It is short, since
a key is in it only if its ordinals are not 1, 2, 3 and so on. Without the list, ordinals are counted anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .scan import Found

_LOOKS_LIKE_OURS: Final = re.compile(r"[0-9a-f]{40}(?:-[0-9]+)?")
_LINE: Final = re.compile(r"([\x21-\x7e]{1,70}) ([0-9]{1,9})((?: [0-9]{1,9})+)")


@dataclass(frozen=True, slots=True)
class Ordinals:
    """Of the messages with one key: the next one to give, and those of the messages there are."""

    next: int
    there: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether counting gives the same."""
        return self == Ordinals(len(self.there) + 1, tuple(range(1, len(self.there) + 1)))


PLAIN: Final = Ordinals(1, ())


def key_of(found: Found, believe_x_uidl: bool) -> str:
    """What a message is known by. An X-UIDL that looks like one of our own is not believed: it may be another's."""
    if believe_x_uidl and found.x_uidl is not None and not _LOOKS_LIKE_OURS.fullmatch(found.x_uidl):
        return found.x_uidl
    return found.digest


def uid_of(key: str, ordinal: int) -> str:
    """The unique-id of the message with a key and an ordinal."""
    if ordinal == 1:
        return key
    stem = key if _LOOKS_LIKE_OURS.fullmatch(key) else hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
    return f"{stem}-{ordinal}"


def number(keys: Iterable[str], known: Mapping[str, Ordinals]) -> list[int]:
    """The ordinal of each message, in the order of the file."""
    seen: dict[str, int] = {}
    ordinals = []
    for key in keys:
        nth = seen[key] = seen.get(key, -1) + 1
        of_key = known.get(key, PLAIN)
        beyond = nth - len(of_key.there)
        ordinals.append(of_key.there[nth] if beyond < 0 else of_key.next + beyond)
    return ordinals


def remaining(
    numbered: Collection[tuple[str, int]], removed: Collection[tuple[str, int]], known: Mapping[str, Ordinals]
) -> dict[str, Ordinals]:
    """The list once some of the messages have been removed."""
    there: dict[str, list[int]] = {}
    following: dict[str, int] = {}
    gone = set(removed)
    for key, ordinal in numbered:
        following[key] = max(following.get(key, known.get(key, PLAIN).next), ordinal + 1)
        if (key, ordinal) not in gone:
            there.setdefault(key, []).append(ordinal)
    after = {key: Ordinals(following[key], tuple(ordinals)) for key, ordinals in there.items()}
    return {key: ordinals for key, ordinals in after.items() if not ordinals.is_plain}


def dump(known: Mapping[str, Ordinals]) -> bytes:
    """As a file."""
    lines = [f"{key} {of_key.next} {' '.join(map(str, of_key.there))}\n" for key, of_key in sorted(known.items())]
    return "".join(lines).encode("ascii")


def load(content: bytes) -> dict[str, Ordinals]:
    """From a file. What is no line of such a file is left out: it costs ordinals, and must not cost mail."""
    known = {}
    for line in content.decode("ascii", "replace").splitlines():
        if match := _LINE.fullmatch(line):
            there = tuple(map(int, match[3].split()))
            if there == tuple(sorted(set(there))) and there[-1] < int(match[2]):
                known[match[1]] = Ordinals(int(match[2]), there)
    return known
