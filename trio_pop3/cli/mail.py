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
    group.add_argument(
        "--move-new", action="store_true", help="move mail from new/ to cur/ at login, as IMAP servers do"
    )
    group.add_argument(
        "--dovecot-lock", action="store_true",
        help="hold dovecot-uidlist.lock while looking for mail, where Dovecot serves the same Maildirs",
    )  # fmt: skip


def backend(arguments: argparse.Namespace, pattern: str, users: Authenticator) -> MaildirBackend:
    """Maildirs found by a pattern. Raises Failure for a pattern that is none."""
    try:
        return MaildirBackend(pattern, users, move_new=arguments.move_new, dovecot_lock=arguments.dovecot_lock)
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
