"""The server that is checked, as checks see it: connections, logins, and what is in the maildrop."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final, TypeAlias

from ..talk import Reply, Talk
from ..transcript import Entry, Transcript, escape
from ..wire import SocketWire
from .base import accepted, expect, in_step
from .mail import Mail, mail_seen
from .settings import Account as Account
from .settings import BehindStls as BehindStls
from .settings import Encryption as Encryption
from .settings import NoTarget as NoTarget
from .settings import Settings as Settings

# A wrong password, always the same one: servers that make guessing expensive take repeats for a mistake.
WRONG_PASSWORD: Final = b"trio-pop3-check-wrong"
NOBODY: Final = b"trio-pop3-check-nobody"
# A first reply line may have 512 octets, which is a check of its own; a longer one must not spoil all others.
_MOST_STATUS_OCTETS: Final = 64 * 1024
_TIMESTAMP: Final = re.compile(rb"<[^<>]*>")
_DELE: Final = re.compile(rb"(?im)^[ \t]*dele\b")
_MAY_REMOVE: Final = re.compile(rb"(?im)^[ \t]*(?:retr|dele)\b")
# How much longer than for another reply to wait for one to a login, which servers delay on purpose.
_LOGIN_PATIENCE: Final = 3
# Seconds between attempts to log in while a session that was dropped still holds the lock.
_PATIENCE: Final = (0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0)

# Seconds between logins that anybody would wait for.
MOST_DELAY: Final = 60
# What OpenSSL says of a certificate that is not for this host (X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH).
_OTHER_NAME: Final = (62, 64)
# And of one that is from somebody unknown (X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT and the like).
_STRANGER: Final = (2, 18, 19, 20, 21)

Capabilities: TypeAlias = Mapping[str, tuple[str, ...]]


class LoginRefused(AssertionError):
    """The right name and the right password do not help."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("the login was refused" + (f': "{escape(reply.text)}"' if reply.text else ""))
        self.reply: Final = reply


class CheckedTalk(Talk):
    """A connection of a check. What could delete mail cannot be said by accident."""

    def __init__(self, target: Target, wire: SocketWire, number: int) -> None:
        self.socket: Final = wire
        # Wrong passwords may have made logins from here slow, also right ones.
        wire.timeout = target.settings.timeout * _LOGIN_PATIENCE
        super().__init__(wire, target.transcript, number, most_status_octets=_MOST_STATUS_OCTETS)
        self._target: Final = target
        self.greeting = Reply(None, b"")
        self.logged_in = False
        self.after_login = False  # whether the transcript begins behind the login
        self.said = b""

    def send_octets(self, data: bytes) -> None:
        self.said += data
        if _DELE.search(self.said) and not self._target.settings.destructive:
            raise RuntimeError("a check that is not destructive would have sent DELE")
        super().send_octets(data)

    def reply(self, *, multiline: bool = False) -> Reply:
        reply = super().reply(multiline=multiline)
        self._target.heard.add(reply if reply.lines is None else Reply(reply.ok, reply.text))
        return reply

    @property
    def timestamp(self) -> bytes | None:
        """What APOP is computed with, if the greeting has it."""
        match = _TIMESTAMP.search(self.greeting.text)
        return match[0] if match else None

    def entered(self) -> None:
        """The session is in TRANSACTION."""
        self.logged_in = True
        self.socket.timeout = self._target.settings.timeout
        self._target.entered()

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        """What is said in here is not shown if it is something later that fails."""
        mark = len(self.transcript.entries)
        yield
        self._target.settled.append((mark, len(self.transcript.entries)))

    def leave(self) -> None:
        """End the session so that the lock is free as soon as possible and nothing is deleted."""
        if self.logged_in and not self.ended:
            if _MAY_REMOVE.search(self.said):
                self._target.dropped = True
            else:
                with contextlib.suppress(AssertionError, OSError):
                    self.ask(b"QUIT")
                    self.expect_end()
        self.close()


class Target:
    """A server under check. Keeps what was found out, and counts logins that failed.

    Every check begins with `begin`, which forgets the connections of the one before, and ends with `end`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings: Final = settings
        self.heard: Final[set[Reply]] = set()  # every reply so far, without bodies
        self.failed_logins = 0
        self.logins = 0
        self.dropped = False  # whether a session was left without QUIT, so that its lock may linger
        self.transcript = Transcript()
        self.settled: list[tuple[int, int]] = []  # what is not shown of a dialogue in which something failed
        self.method = "USER"
        self.distrusts = False  # whether STLS is there, and its certificate is not good enough for us
        self._talks: list[CheckedTalk] = []
        self._mail: Mail | None = None
        self._refusal: tuple[Reply, list[Entry]] | None = None
        self._last_login = -float("inf")
        self._hide = dict(_secrets(settings.account, "password"))
        if settings.second is not None:
            self._hide.update(_secrets(settings.second, "other"))

    # --- a check ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new check."""
        self.transcript = Transcript(hide=self._hide)
        self.settled = []
        self._talks = []

    def end(self, *, orderly: bool) -> None:
        """Close what is open; after a check that failed without a word more."""
        for talk in self._talks:
            if orderly:
                talk.leave()
            else:
                self.dropped = True
                talk.close()

    def conceal(self, text: str) -> str:
        """A sentence without secrets."""
        for secret in sorted(self._hide, key=len, reverse=True):
            ways = {secret.decode("latin-1"), escape(secret), repr(secret)[2:-1], *_decoded(secret)}
            for shown in sorted(ways, key=len, reverse=True):
                text = text.replace(shown, f"\\{{{self._hide[secret]}}}")
        return text

    def hide(self, octets: bytes, name: str) -> None:
        """Octets that are made of a secret, and printed as a name."""
        self._hide[octets] = name

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Connections that are not the check's own: its transcript has them only if something is wrong there."""
        transcript, talks, settled = self.transcript, self._talks, self.settled
        self.begin()
        try:
            yield
        except BaseException:
            self.end(orderly=False)
            raise
        self.end(orderly=True)
        self.transcript, self._talks, self.settled = transcript, talks, settled

    # --- connections --------------------------------------------------------------------------------------------

    def connect(self, *, encrypted: bool = True) -> CheckedTalk:
        """A connection in AUTHORIZATION. `encrypted` False: before STLS, where that is how TLS begins."""
        talk = self.greeted()
        if encrypted and self.settings.encryption is Encryption.STLS:
            mark = len(self.transcript.entries)
            accepted(talk, b"STLS")
            talk.start_tls()
            del self.transcript.entries[mark:]
        return talk

    def greeted(self) -> CheckedTalk:
        """A connection of which the greeting was read."""
        talk = self.dial()
        talk.greeting = talk.reply()
        expect(talk.greeting.ok, "the greeting is not +OK")
        return talk

    def dial(self, context: ssl.SSLContext | None = None) -> CheckedTalk:
        """A connection of which nothing was read yet. Raises OSError."""
        talk = CheckedTalk(self, self.settings.dial(context), len(self._talks) + 1)
        self._talks.append(talk)
        return talk

    def login(self, account: Account | None = None) -> CheckedTalk:
        """A session in TRANSACTION. The login is not part of the transcript, unless it fails."""
        account = account or self.settings.account
        self._wait_for_delay()
        for wait in (*_PATIENCE, None):
            mark = len(self.transcript.entries)
            talk = self.connect()
            reply = self.try_login(talk, account)
            if reply.ok:
                break
            if wait is None or not (self.dropped or reply.code in ("IN-USE", "LOGIN-DELAY", "SYS/TEMP")):
                raise LoginRefused(reply)
            del self.transcript.entries[mark:]
            self._talks.remove(talk)
            talk.close()
            time.sleep(wait)
        self.dropped = False
        del self.transcript.entries[mark:]
        talk.after_login = True
        return talk

    def each(self, lines: Iterable[bytes], begin: Callable[[], CheckedTalk]) -> Iterator[tuple[CheckedTalk, bytes]]:
        """A connection of its own for each line; only the last one is shown if something fails."""
        for line in lines:
            mark = len(self.transcript.entries)
            talk = begin()
            yield talk, line
            talk.leave()
            self.settled.append((mark, len(self.transcript.entries)))

    def dialogue(self, most_lines: int, *, failed: bool) -> str:
        """What was said in this check; of one that failed, what has to do with that."""
        entries = self.transcript.entries
        if failed:
            hidden = {position for begin, end in self.settled for position in range(begin, end)}
            entries = [entry for position, entry in enumerate(entries) if position not in hidden]
        shown = {entry.number for entry in entries}
        inside = [talk.number for talk in self._talks if talk.after_login and talk.number in shown]
        remarks = [f"connection {number} has logged in" for number in inside] if len(shown) > 1 else ["after the login"]
        if inside:
            remarks += self.transcript.remarks
        else:
            remarks = self.transcript.remarks
        return Transcript(entries, self._hide, remarks).shortened(most_lines)

    def try_login(self, talk: CheckedTalk, account: Account | None = None) -> Reply:
        """Log in on a connection, in the way this server is known to allow; its reply."""
        account = account or self.settings.account
        reply = _METHODS[self.method](self, talk, account)
        if reply.ok:
            talk.entered()
        return reply

    def entered(self) -> None:
        """Somebody has logged in."""
        self.logins += 1
        self._last_login = time.monotonic()

    def log_in(self, talk: CheckedTalk) -> None:
        """Log in on this very connection, which must work."""
        self._wait_for_delay()
        expect(self.try_login(talk).ok, "the login was refused")

    def _wait_for_delay(self) -> None:
        """As the server asks for (RFC 2449 section 6.5)."""
        delay = self.login_delay
        if delay and (rest := self._last_login + delay + 0.1 - time.monotonic()) > 0:
            time.sleep(rest)

    def fail_login(self, talk: CheckedTalk, user: bytes, password: bytes) -> Reply:
        """USER and PASS with a password that is wrong; the last reply."""
        self.failed_logins += 1
        reply = talk.ask(b"USER " + user)
        return talk.ask(b"PASS " + password) if reply.ok else reply

    def refusal(self) -> Reply:
        """What a wrong password is answered with. Asked for once, so that nobody is taken for a guesser."""
        if self._refusal is None:
            mark = len(self.transcript.entries)
            talk = self.connect()
            reply = self.fail_login(talk, self.settings.account.name, WRONG_PASSWORD)
            self._refusal = reply, self.transcript.entries[mark:]
        else:
            self.transcript.entries += self._refusal[1]
        return self._refusal[0]

    # --- what is known of the server ----------------------------------------------------------------------------

    def choose_method(self) -> str:
        """USER and PASS if there is any hope for them."""
        known = self.capabilities
        if known is None or "USER" in known:
            return "USER"
        if "PLAIN" in known.get("SASL", ()):
            return "PLAIN"
        return "USER" if self.timestamps is None else "APOP"

    @cached_property
    def timestamps(self) -> tuple[bytes, bytes] | None:
        """What APOP is computed with, of two connections; None if the greeting has none."""
        with self._aside():
            first, second = self.connect().timestamp, self.connect().timestamp
        return (first, second) if first is not None and second is not None else None

    @cached_property
    def capabilities(self) -> Capabilities | None:
        """What CAPA announces before the login; None without CAPA."""
        with self._aside():
            return capabilities_of(self.connect())

    @cached_property
    def no_stls(self) -> str | None:
        """Why STLS cannot be looked at; None if it can."""
        if self.settings.encryption is not Encryption.NONE:
            return None if self.settings.encryption is Encryption.STLS else "the connection begins with TLS"
        if "STLS" not in (self.capabilities or ()):
            return "STLS is not announced"
        try:
            with self._aside():
                talk = self.greeted()
                accepted(talk, b"STLS")
                talk.start_tls()
        except ssl.SSLCertVerificationError as failure:
            self.distrusts = True
            return distrust(failure)
        return None

    @cached_property
    def capabilities_inside(self) -> Capabilities | None:
        """What CAPA announces after the login; None without CAPA."""
        with self._aside():
            return capabilities_of(self.login())

    @cached_property
    def login_delay(self) -> int:
        """Seconds between logins that the server asks for; 0 for none, or if nobody is to wait."""
        if not self.settings.waits:
            return 0
        return delay_announced(self.capabilities)

    @cached_property
    def commands(self) -> frozenset[str]:
        """Which of TOP and UIDL work, announced or not."""
        numbers = self.mail.some
        with self._aside():
            talk = self.login()
            works = {"UIDL": talk.ask(b"UIDL", multiline=True).ok}
            works["TOP"] = bool(numbers) and talk.ask(b"TOP %d 0" % numbers[0], multiline=True).ok
        return frozenset(name for name, ok in works.items() if ok)

    @property
    def mail(self) -> Mail:
        """What is in the maildrop, as a session of its own found it."""
        if self._mail is None:
            if any(talk.logged_in and not talk.ended for talk in self._talks):
                raise RuntimeError("a check must look at the maildrop before it holds the lock on it")
            with self._aside():
                self._mail = mail_seen(self.login())
        return self._mail

    @cached_property
    def empty_account(self) -> Account | None:
        """A user with an empty maildrop, if one is known."""
        if not self.mail.sizes:
            return self.settings.account
        if self.settings.second is None:
            return None
        with self._aside():
            count, _ = in_step(self.login(self.settings.second))
        return None if count else self.settings.second

    def changed(self) -> None:
        """The maildrop is not what it was."""
        self._mail = None


def capabilities_of(talk: Talk) -> Capabilities | None:
    """Tag in upper case -> arguments; None if CAPA is refused."""
    reply = talk.ask(b"CAPA", multiline=True)
    if not reply.ok:
        return None
    found: dict[str, tuple[str, ...]] = {}
    for line in reply.lines or ():
        words = line.decode("latin-1").split()
        if words:  # 602 says what is wrong with a line that is empty
            tag = words[0].upper()
            found[tag] = (*found.get(tag, ()), *words[1:])
    return found


def delay_announced(capabilities: Capabilities | None) -> int:
    """Seconds in LOGIN-DELAY; 0 without. Of a number that is absurd, one that is as well."""
    words = (capabilities or {}).get("LOGIN-DELAY", ())
    return int(words[0].lstrip("0")[:9] or "0") if words and words[0].isdecimal() else 0


def distrust(failure: ssl.SSLCertVerificationError) -> str:
    """What is wrong with a certificate, and what can be done about it."""
    why = failure.verify_message.rstrip(".")
    if failure.verify_code in _OTHER_NAME:
        return f"the certificate is for another name ({why}); connect to the name that is in it, or see --insecure-tls"
    options = "--ca-file and --insecure-tls" if failure.verify_code in _STRANGER else "--insecure-tls"
    return f"the certificate is not trusted ({why}); see {options}"


def apop_digest(timestamp: bytes, secret: bytes) -> bytes:
    """RFC 1939 section 7."""
    return hashlib.md5(timestamp + secret, usedforsecurity=False).hexdigest().encode()


def _user(target: Target, talk: CheckedTalk, account: Account) -> Reply:
    reply = talk.ask(b"USER " + account.name)
    return talk.ask(b"PASS " + account.secret) if reply.ok else reply


def _plain(target: Target, talk: CheckedTalk, account: Account) -> Reply:
    return talk.ask(b"AUTH PLAIN " + account.plain)


def _apop(target: Target, talk: CheckedTalk, account: Account) -> Reply:
    digest = apop_digest(talk.timestamp or b"", account.secret)
    target.hide(digest, "digest")
    return talk.ask(b"APOP %s %s" % (account.name, digest))


_METHODS: Final[Mapping[str, Callable[[Target, CheckedTalk, Account], Reply]]] = {
    "USER": _user,
    "PLAIN": _plain,
    "APOP": _apop,
}


def _secrets(account: Account, name: str) -> dict[bytes, str]:
    authzid = account.name + base64.b64decode(account.plain)
    return {
        account.secret: name,
        account.plain: f"{name}plain",
        base64.b64encode(authzid): f"{name}plain",
        base64.b64encode(account.secret): name,
    }


def _decoded(secret: bytes) -> list[str]:
    return [secret.decode("utf-8", errors) for errors in ("backslashreplace", "surrogateescape")]
