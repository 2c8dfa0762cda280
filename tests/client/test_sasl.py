"""Logging in with SASL: every mechanism against our own server, and servers that are not what they say."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from tests.server.encrypted import NAME, Authority
from tests.server.helpers import REMOTE, driving
from trio_pop3 import MemoryBackend, sasl
from trio_pop3.backend import AuthenticationFailed, ClientInfo
from trio_pop3.client import Pop3Client, ReplyError
from trio_pop3.credentials import (
    AnonymousCredentials,
    CertificateCredentials,
    Credentials,
    TokenCredentials,
)
from trio_pop3.sansio import LocalProtocolError, RemoteProtocolError, ResponseCode, State
from trio_pop3.sasl import MECHANISMS, ClientExchange, Response, ServerRejected
from trio_pop3.sasl.mechanisms.scram_keys import derive_keys, sign
from trio_pop3.server.options import make_options
from trio_pop3.x509 import tls_server_end_point

from .helpers import GREETING, PATIENCE, Script, Turn, assert_broken, scripted

OWNER, PASSWORD = "u@example.org", "p\u00e4ss"


class Everything(MemoryBackend):
    """Takes whatever there is."""

    login_methods = frozenset(  # type: ignore[misc]
        MemoryBackend.login_methods | {"OAUTHBEARER", "XOAUTH2", "EXTERNAL", "ANONYMOUS"}
    )

    def __init__(self) -> None:
        super().__init__()
        for user in (OWNER, "anonymous"):
            self.add_user(user, PASSWORD)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        match credentials:
            case TokenCredentials(token="t0ken"):
                return OWNER
            case CertificateCredentials(certificate=certificate):
                (user,) = certificate.names("email")
                return user
            case AnonymousCredentials():
                return "anonymous"
            case TokenCredentials():
                raise AuthenticationFailed
        return await super().authenticate(credentials, client)


@asynccontextmanager
async def secured(authority: Authority) -> AsyncIterator[tuple[Pop3Client, tuple[str, bytes]]]:
    """A client from elsewhere after STLS, with a certificate of its own; and its channel binding."""
    options = make_options(tls=authority.asking, mechanisms=dict(MECHANISMS))
    with trio.fail_after(PATIENCE):
        async with driving(Everything(), options, client=REMOTE) as far, Pop3Client(far.stream) as client:
            await client.greeting()
            await client.stls(authority.context(identity=OWNER), NAME)
            assert client.tls
            assert isinstance(client._stream, trio.SSLStream)
            data = tls_server_end_point(client._stream.getpeercert(binary_form=True))
            assert data is not None
            yield client, ("tls-server-end-point", data)


Binding = tuple[str, bytes]
MAKERS: dict[str, Callable[[str, Binding], ClientExchange]] = {
    "SCRAM-SHA-256-PLUS": lambda secret, binding: sasl.scram(OWNER, secret, plus=True, binding=binding),
    "SCRAM-SHA-1-PLUS": lambda secret, binding: sasl.scram(OWNER, secret, plus=True, binding=binding, hash_name="sha1"),
    "SCRAM-SHA-256": lambda secret, _: sasl.scram(OWNER, secret),
    "SCRAM-SHA-1": lambda secret, _: sasl.scram(OWNER, secret, hash_name="sha1"),
    "EXTERNAL": lambda secret, _: sasl.external("" if secret == PASSWORD else "somebody@else"),
    "OAUTHBEARER": lambda secret, _: sasl.oauthbearer("t0ken" if secret == PASSWORD else "stale", user=OWNER),
    "XOAUTH2": lambda secret, _: sasl.xoauth2(OWNER, "t0ken" if secret == PASSWORD else "stale"),
    "PLAIN": lambda secret, _: sasl.plain(OWNER, secret),
    "CRAM-MD5": lambda secret, _: sasl.cram_md5(OWNER, secret),
    "LOGIN": lambda secret, _: sasl.login(OWNER, secret),
    "ANONYMOUS": lambda secret, _: sasl.anonymous("test"),
}


def test_all_mechanisms_are_tried() -> None:
    assert set(MAKERS) == set(MECHANISMS)


@pytest.mark.parametrize("mechanism", MAKERS)
async def test_every_mechanism(authority: Authority, mechanism: str) -> None:
    """R5034-31, R5034-35, R8314-19: against our own server, over TLS; the name of the mechanism in any case."""
    async with secured(authority) as (client, binding):
        await client.authenticate(mechanism.lower(), MAKERS[mechanism](PASSWORD, binding))
        assert client.state is State.TRANSACTION
        assert await client.stat() == (0, 0)


SAY_WHY = {"OAUTHBEARER", "XOAUTH2"}


@pytest.mark.parametrize("mechanism", [name for name in MAKERS if name not in SAY_WHY | {"ANONYMOUS"}])
async def test_every_mechanism_refused(authority: Authority, mechanism: str) -> None:
    """R5034-21, R5034-30: a wrong secret is a ReplyError, and another login may follow."""
    async with secured(authority) as (client, binding):
        with pytest.raises(ReplyError) as caught:
            await client.authenticate(mechanism, MAKERS[mechanism]("wrong", binding))
        assert caught.value.code is ResponseCode.AUTH
        await client.login(OWNER, PASSWORD)
        assert client.state is State.TRANSACTION


@pytest.mark.parametrize("mechanism", sorted(SAY_WHY))
async def test_a_refused_token(authority: Authority, mechanism: str) -> None:
    """RFC 7628 section 3.2.3: why is in the server's last challenge, and in the exception."""
    async with secured(authority) as (client, binding):
        with pytest.raises((ReplyError, ServerRejected)):
            await client.authenticate(mechanism, MAKERS[mechanism]("wrong", binding))


async def test_a_binding_that_is_kept_back(authority: Authority) -> None:
    """R5802-16, R5802-19: a client that has a binding, and takes SCRAM without it, says that it was shown no -PLUS."""
    async with secured(authority) as (client, binding):
        with pytest.raises(ReplyError):
            await client.authenticate("SCRAM-SHA-256", sasl.scram(OWNER, PASSWORD, binding=binding))


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (list(MECHANISMS), "SCRAM-SHA-256-PLUS"),
        (["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"], "SCRAM-SHA-1-PLUS"),
        (["SCRAM-SHA-256", "PLAIN"], "SCRAM-SHA-256"),
    ],
)
async def test_the_best_scram_there_is(
    authority: Authority, caplog: pytest.LogCaptureFixture, offered: list[str], taken: str
) -> None:
    """R5802-19, R5802-20: bound to the channel wherever the server offers that, without being asked to."""
    caplog.set_level("INFO")
    options = make_options(tls=authority.asking, mechanisms={name: MECHANISMS[name] for name in offered})
    with trio.fail_after(PATIENCE):
        async with driving(Everything(), options, client=REMOTE) as far, Pop3Client(far.stream) as client:
            await client.greeting()
            assert client.channel_binding is None
            await client.stls(authority.context(), NAME)
            await client.scram(OWNER, PASSWORD)
            await client.quit()
            await far.done.wait()
    assert f" method={taken} " in caplog.text


async def test_no_scram_at_all() -> None:
    async with scripted(capa(b"SASL PLAIN\r\n"), login=False) as (client, _):
        with pytest.raises(LocalProtocolError, match="no SCRAM"):
            await client.scram("u", "p")


# --- servers that keep to a script -----------------------------------------------------------------------------------


def capa(sasl: bytes) -> Turn:
    return b"CAPA", b"+OK\r\n" + sasl + b".\r\n"


PLAIN = b64encode(b"\0u\0p")


async def test_initial_response() -> None:
    """R5034-04, R5034-09: in base64, where SASL is announced; an empty one is `=`."""
    async with scripted(capa(b"SASL PLAIN\r\n"), (b"AUTH PLAIN " + PLAIN, b"+OK\r\n"), login=False) as (client, _):
        await client.authenticate("PLAIN", sasl.plain("u", "p"))
        assert client.state is State.TRANSACTION
    async with scripted(capa(b"SASL EXTERNAL\r\n"), (b"AUTH EXTERNAL =", b"+OK\r\n"), login=False) as (client, _):
        await client.capa()  # not asked for again
        await client.authenticate("EXTERNAL", sasl.external())


@pytest.mark.parametrize("said", [b"+OK\r\nTOP\r\n.\r\n", b"-ERR what?\r\n"])
async def test_no_initial_response_unless_announced(said: bytes) -> None:
    """R5034-03, R5034-04: where SASL is not announced it is tried only because the caller wants it, and without one."""
    turns = [(b"CAPA", said), (b"AUTH PLAIN", b"+ \r\n"), (PLAIN, b"+OK\r\n")]
    async with scripted(*turns, login=False) as (client, _):
        await client.authenticate("PLAIN", sasl.plain("u", "p"))
        assert client.state is State.TRANSACTION


async def test_no_initial_response_and_no_auth_either() -> None:
    """R5034-03: the refusal is a ReplyError, and another login may follow."""
    turns = [
        (b"CAPA", b"-ERR\r\n"),
        (b"AUTH PLAIN", b"-ERR what?\r\n"),
        (b"USER u", b"+OK\r\n"),
        (b"PASS p", b"+OK\r\n"),
    ]
    async with scripted(*turns, login=False) as (client, _):
        with pytest.raises(ReplyError):
            await client.authenticate("PLAIN", sasl.plain("u", "p"))
        await client.login("u", "p")


@pytest.mark.parametrize(("length", "fits"), [(180, True), (181, False), (9_000, False)])
async def test_a_long_initial_response(length: int, fits: bool) -> None:
    """R5034-13: a line has 255 octets at the most; what is longer is said to the empty challenge."""
    password = "p" * (length - 3)
    encoded = b64encode(b"\0u\0" + password.encode())
    one = [(b"AUTH PLAIN " + encoded, b"+OK\r\n")]
    two = [(b"AUTH PLAIN", b"+ \r\n"), (encoded, b"+OK\r\n")]
    assert (len(b"AUTH PLAIN " + encoded) + 2 <= 255) is fits
    async with scripted(capa(b"SASL PLAIN\r\n"), *(one if fits else two), login=False) as (client, _):
        await client.authenticate("PLAIN", sasl.plain("u", password))


async def test_a_server_that_speaks_first_where_the_client_does() -> None:
    """R5034-13: instead of the empty challenge; the secret is not told, and the session is over."""
    turns = [(b"CAPA", b"-ERR\r\n"), (b"AUTH PLAIN", b"+ aGVsbG8=\r\n"), (b"*", b"-ERR cancelled\r\n")]
    async with scripted(*turns, login=False) as (client, script):
        with pytest.raises(RemoteProtocolError, match="spoke first"):
            await client.authenticate("PLAIN", sasl.plain("u", "p"))
        await assert_broken(client, script)


@pytest.mark.parametrize("challenge", [b"+ !!!!\r\n", b"+ =AAA\r\n", b"+ YQ=\r\n"])
async def test_a_challenge_that_is_no_base64(challenge: bytes) -> None:
    """R5034-17: answered with `*`."""
    turns = [capa(b"SASL CRAM-MD5\r\n"), (b"AUTH CRAM-MD5", challenge), (b"*", b"-ERR cancelled\r\n")]
    async with scripted(*turns, login=False) as (client, script):
        with pytest.raises(RemoteProtocolError, match="not base64"):
            await client.authenticate("CRAM-MD5", sasl.cram_md5("u", "p"))
        await assert_broken(client, script)


async def test_a_server_that_asks_for_more() -> None:
    """R5034-17: than the mechanism has: `*` as well, whatever is said to it."""
    turns = [capa(b"SASL PLAIN\r\n"), (b"AUTH PLAIN " + PLAIN, b"+ bW9yZQ==\r\n"), (b"*", b"-ERR\r\n")]
    async with scripted(*turns, login=False) as (client, script):
        with pytest.raises(ServerRejected, match="more"):
            await client.authenticate("PLAIN", sasl.plain("u", "p"))
        await assert_broken(client, script)


def short() -> ClientExchange:
    """A mechanism of somebody else that says one thing and has then ended."""
    yield Response(b"x", complete=True)


async def test_a_mechanism_that_has_ended() -> None:
    turns = [capa(b"SASL X-SHORT\r\n"), (b"AUTH X-SHORT eA==", b"+ bW9yZQ==\r\n"), (b"*", b"-ERR\r\n")]
    async with scripted(*turns, login=False) as (client, script):
        with pytest.raises(RemoteProtocolError, match="wants to know more"):
            await client.authenticate("X-SHORT", short())
        await assert_broken(client, script)


async def test_ok_to_a_cancelled_exchange() -> None:
    """A-35, R5034-17: a server that says `+OK` to `*` has not understood it."""
    turns = [capa(b"SASL CRAM-MD5\r\n"), (b"AUTH CRAM-MD5", b"+ !\r\n"), (b"*", b"+OK\r\n")]
    async with scripted(*turns, login=False) as (client, script):
        with pytest.raises(RemoteProtocolError):
            await client.authenticate("CRAM-MD5", sasl.cram_md5("u", "p"))
        await assert_broken(client, script)


# --- servers that have to prove themselves ---------------------------------------------------------------------------

KEYS = derive_keys("p", b"a salt of 16 oct", 4096, "sha256")
NONCE = re.compile(rb"n,,n=u,r=(.+)")


class ScramServer(Script):
    """Plays SCRAM with a secret of its own, up to some step, then says `last`."""

    def __init__(self, stream: trio.abc.Stream, *, know: bool, steps: int, last: bytes) -> None:
        super().__init__(stream, [])
        self._know, self._steps, self._last = know, steps, last
        self.cancelled = False

    async def play(self) -> None:
        await self.stream.send_all(GREETING)
        assert await self.line() == b"CAPA"
        await self.stream.send_all(b"+OK\r\nSASL SCRAM-SHA-256\r\n.\r\n")
        first = b64decode((await self.line()).removeprefix(b"AUTH SCRAM-SHA-256 "))
        if self._steps == 0:
            return await self._end()
        match = NONCE.fullmatch(first)
        assert match is not None
        second = b"r=%bserver,s=%b,i=4096" % (match[1], b64encode(KEYS.salt))
        await self._challenge(second)
        final = b64decode(await self.line())
        if self._steps == 1:
            return await self._end()
        everything = b",".join((first[3:], second, final.partition(b",p=")[0]))
        signature = sign(KEYS.server_key if self._know else b"x" * 32, everything, "sha256")
        await self._challenge(b"v=" + b64encode(signature))
        line = await self.line()
        if line == b"*":
            self.cancelled = True
            return await self.stream.send_all(self._last)
        assert line == b""
        return await self._end()

    async def _challenge(self, data: bytes) -> None:
        await self.stream.send_all(b"+ " + b64encode(data) + b"\r\n")

    async def _end(self) -> None:
        await self.stream.send_all(self._last)


@asynccontextmanager
async def proving(*, know: bool = True, steps: int = 2, last: bytes = b"+OK\r\n") -> AsyncIterator[Any]:
    ours, theirs = memory_stream_pair()
    server = ScramServer(theirs, know=know, steps=steps, last=last)

    async def play() -> None:
        await server.play()
        await server.expect_silence()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            async with Pop3Client(ours) as client:
                await client.greeting()
                yield client, server


async def test_a_server_that_proves_itself() -> None:
    """R5802-12: what the tests below refuse is what this one believes."""
    async with proving() as (client, _):
        await client.authenticate("SCRAM-SHA-256", sasl.scram("u", "p"))
        assert client.state is State.TRANSACTION


@pytest.mark.parametrize("last", [b"-ERR cancelled\r\n", b"+OK never mind\r\n"])
async def test_a_wrong_signature(last: bytes) -> None:
    """R5802-12: the login has failed, whatever the server says to the `*` with which it is told so."""
    async with proving(know=False, last=last) as (client, server):
        with pytest.raises((ServerRejected, RemoteProtocolError)):
            await client.authenticate("SCRAM-SHA-256", sasl.scram("u", "p"))
        assert server.cancelled
        await assert_broken(client, server)


@pytest.mark.parametrize("steps", [0, 1])
async def test_ok_without_a_proof(steps: int) -> None:
    """R5802-12: a `+OK` that comes before the signature is not believed, and the session is over."""
    async with proving(steps=steps) as (client, server):
        with pytest.raises(ServerRejected, match="has not proved itself"):
            await client.authenticate("SCRAM-SHA-256", sasl.scram("u", "p"))
        await assert_broken(client, server)


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_refused_at_any_step(steps: int) -> None:
    """R5034-30: `-ERR` is a ReplyError, and the session goes on."""
    async with proving(steps=steps, last=b"-ERR [AUTH] no\r\n") as (client, _):
        with pytest.raises(ReplyError, match="no"):
            await client.authenticate("SCRAM-SHA-256", sasl.scram("u", "p"))
        assert client.state is State.AUTHORIZATION


# --- in clear --------------------------------------------------------------------------------------------------------


class Elsewhere:
    """A socket with a peer."""

    def __init__(self, peer: Any) -> None:
        self.getpeername = lambda: peer


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Clients made from now on take their stream for a socket with this peer."""
    name: list[Any] = [("192.0.2.7", 110)]

    monkeypatch.setattr("trio_pop3.client.login.trio.SocketStream", trio.StapledStream)
    monkeypatch.setattr(trio.StapledStream, "socket", property(lambda self: Elsewhere(name[0])), raising=False)
    return name


ATTEMPTS: list[Any] = [
    lambda client: client.login("u", "geheim"),
    lambda client: client.authenticate("plain", sasl.plain("u", "geheim")),
    lambda client: client.authenticate("LOGIN", sasl.login("u", "geheim")),
    lambda client: client.authenticate("XOAUTH2", sasl.xoauth2("u", "geheim")),
    lambda client: client.authenticate("X-OWN", short()),
]


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "fe80::1%eth0"])
async def test_no_secret_goes_elsewhere_in_clear(peer: list[Any], attempt: Any, host: str) -> None:
    """R2595-17, R8314-14, R8314-16, R2595-14: nothing is said, not even the name; and the session goes on."""
    peer[0] = (host, 110, 0, 0) if ":" in host else (host, 110)
    async with scripted(capa(b""), login=False) as (client, _):
        with pytest.raises(LocalProtocolError, match="in clear") as caught:
            await attempt(client)
        assert "geheim" not in str(caught.value)
        assert await client.capa() == {}


@pytest.mark.parametrize("name", [("127.0.0.1", 110), ("::1", 110, 0, 0), "/run/pop3", b""])
async def test_this_machine(peer: list[Any], name: Any) -> None:
    """R2595-17: what does not leave it needs no TLS."""
    peer[0] = name
    async with scripted() as (client, _):
        assert client.state is State.TRANSACTION


async def test_insecure_by_name(peer: list[Any]) -> None:
    """R2595-17: the caller has said so."""
    async with scripted(insecure_auth=True) as (client, _):
        assert client.state is State.TRANSACTION


async def test_what_shows_no_secret_goes_anywhere(peer: list[Any]) -> None:
    """R2595-17: such as SCRAM; and APOP, which is no worse than CRAM-MD5."""
    async with proving() as (client, _):
        await client.authenticate("SCRAM-SHA-256", sasl.scram("u", "p"))
        assert client.state is State.TRANSACTION


def test_the_signature_is_what_the_mechanism_computes() -> None:
    """The server above is no echo of ours: HMAC over the messages under the server key (RFC 5802 section 3)."""
    assert sign(KEYS.server_key, b"all", "sha256") == hmac.digest(KEYS.server_key, b"all", "sha256")
