"""One connection: moves octets between a stream, the core and the session, and owns its time.

One cancel scope per connection holds whatever deadline is due: the login, the next command, the backend's work, or the
client's reading. Commands already received are answered together in one write.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Final

import trio

from ..backend import Backend, ClientInfo
from ..login import Gate
from ..replies import BodyBroken, Multiline, Reply
from ..rules import Rules
from ..sansio import (
    NEED_DATA,
    BadCommand,
    Command,
    Data,
    EndOfBody,
    Err,
    LocalProtocolError,
    Pop3Connection,
    ResponseCode,
    Role,
    State,
    Xclient,
)
from ..session import Session
from .containment import concerns_others
from .direct import DirectSocket, noticing
from .farewell import let_client_read
from .options import Options
from .peers import Place
from .tls import HandshakeFailed
from .tls import close as close_tls

logger = logging.getLogger("trio_pop3.session")

_RECEIVE_OCTETS: Final = 16 * 1024
# Octets of replies gathered before they are written.
_FLUSH_OCTETS: Final = 64 * 1024
# Commands answered in a row before other tasks get their turn. A message counts for more, and so do 64 KiB of one.
_STEPS_AT_ONCE: Final = 64
_STEPS_OF_A_BODY: Final = 8
_STEPS_OF_A_PIECE: Final = 32
# Seconds by which a deadline may come early; less if the whole time is short.
_DEADLINE_PRECISION: Final = 1.0
# For the last reply.
_FAREWELL_SECONDS: Final = 5.0

_LOGGED_OUT: Final = (State.AUTHORIZATION, State.USER_GIVEN)
_TO_ANSWER: Final = (Command, BadCommand)
_PLAIN: Final = re.compile(r"[\x21\x23-\x26\x28-\x3c\x3e-\x7e]+")
TOO_MANY: Final = Err("too many connections from your address", ResponseCode.SYS_TEMP)
TOO_SLOW: Final = Err("the mail store takes too long", ResponseCode.SYS_TEMP)


# What is done aside holds the interpreter's lock: several at a time would get in each other's way, and in ours.
_ASIDE: Final = trio.CapacityLimiter(1)


class Phase(Enum):
    """What the connection is waiting for; the value is why it ended if that never came."""

    HANDSHAKE = "TLS handshake timeout"
    LOGIN = "login timeout"
    COMMAND = "idle timeout"
    WORK = "mail store too slow"
    WRITE = "client too slow"

    # Members are told apart by identity; the usual hash is worked out in Python each time.
    __hash__ = object.__hash__


_WAITING: Final = (Phase.HANDSHAKE, Phase.LOGIN, Phase.COMMAND)


class Driver:
    """Runs one connection from greeting to close.

    `run` raises nothing but cancellation, KeyboardInterrupt and SystemExit: whatever else goes wrong ends this
    connection and is logged. Cancelled, it deletes nothing unless a commit is under way, which is finished; lock and
    backend are given back first. The stream is left to whoever opened it; TLS on it is ended.

    Args:
        stream: the connection, nothing of it read but the header of a proxy. Over one that cannot half-close, a client
            with unread input may lose its last reply.
        backend, client, options: see `serve`.
        gate: what all connections know together of logins.
        timestamp: for APOP; None is no APOP.
        implicit_tls: the connection begins with a TLS handshake.
        proxy_place: the peer is a proxy that may name another client by XCLIENT, who is then counted here.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        backend: Backend,
        client: ClientInfo,
        options: Options,
        *,
        gate: Gate,
        timestamp: str | None = None,
        implicit_tls: bool = False,
        proxy_place: Place | None = None,
    ) -> None:
        rules = options.rules
        self._transport = stream
        self._stream = stream
        self._direct = DirectSocket(stream) if isinstance(stream, trio.SocketStream) else None
        self._options = options
        self._implicit_tls = implicit_tls
        self._proxy_place = proxy_place
        self._secure: trio.SSLStream[trio.abc.Stream] | None = None
        self._connection = Pop3Connection(
            Role.SERVER, profile=rules.profile, space_in_user=rules.space_in_user, utf8_user=rules.utf8
        )
        self._session = Session(
            backend,
            client,
            rules,
            gate=gate,
            timestamp=timestamp,
            xclient=proxy_place is not None,
            checkpoint=trio.lowlevel.checkpoint,
            shielded=partial(_shielded, options.commit_timeout),  # no method: session and driver would make a circle
            aside=partial(trio.to_thread.run_sync, limiter=_ASIDE),
        )
        self._timeouts = {
            Phase.HANDSHAKE: options.tls_timeout,
            Phase.LOGIN: options.idle_timeout,
            Phase.COMMAND: options.idle_timeout,
            Phase.WORK: options.command_timeout,
            Phase.WRITE: options.write_timeout,
        }
        # Moving a deadline costs more than most commands, so one that is good to a second stays.
        self._precision = {phase: min(_DEADLINE_PRECISION, time / 10) for phase, time in self._timeouts.items()}
        self._steps = 0
        self._out = bytearray()
        self._scope = trio.CancelScope()
        self._phase = Phase.WORK
        self._draining = False
        self._linger = False
        self._started = trio.current_time()

    def drain(self) -> None:
        """Finish the command under way, answer what was received, read no more. An idle connection ends at once."""
        self._draining = True
        if self._phase in _WAITING:
            self._scope.cancel()

    async def run(self) -> None:
        """Serve the client until it ends the session, goes away, is too slow, or the server drains."""
        reason = "cut off"
        try:
            reason = await self._serve()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = "connection lost"
        except BaseException as failure:  # noqa: ASYNC103 - what concerns others is raised again
            # Ours, or one that a backend let out which is no Exception, such as another loop's cancellation.
            if (more := concerns_others(failure)) is not None:
                raise more from None  # noqa: ASYNC104 - this is it
            reason = "internal error"
            self._session.log_exception("this should not have happened", failure)
            await self._send_what_is_due()
        finally:
            await self._session.close(reason)
            self._log(reason)
        if self._secure is not None:
            await close_tls(self._secure)
        elif self._linger and isinstance(self._transport, trio.abc.HalfCloseableStream):
            await let_client_read(self._transport, self._stream)

    async def _serve(self) -> str:
        """The dialogue; returns why it ended."""
        with self._scope:
            try:
                return await self._dialogue()
            except BodyBroken:
                await self._farewell()
                return "message broke off"
            except HandshakeFailed as failure:
                return f"TLS handshake failed: {failure}"
        # The scope caught its own cancellation: a deadline passed, or the server drains. What was sent may still be on
        # its way, and input that nobody reads would cut it off.
        self._linger = self._phase is not Phase.WRITE
        if self._draining:
            return "shutdown"
        if self._phase is Phase.WORK:
            await self._give_up_on_store()
        return self._phase.value

    async def _send_what_is_due(self) -> None:
        """Replies that were made before something went wrong are true, and perhaps a commit's."""
        with trio.move_on_after(_FAREWELL_SECONDS), contextlib.suppress(trio.BrokenResourceError):
            await self._flush()

    async def _dialogue(self) -> str:
        if self._implicit_tls:
            await self._start_tls()
        else:
            self._enter(Phase.WORK)
        self._out += self._connection.send(await self._session.greet())
        while self._session.ended is None:
            event = self._connection.next_event()
            if event is NEED_DATA:
                await self._flush()
                if self._draining:
                    self._linger = True
                    return "shutdown"
                await self._receive()
            elif isinstance(event, _TO_ANSWER):
                self._phase = Phase.WORK
                # Before the answer: behind it, a cancellation could take away the reply to a commit just finished.
                self._steps += 1
                if self._steps >= _STEPS_AT_ONCE:
                    await self._let_others_run()
                await self._answer(event)
                if self._connection.state is State.TLS_PENDING:
                    await self._flush()
                    await self._start_tls()
            else:
                await self._farewell()
                return "client closed"
        self._linger = self._session.ended != "quit" or self._connection.unread > 0
        await self._farewell()
        return self._session.ended

    async def _let_others_run(self) -> None:
        """A turn for every other task that can run."""
        self._steps = 0
        self._enter(Phase.WORK)
        await trio.lowlevel.checkpoint()

    async def _start_tls(self) -> None:
        """The handshake, within its own time, in this connection's own task."""
        self._enter(Phase.HANDSHAKE)
        tls = self._options.tls
        assert tls is not None
        self._direct = None
        self._stream = self._secure = tls.wrap(self._stream)
        if self._draining:
            self._scope.cancel()  # nothing was asked that could be finished
        info = await tls.handshake(self._secure)
        self._session.tls_started(
            replace(
                self._session.client,
                tls=True,
                tls_version=info.version,
                cipher=info.cipher,
                server_name=info.server_name,
                certificate=info.certificate,
                end_point=info.end_point,
            )
        )
        if self._connection.state is State.TLS_PENDING:
            self._connection.tls_started()
            if discarded := self._connection.discarded:
                session = self._session.client.session
                logger.warning("session %s: %d octets in clear behind STLS were thrown away", session, discarded)
        # Or the client's next command would have to come before the deadline of the handshake.
        self._enter(Phase.WORK)

    async def _receive(self) -> None:
        # Octets that do not finish a command do not move the deadline: a client that drips is cut off on time.
        if self._phase not in _WAITING:
            self._enter(Phase.LOGIN if self._connection.state in _LOGGED_OUT else Phase.COMMAND)
        if self._direct is None:
            self._connection.receive_data(await self._stream.receive_some(_RECEIVE_OCTETS))
        else:
            self._connection.receive_data(await self._direct.receive(_RECEIVE_OCTETS))
        self._steps = 0

    async def _answer(self, event: Command | BadCommand) -> None:
        before = self._session.client
        reply = await noticing(self._session.respond(event), self._work_waits)
        if self._proxy_place is not None and self._session.client is not before and isinstance(event, Xclient):
            reply = self._counted(self._proxy_place, reply)
        if not isinstance(reply, Multiline):
            self._out += self._connection.send(reply)
            return
        self._out += self._connection.send(reply.status)
        if reply.whole is None:
            await self._send_pieces(reply)
            return
        self._out += self._connection.send(reply.whole)
        reply.sent()
        self._steps += _STEPS_OF_A_BODY
        if len(self._out) >= _FLUSH_OCTETS:
            await self._flush()

    async def _send_pieces(self, reply: Multiline) -> None:
        send = self._connection.send
        try:
            async for chunk in reply:
                self._out += send(Data(chunk))
                if len(self._out) >= _FLUSH_OCTETS:
                    await self._flush()
                self._steps += _STEPS_OF_A_PIECE
                if self._steps >= _STEPS_AT_ONCE:
                    await self._let_others_run()
                if chunk:  # a store that gives nothing has not been quick
                    self._enter(Phase.WORK)
            self._out += send(EndOfBody(reply.octets))
            reply.sent()
        except LocalProtocolError as failure:
            logger.error("session %s: message broke off: %s", self._session.client.session, failure)
            raise BodyBroken from None
        finally:
            await reply.aclose()

    def _counted(self, place: Place, reply: Reply) -> Reply:
        """The reply to an XCLIENT, once its client is counted with the others of its host."""
        if place.move(self._session.client):
            return reply
        self._session.ended = "too many connections from its host"
        return TOO_MANY

    async def _flush(self) -> None:
        """Write what is due. Each 64 KiB must be taken before the write deadline."""
        if not self._out:
            return
        data, self._out = self._out, bytearray()
        with memoryview(data) as view:
            taken = 0 if self._direct is None else self._direct.send(view)
            for start in range(taken, len(view), _FLUSH_OCTETS):
                self._enter(Phase.WRITE)
                await self._stream.send_all(view[start : start + _FLUSH_OCTETS])

    async def _farewell(self) -> None:
        """Write the last replies, even if this connection has been cancelled meanwhile: a commit was just finished."""
        if trio.current_effective_deadline() > trio.current_time():
            await self._flush()
        else:
            with trio.move_on_after(_FAREWELL_SECONDS, shield=True):
                await self._flush()

    async def _give_up_on_store(self) -> None:
        """The backend did not answer in time: say so, unless that would land inside a body."""
        connection = self._connection
        if connection.state is State.GREETING or (connection.reply_owed and not connection.in_body):
            self._out += connection.send(TOO_SLOW)
            self._linger = True
            with trio.move_on_after(_FAREWELL_SECONDS):
                await self._flush()
            self._phase = Phase.WORK

    def _work_waits(self) -> None:
        """The backend does not answer at once: from now on it has so long."""
        self._enter(Phase.WORK)

    def _enter(self, phase: Phase) -> None:
        """Wait for something else from now on, until its own deadline."""
        self._phase = phase
        deadline = trio.current_time() + self._timeouts[phase]
        if phase is Phase.LOGIN:
            deadline = min(deadline, self._started + self._options.login_budget)
        if not 0 <= deadline - self._scope.deadline < self._precision[phase]:
            self._scope.deadline = deadline

    def _log(self, reason: str) -> None:
        session, tally = self._session, self._session.tally
        fields = {
            "user": "-" if session.user is None else loggable(session.user),
            "peer": session.client.peer,
            "tls": session.client.tls_version or ("yes" if session.client.tls else "no"),
            "cipher": session.client.cipher or "-",
            "method": session.method or "-",
            "messages": f"{tally.messages}/{tally.octets}",
            "retr": f"{tally.retrieved}/{tally.retrieved_octets}",
            "top": tally.topped,
            "removed": tally.removed,
            "remaining": tally.remaining,
            "bad": tally.bad_commands,
            "failed": tally.logins_failed,
            "seconds": f"{trio.current_time() - self._started:.3f}",
            "reason": loggable(reason),
        }
        logger.info("session %s: %s", session.client.session, " ".join(f"{k}={v}" for k, v in fields.items()))


async def _shielded(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(seconds, shield=True):
        await work()


def fresh_timestamp(rules: Rules) -> str | None:
    """For the greeting of one connection; None is no APOP (RFC 1939 section 7)."""
    return f"<{secrets.token_hex(16)}@{rules.hostname}>" if rules.apop else None


def loggable(text: str) -> str:
    """A value for a log line: as it is if it is one plain word, quoted and escaped otherwise."""
    return text if _PLAIN.fullmatch(text) else ascii(text)
