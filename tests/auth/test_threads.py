"""The queue in front of the threads."""

from __future__ import annotations

import os
import threading

import pytest
import trio
import trio.testing

from trio_pop3.auth.threads import Checkers, processors_to_spare
from trio_pop3.backend import TemporaryFailure


async def test_what_the_function_says() -> None:
    checkers = Checkers(trio.CapacityLimiter(1), 0)
    assert await checkers.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await checkers.run(divmod, 7, 0)


@pytest.mark.parametrize("most_waiting", [0, 1, 3])
async def test_the_queue_has_an_end(most_waiting: int) -> None:
    """P4, H9: more than can wait are told to come back."""
    limiter = trio.CapacityLimiter(1)
    checkers = Checkers(limiter, most_waiting)
    async with trio.open_nursery() as nursery:
        limiter.acquire_on_behalf_of_nowait("somebody")
        for _ in range(most_waiting):
            nursery.start_soon(checkers.run, int)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TemporaryFailure, match="too many logins"):
            await checkers.run(int)
        limiter.release_on_behalf_of("somebody")
    assert limiter.borrowed_tokens == 0


async def test_an_abandoned_thread_keeps_its_token() -> None:
    """P4: a client that leaves does not make room for one more thread that hangs."""
    limiter = trio.CapacityLimiter(1)
    stuck = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Checkers(limiter, 0, abandon=True).run, stuck.wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert limiter.borrowed_tokens == 1
    stuck.set()
    async with limiter:
        assert limiter.borrowed_tokens == 1


def test_a_number_out_of_range() -> None:
    with pytest.raises(ValueError, match="most_waiting"):
        Checkers(trio.CapacityLimiter(1), -1)


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_one_processor_is_left(monkeypatch: pytest.MonkeyPatch, processors: int, threads: int) -> None:
    """P4: hashing must not take what the event loop needs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    assert processors_to_spare() == threads
