"""A folder as a maildrop of its own, by the name that a user logs in with: `alice+Junk`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ...backend import ClientInfo, Credentials, FolderStore, Maildrop, NoSuchFolder, Policy, Store
from ...credentials import ScramKeys
from .view import View


class FolderUser(str):
    """A user who is known, and the folder that was asked for; None for the inbox.

    The text is for people to read. It is not taken apart again: a user of another system may well be called
    `alice+Junk`, and must not get alice's mail.
    """

    user: str
    folder: str | None

    @classmethod
    def of(cls, user: str, folder: str | None, separator: str) -> FolderUser:
        """With a text such as `alice+Junk`."""
        name = cls(user if folder is None else f"{user}{separator}{folder}")
        name.user, name.folder = user, folder
        return name


class Folders(View):
    """Takes `alice+Junk` for a login of alice who wants the maildrop of her folder Junk.

    Whoever checks logins sees `alice` only. `alice+Junk@example.org` and `alice@example.org+Junk` are both alice of
    example.org. A name without the separator is that of a user, as always; users whose names have it in them cannot log
    in by name any more. A folder is looked for when the credentials have turned out to be good: one that is not there
    is NoSuchFolder then, and without them nobody learns what folders there are.

    Each folder has its own lock, and its own delay between logins, so that a client may look into several in turn.
    Nothing must stand between this and the session that makes other texts of the names of users.

    Args:
        backend: a whole backend with folders (`trio_pop3.backend.FolderStore`), such as `MaildirBackend`, or a view of
            one.
        separator: one character that is neither letter nor digit, blank, `@` nor `/`.

    Raises TypeError for what is no such backend, ValueError for another separator.
    """

    def __init__(self, backend: Store, separator: str = "+") -> None:
        if not isinstance(backend, FolderStore):
            raise TypeError(f"{type(backend).__name__} has no folders")
        if not hasattr(backend, "authenticate"):
            raise TypeError("Folders needs a whole backend: names are to be taken apart before logins are checked")
        if len(separator) != 1 or separator.isalnum() or not separator.isprintable() or separator in " @/":
            raise ValueError(f"a separator is one character, no letter, digit, blank, @ or /: {separator!r}")
        super().__init__(backend)
        self._backend: Final[Any] = backend
        self._separator: Final = separator
        for name in ("authenticate", "scram_keys", "authorize", "login_delay", "expiry"):
            if hasattr(backend, name):
                setattr(self, name, getattr(self, f"_{name}"))

    def _split(self, name: str) -> FolderUser:
        """Whose folder a name means. One that has come back from an authenticator is known already."""
        if isinstance(name, FolderUser):
            return name
        user, separator, folder = name.partition(self._separator)
        if not separator or not user:
            return FolderUser.of(name, None, self._separator)
        if "@" in folder and "@" not in user:
            folder, _, domain = folder.rpartition("@")
            user = f"{user}@{domain}"
        return FolderUser.of(user, folder, self._separator)

    def _named(self, user: object, folder: str | None) -> Any:
        # What is no name is refused where every backend's are.
        return FolderUser.of(user, folder, self._separator) if isinstance(user, str) and user else user

    async def _authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        name = self._split(credentials.user)
        authzid = name.user if credentials.authzid == credentials.user else credentials.authzid
        bare = replace(credentials, user=name.user, authzid=authzid)
        return self._named(await self._backend.authenticate(bare, client), name.folder)  # type: ignore[no-any-return]

    async def _scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        return await self._backend.scram_keys(self._split(user).user, hash_name, client)  # type: ignore[no-any-return]

    async def _authorize(self, user: str, authzid: str, client: ClientInfo) -> str:
        wanted = self._split(authzid)
        granted = await self._backend.authorize(self._split(user).user, wanted.user, client)
        return self._named(granted, wanted.folder)  # type: ignore[no-any-return]

    async def _login_delay(self, user: str | None) -> Policy:
        return await self._backend.login_delay(user and self._split(user).user)  # type: ignore[no-any-return]

    async def _expiry(self, user: str | None) -> Policy:
        return await self._backend.expiry(user and self._split(user).user)  # type: ignore[no-any-return]

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        """The maildrop of the user, or of the folder. Raises as `trio_pop3.backend.Store` says, and NoSuchFolder."""
        name = self._split(user)
        if name.folder is None:
            return await self._store.open(name.user, client)
        try:
            store = self._backend.folder(name.folder)
        except ValueError:
            raise NoSuchFolder from None
        return await store.open(name.user, client)  # type: ignore[no-any-return]
