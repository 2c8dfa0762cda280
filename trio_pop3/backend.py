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
    |   +-- NoSuchFolder        [SYS/PERM]     the user is there, the folder is not
    +-- CommitIncomplete        [SYS/TEMP]     some marked messages could not be removed and will be back

Any other exception is logged with its traceback and answered `[SYS/TEMP]`; its text never reaches the client.

Cancellation: every method may be cancelled at every await, except that `commit` and `release` run shielded with a
deadline. A method that is cancelled leaves nothing held: `open` must give its lock back before it lets a cancellation
out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, TypeVar, overload, runtime_checkable

from .credentials import ApopCredentials as ApopCredentials
from .credentials import ClientCertificate, ScramKeys
from .credentials import Credentials as Credentials
from .credentials import PasswordCredentials as PasswordCredentials
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
    tls_version: str | None = None  # "TLSv1.3"; with the cipher for the logs (RFC 8314 section 4)
    cipher: str | None = None
    server_name: str | None = None  # what the client asked for with SNI
    proxied: bool = False  # all this is what a trusted proxy says; its word for an address does not make it one of ours
    proxy_session: str | None = None  # what a trusted proxy calls this session in its own logs
    certificate: ClientCertificate | None = None  # the client's, if it presented one that our authorities vouch for
    end_point: bytes | None = field(default=None, repr=False)  # channel binding tls-server-end-point (RFC 5929)

    @property
    def peer(self) -> str:
        """`192.0.2.1:4711`, `[2001:db8::1]:4711` or `unix`."""
        if self.host is None:
            return "unix"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """One message of a snapshot. Backends may subclass it to carry what they need to find the message again.

    uid: 1 to 70 characters in 0x21-0x7E, unique in the maildrop, for ever the same message's and never another's.
    octets: the exact size as sent: canonical CRLF line ends, final CRLF included, no dot-stuffing. At least 2.
        `trio_pop3.sansio.octets_of` computes it.
    """

    uid: str
    octets: int


_Message = TypeVar("_Message", bound=MessageInfo, covariant=True)


class MessageColumns(Sequence[_Message]):
    """A snapshot whose messages are made when they are asked for: for stores with maildrops of a hundred thousand.

    A store may give one of these as `Maildrop.messages`. `uids` and `octets` have an item for each message, and
    `message` makes one that has the same.
    """

    __slots__ = ("octets", "uids")

    def __init__(self, uids: Sequence[str], octets: Sequence[int]) -> None:
        self.uids: Final = uids
        self.octets: Final = octets

    def __len__(self) -> int:
        return len(self.uids)

    @overload
    def __getitem__(self, at: int, /) -> _Message: ...
    @overload
    def __getitem__(self, at: slice, /) -> Sequence[_Message]: ...
    def __getitem__(self, at: int | slice, /) -> _Message | Sequence[_Message]:
        if isinstance(at, slice):
            return [self.message(n) for n in range(*at.indices(len(self)))]
        return self.message(range(len(self))[at])

    @abstractmethod
    def message(self, at: int) -> _Message:
        """Make the message at an index from 0."""


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


# What `login_methods` says of a backend that does not say: names and passwords.
PASSWORDS_ONLY: Final = frozenset({"PLAIN"})


@runtime_checkable
class LoginMethods(Protocol):
    """Optional: a backend that can check other things than passwords, or no passwords."""

    @property
    def login_methods(self) -> Collection[str]:
        """What can be checked now, looked at for each connection:

        - "PLAIN": `authenticate` gets `PasswordCredentials` (USER and PASS, PLAIN, LOGIN);
        - "APOP", "CRAM-MD5": `ApopCredentials`, `CramMd5Credentials`, whose `matches(secret)` does the comparison;
        - "OAUTHBEARER", "XOAUTH2": `TokenCredentials`;
        - "EXTERNAL": `CertificateCredentials`;
        - "ANONYMOUS": `AnonymousCredentials`;
        - "SCRAM-SHA-1", "SCRAM-SHA-256": the backend is a `ScramSecrets`.

        What is announced is also a matter of the connection, and of the options of `serve`.
        """
        ...


@runtime_checkable
class ScramSecrets(Protocol):
    """Optional: a backend that knows users' SCRAM keys."""

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo, /) -> ScramKeys | None:
        """What is stored for a user and "sha1" or "sha256"; None if there is no such user, or no such keys of them.

        Takes the same time in either case. The salt of a user is always the same.
        """
        ...


@runtime_checkable
class Delegation(Protocol):
    """Optional: some users may open the maildrops of others. Without it nobody may (RFC 4422 section 3.4.1)."""

    async def authorize(self, user: str, authzid: str, client: ClientInfo, /) -> str:
        """The user whose maildrop `user`, who has been authenticated, gets for `authzid`.

        Raises AuthenticationFailed if it is not for `user` to open.
        """
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """A number that CAPA announces, and whether it may be another one for some user (RFC 2449 sections 6.5 and 6.7)."""

    value: int | None
    per_user: bool = False


@runtime_checkable
class LoginDelays(Protocol):
    """Optional: a backend that wants its users to wait between logins. The session holds them to it."""

    async def login_delay(self, user: str | None, /) -> Policy:
        """Seconds from a successful login to the next that is accepted. For None: the most for any user."""
        ...


@runtime_checkable
class Expiry(Protocol):
    """Optional: a backend that removes mail by itself, or promises not to."""

    async def expiry(self, user: str | None, /) -> Policy:
        """Days a message is kept, at least; None is for ever. For no user: the least for any user."""
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


@runtime_checkable
class FolderStore(Protocol):
    """Optional: a store whose users have several maildrops. What `open` opens is the inbox."""

    def folder(self, name: str, /) -> Store:
        """The store of the folder with this name, of every user; its `open` raises NoSuchFolder if there is none.

        Raises ValueError for a name that cannot be a folder's.
        """
        ...


@runtime_checkable
class Arrivals(Protocol):
    """Optional, of a maildrop: it knows since when its messages are there. Views that go by age need it."""

    async def arrivals(self) -> Sequence[float]:
        """When each of `messages` arrived, in their order: seconds since the epoch. The same in every session."""
        ...


@runtime_checkable
class Retrievals(Protocol):
    """Optional: a maildrop that wants to know what its client has got."""

    def retrieved(self, message: MessageInfo, /) -> None:
        """A message has been sent whole, for RETR and not for TOP. RSET does not undo it. Must not block."""
        ...


# The methods of the optional protocols, each with the half of a backend it belongs to.
_OF_AUTHENTICATOR: Final = ("scram_keys", "authorize", "login_delay")
_OF_STORE: Final = ("expiry", "folder")


class Combined:
    """What `combine` makes."""

    def __init__(self, authenticator: Authenticator, store: Store) -> None:
        self._authenticator: Final = authenticator
        self.authenticate = authenticator.authenticate
        self.open = store.open
        for half, names in ((authenticator, _OF_AUTHENTICATOR), (store, _OF_STORE)):
            for name in names:
                if hasattr(half, name):
                    setattr(self, name, getattr(half, name))
        hooked = [half for half in (authenticator, store) if isinstance(half, ConnectionHooks)]
        if len(hooked) > 1:
            raise TypeError("only one half of a backend may have connection hooks")
        for half in hooked:
            self.connect = half.connect
            self.disconnect = half.disconnect

    @property
    def login_methods(self) -> Collection[str]:
        """Those of the authenticator."""
        return login_methods(self._authenticator)


def login_methods(authenticator: object) -> Collection[str]:
    """What an authenticator can check now; passwords if it does not say."""
    return authenticator.login_methods if isinstance(authenticator, LoginMethods) else PASSWORDS_ONLY


def combine(authenticator: Authenticator, store: Store) -> Backend:
    """A backend that takes logins from one object and mail from another, and connection hooks from whoever has them.

    Raises TypeError if both have: which of them may refuse is not for us to say.
    """
    return Combined(authenticator, store)


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


class NoSuchFolder(PermanentFailure):
    """The user has no folder of this name; said to nobody whose credentials are not good."""

    text = "no such folder"


class CommitIncomplete(BackendError):
    """`remaining` marked messages were not removed. They will be there at the next login."""

    code = ResponseCode.SYS_TEMP

    def __init__(self, remaining: int) -> None:
        if remaining < 0:
            raise ValueError(f"remaining must be 0 or more messages, not {remaining!r}")
        super().__init__(f"{remaining} deleted message{'' if remaining == 1 else 's'} not removed")
        self.remaining = remaining
