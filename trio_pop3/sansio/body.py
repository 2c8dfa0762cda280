"""Multi-line bodies (RFC 1939 section 3): line ends, dot-stuffing, octet counts, TOP. Pure functions over chunks.

The canonical form of a message is what a client gets after un-stuffing: every LF that has no CR before it becomes
CRLF, and a CRLF is added at the end if there is none (so the empty message is one empty line). A lone CR is an octet
like any other. Sizes count the canonical form; dots added on the wire and the terminator are not counted (RFC 1939
section 11). None of it depends on where chunks are cut.
"""

from __future__ import annotations

import re
from typing import Final

from .grammar import CRLF

TERMINATOR: Final = b".\r\n"
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_END: Final = CRLF + TERMINATOR
# Looks for the LF only, by memchr, which takes half the time of `b"\n." in text`; without a match nothing is copied.
_LINE_DOT: Final = re.compile(rb"\n\.")
# From here on a slice is counted instead of searched line by line.
_COUNT_FROM: Final = 4096


class OctetCounter:
    """The size of a message as it will be sent, counted chunk by chunk."""

    __slots__ = ("_last", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self._last = b""

    def update(self, chunk: bytes) -> None:
        """Count one more chunk of the stored message."""
        if not chunk:
            return
        bare = chunk.count(b"\n")
        if b"\r" in chunk:
            bare -= chunk.count(CRLF)
        if self._last == b"\r" and chunk.startswith(b"\n"):
            bare -= 1
        self.octets += len(chunk) + bare
        self._last = chunk[-1:]

    def finish(self) -> int:
        """The size in octets, with the final CRLF that will be added if it is missing."""
        return self.octets if self._last == b"\n" else self.octets + 2


def octets_of(message: bytes) -> int:
    """The size of a whole message as LIST must announce it, in octets."""
    counter = OctetCounter()
    counter.update(message)
    return counter.finish()


class BodyEncoder:
    """Turns the stored form into the wire form.

    `octets` is the size so far, as a client will count it: canonical, dots and terminator left out.
    """

    __slots__ = ("_at_line_start", "_held", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self._at_line_start = True
        self._held = b""  # a CR at the end of a chunk waits for what follows it

    @property
    def begun(self) -> bool:
        """Whether there were any octets yet."""
        return self.octets > 0 or bool(self._held)

    def encode(self, chunk: bytes) -> bytes:
        """Wire form of one more chunk."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if chunk.endswith(b"\r"):
            chunk, self._held = chunk[:-1], b"\r"
        if not chunk:
            return b""
        # What has no bare LF is not taken apart to be put together again.
        bare = b"\r" not in chunk or chunk.count(CRLF) != chunk.count(b"\n")
        text = chunk.replace(CRLF, b"\n") if bare and b"\r" in chunk else chunk
        stuffed = _LINE_DOT.sub(b"\n..", text)
        if self._at_line_start and stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_line_start = text.endswith(b"\n")
        wire = stuffed.replace(b"\n", CRLF) if bare else stuffed
        self.octets += len(wire) - (len(stuffed) - len(text))
        return wire

    def finish(self, *, empty_line: bool) -> bytes:
        """The last octets, the terminator included. `empty_line`: a body of no octets is sent as one empty line."""
        tail = self._held
        if tail or not self._at_line_start or (empty_line and not self.octets):
            tail += CRLF
        self.octets += len(tail)
        return tail + TERMINATOR


class BodyDecoder:
    """Turns the wire form back: finds the terminator, takes the dots out, gives the octets as they were announced.

    Only CRLF ends a line. `lenient` also takes a terminator that ends in a bare LF, for servers that send such.
    """

    __slots__ = ("_end", "_held", "_skip", "done", "rest")

    def __init__(self, *, lenient: bool = False) -> None:
        self._end = re.compile(rb"\r\n\.\r?\n" if lenient else rb"\r\n\.\r\n")
        self._held = CRLF  # as if a line had just ended: no special first line
        self._skip = len(CRLF)  # of which the reader gets nothing
        self.done = False
        self.rest = b""  # what followed the terminator

    def decode(self, chunk: bytes) -> bytes:
        """Octets of the body in one more chunk; sets `done` and `rest` at the terminator."""
        data = self._held + chunk
        if match := self._end.search(data):
            self.done = True
            self.rest = data[match.end() :]
            body = data[: match.start() + len(CRLF)]
        else:
            keep = _partial_end(data)
            self._held = data[len(data) - keep :]
            body = data[: len(data) - keep]
        skip = min(self._skip, len(body))
        self._skip -= skip
        return body.replace(b"\r\n.", CRLF)[skip:]


def _partial_end(data: bytes) -> int:
    """How many octets at the end of `data` may turn out to be the beginning of the end."""
    for length in range(min(len(_END) - 1, len(data)), 0, -1):
        if _END.startswith(data[-length:]):
            return length
    return 0


class TopCutter:
    """The part of a message that TOP shows: the headers, the blank line, and `lines` lines of the body.

    Works on the stored form and gives a prefix of it, so that TOP is always a prefix of RETR. A message without a blank
    line is all headers. Once `done`, there is no need to read on.
    """

    __slots__ = ("_context", "_lines", "done")

    def __init__(self, lines: int) -> None:
        self._context: bytes | None = b"\n"  # the two octets before the chunk; None once the headers are past
        self._lines = lines
        self.done = False

    def cut(self, chunk: bytes) -> bytes:
        """As much of the chunk as TOP shows."""
        start = 0
        if self._context is not None:
            data = self._context + chunk
            match = _BLANK_LINE.search(data)
            if match is None:
                self._context = data[-2:]
                return chunk
            start = match.end() - len(self._context)
            self._context = None
        return chunk[: self._end_of_lines(chunk, start)]

    def _end_of_lines(self, chunk: bytes, start: int) -> int:
        """Index behind the last line wanted, or the length of the chunk if more lines are wanted than it has."""
        stop = len(chunk)
        while stop - start > _COUNT_FROM:
            middle = (start + stop) // 2
            found = chunk.count(b"\n", start, middle)
            if found >= self._lines:
                stop = middle
            else:
                self._lines -= found
                start = middle
        while self._lines:
            start = chunk.find(b"\n", start) + 1
            if not start:
                return len(chunk)
            self._lines -= 1
        self.done = True
        return start
