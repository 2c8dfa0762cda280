"""Until the login: greeting, capabilities, TLS, and every way to say who one is."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from typing import Final

import trio

from ..sansio import (
    Apop,
    Auth,
    Capa,
    Challenge,
    Command,
    Err,
    Event,
    Greeting,
    Lang,
    LocalProtocolError,
    Ok,
    Pass,
    RemoteProtocolError,
    SaslCancel,
    SaslResponse,
    State,
    Stls,
    User,
    Utf8,
)
from ..sansio.listings import parse_capabilities
from ..sansio.writers import write_command
from ..sasl import MECHANISMS, ClientExchange, Response, ServerRejected, scram
from ..sasl.saslprep import saslprep
from ..x509 import tls_server_end_point
from .wire import ReplyError, Wire, text_of

# RFC 2449 section 5 allows lines of 512 octets; servers announce twenty or so.
_MOST_CAPABILITY_OCTETS: Final = 64 * 1024


class LoginClient(Wire):
    """The part of `Pop3Client` that works without a maildrop."""

    # --- session ---------------------------------------------------------------------------------------------------

    async def greeting(self) -> str:
        """Read the greeting, once, before anything else; returns its text. Raises ReplyError if the server refuses."""
        async with self._exchange():
            if self.state is not State.GREETING:
                raise LocalProtocolError("the greeting was read already")
            self._broken = True  # until all of it is here
            event = await self._event()
            self._broken = False
            if isinstance(event, Err):
                raise ReplyError(event)
            assert isinstance(event, Greeting)
            self.timestamp = event.timestamp
            return event.text

    async def capa(self) -> dict[str, tuple[str, ...]]:
        """What the server can do: tag in upper case -> arguments. Empty if it knows no CAPA (RFC 2449 section 5)."""
        try:
            body = await self._gather(Capa(), _MOST_CAPABILITY_OCTETS)
        except ReplyError:
            body = b""
        self._capabilities = parse_capabilities(text_of(body).split("\r\n"))
        if "USER" in self._capabilities.get("UTF8", ()):
            self._connection.allow_utf8_names()
        return dict(self._capabilities)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return isinstance(self._stream, trio.SSLStream)

    async def stls(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Begin TLS on this connection (RFC 2595 section 4), before the login.

        What was known of the server is forgotten: ask `capa` again. `server_hostname` is the name that was connected
        to, and is checked against the certificate as the context says.

        Raises ReplyError if the server has no TLS; the session goes on, in clear. Raises RemoteProtocolError if it
        sends anything between its reply and the handshake, `trio.BrokenResourceError` if the handshake fails; the
        session is over then.
        """
        async with self._exchange():
            if self._utf8:
                raise LocalProtocolError("STLS is not sent after UTF8 (RFC 6856 section 2.1)")
            await self._status(Stls())
            self._broken = True  # until TLS is up
            self._connection.tls_started()
            secure = trio.SSLStream(self._stream, context, server_hostname=server_hostname, https_compatible=True)
            await secure.do_handshake()
            self._stream = secure
            self._capabilities = None
            self._broken = False

    async def utf8(self) -> None:
        """Take messages with UTF-8 in their headers as they are (RFC 6856 section 2). Before the login, after TLS."""
        await self._simple(Utf8())
        self._utf8 = True

    async def lang(self, tag: str) -> str:
        """Ask for reply texts in a language, or with "*" in the server's own; returns the tag of what was set."""
        async with self._exchange():
            return (await self._status(Lang(tag))).text.partition(" ")[0]

    async def languages(self) -> dict[str, str]:
        """Tag -> description of the languages there are (RFC 6856 section 3.2)."""
        body = await self._gather(Lang(), _MOST_CAPABILITY_OCTETS)
        lines = (line.partition(" ") for line in body.decode("utf-8", "replace").split("\r\n") if line)
        return {tag: description for tag, _, description in lines}

    async def login(self, user: str, password: str) -> None:
        """USER and PASS."""
        self._check_exposure()
        octets = _prepared(password, stored=False).encode()
        async with self._exchange():
            await self._status(User(_prepared(user, stored=False)))
            await self._status(Pass(octets))

    async def apop(self, user: str, secret: str) -> None:
        """APOP (RFC 1939 section 7). Raises LocalProtocolError if the greeting had no timestamp."""
        if self.timestamp is None:
            raise LocalProtocolError("the server does not offer APOP")
        octets = self.timestamp.encode("ascii") + _prepared(secret, stored=True).encode()
        digest = hashlib.md5(octets, usedforsecurity=False).digest()
        await self._simple(Apop(_prepared(user, stored=False), digest))

    async def authenticate(self, mechanism: str, exchange: ClientExchange) -> None:
        """AUTH with a mechanism of `trio_pop3.sasl`: `await client.authenticate("PLAIN", sasl.plain(user, password))`.

        Raises `sasl.ServerRejected` if the server cannot prove that it knows the secret, where the mechanism has it
        prove that; the session is over then, whatever the server says.
        """
        known = MECHANISMS.get(mechanism.upper())
        if known is None or known.cleartext or known.tls_only:
            self._check_exposure()
        if self._capabilities is None:
            await self.capa()
        async with self._exchange():
            response = next(exchange)
            self._broken = True  # until it is over
            event = await self._begin(mechanism.upper(), response)
            while isinstance(event, Challenge):
                response = await self._next_response(exchange, event)
                assert response.data is not None
                event = await self._line(SaslResponse(response.data))
            if isinstance(event, Ok) and not response.complete:
                raise ServerRejected("the server says that all is well, and has not proved itself")
            self._broken = False
            if isinstance(event, Err):
                raise ReplyError(event)

    @property
    def channel_binding(self) -> tuple[str, bytes] | None:
        """What ties a SCRAM login to this very TLS connection's server (RFC 5929 section 4); None without TLS."""
        if not isinstance(self._stream, trio.SSLStream):
            return None
        data = tls_server_end_point(self._stream.getpeercert(binary_form=True))
        return None if data is None else ("tls-server-end-point", data)

    async def scram(self, user: str, password: str, *, authzid: str = "") -> None:
        """Log in without showing the password, by the best of SCRAM that both sides know (RFC 5802, RFC 7677).

        Over TLS it is bound to the channel if the server offers that, so that nobody can stand between. Raises
        LocalProtocolError if the server offers no SCRAM, and as `authenticate` does.
        """
        if self._capabilities is None:
            await self.capa()
        assert self._capabilities is not None
        offered, binding = self._capabilities.get("SASL", ()), self.channel_binding
        for hash_name, name in (("sha256", "SCRAM-SHA-256"), ("sha1", "SCRAM-SHA-1")):
            plus = binding is not None and f"{name}-PLUS" in offered
            if plus or name in offered:
                exchange = scram(user, password, hash_name=hash_name, authzid=authzid, binding=binding, plus=plus)
                return await self.authenticate(f"{name}-PLUS" if plus else name, exchange)
        raise LocalProtocolError("the server offers no SCRAM")

    async def _begin(self, mechanism: str, response: Response) -> Event:
        """AUTH, with the initial response if it fits and the server is known to take one (RFC 5034 section 4)."""
        assert self._capabilities is not None
        command: Command = Auth(mechanism, response.data)
        if "SASL" not in self._capabilities or not self._fits(command):
            command = Auth(mechanism)
        event = await self._line(command)
        if response.data is None or command == Auth(mechanism, response.data) or not isinstance(event, Challenge):
            return event
        if event.data:
            raise await self._cancelled("the server spoke first where the client does")
        return await self._line(SaslResponse(response.data))

    async def _next_response(self, exchange: ClientExchange, challenge: Challenge) -> Response:
        """What the mechanism says to a challenge; if it has nothing to say, the exchange is cancelled."""
        if challenge.data is None:
            raise await self._cancelled("the server sent a challenge that is not base64")
        rejected: ServerRejected | None = None
        try:
            # In a thread: a server may ask for seconds of hashing.
            response = await trio.to_thread.run_sync(_advanced, exchange, challenge.data)
        except ServerRejected as failure:
            rejected = failure
        if rejected is None and response is not None:
            return response
        nonsense = await self._cancelled("the server wants to know more than there is")
        raise rejected or nonsense

    async def _cancelled(self, text: str) -> RemoteProtocolError:
        """Say `*`, take the `-ERR`; the session is not used any further."""
        await self._line(SaslCancel())
        return self._nonsense(text)

    def _fits(self, command: Command) -> bool:
        try:
            write_command(command, names=self._connection.names)
        except LocalProtocolError:
            return False
        return True

    def _check_exposure(self) -> None:
        """A secret in clear goes to this machine only, or nowhere (RFC 2595 section 2.3, RFC 8314 section 5)."""
        if isinstance(self._stream, trio.SocketStream) and not self._insecure_auth:
            peer = self._stream.socket.getpeername()
            if isinstance(peer, tuple) and not ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback:
                raise LocalProtocolError("the password would travel in clear: use TLS, or insecure_auth=True")


def _advanced(exchange: ClientExchange, challenge: bytes) -> Response | None:
    """The mechanism's next response; None if it has ended. No coroutine lets a StopIteration through."""
    try:
        return exchange.send(challenge)
    except StopIteration:
        return None


def _prepared(text: str, *, stored: bool) -> str:
    """As RFC 6856 section 2.2 has names and passwords sent; plain ASCII is what it is."""
    if text.isascii():
        return text
    try:
        return saslprep(text, stored=stored)
    except ValueError:
        raise LocalProtocolError("a name or password holds characters that SASLprep does not allow") from None
