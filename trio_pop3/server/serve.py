"""`serve`: listeners in, a task per connection, and a way to stop that cuts nothing."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import trio

from ..backend import ApopAuthenticator, Backend, ClientInfo
from ..sansio import Err, Pop3Connection, Profile, ResponseCode, Role
from .driver import Driver
from .listeners import Pop3Listener, close_all, open_listeners, open_tcp
from .options import DEFAULTS, Options, descriptors_allow
from .peers import HostCounter, client_info

logger = logging.getLogger("trio_pop3.server")

TOO_MANY: Final = Err("too many connections from your address", ResponseCode.SYS_TEMP)
_REFUSAL_SECONDS: Final = 5.0


class Server:
    """What all connections of one `serve` share."""

    def __init__(self, backend: Backend, options: Options) -> None:
        self.places: Final = trio.Semaphore(options.places, max_value=options.places)
        self._backend = backend
        self._options = options
        self._hosts = HostCounter(options.max_connections_per_host)
        self._numbers = itertools.count(1)
        self._drivers: set[Driver] = set()
        self._draining = False

    def drain(self) -> None:
        """Let every connection finish what it is doing; see `Driver.drain`."""
        self._draining = True
        for driver in self._drivers:
            driver.drain()

    async def handle(self, stream: trio.SocketStream) -> None:
        """One accepted connection. Raises nothing but cancellation, and gives its place back on every way out."""
        try:
            try:
                client = client_info(stream.socket, f"{next(self._numbers):x}")
            except OSError:
                return  # gone before we could ask who it was
            if self._hosts.enter(client):
                try:
                    await self._run(stream, client)
                finally:
                    self._hosts.leave(client)
            else:
                await self._refuse(stream, client)
        except (trio.Cancelled, KeyboardInterrupt, SystemExit, BaseExceptionGroup):
            raise
        except BaseException:
            logger.exception("this should not have happened")
        finally:
            self.places.release()

    async def _run(self, stream: trio.SocketStream, client: ClientInfo) -> None:
        timestamp = f"<{secrets.token_hex(16)}@{self._options.timestamp_domain}>" if self._options.apop else None
        driver = Driver(stream, self._backend, client, self._options, timestamp)
        self._drivers.add(driver)
        try:
            if self._draining:
                driver.drain()
            await driver.run()
        finally:
            self._drivers.discard(driver)

    async def _refuse(self, stream: trio.SocketStream, client: ClientInfo) -> None:
        logger.warning("refused a connection from %s: its host has its share", client.peer)
        with trio.move_on_after(_REFUSAL_SECONDS), contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(Pop3Connection(Role.SERVER).send(TOO_MANY))


def check_backend_shape(backend: Any, options: Options) -> None:
    """Raises TypeError if an object cannot be a backend at all, ValueError if it lacks a power that was asked for."""
    for name in ("authenticate", "open"):
        if not inspect.iscoroutinefunction(getattr(backend, name, None)):
            raise TypeError(f"a backend needs a method `async def {name}`; {type(backend).__name__} has none")
    if options.apop and not isinstance(backend, ApopAuthenticator):
        raise ValueError(f"apop=True needs a backend that can check APOP; {type(backend).__name__} cannot")


async def serve(
    backend: Backend,
    *,
    # Where to listen.
    host: str | None = None,
    port: int = 110,
    listen: Sequence[str | trio.SocketListener | Pop3Listener] | None = None,
    backlog: int | None = None,
    # Who may log in.
    insecure_auth: bool = DEFAULTS.insecure_auth,
    apop: bool = DEFAULTS.apop,
    max_auth_failures: int | None = DEFAULTS.max_auth_failures,
    # How commands are read.
    profile: Profile = DEFAULTS.profile,
    space_in_user: bool = DEFAULTS.space_in_user,
    max_bad_commands: int | None = DEFAULTS.max_bad_commands,
    # How many connections.
    max_connections: int | None = DEFAULTS.max_connections,
    max_connections_per_host: int | None = DEFAULTS.max_connections_per_host,
    # How long, in seconds.
    login_timeout: float = DEFAULTS.login_timeout,
    idle_timeout: float = DEFAULTS.idle_timeout,
    command_timeout: float = DEFAULTS.command_timeout,
    write_timeout: float = DEFAULTS.write_timeout,
    commit_timeout: float = DEFAULTS.commit_timeout,
    drain_timeout: float = DEFAULTS.drain_timeout,
    # What it says of itself.
    banner: str = DEFAULTS.banner,
    hostname: str | None = DEFAULTS.hostname,
    # Start and stop.
    shutdown: trio.Event | None = None,
    task_status: trio.TaskStatus[list[Pop3Listener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve POP3 until cancelled, or until `shutdown` is set and every connection is done.

    `trio.run(serve, backend)` serves port 110 of every address. `await nursery.start(serve, backend)` returns the
    listeners once they accept connections; each has an `address` and a `port`, so that port 0 is of use.

    Args:
        backend: who may log in, and where the mail is (`trio_pop3.backend.Backend`).
        host, port: where to listen; None is every address, IPv4 and IPv6. Not used if `listen` is given.
        listen: addresses as `open_listeners` takes them, or listeners already open, in any number.
        backlog: connections the kernel queues for each listener; None is as many as it allows.
        insecure_auth: take passwords in clear from other machines. Without it USER, PASS and APOP are refused and not
            announced off loopback and UNIX sockets.
        apop: offer APOP; the backend must be an `ApopAuthenticator`.
        max_auth_failures: refused logins after which a connection is closed; None for never.
        profile: how strictly commands are read (`Profile`). STRICT also turns off `max_bad_commands` and
            `login_timeout`.
        space_in_user: take everything behind `USER ` as the name, spaces included.
        max_bad_commands: bad lines in a row after which a connection is closed; None for never.
        max_connections: connections served at a time; more wait in the kernel's queue. None is as many as the limit on
            open files has room for.
        max_connections_per_host: connections from one IPv4 address or IPv6 /64; more are refused. None for no limit.
        login_timeout: until a login must have succeeded, from the first octet on.
        idle_timeout: until the next command, after login; at least 600 (RFC 1939 section 3). `math.inf` for never.
        command_timeout: for the backend to do what one command needs, or to give one piece of a message.
        write_timeout: for the client to take 64 KiB.
        commit_timeout: for `commit`, `release` and `disconnect`, which nothing else cuts.
        drain_timeout: after `shutdown` is set, until what still runs is cancelled.
        banner: text of the greeting.
        hostname: right-hand side of APOP timestamps; None is this host's name.
        shutdown: set it to stop gracefully.

    Stopping: `shutdown` closes the listeners and idle connections at once, lets commands under way finish and their
    replies leave, and returns when the last connection is done. Cancelling `serve` ends every connection at its next
    await. Neither cuts a commit, and without a QUIT nothing is deleted.

    Resource handling: a place is taken before a connection is accepted, so file descriptors do not run out. Listeners
    are closed on every way out, those passed in too.

    Error handling: whatever happens in one connection ends that connection and is logged (`trio_pop3.session`). Raises
    ValueError or TypeError for arguments that make no sense, and OSError if an address cannot be had, before anything
    is served.
    """
    options = Options(
        insecure_auth=insecure_auth,
        apop=apop,
        max_auth_failures=max_auth_failures,
        profile=profile,
        space_in_user=space_in_user,
        max_bad_commands=max_bad_commands,
        max_connections=max_connections,
        max_connections_per_host=max_connections_per_host,
        login_timeout=login_timeout,
        idle_timeout=idle_timeout,
        command_timeout=command_timeout,
        write_timeout=write_timeout,
        commit_timeout=commit_timeout,
        drain_timeout=drain_timeout,
        banner=banner,
        hostname=hostname,
    )
    check_backend_shape(backend, options)
    if options.places > (room := descriptors_allow()):
        logger.warning("max_connections is %d, but the limit on open files has room for %d", options.places, room)
    server = Server(backend, options)
    listeners = await _listeners(host, port, listen, backlog)
    try:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    listener.places = server.places
                await accepting.start(
                    partial(trio.serve_listeners, server.handle, listeners, handler_nursery=connections)
                )
                logger.info("listening on %s", ", ".join(listener.address for listener in listeners))
                task_status.started(listeners)
                await (trio.Event() if shutdown is None else shutdown).wait()
                accepting.cancel_scope.cancel()
            logger.info("shutting down, %d connections open", len(connections.child_tasks))
            server.drain()
            connections.cancel_scope.deadline = trio.current_time() + options.drain_timeout
    finally:
        await close_all(listeners)


async def _listeners(
    host: str | None, port: int, listen: Sequence[str | trio.SocketListener | Pop3Listener] | None, backlog: int | None
) -> list[Pop3Listener]:
    if listen is None:
        return await open_tcp(host, port, backlog=backlog)
    if not listen or isinstance(listen, str):
        raise ValueError("listen must be a sequence of at least one address or listener")
    ours = [
        Pop3Listener(item) if isinstance(item, trio.SocketListener) else item
        for item in listen
        if not isinstance(item, str)
    ]
    try:
        return ours + await open_listeners((item for item in listen if isinstance(item, str)), backlog=backlog)
    except BaseException:
        await close_all(ours)
        raise
