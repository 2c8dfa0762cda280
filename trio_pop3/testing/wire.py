"""Connections to a server for synchronous code: over TCP and TLS, or to a backend in memory, with no socket at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import Any, Final, Protocol

from trio_pop3 import Backend

from .dialogue import Answer, Dialogue
from .portal import Portal

_RECEIVE_OCTETS: Final = 64 * 1024
# How many times as long as for the next octets to wait for all that is said after one turn of ours; and how many octets
# a second are worth waiting longer for: a large message on a slow line. Some a minute, for ever, are not.
_TURN: Final = 10
_SLOWEST_LINE: Final = 4096
NO_END: Final = "the server is slow to no end"
# What a kernel and OpenSSL say of octets for those who have closed.
_GONE: Final = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Silent(AssertionError):
    """The server owes something and says nothing."""


class Wire(Protocol):
    """One connection, as a client has it. It is open when it is made."""

    def send(self, data: bytes) -> None:
        """Send octets in one piece. What the server has closed already takes them and says nothing.

        Raises Silent if the server does not take them.
        """
        ...

    def receive(self) -> bytes:
        """Some octets, at least one; b"" if the server has closed. Raises Silent if none come."""
        ...

    def finish(self) -> None:
        """Send no more: the server sees the end of the stream; in TLS, one without the alert that belongs to it."""
        ...

    def start_tls(self) -> None:
        """The handshake behind STLS. Raises ssl.SSLError, or OSError, if there is none to be had."""
        ...

    def close(self) -> None:
        """Drop the connection without a word. May be called again."""
        ...


class SocketWire:
    """A connection over TCP.

    Args:
        host, port: where the server is.
        tls: what to check its certificate with, in TLS from the beginning and in STLS.
        implicit: whether the connection begins with TLS.
        timeout: seconds to wait for a connection, and for octets that are due; may be set anew. For all that the server
            says between two turns of ours ten times as many, and a second more for every 4096 octets.

    Raises OSError if there is no connection to be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        timeout: float = 10.0,
    ) -> None:
        self._tls = tls
        self._host = host
        self.timeout = timeout
        self.truncated = False  # whether TLS ended without the alert that says so (RFC 8314 section 3.4)
        self._socket = socket.create_connection((host, port), timeout)
        self._begin_turn()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if implicit:
            try:
                self.start_tls()
            except OSError:
                self.close()
                raise

    def send(self, data: bytes) -> None:
        self._begin_turn()
        self._socket.settimeout(self.timeout)
        try:
            with contextlib.suppress(*_GONE):
                self._socket.sendall(data)
        except TimeoutError:
            raise Silent(f"the server took nothing for {self.timeout:g} s") from None

    def receive(self) -> bytes:
        rest = self._turn_begins + self.timeout * _TURN + self._received / _SLOWEST_LINE - time.monotonic()
        self._socket.settimeout(max(0.001, min(self.timeout, rest)))
        try:
            data = self._socket.recv(_RECEIVE_OCTETS)
        except TimeoutError:
            if rest < self.timeout:
                raise Silent(f"{NO_END}: it has said {self._received} octets, and is not done") from None
            raise Silent(f"the server said nothing for {self.timeout:g} s") from None
        except ssl.SSLEOFError:
            self.truncated = True
            return b""
        except ConnectionResetError:
            self.truncated = isinstance(self._socket, ssl.SSLSocket)
            return b""
        self._received += len(data)
        return data

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            # That of a socket in TLS would give up TLS in the other direction, too.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def start_tls(self) -> None:
        if self._tls is None:
            raise ssl.SSLError("no TLS context was given to this wire")
        self._socket = self._tls.wrap_socket(self._socket, server_hostname=self._host, suppress_ragged_eofs=False)

    def close(self) -> None:
        self._socket.close()

    def _begin_turn(self) -> None:
        """What the server says from now on is its answer."""
        self._turn_begins = time.monotonic()
        self._received = 0


class MemoryWire:
    """A connection to a backend: the core, the session, and nothing between.

    The backend runs in the loop of `portal`. Options are those of `Dialogue`.
    """

    def __init__(self, portal: Portal, backend: Backend, **options: Any) -> None:
        self._portal: Final = portal
        self._dialogue: Final = Dialogue(backend, **options)
        self._said = bytearray()
        self._closed = False
        self._portal.run(self._take, self._dialogue.greet())
        if self._dialogue.over:
            self.close()

    def send(self, data: bytes) -> None:
        if self._closed:
            return
        # The core needs no loop; only what is a whole command does.
        self._dialogue.receive_data(data)
        while (answer := self._dialogue.next_answer()) is not None:
            self._portal.run(self._take, answer)
        if self._dialogue.over:
            self.close()

    def receive(self) -> bytes:
        said, self._said = bytes(self._said), bytearray()
        if not said and not self._closed:
            raise Silent("the server said nothing")
        return said

    def finish(self) -> None:
        self.send(b"")

    def start_tls(self) -> None:
        raise ssl.SSLError("there is no TLS in memory")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._portal.run(self._dialogue.close)

    async def _take(self, answer: Answer) -> None:
        async for piece in answer:
            self._said += piece
