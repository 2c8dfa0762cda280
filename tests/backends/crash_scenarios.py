"""The one thing that a process does, from its first system call to its last, in tests that kill it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from trio_pop3.backends.maildir import deliver

from ..driving import Dialogue
from .maildir_helpers import Box, lines

MESSAGE: Final = b"Subject: new\n\n" + b"line\n" * 20_000  # more than a write of Python takes at once


class Prepared:
    """What there is before the first call that counts."""

    def __init__(self, root: str) -> None:
        self.box = Box(Path(root))


def delivery(prepared: Prepared) -> int:
    """0 if it was said to be delivered, 1 if it was said to have failed."""
    try:
        deliver(prepared.box.path, iter([MESSAGE[:7], MESSAGE[7:]]))
    except OSError:
        return 1
    return 0


def session(prepared: Prepared, *marks: int, **options: Any) -> int:
    """0 if all was answered `+OK`, 1 if the login was refused, 2 if QUIT was."""
    dialogue = Dialogue(prepared.box.backend(**options))
    if not dialogue.login().startswith(b"+OK"):
        dialogue.send(b"")
        return 1
    assert len(lines(dialogue.ask("LIST"))) == len(lines(dialogue.ask("UIDL")))
    for number in marks:
        assert dialogue.ask(f"DELE {number}").startswith(b"+OK")
    return 0 if dialogue.ask("QUIT").startswith(b"+OK") else 2


SCENARIOS: Final[Mapping[str, Callable[[Prepared], int]]] = {
    "delivery": delivery,
    "login": session,
    "commit": lambda prepared: session(prepared, 1, 3),
}
MARKED: Final[Mapping[str, frozenset[int]]] = {"commit": frozenset({1, 3})}
