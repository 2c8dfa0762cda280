"""Where the mail is that `trio-pop3 serve` serves, and how it is treated."""

from __future__ import annotations

import argparse

from ..backend import Authenticator, Backend
from ..backends.maildir import MaildirBackend, MaildirOptions
from . import views
from .failure import Failure, reason


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("mail")
    group.add_argument(
        "--maildir", metavar="PATTERN", help="where a user's Maildir is, with {user}, {local} and {domain}"
    )
    group.add_argument(
        "--follow-symlinks", action="store_true",
        help="on the way to a Maildir, follow links that others than root and the user of the server have made",
    )  # fmt: skip
    group.add_argument(
        "--as-owner", action="store_true", help="as root: work on each Maildir as the user and group that own it"
    )
    views.add_to(parser)


def backend(arguments: argparse.Namespace, pattern: str, users: Authenticator) -> Backend:
    """Maildirs found by a pattern. Raises Failure for a pattern that is none, and for values that make no sense."""
    try:
        return views.over(arguments, MaildirBackend(pattern, users, **_options(arguments)))
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
    except OSError as failure:
        raise Failure(f"--as-owner: {reason(failure)}") from None


def _options(arguments: argparse.Namespace) -> MaildirOptions:
    return {"follow_symlinks": arguments.follow_symlinks, "as_owner": arguments.as_owner}
