"""`trio-pop3 serve --lmtp`: mail comes in where it goes out."""

from __future__ import annotations

import argparse
from typing import Any

from ..auth import PasswdFile
from ..server import LmtpOptions, Pop3Listener
from ..server.listeners import close_all
from ..server.lmtp import check_local
from . import delivery, network
from .failure import Failure


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group(
        "taking mail by LMTP",
        "From Postfix, Exim and the like on this machine: LMTP knows no passwords. ADDRESS is as of --listen; behind "
        "unix:PATH may stand ,mode=660 for who may connect.",
    )
    group.add_argument("--lmtp", metavar="ADDRESS", action="append", default=[], help="may be repeated")
    group.add_argument(
        "--lmtp-insecure-network", action="store_true",
        help="let other machines connect: whoever can puts mail into any mailbox",
    )  # fmt: skip
    group.add_argument("--lmtp-max-size", metavar="OCTETS", default="100M", help="of a message (default: %(default)s)")
    group.add_argument(
        "--lmtp-max-connections", metavar="N", type=int, default=50, help="at a time (default: %(default)s)"
    )
    delivery.add_to(parser)


async def listen(arguments: argparse.Namespace) -> list[Pop3Listener]:
    """All that was asked for, or none. Raises Failure."""
    listeners = await network.listen(arguments.lmtp)
    refused: Failure | None = None
    try:
        if not arguments.lmtp_insecure_network:
            check_local(listeners)
    except ValueError as failure:
        refused = Failure(f"{failure}; or allow it (--lmtp-insecure-network)", 2)
    if refused is not None:
        await close_all(listeners)
        raise refused
    return listeners


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `serve_lmtp`. Raises Failure for values that make no sense."""
    if not arguments.lmtp:
        _check_none(arguments)
        return {}
    chosen: dict[str, Any] = {
        "max_size": delivery.octets("--lmtp-max-size", arguments.lmtp_max_size),
        "max_connections": arguments.lmtp_max_connections,
        "drain_timeout": arguments.drain_timeout,
        "hostname": arguments.hostname,
    }
    try:
        LmtpOptions(**{**chosen, "hostname": "localhost"})
    except ValueError as failure:
        name, _, rest = str(failure).partition(" ")
        raise Failure(f"--lmtp-{name.replace('_', '-')} {rest}", 2) from None
    return {**chosen, "insecure_network": arguments.lmtp_insecure_network}


def _check_none(arguments: argparse.Namespace) -> None:
    parser = argparse.ArgumentParser()
    add_to(parser)
    for name, plain in vars(parser.parse_args([])).items():
        if getattr(arguments, name) != plain:
            raise Failure(f"--{name.replace('_', '-')} is for mail that comes by --lmtp", 2)


def target(arguments: argparse.Namespace, pattern: str, users: PasswdFile | None) -> Any:
    """Where the mail goes. Users are those of the users file; without one, everybody who has a Maildir."""
    return delivery.target(
        arguments, pattern, None if users is None else users.look_up,
        follow_symlinks=arguments.follow_symlinks, as_owner=arguments.as_owner,
    )  # fmt: skip
