"""`trio-pop3 deliver`: a message from standard input into a Maildir, with the exit statuses mail systems expect."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, Final

from ..backends.maildir import deliver
from .directory import maildir_of, open_users, users_path
from .failure import Failure, reason

_CHUNK_OCTETS: Final = 256 * 1024
# sysexits(3) by what the system says; EX_TEMPFAIL for the rest: the sender keeps the message and tries again.
_STATUS: Final = {
    errno.EACCES: os.EX_NOPERM,
    errno.EPERM: os.EX_NOPERM,
    errno.EROFS: os.EX_CANTCREAT,
    errno.ENOTDIR: os.EX_CANTCREAT,
    errno.ENOENT: os.EX_CANTCREAT,
    errno.EIO: os.EX_IOERR,
}


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "deliver",
        help="deliver a message from standard input",
        description="Delivers the message on standard input. Exit statuses are those of sysexits(3).",
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", help="the directory that `serve` serves")
    parser.add_argument("name", metavar="NAME", help="whose mail it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Deliver; the message is on disk when this returns."""
    try:
        maildir = maildir_of(arguments.directory, arguments.name)
    except Failure as failure:
        raise Failure(str(failure), os.EX_NOUSER) from None
    try:
        known = arguments.name in open_users(users_path(arguments.directory)).users
    except Failure as failure:
        raise Failure(str(failure), os.EX_CONFIG) from None
    if not known:
        raise Failure(f"no user {arguments.name} in {users_path(arguments.directory)}", os.EX_NOUSER)
    try:
        deliver(maildir, message(sys.stdin.buffer))
    except OSError as failure:
        status = _STATUS.get(failure.errno or 0, os.EX_TEMPFAIL)
        raise Failure(f"cannot deliver to {maildir}: {reason(failure)}", status) from None
    return os.EX_OK


def message(stream: IO[bytes]) -> Iterator[bytes]:
    """The message in pieces, without the `From ` line that some mailers put first. Raises Failure if there is none."""
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
