"""The code of docs/testing.md, run by pytest as a reader would."""

from __future__ import annotations

import pytest

from .test_docs import BLOCKS

pytest_plugins = ["pytester"]

OF_PYTEST = ("clienttest", "faults", "backendtest", "replay")


@pytest.mark.parametrize("name", OF_PYTEST)
def test_block(name: str, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(BLOCKS[name])
    result = pytester.runpytest_subprocess("-q", "-W", "error", "-p", "no:cacheprovider", path)
    assert result.ret == 0, result.stdout.str()


def test_two_servers_with_nothing_to_find(pytester: pytest.Pytester) -> None:
    result = pytester.runpython(pytester.makepyfile(BLOCKS["servertest"]))
    assert result.outlines == ["None", "None"]


def test_a_client_test_takes_five_lines_and_no_trio() -> None:
    code = BLOCKS["clienttest"]
    assert "trio" not in code
    assert len([line for line in code.splitlines() if line.startswith("    ")]) <= 7
