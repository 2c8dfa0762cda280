"""Both sides of SASL to be driven by hand. Tim is the one user, and nothing is left to chance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final

from trio_pop3.credentials import (
    AnonymousCredentials,
    CertificateCredentials,
    ClientCertificate,
    CramMd5Credentials,
    Credentials,
    PasswordCredentials,
    ScramKeys,
    TokenCredentials,
)
from trio_pop3.sasl import (
    MECHANISMS,
    Challenge,
    ClientExchange,
    FindKeys,
    Identity,
    Rejected,
    ServerContext,
    ServerRejected,
    anonymous,
    cram_md5,
    derive_keys,
    external,
    login,
    oauthbearer,
    plain,
    scram,
    xoauth2,
)

# Password and token. In no dictionary.
SECRET: Final = "kQ7-staple-4vW9"
# An octet that is nowhere in UTF-8: a message that Tim would send.
HONEST: Final = b"\xfc"
BINDING: Final = ("tls-server-end-point", b"hash of a certificate")
CERTIFICATE: Final = ClientCertificate({"subjectAltName": (("email", "tim@example.com"),)}, b"DER")

# Clients for a name, by what their mechanism begins with.
CLIENTS: Final[Mapping[str, Callable[[str], ClientExchange]]] = {
    "PLAIN": lambda user: plain(user, SECRET),
    "LOGIN": lambda user: login(user, SECRET),
    "CRAM-MD5": lambda user: cram_md5(user, SECRET),
    "EXTERNAL": lambda user: external(),
    "ANONYMOUS": anonymous,
    "OAUTHBEARER": lambda user: oauthbearer(SECRET, user=user),
    "XOAUTH2": lambda user: xoauth2(user, SECRET),
    "SCRAM-SHA-1": lambda user: scram(user, SECRET, hash_name="sha1", random=bytes),
    "SCRAM-SHA-256": lambda user: scram(user, SECRET, random=bytes),
    "SCRAM-SHA-1-PLUS": lambda user: scram(user, SECRET, hash_name="sha1", binding=BINDING, plus=True, random=bytes),
    "SCRAM-SHA-256-PLUS": lambda user: scram(user, SECRET, binding=BINDING, plus=True, random=bytes),
}


@functools.cache
def keys(hash_name: str) -> ScramKeys:
    """Tim's. Slow on purpose, so made once."""
    return derive_keys(SECRET, b"sixteen octets..", 4096, hash_name)


def context_of(options: int) -> ServerContext:
    """A connection with or without the things that a mechanism may know of it; five bits."""
    return ServerContext(
        host="pop.example.com" if options & 1 else "localhost",
        port=995 if options & 2 else None,
        bindings=dict([BINDING]) if options & 4 else {},
        plus_offered=bool(options & 8),
        certificate=CERTIFICATE if options & 16 else None,
        fake_key=b"key",
        random=bytes,
        clock=lambda: 0.0,
    )


def _verified(credentials: Credentials) -> str:
    match credentials:
        case PasswordCredentials(user, password=password):
            good = (user, password) == ("tim", SECRET)
        case CramMd5Credentials(user):
            good = user == "tim" and credentials.matches(SECRET)
        case TokenCredentials(user, token=token):
            good = user in ("", "tim") and token == SECRET
        case _:
            good = isinstance(credentials, CertificateCredentials | AnonymousCredentials)
    if not good:
        raise Rejected("wrong")
    return "anonymous" if isinstance(credentials, AnonymousCredentials) else "tim"


class Door:
    """The server's side of one exchange. `identity` is who got in."""

    def __init__(self, name: str, context: ServerContext, initial: bytes | None) -> None:
        self.identity: Identity | None = None
        self._exchange: Final = MECHANISMS[name].start(context, initial)

    def step(self, response: bytes | None) -> bytes:
        """The answer to a response, None to begin; b"" with the last. Raises Malformed, Rejected."""
        value: bytes | str | ScramKeys | None = response
        rejected: Rejected | None = None
        while True:
            try:
                need = self._exchange.send(value) if rejected is None else self._exchange.throw(rejected)
            except StopIteration as done:
                self.identity = done.value
                return b""
            rejected = None
            if isinstance(need, Challenge):
                return need.data
            if isinstance(need, FindKeys):
                value = keys(need.hash_name) if need.user == "tim" else None
                continue
            try:
                value = _verified(need.credentials)
            except Rejected as failure:
                rejected = failure


class Script:
    """What somebody says who has no secret, and wherever there is HONEST in it, what Tim would say, who has one.

    proved: Tim gave something that proves who he is.
    """

    def __init__(self, name: str, messages: list[bytes]) -> None:
        self.proved = False
        self._tim: Final = CLIENTS[name]("tim") if HONEST in messages else None
        self._response = b"" if self._tim is None else next(self._tim).data
        self._messages: Final = [*messages, *[b""] * 5]

    def say(self, challenge: bytes | None) -> bytes:
        """The answer to a challenge; to none, the first message. Raises IndexError if nobody would go on so long."""
        # Where Tim speaks first, an empty challenge asks him for what he has not said.
        if self._tim is not None and challenge is not None and (challenge or self._response is None):
            try:
                self._response = self._tim.send(challenge).data
            except (ServerRejected, StopIteration):
                self._response = b"*"
        message = self._messages.pop(0)
        if message != HONEST or self._response is None:
            return message
        self.proved |= not self._response.startswith((b"n,", b"y,", b"p=")) or SECRET.encode() in self._response
        return self._response
