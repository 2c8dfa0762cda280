"""The pytest plugin: a POP3 server for tests of clients, whatever library they are written with.

    def test_hello(pop3_server):
        pop3_server.deliver("alice", "Subject: Hello\\n\\nWorld\\n")
        client = poplib.POP3(pop3_server.host, pop3_server.port)

Loading it costs nothing: what it needs is imported when the first test asks for a server. See docs/testing.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .server import Pop3TestServer
    from .serving import TrioPop3Server

# The servers that a test has used, for the report if it fails.
_USED: Final = pytest.StashKey[list[Any]]()
_TITLE: Final = "what the POP3 server heard and said"


@pytest.fixture(scope="session")
def make_pop3_server() -> Iterator[Callable[..., Pop3TestServer]]:
    """Starts servers that run until the end of the session: `make_pop3_server(apop=True)`.

    Arguments are those of `trio_pop3.testing.Pop3TestServer`. For a fixture of your own; nothing resets these.
    """
    from .server import Pop3TestServer

    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Pop3TestServer:
            return stack.enter_context(Pop3TestServer(*arguments, **options))

        yield make


@pytest.fixture(scope="session")
def _pop3_servers(make_pop3_server: Callable[..., Pop3TestServer]) -> Callable[[str], Pop3TestServer]:
    """The one server of this process for each address."""
    servers: dict[str, Pop3TestServer] = {}

    def on(host: str) -> Pop3TestServer:
        if host not in servers:
            servers[host] = make_pop3_server(host=host)
        return servers[host]

    return on


@pytest.fixture(scope="session")
def pop3_server_options() -> dict[str, Any]:
    """Override it, in any scope, to return options for `pop3_server`: those of `Pop3TestServer`."""
    return {}


@pytest.fixture
def pop3_server(
    request: pytest.FixtureRequest,
    _pop3_servers: Callable[[str], Pop3TestServer],
    pop3_server_options: dict[str, Any],
) -> Iterator[Pop3TestServer]:
    """A POP3 server, `trio_pop3.testing.Pop3TestServer`, with a user `alice` whose password is `secret`.

    It runs in a thread, from the first test that asks for it to the end of the session, and is as new for each.
    """
    from .serving import HOST

    options = dict(pop3_server_options)
    server = _pop3_servers(options.pop("host", HOST))
    server.reset(**options)
    request.node.stash.setdefault(_USED, []).append(server)
    yield server
    server.check()


@pytest.fixture
def trio_pop3_server(
    request: pytest.FixtureRequest, pop3_server_options: dict[str, Any]
) -> Callable[..., AbstractAsyncContextManager[TrioPop3Server]]:
    """For tests that are on trio themselves, however they are run:

        async with trio_pop3_server() as server: ...

    Arguments are those of `trio_pop3.testing.open_pop3_server`; it is the same in the loop of the test.
    """

    @asynccontextmanager
    async def opened(*arguments: Any, **options: Any) -> AsyncIterator[TrioPop3Server]:
        from .serving import open_pop3_server

        async with open_pop3_server(*arguments, **{**pop3_server_options, **options}) as server:
            request.node.stash.setdefault(_USED, []).append(server)
            yield server

    return opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was said in a test that failed."""
    report = yield
    if report.failed:
        report.sections += ((_TITLE, server.report()) for server in _servers_of(item))
    return report


def _servers_of(item: pytest.Item) -> list[Any]:
    """Those that a test has used: through the fixtures here, or one of its own that returns a server."""
    used = item.stash.get(_USED, [])
    if (module := sys.modules.get("trio_pop3.testing.server")) is not None:
        values = getattr(item, "funcargs", {}).values()
        used = used + [each for each in values if isinstance(each, module.Pop3TestServer) and each not in used]
    return used
