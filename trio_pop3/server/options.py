"""Every limit and timeout of the server in one place, with the reason for its default."""

from __future__ import annotations

import math
import re
import resource
import socket
from dataclasses import dataclass
from typing import Final

from ..sansio import Profile

# A session may need three descriptors: its socket, the lock on its maildrop, the message it is reading.
_DESCRIPTORS_PER_SESSION: Final = 3
# Left for the interpreter, listeners, logs, user files.
_DESCRIPTORS_RESERVED: Final = 64

# A leading "[" would be a response code, a "<" could begin an APOP timestamp.
_BANNER: Final = re.compile(r"(?!\[)[\x20-\x3b\x3d-\x7e]{1,300}")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,128}")


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

    insecure_auth: bool = False
    apop: bool = False
    profile: Profile = Profile.DEFAULT
    space_in_user: bool = False
    # Dovecot gives up after 20 bad commands in a session; ten in a row is no person and no mail client.
    max_bad_commands: int | None = 10
    max_auth_failures: int | None = 3
    max_connections: int | None = None
    # Enough for an office behind one address, too few to use up a server.
    max_connections_per_host: int | None = 100
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
    banner: str = "POP3 server ready"
    hostname: str | None = None

    def __post_init__(self) -> None:
        for name in ("login_timeout", "command_timeout", "write_timeout", "commit_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {getattr(self, name)!r}")
        if not self.drain_timeout >= 0:
            raise ValueError(f"drain_timeout must be 0 or more seconds, not {self.drain_timeout!r}")
        if not self.idle_timeout >= 600:
            raise ValueError(f"idle_timeout must be at least 600 seconds (RFC 1939 section 3): {self.idle_timeout!r}")
        for name in ("max_bad_commands", "max_auth_failures", "max_connections", "max_connections_per_host"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if not _BANNER.fullmatch(self.banner):
            raise ValueError('banner must be 1 to 300 printable ASCII characters, with no "<", the first not "["')
        if self.hostname is not None and not _HOST_NAME.fullmatch(self.hostname):
            raise ValueError(f"hostname must be a host name, not {self.hostname!r}")

    @property
    def places(self) -> int:
        """How many connections are taken at a time."""
        return descriptors_allow() if self.max_connections is None else self.max_connections

    @property
    def timestamp_domain(self) -> str:
        """The right-hand side of APOP timestamps."""
        name = self.hostname or socket.gethostname()
        return name if _HOST_NAME.fullmatch(name) else "localhost"

    @property
    def bad_command_budget(self) -> int | None:
        """The strict profile never gives up on a client (PROTOCOL A-31)."""
        return None if self.profile is Profile.STRICT else self.max_bad_commands

    @property
    def login_budget(self) -> float:
        """Seconds until a login must have happened; the strict profile knows no such deadline (PROTOCOL 2.7)."""
        return math.inf if self.profile is Profile.STRICT else self.login_timeout


DEFAULTS: Final = Options()
