"""`trio-pop3 deliver`: exit statuses are what Postfix and Exim go by."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trio_pop3.cli import deliver as module

from .command import Command


def held(directory: Path) -> list[bytes]:
    assert list((directory / "mail" / "alice" / "tmp").iterdir()) == []
    return [path.read_bytes() for path in (directory / "mail" / "alice" / "new").iterdir()]


@pytest.mark.parametrize(
    ("stdin", "stored"),
    [
        (b"Subject: x\n\n.\n", b"Subject: x\n\n.\n"),
        (b"From bob Tue Nov 24 12:00:00 2026\nSubject: x\n", b"Subject: x\n"),
        (b"From: bob\n", b"From: bob\n"),
        (b"\0\xff\r\r\n", b"\0\xff\r\r\n"),
        (b"x" * 1_000_000, b"x" * 1_000_000),
        (b"From " + b"x" * 300_000 + b"\nSubject: x\n", b"Subject: x\n"),
    ],
)
def test_delivered_to_the_octet(command: Command, directory: Path, stdin: bytes, stored: bytes) -> None:
    outcome = command("deliver", directory, "alice", stdin=stdin)
    assert outcome.status == os.EX_OK, outcome.err
    assert held(directory) == [stored]


@pytest.mark.parametrize("stdin", [b"", b"From bob\n"])
def test_no_message(command: Command, directory: Path, stdin: bytes) -> None:
    assert command("deliver", directory, "alice", stdin=stdin).status == os.EX_DATAERR
    assert held(directory) == []


@pytest.mark.parametrize("name", ["carol", "../alice", "a/b", ""])
def test_no_such_user(command: Command, directory: Path, name: str) -> None:
    assert command("deliver", directory, name, stdin=b"x\n").status == os.EX_NOUSER
    assert held(directory) == []


def test_no_directory(command: Command, tmp_path: Path) -> None:
    assert command("deliver", tmp_path / "missing", "alice", stdin=b"x\n").status == os.EX_CONFIG


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, os.EX_TEMPFAIL), (errno.EDQUOT, os.EX_TEMPFAIL), (errno.EIO, os.EX_IOERR),
        (errno.EACCES, os.EX_NOPERM), (errno.EROFS, os.EX_CANTCREAT), (errno.ENOENT, os.EX_CANTCREAT),
    ],
)  # fmt: skip
def test_what_the_system_says(
    command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "deliver", fail)
    outcome = command("deliver", directory, "alice", stdin=b"x\n")
    assert outcome.status == status
    assert os.strerror(number).lower() in outcome.err


def test_a_full_disk_leaves_nothing(directory: Path) -> None:
    """A real one: the file size limit of the process."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from trio_pop3.cli import main; sys.exit(main(['deliver', sys.argv[1], 'alice']))"
    )
    done = subprocess.run([sys.executable, "-c", code, directory], input=b"x" * 5000, capture_output=True, check=False)
    assert done.returncode == os.EX_TEMPFAIL, done.stderr
    assert held(directory) == []
