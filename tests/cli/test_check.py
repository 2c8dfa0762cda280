"""`trio-pop3 check` as a person runs it, on servers of ours and on the examples."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from trio_pop3 import MemoryBackend, Profile, serve
from trio_pop3.testing import Portal

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MAIL = (b"Subject: 1\n\nbody\n", b".\n..\nline 3\n", b"Subject: 3\n\n" + b"x" * 3000, b"\xfc\n\n\xff\n", b"")
PASSWORD = "hunter2 hunter2"


@contextmanager
def serving(profile: str = "default") -> Iterator[int]:
    backend = MemoryBackend()
    for user, password in (("alice", PASSWORD), ("bob", "hidden")):
        backend.add_user(user, password)
        for message in MAIL:
            backend.deliver(user, message)
    with Portal() as portal:
        (listener,) = portal.start(partial(serve, backend, listen=["127.0.0.1:0"], profile=Profile(profile)))
        yield listener.port


def check(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trio_pop3", "check", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("profile", ["default", "strict"])
@pytest.mark.parametrize("destructive", [True, False])
def test_our_server_passes(profile: str, destructive: bool, tmp_path: Path) -> None:
    """No MUST fails, and no SHOULD either; the password is in none of the outputs (P5)."""
    results, junit = tmp_path / "results.json", tmp_path / "junit.xml"
    with serving(profile) as port:
        more = ["--destructive"] if destructive else []
        result = check(
            f"127.0.0.1:{port}", "--user", "alice", "--password-file", "-", "--second-user", "bob:hidden",
            "--profile", profile, "--seed", "7", "--max-examples", "20", "--json", str(results), "--junit", str(junit),
            *more, stdin=PASSWORD + "\n",
        )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 failed, 0 with a warning," in result.stdout
    for text in (result.stdout, result.stderr, results.read_text(), junit.read_text()):
        assert "hunter2" not in text
        assert "\x1b" not in text
    json.loads(results.read_text())
    assert ElementTree.parse(junit).getroot().iter("testcase")


@pytest.mark.parametrize("example", ["asyncio_server.py", "blocking_server.py"])
def test_the_examples_pass(example: str) -> None:
    """The core and the session under other loops, and under none."""
    assert len((EXAMPLES / example).read_text().splitlines()) < 100
    command = [sys.executable, str(EXAMPLES / example), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().partition("127.0.0.1:")[2].partition(",")[0]
            result = check(f"127.0.0.1:{port}", "--user", "demo", "--password", "secret", "--destructive")
        finally:
            server.kill()
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 failed," in result.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["192.0.2.1:110", "--user", "u", "--password", "p"], "--not-loopback"),
        (["127.0.0.1:1", "--user", "u", "--password", "p"], "cannot connect"),
        (["127.0.0.1:{port}", "--user", "alice", "--password", "wrong"], "refused the login"),
        (["127.0.0.1:{port}", "--user", "alice"], "password"),
    ],
)
def test_nothing_to_check_is_2_and_one_sentence(words: list[str], says: str) -> None:
    with serving() as port:
        result = check(*(word.format(port=port) for word in words))
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_list_needs_no_server() -> None:
    result = check("--list")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) > 100
