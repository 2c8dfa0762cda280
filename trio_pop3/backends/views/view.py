"""What all views are: a store in front of another, with everything else that one can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from ...backend import ClientInfo, Credentials, Maildrop, Policy, Store, login_methods

# The methods of the optional protocols of `trio_pop3.backend`, and of Authenticator.
POWERS: Final = (
    "authenticate", "scram_keys", "authorize", "login_delay", "expiry", "folder", "connect", "disconnect",
)  # fmt: skip


class View:
    """Base of the views: what it does not do itself, the store behind it does, if that can; a whole backend stays one.

    `store`: a store, or a backend.
    """

    # There only if the store behind has it.
    authenticate: Callable[[Credentials, ClientInfo], Coroutine[Any, Any, str]]
    expiry: Callable[[str | None], Coroutine[Any, Any, Policy]]

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        for name in POWERS:
            if hasattr(store, name):
                # On the object, not looked up when asked for: optional protocols are recognised by what is there.
                setattr(self, name, getattr(store, name))

    @property
    def login_methods(self) -> Collection[str]:
        """Those of the store behind; passwords if it does not say."""
        return login_methods(self._store)

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        """See `trio_pop3.backend.Store`."""
        return await self._store.open(user, client)
