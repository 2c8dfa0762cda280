"""Names and passwords inside of messages: octets on the wire, prepared text everywhere else."""

from __future__ import annotations

from typing import Final

from ..credentials import PasswordCredentials
from .exchange import Malformed, Rejected
from .saslprep import saslprep

# RFC 4616 section 2 asks for 255 at least.
MOST_OCTETS: Final = 1024


def decode_text(octets: bytes) -> str:
    """What a client sent as a name or password, not prepared yet. Raises Malformed."""
    if len(octets) > MOST_OCTETS:
        raise Malformed("name or password too long")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("name or password is not UTF-8") from None
    if "\0" in text:
        raise Malformed
    return text


def prepare(text: str) -> str:
    """A name or password as it is compared: SASLprep for query strings. Raises Rejected, also for an empty one."""
    try:
        prepared = saslprep(text, stored=False)
    except ValueError:
        raise Rejected("a name or password cannot be prepared") from None
    if not prepared:
        raise Rejected("empty name or password")
    return prepared


def password_credentials(user: str, password: str, authzid: str = "") -> PasswordCredentials:
    """A name and a password, prepared; `authzid` is already. Raises Rejected."""
    return PasswordCredentials(prepare(user), prepare(password), authzid=authzid, as_sent=password)


def prepare_authzid(text: str) -> str:
    """An authorization identity: "" is the same as none; what was not empty may not become so (RFC 5034 section 4).

    Raises Rejected.
    """
    return prepare(text) if text else ""


def encode_text(text: str) -> bytes:
    """A name or password for the wire. Raises ValueError, without the text in it, if it cannot be sent."""
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a name or password is not Unicode text") from None
    if 0 in octets:
        raise ValueError("NUL in a name or password")
    return octets
