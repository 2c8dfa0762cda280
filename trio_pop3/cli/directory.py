"""The layout of the directory that `trio-pop3 serve DIR` serves: `users`, and `mail/NAME/` for each of them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import string
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..auth import PasswdFile, PasswdFileError
from ..auth.edit import add_user
from ..auth.schemes import HASHERS
from ..backends.maildir import PathPattern, deliver, make_maildir
from .failure import Failure, reason

FIRST_USER: Final = "demo"
# No colon, which ends a name in the users file, and no "#" first, which would make a comment of its line.
_NAME: Final = re.compile(r"(?!#)[\x21-\x39\x3b-\x7e]{1,64}")
# What a freshly made file system has in it, and what was left by a `make` that was killed.
_NOTHING: Final = re.compile(r"lost\+found|\.unfinished-.*")
_PASSWORD_LETTERS: Final = string.ascii_letters + string.digits

_WELCOME: Final = b"""\
From: trio-pop3 <postmaster@localhost>
To: demo@localhost
Subject: Welcome
Date: {date}
Message-ID: <{id}@localhost>
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

This message came to you by POP3, out of a Maildir.

Put more in:         trio-pop3 deliver DIR demo < message
Add a user:          trio-pop3 user add DIR NAME
Change a password:   trio-pop3 user passwd DIR NAME
"""


def users_path(directory: str) -> str:
    """The users file of a directory."""
    return os.path.join(directory, "users")


def mail_pattern(directory: str) -> str:
    """The pattern of its Maildirs."""
    return os.path.join(directory.replace("{", "{{").replace("}", "}}"), "mail", "{user}")


def maildir_of(directory: str, name: str) -> str:
    """A user's Maildir. Raises Failure for a name that cannot be one."""
    path = PathPattern(mail_pattern(directory)).path_for(name) if _NAME.fullmatch(name) else None
    if path is None:
        rule = "1 to 64 printable ASCII characters, no colon or slash, the first no dot, dash or #"
        raise Failure(f"not a user name: {name!r} ({rule})")
    return path


def open_users(path: str) -> PasswdFile:
    """The users of a file. Raises Failure."""
    try:
        return PasswdFile(path)
    except PasswdFileError as failure:
        raise Failure(str(failure)) from None


def generate_password() -> str:
    """About 95 bits, of characters that need no quoting anywhere."""
    return "".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(16))


def is_new(directory: str) -> bool:
    """Whether the directory is still to be made: it is missing or empty. Raises Failure if it is something else."""
    try:
        if all(_NOTHING.fullmatch(name) for name in os.listdir(directory)):
            return True
    except FileNotFoundError:
        return True
    except OSError as failure:
        raise Failure(f"cannot use {directory}: {reason(failure)}") from None
    if not os.path.exists(users_path(directory)):
        advice = "name a new directory, or make one user with `trio-pop3 user add`"
        raise Failure(f"{directory} is not empty and holds no file `users`; {advice}")
    return False


def make(directory: str, announce: Callable[[str], None] | None = None) -> str:
    """Make a directory with one user and one message, all of it or nothing; returns the password. Raises Failure.

    `announce` is called with the password when all but the last step is done: if it raises, nothing is made, so that no
    directory is left whose password nobody has seen.
    """
    password = generate_password()
    try:
        if os.path.isdir(directory):
            _fill(directory, password, announce)
        else:
            _make_beside(directory, password, announce)
    except OSError as failure:
        raise Failure(f"cannot make {directory}: {reason(failure)}") from None
    return password


def _make_beside(directory: str, password: str, announce: Callable[[str], None] | None) -> None:
    parent = os.path.dirname(os.path.abspath(directory))
    os.makedirs(parent, exist_ok=True)
    with _unfinished(parent, password) as unfinished:
        if announce is not None:
            announce(password)
        os.rename(unfinished, directory)


def _fill(directory: str, password: str, announce: Callable[[str], None] | None) -> None:
    """Into a directory that is there: it may be a mount point, which cannot be replaced, and it has its own mode."""
    with _unfinished(directory, password) as unfinished:
        if announce is not None:
            announce(password)
        mail = os.path.join(directory, "mail")
        os.rename(os.path.join(unfinished, "mail"), mail)
        try:
            # Last: a directory without it is not one that is served.
            os.rename(users_path(unfinished), users_path(directory))
        except BaseException:
            os.rename(mail, os.path.join(unfinished, "mail"))
            raise


@contextmanager
def _unfinished(parent: str, password: str) -> Iterator[str]:
    """All that is to be in the directory, in a place of its own; what is still there in the end is removed."""
    unfinished = tempfile.mkdtemp(prefix=".unfinished-", dir=parent)
    try:
        make_maildir(maildir_of(unfinished, FIRST_USER))
        deliver(maildir_of(unfinished, FIRST_USER), welcome())
        add_user(users_path(unfinished), FIRST_USER, HASHERS["SCRYPT"](password.encode()))
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def welcome() -> bytes:
    """The first message."""
    from email.utils import formatdate

    date = formatdate(localtime=True).encode()
    return _WELCOME.replace(b"{date}", date).replace(b"{id}", secrets.token_hex(8).encode())
