"""CRAM-MD5 (RFC 2195): the password stays at home, but the server has to keep it readable."""

from __future__ import annotations

import hmac
import re
from typing import Final

from ...credentials import CramMd5Credentials
from ..exchange import ClientExchange, Malformed, Response, ServerContext, ServerExchange, challenge, last, verify
from ..text import decode_text, encode_text, prepare

# The RFC says lower case; as with APOP, it is the octets that are compared. A name may have spaces in it.
_RESPONSE: Final = re.compile(rb"(.*) ([0-9A-Fa-f]{32})", re.DOTALL)
_RANDOM_OCTETS: Final = 16


def cram_md5_server(context: ServerContext, message: bytes) -> ServerExchange:
    """The challenge is a message id: random digits, the time, our name."""
    digits = int.from_bytes(context.random(_RANDOM_OCTETS), "big")
    asked = f"<{digits}.{int(context.clock())}@{context.host}>".encode()
    response = _RESPONSE.fullmatch((yield from challenge(asked)))
    if response is None:
        raise Malformed
    digest = bytes.fromhex(response[2].decode("ascii"))
    return (yield from verify(CramMd5Credentials(prepare(decode_text(response[1])), asked, digest)))


def cram_md5(user: str, secret: str) -> ClientExchange:
    """Log in with a shared secret. The server proves nothing.

    Raises ValueError, without any of them in it, if one cannot be sent.
    """
    return _cram_md5(encode_text(user), encode_text(secret))


def _cram_md5(user: bytes, secret: bytes) -> ClientExchange:
    asked = yield Response(None)
    yield from last(user + b" " + hmac.digest(secret, asked, "md5").hex().encode("ascii"))
