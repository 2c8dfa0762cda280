"""One connection: moves octets between a stream, the core and the session, and owns its time.

One cancel scope per connection holds whatever deadline is due: the login, the next command, the backend's work, or the
client's reading. Commands already received are answered together in one write.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import trio

from ..backend import Backend, ClientInfo
from ..replies import BodyBroken, Multiline
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
)
from ..session import Session
from .options import Options

logger = logging.getLogger("trio_pop3.session")

_RECEIVE_OCTETS: Final = 16 * 1024
# Octets of replies gathered before they are written.
_FLUSH_OCTETS: Final = 64 * 1024
# Commands answered in a row before other tasks get their turn.
_COMMANDS_AT_ONCE: Final = 64
# Seconds by which a deadline may come early.
_DEADLINE_PRECISION: Final = 1.0
# For the last reply, and for a client to see it before its unread input would turn our close into a reset.
_FAREWELL_SECONDS: Final = 5.0
_FAREWELL_OCTETS: Final = 256 * 1024

_LOGGED_OUT: Final = (State.AUTHORIZATION, State.USER_GIVEN)
_TO_ANSWER: Final = (Command, BadCommand)
_PLAIN: Final = re.compile(r"[\x21\x23-\x26\x28-\x3c\x3e-\x7e]+")
TOO_SLOW: Final = Err("the mail store takes too long", ResponseCode.SYS_TEMP)


class Phase(Enum):
    """What the connection is waiting for; the value is why it ended if that never came."""

    LOGIN = "login timeout"
    COMMAND = "idle timeout"
    WORK = "mail store too slow"
    WRITE = "client too slow"


_WAITING: Final = (Phase.LOGIN, Phase.COMMAND)


class Driver:
    """Runs one connection from greeting to close.

    `run` raises nothing but cancellation: whatever else goes wrong ends this connection and is logged. Cancelled, it
    deletes nothing unless a commit is under way, which is finished; lock and backend are given back first. The stream
    is left to whoever opened it.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        backend: Backend,
        client: ClientInfo,
        options: Options,
        timestamp: str | None = None,
    ) -> None:
        self._stream = stream
        self._options = options
        self._connection = Pop3Connection(Role.SERVER, profile=options.profile, space_in_user=options.space_in_user)
        self._session = Session(
            backend,
            client,
            cleartext_login=client.loopback or client.tls or options.insecure_auth,
            timestamp=timestamp,
            banner=options.banner,
            max_bad_commands=options.bad_command_budget,
            max_auth_failures=options.max_auth_failures,
            checkpoint=trio.lowlevel.checkpoint,
            shielded=self._shielded,
        )
        self._timeouts = {
            Phase.LOGIN: options.idle_timeout,
            Phase.COMMAND: options.idle_timeout,
            Phase.WORK: options.command_timeout,
            Phase.WRITE: options.write_timeout,
        }
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
        except (trio.Cancelled, KeyboardInterrupt, SystemExit, BaseExceptionGroup):
            # Not ours to stop: cancellation, alone or in company, and what ends a program.
            raise
        except BaseException:
            # Ours, or one that a backend let out which is no Exception, such as another loop's cancellation.
            reason = "internal error"
            logger.exception("session %s: this should not have happened", self._session.client.session)
        finally:
            await self._session.close(reason)
            self._log(reason)
        if self._linger:
            await self._let_client_read()

    async def _serve(self) -> str:
        """The dialogue; returns why it ended."""
        with self._scope:
            try:
                return await self._dialogue()
            except BodyBroken:
                await self._farewell()
                return "message broke off"
        # The scope caught its own cancellation: a deadline passed, or the server drains.
        if self._draining:
            return "shutdown"
        if self._phase is Phase.WORK:
            await self._give_up_on_store()
        return self._phase.value

    async def _dialogue(self) -> str:
        self._enter(Phase.WORK)
        self._out += self._connection.send(await self._session.greet())
        answered = 0
        while self._session.ended is None:
            event = self._connection.next_event()
            if event is NEED_DATA:
                await self._flush()
                if self._draining:
                    return "shutdown"
                await self._receive()
            elif isinstance(event, _TO_ANSWER):
                self._enter(Phase.WORK)
                # Before the answer: behind it, a cancellation could take away the reply to a commit just finished.
                answered += 1
                if not answered % _COMMANDS_AT_ONCE:
                    await trio.lowlevel.checkpoint()
                await self._answer(event)
            else:
                await self._farewell()
                return "client closed"
        self._linger = self._session.ended != "quit" or self._connection.unread > 0
        await self._farewell()
        return self._session.ended

    async def _receive(self) -> None:
        # Octets that do not finish a command do not move the deadline: a client that drips is cut off on time.
        if self._phase not in _WAITING:
            self._enter(Phase.LOGIN if self._connection.state in _LOGGED_OUT else Phase.COMMAND)
        self._connection.receive_data(await self._stream.receive_some(_RECEIVE_OCTETS))

    async def _answer(self, event: Command | BadCommand) -> None:
        reply = await self._session.respond(event)
        if not isinstance(reply, Multiline):
            self._out += self._connection.send(reply)
            return
        self._out += self._connection.send(reply.status)
        try:
            async for chunk in reply:
                self._out += self._connection.send(Data(chunk))
                if len(self._out) >= _FLUSH_OCTETS:
                    await self._flush()
                self._enter(Phase.WORK)
            self._out += self._connection.send(EndOfBody(reply.octets))
        except LocalProtocolError as failure:
            logger.error("session %s: message broke off: %s", self._session.client.session, failure)
            raise BodyBroken from None
        finally:
            await reply.aclose()

    async def _flush(self) -> None:
        """Write what is due. Each 64 KiB must be taken before the write deadline."""
        if not self._out:
            return
        data, self._out = self._out, bytearray()
        with memoryview(data) as view:
            for start in range(0, len(view), _FLUSH_OCTETS):
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

    async def _let_client_read(self) -> None:
        """Closing a socket with unread input resets it, and the reset can overtake our last reply."""
        with trio.move_on_after(_FAREWELL_SECONDS):
            try:
                await self._stream.send_eof()
                taken = 0
                while taken < _FAREWELL_OCTETS and (data := await self._stream.receive_some(_RECEIVE_OCTETS)):
                    taken += len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _shielded(self, work: Callable[[], Awaitable[None]]) -> None:
        with trio.fail_after(self._options.commit_timeout, shield=True):
            await work()

    def _enter(self, phase: Phase) -> None:
        """Wait for something else from now on, until its own deadline."""
        self._phase = phase
        deadline = trio.current_time() + self._timeouts[phase]
        if phase is Phase.LOGIN:
            deadline = min(deadline, self._started + self._options.login_budget)
        # Moving a deadline costs more than most commands, so one that is good to a second stays.
        if not 0 <= deadline - self._scope.deadline < _DEADLINE_PRECISION:
            self._scope.deadline = deadline

    def _log(self, reason: str) -> None:
        session, tally = self._session, self._session.tally
        fields = {
            "user": "-" if session.user is None else loggable(session.user),
            "peer": session.client.peer,
            "tls": "yes" if session.client.tls else "no",
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


def loggable(text: str) -> str:
    """A value for a log line: as it is if it is one plain word, quoted and escaped otherwise."""
    return text if _PLAIN.fullmatch(text) else ascii(text)
