"""What another process finds: after a restart, beside the first one, and after a crash."""

from __future__ import annotations

from trio_pop3 import MaildropInUse

from .cancelling import cuts, whole_after_commit
from .mail import no_uid_twice
from .trial import LONG, Broken, Trial, check, content_of, plain, without


@check("reopen")
async def mail_outlives_a_restart(trial: Trial) -> None:
    """Another view of the store shows the same messages, under the same uids, in the same order."""
    await trial.fill(trial.name, plain("one"), plain("two"), LONG)
    before = await trial.mail(trial.name)
    await trial.reopen()
    await trial.expect(trial.name, before)
    await trial.fill(trial.name, plain("four"))
    found = await trial.mail(trial.name)
    if list(found)[:-1] != list(before):
        raise Broken(f"after one more delivery there are the uids {list(found)}, before there were {list(before)}")
    await trial.reopen()
    await trial.expect(trial.name, found)


@check("reopen", "exclusive")
async def the_lock_is_for_all_views(trial: Trial) -> None:
    """A maildrop that is held in one view of the store is MaildropInUse in another, and free when it is released."""
    await trial.fill(trial.name, plain("one"))
    before = await trial.mail(trial.name)
    other = await trial.view()
    async with trial.session(trial.name) as held:
        for _ in range(2):
            step = f"open {held.user} in another view"
            await trial.refused(MaildropInUse, step, trial.open_as, held.user, other)
        await trial.read_all(held)
    trial.backend = other
    await trial.expect(trial.name, before)


@check("reopen")
async def a_commit_outlives_a_restart(trial: Trial) -> None:
    """What commit has removed is gone in every other view of the store, and the rest is there."""
    await trial.fill(trial.name, plain("one"), plain("two"), plain("three"))
    before = await trial.mail(trial.name)
    async with trial.session(trial.name) as held:
        await trial.commit(held, held.messages[:2])
    await trial.reopen()
    await trial.expect(trial.name, without(before, held.messages[:2]))


@check("reopen")
async def uids_outlive_a_restart(trial: Trial) -> None:
    """The uid of a removed message is not used again after a restart either."""
    await no_uid_twice(trial, trial.reopen)


@check("reopen", "crash")
async def a_crash_in_a_session(trial: Trial) -> None:
    """After a crash in the middle of a session nothing is removed, uids are the same, and the maildrop opens."""
    await trial.fill(trial.name, plain("one"), LONG)
    before = await trial.mail(trial.name)
    for _ in range(2):
        held = await trial.open(trial.name)
        await trial.do("retrieve a piece", content_of, held.maildrop, held.messages[1], 1)
        await trial.crash()
        await trial.expect(trial.name, before)


@check("reopen", "crash")
async def a_crash_after_commit(trial: Trial) -> None:
    """What a commit has removed is gone, also if the process dies before it releases."""
    await trial.fill(trial.name, plain("one"), plain("two"), plain("three"))
    before = await trial.mail(trial.name)
    held = await trial.open(trial.name)
    await trial.commit(held, held.messages[1:])
    await trial.crash()
    await trial.expect(trial.name, without(before, held.messages[1:]))


@check("reopen", "crash")
async def a_crash_in_commit(trial: Trial) -> None:
    """After a crash in a commit, at whichever await, each marked message is whole or gone, all others are whole, and
    the next session removes the rest.
    """
    for cut in cuts(trial, first=1):
        await trial.fill(trial.name, *[plain(word) for word in ("one", "two", "three")])
        before = await trial.mail(trial.name)
        held = await trial.open(trial.name)
        marked = held.messages[:2]
        with cut:
            await trial.do("commit 2 messages", held.maildrop.commit, marked)
        await trial.crash()
        await whole_after_commit(trial, before, without(before, marked), done=False)
        async with trial.session(trial.name) as held:
            await trial.commit(held, held.messages)
