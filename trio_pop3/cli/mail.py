"""Where the mail is that `trio-pop3 serve` serves, and how it is treated."""

from __future__ import annotations

import argparse

from ..backend import Authenticator
from ..backends.maildir import MaildirBackend
from ..backends.maildir.store import MaildirOptions
from .failure import Failure


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("mail")
    group.add_argument(
        "--maildir", metavar="PATTERN", help="where a user's Maildir is, with {user}, {local} and {domain}"
    )
    group.add_argument(
        "--lock-wait", type=float, metavar="SECONDS", default=0.0,
        help="for a maildrop that another session has open, up to 120 (default: refuse at once)",
    )  # fmt: skip


def backend(arguments: argparse.Namespace, pattern: str, users: Authenticator) -> MaildirBackend:
    """Maildirs found by a pattern. Raises Failure for a pattern that is none, and for values that make no sense."""
    try:
        return MaildirBackend(pattern, users, **_options(arguments))
    except ValueError as failure:
        raise Failure(str(failure), 2) from None


def _options(arguments: argparse.Namespace) -> MaildirOptions:
    return {"lock_wait": arguments.lock_wait}
