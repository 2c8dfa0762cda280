"""Every limit and timeout of the server in one place, with the reason for its default."""

from __future__ import annotations

import math
import resource
import socket
from dataclasses import dataclass, field, fields
from typing import Any, Final

from ..rules import HOST_NAME, Rules
from .networks import Networks
from .tls import Tls

# A session may need three descriptors: its socket, the lock on its maildrop, the message it is reading.
_DESCRIPTORS_PER_SESSION: Final = 3
# Left for the interpreter, listeners, logs, user files.
_DESCRIPTORS_RESERVED: Final = 64

NOBODY: Final = Networks(())
THIS_MACHINE: Final = Networks(("loopback", "unix"))


def descriptors_allow() -> int:
    """How many connections the soft limit on open files has room for; at least 1."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 10_000
    return max(1, (soft - _DESCRIPTORS_RESERVED) // _DESCRIPTORS_PER_SESSION)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What `serve` was asked for. Times are in seconds, `math.inf` is never; see `serve` for the meaning of each.

    Raises ValueError for a value out of range.
    """

    rules: Rules = field(default_factory=Rules)
    tls: Tls | None = None
    max_connections: int | None = None
    # Enough for an office behind one address, too few to use up a server.
    max_connections_per_host: int | None = 100
    # Guessing from here costs no time. A proxy on this machine would make everybody wait for one.
    trusted: Networks = THIS_MACHINE
    proxy_from: Networks = NOBODY
    xclient_from: Networks = NOBODY
    # The specification asks for three seconds at least, so that one lost packet does no harm.
    proxy_timeout: float = 5.0
    tls_timeout: float = 30.0
    # Certificates are renewed every few weeks; a minute is no time to wait for the new one.
    tls_check_interval: float = 60.0
    # Dovecot closes a connection that has not logged in after 180 s.
    login_timeout: float = 180.0
    # RFC 1939 section 3: at least ten minutes.
    idle_timeout: float = 600.0
    # A backend that is silent for longer is taken for dead.
    command_timeout: float = 300.0
    # For each 64 KiB: a reader slower than 220 octets a second is taken for dead.
    write_timeout: float = 300.0
    # A commit is never cut by anything else, so this is what a dead store can hold up a shutdown.
    commit_timeout: float = 120.0
    drain_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {getattr(self, name)!r}")
        if not self.drain_timeout >= 0:
            raise ValueError(f"drain_timeout must be 0 or more seconds, not {self.drain_timeout!r}")
        if not self.idle_timeout >= 600:
            raise ValueError(f"idle_timeout must be at least 600 seconds (RFC 1939 section 3): {self.idle_timeout!r}")
        for name in ("max_connections", "max_connections_per_host"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if self.tls is not None and not isinstance(self.tls, Tls):
            raise TypeError(f"tls must be a Tls, not {type(self.tls).__name__}")
        if self.rules.require_tls and self.tls is None:
            raise ValueError("require_tls needs tls, a certificate and its key")

    @property
    def places(self) -> int:
        """How many connections are taken at a time."""
        return descriptors_allow() if self.max_connections is None else self.max_connections

    @property
    def login_budget(self) -> float:
        """Seconds until a login must have happened; the strict profile knows no such deadline (PROTOCOL 2.7)."""
        return math.inf if self.rules.strict else self.login_timeout


_POSITIVE: Final = (
    "proxy_timeout",
    "tls_timeout",
    "tls_check_interval",
    "login_timeout",
    "command_timeout",
    "write_timeout",
    "commit_timeout",
)
_OF_OPTIONS: Final = frozenset(option.name for option in fields(Options)) - {"rules"}


def make_options(*, hostname: str | None = None, **values: Any) -> Options:
    """Options, and the rules in them, out of one list of keyword arguments. Raises ValueError as both do."""
    # Not the whole name: it need not be the one by which clients know us, and OAuth clients may tell theirs.
    name = hostname or socket.gethostname().partition(".")[0]
    if hostname is None and not HOST_NAME.fullmatch(name):
        name = "localhost"
    rules = {key: value for key, value in values.items() if key not in _OF_OPTIONS}
    rest = {key: value for key, value in values.items() if key in _OF_OPTIONS}
    return Options(rules=Rules(hostname=name, stls=rest.get("tls") is not None, **rules), **rest)


DEFAULTS: Final = Options()
