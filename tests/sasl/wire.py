"""A server's side driven by hand, a backend for it, and a fake wire between the two sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
from trio_pop3.sansio.base64 import decode, encode
from trio_pop3.sasl import (
    Challenge,
    ClientExchange,
    FindKeys,
    Identity,
    Mechanism,
    Rejected,
    ServerContext,
    ServerExchange,
    Verify,
    derive_keys,
)

CERTIFICATE = ClientCertificate({"subjectAltName": (("email", "tim@example.com"),)}, b"DER")
BINDING = ("tls-server-end-point", b"\x00\x01hash of a certificate")
SALT = b"sixteen octets.."
# Slow on purpose, so made once.
KEYS = {name: derive_keys("pencil", SALT, 4096, name) for name in ("sha1", "sha256")}


@dataclass
class Backend:
    """Knows user "tim" with password "pencil" and token "t0ken", and keeps what it was asked."""

    user: str = "tim"
    password: str = "pencil"
    token: str = "t0ken"
    keys: Mapping[str, ScramKeys] = field(default_factory=lambda: KEYS)
    seen: list[Verify | FindKeys] = field(default_factory=list)

    @property
    def credentials(self) -> Credentials:
        """The last that were to be checked."""
        assert isinstance(self.seen[-1], Verify)
        return self.seen[-1].credentials

    def check(self, credentials: Credentials) -> str:
        match credentials:
            case PasswordCredentials(user, password=password):
                good = (user, password) == (self.user, self.password)
            case CramMd5Credentials(user):
                good = credentials.matches(self.password) and user == self.user
            case TokenCredentials(user, token=token):
                good = token == self.token and user in ("", self.user)
            case CertificateCredentials() | AnonymousCredentials():
                good = True
            case _:
                raise AssertionError(credentials)
        if not good:
            raise Rejected("wrong")
        return "anonymous" if isinstance(credentials, AnonymousCredentials) else self.user


class Served:
    """The server's side of one exchange: `step` takes a response, and gives a challenge or who was authenticated."""

    def __init__(self, exchange: ServerExchange, backend: Backend | None = None) -> None:
        self.exchange = exchange
        self.backend = Backend() if backend is None else backend

    def step(self, response: bytes | None = None) -> bytes | Identity:
        """None to begin. Raises Malformed, Rejected."""
        value: bytes | str | ScramKeys | None = response
        rejected: Rejected | None = None
        while True:
            try:
                need = self.exchange.send(value) if rejected is None else self.exchange.throw(rejected)
            except StopIteration as done:
                identity: Identity = done.value
                assert isinstance(identity, Identity)
                return identity
            rejected = None
            if isinstance(need, Challenge):
                assert isinstance(need.data, bytes)
                return need.data
            self.backend.seen.append(need)
            if isinstance(need, FindKeys):
                value = self.backend.keys[need.hash_name] if need.user == self.backend.user else None
            else:
                try:
                    value = self.backend.check(need.credentials)
                except Rejected as failure:
                    rejected = failure


def serve(mechanism: Mechanism, initial: bytes | None, context: ServerContext | None = None) -> Served:
    """An exchange that has not begun."""
    return Served(mechanism.start(ServerContext() if context is None else context, initial))


@dataclass
class Line:
    """One line on the fake wire, and whether the client would believe a +OK to it."""

    text: bytes
    complete: bool


def converse(
    mechanism: Mechanism,
    client: ClientExchange,
    context: ServerContext | None = None,
    backend: Backend | None = None,
    *,
    initial_response: bool = True,
) -> tuple[Identity, list[Line]]:
    """Both sides to the end, in base64, with or without an initial response. Raises what either side raises.

    A client may only be told +OK when it is ready to believe it.
    """
    lines = []
    response = next(client)
    if response.data is None or not initial_response:
        initial = None
    else:
        initial = response.data
        lines.append(Line(encode(initial), response.complete))
    served = Served(mechanism.start(ServerContext() if context is None else context, initial), backend)
    asked = served.step()
    if response.data is not None and not initial_response:
        assert asked == b""
        lines.append(Line(encode(response.data), response.complete))
        asked = served.step(response.data)
    while not isinstance(asked, Identity):
        response = client.send(decode(encode(asked)))
        assert response.data is not None
        lines.append(Line(encode(response.data), response.complete))
        asked = served.step(decode(lines[-1].text))
    assert response.complete
    client.close()
    return asked, lines
