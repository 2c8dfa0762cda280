"""AUTHORIZATION: which ways to log in are offered on a connection, and who its client turns out to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from .backend import AuthenticationFailed, Backend, ClientInfo, Delegation, ScramSecrets, login_methods
from .credentials import ApopCredentials, Credentials, PasswordCredentials, ScramKeys
from .replies import ANOTHER_MECHANISM, ENCRYPT_FIRST, NO_APOP, NO_PASSWORDS, NOT_IN_CLEAR
from .rules import Rules
from .sansio import Apop, Auth, Challenge, Err, Pass, SaslResponse
from .sasl import Challenge as SaslChallenge
from .sasl import FindKeys, Identity, Mechanism, Rejected, ServerContext, ServerExchange, Verify
from .sasl.text import password_credentials, prepare


class Gate(Protocol):
    """What a server knows that one session does not: who has been guessing, and who logged in when."""

    async def enter(self, client: ClientInfo) -> None:
        """An attempt begins; comes back when its credentials may be looked at. Cancelled, it has not begun."""

    def leave(self, client: ClientInfo, credentials: Credentials | None, *, failed: bool) -> None:
        """An attempt that entered has ended. `failed`: the credentials were not good."""

    def since_login(self, user: str) -> float | None:
        """Seconds since the user's last successful login; None if that is long ago, or never was."""

    def logged_in(self, user: str, delay: int) -> None:
        """A login has succeeded, and the next one has to wait so many seconds."""


class OpenGate:
    """Holds up nobody and remembers nothing."""

    async def enter(self, client: ClientInfo) -> None:
        """At once."""

    def leave(self, client: ClientInfo, credentials: Credentials | None, *, failed: bool) -> None:
        """Forgotten."""

    def since_login(self, user: str) -> float | None:
        """Unknown."""
        return None

    def logged_in(self, user: str, delay: int) -> None:
        """Forgotten."""


class Login:
    """One connection's logins. Everything that takes a client's word returns who it is, or raises.

    AuthenticationFailed and `sasl.Rejected` mean that the credentials are not good, `sasl.Malformed` that they could
    not be read; anything else is the backend's.
    """

    def __init__(self, backend: Backend, rules: Rules, gate: Gate, timestamp: str | None) -> None:
        self.pending_user: str | None = None
        self.credentials: Credentials | None = None  # last seen, for what must not be logged
        self._backend: Final = backend
        self._rules: Final = rules
        self._gate: Final = gate
        self._timestamp: Final = timestamp
        self._exchange: ServerExchange | None = None
        self._rejected = False  # the client of the exchange was told that it has failed
        self._attempt: ClientInfo | None = None  # who is counted in at the gate
        self._methods: Collection[str] | None = None
        self._mechanisms: Mapping[str, Mechanism] | None = None

    # --- what is offered -------------------------------------------------------------------------------------------

    @property
    def methods(self) -> Collection[str]:
        """What the backend can check; the same until TLS begins."""
        if self._methods is None:
            self._methods = frozenset(login_methods(self._backend))
        return self._methods

    def cleartext(self, client: ClientInfo) -> bool:
        """Whether a secret in clear is safe on this connection, or was declared so."""
        return client.tls or (not self._rules.require_tls and (client.loopback or self._rules.insecure_auth))

    def refuses_passwords(self, client: ClientInfo) -> Err | None:
        """The reply to USER where it is not served."""
        if "PLAIN" not in self.methods:
            return NO_PASSWORDS
        return None if self.cleartext(client) else NOT_IN_CLEAR

    def refuses_apop(self, client: ClientInfo) -> Err | None:
        """The reply to APOP where it is not served."""
        if self._timestamp is None or "APOP" not in self.methods:
            return NO_APOP
        return None if self.cleartext(client) else ENCRYPT_FIRST

    def mechanisms(self, client: ClientInfo) -> Mapping[str, Mechanism]:
        """The SASL mechanisms that can work here and now, best first; the same until TLS begins."""
        if self._mechanisms is None:
            methods = self.methods
            self._mechanisms = {
                name: mechanism
                for name, mechanism in self._rules.mechanisms.items()
                if mechanism.method in methods and self._permitted(mechanism, client)
            }
        return self._mechanisms

    def _permitted(self, mechanism: Mechanism, client: ClientInfo) -> bool:
        if not client.tls and (mechanism.tls_only or self._rules.require_tls):
            return False
        return (
            (self.cleartext(client) or not mechanism.cleartext)
            and (client.end_point is not None or not mechanism.binding)
            and (client.certificate is not None or not mechanism.certificate)
        )

    def begin_anew(self) -> None:
        """Forget what was said so far: TLS has begun, or a proxy has named another client."""
        self.pending_user = None
        self._methods = self._mechanisms = None
        self.abandon()

    # --- USER, PASS, APOP ------------------------------------------------------------------------------------------

    async def password(self, command: Pass, client: ClientInfo) -> Identity:
        """PASS, after a USER that was accepted."""
        name, self.pending_user = self.pending_user, None
        assert name is not None  # the core hands out no PASS without a USER that was accepted
        password = command.password.decode("utf-8", "surrogateescape")
        credentials = PasswordCredentials(name, password)
        return await self._checked(password_credentials(name, password) if self._rules.utf8 else credentials, client)

    async def apop(self, command: Apop, client: ClientInfo) -> Identity:
        """APOP, if it is offered."""
        assert self._timestamp is not None
        name = prepare(command.name) if self._rules.utf8 else command.name
        return await self._checked(ApopCredentials(name, self._timestamp, command.digest), client)

    async def _checked(self, credentials: Credentials, client: ClientInfo) -> Identity:
        await self._enter(credentials, client)
        try:
            user = await self._backend.authenticate(credentials, client)
        except AuthenticationFailed:
            unprepared = credentials.unprepared if isinstance(credentials, PasswordCredentials) else None
            if unprepared is None:
                raise
            user = await self._backend.authenticate(unprepared, client)
        return Identity(_user_name(user))

    # --- SASL ------------------------------------------------------------------------------------------------------

    async def auth(self, command: Auth, client: ClientInfo) -> Identity | Challenge | Err:
        """AUTH with a mechanism: `Err` if it is not to be had here."""
        self.pending_user = None
        offered = self.mechanisms(client)
        mechanism = offered.get(command.mechanism)
        if mechanism is None:
            # Refused before anything of it is looked at (RFC 8314 section 4.1).
            known = self._rules.mechanisms.get(command.mechanism)
            later = known is not None and known.method in self.methods and not client.tls
            return ENCRYPT_FIRST if later else ANOTHER_MECHANISM
        context = ServerContext(
            host=self._rules.hostname,
            # The port is not compared with what a client says: ports are forwarded, and nobody tells us.
            bindings={} if client.end_point is None else {"tls-server-end-point": client.end_point},
            plus_offered=any(other.binding for other in offered.values()),
            certificate=client.certificate,
            fake_key=self._rules.fake_key,
            scope=self._rules.oauth_scope,
            discovery=self._rules.oauth_discovery,
        )
        self._exchange = mechanism.start(context, command.initial)
        self._rejected = False
        return await self._advance(self._exchange, None, client)

    async def respond(self, command: SaslResponse, client: ClientInfo) -> Identity | Challenge:
        """The client's answer to a challenge."""
        assert self._exchange is not None
        return await self._advance(self._exchange, command.data, client)

    async def _advance(self, exchange: ServerExchange, value: object, client: ClientInfo) -> Identity | Challenge:
        """Give the mechanism what it needs until it needs the client again, or knows who that is."""
        rejected: Rejected | None = None
        try:
            while True:
                need = exchange.send(value) if rejected is None else exchange.throw(rejected)
                rejected = None
                match need:
                    case SaslChallenge(data):
                        return Challenge(data)
                    case FindKeys(user, hash_name):
                        value = await self._keys(user, hash_name, client)
                    case Verify(credentials):
                        try:
                            value = (await self._checked(credentials, client)).user
                        except AuthenticationFailed:
                            # Counted now: a client that is told why may leave it at that (RFC 7628 section 3.2.3).
                            self.finish(failed=True)
                            self._rejected = True
                            rejected = Rejected()
                    case _:
                        raise TypeError(f"a mechanism does not yield {type(need).__name__}")
        except StopIteration as done:
            self._exchange = None
            if not isinstance(done.value, Identity):
                raise TypeError(f"a mechanism returns an Identity, not {type(done.value).__name__}") from None
            return done.value
        except BaseException:
            self._exchange = None
            raise

    async def _keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        assert isinstance(self._backend, ScramSecrets)
        await self._enter(Credentials(user), client)
        keys = await self._backend.scram_keys(user, hash_name, client)
        if keys is not None and not isinstance(keys, ScramKeys):
            raise TypeError(f"scram_keys must return ScramKeys or None, not {type(keys).__name__}")
        return keys

    async def authorized(self, identity: Identity, client: ClientInfo) -> str:
        """Whose maildrop somebody gets who has been authenticated. Raises AuthenticationFailed."""
        known = ("", identity.user, "" if self.credentials is None else self.credentials.user)
        if identity.authzid in known:
            return identity.user
        if not isinstance(self._backend, Delegation):
            raise AuthenticationFailed
        return _user_name(await self._backend.authorize(identity.user, identity.authzid, client))

    # --- the gate --------------------------------------------------------------------------------------------------

    async def _enter(self, credentials: Credentials, client: ClientInfo) -> None:
        self.credentials = credentials
        if self._attempt is None:
            await self._gate.enter(client)
            self._attempt = client

    def finish(self, *, failed: bool) -> None:
        """The attempt under way, if there is one, has ended."""
        client, self._attempt = self._attempt, None
        if client is not None:
            self._gate.leave(client, self.credentials, failed=failed)

    def abandon(self) -> bool:
        """End the exchange under way, if there is one. Returns whether its client knew already that it had failed."""
        exchange, self._exchange = self._exchange, None
        self.finish(failed=False)
        if exchange is None:
            return False
        exchange.close()
        return self._rejected


def _user_name(user: object) -> str:
    if not isinstance(user, str) or not user:
        raise TypeError(f"authenticate and authorize must return a user name, not {type(user).__name__}")
    return user
