"""The machines find what they are for: ten bugs, each planted into a copy of the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .planted import BUGS, Bug, hunt, plant


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_found(bug: Bug) -> None:
    """A1, A2, A14, B1, C2, D5, E2, E4, F2, G1, I4: with the dialogue that gives it away."""
    said = hunt(bug, bug.machine, seed=bug.seed, examples=bug.examples, shrink=False)
    assert said, f"{bug.machine} found nothing"
    assert re.search(bug.says, said.splitlines()[0])
    assert re.search(bug.shows, said.partition("\n")[2])
    assert re.search(r"^S\d*: \+OK", said, re.MULTILINE)
    assert re.search(r"^C\d*: ", said, re.MULTILINE)


@pytest.mark.parametrize("machine", sorted({bug.machine for bug in BUGS}))
def test_nothing_is_found_where_nothing_is_planted(machine: str) -> None:
    assert hunt(None, machine, seed=1, examples=100, shrink=False) == ""


def test_a_bug_that_has_no_place_is_noticed(tmp_path: Path) -> None:
    """The copy would be the package as it is, and the machine would rightly find nothing."""
    with pytest.raises(ValueError, match=r"session\.py has 0 places for: nowhere"):
        plant(Bug("nowhere", "session.py", "no such line\n", "", says="", shows=""), tmp_path)
