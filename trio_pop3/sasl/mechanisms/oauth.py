"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google): a token instead of a password."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from ...credentials import TokenCredentials
from ..exchange import (
    Challenge,
    ClientExchange,
    Malformed,
    Rejected,
    Response,
    ServerContext,
    ServerExchange,
    ServerRejected,
    verify,
)
from ..gs2 import make_header, split_header
from ..text import decode_text, encode_text, prepare, prepare_authzid

_END: Final = b"\x01"
# Those that are defined are six (RFC 7628 section 3.1).
_MOST_FIELDS: Final = 32
_FIELD: Final = re.compile(rb"([A-Za-z]+)=([^\0]*)", re.DOTALL)
# RFC 7628 section 4. What a token may hold is for whoever checks it; some of today's are no b64token.
_BEARER: Final = re.compile(rb"bearer +([!-~]+)", re.IGNORECASE)
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_PRINTABLE: Final = re.compile(r"[!-~]+")


def oauthbearer_server(context: ServerContext, message: bytes) -> ServerExchange:
    """`gs2-header ^A key=value ^A ... ^A ^A`. The name in the header is taken for the user's."""
    header, rest = split_header(message)
    if header.binding is not None or not rest.startswith(_END):
        raise Malformed
    fields = _fields(rest[1:])

    def credentials() -> TokenCredentials:
        _check_destination(context, fields)
        return TokenCredentials(prepare_authzid(header.name), _token(fields))

    problem = {"status": "invalid_token", "scope": context.scope, "openid-configuration": context.discovery}
    return (yield from _checked(credentials, problem))


def xoauth2_server(context: ServerContext, message: bytes) -> ServerExchange:
    """`user=NAME ^A auth=Bearer TOKEN ^A ^A`."""
    fields = _fields(message)
    user = decode_text(fields.get(b"user", b""))

    def credentials() -> TokenCredentials:
        return TokenCredentials(prepare(user), _token(fields))

    return (yield from _checked(credentials, {"status": "401", "schemes": "bearer", "scope": context.scope}))


def _checked(credentials: Callable[[], TokenCredentials], problem: Mapping[str, str]) -> ServerExchange:
    """What is Rejected is explained in JSON first; the client answers that with one line, whatever it may be."""
    try:
        return (yield from verify(credentials()))
    except Rejected:
        yield Challenge(json.dumps({key: value for key, value in problem.items() if value}).encode("ascii"))
        raise


def _fields(octets: bytes) -> dict[bytes, bytes]:
    """`key=value ^A ... ^A`: each is ended, and so are all of them. Raises Malformed."""
    *pairs, rest = octets[:-1].split(_END, _MOST_FIELDS)
    matches = [_FIELD.fullmatch(pair) for pair in pairs]
    fields = {match[1]: match[2] for match in matches if match is not None}
    if octets[-1:] != _END or rest or len(fields) != len(pairs):
        raise Malformed
    return fields


def _token(fields: Mapping[bytes, bytes]) -> str:
    """Raises Rejected if there is none: the client asks in this way where to get one (RFC 7628 section 4.3)."""
    match = _BEARER.fullmatch(fields.get(b"auth", b""))
    if match is None:
        raise Rejected("no bearer token")
    return match[1].decode("ascii")


def _check_destination(context: ServerContext, fields: Mapping[bytes, bytes]) -> None:
    """A client that meant to talk to somebody else does not talk to us. Raises Rejected."""
    host, port = fields.get(b"host"), fields.get(b"port")
    if host and "." in context.host and host.lower() != context.host.lower().encode():
        raise Rejected("meant for another host")
    if port and context.port is not None and not (_PORT.fullmatch(port) and int(port) == context.port):
        raise Rejected("meant for another port")


def oauthbearer(token: str, *, user: str = "", host: str = "", port: int | None = None) -> ClientExchange:
    """Log in with a token, over TLS only. `host` and `port` are where we are connected to, for the server to compare.

    Raises ValueError, without the token in it, if something cannot be sent.
    """
    fields = [("host", host)] if host else []
    fields += [("port", str(port))] if port is not None else []
    pairs = [f"{key}={_printable(value)}".encode("ascii") for key, value in fields]
    return _bearer(_END.join((make_header("n", _name(user)), *pairs, _authorization(token), b"", b"")), _END)


def xoauth2(user: str, token: str) -> ClientExchange:
    """Log in with a token, over TLS only.

    Raises ValueError, without the token in it, if something cannot be sent.
    """
    return _bearer(_END.join((b"user=" + encode_text(_name(user)), _authorization(token), b"", b"")), b"")


def _authorization(token: str) -> bytes:
    return f"auth=Bearer {_printable(token)}".encode("ascii")


def _printable(text: str) -> str:
    if not _PRINTABLE.fullmatch(text):
        raise ValueError("a token or host name is not printable ASCII")
    return text


def _name(user: str) -> str:
    if "\x01" in user:
        raise ValueError("control character in a user name")
    return user


def _bearer(message: bytes, seen: bytes) -> ClientExchange:
    """A challenge is the JSON that tells what is wrong: it is answered, and then the server ends it."""
    yield Response(message, complete=True)
    yield Response(seen)
    raise ServerRejected("the server asks for more than this mechanism has")
