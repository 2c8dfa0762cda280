"""Exchanges that do not end well: hostile servers, cancellation, several tasks."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from tests.helpers_server import Cut
from trio_pop3.client import Pop3Client
from trio_pop3.sansio import (
    Noop,
    RemoteProtocolError,
)

from .helpers import (
    GREETING,
    LOST,
    Call,
    assert_broken,
    scripted,
)

# --- hostile servers --------------------------------------------------------------------------------------------------


ENDLESS: list[tuple[Call, bytes, bytes]] = [
    (Pop3Client.noop, b"NOOP", b"+OK " + b"x" * 5000),
    (Pop3Client.list, b"LIST", b"+OK\r\n" + b"1 1\r\n" * 500),
    (Pop3Client.uidl, b"UIDL", b"+OK\r\n" + b"1 x\r\n" * 500),
    (Pop3Client.capa, b"CAPA", b"+OK\r\n" + b"SASL x\r\n" * 500),
    (lambda client: client.fetch(1), b"RETR 1", b"+OK\r\n" + b"x\r\n" * 500),
    (lambda client: client.top(1, 1), b"TOP 1 1", b"+OK\r\n" + b"x\r\n" * 500),
]


@pytest.mark.parametrize(("call", "command", "reply"), ENDLESS)
async def test_endless_replies(call: Call, command: bytes, reply: bytes) -> None:
    """A12, P4: whatever has no end is cut off. What follows the status line is repeated for ever."""
    async with scripted(
        (command, reply), endless=True, pair=lockstep_stream_pair, max_listing=50_000, max_message=50_000
    ) as (client, script):
        with pytest.raises(RemoteProtocolError, match=r"octets|without end"):
            await call(client)
        await assert_broken(client, script)


async def test_endless_listing_line() -> None:
    """A line without an end is not gathered until the listing is too long."""
    reply = (b"UIDL", b"+OK\r\n1 " + b"x" * 5000)
    async with scripted(reply, endless=True, pair=lockstep_stream_pair) as (client, script):
        with pytest.raises(RemoteProtocolError, match="line without end"):
            await client.uidl()
        await assert_broken(client, script)


async def test_many_repeated_capabilities() -> None:
    """A server cannot keep us busy by repeating itself: this takes minutes if joining costs the square."""
    lines = b"".join(b"SASL %d\r\n" % number for number in range(5000))
    async with scripted((b"CAPA", b"+OK\r\n" + lines + b".\r\n")) as (client, _):
        assert len((await client.capa())["SASL"]) == 5000


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (Pop3Client.noop, b""),
        (Pop3Client.noop, b"+OK half"),
        (Pop3Client.quit, b""),
        (Pop3Client.list, b"+OK\r\n1 120\r\n"),
        (lambda client: client.fetch(1), b"+OK\r\nx\r\n."),
        (lambda client: client.fetch(1), b"+OK\r\nx\r\n.\r"),
    ],
)
async def test_end_in_the_middle(call: Call, reply: bytes) -> None:
    """A cut message never passes for a whole one (A10)."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GREETING + b"+OK\r\n+OK\r\n" + reply)
    await theirs.send_eof()
    client = Pop3Client(Cut(ours, 1))
    await client.greeting()
    await client.login("u", "p")
    with pytest.raises(RemoteProtocolError, match="closed"):
        await call(client)
    with pytest.raises(trio.BrokenResourceError):
        await client.noop()


@pytest.mark.parametrize("extra", [b"+OK 5 500\r\n", b".\r\n", b"x"])
async def test_speaking_out_of_turn(extra: bytes) -> None:
    """What comes unasked, a second terminator included, never passes for the reply to the next command."""
    async with scripted((b"RETR 1", b"+OK\r\nx\r\n.\r\n" + extra)) as (client, script):
        assert await client.fetch(1) == b"x\r\n"
        with pytest.raises(RemoteProtocolError, match="out of turn"):
            await client.stat()
        await assert_broken(client, script)


async def test_second_terminator_later() -> None:
    async with scripted((b"RETR 1", b"+OK\r\nx\r\n.\r\n"), (b"NOOP", b".\r\n+OK\r\n")) as (client, script):
        assert await client.fetch(1) == b"x\r\n"
        with pytest.raises(RemoteProtocolError, match="expected"):
            await client.noop()
        await assert_broken(client, script)


async def test_lost_connection() -> None:
    """A failing stream is a BrokenResourceError, and stays one."""
    async with scripted() as (client, script):
        script.stream.receive_stream.close()  # type: ignore[attr-defined]
        with pytest.raises(LOST):
            await client.noop()
        with pytest.raises(trio.BrokenResourceError):
            await client.noop()


# --- tasks and cancellation -------------------------------------------------------------------------------------------


async def _retrieve(client: Pop3Client) -> None:
    async with client.retrieve(1):
        pass


CALLS: list[tuple[Call, bytes]] = [
    (Pop3Client.capa, b"CAPA"),
    (Pop3Client.stat, b"STAT"),
    (Pop3Client.list, b"LIST"),
    (Pop3Client.uidl, b"UIDL"),
    (Pop3Client.noop, b"NOOP"),
    (Pop3Client.rset, b"RSET"),
    (Pop3Client.quit, b"QUIT"),
    (lambda client: client.fetch(1), b"RETR 1"),
    (_retrieve, b"RETR 1"),
    (lambda client: client.dele(1), b"DELE 1"),
    (lambda client: client.pipeline([Noop()]), b"CAPA"),
]


@pytest.mark.parametrize(("call", "command"), CALLS)
@pytest.mark.parametrize("said", [b"", b"+O", b"+OK\r\n1 1"])
async def test_cancelled_in_the_middle(call: Call, command: bytes, said: bytes, autojump_clock: MockClock) -> None:
    """Nobody knows any more whose reply comes next, so the connection is closed, with nothing more said."""
    reply = said if b"\n" not in said or command in (b"CAPA", b"LIST", b"UIDL", b"RETR 1") else b"+"
    async with scripted((command, reply)) as (client, script):
        with trio.move_on_after(10) as scope:
            await call(client)
        assert scope.cancelled_caught
        await assert_broken(client, script)


async def test_cancelled_while_the_greeting_is_due(autojump_clock: MockClock) -> None:
    async with scripted(greeting=b"+O", greeted=False) as (client, script):
        with trio.move_on_after(10) as scope:
            await client.greeting()
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await client.greeting()
        await assert_broken(client, script)


async def test_two_tasks() -> None:
    """The second one is told so at once, and does the first no harm."""
    async with scripted((b"NOOP", b"+OK\r\n"), (b"RETR 1", b"+OK\r\nx\r\n.\r\n")) as (client, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.noop)
            await wait_all_tasks_blocked()
        async with client.retrieve(1) as pieces:
            for call in (client.noop(), client.fetch(1), client.list(), client.capa()):
                with pytest.raises(trio.BusyResourceError):
                    await call
            assert await anext(pieces) == b"x\r\n"


async def test_closing_says_nothing() -> None:
    async with scripted() as (client, script):
        await client.aclose()
        for call in (client.noop(), client.pipeline([Noop()]), client.greeting()):
            with pytest.raises(trio.ClosedResourceError):
                await call
        await wait_all_tasks_blocked()
        assert script.closed_by_client


async def test_closing_under_another_task() -> None:
    async with scripted((b"NOOP", b"")) as (client, _):

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await client.noop()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await client.aclose()
