"""The public namespaces are exactly what they say."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import trio_pop3
from trio_pop3 import sansio


def declared_imports(path: Path) -> dict[str, str]:
    """`name -> home` of every `from .home import name as name` in a file."""
    return {
        alias.name: node.module or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.asname == alias.name
    }


def test_lazy_names_and_typed_names_are_the_same() -> None:
    declared = declared_imports(Path(trio_pop3.__file__))
    assert declared.pop("__version__") == "_version"
    assert declared == trio_pop3._HOMES


@pytest.mark.parametrize("name", trio_pop3.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(trio_pop3, name) is not None
    assert name in dir(trio_pop3)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        trio_pop3.no_such_name  # noqa: B018


def test_sansio_exports_are_exact() -> None:
    declared = declared_imports(Path(sansio.__file__))
    public = {name for name in vars(sansio) if not name.startswith("_")}
    modules = {path.stem for path in Path(sansio.__file__).parent.glob("*.py")}
    assert public - modules - {"annotations"} == set(declared)


def test_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("trio-pop3") == trio_pop3.__version__


def test_importing_the_package_costs_no_trio() -> None:
    """`import trio_pop3.sansio` needs the standard library only."""
    code = "import sys, trio_pop3.sansio; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_typed() -> None:
    assert (Path(trio_pop3.__file__).parent / "py.typed").exists()
