"""A POP3 server on blocking sockets, a thread per client: the core and the session of trio_pop3, and no event loop.

    python blocking_server.py 1110

A backend that never waits, such as `MemoryBackend`, makes a coroutine that is done in one go.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from trio_pop3 import BodyBroken, ClientInfo, MemoryBackend, Multiline, Session
from trio_pop3 import sansio as io

T = TypeVar("T")
IDLE_SECONDS = 600  # RFC 1939 section 3: not less
BACKEND = MemoryBackend()
LOCK = threading.Lock()  # the backend is not made for threads


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        with LOCK:
            work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise RuntimeError("this backend waits for something: run it under an event loop")


class Connection(socketserver.BaseRequestHandler):
    """One client, in a thread of its own."""

    def handle(self) -> None:
        self.request.settimeout(IDLE_SECONDS)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = self.client_address
        core = io.Pop3Connection(io.Role.SERVER, utf8_user=True)
        session = Session(BACKEND, ClientInfo(f"{id(self):x}", host, port, loopback=host == "127.0.0.1"))
        try:
            self.request.sendall(core.send(run(session.greet())))
            while session.ended is None:
                event = core.next_event()
                if isinstance(event, io.Command | io.BadCommand):
                    self.answer(core, session, event)
                elif isinstance(event, io.ConnectionClosed):
                    break
                else:
                    core.receive_data(self.request.recv(65536))
        except (OSError, BodyBroken, io.LocalProtocolError):
            pass  # the client is gone or silent, or a message cannot be sent whole: nothing more is said
        finally:
            run(session.close(session.ended or "lost"))

    def answer(self, core: io.Pop3Connection, session: Session, event: io.Command | io.BadCommand) -> None:
        reply = run(session.respond(event))
        if not isinstance(reply, Multiline):
            self.request.sendall(core.send(reply))
            return
        try:
            self.request.sendall(core.send(reply.status))
            while (chunk := run(next_chunk(reply))) is not None:
                self.request.sendall(core.send(io.Data(chunk)))
            self.request.sendall(core.send(io.EndOfBody(reply.octets)))
            reply.sent()
        finally:
            run(reply.aclose())


async def next_chunk(reply: Multiline) -> bytes | None:
    return await anext(reply, None)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main(port: int) -> None:
    BACKEND.add_user("demo", "secret")
    BACKEND.deliver("demo", b"Subject: Hello\n\nThis is a thread.\n")
    BACKEND.deliver("demo", b"Subject: Dots\n\n.\n..\nThat was all.\n")
    with Server(("127.0.0.1", port), Connection) as server:
        print(f"Serving POP3 on 127.0.0.1:{server.server_address[1]}, user demo, password secret.", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1110)
