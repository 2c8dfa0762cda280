"""Certificates that are renewed under a server that runs."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from trio_pop3.server import Tls
from trio_pop3.server.options import make_options

from .encrypted import Authority, start_tls, stls
from .helpers import Client, driving, mail_for_fred
from .serving import Running, serving, until


def spoil(path: str) -> None:
    """Somebody has begun to write, and not finished."""
    with open(path, "wb") as file:
        file.write(b"half a certif")


async def shown(running: Running, authority: Authority) -> bytes:
    """The certificate that a new connection sees."""
    async with running.client() as client:
        secure = await start_tls(client, authority.context())
        assert (await client.line()).startswith(b"+OK")
        der: bytes = secure.getpeercert(binary_form=True)
        return der


async def test_sessions_that_are_open_stay(authority: Authority) -> None:
    """G8: the new certificate is for new connections; the old ones go on, and so does a client that is about to ask."""
    backend = mail_for_fred(b"one\n")
    tls = Tls(authority.issue("localhost", name="open"))
    options = make_options(tls=tls)
    async with driving(backend, options) as before, driving(backend, options) as about:
        await before.line()
        await about.line()
        old = (await stls(before, authority.context())).getpeercert(binary_form=True)
        authority.issue("localhost", name="open")
        assert tls.reload()
        new = (await stls(about, authority.context())).getpeercert(binary_form=True)
        assert old != new
        for far in (before, about):
            await far.send(b"CAPA\r\n")
            assert (await far.multiline()).startswith(b"+OK")


async def test_a_reload_in_the_middle_of_a_handshake(authority: Authority) -> None:
    """G8: a handshake ends with the certificate that it began with."""
    tls = Tls(authority.issue("localhost", name="middle"))
    async with driving(mail_for_fred(), make_options(tls=tls), implicit_tls=True) as far:
        await trio.testing.wait_all_tasks_blocked()
        authority.issue("localhost", name="middle")
        tls.reload()
        await start_tls(far, authority.context())
        assert (await far.line()).startswith(b"+OK")


async def test_changed_files_are_found(
    authority: Authority, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """G8: without a signal, after `tls_check_interval`; what cannot be used is logged, once, and the
    certificate in use stays; files that are as they were are not read.
    """
    certificate, key = authority.issue("localhost", name="watched")
    tls = Tls((certificate, key))
    async with serving(mail_for_fred(), "127.0.0.1:0,tls", tls=tls, tls_check_interval=2) as running:
        first = await shown(running, authority)

        async def pass_interval() -> None:
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(2)

        await pass_interval()
        assert await shown(running, authority) == first
        assert "certificates" not in caplog.text

        spoil(certificate)
        await pass_interval()
        await until(lambda: "the certificates in use stay" in caplog.text)
        await pass_interval()
        assert await shown(running, authority) == first
        assert caplog.text.count("the certificates in use stay") == 1
        assert f"the certificates in use stay: {certificate} holds no certificate in PEM" in caplog.text
        assert await shown(running, authority) == first

        authority.issue("localhost", name="watched")
        await pass_interval()
        await until(lambda: "certificates loaded again" in caplog.text)
        assert await shown(running, authority) != first
        assert not running.done.is_set()


async def test_a_file_that_is_gone(
    authority: Authority, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """G8: the server goes on with what it has."""
    certificate, key = authority.issue("localhost", name="gone")
    tls = Tls((certificate, key))
    async with serving(mail_for_fred(), "127.0.0.1:0,tls", tls=tls, tls_check_interval=2) as running:
        os.unlink(key)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(2)
        await until(lambda: "the certificates in use stay" in caplog.text)
        assert f"{key} cannot be read: No such file or directory" in caplog.text
        await shown(running, authority)


async def test_nothing_is_watched_without_tls(mock_clock: trio.testing.MockClock) -> None:
    async with serving(mail_for_fred(), tls_check_interval=2) as running, running.client() as client:
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(3)
        assert (await client.line()).startswith(b"+OK")
        assert isinstance(client, Client)
