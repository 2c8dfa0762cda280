"""What commit removes, and what nothing else does."""

from __future__ import annotations

from trio_pop3 import CommitIncomplete

from .trial import Broken, Trial, check, difference, plain, without

_WORDS = ("one", "two", "three", "four", "five")


async def _filled(trial: Trial) -> dict[str, bytes]:
    """Five messages."""
    await trial.fill(trial.name, *map(plain, _WORDS))
    return await trial.mail(trial.name)


@check()
async def commit_removes_what_is_marked(trial: Trial) -> None:
    """commit removes exactly the messages it is given, and the others stay whole."""
    left = await _filled(trial)
    for marked in ((0, 2), (2,), (0, 1)):
        async with trial.session(trial.name) as held:
            deleted = [held.messages[index] for index in marked]
            await trial.commit(held, deleted)
        left = without(left, deleted)
        await trial.expect(trial.name, left)


@check()
async def commit_of_nothing(trial: Trial) -> None:
    """commit with an empty sequence removes nothing."""
    before = await _filled(trial)
    async with trial.session(trial.name) as held:
        await trial.commit(held, [])
    await trial.expect(trial.name, before)


@check()
async def commit_can_be_repeated(trial: Trial) -> None:
    """Removing what is already gone is success: a commit can be made again."""
    before = await _filled(trial)
    async with trial.session(trial.name) as held:
        for _ in range(2):
            await trial.commit(held, held.messages[1:3])
        await trial.commit(held, held.messages[1:4])
    await trial.expect(trial.name, without(before, held.messages[1:4]))


@check("remove")
async def commit_of_what_is_gone(trial: Trial) -> None:
    """Removing what somebody else has removed is success, and the rest is removed as well."""
    before = await _filled(trial)
    async with trial.session(trial.name) as held:
        await trial.remove(trial.name, held.messages[1])
        await trial.commit(held, held.messages[1:3])
    await trial.expect(trial.name, without(before, held.messages[1:3]))


@check()
async def commit_spares_new_mail(trial: Trial) -> None:
    """Mail that came during the session outlives a commit of everything that was there."""
    await _filled(trial)
    async with trial.session(trial.name) as held:
        await trial.fill(trial.name, plain("new"))
        await trial.commit(held, held.messages)
    found = await trial.mail(trial.name)
    if len(found) != 1 or not trial.same(plain("new"), *found.values()):
        raise Broken(f"one new message should be there, and there are {list(found.values())!a:.200}")


@check()
async def release_removes_nothing(trial: Trial) -> None:
    """release without commit removes nothing, and release after a commit nothing more."""
    before = await _filled(trial)
    async with trial.session(trial.name):
        pass
    await trial.expect(trial.name, before)
    async with trial.session(trial.name) as held:
        await trial.commit(held, held.messages[:1])
    await trial.expect(trial.name, without(before, held.messages[:1]))


@check("failing_commit")
async def a_failed_commit_says_so(trial: Trial) -> None:
    """A commit that cannot remove everything raises; CommitIncomplete says how many remain. They and the others are
    whole, keep their uids, and can be removed later.
    """
    before = await _filled(trial)
    failing_commit = trial.bench.failing_commit
    assert failing_commit is not None
    said: Exception | None = None
    async with trial.session(trial.name) as held:
        marked = [held.messages[index] for index in (0, 1, 3)]
        with failing_commit():
            try:
                await trial.commit(held, marked)
            except Exception as failure:  # looked at below
                said = failure
    found = await trial.mail(trial.name)
    remaining = [message.uid for message in marked if message.uid in found]
    if said is None:
        raise Broken(f"it returned, and {len(remaining)} of 3 marked messages are still there")
    if isinstance(said, CommitIncomplete) and said.remaining != len(remaining):
        raise Broken(f"it said that {said.remaining} remain, and there are {len(remaining)}")
    gone = [message for message in marked if message.uid not in found]
    if found != (expected := without(before, gone)):
        raise Broken(f"afterwards the mail of {trial.name} {difference(expected, found)}")
    async with trial.session(trial.name) as held:
        await trial.commit(held, [message for message in held.messages if message.uid in remaining])
    await trial.expect(trial.name, without(before, marked))
