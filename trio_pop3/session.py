"""One dialogue: a command event in, a reply out, the backend in between.

Asynchronous but of no loop: a `Session` awaits the backend and the two callables it is handed, nothing else, and
imports no trio. With a backend that never suspends, a plain `coroutine.send(None)` runs it to the end.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from .backend import (
    AuthenticationFailed,
    Backend,
    BackendError,
    ClientInfo,
    ConnectionHooks,
    LoginDelayed,
    Maildrop,
    MessageColumns,
    MessageUnavailable,
)
from .capabilities import capabilities, login_delay
from .languages import ENGLISH, negotiate
from .login import Gate, Login, OpenGate
from .replies import (
    BAD_MAILDROP,
    CANCELLED,
    INTERNAL_ERROR,
    TOO_MANY_BAD,
    Listing,
    Multiline,
    Reply,
    failure_reply,
    maildrop_has,
    messages_follow,
    safe_text,
)
from .retrieval import Retrieval
from .rules import Headers, Rules
from .sansio import Err, Greeting, Ok, ResponseCode, TopCutter
from .sansio import events as ev
from .sansio.readers import UNKNOWN
from .sasl import Identity, Malformed, Rejected
from .snapshot import Snapshot
from .xclient import ProxyLoop, client_behind

logger = logging.getLogger("trio_pop3.session")

_Step: TypeAlias = Callable[[Any, ClientInfo], Awaitable[Identity | Reply]]

DEFAULT_RULES: Final = Rules()
_OPEN_GATE: Final = OpenGate()
_NO_MAIL: Final = Snapshot((), (), ())


async def _no_checkpoint() -> None:
    """For runtimes that need none."""


async def _at_once(work: Callable[[], bytes]) -> bytes:
    """For runtimes without threads."""
    return work()


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
    every way out, `await close(reason)` once. After each reply look at `ended`. After the `+OK` to STLS, do the
    handshake and call `tls_started`.

    Args:
        backend: who says who may log in, and where the mail is.
        client: who is connected; goes to the backend and into the logs.
        rules: what is allowed and announced.
        gate: who has been guessing, and who logged in when.
        timestamp: the APOP timestamp of this connection's greeting, or None to refuse APOP.
        xclient: whether the peer is a proxy that is believed what it says of its client.
        checkpoint: awaited between slices of long work; lets other tasks run.
        shielded: runs `commit`, `release` and `disconnect` so that no cancellation cuts them, with a deadline.
        aside: runs work that takes milliseconds, of this package and not of the backend, where it holds up nobody.
    """

    def __init__(
        self,
        backend: Backend,
        client: ClientInfo,
        rules: Rules = DEFAULT_RULES,
        *,
        gate: Gate = _OPEN_GATE,
        timestamp: str | None = None,
        xclient: bool = False,
        checkpoint: Callable[[], Awaitable[None]] = _no_checkpoint,
        shielded: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] = _unshielded,
        aside: Callable[[Callable[[], bytes]], Awaitable[bytes]] = _at_once,
    ) -> None:
        self.client = client
        self.tally: Final = Tally()
        self.user: str | None = None  # set by a successful login
        self.ended: str | None = None  # why no more commands should be read
        self.method: str | None = None  # how the client last tried to log in
        self._backend = backend
        self._rules = rules
        self._gate = gate
        self._timestamp = timestamp
        self._xclient_allowed = xclient
        self._checkpoint = checkpoint
        self._shielded = shielded
        self._aside = aside
        self._login = Login(backend, rules, gate, timestamp)
        self._encrypted = client.tls  # the connection is, whatever a proxy says of its client
        self._connected = False
        self._bad_in_a_row = 0
        self._maildrop: Maildrop | None = None
        self._mail = _NO_MAIL
        self._retrieval: Retrieval | None = None
        self._unavailable: set[int] = set()
        self._utf8 = False
        self._language = rules.language

    # --- life ------------------------------------------------------------------------------------------------------

    async def greet(self) -> Greeting | Err:
        """Tell the backend of the connection; its refusal is the greeting's `-ERR`, and `ended` is set."""
        if isinstance(self._backend, ConnectionHooks):
            self._connected = True
            try:
                await self._backend.connect(self.client)
            except Exception as failure:
                self.ended = "refused"
                return self._failed("connect", failure)
        return Greeting(self._rules.banner, self._timestamp, ResponseCode.XCLIENT if self._xclient_allowed else None)

    async def respond(self, event: ev.Command | ev.BadCommand) -> Reply:
        """The reply to one event. Never raises because of the backend: its failures are replies, and logged."""
        reply = await self._reply(event)
        return reply if self._language is ENGLISH else self._translated(reply)

    async def _reply(self, event: ev.Command | ev.BadCommand) -> Reply:
        if isinstance(event, ev.Xclient) and not self._xclient_allowed:
            event = UNKNOWN
        if isinstance(event, ev.BadCommand):
            self._login.pending_user = None
            self._abandon()
            return self._bad(event.reply, fatal=event.fatal)
        try:
            reply = await _HANDLERS[type(event)](self, event)
        except MessageUnavailable as failure:
            return self._not_available(event, failure_reply(failure))
        except Exception as failure:
            reply = self._failed(type(event).__name__.upper(), failure)
        self._bad_in_a_row = 0
        return reply

    def _failed(self, doing: str, failure: Exception, *, login: bool = False) -> Err:
        """What a failure of the backend is answered with; unless it is a typed one, it is logged."""
        if isinstance(failure, BackendError):
            return failure_reply(failure, login=login)
        self.log_failure(doing, failure)
        return INTERNAL_ERROR

    def _translated(self, reply: Reply) -> Reply:
        """The reply in the language of LANG. What a client reads for its numbers has no translation."""
        if isinstance(reply, Multiline):
            reply.status = replace(reply.status, text=self._language.translate(reply.status.text))
        elif not isinstance(reply, ev.Challenge):
            reply = replace(reply, text=self._language.translate(reply.text))
        return reply

    def tls_started(self, client: ClientInfo) -> None:
        """TLS is up: forget what was said before it (RFC 2595 section 4). `client` has what the handshake told."""
        self.client = client
        self._encrypted = True
        self._language = self._rules.language
        self._login.begin_anew()

    async def close(self, reason: str) -> None:
        """Give everything back. Never deletes mail. Does nothing the second time."""
        self._abandon()
        try:
            await self._release()
        finally:
            await self._disconnect(reason)
            self._login.credentials = None

    async def _disconnect(self, reason: str) -> None:
        backend = self._backend
        if self._connected and isinstance(backend, ConnectionHooks):
            self._connected = False
            await self._give_back("disconnect", lambda: backend.disconnect(self.client, reason))

    async def _release(self) -> None:
        maildrop, self._maildrop = self._maildrop, None
        # What is read with it knows this session. Unless that circle is opened here, a snapshot of a hundred thousand
        # messages stays until the garbage collector comes, and others pile up on it.
        self._mail, self._retrieval = _NO_MAIL, None
        if maildrop is not None:
            await self._give_back("release", maildrop.release)

    async def _give_back(self, doing: str, work: Callable[[], Awaitable[None]]) -> None:
        """Done even if cancelled; a failure is logged and changes nothing."""
        try:
            await self._shielded(work)
        except Exception as failure:
            self.log_failure(doing, failure)

    def delivered(self, octets: int | None) -> None:
        """Count a message that was handed out whole, or, without a size, the top of one."""
        if octets is None:
            self.tally.topped += 1
        else:
            self.tally.retrieved += 1
            self.tally.retrieved_octets += octets

    async def close_source(self, *opened: object) -> None:
        """Close what a backend gave to read a message from."""
        for part in opened:
            if (close := getattr(part, "aclose", None)) is not None:
                await self._give_back("closing a message", close)

    def log_failure(self, doing: str, failure: BaseException) -> None:
        """Log an exception of the backend with its traceback, and without the secret it may quote."""
        self.log_exception(f"{doing} failed in the backend", failure)

    def log_exception(self, text: str, failure: BaseException) -> None:
        """The same for any exception."""
        trace = "".join(traceback.format_exception(failure))
        if self._login.credentials is not None:
            trace = self._login.credentials.redact(trace)
        logger.error("session %s: %s\n%s", self.client.session, text, trace.rstrip())

    def _bad(self, reply: Err, *, fatal: bool = False) -> Err:
        self.tally.bad_commands += 1
        self._bad_in_a_row += 1
        if fatal:
            self.ended = "line without end"
        elif (budget := self._rules.bad_command_budget) is not None and self._bad_in_a_row >= budget:
            self.ended = "too many bad commands"
            return TOO_MANY_BAD
        return reply

    def _not_available(self, event: ev.Command, reply: Err) -> Err:
        """A client that asks for a vanished message again and again must not go on for ever."""
        number = getattr(event, "number", 0)
        if number in self._unavailable:
            return self._bad(reply)
        self._unavailable.add(number)
        return reply

    # --- AUTHORIZATION ---------------------------------------------------------------------------------------------

    async def _user(self, command: ev.User) -> Reply:
        if refusal := self._login.refuses_passwords(self.client):
            return refusal
        self._login.pending_user = command.name
        return Ok("send PASS")

    async def _pass(self, command: ev.Pass) -> Reply:
        self.method = "PASS"
        return await self._log_in(self._login.password, command)

    async def _apop(self, command: ev.Apop) -> Reply:
        if refusal := self._login.refuses_apop(self.client):
            return refusal
        self.method = "APOP"
        return await self._log_in(self._login.apop, command)

    async def _auth(self, command: ev.Auth) -> Reply:
        if command.mechanism in self._login.mechanisms(self.client):
            self.method = command.mechanism
        return await self._log_in(self._login.auth, command)

    async def _sasl_response(self, command: ev.SaslResponse) -> Reply:
        return await self._log_in(self._login.respond, command)

    async def _sasl_cancel(self, command: ev.SaslCancel) -> Reply:
        return self._abandon()

    async def _auth_list(self, command: ev.AuthList) -> Reply:
        self._login.pending_user = None
        text = "".join(f"{name}\r\n" for name in self._login.mechanisms(self.client))
        return Multiline(self, Ok("mechanisms follow"), text.encode("ascii"))

    async def _log_in(self, step: _Step, command: ev.Command) -> Reply:
        """One step of a login; with the last one, the maildrop is locked and opened (RFC 1939 section 4)."""
        await self._release()  # of a login that was cancelled half-way, if there was one
        user: str | None = None
        try:
            identity = await step(command, self.client)
            if not isinstance(identity, Identity):
                return identity
            user = await self._login.authorized(identity, self.client)
            delay = await self._hold_up(user)
            self._maildrop = await self._backend.open(user, self.client)
            messages = self._maildrop.messages
            if not isinstance(messages, MessageColumns):
                messages = tuple(messages)  # what changes it later is not seen
        except Exception as failure:
            await self._release()
            return self._refused(failure, user)
        self._login.finish(failed=False)
        try:
            self._mail = mail = await Snapshot.take(messages, self._checkpoint)
            headers = Headers.PASS if self._utf8 else self._rules.headers
            self._retrieval = Retrieval(self, self._maildrop, mail, headers, self._checkpoint, self._aside)
            await self._retrieval.measure_surrogates()
        except Exception as failure:
            await self._release()
            self.log_failure("opening the maildrop", failure)
            return failure_reply(failure) if isinstance(failure, BackendError) else BAD_MAILDROP
        self.user = user
        self.tally.messages, self.tally.octets = len(self._mail), self._mail.octets
        self._gate.logged_in(user, delay)
        return maildrop_has(len(self._mail), self._mail.octets)

    async def _hold_up(self, user: str) -> int:
        """The seconds this user has to wait between logins. Raises LoginDelayed if they are not over."""
        delay = (await login_delay(self._backend, self._rules, user)).value or 0
        since = self._gate.since_login(user)
        if since is not None and since < delay:
            raise LoginDelayed
        return delay

    def _refused(self, failure: Exception, user: str | None = None) -> Err:
        bad = isinstance(failure, (AuthenticationFailed, Rejected))
        self._login.finish(failed=bad)
        if bad:
            self.tally.logins_failed += 1
            if self.tally.logins_failed == self._rules.max_auth_failures:
                self.ended = "too many failed logins"
            return failure_reply(AuthenticationFailed(), login=True)
        if isinstance(failure, Malformed):
            return Err(safe_text(str(failure), "malformed authentication message"))
        reply = self._failed("login", failure, login=True)
        if user is not None:  # the client is who it says, and a person will ask why that did not help
            code = "" if reply.code is None else f"[{reply.code.value}] "
            logger.info("session %s: login of %a refused: %s%s", self.client.session, user, code, reply.text)
        return reply

    def _abandon(self) -> Err:
        """The client has ended the exchange, perhaps because it was told that it has failed; the reply to that."""
        return self._refused(Rejected()) if self._login.abandon() else CANCELLED

    def _refuses_stls(self) -> Err | None:
        if not self._rules.stls:
            return Err("TLS is not available here")
        if self._encrypted or self.client.tls:
            return Err("TLS is active already")
        # RFC 6856 section 2.1: a client that said UTF8 does not ask for TLS any more.
        return Err("too late for TLS, UTF8 was said") if self._utf8 else None

    async def _stls(self, command: ev.Stls) -> Reply:
        self._login.pending_user = None
        return self._refuses_stls() or Ok("begin TLS")

    async def _xclient(self, command: ev.Xclient) -> Reply:
        try:
            client = client_behind(self.client, command.attributes)
        except ValueError:
            return Err("bad value in XCLIENT")
        except ProxyLoop:
            self.ended = "proxy loop"
            return Err("too many hops, closing")
        self._login.begin_anew()
        self.client = client
        return Ok("updated")

    # --- in both states --------------------------------------------------------------------------------------------

    async def _capa(self, command: ev.Capa) -> Reply:
        stls = self.user is None and self._refuses_stls() is None
        lines = await capabilities(self._backend, self._rules, self._login, self.client, user=self.user, stls=stls)
        text = "".join(f"{line}\r\n" for line in lines)
        return Multiline(self, Ok("capability list follows"), text.encode("ascii"))

    async def _utf8_mode(self, command: ev.Utf8) -> Reply:
        if not self._rules.utf8:
            return Err("UTF8 is not available here")
        self._utf8 = True
        if self._retrieval is not None:
            # Said after the login, which some clients do: from now on messages are sent as they are.
            self._retrieval.headers = Headers.PASS
            self._mail.resize({})
        return Ok("UTF8 mode on")

    async def _lang(self, command: ev.Lang) -> Reply:
        languages = self._rules.languages
        if command.tag is None:
            text = "".join(f"{language.tag} {language.description}\r\n" for language in languages)
            return Multiline(self, Ok("languages follow"), text.encode())
        language = self._rules.language if command.tag == "*" else negotiate(command.tag, languages)
        if language is None:
            return Err("this language is not available")
        self._language = language
        return Ok(f"{language.tag} {language.translate('language changed')}")

    # --- TRANSACTION -----------------------------------------------------------------------------------------------

    async def _stat(self, command: ev.Stat) -> Reply:
        count, octets = self._mail.left
        return Ok(f"{count} {octets}")

    async def _list(self, command: ev.List) -> Reply:
        return self._listing(command.number, self._mail.sizes)

    async def _uidl(self, command: ev.Uidl) -> Reply:
        return self._listing(command.number, self._mail.uids)

    def _listing(self, number: int | None, values: tuple[object, ...]) -> Reply:
        if number is not None:
            return self._mail.missing(number) or Ok(f"{number} {values[number - 1]}")
        status = messages_follow(self._mail.left[0])
        return Multiline(self, status, b"", Listing(self._mail.slices(values), self._checkpoint))

    async def _retr(self, command: ev.Retr) -> Reply:
        if missing := self._mail.missing(command.number):
            return missing
        octets = self._mail.sizes[command.number - 1]
        assert self._retrieval is not None
        return await self._retrieval.open(command.number, Ok(f"{octets} octets follow"), octets=octets)

    async def _top(self, command: ev.Top) -> Reply:
        if missing := self._mail.missing(command.number):
            return missing
        assert self._retrieval is not None
        return await self._retrieval.open(command.number, Ok("top of message follows"), cutter=TopCutter(command.lines))

    async def _dele(self, command: ev.Dele) -> Reply:
        if missing := self._mail.missing(command.number):
            return missing
        self._mail.delete(command.number)
        return Ok("message marked for deletion")

    async def _noop(self, command: ev.Noop) -> Reply:
        return Ok("nothing done")

    async def _rset(self, command: ev.Rset) -> Reply:
        self._mail.reset()
        return maildrop_has(len(self._mail), self._mail.octets)

    # --- UPDATE ----------------------------------------------------------------------------------------------------

    async def _quit(self, command: ev.Quit) -> Reply:
        self.ended = "quit"
        maildrop = self._maildrop
        if maildrop is None:
            return Ok("goodbye")
        deleted = self._mail.deleted
        reply: Reply = Ok("goodbye")
        remaining: object = 0
        try:
            await self._shielded(lambda: maildrop.commit(deleted))
        except BackendError as failure:
            reply = failure_reply(failure)
            remaining = getattr(failure, "remaining", None)
        except Exception as failure:
            self.log_failure("removing messages", failure)
            reply = Err("deleted messages may not have been removed", ResponseCode.SYS_TEMP)
            remaining = None
        self.tally.remaining = remaining if type(remaining) is int and 0 <= remaining <= len(deleted) else len(deleted)
        self.tally.removed = len(deleted) - self.tally.remaining
        # Released before the reply: a client that reconnects at once must not meet its own lock.
        await self._release()
        return reply


_HANDLERS: Final[dict[type[ev.Command], Callable[[Session, Any], Awaitable[Reply]]]] = {
    ev.User: Session._user,
    ev.Pass: Session._pass,
    ev.Apop: Session._apop,
    ev.Auth: Session._auth,
    ev.AuthList: Session._auth_list,
    ev.SaslResponse: Session._sasl_response,
    ev.SaslCancel: Session._sasl_cancel,
    ev.Stls: Session._stls,
    ev.Xclient: Session._xclient,
    ev.Utf8: Session._utf8_mode,
    ev.Lang: Session._lang,
    ev.Capa: Session._capa,
    ev.Quit: Session._quit,
    ev.Stat: Session._stat,
    ev.List: Session._list,
    ev.Retr: Session._retr,
    ev.Dele: Session._dele,
    ev.Noop: Session._noop,
    ev.Rset: Session._rset,
    ev.Top: Session._top,
    ev.Uidl: Session._uidl,
}
