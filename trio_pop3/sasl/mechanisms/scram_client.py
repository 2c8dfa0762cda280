"""SCRAM, the client's side (RFC 5802, RFC 7677): the server has to prove that it knows us, too."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from typing import Final

from ...sansio.base64 import decode, encode
from ..exchange import ClientExchange, Response, ServerRejected, last
from ..gs2 import encode_name, make_header
from ..saslprep import saslprep
from .scram_keys import (
    LEAST_ITERATIONS,
    NONCE_OCTETS,
    make_nonce,
    make_proof,
    name_of,
    prepare_password,
    salt_password,
    sign,
)

# A server could keep us at it for hours (RFC 5802 section 9). This is about five seconds of SHA-256.
MOST_ITERATIONS: Final = 10_000_000
# 64 bits, as PKCS #5 has it; a server that shows less wants our proof for a table it has made.
LEAST_SALT_OCTETS: Final = 8

_EXTENSIONS: Final = rb"(?:,(?!m=)[A-Za-z]=[^,\0]+)*+"
_SERVER_FIRST: Final = re.compile(
    rb"r=(?P<nonce>[!-+\--~]+),s=(?P<salt>[^,]+),i=(?P<iterations>[1-9][0-9]{0,9})" + _EXTENSIONS
)
_SERVER_FINAL: Final = re.compile(rb"v=(?P<signature>[^,]+)" + _EXTENSIONS)
_ERROR: Final = re.compile(rb"e=([a-z-]{1,64})(?:,.*)?", re.DOTALL)


def scram(
    user: str,
    password: str,
    *,
    hash_name: str = "sha256",
    authzid: str = "",
    binding: tuple[str, bytes] | None = None,
    plus: bool = False,
    could_bind: bool = False,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> ClientExchange:
    """Log in without showing the password, and only to a server that knows it or what was made of it.

    The step that answers the first challenge computes for as long as the server demands, some seconds at the worst, and
    may be taken in a thread.

    Args:
        user, password: are prepared as query and as stored string.
        hash_name: "sha1" or "sha256".
        authzid: whose maildrop is wanted, if not the user's own.
        binding: type and data of a channel binding, if there is one.
        plus: the mechanism is the one with -PLUS, to be taken if the server offers it and there is a binding.
        could_bind: a binding could be had, but the server does not offer -PLUS. The server is told, and knows better if
            somebody has changed its list on the way. Giving a `binding` says the same.
        random: so many random octets.

    Raises ValueError, without names or password in it, if something cannot be sent.
    """
    name_of(hash_name)
    name = saslprep(user, stored=False)
    if not name:
        raise ValueError("empty user name")
    flag, data = "y" if could_bind or binding else "n", b""
    if plus:
        if binding is None:
            raise ValueError("a mechanism in -PLUS needs a channel binding")
        flag, data = f"p={binding[0]}", binding[1]
    header = make_header(flag, authzid)
    client_first = b"n=%b,r=%b" % (encode_name(name), make_nonce(random(NONCE_OCTETS)))
    return _scram(header, data, client_first, prepare_password(password), hash_name)


def _scram(header: bytes, binding: bytes, client_first: bytes, password: bytes, hash_name: str) -> ClientExchange:
    server_first = yield Response(header + client_first)
    nonce, salt, iterations = _read_first(server_first, client_first.rpartition(b",r=")[2])
    salted = salt_password(password, salt, iterations, hash_name)
    unproved = b"c=%b,r=%b" % (encode(header + binding), nonce)
    everything = b",".join((client_first, server_first, unproved))
    proof = make_proof(salted, everything, hash_name)
    server_final = yield Response(b"%b,p=%b" % (unproved, encode(proof)))
    signature = sign(hmac.digest(salted, b"Server Key", hash_name), everything, hash_name)
    if not hmac.compare_digest(_read_final(server_final), encode(signature)):
        raise ServerRejected("the server does not know the password")
    yield from last(b"")


def _read_first(message: bytes, nonce: bytes) -> tuple[bytes, bytes, int]:
    """Nonce, salt, iterations. Raises ServerRejected."""
    match = _SERVER_FIRST.fullmatch(message)
    if match is None:
        raise _refusal(message)
    if not match["nonce"].startswith(nonce) or match["nonce"] == nonce:
        raise ServerRejected("the server's nonce does not continue ours")
    try:
        salt = decode(match["salt"])
    except ValueError:
        raise ServerRejected("not a SCRAM message") from None
    iterations = int(match["iterations"])
    if len(salt) < LEAST_SALT_OCTETS:
        raise ServerRejected("the server's salt is too short")
    if not LEAST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise ServerRejected("the server demands too few or too many iterations")
    return match["nonce"], salt, iterations


def _read_final(message: bytes) -> bytes:
    """The signature in base64. Raises ServerRejected."""
    match = _SERVER_FINAL.fullmatch(message)
    if match is None:
        raise _refusal(message)
    return match["signature"]


def _refusal(message: bytes) -> ServerRejected:
    error = _ERROR.fullmatch(message)
    return ServerRejected(f"the server says {error[1].decode('ascii')}" if error else "not a SCRAM message")
