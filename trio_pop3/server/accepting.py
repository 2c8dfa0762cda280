"""Accepting connections until it is time to stop, and then letting each finish what it is doing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol

import trio

from .listeners import Pop3Listener

logger = logging.getLogger("trio_pop3.server")


class Accepting(Protocol):
    """A server: what all its connections share."""

    @property
    def places(self) -> trio.Semaphore:
        """Connections it has room for; `handle` gives back the one that was taken for it."""
        ...

    async def handle(self, listener: Pop3Listener, stream: trio.SocketStream, /) -> None:
        """One connection. Raises nothing but cancellation."""
        ...

    def drain(self) -> None:
        """Let every connection finish what it is doing."""
        ...


async def accept_until(
    shutdown: trio.Event,
    server: Accepting,
    listeners: list[Pop3Listener],
    task_status: trio.TaskStatus[list[Pop3Listener]],
    *,
    drain_timeout: float,
    beside: Iterable[Callable[[], Awaitable[None]]] = (),
) -> None:
    """Accept until `shutdown`, in a nursery inside that of the connections, so that one can end before the other.

    `beside`: what else runs until then. What is not done `drain_timeout` seconds after `shutdown` is cancelled.
    """
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                listener.places = server.places
                handle = partial(server.handle, listener)
                await accepting.start(partial(trio.serve_listeners, handle, [listener], handler_nursery=connections))
            for task in beside:
                accepting.start_soon(task)
            addresses = ", ".join(str(listener) for listener in listeners)
            logger.info("listening on %s", addresses)
            task_status.started(listeners)
            await shutdown.wait()
            accepting.cancel_scope.cancel()
        logger.info("shutting down, %d connections open on %s", len(connections.child_tasks), addresses)
        server.drain()
        connections.cancel_scope.deadline = trio.current_time() + drain_timeout
