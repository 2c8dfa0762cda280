"""Mail: what replies say, messages, deleting, pipelining."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from tests.helpers_server import Cut
from trio_pop3.client import Pop3Client, Reply, ReplyError
from trio_pop3.sansio import (
    Capa,
    Command,
    Dele,
    Err,
    List,
    LocalProtocolError,
    Noop,
    Ok,
    Pass,
    Quit,
    RemoteProtocolError,
    Retr,
    Rset,
    Stat,
    State,
    Top,
    Uidl,
    User,
    octets_of,
)

from .helpers import (
    GREETING,
    LARGE,
    LOGIN,
    PATIENCE,
    PIPELINING,
    Call,
    Script,
    assert_broken,
    mailbox,
    scripted,
    served,
)

# --- what the replies say ---------------------------------------------------------------------------------------------


async def test_replies_with_something_behind() -> None:
    """R1939-78: what hosts append is ignored, and so are the texts of all other replies."""
    async with scripted(
        (b"STAT", b"+OK 2 320 octets in all\r\n"),
        (b"LIST", b"+OK 99 whatever\r\n1 120 octets\r\n2  200\r\n.\r\n"),
        (b"LIST 2", b"+OK 2 200 more\r\n"),
        (b"UIDL", b"+OK\r\n1 abc def\r\n2 xyz\r\n.\r\n"),
        (b"UIDL 2", b"+OK 2 xyz and so on\r\n"),
        (b"DELE 2", b"+OK 1 120\r\n"),
        (b"RSET", b"+OK nothing to take back\r\n"),
    ) as (client, _):
        status = await client.stat()
        assert (status.messages, status.octets) == (2, 320)
        assert await client.list() == {1: 120, 2: 200}
        assert await client.size(2) == 200
        assert await client.uidl() == {1: "abc", 2: "xyz"}
        assert await client.uid(2) == "xyz"
        await client.dele(2)
        await client.rset()


async def test_empty_listings() -> None:
    async with scripted((b"LIST", b"+OK\r\n.\r\n"), (b"UIDL", b"+OK\r\n.\r\n")) as (client, _):
        assert await client.list() == {}
        assert await client.uidl() == {}


async def test_same_uid_twice() -> None:
    """R1939-65, A-29: two messages with one uid are two messages."""
    async with scripted((b"UIDL", b"+OK\r\n1 same\r\n2 same\r\n.\r\n")) as (client, _):
        assert await client.uidl() == {1: "same", 2: "same"}


async def test_long_uids() -> None:
    """A12: more than the 70 octets of RFC 1939 are taken, but not any number."""
    turns = [(b"UIDL", b"+OK\r\n1 " + b"x" * 512 + b"\r\n.\r\n"), (b"UIDL", b"+OK\r\n1 " + b"x" * 513 + b"\r\n.\r\n")]
    async with scripted(*turns) as (client, _):
        assert await client.uidl() == {1: "x" * 512}
        with pytest.raises(RemoteProtocolError):
            await client.uidl()


GARBAGE: list[tuple[Call, bytes, bytes]] = [
    (Pop3Client.stat, b"STAT", b"+OK\r\n"),
    (Pop3Client.stat, b"STAT", b"+OK 1\r\n"),
    (Pop3Client.stat, b"STAT", b"+OK one 120\r\n"),
    (Pop3Client.stat, b"STAT", b"+OK -1 120\r\n"),
    (Pop3Client.stat, b"STAT", b"+OK 1 " + b"9" * 4000 + b"\r\n"),
    (Pop3Client.stat, b"STAT", b"* 1 120\r\n"),
    (Pop3Client.stat, b"STAT", b"+OKAY 1 120\r\n"),
    (Pop3Client.stat, b"STAT", b"+OK " + b"x" * 5000),
    (Pop3Client.list, b"LIST", b"+OK\r\n1 1_0\r\n.\r\n"),
    (Pop3Client.list, b"LIST", b"+OK\r\n\r\n.\r\n"),
    (Pop3Client.list, b"LIST", b"+OK\r\n1 120\r\n\xd9\xa1 120\r\n.\r\n"),
    (Pop3Client.list, b"LIST", b"+OK\r\n1 " + b"0" * 5000),
    (Pop3Client.uidl, b"UIDL", b"+OK\r\n1\r\n.\r\n"),
    (Pop3Client.uidl, b"UIDL", b"+OK\r\n1 a\xffb\r\n.\r\n"),
    (Pop3Client.uidl, b"UIDL", b"+OK\r\nabc 1\r\n.\r\n"),
    (lambda client: client.size(2), b"LIST 2", b"+OK 3 120\r\n"),
    (lambda client: client.uid(2), b"UIDL 2", b"+OK 3 abc\r\n"),
    (lambda client: client.uid(2), b"UIDL 2", b"+OK abc\r\n"),
    (lambda client: client.fetch(2), b"RETR 2", b"From: nobody\r\n"),
]


@pytest.mark.parametrize(("call", "command", "reply"), GARBAGE)
async def test_garbage_ends_the_session(call: Call, command: bytes, reply: bytes) -> None:
    async with scripted((command, reply)) as (client, script):
        with pytest.raises(RemoteProtocolError):
            await call(client)
        await assert_broken(client, script)


# --- messages ---------------------------------------------------------------------------------------------------------


async def test_dots() -> None:
    """R1939-10: a leading dot goes; R1939-11: the terminator is no data."""
    body = b"+OK\r\n..\r\n...\r\n..x\r\nx.\r\n\r\n.\r\n"
    async with scripted((b"RETR 1", body), (b"TOP 1 0", body)) as (client, _):
        assert await client.fetch(1) == b".\r\n..\r\n.x\r\nx.\r\n\r\n"
        assert await client.top(1, 0) == b".\r\n..\r\n.x\r\nx.\r\n\r\n"


async def test_lenient_terminator() -> None:
    async with scripted((b"RETR 1", b"+OK\r\nx\r\n.\n"), (b"NOOP", b"+OK\r\n"), lenient_terminator=True) as (client, _):
        assert await client.fetch(1) == b"x\r\n"
        await client.noop()


async def test_retrieve_in_pieces() -> None:
    async with served(mailbox(LARGE)) as client:
        await client.login("u", "p")
        async with client.retrieve(1) as pieces:
            found = [piece async for piece in pieces]
        assert len(found) > 1
        assert b"".join(found) == LARGE
        await client.quit()


async def test_leaving_early_reads_the_rest() -> None:
    """However the reading stopped, the next reply is the next command's."""
    async with served(mailbox(LARGE, b"two\r\n")) as client:
        await client.login("u", "p")
        async with client.retrieve(1):
            pass
        assert await client.fetch(2) == b"two\r\n"
        async with client.retrieve(1) as pieces:
            async for _ in pieces:
                break
        assert await client.fetch(2) == b"two\r\n"
        async with client.retrieve(1) as pieces:
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(pieces)
        assert await client.fetch(2) == b"two\r\n"


async def test_leaving_by_an_exception() -> None:
    """Before the end it closes the connection; after the end there is nothing out of step."""
    turns = [(b"RETR 1", b"+OK\r\nx\r\n.\r\n"), (b"RETR 1", b"+OK\r\nx\r\n.\r\n")]
    async with scripted(*turns) as (client, script):
        for read in (True, False):
            with pytest.raises(KeyError):  # noqa: PT012 - leaving a block is what this is about
                async with client.retrieve(1) as pieces:
                    if read:
                        assert [piece async for piece in pieces] == [b"x\r\n"]
                    raise KeyError
        await assert_broken(client, script)


async def test_refused_message() -> None:
    async with served(mailbox()) as client:
        await client.login("u", "p")
        with pytest.raises(ReplyError, match="no such message"):
            async with client.retrieve(1):
                raise AssertionError
        for call in (client.fetch(1), client.top(1, 1), client.dele(1), client.size(1), client.uid(1)):
            with pytest.raises(ReplyError):
                await call
        assert await client.stat() == (0, 0)


async def test_too_large_a_message() -> None:
    reply = (b"RETR 1", b"+OK\r\n" + b"x" * 100 + b"\r\n.\r\n")
    async with scripted((b"TOP 1 1", b"+OK\r\n12345678\r\n.\r\n"), reply, max_message=10) as (client, script):
        assert await client.top(1, 1) == b"12345678\r\n"
        with pytest.raises(RemoteProtocolError, match="10 octets"):
            await client.fetch(1)
        await assert_broken(client, script)


async def test_too_large_a_message_for_a_reader_who_does_not_care() -> None:
    """Swallowing the error inside the block does not make the session usable."""
    async with scripted((b"RETR 1", b"+OK\r\n" + b"x" * 100), max_message=10) as (client, script):
        async with client.retrieve(1) as pieces:
            with pytest.raises(RemoteProtocolError):
                await anext(pieces)
        await assert_broken(client, script)


# --- deleting ---------------------------------------------------------------------------------------------------------


async def test_deleting_needs_dele_and_quit() -> None:
    """R1939-79: reading deletes nothing, nor does leaving without QUIT; DELE and QUIT do."""
    backend = mailbox(b"one\r\n", b"two\r\n")
    async with served(backend) as client:
        await client.login("u", "p")
        await client.fetch(1)
        await client.quit()
        assert client.state is State.CLOSED
        with pytest.raises(LocalProtocolError):
            await client.noop()
    async with served(backend) as client:
        await client.login("u", "p")
        await client.dele(1)
    assert len(backend.messages("u")) == 2
    async with served(backend) as client:
        await client.login("u", "p")
        await client.dele(1)
        await client.dele(2)
        await client.rset()
        await client.dele(1)
        assert await client.list() == {2: 5}
        await client.quit()
    assert list(backend.messages("u").values()) == [b"two\r\n"]


async def test_refused_quit() -> None:
    async with scripted((b"QUIT", b"-ERR some deleted messages not removed\r\n")) as (client, _):
        with pytest.raises(ReplyError, match="not removed"):
            await client.quit()
        assert client.state is State.CLOSED


# --- pipelining -------------------------------------------------------------------------------------------------------


async def test_replies_in_order() -> None:
    """R2449-25: every reply belongs to its command, of whatever shape."""
    async with served(mailbox(b"one\r\n", b"two\n.\n")) as client:
        replies = await client.pipeline([User("u"), Pass(b"p"), Stat(), Retr(2), Retr(3), List(1), Uidl(), Dele(1)])
        assert [reply.ok for reply in replies] == [True, True, True, True, False, True, True, True]
        assert [reply.body for reply in replies if reply.body is not None] == [
            b"two\r\n.\r\n",
            b"1 00000001\r\n2 00000002\r\n",
        ]
        assert replies[2] == Reply(Ok("2 13"))
        assert replies[4] == Reply(Err("no such message"))
        replies = await client.pipeline([Rset(), Top(1, 0), Quit()])
        assert [reply.body for reply in replies] == [None, b"one\r\n", None]
        assert client.state is State.CLOSED


async def test_one_at_a_time() -> None:
    """R2449-25: nothing is sent ahead to a server that did not announce PIPELINING."""
    turns = [(b"CAPA", b"+OK\r\nTOP\r\n.\r\n"), (b"NOOP", b"+OK\r\n"), (b"NOOP", b"-ERR\r\n"), (b"QUIT", b"+OK\r\n")]
    async with scripted(*turns) as (client, script):
        replies = await client.pipeline([Noop(), Noop(), Quit()])
        assert [reply.ok for reply in replies] == [True, False, True]
        assert script.ahead == 0


async def test_ahead() -> None:
    turns = [PIPELINING, (b"NOOP", b"+OK\r\n"), (b"NOOP", b"+OK\r\n"), (b"QUIT", b"+OK\r\n")]
    async with scripted(*turns) as (client, script):
        await client.pipeline([Noop(), Noop(), Quit()])
        assert script.ahead == 2


async def test_nothing_to_do() -> None:
    async with scripted(PIPELINING) as (client, _):
        assert await client.pipeline([]) == []


@pytest.mark.parametrize("window", [1, 7, 65536])
async def test_large_batch_on_a_small_window(window: int) -> None:
    """R2449-26: reading while writing. A send waits until the other side has taken all of it; nobody waits for ever."""
    backend = mailbox(b"x" * 18 + b"\r\n")
    message = b"0123456789abcdef\r\n.\r\n" * 950
    for _ in range(2):
        backend.deliver("u", message)
    async with served(backend, theirs_at_once=window) as client:
        await client.login("u", "p")
        replies = await client.pipeline([Retr(2 + number % 2) for number in range(500)])
        assert len(message) > 19_000
        assert [reply.body for reply in replies] == [message] * 500
        assert await client.stat() == (3, 2 * octets_of(message) + 20)


async def test_more_commands_than_may_be_under_way() -> None:
    async with served(mailbox(b"x\r\n")) as client:
        await client.login("u", "p")
        commands: list[Command] = [Noop() if number % 3 else Retr(1) for number in range(2000)]
        replies = await client.pipeline(commands)
        assert [reply.body is None for reply in replies] == [isinstance(command, Noop) for command in commands]


@pytest.mark.parametrize("bad", [[Noop(), Retr(-1)], [Quit(), Noop()], [Noop(), User("u")]])
async def test_commands_that_do_not_fit(bad: list[Command]) -> None:
    """Nothing of the batch is sent, and the session goes on."""
    async with scripted(PIPELINING, (b"STAT", b"+OK 0 0\r\n")) as (client, _):
        with pytest.raises(LocalProtocolError):
            await client.pipeline(bad)
        assert await client.stat() == (0, 0)


async def test_refused_login_in_a_batch() -> None:
    """What was sent ahead is refused as well; what was not sent yet has no reply."""
    commands = [User("u"), Pass(b"wrong"), Capa(), Stat()]
    async with served(mailbox()) as client:
        assert [reply.ok for reply in await client.pipeline(commands)] == [True, False, True, False]
    turns = [(b"CAPA", b"-ERR\r\n"), (b"USER u", b"+OK\r\n"), (b"PASS wrong", b"-ERR\r\n"), (b"CAPA", b"-ERR\r\n")]
    async with scripted(*turns, *LOGIN, login=False) as (client, _):
        assert [reply.ok for reply in await client.pipeline(commands)] == [True, False, False]
        await client.login("u", "p")


async def test_too_much_for_a_batch() -> None:
    """The limit is for all bodies together, whether they come ahead or one at a time."""
    body = b"+OK\r\n" + b"x" * 58 + b"\r\n.\r\n"
    for capa in (PIPELINING, (b"CAPA", b"-ERR\r\n")):
        async with scripted(capa, *[(b"RETR 1", body)] * 2, *[(b"RETR 1", body)] * 2) as (client, script):
            assert len(await client.pipeline([Retr(1)] * 2, max_octets=120)) == 2
            with pytest.raises(RemoteProtocolError, match="octets"):
                await client.pipeline([Retr(1)] * 2, max_octets=119)
            await assert_broken(client, script)


async def test_batch_meets_garbage() -> None:
    """The error is the plain one, without a group around it, although two tasks were at work."""
    async with scripted(PIPELINING, (b"NOOP", b"+OK\r\n"), (b"NOOP", b"what?\r\n")) as (client, script):
        with pytest.raises(RemoteProtocolError, match="what"):
            await client.pipeline([Noop()] * 2)
        await assert_broken(client, script)


class Deaf(Cut):
    """Sending fails from some time on; receiving waits."""

    deaf = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.deaf:
            raise trio.BrokenResourceError("reset by peer")
        await super().send_all(data)


async def test_batch_cannot_be_written() -> None:
    """The failure of the writing task is what the caller gets; the reader does not wait for ever."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GREETING + b"+OK\r\n+OK\r\n+OK\r\nPIPELINING\r\n.\r\n")
    stream = Deaf(ours, 1)
    with trio.fail_after(PATIENCE):
        async with Pop3Client(stream) as client:
            await client.greeting()
            await client.login("u", "p")
            await client.capa()
            stream.deaf = True
            with pytest.raises(trio.BrokenResourceError, match="reset"):
                await client.pipeline([Noop()] * 2)
            with pytest.raises(trio.BrokenResourceError, match="earlier"):
                await client.noop()


async def test_batch_meets_garbage_while_it_is_written(autojump_clock: MockClock) -> None:
    """A server that talks nonsense and reads no further holds nobody up."""
    ours, theirs = lockstep_stream_pair()

    async def play() -> None:
        script = Script(theirs, [*LOGIN, PIPELINING])
        await script.run(GREETING)
        await theirs.receive_some(1)
        await theirs.send_all(b"what?\r\n")

    with trio.fail_after(PATIENCE):
        async with Pop3Client(ours) as client, trio.open_nursery() as nursery:
            nursery.start_soon(play)
            await client.greeting()
            await client.login("u", "p")
            with pytest.raises(RemoteProtocolError, match="what"):
                await client.pipeline([Noop()] * 2)


async def test_batch_cancelled(autojump_clock: MockClock) -> None:
    async with scripted(PIPELINING, (b"NOOP", b"+OK\r\n"), (b"NOOP", b"")) as (client, script):
        with trio.move_on_after(10) as scope:
            await client.pipeline([Noop()] * 2)
        assert scope.cancelled_caught
        await assert_broken(client, script)


# --- against our own server -------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    messages=st.lists(
        st.lists(st.sampled_from([b"\r\n", b"\n", b".", b"x", b"\0\xff", b"\r\n.\r\n"]), max_size=12).map(b"".join),
        max_size=4,
    ),
    seed=st.integers(0, 2**32),
)
async def test_any_mail_in_any_pieces(messages: list[bytes], seed: int) -> None:
    """What STAT, LIST and UIDL say is what RETR gives, however the octets are cut on the way (R1939-10, R1939-11)."""
    backend = mailbox(*messages)
    chance = random.Random(seed)
    async with served(backend, theirs_at_once=chance, ours_at_once=chance) as client:
        await client.apop("u", "p")
        sizes = await client.list()
        assert sizes == {number: octets_of(message) for number, message in enumerate(messages, 1)}
        assert await client.stat() == (len(messages), sum(sizes.values()))
        assert list((await client.uidl()).values()) == list(backend.messages("u"))
        fetched = [await client.fetch(number) for number in sizes]
        assert [len(content) for content in fetched] == list(sizes.values())
        batch: list[Command] = [Retr(number) for number in sizes]
        assert [reply.body for reply in await client.pipeline(batch)] == fetched
        for number, uid in (await client.uidl()).items():
            assert await client.uid(number) == uid
            assert await client.size(number) == sizes[number]
            await client.dele(number)
        await client.quit()
    assert backend.messages("u") == {}
    assert not backend.locked("u")
