"""A trio loop in a thread, as seen by somebody who is not asynchronous."""

from __future__ import annotations

import threading

import pytest
import trio

from trio_pop3.testing import Portal


async def add(one: int, other: int) -> int:
    await trio.lowlevel.checkpoint()
    return one + other


async def fail() -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("not there")


def test_what_is_run_returns_or_raises_here() -> None:
    with Portal() as portal:
        assert portal.run(add, 1, 2) == 3
        with pytest.raises(LookupError, match="not there"):
            portal.run(fail)
        assert portal.run(add, 3, 4) == 7  # nobody was harmed


def test_it_runs_in_one_loop_in_one_other_thread() -> None:
    async def where() -> tuple[object, int]:
        return trio.lowlevel.current_trio_token(), threading.get_ident()

    with Portal() as portal:
        first = portal.run(where)
        assert portal.run(where) == first
        assert first[1] != threading.get_ident()
    assert first[1] not in {thread.ident for thread in threading.enumerate()}


def test_a_task_goes_on_until_the_block_is_left() -> None:
    steps: list[str] = []

    async def work(name: str, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            task_status.started(f"{name} has started")
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            steps.append("gone")

    with Portal() as portal:
        assert portal.start(work, "it") == "it has started"
        assert portal.run(add, 1, 1) == 2
        assert not steps
    assert steps == ["gone"]


async def collapse(dead: threading.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started()
    dead.set()
    raise LookupError("not there")


def test_a_task_that_fails_is_heard_of() -> None:
    """Where the block is left, at the latest; and what failed because of it does not hide it."""
    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="not there")), Portal() as portal:
        portal.start(collapse, threading.Event())

    with pytest.RaisesGroup(LookupError) as caught, Portal() as portal:
        portal.start(collapse, dead := threading.Event())
        assert dead.wait(10)
        for _ in range(100_000):  # until the loop has ended
            portal.run(add, 1, 1)
    assert isinstance(caught.value.__context__, (trio.RunFinishedError, trio.Cancelled))


def test_a_task_that_cannot_start_harms_nobody() -> None:
    async def stillborn(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await fail()

    with Portal() as portal:
        with pytest.raises(LookupError):
            portal.start(stillborn)
        assert portal.run(add, 1, 2) == 3


def test_what_the_block_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError), Portal() as portal:
        assert portal.run(add, 1, 2) / 0


def test_a_portal_is_entered_once() -> None:
    with Portal() as portal:
        pass
    with pytest.raises(RuntimeError), portal:
        pass
    with pytest.raises(trio.RunFinishedError):
        portal.run(add, 1, 2)
