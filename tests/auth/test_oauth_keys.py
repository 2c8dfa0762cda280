"""Keys that are kept: when they are loaded again, and what becomes of them if that fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.auth.oauth.jose import Header
from trio_pop3.auth.oauth.keys import Keys
from trio_pop3.auth.oauth.outcomes import Unavailable

from .oauth_server import NOW, AuthorizationServer, key, serving

OLD, NEW = Header("RS256", "rsa-1"), Header("ES256", "ec-2")


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[AuthorizationServer]:
    with serving() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(server: AuthorizationServer, clock: Clock) -> Keys:
    return Keys(f"{server.url}/jwks", refresh=3600, timeout=10, tls=None, clock=clock)


async def knows(keys: Keys, header: Header) -> bool:
    return await keys.find(header) is not None


async def test_loaded_when_needed_and_kept(server: AuthorizationServer, keys: Keys, clock: Clock) -> None:
    assert not server.requests
    assert await knows(keys, OLD)
    clock.now += 3599
    assert await knows(keys, OLD)
    assert server.requests == ["GET /jwks"]
    clock.now += 1
    assert await knows(keys, OLD)
    assert len(server.requests) == 2


async def test_an_unknown_key_is_looked_up_once(server: AuthorizationServer, keys: Keys, clock: Clock) -> None:
    """Keys may be changed at any time; who makes up key ids does not get to ask the server each time (P4)."""
    assert await knows(keys, OLD)
    server.keys = [key("EC P-256", "ec-2")]
    clock.now += 10
    assert await knows(keys, NEW)
    assert not await knows(keys, OLD)
    assert len(server.requests) == 2
    for _ in range(5):
        assert not await knows(keys, Header("ES256", "made-up"))
    assert len(server.requests) == 2
    clock.now += 9.9
    assert not await knows(keys, Header("ES256", "made-up"))
    assert len(server.requests) == 2
    clock.now += 0.1
    assert not await knows(keys, Header("ES256", "made-up"))
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        ("error", "HTTP status 500"),
        ("page", "not JSON"),
        ("garbage", "not JSON"),
        ("deep", "not JSON"),
        ("list", "not a JWKS"),
        ("words", "not a JWKS"),
        ("no keys", "no key that can be used"),
        ("endless", "more than 262144 octets"),
    ],
)
async def test_the_old_keys_stay_if_there_are_no_new_ones(
    server: AuthorizationServer,
    keys: Keys,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    behaviour: str,
    complaint: str,
) -> None:
    """H9: an outage of the server is no wrong token, and no outage of ours, for a day."""
    assert await knows(keys, OLD)
    server.behaviour = behaviour
    clock.now += 3600
    assert await knows(keys, OLD)
    assert await knows(keys, OLD)
    assert len(server.requests) == 2
    assert complaint in caplog.text
    with pytest.raises(Unavailable, match=f"{server.url}/jwks: no keys at hand"):
        await keys.find(NEW)  # perhaps it is a new one
    clock.now += 10
    assert await knows(keys, OLD)
    assert len(server.requests) == 3
    clock.now = NOW + 86_399
    assert await knows(keys, OLD)
    clock.now = NOW + 86_400
    with pytest.raises(Unavailable):
        await keys.find(OLD)
    server.behaviour = None
    clock.now += 10
    assert await knows(keys, OLD)


async def test_without_any_keys(server: AuthorizationServer, keys: Keys, clock: Clock) -> None:
    server.behaviour = "error"
    for _ in range(3):
        with pytest.raises(Unavailable):
            await keys.find(OLD)
    assert len(server.requests) == 1
    server.behaviour = None
    clock.now += 10
    assert await knows(keys, OLD)


async def test_a_clock_that_is_set_back(server: AuthorizationServer, keys: Keys, clock: Clock) -> None:
    assert await knows(keys, OLD)
    clock.now -= 1_000_000
    assert await knows(keys, OLD)
    assert len(server.requests) == 2


async def test_loaded_once_for_all_who_wait(server: AuthorizationServer, keys: Keys) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(knows, keys, OLD)
    assert len(server.requests) == 1


async def test_nobody_waits_for_new_keys_who_has_old_ones(
    server: AuthorizationServer, keys: Keys, clock: Clock, mock_clock: trio.testing.MockClock
) -> None:
    """P4: one login pays for a server that is silent, the others do not."""
    assert await knows(keys, OLD)
    server.arrived.acquire()
    server.behaviour = "silent"
    clock.now += 3600
    async with trio.open_nursery() as nursery:
        nursery.start_soon(knows, keys, OLD)
        await trio.to_thread.run_sync(server.arrived.acquire)
        before = trio.current_time()
        assert await knows(keys, OLD)
        assert trio.current_time() == before
        mock_clock.jump(10)
    assert len(server.requests) == 2


async def test_who_is_cancelled_leaves_the_loading_to_the_next(server: AuthorizationServer, keys: Keys) -> None:
    server.behaviour = "silent"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.find, OLD)
        await trio.to_thread.run_sync(server.arrived.acquire)
        async with trio.open_nursery() as others:
            others.start_soon(knows, keys, OLD)
            await trio.testing.wait_all_tasks_blocked()
            server.behaviour = None
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await knows(keys, OLD)
    assert len(server.requests) == 2


async def test_a_file(server: AuthorizationServer, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(server.jwks))
    keys = Keys(path, refresh=60, timeout=10, tls=None, clock=clock)
    assert keys.shown == str(path)
    assert await knows(keys, OLD)
    server.keys = [key("EC P-256", "ec-2")]
    path.write_text(json.dumps(server.jwks))
    assert not await knows(keys, NEW)
    clock.now += 10
    assert await knows(keys, NEW)
    path.unlink()
    clock.now += 60
    assert await knows(keys, NEW)


async def test_a_file_that_is_gone(
    server: AuthorizationServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(server.jwks))
    keys = Keys(str(path), refresh=60, timeout=10, tls=None, clock=Clock())
    path.unlink()
    with pytest.raises(Unavailable):
        await keys.find(OLD)
    assert caplog.messages == [f"keys not loaded: {path}: No such file or directory"]


async def test_given_keys(server: AuthorizationServer, clock: Clock) -> None:
    keys = Keys(server.jwks, refresh=60, timeout=10, tls=None, clock=clock)
    assert await knows(keys, OLD)
    clock.now += 1_000_000
    assert await knows(keys, OLD)
    assert not await knows(keys, NEW)
    assert not server.requests


def test_wrong_sources_are_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b" " * 300_000)
    (tmp_path / "empty").write_text('{"keys": []}')
    urls = ["http://login.example.org/jwks", "HTTP://login.example.org/"]
    wrong: list[Any] = [*urls, {"keys": []}, tmp_path / "large", tmp_path / "empty"]
    for source in wrong:
        with pytest.raises(ValueError, match=r"https URL|no key|not JSON"):
            Keys(source, refresh=60, timeout=10, tls=None, clock=Clock())
    with pytest.raises(FileNotFoundError):
        Keys(tmp_path / "missing", refresh=60, timeout=10, tls=None, clock=Clock())
    with pytest.raises(ValueError, match="refresh"):
        Keys({}, refresh=0, timeout=10, tls=None, clock=Clock())


def test_no_secret_in_the_log_of_the_libraries(
    server: AuthorizationServer, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert trio.run(knows, keys, OLD)
    assert trio.run(knows, keys, OLD)
    assert "GET" in caplog.text
