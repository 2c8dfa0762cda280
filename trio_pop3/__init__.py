"""POP3 done properly: a sans-IO core, a server on trio, mail stores, and a client.

    trio.run(trio_pop3.serve, backend)

Names are loaded when they are first used, so that `import trio_pop3.sansio` needs nothing but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .auth import PasswdFile as PasswdFile
    from .backend import Arrivals as Arrivals
    from .backend import AuthenticationFailed as AuthenticationFailed
    from .backend import Authenticator as Authenticator
    from .backend import Backend as Backend
    from .backend import BackendError as BackendError
    from .backend import ClientInfo as ClientInfo
    from .backend import CommitIncomplete as CommitIncomplete
    from .backend import ConnectionHooks as ConnectionHooks
    from .backend import Delegation as Delegation
    from .backend import Expiry as Expiry
    from .backend import FolderStore as FolderStore
    from .backend import LoginDelayed as LoginDelayed
    from .backend import LoginDelays as LoginDelays
    from .backend import LoginMethods as LoginMethods
    from .backend import Maildrop as Maildrop
    from .backend import MaildropInUse as MaildropInUse
    from .backend import MessageColumns as MessageColumns
    from .backend import MessageInfo as MessageInfo
    from .backend import MessageUnavailable as MessageUnavailable
    from .backend import NoSuchFolder as NoSuchFolder
    from .backend import PermanentFailure as PermanentFailure
    from .backend import Policy as Policy
    from .backend import Retrievals as Retrievals
    from .backend import ScramSecrets as ScramSecrets
    from .backend import Store as Store
    from .backend import TemporaryFailure as TemporaryFailure
    from .backend import combine as combine
    from .backends.callbacks import CallbackBackend as CallbackBackend
    from .backends.maildir import MaildirBackend as MaildirBackend
    from .backends.maildir import MaildirStore as MaildirStore
    from .backends.maildir import MaildirTarget as MaildirTarget
    from .backends.maildir import Quota as Quota
    from .backends.mbox import MboxBackend as MboxBackend
    from .backends.mbox import MboxStore as MboxStore
    from .backends.memory import MemoryBackend as MemoryBackend
    from .client import Pop3Client as Pop3Client
    from .client import connect as connect
    from .credentials import AnonymousCredentials as AnonymousCredentials
    from .credentials import ApopCredentials as ApopCredentials
    from .credentials import CertificateCredentials as CertificateCredentials
    from .credentials import ClientCertificate as ClientCertificate
    from .credentials import CramMd5Credentials as CramMd5Credentials
    from .credentials import Credentials as Credentials
    from .credentials import PasswordCredentials as PasswordCredentials
    from .credentials import ScramKeys as ScramKeys
    from .credentials import TokenCredentials as TokenCredentials
    from .delivery import Delivery as Delivery
    from .delivery import DeliveryFailed as DeliveryFailed
    from .delivery import DeliveryTarget as DeliveryTarget
    from .delivery import Envelope as Envelope
    from .delivery import NoSuchUser as NoSuchUser
    from .delivery import OverQuota as OverQuota
    from .delivery import OverQuotaForNow as OverQuotaForNow
    from .delivery import Recipients as Recipients
    from .delivery import StoreFull as StoreFull
    from .languages import Language as Language
    from .lmtp import LmtpConnection as LmtpConnection
    from .replies import BodyBroken as BodyBroken
    from .replies import Multiline as Multiline
    from .rules import Headers as Headers
    from .rules import Rules as Rules
    from .sansio import Pop3Connection as Pop3Connection
    from .sansio import Profile as Profile
    from .sasl import Mechanism as Mechanism
    from .server import Networks as Networks
    from .server import Pop3Listener as Pop3Listener
    from .server import Tls as Tls
    from .server import TlsError as TlsError
    from .server import open_listeners as open_listeners
    from .server import serve as serve
    from .server import serve_lmtp as serve_lmtp
    from .server import serve_stream as serve_stream
    from .session import Session as Session

# Where each name lives; a test compares it with the imports above.
_HOMES = {
    "AnonymousCredentials": "credentials",
    "ApopCredentials": "credentials",
    "Arrivals": "backend",
    "AuthenticationFailed": "backend",
    "Authenticator": "backend",
    "Backend": "backend",
    "BackendError": "backend",
    "BodyBroken": "replies",
    "CallbackBackend": "backends.callbacks",
    "CertificateCredentials": "credentials",
    "ClientCertificate": "credentials",
    "ClientInfo": "backend",
    "CommitIncomplete": "backend",
    "ConnectionHooks": "backend",
    "CramMd5Credentials": "credentials",
    "Credentials": "credentials",
    "Delegation": "backend",
    "Delivery": "delivery",
    "DeliveryFailed": "delivery",
    "DeliveryTarget": "delivery",
    "Envelope": "delivery",
    "Expiry": "backend",
    "FolderStore": "backend",
    "Headers": "rules",
    "Language": "languages",
    "LmtpConnection": "lmtp",
    "LoginDelayed": "backend",
    "LoginDelays": "backend",
    "LoginMethods": "backend",
    "MaildirBackend": "backends.maildir",
    "MaildirStore": "backends.maildir",
    "MaildirTarget": "backends.maildir",
    "Maildrop": "backend",
    "MaildropInUse": "backend",
    "MboxBackend": "backends.mbox",
    "MboxStore": "backends.mbox",
    "Mechanism": "sasl",
    "MemoryBackend": "backends.memory",
    "MessageColumns": "backend",
    "MessageInfo": "backend",
    "MessageUnavailable": "backend",
    "Multiline": "replies",
    "Networks": "server",
    "NoSuchFolder": "backend",
    "NoSuchUser": "delivery",
    "OverQuota": "delivery",
    "OverQuotaForNow": "delivery",
    "PasswdFile": "auth",
    "PasswordCredentials": "credentials",
    "PermanentFailure": "backend",
    "Policy": "backend",
    "Pop3Client": "client",
    "Pop3Connection": "sansio",
    "Pop3Listener": "server",
    "Profile": "sansio",
    "Quota": "backends.maildir",
    "Recipients": "delivery",
    "Rules": "rules",
    "ScramKeys": "credentials",
    "Retrievals": "backend",
    "ScramSecrets": "backend",
    "Session": "session",
    "Store": "backend",
    "StoreFull": "delivery",
    "TemporaryFailure": "backend",
    "Tls": "server",
    "TlsError": "server",
    "TokenCredentials": "credentials",
    "combine": "backend",
    "connect": "client",
    "open_listeners": "server",
    "serve": "server",
    "serve_lmtp": "server",
    "serve_stream": "server",
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
