"""The contract between the server and whatever holds the mail.

A backend is two methods, `authenticate` and `open`; a maildrop is a list and three methods. Everything a backend says
is checked before it reaches the wire. What a backend raises becomes a reply in one place (`replies.failure_reply`):

    BackendError
    +-- AuthenticationFailed    [AUTH]         user name or password wrong, or account disabled: never say which
    +-- MaildropInUse           [IN-USE]       credentials good, another session holds the lock
    +-- LoginDelayed            [LOGIN-DELAY]  credentials good, too soon after the last login
    +-- TemporaryFailure        [SYS/TEMP]     try again later
    |   +-- MessageUnavailable  [SYS/TEMP]     this message vanished or cannot be read; the session goes on
    +-- PermanentFailure        [SYS/PERM]     somebody must mend something
    +-- CommitIncomplete        [SYS/TEMP]     some marked messages could not be removed and will be back

Any other exception is logged with its traceback and answered `[SYS/TEMP]`; its text never reaches the client.

Cancellation: every method may be cancelled at every await, except that `commit` and `release` run shielded with a
deadline. A method that is cancelled leaves nothing held: `open` must give its lock back before it lets a cancellation
out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from .sansio import ResponseCode


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Who is connected, and how. `session` is unique in the process and stands in every log line of the session."""

    session: str
    host: str | None = None  # textual IP address, IPv4-mapped IPv6 shown as IPv4; None on a UNIX socket
    port: int | None = None
    local_host: str | None = None  # our end
    local_port: int | None = None
    loopback: bool = False  # the octets do not leave this machine
    tls: bool = False

    @property
    def peer(self) -> str:
        """`192.0.2.1:4711`, `[2001:db8::1]:4711` or `unix`."""
        if self.host is None:
            return "unix"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client offers to prove who it is. Secrets are never part of a repr."""

    user: str

    def redact(self, text: str) -> str:
        """The text without the secret, for a log. Exceptions are known to quote what they choked on."""
        return text


@dataclass(frozen=True, slots=True)
class PasswordCredentials(Credentials):
    """From USER and PASS. `password` is the text of the octets sent; octets that are not UTF-8 are lone surrogates,

    so that `password.encode("utf-8", "surrogateescape")` gives back exactly what was on the wire.
    """

    password: str = field(repr=False)

    def redact(self, text: str) -> str:
        octets = self.password.encode("utf-8", "surrogateescape")
        quoted = (repr(self.password)[1:-1], ascii(self.password)[1:-1], repr(octets)[2:-1])
        # A text that holds both kinds of quotes is shown with the single ones escaped.
        return _hide(text, self.password, *quoted, *(form.replace("'", "\\'") for form in quoted))


@dataclass(frozen=True, slots=True)
class ApopCredentials(Credentials):
    """From APOP: MD5 over the greeting's timestamp and the shared secret (RFC 1939 section 7)."""

    timestamp: str
    digest: bytes = field(repr=False)

    def matches(self, secret: str) -> bool:
        """Whether the digest was made with this secret; takes the same time whatever the answer."""
        octets = self.timestamp.encode() + secret.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(hashlib.md5(octets, usedforsecurity=False).digest(), self.digest)

    def redact(self, text: str) -> str:
        return _hide(text, self.digest.hex(), self.digest.hex().upper(), repr(self.digest)[2:-1])


def _hide(text: str, *secrets: str) -> str:
    """The text without these; what is empty hides nothing."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "********")
    return text


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """One message of a snapshot. Backends may subclass it to carry what they need to find the message again.

    uid: 1 to 70 characters in 0x21-0x7E, unique in the maildrop, for ever the same message's and never another's.
    octets: the exact size as sent: canonical CRLF line ends, final CRLF included, no dot-stuffing. At least 2.
        `trio_pop3.sansio.octets_of` computes it.
    """

    uid: str
    octets: int


class Maildrop(Protocol):
    """One user's mail for the length of one session: a snapshot and the lock on it."""

    @property
    def messages(self) -> Sequence[MessageInfo]:
        """The snapshot, oldest first: message number n is item n-1. Read once; later changes are not seen."""
        ...

    async def retrieve(self, message: MessageInfo, /) -> bytes | AsyncIterable[bytes]:
        """The stored octets of a message, with any line ends.

        Open the message before returning, so that a failure is an `-ERR`. Large messages come in chunks (64 to 256
        KiB); an iterable with `aclose` is closed on every way out, also when the client left in the middle.

        Raises MessageUnavailable if the message is gone or unreadable.
        """
        ...

    async def commit(self, deleted: Sequence[MessageInfo], /) -> None:
        """Remove these messages and no others; called once, at QUIT, with an empty sequence if none is marked.

        When it returns the removal is durable. Removing what is already gone is success, so that it can be repeated.

        Raises CommitIncomplete if some messages remain.
        """
        ...

    async def release(self) -> None:
        """Give back the lock and everything else. Called exactly once for each maildrop, on every way out."""
        ...


class Authenticator(Protocol):
    """Says who somebody is."""

    async def authenticate(self, credentials: Credentials, client: ClientInfo, /) -> str:
        """The name of the user whose maildrop these credentials open.

        Raises AuthenticationFailed, the same for an unknown user and for a wrong password, after the same time.
        """
        ...


class Store(Protocol):
    """Finds a user's maildrop."""

    async def open(self, user: str, client: ClientInfo, /) -> Maildrop:
        """Take the exclusive lock and snapshot the maildrop.

        Raises MaildropInUse, LoginDelayed, TemporaryFailure or PermanentFailure, and then holds nothing.
        """
        ...


class Backend(Authenticator, Store, Protocol):
    """What `serve` takes. `combine` makes one of an authenticator and a store."""


@runtime_checkable
class ApopAuthenticator(Protocol):
    """Optional: a backend that has secrets in clear can check APOP. Offered only if `serve(..., apop=True)`."""

    async def authenticate_apop(self, credentials: ApopCredentials, client: ClientInfo, /) -> str:
        """Like `authenticate`. `credentials.matches(secret)` does the comparison."""
        ...


@runtime_checkable
class ConnectionHooks(Protocol):
    """Optional: a backend that wants to know of connections."""

    async def connect(self, client: ClientInfo, /) -> None:
        """Called before the greeting. A BackendError refuses the connection with its text."""
        ...

    async def disconnect(self, client: ClientInfo, reason: str, /) -> None:
        """Called exactly once for each `connect` that was called, on every way out, shielded with a deadline."""
        ...


class _Combined:
    def __init__(self, authenticator: Authenticator, store: Store) -> None:
        self.authenticate = authenticator.authenticate
        self.open = store.open
        if isinstance(authenticator, ApopAuthenticator):
            self.authenticate_apop = authenticator.authenticate_apop
        hooked = [half for half in (authenticator, store) if isinstance(half, ConnectionHooks)]
        if len(hooked) > 1:
            raise TypeError("only one half of a backend may have connection hooks")
        for half in hooked:
            self.connect = half.connect
            self.disconnect = half.disconnect


def combine(authenticator: Authenticator, store: Store) -> Backend:
    """A backend that takes logins from one object and mail from another, and connection hooks from whoever has them.

    Raises TypeError if both have: which of them may refuse is not for us to say.
    """
    return _Combined(authenticator, store)


class BackendError(Exception):
    """Base of the typed failures. The text, if any, is for the client: short, and safe to show."""

    code: ClassVar[ResponseCode | None] = None
    text: ClassVar[str] = "request failed"


class AuthenticationFailed(BackendError):
    """The credentials are not good. The client always gets the same text, whatever is passed here."""

    code = ResponseCode.AUTH
    text = "invalid user name or password"


class MaildropInUse(BackendError):
    """Another session holds the maildrop."""

    code = ResponseCode.IN_USE
    text = "maildrop in use by another session"


class LoginDelayed(BackendError):
    """The user logged in too recently."""

    code = ResponseCode.LOGIN_DELAY
    text = "too soon after the last login"


class TemporaryFailure(BackendError):
    """Something is out of order that may mend itself."""

    code = ResponseCode.SYS_TEMP
    text = "temporary failure, try again later"


class MessageUnavailable(TemporaryFailure):
    """This message cannot be had; others can."""

    text = "message not available"


class PermanentFailure(BackendError):
    """Something is out of order that an administrator must mend."""

    code = ResponseCode.SYS_PERM
    text = "permanent failure, tell the administrator"


class CommitIncomplete(BackendError):
    """`remaining` marked messages were not removed. They will be there at the next login."""

    code = ResponseCode.SYS_TEMP

    def __init__(self, remaining: int) -> None:
        super().__init__(f"{remaining} deleted message{'' if remaining == 1 else 's'} not removed")
        self.remaining = remaining
