"""`trio-pop3 uidl`: unique-ids that clients have from another server."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from ..backends.maildir import PathPattern
from ..backends.maildir.lock import MaildirLock
from ..backends.maildir.retention import rename_uids
from ..backends.maildir.scan import Whereabouts
from ..backends.maildir.survey import snapshot
from ..backends.maildir.uids import UidMap, UidMapError, escaped, map_lines, parse_map, read_map, write_map
from ..migration import courier, cyrus, dovecot
from ..migration.formats import CYRUS, DOVECOT, UidlFormat
from ..migration.mail import OurMail, read_x_uidl
from ..migration.merge import Merge, compare, merge
from ..migration.old import OldIds, SourceError
from .directory import maildir_of
from .failure import Failure, Unread, reason, say

_PASSWORD: Final = "TRIO_POP3_PASSWORD"
_SOURCES: Final = ("dovecot", "courier", "cyrus", "x-uidl", "map")
# Options that say more of a source, and the sources they are for.
_ONLY_FOR: Final = {
    "format": ("dovecot", "cyrus"),
    "uidvalidity": ("cyrus",),
    "file": ("dovecot", "courier", "cyrus", "map"),
    "password_file": ("pop3",),
    "ca_file": ("pop3",),
    "insecure_auth": ("pop3",),
}
_SHOWN: Final = 20


def add_to(commands: Any) -> None:
    """The commands and their options."""
    parser = commands.add_parser(
        "uidl", help="keep the unique-ids that clients have from another server", allow_abbrev=False
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, run, help_text in (
        ("import", _import, "take over the unique-ids of an old server, so that clients fetch nothing twice"),
        ("verify", _verify, "say what clients of an old server would download again; exit status 1 if anything"),
        ("export", _export, "print unique-ids and base names, in the form that --from map reads"),
    ):
        command = actions.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
        command.add_argument("directory", metavar="DIR", nargs="?", help="the directory that `serve` serves")
        command.add_argument("name", metavar="USER", nargs="?", help="whose mail it is")
        command.add_argument(
            "--maildir", metavar="PATTERN", help="instead of DIR: a Maildir, or with USER a pattern as `serve` has it"
        )
        if run is not _export:
            _add_source(command)
        if run is _import:
            command.add_argument(
                "--dry-run", action="store_true", help="say what would be imported, and import nothing"
            )
            command.add_argument("--replace", action="store_true", help="also where an earlier import says otherwise")
        else:
            command.set_defaults(dry_run=False, replace=False)
        if run is not _export:
            command.add_argument("--all", action="store_true", help=f"list every message, not only the first {_SHOWN}")
        command.set_defaults(run=_guarded(run))


def _add_source(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the old server")
    group.add_argument(
        "--from", metavar="SOURCE", dest="source", required=True,
        help=f"{', '.join(_SOURCES)}, or pop3://USER@HOST[:PORT] or pop3s://...: ask the old server itself",
    )  # fmt: skip
    group.add_argument(
        "--file", metavar="FILE", help="dovecot: dovecot-uidlist; courier: courierpop3dsizelist (both by default those "
        "in the Maildir); cyrus: lines UID, blank, base name; map: what `export` printed",
    )  # fmt: skip
    group.add_argument(
        "--format", metavar="FORMAT",
        help=f"dovecot: its pop3_uidl_format ({DOVECOT}); cyrus: its uidl_format, {', '.join(CYRUS)} (cyrus)".replace(
            "%", "%%"
        ),
    )  # fmt: skip
    group.add_argument("--uidvalidity", metavar="N", type=int, help="cyrus: of the mailbox")
    group.add_argument(
        "--password-file", metavar="FILE", help="POP3: its first line is the password; - is standard input. Otherwise "
        f"it comes from ${_PASSWORD}, or is asked for",
    )  # fmt: skip
    group.add_argument("--ca-file", metavar="FILE", help="POP3: certificates to trust (PEM), instead of this system's")
    group.add_argument(
        "--insecure-auth", action="store_true", help="POP3: send the password in clear, for all on the way to read"
    )
    group.add_argument("--timeout", metavar="SECONDS", type=float, default=60.0, help="POP3: without progress (60)")


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def guarded(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except (SourceError, UidMapError) as failure:
            raise Failure(str(failure)) from None
        except OSError as failure:
            name = failure.filename
            where = os.fsdecode(name) if isinstance(name, (str, bytes)) else _path(arguments)
            raise Failure(f"{where}: {reason(failure)}") from None

    return guarded


def _maildir(arguments: argparse.Namespace) -> str:
    """Which Maildir. Raises Failure if there is none: what is not there may as well be mistyped."""
    path = _path(arguments)
    try:
        os.stat(os.path.join(path, "cur"))
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"there is no Maildir {path}") from None
    return path


def _path(arguments: argparse.Namespace) -> str:
    pattern = arguments.maildir
    if pattern is None:
        if arguments.name is None:
            raise Failure("say whose mail it is: DIR and USER, or --maildir", 2)
        return maildir_of(arguments.directory, arguments.name)
    if arguments.name is not None:
        raise Failure("give DIR and USER, or --maildir, not both", 2)
    user = arguments.directory  # the one word, since there is no DIR
    if user is None:
        if "{" in pattern and not os.path.isdir(pattern):
            raise Failure(f"{pattern} is a pattern: say whose mail it is, USER", 2)
        return str(pattern)
    try:
        path = PathPattern(pattern).path_for(user)
    except ValueError as failure:
        raise Failure(str(failure), 2) from None
    if path is None:
        raise Failure(f"{user!r} has no place in {pattern}")
    return path


# --- the three actions ------------------------------------------------------------------------------------------------


def _import(arguments: argparse.Namespace) -> int:
    maildir = _maildir(arguments)
    read = _source(arguments, maildir)
    with _locked(maildir):
        box = _Box(maildir)
        old = read(box)
        merged = merge(box.imported.uids, old, box.bases)
        after = UidMap(dict(merged.uids))
        _report_merge(merged, box.displaced(after, old), arguments)
        if merged.changed and not arguments.replace:
            raise Failure(
                f"nothing is changed: an earlier import has other unique-ids for {_messages(len(merged.changed))}, "
                "which clients may know by now; --replace takes the new ones"
            )
        if not arguments.dry_run and merged.uids != box.imported.uids:
            with _as_owner(maildir):
                rename_uids(os.fsencode(maildir), box.renamed(after))
                write_map(os.fsencode(maildir), merged.uids)
        ids = "unique-id" if merged.added == 1 else "unique-ids"
        done = "would import" if arguments.dry_run else "imported"
        say(f"{done} {merged.added} {ids}, {len(merged.uids)} in all")
        _report_comparison(old, box.served(after), arguments)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    maildir = _maildir(arguments)
    read = _source(arguments, maildir)
    box = _Box(maildir)
    if again := _report_comparison(read(box), box.served(box.imported), arguments):
        raise Failure(f"{_messages(again)} would be downloaded again")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    maildir = _maildir(arguments)
    box = _Box(maildir)
    # What is here, and the lines of what is gone: a map that is imported elsewhere is as good as this one.
    try:
        say("\n".join(map_lines({**box.imported.uids, **box.served(box.imported)})))
    except Unread:
        return 128 + signal.SIGPIPE
    return 0


class _Box:
    """A Maildir as it is now."""

    def __init__(self, maildir: str) -> None:
        path = os.fsencode(maildir)
        self.files: Final = Whereabouts(path)
        self.messages: Final = snapshot(self.files)
        self.imported: Final = read_map(path)
        self.mail: Final = OurMail(self.files, self.messages)

    @property
    def bases(self) -> Mapping[bytes, object]:
        return self.mail.messages

    def served(self, uids: UidMap) -> Mapping[bytes, str]:
        """Base name -> unique-id as served with a map, in the order of message numbers."""
        return dict(zip(self.bases, uids.of_first(self.bases), strict=True))

    def renamed(self, after: UidMap) -> Mapping[str, str]:
        """Unique-id as it is served now -> as it will be with another map."""
        new = self.served(after)
        return {uid: new[base] for base, uid in self.served(self.imported).items() if uid != new[base]}

    def displaced(self, after: UidMap, old: OldIds) -> Sequence[bytes]:
        """Messages that lose the unique-id that comes of their names to an imported one."""
        before = self.served(self.imported)
        return [base for base, uid in self.served(after).items() if base not in old.uids and uid != before[base]]


# --- sources ----------------------------------------------------------------------------------------------------------


def _source(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    """What reads the old server's unique-ids, once the Maildir is known. Asks for what a person has to say first."""
    source = "pop3" if "://" in arguments.source else arguments.source
    if source not in (*_SOURCES, "pop3"):
        raise Failure(f"--from takes {', '.join(_SOURCES)} or pop3://USER@HOST, not {arguments.source!r}", 2)
    for option, sources in _ONLY_FOR.items():
        if source not in sources and getattr(arguments, option):
            raise Failure(f"--{option.replace('_', '-')} is not for --from {source}", 2)
    try:
        return {
            "dovecot": _dovecot, "courier": _courier, "cyrus": _cyrus, "map": _map, "x-uidl": _x_uidl, "pop3": _pop3,
        }[source](arguments, maildir)  # fmt: skip
    except SourceError as failure:  # nothing has been read yet: it is what was asked for that is wrong
        raise Failure(str(failure), 2) from None


def _dovecot(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    uidl_format = UidlFormat(arguments.format or DOVECOT)
    read = _file(arguments, os.path.join(maildir, dovecot.FILE_NAME))
    return lambda _: dovecot.read_uidlist(*read(), uidl_format)


def _courier(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    read = _file(arguments, os.path.join(maildir, courier.FILE_NAME))
    return lambda _: courier.read_sizelist(*read())


def _cyrus(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    if not arguments.uidvalidity:
        raise Failure("--from cyrus needs --uidvalidity; a mailbox's is what IMAP says at SELECT", 2)
    text = arguments.format or "cyrus"
    uidl_format = UidlFormat(CYRUS.get(text, text))
    if arguments.file is None:
        return lambda box: cyrus.from_names(box.bases, arguments.uidvalidity, uidl_format)
    read = _file(arguments, "")
    return lambda _: cyrus.read_list(*read(), arguments.uidvalidity, uidl_format)


def _map(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    if arguments.file is None:
        raise Failure("--from map needs --file", 2)
    read = _file(arguments, "")
    return lambda _: OldIds(parse_map(*read()))


def _x_uidl(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    return lambda box: read_x_uidl(box.mail)


def _pop3(arguments: argparse.Namespace, maildir: str) -> Callable[[_Box], OldIds]:
    import trio

    from ..migration.pop3 import Matching, parse_url, read_old_server

    server = parse_url(arguments.source)
    context = _context(arguments.ca_file)
    password = _password(arguments.password_file)

    def read(box: _Box) -> OldIds:
        matching = Matching(box.mail)

        async def ask() -> OldIds:
            found = await read_old_server(
                server, password, context, matching.doubtful,
                patience=arguments.timeout, insecure_auth=arguments.insecure_auth,
            )  # fmt: skip
            return await trio.to_thread.run_sync(matching.result, found)

        return trio.run(ask)

    return read


def _file(arguments: argparse.Namespace, otherwise: str) -> Callable[[], tuple[str, bytes]]:
    """What reads a file: its path, and its content."""
    path = otherwise if arguments.file is None else str(arguments.file)

    def read() -> tuple[str, bytes]:
        with open(path, "rb") as file:
            return path, file.read()

    return read


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise Failure(f"{ca_file}: no certificates in it (PEM)") from None


def _password(path: str | None) -> str:
    if path is None and _PASSWORD in os.environ:
        return os.environ[_PASSWORD]
    try:
        if path is None and sys.stdin.isatty():
            return getpass.getpass("Password at the old server: ")
        if path is None or path == "-":
            line = sys.stdin.readline()
        else:
            with open(path, encoding="utf-8") as file:
                line = file.readline()
    except UnicodeDecodeError:
        raise Failure("this password is not UTF-8") from None
    except EOFError:
        line = ""
    if not (password := line.removesuffix("\n").removesuffix("\r")):
        raise Failure(f"there is no password: use --password-file, ${_PASSWORD} or standard input")
    return password


# --- the Maildir ------------------------------------------------------------------------------------------------------


@contextmanager
def _as_owner(maildir: str) -> Iterator[None]:
    """Root writes as the owner of the Maildir: what it leaves there is of use to the server, and a link of the owner's
    leads nowhere that the owner could not go.

    For system calls only: the owner may not be able to read what Python imports when it is first used.
    """
    status = os.stat(os.path.join(maildir, "cur"))
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    before = os.getegid(), os.getgroups()
    os.setgroups([status.st_gid])
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[0])
        os.setgroups(before[1])


@contextmanager
def _locked(maildir: str) -> Iterator[None]:
    lock = MaildirLock(os.fsencode(maildir), "uidl-import - -")
    try:
        with _as_owner(maildir):
            lock.acquire()
    except BlockingIOError:
        raise Failure(f"[IN-USE] somebody is logged in to {maildir}, or another import runs; try again") from None
    try:
        yield
    finally:
        lock.release()


# --- what a person sees -----------------------------------------------------------------------------------------------


def _report_merge(merged: Merge, displaced: Sequence[bytes], arguments: argparse.Namespace) -> None:
    done = arguments.replace and not arguments.dry_run
    _list(
        f"{'changed' if done else 'would change'} from an earlier import",
        [f"{escaped(base)}  {before} -> {after or 'none'}" for base, before, after in merged.changed],
        arguments,
    )
    _list(
        "cannot keep the old unique-id",
        [f"{escaped(base)}  {ascii(uid)[1:-1]}  ({why})" for base, uid, why in merged.refused],
        arguments,
    )
    _list(
        "no longer with a unique-id of its own, which an import gives to another",
        [escaped(base) for base in displaced],
        arguments,
    )


def _report_comparison(old: OldIds, ours: Mapping[bytes, str], arguments: argparse.Namespace) -> int:
    """Say it; returns how many messages would be downloaded again."""
    found = compare(old, ours)
    for remark in old.remarks:
        say(remark)
    _list(
        "would be downloaded again",
        [f"{escaped(base)}  {'?' if was is None else ascii(was)[1:-1]} -> {now}" for base, was, now in found.again],
        arguments,
    )
    say(f"{found.same} of {len(ours)} messages have the unique-ids that clients know")
    if found.new:
        say(f"{_messages(len(found.new))} not known to the old server: new to clients as well")
    if found.missing:
        say(f"{_messages(found.missing)} of the old server not here")
    if found.reordered:
        say(f"{_messages(found.reordered)} in another place than before; clients go by unique-ids, not by numbers")
    else:
        say("the order is the same")
    return len(found.again)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _list(title: str, lines: Sequence[str], arguments: argparse.Namespace) -> None:
    if not lines:
        return
    shown = lines if arguments.all else lines[:_SHOWN]
    say(f"{_messages(len(lines))} {title}:")
    for line in shown:
        say(f"  {line}")
    if len(shown) < len(lines):
        say(f"  ... and {len(lines) - len(shown)} more; --all lists them")
