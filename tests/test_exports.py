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
from trio_pop3 import lmtp, sansio, sasl, testing


def declared_imports(path: Path) -> dict[str, str]:
    """`name -> home` of every `from .home import name as name` in a file."""
    return {
        alias.name: node.module or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.asname == alias.name
    }


@pytest.mark.parametrize("package", [trio_pop3, testing])
def test_lazy_names_and_typed_names_are_the_same(package: ModuleType) -> None:
    assert package.__file__ is not None
    declared = declared_imports(Path(package.__file__))
    if package is trio_pop3:
        assert declared.pop("__version__") == "_version"
    assert declared == package._HOMES
    assert {*package.__all__} - {"__version__"} == {*declared}


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in (trio_pop3, testing) for name in package.__all__]
)
def test_every_public_name_loads(package: ModuleType, name: str) -> None:
    value = getattr(package, name)
    assert value is not None
    assert name in dir(package)
    assert getattr(package, name) is value


@pytest.mark.parametrize("package", [trio_pop3, testing])
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'no_such_name'"):
        package.no_such_name  # noqa: B018


@pytest.mark.parametrize("package", [lmtp, sansio, sasl])
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


@pytest.mark.parametrize("module", ["sansio", "lmtp", "delivery", "sasl", "session", "backends.memory"])
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


HEAVY = ("hypothesis", "pytest", "trustme", "trio", "ssl")


def loaded_by(code: str) -> set[str]:
    """Which of the heavy ones code has imported, in a process of its own."""
    code = f"import sys\n{code}\nprint(*({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_harness_costs_nothing_until_a_name_is_used() -> None:
    assert loaded_by("import trio_pop3.testing, trio_pop3.testing as t; dir(t); t.__all__") == set()
    assert loaded_by("from trio_pop3.testing import Transcript, Dialect, replay") <= {"ssl", "trio"}
    assert loaded_by("from trio_pop3.testing import Transcript") == set()
    assert loaded_by("from trio_pop3.testing import ModelSession, canonical") <= {"ssl", "trio"}
    assert "hypothesis" in loaded_by("from trio_pop3.testing import messages")


@pytest.mark.parametrize("name", ["machine_for", "messages", "differential", "CoreMachine"])
def test_what_needs_an_extra_says_so_when_it_is_asked_for(name: str) -> None:
    run_code(
        "import sys, pytest\n"
        "sys.modules['hypothesis'] = None\n"
        "import trio_pop3.testing as t\n"
        "t.Transcript, t.Portal, t.replay, t.ModelSession\n"
        f"needed = r'testing.{name} needs hypothesis: pip install .trio-pop3.testing..'\n"
        "with pytest.raises(ImportError, match=needed):\n"
        f"    t.{name}\n"
    )


def test_a_module_that_is_broken_is_not_a_missing_extra() -> None:
    run_code(
        "import sys, pytest\n"
        "sys.modules['trio'] = None\n"
        "import trio_pop3.testing as t\n"
        "with pytest.raises(ImportError) as caught: t.Portal\n"
        "assert 'pip install' not in str(caught.value)\n"
    )


def test_typed() -> None:
    assert (Path(trio_pop3.__file__).parent / "py.typed").exists()
