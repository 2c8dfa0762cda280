"""Threads for checks that block, with a queue in front of them that has an end."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from ..backend import TemporaryFailure

T = TypeVar("T")


def processors_to_spare() -> int:
    """How many threads may hash at a time: one processor is left for those who are logged in, if there is another."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


class Checkers:
    """Runs blocking functions in threads, as many at once as the limiter has tokens.

    Args:
        limiter: whose tokens the threads take.
        most_waiting: how many may wait for one; more are told to come back.
        abandon: a caller that is cancelled does not wait for its thread. The thread keeps its token until it is done.
    """

    def __init__(self, limiter: trio.CapacityLimiter, most_waiting: int, *, abandon: bool = False) -> None:
        if most_waiting < 0:
            raise ValueError(f"most_waiting must not be negative, not {most_waiting!r}")
        self._limiter: Final = limiter
        self._most_waiting: Final = most_waiting
        self._abandon: Final = abandon

    async def run(self, check: Callable[..., T], *arguments: object) -> T:
        """What the function returns or raises. Raises TemporaryFailure if too many wait already."""
        statistics = self._limiter.statistics()
        free = statistics.borrowed_tokens < statistics.total_tokens
        if not free and statistics.tasks_waiting >= self._most_waiting:
            raise TemporaryFailure("too many logins at once, try again later")
        return await trio.to_thread.run_sync(check, *arguments, limiter=self._limiter, abandon_on_cancel=self._abandon)
