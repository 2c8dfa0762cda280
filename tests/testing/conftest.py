"""One test server for all tests here, as new for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trio_pop3.testing import Pop3TestServer


@pytest.fixture(scope="session")
def running_server() -> Iterator[Pop3TestServer]:
    with Pop3TestServer() as server:
        yield server


@pytest.fixture
def server(running_server: Pop3TestServer) -> Iterator[Pop3TestServer]:
    """Started once. What goes wrong in it fails the test."""
    running_server.reset()
    yield running_server
    running_server.check()
