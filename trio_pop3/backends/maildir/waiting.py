"""Waiting for a maildrop that somebody else has open, without a thread that sits in a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, repeat
from typing import Final, TypeVar

import trio

from ...backend import MaildropInUse
from .lock import MaildirLock

T = TypeVar("T")

# Seconds between two looks at a lock that another process holds: nobody tells us when it is free.
_PAUSES: Final = (0.1, 0.2, 0.4)
_LAST_PAUSE: Final = 0.8


async def patiently(
    lock: MaildirLock, seconds: float, attempt: Callable[[Callable[[], None] | None], Awaitable[T]]
) -> T:
    """What `attempt` returns, which takes the lock and hands on to `acquire` what it is given.

    Sessions of this process get it in the order in which they came, each at once when the one before it is through.
    May be cancelled while it waits; the caller then releases the lock, and with it the place in the line.

    Raises MaildropInUse when the seconds are over, and whatever else `attempt` raises.
    """
    if not seconds:
        return await attempt(None)
    deadline = trio.current_time() + seconds
    freed, token = trio.Event(), trio.lowlevel.current_trio_token()

    def wake() -> None:
        # Whoever waited in a loop that is over does not wait any more.
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(freed.set)

    pauses: Iterator[float] = chain(_PAUSES, repeat(_LAST_PAUSE))
    while True:
        try:
            return await attempt(wake)
        except MaildropInUse:
            left = deadline - trio.current_time()
            if left <= 0:
                raise
            with trio.move_on_after(left):
                if lock.waiting:
                    await freed.wait()
                else:
                    await trio.sleep(next(pauses))
