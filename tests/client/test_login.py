"""Until the login: greeting, capabilities, names and passwords, UTF-8, languages, STLS."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.helpers_server import Cut
from tests.server.encrypted import NAME, Authority
from tests.server.helpers import REMOTE, driving
from trio_pop3.client import Pop3Client, ReplyError
from trio_pop3.rules import Headers
from trio_pop3.sansio import (
    Err,
    LocalProtocolError,
    Noop,
    RemoteProtocolError,
    ResponseCode,
    State,
)
from trio_pop3.sasl import plain
from trio_pop3.server.options import make_options

from .helpers import LOGIN, PATIENCE, Turn, assert_broken, mailbox, scripted

# --- greeting and login -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("octets", [b"two  words ", "p\u00e4\u00df".encode(), b"\x07"])
async def test_password_octets(octets: bytes) -> None:
    """They go out as they are; what is not ASCII as UTF-8, as SASLprep has it (RFC 6856 section 2.2)."""
    password = octets.decode()
    async with scripted((b"USER u", b"+OK\r\n"), (b"PASS " + octets, b"+OK\r\n"), login=False) as (client, _):
        await client.login("u", password)
        assert client.state is State.TRANSACTION


@pytest.mark.parametrize(
    ("user", "password"),
    [("u", "geheim\ud800"), ("u u", "geheim"), ("\u00fc", "geheim"), ("u", "geheim\udcff\u0041\u00e4")],
)
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


# --- UTF-8 and languages ---------------------------------------------------------------------------------------------

NAMES_IN_UTF8: Turn = (b"CAPA", b"+OK\r\nUTF8 USER\r\n.\r\n")


async def test_names_in_utf8() -> None:
    """R6856-12, R6856-16, R6856-17: once the server has announced it, UTF8 said or not; prepared with SASLprep."""
    turns = [NAMES_IN_UTF8, ("USER \u00fc".encode(), b"+OK\r\n"), ("PASS \u00e4IX".encode(), b"+OK\r\n")]
    async with scripted(*turns, login=False) as (client, _):
        with pytest.raises(LocalProtocolError):
            await client.login("\u00fc", "p")
        await client.capa()
        await client.login("u\u0308", "\u00e4\u00ad\u2168")
        assert client.state is State.TRANSACTION


@pytest.mark.parametrize("said", [b"+OK\r\nUTF8\r\n.\r\n", b"+OK\r\nUSER\r\n.\r\n", b"-ERR\r\n"])
async def test_no_names_in_utf8(said: bytes) -> None:
    """R6856-17: UTF8 alone is not enough."""
    async with scripted((b"CAPA", said), *LOGIN, login=False) as (client, _):
        await client.capa()
        with pytest.raises(LocalProtocolError):
            await client.login("\u00fc", "p")
        await client.login("u", "p")


async def test_apop_in_utf8() -> None:
    """R6856-13, R6856-15: the secret is a stored string, the name a query string, and both are prepared."""
    digest = hashlib.md5(b"<1.2@host>" + "\u00e4".encode()).hexdigest().encode()
    turns = [NAMES_IN_UTF8, ("APOP \u00fc ".encode() + digest, b"+OK\r\n")]
    async with scripted(*turns, greeting=b"+OK <1.2@host>\r\n", login=False) as (client, _):
        await client.capa()
        with pytest.raises(LocalProtocolError, match="SASLprep"):
            await client.apop("\u00fc", "\u0378")  # not assigned
        await client.apop("u\u0308", "a\u0308")
        assert client.state is State.TRANSACTION


async def test_utf8_mode_and_languages() -> None:
    """R6856-02, R6856-21, R6856-24, R6856-25: against our own server."""
    backend = mailbox(b"Subject: \xc3\xa4\r\n\r\nx\r\n")
    with trio.fail_after(PATIENCE):
        async with driving(backend, make_options(headers=Headers.REFUSE)) as far, Pop3Client(far.stream) as client:
            await client.greeting()
            languages = await client.languages()
            assert languages["de"] == "Deutsch"
            assert languages["en"]
            assert await client.lang("de") == "de"
            with pytest.raises(ReplyError):
                await client.lang("x-klingon")
            assert await client.lang("*") == "en"
            await client.utf8()
            await client.login("u", "p")
            assert await client.fetch(1) == b"Subject: \xc3\xa4\r\n\r\nx\r\n"
        async with driving(backend, make_options(headers=Headers.REFUSE)) as far, Pop3Client(far.stream) as client:
            await client.greeting()
            await client.login("u", "p")
            with pytest.raises(ReplyError) as caught:
                await client.fetch(1)
            assert caught.value.code is ResponseCode.UTF8


async def test_no_utf8_mode() -> None:
    """R6856-03: `-ERR` is possible, and then nothing has changed."""
    async with scripted((b"UTF8", b"-ERR no\r\n"), (b"STLS", b"-ERR no\r\n"), login=False) as (client, _):
        with pytest.raises(ReplyError):
            await client.utf8()
        with pytest.raises(ReplyError):
            await client.stls(ssl.create_default_context(), "localhost")
        assert not client.tls


# --- STLS ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def overheard(authority: Authority) -> AsyncIterator[tuple[Pop3Client, bytearray]]:
    """A client of our own server with TLS, and all that it sends."""
    sent = bytearray()
    options = make_options(tls=authority.tls)
    with trio.fail_after(PATIENCE):
        async with (
            driving(mailbox(b"x\r\n"), options, client=REMOTE) as far,
            Pop3Client(Overheard(far.stream, sent)) as client,
        ):
            await client.greeting()
            yield client, sent


class Overheard(Cut):
    """Writes down what is sent."""

    def __init__(self, stream: trio.abc.Stream, sent: bytearray) -> None:
        super().__init__(stream, 65536)
        self._sent = sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._sent += data
        await super().send_all(data)


async def test_stls(authority: Authority) -> None:
    """R2595-07, R2595-10, R2595-11: between STLS and the handshake nothing is sent; what was known of the server is
    forgotten, and asked for again before it matters.
    """
    async with overheard(authority) as (client, sent):
        before = await client.capa()
        secure = [client.tls]
        await client.stls(authority.context(), NAME)
        assert [*secure, client.tls] == [False, True]
        clear, _, rest = bytes(sent).partition(b"STLS\r\n")
        assert clear == b"CAPA\r\n"
        assert rest.startswith(b"\x16\x03")
        known = [client._capabilities]
        await client.authenticate("PLAIN", plain("u", "p"))
        known.append(client._capabilities)
        assert known[0] is None  # so that it was asked for
        assert known[1] is not None
        assert "PLAIN" in known[1]["SASL"]
        assert "PLAIN" not in before["SASL"]
        assert await client.stat() == (1, 3)
        with pytest.raises(LocalProtocolError):
            await client.stls(authority.context(), NAME)
        await client.quit()


async def test_stls_twice(authority: Authority) -> None:
    """R2595-06: the server refuses, and TLS stays."""
    async with overheard(authority) as (client, _):
        await client.stls(authority.context(), NAME)
        with pytest.raises(ReplyError, match="active already"):
            await client.stls(authority.context(), NAME)
        await client.login("u", "p")
        assert client.tls


async def test_no_stls_after_utf8(authority: Authority) -> None:
    """R6856-10: not sent."""
    async with overheard(authority) as (client, sent):
        await client.utf8()
        with pytest.raises(LocalProtocolError, match="UTF8"):
            await client.stls(authority.context(), NAME)
        assert b"STLS" not in sent
        assert await client.capa()


@pytest.mark.parametrize("extra", [b"+OK 5 500\r\n", b"x", b"\x16\x03\x01"])
async def test_stls_and_more_in_clear(extra: bytes) -> None:
    """R2595-20: whoever says anything behind the `+OK` is somebody else."""
    async with scripted((b"STLS", b"+OK\r\n" + extra), login=False) as (client, script):
        with pytest.raises(RemoteProtocolError, match="before TLS began"):
            await client.stls(ssl.create_default_context(), "localhost")
        await assert_broken(client, script)


async def test_stls_refused() -> None:
    """R2595-16: the caller hears of it, and it is for the caller to say what is done in clear."""
    async with scripted((b"STLS", b"-ERR no TLS\r\n"), *LOGIN, login=False) as (client, _):
        with pytest.raises(ReplyError, match="no TLS"):
            await client.stls(ssl.create_default_context(), "localhost")
        assert not client.tls
        await client.login("u", "p")


@pytest.mark.parametrize("name", ["pop.example.org", "127.0.0.2", "LOCALHOST.example", "ocalhost"])
async def test_stls_with_a_server_of_another_name(authority: Authority, name: str) -> None:
    """R7817-01, R7817-02, R8314-03, R5034-34: the handshake fails, nothing more is said, and the session is over."""
    async with overheard(authority) as (client, sent):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.stls(authority.context(), name)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert b"USER" not in sent
        for call in (client.login("u", "p"), client.capa(), client.quit()):
            with pytest.raises(trio.BrokenResourceError):
                await call
