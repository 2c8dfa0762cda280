"""An mbox file to do things to behind the store's back."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from trio_pop3 import Backend, MboxBackend, MboxStore, MemoryBackend, combine
from trio_pop3.testing import Bench

from ..driving import Dialogue
from .maildir_helpers import Users, inline

DATE = b"Tue Nov 25 09:19:20 2025"
FROM = b"From sender@example.org " + DATE + b"\n"
SPLITS = re.compile(rb"(?:\A|\n)\r?\nFrom |\AFrom ")


def entry(message: bytes, from_line: bytes = FROM, end: bytes = b"\n") -> bytes:
    """A message as delivery appends it: with its From_ line, and an empty line behind it."""
    if not message.endswith(b"\n") and message:
        message += b"\r\n" if message.endswith(b"\r") else b"\n"
    return from_line + message + end


class Box:
    """The mailbox of alice below a directory of mailboxes."""

    def __init__(self, root: Path, user: str = "alice") -> None:
        self.root = root
        self.path = root / user
        self.state = root / ".trio-pop3"

    def backend(self, **options: Any) -> MboxBackend:
        return MboxBackend(f"{self.root}/{{user}}", Users(), **{"run_sync": inline, "lock_timeout": 0.0, **options})

    def login(self, **options: Any) -> Dialogue:
        """A session of alice, logged in."""
        dialogue = Dialogue(self.backend(**options))
        reply = dialogue.login()
        assert reply.startswith(b"+OK"), reply
        return dialogue

    def put(self, *messages: bytes, from_line: bytes = FROM) -> None:
        """Append messages, as delivery would."""
        with open(self.path, "ab") as file:
            file.writelines(entry(message, from_line) for message in messages)

    def content(self) -> bytes:
        return self.path.read_bytes()


def mbox_bench() -> Bench:
    """An `MboxStore` on files in a temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="trio-pop3-mbox-"))
    users = MemoryBackend()
    users.add_user("alice", "secret")
    users.add_user("bob", "hidden")

    arrivals = itertools.count(1)

    def deliver(user: str, message: bytes) -> None:
        # As in real life, a second for each: two that are equal in this as well are told apart while both are there.
        arrived = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(next(arrivals)))
        if SPLITS.search(message):
            raise ValueError("would be two messages")
        with open(directory / user, "ab") as file:
            file.write(entry(message, f"From sender@example.org {arrived}\n".encode()))

    def reopen() -> Backend:
        return combine(users, MboxStore(str(directory / "{user}")))

    return Bench(
        backend=reopen(), deliver=deliver, reopen=reopen, close=lambda: shutil.rmtree(directory, ignore_errors=True)
    )
