"""Running coroutines that never wait, and a whole server side over them: no event loop anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import pytest

from trio_pop3 import backend as be
from trio_pop3.auth.certificates import CertificateUsers
from trio_pop3.auth.first_of import FirstOf
from trio_pop3.backend import Backend, ClientInfo
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.credentials import AnonymousCredentials, ClientCertificate, Credentials, TokenCredentials
from trio_pop3.replies import BodyBroken, Multiline
from trio_pop3.rules import Rules
from trio_pop3.sansio import (
    NEED_DATA,
    BadCommand,
    Command,
    ConnectionClosed,
    Data,
    EndOfBody,
    LocalProtocolError,
    Pop3Connection,
    Role,
    State,
)
from trio_pop3.sansio.base64 import decode, encode
from trio_pop3.sasl import ClientExchange
from trio_pop3.session import Session

T = TypeVar("T")
CLIENT = ClientInfo("test", "127.0.0.1", 4711, loopback=True)
REMOTE = ClientInfo("far", "192.0.2.1", 4711)
CERTIFICATE = ClientCertificate({"subjectAltName": (("email", "alice"),)}, b"DER")
BINDING = ("tls-server-end-point", b"hash of the server's certificate")
TOKEN = "t0ken-of-alice"
OVER_TLS = replace(REMOTE, tls=True, tls_version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384")
BOUND = replace(OVER_TLS, end_point=BINDING[1], certificate=CERTIFICATE)

# What is for the session; everything else that a dialogue is given is a rule.
_OF_SESSION: Final = frozenset({"gate", "timestamp", "xclient", "checkpoint", "shielded", "aside"})


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("the coroutine waited for something")


class Interrupt(BaseException):
    """Stands for a cancellation of whatever runtime."""


class Waits:
    """Suspends whoever awaits it, once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def interrupted(work: Coroutine[Any, Any, object]) -> None:
    """Run to where the coroutine waits, and cancel it there."""
    work.send(None)
    with pytest.raises(Interrupt):
        work.throw(Interrupt())


class Dialogue:
    """Core and session on one backend: octets in, octets out. Options are those of `Session` and of `Rules`."""

    def __init__(self, backend: Backend, *, client: ClientInfo = CLIENT, **options: Any) -> None:
        self.rules = Rules(**{name: value for name, value in options.items() if name not in _OF_SESSION})
        self.connection = Pop3Connection(
            Role.SERVER,
            profile=self.rules.profile,
            space_in_user=self.rules.space_in_user,
            utf8_user=self.rules.utf8,
        )
        for_session = {name: value for name, value in options.items() if name in _OF_SESSION}
        self.session = Session(backend, client, self.rules, **for_session)
        self.greeting = self.connection.send(run(self.session.greet()))
        self.over = self.session.ended is not None
        self.broke_off = False

    def send(self, data: bytes) -> bytes:
        """What the server answers to these octets; b"" is the end of the stream."""
        sent = bytearray()
        if not self.over:
            self.connection.receive_data(data)
        while not self.over:
            event = self.connection.next_event()
            if not isinstance(event, Command | BadCommand | ConnectionClosed):
                assert event is NEED_DATA or self.tls_due
                break
            if isinstance(event, ConnectionClosed):
                self.close("client closed")
                break
            sent += self._answer(event)
            if self.session.ended is not None:
                self.close(self.session.ended)
        return bytes(sent)

    def ask(self, line: str | bytes) -> bytes:
        """One command, its reply."""
        return self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")

    def lines(self, line: str) -> list[str]:
        """The lines of a multi-line reply that is a listing."""
        status, *rows, end, nothing = self.ask(line).decode().split("\r\n")
        assert status.startswith("+OK ")
        assert (end, nothing) == (".", "")
        return rows

    def body(self, line: str) -> bytes:
        """The body of a multi-line reply, unstuffed."""
        status, _, rest = self.ask(line).partition(b"\r\n")
        assert status.startswith(b"+OK "), status
        assert rest == b".\r\n" or rest.endswith(b"\r\n.\r\n"), rest
        return (b"\r\n" + rest.removesuffix(b".\r\n")).replace(b"\r\n.", b"\r\n")[2:]

    def login(self, user: str = "alice", password: str = "secret") -> bytes:
        """USER and PASS; the reply to the second."""
        self.ask(f"USER {user}")
        return self.ask(f"PASS {password}")

    def auth(self, mechanism: str, client: ClientExchange, *, initial: bool = True) -> bytes:
        """An AUTH exchange to its end; the last reply. The client must be ready to believe a +OK."""
        response = next(client)
        if response.data is None or not initial:
            answer = self.ask(f"AUTH {mechanism}")
            if response.data is not None and answer == b"+ \r\n":
                answer = self.ask(encode(response.data))
        else:
            answer = self.ask(b"AUTH %b %b" % (mechanism.encode(), encode(response.data) or b"="))
        while answer.startswith(b"+ "):
            response = client.send(decode(answer[2:-2]))
            assert response.data is not None
            answer = self.ask(encode(response.data))
        assert response.complete or not answer.startswith(b"+OK")
        client.close()
        return answer

    @property
    def tls_due(self) -> bool:
        """Whether the +OK to STLS was sent."""
        return self.connection.state is State.TLS_PENDING

    def start_tls(self, **told: Any) -> None:
        """The handshake behind STLS, and what was learnt in it of the client."""
        self.session.tls_started(replace(self.session.client, tls=True, **told))
        self.connection.tls_started()

    def close(self, reason: str = "lost") -> None:
        """The connection is gone, however."""
        self.over = True
        run(self.session.close(reason))

    def _answer(self, event: Command | BadCommand) -> bytes:
        reply = run(self.session.respond(event))
        if not isinstance(reply, Multiline):
            return self.connection.send(reply)
        sent = self.connection.send(reply.status)
        try:
            sent += run(self._body(reply))
        except (BodyBroken, LocalProtocolError):
            self.broke_off = True
            self.close("broke off")
        return sent

    async def _body(self, reply: Multiline) -> bytes:
        sent = b""
        try:
            async for chunk in reply:
                assert len(chunk) <= 65536
                sent += self.connection.send(Data(chunk))
            sent += self.connection.send(EndOfBody(reply.octets))
            reply.sent()
            return sent
        finally:
            await reply.aclose()


class Store:
    """A backend that can be made to do anything."""

    def __init__(self, mail: Sequence[object] = (), content: Any = b"x") -> None:
        self.mail = mail
        self.content = content
        self.calls: list[str] = []
        self.fail: dict[str, BaseException] = {}

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        self._step("authenticate")
        return credentials.user

    async def open(self, user: str, client: ClientInfo) -> Store:
        self._step("open")
        return self

    @property
    def messages(self) -> Any:
        self._step("messages")
        return self.mail

    async def retrieve(self, message: be.MessageInfo) -> Any:
        self._step("retrieve")
        return self.content() if callable(self.content) else self.content

    async def commit(self, deleted: Sequence[be.MessageInfo]) -> None:
        self.calls.append(f"commit {[message.uid for message in deleted]}")
        if "commit" in self.fail:
            raise self.fail["commit"]

    async def release(self) -> None:
        self._step("release")


def info(number: int = 1, octets: int = 3) -> be.MessageInfo:
    """One message of a list."""
    return be.MessageInfo(f"uid{number}", octets)


def streamed(*chunks: Any, end: BaseException | None = None, closed: list[str] | None = None) -> Callable[[], Any]:
    """A content that is an async generator."""

    async def stream() -> AsyncIterator[Any]:
        try:
            for chunk in chunks:
                yield chunk
            if end is not None:
                raise end
        finally:
            if closed is not None:
                closed.append("closed")

    return stream


class CountingGate:
    """A gate that writes down who came and went, on a clock of its own; with `holds_up` it lets nobody through."""

    def __init__(self, *, holds_up: bool = False) -> None:
        self.holds_up = holds_up
        self.now = 0.0
        self.entered: list[ClientInfo] = []
        self.left: list[tuple[ClientInfo, Credentials | None, bool]] = []
        self.logins: dict[str, float] = {}
        self.delays: list[int] = []

    async def enter(self, client: ClientInfo) -> None:
        if self.holds_up:
            await Waits()
        self.entered.append(client)

    def leave(self, client: ClientInfo, credentials: Credentials | None, *, failed: bool) -> None:
        self.left.append((client, credentials, failed))
        assert len(self.left) <= len(self.entered)
        assert client in self.entered

    def since_login(self, user: str) -> float | None:
        return self.now - self.logins[user] if user in self.logins else None

    def logged_in(self, user: str, delay: int) -> None:
        self.logins[user] = self.now
        self.delays.append(delay)

    @property
    def verdicts(self) -> list[bool]:
        """Of every attempt that has ended, whether it failed. None may be left inside."""
        assert len(self.left) == len(self.entered)
        return [failed for _, _, failed in self.left]


class Tokens:
    """Knows one token, and whose it is."""

    login_methods = frozenset({"OAUTHBEARER", "XOAUTH2"})

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        assert isinstance(credentials, TokenCredentials)
        if credentials.token != TOKEN or credentials.user not in ("", "alice"):
            raise be.AuthenticationFailed
        return "alice"


class Anybody:
    """Lets everybody in who does not say who it is."""

    login_methods = frozenset({"ANONYMOUS"})

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        assert isinstance(credentials, AnonymousCredentials)
        return credentials.user


def everything(memory: MemoryBackend) -> Backend:
    """A backend that can check all there is, and the mail in memory."""
    memory.add_user("anonymous", "out of reach")
    return be.combine(FirstOf(memory, Tokens(), CertificateUsers(), Anybody()), memory)
