"""One dialogue: a command event in, a reply out, the backend in between.

Asynchronous but of no loop: a `Session` awaits the backend and the two callables it is handed, nothing else, and
imports no trio. With a backend that never suspends, a plain `coroutine.send(None)` runs it to the end.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from .backend import (
    ApopAuthenticator,
    ApopCredentials,
    AuthenticationFailed,
    Backend,
    BackendError,
    ClientInfo,
    ConnectionHooks,
    Credentials,
    Maildrop,
    MessageInfo,
    MessageUnavailable,
    PasswordCredentials,
)
from .replies import (
    BAD_MAILDROP,
    BAD_MESSAGE,
    CLEARTEXT_REFUSED,
    DELETED_MESSAGE,
    INTERNAL_ERROR,
    NO_SUCH_MESSAGE,
    TOO_MANY_BAD,
    Listing,
    Multiline,
    Reply,
    checked_chunk,
    failure_reply,
)
from .sansio import (
    Apop,
    BadCommand,
    Capa,
    Command,
    Dele,
    Err,
    Greeting,
    List,
    Noop,
    Ok,
    Pass,
    Quit,
    ResponseCode,
    Retr,
    Rset,
    Stat,
    Top,
    TopCutter,
    Uidl,
    User,
    capability_tags,
    octets_of,
)

logger = logging.getLogger("trio_pop3.session")

# Lines of a listing and messages checked between two checkpoints.
_LINES_AT_ONCE: Final = 1000
# A message handed over whole is measured before +OK up to this size; beyond it the end of the body is checked.
_MEASURED_WHOLE: Final = 256 * 1024

_UID: Final = re.compile(r"[\x21-\x7e]{1,70}")
# No store holds more, and a number without end could not be written.
_MOST_OCTETS: Final = 2**63 - 1


async def _no_checkpoint() -> None:
    """For runtimes that need none."""


async def _unshielded(work: Callable[[], Awaitable[None]]) -> None:
    """For runtimes that cannot be cancelled."""
    await work()


@dataclass(slots=True)
class Tally:
    """What one session did, for its summary line."""

    logins_failed: int = 0
    bad_commands: int = 0
    messages: int = 0
    octets: int = 0
    retrieved: int = 0
    retrieved_octets: int = 0
    topped: int = 0
    removed: int = 0
    remaining: int = 0


class Session:
    """The server's side of one connection, from greeting to release.

    Drive it so: `await greet()` once, `await respond(event)` for every `Command` and `BadCommand`, and in the end, on
    every way out, `await close(reason)` once. After each reply look at `ended`.

    Args:
        backend: who says who may log in, and where the mail is.
        client: who is connected; goes to the backend and into the logs.
        cleartext_login: whether USER, PASS and APOP are served and announced on this connection.
        timestamp: the APOP timestamp of this connection's greeting, or None to refuse APOP.
        banner: text of the greeting.
        max_bad_commands: consecutive bad lines after which the session ends; None for never.
        max_auth_failures: refused logins after which the session ends; None for never.
        checkpoint: awaited between slices of long work; lets other tasks run.
        shielded: runs `commit`, `release` and `disconnect` so that no cancellation cuts them, with a deadline.
    """

    def __init__(
        self,
        backend: Backend,
        client: ClientInfo,
        *,
        cleartext_login: bool = True,
        timestamp: str | None = None,
        banner: str = "POP3 server ready",
        max_bad_commands: int | None = 10,
        max_auth_failures: int | None = 3,
        checkpoint: Callable[[], Awaitable[None]] = _no_checkpoint,
        shielded: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] = _unshielded,
    ) -> None:
        self.client: Final = client
        self.tally: Final = Tally()
        self.user: str | None = None  # set by a successful login
        self.ended: str | None = None  # why no more commands should be read
        self._backend = backend
        self._cleartext_login = cleartext_login
        self._timestamp = timestamp
        self._banner = banner
        self._max_bad_commands = max_bad_commands
        self._max_auth_failures = max_auth_failures
        self._checkpoint = checkpoint
        self._shielded = shielded
        self._connected = False
        self._pending_user: str | None = None
        self._bad_in_a_row = 0
        self._maildrop: Maildrop | None = None
        self._credentials: Credentials | None = None  # of the last login, for what must not be logged
        self._messages: tuple[MessageInfo, ...] = ()
        # Read once and kept: what a backend says of a message later was never checked.
        self._uids: tuple[str, ...] = ()
        self._sizes: tuple[int, ...] = ()
        self._deleted: set[int] = set()
        self._deleted_octets = 0
        self._octets = 0
        self._unavailable: set[int] = set()

    # --- life ------------------------------------------------------------------------------------------------------

    async def greet(self) -> Greeting | Err:
        """Tell the backend of the connection; its refusal is the greeting's `-ERR`, and `ended` is set."""
        if isinstance(self._backend, ConnectionHooks):
            self._connected = True
            try:
                await self._backend.connect(self.client)
            except BackendError as failure:
                self.ended = "refused"
                return failure_reply(failure)
            except Exception as failure:
                self.ended = "refused"
                self.log_failure("connect", failure)
                return INTERNAL_ERROR
        return Greeting(self._banner, self._timestamp)

    async def respond(self, event: Command | BadCommand) -> Reply:
        """The reply to one event. Never raises because of the backend: its failures are replies, and logged."""
        if isinstance(event, BadCommand):
            return self._bad(event.reply, fatal=event.fatal)
        try:
            reply = await _HANDLERS[type(event)](self, event)
        except MessageUnavailable as failure:
            return self._not_available(event, failure_reply(failure))
        except BackendError as failure:
            reply = failure_reply(failure)
        except Exception as failure:
            self.log_failure(type(event).__name__.upper(), failure)
            reply = INTERNAL_ERROR
        self._bad_in_a_row = 0
        return reply

    async def close(self, reason: str) -> None:
        """Give everything back. Never deletes mail. Does nothing the second time."""
        try:
            await self._release()
        finally:
            await self._disconnect(reason)
            self._credentials = None

    async def _disconnect(self, reason: str) -> None:
        backend = self._backend
        if self._connected and isinstance(backend, ConnectionHooks):
            self._connected = False
            try:
                await self._shielded(lambda: backend.disconnect(self.client, reason))
            except Exception as failure:
                self.log_failure("disconnect", failure)

    async def _release(self) -> None:
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is not None:
            try:
                await self._shielded(maildrop.release)
            except Exception as failure:
                self.log_failure("release", failure)

    def delivered(self, octets: int | None) -> None:
        """Count a message that was handed out whole, or, without a size, the top of one."""
        if octets is None:
            self.tally.topped += 1
        else:
            self.tally.retrieved += 1
            self.tally.retrieved_octets += octets

    async def close_source(self, *opened: object) -> None:
        """Close what a backend gave to read a message from; a failure to close is logged and changes nothing."""
        for part in opened:
            close: Callable[[], Awaitable[None]] | None = getattr(part, "aclose", None)
            if close is not None:
                try:
                    await self._shielded(close)
                except Exception as failure:
                    self.log_failure("closing a message", failure)

    def log_failure(self, doing: str, failure: BaseException) -> None:
        """Log an exception of the backend with its traceback, and without the secret it may quote."""
        trace = "".join(traceback.format_exception(failure))
        if self._credentials is not None:
            trace = self._credentials.redact(trace)
        logger.error("session %s: %s failed in the backend\n%s", self.client.session, doing, trace.rstrip())

    def _bad(self, reply: Err, *, fatal: bool = False) -> Err:
        self.tally.bad_commands += 1
        self._bad_in_a_row += 1
        if fatal:
            self.ended = "line without end"
        elif self._max_bad_commands is not None and self._bad_in_a_row >= self._max_bad_commands:
            self.ended = "too many bad commands"
            return TOO_MANY_BAD
        return reply

    def _not_available(self, event: Command, reply: Err) -> Err:
        """A client that asks for a vanished message again and again must not go on for ever."""
        number = getattr(event, "number", 0)
        if number in self._unavailable:
            return self._bad(reply)
        self._unavailable.add(number)
        return reply

    # --- AUTHORIZATION ---------------------------------------------------------------------------------------------

    async def _user(self, command: User) -> Reply:
        if not self._cleartext_login:
            return Err(CLEARTEXT_REFUSED)
        self._pending_user = command.name
        return Ok("send PASS")

    async def _pass(self, command: Pass) -> Reply:
        name, self._pending_user = self._pending_user, None
        assert name is not None  # the core hands out no PASS without a USER that was accepted
        credentials = PasswordCredentials(name, command.password.decode("utf-8", "surrogateescape"))
        return await self._login(self._backend.authenticate, credentials)

    async def _apop(self, command: Apop) -> Reply:
        if self._timestamp is None or not isinstance(self._backend, ApopAuthenticator):
            return Err("APOP is not offered here")
        if not self._cleartext_login:
            return Err(CLEARTEXT_REFUSED, ResponseCode.AUTH)
        credentials = ApopCredentials(command.name, self._timestamp, command.digest)
        return await self._login(self._backend.authenticate_apop, credentials)

    async def _login(
        self, authenticate: Callable[[Any, ClientInfo], Awaitable[str]], credentials: Credentials
    ) -> Reply:
        await self._release()  # of a login that was cancelled half-way, if there was one
        self._credentials = credentials
        try:
            user = await authenticate(credentials, self.client)
            if not isinstance(user, str) or not user:
                raise TypeError(f"authenticate must return a user name, not {type(user).__name__}")
            self._maildrop = await self._backend.open(user, self.client)
            messages = tuple(self._maildrop.messages)
        except Exception as failure:
            await self._release()
            return self._refused(failure)
        try:
            await self._snapshot(messages)
        except Exception as failure:
            await self._release()
            self.log_failure("opening the maildrop", failure)
            return BAD_MAILDROP
        self.user = user
        return Ok(f"maildrop has {len(self._messages)} messages ({self._octets} octets)")

    def _refused(self, failure: Exception) -> Err:
        if isinstance(failure, AuthenticationFailed):
            self.tally.logins_failed += 1
            if self.tally.logins_failed == self._max_auth_failures:
                self.ended = "too many failed logins"
        elif not isinstance(failure, BackendError):
            self.log_failure("login", failure)
            return INTERNAL_ERROR
        return failure_reply(failure, login=True)

    async def _snapshot(self, messages: tuple[MessageInfo, ...]) -> None:
        """Take over the list of messages; nothing in it is trusted."""
        sizes: dict[str, int] = {}
        for start in range(0, len(messages), _LINES_AT_ONCE):
            for message in messages[start : start + _LINES_AT_ONCE]:
                uid, octets = message.uid, message.octets
                if type(uid) is not str or not _UID.fullmatch(uid):
                    raise ValueError(f"a unique-id must be 1 to 70 characters in 0x21-0x7E: {uid!r:.200}")
                if type(octets) is not int or not 2 <= octets <= _MOST_OCTETS:
                    raise ValueError(f"a size must be an int from 2 to 2**63 - 1: {octets!r:.200} (uid {uid})")
                sizes[uid] = octets
            await self._checkpoint()
        if len(sizes) != len(messages):
            raise ValueError("two messages have the same unique-id")
        self._messages = messages
        self._uids = tuple(sizes)
        self._sizes = tuple(sizes.values())
        self._octets = self.tally.octets = sum(self._sizes)
        self.tally.messages = len(messages)

    async def _capa(self, command: Capa) -> Reply:
        without = frozenset() if self._cleartext_login else frozenset({"USER"})
        lines = (*capability_tags(without), "IMPLEMENTATION trio_pop3")
        text = "".join(f"{line}\r\n" for line in lines)
        return Multiline(self, Ok("capability list follows"), text.encode("ascii"))

    # --- TRANSACTION -----------------------------------------------------------------------------------------------

    async def _stat(self, command: Stat) -> Reply:
        return Ok(f"{len(self._messages) - len(self._deleted)} {self._octets - self._deleted_octets}")

    async def _list(self, command: List) -> Reply:
        return self._listing(command.number, self._sizes)

    async def _uidl(self, command: Uidl) -> Reply:
        return self._listing(command.number, self._uids)

    def _listing(self, number: int | None, values: tuple[object, ...]) -> Reply:
        if number is not None:
            return self._missing(number) or Ok(f"{number} {values[number - 1]}")
        status = Ok(f"{len(self._messages) - len(self._deleted)} messages")
        return Multiline(self, status, b"", Listing(self._slices(values), self._checkpoint))

    def _slices(self, values: tuple[object, ...]) -> Iterator[bytes]:
        deleted = frozenset(self._deleted)
        for start in range(0, len(values), _LINES_AT_ONCE):
            numbered = enumerate(values[start : start + _LINES_AT_ONCE], start + 1)
            yield "".join(f"{n} {value}\r\n" for n, value in numbered if n not in deleted).encode("ascii")

    async def _retr(self, command: Retr) -> Reply:
        if missing := self._missing(command.number):
            return missing
        octets = self._sizes[command.number - 1]
        return await self._open(command.number, Ok(f"{octets} octets"), octets=octets)

    async def _top(self, command: Top) -> Reply:
        if missing := self._missing(command.number):
            return missing
        return await self._open(command.number, Ok("top of message follows"), cutter=TopCutter(command.lines))

    async def _dele(self, command: Dele) -> Reply:
        if missing := self._missing(command.number):
            return missing
        self._deleted.add(command.number)
        self._deleted_octets += self._sizes[command.number - 1]
        return Ok("message marked for deletion")

    async def _noop(self, command: Noop) -> Reply:
        return Ok("nothing done")

    async def _rset(self, command: Rset) -> Reply:
        self._deleted.clear()
        self._deleted_octets = 0
        return Ok(f"maildrop has {len(self._messages)} messages ({self._octets} octets)")

    def _missing(self, number: int) -> Err | None:
        if not 1 <= number <= len(self._messages):
            return NO_SUCH_MESSAGE
        return DELETED_MESSAGE if number in self._deleted else None

    async def _open(
        self, number: int, status: Ok, *, octets: int | None = None, cutter: TopCutter | None = None
    ) -> Reply:
        """A message with its first octets already in hand, so that a failure can still be an `-ERR`."""
        assert self._maildrop is not None
        content = await self._maildrop.retrieve(self._messages[number - 1])
        if isinstance(content, bytes):
            if len(content) <= _MEASURED_WHOLE and octets_of(content) != self._sizes[number - 1]:
                uid = self._uids[number - 1]
                logger.error("session %s: uid %s is not of its announced size", self.client.session, uid)
                return BAD_MESSAGE
            return Multiline(self, status, content, octets=octets, cutter=cutter)
        source = aiter(content)
        rest = None if content is source else content
        try:
            first = checked_chunk(await anext(source, b""))
        except BaseException:
            await self.close_source(source, rest)
            raise
        return Multiline(self, status, first, source, content=rest, octets=octets, cutter=cutter)

    # --- UPDATE ----------------------------------------------------------------------------------------------------

    async def _quit(self, command: Quit) -> Reply:
        self.ended = "quit"
        maildrop = self._maildrop
        if maildrop is None:
            return Ok("goodbye")
        deleted = [self._messages[number - 1] for number in sorted(self._deleted)]
        reply: Reply = Ok("goodbye")
        try:
            await self._shielded(lambda: maildrop.commit(deleted))
        except BackendError as failure:
            reply = failure_reply(failure)
            self.tally.remaining = getattr(failure, "remaining", len(deleted))
        except Exception as failure:
            self.log_failure("removing messages", failure)
            reply = Err("deleted messages may not have been removed", ResponseCode.SYS_TEMP)
            self.tally.remaining = len(deleted)
        self.tally.removed = len(deleted) - self.tally.remaining
        # Released before the reply: a client that reconnects at once must not meet its own lock.
        await self._release()
        return reply


_HANDLERS: Final[dict[type[Command], Callable[[Session, Any], Awaitable[Reply]]]] = {
    User: Session._user,
    Pass: Session._pass,
    Apop: Session._apop,
    Capa: Session._capa,
    Quit: Session._quit,
    Stat: Session._stat,
    List: Session._list,
    Retr: Session._retr,
    Dele: Session._dele,
    Noop: Session._noop,
    Rset: Session._rset,
    Top: Session._top,
    Uidl: Session._uidl,
}
