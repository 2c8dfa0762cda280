"""Imports go down only (docs/design.md, "Rooms"). Read from the syntax trees, so that nothing has to be imported."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import trio_pop3

ROOT = Path(trio_pop3.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# room -> rooms it may import; a room is the first name below the package
ALLOWED = {
    "sansio": set[str](),
    "backend": {"sansio"},
    "replies": {"sansio", "backend"},
    "session": {"sansio", "backend", "replies"},
    "auth": {"sansio", "backend"},
    "backends": {"sansio", "backend"},
    "server": {"sansio", "backend", "replies", "session"},
    "client": {"sansio", "backend"},
    "cli": {"sansio", "backend", "session", "auth", "backends", "server", "client", "__version__"},
    "__main__": {"cli"},
    "_version": set[str](),
}
WITHOUT_TRIO = {"sansio", "backend", "replies", "session", "_version"}


def room_of(path: Path) -> str:
    """The room a file belongs to; "" for the top-level namespace."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> set[str]:
    """Absolute names of everything a file imports, wherever in the file."""
    package = ("trio_pop3", *path.relative_to(ROOT).parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{stem}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    if not room:
        return  # the namespace may name everything; test_exports holds it
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "trio_pop3":
            target = rest.partition(".")[0]
            assert target == room or target in ALLOWED[room], f"{room} must not import {target}"
        elif room in WITHOUT_TRIO:
            assert top in sys.stdlib_module_names, f"{room} must import the standard library only, not {top}"
        else:
            assert top in sys.stdlib_module_names or top == "trio", f"{top} is not a dependency of this package"


def test_every_room_has_a_rule() -> None:
    assert {room_of(path) for path in MODULES} - {""} == set(ALLOWED)


def test_files_stay_readable() -> None:
    """A file that outgrows about 500 lines is split by meaning."""
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 520}
    assert not long
