"""`Pop3Connection`: the one stateful class. Octets in, events out; events in, octets out. No clock, no socket."""

from __future__ import annotations

from collections import deque
from typing import Final

from . import events as ev
from . import grammar, readers, writers
from .body import BodyDecoder, BodyEncoder
from .buffer import OVERLONG_LINE, OVERLONG_STREAM, ReceiveBuffer
from .commands import BY_EVENT, Step, shape_of
from .enums import NEED_DATA, PAUSED, Profile, Role, Shape, Signal, State
from .errors import LocalProtocolError, RemoteProtocolError
from .states import TRANSITIONS, on_command, on_refusal, transitions_of

_OVER: Final = (State.UPDATE, State.CLOSED, State.ERROR)
# Nothing that arrives now is read as POP3: it would be before its time, or is TLS.
_NOT_YET: Final = (State.GREETING, State.TLS_PENDING)
_LOGGED_OUT: Final = (State.AUTHORIZATION, State.USER_GIVEN)
_STATUS: Final = (ev.Ok, ev.Err)
_EXCHANGE: Final = (ev.Auth, ev.SaslResponse)
# Past this there is no way back into step: what is dropped could be half a secret (RFC 5034 section 4).
_SASL_LIMITS: Final = (grammar.MAX_SASL_LINE, grammar.MAX_SASL_LINE)


class Pop3Connection:
    """One POP3 connection, seen from one side.

    A *server* sends a `Greeting` (or an `Err` to refuse), then for each command from `next_event` one reply: `Ok` or
    `Err`, and after an `Ok` to a multi-line command any number of `Data` and one `EndOfBody`. While a reply is owed
    `next_event` returns `PAUSED`; pipelined commands wait in the buffer, so replies cannot leave out of order.

    A *client* sends commands, one or many ahead, and gets `Greeting`, then the replies in order. A multi-line body
    arrives as `Data` events of any size and `EndOfBody`. Whether the server allows pipelining is for the caller to ask.

    In a SASL exchange the server answers `Auth` and each `SaslResponse` with `Challenge` until it answers with `Ok` or
    `Err`. After the `Ok` to `Stls` nothing is handed out until `tls_started` is called.

    Args:
        our_role: `Role.SERVER` or `Role.CLIENT`.
        profile: how strictly a server reads commands.
        space_in_user: take everything behind `USER ` as the name, spaces included (clients: allow sending it).
        utf8_user: names in UTF-8, for a server that announces `UTF8 USER` (RFC 6856 section 2.2).
        max_line: octets of a command line, CRLF included, that a server reads; RFC 2449 section 4 asks for 255.
        max_dropped: octets of an over-long command line after which a server gives up.
        max_status: octets of a status line that a client reads.
        max_outstanding: commands a client may have under way.
        lenient_terminator: a client takes a terminator with a bare LF.
    """

    def __init__(
        self,
        our_role: Role,
        *,
        profile: Profile = Profile.DEFAULT,
        space_in_user: bool = False,
        utf8_user: bool = False,
        max_line: int = grammar.MAX_COMMAND_LINE,
        max_dropped: int = grammar.MAX_DROPPED_LINE,
        max_status: int = grammar.MAX_TOLERATED_STATUS_LINE,
        max_outstanding: int = 1024,
        lenient_terminator: bool = False,
    ) -> None:
        if max_line < 255:
            raise ValueError(f"max_line must be at least 255 octets (RFC 2449 section 4), not {max_line}")
        if max_dropped < max_line or max_status < grammar.MAX_STATUS_LINE or max_outstanding < 1:
            raise ValueError("at least: max_dropped as max_line, max_status 512, max_outstanding 1")
        self.our_role: Final = our_role
        self.profile: Final = profile
        self.state = State.GREETING
        self._space_in_user, self._utf8_user = space_in_user, utf8_user
        self.names = grammar.NAMES[space_in_user, utf8_user]
        self._transitions = transitions_of(profile) if our_role is Role.SERVER else TRANSITIONS
        self._max_outstanding = max_outstanding
        self._lenient_terminator = lenient_terminator
        # A client tells a bare LF from a line end by itself: the status line of an old server may end in one.
        strict = our_role is Role.SERVER and profile is Profile.STRICT
        if our_role is Role.CLIENT:
            max_line = max_dropped = max_status
        self._limits = (max_line, max_dropped)
        self._buffer = ReceiveBuffer(line_end=grammar.CRLF if strict else b"\n")
        self._eof = False
        # Server: octets a client sent in clear behind STLS, where TLS should have been. They were thrown away.
        self.discarded = 0
        # Server: the command or bad line whose reply is owed. Client: commands under way, oldest first.
        self._owed: ev.Command | ev.BadCommand | None = None
        self._step: Step | None = None  # where the owed command leads
        self._outstanding: deque[ev.Command] = deque()
        self._predicted = State.GREETING  # client: the state if everything under way succeeds
        self._encoder: BodyEncoder | None = None
        self._decoder: BodyDecoder | None = None

    # --- receiving -------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray) -> None:
        """Store octets from the peer; b"" means that it will send no more. Never fails because of what they are.

        Raises LocalProtocolError for octets after b"".
        """
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("data received after the end of the stream")
        elif self.state is State.TLS_PENDING and self.our_role is Role.SERVER:
            self.discarded += len(data)
        elif self.state not in _OVER:
            self._buffer.append(data)

    def next_event(self) -> ev.Event | Signal:
        """The next thing the peer said, `NEED_DATA` if it is not all here, or `PAUSED` if a reply is owed first.

        Raises RemoteProtocolError (client role) if the server leaves the protocol; the state is ERROR then.
        """
        return self._next_command() if self.our_role is Role.SERVER else self._next_reply()

    def tls_started(self) -> None:
        """The TLS handshake behind STLS is done: what is read from now on came encrypted.

        A server goes on in AUTHORIZATION, and has thrown away what came in clear behind STLS (`discarded` octets).

        Raises LocalProtocolError if no handshake is due; RemoteProtocolError (client role) if the server sent anything
        behind its `+OK` in clear: somebody is on the line (RFC 2595 section 4).
        """
        if self.state is not State.TLS_PENDING:
            raise LocalProtocolError(f"no TLS handshake is due (state {self.state.value})")
        if self._buffer:
            self._fail()
            raise RemoteProtocolError("the server sent more in clear before TLS began")
        self.state = self._predicted = State.AUTHORIZATION
        # What was announced in clear is forgotten (RFC 2595 section 4).
        self.names = grammar.NAMES[self._space_in_user, self._utf8_user]

    def allow_utf8_names(self) -> None:
        """The server announced `UTF8 USER`: names may be sent in UTF-8 from now on (RFC 6856 section 2.2)."""
        self.names = grammar.NAMES[self._space_in_user, True]

    @property
    def reply_owed(self) -> bool:
        """Whether a server owes a reply, the rest of a body included."""
        return self._owed is not None

    @property
    def in_body(self) -> bool:
        """Whether a multi-line reply has begun and not ended."""
        return self._encoder is not None or self._decoder is not None

    @property
    def unread(self) -> int:
        """Octets received and not consumed: half a line, commands sent ahead, or whatever follows QUIT."""
        return len(self._buffer)

    @property
    def outstanding(self) -> int:
        """How many commands of a client wait for the end of their reply."""
        return len(self._outstanding)

    def _next_command(self) -> ev.Event | Signal:
        if self._owed is not None or self.state in _NOT_YET:
            return PAUSED
        if self.state in _OVER:
            return ev.ConnectionClosed() if self._eof else NEED_DATA
        exchange = self.state is State.AUTHENTICATING
        # Clients are known to overrun the limit of a command line with a long initial response.
        long = exchange or (self.state in _LOGGED_OUT and self._buffer.begins(b"AUTH "))
        line = self._buffer.next_line(*(_SASL_LIMITS if long else self._limits))
        if line is None:
            return ev.ConnectionClosed() if self._eof else NEED_DATA
        event: ev.Command | ev.BadCommand
        if line is OVERLONG_LINE:
            event = readers.LINE_TOO_LONG
        elif line is OVERLONG_STREAM:
            event = readers.STREAM_TOO_LONG
        elif exchange:
            event = readers.read_response(line)
        else:
            event = readers.read_command(line, profile=self.profile, names=self.names)
        if isinstance(event, ev.Command):
            self._step = self._transitions[self.state].get(type(event))
            if self._step is None:
                event = readers.WRONG_STATE
            else:
                self.state = on_command(self.state, type(event))
        if isinstance(event, ev.BadCommand):
            self.state = on_refusal(self.state)
        self._owed = event
        return event

    def _next_reply(self) -> ev.Event | Signal:
        try:
            return self._read_reply()
        except RemoteProtocolError:
            self._fail()
            raise

    def _read_reply(self) -> ev.Event | Signal:
        if self._decoder is not None:
            return self._read_body(self._decoder)
        if self.state in _OVER:
            return ev.ConnectionClosed() if self._eof else NEED_DATA
        if self.state is State.TLS_PENDING:
            return PAUSED
        exchange = bool(self._outstanding) and isinstance(self._outstanding[0], _EXCHANGE)
        line = self._buffer.next_line(*(_SASL_LIMITS if exchange else self._limits))
        if line is None:
            if not self._eof:
                return NEED_DATA
            if self._outstanding or self.state is State.GREETING or self._buffer:
                raise RemoteProtocolError("the server closed the connection before it had answered")
            self.state = State.CLOSED
            return ev.ConnectionClosed()
        if line is OVERLONG_LINE or line is OVERLONG_STREAM:
            raise RemoteProtocolError("the server sent a status line without end")
        if self.state is State.GREETING:
            greeting = readers.read_greeting(line)
            self.state = State.CLOSED if isinstance(greeting, ev.Err) else State.AUTHORIZATION
            self._predicted = self.state
            return greeting
        if exchange and (challenge := readers.read_challenge(line)):
            self._outstanding.popleft()
            self.state = self._predicted = State.AUTHENTICATING
            return challenge
        status = readers.read_status(line)
        if not self._outstanding:
            raise RemoteProtocolError(f"the server spoke out of turn: {status.text[:80]!r}")
        if isinstance(status, ev.Ok) and shape_of(self._outstanding[0]) is not Shape.SINGLE:
            self._decoder = BodyDecoder(lenient=self._lenient_terminator)
            return status
        self._answered(ok=isinstance(status, ev.Ok))
        return status

    def _read_body(self, decoder: BodyDecoder) -> ev.Event | Signal:
        if decoder.done:
            self._decoder = None
            self._answered(ok=True)
            return ev.EndOfBody()
        if self._buffer:
            data = decoder.decode(self._buffer.take())
            self._buffer.put_back(decoder.rest)
            # Nothing to hand out yet is no event; the terminator is found on the next turn.
            return ev.Data(data) if data else self._read_body(decoder)
        if self._eof:
            raise RemoteProtocolError("the server closed the connection in the middle of a reply")
        return NEED_DATA

    def _answered(self, *, ok: bool) -> None:
        """A client got the whole reply to its oldest command."""
        command = self._outstanding.popleft()
        if step := self._transitions[self.state].get(type(command)):
            if ok and step.ok is None:
                raise RemoteProtocolError("the server said +OK to a cancelled authentication")
            self.state = step.ok if ok and step.ok else step.err
        else:
            # Sent ahead on a login that failed: the server refused it as well.
            self.state = on_refusal(self.state)
        if not self._outstanding:
            self._predicted = self.state

    # --- sending ---------------------------------------------------------------------------------------------------

    def send(self, event: ev.Event) -> bytes:
        """The octets for an event. They must reach the peer whole and in this order, or call `send_failed`.

        Raises LocalProtocolError if the event may not be sent now or cannot be written; the state is then unchanged.
        """
        if self.our_role is Role.SERVER:
            return self._send_reply(event)
        if isinstance(event, ev.Command):
            return self._send_command(event)
        raise LocalProtocolError(f"a client does not send {type(event).__name__}")

    def send_failed(self) -> None:
        """Octets from `send` were not delivered whole: nothing more may be sent, UPDATE is out of reach."""
        self._fail()

    def _send_reply(self, event: ev.Event) -> bytes:
        if self._encoder is not None:
            return self._send_body(self._encoder, event)
        if self.state is State.GREETING:
            if isinstance(event, ev.Greeting):
                line = writers.write_greeting(event)
                self.state = State.AUTHORIZATION
                return line
            if isinstance(event, ev.Err):
                line = writers.write_status(event)
                self.state = State.CLOSED
                return line
        elif isinstance(event, ev.Challenge) and isinstance(self._owed, _EXCHANGE):
            return self._send_challenge(event)
        elif self._owed is not None and isinstance(event, _STATUS):
            line = writers.write_status(event)
            self._replied(self._owed, ok=isinstance(event, ev.Ok))
            return line
        raise LocalProtocolError(f"{type(event).__name__} cannot be sent now (state {self.state.value})")

    def _send_challenge(self, challenge: ev.Challenge) -> bytes:
        line = writers.write_challenge(challenge)
        self._owed = None
        self.state = State.AUTHENTICATING
        return line

    def _replied(self, owed: ev.Command | ev.BadCommand, *, ok: bool) -> None:
        """A server wrote the status line of a reply."""
        if isinstance(owed, ev.BadCommand):
            if ok:
                raise LocalProtocolError("a bad command is answered with Err")
            self._owed = None
            if owed.fatal:
                self.state = State.CLOSED
            return
        if ok and shape_of(owed) is not Shape.SINGLE:
            self._encoder = BodyEncoder()
            return
        self._answer_given(ok=ok)

    def _answer_given(self, *, ok: bool) -> None:
        """The whole reply to a command was written: go where it leads."""
        assert self._step is not None
        if ok and self._step.ok is None:
            raise LocalProtocolError("a cancelled authentication is answered with Err")
        self._owed = None
        self.state = self._step.ok if ok and self._step.ok else self._step.err
        if self.state is State.TLS_PENDING:
            # Whatever came behind STLS in clear must never act, whole lines and halves alike (RFC 2595, CVE-2011-0411).
            self.discarded += len(self._buffer)
            self._buffer.clear()

    def _send_body(self, encoder: BodyEncoder, event: ev.Event) -> bytes:
        if isinstance(event, ev.Data):
            return encoder.encode(event.data)
        if isinstance(event, ev.WholeBody):
            assert isinstance(self._owed, ev.Command)
            if encoder.begun or shape_of(self._owed) is not Shape.MESSAGE:
                raise LocalProtocolError("a whole body is all of a message")
            self._encoder = None
            self._answer_given(ok=True)
            return event.wire
        if isinstance(event, ev.EndOfBody):
            assert isinstance(self._owed, ev.Command)
            tail = encoder.finish(empty_line=shape_of(self._owed) is Shape.MESSAGE)
            if event.octets is not None and encoder.octets != event.octets:
                # The client must see a cut reply, never a complete wrong one.
                self._fail()
                raise LocalProtocolError(f"announced {event.octets} octets, sent {encoder.octets}")
            self._encoder = None
            self._answer_given(ok=True)
            return tail
        raise LocalProtocolError(f"{type(event).__name__} cannot be sent inside a body")

    def _send_command(self, command: ev.Command) -> bytes:
        if self.state is State.GREETING:
            raise LocalProtocolError("the server has not greeted yet")
        step = self._transitions[self._predicted].get(type(command))
        if step is None or self.state in _OVER:
            raise LocalProtocolError(f"{type(command).__name__} is not valid here (state {self._predicted.value})")
        if self._outstanding and BY_EVENT[type(self._outstanding[-1])].waits:
            raise LocalProtocolError(f"{type(self._outstanding[-1]).__name__} is to be answered first")
        if len(self._outstanding) >= self._max_outstanding:
            raise LocalProtocolError(f"{self._max_outstanding} commands are under way; read replies first")
        line = writers.write_command(command, names=self.names)
        self._outstanding.append(command)
        self._predicted = step.ok or step.err
        return line

    def _fail(self) -> None:
        self.state = State.ERROR
        self._owed = self._encoder = self._decoder = None
        self._outstanding.clear()
        self._buffer.clear()
