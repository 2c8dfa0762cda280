"""Mail in a dictionary: for tests, for examples, and as the plainest backend that keeps the whole contract."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from ..backend import (
    ApopCredentials,
    AuthenticationFailed,
    ClientInfo,
    Credentials,
    MaildropInUse,
    MessageInfo,
    MessageUnavailable,
    PasswordCredentials,
)
from ..sansio import octets_of


class MemoryBackend:
    """Users, passwords and messages in memory. Never suspends; needs no event loop.

    Mail may be added at any time: open sessions do not see it. Uids count up and are never used again.
    """

    def __init__(self) -> None:
        self._passwords: dict[str, str] = {}
        self._mail: dict[str, dict[str, bytes]] = {}
        self._locked: set[str] = set()
        self._delivered = 0

    def add_user(self, user: str, password: str) -> None:
        """Add a user with an empty maildrop, or change the password of one who exists.

        Raises ValueError for an empty name or password: an empty password would never be accepted.
        """
        if not user or not password:
            raise ValueError("a user needs a name and a password that are not empty")
        self._passwords[user] = password
        self._mail.setdefault(user, {})

    def deliver(self, user: str, message: bytes) -> str:
        """Add a message, any octets, at the end of a maildrop; returns its uid. Raises KeyError for an unknown user."""
        maildrop = self._mail[user]
        self._delivered += 1
        uid = f"{self._delivered:08x}"
        maildrop[uid] = message
        return uid

    def messages(self, user: str) -> dict[str, bytes]:
        """What is in a maildrop now, by uid, oldest first. Raises KeyError for an unknown user."""
        return dict(self._mail[user])

    def locked(self, user: str) -> bool:
        """Whether a session holds the maildrop."""
        return user in self._locked

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        if isinstance(credentials, PasswordCredentials):
            secret = self._passwords.get(credentials.user, "")
            given, wanted = (text.encode("utf-8", "surrogateescape") for text in (credentials.password, secret))
            if hmac.compare_digest(given, wanted) and secret:
                return credentials.user
        raise AuthenticationFailed

    async def authenticate_apop(self, credentials: ApopCredentials, client: ClientInfo) -> str:
        secret = self._passwords.get(credentials.user, "")
        if credentials.matches(secret) and secret:
            return credentials.user
        raise AuthenticationFailed

    async def open(self, user: str, client: ClientInfo) -> MemoryMaildrop:
        if user in self._locked:
            raise MaildropInUse
        maildrop = MemoryMaildrop(user, self._mail[user], self._locked)
        self._locked.add(user)
        return maildrop


class MemoryMaildrop:
    """One user's snapshot. A message removed by somebody else meanwhile is unavailable."""

    def __init__(self, user: str, mail: dict[str, bytes], locked: set[str]) -> None:
        self.messages = [MessageInfo(uid, octets_of(content)) for uid, content in mail.items()]
        self._user = user
        self._mail = mail
        self._locked = locked

    async def retrieve(self, message: MessageInfo) -> bytes:
        try:
            return self._mail[message.uid]
        except KeyError:
            raise MessageUnavailable from None

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        for message in deleted:
            self._mail.pop(message.uid, None)

    async def release(self) -> None:
        self._locked.discard(self._user)
