"""`connect`: real sockets, with and without TLS."""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial

import pytest
import trio

from tests.helpers_server import TIMESTAMP, serve_stream
from tests.server.encrypted import Authority
from tests.server.serving import serving
from trio_pop3.client import ReplyError, connect
from trio_pop3.sansio import (
    RemoteProtocolError,
)
from trio_pop3.server import Tls

from .helpers import (
    GREETING,
    LARGE,
    LOGIN,
    PATIENCE,
    Script,
    mailbox,
)

# --- connecting -------------------------------------------------------------------------------------------------------


def test_connect() -> None:
    """Real sockets, real time: connect, greeting, a session, and the end of the block closes without a word."""
    backend = mailbox(LARGE)
    backend.add_user("v", "p")
    backend.deliver("v", LARGE)

    async def main() -> None:
        serve = partial(serve_stream, backend=backend)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
                port = listeners[0].socket.getsockname()[1]
                async with connect("127.0.0.1", port) as client:
                    assert client.timestamp == TIMESTAMP
                    await client.login("u", "p")
                    assert await client.fetch(1) == LARGE
                    await client.dele(1)
                async with connect("127.0.0.1", port, max_message=10) as client:
                    await client.login("v", "p")
                    with pytest.raises(RemoteProtocolError):
                        await client.fetch(1)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert len(backend.messages("u")) == 1


def test_connect_passes_its_options_on() -> None:
    turns = [*LOGIN, (b"RETR 1", b"+OK\r\nx\r\n.\n"), (b"LIST", b"+OK\r\n1 1\r\n2 1\r\n.\r\n")]

    async def play(stream: trio.SocketStream) -> None:
        async with stream:
            await Script(stream, turns).run(GREETING)

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, play, 0, host="127.0.0.1"))
                port = listeners[0].socket.getsockname()[1]
                async with connect("127.0.0.1", port, max_listing=8, lenient_terminator=True) as client:
                    await client.login("u", "p")
                    assert await client.fetch(1) == b"x\r\n"
                    with pytest.raises(RemoteProtocolError, match="8 octets"):
                        await client.list()
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_connect_to_a_server_that_refuses() -> None:
    """The refusal is raised at the door, and the connection is closed."""

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.send_all(b"-ERR [SYS/TEMP] full\r\n")
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        await stream.aclose()

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
                port = listeners[0].socket.getsockname()[1]
                with pytest.raises(ReplyError, match="full"):
                    async with connect("127.0.0.1", port):
                        raise AssertionError
                nursery.cancel_scope.cancel()
            with pytest.raises(OSError, match="connect"):
                async with connect("127.0.0.1", port):
                    raise AssertionError

    trio.run(main)


# --- TLS -------------------------------------------------------------------------------------------------------------


async def test_connect_with_tls(authority: Authority) -> None:
    """R8314-01, R8314-03, R2595-10: both ways to TLS, against a real server."""
    listen = ("127.0.0.1:0", "127.0.0.1:0,tls")
    async with serving(mailbox(b"x\r\n"), *listen, tls=authority.tls, require_tls=True) as running:
        for which, stls in enumerate((True, False)):
            port = running.listeners[which].port
            async with connect("127.0.0.1", port, tls=authority.context(), stls=stls) as client:
                assert client.tls
                await client.login("u", "p")
                assert await client.fetch(1) == b"x\r\n"
                await client.quit()
            await running.idle()


@pytest.mark.parametrize("stls", [True, False])
@pytest.mark.parametrize("trusted", [True, False])
async def test_connect_to_somebody_else(authority: Authority, stls: bool, trusted: bool) -> None:
    """R7817-01, R7817-02, R8314-03, R5034-34: a certificate of another name, or of an authority that is not known; the
    failure says what it was, and no password was sent.
    """
    tls = Tls(authority.issue("pop.example.org", name="other"))
    context = authority.context() if trusted else ssl.create_default_context()
    async with serving(mailbox(), "127.0.0.1:0" if stls else "127.0.0.1:0,tls", tls=tls) as running:
        with pytest.raises(trio.BrokenResourceError) as caught:
            async with connect("127.0.0.1", running.listeners[0].port, tls=context, stls=stls):
                raise AssertionError
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        await running.idle()


async def test_wildcards(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """R7817-07: a wildcard is a whole label, the first one, and one only."""
    tls = Tls(authority.issue("*.example.org", name="wild"))
    open_tcp_stream = trio.open_tcp_stream
    async with serving(mailbox(), "127.0.0.1:0,tls", tls=tls) as running:

        async def here(host: str, port: int) -> trio.SocketStream:
            return await open_tcp_stream("127.0.0.1", running.listeners[0].port or 0)

        monkeypatch.setattr(trio, "open_tcp_stream", here)
        async with connect("pop.example.org", tls=authority.context()) as client:
            assert client.tls
        for host in ("a.pop.example.org", "example.org", "pop.example.net"):
            with pytest.raises(trio.BrokenResourceError):
                async with connect(host, tls=authority.context()):
                    raise AssertionError
        await running.idle()


async def test_connect_to_a_server_without_stls() -> None:
    """R8314-16, R2595-16: what was asked for is not to be had, and nothing else was tried."""
    heard = bytearray()

    async def play(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(GREETING)
            heard.extend(await stream.receive_some())
            await stream.send_all(b"-ERR what?\r\n")
            async for data in stream:
                heard.extend(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, play, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(PATIENCE):
            with pytest.raises(ReplyError, match="what"):
                async with connect("127.0.0.1", port, tls=ssl.create_default_context(), stls=True):
                    raise AssertionError
        nursery.cancel_scope.cancel()
    assert heard == b"STLS\r\n"


async def test_connect_with_tls_to_a_server_that_has_none() -> None:
    """R8314-16: a greeting in clear is no handshake."""
    async with serving(mailbox()) as running:
        with pytest.raises(trio.BrokenResourceError) as caught:
            async with connect("127.0.0.1", running.listeners[0].port, tls=ssl.create_default_context()):
                raise AssertionError
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        await running.idle()


@pytest.mark.parametrize(("options", "port"), [({}, 110), ({"tls": True, "stls": True}, 110), ({"tls": True}, 995)])
async def test_ports(monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], port: int) -> None:
    """R1939-01, R8314-01: what is connected to unless told otherwise."""
    asked: list[tuple[str, int]] = []

    async def nobody(host: str, port: int) -> trio.SocketStream:
        asked.append((host, port))
        raise OSError("nobody")

    monkeypatch.setattr(trio, "open_tcp_stream", nobody)
    context = ssl.create_default_context() if options.get("tls") else None
    with pytest.raises(OSError, match="nobody"):
        async with connect("pop.example.org", tls=context, stls=options.get("stls", False)):
            raise AssertionError
    assert asked == [("pop.example.org", port)]


async def test_stls_needs_a_context() -> None:
    with pytest.raises(ValueError, match="stls=True needs a context"):
        async with connect("pop.example.org", stls=True):
            raise AssertionError
