"""LOGIN (a draft that expired): what PLAIN does, in two messages. For clients that know nothing else."""

from __future__ import annotations

from ..exchange import ClientExchange, Response, ServerContext, ServerExchange, challenge, last, verify
from ..text import decode_text, encode_text, password_credentials


def login_server(context: ServerContext, message: bytes) -> ServerExchange:
    """Asks for a name, then for a password, whatever the name was."""
    user = yield from challenge(b"Username:")
    password = yield from challenge(b"Password:")
    return (yield from verify(password_credentials(decode_text(user), decode_text(password))))


def login(user: str, password: str) -> ClientExchange:
    """Log in with a password, over TLS only, where PLAIN is not offered. What the server asks is not looked at.

    Raises ValueError, without any of them in it, if one cannot be sent.
    """
    return _login(encode_text(user), encode_text(password))


def _login(user: bytes, password: bytes) -> ClientExchange:
    yield Response(None)
    yield Response(user)
    yield from last(password)
