"""What is checked, and how: where the server is, who logs in, what may be done to it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from trio_pop3 import Profile

from ..talk import Talk
from ..wire import SocketWire, Wire
from .base import accepted


class Encryption(Enum):
    """When TLS begins."""

    NONE = "none"
    STLS = "STLS"
    IMPLICIT = "implicit TLS"


class NoTarget(Exception):
    """There is nothing that could be checked; the text says why."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who logs in."""

    user: str
    password: str = field(repr=False)

    @property
    def name(self) -> bytes:
        """The user, as USER has it."""
        return self.user.encode("utf-8", "surrogateescape")

    @property
    def secret(self) -> bytes:
        """The password, as PASS has it."""
        return self.password.encode("utf-8", "surrogateescape")

    @property
    def plain(self) -> bytes:
        """The message of SASL PLAIN, in base64 (RFC 4616)."""
        return base64.b64encode(b"\0%s\0%s" % (self.name, self.secret))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is checked, and how.

    account: who logs in.
    second: another user, or None.
    encryption, tls: when TLS begins, and what to check the server's certificate with.
    timeout: seconds to wait for a reply that is due.
    destructive: whether messages may be deleted; reset: brings the maildrop back to what it was, or None.
    waits: whether to leave as much time between logins as the server asks for with LOGIN-DELAY.
    guesses: whether wrong passwords may be sent, about twenty in all.
    profile: STRICT demands what the strict profile of this package does where the RFCs leave a choice.
    """

    host: str
    port: int
    account: Account
    second: Account | None = None
    encryption: Encryption = Encryption.NONE
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    timeout: float = 10.0
    destructive: bool = False
    waits: bool = True
    guesses: bool = True
    reset: Callable[[], None] | None = None
    profile: Profile = Profile.DEFAULT

    @property
    def where(self) -> str:
        """Host and port, as one writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def dial(self, context: ssl.SSLContext | None = None) -> SocketWire:
        """A connection: over TLS, if that is implicit; with another context, if one is given. Raises OSError."""
        implicit = self.encryption is Encryption.IMPLICIT
        return SocketWire(self.host, self.port, tls=context or self.tls, implicit=implicit, timeout=self.timeout)

    def dial_encrypted(self) -> Wire:
        """A connection on which passwords may be said: behind STLS, if that is how TLS begins."""
        wire = self.dial()
        return BehindStls(wire) if self.encryption is Encryption.STLS else wire


class BehindStls:
    """A wire on which STLS was said; the greeting from before it is what is received first."""

    def __init__(self, wire: SocketWire) -> None:
        self._wire = wire
        recorder = Talk(wire)
        greeting = recorder.reply()
        accepted(recorder, b"STLS")
        recorder.start_tls()
        self._first = b"+OK %s\r\n" % greeting.text
        self.send, self.finish, self.close, self.start_tls = wire.send, wire.finish, wire.close, wire.start_tls

    def receive(self) -> bytes:
        first, self._first = self._first, b""
        return first or self._wire.receive()
