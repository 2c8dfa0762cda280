"""The test server in the loop of the test: in memory and over TCP, in virtual time and in real."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import trio_pop3
from trio_pop3 import Pop3Client
from trio_pop3.testing import Bench, DropAt, TrioPop3Server, open_pop3_server
from trio_pop3.testing.certificates import certificates


async def logged_in(server: TrioPop3Server) -> Pop3Client:
    client = Pop3Client(server.connect())
    await client.greeting()
    await client.login("alice", "secret")
    return client


async def test_in_memory(autojump_clock: MockClock) -> None:
    async with open_pop3_server(listen=False) as server:
        uid = await server.deliver("alice", "Subject: One\n\nText\n")
        client = await logged_in(server)
        assert await client.uidl() == {1: uid}
        await client.dele(1)
        assert len(await server.maildrop("alice")) == 1
        await client.quit()
        assert await server.maildrop("alice") == []
        assert server.asked == ["USER alice", "PASS ***", "UIDL", "DELE 1", "QUIT"]
        await client.aclose()
        await server.wait_closed()
        with pytest.raises(RuntimeError, match="does not listen"):
            _ = server.port
    assert trio.current_time() < 1


async def test_over_tcp_and_tls() -> None:
    async with open_pop3_server() as server:
        await server.deliver("alice", b"x\n")
        context = certificates().client_context()
        with trio.fail_after(10):
            for options in ({"port": server.port}, {"port": server.tls_port, "tls": context}):
                async with trio_pop3.connect(server.host, **options) as client:
                    await client.login("alice", "secret")
                    assert await client.fetch(1) == b"x\r\n"
        assert server.connections == 2


async def test_faults_in_memory(autojump_clock: MockClock) -> None:
    async with open_pop3_server(listen=False) as server:
        await server.deliver("alice", b"Subject: Cut\n\n")
        with server.fault(DropAt(25)) as struck:
            client = await logged_in(server)
            with pytest.raises(trio_pop3.sansio.RemoteProtocolError):
                await client.fetch(1)
        assert struck.count == 1
        assert str(server.transcript).endswith("S: +OK 16 octets follow\nS> Sub\nS! closes\n")


async def test_login_delay_is_kept_in_virtual_time(autojump_clock: MockClock) -> None:
    """RFC 2449 section 6.5, with nobody waiting."""
    async with open_pop3_server(listen=False, login_delay=60) as server:
        first = await logged_in(server)
        assert (await first.capa())["LOGIN-DELAY"] == ("60",)
        await first.quit()
        with pytest.raises(trio_pop3.client.ReplyError, match="LOGIN-DELAY"):
            await logged_in(server)
        await trio.sleep(60)
        await (await logged_in(server)).quit()


async def test_what_fails_in_the_block_comes_out_as_it_is() -> None:
    """And in no group: a test that fails says what failed."""
    with pytest.raises(AssertionError, match="mine"):
        async with open_pop3_server():
            raise AssertionError("mine")


async def test_a_cancelled_block_ends() -> None:
    with trio.move_on_after(0) as scope:
        async with open_pop3_server() as server:
            server.connect()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_closing_the_bench_is_awaited() -> None:
    closed: list[str] = []

    async def close() -> None:
        await trio.lowlevel.checkpoint()
        closed.append("closed")

    async def make() -> Bench:
        await trio.lowlevel.checkpoint()
        backend = trio_pop3.MemoryBackend()
        backend.add_user("alice", "secret")
        return Bench(backend=backend, deliver=backend.deliver, users={"alice": "secret"}, close=close)

    async with open_pop3_server(make) as server:
        await (await logged_in(server)).quit()
        await server.reset()
        assert closed == ["closed"]
    assert closed == ["closed", "closed"]


async def test_waiting_for_clients_that_stay(autojump_clock: MockClock) -> None:
    async with open_pop3_server(listen=False) as server:
        client = await logged_in(server)
        with pytest.raises(TimeoutError, match="1 connections are open after 5 s"):
            await server.wait_closed()
        await server.close_connections()
        assert server.open_connections == 0
        with pytest.raises(trio.BrokenResourceError):
            await client.noop()


async def test_a_store_that_does_not_come_to_rest(autojump_clock: MockClock) -> None:
    class Stuck(trio_pop3.MemoryBackend):
        async def authenticate(self, credentials: object, client: object) -> str:
            await trio.sleep_forever()
            raise AssertionError

    def make() -> Stuck:
        backend = Stuck()
        backend.add_user("alice", "secret")
        return backend

    async with open_pop3_server(make, listen=False) as server:
        stream = server.connect()
        await stream.send_all(b"USER alice\r\nPASS secret\r\n")
        with pytest.raises(TimeoutError, match="the store is at work for more than 5 s"):
            await server.settle()
