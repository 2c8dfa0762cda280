"""CPU per operation, ours beside a raw trio stub in one run: `python -m benchmarks.operations [ROUNDS]` (default 5).

Rounds are interleaved; medians of server CPU microseconds per operation, and the ratio. Wall time says little on a
shared machine, CPU time and ratios say more.
"""

from __future__ import annotations

import socket
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack

from .servers import PASSWORD, SERVERS, Running, running

_LOGIN = f"USER user1\r\nPASS {PASSWORD}\r\n".encode()


def _read_lines(sock: socket.socket, lines: int) -> None:
    seen = 0
    while seen < lines:
        data = sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        seen += data.count(b"\n")


def _exchange(sock: socket.socket, request: bytes, replies: bytes) -> None:
    """Send a request and read replies that end in `replies`, as many times as it stands there."""
    sock.sendall(request)
    wanted, seen, tail = request.count(b"\n"), 0, b""
    while seen < wanted:
        data = sock.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        window = tail + data
        seen += window.count(replies)
        tail = window[-(len(replies) - 1) :]


def _logged_in(server: Running) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.sendall(_LOGIN)
    _read_lines(sock, 3)
    return sock


def sessions(server: Running, count: int) -> None:
    """Connect, USER, PASS, STAT, QUIT, one at a time."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            _read_lines(sock, 1)
            for line in (*_LOGIN.splitlines(keepends=True), b"STAT\r\n", b"QUIT\r\n"):
                sock.sendall(line)
                _read_lines(sock, 1)


def _repeat(request: bytes, replies: bytes) -> Callable[[Running, int], None]:
    def mode(server: Running, count: int) -> None:
        with _logged_in(server) as sock:
            for _ in range(count // request.count(b"\n")):
                _exchange(sock, request, replies)
            sock.sendall(b"QUIT\r\n")
            _read_lines(sock, 1)

    return mode


MODES: dict[str, tuple[Callable[[Running, int], None], int]] = {
    "session (USER PASS STAT QUIT)": (sessions, 500),
    "NOOP, one at a time": (_repeat(b"NOOP\r\n", b"\r\n"), 5_000),
    "NOOP, pipelined by 1000": (_repeat(b"NOOP\r\n" * 1_000, b"\r\n"), 100_000),
    "RETR 6 KB, one at a time": (_repeat(b"RETR 1\r\n", b"\r\n.\r\n"), 2_000),
    "RETR 6 KB, pipelined by 10": (_repeat(b"RETR 1\r\n" * 10, b"\r\n.\r\n"), 5_000),
}


def main() -> int:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    results: dict[tuple[str, str], list[float]] = {(mode, name): [] for mode in MODES for name in SERVERS}
    with ExitStack() as stack:
        servers = [stack.enter_context(running(name)) for name in SERVERS]
        for _ in range(rounds):
            for mode, (run, count) in MODES.items():
                for server in servers:
                    before = server.cpu_seconds()
                    run(server, count)
                    results[mode, server.name].append((server.cpu_seconds() - before) / count * 1e6)
    print(f"{'server CPU, microseconds each':32}" + "".join(f"{name:>16}" for name in SERVERS) + f"{'ratio':>8}")
    for mode in MODES:
        medians = [statistics.median(results[mode, name]) for name in SERVERS]
        print(f"{mode:32}" + "".join(f"{median:16.2f}" for median in medians) + f"{medians[0] / medians[1]:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
