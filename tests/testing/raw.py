"""A client that knows nothing of POP3: a socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

from trio_pop3.testing import Pop3TestServer

LOGIN = b"USER alice\r\nPASS secret\r\n"
GREETING = b"+OK POP3 server ready\r\n"
# What is said to LOGIN with one message of so many octets.
LOGGED_IN = b"+OK send PASS\r\n+OK maildrop has 1 message (%d octets)\r\n"
GOODBYE = b"+OK goodbye\r\n"


@contextlib.contextmanager
def connected(server: Pop3TestServer, *, tls: bool = False) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.tls_port if tls else server.port), 10) as plain:
        if not tls:
            yield plain
            return
        with server.client_context.wrap_socket(plain, server_hostname=server.host) as secure:
            yield secure


def rest_of(connection: socket.socket) -> bytes:
    """Everything up to the end."""
    heard = bytearray()
    with contextlib.suppress(ssl.SSLEOFError):
        while data := connection.recv(65536):
            heard += data
    return bytes(heard)


def hear(server: Pop3TestServer, said: bytes) -> bytes:
    """Say all at once, and nothing more; what is heard until the server closes."""
    with connected(server) as connection:
        with contextlib.suppress(OSError):  # it may have closed already
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
        return rest_of(connection)
