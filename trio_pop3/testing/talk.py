"""Talking to a server: send lines, read replies, and keep a transcript of it all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .transcript import Transcript
from .wire import Wire

# RFC 2449 section 4: a first reply line, with its CRLF.
MOST_STATUS_OCTETS: Final = 512
_STATUS: Final = re.compile(rb"(?P<word>\+OK|-ERR)(?: (?P<text>.*))?|\+ (?P<challenge>.*)", re.DOTALL)
_CODE: Final = re.compile(rb"\[([^\]/\s]+(?:/[^\]/\s]+)*)\]")


class BadReply(AssertionError):
    """What the server sent is no reply that POP3 knows, whatever it is a reply to."""


class Closed(BadReply):
    """The server closed the connection where a reply was due."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered to one line."""

    ok: bool | None  # None is a challenge
    text: bytes  # behind the status
    lines: tuple[bytes, ...] | None = None  # of a multi-line reply, without dot-stuffing

    @property
    def code(self) -> str | None:
        """The response code in upper case, if there is one (RFC 2449 section 8)."""
        match = _CODE.match(self.text)
        return match[1].decode("latin-1").upper() if match else None

    @property
    def body(self) -> bytes:
        """The octets of a multi-line reply."""
        return b"".join(line + b"\r\n" for line in self.lines or ())


class Talk:
    """One connection, spoken to line by line. What it finds out of order is raised as BadReply.

    Args:
        wire: the connection, nothing read from it.
        transcript: where to write down what is said; a new one if None.
        number: which connection this is in the transcript.
        most_status_octets: a first reply line that is longer, with its CRLF, is out of order.
    """

    def __init__(
        self,
        wire: Wire,
        transcript: Transcript | None = None,
        number: int = 1,
        *,
        most_status_octets: int = MOST_STATUS_OCTETS,
    ) -> None:
        self.wire: Final = wire
        self.transcript: Final = Transcript() if transcript is None else transcript
        self.number: Final = number
        self._most_status_octets: Final = most_status_octets
        self._buffer = bytearray()
        self._ended = False

    def send(self, *lines: bytes) -> None:
        """Send lines in one piece; each gets its CRLF."""
        self.send_octets(b"".join(line + b"\r\n" for line in lines))

    def send_octets(self, data: bytes) -> None:
        """Send these octets as they are."""
        self.transcript.add("C", data, self.number)
        self.wire.send(data)

    def reply(self, *, multiline: bool = False) -> Reply:
        """The next reply; with `multiline`, and a body if it is `+OK`."""
        line = self._line()
        match = _STATUS.fullmatch(line)
        if match is None:
            raise BadReply(f"neither +OK nor -ERR: {line[:80]!r}")
        if match["challenge"] is not None:
            return Reply(None, match["challenge"])  # as long as its mechanism needs (RFC 5034 section 4)
        if len(line) + 2 > self._most_status_octets:
            raise BadReply(f"a first reply line of {len(line) + 2} octets, {self._most_status_octets} are allowed")
        ok = match["word"] == b"+OK"
        return Reply(ok, match["text"] or b"", self._body() if ok and multiline else None)

    def ask(self, line: bytes, *, multiline: bool = False) -> Reply:
        """One line, its reply."""
        self.send(line)
        return self.reply(multiline=multiline)

    def start_tls(self) -> None:
        """The handshake behind STLS."""
        if self._buffer:
            raise BadReply("the server sent more in clear behind its +OK to STLS")
        self.wire.start_tls()
        self.transcript.remarks.append("from the first STLS on over TLS")

    def finish(self) -> None:
        """Send no more: the server sees the end of the stream."""
        self.transcript.add("C", b"", self.number)
        self.wire.finish()

    def close(self) -> None:
        """Drop the connection without a word."""
        if not self._ended:
            self._ended = True
            self.transcript.add("C", b"", self.number)
        self.wire.close()

    def expect_end(self) -> None:
        """The server closes, and says nothing before that."""
        if not self._ended and not self._buffer:
            self._receive()
        if self._buffer:
            raise BadReply(f"more was said where the server should have closed: {bytes(self._buffer[:80])!r}")

    @property
    def ended(self) -> bool:
        """Whether the server is known to have closed."""
        return self._ended

    def _receive(self) -> None:
        data = self.wire.receive()
        self.transcript.add("S", data, self.number)
        self._buffer += data
        self._ended = not data

    def _line(self) -> bytes:
        """The next line, without its CRLF."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if not self._ended:
                self._receive()
            if self._ended and self._buffer:
                raise BadReply(
                    f"the server closed the connection in the middle of a line: {bytes(self._buffer[:80])!r}"
                )
            if self._ended:
                raise Closed("the server closed the connection where a reply was due")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise BadReply(f"a line that does not end in CRLF: {line[:80]!r}")
        return line[:-2]

    def _body(self) -> tuple[bytes, ...]:
        lines: list[bytes] = []
        while (line := self._body_line()) != b".":
            # Stuffing (RFC 1939 section 3): the dot in front is not the message's.
            lines.append(line[1:] if line.startswith(b".") else line)
        return tuple(lines)

    def _body_line(self) -> bytes:
        """A line of a body: octets up to CRLF, whatever they are. A bare LF ends nothing."""
        searched = 0
        while (end := self._buffer.find(b"\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 1)
            if not self._ended:
                self._receive()
            if self._ended:
                raise BadReply("the server closed the connection in the middle of a multi-line reply")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line
