"""Listening sockets: every form of address, all of them or none, and nothing left behind."""

from __future__ import annotations

import errno
import gc
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.server import listeners as module
from trio_pop3.server.listeners import Pop3Listener, open_listeners, open_tcp

from .serving import until


@asynccontextmanager
async def listening(*addresses: str, backlog: int | None = None) -> AsyncIterator[list[Pop3Listener]]:
    listeners = await open_listeners(addresses, backlog=backlog)
    try:
        yield listeners
    finally:
        for listener in listeners:
            await listener.aclose()


async def answers(stream: trio.SocketStream, listener: Pop3Listener) -> None:
    """Whether a connection and what was accepted are the two ends of one."""
    async with stream, await listener.accept() as accepted:
        await accepted.send_all(b"+")
        assert await stream.receive_some(2) == b"+"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0"])
async def test_tcp(address: str) -> None:
    """J3: port 0 is a free port, and the listener says which."""
    async with listening(address) as listeners:
        for listener in listeners:
            assert listener.port is not None
            assert listener.port > 0
            assert listener.address.endswith(f":{listener.port}")
            assert repr(listener) == f"<Pop3Listener {listener.address}>"
        (v4,) = (listener for listener in listeners if listener.address.startswith("127.0.0.1:"))
        assert v4.port is not None
        await answers(await trio.open_tcp_stream("127.0.0.1", v4.port), v4)


async def test_ipv6() -> None:
    async with listening("[::1]:0") as (listener,):
        assert listener.port is not None
        assert listener.address == f"[::1]:{listener.port}"
        await answers(await trio.open_tcp_stream("::1", listener.port), listener)


@pytest.mark.parametrize("address", [":0", "*:0"])
async def test_every_address_has_the_same_port(address: str) -> None:
    """J3: dual stack, one free port for IPv4 and IPv6."""
    async with listening(address) as listeners:
        families = {listener.socket.family for listener in listeners}
        assert families == {socket.AF_INET, socket.AF_INET6}
        assert len({listener.port for listener in listeners}) == 1
        for listener in listeners:
            host = "127.0.0.1" if listener.socket.family == socket.AF_INET else "::1"
            assert listener.port is not None
            await answers(await trio.open_tcp_stream(host, listener.port), listener)


async def test_a_port_that_is_free_in_one_family_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """J3: the port found for one family may be taken in the other; then another is tried."""
    real, calls = trio.open_tcp_listeners, []

    async def stubborn(port: int, **options: Any) -> list[trio.SocketListener]:
        calls.append(port)
        if port and len(calls) < 6:
            raise OSError(errno.EADDRINUSE, "taken")
        return await real(port, **options)

    monkeypatch.setattr(trio, "open_tcp_listeners", stubborn)
    async with listening(":0") as listeners:
        assert len({listener.port for listener in listeners}) == 1
    assert len(calls) >= 6 or 0 not in calls[1:]


async def test_no_port_is_free_in_every_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """J3: it does not try for ever."""
    real = trio.open_tcp_listeners

    async def two_ports(port: int, **options: Any) -> list[trio.SocketListener]:
        if port:
            raise OSError(errno.EADDRINUSE, "taken")
        return [*await real(0, host="127.0.0.1"), *await real(0, host="127.0.0.1")]

    monkeypatch.setattr(trio, "open_tcp_listeners", two_ports)
    with pytest.raises(OSError, match="no port is free in every address family"):
        await open_tcp(None, 0)


async def test_backlog_reaches_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int | None] = []
    real = trio.open_tcp_listeners

    async def noting(port: int, *, host: str | None, backlog: int | None) -> list[trio.SocketListener]:
        seen.append(backlog)
        return await real(port, host=host, backlog=backlog)

    monkeypatch.setattr(trio, "open_tcp_listeners", noting)
    async with listening("127.0.0.1:0", f"unix:{tmp_path / 's'}", backlog=7):
        assert seen == [7]


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:110", "[::1]", "fd:", "fd:x", "fd:-1",
     "unix:", "tcp:127.0.0.1:1:2", "127.0.0.1:110\n", "127.0.0.1:\u0661"],
)  # fmt: skip
async def test_addresses_of_no_known_form(address: str) -> None:
    """ValueError, and what was opened before is closed."""
    with pytest.raises(ValueError, match="unix"):
        await open_listeners(["127.0.0.1:0", address])


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example", "a\u0661b", "\udcff"])
async def test_hosts_that_are_no_host_names(host: str) -> None:
    """ValueError that names the host, and not the codec that could not make sense of it."""
    with pytest.raises(ValueError, match="not a host name") as caught:
        await open_listeners(["127.0.0.1:0", f"{host}:110"])
    assert str(caught.value) == f"not a host name: {host!r}"


async def test_port_in_use() -> None:
    """OSError, and nothing stays open."""
    async with listening("127.0.0.1:0") as (taken,):
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="in use") as caught:
            await open_listeners(["127.0.0.1:0", "127.0.0.1:0", taken.address])
        assert caught.value.errno == errno.EADDRINUSE
        gc.collect()
        assert os.listdir("/proc/self/fd") == before


async def test_cancelled_while_opening() -> None:
    """I4: cancelled at the third address, the first two are closed, both of them."""

    class Slow(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
            await trio.sleep_forever()

        async def getnameinfo(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("not used")

    trio.socket.set_custom_hostname_resolver(Slow())
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_listeners, ["127.0.0.1:0", "127.0.0.1:0", "slow.example:0"])
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


# --- UNIX sockets ----------------------------------------------------------------------------------------------------


async def test_unix(tmp_path: Path) -> None:
    path = tmp_path / "pop3"
    async with listening(f"unix:{path}") as (listener,):
        assert (listener.address, listener.port) == (f"unix:{path}", None)
        assert stat.S_ISSOCK(path.stat().st_mode)
        await answers(await trio.open_unix_socket(path), listener)
    assert not path.exists()


async def test_unix_file_left_by_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "pop3"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with listening(f"unix:{path}") as (listener,):
        await answers(await trio.open_unix_socket(path), listener)


async def test_unix_file_in_use(tmp_path: Path) -> None:
    """A living server's socket is not taken from it."""
    path = tmp_path / "pop3"
    async with listening(f"unix:{path}") as (listener,):
        with pytest.raises(OSError, match="in use") as caught:
            await open_listeners([f"unix:{path}"])
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, str(path))
        async with await listener.accept():  # that was the probe
            await answers(await trio.open_unix_socket(path), listener)


async def test_unix_file_that_is_none(tmp_path: Path) -> None:
    """Nothing but a socket is ever removed."""
    path = tmp_path / "precious"
    path.write_text("mail")
    with pytest.raises(OSError, match="not a socket"):
        await open_listeners([f"unix:{path}"])
    assert path.read_text() == "mail"


async def test_unix_path_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await open_listeners([f"unix:{tmp_path}/no/where"])


async def test_unix_path_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's limit is on octets. Python's own complaint has no number."""
    monkeypatch.chdir(tmp_path)
    for path in ("s" * 108, "\u00e4" * 54, "s" * 5000):
        with pytest.raises(OSError, match="path too long") as caught:
            await open_listeners([f"unix:{path}"])
        assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, path)
    async with listening(f"unix:{'s' * 107}") as (listener,):
        await answers(await trio.open_unix_socket("s" * 107), listener)


async def test_unix_file_of_a_successor(tmp_path: Path) -> None:
    """A file that is not ours any more stays; closing twice removes nothing."""
    path = tmp_path / "pop3"
    (old,) = await open_listeners([f"unix:{path}"])
    path.unlink()
    async with listening(f"unix:{path}") as (new,):
        await old.aclose()
        await old.aclose()
        await answers(await trio.open_unix_socket(path), new)


async def test_unix_file_gone(tmp_path: Path) -> None:
    path = tmp_path / "pop3"
    (listener,) = await open_listeners([f"unix:{path}"])
    path.unlink()
    await listener.aclose()


# --- inherited sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
def inherited() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def test_fd(inherited: socket.socket) -> None:
    port, fd = inherited.getsockname()[1], inherited.detach()
    os.set_inheritable(fd, True)
    async with listening(f"fd:{fd}") as (listener,):
        assert listener.address == f"127.0.0.1:{port}"
        assert not os.get_inheritable(fd)
        await answers(await trio.open_tcp_stream("127.0.0.1", port), listener)


async def test_fd_that_is_not_open() -> None:
    with pytest.raises(OSError, match="fd:987654 is not an open socket") as caught:
        await open_listeners(["fd:987654"])
    assert caught.value.errno == errno.EBADF


async def test_fd_that_is_a_file(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(OSError, match="is not an open socket"):
            await open_listeners([f"fd:{file.fileno()}"])
        file.write("still ours")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_fd_that_does_not_listen(kind: socket.SocketKind) -> None:
    """It is refused and left as it was: it is not ours to close."""
    with socket.socket(socket.AF_INET, kind) as sock:
        with pytest.raises(OSError, match="is not a listening stream socket"):
            await open_listeners([f"fd:{sock.fileno()}"])
        assert sock.getsockname()


async def test_systemd(monkeypatch: pytest.MonkeyPatch, inherited: socket.socket) -> None:
    """systemd.socket(5): as many descriptors as LISTEN_FDS says, from a fixed first one on."""
    port, fd = inherited.getsockname()[1], inherited.detach()
    monkeypatch.setattr(module, "_SYSTEMD_FIRST_FD", fd)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    async with listening("systemd") as (listener,):
        assert listener.port == port


@pytest.mark.parametrize(("pid", "count"), [(None, "1"), ("1", "1"), (str(os.getpid()), None), (str(os.getpid()), "x")])
async def test_systemd_passed_nothing(monkeypatch: pytest.MonkeyPatch, pid: str | None, count: str | None) -> None:
    """Nor is what it passed to another process ours."""
    assert module._SYSTEMD_FIRST_FD == 3
    for name, value in (("LISTEN_PID", pid), ("LISTEN_FDS", count)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match="systemd passed no sockets"):
        await open_listeners(["systemd"])


# --- places ----------------------------------------------------------------------------------------------------------


async def test_no_connection_is_accepted_without_a_place() -> None:
    """ARCHITECTURE 6: the cap is taken before accept."""
    async with listening("127.0.0.1:0") as (listener,):
        listener.places = places = trio.Semaphore(1, max_value=1)
        assert listener.port is not None
        async with (
            await trio.open_tcp_stream("127.0.0.1", listener.port),
            await trio.open_tcp_stream("127.0.0.1", listener.port),
            await listener.accept(),
            trio.open_nursery() as nursery,
        ):
            assert places.value == 0
            nursery.start_soon(listener.accept)
            await until(lambda: places.statistics().tasks_waiting == 1)
            nursery.cancel_scope.cancel()
        assert places.value == 0
        places.release()
        async with await listener.accept():
            assert places.value == 0


async def test_cancelled_accept_holds_no_place() -> None:
    """I4: neither while it waits for a connection nor while it waits for a place."""
    async with listening("127.0.0.1:0") as (listener,):
        listener.places = places = trio.Semaphore(1, max_value=1)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.accept)
                await trio.testing.wait_all_tasks_blocked()
                assert places.value == 1
                scope.cancel()
        assert places.value == 1


async def test_failed_accept_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """I4: EMFILE and its like are trio's to wait out; the place is free meanwhile."""
    async with listening("127.0.0.1:0") as (listener,):
        listener.places = places = trio.Semaphore(1, max_value=1)
        assert listener.port is not None

        async def no_descriptors(self: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        async with await trio.open_tcp_stream("127.0.0.1", listener.port):
            with monkeypatch.context() as patch:
                patch.setattr(trio.SocketListener, "accept", no_descriptors)
                with pytest.raises(OSError, match="Too many open files"):
                    await listener.accept()
            assert places.value == 1
            async with await listener.accept():
                assert places.value == 0
