"""`serve_stream`: one connection, without a listener."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypedDict, Unpack

import trio

from ..backend import Backend, ClientInfo
from ..languages import Language
from ..login import Gate
from ..rules import Headers
from ..sansio import Profile
from ..sasl import Mechanism
from .containment import contained, plain_interrupt
from .driver import Driver, fresh_timestamp
from .gate import LoginGate
from .networks import Networks
from .options import Options, make_options
from .peers import client_info
from .penalty import Penalty
from .serve import check_backend_shape, chosen_mechanisms
from .tls import Tls

# For a stream to be closed in order; one over TLS has something to say first.
_CLOSE_SECONDS: Final = 5.0

_numbers: Final = itertools.count(1)


class ConnectionOptions(TypedDict, total=False):
    """The options of `serve` that concern one connection, with the same meaning and the same defaults."""

    tls: Tls | None
    require_tls: bool
    insecure_auth: bool
    mechanisms: Iterable[str | Mechanism] | None
    apop: bool
    max_auth_failures: int | None
    login_delay: int | None
    trusted: Networks
    oauth_scope: str
    oauth_discovery: str
    profile: Profile
    space_in_user: bool
    max_bad_commands: int | None
    utf8: bool
    headers: Headers
    languages: Sequence[Language]
    language: Language
    tls_timeout: float
    login_timeout: float
    idle_timeout: float
    command_timeout: float
    write_timeout: float
    commit_timeout: float
    drain_timeout: float
    banner: str
    hostname: str | None


async def serve_stream(
    stream: trio.abc.Stream,
    backend: Backend,
    *,
    client: ClientInfo | None = None,
    implicit_tls: bool = False,
    gate: Gate | None = None,
    shutdown: trio.Event | None = None,
    **options: Unpack[ConnectionOptions],
) -> None:
    """Serve POP3 on one connection, from greeting to close: for an accept loop of one's own, for tunnels, for tests.

    Args:
        stream: the connection, nothing read from it. It belongs to this function from now on. Best is a
            `trio.abc.HalfCloseableStream`; on any other a client that has sent more than was read may lose the last
            reply.
        backend: who may log in, and where the mail is (`trio_pop3.Backend`).
        client: who is connected. If it is not given, a `trio.SocketStream` is asked; of any other stream nothing is
            known, so that passwords in clear are refused on it: say `ClientInfo(session, tls=True)` if it is encrypted
            already, and `loopback=True` if it does not leave this machine.
        implicit_tls: the connection begins with a TLS handshake; needs `tls`.
        gate: what is remembered of logins from one connection to the next, an object with the methods of
            `trio_pop3.login.Gate`. None forgets: failed logins make a client wait on this connection, and not on its
            next, and `login_delay` is a word in CAPA only. An accept loop that strangers can reach should have one.
        shutdown: set it to stop gracefully; one event may be that of many connections.
        options: those of `serve` that concern one connection; see there.

    Stopping: `shutdown` ends an idle connection at once, and lets a command under way finish and its reply leave;
    `drain_timeout` seconds later what still runs is cancelled. Cancelling ends the connection at its next await.
    Neither cuts a commit, and without a QUIT nothing is deleted.

    Resource handling: the stream is closed on every way out.

    Error handling: whatever client, stream and backend do ends the connection and is logged. Raises ValueError or
    TypeError for arguments that make no sense, before anything is said.
    """
    try:
        chosen = _options(options)
        check_backend_shape(backend, chosen)
        if implicit_tls and chosen.tls is None:
            raise ValueError("a connection that begins with TLS needs tls, a certificate and its key")
        with plain_interrupt(), contained():
            if (known := client or _whoever(stream)) is not None:
                if gate is None:
                    gate = LoginGate(Penalty(chosen.trusted, clock=trio.current_time))
                timestamp = fresh_timestamp(chosen.rules)
                driver = Driver(
                    stream, backend, known, chosen, gate=gate, timestamp=timestamp, implicit_tls=implicit_tls
                )
                await _run(driver, shutdown, chosen.drain_timeout)
    finally:
        with contained(), trio.move_on_after(_CLOSE_SECONDS), suppress(trio.BrokenResourceError):
            await stream.aclose()


def _options(given: ConnectionOptions) -> Options:
    values: dict[str, Any] = dict(given)
    if unknown := sorted(values.keys() - ConnectionOptions.__annotations__.keys()):
        raise TypeError(f"serve_stream has no option {unknown[0]!r}; it takes those of serve that concern a connection")
    values["mechanisms"] = chosen_mechanisms(given.get("mechanisms"))
    if "languages" in given:
        values["languages"] = tuple(given["languages"])
    return make_options(**values)


def _whoever(stream: trio.abc.Stream) -> ClientInfo | None:
    """What can be known of the other end; None if it is gone already."""
    session = f"s{next(_numbers):x}"
    if not isinstance(stream, trio.SocketStream):
        return ClientInfo(session)
    try:
        return client_info(stream.socket, session)
    except OSError:
        return None


async def _run(driver: Driver, shutdown: trio.Event | None, drain_timeout: float) -> None:
    if shutdown is None:
        await driver.run()
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, driver, shutdown, nursery.cancel_scope, drain_timeout)
        await driver.run()
        nursery.cancel_scope.cancel()


async def _drain(driver: Driver, shutdown: trio.Event, connection: trio.CancelScope, drain_timeout: float) -> None:
    await shutdown.wait()
    driver.drain()
    connection.deadline = trio.current_time() + drain_timeout
