"""Where the mail is that `trio-pop3 serve` serves, and how it is treated."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, get_args

from ..backend import Authenticator, Backend
from ..backends.maildir import MaildirBackend, MaildirOptions
from ..backends.maildir.identity import IdentityError
from ..backends.maildir.journal import Journal
from ..backends.maildir.retention import Days, Deletion
from ..backends.mbox.store import MboxOptions
from . import mbox, views
from .failure import Failure, reason

# What an option is called in Python -> on the command line.
_FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"--{name.replace('_', '-')}" for name in MaildirOptions.__annotations__}
    | {name: f"--mbox-{name.replace('_', '-')}" for name in MboxOptions.__annotations__}
    | {"days": "--newest-days", "count": "--at-most"}
)
# Where messages name options: a word such as `trash` is one of ours in other places.
_NAMED: Final = re.compile(r"(?:^|(?<= with ))\w+")


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    _add_kinds(parser)
    views.add_to(parser)


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("mail")
    group.add_argument(
        "--maildir", metavar="PATTERN", help="where a user's Maildir is, with {user}, {local} and {domain}"
    )
    group.add_argument(
        "--lock-wait", type=float, metavar="SECONDS", default=0.0,
        help="for a maildrop that another session has open, up to 120 (default: refuse at once)",
    )  # fmt: skip
    group.add_argument(
        "--move-new", action="store_true", help="move mail from new/ to cur/ at login, as IMAP servers do"
    )
    group.add_argument(
        "--dovecot-lock", action="store_true",
        help="hold dovecot-uidlist.lock while looking for mail, where Dovecot serves the same Maildirs",
    )  # fmt: skip
    group.add_argument(
        "--follow-symlinks", action="store_true",
        help="on the way to a Maildir, follow links that others than root and the user of the server have made",
    )  # fmt: skip
    group.add_argument(
        "--as-owner", action="store_true", help="as root: work on each Maildir as the user and group that own it"
    )
    leaving = parser.add_argument_group("mail that is deleted")
    leaving.add_argument(
        "--deletion", choices=get_args(Deletion), default="unlink",
        help="what DELE and QUIT do: remove the file (default); move it to the trash folder; give it the flag T, which "
        "IMAP servers take for deleted; or hide it from POP3 only",
    )  # fmt: skip
    leaving.add_argument("--trash", metavar="NAME", default=".Trash", help="the Maildir++ folder (default: .Trash)")
    leaving.add_argument("--trash-days", type=int, metavar="N", help="after which trash is emptied (default: never)")
    leaving.add_argument("--journal", metavar="FILE", help="gets a line for each message before it is removed")
    leaving.add_argument(
        "--expire", type=_days, metavar="DAYS",
        help="treat messages as deleted so many days after they were first retrieved, 0 is at once; or `never`. "
        "Announced in CAPA (default: nothing is removed and nothing announced)",
    )  # fmt: skip
    mbox.add_to(parser)


def _days(word: str) -> Days:
    try:
        return "never" if word == "never" else int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number of days is needed, or never, not {word!r}") from None


def backend(arguments: argparse.Namespace, pattern: str, users: Authenticator) -> Backend:
    """Maildirs or mbox files found by a pattern, as they are to be seen.

    Raises Failure for a pattern that is none, for values that make no sense, and for options of the other kind of mail.
    """
    _check_kind(arguments)
    try:
        if arguments.mbox is not None:
            return views.over(arguments, mbox.backend(arguments, pattern, users))
        if arguments.journal is not None:
            Journal(arguments.journal).check()
        return views.over(arguments, MaildirBackend(pattern, users, **_options(arguments)))
    except ValueError as failure:
        raise Failure(_NAMED.sub(lambda word: _FLAGS.get(word[0], word[0]), str(failure)), 2) from None
    except IdentityError as failure:
        raise Failure(f"--as-owner: {reason(failure)}") from None
    except OSError as failure:
        raise Failure(f"cannot write the journal {arguments.journal}: {reason(failure)}") from None


def _options(arguments: argparse.Namespace) -> MaildirOptions:
    return {
        "follow_symlinks": arguments.follow_symlinks,
        "as_owner": arguments.as_owner,
        "lock_wait": arguments.lock_wait,
        "deletion": arguments.deletion,
        "trash": arguments.trash,
        "trash_days": arguments.trash_days,
        "journal": arguments.journal,
        "expire": arguments.expire,
        "move_new": arguments.move_new,
        "dovecot_lock": arguments.dovecot_lock,
    }


def _check_kind(arguments: argparse.Namespace) -> None:
    parser = argparse.ArgumentParser()
    _add_kinds(parser)
    plain = vars(parser.parse_args([]))
    kind = "mbox files" if arguments.mbox is not None else "Maildirs"
    for name in plain.keys() - {"maildir"}:
        if (name.startswith("mbox") != (arguments.mbox is not None)) and getattr(arguments, name) != plain[name]:
            raise Failure(f"--{name.replace('_', '-')} is not for {kind}", 2)
    if arguments.mbox is not None and arguments.newest_days is not None:
        raise Failure("--newest-days is not for mbox files, which do not say when mail has arrived", 2)
