"""`serve` over real sockets: whom it lets in, how many, and what hostile clients can do to it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import inspect
import re
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.server import serve
from trio_pop3.server.options import make_options
from trio_pop3.server.serve import Server

from .helpers import LOGIN, PASSWORD, USER, Client, mail_for_fred
from .serving import handling, hears_nothing, reset, serving, until

# The module, which the function hides.
MODULE = inspect.getmodule(serve)
TIMESTAMPED = re.compile(rb"\+OK POP3 server ready (<[0-9a-f]{32}@mail\.example\.org>)\r\n")


# --- who may log in --------------------------------------------------------------------------------------------------


async def test_no_cleartext_logins_from_elsewhere(strangers: list[str]) -> None:
    """G7, P5, R8314-10, D8: not announced, refused, and the same whether the password is right or not."""
    said = []
    async with serving(mail_for_fred(), apop=True) as running:
        for password in (PASSWORD, "wrong"):
            async with running.client() as client:
                greeting = await client.line()
                digest = hashlib.md5(greeting.split()[-1] + password.encode()).hexdigest()
                await client.send(b"CAPA\r\n")
                assert b"\r\nUSER\r\n" not in await client.multiline()
                commands = [b"USER fred", b"PASS " + password.encode(), b"APOP fred " + digest.encode(), b"STAT"]
                said.append([await client.ask(command) for command in commands])
    assert said[0] == said[1]
    assert all(reply.startswith(b"-ERR") for reply in said[0])
    assert said[0][0] == b"-ERR login without encryption is not allowed here\r\n"


async def test_insecure_auth_by_name(strangers: list[str]) -> None:
    """G7: one switch with "insecure" in its name allows it."""
    async with serving(mail_for_fred(), insecure_auth=True) as running, running.client() as client:
        await client.login()
        await client.send(b"CAPA\r\n")
        assert b"\r\nUSER\r\n" in await client.multiline()


async def test_apop() -> None:
    """R1939-73, R1939-74, R1939-76, H13: a timestamp of its own in every greeting; a wrong digest may be followed by
    a right one.
    """
    timestamps = set()
    async with serving(mail_for_fred(), apop=True, hostname="mail.example.org") as running:
        for _ in range(5):
            async with running.client() as client:
                match = TIMESTAMPED.fullmatch(await client.line())
                assert match is not None
                timestamps.add(match[1])
                digest = hashlib.md5(match[1] + PASSWORD.encode()).hexdigest().encode()
                assert (await client.ask(b"APOP fred " + b"0" * 32)).startswith(b"-ERR [AUTH]")
                assert (await client.ask(b"STAT")).startswith(b"-ERR")
                assert (await client.ask(b"APOP fred " + digest)).startswith(b"+OK")
                assert await client.ask(b"STAT") == b"+OK 0 0\r\n"
                await client.ask(b"QUIT")
                await client.rest()
    assert len(timestamps) == 5


async def test_apop_is_off_by_default() -> None:
    """R1939-73: no timestamp, no APOP."""
    async with serving(mail_for_fred()) as running, running.client() as client:
        assert b"<" not in await client.line()
        assert (await client.ask(b"APOP fred " + b"0" * 32)).startswith(b"-ERR")


# --- how many --------------------------------------------------------------------------------------------------------


async def test_the_fourth_of_three_waits() -> None:
    """ARCHITECTURE 6: beyond `max_connections` a connection waits in the kernel's queue until one leaves."""
    async with serving(mail_for_fred(), max_connections=3) as running:
        async with running.client() as one, running.client() as two, running.client() as three:
            for client in (one, two, three):
                assert (await client.line()).startswith(b"+OK")
            async with running.client() as four:
                await until(lambda: running.places.statistics().tasks_waiting == 1)
                assert running.places.value == 0
                assert hears_nothing(four)
                await two.ask(b"QUIT")
                await two.stream.aclose()
                assert (await four.line()).startswith(b"+OK")
                assert running.places.value == 0
        await running.idle()


async def test_the_cap_is_one_for_all_listeners() -> None:
    """I4: exact, however many listeners there are; an idle listener holds no place."""
    async with serving(mail_for_fred(), *["127.0.0.1:0"] * 3, max_connections=2) as running:
        async with running.client(0) as one, running.client(0) as two, running.client(1) as three:
            await one.line()
            await two.line()
            async with running.client(2) as four:
                await until(lambda: running.places.statistics().tasks_waiting == 2)
                assert hears_nothing(three)
                assert hears_nothing(four)
                reset(one)
                reset(two)
                assert (await three.line()).startswith(b"+OK")
                assert (await four.line()).startswith(b"+OK")
        await running.idle()


async def test_a_host_has_its_share(strangers: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """A-44, H9, I4: one too many from one address is refused in words, others are served, and a place comes back."""
    strangers[:] = ["192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8"]
    async with serving(mail_for_fred(), max_connections_per_host=2) as running:
        async with running.client() as one, running.client() as two:
            assert (await one.line()).startswith(b"+OK")
            assert (await two.line()).startswith(b"+OK")
            async with running.client() as three:
                assert await three.rest() == b"-ERR [SYS/TEMP] too many connections from your address\r\n"
            assert "refused a connection from 192.0.2.7:4711" in caplog.text
            async with running.client() as other:
                assert (await other.line()).startswith(b"+OK")
        await running.idle()
        strangers[:] = ["192.0.2.7"]
        async with running.client() as again:
            assert (await again.line()).startswith(b"+OK")


async def test_loopback_has_no_share() -> None:
    """A proxy in front of the server is not a host."""
    async with (
        serving(mail_for_fred(), max_connections_per_host=1) as running,
        running.client() as one,
        running.client() as two,
    ):
        assert (await one.line()).startswith(b"+OK")
        assert (await two.line()).startswith(b"+OK")


async def test_refused_client_that_is_gone(strangers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: nobody need be there to hear the refusal."""

    async def broken(self: object, data: object) -> None:
        raise trio.BrokenResourceError

    async with serving(mail_for_fred(), max_connections_per_host=1) as running, running.client() as one:
        await one.line()
        monkeypatch.setattr(trio.SocketStream, "send_all", broken)
        async with running.client() as two:
            assert await two.rest() == b""


async def leave_by_quit(client: Client) -> None:
    await client.login()
    await client.ask(b"QUIT")
    await client.rest()


async def leave_by_closing(client: Client) -> None:
    await client.login()
    await client.send(b"RETR 1\r\nDE")


async def leave_before_the_greeting(client: Client) -> None:
    reset(client)


async def leave_by_reset(client: Client) -> None:
    await client.login()
    await client.send(b"DELE 1\r\nRETR 2\r\n")
    reset(client)


async def leave_by_nonsense(client: Client) -> None:
    await client.send(b"\0\xff\r\n" * 40)
    await client.rest()


async def leave_inside_a_body(client: Client) -> None:
    await client.login()
    await client.send(b"RETR 2\r\n" * 5)
    await client.line()
    reset(client)


WAYS_OUT = [
    leave_by_quit,
    leave_by_closing,
    leave_before_the_greeting,
    leave_by_reset,
    leave_by_nonsense,
    leave_inside_a_body,
]


@pytest.mark.parametrize("leave", WAYS_OUT)
async def test_counters_return_to_zero(leave: Any, strangers: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """I4, I5, E1: whichever way a client leaves, its place, its host's share and its lock are free, nothing is deleted,
    and the server serves on.
    """
    backend = mail_for_fred(b"one\n", b"x" * 4_000_000 + b"\n")
    options = make_options(insecure_auth=True, max_connections=1, max_connections_per_host=1)
    server = Server(backend, options)
    async with handling(server) as running:
        for _ in range(3):
            async with running.client() as client:
                await leave(client)
            await running.idle()
            assert len(server._hosts) == 0
            assert not server._drivers
            assert not backend.locked(USER)
        async with running.client() as client:
            await client.login()
            assert await client.ask(b"STAT") == b"+OK 2 4000007\r\n"
    assert "bug" not in caplog.text


@pytest.mark.parametrize("failure", [OSError(errno.ENOTCONN, "gone"), RuntimeError("a bug")])
async def test_connection_that_cannot_be_named(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """I4, I5: a connection that fails before it has a driver ends alone, and gives its place back."""

    def client_info(sock: object, session: str) -> ClientInfo:
        raise failure

    async with serving(mail_for_fred(), max_connections=1) as running:
        with monkeypatch.context() as patch:
            patch.setattr(MODULE, "client_info", client_info)
            for _ in range(3):
                async with running.client() as client:
                    assert await client.rest() == b""
        async with running.client() as client:
            assert (await client.line()).startswith(b"+OK")
    assert ("this should not have happened: RuntimeError\n" in caplog.text) is isinstance(failure, RuntimeError)
    assert "a bug" not in caplog.text


async def test_sessions_have_names_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    """J5: a number in hex that no other connection of this server has."""
    async with serving(mail_for_fred()) as running:
        for _ in range(3):
            async with running.client() as client:
                await client.line()
            await running.idle()
    names = re.findall(r"session (\w+): user=", caplog.text)
    assert names == ["1", "2", "3"]


# --- hostile clients -------------------------------------------------------------------------------------------------


async def test_one_octet_per_segment() -> None:
    """D5: over a real socket."""
    async with serving(mail_for_fred(b"one\n")) as running, running.client() as client:
        await client.line()
        for octet in LOGIN + b"STAT\r\n":
            await client.send(bytes([octet]))
        assert (await client.line(), (await client.line())[:3], await client.line()) == (
            b"+OK send PASS\r\n", b"+OK", b"+OK 1 5\r\n",
        )  # fmt: skip


async def test_flood_without_a_line_end() -> None:
    """I1, E8: ten megabytes without CRLF; memory stays, and the reply is seen in spite of unread input."""
    async with serving(mail_for_fred()) as running, running.client() as client:
        await client.line()
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(160):
                await client.send(b"x" * 65536)
        assert await client.line() == b"-ERR command line far too long, closing\r\n"
        await running.idle()
        async with running.client() as other:
            assert (await other.line()).startswith(b"+OK")


async def test_ten_thousand_commands_beside_another_client() -> None:
    """P4: a second client is answered before the first one's flood is."""
    flood = 10_000
    async with serving(mail_for_fred()) as running, running.client() as first, running.client() as second:
        await second.login()
        assert (await first.line()).startswith(b"+OK")
        heard = bytearray()

        async def read() -> None:
            while heard.count(b"\r\n.\r\n") < flood:
                heard.extend(await first.stream.receive_some(65536))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(first.send, b"CAPA\r\n" * flood)
            assert (await second.ask(b"NOOP")).startswith(b"+OK")
            assert heard.count(b"\r\n.\r\n") < flood
