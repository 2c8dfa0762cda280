"""Cancelled at every single await: nothing is lost, and nothing stays held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import trio

from trio_pop3 import BackendError, ConnectionHooks, ScramSecrets

from .logins import NOBODY
from .trial import LONG, Broken, Held, Mail, Skipped, Trial, check, content_of, plain, without

# Every await is tried up to here, then ever fewer: a hundred thousand would take for ever, and look all the same.
_EVERY: Final = 200
_ROUNDS: Final = 10


class Cut(trio.abc.Instrument):
    """Cancels what is done inside of it, at its so manyth await; 0 is before the first.

    An await is a moment in which this task, or one that was started inside, lets others run.
    """

    def __init__(self, at: int) -> None:
        self.at: Final = at
        self.reached = at == 0  # whether there was such an await
        self._awaits = 0
        self._scope: Final = trio.CancelScope()

    def __enter__(self) -> Cut:
        self._task = trio.lowlevel.current_task()
        self._outside = frozenset(self._task.child_nurseries)
        trio.lowlevel.add_instrument(self)
        self._scope.__enter__()
        if self.reached:
            self._scope.cancel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        trio.lowlevel.remove_instrument(self)
        return self._scope.__exit__(kind, value, trace)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio."""
        if self._is_inside(task):
            self._awaits += 1
            if self._awaits == self.at:
                self.reached = True
                self._scope.cancel()

    def _is_inside(self, task: trio.lowlevel.Task) -> bool:
        while task is not self._task:
            nursery = task.parent_nursery
            if nursery is None or nursery in self._outside:
                return False
            task = nursery.parent_task
        return True


def cuts(trial: Trial, *, first: int = 0) -> Iterator[Cut]:
    """One cut after the other, until there is no such await any more. The steps are those of the last one."""
    at = first
    while True:
        trial.steps[:] = [f"what follows is cancelled at await {at}"]
        cut = Cut(at)
        yield cut
        if not cut.reached:
            return
        at += 1 + at // _EVERY


@check()
async def cancelled_login(trial: Trial) -> None:
    """A cancelled authenticate, scram_keys or connect is over, and the next one works."""
    backend = trial.backend
    for cut in cuts(trial):
        client = trial.client()
        with cut:
            if isinstance(backend, ConnectionHooks):
                await trial.do("connect", backend.connect, client)
            if "PLAIN" in trial.methods:
                await trial.authenticated(trial.name)
            if isinstance(backend, ScramSecrets) and "SCRAM-SHA-256" in trial.methods:
                for name in (trial.name, NOBODY):
                    await trial.do(f"scram_keys of {name}", backend.scram_keys, name, "sha256", client)
        if isinstance(backend, ConnectionHooks):
            await trial.do("disconnect", backend.disconnect, client, "cancelled", shield=True)
        if "PLAIN" in trial.methods:
            await trial.authenticated(trial.name)


@check()
async def cancelled_open(trial: Trial) -> None:
    """A cancelled open holds nothing: the maildrop can be opened at once, and is whole."""
    await trial.fill(trial.name, plain("one"), plain("two"))
    before = await trial.mail(trial.name)
    for cut in cuts(trial):
        held: Held | None = None
        with cut:
            held = await trial.open(trial.name)
        if held is not None:  # it came through all the same
            await trial.release(held)
        await trial.expect(trial.name, before)


@check()
async def cancelled_retrieve(trial: Trial) -> None:
    """Cancelled while a message is opened or read, a maildrop can be released, and the mail is whole."""
    await trial.fill(trial.name, plain("one"), LONG)
    before = await trial.mail(trial.name)
    for cut in cuts(trial):
        async with trial.session(trial.name) as held:
            with cut:
                await trial.read_all(held)
        await trial.expect(trial.name, before)


@check()
async def cancelled_session(trial: Trial) -> None:
    """A session that is cancelled, with commit and release shielded, removes what was marked if its commit has begun,
    otherwise nothing, and frees the lock.
    """
    await trial.fill(trial.name, plain("one"), plain("two"), LONG)
    before = await trial.mail(trial.name)
    for cut in cuts(trial):
        begun = False
        with cut:
            async with trial.session(trial.name) as held:
                await trial.read_all(held)
                marked = held.messages[:2]
                begun = True
                await trial.commit(held, marked)
        await trial.expect(trial.name, without(before, marked) if begun else before)
        before = await _refilled(trial, 3)


@check()
async def a_commit_that_is_cut(trial: Trial) -> None:
    """A commit that its deadline cuts has removed some of what was marked and no other; the next session can remove
    the rest.
    """
    await trial.fill(trial.name, *[plain(word) for word in ("one", "two", "three", "four")])
    before = await trial.mail(trial.name)
    for cut in cuts(trial, first=1):
        done = False
        async with trial.session(trial.name) as held:
            marked = held.messages[:3]
            with cut:
                try:
                    await trial.do("commit 3 messages", held.maildrop.commit, marked)
                    done = True
                except BackendError:  # to say that it is not complete is as good as being cut
                    pass
        await whole_after_commit(trial, before, without(before, marked), done=done)
        before = await _refilled(trial, 4)


async def whole_after_commit(trial: Trial, before: Mail, after: Mail, *, done: bool) -> None:
    """What a commit has left: all of `after`, and of `before` no more than is allowed."""
    found = await trial.mail(trial.name)
    kept = {uid: text for uid, text in before.items() if uid in found or uid in after}
    await trial.expect(trial.name, after if done else kept)
    async with trial.session(trial.name) as held:
        await trial.commit(held, [message for message in held.messages if message.uid not in after])
    await trial.expect(trial.name, after)


async def _refilled(trial: Trial, count: int) -> Mail:
    """As many messages as before; those that are new stand at the end."""
    missing = count - len(await trial.mail(trial.name))
    await trial.fill(trial.name, *[plain(f"new {number}") for number in range(missing)])
    return await trial.mail(trial.name)


@check()
async def a_release_that_is_cut(trial: Trial) -> None:
    """A release that its deadline cuts, at whichever await, has given the lock back all the same."""
    await trial.fill(trial.name, plain("one"))
    before = await trial.mail(trial.name)
    for cut in cuts(trial, first=1):
        held = await trial.open(trial.name)
        with cut:
            await trial.release(held, shield=False)
        await trial.expect(trial.name, before)


@check()
async def nothing_piles_up(trial: Trial) -> None:
    """Sessions that leave messages half read, or that are cancelled, leave no file descriptor open."""
    if not _descriptors():
        raise Skipped("this system does not show the descriptors of a process")
    await trial.fill(trial.name, plain("one"), LONG)
    at_first = 0
    for turn in range(2 * _ROUNDS):
        trial.steps.clear()
        if turn == _ROUNDS:  # by now whatever is kept for the next time is there
            at_first = _descriptors()
        async with trial.session(trial.name) as held:
            for message in held.messages:
                await trial.do(f"retrieve a piece of {message.uid}", content_of, held.maildrop, message, 1)
            await trial.do(f"retrieve none of {message.uid}", content_of, held.maildrop, message, 0)
        with Cut(1 + turn % 7):
            async with trial.session(trial.name) as held:
                await trial.read_all(held)
    if (more := _descriptors() - at_first) >= _ROUNDS:
        raise Broken(f"{_ROUNDS} such sessions have left {more} descriptors open")


def _descriptors() -> int:
    """How many this process has open; 0 if nobody knows."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return 0
