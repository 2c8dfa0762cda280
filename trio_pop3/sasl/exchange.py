"""What a SASL mechanism is to the rest: a generator for each side, and a row that says when it may be offered.

A *server* mechanism is a generator that yields what it needs next and returns who was authenticated:

    Challenge(data)         send this; resumed with the client's response, octets
    FindKeys(user, hash)    resumed with ScramKeys, or None for an unknown user
    Verify(credentials)     resumed with the name of the user; `Rejected` is thrown in if the credentials are not good

It raises Malformed or Rejected to fail. A *client* mechanism is a generator that yields `Response`s and is resumed with
the server's challenges; it raises `ServerRejected` if the server cannot be believed.

Neither does I/O, keeps time or has randomness of its own: that comes with the context.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ..credentials import ClientCertificate, Credentials, ScramKeys

_NAME: Final = re.compile(r"[A-Z0-9_-]{1,20}")


class SaslError(Exception):
    """An exchange failed. The text is short and safe to show to the peer."""


class Malformed(SaslError):
    """The message is not one of this mechanism. Says nothing of the credentials."""

    def __init__(self, text: str = "malformed authentication message") -> None:
        super().__init__(text)


class Rejected(SaslError):
    """The credentials are not good. Never says why."""


class ServerRejected(SaslError):
    """Client side: the server did not prove that it knows the secret, or asks for what we do not do. Cancel, close."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Octets for the client; its response, zero or more octets, is what the mechanism goes on with."""

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class FindKeys:
    """Look up what is stored for SCRAM. `hash_name` is "sha1" or "sha256"."""

    user: str
    hash_name: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Check these credentials."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Identity:
    """Who was authenticated, and whose maildrop is asked for ("" for the user's own)."""

    user: str
    authzid: str = ""


Need: TypeAlias = Challenge | FindKeys | Verify
ServerExchange: TypeAlias = Generator[Need, Any, Identity]


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a server mechanism may know of the connection and of the world.

    Args:
        host: our name, for challenges and for what a client says it connected to; a name without a dot is not one
            that clients know, and not compared.
        port: the port the client connected to, if known.
        bindings: TLS channel binding type -> data; empty without TLS.
        plus_offered: whether a -PLUS mechanism is announced on this connection.
        certificate: the client's, if it presented one that our authorities vouch for.
        fake_key: a secret, for what unknown users are shown. Whoever knows it can tell who exists, and so can whoever
            sees two of them at work: processes that serve the same users share it.
        scope, discovery: for the JSON that tells an OAuth client what went wrong; "" leaves it out.
        random: so many random octets.
        clock: seconds since 1970.
    """

    host: str = "localhost"
    port: int | None = None
    bindings: Mapping[str, bytes] = field(default_factory=dict)
    plus_offered: bool = False
    certificate: ClientCertificate | None = None
    fake_key: bytes = field(default=b"", repr=False)
    scope: str = ""
    discovery: str = ""
    random: Callable[[int], bytes] = secrets.token_bytes
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One row of the table of mechanisms.

    Args:
        name: 1 to 20 characters of A-Z, 0-9, "-" and "_" (RFC 4422 section 3.1).
        server: makes the server's side. A client-first one gets the client's first message, a server-first one b"".
        method: what a backend must have among its `login_methods`.
        client_first: the client has the first word.
        cleartext: whoever listens learns a secret: not without TLS or a connection that stays on this machine.
        tls_only: not without TLS, wherever the connection comes from.
        default: offered unless told otherwise.
        binding: needs TLS channel binding data (-PLUS).
        certificate: needs a client certificate.

    Raises ValueError for another name.
    """

    name: str
    server: Callable[[ServerContext, bytes], ServerExchange]
    method: str
    client_first: bool = True
    cleartext: bool = False
    tls_only: bool = False
    default: bool = True
    binding: bool = False
    certificate: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a mechanism's name has 1 to 20 characters of A-Z, 0-9, - and _: {self.name!r}")

    def start(self, context: ServerContext, initial: bytes | None) -> ServerExchange:
        """The server's side of one exchange; `initial` is the initial response, None if there was none.

        A missing one is asked for with an empty challenge; one that has no place is Malformed (RFC 5034 section 4).
        """
        if not self.client_first:
            if initial is not None:
                raise Malformed("this mechanism takes no initial response")
            initial = b""
        elif initial is None:
            initial = yield Challenge()
        return (yield from self.server(context, initial))


@dataclass(frozen=True, slots=True)
class Response:
    """A client's next octets. None: no initial response, the server speaks first.

    `complete`: a `+OK` to this is believed. Before that it would come from a server that has not proved itself.
    """

    data: bytes | None = field(repr=False)
    complete: bool = False


ClientExchange: TypeAlias = Generator[Response, bytes, None]


def challenge(data: bytes) -> Generator[Need, Any, bytes]:
    """`response = yield from challenge(data)`."""
    response: bytes = yield Challenge(data)
    return response


def find_keys(user: str, hash_name: str) -> Generator[Need, Any, ScramKeys | None]:
    """`keys = yield from find_keys(user, hash_name)`."""
    keys: ScramKeys | None = yield FindKeys(user, hash_name)
    return keys


def verify(credentials: Credentials) -> Generator[Need, Any, Identity]:
    """`return (yield from verify(credentials))`. Raises Rejected."""
    user: str = yield Verify(credentials)
    return Identity(user, credentials.authzid)


def last(data: bytes) -> ClientExchange:
    """The client's last response. Raises ServerRejected if the server then asks for more."""
    yield Response(data, complete=True)
    raise ServerRejected("the server asks for more than this mechanism has")
