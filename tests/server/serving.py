"""A server on real sockets of this machine, for tests."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from trio_pop3.server import Pop3Listener, open_listeners, serve
from trio_pop3.server.serve import Server

from .helpers import Client


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until something is so that nobody tells of."""
    while not condition():  # what is waited for happens in the kernel
        await trio.lowlevel.checkpoint()


class Running:
    """A server under test."""

    def __init__(
        self, listeners: list[Pop3Listener], nursery: trio.Nursery, shutdown: trio.Event, done: trio.Event
    ) -> None:
        self.listeners = listeners
        self.nursery = nursery
        self.shutdown = shutdown
        self.done = done

    @asynccontextmanager
    async def client(self, which: int = 0) -> AsyncIterator[Client]:
        """A connection that has said and heard nothing yet."""
        listener = self.listeners[which]
        if listener.port is None:
            stream = await trio.open_unix_socket(listener.address.removeprefix("unix:"))
        else:
            host, _, _ = listener.address.rpartition(":")
            stream = await trio.open_tcp_stream(host.strip("[]"), listener.port)
        async with stream:
            yield Client(stream)

    @property
    def places(self) -> trio.Semaphore:
        places = self.listeners[0].places
        assert places is not None
        return places

    async def idle(self) -> None:
        """Wait until every place is free again."""
        await until(lambda: self.places.value == self.places.max_value)


@asynccontextmanager
async def serving(backend: Any, *listen: Any, **options: Any) -> AsyncIterator[Running]:
    """A running server; cancelled at the end of the block. Nothing here may take longer than 20 s."""
    shutdown = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def run(task_status: trio.TaskStatus[list[Pop3Listener]]) -> None:
                addresses = listen or ["127.0.0.1:0"]
                try:
                    await serve(backend, listen=addresses, shutdown=shutdown, task_status=task_status, **options)
                finally:
                    done.set()

            yield Running(await nursery.start(run), nursery, shutdown, done)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def handling(server: Server) -> AsyncIterator[Running]:
    """One listener in front of a `Server`, whose counters can then be looked at."""
    listeners = await open_listeners(["127.0.0.1:0"])
    listeners[0].places = server.places
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, partial(server.handle, listeners[0]), listeners)
            yield Running(listeners, nursery, trio.Event(), trio.Event())
            nursery.cancel_scope.cancel()


def reset(client: Client) -> None:
    """Close with a reset instead of an end of stream."""
    assert isinstance(client.stream, trio.SocketStream)
    client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.stream.socket.close()


def hears_nothing(client: Client) -> bool:
    """Whether the kernel holds nothing for a client at this moment."""
    assert isinstance(client.stream, trio.SocketStream)
    try:
        os.read(client.stream.socket.fileno(), 1)
    except BlockingIOError:
        return True
    return False
