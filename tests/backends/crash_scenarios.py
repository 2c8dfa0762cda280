"""The one thing that a process does, from its first system call to its last, in tests that kill it on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from trio_pop3.backends.maildir import deliver, survey

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
    if marks:
        assert dialogue.ask("RETR 2").startswith((b"+OK", b"-ERR"))
    for number in marks:
        assert dialogue.ask(f"DELE {number}").startswith(b"+OK")
    return 0 if dialogue.ask("QUIT").startswith(b"+OK") else 2


def first_login(prepared: Prepared) -> int:
    """A login where sizes are not known yet: it counts them and keeps them, also of a few messages."""
    survey._WORTH = 1  # type: ignore[misc]
    with suppress(OSError):
        os.unlink(prepared.box.path / ".trio-pop3.index")
    return session(prepared)


def recorded(deletion: str, prepared: Prepared) -> int:
    """A commit with a journal, and with what was retrieved written down."""
    return session(prepared, 1, 3, deletion=deletion, journal=prepared.box.root / "journal", expire=30)


SCENARIOS: Final[Mapping[str, Callable[[Prepared], int]]] = {
    "delivery": delivery,
    "login": session,
    "first login": first_login,
    "move new": partial(session, move_new=True),
    "commit": lambda prepared: session(prepared, 1, 3),
    "unlink": partial(recorded, "unlink"),
    "trash": partial(recorded, "trash"),
    "flag": partial(recorded, "flag"),
    "hide": partial(recorded, "hide"),
}
# What the next session needs to know of a policy.
POLICY: Final[Mapping[str, Mapping[str, Any]]] = {
    "flag": {"deletion": "flag"}, "hide": {"deletion": "hide"}, "trash": {"deletion": "trash"}
}  # fmt: skip
MARKS: Final = frozenset({1, 3})
MARKING: Final = frozenset({"commit", "unlink", "trash", "flag", "hide"})
