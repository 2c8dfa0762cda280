"""Connections in memory: with little room, half-closed, dropped, reset, and read slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from .watch import Watch


class Pipe:
    """One direction of a connection. Holds at most `room` octets that were not read."""

    __slots__ = ("_changed", "_data", "_room", "broken", "deaf", "ended")

    def __init__(self, room: int) -> None:
        self._room: Final = room
        self._data: Final = bytearray()
        self._changed: Final = trio.lowlevel.ParkingLot()
        self.ended = False  # nothing comes after what is in it
        self.broken = False  # reset: what was in it is gone
        self.deaf = False  # the reader is gone; what is written to it is lost, and after that it is broken

    def __len__(self) -> int:
        return len(self._data)

    def end(self) -> None:
        """No more is written."""
        self.ended = True
        self._changed.unpark_all()

    def leave(self) -> None:
        """No more is read."""
        self.deaf = True
        self._data.clear()
        self._changed.unpark_all()

    def reset(self) -> None:
        """Both ends find it broken, and what was on its way is gone."""
        self.broken = True
        self._data.clear()
        self._changed.unpark_all()

    async def receive(self, most: int) -> bytes:
        """What is there, at most so much; b"" is the end. Raises trio.BrokenResourceError."""
        while not (self._data or self.ended or self.broken):
            await self._changed.park()
        if self.broken:
            raise trio.BrokenResourceError
        data = bytes(self._data[:most])
        del self._data[:most]
        self._changed.unpark_all()
        return data

    async def send(self, data: bytes | bytearray | memoryview, accepted: Callable[[bytes], None]) -> None:
        """Write all of it, when there is room. `accepted` is told what was taken. Raises trio.BrokenResourceError."""
        rest = bytes(data)
        while rest:
            while len(self._data) >= self._room and not (self.broken or self.deaf):
                await self._changed.park()
            if self.broken:
                raise trio.BrokenResourceError
            size = len(rest) if self.deaf else self._room - len(self._data)
            piece, rest = rest[:size], rest[size:]
            accepted(piece)
            if self.deaf:
                self.broken = True
            else:
                self._data.extend(piece)
                self._changed.unpark_all()


class ServerEnd(trio.abc.HalfCloseableStream):
    """What the server serves. Everything it does here is seen by the watch of its session.

    `overtaken`: if the server closes with input it has not read, the reset that follows takes from the client what that
    has not read either, as TCP may.
    """

    def __init__(self, watch: Watch, up: Pipe, down: Pipe, *, overtaken: bool) -> None:
        self._watch: Final = watch
        self._up: Final = up
        self._down: Final = down
        self._overtaken: Final = overtaken

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What the client has sent."""
        with self._watch.reading():
            await trio.lowlevel.checkpoint()
            data = await self._up.receive(max_bytes or 65536)
            self._watch.taken(data)
            return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """To the client, as fast as that reads."""
        with self._watch.step():
            await trio.lowlevel.checkpoint()
            await self._down.send(data, self._watch.told)

    async def wait_send_all_might_not_block(self) -> None:
        """Part of the interface; nobody asks."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """The server says no more."""
        with self._watch.step():
            await trio.lowlevel.checkpoint()
            self._end()

    async def aclose(self) -> None:
        """The server is gone."""
        self._end()
        if len(self._up):
            self._up.reset()
            if self._overtaken:
                self._down.reset()
        else:
            self._up.leave()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        if not self._down.ended:
            self._watch.hung_up()
            self._down.end()
