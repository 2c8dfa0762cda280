r"""Unique-ids that clients have from another server: the file `.trio-pop3.uidl` of a Maildir. Blocking, as scan.py is.

Who is in it has that unique-id for ever; who is not has the one that comes of its base name. It is text, for people
too:

    trio-pop3 uidl 1
    # what begins so is a comment
    000000016b04940c 1700000001.M1P1.host,S=35
    end 1 ac978fe1

A line is a unique-id, one blank, and a base name (what stands before the colon). An octet that is no visible ASCII, a
backslash, and a `#` that begins a line are written `\xHH`. `end` shows that nothing was cut off; behind it stand how
many such lines there are, and the CRC-32 of all that is before it. Who edits the file leaves both out; nothing tells
then whether something else has changed it as well.

A file that cannot be understood is a failed login, never a guess: a wrong unique-id makes clients download everything
again, or, worse, take a message that they have never seen for one that they have.

Lines of messages that are gone stay: nobody else gets their unique-ids.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import eq
from typing import Final

from .deliver import sync_directory
from .identity import own
from .names import base_name, path_id, unique_id, unique_ids

MAP_NAME: Final = b".trio-pop3.uidl"

_HEADER: Final = b"trio-pop3 uidl 1"
_HEADER_OF_ANY_VERSION: Final = re.compile(rb"trio-pop3 uidl [0-9]+")
_END: Final = b"end"
# With a third word it is no line of a message, whatever its unique-id.
_LAST: Final = re.compile(rb"end(?: ([0-9]{1,9}) ([0-9a-f]{8}))?")
# What is longer is not read: it would cost more memory than all the rest of a login.
_MOST_OCTETS: Final = 64 * 1024 * 1024
_MOST_LINES: Final = 1_000_000
_LONGEST_LINE: Final = 64 * 1024
# So much is understood at a time: while an expression is matched, no other thread runs.
_BLOCK_OCTETS: Final = 64 * 1024
_FORGOTTEN_AT_ONCE: Final = 1000
# Lines without comments and escapes, which is to say nearly all.
_PLAIN_LINES: Final = re.compile(rb'(?:[!-"$-\[\]-~][!-\[\]-~]{0,69} [!-.0-9;-\[\]-~]+\n)*')
_UID: Final = re.compile(rb"[\x21-\x7e]{1,70}")
_BARE: Final = re.compile(rb"[\x00-\x20\x7f]")
_ESCAPE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})|\\")
_TO_ESCAPE: Final = re.compile(rb"[^\x21-\x5b\x5d-\x7e]")


_TOO_LARGE: Final = f"a map has {_MOST_OCTETS >> 20} MiB at most"


class UidMapError(Exception):
    """A map that is there and cannot be understood. The text names the file and the line, counted from 1."""

    def __init__(self, path: bytes, line: int | None, what: str) -> None:
        where = ascii(os.fsdecode(path))[1:-1]
        super().__init__(f"{where}: {what}" if line is None else f"{where} line {line}: {what}")


class UidMap:
    """Base name -> unique-id, one to one, and the unique-ids of all who are not in it."""

    __slots__ = ("_taken", "_uids")

    def __init__(self, uids: dict[bytes, str], taken: set[str] | None = None) -> None:
        self._uids: Final = uids
        self._taken: Final = set(uids.values()) if taken is None else taken

    def forget(self) -> None:
        """Become empty, bit by bit: while Python forgets a hundred thousand things at once, no other thread runs."""
        pop: Callable[[], object]
        for pop, count in ((self._uids.popitem, len(self._uids)), (self._taken.pop, len(self._taken))):
            for start in range(0, count, _FORGOTTEN_AT_ONCE):
                part = itertools.repeat((), min(_FORGOTTEN_AT_ONCE, count - start))
                deque(itertools.starmap(pop, part), maxlen=0)

    @property
    def uids(self) -> Mapping[bytes, str]:
        """The lines."""
        return self._uids

    def of(self, base: bytes, path: bytes, nth: int) -> str:
        """The unique-id of a message: imported, or its default (see names.py), or a hash if an import has taken that.

        A matter of the map and the name only: what else is in the Maildir, now or later, changes nothing. `nth` and
        `path`, below the Maildir, are those of `Whereabouts.places`.
        """
        if not nth and (imported := self._uids.get(base)) is not None:
            return imported
        uid = path_id(path) if nth else unique_id(base)
        if uid not in self._taken:
            return uid
        # Slashes before it, so that it is the hash of no name and of no path; each could have been imported as well.
        name = path if nth else base
        hashes = (path_id(b"/" * slashes + name) for slashes in itertools.count(1))
        return next(hash_ for hash_ in hashes if hash_ not in self._taken)

    def of_first(self, bases: Iterable[bytes]) -> list[str]:
        """The unique-ids of messages of which each is the first, or the only one, with its base name."""
        if not self._taken:
            return unique_ids([*bases])
        return [self.of(base, b"", 0) for base in bases]


def read_map(maildir: bytes) -> UidMap:
    """The map of a Maildir, an empty one if there is none. Raises UidMapError, or OSError if it cannot be read."""
    path = b"%s/%s" % (maildir, MAP_NAME)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return UidMap({})
    except OSError as failure:
        if failure.errno in (errno.ELOOP, errno.ENXIO):
            raise UidMapError(path, None, "not a regular file") from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UidMapError(path, None, "not a regular file")
        if status.st_size > _MOST_OCTETS:
            raise UidMapError(path, None, _TOO_LARGE)
        blocks = [*_blocks(path, fd)]
    except OSError as failure:
        failure.filename = path  # read does not say whose fault it was
        raise
    finally:
        os.close(fd)
    return _understood(path, blocks)


def _blocks(path: bytes, fd: int) -> Iterator[bytes]:
    """A file in blocks of whole lines; a last line that has no end is a block of its own."""
    rest = b""
    lines = 0
    while data := os.read(fd, _BLOCK_OCTETS):
        whole, newline, rest = (rest + data).rpartition(b"\n")
        if newline:
            yield whole + newline
            lines += whole.count(b"\n") + 1
        if len(rest) > _LONGEST_LINE:
            raise UidMapError(path, lines + 1, f"a line has {_LONGEST_LINE} octets at most")
    if rest:
        yield rest


def _understood(path: bytes, blocks: list[bytes]) -> UidMap:
    uids: dict[bytes, str] = {}
    taken: set[str] = set()
    entries = 0
    for _, names, here in _entries(path, blocks):
        uids.update(zip(names, here, strict=True))
        taken.update(here)
        entries += len(names)
    if not entries == len(uids) == len(taken):
        _check_one_to_one(path, blocks, uids, taken)
    return UidMap(uids, taken)


def _entries(path: bytes, blocks: list[bytes]) -> Iterator[tuple[int, list[bytes], list[str]]]:
    """The number of a line, and the base names and unique-ids of that one and of those behind it."""
    number = entries = checksum = 0
    ended = False
    for block in blocks:
        if number and not ended and _PLAIN_LINES.fullmatch(block):
            fields = block.split()
            names = fields[1::2]
            yield number + 1, names, b" ".join(fields[::2]).decode("ascii").split(" ")
            number += len(names)
            entries += len(names)
            checksum = zlib.crc32(block, checksum)
        else:
            for line in block.removesuffix(b"\n").split(b"\n"):
                number += 1
                if number == 1:
                    _check_header(path, line)
                elif ended:
                    raise UidMapError(path, number, "nothing may follow the line `end`")
                elif block.endswith(b"\n") and (end := _LAST.fullmatch(line)):  # or its line was cut
                    ended = True
                    _check_end(path, number, end, entries, checksum)
                elif (entry := _entry(path, number, line)) is not None:
                    yield number, [entry[0]], [entry[1]]
                    entries += 1
                checksum = zlib.crc32(b"\n", zlib.crc32(line, checksum))
        if number > _MOST_LINES:
            raise UidMapError(path, number, f"a map has {_MOST_LINES} lines at most")
    if not number:
        _check_header(path, b"")
    if not ended:
        raise UidMapError(path, number, "the last line must be `end`: something is missing behind this one")


def _check_end(path: bytes, number: int, end: re.Match[bytes], entries: int, checksum: int) -> None:
    """A last line that says how many lines there are, and what their checksum is, must be right."""
    if end[1] is not None and (int(end[1]), int(end[2], 16)) != (entries, checksum):
        raise UidMapError(
            path, number,
            "not as it was written: restore it; or if it was edited, and all is right, make this line just `end`",
        )  # fmt: skip


def _check_header(path: bytes, line: bytes) -> None:
    if line == _HEADER:
        return
    if _HEADER_OF_ANY_VERSION.fullmatch(line):
        raise UidMapError(path, 1, "written by a later version, which is needed to read it")
    raise UidMapError(path, 1, f"the first line must be `{_HEADER.decode()}`")


def _entry(path: bytes, number: int, line: bytes) -> tuple[bytes, str] | None:
    """Base name and unique-id of one line, None if it is blank or a comment."""
    if not line or line.startswith(b"#"):
        return None
    written_uid, _, written_name = line.partition(b" ")
    uid, name = _plain(written_uid), _plain(written_name)
    if not written_name or _BARE.search(written_name):
        what = "not a unique-id, one blank and a base name (which has blanks and controls as \\xHH)"
    elif uid is None or name is None:
        what = "a backslash that does not begin \\xHH"
    elif not _UID.fullmatch(uid):
        what = "a unique-id is 1 to 70 characters in 0x21-0x7E"
    elif b"/" in name or b"\0" in name:
        what = "not the name of a file"
    elif base_name(name) != name:
        what = "a base name is what stands before the colon"
    else:
        return name, uid.decode("ascii")
    raise UidMapError(path, number, what)


def _plain(text: bytes) -> bytes | None:
    if b"\\" not in text:
        return text
    if any(match[1] is None for match in _ESCAPE.finditer(text)):
        return None
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text)


def _check_one_to_one(path: bytes, blocks: list[bytes], uids: Mapping[bytes, str], taken: set[str]) -> None:
    """Find the line that contradicts another; the same one twice does not."""
    entries = partial(_entries, path, blocks)
    if len(uids) == len(taken) and all(all(map(eq, map(uids.get, names), here)) for _, names, here in entries()):
        return
    of_name: dict[bytes, str] = {}
    of_uid: dict[str, bytes] = {}
    for first, names, here in entries():
        for number, name, uid in zip(itertools.count(first), names, here, strict=False):
            if of_name.setdefault(name, uid) != uid:
                earlier = next(n + there.index(name) for n, there, _ in entries() if name in there)
                raise UidMapError(path, number, f"another unique-id for the message of line {earlier}")
            if of_uid.setdefault(uid, name) != name:
                earlier = next(n + there.index(uid) for n, _, there in entries() if uid in there)
                raise UidMapError(path, number, f"the unique-id of line {earlier}, for another message")


def escaped(name: bytes) -> str:
    r"""A base name as it stands in a map, with `\xHH` for what is no visible ASCII."""
    return _TO_ESCAPE.sub(lambda match: b"\\x%02x" % ord(match[0]), name).decode("ascii")


def map_lines(uids: Mapping[bytes, str]) -> Iterator[str]:
    """The text of a map, line by line."""
    line = _HEADER.decode()
    yield line
    checksum = zlib.crc32(f"{line}\n".encode())
    for name, uid in uids.items():
        written = uid.replace("\\", r"\x5c")
        if written.startswith("#"):
            written = r"\x23" + written[1:]
        line = f"{written} {escaped(name)}"
        yield line
        # What is no ASCII is refused by whoever reads it.
        checksum = zlib.crc32(f"{line}\n".encode("ascii", "replace"), checksum)
    yield f"{_END.decode()} {len(uids)} {checksum:08x}"


def parse_map(path: str, text: bytes) -> dict[bytes, str]:
    """What `map_lines` wrote. `path` is for messages. Raises UidMapError."""
    return _understood(os.fsencode(path), [text] if text else [])._uids


def write_map(maildir: bytes, uids: Mapping[bytes, str]) -> None:
    """Replace the map, all of it or nothing; durable when this returns. The session lock must be held.

    Raises OSError, or UidMapError for what could not be read again, and then the old map is there as it was.
    """
    text = "".join(f"{line}\n" for line in map_lines(uids)).encode("ascii", "replace")
    path = b"%s/%s" % (maildir, MAP_NAME)
    if len(text) > _MOST_OCTETS:
        raise UidMapError(path, None, _TOO_LARGE)
    if _understood(path, [text])._uids != uids:
        raise UidMapError(path, None, "these unique-ids cannot be written down so that they are read again")
    unfinished = path + b".unfinished"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)  # of a writer that was killed: nobody else is writing, for we hold the lock
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            own(fd, os.stat(maildir))
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.rename(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    sync_directory(maildir)
