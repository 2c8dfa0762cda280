"""Messages read for one session: what is in memory at once, else in threads, small ones with those behind them.

Going to a thread costs ten times as much as reading 6 KB that are in memory, so it has to be worth the way. Nothing
here waits for a disk on the event loop; see `cached`.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from ...backend import MessageColumns, MessageUnavailable
from ...sansio import OctetCounter, octets_of
from .cached import NOWAIT, can_be_asked, whole_file
from .scan import READ_OCTETS, MaildirMessage, Whereabouts, open_message

logger = logging.getLogger("trio_pop3.maildir")

RunSync: TypeAlias = Callable[..., Awaitable[Any]]

# Read on the event loop at a time: as much as is sent at a time.
_PIECE: Final = 64 * 1024
# Read before they are asked for, besides READ_OCTETS: so many at most, and no further once it has taken so long.
_AHEAD_MESSAGES: Final = 64
_AHEAD_SECONDS: Final = 0.02


class Reader:
    """Reads the messages of one session.

    When a thread is needed, a client that asks for one message after the other is given the next ones from memory:
    twice as many each time it went on where they ended. They are checked when they are read like those that were asked
    for: what is handed out is what was announced at login, whole.

    Args:
        files: where they are.
        run_sync: see `MaildirStore`.
        at_once: whether files may be opened on the event loop, where the system can be asked so.
    """

    __slots__ = ("_ahead", "_asked", "_at_once", "_batch", "_files", "_messages", "_next", "_run_sync")

    def __init__(self, files: Whereabouts, run_sync: RunSync, *, at_once: bool) -> None:
        self._messages: Sequence[MaildirMessage] = ()
        self._files = files
        self._run_sync = run_sync
        self._at_once = at_once
        self._ahead: dict[str, bytes] = {}
        self._asked = ""  # the unique-id of the last
        self._next = 0  # the first message behind those that were read
        self._batch = 0  # how many were read ahead the last time

    def begin(self, messages: Sequence[MaildirMessage]) -> None:
        """Take over the messages of the snapshot, in order. Blocking: tries with the first of them what is possible."""
        self._messages = messages
        if self._at_once:
            self._at_once = any(can_be_asked(self._files.where(message)) for message in messages[:1])

    async def retrieve(self, message: MaildirMessage) -> bytes | Pieces:
        """A message of up to 256 KiB whole, a larger one in pieces of at most that size.

        Raises MessageUnavailable. Cancelled, it waits for the thread and leaves nothing open.
        """
        content: bytes | Pieces | None = self._ahead.pop(message.uid, None)
        if content is not None:
            self._asked = message.uid
            return content
        if self._at_once and message.octets <= _PIECE:
            content = whole_file(self._files.where(message), message.is_unchanged, message.octets)
            if content is not None and octets_of(content) != message.octets:
                content = None  # the thread says why not, and forgets what was wrong
        return await self._run_sync(self._begin, message) if content is None else content

    def _begin(self, message: MaildirMessage) -> bytes | Pieces:
        start = time.monotonic()
        try:
            content = self._opened(message, *self._files.open(message))
        except FileNotFoundError:
            raise MessageUnavailable from None
        except OSError as failure:
            logger.error("cannot read %a: %s", os.fsdecode(self._files.where(message)), failure.strerror)
            raise MessageUnavailable from None
        if message.uid != self._asked:
            # Clients that look at the top first ask twice, and go on with the next one.
            self._asked = message.uid
            self._read_on(message, start, isinstance(content, bytes))
        return content

    def _opened(self, message: MaildirMessage, fd: int, status: os.stat_result) -> bytes | Pieces:
        """The content behind a descriptor, which is closed, or the pieces' to close. Raises OSError."""
        try:
            # A message is never shorter as sent than as stored.
            if status.st_size > message.octets:
                raise OSError(errno.EFBIG, "longer than at login")
            if status.st_size > READ_OCTETS:
                first = os.read(fd, min(_PIECE, READ_OCTETS))
                return Pieces(fd, first, status.st_size, self._run_sync, message.octets, self._files.not_as_announced)
            content = os.read(fd, status.st_size)
            if octets_of(content) != message.octets:
                raise self._files.not_as_announced()
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return content

    def _read_on(self, message: MaildirMessage, start: float, small: bool) -> None:
        """Read the next messages too, if this one was the next; what is large is enough for one session."""
        self._ahead.clear()
        following = self._place_of(message) + 1
        self._batch = min(2 * self._batch or 1, _AHEAD_MESSAGES) if small and following == self._next + 1 else 0
        self._next = following
        left = READ_OCTETS
        for ahead in self._messages[following : following + self._batch]:
            left -= ahead.octets
            if left < 0 or time.monotonic() - start > _AHEAD_SECONDS:
                break
            try:
                self._ahead[ahead.uid] = self._where_it_was(ahead)
            except OSError:
                break  # which is for the one who asks for it
            self._next += 1

    def _place_of(self, message: MaildirMessage) -> int:
        """Its index, mostly that of the next one that was not read."""
        messages = self._messages
        if self._next < len(messages) and messages[self._next].uid == message.uid:
            return self._next
        uids = messages.uids if isinstance(messages, MessageColumns) else [each.uid for each in messages]
        return uids.index(message.uid)

    def _where_it_was(self, message: MaildirMessage) -> bytes:
        """A small message whose file has not been moved meanwhile. Raises OSError."""
        fd, status = open_message(self._files.where(message))
        if status.st_ino != message.inode:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "another file", message.base)
        self._files.check(fd, status, message)
        content = self._opened(message, fd, status)
        assert isinstance(content, bytes)
        return content


class Pieces:
    """A large file, read on where it is in memory, else in a thread. Closed at its end, on failure, by `aclose`, or
    when it is forgotten.

    `octets`: where it ends, also if the file grows: nothing that comes behind has been announced, and whoever writes
    faster than we read would keep us for ever. `announced`: octets as sent; `wrong` is called in a thread when it turns
    out to be another number, and makes the error to raise then. Never more than that is handed out.
    """

    def __init__(
        self,
        fd: int,
        first: bytes,
        octets: int,
        run_sync: RunSync,
        announced: int,
        wrong: Callable[[], OSError],
    ) -> None:
        self._fd: int | None = fd
        self._first: bytes | None = first
        self._position = len(first)
        self._octets = octets
        self._run_sync = run_sync
        self._announced = announced
        self._wrong = wrong
        self._counter = OctetCounter()
        self._buffer = bytearray(_PIECE) if NOWAIT else None

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None and self._fd is not None and self._position < self._octets:
            try:
                piece = self._cached(self._fd)
                if piece is None:
                    octets = min(READ_OCTETS, self._octets - self._position)
                    piece = await self._run_sync(os.pread, self._fd, octets, self._position)
            except BaseException:
                self._close()
                raise
            self._position += len(piece)
        if self._fd is not None:
            self._counter.update(piece or b"")
            if self._counter.octets > self._announced or (not piece and self._counter.finish() != self._announced):
                self._close()
                raise await self._run_sync(self._wrong)
        if not piece:
            self._close()
            raise StopAsyncIteration
        return piece

    def _cached(self, fd: int) -> bytes | None:
        """What is in memory of the next piece; None if nothing is, or if that cannot be asked."""
        if self._buffer is None:
            return None
        with memoryview(self._buffer) as view:
            try:
                octets = os.preadv(fd, [view[: self._octets - self._position]], self._position, NOWAIT)
            except BlockingIOError:
                return None
            except OSError as failure:
                if failure.errno != errno.EOPNOTSUPP:
                    raise
                self._buffer = None
                return None
            return bytes(view[:octets])

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    async def aclose(self) -> None:
        """Close the file. No thread is reading it: a read that was cancelled has been waited for."""
        self._close()

    def __del__(self) -> None:
        self._close()
