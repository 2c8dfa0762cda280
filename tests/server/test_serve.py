"""`serve` over real sockets: how it starts and how it stops."""

from __future__ import annotations

import errno
import inspect
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.rules import Rules
from trio_pop3.sansio import Profile
from trio_pop3.sasl import MECHANISMS
from trio_pop3.server import Pop3Listener, open_listeners, serve
from trio_pop3.server.options import DEFAULTS, Options, make_options
from trio_pop3.server.serve import Server, check_backend_shape

from .helpers import PASSWORD, USER, BusyBackend, Client, contents, mail_for_fred
from .serving import handling, serving, until

# The module, which the function hides.
MODULE = inspect.getmodule(serve)
TIMESTAMPED = re.compile(rb"\+OK POP3 server ready (<[0-9a-f]{32}@mail\.example\.org>)\r\n")


# --- starting --------------------------------------------------------------------------------------------------------


async def test_start_returns_listeners() -> None:
    """J3: `nursery.start` returns once connections are accepted, and says where."""
    async with serving(mail_for_fred(b"one\n")) as running:
        (listener,) = running.listeners
        assert listener.port
        assert listener.address == f"127.0.0.1:{listener.port}"
        async with running.client() as client:
            await client.login()
            assert await client.ask(b"STAT") == b"+OK 1 5\r\n"
            assert await client.ask(b"QUIT") == b"+OK goodbye\r\n"
            assert await client.rest() == b""


async def test_host_and_port() -> None:
    """J3: without `listen`, `host` and `port` say where."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(serve, mail_for_fred(), host="127.0.0.1", port=0))
            assert [listener.address for listener in listeners] == [f"127.0.0.1:{listeners[0].port}"]
            nursery.cancel_scope.cancel()


async def test_both_families_have_one_port() -> None:
    """J3: dual stack."""
    async with serving(mail_for_fred(), ":0") as running:
        assert len({listener.port for listener in running.listeners}) == 1
        for address in ("127.0.0.1", "::1"):
            async with await trio.open_tcp_stream(address, running.listeners[0].port or 0) as stream:
                assert (await Client(stream).line()).startswith(b"+OK")


async def test_several_listeners(tmp_path: Path) -> None:
    """TCP, UNIX and sockets that are open already, all at once; a login from a UNIX socket is local."""
    (opened,) = await open_listeners(["127.0.0.1:0"])
    (bare,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with serving(mail_for_fred(), f"unix:{tmp_path}/pop3", "[::1]:0", opened, bare) as running:
        assert len(running.listeners) == 4
        assert opened in running.listeners
        for which in range(4):
            async with running.client(which) as client:
                await client.login()
                await client.ask(b"QUIT")
                assert await client.rest() == b""
    assert not (tmp_path / "pop3").exists()


def test_plain_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """R1939-01: `trio.run(serve, backend)` asks for port 110 of every address; what goes wrong comes out as it is."""
    asked: list[tuple[str | None, int]] = []

    async def open_tcp(host: str | None, port: int, *, backlog: int | None) -> list[Pop3Listener]:
        asked.append((host, port))
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    monkeypatch.setattr(MODULE, "open_tcp", open_tcp)
    with pytest.raises(OSError, match="in use"):
        trio.run(serve, mail_for_fred())
    assert asked == [(None, 110)]


def test_run_until_shutdown() -> None:
    """J1: `trio.run` returns when `shutdown` is set and nobody is left."""
    shutdown = trio.Event()
    shutdown.set()
    trio.run(partial(serve, mail_for_fred(), host="127.0.0.1", port=0, shutdown=shutdown))


async def test_port_in_use(tmp_path: Path) -> None:
    """OSError, and neither what was opened before it nor what was passed in stays open."""
    async with serving(mail_for_fred()) as running:
        (mine,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listen: list[Any] = [f"unix:{tmp_path}/pop3", mine, running.listeners[0].address]
        with pytest.raises(OSError, match="in use"):
            await serve(mail_for_fred(), listen=listen)
        assert mine.socket.fileno() == -1
        assert not (tmp_path / "pop3").exists()
        with pytest.raises(OSError, match="in use"):
            await serve(mail_for_fred(), host="127.0.0.1", port=running.listeners[0].port or 0)


@pytest.mark.parametrize("listen", [[], "127.0.0.1:0", ["nonsense"], ["127.0.0.1:0", ""]])
async def test_bad_addresses(listen: Any) -> None:
    with pytest.raises(ValueError, match=r"listen|address|HOST:PORT"):
        await serve(mail_for_fred(), listen=listen)


async def test_bad_options_open_nothing() -> None:
    with pytest.raises(ValueError, match="idle_timeout"):
        await serve(mail_for_fred(), host="127.0.0.1", port=0, idle_timeout=599)


class NoOpen:
    async def authenticate(self, *args: object) -> str:
        return USER


class NotAsync(NoOpen):
    def open(self, *args: object) -> None:
        return None


@pytest.mark.parametrize("backend", [None, NoOpen(), NotAsync(), mail_for_fred])
async def test_backend_that_is_none(backend: Any) -> None:
    """A wrong object is found at the start, not at the first login."""
    with pytest.raises(TypeError, match="a backend needs a method `async def"):
        await serve(backend, host="127.0.0.1", port=0)


async def test_apop_needs_a_backend_that_can() -> None:
    """D8: nothing is offered that cannot be honoured."""
    busy = BusyBackend(mail_for_fred())
    check_backend_shape(busy, Options())
    with pytest.raises(ValueError, match="apop=True needs a backend that can check APOP; BusyBackend cannot"):
        await serve(busy, host="127.0.0.1", port=0, apop=True)


def test_options_of_serve_are_those_of_options() -> None:
    """Every option can be given to `serve`, and has one default."""
    parameters = inspect.signature(serve).parameters
    here = {name: getattr(DEFAULTS, name) for name in Options.__dataclass_fields__ if name != "rules"}
    there = {name: getattr(DEFAULTS.rules, name) for name in Rules.__dataclass_fields__}
    # Made of others, or of a random number.
    for name in ("stls", "fake_key", "mechanisms", "hostname"):
        del there[name]
    for name, default in {**here, **there}.items():
        assert parameters[name].default == default
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["mechanisms"].default is parameters["hostname"].default is None


async def test_options_arrive() -> None:
    """Those with an effect that is quickly seen."""
    options = {"banner": "hello there", "max_bad_commands": 2, "profile": Profile.DEFAULT, "space_in_user": True}
    backend = MemoryBackend()
    backend.add_user("fred bloggs", PASSWORD)
    async with serving(backend, **options) as running, running.client() as client:
        assert await client.line() == b"+OK hello there\r\n"
        assert (await client.ask(b"USER fred bloggs")).startswith(b"+OK")
        assert (await client.ask(b"PASS " + PASSWORD.encode())).startswith(b"+OK")
        await client.ask(b"JUNK")
        assert await client.ask(b"JUNK") == b"-ERR too many bad commands, closing\r\n"


async def test_more_connections_than_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(mail_for_fred(), max_connections=10**9):
        assert "max_connections is 1000000000, but the limit on open files has room for" in caplog.text


async def test_fewer_descriptors_than_a_server_needs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """I4: it serves, and says that others will have to wait."""
    monkeypatch.setattr(MODULE, "descriptors_allow", lambda: 3)
    async with serving(mail_for_fred(), max_connections=2) as running, running.client() as client:
        assert (await client.line()).startswith(b"+OK")
    assert "the limit on open files has room for 3 connections at a time; more will wait" in caplog.text


async def test_mechanisms_are_chosen_by_name_or_made() -> None:
    """D8, R5034-08: what is named is offered, in this order and in any case; a mechanism of one's own too."""
    chosen = ["login", MECHANISMS["PLAIN"], "Scram-Sha-256", "OAUTHBEARER"]
    async with serving(mail_for_fred(), mechanisms=chosen) as running, running.client() as client:
        await client.line()
        await client.send(b"CAPA\r\n")
        assert b"\r\nSASL LOGIN PLAIN SCRAM-SHA-256\r\n" in await client.multiline()
        assert (await client.ask(b"AUTH CRAM-MD5")).startswith(b"-ERR")
        assert (await client.ask(b"auth login")).startswith(b"+ ")


async def test_a_mechanism_nobody_knows() -> None:
    with pytest.raises(ValueError, match=r"not a SASL mechanism: 'KERBEROS_V4' \(there are SCRAM-SHA-256-PLUS, "):
        await serve(mail_for_fred(), mechanisms=["KERBEROS_V4"], host="127.0.0.1", port=0)


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_shutdown_ends_idle_connections(caplog: pytest.LogCaptureFixture) -> None:
    """J1: new connections are not taken, idle ones end silently, and then `serve` returns."""
    backend = mail_for_fred(b"one\n")
    async with serving(backend) as running:
        async with running.client() as idle, running.client() as fresh:
            await idle.login()
            await idle.ask(b"DELE 1")
            await fresh.line()
            running.shutdown.set()
            assert await idle.rest() == b""
            assert await fresh.rest() == b""
        await running.done.wait()
        assert running.listeners[0].socket.fileno() == -1
    assert contents(backend) == [b"one\n"]
    assert "shutting down, 2 connections open" in caplog.text


async def test_shutdown_lets_commands_finish() -> None:
    """J1: the command under way is answered, drain_timeout is not waited for."""
    asked, go = trio.Event(), trio.Event()

    async def wait(where: str) -> None:
        if where == "retrieve":
            asked.set()
            await go.wait()

    async with serving(BusyBackend(mail_for_fred(b"one\n"), wait)) as running, running.client() as client:
        await client.login()
        await client.send(b"RETR 1\r\n")
        await asked.wait()
        running.shutdown.set()
        await until(lambda: running.listeners[0].socket.fileno() == -1)
        assert not running.done.is_set()
        go.set()
        assert await client.rest() == b"+OK 5 octets follow\r\none\r\n.\r\n"
        await client.stream.aclose()  # the server waits for that, but not for ever
        await running.done.wait()


@pytest.mark.parametrize("hard", [False, True])
async def test_no_stop_cuts_a_commit(hard: bool) -> None:
    """P1, J1, E2: neither a drain_timeout of nothing nor cancelling `serve`; the reply leaves too."""
    asked, go = trio.Event(), trio.Event()

    async def wait(where: str) -> None:
        if where == "commit":
            asked.set()
            await go.wait()

    backend = BusyBackend(mail_for_fred(b"one\n", b"two\n"), wait)
    with trio.CancelScope() as outside:
        async with serving(backend, drain_timeout=0) as running, running.client() as client:
            await client.login()
            await client.send(b"DELE 1\r\nQUIT\r\n")
            await asked.wait()
            if hard:
                running.nursery.cancel_scope.cancel()
            else:
                running.shutdown.set()
            with trio.fail_after(10, shield=True):
                await until(lambda: running.listeners[0].socket.fileno() == -1)
                for _ in range(10):
                    await trio.lowlevel.checkpoint()
                assert not running.done.is_set()
                assert len(contents(backend.inner)) == 2
                go.set()
                assert await client.rest() == b"+OK message marked for deletion\r\n+OK goodbye\r\n"
                await running.done.wait()
    assert not outside.cancelled_caught
    assert contents(backend.inner) == [b"two\n"]
    assert backend.counts.releases == 1


async def test_drain_timeout_ends_what_still_runs(caplog: pytest.LogCaptureFixture) -> None:
    """J1: a store that does not answer cannot hold up a shutdown, unless it is committing."""
    asked = trio.Event()

    async def hang(where: str) -> None:
        if where == "retrieve":
            asked.set()
            await trio.sleep_forever()

    backend = BusyBackend(mail_for_fred(b"one\n", b"two\n"), hang)
    async with serving(backend, drain_timeout=0) as running, running.client() as client:
        await client.login()
        await client.send(b"DELE 2\r\nRETR 1\r\nQUIT\r\n")
        await asked.wait()
        running.shutdown.set()
        await running.done.wait()
    assert contents(backend.inner) == [b"one\n", b"two\n"]
    assert backend.counts.releases == backend.counts.disconnects == 1
    assert "reason='cut off'" in caplog.text


async def test_connection_accepted_while_stopping() -> None:
    """J1: one that was accepted in the last moment is greeted and ended, not left to idle."""
    server = Server(mail_for_fred(), make_options(max_connections=1))
    server.drain()
    async with handling(server) as running, running.client() as client:
        assert await client.rest() == b"+OK POP3 server ready\r\n"


async def test_cancel_closes_everything(tmp_path: Path) -> None:
    """P1, I4: cancelled, `serve` has closed every listener and every connection when it ends."""
    backend = mail_for_fred(b"one\n")
    addresses = ("127.0.0.1:0", f"unix:{tmp_path}/pop3", "127.0.0.1:0")
    async with serving(backend, *addresses) as running, running.client() as client:
        await client.login()
        await client.ask(b"DELE 1")
        running.nursery.cancel_scope.cancel()
        with trio.fail_after(10, shield=True):
            assert await client.rest() == b""
            await running.done.wait()
    assert contents(backend) == [b"one\n"]
    assert not backend.locked(USER)
    assert not (tmp_path / "pop3").exists()
    assert all(listener.socket.fileno() == -1 for listener in running.listeners)


@pytest.mark.parametrize(
    ("failure", "shown"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()]), KeyboardInterrupt),
        (SystemExit(3), BaseExceptionGroup),
    ],
)
def test_ctrl_c_stays_what_it_is(failure: BaseException, shown: type[BaseException]) -> None:
    """I5, J1: wherever it strikes; the sessions that are open then lose nothing."""
    inner = mail_for_fred(b"one\n")

    async def pause(where: str) -> None:
        await trio.lowlevel.checkpoint()
        if where == "retrieve":
            raise failure

    backend = BusyBackend(inner, pause)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(serve, backend, host="127.0.0.1", port=0))
            async with await trio.open_tcp_stream("127.0.0.1", listeners[0].port) as stream:
                client = Client(stream)
                await client.login()
                await client.send(b"DELE 1\r\nRSET\r\nRETR 1\r\n")
                await trio.sleep_forever()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of several kinds
        trio.run(main)
    found = caught.value
    while isinstance(found, BaseExceptionGroup) and shown is KeyboardInterrupt:
        (found,) = found.exceptions
    assert isinstance(found, shown)
    assert contents(inner) == [b"one\n"]
    assert not inner.locked(USER)
