"""One LMTP connection: moves octets between a stream, the core and the mail store, and owns its time."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Final

import trio

from ..backend import ClientInfo
from ..delivery import Delivery, DeliveryFailed, DeliveryTarget, Envelope, received
from ..lmtp import (
    BadCommand,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Event,
    Lhlo,
    LmtpConnection,
    Mail,
    Quit,
    Rcpt,
    Reply,
    Rset,
    State,
    Vrfy,
)
from ..sansio import NEED_DATA, Signal
from .containment import concerns_others
from .driver import loggable
from .farewell import let_client_read

if TYPE_CHECKING:
    from ..lmtp.grammar import Address
    from .lmtp import LmtpOptions

logger = logging.getLogger("trio_pop3.lmtp")

_RECEIVE_OCTETS: Final = 64 * 1024
# Commands answered in a row before other tasks get their turn.
_STEPS_AT_ONCE: Final = 64
# Octets of replies gathered before they are written.
_FLUSH_OCTETS: Final = 64 * 1024
_FAREWELL_SECONDS: Final = 1.0

_GO_AHEAD: Final = Reply(354, "", "send the message, end it with CRLF.CRLF")
_SENDER_OK: Final = Reply(250, "2.1.0", "ok")
_RECIPIENT_OK: Final = Reply(250, "2.1.5", "ok")
_DELIVERED: Final = Reply(250, "2.1.5", "delivered")
_DONE: Final = Reply(250, "2.0.0", "ok")
_PERHAPS: Final = Reply(252, "2.1.5", "send some mail, and see")
_GOODBYE: Final = Reply(221, "2.0.0", "goodbye")
_TOO_LARGE: Final = Reply(552, "5.3.4", "the message is too large")
_TOO_MANY: Final = Reply(452, "4.5.3", "too many recipients, send the rest by itself")
_TIMEOUT: Final = Reply(421, "4.4.2", "you take too long, goodbye")
_SHUTDOWN: Final = Reply(421, "4.3.2", "shutting down, try again later")
_TROUBLE: Final = Reply(421, "4.3.0", "something went wrong, try again later")
_TOO_SLOW: Final = Reply(451, "4.3.0", "the mail store takes too long, try again later")


class Phase(Enum):
    """What the connection is waiting for; the value is why it ended if that never came."""

    COMMAND = "idle timeout"
    CONTENT = "message timeout"
    WORK = "mail store too slow"
    WRITE = "client too slow"


# Ends behind which nothing of ours is on its way to the client.
_NOTHING_TO_READ: Final = ("quit", "client closed", "connection lost", Phase.WRITE.value)


class LmtpDriver:
    """Runs one connection from greeting to close.

    `run` raises nothing but cancellation, KeyboardInterrupt and SystemExit. Cancelled while a message comes in, it
    removes what there is of it; cancelled while it is delivered, it finishes and acknowledges that first. The stream is
    left to whoever opened it.
    """

    def __init__(
        self, stream: trio.abc.Stream, target: DeliveryTarget, client: ClientInfo, options: LmtpOptions
    ) -> None:
        self._stream = stream
        self._target = target
        self._client = client
        self._options = options
        self._connection = LmtpConnection(hostname=options.hostname, max_size=options.max_size)
        self._timeouts = {Phase.COMMAND: options.idle_timeout, Phase.CONTENT: options.content_timeout}
        self._scope = trio.CancelScope()
        self._phase = Phase.WORK
        self._draining = False
        self._out = bytearray()
        self._waiting: Phase | None = None  # what for, until `_due`
        self._due = math.inf
        self._received = 0  # octets since then
        self._started = trio.current_time()
        self._tally: Counter[int] = Counter()  # recipients by reply code
        # The transaction: who is meant, user by user, and by which address first.
        self._name = "unknown"
        self._mail = Mail(None)
        self._recipients: list[str] = []
        self._addresses: dict[str, Address] = {}
        self._delivery: Delivery | None = None

    def drain(self) -> None:
        """Take the message under way, and nothing more. An idle connection ends at once."""
        self._draining = True
        if self._phase is Phase.COMMAND:
            self._scope.cancel()

    async def run(self) -> None:
        """Serve the client until it leaves, is too slow, or the server drains."""
        reason = "cut off"
        try:
            reason = await self._serve()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            reason = "connection lost"
        except trio.TooSlowError:
            reason = self._phase.value
            await self._say_goodbye(_TROUBLE)
        except BaseException as failure:  # noqa: ASYNC103 - what concerns others is raised again
            if (more := concerns_others(failure)) is not None:
                await self._say_goodbye(_SHUTDOWN)
                raise more from None  # noqa: ASYNC104 - this is it
            reason = "internal error"
            logger.error("session %s: this should not have happened", self._client.session, exc_info=failure)
            await self._say_goodbye(_TROUBLE)
        finally:
            await self._discard()
            self._log(reason)
        # Where we gave up, the client may be sending still, and that would cut off what we said last.
        if reason not in _NOTHING_TO_READ and isinstance(self._stream, trio.abc.HalfCloseableStream):
            await let_client_read(self._stream, self._stream)

    async def _serve(self) -> str:
        with self._scope:
            return await self._dialogue()
        # The scope caught its own cancellation: a deadline passed, or the server drains.
        shutdown = self._draining and self._phase is Phase.COMMAND
        reason = "shutdown" if shutdown else self._phase.value
        await self._say_goodbye(_SHUTDOWN if shutdown else _TIMEOUT)
        return reason

    async def _dialogue(self) -> str:
        self._out += self._connection.send(Reply(220, "", f"{self._options.hostname} LMTP ready"))
        event: Event | None = None
        steps = 0
        while self._connection.state is not State.CLOSED:
            found = self._connection.next_event()
            if isinstance(found, Signal):
                assert found is NEED_DATA
                await self._flush()
                # A message whose DATA was answered is waited for; one that was only talked of is not.
                if self._draining and self._connection.state is not State.CONTENT:
                    await self._say_goodbye(_SHUTDOWN)
                    return "shutdown"
                await self._receive()
                continue
            event = found
            if isinstance(event, ConnectionClosed):
                return "client closed"
            await self._obey(event)
            steps += 1
            if steps % _STEPS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if len(self._out) >= _FLUSH_OCTETS:
                await self._flush()
        await self._flush()
        return "quit" if isinstance(event, Quit) else "gave up on it"

    async def _obey(self, event: Event) -> None:
        if not isinstance(event, Content):
            self._waiting = None  # a new deadline
        match event:
            case Content(octets):
                assert self._delivery is not None
                self._enter(Phase.WORK)
                with trio.fail_after(self._options.command_timeout):
                    await self._delivery.write(octets)
            case EndOfContent():
                await self._finish(event)
            case Lhlo(name):
                self._name = name
                self._forget()
                self._out += self._connection.send_extensions()
            case _:
                self._enter(Phase.WORK)
                self._out += self._connection.send(await self._answer(event))

    async def _receive(self) -> None:
        """Octets that do not finish a command, and less than 64 KiB of a message, do not move the deadline."""
        phase = Phase.CONTENT if self._connection.state is State.CONTENT else Phase.COMMAND
        if phase is not self._waiting or self._received >= _RECEIVE_OCTETS:
            self._waiting, self._received = phase, 0
            self._due = trio.current_time() + self._timeouts[phase]
        self._enter(phase, self._due)
        data = await self._stream.receive_some(_RECEIVE_OCTETS)
        self._phase = Phase.WORK
        self._received += len(data)
        self._connection.receive_data(data)

    async def _answer(self, event: Event) -> Reply:
        match event:
            case BadCommand(reply):
                return reply
            case Mail(size=size):
                if size is not None and size > self._options.max_size:
                    return _TOO_LARGE
                self._mail = event
                return _SENDER_OK
            case Rcpt(recipient):
                return await self._recipient(recipient)
            case Data():
                if self._draining:
                    return _SHUTDOWN
                trace = received(
                    self._options.hostname, self._name, self._client.peer, self._client.session, utf8=self._mail.utf8
                )
                recipients = [(address, user) for user, address in self._addresses.items()]
                self._delivery = self._target.begin(Envelope(self._mail.sender, recipients, trace))
                return _GO_AHEAD
            case Rset():
                self._forget()
            case Vrfy():
                return _PERHAPS
            case Quit():
                return _GOODBYE
        return _DONE

    async def _recipient(self, address: Address) -> Reply:
        if len(self._recipients) >= self._options.max_recipients:
            return _TOO_MANY
        with trio.move_on_after(self._options.command_timeout):
            try:
                user = await self._target.find(address)
            except Exception as failure:
                return self._refusal(failure, "recipient refused")
            self._recipients.append(user)
            self._addresses.setdefault(user, address)
            return _RECIPIENT_OK
        return _TOO_SLOW

    def _refusal(self, failure: Exception, what: str) -> Reply:
        """What a failure is to the client; who keeps the mail hears more of it."""
        if isinstance(failure, DeliveryFailed):
            log = logger.info if failure.reply.code >= 500 else logger.error
            log("session %s: %s: %s", self._client.session, what, failure)
            return failure.reply
        logger.error("session %s: %s", self._client.session, what, exc_info=failure)
        return DeliveryFailed.reply

    async def _finish(self, message: EndOfContent) -> None:
        """Deliver to one after the other, and tell as soon as a copy is safe. Nothing from outside cuts this.

        Somebody who has two addresses here gets one copy. If the client is gone, whoever is not served yet is not: it
        will come again for all whose reply it has not seen.
        """
        self._enter(Phase.WORK)
        outcomes: dict[str, Reply] = {}
        indices = {user: index for index, user in enumerate(self._addresses)}
        try:
            with trio.CancelScope(shield=True):
                for user in list(self._recipients):
                    if user not in outcomes:
                        outcomes[user] = _TOO_LARGE if message.too_large else await self._deliver(indices[user])
                    self._out += self._connection.send(outcomes[user])
                    await self._flush()
        finally:
            told = " ".join(f"{loggable(user)}={reply.code}" for user, reply in outcomes.items())
            sender = "<>" if self._mail.sender is None else loggable(str(self._mail.sender))
            logger.info("session %s: %d octets from %s: %s", self._client.session, message.octets, sender, told)
            self._tally.update(reply.code for reply in outcomes.values())
            await self._discard()
        self._forget()

    async def _deliver(self, index: int) -> Reply:
        assert self._delivery is not None
        with trio.move_on_after(self._options.command_timeout):
            try:
                await self._delivery.finish(index)
            except Exception as failure:
                return self._refusal(failure, "not delivered")
            return _DELIVERED
        return _TOO_SLOW

    def _forget(self) -> None:
        """The transaction is over."""
        self._mail = Mail(None)
        self._recipients.clear()
        self._addresses.clear()

    async def _discard(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is None:
            return
        with trio.move_on_after(self._options.command_timeout, shield=True):
            try:
                await delivery.discard()
            except Exception as failure:
                logger.error("session %s: something was left behind", self._client.session, exc_info=failure)

    async def _flush(self) -> None:
        """Write what is due, before the write deadline. Not written again if that was cut: some of it may be out."""
        if not self._out:
            return
        data, self._out = self._out, bytearray()
        self._enter(Phase.WRITE)
        with trio.fail_after(self._options.write_timeout):
            await self._stream.send_all(data)
        self._enter(Phase.WORK)

    async def _say_goodbye(self, reply: Reply) -> None:
        """A last 421, behind the replies made before, whoever cancels; nothing if the client was not taking any."""
        if self._phase is Phase.WRITE:
            return
        if self._connection.state is not State.CLOSED:
            self._out += self._connection.send(reply)
        with trio.move_on_after(_FAREWELL_SECONDS, shield=True), contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_all(self._out)
        self._out.clear()

    def _enter(self, phase: Phase, due: float = math.inf) -> None:
        """Wait for something else from now on, until its own deadline."""
        self._phase = phase
        self._scope.deadline = due

    def _log(self, reason: str) -> None:
        logger.info(
            "session %s: peer=%s client=%s delivered=%d failed=%d seconds=%.3f reason=%s",
            self._client.session,
            self._client.peer,
            loggable(self._name),
            self._tally[_DELIVERED.code],
            self._tally.total() - self._tally[_DELIVERED.code],
            trio.current_time() - self._started,
            loggable(reason),
        )
