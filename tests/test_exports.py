"""The public namespaces are exactly what they say."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from inspect import ismodule
from pathlib import Path
from types import ModuleType

import pytest

import trio_pop3
from trio_pop3 import sansio, sasl


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


@pytest.mark.parametrize("package", [sansio, sasl])
def test_exports_of_packages_are_exact(package: ModuleType) -> None:
    assert package.__file__ is not None
    declared = declared_imports(Path(package.__file__))
    for name in declared:
        assert hasattr(package, name)
    public = {name for name, value in vars(package).items() if not name.startswith("_") and not ismodule(value)}
    assert public - {"annotations"} == set(declared)


def test_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("trio-pop3") == trio_pop3.__version__


def run_code(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["sansio", "sasl", "session", "backends.memory"])
def test_importing_the_package_costs_no_trio(module: str) -> None:
    """The core, the mechanisms and the session need the standard library only (P6)."""
    run_code(f"import sys, trio_pop3.{module}; sys.exit('trio' in sys.modules)")


def test_nothing_but_trio_has_to_be_installed() -> None:
    """Every public name loads without the extras, and so do the command and what names them in its errors."""
    run_code(
        "import sys, importlib\n"
        "for name in ('argon2', 'joserfc', 'httpx2', 'cryptography', 'pam'): sys.modules[name] = None\n"
        "import trio_pop3\n"
        "for name in trio_pop3.__all__: getattr(trio_pop3, name)\n"
        "for name in ('cli.serve', 'cli.user', 'auth.pam', 'auth.oauth', 'auth.cache', 'auth.first_of', "
        "'auth.certificates', 'auth.dovecot'): importlib.import_module(f'trio_pop3.{name}')\n"
    )


def test_typed() -> None:
    assert (Path(trio_pop3.__file__).parent / "py.typed").exists()
