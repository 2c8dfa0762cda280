"""Octets given back to a stream come first, once, and whole."""

from __future__ import annotations

from typing import TypeAlias

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.server.pushback import PushBackStream

Pair: TypeAlias = tuple[PushBackStream, PushBackStream]


def over(pair: tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]) -> Pair:
    return PushBackStream(pair[0], b""), PushBackStream(pair[1], b"")


async def memory() -> Pair:
    return over(trio.testing.memory_stream_pair())


async def lockstep() -> Pair:
    return over(trio.testing.lockstep_stream_pair())


async def sockets() -> Pair:
    one, other = trio.socket.socketpair()
    return over((trio.SocketStream(one), trio.SocketStream(other)))


async def test_it_is_a_stream_like_any_other() -> None:
    """trio's own checks, with nothing given back."""
    await trio.testing.check_two_way_stream(memory, lockstep)
    await trio.testing.check_half_closeable_stream(sockets, None)


async def read(stream: trio.abc.ReceiveStream, sizes: list[int | None]) -> list[bytes]:
    """To the end, so many octets at a time, in turn."""
    chunks: list[bytes] = []
    while data := await stream.receive_some(sizes[len(chunks) % len(sizes)]):
        chunks.append(bytes(data))
    return chunks


@given(st.binary(max_size=20), st.binary(max_size=20), st.lists(st.none() | st.integers(1, 30), min_size=1))
def test_what_was_given_back_comes_first(first: bytes, then: bytes, sizes: list[int | None]) -> None:
    """G9: what follows a PROXY header in the same packet is the client's."""

    async def dialogue() -> None:
        client, server = trio.testing.memory_stream_pair()
        if then:
            await client.send_all(then)
        await client.send_eof()
        chunks = await read(PushBackStream(server, first), sizes)
        assert b"".join(chunks) == first + then
        assert all(size is None or len(chunk) <= size for chunk, size in zip(chunks, sizes, strict=False))

    trio.run(dialogue)


async def test_it_does_not_wait_for_more_than_it_has() -> None:
    _, server = trio.testing.memory_stream_pair()
    with trio.fail_after(5):
        assert await PushBackStream(server, b"abc").receive_some(100) == b"abc"


async def test_a_cancelled_read_has_taken_nothing() -> None:
    _, server = trio.testing.memory_stream_pair()
    stream = PushBackStream(server, b"abc")
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.receive_some()
    assert scope.cancelled_caught
    with trio.testing.assert_checkpoints():
        assert await stream.receive_some() == b"abc"


@pytest.mark.parametrize("first", [b"", b"abc"])
async def test_nothing_is_no_amount_to_read(first: bytes) -> None:
    _, server = trio.testing.memory_stream_pair()
    with pytest.raises(ValueError, match="max_bytes"):
        await PushBackStream(server, first).receive_some(0)


async def test_closed_is_closed() -> None:
    """Also for what was given back and not read."""
    _, server = trio.testing.memory_stream_pair()
    stream = PushBackStream(server, b"abc")
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_two_readers_at_once_lose_nothing() -> None:
    """One gets what was given back, the other waits for the stream below."""
    client, server = trio.testing.memory_stream_pair()
    stream = PushBackStream(server, b"abc")
    got: list[bytes] = []

    async def receive() -> None:
        got.append(bytes(await stream.receive_some()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await client.send_all(b"def")
    assert got == [b"abc", b"def"]
