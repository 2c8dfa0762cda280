"""The `trio-pop3` command. Every failure is one sentence and an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from . import deliver, serve, user
from .failure import Failure


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(prog="trio-pop3", description="A POP3 server for Maildirs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"trio-pop3 {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (serve, user, deliver):
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except Failure as failure:
        print(f"trio-pop3: {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        return 130
    return status
