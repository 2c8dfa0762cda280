"""Commits and expiring logins, cut or failed at every call into the system.

`python -m tests.backends.commit_sweep DIR CASE`: a process of its own, without threads, that forks one for each call.
What that one leaves behind is looked at by its parent. Prints how many were tried; AssertionError says what was broken.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from trio_pop3.backend import Combined
from trio_pop3.backends.maildir.origin import trashed

from ..driving import Dialogue
from .maildir_helpers import Box, Users, uids

A, B, C = NAMES = ["1700000001.a", "1700000002.b", "1700000003.c"]
CONTENT: Final = {name: f"Subject: {name}\n\nbody\n".encode() for name in NAMES}
OF_THE_INBOX: Final = b"of the inbox"
# Every call of `os` that a commit or a login makes, but close, which cannot fail and leave a file open.
CALLS: Final = (
    *("open", "rename", "unlink", "fsync", "write", "pwrite", "mkdir", "fchmod", "ftruncate"),
    *("listdir", "stat", "lstat", "fstat"),
)
_MORE_THAN_ENOUGH: Final = 400


@dataclass(frozen=True)
class Case:
    """Options of the store, and what is done: DELE and QUIT, or a login at which two messages are due.

    folder: in the folder Junk, and not in the inbox.
    """

    options: dict[str, Any]
    expires: bool = False
    folder: bool = False

    def backend(self, box: Box, *, journal: bool = True) -> Any:
        extra = {"journal": box.root / "journal"} if journal else {}
        backend = box.backend(**self.options, **extra)
        return Combined(Users(), backend.folder("Junk")) if self.folder else backend


CASES: Final = {
    "unlink": Case({"deletion": "unlink"}),
    "trash": Case({"deletion": "trash", "trash_days": 7}),
    "folder": Case({"deletion": "trash"}, folder=True),
    "flag": Case({"deletion": "flag"}),
    "hide": Case({"deletion": "hide"}),
    "retrieve": Case({"expire": 7}),
    "expire": Case({"expire": 7}, expires=True),
    "expire to trash": Case({"expire": 7, "deletion": "trash"}, expires=True),
    "expire and hide": Case({"expire": 7, "deletion": "hide"}, expires=True),
}


class Trap:
    """Counts calls, and springs at one of them."""

    def __init__(self, nth: int, spring: Callable[[], None]) -> None:
        self.left = nth
        self.spring = spring

    def set(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(getattr(os, name)))
        setattr(fcntl, "flock", self._wrapped(fcntl.flock))  # noqa: B010 - mypy

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.spring()
            return real(*arguments, **options)

        return call


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(error: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(error, os.strerror(error))

    return fail


def fresh(root: Path, case: Case) -> Box:
    shutil.rmtree(root, ignore_errors=True)
    box = Box(root)
    where = Box(box.path, ".Junk") if case.folder else box
    for name, content in CONTENT.items():
        where.put(name, content)
    if case.folder:
        # One that was there before is not forgotten, and one whose name another has there gets a new one.
        trash = Box(box.path, ".Trash")
        trash.put("1600000000.earlier", part="cur")
        trash.put(f"{A}:2,S", OF_THE_INBOX, part="cur")
        (where.path / ".trio-pop3.trashed").write_text("1600000000.earlier\n1600000000.gone\n")
    if case.options.get("deletion") == "hide":
        box.put("1600000000.hidden")
        (box.path / ".trio-pop3.hidden").write_text("1600000000.hidden 1600000001\n")
    if case.expires:
        lines = "".join(f"{name} {int(time.time()) - 8 * 86400}\n" for name in (A, B))
        (box.path / ".trio-pop3.retrieved").write_text(lines)
    return box


def act(box: Box, case: Case, trap: Trap) -> bytes:
    """The reply to the login, or to QUIT, during which the trap is set."""
    dialogue = Dialogue(case.backend(box))
    if case.expires:
        trap.set()
        return dialogue.login()
    assert dialogue.login().startswith(b"+OK")
    dialogue.send(b"RETR 3\r\nDELE 1\r\nDELE 2\r\n")
    trap.set()
    return dialogue.ask("QUIT")


def forked(box: Box, case: Case, trap: Trap) -> tuple[bool, bytes]:
    """Whether a process of its own came to the end of it, and the reply it got."""
    reader, writer = os.pipe()
    write = os.write
    child = os.fork()
    if child == 0:
        status = 1
        try:
            reply = act(box, case, trap)
            write(writer, b"%d " % (trap.left > 0) + reply)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as said:
        answer = said.read()
    _, how = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(how) in (0, -signal.SIGKILL), "something else was raised"
    untouched, _, reply = answer.partition(b" ")
    return untouched == b"1", reply


def check(box: Box, case: Case, reply: bytes) -> None:
    """What must be true whatever happened."""
    if case.folder:
        check_origin(box)
    found = {path.read_bytes() for path in box.path.rglob("17*")} - {OF_THE_INBOX}
    assert found <= set(CONTENT.values()), "a message is not whole"
    held = [name for name in NAMES if CONTENT[name] in found]
    assert C in held, "a message that nobody marked is gone"
    deletion = case.options.get("deletion", "unlink")
    assert deletion == "unlink" or len(held) == 3, "a message is neither in the maildrop nor where it was moved to"
    plain = Dialogue(replace(case, options={**case.options, "expire": None}).backend(box, journal=False))
    assert plain.login().startswith(b"+OK"), "nobody can log in any more"
    shown = uids(plain)
    assert [name for name in shown if name in NAMES] == shown == sorted(shown), (
        "a unique-id has changed, or what was hidden is back"
    )
    assert C in shown
    gone = {A, B} - set(shown)
    recorded = {line.split()[5][4:] for line in _read(box.root / "journal").splitlines() if len(line.split()) >= 7}
    assert gone <= recorded, "something was removed that the journal does not have"
    if not case.expires:
        assert not reply.startswith(b"+OK") or gone == {A, B}, "+OK, and something is still there"
        assert gone != {A, B} or not reply.startswith(b"-ERR") or b"2 deleted" in reply, "a wrong count"
    numbers = b"".join(b"DELE %d\r\n" % number for number, name in enumerate(shown, 1) if name != C)
    assert plain.send(numbers + b"QUIT\r\n").endswith(b"+OK goodbye\r\n"), "it cannot be done again"
    last = Dialogue(case.backend(box))
    assert last.login().startswith(b"+OK")
    assert uids(last) == [C]
    last.close()
    left = [path.name for path in box.path.rglob("*.tmp")]
    assert not left or not reply, f"left behind: {left}"


def check_origin(box: Box) -> None:
    """What is in the trash goes back to where it came from."""
    names = {path.name.partition(":")[0]: path for path in (box.path / ".Trash").glob("*/1*")}
    remembered = {base.decode() for base in trashed(os.fsencode(box.path / ".Junk"))}
    assert names.pop(A).read_bytes() == OF_THE_INBOX
    assert A not in remembered, "it would go to a folder where it never was"
    assert names.keys() <= remembered, "it would go to the inbox where it never was"
    assert "1600000000.earlier" in remembered


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main() -> None:
    """One case: killed at each call, and each call failing in two ways."""
    root, case = Path(sys.argv[1]), CASES[sys.argv[2]]
    tried = 0
    for spring in (die, failing(errno.ENOSPC), failing(errno.EIO)):
        for nth in range(1, _MORE_THAN_ENOUGH):
            box = fresh(root, case)
            untouched, reply = forked(box, case, Trap(nth, spring))
            try:
                check(box, case, reply)
            except AssertionError as broken:
                raise AssertionError(f"{sys.argv[2]}, {spring.__qualname__} at call {nth}: {broken}") from broken
            if untouched:
                break
            tried += 1
        else:
            raise AssertionError("it makes calls without end")
    print(tried)


if __name__ == "__main__":
    main()
