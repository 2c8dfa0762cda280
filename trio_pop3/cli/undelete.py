"""`trio-pop3 undelete`: messages out of the trash, back to where they were."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..backends.maildir import PathPattern
from ..backends.maildir.access import check_way
from ..backends.maildir.lock import MaildirLock
from ..backends.maildir.origin import folders, trashed
from ..backends.maildir.scan import Whereabouts
from ..backends.maildir.trash import Discarded, Trash, check_folder, trash
from ..backends.maildir.uids import UidMap, UidMapError, read_map
from .directory import maildir_of
from .failure import Failure, complain, reason, say


@dataclass(frozen=True, slots=True)
class Found:
    """A message, the folder that it goes back to (None is the inbox), and the unique-id that it will have again."""

    discarded: Discarded
    folder: bytes | None
    uid: str

    @property
    def where(self) -> str:
        """The folder, as it is printed."""
        return "INBOX" if self.folder is None else os.fsdecode(self.folder)


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "undelete",
        help="bring deleted messages back from the trash",
        description="Moves messages from the trash folder back to where they were, with their old unique-ids. The "
        "maildrop must not be open in a session. Says what it brings back: when it was deleted, its unique-id, the "
        "octets of its file, and the folder it goes to, which is INBOX if no folder remembers it. The status is 1 if a "
        "message that was asked for could not be brought back.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the directory that `serve` serves")
    parser.add_argument("name", metavar="USER", help="whose mail it is; no folder, since all share one trash")
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
    root, maildir = map(os.fsencode, _maildir(arguments))
    try:
        with contextlib.ExitStack() as held:
            check_way(root, maildir, (b"cur", b"new"))  # where whoever owns it may have put links for us to follow
            _lock(held, maildir, arguments.name)
            folder = held.enter_context(trash(maildir, arguments.trash, make=False))
            wanted = _asked_for(_contents(folder, maildir), arguments)
            for place in {one.folder for one in wanted} - {None}:
                _lock(held, _path(maildir, place), arguments.name)
            return _restore(folder, maildir, wanted, dry=arguments.dry_run)
    except UidMapError as failure:
        raise Failure(f"cannot undelete: {failure}") from None
    except BlockingIOError:
        raise Failure(f"{arguments.name} is logged in; see `trio-pop3 lock list`, and try again later") from None
    except OSError as failure:
        where = failure.filename if isinstance(failure.filename, str | bytes) else maildir
        raise Failure(f"cannot undelete: {os.fsdecode(where)}: {reason(failure)}") from None


def _lock(held: contextlib.ExitStack, maildir: bytes, name: str) -> None:
    lock = MaildirLock(maildir, f"undelete - {name}")
    held.callback(lock.release)
    lock.acquire()


def _path(maildir: bytes, folder: bytes | None) -> bytes:
    return maildir if folder is None else b"%s/%s" % (maildir, folder)


def _maildir(arguments: argparse.Namespace) -> tuple[str, str]:
    """What the pattern has it in, and where it is."""
    try:
        check_folder(arguments.trash)
        if (arguments.directory is None) == (arguments.maildir is None):
            raise Failure("name a DIR, or --maildir, and a USER", 2)
        if arguments.directory is not None:
            return arguments.directory, maildir_of(arguments.directory, arguments.name)
        pattern = PathPattern(arguments.maildir)
        path = pattern.path_for(arguments.name)
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
    if path is None:
        raise Failure(f"{arguments.name!r} has no place in {arguments.maildir}")
    return pattern.root, path


def _contents(folder: Trash, maildir: bytes) -> Sequence[Found]:
    """What is in the trash, with the folders that remember it: of two, which can be if one was copied, any."""
    others = [name for name in folders(maildir) if _path(maildir, name) != folder.path]
    came_from = {base: name for name in others for base in trashed(_path(maildir, name))}
    maps: dict[bytes | None, UidMap] = {}
    found = []
    for one in folder.contents():
        place = came_from.get(one.base)
        if place not in maps:
            maps[place] = read_map(_path(maildir, place))
        found.append(Found(one, place, maps[place].of_first([one.base])[0]))
    return found


def _asked_for(contents: Sequence[Found], arguments: argparse.Namespace) -> Sequence[Found]:
    if not contents:
        complain("nothing is in the trash")
    if arguments.uid is None:
        since = arguments.since
        wanted = [one for one in contents if since is None or one.discarded.since >= since]
        if contents and not wanted:
            complain("nothing that is in the trash was put there since then")
        return wanted
    if missing := {*arguments.uid} - {one.uid for one in contents}:
        raise Failure(f"not in the trash: {', '.join(sorted(missing))}")
    return [one for one in contents if one.uid in arguments.uid]


def _restore(folder: Trash, maildir: bytes, wanted: Sequence[Found], *, dry: bool) -> int:
    status = 0
    there = {place: {*Whereabouts(_path(maildir, place)).look()} for place in {one.folder for one in wanted}}
    try:
        for one in wanted:
            message, bases = one.discarded, there[one.folder]
            if message.base in bases:
                complain(f"{one.uid} is in {one.where} already, so what is in the trash stays there")
                status = 1
                continue
            if not dry:
                folder.restore(maildir, one.folder, message)
            bases.add(message.base)
            since = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(message.since))
            say(f"{since}  {one.uid}  {message.stored}  {one.where}")
    finally:
        if not dry:
            folder.sync_restored(_path(maildir, place) for place in there)
    return status
