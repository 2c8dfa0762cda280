"""`trio-pop3 deliver` killed, and failed by the kernel, at every call that changes something; strace(1) does it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..interop.server import program

MESSAGE = b"Subject: whole\n\n" + b"x" * 300_000 + b"\nend\n"
# The process ends by itself long before so many of its calls.
MOST_CALLS = 40


def deliver(directory: Path, *inject: str) -> tuple[int, list[Path]]:
    """The exit status, and what is in the Maildir then."""
    command = [sys.executable, "-B", "-m", "trio_pop3", "deliver", str(directory), "alice", "--quota", "10M"]
    strace = [program("strace"), "-f", "-qq", "-o", os.devnull, *inject]
    done = subprocess.run([*strace, *command], input=MESSAGE, capture_output=True, check=False, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr
    maildir = directory / "mail" / "alice"
    return done.returncode, [path for part in ("tmp", "new") for path in (maildir / part).iterdir()]


def empty(files: list[Path]) -> None:
    for path in files:
        path.unlink()


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_killed_at_every_call(directory: Path, call: str) -> None:
    """P1: a message is in new/ whole or not at all, and is there if the exit status said so."""
    for number in range(1, MOST_CALLS):
        status, files = deliver(directory, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
        new = [path for path in files if path.parent.name == "new"]
        assert [path.read_bytes() for path in new] in ([], [MESSAGE])
        if status == 0:
            assert new
            assert number > 1
            return
        assert status in (-9, 128 + 9)
        empty(files)
    raise AssertionError("it never ended by itself")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_failed_at_every_call(directory: Path, call: str, error: int) -> None:
    """P1: nothing is left and the mail system tries again, or it is delivered all the same: a cache was not written."""
    failed = 0
    for number in range(1, MOST_CALLS):
        words = f"inject={call}:error={errno.errorcode[error]}:when={number}"
        status, files = deliver(directory, "-e", f"trace={call}", "-e", words)
        if status == os.EX_OK:
            assert [path.read_bytes() for path in files] == [MESSAGE]
            empty(files)
            if number > 4:
                break
            continue
        assert status == os.EX_TEMPFAIL
        assert files == []
        failed += 1
    assert failed
