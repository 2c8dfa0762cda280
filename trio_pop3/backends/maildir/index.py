"""What was found out about a Maildir, kept beside the mail: `.trio-pop3.index`. A cache and nothing more.

Deleted, cut short, filled with noise or taken from another Maildir, it costs the time to measure the messages again,
and no unique-id and no size changes. It holds no unique-ids. Written under our lock, by temporary file and rename;
never synced: a checksum over all of it tells what a power cut left of it.

The file, numbers in the order of octets of this machine, which the first line names:

    b"trio-pop3 index 1 little\\n"
    uint32                     CRC-32 of everything behind it
    12 x int64                 number of messages, of portions, of kinds; octets of names, of kinds; whether it is all
                               there is; then of new/ and of cur/: inode (unsigned), time of modification and of
                               change in ns
    uint32 x portions          octets of the names of each portion, of at most PORTION messages
    uint32 x messages          kind of each
    int64 x messages, four times     octets as sent, octets as stored, time of modification in ns, inode (unsigned)
    names                      base names, NUL between them, and nothing between portions
    kinds                      what a path has beside the base name: `cur/:2,S` is `cur/` and `:2,S`; NUL between them
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from .identity import own

INDEX_NAME: Final = b".trio-pop3.index"
# Names handled in one go: while Python splits or joins them no other thread runs. About half a millisecond.
PORTION: Final = 4096

_MAGIC: Final = f"trio-pop3 index 1 {sys.byteorder}\n".encode()
_HEADER: Final = struct.Struct("=6qQqqQqq")
# What is longer is neither read nor written: it would cost more memory than it is worth. Enough for a million and a
# half of messages, as they mostly are.
_MOST_OCTETS: Final = 128 * 1024 * 1024
# Of names looked at in one go; more than the longest.
_BLOCK_OCTETS: Final = 64 * 1024
# Times as far as 64 bits go, in the year 2262: a file may have a later one, and is as late as that then.
_LATEST: Final = 2**63 - 1

_START: Final = len(_MAGIC) + 4

# Of new/ and of cur/: inode, time of modification, time of change (ns).
State: TypeAlias = tuple[int, int, int, int, int, int]
UNKNOWN: Final[State] = (0, 0, 0, 0, 0, 0)


def state_of(maildir: bytes) -> State:
    """Changes whenever a file is put into new/ or cur/, renamed, or taken out. Raises OSError."""
    new, cur = os.stat(maildir + b"/new"), os.stat(maildir + b"/cur")
    return (
        new.st_ino, _bounded(new.st_mtime_ns), _bounded(new.st_ctime_ns),
        cur.st_ino, _bounded(cur.st_mtime_ns), _bounded(cur.st_ctime_ns),
    )  # fmt: skip


def modified_ns(status: os.stat_result) -> int:
    """When a file was written, in ns, no later and no earlier than an index can say."""
    return _bounded(status.st_mtime_ns)


def _bounded(time: int) -> int:
    return max(-_LATEST, min(time, _LATEST))


@dataclass(slots=True)
class Columns:
    """Messages in order of arrival, a column for each thing that is known of them."""

    bases: list[bytes] = field(default_factory=list)
    kinds: array[int] = field(default_factory=lambda: array("I"))
    octets: array[int] = field(default_factory=lambda: array("q"))  # as sent
    sizes: array[int] = field(default_factory=lambda: array("q"))  # as stored
    modified: array[int] = field(default_factory=lambda: array("q"))  # ns
    inodes: array[int] = field(default_factory=lambda: array("Q"))
    table: list[bytes] = field(default_factory=list)  # of kinds

    def __len__(self) -> int:
        return len(self.bases)

    def append(self, base: bytes, kind: int, octets: int, size: int, modified: int, inode: int) -> None:
        """One more message."""
        self.bases.append(base)
        self.kinds.append(kind)
        self.octets.append(octets)
        self.sizes.append(size)
        self.modified.append(modified)
        self.inodes.append(inode)

    def extend(self, other: Columns, start: int, stop: int) -> None:
        """Messages `start` to `stop` of another table, whose kinds mean the same."""
        self.bases += other.bases[start:stop]
        self.kinds += other.kinds[start:stop]
        self.octets += other.octets[start:stop]
        self.sizes += other.sizes[start:stop]
        self.modified += other.modified[start:stop]
        self.inodes += other.inodes[start:stop]

    def forget_unused_kinds(self) -> None:
        """Number the kinds anew if most of them are of flags that no message has any more."""
        used = sorted(set(self.kinds))
        if 2 * len(used) < len(self.table):
            codes = {old: new for new, old in enumerate(used)}
            self.kinds = array("I", [codes[kind] for kind in self.kinds])
            self.table = [self.table[kind] for kind in used]

    def path(self, at: int) -> bytes:
        """Where a message was seen, below the Maildir."""
        kind = self.table[self.kinds[at]]
        return kind[:4] + self.bases[at] + kind[4:]

    def paths(self) -> Iterator[bytes]:
        """Of all, in order."""
        ends = [(kind[:4], kind[4:]) for kind in self.table]
        for base, kind in zip(self.bases, self.kinds, strict=True):
            before, behind = ends[kind]
            yield before + base + behind

    def same(self, at: int, status: os.stat_result) -> bool:
        """Whether a file is the one that was measured, and unchanged."""
        return (self.inodes[at], self.sizes[at], self.modified[at]) == (
            status.st_ino,
            status.st_size,
            modified_ns(status),
        )


@dataclass(slots=True)
class Index:
    """`columns`: messages of which each has its base name for itself. `state`: of the directories when these were all
    that was in them; `UNKNOWN` if they were not, or if that is not certain."""

    columns: Columns
    state: State


def load(maildir: bytes) -> Index | None:
    """What is kept; None if nothing is that can be trusted."""
    with contextlib.suppress(OSError, ValueError):
        return _parsed(_content(maildir + b"/" + INDEX_NAME))
    return None


def _content(path: bytes) -> bytes:
    """Raises OSError; nothing of what is no file, or not as long as its header says."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_OCTETS:
            return b""
        start = os.read(fd, _START + _HEADER.size)
        if _octets(start) != status.st_size:
            return b""
        return start + os.read(fd, status.st_size - len(start))
    finally:
        os.close(fd)


def _octets(data: bytes) -> int:
    """How long an index is that begins so; -1 if none does."""
    if not data.startswith(_MAGIC) or len(data) < _START + _HEADER.size:
        return -1
    numbers = _HEADER.unpack_from(data, _START)[:5]
    count, portions, _, name_octets, kind_octets = numbers
    return -1 if min(numbers) < 0 else _START + _HEADER.size + 4 * portions + 36 * count + name_octets + kind_octets


def _parsed(data: bytes) -> Index | None:
    """Raises ValueError, or returns None, if it is not what `save` writes."""
    if _octets(data) != len(data):
        return None
    view = memoryview(data)
    if zlib.crc32(view[_START:]) != int.from_bytes(data[len(_MAGIC) : _START], sys.byteorder):
        return None
    count, portions, kinds, _, _, whole, *state = _HEADER.unpack_from(data, _START)
    position = _START + _HEADER.size

    def numbers(code: str, many: int) -> array[int]:
        nonlocal position
        values = array(code)
        end = position + many * values.itemsize
        values.frombytes(view[position:end])
        position = end
        return values

    lengths = numbers("I", portions)
    columns = Columns(
        kinds=numbers("I", count),
        octets=numbers("q", count),
        sizes=numbers("q", count),
        modified=numbers("q", count),
        inodes=numbers("Q", count),
    )
    for length in lengths:
        _add_names(columns.bases, data, position, position + length, most=count)
        position += length
    if count:
        _add_names(columns.table, data, position, len(data), most=kinds)
    if len(columns.bases) != count or len(columns.table) != kinds or not _are_below(kinds, columns.kinds):
        return None
    return Index(columns, (state[0], state[1], state[2], state[3], state[4], state[5]) if whole else UNKNOWN)


def _add_names(names: list[bytes], data: bytes, start: int, stop: int, *, most: int) -> None:
    """Split them off in blocks: while Python splits, no other thread runs. Raises ValueError if there are too many."""
    while True:
        end = stop if stop - start <= _BLOCK_OCTETS else data.rindex(b"\0", start, start + _BLOCK_OCTETS)
        names += data[start:end].split(b"\0")
        if len(names) > most:
            raise ValueError("more names than there should be")
        if end == stop:
            return
        start = end + 1


def _are_below(bound: int, values: array[int]) -> bool:
    return all(max(values[at : at + PORTION]) < bound for at in range(0, len(values), PORTION))


def save(maildir: bytes, index: Index) -> None:
    """Keep it. That it cannot be written, for whatever reason, only means that there is none."""
    final = maildir + b"/" + INDEX_NAME
    unfinished = final + b".tmp"
    pieces = _pieces(index)
    if sum(map(len, pieces)) > _MOST_OCTETS:
        return
    with contextlib.suppress(OSError):
        # Left by a process that died: we hold the lock. Never opened: it may be a link to something else.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        try:
            fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                own(fd, os.stat(maildir))
                for piece in pieces:
                    _write(fd, piece)
            finally:
                os.close(fd)
            os.rename(unfinished, final)
        except OSError:
            os.unlink(unfinished)
            raise


def forget(maildir: bytes) -> None:
    """Delete it: something in it was not true. Raises OSError, but not if there is none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(maildir + b"/" + INDEX_NAME)


def _pieces(index: Index) -> list[bytes]:
    columns = index.columns
    names = [b"\0".join(columns.bases[at : at + PORTION]) for at in range(0, len(columns), PORTION)]
    kinds = columns.table if columns else []
    table = b"\0".join(kinds)
    lengths = array("I", map(len, names))
    header = _HEADER.pack(
        len(columns), len(names), len(kinds), sum(lengths), len(table), index.state != UNKNOWN, *index.state
    )
    numbers: Sequence[array[int]] = (
        lengths, columns.kinds, columns.octets, columns.sizes, columns.modified, columns.inodes,
    )  # fmt: skip
    pieces = [header, *(column.tobytes() for column in numbers), *names, table]
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return [_MAGIC, checksum.to_bytes(4, sys.byteorder), *pieces]


def _write(fd: int, piece: bytes) -> None:
    """All of it. Raises OSError."""
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
