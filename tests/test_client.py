"""The client: against servers that keep to a script, against our own server side, and against hostile ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from tests.helpers_server import TIMESTAMP, Cut, serve_stream
from trio_pop3 import MemoryBackend
from trio_pop3.client import Pop3Client, Reply, ReplyError, connect
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
    ResponseCode,
    Retr,
    Rset,
    Stat,
    State,
    Top,
    Uidl,
    User,
    octets_of,
)

Call = Callable[[Pop3Client], Awaitable[object]]
Turn = tuple[bytes, bytes]

GREETING = b"+OK ready\r\n"
LOGIN: list[Turn] = [(b"USER u", b"+OK\r\n"), (b"PASS p", b"+OK\r\n")]
PIPELINING: Turn = (b"CAPA", b"+OK\r\nPIPELINING\r\n.\r\n")
# Seconds until a deadlock is a failure; nothing here waits for time to pass.
PATIENCE = 60
LOST = (trio.BrokenResourceError, trio.ClosedResourceError)


class Script:
    """A server that expects these lines and answers with those octets, one turn at a time."""

    def __init__(self, stream: trio.abc.Stream, turns: list[Turn]) -> None:
        self.stream = stream
        self.turns = turns
        self.received = b""
        self.ahead = 0  # commands that were sent before the reply to an earlier one
        self.endless = False
        self.closed_by_client = False

    async def run(self, greeting: bytes) -> None:
        await self.stream.send_all(greeting)
        for expected, reply in self.turns:
            assert await self.line() == expected
            await wait_all_tasks_blocked()
            self.ahead += bool(self.received)
            with suppress(*LOST):
                await self.stream.send_all(reply)
                while self.endless and expected == self.turns[-1][0]:
                    await self.stream.send_all(reply.partition(b"\r\n")[2] or reply)

    async def line(self) -> bytes:
        while b"\r\n" not in self.received:
            data = await self.stream.receive_some()
            assert data, f"the client left, having said {self.received!r}"
            self.received += data
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    async def expect_silence(self) -> None:
        """The client closes and has said nothing more."""
        with suppress(*LOST):
            assert self.received + await self.stream.receive_some() == b""
        self.closed_by_client = True


@asynccontextmanager
async def scripted(
    *turns: Turn,
    greeting: bytes = GREETING,
    greeted: bool = True,
    login: bool = True,
    endless: bool = False,
    eof: bool = False,
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair,
    **options: Any,
) -> AsyncIterator[tuple[Pop3Client, Script]]:
    """A client, greeted and logged in, and the server behind it."""
    ours, theirs = pair()
    script = Script(theirs, [*LOGIN, *turns] if login and greeted else list(turns))
    script.endless = endless

    async def play() -> None:
        await script.run(greeting)
        if eof:
            await theirs.aclose()
        else:
            await script.expect_silence()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            async with Pop3Client(ours, **options) as client:
                if greeted:
                    await client.greeting()
                    if login:
                        await client.login("u", "p")
                yield client, script


@asynccontextmanager
async def served(
    backend: MemoryBackend, *, theirs_at_once: int | random.Random = 65536, ours_at_once: int | random.Random = 65536
) -> AsyncIterator[Pop3Client]:
    """A client of our own server side, over streams on which `send_all` waits until all of it was received."""
    ours, theirs = lockstep_stream_pair()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_stream, Cut(theirs, theirs_at_once), backend)
            async with Pop3Client(Cut(ours, ours_at_once)) as client:
                await client.greeting()
                yield client


async def assert_broken(client: Pop3Client, script: Script) -> None:
    """Every later call says so, and the server has seen the end."""
    for call in (client.noop(), client.quit(), client.list(), client.fetch(1), client.pipeline([Noop()])):
        with pytest.raises(trio.BrokenResourceError):
            await call
    await wait_all_tasks_blocked()
    assert script.closed_by_client


# --- greeting and login ----------------------------------------------------------------------------------------------


async def test_greeting() -> None:
    async with scripted(greeting=b"+OK hello <1.2@host>\r\n", greeted=False) as (client, _):
        states = [client.state]
        assert await client.greeting() == "hello <1.2@host>"
        assert client.timestamp == "<1.2@host>"
        assert [*states, client.state] == [State.GREETING, State.AUTHORIZATION]


async def test_greeting_is_read_once_and_first() -> None:
    async with scripted((b"QUIT", b"+OK\r\n"), greeted=False) as (client, _):
        for call in (client.noop(), client.capa(), client.apop("u", "s")):
            with pytest.raises(LocalProtocolError):
                await call
        await client.greeting()
        with pytest.raises(LocalProtocolError):
            await client.greeting()
        await client.quit()


async def test_refusing_greeting() -> None:
    """A-44: any greeting but `+OK` is a failure."""
    async with scripted(greeting=b"-ERR [SYS/TEMP] come back later\r\n", greeted=False) as (client, _):
        with pytest.raises(ReplyError, match=r"^\[SYS/TEMP\] come back later$") as caught:
            await client.greeting()
        assert caught.value.reply == Err("come back later", ResponseCode.SYS_TEMP)
        assert (caught.value.code, caught.value.text) == (ResponseCode.SYS_TEMP, "come back later")
        with pytest.raises(LocalProtocolError):
            await client.login("u", "p")


@pytest.mark.parametrize("greeting", [b"220 smtp ready\r\n", b"\r\n", b"+ok\r\n", b"HTTP/1.1 400\r\n", b"x" * 5000])
async def test_garbage_greeting(greeting: bytes) -> None:
    async with scripted(greeting=greeting, greeted=False) as (client, script):
        with pytest.raises(RemoteProtocolError):
            await client.greeting()
        await assert_broken(client, script)


@pytest.mark.parametrize("greeting", [b"", b"+OK half a line"])
async def test_no_greeting(greeting: bytes) -> None:
    async with scripted(greeting=greeting, greeted=False, eof=True) as (client, _):
        with pytest.raises(RemoteProtocolError, match="closed"):
            await client.greeting()


async def test_status_without_a_text() -> None:
    """R1957-02: `+OK` directly followed by CRLF is accepted, in the greeting and everywhere."""
    async with scripted((b"NOOP", b"+OK\r\n"), (b"RETR 1", b"+OK\r\nx\r\n.\r\n"), greeting=b"+OK\r\n") as (client, _):
        await client.noop()
        assert await client.fetch(1) == b"x\r\n"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"-ERR [in-use] busy\r\n", ResponseCode.IN_USE),
        (b"-ERR [Sys/Temp/Disk] busy\r\n", ResponseCode.SYS_TEMP),
        (b"-ERR [IN-USE]busy\r\n", ResponseCode.IN_USE),
        (b"-ERR [NEW-ONE] busy\r\n", None),
        (b"-ERR busy\r\n", None),
    ],
)
async def test_response_codes(reply: bytes, code: ResponseCode | None) -> None:
    """R2449-37: names compare without case; R2449-38: unknown detail behind a known level is ignored."""
    async with scripted((b"USER u", b"+OK\r\n"), (b"PASS p", reply), *LOGIN, login=False) as (client, _):
        with pytest.raises(ReplyError, match="busy") as caught:
            await client.login("u", "p")
        assert caught.value.code is code
        await client.login("u", "p")  # the session went on
        assert client.state is State.TRANSACTION


async def test_refused_user() -> None:
    async with scripted((b"USER u", b"-ERR no\r\n"), login=False) as (client, _):
        with pytest.raises(ReplyError):
            await client.login("u", "p")
        assert client.state is State.AUTHORIZATION


async def test_control_characters_of_a_reply_stay_out_of_messages() -> None:
    async with scripted((b"NOOP", b"-ERR \x1b[2Jgone\r\n")) as (client, _):
        with pytest.raises(ReplyError) as caught:
            await client.noop()
        assert str(caught.value) == r"'\x1b[2Jgone'"
        assert caught.value.text == "\x1b[2Jgone"


@pytest.mark.parametrize("octets", [b"two  words ", "p\u00e4\u00df".encode(), b"\xff\xfe\x80"])
async def test_password_octets(octets: bytes) -> None:
    """Octets that are no UTF-8 survive the way through a str."""
    password = octets.decode("utf-8", "surrogateescape")
    async with scripted((b"USER u", b"+OK\r\n"), (b"PASS " + octets, b"+OK\r\n"), login=False) as (client, _):
        await client.login("u", password)
        assert client.state is State.TRANSACTION


@pytest.mark.parametrize(("user", "password"), [("u", "geheim\ud800"), ("u u", "geheim"), ("\u00fc", "geheim")])
async def test_what_cannot_be_sent(user: str, password: str) -> None:
    """Nothing is sent, nothing secret is shown, and the session goes on."""
    async with scripted(*LOGIN, login=False) as (client, _):
        with pytest.raises(LocalProtocolError) as caught:
            await client.login(user, password)
        assert "geheim" not in str(caught.value)
        await client.login("u", "p")


async def test_apop() -> None:
    """R1939-75: MD5 over the timestamp, brackets included, and the secret, in lower case."""
    line = b"APOP mrose c4c9334bac560ecc979e58001b3e22fb"
    greeting = b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>\r\n"
    async with scripted((line, b"+OK\r\n"), greeting=greeting, login=False) as (client, _):
        await client.apop("mrose", "tanstaaf")
        assert client.state is State.TRANSACTION


async def test_apop_is_not_offered() -> None:
    async with scripted(login=False) as (client, _):
        with pytest.raises(LocalProtocolError, match="APOP"):
            await client.apop("mrose", "tanstaaf")


async def test_capabilities() -> None:
    """R2449-08: tags in any case; repeated ones are joined."""
    body = b"+OK\r\ntop\r\nSasl PLAIN\r\nSASL LOGIN PLAIN\r\nExpire 60 USER\r\n.\r\n"
    async with scripted((b"CAPA", body), login=False) as (client, _):
        assert await client.capa() == {"TOP": (), "SASL": ("PLAIN", "LOGIN"), "EXPIRE": ("60", "USER")}


async def test_no_capabilities() -> None:
    """R2449-11: `-ERR` to CAPA means that there is none, and nothing else."""
    async with scripted((b"CAPA", b"-ERR what?\r\n"), *LOGIN, (b"STAT", b"+OK 0 0\r\n"), login=False) as (client, _):
        assert await client.capa() == {}
        await client.login("u", "p")
        assert await client.stat() == (0, 0)


@pytest.mark.parametrize("name", [b"trio_pop3", b"Dovecot", b"Cyrus-2.0 no-PIPELINING", b""])
async def test_implementation_changes_nothing(name: bytes) -> None:
    """R2449-35: what is sent does not depend on the IMPLEMENTATION string."""
    capa = b"+OK\r\nPIPELINING\r\nIMPLEMENTATION " + name + b"\r\n.\r\n"
    turns = [(b"CAPA", capa), (b"NOOP", b"+OK\r\n"), (b"NOOP", b"+OK\r\n"), (b"QUIT", b"+OK\r\n")]
    async with scripted(*turns) as (client, script):
        await client.capa()
        await client.pipeline([Noop(), Noop()])
        await client.quit()
        assert script.ahead == 1


# --- what the replies say --------------------------------------------------------------------------------------------


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


# --- messages --------------------------------------------------------------------------------------------------------


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


def mailbox(*messages: bytes) -> MemoryBackend:
    backend = MemoryBackend()
    backend.add_user("u", "p")
    for message in messages:
        backend.deliver("u", message)
    return backend


LARGE = b"a line of text\r\n" * 20_000


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


# --- deleting --------------------------------------------------------------------------------------------------------


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


# --- hostile servers -------------------------------------------------------------------------------------------------


ENDLESS: list[tuple[Call, bytes, bytes]] = [
    (Pop3Client.noop, b"NOOP", b"+OK " + b"x" * 5000),
    (Pop3Client.list, b"LIST", b"+OK\r\n" + b"1 1\r\n" * 500),
    (Pop3Client.uidl, b"UIDL", b"+OK\r\n" + b"1 x\r\n" * 500),
    (Pop3Client.capa, b"CAPA", b"+OK\r\n" + b"SASL x\r\n" * 500),
    (lambda client: client.fetch(1), b"RETR 1", b"+OK\r\n" + b"x\r\n" * 500),
    (lambda client: client.top(1, 1), b"TOP 1 1", b"+OK\r\n" + b"x\r\n" * 500),
]


@pytest.mark.parametrize(("call", "command", "reply"), ENDLESS)
async def test_endless_replies(call: Call, command: bytes, reply: bytes) -> None:
    """A12, P4: whatever has no end is cut off. What follows the status line is repeated for ever."""
    async with scripted(
        (command, reply), endless=True, pair=lockstep_stream_pair, max_listing=50_000, max_message=50_000
    ) as (client, script):
        with pytest.raises(RemoteProtocolError, match=r"octets|without end"):
            await call(client)
        await assert_broken(client, script)


async def test_endless_listing_line() -> None:
    """A line without an end is not gathered until the listing is too long."""
    reply = (b"UIDL", b"+OK\r\n1 " + b"x" * 5000)
    async with scripted(reply, endless=True, pair=lockstep_stream_pair) as (client, script):
        with pytest.raises(RemoteProtocolError, match="line without end"):
            await client.uidl()
        await assert_broken(client, script)


async def test_many_repeated_capabilities() -> None:
    """A server cannot keep us busy by repeating itself: this takes minutes if joining costs the square."""
    lines = b"".join(b"SASL %d\r\n" % number for number in range(5000))
    async with scripted((b"CAPA", b"+OK\r\n" + lines + b".\r\n")) as (client, _):
        assert len((await client.capa())["SASL"]) == 5000


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (Pop3Client.noop, b""),
        (Pop3Client.noop, b"+OK half"),
        (Pop3Client.quit, b""),
        (Pop3Client.list, b"+OK\r\n1 120\r\n"),
        (lambda client: client.fetch(1), b"+OK\r\nx\r\n."),
        (lambda client: client.fetch(1), b"+OK\r\nx\r\n.\r"),
    ],
)
async def test_end_in_the_middle(call: Call, reply: bytes) -> None:
    """A cut message never passes for a whole one (A10)."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(GREETING + b"+OK\r\n+OK\r\n" + reply)
    await theirs.send_eof()
    client = Pop3Client(Cut(ours, 1))
    await client.greeting()
    await client.login("u", "p")
    with pytest.raises(RemoteProtocolError, match="closed"):
        await call(client)
    with pytest.raises(trio.BrokenResourceError):
        await client.noop()


@pytest.mark.parametrize("extra", [b"+OK 5 500\r\n", b".\r\n", b"x"])
async def test_speaking_out_of_turn(extra: bytes) -> None:
    """What comes unasked, a second terminator included, never passes for the reply to the next command."""
    async with scripted((b"RETR 1", b"+OK\r\nx\r\n.\r\n" + extra)) as (client, script):
        assert await client.fetch(1) == b"x\r\n"
        with pytest.raises(RemoteProtocolError, match="out of turn"):
            await client.stat()
        await assert_broken(client, script)


async def test_second_terminator_later() -> None:
    async with scripted((b"RETR 1", b"+OK\r\nx\r\n.\r\n"), (b"NOOP", b".\r\n+OK\r\n")) as (client, script):
        assert await client.fetch(1) == b"x\r\n"
        with pytest.raises(RemoteProtocolError, match="expected"):
            await client.noop()
        await assert_broken(client, script)


async def test_lost_connection() -> None:
    """A failing stream is a BrokenResourceError, and stays one."""
    async with scripted() as (client, script):
        script.stream.receive_stream.close()  # type: ignore[attr-defined]
        with pytest.raises(LOST):
            await client.noop()
        with pytest.raises(trio.BrokenResourceError):
            await client.noop()


# --- tasks and cancellation ------------------------------------------------------------------------------------------


async def _retrieve(client: Pop3Client) -> None:
    async with client.retrieve(1):
        pass


CALLS: list[tuple[Call, bytes]] = [
    (Pop3Client.capa, b"CAPA"),
    (Pop3Client.stat, b"STAT"),
    (Pop3Client.list, b"LIST"),
    (Pop3Client.uidl, b"UIDL"),
    (Pop3Client.noop, b"NOOP"),
    (Pop3Client.rset, b"RSET"),
    (Pop3Client.quit, b"QUIT"),
    (lambda client: client.fetch(1), b"RETR 1"),
    (_retrieve, b"RETR 1"),
    (lambda client: client.dele(1), b"DELE 1"),
    (lambda client: client.pipeline([Noop()]), b"CAPA"),
]


@pytest.mark.parametrize(("call", "command"), CALLS)
@pytest.mark.parametrize("said", [b"", b"+O", b"+OK\r\n1 1"])
async def test_cancelled_in_the_middle(call: Call, command: bytes, said: bytes, autojump_clock: MockClock) -> None:
    """Nobody knows any more whose reply comes next, so the connection is closed, with nothing more said."""
    reply = said if b"\n" not in said or command in (b"CAPA", b"LIST", b"UIDL", b"RETR 1") else b"+"
    async with scripted((command, reply)) as (client, script):
        with trio.move_on_after(10) as scope:
            await call(client)
        assert scope.cancelled_caught
        await assert_broken(client, script)


async def test_cancelled_while_the_greeting_is_due(autojump_clock: MockClock) -> None:
    async with scripted(greeting=b"+O", greeted=False) as (client, script):
        with trio.move_on_after(10) as scope:
            await client.greeting()
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await client.greeting()
        await assert_broken(client, script)


async def test_two_tasks() -> None:
    """The second one is told so at once, and does the first no harm."""
    async with scripted((b"NOOP", b"+OK\r\n"), (b"RETR 1", b"+OK\r\nx\r\n.\r\n")) as (client, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.noop)
            await wait_all_tasks_blocked()
        async with client.retrieve(1) as pieces:
            for call in (client.noop(), client.fetch(1), client.list(), client.capa()):
                with pytest.raises(trio.BusyResourceError):
                    await call
            assert await anext(pieces) == b"x\r\n"


async def test_closing_says_nothing() -> None:
    async with scripted() as (client, script):
        await client.aclose()
        for call in (client.noop(), client.pipeline([Noop()]), client.greeting()):
            with pytest.raises(trio.ClosedResourceError):
                await call
        await wait_all_tasks_blocked()
        assert script.closed_by_client


async def test_closing_under_another_task() -> None:
    async with scripted((b"NOOP", b"")) as (client, _):

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await client.noop()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await client.aclose()


# --- pipelining ------------------------------------------------------------------------------------------------------


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


# --- against our own server ------------------------------------------------------------------------------------------


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


# --- connecting ------------------------------------------------------------------------------------------------------


def test_connect() -> None:
    """Real sockets, real time: connect, greeting, a session, and the end of the block closes without a word."""
    backend = mailbox(LARGE)
    backend.add_user("v", "p")
    backend.deliver("v", LARGE)

    async def main() -> None:
        serve = partial(serve_stream, backend=backend)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
                port = listeners[0].socket.getsockname()[1]
                async with connect("127.0.0.1", port) as client:
                    assert client.timestamp == TIMESTAMP
                    await client.login("u", "p")
                    assert await client.fetch(1) == LARGE
                    await client.dele(1)
                async with connect("127.0.0.1", port, max_message=10) as client:
                    await client.login("v", "p")
                    with pytest.raises(RemoteProtocolError):
                        await client.fetch(1)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert len(backend.messages("u")) == 1


def test_connect_passes_its_options_on() -> None:
    turns = [*LOGIN, (b"RETR 1", b"+OK\r\nx\r\n.\n"), (b"LIST", b"+OK\r\n1 1\r\n2 1\r\n.\r\n")]

    async def play(stream: trio.SocketStream) -> None:
        async with stream:
            await Script(stream, turns).run(GREETING)

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, play, 0, host="127.0.0.1"))
                port = listeners[0].socket.getsockname()[1]
                async with connect("127.0.0.1", port, max_listing=8, lenient_terminator=True) as client:
                    await client.login("u", "p")
                    assert await client.fetch(1) == b"x\r\n"
                    with pytest.raises(RemoteProtocolError, match="8 octets"):
                        await client.list()
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_connect_to_a_server_that_refuses() -> None:
    """The refusal is raised at the door, and the connection is closed."""

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.send_all(b"-ERR [SYS/TEMP] full\r\n")
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        await stream.aclose()

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
                port = listeners[0].socket.getsockname()[1]
                with pytest.raises(ReplyError, match="full"):
                    async with connect("127.0.0.1", port):
                        raise AssertionError
                nursery.cancel_scope.cancel()
            with pytest.raises(OSError, match="connect"):
                async with connect("127.0.0.1", port):
                    raise AssertionError

    trio.run(main)
