"""The `trio-pop3` command. Every failure is one sentence and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import check, deliver, lock, serve, uidl, undelete, user
from .failure import Failure, complain, flush
from .parser import Parser


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = Parser(prog="trio-pop3", description="A POP3 server for Maildirs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"trio-pop3 {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (serve, user, deliver, lock, undelete, uidl, check):
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    status = _run(sys.argv[1:] if argv is None else argv)
    try:
        flush()
    except Failure as failure:
        complain(failure)
        return status or failure.status
    return status


def _run(words: Sequence[str]) -> int:
    try:
        arguments = build_parser().parse_args(words)
    except SystemExit as stop:  # the parser has said why
        # Mail systems go by the exit status of `deliver`, and 2 means nothing to them.
        return os.EX_USAGE if stop.code and words[0:1] == ["deliver"] else int(stop.code or 0)
    try:
        status: int = arguments.run(arguments)
    except Failure as failure:
        complain(failure)
        return failure.status
    except KeyboardInterrupt:
        return 130
    return status
