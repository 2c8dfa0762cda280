"""What backends need of the event loop they run on, be it trio's or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

# For giving back what a login that failed or was cancelled has opened already.
_SECONDS: Final = 60.0


def _in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def checkpoint() -> None:
    """Let other tasks run; nothing where there is no trio, and so no other task that we could know of."""
    if _in_trio():
        await trio.lowlevel.checkpoint()


async def shielded(work: Callable[[], Awaitable[None]]) -> None:
    """Do what must be done even if this task is cancelled, for a minute at most."""
    if not _in_trio():
        await work()
        return
    with trio.fail_after(_SECONDS, shield=True):
        await work()
