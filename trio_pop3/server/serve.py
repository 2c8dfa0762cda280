"""`serve`: listeners in, a task per connection, and a way to stop that cuts nothing."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import trio

from ..backend import Backend, ClientInfo, login_methods
from ..languages import Language
from ..rules import DEFAULT_MECHANISMS, Headers, Rules
from ..sansio import Pop3Connection, Profile, Role
from ..sasl import MECHANISMS, Mechanism
from .accepting import accept_until
from .containment import contained, plain_interrupt
from .driver import TOO_MANY, Driver, fresh_timestamp
from .gate import LoginGate
from .listeners import Pop3Listener, close_all, open_listeners, open_tcp
from .networks import Networks
from .options import DEFAULTS, Options, descriptors_allow, make_options
from .peers import HostCounter, Place, client_info
from .penalty import Penalty
from .proxied import ProxyHeaderMissing, read_header
from .tls import Tls, TlsError

logger = logging.getLogger("trio_pop3.server")

_REFUSAL_SECONDS: Final = 5.0
# Places of which it is worth saying at the start that there are no more.
_FEW: Final = 100
_RULES: Final = Rules()


class Server:
    """What all connections of one `serve` share."""

    def __init__(self, backend: Backend, options: Options) -> None:
        self.places: Final = trio.Semaphore(options.places, max_value=options.places)
        self._backend = backend
        self._options = options
        self._gate = LoginGate(Penalty(options.trusted, clock=trio.current_time))
        self._hosts = HostCounter(options.max_connections_per_host)
        self._numbers = itertools.count(1)
        self._drivers: set[Driver] = set()
        self._draining = False

    def drain(self) -> None:
        """Let every connection finish what it is doing; see `Driver.drain`."""
        self._draining = True
        for driver in self._drivers:
            driver.drain()

    async def handle(self, listener: Pop3Listener, stream: trio.SocketStream) -> None:
        """One accepted connection. Raises nothing but cancellation, and gives its place back on every way out."""
        try:
            with contained():
                await self._handle(listener, stream)
        finally:
            self.places.release()

    async def _handle(self, listener: Pop3Listener, stream: trio.SocketStream) -> None:
        try:
            peer = client_info(stream.socket, f"{next(self._numbers):x}")
        except OSError:
            return  # gone before we could ask who it was
        try:
            transport, client = await self._behind_proxy(listener, stream, peer)
        except ProxyHeaderMissing as failure:
            logger.warning("session %s: closed a connection from %s: %s", peer.session, peer.peer, failure)
            return
        place = self._hosts.place()
        # A client that came through the PROXY protocol is not the proxy.
        xclient = client is peer and peer.host in self._options.xclient_from
        try:
            # A proxy is counted as whom it speaks for, once it has said so.
            if xclient or place.move(client):
                await self._run(listener, transport, client, place if xclient else None)
            else:
                await self._refuse(listener, transport, client)
        finally:
            place.leave()

    async def _behind_proxy(
        self, listener: Pop3Listener, stream: trio.SocketStream, peer: ClientInfo
    ) -> tuple[trio.abc.HalfCloseableStream, ClientInfo]:
        """Who is served, if a proxy says that. Whether there is one is the listener's to say, and never guessed."""
        if not listener.proxy:
            return stream, peer
        if peer.host not in self._options.proxy_from:
            raise ProxyHeaderMissing("this is no proxy of ours")
        return await read_header(stream, peer, self._options.proxy_timeout)

    async def _run(
        self, listener: Pop3Listener, stream: trio.abc.HalfCloseableStream, client: ClientInfo, place: Place | None
    ) -> None:
        driver = Driver(
            stream,
            self._backend,
            client,
            self._options,
            gate=self._gate,
            timestamp=fresh_timestamp(self._options.rules),
            implicit_tls=listener.tls,
            proxy_place=place,
        )
        self._drivers.add(driver)
        try:
            if self._draining:
                driver.drain()
            await driver.run()
        finally:
            self._drivers.discard(driver)

    async def _refuse(self, listener: Pop3Listener, stream: trio.abc.SendStream, client: ClientInfo) -> None:
        logger.warning("refused a connection from %s: its host has its share", client.peer)
        if listener.tls:
            return  # a line in clear is nothing a TLS client could read
        with trio.move_on_after(_REFUSAL_SECONDS), contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(Pop3Connection(Role.SERVER).send(TOO_MANY))


def check_backend_shape(backend: Any, options: Options) -> None:
    """Raises TypeError if an object cannot be a backend at all, ValueError if it lacks a power that was asked for."""
    for name in ("authenticate", "open"):
        if not inspect.iscoroutinefunction(getattr(backend, name, None)):
            raise TypeError(f"a backend needs a method `async def {name}`; {type(backend).__name__} has none")
    if options.rules.apop and "APOP" not in login_methods(backend):
        raise ValueError(f"apop=True needs a backend that can check APOP; {type(backend).__name__} cannot")


def chosen_mechanisms(names: Iterable[str | Mechanism] | None) -> Mapping[str, Mechanism]:
    """Mechanisms by name, best first. Raises ValueError for an unknown name."""
    if names is None:
        return DEFAULT_MECHANISMS
    chosen: dict[str, Mechanism] = {}
    for name in names:
        mechanism = name if isinstance(name, Mechanism) else MECHANISMS.get(name.upper())
        if mechanism is None:
            raise ValueError(f"not a SASL mechanism: {name!r} (there are {', '.join(MECHANISMS)})")
        chosen[mechanism.name] = mechanism
    return chosen


async def serve(
    backend: Backend,
    *,
    # Where to listen.
    host: str | None = None,
    port: int = 110,
    tls_port: int | None = None,
    listen: Sequence[str | trio.SocketListener | Pop3Listener] | None = None,
    backlog: int | None = None,
    # TLS.
    tls: Tls | None = None,
    require_tls: bool = _RULES.require_tls,
    tls_check_interval: float = DEFAULTS.tls_check_interval,
    # Who may log in.
    insecure_auth: bool = _RULES.insecure_auth,
    mechanisms: Iterable[str | Mechanism] | None = None,
    apop: bool = _RULES.apop,
    max_auth_failures: int | None = _RULES.max_auth_failures,
    login_delay: int | None = _RULES.login_delay,
    trusted: Networks = DEFAULTS.trusted,
    oauth_scope: str = _RULES.oauth_scope,
    oauth_discovery: str = _RULES.oauth_discovery,
    # Who speaks for others.
    proxy_from: Networks = DEFAULTS.proxy_from,
    xclient_from: Networks = DEFAULTS.xclient_from,
    # How commands are read, and messages sent.
    profile: Profile = _RULES.profile,
    space_in_user: bool = _RULES.space_in_user,
    max_bad_commands: int | None = _RULES.max_bad_commands,
    utf8: bool = _RULES.utf8,
    headers: Headers = _RULES.headers,
    languages: Sequence[Language] = _RULES.languages,
    language: Language = _RULES.language,
    # How many connections.
    max_connections: int | None = DEFAULTS.max_connections,
    max_connections_per_host: int | None = DEFAULTS.max_connections_per_host,
    # How long, in seconds.
    proxy_timeout: float = DEFAULTS.proxy_timeout,
    tls_timeout: float = DEFAULTS.tls_timeout,
    login_timeout: float = DEFAULTS.login_timeout,
    idle_timeout: float = DEFAULTS.idle_timeout,
    command_timeout: float = DEFAULTS.command_timeout,
    write_timeout: float = DEFAULTS.write_timeout,
    commit_timeout: float = DEFAULTS.commit_timeout,
    drain_timeout: float = DEFAULTS.drain_timeout,
    # What it says of itself.
    banner: str = _RULES.banner,
    hostname: str | None = None,
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
        tls_port: a port of `host` for connections that begin with TLS (995 by RFC 8314); None for none.
        listen: addresses as `open_listeners` takes them, or listeners already open, in any number.
        backlog: connections the kernel queues for each listener; None is as many as it allows.
        tls: certificates. With them STLS is served (RFC 2595), and listeners may begin with TLS.
        require_tls: nobody logs in without TLS, from this machine neither, whatever the mechanism.
        tls_check_interval: how often to look whether the files of the certificates have changed.
        insecure_auth: take passwords in clear from other machines. Without it USER, PASS, APOP, and mechanisms that
            show a secret to whoever listens, are served over TLS, loopback and UNIX sockets only, and announced there.
        mechanisms: SASL mechanisms that may be offered, by name or as `Mechanism`, best first; None is all but
            CRAM-MD5, LOGIN and ANONYMOUS. Announced is what the backend can check and the connection is good for.
        apop: offer APOP; the backend must have it among its `login_methods`.
        max_auth_failures: refused logins after which a connection is closed; None for never.
        login_delay: seconds a user has to wait between two logins, unless the backend has delays of its own.
        trusted: networks from which failed logins cost no waiting time.
        oauth_scope, oauth_discovery: told to OAuth clients whose token is not accepted (RFC 7628 section 3.2.2).
        proxy_from: proxies that are believed on listeners with `,proxy`; all others are closed.
        xclient_from: proxies whose XCLIENT is believed.
        profile: how strictly commands are read (`Profile`). STRICT also turns off `max_bad_commands` and
            `login_timeout`.
        space_in_user: take everything behind `USER ` as the name, spaces included.
        max_bad_commands: bad lines in a row after which a connection is closed; None for never.
        utf8: serve UTF8, and names and passwords in UTF-8, compared as SASLprep has them (RFC 6856).
        headers: what becomes of messages with 8-bit headers for a client that did not say UTF8. SURROGATE reads every
            header at login, since its sizes are those of what is sent.
        languages, language: for the texts of replies: what LANG lists, and what is spoken if it is not said.
        max_connections: connections served at a time; more wait in the kernel's queue. None is as many as the limit on
            open files has room for.
        max_connections_per_host: connections from one IPv4 address or IPv6 /64; more are refused. None for no limit.
        proxy_timeout: until a proxy's header must be there.
        tls_timeout: for a TLS handshake.
        login_timeout: until a login must have succeeded, from the first octet on.
        idle_timeout: until the next command, after login; at least 600 (RFC 1939 section 3). `math.inf` for never.
        command_timeout: for the backend to do what one command needs, or to give one piece of a message.
        write_timeout: for the client to take 64 KiB.
        commit_timeout: for `commit`, `release` and `disconnect`, which nothing else cuts.
        drain_timeout: after `shutdown` is set, until what still runs is cancelled.
        banner: text of the greeting.
        hostname: our name in APOP timestamps and SASL challenges, and the one that OAuth clients must mean if they
            say which (RFC 7628 section 3.2); None is this host's name, and OAuth clients may mean any.
        shutdown: set it to stop gracefully.

    Stopping: `shutdown` closes the listeners and idle connections at once, lets commands under way finish and their
    replies leave, and returns when the last connection is done. Cancelling `serve` ends every connection at its next
    await. Neither cuts a commit, and without a QUIT nothing is deleted.

    Certificates: `tls.reload()` changes them for connections to come, at any time; changed files are found without it.
    Certificates that cannot be used are logged, and the ones in use stay.

    Resource handling: a place is taken before a connection is accepted, so file descriptors do not run out. Listeners
    are closed on every way out, those passed in too.

    Error handling: whatever happens in one connection ends that connection and is logged (`trio_pop3.session`). Raises
    ValueError or TypeError for arguments that make no sense, and OSError if an address cannot be had, before anything
    is served.
    """
    options = make_options(
        tls=tls,
        require_tls=require_tls,
        tls_check_interval=tls_check_interval,
        insecure_auth=insecure_auth,
        mechanisms=chosen_mechanisms(mechanisms),
        apop=apop,
        max_auth_failures=max_auth_failures,
        login_delay=login_delay,
        trusted=trusted,
        oauth_scope=oauth_scope,
        oauth_discovery=oauth_discovery,
        proxy_from=proxy_from,
        xclient_from=xclient_from,
        profile=profile,
        space_in_user=space_in_user,
        max_bad_commands=max_bad_commands,
        utf8=utf8,
        headers=headers,
        languages=tuple(languages),
        language=language,
        max_connections=max_connections,
        max_connections_per_host=max_connections_per_host,
        proxy_timeout=proxy_timeout,
        tls_timeout=tls_timeout,
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
    elif room < _FEW:
        logger.warning("the limit on open files has room for %d connections at a time; more will wait", room)
    server = Server(backend, options)
    listeners = await _listeners(host, port, tls_port, listen, backlog)
    try:
        if tls is None and any(listener.tls for listener in listeners):
            raise ValueError("a listener that begins with TLS needs tls, a certificate and its key")
        with plain_interrupt():
            await accept_until(
                trio.Event() if shutdown is None else shutdown,
                server,
                listeners,
                task_status,
                drain_timeout=options.drain_timeout,
                beside=[] if options.tls is None else [partial(_watch, options.tls, options.tls_check_interval)],
            )
    finally:
        await close_all(listeners)


async def _watch(tls: Tls, interval: float) -> None:
    """Load certificates whose files have changed. Runs until cancelled, and holds nothing."""
    complaint = ""
    while True:
        await trio.sleep(interval)
        if not tls.changed():
            continue
        try:
            tls.reload()
        except TlsError as failure:
            # Tried again every time, and complained of once.
            if str(failure) != complaint:
                complaint = str(failure)
                logger.error("the certificates in use stay: %s", complaint)
        else:
            complaint = ""
            logger.info("certificates loaded again")


async def _listeners(
    host: str | None,
    port: int,
    tls_port: int | None,
    listen: Sequence[str | trio.SocketListener | Pop3Listener] | None,
    backlog: int | None,
) -> list[Pop3Listener]:
    if listen is None:
        opened = await open_tcp(host, port, backlog=backlog)
        if tls_port is not None:
            try:
                encrypted = await open_tcp(host, tls_port, backlog=backlog)
            except BaseException:
                await close_all(opened)
                raise
            for listener in encrypted:
                listener.tls = True
            opened += encrypted
        return opened
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
