"""What the client's tests share: servers that keep to a script, and our own server side on a stream."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from tests.helpers_server import Cut, serve_stream
from trio_pop3 import MemoryBackend
from trio_pop3.client import Pop3Client
from trio_pop3.sansio import (
    Noop,
)

Call = Callable[[Pop3Client], Awaitable[object]]
# A line that is expected, and what is said to it.
Turn = tuple[bytes, bytes]

GREETING = b"+OK ready\r\n"
LOGIN: list[Turn] = [(b"USER u", b"+OK\r\n"), (b"PASS p", b"+OK\r\n")]
PIPELINING: Turn = (b"CAPA", b"+OK\r\nPIPELINING\r\n.\r\n")
# Seconds until a deadlock is a failure; nothing here waits for time to pass.
PATIENCE = 60
LOST = (trio.BrokenResourceError, trio.ClosedResourceError)


class Script:
    """A server that expects these lines and answers with those octets, one turn at a time."""

    def __init__(self, stream: trio.abc.Stream, turns: list[Turn]) -> None:
        self.stream = stream
        self.turns = turns
        self.received = b""
        self.ahead = 0  # commands that were sent before the reply to an earlier one
        self.endless = False
        self.closed_by_client = False

    async def run(self, greeting: bytes) -> None:
        await self.stream.send_all(greeting)
        for expected, reply in self.turns:
            assert await self.line() == expected
            await wait_all_tasks_blocked()
            self.ahead += bool(self.received)
            with suppress(*LOST):
                await self.stream.send_all(reply)
                while self.endless and expected == self.turns[-1][0]:
                    await self.stream.send_all(reply.partition(b"\r\n")[2] or reply)

    async def line(self) -> bytes:
        while b"\r\n" not in self.received:
            data = await self.stream.receive_some()
            assert data, f"the client left, having said {self.received!r}"
            self.received += data
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    async def expect_silence(self) -> None:
        """The client closes and has said nothing more."""
        with suppress(*LOST):
            assert self.received + await self.stream.receive_some() == b""
        self.closed_by_client = True


@asynccontextmanager
async def scripted(
    *turns: Turn,
    greeting: bytes = GREETING,
    greeted: bool = True,
    login: bool = True,
    endless: bool = False,
    eof: bool = False,
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair,
    **options: Any,
) -> AsyncIterator[tuple[Pop3Client, Script]]:
    """A client, greeted and logged in, and the server behind it."""
    ours, theirs = pair()
    script = Script(theirs, [*LOGIN, *turns] if login and greeted else list(turns))
    script.endless = endless

    async def play() -> None:
        await script.run(greeting)
        if eof:
            await theirs.aclose()
        else:
            await script.expect_silence()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            async with Pop3Client(ours, **options) as client:
                if greeted:
                    await client.greeting()
                    if login:
                        await client.login("u", "p")
                yield client, script


@asynccontextmanager
async def served(
    backend: MemoryBackend, *, theirs_at_once: int | random.Random = 65536, ours_at_once: int | random.Random = 65536
) -> AsyncIterator[Pop3Client]:
    """A client of our own server side, over streams on which `send_all` waits until all of it was received."""
    ours, theirs = lockstep_stream_pair()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_stream, Cut(theirs, theirs_at_once), backend)
            async with Pop3Client(Cut(ours, ours_at_once)) as client:
                await client.greeting()
                yield client


async def assert_broken(client: Pop3Client, script: Script) -> None:
    """Every later call says so, and the server has seen the end."""
    for call in (client.noop(), client.quit(), client.list(), client.fetch(1), client.pipeline([Noop()])):
        with pytest.raises(trio.BrokenResourceError):
            await call
    await wait_all_tasks_blocked()
    assert script.closed_by_client


def mailbox(*messages: bytes) -> MemoryBackend:
    backend = MemoryBackend()
    backend.add_user("u", "p")
    for message in messages:
        backend.deliver("u", message)
    return backend


LARGE = b"a line of text\r\n" * 20_000
