"""Certificates for tests, and clients that speak TLS on memory streams or without any task of their own."""

from __future__ import annotations

import ssl
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import trio
import trustme

from trio_pop3.sasl import ClientExchange
from trio_pop3.server import Tls

from .helpers import Client, Script

Files: TypeAlias = tuple[str, str]
# What a client says next: octets, or what it makes of all it has heard so far.
Says: TypeAlias = bytes | Callable[[bytes], bytes]

NAME = "localhost"


class Authority:
    """An authority, what it has issued for our server, and those who trust it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.strangers = trustme.CA()
        self._folder = folder
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.files = self.issue(NAME, "127.0.0.1", name="server")
        self.tls = Tls(self.files)
        # One that asks clients for certificates.
        self.asking = Tls(self.files, client_ca=self.ca_file)

    def issue(self, *names: str, name: str) -> Files:
        """Write a certificate and its key, over those of the same name."""
        leaf = self.ca.issue_cert(*names)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return str(certificate), str(key)

    def context(self, *, identity: str | None = None, stranger: bool = False) -> ssl.SSLContext:
        """A client's context, perhaps with a certificate of its own, of this authority or of one nobody knows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
        self.ca.configure_trust(context)
        if identity is not None:
            (self.strangers if stranger else self.ca).issue_cert(identity).configure_cert(context)
        return context


async def start_tls(client: Client, context: ssl.SSLContext, name: str = NAME) -> trio.SSLStream[trio.abc.Stream]:
    """A client's handshake. From then on it takes an end without the farewell of TLS for a connection that broke."""
    secure: trio.SSLStream[trio.abc.Stream] = trio.SSLStream(client.stream, context, server_hostname=name)
    await secure.do_handshake()
    client.stream = secure
    return secure


async def stls(client: Client, context: ssl.SSLContext, name: str = NAME) -> trio.SSLStream[trio.abc.Stream]:
    """STLS and the handshake behind it."""
    assert await client.ask(b"STLS") == b"+OK begin TLS\r\n"
    return await start_tls(client, context, name)


async def authenticate(client: Client, mechanism: bytes, exchange: ClientExchange) -> bytes:
    """Log in with a mechanism of SASL; the last line that is heard."""
    first = next(exchange).data
    line = await client.ask(b"AUTH " + mechanism + (b"" if first is None else b" " + (b64encode(first) or b"=")))
    while line.startswith(b"+ "):
        response = exchange.send(b64decode(line[2:])).data
        assert response is not None
        line = await client.ask(b64encode(response))
    return line


class SecureScript(Script):
    """A `Script` whose client begins TLS after what it says in clear.

    `asked` and `heard` are what is said inside TLS, and what was in clear before it; `raw` is every octet that the
    server has sent from the handshake on. A segment is encrypted when it is read; behind the last the client waits.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *segments: Says,
        clear: tuple[bytes, ...] = (),
        broken_at: int | None = None,
        ends_at: int | None = None,
        room: bool = True,
    ) -> None:
        super().__init__(*clear, broken_at=broken_at, ends_at=ends_at, room=room)
        self._says = list(segments)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=NAME)
        self._begun = self._shaken = False
        self.raw = bytearray()
        self.told = False  # that it is the end: close_notify

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._segments:
            return await super().receive_some(max_bytes)
        self._begun = True
        await trio.lowlevel.checkpoint()
        self._operate()
        if self._ends_at is not None and self.operations >= self._ends_at:
            return b""
        if not self._outgoing.pending:
            self._speak()
        if not self._outgoing.pending and not self.told:
            await trio.sleep_forever()  # it waits to be told
        return self._outgoing.read(-1 if max_bytes is None else max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        begun, before = self._begun, len(self.heard)
        await super().send_all(data)
        if begun:
            del self.heard[before:]
            self.raw += data
            self._incoming.write(data)
            if self._shaken:
                self._listen()

    def _speak(self) -> None:
        """The next step of the handshake, or the next segment."""
        if not self._shaken:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return
            self._shaken = True
            self._listen()
        if not self._outgoing.pending and self._says:
            says = self._says.pop(0)
            octets = says if isinstance(says, bytes) else says(bytes(self.heard))
            self._tls.write(octets)
            self.asked += octets

    def _listen(self) -> None:
        try:
            while octets := self._tls.read(65536):
                self.heard += octets
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            pass
        self.told = True
