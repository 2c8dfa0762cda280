"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import Command


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)


@pytest.fixture
def directory(command: Command, tmp_path: Path) -> Path:
    """A served directory with one user, alice."""
    path = tmp_path / "served"
    path.mkdir()
    assert command("user", "add", path, "alice", "--scheme", "PLAIN", stdin=b"secret\n").status == 0
    return path
