"""POP3 done properly: a sans-IO core, a server on trio, mail stores, and a client.

    trio.run(trio_pop3.serve, backend)

Names are loaded when they are first used, so that `import trio_pop3.sansio` needs nothing but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .backend import ApopAuthenticator as ApopAuthenticator
    from .backend import ApopCredentials as ApopCredentials
    from .backend import AuthenticationFailed as AuthenticationFailed
    from .backend import Authenticator as Authenticator
    from .backend import Backend as Backend
    from .backend import BackendError as BackendError
    from .backend import ClientInfo as ClientInfo
    from .backend import CommitIncomplete as CommitIncomplete
    from .backend import ConnectionHooks as ConnectionHooks
    from .backend import Credentials as Credentials
    from .backend import LoginDelayed as LoginDelayed
    from .backend import Maildrop as Maildrop
    from .backend import MaildropInUse as MaildropInUse
    from .backend import MessageInfo as MessageInfo
    from .backend import MessageUnavailable as MessageUnavailable
    from .backend import PasswordCredentials as PasswordCredentials
    from .backend import PermanentFailure as PermanentFailure
    from .backend import Store as Store
    from .backend import TemporaryFailure as TemporaryFailure
    from .backend import combine as combine
    from .backends.callbacks import CallbackBackend as CallbackBackend
    from .backends.maildir import MaildirBackend as MaildirBackend
    from .backends.memory import MemoryBackend as MemoryBackend
    from .client import Pop3Client as Pop3Client
    from .client import connect as connect
    from .sansio import Pop3Connection as Pop3Connection
    from .server import Pop3Listener as Pop3Listener
    from .server import open_listeners as open_listeners
    from .server import serve as serve
    from .session import Session as Session

# Where each name lives; a test compares it with the imports above.
_HOMES = {
    "ApopAuthenticator": "backend",
    "ApopCredentials": "backend",
    "AuthenticationFailed": "backend",
    "Authenticator": "backend",
    "Backend": "backend",
    "BackendError": "backend",
    "CallbackBackend": "backends.callbacks",
    "ClientInfo": "backend",
    "CommitIncomplete": "backend",
    "ConnectionHooks": "backend",
    "Credentials": "backend",
    "LoginDelayed": "backend",
    "MaildirBackend": "backends.maildir",
    "Maildrop": "backend",
    "MaildropInUse": "backend",
    "MemoryBackend": "backends.memory",
    "MessageInfo": "backend",
    "MessageUnavailable": "backend",
    "PasswordCredentials": "backend",
    "PermanentFailure": "backend",
    "Pop3Client": "client",
    "Pop3Connection": "sansio",
    "Pop3Listener": "server",
    "Session": "session",
    "Store": "backend",
    "TemporaryFailure": "backend",
    "combine": "backend",
    "connect": "client",
    "open_listeners": "server",
    "serve": "server",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
