"""`trio-pop3 undelete`: messages out of the trash, back to where they were."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

from ..backends.maildir import PathPattern
from ..backends.maildir.lock import MaildirLock
from ..backends.maildir.scan import Whereabouts
from ..backends.maildir.trash import Discarded, Trash, check_folder, trash
from ..backends.maildir.uids import UidMapError, read_map
from .directory import maildir_of
from .failure import Failure, complain, reason, say

# A message, and the unique-id that it had and will have again.
Found: TypeAlias = tuple[str, Discarded]


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "undelete",
        help="bring deleted messages back from the trash",
        description="Moves messages from the trash folder back to where they were, with their old unique-ids. The "
        "maildrop must not be open in a session. Says what it brings back: when it was deleted, its unique-id and the "
        "octets of its file. The status is 1 if a message that was asked for could not be brought back.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the directory that `serve` serves")
    parser.add_argument("name", metavar="USER", help="whose mail it is")
    parser.add_argument("--maildir", metavar="PATTERN", help="instead of DIR, as `serve` has it")
    parser.add_argument("--trash", metavar="NAME", default=".Trash", help="the folder (default: .Trash)")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="everything that is in the trash")
    which.add_argument(
        "--since", type=_time, metavar="TIME", help="what was put there since 2026-11-25T09:00, local time"
    )
    which.add_argument("--uid", action="append", metavar="UID", help="these messages; may be given more than once")
    parser.add_argument("--dry-run", action="store_true", help="say what would be brought back")
    parser.set_defaults(run=run)


def _time(word: str) -> float:
    try:
        return datetime.fromisoformat(word).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"a time such as 2026-11-25T09:00 is needed, not {word!r}") from None


def run(arguments: argparse.Namespace) -> int:
    """Bring messages back. Under the lock: a session may be moving others there."""
    maildir = os.fsencode(_maildir(arguments))
    lock = MaildirLock(maildir, f"undelete - {arguments.name}")
    try:
        lock.acquire()
        with trash(maildir, arguments.trash, make=False) as folder:
            contents = folder.contents()
            uids = read_map(maildir).of_first(one.base for one in contents)
            wanted = _asked_for(list(zip(uids, contents, strict=True)), arguments)
            return _restore(folder, maildir, wanted, dry=arguments.dry_run)
    except UidMapError as failure:
        raise Failure(f"cannot undelete: {failure}") from None
    except BlockingIOError:
        raise Failure(f"{arguments.name} is logged in; see `trio-pop3 lock list`, and try again later") from None
    except OSError as failure:
        where = failure.filename if isinstance(failure.filename, str | bytes) else maildir
        raise Failure(f"cannot undelete: {os.fsdecode(where)}: {reason(failure)}") from None
    finally:
        lock.release()


def _maildir(arguments: argparse.Namespace) -> str:
    try:
        check_folder(arguments.trash)
        if (arguments.directory is None) == (arguments.maildir is None):
            raise Failure("name a DIR, or --maildir, and a USER", 2)
        if arguments.directory is not None:
            return maildir_of(arguments.directory, arguments.name)
        path = PathPattern(arguments.maildir).path_for(arguments.name)
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
    if path is None:
        raise Failure(f"{arguments.name!r} has no place in {arguments.maildir}")
    return path


def _asked_for(contents: Sequence[Found], arguments: argparse.Namespace) -> Sequence[Found]:
    if arguments.uid is None:
        since = arguments.since
        return [(uid, one) for uid, one in contents if since is None or one.since >= since]
    if missing := {*arguments.uid} - {uid for uid, _ in contents}:
        raise Failure(f"not in the trash: {', '.join(sorted(missing))}")
    return [(uid, one) for uid, one in contents if uid in arguments.uid]


def _restore(folder: Trash, maildir: bytes, wanted: Sequence[Found], *, dry: bool) -> int:
    status = 0
    there = {*Whereabouts(maildir).look()}
    try:
        for uid, one in wanted:
            if one.base in there:
                complain(f"{uid} is in the maildrop already, so what is in the trash stays there")
                status = 1
                continue
            if not dry:
                folder.restore(maildir, one)
            there.add(one.base)
            say(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z', time.localtime(one.since))}  {uid}  {one.stored}")
    finally:
        if not dry:
            folder.sync_restored(maildir)
    return status
