"""`trio-pop3 serve`: a server on a directory of its own, or on mail that is there already."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import trio

from ..auth import PasswdFile
from ..backend import Backend, login_methods
from ..server import Options, Pop3Listener, Tls, TlsError, make_options, serve, serve_lmtp
from ..server.listeners import close_all
from . import directory as layout
from . import lmtp, logins, mail, network
from .failure import Failure, complain, say

logger = logging.getLogger("trio_pop3.cli")

_LEVELS: Final = ("debug", "info", "warning", "error")
# For commits and threads of the store that are under way when a second signal comes.
_LAST_SECONDS: Final = 10.0


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "serve",
        help="serve mail",
        description="Serves DIR, which is made with one user and one message if it is missing or empty; or, with "
        "--maildir or --mbox and a way to log in, mail that is there already. SIGINT and SIGTERM stop it when the "
        "commands under way are done; a second one cuts them, and what does not end in 10 s then. SIGHUP loads "
        "certificates again; users are read again when their file changes.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="holds `users` and `mail/NAME/` Maildirs")
    mail.add_to(parser)
    network.add_to(parser)
    logins.add_to(parser)
    lmtp.add_to(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-connections", type=int, metavar="N", help="served at a time (default: as files allow)")
    limits.add_argument(
        "--max-connections-per-host", type=int, metavar="N", default=Options().max_connections_per_host,
        help="from one address (default: %(default)s)",
    )  # fmt: skip
    limits.add_argument("--idle-timeout", type=float, metavar="SECONDS", default=600.0, help="at least 600 (default)")
    limits.add_argument(
        "--drain-timeout", type=float, metavar="SECONDS", default=30.0,
        help="for commands under way when stopping (default: 30)",
    )  # fmt: skip
    parser.add_argument("--log-level", choices=_LEVELS, default="info", help="default: info, a line for each session")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says to stop."""
    _check_what(arguments)
    if arguments.mbox and arguments.lmtp:
        raise Failure("mail that comes by --lmtp goes into Maildirs, and not into --mbox files", 2)
    options, lmtp_options = _options(arguments), lmtp.options(arguments)
    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    for library in ("httpx2", "httpcore2"):
        # Their logs show whole URLs and headers, and with them what belongs to nobody else.
        logging.getLogger(library).setLevel(logging.WARNING)
    _raise_file_limit()
    try:
        trio.run(_serve, arguments, options, lmtp_options)
    except* Failure as group:
        raise _first(group) from None
    return 0


def _check_what(arguments: argparse.Namespace) -> None:
    named = [arguments.directory, arguments.maildir, arguments.mbox]
    if named.count(None) == 3:
        raise Failure("name a DIR to serve, or --maildir or --mbox and a way to log in, such as --passwd-file", 2)
    if named.count(None) != 2:
        raise Failure("only one of DIR, --maildir and --mbox can be served", 2)
    if arguments.directory and arguments.passwd_file:
        raise Failure("--passwd-file goes with --maildir or --mbox; a DIR has its own users", 2)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `serve`. Raises Failure for values that make no sense."""
    options = {
        **network.options(arguments),
        "insecure_auth": arguments.insecure_auth,
        "apop": arguments.apop,
        "login_delay": arguments.login_delay,
        "max_connections": arguments.max_connections,
        "max_connections_per_host": arguments.max_connections_per_host,
        "idle_timeout": arguments.idle_timeout,
        "drain_timeout": arguments.drain_timeout,
    }
    try:
        make_options(**options)
    except ValueError as failure:
        name, _, rest = str(failure).partition(" ")
        raise Failure(f"--{name.replace('_', '-')} {rest}", 2) from None
    return {**options, "mechanisms": arguments.mechanism}


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    failure = group.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(arguments: argparse.Namespace, options: dict[str, Any], lmtp_options: dict[str, Any]) -> None:
    # Listeners first: a directory that is made for nothing would hide its password.
    listeners = await network.listen(network.addresses(arguments))
    mail_in: list[Pop3Listener] = []
    try:
        mail_in = await lmtp.listen(arguments)
        _make_if_new(arguments, listeners)
        pattern, users = _places(arguments)
        backend, introduction = _prepare(arguments, pattern, users, [listeners, mail_in])
        _warn_of_cleartext(listeners, options)
        shutdown = trio.Event()
        servers = [partial(serve, backend, listen=listeners, shutdown=shutdown, **options)]
        if mail_in:
            target = lmtp.target(arguments, pattern, users)
            servers.append(partial(serve_lmtp, target, listen=mail_in, shutdown=shutdown, **lmtp_options))
        await _run_until_stopped(servers, shutdown, options["tls"], introduction)
    finally:
        await close_all(listeners + mail_in)


async def _run_until_stopped(
    servers: Sequence[Callable[[], Awaitable[None]]], shutdown: trio.Event, tls: Tls | None, introduction: str
) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:

            async def obey_signals() -> None:
                async for number in signals:
                    if number == signal.SIGHUP:
                        reload(tls)
                        continue
                    if shutdown.is_set():
                        nursery.cancel_scope.cancel()
                        leave_in(_LAST_SECONDS)
                    shutdown.set()

            nursery.start_soon(obey_signals)
            # Only now is it true that Ctrl-C stops.
            say(introduction)
            async with trio.open_nursery() as serving:
                for server in servers:
                    serving.start_soon(server)
            nursery.cancel_scope.cancel()


def leave_in(seconds: float) -> None:
    """End this process even if a thread does not come back: no store is worse off for it than for a power cut."""

    def leave() -> None:
        logger.error("the mail store does not come back; leaving without it")
        os._exit(1)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def reload(tls: Tls | None) -> None:
    """Load certificates again; if they cannot be used, the ones in use stay."""
    if tls is None:
        return
    try:
        tls.reload()
    except TlsError as failure:
        logger.error("the certificates in use stay: %s", failure)
    else:
        logger.info("certificates loaded again")


def _make_if_new(arguments: argparse.Namespace, listeners: list[Pop3Listener]) -> None:
    directory: str | None = arguments.directory
    if directory is not None and layout.is_new(directory):
        # Said before the directory is in its place: none is left whose password nobody has seen.
        layout.make(directory, lambda password: say(_introduce(directory, password, listeners)))


def _places(arguments: argparse.Namespace) -> tuple[str, PasswdFile | None]:
    """The pattern of the Maildirs or mbox files, and the users file: one, read once for all who ask it."""
    directory: str | None = arguments.directory
    if directory is None:
        pattern, path = arguments.maildir or arguments.mbox, arguments.passwd_file
    else:
        pattern, path = layout.mail_pattern(os.path.abspath(directory)), layout.users_path(directory)
    return os.path.abspath(pattern), None if path is None else layout.open_users(path)


def _prepare(
    arguments: argparse.Namespace, pattern: str, users_file: PasswdFile | None, listeners: list[list[Pop3Listener]]
) -> tuple[Backend, str]:
    """The backend, and what to tell the person who started us. `listeners`: those of POP3, those of LMTP."""
    users = logins.authenticator(arguments, users_file)
    backend = mail.backend(arguments, pattern, users)
    if arguments.apop and "APOP" not in login_methods(backend):
        raise Failure("--apop needs a user whose password is stored as {PLAIN}")
    addresses = "; LMTP at ".join(", ".join(map(str, some)) for some in listeners if some)
    count = logins.known_users(users)
    who = "" if count is None else f"{count} user{'s' * (count != 1)} of "
    place = arguments.directory or arguments.maildir or arguments.mbox
    return backend, f"Serving {who}{place} on {addresses}. Ctrl-C stops."


def _introduce(directory: str, password: str, listeners: list[Pop3Listener]) -> str:
    user = layout.FIRST_USER
    lines = [f"Made {directory} with one user and one message:", "", f"  user      {user}", f"  password  {password}"]
    tcp = next((listener for listener in listeners if listener.port is not None and not listener.tls), None)
    if tcp is not None:
        host = tcp.address.rpartition(":")[0]
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - names, not binds
        lines[2:2] = [f"  host      {host}", f"  port      {tcp.port}"]
        lines += ["", "Fetch the message, in another terminal:", ""]
        lines += [f"  curl -s pop3://{user}:{password}@{host}:{tcp.port}/1"]
    return "\n".join([*lines, ""])


def _warn_of_cleartext(listeners: list[Pop3Listener], options: dict[str, Any]) -> None:
    open_to_others = [
        listener.address
        for listener in listeners
        if listener.port is not None and not listener.tls and not listener.address.startswith(("127.", "[::1]"))
    ]
    if open_to_others and options["tls"] is None and not options["insecure_auth"]:
        complain(
            f"{', '.join(open_to_others)}: logins from other machines will be refused, since their "
            "passwords would travel in clear; give a certificate (--cert, --key), or allow it (--insecure-auth)"
        )
