"""`trio-pop3 user`: who may log in."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from typing import Any, Final

from ..auth import PasswdFileError
from ..auth.edit import add_user, change_password, remove_user
from ..auth.libcrypt import LibcryptMissing
from ..auth.schemes import HASHERS, BadSecret
from ..backends.maildir import make_maildir
from ..sasl.saslprep import saslprep
from .directory import generate_password, maildir_of, open_users, users_path
from .failure import Failure, reason, say

_NOT_STORABLE: Final = "this password holds a character that cannot be stored or sent"


def add_to(commands: Any) -> None:
    """The commands and their options."""
    parser = commands.add_parser("user", help="add, change, remove and list users", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for action, run, help_text in (
        ("add", _add, "add a user and a Maildir"),
        ("passwd", _passwd, "change a password"),
        ("delete", _delete, "remove a user; the mail stays where it is"),
        ("list", _list, "list the users"),
    ):
        command = actions.add_parser(action, help=help_text, allow_abbrev=False)
        command.add_argument("directory", metavar="DIR", help="the directory that `serve` serves")
        command.set_defaults(run=_guarded(run))
        if run is not _list:
            command.add_argument("name", metavar="NAME")
        if run in (_add, _passwd):
            command.add_argument("--scheme", choices=HASHERS, default="SCRYPT", help="how to store it (SCRYPT)")
            command.add_argument("--generate", action="store_true", help="make up a password and print it")


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def guarded(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except (PasswdFileError, BadSecret, LibcryptMissing) as failure:
            raise Failure(str(failure)) from None
        except OSError as failure:
            raise Failure(f"{failure.filename or arguments.directory}: {reason(failure)}") from None

    return guarded


def _add(arguments: argparse.Namespace) -> int:
    maildir = maildir_of(arguments.directory, arguments.name)
    password = _new_password(arguments)
    secret = _stored(password, arguments.scheme)
    # The Maildir first: a user who can log in finds one.
    make_maildir(maildir)
    add_user(users_path(arguments.directory), arguments.name, secret)
    _show(arguments, password)
    say(f"added {arguments.name}, mail in {maildir}")
    return 0


def _passwd(arguments: argparse.Namespace) -> int:
    maildir_of(arguments.directory, arguments.name)
    if arguments.name not in open_users(users_path(arguments.directory)).users:
        raise Failure(f"{users_path(arguments.directory)}: no user {arguments.name}")
    password = _new_password(arguments)
    change_password(users_path(arguments.directory), arguments.name, _stored(password, arguments.scheme))
    _show(arguments, password)
    say(f"changed the password of {arguments.name}")
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    maildir = maildir_of(arguments.directory, arguments.name)
    remove_user(users_path(arguments.directory), arguments.name)
    say(f"removed {arguments.name}; the mail is still in {maildir}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    for name in open_users(users_path(arguments.directory)).users:
        say(name)
    return 0


def _new_password(arguments: argparse.Namespace) -> str:
    return generate_password() if arguments.generate else _read_password()


def _show(arguments: argparse.Namespace, password: str) -> None:
    """A password that was made up is shown once it is good, and not before."""
    if arguments.generate:
        say(f"password: {password}")


def _stored(password: str, scheme: str) -> str:
    # The form that logins are compared in (RFC 4013); it may be shorter, and may hold other characters.
    try:
        prepared = saslprep(password, stored=True)
    except ValueError:
        raise Failure(_NOT_STORABLE) from None
    if not prepared:
        raise Failure("a password must not be empty")
    # The lines of a users file end at a line end, their fields at a colon.
    if scheme == "PLAIN" and ":" in prepared:
        raise Failure(_NOT_STORABLE)
    return HASHERS[scheme](prepared.encode("utf-8", "surrogateescape"))


def _read_password() -> str:
    if not sys.stdin.isatty():
        try:
            return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise Failure(_NOT_STORABLE) from None
    try:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise Failure("the two passwords are not the same")
    except EOFError:
        raise Failure("no password was given") from None
    return password
