"""What sessions allow and announce: one value, shared by every connection of a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from .keys import lasting_key
from .languages import ENGLISH, LANGUAGES, Language
from .sansio import Profile
from .sasl import MECHANISMS, Mechanism

# A leading "[" would be a response code, a "<" could begin an APOP timestamp.
_BANNER: Final = re.compile(r"(?!\[)[\x20-\x3b\x3d-\x7e]{1,300}")
HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,128}")

DEFAULT_MECHANISMS: Final[Mapping[str, Mechanism]] = MappingProxyType(
    {name: mechanism for name, mechanism in MECHANISMS.items() if mechanism.default}
)


class Headers(Enum):
    """What becomes of a message whose header is not ASCII, for a client that did not say UTF8 (RFC 6856 section 2)."""

    PASS = "pass"  # sent as it is, as every server did before there was UTF8
    SURROGATE = "surrogate"  # sent with its header rewritten in ASCII (RFC 6858)
    REFUSE = "refuse"  # listed, and not sent: -ERR [UTF8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """See `trio_pop3.serve` for the meaning of each. Raises ValueError for values that make no sense."""

    # Dovecot gives up after 20 bad commands in a session; ten in a row is no person and no mail client.
    max_bad_commands: int | None = 10
    max_auth_failures: int | None = 3
    insecure_auth: bool = False
    require_tls: bool = False
    stls: bool = False
    apop: bool = False
    mechanisms: Mapping[str, Mechanism] = field(default_factory=lambda: DEFAULT_MECHANISMS)
    login_delay: int | None = None
    profile: Profile = Profile.DEFAULT
    space_in_user: bool = False
    utf8: bool = True
    headers: Headers = Headers.PASS
    languages: tuple[Language, ...] = LANGUAGES
    language: Language = ENGLISH
    banner: str = "POP3 server ready"
    hostname: str = "localhost"
    oauth_scope: str = ""
    oauth_discovery: str = ""
    # What unknown users are shown instead of a salt is made with this. A known user's salt stays, so theirs must: over
    # a restart, and in all processes that serve a port. On another machine it is another, see `lasting_key`.
    fake_key: bytes = field(default_factory=lambda: lasting_key("salts of unknown users"), repr=False)

    def __post_init__(self) -> None:
        for name in ("max_bad_commands", "max_auth_failures"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if not isinstance(self.headers, Headers):
            raise TypeError(f"headers must be one of {', '.join(map(str, Headers))}, not {self.headers!r}")
        if self.login_delay is not None and self.login_delay < 1:
            raise ValueError(f"login_delay must be a whole number of seconds, at least 1, not {self.login_delay!r}")
        if self.require_tls and self.insecure_auth:
            raise ValueError("require_tls and insecure_auth contradict each other")
        if not _BANNER.fullmatch(self.banner):
            raise ValueError('banner must be 1 to 300 printable ASCII characters, with no "<", the first not "["')
        if not HOST_NAME.fullmatch(self.hostname):
            raise ValueError(f"hostname must be a host name, not {self.hostname!r}")

    @property
    def strict(self) -> bool:
        """Whether this is the conformance reference."""
        return self.profile is Profile.STRICT

    @property
    def bad_command_budget(self) -> int | None:
        """The strict profile never gives up on a client (PROTOCOL A-31)."""
        return None if self.strict else self.max_bad_commands
