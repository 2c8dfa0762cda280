"""mbox files that `trio-pop3 serve` serves."""

from __future__ import annotations

import argparse

from ..backend import Authenticator
from ..backends.mbox import MboxBackend
from ..backends.mbox.store import DEFAULT_LOCKS


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("mail in mbox files")
    group.add_argument("--mbox", metavar="PATTERN", help="where a user's mbox file is, such as '/var/mail/{user}'")
    group.add_argument(
        "--mbox-locks", metavar="NAMES", default=",".join(DEFAULT_LOCKS),
        help="what delivery locks, in its order: dotlock, fcntl, flock (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--mbox-lock-timeout", type=float, metavar="SECONDS", default=10.0, help="wait for these (default: 10)"
    )
    group.add_argument(
        "--mbox-stale-lock", type=float, metavar="SECONDS", default=600.0,
        help="age at which a NAME.lock of another program is taken for left behind (default: 600)",
    )  # fmt: skip
    group.add_argument(
        "--mbox-state", metavar="DIR", help="for locks and journals of ours (default: .trio-pop3 beside the file)"
    )
    group.add_argument(
        "--mbox-must-exist", action="store_true", help="a file that is not there is a failure, not an empty maildrop"
    )
    group.add_argument(
        "--mbox-content-length", action="store_true", help="believe Content-Length where it leads to a message's end"
    )
    group.add_argument("--mbox-unquote", action="store_true", help="send >From as From: the files are mboxrd")
    group.add_argument("--mbox-x-uidl", action="store_true", help="an X-UIDL field is the unique-id")


def backend(arguments: argparse.Namespace, pattern: str, users: Authenticator) -> MboxBackend:
    """mbox files found by a pattern. Raises ValueError for values that make no sense."""
    return MboxBackend(
        pattern,
        users,
        locks=arguments.mbox_locks.split(","),
        lock_timeout=arguments.mbox_lock_timeout,
        stale_lock=arguments.mbox_stale_lock,
        state=arguments.mbox_state,
        must_exist=arguments.mbox_must_exist,
        content_length=arguments.mbox_content_length,
        unquote=arguments.mbox_unquote,
        x_uidl=arguments.mbox_x_uidl,
    )
