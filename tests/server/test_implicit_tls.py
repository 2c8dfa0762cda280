"""Connections that begin with TLS; and what else TLS is good for: certificates of clients, channel binding."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.auth.certificates import CertificateUsers
from trio_pop3.auth.first_of import FirstOf
from trio_pop3.backend import combine
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.sasl import external, scram
from trio_pop3.server import serve
from trio_pop3.server.options import make_options
from trio_pop3.server.serve import Server
from trio_pop3.x509 import tls_server_end_point

from .driven import calling, reason, summaries
from .encrypted import Authority, authenticate, start_tls, stls
from .helpers import LOGIN, PASSWORD, REMOTE, USER, BusyBackend, Client, Far, contents, driving, mail_for_fred
from .serving import serving

# --- the connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session(
    authority: Authority,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    version: ssl.TLSVersion,
) -> None:
    """R8314-01, R8314-02, R8314-04, R8314-05, R8314-09: the server says nothing before the handshake, then greets and
    is in AUTHORIZATION; STLS is neither offered nor taken; the end is announced; the log says how it was encrypted.
    """
    backend = mail_for_fred(b"one\n")
    context = authority.context()
    context.maximum_version = version
    options = make_options(tls=authority.tls)
    async with driving(backend, options, client=REMOTE, implicit_tls=True) as far:
        with trio.move_on_after(10) as waiting:
            await far.line()
        assert waiting.cancelled_caught
        secure = await start_tls(far, context)
        assert secure.version() == version.name.replace("_", ".")
        assert await far.line() == b"+OK POP3 server ready\r\n"
        assert (await far.ask(b"STAT")).startswith(b"-ERR")
        await far.send(b"CAPA\r\n")
        assert b"\r\nSTLS\r\n" not in await far.multiline()
        assert await far.ask(b"STLS") == b"-ERR TLS is active already\r\n"
        await far.send(LOGIN + b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert (await far.rest()).endswith(b"one\r\n.\r\n+OK message marked for deletion\r\n+OK goodbye\r\n")
    assert contents(backend) == []
    assert reason(caplog) == "quit"
    assert f" tls={secure.version()} cipher={secure.cipher()[0]} " in summaries(caplog)[0]


async def test_old_versions(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """R8997-01, R8314-05: TLS 1.1 ends in the handshake, and is not greeted."""
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with driving(mail_for_fred(), make_options(tls=authority.tls), implicit_tls=True) as far:
        raw = far.stream
        with pytest.raises(trio.BrokenResourceError):
            await start_tls(far, context)
        assert await raw.receive_some() == b""
    assert reason(caplog) == "'TLS handshake failed: unsupported protocol'"


@pytest.mark.parametrize("said", [b"CAPA\r\nUSER fred\r\n", LOGIN, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100])
async def test_a_client_that_talks_in_clear(
    authority: Authority, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    """R8314-01, G4: what it hears is the end, and no password was looked at."""
    backend = BusyBackend(mail_for_fred())
    async with driving(backend, make_options(tls=authority.tls), implicit_tls=True) as far:
        await far.send(said)
        assert await far.rest() == b""
    assert backend.counts.connects == 0
    assert reason(caplog).startswith("'TLS handshake failed: ")
    assert PASSWORD not in caplog.text


async def test_a_client_that_talks_tls_where_it_should_not(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """R8314-01: it meets a greeting, which is no TLS, and what it says is no command."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls)) as far:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await start_tls(far, authority.context())
        assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert reason(caplog) in ("'client closed'", "'connection lost'")  # there may be a line end in the ClientHello
    assert " failed=0 " in summaries(caplog)[0]


async def test_a_silent_client(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """G5: 30 s for the handshake."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls), implicit_tls=True) as far:
        assert await far.rest() == b""
        assert trio.current_time() == pytest.approx(30, abs=1)
    assert reason(caplog) == "'TLS handshake timeout'"


async def test_drain_in_a_handshake(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """J1."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls), implicit_tls=True) as far:
        await trio.testing.wait_all_tasks_blocked()
        far.driver.drain()
        assert await far.rest() == b""
        assert trio.current_time() == 0
    assert reason(caplog) == "shutdown"


async def test_drain_before_a_handshake(
    authority: Authority, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """J1: one that was accepted in the last moment, and may never say anything, is not waited for."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls), implicit_tls=True) as far:
        far.driver.drain()
        assert await far.rest() == b""
        assert trio.current_time() == 0
    assert reason(caplog) == "shutdown"


async def test_a_connection_that_is_one_too_many(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """A-44, R8314-01: where a client expects TLS, nothing is said in clear."""
    server = Server(mail_for_fred(), make_options(tls=authority.tls, max_connections_per_host=1, max_connections=9))
    async with calling(server, tls=True) as first:
        await start_tls(first, authority.context())
        assert (await first.line()).startswith(b"+OK")
        async with calling(server, tls=True) as second:
            assert await second.rest() == b""
    assert "refused a connection from 192.0.2.7:4711: its host has its share" in caplog.text


# --- serve -----------------------------------------------------------------------------------------------------------


async def test_both_kinds_of_tls(authority: Authority) -> None:
    """R8314-08, R8314-01: one listener begins with TLS, the other has STLS."""
    async with serving(
        mail_for_fred(), "127.0.0.1:0", "127.0.0.1:0,tls", tls=authority.tls, require_tls=True
    ) as running:
        for which in range(2):
            async with running.client(which) as client:
                if which:
                    secure = await start_tls(client, authority.context())
                    await client.line()
                else:
                    await client.line()
                    secure = await stls(client, authority.context())
                await client.send(LOGIN + b"QUIT\r\n")
                assert (await client.rest()).endswith(b"+OK goodbye\r\n")
                await secure.aclose()


async def test_port_for_tls(authority: Authority) -> None:
    """R8314-01: `tls_port` is a second listener on the same host."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[Any]) -> None:
                backend = mail_for_fred()
                await serve(backend, host="127.0.0.1", port=0, tls_port=0, tls=authority.tls, task_status=task_status)

            plain, encrypted = await nursery.start(run)
            assert (plain.tls, encrypted.tls) == (False, True)
            async with await trio.open_tcp_stream("127.0.0.1", encrypted.port) as stream:
                client = Client(stream)
                await start_tls(client, authority.context())
                assert (await client.line()).startswith(b"+OK")
            nursery.cancel_scope.cancel()


async def test_port_for_tls_in_use(authority: Authority) -> None:
    """I4: nothing stays open."""
    async with serving(mail_for_fred()) as running:
        port = running.listeners[0].port
        with pytest.raises(OSError, match="in use"):
            await serve(mail_for_fred(), host="127.0.0.1", port=0, tls_port=port, tls=authority.tls)


async def test_tls_listener_without_certificate() -> None:
    """R8314-07: what cannot work is not begun."""
    with pytest.raises(ValueError, match="a listener that begins with TLS needs tls"):
        await serve(mail_for_fred(), listen=["127.0.0.1:0,tls"])


# --- certificates of clients -----------------------------------------------------------------------------------------

OWNER = "fred@example.org"


def by_certificate(*users: str) -> Any:
    """Users who log in with a certificate or a password."""
    backend = MemoryBackend()
    for user in users:
        backend.add_user(user, PASSWORD)
        backend.deliver(user, b"one\n")
    return combine(FirstOf(CertificateUsers(), backend), backend)


@asynccontextmanager
async def identified(
    authority: Authority, backend: Any, context: ssl.SSLContext, **options: Any
) -> AsyncIterator[tuple[Far, bytes]]:
    """A connection over TLS that was greeted, and what CAPA says on it."""
    wanted = make_options(tls=authority.asking, **options)
    async with driving(backend, wanted, client=REMOTE, implicit_tls=True) as far:
        await start_tls(far, context)
        await far.line()
        await far.send(b"CAPA\r\n")
        yield far, await far.multiline()


async def test_external(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """R2595-09, R8314-12: announced to who presents a certificate of the authority, and taken; the log says so."""
    context = authority.context(identity=OWNER)
    async with identified(authority, by_certificate(OWNER), context) as (far, capabilities):
        assert b" EXTERNAL " in capabilities
        assert await authenticate(far, b"EXTERNAL", external()) == b"+OK maildrop has 1 message (5 octets)\r\n"
        assert await far.ask(b"QUIT") == b"+OK goodbye\r\n"
    assert f" user={OWNER} " in summaries(caplog)[0]
    assert " method=EXTERNAL " in summaries(caplog)[0]


async def test_external_over_stls(authority: Authority) -> None:
    """R2595-09, R2595-02: not offered before TLS, where there is no certificate."""
    backend = by_certificate(OWNER)
    async with driving(backend, make_options(tls=authority.asking), client=REMOTE) as far:
        await far.line()
        assert (await far.ask(b"AUTH EXTERNAL =")).startswith(b"-ERR")
        await stls(far, authority.context(identity=OWNER))
        assert (await far.ask(b"AUTH EXTERNAL =")).startswith(b"+OK")


async def test_external_of_a_stranger(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """R8314-12: a certificate of no user is a failed login, and a password may follow."""
    context = authority.context(identity="mallory.example.org")
    async with identified(authority, by_certificate(OWNER), context) as (far, _):
        assert (await far.ask(b"AUTH EXTERNAL =")).startswith(b"-ERR [AUTH]")
        await far.send(f"USER {OWNER}\r\nPASS {PASSWORD}\r\n".encode())
        assert [(await far.line())[:3] for _ in range(2)] == [b"+OK", b"+OK"]
    assert " failed=1 " in summaries(caplog)[0]


async def test_external_for_somebody_else(authority: Authority) -> None:
    """R2595-09: a certificate opens its owner's maildrop and no other."""
    other = "wilma@example.org"
    async with identified(authority, by_certificate(OWNER, other), authority.context(identity=OWNER)) as (far, _):
        assert (await far.ask(b"AUTH EXTERNAL " + b64encode(other.encode()))).startswith(b"-ERR [AUTH]")
        assert (await far.ask(b"AUTH EXTERNAL " + b64encode(OWNER.encode()))).startswith(b"+OK")


async def test_external_without_a_certificate(authority: Authority) -> None:
    """R8314-12: neither announced nor taken."""
    async with identified(authority, by_certificate(OWNER), authority.context()) as (far, capabilities):
        assert b"EXTERNAL" not in capabilities
        assert (await far.ask(b"AUTH EXTERNAL =")) == b"-ERR this mechanism is not available\r\n"


# --- channel binding -------------------------------------------------------------------------------------------------


def end_point(secure: trio.SSLStream[trio.abc.Stream]) -> tuple[str, bytes]:
    """What the client makes of the server's certificate."""
    data = tls_server_end_point(secure.getpeercert(binary_form=True))
    assert data is not None
    return "tls-server-end-point", data


@pytest.mark.parametrize("implicit", [True, False])
async def test_scram_plus(authority: Authority, caplog: pytest.LogCaptureFixture, implicit: bool) -> None:
    """RFC 5802 section 6: SCRAM-SHA-256-PLUS bound to the certificate that the client sees; either way to TLS."""
    options = make_options(tls=authority.tls)
    async with driving(mail_for_fred(b"one\n"), options, client=REMOTE, implicit_tls=implicit) as far:
        if not implicit:
            await far.line()
            assert (await far.ask(b"AUTH SCRAM-SHA-256-PLUS")).startswith(b"-ERR")
            secure = await stls(far, authority.context())
        else:
            secure = await start_tls(far, authority.context())
            await far.line()
        exchange = scram(USER, PASSWORD, plus=True, binding=end_point(secure))
        reply = await authenticate(far, b"SCRAM-SHA-256-PLUS", exchange)
        assert reply == b"+OK maildrop has 1 message (5 octets)\r\n"
        assert await far.ask(b"STAT") == b"+OK 1 5\r\n"
    assert " method=SCRAM-SHA-256-PLUS " in summaries(caplog)[0]


async def test_scram_plus_through_somebody_in_the_middle(authority: Authority) -> None:
    """RFC 5802 section 6: what is bound to another certificate than ours gets nobody in."""
    options = make_options(tls=authority.tls)
    async with driving(mail_for_fred(), options, client=REMOTE, implicit_tls=True) as far:
        await start_tls(far, authority.context())
        await far.line()
        exchange = scram(USER, PASSWORD, plus=True, binding=("tls-server-end-point", b"x" * 32))
        assert (await authenticate(far, b"SCRAM-SHA-256-PLUS", exchange)).startswith(b"-ERR")
        assert (await far.ask(b"STAT")).startswith(b"-ERR")


async def test_scram_downgrade(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """R5802-16: a client that could have bound, and was shown no -PLUS, is told so by a failure."""
    options = make_options(tls=authority.tls)
    async with driving(mail_for_fred(), options, client=REMOTE, implicit_tls=True) as far:
        await start_tls(far, authority.context())
        await far.line()
        reply = await authenticate(far, b"SCRAM-SHA-256", scram(USER, PASSWORD, could_bind=True))
        assert reply.startswith(b"-ERR")
        assert (await far.ask(b"STAT")).startswith(b"-ERR")
        reply = await authenticate(far, b"SCRAM-SHA-256", scram(USER, PASSWORD))
        assert reply == b"+OK maildrop has 0 messages (0 octets)\r\n"


async def test_no_downgrade_where_there_is_no_plus(authority: Authority) -> None:
    """R5802-16: without TLS the flag is true, and no reason to refuse."""
    async with driving(mail_for_fred(), make_options(tls=authority.tls), client=REMOTE) as far:
        await far.line()
        reply = await authenticate(far, b"SCRAM-SHA-256", scram(USER, PASSWORD, could_bind=True))
        assert reply.startswith(b"+OK maildrop")
