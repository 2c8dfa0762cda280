"""`trio-pop3 lock list`: who has which maildrop open."""

from __future__ import annotations

import argparse
import glob
import os
import time
from collections.abc import Iterator
from typing import Any

from ..backends.maildir import PathPattern
from ..backends.maildir.holders import Holder, Locks
from ..backends.maildir.lock import LOCK_NAME
from ..backends.mbox.locations import session_locks
from .directory import mail_pattern, users_path
from .failure import Failure, complain, reason, say


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser("lock", help="see who has a maildrop open", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    command = actions.add_parser(
        "list",
        help="list the maildrops that are open",
        description="Lists the maildrops that are open in a POP3 session on this machine, with user, process, session, "
        "peer, and since when, all as of now. Nothing is locked to find out, so that no login is disturbed. A - stands "
        "for what the holder has not written down.",
        allow_abbrev=False,
    )
    command.add_argument("places", nargs="*", metavar="DIR", help="a directory that `serve` serves, or a Maildir")
    command.add_argument(
        "--maildir", action="append", default=[], metavar="PATTERN", help="Maildirs, as `serve` is told of them"
    )
    command.add_argument(
        "--mbox", action="append", default=[], metavar="PATTERN", help="mbox files, as `serve` is told of them"
    )
    command.add_argument("--mbox-state", metavar="DIR", help="as `serve` is told of it")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List; the status is 1 if something could not be looked at."""
    if not (arguments.places or arguments.maildir or arguments.mbox):
        raise Failure("name a DIR, or --maildir, or --mbox", 2)
    if arguments.mbox_state is not None and not arguments.mbox:
        raise Failure("--mbox-state goes with --mbox", 2)
    patterns = [*map(_pattern_of, arguments.places), *map(_as_glob, arguments.maildir)]
    files = {maildir: maildir + b"/" + LOCK_NAME for pattern in patterns for maildir in _maildirs(pattern)}
    for mbox in map(_pattern, arguments.mbox):
        files.update(session_locks(mbox, arguments.mbox_state))
    try:
        locks = Locks()
    except OSError as failure:
        raise Failure(f"the kernel does not tell who holds locks: {failure.filename}: {reason(failure)}") from None
    status = 0
    for place, lock_file in sorted(files.items()):
        try:
            holder = locks.holder_of(lock_file)
        except OSError as failure:
            complain(f"cannot read the lock of {_shown(os.fsdecode(place))}: {reason(failure)}")
            status = 1
            continue
        if holder is not None:
            say(_line(place, holder))
    return status


def _pattern_of(place: str) -> str:
    if os.path.exists(users_path(place)):
        return _as_glob(mail_pattern(place))
    if os.path.isdir(os.path.join(place, "cur")):
        return glob.escape(place)
    raise Failure(f"{place} is neither a Maildir nor a directory that `serve` serves", 2)


def _as_glob(pattern: str) -> str:
    return _pattern(pattern).glob


def _pattern(pattern: str) -> PathPattern:
    try:
        return PathPattern(pattern)
    except ValueError as failure:
        raise Failure(str(failure), 2) from None


def _maildirs(pattern: str) -> Iterator[bytes]:
    """With their folders, each of which has a lock of its own."""
    for found in glob.iglob(pattern):
        for path in (found, *glob.iglob(os.path.join(glob.escape(found), ".*"))):
            if os.path.isdir(os.path.join(path, "cur")):
                yield os.fsencode(path)


def _line(place: bytes, holder: Holder) -> str:
    words = (holder.user, holder.pid, holder.session, holder.peer, _local_time(holder.since), os.fsdecode(place))
    return "  ".join("-" if word is None else _shown(str(word)) for word in words)


def _local_time(since: int | None) -> str | None:
    try:
        return None if since is None else time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(since))
    except (OverflowError, ValueError, OSError):
        return None  # no time that we have written


def _shown(text: str) -> str:
    """Text for a terminal. A lock file and the names of folders are the user's to write, and this may be root's."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
