"""From what an old server says to what the map of a Maildir becomes, and to what clients would notice."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .old import OldIds

_UID: Final = re.compile(r"[\x21-\x7e]{1,70}")


class Change(NamedTuple):
    """A message that has another unique-id than before."""

    base: bytes
    before: str
    after: str | None  # None: whatever it gets without an import


@dataclass(frozen=True, slots=True)
class Merge:
    """What an import makes of a map.

    uids: the whole map, base name -> unique-id.
    added: how many lines are new.
    changed: lines of earlier imports that say something else now. Clients that have used us since know the old ones.
    refused: base name, unique-id and why it cannot be kept.
    """

    uids: Mapping[bytes, str]
    added: int
    changed: Sequence[Change]
    refused: Sequence[tuple[bytes, str, str]]


def merge(imported: Mapping[bytes, str], old: OldIds, here: Collection[bytes]) -> Merge:
    """Add the unique-ids of an old server to those that were imported before. `here`: base names in the Maildir.

    Messages that are not in the Maildir get a line as well: a backup may bring them back, and nobody else should get
    their unique-ids. If two have the same, the one that is here has it, or else the first.
    """
    wanted: dict[bytes, str] = {}
    owners: dict[str, bytes] = {}
    refused: list[tuple[bytes, str, str]] = []
    for base, uid in sorted(old.uids.items(), key=lambda item: item[0] not in here):
        if not _UID.fullmatch(uid):
            refused.append((base, uid, "not 1 to 70 characters in 0x21-0x7E"))
        elif owners.setdefault(uid, base) != base:
            refused.append((base, uid, "two messages have it"))
        else:
            wanted[base] = uid
    changed = [
        Change(base, before, wanted[base]) for base, before in imported.items() if wanted.get(base, before) != before
    ]
    lost = {base for base, uid in imported.items() if base not in wanted and uid in owners}
    changed += [Change(base, imported[base], None) for base in lost]
    kept = {base: uid for base, uid in imported.items() if base not in lost}
    added = {base: wanted[base] for base in old.uids if base in wanted}  # in the old server's order
    return Merge({**kept, **added}, len(wanted.keys() - imported.keys()), changed, refused)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What clients of an old server would notice.

    same: messages with the unique-id that they had.
    again: base name, the old unique-id (None if nobody can tell), and ours.
    new: base names of messages that the old server does not know; clients have not fetched them.
    missing: how many messages the old server knows that are not here.
    reordered: how many have another place among the others. Clients that go by unique-ids do not mind.
    """

    same: int
    again: Sequence[tuple[bytes, str | None, str]]
    new: Sequence[bytes]
    missing: int
    reordered: int


def compare(old: OldIds, ours: Mapping[bytes, str]) -> Comparison:
    """`ours`: base name -> unique-id as we serve it, in the order of our numbers."""
    known = [base for base in ours if base in old.uids]
    again: list[tuple[bytes, str | None, str]] = [
        (base, old.uids[base], ours[base]) for base in known if old.uids[base] != ours[base]
    ]
    same = len(known) - len(again)
    unsure = {base for base in old.unsure if base in ours and base not in old.uids}
    again += [(base, None, ours[base]) for base in ours if base in unsure]
    new = [base for base in ours if base not in old.uids and base not in unsure]
    theirs = [base for base in old.uids if base in ours]
    reordered = sum(a != b for a, b in zip(known, theirs, strict=True))
    return Comparison(same, again, new, len(old.uids) - len(theirs), reordered)
