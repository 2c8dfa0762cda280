"""`trio-pop3 deliver`: a message from standard input into a Maildir, with the exit statuses mail systems expect."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from ..backends.maildir import deliver
from .directory import maildir_of, open_users, users_path
from .failure import Failure, reason

_CHUNK_OCTETS: Final = 256 * 1024
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "deliver",
        help="deliver a message from standard input",
        description="Delivers the message on standard input. Exit statuses, of sysexits(3): 0 delivered, and safe on "
        "disk; 67 no such user; 65 no message; 64 wrong usage; 75 anything else, which can be mended while the mail "
        "system keeps the message and tries again.",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", help="the directory that `serve` serves")
    parser.add_argument("name", metavar="NAME", help="whose mail it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Deliver; the message is on disk when this returns.

    A mail system returns the message to its sender for any status but EX_TEMPFAIL. So only what trying again cannot
    change has another one: what somebody can mend, a mount, a file, a permission, or us, must not cost mail.
    """
    try:
        maildir = maildir_of(arguments.directory, arguments.name)
    except Failure as failure:
        raise Failure(str(failure), os.EX_NOUSER) from None
    try:
        with _interruptible():
            _check_user(users_path(arguments.directory), arguments.name)
            deliver(maildir, message(None if sys.stdin is None else sys.stdin.buffer))
    except Failure:
        raise
    except Exception as failure:
        why = reason(failure) if isinstance(failure, OSError) else f"{type(failure).__name__}: {failure}"
        raise Failure(f"cannot deliver to {maildir}: {why}", os.EX_TEMPFAIL) from None
    return os.EX_OK


def _check_user(users: str, name: str) -> None:
    try:
        known = name in open_users(users).users
    except Failure as failure:
        raise Failure(str(failure), os.EX_TEMPFAIL) from None
    if not known:
        raise Failure(f"no user {name} in {users}", os.EX_NOUSER)


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
