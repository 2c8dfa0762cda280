"""The PROXY protocol through a server: whom it believes, for how long it waits, and who is served then."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.sansio.test_proxy import ADDRESSES4, CIPHER, LOCAL, TCP4, UNIQUE_ID, UNSPEC, VERSION, v2
from tests.sansio.test_proxy import ssl as tls_vector
from trio_pop3.server import Networks
from trio_pop3.server.options import make_options
from trio_pop3.server.proxied import ProxyHeaderMissing, read_header
from trio_pop3.server.serve import Server

from .driven import calling, summaries
from .encrypted import Authority, start_tls
from .helpers import LOGIN, REMOTE, Noting, Script, mail_for_fred
from .serving import serving

PROXY = "192.0.2.7"
V1 = b"PROXY TCP4 198.51.100.9 203.0.113.1 4000 995\r\n"
V2 = v2(TCP4, ADDRESSES4)  # of 192.0.2.1:4711 to 198.51.100.2:995
SIX = b"PROXY TCP6 2001:db8::9 2001:db8::1 4000 995\r\n"


def server_for(backend: Any, *trusted: str, **options: Any) -> Server:
    wanted = {"insecure_auth": True, "max_connections": 20, **options}
    return Server(backend, make_options(proxy_from=Networks(trusted or [PROXY]), **wanted))


# --- whom it believes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "host", "port", "local"),
    [
        (V1, "198.51.100.9", 4000, "203.0.113.1"),
        (V2, "192.0.2.1", 4711, "198.51.100.2"),
        (SIX, "2001:db8::9", 4000, "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", PROXY, 4711, "192.0.2.1"),  # RPRX-05
        (v2(UNSPEC, b"", command=LOCAL), PROXY, 4711, "192.0.2.1"),  # RPRX-08
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_the_client_behind(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    header: bytes,
    host: str,
    port: int,
    local: str,
    whole: bool,
) -> None:
    """RPRX-01, G9: nothing is said before the header is whole, in one piece or octet by octet; then the backend and
    the log know who it is.
    """
    backend = Noting()
    async with calling(server_for(backend), proxy=True) as client:
        for octet in () if whole else header[:-1]:
            await client.send(bytes([octet]))
            await trio.testing.wait_all_tasks_blocked()
            assert not backend.connected
        await client.send(header if whole else header[-1:])
        await client.login()
    (seen,) = backend.connected
    assert (seen.host, seen.port, seen.local_host, seen.tls) == (host, port, local, False)
    assert f" peer={seen.peer} " in summaries(caplog)[0]
    assert host in seen.peer


@pytest.mark.parametrize("header", [V1, V2])
async def test_commands_behind_the_header(autojump_clock: trio.testing.MockClock, header: bytes) -> None:
    """RPRX-01, RPRX-07: in the same segment; they are answered, and nothing of the header is taken for one."""
    async with calling(server_for(mail_for_fred()), proxy=True) as client:
        await client.send(header + LOGIN + b"STAT\r\nQUIT\r\n")
        assert [line[:5] for line in (await client.rest()).splitlines()] == [
            b"+OK P", b"+OK s", b"+OK m", b"+OK 0", b"+OK g",
        ]  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
async def test_the_header_comes_before_tls(authority: Authority, together: bool) -> None:
    """G9, RPRX-10: the ClientHello is behind the header, in the same segment or in the next."""
    backend = Noting()
    async with calling(server_for(backend, tls=authority.tls), proxy=True, tls=True) as client:
        if together:
            client.stream = Prefixed(client.stream, V1)
        else:
            await client.send(V1)
        await start_tls(client, authority.context())
        await client.login()
    assert backend.connected[0].host == "198.51.100.9"
    assert backend.connected[0].tls_version == "TLSv1.3"


class Prefixed(trio.abc.Stream):
    """Sends some octets in the segment of the first that are sent."""

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        first, self._first = self._first, b""
        await self._stream.send_all(first + bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_header_inside_tls_is_none(authority: Authority, autojump_clock: trio.testing.MockClock) -> None:
    """RPRX-10: a ClientHello in its place ends the connection."""
    async with calling(server_for(mail_for_fred(), tls=authority.tls), proxy=True, tls=True) as client:
        raw = client.stream
        with pytest.raises(trio.BrokenResourceError):
            await start_tls(client, authority.context())
        assert await raw.receive_some() == b""


async def test_whom_the_server_does_not_know(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """G9, RPRX-02: closed without a word, and without having read one."""
    backend = Noting()
    async with calling(server_for(backend, "192.0.2.8"), proxy=True) as client:
        await client.send(V1 + LOGIN)
        assert await client.rest() == b""
        assert trio.current_time() == 0
    assert not backend.connected
    assert f"closed a connection from {PROXY}:4711: this is no proxy of ours" in caplog.text


async def test_a_header_where_none_belongs(autojump_clock: trio.testing.MockClock) -> None:
    """RPRX-02: on a listener without PROXY it is a bad command, also from a proxy that is known."""
    backend = Noting()
    async with calling(server_for(backend)) as client:
        assert (await client.line()).startswith(b"+OK")
        assert (await client.ask(V1.rstrip())).startswith(b"-ERR")
    assert backend.connected[0].host == PROXY


@pytest.mark.parametrize(
    "said",
    [
        b"USER fred\r\n",
        b"PROXY TCP4 198.51.100.9\r\n",
        b"PROXY TCP4 " + b"9" * 200,
        V2[:12] + b"\x31" + V2[13:],
        b"\r\n\r\n\0\r\nQUIX\n",
    ],
)
async def test_no_header(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, said: bytes) -> None:
    """G9, RPRX-01: anything else closes at once, without a word."""
    backend = Noting()
    async with calling(server_for(backend), proxy=True) as client:
        await client.send(said)
        assert await client.rest() == b""
        assert trio.current_time() == 0
    assert not backend.connected
    assert f"closed a connection from {PROXY}:4711: " in caplog.text


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 198.51.100.9", V2[:-1]])
async def test_a_header_that_does_not_come(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    """G9: five seconds, however it drips; then a silent close."""
    async with calling(server_for(mail_for_fred()), proxy=True) as client:
        for octet in said:
            await trio.sleep(0.1)
            await client.send(bytes([octet]))
        assert await client.rest() == b""
        assert trio.current_time() == pytest.approx(5)
    assert "no header in 5 seconds" in caplog.text


async def test_a_proxy_that_leaves(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """I5, I4: a health check that only connects; the place is free again."""
    server = server_for(mail_for_fred())
    async with calling(server, proxy=True) as client:
        await client.send(V1[:9])
    assert client.done.is_set()
    assert server.places.value == server.places.max_value
    assert len(server._hosts) == 0
    assert "the connection was closed" in caplog.text


async def test_a_connection_that_is_lost() -> None:
    """I5."""
    with pytest.raises(ProxyHeaderMissing, match="the connection was lost"):
        await read_header(Script(V1[:9], broken_end=True), REMOTE, 5)


# --- who is served then ----------------------------------------------------------------------------------------------


async def test_the_client_behind_is_the_one_that_is_counted(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """I4, G9: the proxy itself has no share to use up, and nobody's place is lost."""
    server = server_for(mail_for_fred(), max_connections_per_host=1)
    async with calling(server, proxy=True) as one, calling(server, proxy=True) as other:
        await one.send(V1)
        assert (await one.line()).startswith(b"+OK")
        await other.send(SIX)
        assert (await other.line()).startswith(b"+OK")
        async with calling(server, proxy=True) as again:
            await again.send(V1)
            assert await again.rest() == b"-ERR [SYS/TEMP] too many connections from your address\r\n"
        assert "refused a connection from 198.51.100.9:4000" in caplog.text
    assert len(server._hosts) == 0


async def test_a_proxy_on_this_machine_makes_nobody_local() -> None:
    """G7: a client that came through it may not log in in clear, even one that claims to be 127.0.0.1."""
    options = {"proxy_from": Networks(["loopback"])}
    async with serving(mail_for_fred(), "127.0.0.1:0,proxy", **options) as running:
        for claim in (b"198.51.100.9", b"127.0.0.1"):
            async with running.client() as client:
                await client.send(b"PROXY TCP4 " + claim + b" 127.0.0.1 4000 110\r\n")
                assert (await client.line()).startswith(b"+OK")
                assert await client.ask(b"USER fred") == b"-ERR login without encryption is not allowed here\r\n"


async def test_tls_at_the_proxy(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """G9, R5802-16: what the proxy says of its client's TLS is as good as ours for a password, and in the log; but it
    binds no channel, and there is no STLS inside it.
    """
    vectors = [tls_vector(1, 0, (VERSION, b"TLSv1.3"), (CIPHER, b"TLS_AES_128_GCM_SHA256")), (UNIQUE_ID, b"px-17")]
    backend = Noting()
    server = server_for(backend, tls=authority.tls, insecure_auth=False, require_tls=True)
    async with calling(server, proxy=True) as client:
        await client.send(v2(TCP4, ADDRESSES4, vectors))
        await client.line()
        await client.send(b"CAPA\r\n")
        capabilities = await client.multiline()
        assert b"\r\nUSER\r\n" in capabilities
        assert b"\r\nSASL SCRAM-SHA-256 " in capabilities
        assert b"-PLUS" not in capabilities
        assert b"\r\nSTLS\r\n" not in capabilities
        assert (await client.ask(b"STLS")).startswith(b"-ERR")
        assert (await client.ask(b"AUTH SCRAM-SHA-256-PLUS")).startswith(b"-ERR")
        await client.send(LOGIN)
        assert [(await client.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]
    (seen,) = backend.connected
    assert (seen.tls, seen.tls_version, seen.cipher) == (True, "TLSv1.3", "TLS_AES_128_GCM_SHA256")
    assert (seen.end_point, seen.certificate, seen.proxy_session) == (None, None, "px-17")
    assert " tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 " in summaries(caplog)[0]


async def test_tls_at_the_proxy_that_was_none(autojump_clock: trio.testing.MockClock) -> None:
    """G7: a TLS vector that says the client came in clear makes nothing secure."""
    backend = Noting()
    async with calling(server_for(backend, insecure_auth=False), proxy=True) as client:
        await client.send(v2(TCP4, ADDRESSES4, [tls_vector(0, 0)]))
        await client.line()
        assert (await client.ask(b"USER fred")).startswith(b"-ERR")
    assert not backend.connected[0].tls
