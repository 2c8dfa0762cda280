"""Ten bugs of the kind that POP3 servers really had, each put into a copy of the package, each found by a machine.

`python -m tests.testing.planted` plants every one, or those with a word in their name, and prints the dialogues that
give them away. Each takes 10 to 60 seconds, most of them for making the dialogue short.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[2] / "trio_pop3"

_RUN: Final = (
    "from trio_pop3.testing import *; from trio_pop3.testing.benches import *; found = run_machine({}, seed={}, \
max_examples={}, shrink={}); print(found.message if found else ''); print(found.transcript if found else '')"
)
_SESSION: Final = "machine_for(memory_bench)"
_MAILDIR: Final = "machine_for(maildir_bench)"
_PAIR: Final = "PairMachine"
# Which of them is asked first is chance.
_LISTED: Final = r"must be answered|the reply is|line \d+ is|lines came"


@dataclass(frozen=True, slots=True)
class Bug:
    """What is wrong, where, and which machine finds it."""

    name: str
    file: str
    right: str
    wrong: str
    machine: str = _SESSION
    says: str = field(kw_only=True)  # what the machine says is wrong: the ways in which this bug can be seen
    shows: str = field(kw_only=True)  # what stands in the dialogue, or it cannot have been this bug
    examples: int = 300
    seed: int = 1


BUGS: Final = (
    Bug(
        "off-by-one DELE",
        "snapshot.py",
        "        self._deleted.add(number)\n",
        "        self._deleted.add(max(1, number - 1))\n",
        says=_LISTED,
        shows=r"DELE",
    ),
    Bug(
        "a dot at a chunk edge",
        "sansio/body.py",
        '        if self._at_line_start and stuffed.startswith(b"."):\n',
        '        if self._at_line_start and not self.octets and stuffed.startswith(b"."):\n',
        _PAIR,
        says=r"is no part of Data|the client sees EndOfBody",
        shows=r"S: \.\.",
    ),
    Bug(
        "LIST that counts deleted messages",
        "snapshot.py",
        "        deleted = frozenset(self._deleted)\n",
        "        deleted: frozenset[int] = frozenset()\n",
        says=_LISTED,
        shows=r"DELE",
    ),
    Bug(
        "RSET that forgets one",
        "snapshot.py",
        "        self._deleted.clear()\n        self._deleted_octets = 0\n",
        "        self._deleted = set(sorted(self._deleted)[1:])\n"
        "        self._deleted_octets = sum(self.sizes[number - 1] for number in self._deleted)\n",
        says=_LISTED,
        shows=r"RSET",
    ),
    Bug(
        "a lock that is not released when the client is cut off",
        "session.py",
        '        if maildrop is not None:\n            await self._give_back("release", maildrop.release)\n',
        "        if maildrop is not None and self.ended:\n"
        '            await self._give_back("release", maildrop.release)\n',
        says=r"the login was refused.*IN-USE|PASS .* must be answered",
        shows=r"PASS",
    ),
    Bug(
        "replies out of order under pipelining",
        "sansio/buffer.py",
        "        end = self._data.find(self._line_end, self._scanned)\n",
        "        lines = bytes(self._data[self._start :]).split(b'\\r\\n')\n"
        "        if len(lines) > 4:\n"
        "            lines[2], lines[3] = lines[3], lines[2]\n"
        "            self._data[self._start :] = b'\\r\\n'.join(lines)\n"
        "        end = self._data.find(self._line_end, self._scanned)\n",
        says=_LISTED,
        shows=r"(C\d*: .*\n){4}",
    ),
    Bug(
        "a size without the CRLF that is added",
        "sansio/body.py",
        '        return self.octets if self._last == b"\\n" else self.octets + 2\n',
        "        return self.octets or 2\n",
        says=r"the reply is|line \d+ is|inconsistent maildrop",
        shows=r"PASS",
    ),
    Bug(
        "a UIDL that is another one after the store was reopened",
        "backends/maildir/store.py",
        "        self._pattern: Final = PathPattern(pattern)\n",
        "        self._pattern: Final = PathPattern(pattern)\n"
        "        from . import names, scan\n"
        "        salt = str(id(self)).encode()\n"
        "        scan.unique_id = lambda base: names.hashlib.sha256(salt + base).hexdigest()[:40]  # type: ignore\n",
        _MAILDIR,
        says="has another unique-id now",
        shows=r"UIDL",
    ),
    Bug(
        "a commit that comes after the reply",
        "session.py",
        "            await self._shielded(lambda: maildrop.commit(deleted))\n        except BackendError as failure:\n",
        "            release = maildrop.release\n\n"
        "            async def late() -> None:\n"
        "                try:\n"
        "                    await maildrop.commit(deleted)\n"
        "                finally:\n"
        "                    await release()\n\n"
        "            maildrop.release = late  # type: ignore[method-assign]\n"
        "        except BackendError as failure:\n",
        says="nobody removed is not there",
        shows=r"QUIT",
    ),
    Bug(
        "STLS that keeps what came in clear",
        "sansio/connection.py",
        "            self.discarded += len(self._buffer)\n            self._buffer.clear()\n",
        "            pass\n",
        _PAIR,
        says="more in clear before TLS began",
        shows=r"C: STLS\nC[:>] ",  # a whole command, or octets that are none: which is found first is chance
    ),
)


def plant(bug: Bug | None, directory: Path) -> None:
    """A copy of the package with the bug in it. Raises ValueError if the place for it is not there, once."""
    shutil.copytree(PACKAGE, directory / "trio_pop3", ignore=shutil.ignore_patterns("__pycache__"))
    if bug is None:
        return
    path = directory / "trio_pop3" / bug.file
    text = path.read_text()
    if text.count(bug.right) != 1:
        raise ValueError(f"{bug.file} has {text.count(bug.right)} places for: {bug.name}")
    path.write_text(text.replace(bug.right, bug.wrong))


def hunt(bug: Bug | None, machine: str, *, seed: int, examples: int, shrink: bool) -> str:
    """What a machine says to a copy with this bug in it, in a process of its own; "" if it finds nothing."""
    with tempfile.TemporaryDirectory() as directory:
        plant(bug, Path(directory))
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _RUN.format(machine, seed, examples, shrink)],
            cwd=directory, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    if result.returncode:
        raise RuntimeError(result.stderr)
    return result.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.testing.planted", description=__doc__)
    parser.add_argument("words", metavar="WORD", nargs="*", help=f"of: {'; '.join(bug.name for bug in BUGS)}")
    words = parser.parse_args().words
    chosen = [bug for bug in BUGS if not words or any(word.lower() in bug.name.lower() for word in words)]
    if not chosen:
        parser.error("no bug has such a name; see --help")
    for each in chosen:
        print(f"=== {each.name} ({each.file}), found by {each.machine}\n")
        print(hunt(each, each.machine, seed=each.seed, examples=each.examples, shrink=True) or "NOT FOUND", "\n")


if __name__ == "__main__":
    main()
