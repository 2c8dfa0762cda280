"""Servers under measurement, each in a process of its own so that its CPU time and memory can be read from outside."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import psutil
import trio

from trio_pop3 import MemoryBackend, Pop3Listener, serve

USERS = 5_200
PASSWORD = "benchmark"
SMALL = b"Subject: small\r\n\r\n" + b"a line of sixty-four octets, as mail has them, with its end.  \r\n" * 92


def backend() -> MemoryBackend:
    """Many users, ten messages of about 6 KB each for the first hundred."""
    mail = MemoryBackend()
    for number in range(USERS):
        mail.add_user(f"user{number}", PASSWORD)
        for _ in range(10 if number < 100 else 1):
            mail.deliver(f"user{number}", SMALL)
    return mail


async def run_ours(report: Callable[[int], object]) -> None:
    """The real server on a free port of loopback."""
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[list[Pop3Listener]]) -> None:
            await serve(mail, listen=["127.0.0.1:0"], max_connections=6_000, task_status=task_status)

        mail = backend()
        listeners = await nursery.start(start)
        report(listeners[0].port)


async def run_stub(report: Callable[[int], object]) -> None:
    """The least that answers at all: trio streams, a split at line ends, canned replies. A floor, not a server."""
    retr = b"+OK\r\n" + SMALL + b".\r\n"

    async def handle(stream: trio.SocketStream) -> None:
        await stream.send_all(b"+OK ready\r\n")
        rest = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                *lines, rest = (rest + data).split(b"\r\n")
                await stream.send_all(b"".join(retr if line.startswith(b"RETR") else b"+OK\r\n" for line in lines))
                if b"QUIT" in lines:
                    return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        report(listeners[0].socket.getsockname()[1])


SERVERS: dict[str, Callable[[Callable[[int], object]], Awaitable[None]]] = {
    "trio_pop3": run_ours,
    "raw trio stub": run_stub,
}


@dataclass(frozen=True)
class Running:
    """A server process that accepts connections."""

    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Time on a processor so far, all threads together; the usual figures come in ticks of 10 ms."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def resident(self) -> int:
        """Octets of resident memory."""
        return int(self.process.memory_info().rss)


@contextlib.contextmanager
def running(name: str) -> Iterator[Running]:
    """Start a server; it is killed at the end of the block."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        try:
            trio.run(SERVERS[name], lambda port: os.write(writer, b"%d\n" % port))
        finally:
            sys.stderr.flush()
            os._exit(1)
    os.close(writer)
    try:
        with open(reader, "rb") as lines:
            port = int(lines.readline())
        yield Running(name, port, psutil.Process(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
