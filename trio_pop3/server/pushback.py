"""A stream that gives octets back which were read from it too early."""

from __future__ import annotations

from typing import Final, final

import trio


@final
class PushBackStream(trio.abc.HalfCloseableStream):
    """Gives `first`, then what `stream` gives; everything else is the other stream's.

    For what follows a PROXY header in the same packet. `stream` belongs to this one from then on.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, first: bytes) -> None:
        self._stream: Final = stream
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """At most `max_bytes` octets; b"" at the end. Cancelled, it has taken none of the octets that were given back.

        Raises ValueError if `max_bytes` is less than 1, and what the other stream raises.
        """
        if self._first:
            if max_bytes is not None and max_bytes < 1:
                raise ValueError("max_bytes must be >= 1")
            await trio.lowlevel.checkpoint()
        if not self._first:
            return await self._stream.receive_some(max_bytes)
        size = len(self._first) if max_bytes is None else max_bytes
        data, self._first = self._first[:size], self._first[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the other stream does."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the other stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As the other stream does."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the other stream, and forget what has not been read."""
        self._first = b""
        await self._stream.aclose()
