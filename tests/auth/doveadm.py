"""Dovecot's own hashing, run as `doveadm pw`. Needs dovecot-core; a test that finds it missing fails."""

from __future__ import annotations

import subprocess
from pathlib import Path


def hashed(scheme: str, password: str, home: Path) -> str:
    """`{SCHEME}...`, made by Dovecot."""
    return _run(home, "-s", scheme, "-p", password)


def accepts(stored: str, password: str, home: Path) -> bool:
    """Whether Dovecot says that this is that password's."""
    try:
        return _run(home, "-t", stored, "-p", password).endswith("(verified)")
    except subprocess.CalledProcessError:
        return False


def _run(home: Path, *arguments: str) -> str:
    # An own configuration: what the machine's Dovecot is set up for is nothing to us.
    configuration = home / "dovecot.conf"
    configuration.write_text("ssl = no\nstats_writer_socket_path =\n")
    command = ["doveadm", "-c", str(configuration), "pw", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
