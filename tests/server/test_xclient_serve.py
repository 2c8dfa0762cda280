"""XCLIENT through a server: who may say it, when, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.server import Networks
from trio_pop3.server.options import make_options
from trio_pop3.server.serve import Server

from .driven import calling, reason, summaries
from .encrypted import Authority, stls
from .helpers import LOGIN, PASSWORD, Noting, driving, mail_for_fred
from .serving import handling, serving

BEHIND = b"XCLIENT ADDR=198.51.100.9 PORT=4000 SESSION=abc123 TTL=5"
V1 = b"PROXY TCP4 198.51.100.9 203.0.113.1 4000 110\r\n"


def server_for(backend: Any, *trusted: str, **options: Any) -> Server:
    return Server(backend, make_options(xclient_from=Networks(trusted), max_connections=20, **options))


async def test_a_trusted_proxy(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """J2, PROTOCOL 8.1: [XCLIENT] in the greeting says that it is taken; backend and log know the client behind."""
    backend = Noting()
    server = server_for(backend, "192.0.2.0/24", insecure_auth=True)
    async with calling(server) as client:
        assert await client.line() == b"+OK [XCLIENT] POP3 server ready\r\n"
        assert await client.ask(BEHIND) == b"+OK updated\r\n"
        await client.send(LOGIN + b"QUIT\r\n")
        assert (await client.rest()).endswith(b"+OK goodbye\r\n")
    (seen,) = backend.opened
    assert (seen.host, seen.port, seen.proxy_session, seen.loopback) == ("198.51.100.9", 4000, "abc123", False)
    assert " peer=198.51.100.9:4000 " in summaries(caplog)[0]


async def test_anybody_else(autojump_clock: trio.testing.MockClock) -> None:
    """RXCL-01: from a peer that is not trusted it is an unknown command, and changes nothing."""
    backend = Noting()
    async with calling(server_for(backend, "192.0.2.8", insecure_auth=True)) as client:
        assert await client.line() == b"+OK POP3 server ready\r\n"
        unknown = await client.ask(b"JUNK")
        assert await client.ask(BEHIND) == unknown
        await client.send(LOGIN)
        assert [(await client.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]
    assert backend.opened[0].host == "192.0.2.7"


async def test_nobody_is_trusted_by_default() -> None:
    """RXCL-01: this machine neither."""
    async with serving(mail_for_fred()) as running, running.client() as client:
        assert await client.line() == b"+OK POP3 server ready\r\n"
        assert (await client.ask(BEHIND)).startswith(b"-ERR")


async def test_a_proxy_on_this_machine() -> None:
    """J2, G7: the client behind it is elsewhere, and logs in in clear no more than any other."""
    async with serving(mail_for_fred(), xclient_from=Networks(["loopback"])) as running, running.client() as client:
        assert (await client.line()).startswith(b"+OK [XCLIENT] ")
        assert (await client.ask(BEHIND)).startswith(b"+OK")
        assert await client.ask(b"USER fred") == b"-ERR login without encryption is not allowed here\r\n"
        assert (await client.ask(BEHIND + b" CLIENT-TRANSPORT=TLS")).startswith(b"+OK")
        await client.send(LOGIN)
        assert [(await client.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]


async def test_not_after_the_login(autojump_clock: trio.testing.MockClock) -> None:
    """RXCL-02, J2."""
    async with calling(server_for(mail_for_fred(), "192.0.2.7", insecure_auth=True)) as client:
        await client.login()
        assert (await client.ask(BEHIND)).startswith(b"-ERR")
        assert (await client.ask(b"NOOP")).startswith(b"+OK")


async def test_a_loop_of_proxies(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """J2: when the hops are used up the connection is closed."""
    async with calling(server_for(mail_for_fred(), "192.0.2.7")) as client:
        await client.line()
        assert await client.ask(b"XCLIENT ADDR=198.51.100.9 TTL=0") == b"-ERR too many hops, closing\r\n"
        assert await client.rest() == b""
    assert reason(caplog) == "'proxy loop'"


async def test_not_behind_a_proxy_header(autojump_clock: trio.testing.MockClock) -> None:
    """RXCL-01, RPRX-02: a client that came through the PROXY protocol is not the proxy, whatever its address claims."""
    networks = Networks(["192.0.2.7", "198.51.100.9"])
    server = Server(mail_for_fred(), make_options(xclient_from=networks, proxy_from=networks, max_connections=5))
    async with calling(server, proxy=True) as client:
        await client.send(V1)
        assert await client.line() == b"+OK POP3 server ready\r\n"
        assert (await client.ask(BEHIND)).startswith(b"-ERR")


async def test_over_tls(authority: Authority, autojump_clock: trio.testing.MockClock) -> None:
    """J2, R5802-16: the TLS of the proxy is not that of its client: no channel binding, and no second STLS."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls), xclient=True) as far:
        await far.line()
        await stls(far, authority.context())
        assert (await far.ask(BEHIND + b" CLIENT-TRANSPORT=TLS")).startswith(b"+OK")
        await far.send(b"CAPA\r\n")
        capabilities = await far.multiline()
        assert b"-PLUS" not in capabilities
        assert b"\r\nSTLS\r\n" not in capabilities
        assert (await far.ask(b"STLS")).startswith(b"-ERR")


async def test_guesses_are_counted_for_the_client_behind(autojump_clock: trio.testing.MockClock) -> None:
    """J2, H10: one client's guesses do not slow down another of the same proxy."""
    server = server_for(mail_for_fred(), "192.0.2.7", insecure_auth=True)

    async def guess(behind: bytes, password: str) -> float:
        start = trio.current_time()
        async with calling(server) as client:
            await client.line()
            await client.ask(b"XCLIENT ADDR=" + behind)
            await client.ask(b"USER fred")
            await client.ask(b"PASS " + password.encode())
        return trio.current_time() - start

    assert await guess(b"198.51.100.9", "wrong") == 0
    assert await guess(b"198.51.100.9", "other") == pytest.approx(2)
    assert await guess(b"198.51.100.10", PASSWORD) == 0


async def test_clients_behind_a_proxy_are_counted_as_who_they_are() -> None:
    """I4, H10: a proxy has no share of its own, and one client behind it cannot use up that of the others."""
    options = make_options(xclient_from=Networks(("loopback",)), max_connections_per_host=1)
    server = Server(mail_for_fred(), options)
    async with handling(server) as running, running.client() as first, running.client() as second:
        for client in (first, second):
            assert (await client.line()).startswith(b"+OK [XCLIENT]")
        assert await first.ask(b"XCLIENT ADDR=198.51.100.7") == b"+OK updated\r\n"
        assert (await second.ask(b"XCLIENT ADDR=198.51.100.7")).startswith(b"-ERR [SYS/TEMP] too many connections")
        assert await second.rest() == b""
        async with running.client() as third:
            await third.line()
            assert await third.ask(b"XCLIENT ADDR=198.51.100.8") == b"+OK updated\r\n"
            assert len(server._hosts) == 2
    assert len(server._hosts) == 0
