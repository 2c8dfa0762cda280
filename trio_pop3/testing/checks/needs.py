"""What checks need, and why it may not be there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_pop3 import Profile

from .base import Need
from .target import Encryption, Target


def _need(name: str, there: Callable[[Target], object], reason: str) -> Need:
    return Need(name, lambda target: None if there(target) else reason)


DESTRUCTIVE: Final = _need("--destructive", lambda target: target.settings.destructive, "not without --destructive")
# The checks that need it come last: servers punish guessing, by time or by closing the door.
GUESSES: Final = _need("wrong passwords", lambda target: target.settings.guesses, "no wrong password is to be sent")
SECOND: Final = _need("--second-user", lambda target: target.settings.second, "no --second-user")
STRICT: Final = _need(
    "--profile strict",
    lambda target: target.settings.profile is Profile.STRICT,
    "only --profile strict asks for it",
)
USER: Final = _need("USER", lambda target: target.method == "USER", "no login with USER and PASS")
CAPA: Final = _need("CAPA", lambda target: target.capabilities is not None, "no CAPA")
APOP: Final = _need("APOP", lambda target: target.timestamps, "no APOP: the greeting has no timestamp")
NO_APOP: Final = _need("no APOP", lambda target: target.timestamps is None, "the greeting has a timestamp")
IN_CLEAR: Final = _need(
    "no TLS", lambda target: target.settings.encryption is Encryption.NONE, "the connection is encrypted"
)
IMPLICIT_TLS: Final = _need(
    "--tls", lambda target: target.settings.encryption is Encryption.IMPLICIT, "the connection does not begin with TLS"
)
ENCRYPTED: Final = _need(
    "TLS", lambda target: target.settings.encryption is not Encryption.NONE, "the connection is not encrypted"
)
STLS: Final = Need("STLS", lambda target: target.no_stls)
ANY_TLS: Final = Need(
    "TLS", lambda target: None if target.settings.encryption is Encryption.IMPLICIT else target.no_stls
)


def announces(tag: str) -> Need:
    """A capability."""
    return _need(tag, lambda target: tag in (target.capabilities or ()), f"{tag} is not announced")


def mechanism(name: str) -> Need:
    """A SASL mechanism."""
    return _need(
        f"SASL {name}",
        lambda target: name in (target.capabilities or {}).get("SASL", ()),
        f"SASL {name} is not announced",
    )


def works(command: str) -> Need:
    """TOP or UIDL, announced or not."""
    return _need(command, lambda target: command in target.commands, f"no {command}")


def messages(count: int) -> Need:
    """So many messages in the maildrop."""
    plural = "a message" if count == 1 else f"{count} messages"
    too_few = "no message" if count == 1 else f"fewer than {count} messages"
    return _need(plural, lambda target: len(target.mail.sizes) >= count, f"{too_few} in the maildrop")


EMPTY: Final = _need(
    "an empty maildrop", lambda target: target.empty_account is not None, "no empty maildrop, here or of --second-user"
)
