"""Received octets, handed out line by line. No octet is looked at twice, and a line without an end costs no memory."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal


class Overlong(Enum):
    """Lines that are not handed out."""

    LINE = "line"  # it has ended: the stream is in step again
    STREAM = "stream"  # it has not, and will not be waited for


OVERLONG_LINE: Final[Literal[Overlong.LINE]] = Overlong.LINE
OVERLONG_STREAM: Final[Literal[Overlong.STREAM]] = Overlong.STREAM


class ReceiveBuffer:
    """What was received and not yet consumed.

    Args:
        line_end: b"\\r\\n", or b"\\n" to accept a bare LF too (one CR before it is then part of the line end).
    """

    __slots__ = ("_data", "_dropped", "_line_end", "_scanned", "_start")

    def __init__(self, *, line_end: bytes) -> None:
        self._data = bytearray()
        self._start = 0  # first octet not consumed
        self._scanned = 0  # first octet not yet searched for a line end
        self._dropped = 0  # octets of an over-long line already thrown away
        self._line_end = line_end

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes | bytearray) -> None:
        """Add received octets."""
        if self._start:
            del self._data[: self._start]
            self._scanned -= self._start
            self._start = 0
        self._data += data

    def take(self) -> bytes:
        """Everything not consumed yet, for the reader of a body."""
        data = bytes(self._data[self._start :])
        self.clear()
        return data

    def put_back(self, data: bytes) -> None:
        """What `take` took too much of, to be read again before anything else."""
        self._data[:0] = data

    def clear(self) -> None:
        """Forget everything, the half of an over-long line included."""
        self._data.clear()
        self._start = self._scanned = self._dropped = 0

    def begins(self, word: bytes) -> bool:
        """Whether the next line begins so, in any letter case."""
        return not self._dropped and self._data[self._start : self._start + len(word)].upper() == word

    def next_line(self, max_line: int, max_dropped: int) -> bytes | Overlong | None:
        """The next line without its end, or what became of it; None if its end has not arrived.

        Args:
            max_line: octets of a line, its end included, that are handed out.
            max_dropped: octets of an over-long line that are dropped while looking for its end.
        """
        end = self._data.find(self._line_end, self._scanned)
        if end < 0:
            # A line end of two octets may be half here.
            self._scanned = max(self._start, len(self._data) - len(self._line_end) + 1)
            return self._drop_unfinished(max_line, max_dropped)
        start, stop = self._start, end + len(self._line_end)
        length = self._dropped + stop - start
        self._start = self._scanned = stop
        self._dropped = 0
        if length > max_dropped:
            return OVERLONG_STREAM
        if length > max_line:
            return OVERLONG_LINE
        # One CR before a bare LF belongs to the line end; any other is an octet of the line.
        if self._line_end == b"\n" and end > start and self._data[end - 1] == 0x0D:
            end -= 1
        return bytes(self._data[start:end])

    def _drop_unfinished(self, max_line: int, max_dropped: int) -> Overlong | None:
        if self._dropped + len(self) < max_line:
            return None
        # Keep one octet: it may be the CR of the line end.
        drop = len(self) - 1
        if self._dropped + len(self) >= max_dropped:
            self.clear()
            return OVERLONG_STREAM
        self._start += drop
        self._dropped += drop
        self._scanned = self._start
        return None
