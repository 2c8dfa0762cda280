"""Opening a maildrop and reading what is in it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Final

import trio

from trio_pop3 import MaildropInUse, MessageInfo, MessageUnavailable

from ..model import canonical
from .trial import LONG, Broken, Held, Skipped, Trial, check, close, content_of, difference, plain, together

_UID: Final = re.compile(r"[\x21-\x7e]{1,70}")
_AT_ONCE: Final = 5

# What stores are known to trip over.
AWKWARD: Final[Mapping[str, bytes]] = MappingProxyType(
    {
        "LF": b"Subject: LF\n\nbody\n",
        "CRLF": b"Subject: CRLF\r\n\r\nbody\r\n",
        "both line ends": b"Subject: both\r\n\nbody\nmore\r\n",
        "a CR alone": b"Subject: CR\r\n\r\none\rtwo\r\n",
        "a CR at the end": b"Subject: CR\r\n\r\nbody\r",
        "CR CR LF": b"Subject: CR\r\r\n\r\r\nbody\r\r\n",
        "no line end": b"Subject: none\n\nbody",
        "nothing": b"",
        "a line end": b"\n",
        "a CR": b"\r",
        "a dot": b".",
        "dots": b".\n..\n.\n.x\r\n.\r\n\n...\n.",
        "From": b"From somebody\nSubject: From\n\nFrom here\n>From there\n",
        "no header": b"\n\nbody\n\n\n",
        "NUL": b"Subject: NUL\n\n\0\0\n\0",
        "every octet": bytes(range(256)),
        "UTF-8": "Subject: Grüße\n\nÄÖÜ ß\n".encode(),
        "a line of 100 kB": b"Subject: line\n\n" + b"x" * 100_000 + b"\n",
        "1 MB of lines": b"Subject: lines\n\n" + b".line\n" * 170_000,
        "a CR at the edge": b"x" * (64 * 1024 - 1) + b"\r\n" + b"x" * (256 * 1024 - 64 * 1024 - 2) + b"\r\n.\r\n",
    }
)


async def _awkward(trial: Trial) -> tuple[dict[str, bytes], Held]:
    """The awkward messages that this store can hold, delivered, and the maildrop they are in."""
    held = {what: message for what, message in AWKWARD.items() if await trial.deliver(trial.name, message)}
    if not held:
        raise Broken("deliver raised ValueError for every message there is")
    return held, await trial.open(trial.name)


@check()
async def snapshot_form(trial: Trial) -> None:
    """messages is a sequence of MessageInfo: uid of 1 to 70 characters in 0x21-0x7E, no two the same; octets an int
    from 2 up.
    """
    for message in (b"", plain("one"), plain("two")):
        await trial.deliver(trial.name, message)
    async with trial.session(trial.name) as held:
        messages: object = held.maildrop.messages
        if not isinstance(messages, Sequence):
            raise Broken(f"messages is {type(messages).__name__}, not a sequence")
        for message in messages:
            if not isinstance(message, MessageInfo):
                raise Broken(f"messages has {type(message).__name__} in it, not MessageInfo")
            if type(message.uid) is not str or not _UID.fullmatch(message.uid):
                raise Broken(f"the uid {message.uid!r:.100} is not one")
            if type(message.octets) is not int or message.octets < 2:
                raise Broken(f"the size of uid {message.uid} is {message.octets!r:.100}")
        if len({message.uid for message in messages}) < len(messages):
            raise Broken(f"two messages have the same uid: {[message.uid for message in messages]}")


@check()
async def empty_maildrop(trial: Trial) -> None:
    """A maildrop without mail opens, and has no messages."""
    async with trial.session(trial.name) as held:
        if held.messages:
            raise Broken(f"a fresh maildrop has {len(held.messages)} messages; the bench must make it empty")
        await trial.commit(held, ())


@check()
async def every_message_is_there(trial: Trial) -> None:
    """Every message that was delivered is in the next snapshot, whatever its octets."""
    delivered, held = await _awkward(trial)
    if len(held.messages) != len(delivered):
        raise Broken(f"{len(delivered)} were delivered, and {len(held.messages)} are there: {', '.join(delivered)}")
    await trial.release(held)


@check()
async def sizes_are_exact(trial: Trial) -> None:
    """octets is the exact size of what retrieve gives, as it is sent: a line end is two octets, and the last line has
    one.
    """
    _, held = await _awkward(trial)
    wrong = []
    for message in held.messages:
        content = await trial.read(held, message)
        if (octets := len(canonical(content))) != message.octets:
            wrong.append(f"{message.octets} instead of {octets} for {content!a:.40}")
    if wrong:
        raise Broken("; ".join(wrong))
    await trial.release(held)


@check()
async def content_comes_back(trial: Trial) -> None:
    """retrieve gives the message that was delivered, but for its line ends, oldest first."""
    delivered, held = await _awkward(trial)
    if len(delivered) != len(held.messages):
        raise Skipped("not every message is there")
    wrong = [
        f"{what}: {message!a:.40} became {content!a:.40}"
        for (what, message), info in zip(delivered.items(), held.messages, strict=True)
        if not trial.same(message, content := await trial.read(held, info))
    ]
    if wrong:
        raise Broken("; ".join(wrong))
    await trial.release(held)


@check()
async def order_stays(trial: Trial) -> None:
    """Messages stand in the order in which they were delivered, in every session."""
    words = ["zebra", "ant", "monkey", "bee", "yak"]
    for count, word in enumerate(words, 1):
        await trial.fill(trial.name, plain(word))
        found = list((await trial.mail(trial.name)).values())
        if len(found) != count or not all(map(trial.same, map(plain, words), found)):
            raise Broken(f"{words[:count]} were delivered, and there are {found!a:.200}")


@check()
async def snapshot_is_frozen(trial: Trial) -> None:
    """Mail that comes during a session is not seen in it, and shifts nothing; the next session sees it."""
    await trial.fill(trial.name, plain("one"), plain("two"))
    async with trial.session(trial.name) as held:
        before = await trial.read_all(held)
        await trial.fill(trial.name, plain("three"))
        if tuple(held.maildrop.messages) != held.messages:
            raise Broken("messages has changed during the session")
        if (after := await trial.read_all(held)) != before:
            raise Broken(f"retrieve {difference(before, after)}")
    if len(found := await trial.mail(trial.name)) != 3:
        raise Broken(f"the next session sees {len(found)} messages, not 3")


@check()
async def maildrops_are_apart(trial: Trial) -> None:
    """Users have each their own mail, also in sessions at the same time, and what one removes the other keeps."""
    name, second = trial.name, trial.second
    await trial.fill(name, plain("one"), plain("two"), LONG)
    await trial.fill(second, plain("three"), plain("four"), LONG)
    mine, theirs = await trial.mail(name), await trial.mail(second)
    for mail, words in ((mine, ("one", "two")), (theirs, ("three", "four"))):
        if len(mail) != 3 or not all(map(trial.same, map(plain, words), mail.values())):
            raise Broken(f"{words} were delivered, and there are {list(mail.values())!a:.200}")
    async with trial.session(name) as held, trial.session(second) as other:
        found: list[dict[str, bytes]] = [{}, {}]

        async def read(index: int, held: Held) -> None:
            found[index] = await trial.read_all(held)

        await together(partial(read, 0, held), partial(read, 1, other))
        if found != [mine, theirs]:
            raise Broken("two sessions that read at the same time got other mail than each alone")
        await trial.commit(held, held.messages[:1])
    await trial.expect(name, dict(list(mine.items())[1:]))
    await trial.expect(second, theirs)


# --- the lock ----------------------------------------------------------------------------------------------------


@check("exclusive")
async def one_session_at_a_time(trial: Trial) -> None:
    """open raises MaildropInUse while somebody holds the maildrop, each time."""
    async with trial.session(trial.name) as held:
        for _ in range(2):
            await _in_use(trial, held)


async def _in_use(trial: Trial, held: Held) -> None:
    await trial.refused(MaildropInUse, f"open {held.user} once more", trial.open_as, held.user)


@check("exclusive")
async def the_refused_disturb_nobody(trial: Trial) -> None:
    """A refused open does not disturb the holder: it reads, commits and releases as if nobody had come."""
    await trial.fill(trial.name, plain("one"), plain("two"))
    before = await trial.mail(trial.name)
    async with trial.session(trial.name) as held:
        await _in_use(trial, held)
        if (found := await trial.read_all(held)) != before:
            raise Broken(f"retrieve {difference(before, found)}")
        await _in_use(trial, held)
        await trial.commit(held, held.messages[:1])
        await _in_use(trial, held)
    await trial.expect(trial.name, dict(list(before.items())[1:]))


@check("exclusive")
async def one_of_many_gets_in(trial: Trial) -> None:
    """Of those who open a maildrop at the same time one gets it, and the others MaildropInUse."""
    user = await trial.user(trial.name)
    for _ in range(3):
        opened: list[Held] = []
        await together(*[partial(_contend, trial, user, opened)] * _AT_ONCE)
        for held in opened:
            await trial.release(held)
        if len(opened) != 1:
            raise Broken(f"{len(opened)} of {_AT_ONCE} got it")


async def _contend(trial: Trial, user: str, opened: list[Held]) -> None:
    with suppress(MaildropInUse):
        opened.append(await trial.open_as(user))


@check()
async def a_released_maildrop_opens(trial: Trial) -> None:
    """release gives the lock back, after a commit or without one; the next session is as good as the first."""
    await trial.fill(trial.name, plain("one"))
    before = await trial.mail(trial.name)
    for commits in (False, True, False):
        async with trial.session(trial.name) as held:
            if commits:
                await trial.commit(held, ())
        await trial.expect(trial.name, before)


@check("failing_open")
async def a_failed_open_holds_nothing(trial: Trial) -> None:
    """When the mail cannot be read, open raises, and holds nothing: a maildrop without its mail is never shown."""
    await trial.fill(trial.name, plain("one"), plain("two"))
    before = await trial.mail(trial.name)
    user = await trial.user(trial.name)
    failing_open = trial.bench.failing_open
    assert failing_open is not None
    for _ in range(2):
        with failing_open():
            failure = await trial.refused(Exception, f"open {user}, failing", trial.open_as, user)
        if isinstance(failure, MaildropInUse):
            raise Broken("it raised MaildropInUse, while nobody holds the maildrop")
    await trial.expect(trial.name, before)


# --- reading -----------------------------------------------------------------------------------------------------


@check()
async def content_is_octets(trial: Trial) -> None:
    """retrieve gives bytes, or an asynchronous iterable of bytes."""
    await trial.fill(trial.name, plain("one"), LONG)
    async with trial.session(trial.name) as held:
        await trial.read_all(held)


@check()
async def retrieve_can_be_repeated(trial: Trial) -> None:
    """A message is the same each time it is retrieved, in any order."""
    await trial.fill(trial.name, plain("one"), LONG, plain("three"))
    async with trial.session(trial.name) as held:
        first = await trial.read_all(held)
        for message in (*reversed(held.messages), held.messages[1], held.messages[1]):
            if await trial.read(held, message) != first[message.uid]:
                raise Broken(f"uid {message.uid} has another content than before")


@check()
async def retrieve_removes_nothing(trial: Trial) -> None:
    """What was retrieved stays, with its uid, whether the session commits nothing or does not commit."""
    await trial.fill(trial.name, plain("one"), plain("two"))
    before = await trial.mail(trial.name)
    for commits in (True, False):
        async with trial.session(trial.name) as held:
            await trial.read_all(held)
            if commits:
                await trial.commit(held, ())
        await trial.expect(trial.name, before)


@check()
async def content_can_be_closed(trial: Trial) -> None:
    """An iterable that retrieve gives can be closed at any time, and again; the maildrop goes on working."""
    await trial.fill(trial.name, LONG, plain("two"))
    async with trial.session(trial.name) as held:
        long = held.messages[0]
        whole = await trial.read(held, long)
        for pieces in (0, 1, 2):
            begun = await trial.do(f"retrieve {pieces} pieces of it", content_of, held.maildrop, long, pieces)
            if not whole.startswith(begun):
                raise Broken(f"{pieces} pieces of a message are not its beginning")
        content = await held.maildrop.retrieve(long)
        if not isinstance(content, bytes):
            source = aiter(content)
            async for _ in source:
                pass
            await trial.do("close it at its end", close, source)
            await trial.do("close it again", close, source)
        if await trial.read(held, long) != whole:
            raise Broken("closed early, a message is another one the next time")
        await trial.read(held, held.messages[1])


@check("remove")
async def a_vanished_message_is_unavailable(trial: Trial) -> None:
    """retrieve raises MessageUnavailable for a message that somebody else has removed; the others are as before."""
    await trial.fill(trial.name, plain("one"), plain("two"), plain("three"))
    async with trial.session(trial.name) as held:
        before = await trial.read_all(held)
        first, gone, third = held.messages
        await trial.remove(trial.name, gone)
        for _ in range(2):
            await trial.refused(MessageUnavailable, f"retrieve {gone.uid}", content_of, held.maildrop, gone)
        for message in (third, first):
            if await trial.read(held, message) != before[message.uid]:
                raise Broken(f"uid {message.uid} has become another message")
    del before[gone.uid]
    await trial.expect(trial.name, before)


# --- unique-ids --------------------------------------------------------------------------------------------------


@check()
async def uids_stay(trial: Trial) -> None:
    """A message keeps its uid over sessions, and while others come and go."""
    await trial.fill(trial.name, *[plain(word) for word in ("one", "two", "three", "four")])
    expected = await trial.mail(trial.name)
    for victim in (1, 0):
        async with trial.session(trial.name) as held:
            await trial.read_all(held)
            await trial.commit(held, [held.messages[victim]])
        del expected[held.messages[victim].uid]
        await trial.expect(trial.name, expected)
        await trial.fill(trial.name, plain(f"after {victim}"))
        found = await trial.mail(trial.name)
        if dict(list(found.items())[:-1]) != expected:
            raise Broken(f"with one more delivered, the mail of {trial.name} {difference(expected, found)}")
        expected = found


@check()
async def uids_are_not_used_again(trial: Trial) -> None:
    """The uid of a message that was removed is never another's, even if that is equal and the only one."""
    await no_uid_twice(trial, trio.lowlevel.checkpoint)


async def no_uid_twice(trial: Trial, between: Callable[[], Awaitable[None]]) -> None:
    """Deliver and remove the same message again and again."""
    seen: list[str] = []
    for _ in range(4):
        await trial.fill(trial.name, plain("same"))
        async with trial.session(trial.name) as held:
            (message,) = held.messages
            if message.uid in seen:
                raise Broken(f"uid {message.uid} was that of a message which is gone")
            seen.append(message.uid)
            await trial.commit(held, held.messages)
        await between()


@check()
async def equal_messages_have_their_own_uids(trial: Trial) -> None:
    """Two messages that are equal to the octet are two messages, with two uids."""
    await trial.fill(trial.name, plain("same"), plain("same"), plain("same"))
    async with trial.session(trial.name) as held:
        if len({message.uid for message in held.messages}) != 3:
            raise Broken(f"3 equal messages have the uids {[message.uid for message in held.messages]}")
        await trial.commit(held, held.messages[1:2])
    if len(found := await trial.mail(trial.name)) != 2:
        raise Broken(f"of 3 equal messages one was removed, and {len(found)} are left")
