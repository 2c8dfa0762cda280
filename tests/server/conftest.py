"""Fixtures of the server's tests."""

from __future__ import annotations

import gc
import inspect
import logging
import os
from collections.abc import Iterator

import pytest

from trio_pop3.backend import ClientInfo
from trio_pop3.server import serve

from .encrypted import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Certificates, made once."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _nothing_left_open(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """I4: whatever happens in a test here, not one descriptor more is open after it; and all logs are seen."""
    caplog.set_level(logging.DEBUG, "trio_pop3")
    before = os.listdir("/proc/self/fd")
    yield
    if os.listdir("/proc/self/fd") != before:
        gc.collect()  # after every test it would take longer than the tests
    assert os.listdir("/proc/self/fd") == before


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes clients come from elsewhere: from the hosts in this list in turn, then from the last for ever."""
    hosts = ["192.0.2.7"]

    def client_info(sock: object, session: str) -> ClientInfo:
        return ClientInfo(session, hosts.pop(0) if len(hosts) > 1 else hosts[0], 4711, "192.0.2.1", 110)

    monkeypatch.setattr(inspect.getmodule(serve), "client_info", client_info)
    return hosts
