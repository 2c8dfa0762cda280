"""Users in a file of Dovecot passwd-file lines: `name:{SCHEME}secret[:anything]`."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from ..backend import AuthenticationFailed, ClientInfo, Credentials, PasswordCredentials, TemporaryFailure
from .schemes import HASHERS, BadSecret, Secret, parse_secret

logger = logging.getLogger("trio_pop3.auth")

# Logins that wait for a thread to hash in; more are told to come back. At 60 ms a hash this is a few seconds.
_MOST_WAITING: Final = 64


class PasswdFileError(Exception):
    """A users file that cannot be used: one sentence with path and line, without any secret."""


class _Version(NamedTuple):
    """What changes when a file does."""

    modified: int
    octets: int
    inode: int


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
    runs in as many threads as there are processors; what more wait is bounded.

    Args:
        path: the file. It is read at once: raises PasswdFileError if it cannot be used.
        limiter: for the threads that hash.
    """

    def __init__(self, path: str | os.PathLike[str], *, limiter: trio.CapacityLimiter | None = None) -> None:
        self._path: Final = os.fspath(path)
        self._limiter = limiter
        self._version: _Version | None = None
        self._users: dict[str, Secret] = {}
        self._nobody = parse_secret(HASHERS["SCRYPT"](os.urandom(16).hex().encode()))
        self._load()

    def __repr__(self) -> str:
        return f"PasswdFile({self._path!r})"

    @property
    def users(self) -> tuple[str, ...]:
        """The names, in file order, as of the last time the file was looked at."""
        return tuple(self._users)

    def _load(self) -> None:
        try:
            with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
                status = os.fstat(file.fileno())
                text = file.read()
        except OSError as failure:
            raise PasswdFileError(f"{self._path}: {failure.strerror}") from None
        self._users = parse_users(text, self._path)
        self._version = _Version(status.st_mtime_ns, status.st_size, status.st_ino)
        if self._users:
            # Checked in place of an unknown user's secret, so that the answer takes as long as for most users.
            usual = Counter(secret.scheme for secret in self._users.values()).most_common(1)[0][0]
            self._nobody = next(secret for secret in self._users.values() if secret.scheme == usual)
        if status.st_mode & (stat.S_IRWXO):
            logger.warning("%s can be read by every user of this machine: chmod 600", self._path)

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
            if _Version(status.st_mtime_ns, status.st_size, status.st_ino) != self._version:
                self._load()
                logger.info("%s: read again, %d users", self._path, len(self._users))
        except (OSError, PasswdFileError) as failure:
            logger.error("the users known so far stay: %s", failure)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The user's name. Raises AuthenticationFailed; TemporaryFailure if too many others wait to be checked."""
        if not isinstance(credentials, PasswordCredentials):
            raise AuthenticationFailed
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(os.cpu_count() or 1)
        if self._limiter.statistics().tasks_waiting >= _MOST_WAITING:
            raise TemporaryFailure("too many logins at once, try again later")
        check: Callable[[PasswordCredentials], bool] = self._check
        if not await trio.to_thread.run_sync(check, credentials, limiter=self._limiter):
            raise AuthenticationFailed
        return credentials.user

    def _check(self, credentials: PasswordCredentials) -> bool:
        self._refresh()
        secret = self._users.get(credentials.user)
        good = (secret or self._nobody).is_of(credentials.password.encode("utf-8", "surrogateescape"))
        return good and secret is not None
