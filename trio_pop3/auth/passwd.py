"""Users in a file of Dovecot passwd-file lines: `name:{SCHEME}secret[:anything]`."""

from __future__ import annotations

import functools
import hmac
import logging
import os
import secrets
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from ..backend import AuthenticationFailed, ClientInfo, TemporaryFailure
from ..credentials import ApopCredentials, CramMd5Credentials, Credentials, PasswordCredentials, ScramKeys
from .cache import GoodLogins
from .kdf import SCRAM_SCHEMES, derive_scram
from .schemes import HASHERS, BadSecret, Secret, parse_secret
from .threads import Checkers

logger = logging.getLogger("trio_pop3.auth")

# Logins that wait for a thread to hash in; more are told to come back. At 60 ms a hash this is a few seconds.
_MOST_WAITING: Final = 64
# The event loop may look at the file as often as this; threads look at it whenever they check somebody.
_SECONDS_BETWEEN_LOOKS: Final = 1.0
_SALT_OCTETS: Final = 16


class PasswdFileError(Exception):
    """A users file that cannot be used: one sentence with path and line, without any secret."""


class _Version(NamedTuple):
    """What changes when a file does."""

    modified: int
    octets: int
    inode: int
    mode: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What one version of the file says."""

    users: Mapping[str, Secret]
    nobody: Secret  # checked in place of an unknown user's
    methods: frozenset[str]
    derives: bool  # some SCRAM keys are made of a password when they are asked for


def parse_users(text: str, path: str) -> dict[str, Secret]:
    """The users in a passwd-file. Blank lines and lines that begin with # are skipped. Raises PasswdFileError."""
    users: dict[str, Secret] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        try:
            if not colon or not name or name != name.strip():
                raise BadSecret("expected name:{SCHEME}secret")
            if name in users:
                raise BadSecret(f"user {name} is there already")
            users[name] = parse_secret(rest.partition(":")[0])
        except BadSecret as failure:
            raise PasswdFileError(f"{path}: line {number}: {failure}") from None
    return users


class PasswdFile:
    """An authenticator over a users file, read again whenever it changes.

    A new version that cannot be read or parsed is refused with a log line, and the users of the old one stay. Hashing
    runs in as many threads as there are processors; what more wait is bounded. A password that was good is not hashed
    again for a while, unless what is stored for the user has changed.

    Args:
        path: the file. It is read at once: raises PasswdFileError if it cannot be used.
        limiter: for the threads that hash.
        cache_seconds: how long a good password is remembered, as a keyed hash; 0 for not at all.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limiter: trio.CapacityLimiter | None = None,
        cache_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path: Final = os.fspath(path)
        self._checkers: Final = Checkers(limiter or trio.CapacityLimiter(os.cpu_count() or 1), _MOST_WAITING)
        self._good: Final = GoodLogins(cache_seconds, clock=clock)
        self._salt_key: Final = secrets.token_bytes(32)
        self._clock: Final = clock
        self._look_again = clock() + _SECONDS_BETWEEN_LOOKS
        self._reading: Final = threading.Lock()
        self._complaint: str | None = None
        self._seen = self._version = self._look()  # as of the last look; as of the last reading
        try:
            self._known = self._read()
        except OSError as failure:
            raise PasswdFileError(f"{self._path}: {failure.strerror}") from None

    def __repr__(self) -> str:
        return f"PasswdFile({self._path!r})"

    @property
    def users(self) -> tuple[str, ...]:
        """The names, in file order, as of the last time the file was looked at."""
        return tuple(self._known.users)

    @property
    def login_methods(self) -> frozenset[str]:
        """What the users' secrets allowed when the file was last read, as in `LoginMethods`. Logins read it."""
        return self._known.methods

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The user's name, for a password, APOP or CRAM-MD5.

        Raises AuthenticationFailed; TemporaryFailure if too many others wait to be checked, or if the file is empty:
        that is what it looks like while somebody rewrites it, and clients must not forget their passwords over it.
        """
        if not isinstance(credentials, PasswordCredentials | ApopCredentials | CramMd5Credentials):
            raise AuthenticationFailed
        if not self._outdated() and self._remembered(credentials, self._known.users.get(credentials.user)):
            await trio.lowlevel.checkpoint()
            return credentials.user
        secret = await self._checkers.run(self._check, credentials)
        if secret is None:
            raise AuthenticationFailed
        self._good.remember(credentials, secret.mark)
        return credentials.user

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        """The keys of a user for "sha1" or "sha256", stored or made of a stored password; None if there are none.

        Raises TemporaryFailure if too many others wait to be checked.
        """
        if hash_name not in SCRAM_SCHEMES:
            return None
        return await self._checkers.run(self._keys, user, hash_name)

    # --- the file ----------------------------------------------------------------------------------------------------

    def _look(self) -> _Version | None:
        """None if there is nothing to be seen."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return _Version(status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)

    def _outdated(self) -> bool:
        """Whether the file has changed. Called in the event loop, so it looks but now and then."""
        now = self._clock()
        if now >= self._look_again:
            self._look_again = now + _SECONDS_BETWEEN_LOOKS
            self._seen = self._look()
        return self._seen != self._version

    def _read(self) -> _Known:
        # Never waits for somebody to write into a FIFO.
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, encoding="utf-8", errors="surrogateescape") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise PasswdFileError(f"{self._path}: not a regular file")
            users = parse_users(file.read(), self._path)
        if mode & stat.S_IRWXO:
            logger.warning("%s can be read by every user of this machine: chmod 600", self._path)
        return _known(users)

    def _refresh(self) -> None:
        """Read the file if it has changed. Called in threads."""
        with self._reading:
            # Looked at before it is read: if it changes in between, it is read once more.
            self._seen = version = self._look()
            if version == self._version and version is not None:
                return
            try:
                self._known = self._read()
            except OSError as failure:
                version = None  # not for ever, perhaps: tried again the next time
                self._complain(f"{self._path}: {failure.strerror}")
            except PasswdFileError as failure:
                self._complain(str(failure))
            else:
                self._complaint = None
                logger.info("%s: read again, %d users", self._path, len(self._known.users))
            self._version = version

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("the users known so far stay: %s", complaint)

    # --- the checks, in threads --------------------------------------------------------------------------------------

    def _remembered(self, credentials: Credentials, secret: Secret | None) -> bool:
        return secret is not None and self._good.knows(credentials, secret.mark)

    def _check(self, credentials: PasswordCredentials | ApopCredentials | CramMd5Credentials) -> Secret | None:
        """The user's secret if the credentials prove it."""
        self._refresh()
        known = self._known
        if not known.users:
            raise TemporaryFailure("nobody can log in now, try again later")
        secret = known.users.get(credentials.user)
        if self._remembered(credentials, secret):
            return secret
        stored = secret or known.nobody
        if not isinstance(credentials, PasswordCredentials):
            return secret if stored.answers(credentials) else None
        if stored.is_of(credentials.octets):
            return secret
        if stored.scheme != known.nobody.scheme:
            # A refusal must not take less time because this user's secret is stored in a cheaper way than most.
            known.nobody.is_of(credentials.octets)
        return None

    def _keys(self, user: str, hash_name: str) -> ScramKeys | None:
        """Where keys are made of anybody's password, some are made for every name: they take the same time."""
        self._refresh()
        known = self._known
        secret = known.users.get(user)
        password = None if secret is None else secret.cleartext
        derived = self._derived(user, hash_name, password or "") if known.derives else None
        if secret is None:
            return None
        return secret.scram_keys(hash_name) if password is None else derived

    def _derived(self, user: str, hash_name: str, password: str) -> ScramKeys:
        octets = f"{hash_name}:{user}".encode("utf-8", "surrogateescape")
        salt = hmac.digest(self._salt_key, octets, "sha256")[:_SALT_OCTETS]
        return derive_scram(password.encode("utf-8", "surrogateescape"), hash_name, salt)


def _known(users: Mapping[str, Secret]) -> _Known:
    # An unknown user's check takes as long as most users' do. A locked account's text is short and checked in no time.
    usual = Counter(secret.scheme for secret in users.values()).most_common(1)
    alike = [secret for secret in users.values() if secret.scheme == usual[0][0]]
    kinds = {secret.scheme: secret for secret in users.values()}.values()
    return _Known(
        users,
        max(alike, key=lambda secret: len(secret.octets)) if alike else _somebody(),
        # Every kind of secret can be checked against a password.
        frozenset({"PLAIN"}).union(*(secret.methods for secret in kinds)),
        any(secret.cleartext is not None for secret in kinds),
    )


@functools.cache
def _somebody() -> Secret:
    """A secret of nobody, for a file without users."""
    return parse_secret(HASHERS["SCRYPT"](os.urandom(16).hex().encode()))
