"""ANONYMOUS (RFC 4505): nobody, and perhaps a word on who is nobody today."""

from __future__ import annotations

from typing import Final

from ...credentials import AnonymousCredentials
from ..exchange import ClientExchange, Malformed, ServerContext, ServerExchange, last, verify
from ..saslprep import saslprep
from ..text import decode_text, encode_text

_MOST_CHARACTERS: Final = 255


def anonymous_server(context: ServerContext, message: bytes) -> ServerExchange:
    """The message is the trace information; it may be empty."""
    try:
        trace = _checked(decode_text(message))
    except ValueError:
        raise Malformed from None
    return (yield from verify(AnonymousCredentials("anonymous", trace)))


def anonymous(trace: str = "") -> ClientExchange:
    """Log in as nobody. `trace` is for the server's log: a mail address, or up to 255 characters without an "@".

    Raises ValueError if it is anything else.
    """
    return last(encode_text(_checked(trace)))


def _checked(trace: str) -> str:
    """The trace information without anything that could upset a log. Raises ValueError."""
    local_part, at, domain = trace.rpartition("@")
    if len(trace) > _MOST_CHARACTERS or (at and not (local_part and domain)):
        raise ValueError("neither a mail address nor up to 255 other characters")
    return saslprep(trace, stored=False)
