"""How the command line is read: what is wrong with it is one sentence, and the options are what `--help` is for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from .failure import complain


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one sentence; so are those of its commands, which are made of this, too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", int, _read(int, "a whole number"))
        self.register("type", float, _read(float, "a number"))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What is unknown to a command is said by that command, and not by the one above it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say it, and end with status 2."""
        complain(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")
        raise SystemExit(2)


def _read(convert: Callable[[str], object], what: str) -> Callable[[str], object]:
    def read(word: str) -> object:
        try:
            return convert(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{what} is needed, not {word!r}") from None

    return read
