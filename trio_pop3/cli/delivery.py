"""What `deliver` and `serve --lmtp` have in common: whose mail it is, and how much may be there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Final

from ..backends.maildir import MaildirTarget, Quota
from ..delivery import Recipients
from .failure import Failure

_LIMIT: Final = re.compile(r"([0-9]{1,12})([KMGTkmgt]?)")
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("whose mail it is, and how much may be there")
    group.add_argument(
        "--local-part", action="store_true", help="users go by what stands before the @, not by the whole address"
    )
    group.add_argument(
        "--extension-separator", metavar="CHARACTERS", default="",
        help="such as +: mail for alice+lists is for alice, unless there is a user alice+lists",
    )  # fmt: skip
    group.add_argument(
        "--quota", metavar="LIMIT",
        help="octets in one user's Maildir, as 500M or 2G; or `maildirsize`: what its Maildir++ file of this name says",
    )  # fmt: skip
    group.add_argument(
        "--quota-bounce", action="store_true",
        help="tell senders of a full mailbox at once; without it, the mail system tries again for days",
    )  # fmt: skip


def octets(option: str, text: str) -> int:
    """A size as people write it. Raises Failure."""
    match = _LIMIT.fullmatch(text)
    if match is None or not int(match[1]):
        raise Failure(f"{option} is a number of octets, as 500M or 2G, not {text!r}", 2)
    return int(match[1]) * _UNITS[match[2].upper()]


def target(
    arguments: argparse.Namespace, pattern: str, knows: Callable[[str], bool] | None, **access: bool
) -> MaildirTarget:
    """Where mail goes. `knows`: whether there is such a user; `access`: how to work on Maildirs. Raises Failure."""
    if arguments.quota_bounce and arguments.quota is None:
        raise Failure("--quota-bounce needs --quota", 2)
    quota = None
    if arguments.quota is not None:
        limit = None if arguments.quota == "maildirsize" else octets("--quota", arguments.quota)
        quota = Quota(limit, bounce=arguments.quota_bounce)
    recipients = Recipients(arguments.local_part, arguments.extension_separator)
    try:
        return MaildirTarget(pattern, knows=knows, recipients=recipients, quota=quota, **access)  # type: ignore[arg-type]
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
