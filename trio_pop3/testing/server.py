"""The test server for synchronous tests: trio in a thread, and any client library against it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from email.message import Message
from types import TracebackType
from typing import Any, Final, TypeVar

import trio

from trio_pop3 import Backend, Rules

from .certificates import Certified
from .faults import Fault
from .portal import Portal
from .script import Struck
from .serving import HOST, PATIENCE_SECONDS, MakeBackend, StoredMessage, TrioPop3Server, open_pop3_server, rules_of
from .transcript import Transcript

T = TypeVar("T")

_NOT_RUNNING: Final = "the server is not running: use it in a `with` block, or use the pop3_server fixture"


class Pop3TestServer(Certified, AbstractContextManager["Pop3TestServer"]):
    """A POP3 server in this process, for tests that know nothing of trio.

        with Pop3TestServer() as server:
            server.deliver("alice", "Subject: Hello\\n\\nWorld\\n")
            client = poplib.POP3(server.host, server.port)

    It listens on two free ports of 127.0.0.1 and serves a `MemoryBackend` with one user, `alice`, whose password is
    `secret`. A connection to 127.0.0.1 may log in without TLS; `require_tls=True` is a server that does not allow it.

    All methods may be called from any thread, and from any number of them at once. What a client has sent has been
    done when `maildrop` and `settle` return, also if the client has closed without reading the reply.

    Args:
        backend: makes what is served, called anew for each `reset`: a `Backend`, or a `Bench`, which also says who the
            users are and how mail is delivered. May be asynchronous; it runs in the server's loop.
        host: where to listen.
        rules: options of `trio_pop3.Rules`, such as apop=True, utf8=False, login_delay=60, require_tls=True. STLS is
            offered if trustme is installed, and not with stls=False.

    Entering starts it, in some milliseconds, and raises OSError if there is no port to be had. Leaving cuts all
    connections and raises, in an ExceptionGroup, what has gone wrong in the server itself.
    """

    def __init__(self, backend: MakeBackend | None = None, *, host: str = HOST, **rules: Any) -> None:
        rules_of(rules)  # so that a wrong option is an error here
        self._backend: Final = backend
        self._options: Final = rules
        self._host: Final = host
        self._stack: Final = ExitStack()
        self._portal: Portal | None = None
        self._started: TrioPop3Server | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Pop3TestServer:
        with ExitStack() as stack:
            portal = Portal().__enter__()
            stack.callback(outside, lambda: portal.__exit__(None, None, None))
            self._started = outside(lambda: portal.start(self._run))
            self._portal = portal
            self._stack.push(stack.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        errors = () if self._portal is None else self._wait(self._stop)
        self._stack.close()
        self._portal = None
        if errors and value is None:
            raise ExceptionGroup("the test server failed", errors)

    async def _run(self, *, task_status: trio.TaskStatus[TrioPop3Server]) -> None:
        async with open_pop3_server(self._backend, listen=False, **self._options) as server:
            await server.listen(self._host)
            task_status.started(server)
            await trio.sleep_forever()

    async def _stop(self) -> tuple[Exception, ...]:
        await self._server.close()
        try:
            self._server.check()
        except ExceptionGroup as group:
            return group.exceptions
        return ()

    def reset(self, backend: MakeBackend | None = None, **rules: Any) -> None:
        """As new: connections cut, faults gone, nothing written down, a fresh backend, the options of the beginning.

        `backend` and options given here are in force until the next reset. Raises, in an ExceptionGroup, what has gone
        wrong in the server itself.
        """
        self._wait(self._server.reset, backend, **rules)

    def check(self) -> None:
        """Raise, in an ExceptionGroup, what has gone wrong in the server itself: a fault of yours, for example."""
        self._do(self._server.check)

    def configure(self, **rules: Any) -> None:
        """Change options, as those of the constructor, for connections made from now on, until the next reset."""
        self._do(self._server.configure, **rules)

    @property
    def rules(self) -> Rules:
        """What is in force for connections made from now on."""
        return self._server.rules

    def _do(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What a plain function returns in the server's loop."""

        async def done() -> T:
            return function(*arguments, **options)

        return self._call(done)

    def _wait(self, function: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
        """The same for one that is asynchronous."""

        async def done() -> T:
            return await function(*arguments, **options)

        return self._call(done)

    def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        if (portal := self._portal) is None:
            raise RuntimeError(_NOT_RUNNING)
        return outside(lambda: portal.run(work))

    @property
    def _server(self) -> TrioPop3Server:
        if self._started is None:
            raise RuntimeError(_NOT_RUNNING)
        return self._started

    # --- where it is -----------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The address to connect to."""
        return self._host

    @property
    def port(self) -> int:
        """The port for plain connections, with STLS if trustme is installed."""
        return self._do(lambda: self._server.port)

    @property
    def tls_port(self) -> int:
        """The port where connections begin with TLS. Raises RuntimeError if trustme is not installed."""
        return self._do(lambda: self._server.tls_port)

    # --- mail ------------------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """What is served. It lives in another thread: call what is asynchronous in it by the methods here."""
        return self._do(lambda: self._server.backend)

    @property
    def users(self) -> Mapping[str, str]:
        """Name -> password."""
        return self._do(dict, self._server.users)

    def add_user(self, user: str, password: str) -> None:
        """Add a user with an empty maildrop, or change a password. Raises TypeError for a backend that cannot."""
        self._do(self._server.add_user, user, password)

    def deliver(self, user: str, message: bytes | str | Message) -> str:
        """Add a message at the end of a maildrop, with any line ends; returns its uid. Open sessions do not see it.

        Text is stored in UTF-8. Raises KeyError for a user that there is not.
        """
        return self._wait(self._server.deliver, user, message)

    def maildrop(self, user: str) -> list[StoredMessage]:
        """What is in a maildrop, oldest first, once all is done that clients have asked for so far.

        That is: what a client of this machine has sent, whether it waited for the reply or not, has been read, done and
        removed. What a fault makes the server put off is not waited for.

        Raises KeyError for a user that there is not, TimeoutError if the store does not come to rest within 5 s, and
        RuntimeError if a session holds the maildrop and the backend is no `MemoryBackend`, which can be looked into.
        """
        return self._wait(self._server.maildrop, user)

    # --- faults ----------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those at work. Assigning puts others to work in their place: `server.faults = FAULT_SCRIPTS[name]`."""
        return self._do(lambda: self._server.faults)

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        self._do(setattr, self._server, "faults", faults)

    def fault(self, *faults: Fault) -> Struck:
        """Put faults to work, until the end of the `with` block if this is used as one, or else until the reset.

        with server.fault(DropAt(100)) as struck: ...
        assert struck.count == 1
        """
        struck = self._do(self._server.fault, *faults)
        return struck.through(self._do)

    # --- what was said ---------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many there were since the last reset."""
        return self._do(lambda: self._server.connections)

    @property
    def open_connections(self) -> int:
        """How many there are."""
        return self._do(lambda: self._server.open_connections)

    def close_connections(self) -> None:
        """Cut all connections without a word, as a server that crashes. Nothing is deleted."""
        self._wait(self._server.close_connections)

    def wait_closed(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all connections are over, and what they did is done. Raises TimeoutError if that takes longer."""
        self._wait(self._server.wait_closed, seconds)

    def settle(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until what clients have sent so far is done, as `maildrop` does. Raises TimeoutError."""
        self._wait(self._server.settle, seconds)

    @property
    def transcripts(self) -> list[Transcript]:
        """What was said on each connection since the last reset. Secrets are not in them."""
        return self._do(lambda: self._server.transcripts)

    @property
    def transcript(self) -> Transcript:
        """That of the last connection. Raises RuntimeError if there was none."""
        return self._do(lambda: self._server.transcript)

    @property
    def asked(self) -> list[str]:
        """The command lines that were answered, of all connections, with `***` for passwords and the like."""
        return self._do(lambda: self._server.asked)

    @property
    def received(self) -> list[bytes]:
        """The same as octets, without their line ends, and with their secrets."""
        return self._do(lambda: self._server.received)

    def report(self) -> str:
        """All transcripts for a person, each with its middle left out if it is long."""
        return self._server.report() if self._portal is None else self._do(self._server.report)


def outside(function: Callable[[], T]) -> T:
    """Call what waits for another loop: in a thread of its own if this is one of trio, which would not have it.

    A test that is on trio itself may use the server, too. Its loop stands still meanwhile.
    """
    if not _on_trio():
        return function()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def _on_trio() -> bool:
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True
