"""Nothing is lost, nothing false is said: killed, or failed, at every call that a commit or an expiring login makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .commit_sweep import CASES


@pytest.mark.parametrize("case", CASES)
def test_at_every_call(tmp_path: Path, case: str) -> None:
    """P1, P3, E2, E6, I7: every message whole or, if marked, gone; uids the same; the next login works; the journal has
    what is gone; the reply is true; and it can be done again.
    """
    command = [sys.executable, "-m", "tests.backends.commit_sweep", str(tmp_path / "box"), case]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
