"""`LmtpConnection`: the one stateful class. No clock, no socket, and no more memory than one piece and one line."""

from __future__ import annotations

from typing import Final, Literal

from ..sansio import NEED_DATA, PAUSED, LocalProtocolError, Signal
from ..sansio.body import BodyDecoder
from ..sansio.buffer import OVERLONG_LINE, OVERLONG_STREAM, ReceiveBuffer
from . import events as ev
from .commands import OVERLONG, WITHOUT_END, State, read_command
from .grammar import MAX_COMMAND_LINE, MAX_DROPPED_LINE
from .replies import Reply, write, write_lines

_CRLF: Final = b"\r\n"
# RFC 2920, 2034, 6152 and 6531.
_EXTENSIONS: Final = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8")
_GO_AHEAD: Final = 354
_GOODBYE: Final = (221, 421)
# Where a transaction is under way.
_IN_TRANSACTION: Final = (State.SENDER, State.RECIPIENTS)
_Owed = ev.Command | ev.BadCommand


class LmtpConnection:
    """The server's side of one LMTP connection (RFC 2033).

    First `send` a greeting, `Reply(220, "", ...)`. Then, for each command from `next_event`, one reply. `Data` is
    answered with 354, and `Content` and `EndOfContent` follow, behind which one reply is due for each recipient that
    was accepted, in order: `replies_due` says how many still. While a reply is due `next_event` returns `PAUSED`.

    Only CRLF ends a line, and only CRLF "." CRLF a message: a lone CR or LF is an octet like any other, so that no
    sender can hide one message in another (SMTP smuggling).

    Args:
        hostname: our name, for the reply to LHLO.
        max_size: octets of a message; a larger one is read and thrown away. Announced as SIZE (RFC 1870).
    """

    def __init__(self, *, hostname: str, max_size: int) -> None:
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1 octet, not {max_size}")
        self.state = State.GREETING
        self.replies_due = 0
        self._extensions: Final = (Reply(250, "", hostname).text, *_EXTENSIONS, f"SIZE {max_size}")
        self._max_size: Final = max_size
        self._buffer = ReceiveBuffer(line_end=_CRLF)
        self._eof = False
        self._owed: _Owed | None = None
        self._recipients = 0
        self._utf8 = False
        self._decoder: BodyDecoder | None = None
        self._octets = 0

    def receive_data(self, data: bytes | bytearray) -> None:
        """Store octets from the client; b"" means that it will send no more.

        Raises LocalProtocolError for octets after b"".
        """
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("data received after the end of the stream")
        elif self.state is not State.CLOSED:
            self._buffer.append(data)

    def next_event(self) -> ev.Event | Signal:
        """The next thing the client said, `NEED_DATA` if it is not all here, or `PAUSED` if a reply is due first."""
        if self.state is State.CLOSED:
            return self._nothing()
        if self.state is State.CONTENT:
            return self._next_content()
        if self._owed is not None or self.state in (State.GREETING, State.REPLIES):
            return PAUSED
        line = self._buffer.next_line(MAX_COMMAND_LINE, MAX_DROPPED_LINE)
        if line is None:
            return self._nothing()
        if line is OVERLONG_LINE:
            self._owed = OVERLONG
        elif line is OVERLONG_STREAM:
            self._owed = WITHOUT_END
        else:
            self._owed = read_command(line, self.state, utf8=self._utf8)
        return self._owed

    @property
    def unread(self) -> int:
        """Octets received and not consumed."""
        return len(self._buffer)

    def _nothing(self) -> ev.ConnectionClosed | Literal[Signal.NEED_DATA]:
        return ev.ConnectionClosed() if self._eof else NEED_DATA

    def _next_content(self) -> ev.Event | Signal:
        assert self._decoder is not None
        while not self._decoder.done:
            if not self._buffer:
                return self._nothing()
            octets = self._decoder.decode(self._buffer.take())
            self._octets += len(octets)
            self._buffer.put_back(self._decoder.rest)
            if octets and self._octets <= self._max_size:
                return ev.Content(octets)
        self._decoder = None
        self.state = State.REPLIES
        self.replies_due = self._recipients
        return ev.EndOfContent(self._octets, too_large=self._octets > self._max_size)

    def send(self, reply: Reply) -> bytes:
        """The octets of the reply that is due. 421 may be said at any time, and nothing is read behind it.

        Raises LocalProtocolError if no reply is due, or not this one; the state is unchanged then.
        """
        if reply.code in _GOODBYE:
            if self.state is State.CLOSED or (reply.code != 421 and not isinstance(self._owed, ev.Quit)):
                raise LocalProtocolError(f"{reply.code} cannot be said now ({self.state.value})")
            self._close()
        elif self.state is State.REPLIES:
            self._check(reply)
            self.replies_due -= 1
            if not self.replies_due:
                self._forget()
        elif self.state is State.GREETING:
            if reply.code != 220:
                raise LocalProtocolError(f"a greeting is 220 or 421, not {reply.code}")
            self.state = State.FRESH
        elif self._owed is not None:
            self._answer(self._owed, reply)
            self._owed = None
        else:
            raise LocalProtocolError(f"no reply is due ({self.state.value})")
        return write(reply)

    def send_extensions(self) -> bytes:
        """The reply to LHLO: our name, and what is served (RFC 2033 section 4.1). Raises LocalProtocolError."""
        if not isinstance(self._owed, ev.Lhlo):
            raise LocalProtocolError("this is the reply to LHLO only")
        self._owed = None
        self._forget()
        return write_lines(250, self._extensions)

    def _check(self, reply: Reply) -> None:
        if 300 <= reply.code < 400 or reply.code == 220:
            raise LocalProtocolError(f"{reply.code} is no answer to this")

    def _answer(self, owed: _Owed, reply: Reply) -> None:
        """Where an answered command leads."""
        if isinstance(owed, ev.Data) and reply.code == _GO_AHEAD:
            self.state, self._decoder, self._octets = State.CONTENT, BodyDecoder(), 0
            return
        self._check(reply)
        if isinstance(owed, ev.Lhlo | ev.BadCommand | ev.Data | ev.Quit) and reply.positive:
            raise LocalProtocolError(f"{type(owed).__name__} cannot be answered with {reply.code}")
        if not reply.positive:
            return
        if isinstance(owed, ev.Mail):
            self.state, self._utf8 = State.SENDER, owed.utf8
        elif isinstance(owed, ev.Rcpt):
            self.state = State.RECIPIENTS
            self._recipients += 1
        elif isinstance(owed, ev.Rset) and self.state in _IN_TRANSACTION:
            self._forget()

    def _forget(self) -> None:
        """The transaction is over."""
        self.state, self._recipients, self._utf8 = State.READY, 0, False

    def _close(self) -> None:
        self.state, self._owed, self._decoder, self.replies_due = State.CLOSED, None, None, 0
        self._buffer.clear()
