"""Where the mail is that `trio-pop3 serve` serves, and how it is treated."""

from __future__ import annotations

import argparse

from ..backend import Authenticator
from ..backends.maildir import MaildirBackend
from .failure import Failure


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("mail")
    group.add_argument(
        "--maildir", metavar="PATTERN", help="where a user's Maildir is, with {user}, {local} and {domain}"
    )


def backend(arguments: argparse.Namespace, pattern: str, users: Authenticator) -> MaildirBackend:
    """Maildirs found by a pattern. Raises Failure for a pattern that is none."""
    try:
        return MaildirBackend(pattern, users)
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
