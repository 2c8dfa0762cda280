"""A POP3 server on asyncio: the core and the session of trio_pop3, and no trio. Serves two messages to demo/secret.

    python asyncio_server.py 1110

What the real server has besides: TLS, limits, penalties, draining, reload (`trio_pop3.serve`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from trio_pop3 import Backend, BodyBroken, ClientInfo, MemoryBackend, Multiline, Session
from trio_pop3 import sansio as io

IDLE_SECONDS = 600  # RFC 1939 section 3: not less
COMMIT_SECONDS = 120


async def shielded(work: Callable[[], Awaitable[None]]) -> None:
    """A commit that has begun is finished, also if the connection's task is cancelled meanwhile."""
    task = asyncio.ensure_future(work())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=COMMIT_SECONDS)
        raise


class Connection:
    """One client: octets in, octets out."""

    def __init__(self, backend: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        host, port = writer.get_extra_info("peername")[:2]
        client = ClientInfo(f"{id(self):x}", host, port, loopback=host in ("127.0.0.1", "::1"))
        self.core = io.Pop3Connection(io.Role.SERVER, utf8_user=True)
        self.session = Session(backend, client, checkpoint=lambda: asyncio.sleep(0), shielded=shielded)

    async def run(self) -> None:
        try:
            await self.send(self.core.send(await self.session.greet()))
            while self.session.ended is None:
                event = self.core.next_event()
                if isinstance(event, io.Command | io.BadCommand):
                    await self.answer(event)
                elif isinstance(event, io.ConnectionClosed):
                    break
                else:
                    assert event is io.Signal.NEED_DATA
                    self.core.receive_data(await asyncio.wait_for(self.reader.read(65536), IDLE_SECONDS))
        except (OSError, TimeoutError, BodyBroken, io.LocalProtocolError):
            pass  # the client is gone or silent, or a message cannot be sent whole: nothing more is said
        finally:
            await self.session.close(self.session.ended or "lost")
            self.writer.close()

    async def answer(self, event: io.Command | io.BadCommand) -> None:
        reply = await self.session.respond(event)
        if not isinstance(reply, Multiline):
            await self.send(self.core.send(reply))
            return
        try:
            await self.send(self.core.send(reply.status))
            async for chunk in reply:
                await self.send(self.core.send(io.Data(chunk)))
            await self.send(self.core.send(io.EndOfBody(reply.octets)))
            reply.sent()
        finally:
            await reply.aclose()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()  # a slow reader slows us, and memory stays small


async def main(port: int) -> None:
    backend = MemoryBackend()
    backend.add_user("demo", "secret")
    backend.deliver("demo", b"Subject: Hello\n\nThis is asyncio.\n")
    backend.deliver("demo", b"Subject: Dots\n\n.\n..\nThat was all.\n")
    server = await asyncio.start_server(lambda *streams: Connection(backend, *streams).run(), "127.0.0.1", port)
    print(f"Serving POP3 on 127.0.0.1:{server.sockets[0].getsockname()[1]}, user demo, password secret.", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1110))
