"""Memory of idle logged-in connections: `python -m benchmarks.idle [CONNECTIONS]` (default 5000).

Prints resident memory per connection above the bare process. Exits 1 if it is more than 16 kB, the bar of the project.
"""

from __future__ import annotations

import resource
import socket
import sys

from .servers import PASSWORD, running

BAR = 16 * 1024


def log_in(port: int, number: int) -> socket.socket:
    """One connection, logged in."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(f"USER user{number}\r\nPASS {PASSWORD}\r\n".encode())
    replies = b""
    while replies.count(b"\r\n") < 3:
        received = sock.recv(4096)
        if not received:
            raise ConnectionError(f"the server closed connection {number}: {replies!r}")
        replies += received
    if replies.count(b"+OK") != 3:
        raise ConnectionError(f"login {number} failed: {replies!r}")
    return sock


def main() -> int:
    """Measure, print, judge."""
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running("trio_pop3") as server:
        # What a first session loads is the process's, not the session's.
        log_in(server.port, 0).close()
        before = server.resident()
        sockets = [log_in(server.port, number) for number in range(1, connections + 1)]
        each = (server.resident() - before) / connections
        print(f"{connections} idle logged-in connections: {each / 1024:.1f} kB each, over {before / 1e6:.0f} MB bare")
        # All of them are still alive.
        for sock in (sockets[0], sockets[-1]):
            sock.sendall(b"NOOP\r\n")
            assert sock.recv(64).startswith(b"+OK")
    return 0 if each <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
