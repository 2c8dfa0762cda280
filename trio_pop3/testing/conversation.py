"""One connection of the test server: core and session, the faults between them and the client, and what was said."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from trio_pop3.sansio import Err, State

from .certificates import CertificateKind, certificates
from .dialogue import Answer, Dialogue
from .faults import GREETING, Asked, Ending, Fault, Plan, TlsKind
from .redaction import HIDDEN, Redactor, pieces_of, shown
from .script import Script
from .transcript import Transcript

_RECEIVE_OCTETS: Final = 64 * 1024
# How often a socket is read out before it is closed, so that what was sent last is not taken back by a reset.
_MOST_DISCARDED: Final = 64
_BACKEND_SECONDS: Final = 30.0
# For a client that reads nothing to take the farewell of TLS.
_FAREWELL_SECONDS: Final = 1.0
_LINGER_NOT_AT_ALL: Final = struct.pack("ii", 1, 0)
# How a server looks that knows no TLS.
_NO_TLS: Final = b"-ERR unknown command\r\n"


async def shielded(work: Callable[[], Awaitable[None]]) -> None:
    """No end of a test cuts the work of a store in two."""
    with trio.fail_after(_BACKEND_SECONDS, shield=True):
        await work()


@dataclass(frozen=True, slots=True)
class Line:
    """A command line that was answered."""

    octets: bytes = field(repr=False)  # with its secrets, without its end
    text: str  # without its secrets


class Conversation:
    """One client, from its connection to its end.

    Args:
        stream: the server's side of the connection, nothing read from it.
        dialogue: what answers.
        script: what is made of the answers.
        number: which connection of the server this is.
        over_tls: the connection begins with a handshake.
        strict: lines end in CRLF and nothing else.
        idle: called when the store has done what it was asked for.
        failed: told of an exception that ends this connection. Most likely it is of a fault that somebody wrote.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        dialogue: Dialogue,
        script: Script,
        *,
        number: int,
        over_tls: bool,
        strict: bool,
        idle: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.number: Final = number
        self.transcript: Final = Transcript(hide=HIDDEN)
        self.lines: Final[list[Line]] = []
        self.busy = False  # the store is at work
        self.over: Final = trio.Event()
        self.scope: Final = trio.CancelScope()
        self._transport: Final = stream
        self._stream: trio.abc.Stream = stream
        self._secure: trio.SSLStream[trio.abc.Stream] | None = None
        self._dialogue: Final = dialogue
        self._script: Final = script
        self._over_tls: Final = over_tls
        self._redactor = Redactor(b"\r\n" if strict else b"\n")
        self._line = b""  # what has come of the command line that is not all here
        self._idle: Final = idle
        self._failed: Final = failed
        self._end = Ending.DROP
        self._gone = False  # nobody hears what is sent

    async def run(self) -> None:
        """Serve the client until it is over, or `scope` is cancelled. In the end the store gets its lock back."""
        try:
            with self.scope, contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._serve()
        except Exception as failure:
            self._failed(failure)  # before the client can know
        finally:
            with trio.CancelScope(shield=True):
                await self._wind_up()
            self.over.set()
            self._idle()

    async def _wind_up(self) -> None:
        """Give back what the store lent, then close: a client that comes back must not meet its own lock."""
        try:
            with self._at_work():
                await self._dialogue.close("the test server")
            await self._close()
        except Exception as failure:
            self._failed(failure)

    async def _serve(self) -> None:
        if self._over_tls and not await self._start_tls():
            return
        if not await self._answer(Asked(GREETING, connection=self.number), self._dialogue.greet()):
            return
        while data := await self._receive():
            for piece in pieces_of(data):
                if not await self._take(piece):
                    return
                if self._dialogue.tls_due:  # what came with it in clear is nothing anybody said
                    if not await self._start_tls():
                        return
                    break

    async def _take(self, piece: bytes) -> bool:
        """Answer a line, if this is its end. Returns whether the conversation goes on."""
        exchange = self._dialogue.connection.state is State.AUTHENTICATING
        self._line += piece
        self._dialogue.receive_data(piece)
        answer = self._dialogue.next_answer()
        if answer is None:
            return True
        line, self._line = self._line.removesuffix(b"\n").removesuffix(b"\r"), b""
        self.lines.append(Line(line, shown(line, exchange=exchange)))
        user = self._dialogue.session.user
        return await self._answer(asked_by(line, exchange=exchange, connection=self.number, user=user), answer)

    async def _answer(self, asked: Asked, answer: Answer) -> bool:
        """Everything that is said to one line, and what the faults make of it."""
        plan = self._script.instead(asked, self._remark)
        if plan is None:
            with self._at_work():
                octets = b"".join([piece async for piece in answer])
            plan = Plan(octets, ending=self._ending())
        else:
            # The core is told that the command was refused; what is sent is something else.
            self._dialogue.connection.send(Err("not done"))
        return await self._carry_out(self._script.apply(asked, plan, self._remark))

    def _ending(self) -> Ending:
        if self._dialogue.broken:
            return Ending.DROP
        return Ending.FAREWELL if self._dialogue.over else Ending.GO_ON

    async def _carry_out(self, plan: Plan) -> bool:
        """Send what is planned, as it is planned. Returns whether the conversation goes on."""
        octets = plan.octets[: plan.stop]
        await trio.sleep(plan.delay)
        size = plan.piece or max(1, len(octets))
        for start in range(0, len(octets), size):
            if start:
                await trio.sleep(plan.pause)
            if self._gone:
                break
            await self._send(octets[start : start + size])
        if plan.ending is Ending.GO_ON:
            return True
        self._end = plan.ending
        if plan.ending is not Ending.SILENCE:
            self.transcript.add("S", b"")
            return False
        self._remark("the server fell silent")
        while await self._receive():
            pass
        return False

    async def _send(self, piece: bytes) -> None:
        """Send octets. A client that has gone is no reason not to do what it has asked for."""
        self.transcript.add("S", piece)
        try:
            await self._stream.send_all(piece)
        except trio.BrokenResourceError:
            self._gone = True
            self._remark("the client did not wait for all of this")

    async def _receive(self) -> bytes:
        """What the client sends; b"" if it has closed, or is gone."""
        try:
            data = bytes(await self._stream.receive_some(_RECEIVE_OCTETS))
        except trio.BrokenResourceError:
            data = b""
        exchange = self._dialogue.connection.state is State.AUTHENTICATING
        if told := self._redactor.feed(data, exchange=exchange):
            self.transcript.add("C", told)
        if not data:
            self.transcript.add("C", b"")
        return data

    async def _start_tls(self) -> bool:
        """The handshake that is due. Returns whether it came to anything."""
        kind = self._script.tls(self._remark)
        match kind:
            case "garbage" | "close" | "silent":
                await self._break_tls(kind)
                return False
            case None:
                return await self._shake_hands("good")
            case _:
                return await self._shake_hands(kind)

    async def _break_tls(self, kind: TlsKind) -> None:
        """Whatever a handshake should not be. It waits for the client's first octets, to be the same each time."""
        if not await self._transport.receive_some(_RECEIVE_OCTETS) or kind == "close":
            return
        if kind == "garbage":
            await self._transport.send_all(_NO_TLS)
        while await self._transport.receive_some(_RECEIVE_OCTETS):
            pass

    async def _shake_hands(self, kind: CertificateKind) -> bool:
        certificate = certificates().server(kind)
        stream = trio.SSLStream(self._stream, certificate.context, server_side=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as failure:
            self._remark(f"the TLS handshake failed: {failure.__cause__}")
            return False
        self._stream = self._secure = stream
        self._remark("over TLS from the beginning" if self._over_tls else "over TLS from STLS on")
        session = self._dialogue.session
        version, cipher = stream.version(), stream.cipher()
        client = replace(
            session.client, tls=True, tls_version=version, cipher=cipher[0], end_point=certificate.end_point
        )
        if self._dialogue.tls_due:
            self._dialogue.tls_started(client)
        else:
            session.tls_started(client)
        self._line = b""
        return True

    async def _close(self) -> None:
        """Close the connection as it is to end. What was sent arrives, unless it is to be reset."""
        if isinstance(self._transport, trio.SocketStream):
            if self._end is Ending.RESET:
                self._transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
            elif self._end is Ending.FAREWELL and self._secure is not None:
                with trio.move_on_after(_FAREWELL_SECONDS):
                    await self._secure.aclose()  # with the farewell of TLS
            else:
                await _finish(self._transport)
        await trio.aclose_forcefully(self._transport)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            self._idle()

    def _remark(self, what: Fault | str) -> None:
        """Say something at the head of the transcript, once."""
        text = what if isinstance(what, str) else f"struck by {what}"
        if text not in self.transcript.remarks:
            self.transcript.remarks.append(text)


def asked_by(line: bytes, *, exchange: bool, connection: int, user: str | None) -> Asked:
    """What a command line asks for."""
    if exchange:
        return Asked("SASL", None, connection, user)
    words = line.split()
    verb = words[0].decode("ascii", "backslashreplace").upper() if words else ""
    number = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) < 10 else None
    return Asked(verb, number, connection, user)


async def _finish(stream: trio.SocketStream) -> None:
    """Send no more, and take what the client has sent: unread, it would turn our close into a reset."""
    with contextlib.suppress(OSError, ValueError, trio.BrokenResourceError):
        await stream.send_eof()
        for _ in range(_MOST_DISCARDED):
            if not select.select([stream.socket], [], [], 0)[0] or not await stream.socket.recv(_RECEIVE_OCTETS):
                break
