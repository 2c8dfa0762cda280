"""Taking messages out of an mbox file, in place, so that a crash at any moment loses nothing. Blocking; in threads.

In place, and not by a new file that is renamed: a delivery agent may have the file open and wait for its lock. If
another file took its name meanwhile, the agent would write to the one that nobody sees any more.

What moves is written to a journal first, beside the lock of the session:

1. The journal is complete and durable. The mailbox is untouched.
2. The file from the first removed message on is overwritten with what follows it, from the journal; behind that goes a
   mark. Synced. The journal is marked: from here on the file may be shorter.
3. The file is cut behind what was written. Synced. The journal is removed.

`recover` goes on from wherever that ended. Mail that was appended in the meantime is behind the old end of the file if
it was not cut yet, which the mark tells, and is moved by a second journal that replaces the first.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from ..maildir.deliver import sync_directory
from .scan import READ_OCTETS

Range = tuple[int, int]

_MAGIC: Final = b"trio-pop3 mbox journal 1, phase "
_PHASES: Final = (b"1\n", b"2\n")
_LONGEST_PLAN: Final = 4096
# Of each side of what is rewritten, to know the file again by.
_SAMPLE_OCTETS: Final = 4096
# Shorter than any From_ line with its line end, so that there is room for it where a message was.
_MARK_OCTETS: Final = 24
_UNFINISHED: Final = b".new"


class JournalConflict(Exception):
    """A journal that was left behind does not fit the mailbox: it was changed by somebody else since."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done: [start, stop) is overwritten with what is in the journal, and the file of size `size` cut there."""

    inode: int
    start: int
    stop: int
    size: int
    before: str  # digest of up to 4096 octets before `start`
    behind: str  # digest of up to 4096 octets before `size`, but behind the mark
    mark: str
    ordinals: int  # octets of the new list of ordinals, which come first in the journal


@dataclass(frozen=True, slots=True)
class Places:
    """Where the state of a mailbox is kept."""

    journal: bytes
    ordinals: bytes

    @property
    def directory(self) -> bytes:
        return os.path.dirname(self.journal)


def compact(
    fd: int, holes: Sequence[Range], places: Places, ordinals: bytes, refresh: Callable[[], None] = lambda: None
) -> None:
    """Take ranges out of the file, and put a new list of ordinals into its place.

    The file is locked, and every range is a whole message, in order. When this returns, all of it is durable.
    `refresh` is called now and then. Raises OSError; then nothing is changed, or a journal is left for `recover`.
    """
    size = os.fstat(fd).st_size
    kept = list(_between(holes, size))
    start = holes[0][0]
    if not kept and ordinals == read_ordinals(places):
        os.ftruncate(fd, start)  # nothing moves, and this cannot be half done
        os.fsync(fd)
        return
    stop = start + sum(end - begin for begin, end in kept)
    mark = secrets.token_hex(_MARK_OCTETS // 2)
    plan = Plan(
        os.fstat(fd).st_ino,
        start,
        stop,
        size,
        _sample(fd, 0, start),
        _sample(fd, stop + _MARK_OCTETS, size),
        mark,
        len(ordinals),
    )
    # It is worth nothing in a directory that a power cut can take with it.
    sync_directory(os.path.dirname(places.directory))
    _write_journal(plan, ordinals, (piece for begin, end in kept for piece in _read(fd, begin, end)), places, refresh)
    with _Journal(places) as journal:
        _finish(fd, journal, places, refresh)


def recover(fd: int, places: Places, refresh: Callable[[], None] = lambda: None) -> bool:
    """Finish what a crash has cut short, on a locked file; False if there was nothing.

    Raises JournalConflict, and changes nothing, if the file is not as the crash can have left it. Raises OSError.
    """
    for place in (places.journal, places.ordinals):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place + _UNFINISHED)
    try:
        journal = _Journal(places)
    except FileNotFoundError:
        return False
    with journal:
        plan, status = journal.plan, os.fstat(fd)
        if status.st_ino != plan.inode:
            raise JournalConflict("the mailbox is another file now")
        mark = plan.mark.encode()
        if journal.phase == 2 and os.pread(fd, _MARK_OCTETS, plan.stop) != mark:
            _clean_up(journal, places)
            return True
        if (
            status.st_size < plan.size
            or _sample(fd, 0, plan.start) != plan.before
            or _sample(fd, plan.stop + _MARK_OCTETS, plan.size) != plan.behind
        ):
            raise JournalConflict("the mailbox was changed")
        if status.st_size == plan.size:
            _finish(fd, journal, places, refresh)
            return True
        _overwrite(fd, journal, refresh)
        ordinals = journal.ordinals()
    # What has been appended since goes where what was written ends: another removal, of what lies between.
    compact(fd, [(plan.stop, plan.size)], places, ordinals, refresh)
    return True


def _between(holes: Sequence[Range], size: int) -> Iterator[Range]:
    """What is left from the first hole on."""
    ends = [*(begin for begin, _ in holes[1:]), size]
    for (_, begin), end in zip(holes, ends, strict=True):
        if begin < end:
            yield begin, end


def _finish(fd: int, journal: _Journal, places: Places, refresh: Callable[[], None]) -> None:
    if journal.phase == 1:
        _overwrite(fd, journal, refresh)
        journal.enter_phase_2()
    os.ftruncate(fd, journal.plan.stop)
    os.fsync(fd)
    _clean_up(journal, places)


def _overwrite(fd: int, journal: _Journal, refresh: Callable[[], None]) -> None:
    at = journal.plan.start
    for piece in journal.payload():
        write_all(fd, piece, at)
        at += len(piece)
        refresh()
    write_all(fd, journal.plan.mark.encode(), at)
    os.fsync(fd)


def _clean_up(journal: _Journal, places: Places) -> None:
    put_file(places.ordinals, journal.ordinals())
    os.unlink(places.journal)
    sync_directory(places.directory)


def _write_journal(
    plan: Plan, ordinals: bytes, kept: Iterable[bytes], places: Places, refresh: Callable[[], None]
) -> None:
    header = json.dumps(asdict(plan)).encode() + b"\n"
    assert len(header) <= _LONGEST_PLAN
    with _replacing(places.journal) as fd:
        digest = hashlib.blake2b(digest_size=20)
        at = 0
        for piece in (_MAGIC + _PHASES[0], header, ordinals):
            at += write_all(fd, piece, at)
        digest.update(header + ordinals)
        for piece in kept:
            digest.update(piece)
            at += write_all(fd, piece, at)
            refresh()
        if at != len(_MAGIC + _PHASES[0]) + len(header) + len(ordinals) + plan.stop - plan.start:
            raise OSError(errno.EIO, "the mailbox became shorter while it was locked")
        write_all(fd, digest.digest(), at)


class _Journal:
    """A journal that is in its place. Raises FileNotFoundError if there is none; JournalConflict if it is damaged."""

    __slots__ = ("_body", "_fd", "_size", "phase", "plan")

    def __init__(self, places: Places) -> None:
        self._fd: Final = os.open(places.journal, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            self._size: Final = os.fstat(self._fd).st_size - hashlib.blake2b(digest_size=20).digest_size
            self.phase, self._body, self.plan = self._load()
        except BaseException:
            os.close(self._fd)
            raise

    def _load(self) -> tuple[int, int, Plan]:
        """The phase, where the ordinals begin, and the plan."""
        head = os.pread(self._fd, _LONGEST_PLAN, 0)
        begin = len(_MAGIC) + 2
        end = head.find(b"\n", begin) + 1
        if not head.startswith(_MAGIC) or head[len(_MAGIC) : begin] not in _PHASES or not end or self._size < end:
            raise JournalConflict("the journal is damaged")
        digest = hashlib.blake2b(digest_size=20)
        for piece in _read(self._fd, begin, self._size):
            digest.update(piece)
        if digest.digest() != os.pread(self._fd, digest.digest_size, self._size):
            raise JournalConflict("the journal is damaged")
        return 1 + _PHASES.index(head[len(_MAGIC) : begin]), end, Plan(**json.loads(head[begin:end]))

    def ordinals(self) -> bytes:
        return os.pread(self._fd, self.plan.ordinals, self._body)

    def payload(self) -> Iterator[bytes]:
        return _read(self._fd, self._body + self.plan.ordinals, self._size)

    def enter_phase_2(self) -> None:
        write_all(self._fd, _PHASES[1], len(_MAGIC))
        os.fsync(self._fd)
        self.phase = 2

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _sample(fd: int, begin: int, end: int) -> str:
    """A digest of the last octets before `end`, and none before `begin`."""
    begin = max(begin, end - _SAMPLE_OCTETS)
    return hashlib.blake2b(os.pread(fd, max(0, end - begin), begin), digest_size=20).hexdigest()


def _read(fd: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end and (piece := os.pread(fd, min(READ_OCTETS, end - begin), begin)):
        yield piece
        begin += len(piece)


def write_all(fd: int, data: bytes, at: int) -> int:
    """Write all of it, however often it takes; how much that is. Raises OSError."""
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], at + written)
    return written


@contextlib.contextmanager
def _replacing(path: bytes) -> Iterator[int]:
    """A new file that takes the place of another, durably, unless there is an exception."""
    unfinished = path + _UNFINISHED
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            yield fd
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    sync_directory(os.path.dirname(path))


def read_ordinals(places: Places) -> bytes:
    """The list of ordinals as it is; nothing if there is none. Raises OSError."""
    try:
        fd = os.open(places.ordinals, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        return b"".join(_read(fd, 0, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def put_file(path: bytes, content: bytes) -> None:
    """A file with this content and no other, durably; none if it is empty. Raises OSError."""
    if content:
        with _replacing(path) as fd:
            write_all(fd, content, 0)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
