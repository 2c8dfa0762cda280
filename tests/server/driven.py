"""Scripted connections through a driver, and what was logged of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.login import OpenGate
from trio_pop3.server.driver import Driver
from trio_pop3.server.options import DEFAULTS, Options
from trio_pop3.server.serve import Server

from .helpers import LOCAL, Client, Pair, Script

MIB = 1024 * 1024
TOO_SLOW = b"-ERR [SYS/TEMP] the mail store takes too long\r\n"
INTERNAL = b"-ERR [SYS/TEMP] internal error, try again later\r\n"


def summaries(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The summary lines logged so far."""
    return [record.getMessage() for record in caplog.records if " reason=" in record.getMessage()]


def reason(caplog: pytest.LogCaptureFixture) -> str:
    """Why the only session ended."""
    (line,) = summaries(caplog)
    return line.partition(" reason=")[2]


def run_script(script: Script, backend: Any, options: Options = DEFAULTS, client: ClientInfo = LOCAL) -> bytes:
    """Run a whole connection without a second task; what the client heard."""

    async def main() -> None:
        await Driver(script, backend, client, options, gate=OpenGate()).run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return bytes(script.heard)


class Named:
    """A socket that has nothing but names."""

    def __init__(self, host: str, local: str) -> None:
        self.getpeername = lambda: (host, 4711)
        self.getsockname = lambda: (local, 110)


class Caller(Client):
    """The far end of a connection to a `Server`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.done = trio.Event()


@asynccontextmanager
async def calling(
    server: Server,
    host: str = "192.0.2.7",
    *,
    local: str = "192.0.2.1",
    tls: bool = False,
    proxy: bool = False,
    pair: Pair = trio.testing.memory_stream_pair,
) -> AsyncIterator[Caller]:
    """A connection to a server, through everything behind `accept`, in memory.

    Leaving the block closes the other end and waits for the server to be done with it.
    """
    near, away = pair()
    accepted: Any = near
    accepted.socket = Named(host, local)
    listener: Any = SimpleNamespace(tls=tls, proxy=proxy)
    caller = Caller(away)

    async def run() -> None:
        await server.places.acquire()
        try:
            async with near:
                await server.handle(listener, accepted)
        finally:
            caller.done.set()

    async with trio.open_nursery() as nursery, away:
        nursery.start_soon(run)
        yield caller
