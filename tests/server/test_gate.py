"""Wrong logins cost time, through whole connections and in virtual time; and logins that come too soon."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo, Policy
from trio_pop3.credentials import PasswordCredentials, TokenCredentials
from trio_pop3.server import Networks, gate
from trio_pop3.server.gate import LoginGate
from trio_pop3.server.options import NOBODY, make_options
from trio_pop3.server.penalty import Penalty
from trio_pop3.server.serve import Server

from .driven import Caller, calling
from .helpers import LOGIN, PASSWORD, REMOTE, USER, Client, contents, driving, hang_in, mail_for_fred
from .helpers import BusyBackend as Busy
from .serving import serving

ELSEWHERE = "203.0.113.9"


def server_for(backend: Any, **options: Any) -> Server:
    wanted = {"insecure_auth": True, "max_auth_failures": None, "max_connections": 100, **options}
    return Server(backend, make_options(**wanted))


def in_flight(server: Server) -> int:
    return server._gate._penalty.in_flight


async def attempt(client: Client, password: str, user: str = USER) -> float:
    """One login on a connection that was greeted; the seconds until its reply."""
    assert (await client.ask(b"USER " + user.encode())).startswith(b"+OK")
    start = trio.current_time()
    reply = await client.ask(b"PASS " + password.encode())
    assert reply.startswith(b"+OK" if password == PASSWORD else b"-ERR [AUTH]")
    return trio.current_time() - start


async def login_from(server: Server, host: str, password: str, **options: Any) -> float:
    """The same on a connection of its own."""
    async with calling(server, host, **options) as client:
        await client.line()
        return await attempt(client, password)


# --- guesses ---------------------------------------------------------------------------------------------------------


async def test_guesses_on_one_connection(autojump_clock: trio.testing.MockClock) -> None:
    """H10, PROTOCOL 2.3: 0, 2, 4, 8 and 15 s, and never more; the right password waits as well."""
    async with calling(server_for(mail_for_fred())) as client:
        await client.line()
        assert [await attempt(client, f"wrong{n}") for n in range(6)] == pytest.approx([0, 2, 4, 8, 15, 15])
        assert await attempt(client, PASSWORD) == pytest.approx(15)


async def test_guesses_on_many_connections(autojump_clock: trio.testing.MockClock) -> None:
    """H10: it is the network that is remembered; of IPv6, all that one customer has."""
    server = server_for(mail_for_fred())
    for host in ("192.0.2.{}", "2001:db8:1:2::{}"):
        hosts = [host.format(7 if "." in host else n) for n in range(1, 6)]
        seconds = [await login_from(server, one, f"wrong{n}") for n, one in enumerate(hosts)]
        assert seconds == pytest.approx([0, 2, 4, 8, 15])
    assert await login_from(server, "2001:db8:1:3::1", "wrong") == 0


async def test_it_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """H10: a quarter of an hour after the last of them."""
    server = server_for(mail_for_fred())
    for n in range(3):
        await login_from(server, ELSEWHERE, f"wrong{n}")
    await trio.sleep(901)
    assert await login_from(server, ELSEWHERE, "wrong") == 0


async def test_others_do_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """H10, P4: neither another network, even for the same user, nor a session that has logged in already."""
    backend = mail_for_fred(b"one\n")
    backend.add_user("wilma", PASSWORD)
    server = server_for(backend)
    async with calling(server) as inside:
        await inside.login()
        for n in range(5):
            await login_from(server, "192.0.2.7", f"wrong{n}")
        start = trio.current_time()
        await inside.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert (await inside.rest()).endswith(b"+OK goodbye\r\n")
        assert trio.current_time() == start
    assert contents(backend) == []
    assert await login_from(server, ELSEWHERE, PASSWORD) == 0
    assert await login_from(server, "192.0.2.7", PASSWORD) == pytest.approx(15)


async def test_the_same_wrong_pair(autojump_clock: trio.testing.MockClock) -> None:
    """H10: a telephone with an old password makes nobody wait longer and longer."""
    server = server_for(mail_for_fred())
    seconds = [await login_from(server, ELSEWHERE, "the old one") for _ in range(8)]
    assert seconds == pytest.approx([0] + [2] * 7)
    assert await login_from(server, ELSEWHERE, "a guess") == pytest.approx(2)
    assert await login_from(server, ELSEWHERE, "the old one") == pytest.approx(4)


@pytest.mark.parametrize("mechanism", [b"AUTH PLAIN ", b"AUTH LOGIN "])
async def test_a_message_that_cannot_be_read_is_no_guess(
    autojump_clock: trio.testing.MockClock, mechanism: bytes
) -> None:
    """H4, H10: nothing was tried with it."""
    async with calling(server_for(mail_for_fred())) as client:
        await client.line()
        for _ in range(5):
            assert (await client.ask(mechanism + b"====")).startswith(b"-ERR")
        assert await attempt(client, PASSWORD) == 0
        assert trio.current_time() == 0


async def test_this_machine_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """H10: by default; a webmail on it would make all its users wait for one."""
    server = server_for(mail_for_fred())
    for n in range(6):
        assert await login_from(server, "127.0.0.1", f"wrong{n}", local="127.0.0.1") == 0
    assert in_flight(server) == 0


async def test_trusted_is_an_option(autojump_clock: trio.testing.MockClock) -> None:
    """H10: another list takes the place of this machine."""
    server = server_for(mail_for_fred(), trusted=Networks(["203.0.113.0/24"]))
    assert [await login_from(server, ELSEWHERE, f"wrong{n}") for n in range(3)] == [0, 0, 0]
    local = [await login_from(server, "127.0.0.1", f"wrong{n}", local="127.0.0.1") for n in range(3)]
    assert local == pytest.approx([0, 2, 4])


async def test_a_burst(autojump_clock: trio.testing.MockClock) -> None:
    """H10: guesses at the same time on many connections do not all go first; afterwards every one has been counted."""

    async def slow(where: str) -> None:
        await trio.sleep(0.5 if where == "authenticate" else 0)

    server = server_for(Busy(mail_for_fred(), slow))
    seconds: list[float] = []

    async def guess(number: int) -> None:
        seconds.append(await login_from(server, ELSEWHERE, f"wrong{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(guess, number)
    assert sorted(round(second, 1) for second in seconds) == pytest.approx(
        [0.5] * 10 + [2.5] * 10 + [4.5] * 10 + [8.5] * 10 + [15.5] * 10
    )
    assert in_flight(server) == 0
    assert await login_from(server, ELSEWHERE, "wrong") == pytest.approx(15.5)


async def waiting(server: Server, client: Caller) -> None:
    """Make a client wait: it has guessed before."""
    await client.line()
    await attempt(client, "wrong")
    await client.ask(b"USER fred")
    await client.send(b"PASS right?\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert in_flight(server) == 1


async def test_cancelled_while_it_waits(autojump_clock: trio.testing.MockClock) -> None:
    """H5, I4: an attempt that is cut off leaves no count, and was no failure."""
    server = server_for(mail_for_fred())
    async with calling(server, ELSEWHERE) as client:
        await waiting(server, client)
        for driver in server._drivers:
            driver._scope.cancel()
        await client.done.wait()
    assert in_flight(server) == 0
    assert await login_from(server, ELSEWHERE, "wrong2") == pytest.approx(2)


async def test_cut_off_while_the_backend_thinks(autojump_clock: trio.testing.MockClock) -> None:
    """H5, I4: behind the gate the same, here by `command_timeout`."""
    server = server_for(Busy(mail_for_fred(), hang_in("authenticate")), command_timeout=10)
    async with calling(server, ELSEWHERE) as client:
        await client.line()
        await client.send(LOGIN)
        await trio.testing.wait_all_tasks_blocked()
        assert in_flight(server) == 1
        assert (await client.rest()).endswith(b"-ERR [SYS/TEMP] the mail store takes too long\r\n")
        await client.done.wait()
    assert in_flight(server) == 0


async def test_a_backend_that_fails_is_no_guess(autojump_clock: trio.testing.MockClock) -> None:
    """H9, H10: neither counted nor left behind."""

    async def fail(where: str) -> None:
        if where == "authenticate":
            raise RuntimeError("down")

    server = server_for(Busy(mail_for_fred(), fail))
    async with calling(server, ELSEWHERE) as client:
        await client.line()
        for _ in range(4):
            await client.ask(b"USER fred")
            assert (await client.ask(b"PASS x")).startswith(b"-ERR [SYS/TEMP]")
        assert trio.current_time() == 0
    assert in_flight(server) == 0


async def test_a_client_that_leaves_while_it_waits(autojump_clock: trio.testing.MockClock) -> None:
    """I4: what it has sent is still looked at, and then it is gone; nothing is left."""
    server = server_for(mail_for_fred())
    async with calling(server, ELSEWHERE) as client:
        await waiting(server, client)
    assert in_flight(server) == 0
    assert server.places.value == server.places.max_value


async def test_shutdown_while_it_waits(autojump_clock: trio.testing.MockClock) -> None:
    """J1: the attempt is answered, and no other read."""
    server = server_for(mail_for_fred())
    async with calling(server, ELSEWHERE) as client:
        await waiting(server, client)
        server.drain()
        assert (await client.rest()).startswith(b"-ERR [AUTH]")
    assert in_flight(server) == 0


# --- the gate alone --------------------------------------------------------------------------------------------------


def open_gate() -> LoginGate:
    return LoginGate(Penalty(NOBODY, clock=trio.current_time))


async def test_the_gate_knows_pairs_only_of_secrets_it_sees(autojump_clock: trio.testing.MockClock) -> None:
    """H10, H12: the same token is the same pair; another user's is not; without credentials every failure counts."""
    login = open_gate()

    async def fail(credentials: Any) -> float:
        start = trio.current_time()
        await login.enter(REMOTE)
        login.leave(REMOTE, credentials, failed=True)
        return trio.current_time() - start

    token = TokenCredentials("fred", "t0ken")
    assert [await fail(token) for _ in range(3)] == pytest.approx([0, 2, 2])
    assert await fail(PasswordCredentials("fred", "t0ken")) == pytest.approx(2)  # the same two texts
    assert await fail(TokenCredentials("wilma", "t0ken")) == pytest.approx(2)
    assert await fail(None) == pytest.approx(4)
    assert await fail(None) == pytest.approx(8)


async def test_cancelling_the_gate(autojump_clock: trio.testing.MockClock) -> None:
    """I4."""
    login = open_gate()
    await login.enter(REMOTE)
    login.leave(REMOTE, None, failed=True)
    with trio.move_on_after(1) as scope:
        await login.enter(REMOTE)
    assert scope.cancelled_caught
    assert login._penalty.in_flight == 0
    await login.enter(REMOTE)  # 2 s, not more
    assert trio.current_time() == pytest.approx(3)


def test_logins_are_remembered_for_as_long_as_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2449-17, P4: and not more of them than there is room for."""
    now = [100.0]
    monkeypatch.setattr(gate, "_MOST_USERS", 3)
    login = LoginGate(Penalty(NOBODY, clock=lambda: now[0]), clock=lambda: now[0])
    login.logged_in("nobody", 0)
    assert len(login) == 0
    assert login.since_login("nobody") is None
    for user in ("a", "b", "c", "a", "d"):
        login.logged_in(user, 60)
        now[0] += 1
    assert len(login) == 3
    assert login.since_login("b") is None  # the oldest; "a" came back
    assert login.since_login("a") == 2
    now[0] += 60
    login.logged_in("e", 60)
    assert len(login) == 1


# --- too soon --------------------------------------------------------------------------------------------------------


async def test_login_delay(autojump_clock: trio.testing.MockClock) -> None:
    """R2449-17, R2449-18, A-43, H9: announced; too soon is refused with its own code, which starts no new wait and is
    no guess; a failed login does not count either.
    """
    server = server_for(mail_for_fred(), login_delay=60)

    async def login() -> bytes:
        async with calling(server) as client:
            await client.line()
            await client.send(b"CAPA\r\n")
            assert b"\r\nLOGIN-DELAY 60\r\n" in await client.multiline()
            await client.ask(b"USER fred")
            reply = await client.ask(b"PASS " + PASSWORD.encode())
            await client.ask(b"QUIT")
            return reply

    assert (await login()).startswith(b"+OK")
    for _ in range(4):
        await trio.sleep(14)
        assert await login() == b"-ERR [LOGIN-DELAY] too soon after the last login\r\n"
    await trio.sleep(5)
    assert (await login()).startswith(b"+OK")
    assert trio.current_time() == pytest.approx(61)


async def test_login_delay_of_a_user(autojump_clock: trio.testing.MockClock) -> None:
    """R2449-19: the backend's word comes before the option, and after the login the exact one is told."""

    class Delays(Busy):
        async def login_delay(self, user: str | None) -> Policy:
            return Policy(10 if user == USER else 900, per_user=True)

    server = server_for(Delays(mail_for_fred()), login_delay=60)
    for seconds, code in ((0, b"+OK"), (9, b"-ERR [LOGIN-DELAY]"), (2, b"+OK")):
        await trio.sleep(seconds)
        async with calling(server) as client:
            await client.line()
            await client.send(b"CAPA\r\n")
            assert b"\r\nLOGIN-DELAY 900 USER\r\n" in await client.multiline()
            await client.ask(b"USER fred")
            assert (await client.ask(b"PASS " + PASSWORD.encode())).startswith(code)
            if code == b"+OK":
                await client.send(b"CAPA\r\n")
                assert b"\r\nLOGIN-DELAY 10\r\n" in await client.multiline()


async def test_login_delay_through_serve() -> None:
    """R2449-17: over sockets, and from this machine as from any other."""
    async with serving(mail_for_fred(), login_delay=60) as running:
        for code in (b"+OK", b"-ERR [LOGIN-DELAY]"):
            async with running.client() as client:
                await client.line()
                await client.ask(b"USER fred")
                assert (await client.ask(b"PASS " + PASSWORD.encode())).startswith(code)
                await client.ask(b"QUIT")
                with contextlib.suppress(trio.BrokenResourceError):
                    await client.rest()


async def test_drivers_that_share_a_gate(autojump_clock: trio.testing.MockClock) -> None:
    """A gate belongs to many connections: two drivers that share one know of each other's guesses."""
    login = open_gate()
    options = make_options(insecure_auth=True)
    client = ClientInfo("g", "192.0.2.7", 1, "192.0.2.1", 110)
    for seconds in (0, 2):
        async with driving(mail_for_fred(), options, client=client, gate=login) as far:
            await far.line()
            assert await attempt(far, f"wrong{seconds}") == pytest.approx(seconds)
