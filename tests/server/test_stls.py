"""STLS on one connection: when it is taken, what it forgets, what can be smuggled past it, and how long it may take."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.sasl import scram
from trio_pop3.server.options import make_options

from .driven import reason, summaries
from .encrypted import Authority, authenticate, start_tls, stls
from .helpers import LOCAL, LOGIN, PASSWORD, REMOTE, USER, BusyBackend, contents, driving, mail_for_fred

PLAIN = b64encode(f"\0{USER}\0{PASSWORD}".encode())
THROWN_AWAY = "octets in clear behind STLS were thrown away"


# --- when it is taken ------------------------------------------------------------------------------------------------


async def test_a_session_over_stls(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """R2595-05, R2595-12, R8314-04, R8314-09, G3: TLS begins right behind the `+OK`, CAPA is another one then, the log
    says how it was encrypted, and the end is announced.
    """
    backend = mail_for_fred(b"one\n")
    async with driving(backend, make_options(tls=authority.tls), client=REMOTE) as far:
        await far.line()
        await far.send(b"CAPA\r\n")
        before = (await far.multiline()).splitlines()
        secure = await stls(far, authority.context())
        await far.send(b"CAPA\r\n")
        after = (await far.multiline()).splitlines()
        assert b"STLS" in before
        assert b"USER" not in before
        assert b"STLS" not in after
        assert b"USER" in after
        assert not [line for line in before if line.startswith(b"SASL") and b"PLAIN" in line]
        assert [line for line in after if line.startswith(b"SASL SCRAM-SHA-256-PLUS ") and b"PLAIN" in line]
        await far.send(LOGIN + b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert (await far.rest()).endswith(b"one\r\n.\r\n+OK message marked for deletion\r\n+OK goodbye\r\n")
        await secure.unwrap()
        await far.done.wait()
        assert trio.current_time() == pytest.approx(0, abs=0.1)
    assert contents(backend) == []
    assert reason(caplog) == "quit"
    assert f" tls=TLSv1.3 cipher={secure.cipher()[0]} " in summaries(caplog)[0]


async def test_the_handshake_is_all_that_follows_the_reply(authority: Authority) -> None:
    """R2595-05: the octet behind the CRLF of `+OK` is the first of a TLS record."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.send(b"STLS\r\n")
        hello, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.context().wrap_bio(answer, hello, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        assert await far.line() == b"+OK begin TLS\r\n"
        await far.send(hello.read())
        assert (await far.stream.receive_some(100)).startswith(b"\x16\x03")


@pytest.mark.parametrize("argument", [b" now", b" ", b" 1"])
async def test_no_argument(authority: Authority, argument: bytes) -> None:
    """R2595-03, G2: refused, and the session goes on in clear."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        reply = await far.ask(b"STLS" + argument)
        if argument.strip():
            assert reply.startswith(b"-ERR")
            await far.send(LOGIN)
            assert (await far.line()).startswith(b"+OK")
        else:  # white space at the end of a line is no argument
            assert reply == b"+OK begin TLS\r\n"


async def test_before_login_only(authority: Authority) -> None:
    """R2595-04, G2: after the login it is refused, and not announced."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.login()
        await far.send(b"CAPA\r\n")
        assert b"\r\nSTLS\r\n" not in await far.multiline()
        assert (await far.ask(b"STLS")).startswith(b"-ERR")
        assert (await far.ask(b"NOOP")).startswith(b"+OK")


async def test_once(authority: Authority) -> None:
    """R2595-06, G2: with TLS up it is refused, and TLS stays up."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await stls(far, authority.context())
        assert await far.ask(b"STLS") == b"-ERR TLS is active already\r\n"
        await far.send(LOGIN)
        assert [(await far.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]


async def test_not_after_utf8(authority: Authority) -> None:
    """R6856-11."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        assert (await far.ask(b"UTF8")).startswith(b"+OK")
        await far.send(b"CAPA\r\n")
        assert b"\r\nSTLS\r\n" not in await far.multiline()
        assert (await far.ask(b"STLS")).startswith(b"-ERR too late for TLS")


async def test_no_certificate_no_stls() -> None:
    """R8314-07, R2595-02: neither announced nor served."""
    async with driving(mail_for_fred()) as far:
        await far.line()
        await far.send(b"CAPA\r\n")
        assert b"STLS" not in await far.multiline()
        assert await far.ask(b"STLS") == b"-ERR TLS is not available here\r\n"
        assert (await far.ask(b"USER fred")).startswith(b"+OK")


async def test_a_client_certificate_is_no_login(authority: Authority) -> None:
    """R2595-08, R8314-02: AUTHORIZATION goes on."""
    async with driving(mail_for_fred(), make_options(tls=authority.asking)) as far:
        await far.line()
        await stls(far, authority.context(identity="fred@example.org"))
        assert (await far.ask(b"STAT")).startswith(b"-ERR")
        await far.send(LOGIN)
        assert [(await far.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]


async def test_tls_is_of_one_connection(authority: Authority) -> None:
    """G6: one session's TLS is nothing another has."""
    options, backend = make_options(tls=authority.tls), mail_for_fred()
    async with driving(backend, options, client=REMOTE) as one, driving(backend, options, client=REMOTE) as other:
        await one.line()
        await other.line()
        await stls(one, authority.context())
        assert (await one.ask(b"USER fred")).startswith(b"+OK")
        assert await other.ask(b"USER fred") == b"-ERR login without encryption is not allowed here\r\n"
        await other.send(b"CAPA\r\n")
        assert b"\r\nSTLS\r\n" in await other.multiline()
        await stls(other, authority.context())


# --- what it forgets -------------------------------------------------------------------------------------------------


async def test_a_pending_user_is_forgotten(authority: Authority) -> None:
    """G3: the name was said in clear, by anybody."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.ask(b"USER fred")
        await stls(far, authority.context())
        assert (await far.ask(b"PASS s3cret-Wort")).startswith(b"-ERR")
        await far.send(LOGIN)
        assert [(await far.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]


async def test_the_language_is_forgotten(authority: Authority) -> None:
    """G3, R2595-19: what was asked for in clear is not what the client wants."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        assert (await far.ask(b"LANG de")).startswith(b"+OK de ")
        translated = await far.ask(b"USER fred")
        assert (await far.ask(b"STLS")).startswith(b"+OK")
        await start_tls(far, authority.context())
        assert await far.ask(b"USER fred") == b"+OK send PASS\r\n" != translated


async def test_what_the_handshake_told_reaches_the_backend(authority: Authority) -> None:
    """R8314-09: version, cipher, and the name that was asked for."""
    seen: list[ClientInfo] = []

    class Noting(BusyBackend):
        async def open(self, user: str, client: ClientInfo) -> Any:
            seen.append(client)
            return await super().open(user, client)

    async with driving(Noting(mail_for_fred()), make_options(tls=authority.tls), client=REMOTE) as far:
        await far.line()
        secure = await stls(far, authority.context())
        await far.send(LOGIN)
        await far.line()
        assert (await far.line()).startswith(b"+OK")
    (client,) = seen
    assert (client.tls, client.tls_version, client.cipher, client.server_name) == (
        True, "TLSv1.3", secure.cipher()[0], "localhost",
    )  # fmt: skip
    assert (client.session, client.peer, client.loopback) == (REMOTE.session, REMOTE.peer, False)
    assert client.end_point is not None
    assert client.certificate is None


# --- what is smuggled past it ----------------------------------------------------------------------------------------

BEHIND = {
    "whole line": b"NOOP\r\n",
    "half line": b"USER fr",
    "another half": b"DEL",
    "login": LOGIN,
    "bare USER": b"USER fred\r\n",
    "SASL begun": b"AUTH PLAIN\r\n",
    "SASL half": b"AUTH PLAIN\r\n" + PLAIN[:8],
    "SASL whole": b"AUTH PLAIN " + PLAIN + b"\r\n",
    "quit": b"QUIT\r\n",
    "stls again": b"STLS\r\n",
    "long": b"NOOP\r\n" * 2000,
    "endless": b"x" * 9000,
}
behind_stls = pytest.mark.parametrize("behind", BEHIND.values(), ids=list(BEHIND))


@behind_stls
async def test_nothing_in_the_same_segment_acts(
    authority: Authority, caplog: pytest.LogCaptureFixture, behind: bytes
) -> None:
    """G1, R2595-19, A-35: what came behind STLS is thrown away, and that is logged; it is neither executed, nor the
    beginning of what is said inside TLS.
    """
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.send(b"STLS\r\n" + behind)
        assert await far.line() == b"+OK begin TLS\r\n"
        await start_tls(far, authority.context())
        assert (await far.ask(b"PASS s3cret-Wort")).startswith(b"-ERR")
        assert (await far.ask(b"STAT")).startswith(b"-ERR")
        await far.send(LOGIN + b"STAT\r\n")
        assert [(await far.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]
        assert await far.line() == b"+OK 0 0\r\n"
    thrown = f"session {LOCAL.session}: {len(behind)} {THROWN_AWAY}"
    assert thrown in caplog.text
    assert " failed=0 " in summaries(caplog)[0]


@behind_stls
async def test_nothing_in_the_next_segment_acts(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, behind: bytes
) -> None:
    """G1, G4, R2595-19: in the place of a ClientHello it ends the connection, without a word in clear."""
    backend = BusyBackend(mail_for_fred(b"one\n"))
    async with driving(backend, make_options(tls=authority.tls)) as far:
        await far.line()
        assert await far.ask(b"STLS") == b"+OK begin TLS\r\n"
        await far.send(behind)
        if len(behind) > 16:  # else OpenSSL waits for the rest of a record
            assert await far.rest() == b""
    assert backend.counts.opens == 0
    assert reason(caplog).startswith("'TLS handshake failed: ")
    assert caplog.text.count("maildrop") == 0


async def test_stls_inside_an_exchange_is_a_response(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """G1, H5: no TLS begins in the middle of SASL; half an exchange does not go on inside the TLS that begins later."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        assert await far.ask(b"AUTH PLAIN") == b"+ \r\n"
        assert (await far.ask(b"STLS")).startswith(b"-ERR")
        await stls(far, authority.context())
        assert (await far.ask(PLAIN)).startswith(b"-ERR")
        assert (await far.ask(b"STAT")).startswith(b"-ERR")
        assert (
            await authenticate(far, b"SCRAM-SHA-256", scram(USER, PASSWORD))
            == b"+OK maildrop has 0 messages (0 octets)\r\n"
        )


async def test_commands_before_stls_are_answered_in_clear(authority: Authority) -> None:
    """R2595-05: in the segment of STLS, before it; TLS begins where its own reply ends."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.send(b"CAPA\r\nUSER fred\r\nSTLS\r\nNOOP\r\n")
        assert (await far.multiline()).startswith(b"+OK")
        assert await far.line() == b"+OK send PASS\r\n"
        assert await far.line() == b"+OK begin TLS\r\n"
        await start_tls(far, authority.context())
        await far.send(LOGIN)
        assert [(await far.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]


# --- how it fails ----------------------------------------------------------------------------------------------------


async def test_a_client_that_does_not_trust_us(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """G4: its alert ends the connection, and nothing more is said."""
    async with driving(mail_for_fred(b"one\n"), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.ask(b"STLS")
        to_server, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.context().wrap_bio(from_server, to_server, server_hostname="pop.example.org")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        await far.send(to_server.read())
        from_server.write(await far.stream.receive_some(65536))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            client.do_handshake()
        await far.send(to_server.read())
        assert await far.rest() == b""
    assert reason(caplog).startswith("'TLS handshake failed: ")
    assert "alert" in reason(caplog)


async def test_a_certificate_nobody_vouches_for(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """G4, R8314-11: refused in the handshake, and logged."""
    async with driving(mail_for_fred(), make_options(tls=authority.asking)) as far:
        await far.line()
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - which of the two depends on the version of TLS
            await stls(far, authority.context(identity="mallory@example.org", stranger=True))
            await far.ask(b"CAPA")
    assert reason(caplog).startswith("'TLS handshake failed: client certificate not accepted: ")


async def test_a_silent_client(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """G5: 30 s for the handshake, then a silent close."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.ask(b"STLS")
        assert await far.rest() == b""
        assert trio.current_time() == pytest.approx(30, abs=1)
    assert reason(caplog) == "'TLS handshake timeout'"


@pytest.mark.parametrize("seconds", [7.0, 0.5])
async def test_a_dripping_client(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    """G5: an octet now and then moves no deadline; whatever `tls_timeout` is."""
    hello, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.context().wrap_bio(answer, hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    octets = hello.read()
    async with driving(mail_for_fred(), make_options(tls=authority.tls, tls_timeout=seconds)) as far:
        await far.line()
        await far.ask(b"STLS")
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for octet in octets:
                    await trio.sleep(seconds / 10)
                    await far.send(bytes([octet]))

            nursery.start_soon(drip)
            assert await far.rest() == b""
            assert trio.current_time() == pytest.approx(seconds, rel=0.11)
            nursery.cancel_scope.cancel()
    assert reason(caplog) == "'TLS handshake timeout'"


async def test_the_login_deadline_goes_on(authority: Authority, autojump_clock: trio.testing.MockClock) -> None:
    """PROTOCOL 2.7: TLS does not begin the time for the login anew."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await trio.sleep(100)
        await stls(far, authority.context())
        assert await far.rest() == b""
        assert trio.current_time() == pytest.approx(180, abs=1.5)


async def test_drain_in_a_handshake(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """J1, G4: a client that owes the handshake is not waited for, and nothing is said in clear."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        await far.line()
        await far.ask(b"STLS")
        await trio.testing.wait_all_tasks_blocked()
        far.driver.drain()
        assert await far.rest() == b""
        assert trio.current_time() == 0
    assert reason(caplog) == "shutdown"


async def test_drain_over_tls(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """J1, R8314-04: an idle session ends at once, and TLS is ended with it."""
    backend = mail_for_fred(b"one\n")
    async with driving(backend, make_options(tls=authority.tls)) as far:
        await far.line()
        await stls(far, authority.context())
        await far.send(LOGIN + b"DELE 1\r\n")
        for _ in range(3):
            await far.line()
        await trio.testing.wait_all_tasks_blocked()
        far.driver.drain()
        assert await far.rest() == b""
    assert reason(caplog) == "shutdown"
    assert contents(backend) == [b"one\n"]


@pytest.mark.parametrize("eof", [True, False])
async def test_a_client_that_vanishes(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, eof: bool
) -> None:
    """P1, E1, R8314-04: without the farewell of TLS, or with it, an end without QUIT is one that deletes nothing."""
    backend = mail_for_fred(b"one\n")
    async with driving(backend, make_options(tls=authority.tls)) as far:
        await far.line()
        secure = await stls(far, authority.context())
        await far.send(LOGIN + b"DELE 1\r\nQUIT")
        for _ in range(3):
            await far.line()
        if eof:
            await secure.aclose()
        else:
            await trio.aclose_forcefully(secure.transport_stream)
        await far.done.wait()
    assert contents(backend) == [b"one\n"]
    assert not backend.locked(USER)
    assert reason(caplog) == "'client closed'"


async def test_a_hard_cancel_says_no_farewell(authority: Authority, autojump_clock: trio.testing.MockClock) -> None:
    """P1, R8314-04: a session that was cut off did not end, and its client can tell."""
    backend = mail_for_fred(b"one\n")
    async with driving(backend, make_options(tls=authority.tls)) as far:
        await far.line()
        await stls(far, authority.context())
        await far.send(LOGIN + b"DELE 1\r\n")
        for _ in range(3):
            await far.line()
        far.scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await far.rest()
    assert contents(backend) == [b"one\n"]


# --- require_tls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [LOCAL, REMOTE], ids=["local", "remote"])
async def test_require_tls(authority: Authority, client: ClientInfo) -> None:
    """R2595-13, R2595-14, R2595-16, R8314-10, G7: no login of any kind in clear, not from this machine either, and the
    reply does not depend on whether the password is right.
    """
    options = make_options(tls=authority.tls, require_tls=True)
    said = []
    for password in (PASSWORD, "wrong"):
        plain = b64encode(f"\0{USER}\0{password}".encode())
        async with driving(mail_for_fred(), options, client=client) as far:
            await far.line()
            await far.send(b"CAPA\r\n")
            tags = [line.split()[0] for line in (await far.multiline()).splitlines()]
            assert b"STLS" in tags
            assert b"USER" not in tags
            assert b"SASL" not in tags
            commands = [
                b"USER fred",
                b"PASS " + password.encode(),
                b"AUTH PLAIN " + plain,
                b"AUTH SCRAM-SHA-256",
                b"STAT",
            ]
            said.append([await far.ask(command) for command in commands])
            await stls(far, authority.context())
            reply = await far.ask(b"AUTH PLAIN " + plain)
            assert reply.startswith(b"+OK" if password == PASSWORD else b"-ERR [AUTH]")
    assert said[0] == said[1]
    assert all(reply.startswith(b"-ERR") for reply in said[0])
