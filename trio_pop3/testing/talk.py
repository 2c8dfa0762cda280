"""Talking to a server: send lines, read replies, and keep a transcript of it all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .transcript import Transcript, escape
from .wire import Wire

# RFC 2449 section 4: a first reply line, with its CRLF.
MOST_STATUS_OCTETS: Final = 512
# A server may go on for ever, and a test that waits for the end of it, too. No line that is a reply is that long, and
# few messages are.
_MOST_LINE_OCTETS: Final = 1024 * 1024
_MOST_BODY_OCTETS: Final = 64 * 1024 * 1024
_MOST_SHOWN: Final = 80
_END: Final = b".\r\n"
_STATUS: Final = re.compile(rb"(?P<word>\+OK|-ERR)(?: (?P<text>.*))?|\+ (?P<challenge>.*)", re.DOTALL)
_CODE: Final = re.compile(rb"\[([^\]/\s]+(?:/[^\]/\s]+)*)\]")


class BadReply(AssertionError):
    """What the server sent is no reply that POP3 knows, whatever it is a reply to."""


class Endless(BadReply):
    """So much came, and no end of it, that nobody will wait for it."""


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

    A line of more than 1 MiB, and a multi-line reply of more than 64 MiB, is out of order: `Endless`. The transcript
    then has its beginning only.

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
        self._reply_begins = 0  # which entry of the transcript a reply that is read begins with, or the one after it

    def send(self, *lines: bytes) -> None:
        """Send lines in one piece; each gets its CRLF."""
        self.send_octets(b"".join(line + b"\r\n" for line in lines))

    def send_octets(self, data: bytes) -> None:
        """Send these octets as they are."""
        self.transcript.add("C", data, self.number)
        self.wire.send(data)

    def reply(self, *, multiline: bool = False) -> Reply:
        """The next reply; with `multiline`, and a body if it is `+OK`."""
        self._reply_begins = len(self.transcript.entries)
        line = self._line()
        match = _STATUS.fullmatch(line)
        if match is None:
            raise BadReply(f"neither +OK nor -ERR: {self._quoted(line)}")
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
            raise BadReply(f"more was said where the server should have closed: {self._quoted(self._buffer)}")

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
            self._receive_more(_MOST_LINE_OCTETS, "a line")
            if self._ended and self._buffer:
                raise BadReply(
                    f"the server closed the connection in the middle of a line: {self._quoted(self._buffer)}"
                )
            if self._ended:
                raise Closed("the server closed the connection where a reply was due")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise BadReply(f"a line that does not end in CRLF: {self._quoted(line)}")
        return line[:-2]

    def _body(self) -> tuple[bytes, ...]:
        """Lines up to the one that is a dot. Octets up to CRLF are one, whatever they are: a bare LF ends nothing."""
        searched = 0
        while (end := self._end_of_body(searched)) is None:
            searched = max(0, len(self._buffer) - len(_END) - 1)
            self._receive_more(_MOST_BODY_OCTETS, "a multi-line reply")
            if self._ended:
                raise BadReply("the server closed the connection in the middle of a multi-line reply")
        body = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END)]
        # Stuffing (RFC 1939 section 3): the dot in front is not the message's.
        return tuple(line[1:] if line.startswith(b".") else line for line in body.split(b"\r\n")[:-1])

    def _end_of_body(self, searched: int) -> int | None:
        """Where the dot that ends it is, if that has come."""
        if self._buffer.startswith(_END):
            return 0
        position = self._buffer.find(b"\r\n" + _END, searched)
        return None if position < 0 else position + 2

    def _receive_more(self, most: int, what: str) -> None:
        """More of something that has not ended. Raises Endless."""
        if len(self._buffer) > most:
            del self.transcript.entries[self._reply_begins + 1 :]
            self._buffer.clear()
            self.transcript.remarks.append("the last reply has no end, so only its beginning is here")
            raise Endless(f"{what} of more than {most} octets, and it has not ended")
        if not self._ended:
            self._receive()

    def _quoted(self, data: bytes | bytearray) -> str:
        """The beginning of what was said, for a sentence. What is hidden is hidden before anything is cut off."""
        text = escape(bytes(data), self.transcript.hide)
        return f'"{text}"' if len(text) <= _MOST_SHOWN else f'"{text[:_MOST_SHOWN]}..."'
