"""A socket that is used at once, and waits that are noticed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing

from trio_pop3.server.direct import DirectSocket, noticing


@pytest.fixture
async def pair() -> AsyncIterator[tuple[trio.SocketStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    yield stream, theirs
    await stream.aclose()
    theirs.close()


async def test_octets_go_both_ways(pair: tuple[trio.SocketStream, socket.socket]) -> None:
    """Reading is always a checkpoint; the end is no octets."""
    stream, theirs = pair
    direct = DirectSocket(stream)
    assert direct.send(memoryview(b"out")) == 3
    assert theirs.recv(10) == b"out"
    theirs.sendall(b"in")
    with trio.testing.assert_checkpoints():
        assert await direct.receive(10) == b"in"
    theirs.shutdown(socket.SHUT_WR)
    assert await direct.receive(10) == b""


async def test_a_full_socket_takes_nothing(pair: tuple[trio.SocketStream, socket.socket]) -> None:
    """P4: it does not wait."""
    direct = DirectSocket(pair[0])
    much = memoryview(bytes(10_000_000))
    assert 0 < direct.send(much) < len(much)
    assert direct.send(much) == 0


@pytest.mark.parametrize(("who", "failure"), [("they", trio.BrokenResourceError), ("we", trio.ClosedResourceError)])
async def test_a_socket_that_is_closed(
    pair: tuple[trio.SocketStream, socket.socket], who: str, failure: type[Exception]
) -> None:
    """I5: what the stream would raise; nothing is written to whatever has the descriptor's number next."""
    stream, theirs = pair
    direct = DirectSocket(stream)
    if who == "they":
        theirs.sendall(b"x")
        direct.send(memoryview(b"unread"))
        theirs.close()
    else:
        await stream.aclose()
    with pytest.raises(failure):
        direct.send(memoryview(b"more"))
    if who == "we":
        with pytest.raises(failure):
            await direct.receive(10)


async def test_a_reader_that_is_cut_loses_nothing(pair: tuple[trio.SocketStream, socket.socket]) -> None:
    """P1: cancelled while it waits; what comes later is there for the next one."""
    stream, theirs = pair
    direct = DirectSocket(stream)
    with trio.move_on_after(0.01) as scope:
        await direct.receive(10)
    assert scope.cancelled_caught
    theirs.sendall(b"late")
    assert await direct.receive(10) == b"late"


# --- noticing -----------------------------------------------------------------------------------------------------


def watch(work: Callable[[], Awaitable[object]]) -> tuple[list[str], Callable[[], Awaitable[object]]]:
    noticed: list[str] = []

    async def watched() -> object:
        return await noticing(work(), lambda: noticed.append("waits"))  # type: ignore[arg-type]

    return noticed, watched


async def test_what_does_not_wait_is_not_noticed() -> None:
    async def at_once() -> str:
        return "done"

    noticed, watched = watch(at_once)
    assert await watched() == "done"
    assert noticed == []


async def test_what_waits_is_noticed_once_and_before(autojump_clock: trio.testing.MockClock) -> None:
    async def twice() -> str:
        noticed.append("begun")
        await trio.sleep(1)
        noticed.append("slept")
        await trio.sleep(1)
        return "done"

    noticed, watched = watch(twice)
    assert await watched() == "done"
    assert noticed == ["begun", "waits", "slept"]
    assert trio.current_time() >= 2


async def test_failures_go_through(autojump_clock: trio.testing.MockClock) -> None:
    async def fails() -> None:
        await trio.sleep(1)
        raise KeyError("mine")

    async def fails_at_once() -> None:
        raise KeyError("mine")

    for work in (fails, fails_at_once):
        _, watched = watch(work)
        with pytest.raises(KeyError, match="mine"):
            await watched()


async def test_a_cancellation_reaches_the_work_and_may_be_survived(autojump_clock: trio.testing.MockClock) -> None:
    """P1: a commit that is shielded goes on, and its result arrives."""
    did: list[str] = []

    async def commits() -> str:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                did.append("committed")

    async def survives() -> str:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        return "done"

    _, watched = watch(commits)
    with trio.move_on_after(1) as scope:
        await watched()
    assert scope.cancelled_caught
    assert did == ["committed"]
    _, watched = watch(survives)
    assert await watched() == "done"


def test_a_coroutine_that_is_given_up_is_closed() -> None:
    """As if it had been awaited itself."""
    did: list[str] = []

    class Waits:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def work() -> None:
        try:
            await Waits()
        finally:
            did.append("closed")

    async def outer() -> None:
        await noticing(work(), lambda: None)

    coroutine = outer()
    coroutine.send(None)
    coroutine.close()
    assert did == ["closed"]
