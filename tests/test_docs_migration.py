"""The shell commands of docs/migration.md, run by bash, with Maildirs and a server of ours in the places they name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trio_pop3.backends.maildir.uids import parse_map, read_map
from trio_pop3.testing import Pop3TestServer

from .backends.maildir_helpers import Box
from .test_docs import BLOCKS, ROOT

OF_MIGRATION = ("migrate", "ask", "verifyall")
NAME = "1700000001.M1P1.host"


@pytest.fixture
def vhosts(tmp_path: Path) -> Path:
    """Two users with a message each; the first has logged in at a Dovecot."""
    for user in ("alice", "bob"):
        box = Box(tmp_path / "vhosts" / "example.org" / user, "Maildir")
        box.put(NAME, b"Subject: x\nMessage-ID: <x>\n\nbody\n")
    first = tmp_path / "vhosts" / "example.org" / "alice" / "Maildir"
    (first / "dovecot-uidlist").write_text(f"3 V1795462156 N2\n1 :{NAME}\n")
    return tmp_path / "vhosts"


def run(code: str, vhosts: Path, **places: str) -> subprocess.CompletedProcess[str]:
    """Run a block where the names of others stand for ours."""
    for theirs, ours in {"/var/mail/vhosts": str(vhosts), **places}.items():
        assert theirs in code
        code = code.replace(theirs, ours)
    ours = f'trio-pop3() {{ {sys.executable} -m trio_pop3 "$@"; }}\n'
    script = ours.replace("trio-pop3()", "function trio-pop3") + code
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, cwd=vhosts.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    print(done)
    return done


def test_block_migrate_and_verifyall(vhosts: Path) -> None:
    """The second user has nothing to keep, and is written down."""
    said = run(BLOCKS["verifyall"], vhosts)
    assert "1 message would be downloaded again" in said.stdout
    assert (vhosts.parent / "not-verified").read_text().count("\n") == 2
    (vhosts.parent / "not-verified").unlink()
    said = run(BLOCKS["migrate"], vhosts)
    assert "imported 1 unique-id, 1 in all\n" in said.stdout
    assert (vhosts.parent / "not-imported").read_text() == f"{vhosts}/example.org/bob/Maildir\n"
    assert "bob/Maildir/dovecot-uidlist: no such file or directory" in said.stderr
    alice = vhosts / "example.org" / "alice" / "Maildir"
    assert read_map(str(alice).encode()).uids == {NAME.encode(): "000000016b04940c"}
    run(BLOCKS["verifyall"], vhosts)
    assert (vhosts.parent / "not-verified").read_text() == f"{vhosts}/example.org/bob/Maildir\n"


def test_block_ask(vhosts: Path, pop3_server: Pop3TestServer) -> None:
    pop3_server.add_user("alice@example.org", "secret")
    pop3_server.deliver("alice@example.org", b"Subject: x\nMessage-ID: <x>\n\nbody\n")
    (vhosts.parent / "alice.password").write_text("secret\n")
    there = f"{pop3_server.host}:{pop3_server.tls_port} --ca-file {pop3_server.ca_file}"
    done = run(BLOCKS["ask"], vhosts, **{"old.example.org": there})
    assert (done.returncode, done.stderr) == (1, "trio-pop3: 1 message would be downloaded again\n")
    assert f"  {NAME}  00000001 -> {NAME}\n" in done.stdout


def test_the_file_in_the_page_is_one() -> None:
    page = (ROOT / "docs" / "migration.md").read_text()
    [text] = re.findall(r"```\n(trio-pop3 uidl 1\n.*?)```", page, re.DOTALL)
    assert parse_map("page", text.encode()) == {
        b"1700000001.M1P1.host,S=35": "000000016b04940c", b"1700000002.M2P1.host": "UID7-1699999999"
    }  # fmt: skip
