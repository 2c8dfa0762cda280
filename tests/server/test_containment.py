"""What a backend may do and what it costs: one session, never another one, nor the server, nor a secret."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo, Credentials
from trio_pop3.rules import Headers
from trio_pop3.server.containment import concerns_others
from trio_pop3.server.options import make_options
from trio_pop3.server.serve import Server

from .driven import calling, summaries
from .helpers import LOGIN, PASSWORD, BusyBackend, OneMessage, driving, mail_for_fred
from .serving import serving, until

PAGE = b"x" * 1022 + b"\r\n"


class Strange(BaseException):
    """No Exception, and not ours to act on: what other event loops and debuggers raise."""


def server_for(backend: Any, **options: Any) -> Server:
    return Server(backend, make_options(insecure_auth=True, max_connections=20, **options))


async def remembered() -> trio.Cancelled:
    """A cancellation whose scope is over."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:  # noqa: ASYNC103 - kept, to be raised later
            return cancelled  # noqa: ASYNC104
    raise AssertionError


# --- what is for others to see ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_program_is(kind: type[BaseException]) -> None:
    """I5: alone, in a group, in a group of groups; what else is in there stays here."""
    end = kind()
    assert concerns_others(end) is end
    group = concerns_others(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [end, Strange()])]))
    assert isinstance(group, BaseExceptionGroup)
    (inner,) = group.exceptions
    assert isinstance(inner, BaseExceptionGroup)
    assert inner.exceptions == (end,)


@pytest.mark.parametrize("failure", [ValueError(), Strange(), GeneratorExit(), ExceptionGroup("", [ValueError()])])
async def test_anything_else_is_not(failure: BaseException) -> None:
    """I5."""
    assert concerns_others(failure) is None
    assert concerns_others(BaseExceptionGroup("", [failure])) is None


async def test_a_cancellation_is_if_there_is_one() -> None:
    """I5: one that somebody remembered looks the same; what tells them apart is whether anybody has cancelled us."""
    cancelled = await remembered()
    group = BaseExceptionGroup("", [ValueError(), cancelled])
    assert concerns_others(cancelled) is concerns_others(group) is None
    with trio.CancelScope() as scope:  # noqa: ASYNC100 - nothing is to be cancelled here
        scope.cancel()
        assert trio.current_effective_deadline() == -math.inf
        assert concerns_others(cancelled) is cancelled
        found = concerns_others(group)
        assert isinstance(found, BaseExceptionGroup)
        assert found.exceptions == (cancelled,)


# --- one session only ------------------------------------------------------------------------------------------------


async def raise_remembered(secret: str) -> None:
    raise await remembered()


async def raise_strange(secret: str) -> None:
    raise Strange(f"could not digest {secret}")


async def raise_group(secret: str) -> None:
    async with trio.open_nursery():
        raise Strange(f"could not digest {secret}")


async def raise_group_of_remembered(secret: str) -> None:
    raise BaseExceptionGroup(f"{secret!r} failed twice", [await remembered(), Strange(secret)])


async def raise_generator_exit(secret: str) -> None:
    raise GeneratorExit(secret)


async def leave_a_scope_open(secret: str) -> None:
    trio.CancelScope().__enter__()


async def leave_a_cancelled_scope_open(secret: str) -> None:
    trio.CancelScope().__enter__().cancel()


async def leave_a_scope_open_that_will_be_cancelled(secret: str) -> None:
    trio.CancelScope(deadline=trio.current_time() + 1).__enter__()


class Evil(BusyBackend):
    """Does one of the above for one user, wherever it is told to."""

    def __init__(self, harm: Callable[[str], Coroutine[Any, Any, None]], where: str) -> None:
        self.inside = mail_for_fred(b"one\n")
        self.inside.add_user("evil", PASSWORD)
        self.inside.deliver("evil", b"two\n")
        self._harm, self._where = harm, where
        self._evil = False
        super().__init__(self.inside, self._pause)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        self._evil = credentials.user == "evil"
        return await super().authenticate(credentials, client)

    async def _pause(self, where: str) -> None:
        await trio.lowlevel.checkpoint()
        if self._evil and where == self._where:
            await self._harm(PASSWORD)


@pytest.mark.parametrize("where", ["authenticate", "open", "retrieve", "read", "commit"])
@pytest.mark.parametrize(
    "harm",
    [raise_remembered, raise_strange, raise_group, raise_group_of_remembered, raise_generator_exit],
)
async def test_one_session_only(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[str], Coroutine[Any, Any, None]],
    where: str,
) -> None:
    """I5, P4, P5, H8: it ends, with everything given back and no password in the log; its neighbour and the server do
    not notice.
    """
    backend = Evil(harm, where)
    server = server_for(backend)
    async with calling(server) as neighbour:
        await neighbour.login()
        async with calling(server) as evil:
            await evil.line()
            await evil.send(LOGIN.replace(b"fred", b"evil") + b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
            assert b"goodbye" not in await evil.rest()
            await evil.done.wait()
        assert await neighbour.ask(b"STAT") == b"+OK 1 5\r\n"
        async with calling(server) as another:
            assert (await another.line()).startswith(b"+OK")
    assert PASSWORD not in caplog.text
    assert "'internal error'" in caplog.text
    assert "this should not have happened" in caplog.text
    assert not backend.inside.locked("evil")
    assert server.places.value == server.places.max_value
    assert len(summaries(caplog)) == 3


async def test_a_timeout_around_yield(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """I5, P4: a backend's own timeout for reading, around a `yield`, goes off while the client is slow."""

    async def pages() -> AsyncIterator[bytes]:
        with trio.move_on_after(1):
            for _ in range(1000):
                yield PAGE * 100  # noqa: ASYNC101, ASYNC119 - what a backend must not do

    backend = OneMessage(1000 * 100 * 1024, pages)
    server = server_for(backend)
    async with calling(server) as neighbour:
        await neighbour.login()
        async with calling(server, pair=trio.testing.lockstep_stream_pair) as slow:
            await slow.login()
            await slow.send(b"RETR 1\r\n")
            await slow.stream.receive_some(1000)
            await trio.sleep(5)
            heard = await slow.rest()
            assert not heard.endswith(b"\r\n.\r\n")
        assert (await neighbour.ask(b"NOOP")).startswith(b"+OK")
    assert len(summaries(caplog)) == 2
    assert "'cut off'" not in caplog.text


async def test_a_timeout_around_yield_when_the_client_leaves(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """I5: the same generator, closed by us in the middle."""

    async def pages() -> AsyncIterator[bytes]:
        with trio.move_on_after(1):
            while True:
                yield PAGE * 100  # noqa: ASYNC101, ASYNC119 - what a backend must not do

    backend = OneMessage(10**9, pages)
    server = server_for(backend)
    async with calling(server) as client:
        await client.login()
        await client.send(b"RETR 1\r\n")
        await client.stream.receive_some(1000)
    assert client.done.is_set()
    assert len(summaries(caplog)) == 1
    async with calling(server) as client:
        assert (await client.line()).startswith(b"+OK")


@pytest.mark.parametrize("where", ["authenticate", "open", "retrieve", "read", "commit", "release"])
@pytest.mark.parametrize(
    "harm", [leave_a_scope_open, leave_a_cancelled_scope_open, leave_a_scope_open_that_will_be_cancelled]
)
async def test_a_scope_that_is_left_open(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[str], Coroutine[Any, Any, None]],
    where: str,
) -> None:
    """I5: it costs its own session, at the latest when that ends."""
    backend = Evil(harm, where)
    server = server_for(backend)
    async with calling(server) as neighbour:
        await neighbour.login()
        async with calling(server) as evil:
            await evil.line()
            await evil.send(LOGIN.replace(b"fred", b"evil") + b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
            await evil.rest()
            await evil.done.wait()
        assert await neighbour.ask(b"STAT") == b"+OK 1 5\r\n"
    assert not backend.inside.locked("evil")
    assert server.places.value == server.places.max_value
    assert len(summaries(caplog)) == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("group", [False, True])
async def test_the_end_of_the_program_gets_out(
    autojump_clock: trio.testing.MockClock, kind: type[BaseException], group: bool
) -> None:
    """I5: and everything is given back nevertheless."""

    async def pause(where: str) -> None:
        if where == "open":
            raise BaseExceptionGroup("", [kind(), ValueError(PASSWORD)]) if group else kind()

    server = server_for(BusyBackend(mail_for_fred(), pause))
    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012 - it comes out of the block
        async with calling(server) as client:
            await client.line()
            await client.send(LOGIN)
            await client.done.wait()
    found, rest = caught.value.split(kind)
    assert found is not None
    assert rest is None
    assert server.places.value == server.places.max_value


async def test_a_cancellation_from_outside_gets_out(autojump_clock: trio.testing.MockClock) -> None:
    """P1, I5: in the middle of a backend that wraps everything it is told in groups."""

    async def pause(where: str) -> None:
        if where == "open":
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                raise BaseExceptionGroup("cut", [cancelled]) from None  # noqa: ASYNC104 - the same

    async with driving(BusyBackend(mail_for_fred(), pause)) as far:
        await far.line()
        await far.send(LOGIN)
        await trio.testing.wait_all_tasks_blocked()
        far.scope.cancel()
        await far.done.wait()
        assert far.scope.cancelled_caught


async def test_a_bug_of_the_server_itself(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5, I4, P5: one behind `accept`, outside of any session, costs one connection; its text is not logged."""
    server = server_for(mail_for_fred())

    def enter(client: object) -> bool:
        raise Strange(PASSWORD)

    with monkeypatch.context() as patch:
        patch.setattr(server._hosts, "enter", enter)
        async with calling(server) as client:
            assert await client.rest() == b""
    assert "this should not have happened" in caplog.text
    assert PASSWORD not in caplog.text
    assert server.places.value == server.places.max_value


# --- replies that were made are sent ---------------------------------------------------------------------------------


async def test_replies_made_before_an_internal_error(autojump_clock: trio.testing.MockClock) -> None:
    """I5, A13: they are true, and somebody waits for them."""
    backend = Evil(raise_strange, "retrieve")
    async with driving(backend) as far:
        await far.line()
        await far.send(LOGIN.replace(b"fred", b"evil") + b"STAT\r\nDELE 1\r\nRSET\r\nRETR 1\r\nNOOP\r\n")
        heard = await far.rest()
    assert heard.splitlines()[2:] == [
        b"+OK 1 5",
        b"+OK message marked for deletion",
        b"+OK maildrop has 1 message (5 octets)",
    ]


async def test_an_internal_error_and_a_client_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    """I3, I5: they are given five seconds."""
    backend = Evil(raise_strange, "retrieve")
    async with driving(backend, pair=trio.testing.lockstep_stream_pair) as far:
        await far.line()
        await far.send(LOGIN.replace(b"fred", b"evil") + b"RETR 1\r\n")
        await far.done.wait()
        assert trio.current_time() == pytest.approx(5)


@pytest.mark.parametrize("octets", [100_000, 6_000_000])
@pytest.mark.parametrize("says", [b"", b"NOOP\r\n", b"NOOP\r\n" * 1000])
async def test_a_graceful_stop_and_a_client_that_reads_late(octets: int, says: bytes) -> None:
    """J1, E8: the whole reply arrives although the client has not begun to read, and has said something more that
    nobody will answer: unread, it would turn our close into a reset.
    """
    content = PAGE * (octets // len(PAGE))
    async with serving(mail_for_fred(content)) as running, running.client() as client:
        await client.login()
        await client.send(b"RETR 1\r\n")
        assert await client.line() == b"+OK %d octets follow\r\n" % len(content)
        running.shutdown.set()
        await until(lambda: running.listeners[0].socket.fileno() == -1)
        await client.send(says)
        reply, _, rest = (await client.rest()).partition(b"\r\n.\r\n")
        assert reply + b"\r\n" == content
        assert rest == b"+OK nothing done\r\n" * rest.count(b"\n")  # what came before the server had stopped to read


async def test_a_graceful_stop_and_a_reply_that_is_on_its_way(autojump_clock: trio.testing.MockClock) -> None:
    """J1, E8: an idle connection is ended on our side, and read from until the client ends it too, or for five seconds:
    what the kernel still holds for the client would be lost if it sent something to a closed socket.
    """
    for leaves in (True, False):
        start = trio.current_time()
        async with driving(mail_for_fred(b"one\n")) as far:
            await far.login()
            await trio.testing.wait_all_tasks_blocked()
            far.driver.drain()
            assert await far.rest() == b""
            await trio.testing.wait_all_tasks_blocked()
            assert not far.done.is_set()
            await far.send(b"NOOP\r\n")
            if leaves:
                await far.stream.aclose()
            await far.done.wait()
        assert trio.current_time() - start == pytest.approx(0 if leaves else 5)


# --- times that are short --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.11, 0.5, 1, 1.5])
async def test_a_short_command_timeout_cuts_nobody_who_is_in_time(
    autojump_clock: trio.testing.MockClock, seconds: float
) -> None:
    """PROTOCOL 2.7: fifty commands in one segment, each within its time."""

    async def slow(where: str) -> None:
        await trio.sleep(0.09 if where == "retrieve" else 0)

    async with driving(BusyBackend(mail_for_fred(b"one\n"), slow), make_options(command_timeout=seconds)) as far:
        await far.login()
        await far.send(b"RETR 1\r\n" * 50)
        for _ in range(50):
            assert await far.multiline() == b"+OK 5 octets follow\r\none\r\n.\r\n"


@pytest.mark.parametrize("seconds", [0.2, 1, 2, 300])
async def test_a_deadline_is_never_much_too_early(autojump_clock: trio.testing.MockClock, seconds: float) -> None:
    """PROTOCOL 2.7: by a tenth of it, or by a second, at the most."""
    asked = 0.0

    async def hang(where: str) -> None:
        nonlocal asked
        if where == "retrieve":
            asked = trio.current_time()
            await trio.sleep_forever()

    async with driving(BusyBackend(mail_for_fred(b"one\n"), hang), make_options(command_timeout=seconds)) as far:
        await far.login()
        for _ in range(30):
            await trio.sleep(seconds / 33)
            await far.ask(b"NOOP")
        await far.send(b"RETR 1\r\n")
        await far.rest()
        assert seconds - min(1, seconds / 10) <= trio.current_time() - asked <= seconds + 0.001


# --- sources without end ---------------------------------------------------------------------------------------------


async def drops(piece: bytes) -> AsyncIterator[bytes]:
    while True:
        yield piece


@pytest.mark.parametrize("piece", [b"", b"x", b"\n"])
@pytest.mark.parametrize("verb", [b"RETR 1", b"TOP 1 1000000"])
async def test_a_source_without_end_keeps_nobody_waiting(
    autojump_clock: trio.testing.MockClock, piece: bytes, verb: bytes
) -> None:
    """P4: one that never suspends, in pieces of nothing or of an octet; others get their turn after every few."""
    backend = OneMessage(10**9, lambda: drops(piece))
    async with driving(backend) as neighbour, driving(backend) as endless:
        await neighbour.login()
        await endless.login()
        await endless.send(verb + b"\r\n")
        for _ in range(20):
            assert (await neighbour.ask(b"NOOP")).startswith(b"+OK")
        endless.scope.cancel()
        await endless.done.wait()


class Never:
    """Gives nothing for ever, and is no generator."""

    def __aiter__(self) -> Never:
        return self

    async def __anext__(self) -> bytes:
        return b""


async def test_a_message_that_never_begins(autojump_clock: trio.testing.MockClock) -> None:
    """P4: looked at for its header, which has no end either."""
    backend = OneMessage(10**9, Never)
    async with driving(backend) as neighbour, driving(backend, make_options(headers=Headers.REFUSE)) as endless:
        await neighbour.login()
        await endless.login()
        await endless.send(b"RETR 1\r\n")
        for _ in range(20):
            assert (await neighbour.ask(b"NOOP")).startswith(b"+OK")
        endless.scope.cancel()
        await endless.done.wait()
