"""`trio-pop3 deliver`: a message from standard input into a Maildir, with the exit statuses mail systems expect."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from ..backends.maildir import MaildirTarget, deliver
from ..backends.maildir.access import check_way
from ..backends.maildir.delivery import delivery_failed
from ..delivery import NoSuchUser, header, read_address
from . import delivery
from .directory import mail_pattern, maildir_of, open_users, users_path
from .failure import Failure

_CHUNK_OCTETS: Final = 256 * 1024
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "deliver",
        usage="%(prog)s [options] {DIR | --maildir PATTERN [--passwd-file FILE]} {NAME | -d ADDRESS}",
        help="deliver a message from standard input",
        description="Delivers the message on standard input to one user: NAME, whose mail it is as it is written, or "
        "the one with the mail address ADDRESS. Exit statuses, of sysexits(3): 0 delivered, and safe on disk; 67 no "
        "such user; 77 mailbox full, with --quota-bounce; 65 no message; 64 wrong usage; 75 anything else, which can "
        "be mended while the mail system keeps the message and tries again.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the directory that `serve` serves")
    parser.add_argument("name", metavar="NAME", nargs="?", help="whose mail it is")
    parser.add_argument(
        "-d", "--recipient", metavar="ADDRESS", action="append", default=[],
        help="to whom the message was sent; Delivered-To is put before it",
    )  # fmt: skip
    parser.add_argument("-f", "--sender", metavar="ADDRESS", help="who sent it; Return-Path is put before it")
    parser.add_argument(
        "--environment", action="store_true",
        help="take both from the variables SENDER and RECIPIENT, as Exim's pipe transport sets them",
    )  # fmt: skip
    parser.add_argument(
        "--maildir", metavar="PATTERN", help="in place of DIR: where a user's Maildir is, as `serve` takes it"
    )
    parser.add_argument(
        "--passwd-file", metavar="FILE",
        help="the users; without it the mail system knows them, and whoever has no Maildir yet has to wait",
    )  # fmt: skip
    delivery.add_to(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Deliver; the message is on disk when this returns.

    A mail system returns the message to its sender for any status but EX_TEMPFAIL. So only what trying again cannot
    change has another one: what somebody can mend, a mount, a file, a permission, or us, must not cost mail.
    """
    _check(arguments)
    try:
        with _interruptible():
            _deliver(arguments)
    except Failure as failure:
        raise Failure(str(failure), os.EX_USAGE if failure.status == 2 else failure.status) from None
    return os.EX_OK


def _check(arguments: argparse.Namespace) -> None:
    """Words in a muddle. Raises Failure."""
    if arguments.maildir is not None and arguments.name is None:
        # There is no DIR then, and the one word is NAME.
        arguments.directory, arguments.name = None, arguments.directory
    if arguments.environment:
        if arguments.sender is not None or arguments.recipient or "RECIPIENT" not in os.environ:
            raise Failure("--environment takes the place of -f and -d, and needs the variable RECIPIENT", os.EX_USAGE)
        arguments.sender, arguments.recipient = os.environ.get("SENDER"), [os.environ["RECIPIENT"]]
    if (arguments.directory is None) == (arguments.maildir is None):
        raise Failure("name a DIR, or --maildir with a pattern", os.EX_USAGE)
    if arguments.directory is not None and arguments.passwd_file is not None:
        raise Failure("--passwd-file goes with --maildir, and DIR has its own", os.EX_USAGE)
    if len(arguments.recipient) + (arguments.name is not None) != 1:
        # One exit status cannot say that one has the message and another has not.
        raise Failure("deliver takes one recipient at a time: NAME, or one -d ADDRESS", os.EX_USAGE)


def _deliver(arguments: argparse.Namespace) -> None:
    address = arguments.recipient[0] if arguments.recipient else None
    maildir = "the Maildir"
    quota = None
    try:
        head = header(arguments.sender, address)
    except ValueError as failure:
        raise Failure(str(failure), os.EX_USAGE) from None
    try:
        target = _target(arguments)
        quota = target.quota
        maildir = target.maildir_of(arguments.name if address is None else _user(target, address))
        stdin = None if sys.stdin is None else sys.stdin.buffer
        # Where whoever owns it may have put links for us to follow.
        check_way(os.fsencode(target.root), os.fsencode(maildir), (b"tmp", b"new"))
        deliver(maildir, itertools.chain([head] if head else (), message(stdin)), quota)
    except Failure:
        raise
    except Exception as failure:
        failed = delivery_failed(failure, maildir, quota)
        # What is sent back to a stranger tells nothing of our disks.
        sentence = (
            str(failed) if failed.status == os.EX_TEMPFAIL else f"{failed.reply.text}: {address or arguments.name}"
        )
        raise Failure(sentence, failed.status) from None


def _target(arguments: argparse.Namespace) -> MaildirTarget:
    directory, users, name = arguments.directory, arguments.passwd_file, arguments.name
    pattern = arguments.maildir
    if directory is not None:
        pattern, users = mail_pattern(os.path.abspath(directory)), users_path(directory)
    if directory is not None and name is not None:
        try:
            maildir_of(directory, name)
        except Failure as failure:
            raise Failure(str(failure), os.EX_NOUSER) from None
    try:
        known = None if users is None else open_users(users)
    except Failure as failure:
        raise Failure(str(failure), os.EX_TEMPFAIL) from None
    if name is not None and known is not None and not known.look_up(name):
        raise NoSuchUser(f"no user {name} in {users}")
    return delivery.target(arguments, pattern, None if known is None else known.look_up)


def _user(target: MaildirTarget, text: str) -> str:
    address = read_address(text)
    if address is None:
        raise NoSuchUser(f"not an address: {text!a}")
    return target.find_sync(address)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A signal that would end the process raises Failure, so that nothing is left of a message that came half."""

    def interrupt(number: int, frame: object) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)  # what cleans up is not interrupted
        raise Failure(f"interrupted by {signal.Signals(number).name}, nothing is delivered", os.EX_TEMPFAIL)

    # What is ignored stays so: `nohup` means it.
    ours = [number for number in _INTERRUPTS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def message(stream: IO[bytes] | None) -> Iterator[bytes]:
    """The message in pieces, without the `From ` line that some mailers put first. Raises Failure if there is none."""
    if stream is None:
        raise Failure("there is no message, standard input is closed", os.EX_DATAERR)
    first = stream.readline(_CHUNK_OCTETS)
    if first.startswith(b"From "):
        while first and not first.endswith(b"\n"):
            first = stream.readline(_CHUNK_OCTETS)
        first = stream.read(_CHUNK_OCTETS)
    if not first:
        raise Failure("there is no message on standard input", os.EX_DATAERR)
    yield first
    while chunk := stream.read(_CHUNK_OCTETS):
        yield chunk
