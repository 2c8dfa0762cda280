"""Asking a server over HTTP: bounds, misbehaviour, cancellation."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from trio_pop3.auth.oauth.fetch import Endpoint
from trio_pop3.auth.oauth.outcomes import Unavailable

from .oauth_server import AuthorizationServer, serving


@pytest.fixture
def server() -> Iterator[AuthorizationServer]:
    with serving() as running:
        yield running


def endpoint(url: str, *, timeout: float = 10, most_octets: int = 65_536) -> Endpoint:
    return Endpoint(url, timeout=timeout, most_octets=most_octets)


async def test_an_answer(server: AuthorizationServer) -> None:
    assert (await endpoint(f"{server.url}/jwks").ask()).startswith(b'{"keys"')
    assert server.requests == ["GET /jwks"]


async def test_an_answer_that_just_fits(server: AuthorizationServer) -> None:
    whole = await endpoint(f"{server.url}/jwks").ask()
    assert await endpoint(f"{server.url}/jwks", most_octets=len(whole)).ask() == whole
    with pytest.raises(Unavailable, match=f"more than {len(whole) - 1} octets"):
        await endpoint(f"{server.url}/jwks", most_octets=len(whole) - 1).ask()


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        ("error", "HTTP status 500"),
        ("not found", "HTTP status 404"),
        ("redirect", "HTTP status 302"),
        ("nothing", "HTTP status 204"),
        ("compressed", "a compressed answer, which was not asked for"),
        ("endless", "an answer of more than 65536 octets"),
        ("cut", "RemoteProtocolError"),
        ("no HTTP", "RemoteProtocolError"),
        ("closes", "RemoteProtocolError"),
    ],
)
async def test_misbehaviour_is_one_line(server: AuthorizationServer, behaviour: str, complaint: str) -> None:
    server.behaviour = behaviour
    with pytest.raises(Unavailable) as failure:
        await endpoint(f"{server.url}/x?secret=1").ask({"token": "t0ken"}, authorization="Basic s3cret")
    assert str(failure.value) == f"{server.url}/x: {complaint}"
    assert failure.value.__suppress_context__ or failure.value.__context__ is None


async def test_a_silent_server_has_its_time(server: AuthorizationServer, mock_clock: trio.testing.MockClock) -> None:
    server.behaviour = "silent"

    async def impatient() -> None:
        with pytest.raises(Unavailable, match="no answer within 10 seconds"):
            await endpoint(server.url).ask()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        await trio.to_thread.run_sync(server.arrived.acquire)
        mock_clock.jump(10)


async def test_a_cancelled_question_leaves_nothing(server: AuthorizationServer) -> None:
    """The connection is closed at once: an open one would be a ResourceWarning, which fails the test."""
    server.behaviour = "silent"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint(server.url).ask)
        await trio.to_thread.run_sync(server.arrived.acquire)
        nursery.cancel_scope.cancel()


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=f"http://127.0.0.1:{port}/: ConnectError"):
        await endpoint(f"http://127.0.0.1:{port}/").ask()


async def test_a_server_without_tls_gets_nothing(server: AuthorizationServer) -> None:
    with pytest.raises(Unavailable, match="ConnectError"):
        await endpoint(server.url.replace("http:", "https:")).ask({"token": "t0ken"})
    assert not server.requests


async def test_a_proxy_of_the_environment_sees_no_loopback(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    await endpoint(f"{server.url}/jwks").ask()


@pytest.mark.parametrize(
    "url", ["https://login.example.org/x", "http://localhost:1/", "http://127.1.2.3/", "http://[::1]/", "HTTPS://h"]
)
def test_urls_that_can_be_asked(url: str) -> None:
    endpoint(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.org/x",
        "http://localhost.example.org/",
        "http://192.0.2.1/",
        "ftp://127.0.0.1/",
        "https:///x",
        "https://",
        "jwks.json",
        "",
        "https://h:99999/",
        "https://h\n/",
        "https://[::1/",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|url"):
        endpoint(url)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="would end in logs") as failure:
        endpoint("https://user:hunter2@h/")
    assert "hunter2" not in str(failure.value)


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout"):
        endpoint("https://h/", timeout=0)


def test_what_the_system_trusts_or_something_else() -> None:
    context = ssl.create_default_context()
    assert Endpoint("https://h/", timeout=1, most_octets=1, tls=context)._tls is context
    assert endpoint("https://h/")._tls.verify_mode is ssl.CERT_REQUIRED
