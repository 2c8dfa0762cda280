"""What a command says, when nobody can read it."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trio_pop3.cli import main
from trio_pop3.cli.failure import Failure, complain, flush, reason, say

PROGRAM = [sys.executable, "-m", "trio_pop3"]
# As people have it: a failure to write shows when the interpreter ends.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
FULL = "cannot write to standard output: no space left on device"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on device"),
        (OSError("AF_UNIX path too long"), "af_unix path too long"),
        (OSError(), ""),
    ],
)
def test_the_reason_is_never_success(failure: OSError, said: str) -> None:
    """Python's own complaints have no number, and number 0 means that all went well."""
    assert reason(failure) == said
    failure = OSError()
    failure.errno = errno.EIO
    assert reason(failure) == "input/output error"


def shell(redirection: str, *words: object) -> subprocess.CompletedProcess[str]:
    """`trio-pop3 WORDS REDIRECTION`, in a shell."""
    command = ["sh", "-c", f'"$@" {redirection}', "sh", *PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=BUFFERED)


def test_a_full_disk() -> None:
    """One sentence and an exit status; the interpreter has nothing to add."""
    done = shell(">/dev/full", "--version")
    assert (done.returncode, done.stderr) == (1, f"trio-pop3: {FULL}\n")


def test_a_reader_that_has_gone() -> None:
    """The first write meets a pipe that nobody reads from."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, "--help"]
    with open(writer, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED)
    assert (done.returncode, done.stderr) == (1, "trio-pop3: cannot write to standard output: broken pipe\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_that_says_nothing_needs_no_output(directory: Path, closed: str) -> None:
    """As some mail systems call it."""
    words = ("deliver", directory, "alice")
    assert shell(f"{closed} </dev/null", *words).returncode == os.EX_DATAERR
    assert shell(f"{closed} <{directory}/users", *words).returncode == os.EX_OK


@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_the_exit_status_is_right_if_nobody_can_read_why(directory: Path, lost: str) -> None:
    """P1: it is what mail systems go by."""
    assert shell(f"{lost} </dev/null", "deliver", directory, "alice").returncode == os.EX_DATAERR
    assert shell(f"{lost} </dev/null", "deliver", directory, "carol").returncode == os.EX_NOUSER


SAYING = "import sys; from trio_pop3.cli.failure import Failure, say\ntry: say('x' * 10)\nexcept Failure as f: "


@pytest.mark.parametrize(
    ("redirection", "why"),
    [(">/dev/full", FULL), (">&-", "standard output is closed")],
)
def test_what_depends_on_being_read_is_known_to_be_lost(redirection: str, why: str) -> None:
    """P5: a password that nobody has seen."""
    code = f"{SAYING}sys.exit(str(f))"
    command = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"{why}\n")


class Full(io.RawIOBase):
    """A device that takes nothing."""

    def writable(self) -> bool:
        return True

    def write(self, octets: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(Full()), encoding="utf-8")


def test_a_stream_that_has_failed_is_closed_and_failed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the interpreter would try again when it ends."""
    monkeypatch.setattr(sys, "stdout", full())
    with pytest.raises(Failure, match=FULL):
        say("x")
    assert sys.stdout.closed
    flush()
    monkeypatch.setattr(sys, "stdout", None)
    flush()
    with pytest.raises(Failure, match="standard output is closed"):
        say("x")


@pytest.mark.parametrize("err", [None, full()])
def test_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch, err: object) -> None:
    """P1: then the exit status is all there is."""
    monkeypatch.setattr(sys, "stderr", err)
    for _ in range(2):
        complain(Failure("x"))
        assert main(["deliver", "/nonexistent", "../alice"]) == os.EX_NOUSER


@pytest.mark.parametrize(("status", "expected"), [(0, 1), (65, 65), (130, 130)])
def test_what_a_command_has_printed_is_out_before_it_succeeds(
    status: int, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also if the command is stopped; a worse status stays."""

    def prints(arguments: object) -> int:
        print("something")
        if status == 130:
            raise KeyboardInterrupt
        return status

    monkeypatch.setattr("trio_pop3.cli.deliver.run", prints)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full())
        assert main(["deliver", "DIR", "alice"]) == expected
    assert capsys.readouterr().err == f"trio-pop3: {FULL}\n"


def test_what_no_terminal_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    """A file name is any octets."""
    say("/srv/d\udcff é")
    assert capsys.readouterr().out == "/srv/d\\udcff é\n"


def test_a_failure_has_a_status() -> None:
    assert (Failure("x").status, Failure("x", 3).status, str(Failure("x"))) == (1, 3, "x")


def test_a_reader_that_has_enough(directory: Path) -> None:
    """`uidl export | head` is not a failure; the status is that of a program that SIGPIPE ends."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, "uidl", "export", str(directory), "alice"]
    with open(writer, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED)
    assert (done.returncode, done.stderr) == (141, "")
