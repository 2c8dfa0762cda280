"""One connection without a listener."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trio_pop3
from trio_pop3.backend import ClientInfo
from trio_pop3.login import OpenGate
from trio_pop3.server import serve, serve_stream
from trio_pop3.server.stream import ConnectionOptions

from .driven import reason, summaries
from .encrypted import Authority
from .helpers import (
    LOCAL,
    LOGIN,
    PASSWORD,
    REMOTE,
    BusyBackend,
    Client,
    Script,
    StepCounter,
    contents,
    fail_in,
    hang_in,
    mail_for_fred,
)

DIALOGUE = LOGIN + b"RETR 1\r\nDELE 1\r\nQUIT\r\n"


class Served(Client):
    """The far end of a served stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.scope = trio.CancelScope()
        self.done = trio.Event()


@asynccontextmanager
async def served(backend: Any, **options: Any) -> AsyncIterator[Served]:
    """One connection in memory; leaving the block closes the client's end and waits for the server."""
    near, away = trio.testing.memory_stream_pair()
    far = Served(away)

    async def run() -> None:
        with far.scope:
            await serve_stream(near, backend, **{"client": LOCAL, **options})
        far.done.set()

    async with trio.open_nursery() as nursery, away:
        nursery.start_soon(run)
        yield far


class OneWay(trio.abc.Stream):
    """A stream that cannot half-close, as one over TLS."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._script.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._script.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._script.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._script.aclose()


# --- what it serves --------------------------------------------------------------------------------------------------


async def test_a_session(caplog: pytest.LogCaptureFixture) -> None:
    backend = mail_for_fred(b"one\n", b"two\n")
    script = Script(DIALOGUE)
    await trio_pop3.serve_stream(script, backend, client=LOCAL, banner="hello")
    replies = bytes(script.heard).split(b"\r\n")
    assert replies[0] == b"+OK hello"
    assert all(reply.startswith(b"+OK") for reply in (*replies[1:4], *replies[6:8]))
    assert replies[4:6] == [b"one", b"."]
    assert contents(backend) == [b"two\n"]
    assert script.closed
    assert reason(caplog) == "quit"


async def test_a_stream_that_cannot_half_close() -> None:
    """Served to the end; there is nothing to linger for, so that unread input does not keep it."""
    backend = mail_for_fred(b"one\n")
    script = Script(LOGIN + b"QUIT\r\n" + b"more\r\n" * 10)
    await serve_stream(OneWay(script), backend, client=LOCAL)
    assert script.heard.count(b"+OK") == 4
    assert script.closed
    assert not backend.locked("fred")


async def test_nothing_is_known_of_a_stream() -> None:
    """A stream is not believed to be safe, and two sessions never have the same name."""
    names = set()
    for _ in range(2):
        backend = BusyBackend(mail_for_fred())
        connected: list[ClientInfo] = []

        async def connect(client: ClientInfo, connected: list[ClientInfo] = connected) -> None:
            connected.append(client)

        backend.connect = connect  # type: ignore[method-assign]
        script = Script(LOGIN + b"QUIT\r\n")
        await serve_stream(script, backend)
        assert b"-ERR login without encryption is not allowed here\r\n" in script.heard
        (client,) = connected
        assert client.host is None
        assert not client.loopback
        names.add(client.session)
    assert len(names) == 2


async def test_a_socket_is_asked_who_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """Passwords are taken on loopback, as behind a listener."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    async with listener, await trio.open_tcp_stream("127.0.0.1", port) as away:
        near = await listener.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_stream, near, mail_for_fred(b"one\n"))
            client = Client(away)
            await client.login()
            assert (await client.ask(b"STAT")) == b"+OK 1 5\r\n"
            assert (await client.ask(b"QUIT")).startswith(b"+OK")
            assert await client.rest() == b""
    (line,) = summaries(caplog)
    assert " peer=127.0.0.1:" in line


async def test_a_socket_whose_peer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(sock: object, session: str) -> ClientInfo:
        raise OSError(107, "not connected")

    monkeypatch.setattr("trio_pop3.server.stream.client_info", gone)
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    async with listener, await trio.open_tcp_stream("127.0.0.1", port) as away:
        await serve_stream(await listener.accept(), mail_for_fred())
        assert await away.receive_some() == b""


async def test_implicit_tls(authority: Authority) -> None:
    backend = mail_for_fred(b"one\n")
    near, away = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        start = partial(serve_stream, near, backend, client=REMOTE, implicit_tls=True, tls=authority.tls)
        nursery.start_soon(start)
        secure = trio.SSLStream(away, authority.context(), server_hostname="localhost")
        client = Client(secure)
        await client.login()
        assert (await client.ask(b"STAT")) == b"+OK 1 5\r\n"
        assert (await client.ask(b"QUIT")).startswith(b"+OK")
        await trio.aclose_forcefully(secure)
    assert not backend.locked("fred")


# --- options ---------------------------------------------------------------------------------------------------------


def test_the_options_are_those_of_serve() -> None:
    """Same names, same types; what is left out concerns listeners, or many connections."""
    of_serve = {
        name: parameter.annotation
        for name, parameter in inspect.signature(serve, eval_str=True).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    ours = typing.get_type_hints(ConnectionOptions)
    assert ours.items() <= of_serve.items()
    assert of_serve.keys() - ours.keys() == {
        *("host", "port", "tls_port", "listen", "backlog", "tls_check_interval", "proxy_from", "xclient_from"),
        *("proxy_timeout", "max_connections", "max_connections_per_host", "shutdown", "task_status"),
    }


async def test_every_option_is_taken() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(serve).parameters.items()
        if name in ConnectionOptions.__annotations__
    }
    assert len(defaults) == len(ConnectionOptions.__annotations__)
    script = Script(b"CAPA\r\nQUIT\r\n")
    await serve_stream(script, mail_for_fred(), client=LOCAL, **defaults)
    assert b"\r\n.\r\n" in script.heard


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_connections": 3}, TypeError, "no option 'max_connections'"),
        ({"nonsense": 1}, TypeError, "no option 'nonsense'"),
        ({"idle_timeout": 5}, ValueError, "600"),
        ({"mechanisms": ["MAGIC"]}, ValueError, "MAGIC"),
        ({"implicit_tls": True}, ValueError, "needs tls"),
        ({"apop": True}, ValueError, "cannot"),
    ],
)
async def test_bad_options_are_refused_and_the_stream_closed(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    script = Script(DIALOGUE)
    with pytest.raises(error, match=text):
        await serve_stream(script, BusyBackend(mail_for_fred()), client=LOCAL, **options)
    assert script.closed
    assert not script.heard


async def test_what_is_no_backend_is_refused() -> None:
    script = Script()
    with pytest.raises(TypeError, match="authenticate"):
        await serve_stream(script, object(), client=LOCAL)  # type: ignore[arg-type]
    assert script.closed


async def test_languages_may_be_any_sequence() -> None:
    script = Script(b"LANG\r\nQUIT\r\n")
    await serve_stream(script, mail_for_fred(), client=LOCAL, languages=list(trio_pop3.Rules().languages))
    assert b"\r\nen " in script.heard


async def test_failed_logins_wait_on_one_connection(autojump_clock: trio.testing.MockClock) -> None:
    """A gate of its own: the second try waits, and the next connection does not know of it."""
    wrong = b"USER fred\r\nPASS wrong%d\r\n"
    for _ in range(2):
        start = trio.current_time()
        await serve_stream(Script(wrong % 1 + wrong % 2), mail_for_fred(), client=REMOTE, insecure_auth=True)
        assert trio.current_time() - start == pytest.approx(2)


async def test_a_gate_that_is_given_is_asked() -> None:
    asked: list[str] = []

    class Gate(OpenGate):
        async def enter(self, client: ClientInfo) -> None:
            asked.append(client.session)

    for _ in range(2):
        await serve_stream(Script(LOGIN), mail_for_fred(), client=LOCAL, gate=Gate())
    assert asked == ["a1", "a1"]


# --- ways out --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken_at", range(1, 6))
async def test_a_connection_that_breaks_raises_nothing(broken_at: int) -> None:
    """I1: whatever the peer does ends here."""
    backend = mail_for_fred(b"one\n")
    script = Script(LOGIN, b"DELE 1\r\n", b"junk" * 1000, broken_at=broken_at)
    await serve_stream(script, backend, client=LOCAL)
    assert script.closed
    assert contents(backend) == [b"one\n"]
    assert not backend.locked("fred")


@pytest.mark.parametrize("where", ["connect", "authenticate", "open", "retrieve", "read", "commit", "release"])
async def test_a_backend_that_fails_raises_nothing(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """I1: its words stay in the log."""
    script = Script(DIALOGUE)
    await serve_stream(script, BusyBackend(mail_for_fred(b"one\n"), fail_in(where)), client=LOCAL)
    assert script.closed
    assert b"inner words" not in script.heard
    assert "the inner words" in caplog.text
    assert PASSWORD not in caplog.text


async def test_an_exception_out_of_reach_of_the_session_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    text = "s3cret-Wort was said"

    class Odd(BaseException):
        pass

    class Broken(Script):
        async def send_eof(self) -> None:
            raise Odd(text)

        async def aclose(self) -> None:
            await super().aclose()
            raise Odd(text)

    script = Broken(LOGIN + b"QUIT\r\nmore\r\n")
    await serve_stream(script, mail_for_fred(), client=LOCAL)
    assert script.closed
    assert caplog.text.count("this should not have happened: Odd") == 2
    assert text not in caplog.text


async def test_a_stream_that_breaks_while_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Script):
        async def aclose(self) -> None:
            await super().aclose()
            raise trio.BrokenResourceError

    await serve_stream(Broken(LOGIN + b"QUIT\r\n"), mail_for_fred(), client=LOCAL)
    assert "should not have happened" not in caplog.text


async def test_closing_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    class Slow(Script):
        async def aclose(self) -> None:
            self.closed = True
            await trio.sleep_forever()

    script = Slow(LOGIN + b"QUIT\r\n")
    await serve_stream(script, mail_for_fred(), client=LOCAL)
    assert script.closed
    assert trio.current_time() == pytest.approx(5)


async def test_ctrl_c_is_plain_with_and_without_shutdown() -> None:
    for shutdown in (None, trio.Event()):

        async def interrupted(where: str) -> None:
            raise KeyboardInterrupt

        script = Script(LOGIN)
        with pytest.raises(KeyboardInterrupt):
            await serve_stream(script, BusyBackend(mail_for_fred(), interrupted), client=LOCAL, shutdown=shutdown)
        assert script.closed


async def test_cancelled_at_every_step_it_deletes_nothing_and_closes() -> None:
    """P1: without a QUIT there is nothing that a cancellation could delete; lock and stream are given back."""
    steps, cut = 0, 0
    while True:
        backend = mail_for_fred(b"one\n", b"two\n")
        script = Script(LOGIN, b"DELE 1\r\nRETR 2\r\n", room=False)
        scope = trio.CancelScope()

        def hook(step: int, at: int = steps, scope: trio.CancelScope = scope) -> None:
            if step == at:
                scope.cancel()

        counter = StepCounter(hook)
        done = trio.Event()

        async def run(
            script: Script = script, scope: trio.CancelScope = scope, backend: Any = backend, done: trio.Event = done
        ) -> None:
            with scope:
                await serve_stream(script, BusyBackend(backend), client=LOCAL, shutdown=trio.Event())
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            (counter.task,) = nursery.child_tasks
            trio.lowlevel.add_instrument(counter)
            await done.wait()
            trio.lowlevel.remove_instrument(counter)
        assert contents(backend) == [b"one\n", b"two\n"]
        assert not backend.locked("fred")
        assert script.closed
        if not scope.cancelled_caught and steps > counter.steps:
            break
        cut += scope.cancelled_caught
        steps += 1
    assert cut > 10


async def test_cancelled_while_the_store_hangs(autojump_clock: trio.testing.MockClock) -> None:
    """P1: a QUIT behind the command that hangs was not read."""
    backend = mail_for_fred(b"one\n", b"two\n")
    async with served(BusyBackend(backend, hang_in("read"))) as far:
        await far.login()
        await far.send(b"DELE 1\r\nRETR 2\r\nQUIT\r\n")
        await trio.testing.wait_all_tasks_blocked()
        far.scope.cancel()
        await far.done.wait()
        await far.rest()
    assert contents(backend) == [b"one\n", b"two\n"]
    assert not backend.locked("fred")


# --- shutdown --------------------------------------------------------------------------------------------------------


async def test_shutdown_ends_an_idle_connection_at_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend, shutdown = mail_for_fred(b"one\n"), trio.Event()
    async with served(backend, shutdown=shutdown) as far, served(backend, shutdown=shutdown) as other:
        await far.login()
        assert (await other.line()).startswith(b"+OK")
        await far.ask(b"DELE 1")
        shutdown.set()
        assert await far.rest() == await other.rest() == b""
    assert trio.current_time() == 0
    assert contents(backend) == [b"one\n"]
    assert not backend.locked("fred")
    assert all(line.endswith("reason=shutdown") for line in summaries(caplog))


async def test_shutdown_lets_a_command_finish(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(where: str) -> None:
        if where == "commit":
            await trio.sleep(10)

    backend, shutdown = mail_for_fred(b"one\n"), trio.Event()
    async with served(BusyBackend(backend, slow), shutdown=shutdown) as far:
        await far.login()
        await far.send(b"DELE 1\r\nQUIT\r\n")
        await trio.testing.wait_all_tasks_blocked()
        shutdown.set()
        assert (await far.rest()).count(b"+OK") == 2
    assert contents(backend) == []


async def test_drain_timeout(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    backend, shutdown = mail_for_fred(b"one\n"), trio.Event()
    hanging = BusyBackend(backend, hang_in("retrieve"))
    async with served(hanging, shutdown=shutdown, drain_timeout=7, command_timeout=math.inf) as far:
        await far.login()
        await far.send(b"RETR 1\r\n")
        await trio.testing.wait_all_tasks_blocked()
        shutdown.set()
        await far.rest()
        assert trio.current_time() == pytest.approx(7)
    assert not backend.locked("fred")
    assert reason(caplog) == "'cut off'"


async def test_shutdown_before_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    """Ends like a connection that was there, whatever its client does."""
    shutdown = trio.Event()
    shutdown.set()
    async with served(mail_for_fred(), shutdown=shutdown) as far:
        await far.rest()
        await far.done.wait()
    assert reason(caplog) == "shutdown"


async def test_a_connection_that_ends_by_itself_does_not_wait_for_shutdown() -> None:
    shutdown = trio.Event()
    with trio.fail_after(5):
        await serve_stream(Script(DIALOGUE), mail_for_fred(b"one\n"), client=LOCAL, shutdown=shutdown)
    assert not shutdown.is_set()
