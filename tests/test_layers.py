"""Imports go down only (docs/design.md, "Rooms"). Read from the syntax trees, so that nothing has to be imported."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

import trio_pop3

ROOT = Path(trio_pop3.__file__).parent
PUBLIC = frozenset(trio_pop3.__all__)
MODULES = sorted(ROOT.rglob("*.py"))

# Rooms in the order in which they rest on each other, each with the rooms it may import. A room is the first name below
# the package.
ALLOWED = {
    "_version": set[str](),
    "keys": set[str](),
    "sansio": set[str](),
    "lmtp": {"sansio"},
    "delivery": {"lmtp"},
    "languages": set[str](),
    "surrogate": set[str](),
    "credentials": set[str](),
    "x509": set[str](),
    "sasl": {"credentials", "sansio"},
    "rules": {"keys", "languages", "sansio", "sasl"},
    "backend": {"credentials", "sansio"},
    "replies": {"backend", "sansio"},
    "snapshot": {"backend", "replies", "sansio"},
    "retrieval": {"backend", "replies", "rules", "sansio", "snapshot", "surrogate"},
    "login": {"backend", "credentials", "replies", "rules", "sansio", "sasl"},
    "capabilities": {"backend", "login", "rules", "sansio"},
    "xclient": {"backend"},
    "session": {
        "backend", "capabilities", "languages", "login", "replies", "retrieval", "rules", "sansio", "sasl", "snapshot",
        "xclient",
    },
    "auth": {"backend", "credentials", "keys", "sansio", "sasl"},
    "backends": {"backend", "credentials", "delivery", "lmtp", "sansio", "sasl"},
    "client": {"sansio", "sasl", "x509"},
    "server": {
        "backend", "credentials", "delivery", "languages", "lmtp", "login", "replies", "rules", "sansio", "sasl",
        "session", "x509",
    },
    "migration": {"backends", "client", "sansio"},
    # Stands beside the top: of what is below it sees the public names only.
    "testing": {"client", "sansio", "sasl"},
    "cli": {
        "__version__", "auth", "backend", "backends", "client", "delivery", "migration", "rules", "sasl", "server",
        "testing",
    },
    "__main__": {"cli"},
}  # fmt: skip
# Everything up to the session runs on any loop, or on none.
WITHOUT_TRIO = set(ALLOWED) - {"auth", "backends", "client", "server", "migration", "testing", "cli", "__main__"}
# What is installed with an extra, for the one room that may use it; `trio_pop3` must load without it (test_exports).
EXTRAS = {
    "auth": {"argon2", "cryptography", "httpx2", "joserfc", "pam"},
    "testing": {"hypothesis", "pytest", "trustme"},
}


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
            target, _, inner = rest.partition(".")
            public = room == "testing" and (rest in PUBLIC or (target in ALLOWED[room] and "." not in inner))
            assert target == room or public or (room != "testing" and target in ALLOWED[room]), f"{room}: {name}"
            assert room != "testing" or not inner.startswith("_"), f"{room} must not import {name}"
        elif room in WITHOUT_TRIO:
            assert top in sys.stdlib_module_names, f"{room} must import the standard library only, not {top}"
        elif top not in EXTRAS.get(room, ()):
            assert top in sys.stdlib_module_names or top == "trio", f"{top} is not a dependency of this package"


def test_every_room_has_a_rule() -> None:
    assert {room_of(path) for path in MODULES} - {""} == set(ALLOWED)


def test_no_room_rests_on_itself() -> None:
    """The order of the table is one in which the package could have been built: `auth` knows nothing of `server`."""
    built = {"__version__"}
    for room, below in ALLOWED.items():
        assert below <= built, f"{room} may import {below - built}, which rests on it"
        built.add(room)


def test_no_rule_is_looser_than_it_has_to_be() -> None:
    """What is allowed is used, so that a shortcut does not go unnoticed; `later` is allowed, and not used yet."""
    used: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for path in MODULES:
        if room := room_of(path):
            inside = (name.split(".")[1] for name in imports(path) if name.startswith("trio_pop3."))
            used[room].update(set(inside) - {room} - (PUBLIC if room == "testing" else set()))
    later = {"auth": {"sansio", "sasl"}, "cli": {"client", "testing"}, "testing": {"client", "sasl"}}
    assert {room: below - later.get(room, set()) for room, below in ALLOWED.items()} == {
        room: below - later.get(room, set()) for room, below in used.items()
    }


def test_the_extras_are_those_of_the_package() -> None:
    """Named in the error that says how to get them, and in the metadata."""
    text = " ".join(importlib.metadata.requires("trio-pop3") or ())
    assert all(extra in text for extra in ("argon2-cffi", "joserfc", "httpx2", "python-pam"))
    assert [line for line in importlib.metadata.requires("trio-pop3") or () if "extra ==" not in line] == ["trio>=0.27"]


def test_files_stay_readable() -> None:
    """A file that outgrows about 500 lines is split by meaning."""
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 520}
    assert not long
