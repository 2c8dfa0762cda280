"""`python -m tests.peers.table`: run `trio-pop3 check` on every peer, and print the table of docs/check.md."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from . import PEERS

# Courier takes seconds to answer a wrong password, and asks for ten between logins, without insisting.
_MORE: Final = {"courier": ("--no-wrong-passwords", "--ignore-login-delay")}
# How a server reads lines that are far too long is for its own people to hear first.
_LEFT_OUT: Final = frozenset({"816"})
_SAYS: Final = {"passed": "holds", "failed": "**no**", "warned": "no", "skipped": "-"}


def results(name: str) -> dict[str, Any]:
    """What `trio-pop3 check --json` writes of one peer, checks only."""
    with PEERS[name]() as peer, tempfile.NamedTemporaryFile() as file:
        subprocess.run(
            [
                sys.executable, "-m", "trio_pop3", "check", f"{peer.host}:{peer.port}", "--user", peer.user,
                "--password", peer.password, "--second-user", f"{peer.second_user}:{peer.second_password}",
                "--reset", peer.reset_command, "--destructive", "--max-examples", "0", "--timeout", "3",
                "--json", file.name, *_MORE.get(name, ()),
            ],
            check=False, stdout=subprocess.DEVNULL, timeout=600,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(Path(file.name).read_text())
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The checks that do not hold everywhere, in Markdown, and how many hold."""
    checks = {
        name: {each["number"]: each for each in result["checks"] if each["number"] not in _LEFT_OUT}
        for name, result in found.items()
    }
    lines = [f"| check | level | section | {' | '.join(found)} |", "|---|---|---|" + "---|" * len(found)]
    for number, check in next(iter(checks.values())).items():
        verdicts = [each.get(number, {"verdict": "skipped"})["verdict"] for each in checks.values()]
        if {"failed", "warned"} & {*verdicts}:
            title, level, section = (check[key].replace("|", "\\|") for key in ("title", "level", "section"))
            lines.append(f"| {number} {title} | {level} | {section} | {' | '.join(_SAYS[each] for each in verdicts)} |")
    counts = [[each["verdict"] for each in of.values()] for of in checks.values()]
    for verdict, words in (("passed", "hold"), ("failed", "MUST that do not"), ("warned", "SHOULD that do not")):
        lines.append(f"| **{words}** | | | {' | '.join(str(each.count(verdict)) for each in counts)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table({name: results(name) for name in PEERS}), end="")
