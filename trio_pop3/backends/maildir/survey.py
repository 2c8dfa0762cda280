"""The snapshot of a Maildir: every message, in order, with its exact size. Blocking; called in threads."""

from __future__ import annotations

import bisect
import errno
import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

from ...backend import MessageColumns
from .index import PORTION, UNKNOWN, Columns, Index, State, load, save, state_of
from .names import arrival, base_name, path_id, unique_ids
from .scan import MOST_LOOKS, MOST_TRIES, NO_MAIL, SETTLED_NS, MaildirMessage, Whereabouts, measure

# Messages sorted at a time, give or take, which takes about a millisecond; the bounds come from every so manyth.
_PORTION: Final = 2048
_SAMPLED: Final = 64
# Messages, of up to 64 KiB each, from which on it pays to write down their sizes; and messages from which on it pays to
# write down that nothing has changed.
_WORTH: Final = 32
_MANY: Final = 1000
_READ_AS_LONG: Final = 64 * 1024

# Seconds, microseconds and base name (see `arrival`), which of the files with this base name, from 1, or 0 if it is the
# only one; then path, octets as
# sent, octets as stored, modification time in ns, inode. Never the same twice, and of nothing that the garbage
# collector would look at more than once.
_Arrived: TypeAlias = tuple[int, int, bytes, int, bytes, int, int, int, int]
_Thing = TypeVar("_Thing", _Arrived, tuple[int, int, bytes])


class Messages(MessageColumns[MaildirMessage]):
    """A snapshot. `shared`: index -> unique-id of each message that cannot go by its base name."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Columns, shared: dict[int, str]) -> None:
        uids: list[str] = []
        for at in range(0, len(columns), PORTION):
            uids += unique_ids(columns.bases[at : at + PORTION])
        for at, uid in shared.items():
            uids[at] = uid
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

    Raises OSError if the directories or a message that is there cannot be read: mail that is there is never hidden.

    What is kept from the last time is believed as far as it can be seen to be still true: file by file in a Maildir of
    up to PORTION messages. To ask for the status of every file of a larger one would take longer than all the rest. So
    it is believed where the names are the same, and as many files as that, others each time, are looked at; and each
    when it is opened.
    """
    kept = load(files.maildir)
    # Of what cannot be written to, what was kept cannot be deleted when it turns out to be untrue.
    if kept is not None and not os.access(files.maildir, os.W_OK):
        kept = Index(kept.columns, UNKNOWN)
    if kept is not None and kept.state != UNKNOWN and kept.state == state_of(files.maildir):
        columns = kept.columns
        if not _changed(files, columns, range(len(columns))):
            files.know(columns)
            return Messages(columns, {})
    return _Survey(files, kept or Index(Columns(), UNKNOWN)).take()


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
        self._arrived: list[_Arrived] = []
        self._in_order = True
        self._there = bytearray(len(kept.columns))  # which of the known messages are still there, and the same
        self._positions: dict[bytes, int] = {}  # of those whose name is not known, but whose base name is

    def take(self) -> Messages:
        """The snapshot; what was found out for it is kept if that pays."""
        files = self._files
        files.scan()
        state = files.state
        self._measure(self._not_known())
        if files.state != state:
            state = UNKNOWN  # something has moved since, so it was looked for again
        arrived = self._arrived if self._in_order else [*_emptied_in_order(self._arrived)]
        columns, new = _merged(self._known, self._there, arrived)
        self._keep(columns, new, state)
        if not any(entry[3] for entry in arrived):
            files.know(columns)
        return Messages(columns, {at: path_id(entry[4]) for at, entry in new.items() if entry[3] > 1})

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
        bases = [base_name(path[len(b"new/") :]) for path in fresh]
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
        keys = [*_emptied_in_order([arrival(base, 0) for base in waiting])]
        for nth in range(MOST_TRIES):
            keys = [key for key in keys if not self._measured(key, waiting.get(key[2]))]
            if not keys:
                return
            waiting = {}
            self._in_order = False
            if nth % MOST_LOOKS == 0:
                there = self._files.look()
                keys = [key for key in keys if key[2] in there]
            else:
                self._files.glance({base for _, _, base in keys})
        if keys:
            raise OSError(errno.EBUSY, "files are renamed again and again", self._files.maildir)

    def _measured(self, key: tuple[int, int, bytes], path: bytes | None) -> bool:
        """Measure the messages with a base name, mostly one; False, and none of them, if one is not where it was."""
        seconds, micro, base = key
        places = self._files.places(base) if path is None else (path,)
        several = len(places) > 1
        at = -1 if several else self._positions.get(base, -1)
        measured: list[_Arrived] = []
        for nth, place in enumerate(places, int(several)):
            try:
                octets, status = measure(self._files.full(place), self._known if at >= 0 else None, at)
            except FileNotFoundError:
                return False
            except OSError as failure:
                if failure.errno not in NO_MAIL:
                    raise
            else:
                if not seconds:
                    seconds, micro, _ = arrival(base, status.st_mtime_ns // 10**9)
                    self._in_order = False
                modified, inode = status.st_mtime_ns, status.st_ino
                measured.append((seconds, micro, base, nth, place, octets, status.st_size, modified, inode))
        self._arrived += measured
        return True

    def _keep(self, columns: Columns, new: dict[int, _Arrived], state: State) -> None:
        """Write down what is known now, if that pays, but for what may change and look the same (`SETTLED_NS`)."""
        now = time.time_ns()
        doubtful = [
            at for at, entry in new.items() if entry[3] or abs(now - entry[7]) < now - self._started + SETTLED_NS
        ]
        effort = sum(1 + entry[6] // _READ_AS_LONG for entry in new.values()) - len(doubtful)
        if doubtful:
            state = UNKNOWN
        if effort >= _WORTH or (len(columns) >= _MANY and state not in (UNKNOWN, self._kept.state)):
            if doubtful:
                there = bytearray(b"\1") * len(columns)
                for at in doubtful:
                    there[at] = 0
                columns, _ = _merged(columns, there, [])
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


def _merged(known: Columns, there: bytearray, arrived: Iterable[_Arrived]) -> tuple[Columns, dict[int, _Arrived]]:
    """The known messages that are there, and others, in order; also the others by their index."""
    merged = Columns(table=[*known.table])
    codes = {kind: code for code, kind in enumerate(merged.table)}
    new: dict[int, _Arrived] = {}

    def copy(start: int, stop: int) -> None:
        while (start := there.find(1, start, stop)) >= 0:
            end = there.find(0, start, stop)
            merged.extend(known, start, stop if end < 0 else end)
            start = stop if end < 0 else end

    def before(at: int) -> tuple[int, int, bytes]:
        return arrival(known.bases[at], known.modified[at] // 10**9)

    done = 0
    for entry in arrived:
        place = bisect.bisect(range(len(known)), entry[:3], done, key=before) if known else 0
        if place > done:
            copy(done, place)
            done = place
        _, _, base, _, path, octets, size, modified, inode = entry
        kind = path[: len(b"new/")] + path[len(b"new/") + len(base) :]
        new[len(merged)] = entry
        merged.append(base, codes.setdefault(kind, len(codes)), octets, size, modified, inode)
    copy(done, len(known))
    merged.table = [*codes]
    return merged, new
