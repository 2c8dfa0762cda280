"""Options of `trio-pop3 serve` that say what a maildrop shows."""

from __future__ import annotations

import argparse

from ..backend import Backend, FolderStore
from ..backends.views import AtMost, Folders, NewestDays, Union
from .failure import Failure


def add_to(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("what a maildrop shows", "Without these: the inbox, all of it.")
    group.add_argument(
        "--with-folder", metavar="NAME", action="append", default=[],
        help="this folder as well, behind the inbox, if a user has it; may be repeated",
    )  # fmt: skip
    group.add_argument("--newest-days", type=float, metavar="DAYS", help="what has arrived within so many days")
    group.add_argument("--at-most", type=int, metavar="N", help="no more than so many messages, the oldest")
    group.add_argument(
        "--folder-separator", metavar="CHARACTER",
        help="a login such as user+folder, if this is +, gets that folder instead of the inbox",
    )  # fmt: skip


def over(arguments: argparse.Namespace, backend: Backend) -> Backend:
    """The backend as it is to be seen. Raises ValueError for values that make no sense; Failure without folders."""
    if arguments.with_folder:
        if not isinstance(backend, FolderStore):
            raise Failure("--with-folder: this mail store has no folders", 2)
        backend = Union(backend, {name: backend.folder(name) for name in arguments.with_folder})
    if arguments.newest_days is not None:
        backend = NewestDays(backend, arguments.newest_days)
    if arguments.at_most is not None:
        backend = AtMost(backend, arguments.at_most)
    if arguments.folder_separator is not None:
        if not isinstance(backend, FolderStore):
            raise Failure("--folder-separator: this mail store has no folders", 2)
        backend = Folders(backend, arguments.folder_separator)
    return backend
