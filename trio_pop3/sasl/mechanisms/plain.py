"""PLAIN (RFC 4616): a name and a password in one message."""

from __future__ import annotations

from ..exchange import ClientExchange, Malformed, ServerContext, ServerExchange, last, verify
from ..text import decode_text, encode_text, password_credentials, prepare_authzid


def plain_server(context: ServerContext, message: bytes) -> ServerExchange:
    """`[authzid] NUL authcid NUL passwd`."""
    parts = message.split(b"\0", 3)
    if len(parts) != 3:
        raise Malformed
    authzid, user, password = map(decode_text, parts)
    return (yield from verify(password_credentials(user, password, prepare_authzid(authzid))))


def plain(user: str, password: str, authzid: str = "") -> ClientExchange:
    """Log in with a password, over TLS only. `authzid` is whose maildrop is wanted, if not the user's own.

    Raises ValueError, without any of them in it, if one cannot be sent.
    """
    return last(b"\0".join(map(encode_text, (authzid, user, password))))
