"""Waiting for a maildrop: in turn, woken at once, never longer than it was said. In virtual time, without threads."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import MaildropInUse
from trio_pop3.backends.maildir import MaildirStore, store
from trio_pop3.backends.maildir.lock import LOCK_NAME
from trio_pop3.backends.maildir.store import MaildirMaildrop

from ..driving import CLIENT
from .maildir_helpers import Box, child, inline


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put("1700000001.a")
    return box


def waiting_store(box: Box, seconds: float) -> MaildirStore:
    return MaildirStore(f"{box.root}/{{user}}", run_sync=inline, lock_wait=seconds)


async def opened(where: MaildirStore) -> MaildirMaildrop:
    return await where.open("alice", CLIENT)


@contextmanager
def other_process(box: Box) -> Iterator[int]:
    """Holds the lock as another process does: it is in no line of this one."""
    fd = os.open(box.octets_path + b"/" + LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield fd
    finally:
        os.close(fd)


async def test_at_once_without_the_option(box: Box, autojump_clock: trio.testing.MockClock) -> None:
    """R1939-21, I7."""
    first = await opened(waiting_store(box, 0))
    with pytest.raises(MaildropInUse):
        await opened(waiting_store(box, 0))
    assert trio.current_time() == 0
    await first.release()


@pytest.mark.parametrize("other", [False, True], ids=["this process", "another process"])
async def test_refused_when_the_seconds_are_over(box: Box, other: bool, autojump_clock: trio.testing.MockClock) -> None:
    """R1939-23, I7: not before, not after; and then nothing is left in the line."""
    with other_process(box) if other else await held(box):
        with pytest.raises(MaildropInUse):
            await opened(waiting_store(box, 30))
        assert trio.current_time() == pytest.approx(30)
    await (await opened(waiting_store(box, 0))).release()


async def held(box: Box) -> Any:
    maildrop = await opened(waiting_store(box, 0))

    @contextmanager
    def until_left() -> Iterator[None]:
        yield
        maildrop._lock.release()

    return until_left()


async def test_in_turn_and_at_once(box: Box, autojump_clock: trio.testing.MockClock) -> None:
    """R1939-21: in the order in which they came; no time passes between two of them, and nobody cuts in."""
    order: list[str] = []
    first = await opened(waiting_store(box, 0))

    async def session(name: str) -> None:
        maildrop = await opened(waiting_store(box, 60))
        order.append(name)
        with pytest.raises(MaildropInUse):
            await opened(waiting_store(box, 0))
        await maildrop.release()

    async with trio.open_nursery() as nursery:
        for name in "abcde":
            nursery.start_soon(session, name)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(7)
        await first.release()
        with pytest.raises(MaildropInUse):
            await opened(waiting_store(box, 0))
    assert order == list("abcde")
    assert trio.current_time() == 7


async def test_looks_at_another_process_no_oftener_than_every_100_ms(
    box: Box, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """P4: and gets the lock within a second of its release."""
    looks: list[float] = []
    real = store._opened

    def counted(*arguments: Any) -> Any:
        looks.append(trio.current_time())
        return real(*arguments)

    monkeypatch.setattr(store, "_opened", counted)
    with other_process(box) as fd:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await (await opened(waiting_store(box, 60))).release()

            nursery.start_soon(wait)
            await trio.sleep(20)
            fcntl.flock(fd, fcntl.LOCK_UN)
    assert 20 <= trio.current_time() < 21
    assert min(later - earlier for earlier, later in itertools.pairwise(looks)) >= 0.0999


async def test_behind_another_process_the_line_is_kept(box: Box, autojump_clock: trio.testing.MockClock) -> None:
    """R1939-21: one of us looks, the others wait for that one."""
    order: list[str] = []

    async def session(name: str) -> None:
        maildrop = await opened(waiting_store(box, 60))
        order.append(name)
        await maildrop.release()

    async with trio.open_nursery() as nursery:
        with other_process(box):
            for name in "abc":
                nursery.start_soon(session, name)
                await trio.sleep(1)
    assert order == list("abc")
    assert trio.current_time() < 4


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_a_cancelled_one_leaves_the_line(box: Box, who: int, autojump_clock: trio.testing.MockClock) -> None:
    """I9, P1: whoever it is, the others get their turn."""
    first = await opened(waiting_store(box, 0))
    scopes = [trio.CancelScope() for _ in range(3)]
    served: list[int] = []

    async def session(number: int) -> None:
        with scopes[number]:
            maildrop = await opened(waiting_store(box, 60))
            served.append(number)
            await maildrop.release()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(session, number)
            await trio.testing.wait_all_tasks_blocked()
        scopes[who].cancel()
        await first.release()  # in the same step: the place may have been given to the one that is cancelled
    assert served == [number for number in range(3) if number != who]
    assert trio.current_time() == 0
    await (await opened(waiting_store(box, 0))).release()


async def test_a_holder_in_another_loop_wakes_it(box: Box) -> None:
    """P4: release may be called from any thread."""
    holder = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                patient = MaildirStore(f"{box.root}/{{user}}", lock_wait=60)
                await (await patient.open("alice", CLIENT)).release()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(holder._lock.release)


@pytest.mark.parametrize("seconds", [-1, 121, float("nan")])
def test_a_wait_that_makes_no_sense(seconds: float) -> None:
    with pytest.raises(ValueError, match="lock_wait must be 0 to 120 seconds"):
        MaildirStore("/mail/{user}", lock_wait=seconds)


async def test_the_death_of_another_process_lets_us_in(box: Box) -> None:
    """I7: kill -9 of a real process that holds the lock, while we wait for it; in real time."""
    script = """
dialogue = box.login()
print("locked", flush=True)
sys.stdin.read()
"""
    with child(box.root, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    patient = MaildirStore(f"{box.root}/{{user}}", lock_wait=60)
                    await (await patient.open("alice", CLIENT)).release()

                nursery.start_soon(wait)
                await trio.to_thread.run_sync(process.kill)
