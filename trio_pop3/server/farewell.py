"""The end of a connection whose client may be sending still."""

from __future__ import annotations

from typing import Final

import trio

# For a client to see the last reply before its unread input would turn our close into a reset.
_SECONDS: Final = 5.0
_OCTETS: Final = 256 * 1024
_AT_ONCE: Final = 16 * 1024


async def let_client_read(transport: trio.abc.HalfCloseableStream, stream: trio.abc.ReceiveStream) -> None:
    """Say that no more will come, and take what still does, for 5 s and 256 KiB at most.

    Closing a socket with unread input resets it, and the reset can overtake our last reply.
    """
    with trio.move_on_after(_SECONDS):
        try:
            await transport.send_eof()
            taken = 0
            while taken < _OCTETS and (data := await stream.receive_some(_AT_ONCE)):
                taken += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
