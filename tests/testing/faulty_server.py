"""A server that is right but for one fault, on a real socket: what every conformance check has to find.

It is a `Dialogue` over memory, spoken to line by line in threads, and a `Fault` that has a word in everything: in how
lines are cut out of the stream, in the reply to each, in what happens at the end and in TLS.
"""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias

from trio_pop3 import ClientInfo, MemoryBackend, Rules
from trio_pop3.login import OpenGate
from trio_pop3.sansio import State
from trio_pop3.sasl import MECHANISMS
from trio_pop3.testing import Answer, Dialogue

from ..driving import run

USER, PASSWORD = "alice", "wonderland"
OTHER, OTHER_PASSWORD = "bob", "builder"
MAIL: Final = (
    b"Subject: one\r\n\r\n.dot\r\nsecond line\r\n",
    b"Subject: two\r\n\r\n" + b"".join(b"line %d\r\n" % number for number in range(20)),
    b"Subject: three\r\n\r\n",
    b"Subject: four\r\n\r\nlast\r\n",
)
CLIENT: Final = ClientInfo("faulty", "127.0.0.1", 4711, loopback=True)


class Clock:
    """Time that passes when somebody sleeps, and at no other time."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


CLOCK: Final = Clock()


class RememberingGate(OpenGate):
    """Knows when users logged in, and nothing else."""

    def __init__(self) -> None:
        self._logins: dict[str, float] = {}

    def since_login(self, user: str) -> float | None:
        return CLOCK.monotonic() - self._logins[user] if user in self._logins else None

    def logged_in(self, user: str, delay: int) -> None:
        self._logins[user] = CLOCK.monotonic()


@dataclass(kw_only=True)
class Fault:
    """What is wrong. Everything here is right by default.

    reply: the octets that a line is answered with; the line is None for the greeting.
    split: takes the next line, without its end, off what has come; None if there is none yet.
    at_end: what is said when the client has stopped sending, about what is left of a line.
    """

    reply: Callable[[Conversation, bytes | None], bytes] = lambda talk, line: talk.honest(line)
    split: Callable[[bytearray], bytes | None] = lambda data: _line(data)
    at_end: Callable[[Conversation, bytes], bytes] = lambda talk, rest: b""
    rules: Mapping[str, Any] = field(default_factory=dict)
    gate: Callable[[], OpenGate] = OpenGate
    timestamp: bool = True
    others_mail: tuple[bytes, ...] = ()  # what bob has
    flushes: str = ""  # a regex would be too much: after this verb, what has come behind it is thrown away
    keeps_input: bool = False  # over STLS
    speaks_for_handshake: bool = False  # answers in clear where a handshake is due
    waits_for_end: bool = False  # throws away what came right before the end
    closes_rudely: bool = False  # TLS, without its alert
    tls_versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None
    many: bool = False  # whether it cannot but make many checks fail


def _line(data: bytearray) -> bytes | None:
    line, end, rest = data.partition(b"\r\n")
    if not end:
        return None
    data[:] = rest
    return bytes(line)


class Conversation:
    """One connection."""

    def __init__(self, server: FaultyServer, number: int) -> None:
        self.server = server
        self.number = number
        self.memory: dict[str, Any] = {}  # the fault's own
        self.lines: list[bytes] = []  # so far
        self.encrypted = server.implicit
        self.closing = False
        self.dialogue = self._dialogue()

    def _dialogue(self) -> Dialogue:
        fault = self.server.fault
        rules = Rules(
            stls=not self.server.implicit,
            apop=fault.timestamp,
            mechanisms=MECHANISMS,
            insecure_auth=True,
            profile=self.server.profile,
            **fault.rules,
        )
        return Dialogue(
            self.server.backend,
            client=replace(CLIENT, tls=self.encrypted),
            rules=rules,
            gate=self.server.gate,
            timestamp=f"<{self.server.stamp()}@localhost>" if fault.timestamp else None,
        )

    @property
    def inside(self) -> bool:
        """Whether somebody has logged in."""
        return self.dialogue.session.user is not None

    @property
    def exchanging(self) -> bool:
        """Whether the next line is a SASL response."""
        return self.dialogue.connection.state is State.AUTHENTICATING

    @property
    def last(self) -> bytes:
        """The line before this one; b"" if there was none."""
        return self.lines[-1] if self.lines else b""

    def honest(self, line: bytes | None) -> bytes:
        """The right reply, and what it does."""
        if line is None:
            return run(_octets(self.dialogue.greet()))
        self.dialogue.receive_data(line + b"\r\n")
        said = b""
        while (answer := self.dialogue.next_answer()) is not None:
            said += run(_octets(answer))
        return said

    def tls_is_up(self) -> None:
        self.encrypted = True
        self.dialogue.tls_started(replace(CLIENT, tls=True))

    def close(self) -> None:
        run(self.dialogue.close())


async def _octets(answer: Answer) -> bytes:
    return b"".join([piece async for piece in answer])


class FaultyServer(socketserver.ThreadingTCPServer):
    """Listens on a free port of this machine until the block is left."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, fault: Fault, certificate: Callable[[], ssl.SSLContext], *, implicit: bool, profile: Any
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault: Final = fault
        self.implicit: Final = implicit
        self.profile: Final = profile
        self.backend: Final = MemoryBackend()
        self.gate: Final = fault.gate()
        self.memory: dict[str, Any] = {}  # the fault's own, for all connections
        self.lock: Final = threading.Lock()
        self.context: Final = certificate()
        if fault.tls_versions:
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what some faults are about
                self.context.minimum_version, self.context.maximum_version = fault.tls_versions
        self.heard: Final[list[bytes]] = []
        self.idle: Final = threading.Condition()
        self.active = 0  # connections
        self._count = 0
        self.backend.add_user(USER, PASSWORD)
        self.backend.add_user(OTHER, OTHER_PASSWORD)
        self.fill()

    def fill(self) -> None:
        """Put the mail back to what it was, once nobody is in there any more."""
        with self.idle:
            self.idle.wait_for(lambda: not self.active, 2)
        for user, messages in ((USER, MAIL), (OTHER, self.fault.others_mail)):
            mail = self.backend._mail[user]
            if [message for _, message in mail.values()] != list(messages):
                mail.clear()
                for message in messages:
                    self.backend.deliver(user, message)

    def stamp(self) -> str:
        self._count += 1
        return f"{self._count}.{id(self)}"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news; anything else is a bug of this server."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(socketserver.BaseRequestHandler):
    server: FaultyServer
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream: socket.socket = self.request
        with self.server.idle:
            self.server.active += 1
        try:
            self._serve()
        finally:
            with self.server.idle:
                self.server.active -= 1
                self.server.idle.notify_all()

    def _serve(self) -> None:
        server = self.server
        if server.implicit:
            self._handshake()
        with server.lock:
            server._count += 1
            self.talk = talk = Conversation(server, server._count)
        try:
            self._say(lambda: server.fault.reply(talk, None))
            self._converse()
        finally:
            with server.lock:
                talk.close()
            self._hang_up()

    def _converse(self) -> None:
        fault, talk = self.server.fault, self.talk
        data = bytearray()
        while not talk.closing:
            received = self.stream.recv(65536)
            if fault.waits_for_end and received.count(b"\r\n") > 2 and self._ends_now():
                return
            if not received:
                rest = bytes(data)
                self._say(partial(fault.at_end, talk, rest))
                return
            self.server.heard.append(received)
            data += received
            while not talk.closing and (line := fault.split(data)) is not None:
                self._answer(line)
                if fault.flushes and line.upper().startswith(fault.flushes.encode()):
                    data.clear()
                if talk.dialogue.tls_due and not self._upgrade(data):
                    return

    def _answer(self, line: bytes) -> None:
        talk = self.talk

        def reply() -> bytes:
            said = self.server.fault.reply(talk, line)
            talk.lines.append(line)
            talk.closing = talk.closing or talk.dialogue.over
            return said

        self._say(reply)

    def _say(self, reply: Callable[[], bytes]) -> None:
        with self.server.lock:
            said = reply()
        if said:
            self.stream.sendall(said)

    def _upgrade(self, data: bytearray) -> bool:
        """The handshake behind STLS; whether there was one."""
        fault = self.server.fault
        if fault.speaks_for_handshake and b"NOOP" in self.stream.recv(64, socket.MSG_PEEK):
            self.stream.sendall(b"-ERR no handshake\r\n")
            return False
        kept = bytes(data) if fault.keeps_input else b""
        data.clear()
        self._handshake()
        self.talk.tls_is_up()
        data += kept
        while (line := fault.split(data)) is not None:
            self._answer(line)
        return True

    def _handshake(self) -> None:
        self.stream = self.server.context.wrap_socket(self.request, server_side=True)

    def _ends_now(self) -> bool:
        readable, _, _ = select.select([self.request], [], [], 0.05)
        return bool(readable) and not self.request.recv(1, socket.MSG_PEEK)

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            if isinstance(self.stream, ssl.SSLSocket) and not self.server.fault.closes_rudely:
                self.stream.unwrap()
            self.stream.shutdown(socket.SHUT_WR)
            self.stream.settimeout(1)
            while self.stream.recv(65536):
                continue
        self.stream.close()


@contextlib.contextmanager
def serving(
    fault: Fault, certificate: Callable[[], ssl.SSLContext], *, implicit: bool, profile: Any
) -> Iterator[FaultyServer]:
    """The server, in a thread."""
    with FaultyServer(fault, certificate, implicit=implicit, profile=profile) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# --- how faults are written ------------------------------------------------------------------------------------------

Reply: TypeAlias = Callable[[Conversation, bytes | None], bytes]
