"""A line for each message that leaves a maildrop: who, when, from where, which; never what it says. Blocking."""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ...backend import ClientInfo, MessageInfo
from .deliver import sync_directory
from .identity import as_server

# Percent-encoding lets them stand, beside letters and digits.
_SAFE: Final = "@+=,!"
# Lines written in one go.
_LINES_AT_ONCE: Final = 500
# Other processes hold the file for as long as a write takes.
_TRIES: Final = 100
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Who:
    """Whose session it is. folder: the directory of the Maildir++ folder that is open, None for the inbox."""

    user: str
    session: str
    peer: str
    folder: str | None = None

    @classmethod
    def of(cls, user: str, client: ClientInfo, folder: bytes | None = None) -> Who:
        """The user and the client of a session."""
        return cls(user, client.session, client.peer, None if folder is None else os.fsdecode(folder))


class Journal:
    """An append-only file, shared by all processes that have it, opened anew for every commit: rename it to rotate.

    `path`: made for its owner only if it is missing; its directory has to be there.
    """

    __slots__ = ("_guard", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: Final = os.path.abspath(os.fsencode(path))
        self._guard: Final = threading.Lock()

    def __repr__(self) -> str:
        return f"Journal({os.fsdecode(self._path)!r})"

    def check(self) -> None:
        """Make the file if it is missing. Raises OSError if it cannot be written."""
        self.record("", Who("", "", ""), ())

    def record(self, word: str, who: Who, messages: Iterable[MessageInfo]) -> None:
        """A line for each message; durable when this returns. Raises OSError, and then none of them is there.

        word: what is about to be done, or has come of it.
        """
        with as_server():
            self._record(word, who, messages)

    def _record(self, word: str, who: Who, messages: Iterable[MessageInfo]) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        new = False
        try:
            fd = os.open(self._path, flags)
        except FileNotFoundError:
            fd = os.open(self._path, flags | os.O_CREAT, 0o600)
            new = True
        try:
            with self._guard:
                _lock(fd)
                _append(fd, _lines(word, who, messages))
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.fsync(fd)
            if new:
                sync_directory(os.path.dirname(self._path))
        finally:
            os.close(fd)


def _lines(word: str, who: Who, messages: Iterable[MessageInfo]) -> Iterator[bytes]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    start = f"{now} {word} user={quote(who.user, safe=_SAFE)} peer={who.peer} session={who.session}"
    end = "" if who.folder is None else f" folder={quote(who.folder, safe=_SAFE + '&')}"
    return (f"{start} uid={message.uid} octets={message.octets}{end}\n".encode("ascii") for message in messages)


def _lock(fd: int) -> None:
    """Raises BlockingIOError if somebody keeps the file for long: a thread must come back."""
    for last in (*itertools.repeat(False, _TRIES), True):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if last:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _append(fd: int, lines: Iterator[bytes]) -> None:
    """All of them or none: a full disk leaves no half line, and no line of what is not going to be done."""
    before = os.fstat(fd).st_size
    # A power cut may have left half a line, which nothing is to be glued to.
    if before and os.pread(fd, 1, before - 1) != b"\n":
        lines = itertools.chain((b"\n",), lines)
    try:
        while batch := b"".join(itertools.islice(lines, _LINES_AT_ONCE)):
            # A short write is no error yet: the next one says what is wrong, or writes the rest.
            rest = memoryview(batch)
            while rest:
                rest = rest[os.write(fd, rest) :]
    except BaseException:
        os.ftruncate(fd, before)
        raise
