"""`serve_lmtp`: mail comes in beside the POP3 server, from mail systems on this machine."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from ..delivery import DeliveryTarget
from .accepting import accept_until
from .containment import contained, plain_interrupt
from .listeners import Pop3Listener, close_all, open_listeners
from .lmtp_driver import LmtpDriver
from .peers import client_info


@dataclass(frozen=True, kw_only=True, slots=True)
class LmtpOptions:
    """Limits and times, with the reason for each default. Times are in seconds, `math.inf` is never.

    Raises ValueError for a value out of range.
    """

    hostname: str
    # What Postfix takes by default is 10 MB, what others take 25 to 50: nobody before us is to have said yes to more.
    max_size: int = 100 * 1024 * 1024
    # RFC 5321 section 4.5.3.1.8. Each may cost a descriptor while a large message comes in.
    max_recipients: int = 100
    # Postfix opens 20 at most for one destination.
    max_connections: int = 50
    # RFC 5321 section 4.5.3.2: five minutes for a command, three for each block of a message.
    idle_timeout: float = 300.0
    content_timeout: float = 180.0
    # For the user data base, or for one recipient's file; what does not come back is waited for, as its thread is.
    command_timeout: float = 120.0
    write_timeout: float = 60.0
    drain_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_size", "max_recipients", "max_connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        for name in ("idle_timeout", "content_timeout", "command_timeout", "write_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {getattr(self, name)!r}")
        if not self.drain_timeout >= 0:
            raise ValueError(f"drain_timeout must be 0 or more seconds, not {self.drain_timeout!r}")


_DEFAULTS: Final = LmtpOptions(hostname="localhost")


class LmtpServer:
    """What all connections of one `serve_lmtp` share."""

    def __init__(self, target: DeliveryTarget, options: LmtpOptions) -> None:
        self.places: Final = trio.Semaphore(options.max_connections, max_value=options.max_connections)
        self._target: Final = target
        self._options: Final = options
        self._numbers: Final = itertools.count(1)
        self._drivers: Final[set[LmtpDriver]] = set()
        self._draining = False

    def drain(self) -> None:
        """Let every connection finish its message; see `LmtpDriver.drain`."""
        self._draining = True
        for driver in self._drivers:
            driver.drain()

    async def handle(self, listener: Pop3Listener, stream: trio.SocketStream) -> None:
        """One accepted connection. Raises nothing but cancellation, and gives its place back on every way out."""
        try:
            with contained():
                try:
                    peer = client_info(stream.socket, f"m{next(self._numbers):x}")
                except OSError:
                    return  # gone before we could ask who it was
                driver = LmtpDriver(stream, self._target, peer, self._options)
                self._drivers.add(driver)
                try:
                    if self._draining:
                        driver.drain()
                    await driver.run()
                finally:
                    self._drivers.discard(driver)
        finally:
            self.places.release()


def check_local(listeners: Sequence[Pop3Listener]) -> None:
    """Raises ValueError for a listener that other machines can reach, or one that LMTP cannot be served on.

    LMTP knows no passwords: whoever connects puts mail into any mailbox.
    """
    for listener in listeners:
        if listener.tls or listener.proxy:
            raise ValueError(f"{listener}: LMTP is served without TLS and PROXY header")
        if listener.port is not None and not ipaddress.ip_address(listener.socket.getsockname()[0]).is_loopback:
            raise ValueError(f"{listener}: LMTP is for this machine only, use a UNIX socket or a loopback address")


async def serve_lmtp(
    target: DeliveryTarget,
    *,
    listen: Sequence[str | Pop3Listener],
    hostname: str | None = None,
    insecure_network: bool = False,
    max_size: int = _DEFAULTS.max_size,
    max_recipients: int = _DEFAULTS.max_recipients,
    max_connections: int = _DEFAULTS.max_connections,
    idle_timeout: float = _DEFAULTS.idle_timeout,
    content_timeout: float = _DEFAULTS.content_timeout,
    command_timeout: float = _DEFAULTS.command_timeout,
    write_timeout: float = _DEFAULTS.write_timeout,
    drain_timeout: float = _DEFAULTS.drain_timeout,
    shutdown: trio.Event | None = None,
    task_status: trio.TaskStatus[list[Pop3Listener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take mail by LMTP (RFC 2033) until cancelled, or until `shutdown` is set and every connection is done.

    Runs beside `serve` in one nursery: `nursery.start_soon(partial(serve_lmtp, target, listen=["unix:/run/lmtp"]))`.

    Args:
        target: who has mail here, and where it goes, such as `MaildirTarget`.
        listen: addresses as `open_listeners` takes them, or listeners already open: UNIX sockets and loopback.
        hostname: our name in the greeting and in Received; None is this host's.
        insecure_network: listen for other machines as well. There are no passwords: keep them out by other means.
        max_size: octets of a message; larger ones are refused with 552 5.3.4.
        max_recipients: of one message, at least 100 (RFC 5321 section 4.5.3.1.8); more are refused with 452 4.5.3, and
            the mail system sends them a copy of their own.
        max_connections: served at a time; more wait in the kernel's queue.
        idle_timeout: until the next command.
        content_timeout: for each 64 KiB of a message.
        command_timeout: for the target to do what it is asked, for each recipient.
        write_timeout: for the client to take a reply.
        drain_timeout: after `shutdown`, until what still runs is cancelled.
        shutdown: set it to stop gracefully.

    Stopping: `shutdown` closes the listeners, tells idle connections 421, and lets a message under way come to its end
    and its replies. A message that is not there by `drain_timeout`, or when this is cancelled, is answered 421 before
    any of its replies, and nothing of it is kept. Deliveries that have begun are finished and acknowledged, for
    `command_timeout` at most.

    What was acknowledged with 250 is on disk. What could not be acknowledged, since the client was gone by then, will
    be delivered again: LMTP has a message twice rather than never.

    Resource handling: listeners are closed on every way out, those passed in too.

    Error handling: trouble in one connection ends that connection and is logged (`trio_pop3.lmtp`). Raises ValueError
    for arguments that make no sense, and OSError if an address cannot be had.
    """
    options = LmtpOptions(
        hostname=hostname or socket.gethostname(),
        max_size=max_size,
        max_recipients=max_recipients,
        max_connections=max_connections,
        idle_timeout=idle_timeout,
        content_timeout=content_timeout,
        command_timeout=command_timeout,
        write_timeout=write_timeout,
        drain_timeout=drain_timeout,
    )
    listeners = [item for item in listen if not isinstance(item, str)]
    try:
        listeners += await open_listeners(item for item in listen if isinstance(item, str))
        if not listeners:
            raise ValueError("listen must be a sequence of at least one address or listener")
        if not insecure_network:
            check_local(listeners)
        with plain_interrupt():
            await accept_until(
                trio.Event() if shutdown is None else shutdown,
                LmtpServer(target, options),
                listeners,
                task_status,
                drain_timeout=drain_timeout,
            )
    finally:
        await close_all(listeners)
