"""docs/rfc.md: every requirement, and the tests that prove it or the reason why there is none.

`python -m tests.test_rfc` writes the last column anew from the names and docstrings of the tests; reasons stay.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "rfc.md"
ROW = re.compile(r"\| (?P<id>R[0-9A-Z]+-[0-9]+) \| (?P<rest>.*) \| (?P<where>[^|]*) \|")
# `R5034-05..12`, `R2449-09, 13, 14` and `R5034-01, -02` name several.
MENTION = re.compile(
    r"\b(R(?:[0-9]{4}|EXT|XOA|LOG|PRX|XCL|LST))-([0-9]{2}(?:(?:\.\.|, -?| and )[0-9]{2}\b(?![-./:]))*)"
)


def ids_in(text: str) -> Iterator[str]:
    """The requirement ids that a text names."""
    for document, numbers in MENTION.findall(text):
        for part in re.split(r", -?| and ", numbers):
            first, _, last = part.partition("..")
            for number in range(int(first), int(last or first) + 1):
                yield f"{document}-{number:02}"


def proofs() -> dict[str, list[str]]:
    """Requirement id -> the test modules that name it: in a docstring of a test, or beside a row of its parameters."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text()
        texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
        comments = re.findall(r"#.*", source)
        for text in (*texts, *comments):
            if isinstance(text, str):
                for name in ids_in(text):
                    found[name].add(path.relative_to(TESTS).as_posix())
    return {name: sorted(modules) for name, modules in found.items()}


def rows() -> dict[str, str]:
    """Requirement id -> the last column of the page."""
    return {match["id"]: match["where"] for match in ROW.finditer(PAGE.read_text())}


def shown(modules: list[str]) -> str:
    """The last column of a row that is proven: at most three modules, the most telling name first."""
    return ", ".join(f"`{module.removesuffix('.py').removeprefix('test_')}`" for module in modules[:3])


def test_every_requirement_is_proven_or_explained() -> None:
    """Each row names the tests there are, or says why there is none."""
    proven, page = proofs(), rows()
    wrong = {name: where for name, where in page.items() if name in proven and where != shown(proven[name])}
    assert not wrong, "run python -m tests.test_rfc"
    silent = [name for name, where in page.items() if name not in proven and (len(where) < 12 or "`" in where)]
    assert not silent, "neither a test nor a reason"


def test_no_test_names_a_requirement_that_is_not_there() -> None:
    assert not sorted(set(proofs()) - set(rows()))


def main() -> None:
    """Write the page's last column."""
    proven = proofs()

    def written(match: re.Match[str]) -> str:
        name, where = match["id"], match["where"]
        if name in proven:
            where = shown(proven[name])
        elif "`" in where:
            where = ""
        return f"| {name} | {match['rest']} | {where} |"

    PAGE.write_text(ROW.sub(written, PAGE.read_text()))
    print("\n".join(name for name, where in rows().items() if not where.strip()))


if __name__ == "__main__":
    main()
