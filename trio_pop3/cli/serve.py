"""`trio-pop3 serve`: a server on a directory of its own, or on mail that is there already."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import trio

from ..backend import Backend
from ..backends.maildir import MaildirBackend
from ..server import Options, Pop3Listener, open_listeners, serve
from ..server.listeners import close_all
from . import directory as layout
from .failure import Failure, reason

_DEFAULT_ADDRESS: Final = "127.0.0.1:1110"
_LEVELS: Final = ("debug", "info", "warning", "error")


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "serve",
        help="serve mail",
        description="Serves DIR, which is made with one user and one message if it is missing or empty; or, with "
        "--passwd-file and --maildir, mail that is there already. SIGINT and SIGTERM stop it when the commands "
        "under way are done; a second one stops it at once.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="holds `users` and `mail/NAME/` Maildirs")
    parser.add_argument("--passwd-file", metavar="FILE", help="lines name:{SCHEME}secret, as Dovecot's passwd-file")
    parser.add_argument(
        "--maildir", metavar="PATTERN", help="where a user's Maildir is, with {user}, {local} and {domain}"
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        help=f"HOST:PORT, [IPV6]:PORT, unix:PATH, fd:N or systemd; may be repeated (default: {_DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--insecure-auth", action="store_true", help="take passwords in clear from other machines, for all to read"
    )
    parser.add_argument("--max-connections", type=int, metavar="N", help="served at a time (default: as files allow)")
    parser.add_argument(
        "--max-connections-per-host", type=int, metavar="N", default=Options().max_connections_per_host,
        help="from one address (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--idle-timeout", type=float, metavar="SECONDS", default=600.0, help="at least 600 (default)")
    parser.add_argument(
        "--drain-timeout", type=float, metavar="SECONDS", default=30.0,
        help="for commands under way when stopping (default: 30)",
    )  # fmt: skip
    parser.add_argument("--log-level", choices=_LEVELS, default="info", help="default: info, a line for each session")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says to stop."""
    own = arguments.directory is not None
    existing = arguments.passwd_file is not None and arguments.maildir is not None
    if own == existing or (own and (arguments.passwd_file or arguments.maildir)):
        raise Failure("name a DIR to serve, or both --passwd-file and --maildir", 2)
    try:
        options = {
            "insecure_auth": arguments.insecure_auth,
            "max_connections": arguments.max_connections,
            "max_connections_per_host": arguments.max_connections_per_host,
            "idle_timeout": arguments.idle_timeout,
            "drain_timeout": arguments.drain_timeout,
        }
        Options(**options)
    except ValueError as failure:
        raise Failure(f"--{str(failure).replace('_', '-')}", 2) from None
    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    _raise_file_limit()
    try:
        trio.run(_serve, arguments, options)
    except* Failure as group:
        raise _first(group) from None
    return 0


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    failure = group.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    # Listeners first: a directory that is made for nothing would hide its password.
    listeners = await _listen(arguments.listen or [_DEFAULT_ADDRESS])
    try:
        backend, introduction = _prepare(arguments, listeners)
        _warn_of_cleartext(listeners, arguments)
        await _run_until_stopped(backend, listeners, options, introduction)
    finally:
        await close_all(listeners)


async def _run_until_stopped(
    backend: Backend, listeners: list[Pop3Listener], options: dict[str, Any], introduction: str
) -> None:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def stop_on_signals() -> None:
                async for _ in signals:
                    if shutdown.is_set():
                        nursery.cancel_scope.cancel()
                    shutdown.set()

            nursery.start_soon(stop_on_signals)
            # Only now is it true that Ctrl-C stops.
            print(introduction, flush=True)
            await serve(backend, listen=listeners, shutdown=shutdown, **options)
            nursery.cancel_scope.cancel()


async def _listen(addresses: Sequence[str]) -> list[Pop3Listener]:
    listeners: list[Pop3Listener] = []
    try:
        for address in addresses:
            try:
                listeners += await open_listeners([address])
            except ValueError as failure:
                raise Failure(str(failure), 2) from None
            except OSError as failure:
                raise Failure(f"cannot listen on {address}: {_advice(failure)}") from None
    except BaseException:
        await close_all(listeners)
        raise
    return listeners


def _advice(failure: OSError) -> str:
    advice = {
        errno.EADDRINUSE: "; stop the other server, or name another port with --listen",
        errno.EACCES: "; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket from systemd (--listen systemd)",
    }
    return reason(failure) + advice.get(failure.errno or 0, "")


def _prepare(arguments: argparse.Namespace, listeners: list[Pop3Listener]) -> tuple[Backend, str]:
    """The backend, and what to tell the person who started us."""
    addresses = ", ".join(listener.address for listener in listeners)
    if arguments.directory is None:
        users = layout.open_users(arguments.passwd_file)
        try:
            backend = MaildirBackend(os.path.abspath(arguments.maildir), users)
        except ValueError as failure:
            raise Failure(str(failure), 2) from None
        return backend, f"Serving {len(users.users)} users of {arguments.passwd_file} on {addresses}. Ctrl-C stops."
    directory = arguments.directory
    text = ""
    if layout.is_new(directory):
        text = _introduce(directory, layout.make(directory), listeners)
    users = layout.open_users(layout.users_path(directory))
    backend = MaildirBackend(layout.mail_pattern(os.path.abspath(directory)), users)
    count = len(users.users)
    return backend, f"{text}Serving {count} user{'s' * (count != 1)} of {directory} on {addresses}. Ctrl-C stops."


def _introduce(directory: str, password: str, listeners: list[Pop3Listener]) -> str:
    user = layout.FIRST_USER
    lines = [f"Made {directory} with one user and one message:", "", f"  user      {user}", f"  password  {password}"]
    tcp = next((listener for listener in listeners if listener.port is not None), None)
    if tcp is not None:
        host = tcp.address.rpartition(":")[0]
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - names, not binds
        lines[2:2] = [f"  host      {host}", f"  port      {tcp.port}"]
        lines += ["", "Fetch the message, in another terminal:", ""]
        lines += [f"  curl -s pop3://{user}:{password}@{host}:{tcp.port}/1"]
    return "\n".join([*lines, "", ""])


def _warn_of_cleartext(listeners: list[Pop3Listener], arguments: argparse.Namespace) -> None:
    open_to_others = [
        listener.address
        for listener in listeners
        if listener.port is not None and not listener.address.startswith(("127.", "[::1]"))
    ]
    if open_to_others and not arguments.insecure_auth:
        print(
            f"trio-pop3: {', '.join(open_to_others)}: logins from other machines will be refused, since their "
            "passwords would travel in clear; --insecure-auth allows them",
            file=sys.stderr,
        )
