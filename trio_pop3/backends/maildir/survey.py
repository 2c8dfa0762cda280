"""The snapshot of a Maildir: every message, in order, with its exact size. Blocking; called in threads."""

from __future__ import annotations

import bisect
import errno
import heapq
import itertools
import os
import random
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from ...backend import MessageColumns
from .index import PORTION, UNKNOWN, Columns, Index, State, load, modified_ns, save, state_of
from .names import NO_TIME, TIME_OCTETS, arrival, base_name, sort_key
from .scan import MOST_LOOKS, MOST_TRIES, NO_MAIL, SETTLED_NS, MaildirMessage, Whereabouts, measure
from .uids import UidMap, read_map

# Messages sorted at a time, give or take, which takes about a millisecond; the bounds come from every so manyth.
_PORTION: Final = 2048
_SAMPLED: Final = 64
# Messages, of up to 64 KiB each, from which on it pays to write down their sizes; and messages from which on it pays to
# write down that nothing has changed.
_WORTH: Final = 32
_MANY: Final = 1000
_READ_AS_LONG: Final = 64 * 1024
_PART: Final = b"new/"  # or cur/

# Seconds, microseconds and base name, by which messages are sorted (see `arrival`).
_Key: TypeAlias = tuple[int, int, bytes]
# The same, and which of the files with this base name, from 1, or 0 if it is the only one; then kind, octets as sent,
# octets as stored, modification time in ns, inode. Never the same twice.
_Arrived: TypeAlias = tuple[int, int, bytes, int, int, int, int, int, int]
_Thing = TypeVar("_Thing", _Arrived, bytes)


class Messages(MessageColumns[MaildirMessage]):
    """A snapshot. `imported` is emptied. `shared`: index -> which of the files with its base name it is, from 1."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Columns, imported: UidMap, shared: Mapping[int, int] = MappingProxyType({})) -> None:
        uids: list[str] = []
        for at in range(0, len(columns), PORTION):
            uids += imported.of_first(columns.bases[at : at + PORTION])
        for at, nth in shared.items():
            uids[at] = imported.of(columns.bases[at], columns.path(at), nth - 1)
        imported.forget()
        super().__init__(uids, columns.octets)
        self._columns: Final = columns

    def message(self, at: int) -> MaildirMessage:
        """The message at an index from 0."""
        known = self._columns
        return MaildirMessage(
            self.uids[at], known.octets[at], known.bases[at], known.inodes[at], known.path(at), known.sizes[at],
            known.modified[at],
        )  # fmt: skip


def snapshot(files: Whereabouts) -> Messages:
    """Every message, oldest first, with its exact size. What is no regular file, or vanishes for good, is left out.

    Raises OSError if the directories or a message that is there cannot be read: mail that is there is never hidden;
    UidMapError if imported unique-ids cannot be understood.

    What is kept from the last time is believed as far as it can be seen to be still true: file by file in a Maildir of
    up to PORTION messages. To ask for the status of every file of a larger one would take longer than all the rest. So
    it is believed where the names are the same, and as many files as that, others each time, are looked at; and each
    when it is opened.
    """
    files.begin()
    uids = read_map(files.maildir)
    kept = load(files.maildir)
    # Of what cannot be written to, what was kept cannot be deleted when it turns out to be untrue.
    if kept is not None and not os.access(files.maildir, os.W_OK):
        kept = Index(kept.columns, UNKNOWN)
    if kept is not None and kept.state != UNKNOWN and kept.state == state_of(files.maildir):
        columns = kept.columns
        if not _changed(files, columns, range(len(columns))):
            files.know(columns)
            return Messages(columns, uids)
    return _Survey(files, kept or Index(Columns(), UNKNOWN)).take(uids)


def _changed(files: Whereabouts, columns: Columns, positions: Sequence[int]) -> list[int]:
    """Which of some messages are not what they were, or not where; of so many, if one is found, else of all."""
    first = random.randrange(0, len(positions), PORTION) if positions else 0  # noqa: S311 - fair is enough
    found = [at for at in positions[first : first + PORTION] if not _same(files, columns, at)]
    if found and len(positions) > PORTION:
        rest = (*positions[:first], *positions[first + PORTION :])
        found += [at for at in rest if not _same(files, columns, at)]
    return found


def _same(files: Whereabouts, columns: Columns, at: int) -> bool:
    try:
        return columns.same(at, os.lstat(files.full(columns.path(at))))
    except FileNotFoundError:
        return False


class _Survey:
    """Looks at the directories and measures what is not known."""

    def __init__(self, files: Whereabouts, kept: Index) -> None:
        self._files: Final = files
        self._kept: Final = kept
        self._known: Final = kept.columns
        self._started = time.time_ns()
        self._there = bytearray(len(kept.columns))  # which of the known messages are still there, and the same
        self._positions: dict[bytes, int] = {}  # of those whose name is not known, but whose base name is
        self._kinds = {kind: code for code, kind in enumerate(kept.columns.table)}
        self._fresh: Final = Columns()  # what was measured, in order
        self._odd: list[_Arrived] = []  # and what must be put in order yet

    def take(self, uids: UidMap) -> Messages:
        """The snapshot; what was found out for it is kept if that pays."""
        files = self._files
        files.scan()
        state = files.state
        self._measure(self._not_known())
        if files.state != state:
            state = UNKNOWN  # something has moved since, so it was looked for again
        columns, new, shared = self._all()
        self._keep(columns, new, shared, state)
        if not shared:
            files.know(columns)
        return Messages(columns, uids, shared)

    def _all(self) -> tuple[Columns, Sequence[int], dict[int, int]]:
        """All messages in order; at which index those are that were measured; and index -> which of the files with
        this base name, from 1, where there are several."""
        table = [*self._kinds]
        self._fresh.table = self._known.table = table
        if not self._odd and not any(self._there):
            return self._fresh, range(len(self._fresh)), {}
        odd = _emptied_in_order(self._odd)
        if self._known:
            return _merged(self._known, self._there, heapq.merge(self._fresh_ones(), odd))
        columns, _, shared = _merged(self._fresh, bytearray(b"\1") * len(self._fresh), odd)
        return columns, range(len(columns)), shared

    def _fresh_ones(self) -> Iterator[_Arrived]:
        fresh = self._fresh
        for at, base in enumerate(fresh.bases):
            modified = fresh.modified[at]
            seconds, micro, _ = arrival(base, modified // 10**9)
            yield (
                seconds,
                micro,
                base,
                0,
                fresh.kinds[at],
                fresh.octets[at],
                fresh.sizes[at],
                modified,
                fresh.inodes[at],
            )

    def _not_known(self) -> dict[bytes, bytes | None]:
        """Base names to be measured, each with its path; without, if several files may have it."""
        known, there, listed = self._known, self._there, self._files.listed
        fresh = self._seen_for_the_first_time(listed) if known else listed
        if len(fresh) < len(listed):
            everywhere = there.find(0) < 0
            unchanged: Sequence[int] = (
                range(len(known)) if everywhere else [*itertools.compress(range(len(there)), there)]
            )
            for at in _changed(self._files, known, unchanged):
                there[at] = 0
                fresh.append(known.path(at))
        bases = [base_name(path[len(_PART) :]) for path in fresh]
        wanted = set(bases) if known else set()
        self._positions = {base: at for at, base in enumerate(known.bases) if base in wanted}
        waiting: dict[bytes, bytes | None] = {}
        for base, path in zip(bases, fresh, strict=True):
            at = self._positions.get(base, -1)
            several = base in waiting or (at >= 0 and there[at])
            waiting[base] = None if several else path
        for at in self._positions.values():
            there[at] = 0
        return waiting

    def _seen_for_the_first_time(self, listed: list[bytes]) -> list[bytes]:
        """Paths that are not known. Notes of the others that they are there."""
        known, there = self._known, self._there
        paths = [*known.paths()]
        at: dict[bytes, int] = {}
        for start in range(0, len(paths), PORTION):
            at.update(zip(paths[start : start + PORTION], range(start, len(paths)), strict=False))
        fresh = []
        for path in listed:
            position = at.get(path)
            if position is None:
                fresh.append(path)
            else:
                there[position] = 1
        return fresh

    def _measure(self, waiting: dict[bytes, bytes | None]) -> None:
        """Measure the messages with these base names. Raises OSError."""
        # As they were delivered, more or less: that is how they lie on the disk.
        moved = []
        for key in _emptied_in_order([*map(sort_key, waiting)]):
            base = key[TIME_OCTETS:]
            path = waiting[base]
            places = self._files.places(base) if path is None else (path,)
            if not self._measured(base, places, in_order=not key.startswith(NO_TIME)):
                moved.append(base)
        for nth in range(MOST_TRIES):
            if not moved:
                return
            if nth % MOST_LOOKS == 0:
                there = self._files.look()
                moved = [base for base in moved if base in there]
            else:
                self._files.glance(moved)
            moved = [base for base in moved if not self._measured(base, self._files.places(base), in_order=False)]
        if moved:
            raise OSError(errno.EBUSY, "files are renamed again and again", self._files.maildir)

    def _measured(self, base: bytes, places: Sequence[bytes], *, in_order: bool) -> bool:
        """Measure the messages with a base name, mostly one; False, and none of them, if one is not where it was."""
        several = len(places) > 1
        known = -1 if several else self._positions.get(base, -1)
        measured: list[_Arrived] = []
        for nth, place in enumerate(places, int(several)):
            try:
                octets, status = measure(self._files.full(place), self._known if known >= 0 else None, known)
            except FileNotFoundError:
                return False
            except OSError as failure:
                if failure.errno not in NO_MAIL:
                    raise
                continue
            kind = place[: len(_PART)] + place[len(_PART) + len(base) :]
            code = self._kinds.setdefault(kind, len(self._kinds))
            modified = modified_ns(status)
            if in_order and not several:
                self._fresh.append(base, code, octets, status.st_size, modified, status.st_ino)
                return True
            seconds, micro, _ = arrival(base, modified // 10**9)
            measured.append((seconds, micro, base, nth, code, octets, status.st_size, modified, status.st_ino))
        self._odd += measured
        return True

    def _keep(self, columns: Columns, new: Sequence[int], shared: Collection[int], state: State) -> None:
        """Write down what is known now, if that pays, but for what may change and look the same (`SETTLED_NS`)."""
        now = time.time_ns()
        young = now - self._started + SETTLED_NS
        doubtful = [at for at in new if at in shared or abs(now - columns.modified[at]) < young]
        effort = sum(1 + columns.sizes[at] // _READ_AS_LONG for at in new) - len(doubtful)
        if doubtful:
            state = UNKNOWN
        if effort < _WORTH and (len(columns) < _MANY or state in (UNKNOWN, self._kept.state)):
            return
        if doubtful:
            there = bytearray(b"\1") * len(columns)
            for at in doubtful:
                there[at] = 0
            columns, _, _ = _merged(columns, there, ())
        columns.forget_unused_kinds()
        save(self._files.maildir, Index(columns, state))


def _emptied_in_order(things: list[_Thing]) -> Iterator[_Thing]:
    """Sort into bounded portions first: while Python sorts many things, or forgets them, no other thread runs."""
    bounds = sorted(things[::_SAMPLED])[_PORTION // _SAMPLED :: _PORTION // _SAMPLED]
    portions: list[list[_Thing]] = [[] for _ in range(len(bounds) + 1)]
    for thing in things:
        portions[bisect.bisect(bounds, thing)].append(thing)
    things.clear()
    portions.reverse()
    while portions:
        yield from sorted(portions.pop())


def _merged(
    known: Columns, there: bytearray, arrived: Iterable[_Arrived]
) -> tuple[Columns, Sequence[int], dict[int, int]]:
    """The known messages that are there, and others, in order; see `_Survey._all`. All kinds are in the known table."""
    merged = Columns(table=known.table)
    new = array("I")
    shared: dict[int, int] = {}

    def copy(start: int, stop: int) -> None:
        while (start := there.find(1, start, stop)) >= 0:
            end = there.find(0, start, stop)
            merged.extend(known, start, stop if end < 0 else end)
            start = stop if end < 0 else end

    def before(at: int) -> _Key:
        return arrival(known.bases[at], known.modified[at] // 10**9)

    done = 0
    for entry in arrived:
        place = bisect.bisect(range(len(known)), entry[:3], done, key=before)
        copy(done, place)
        done = place
        _, _, base, nth, *rest = entry
        if nth:
            shared[len(merged)] = nth
        new.append(len(merged))
        merged.append(base, *rest)
    copy(done, len(known))
    return merged, new, shared
