"""The shortest server there can be: core and session on a stream. And streams that cut what goes through them."""

from __future__ import annotations

import random

import trio

from trio_pop3.backend import Backend, ClientInfo
from trio_pop3.replies import Multiline
from trio_pop3.sansio import NEED_DATA, BadCommand, Command, Data, EndOfBody, Pop3Connection, Role
from trio_pop3.session import Session

TIMESTAMP = "<1896.697170952@dbc.mtview.ca.us>"


async def serve_stream(stream: trio.abc.Stream, backend: Backend) -> None:
    """One session from greeting to release, with no timeout at all. Closes the stream, also when cancelled."""
    connection = Pop3Connection(Role.SERVER)
    session = Session(backend, ClientInfo("test", "127.0.0.1", 4711, loopback=True), timestamp=TIMESTAMP)

    async def answer(event: Command | BadCommand) -> None:
        reply = await session.respond(event)
        if not isinstance(reply, Multiline):
            await stream.send_all(connection.send(reply))
            return
        try:
            await stream.send_all(connection.send(reply.status))
            async for chunk in reply:
                await stream.send_all(connection.send(Data(chunk)))
            await stream.send_all(connection.send(EndOfBody(reply.octets)))
            reply.sent()
        finally:
            await reply.aclose()

    async with stream:
        try:
            await stream.send_all(connection.send(await session.greet()))
            while session.ended is None:
                event = connection.next_event()
                if event is NEED_DATA:
                    connection.receive_data(await stream.receive_some())
                elif isinstance(event, Command | BadCommand):
                    await answer(event)
                else:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left
        finally:
            with trio.move_on_after(5, shield=True):
                await session.close("over")


class Cut(trio.abc.Stream):
    """A stream from which one gets only a few octets at a time: so many, or as many as chance says."""

    def __init__(self, stream: trio.abc.Stream, at_once: int | random.Random) -> None:
        self._stream = stream
        self._at_once = at_once

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if isinstance(self._at_once, int):
            return await self._stream.receive_some(self._at_once)
        return await self._stream.receive_some(self._at_once.choice([1, 2, 3, 5, 17, 4000]))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
