"""Mail in a dictionary: for tests, for examples, and as the plainest backend that keeps the whole contract."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import Final, TypeAlias

from ..backend import (
    AuthenticationFailed,
    ClientInfo,
    MaildropInUse,
    MessageInfo,
    MessageUnavailable,
)
from ..credentials import ApopCredentials, CramMd5Credentials, Credentials, PasswordCredentials, ScramKeys
from ..sansio import octets_of
from ..sasl import derive_keys
from ..sasl.saslprep import saslprep

# uid -> what is said of a message, and the message.
_Mail: TypeAlias = dict[str, tuple[MessageInfo, bytes]]

# The least that RFC 7677 allows: what is in memory in clear needs no slow hash.
_ITERATIONS: Final = 4096


class MemoryBackend:
    """Users, passwords and messages in memory. Never suspends; needs no event loop.

    Mail may be added at any time: open sessions do not see it. Uids count up and are never used again. Passwords are
    there in clear, so that every mechanism made of one can be checked.
    """

    login_methods: Final = frozenset({"PLAIN", "APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"})

    def __init__(self) -> None:
        self._salt: Final = secrets.token_bytes(16)
        self._passwords: dict[str, str] = {}
        self._mail: dict[str, _Mail] = {}
        self._locked: set[str] = set()
        self._delivered = 0

    def add_user(self, user: str, password: str) -> None:
        """Add a user with an empty maildrop, or change the password of one who exists.

        The password is kept prepared with SASLprep, as those of clients are that it is compared with.

        Raises ValueError for an empty name or password: an empty password would never be accepted.
        """
        if not user or not password:
            raise ValueError("a user needs a name and a password that are not empty")
        self._passwords[user] = _prepared(password)
        self._mail.setdefault(user, {})

    def deliver(self, user: str, message: bytes) -> str:
        """Add a message, any octets, at the end of a maildrop; returns its uid. Raises KeyError for an unknown user."""
        maildrop = self._mail[user]
        self._delivered += 1
        uid = f"{self._delivered:08x}"
        # Measured once: opening a maildrop must not take longer because its messages are large.
        maildrop[uid] = (MessageInfo(uid, octets_of(message)), message)
        return uid

    def messages(self, user: str) -> dict[str, bytes]:
        """What is in a maildrop now, by uid, oldest first. Raises KeyError for an unknown user."""
        return {uid: message for uid, (_, message) in self._mail[user].items()}

    def locked(self, user: str) -> bool:
        """Whether a session holds the maildrop."""
        return user in self._locked

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        secret = self._passwords.get(credentials.user, "")
        match credentials:
            case PasswordCredentials():
                good = hmac.compare_digest(credentials.octets, secret.encode("utf-8", "surrogateescape"))
            case ApopCredentials() | CramMd5Credentials():
                good = credentials.matches(secret)
            case _:
                good = False
        if not (good and secret):
            raise AuthenticationFailed
        return credentials.user

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        salt = hmac.digest(self._salt, user.encode("utf-8", "surrogateescape"), "sha256")[:16]
        try:
            return derive_keys(self._passwords.get(user, ""), salt, _ITERATIONS, hash_name)
        except ValueError:
            # Nobody, or a password that cannot be prepared: it has to take as long.
            derive_keys("nobody", salt, _ITERATIONS, hash_name)
            return None

    async def open(self, user: str, client: ClientInfo) -> MemoryMaildrop:
        if user in self._locked:
            raise MaildropInUse
        if user not in self._mail:  # somebody else let them in
            raise AuthenticationFailed
        maildrop = MemoryMaildrop(user, self._mail[user], self._locked)
        self._locked.add(user)
        return maildrop


def _prepared(password: str) -> str:
    """As it is, if that cannot be done: then it is good for a server that prepares nothing (`utf8=False`)."""
    try:
        return saslprep(password, stored=False) or password
    except ValueError:
        return password


class MemoryMaildrop:
    """One user's snapshot. A message removed by somebody else meanwhile is unavailable."""

    def __init__(self, user: str, mail: _Mail, locked: set[str]) -> None:
        self.messages = [info for info, _ in mail.values()]
        self._user = user
        self._mail = mail
        self._locked = locked

    async def retrieve(self, message: MessageInfo) -> bytes:
        try:
            return self._mail[message.uid][1]
        except KeyError:
            raise MessageUnavailable from None

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        for message in deleted:
            self._mail.pop(message.uid, None)

    async def release(self) -> None:
        self._locked.discard(self._user)
