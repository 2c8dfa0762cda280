"""`trio-pop3 deliver`: exit statuses are what Postfix and Exim go by. Any but 75 sends the message back."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.backends.maildir import make_maildir
from trio_pop3.cli import deliver as module
from trio_pop3.cli import main
from trio_pop3.cli.failure import Failure

from .command import Command

PROGRAM = [sys.executable, "-m", "trio_pop3", "deliver"]


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


# --- what trying again cannot change ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stdin", [b"", b"From bob\n"])
def test_no_message(command: Command, directory: Path, stdin: bytes) -> None:
    assert command("deliver", directory, "alice", stdin=stdin).status == os.EX_DATAERR
    assert held(directory) == []


def test_standard_input_is_closed(directory: Path) -> None:
    """As `<&-` leaves it: a sentence, and nothing in tmp/."""
    closed = ["sh", "-c", 'exec "$@" <&-', "sh"]
    done = subprocess.run([*closed, *PROGRAM, directory, "alice"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert done.stderr == "trio-pop3: there is no message, standard input is closed\n"
    assert held(directory) == []
    with pytest.raises(Failure, match="standard input is closed"):
        next(module.message(None))


@pytest.mark.parametrize("name", ["carol", "../alice", "a/b", ""])
def test_no_such_user(command: Command, directory: Path, name: str) -> None:
    assert command("deliver", directory, name, stdin=b"x\n").status == os.EX_NOUSER
    assert held(directory) == []


@pytest.mark.parametrize("words", [["DIR", "alice", "bob"], ["DIR", "alice", "--nonsense"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deliver", *words]) == os.EX_USAGE
    said = capsys.readouterr().err
    assert said == f"trio-pop3: unrecognized arguments: {words[-1]}; see `trio-pop3 deliver --help`\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "name a DIR"),
        (["DIR", "alice", "--maildir", "/m/{user}"], "name a DIR"),
        (["DIR"], "one recipient at a time"),
        (["DIR", "alice", "-d", "alice"], "one recipient at a time"),
        (["DIR", "-d", "alice", "-d", "bob"], "one recipient at a time"),
        (["DIR", "-d", "alice", "--passwd-file", "u"], "DIR has its own"),
        (["DIR", "alice", "-f", "a\nSubject: x"], "not an address"),
        (["DIR", "alice", "-f", "<a>"], "not an address"),
        (["--maildir", "/var/mail", "-d", "a@b"], "a path pattern holds"),
        (["DIR", "alice", "--quota-bounce"], "--quota-bounce needs --quota"),
        (["DIR", "alice", "--quota", "much"], "--quota is a number of octets"),
    ],
)
def test_words_in_a_muddle(command: Command, directory: Path, words: list[str], why: str) -> None:
    """One exit status cannot tell of several recipients; and nothing that a sender is called makes another header."""
    outcome = command("deliver", *[directory if word == "DIR" else word for word in words], stdin=b"x\n")
    assert outcome.status == os.EX_USAGE
    assert why in outcome.err
    assert held(directory) == []


# --- as mail systems call it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        (["-d", "alice"], b"Delivered-To: alice\nx\n"),
        (["alice", "-f", "bob@b.org"], b"Return-Path: <bob@b.org>\nx\n"),
        (["-d", "alice", "-f", ""], b"Return-Path: <>\nDelivered-To: alice\nx\n"),
        (["-d", "ALICE@x.org", "--local-part"], b"Delivered-To: ALICE@x.org\nx\n"),
        (["-d", "alice+a@x", "--local-part", "--extension-separator", "+"], b"Delivered-To: alice+a@x\nx\n"),
    ],
)
def test_envelope_and_recipient(command: Command, directory: Path, words: list[str], stored: bytes) -> None:
    outcome = command("deliver", directory, *words, stdin=b"From bob Tue Nov 24 12:00:00 2026\nx\n")
    assert outcome.status == os.EX_OK, outcome.err
    assert held(directory) == [stored]


def test_envelope_in_the_environment(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("deliver", directory, "--environment")
    assert command(*words, stdin=b"x\n").status == os.EX_USAGE
    monkeypatch.setenv("RECIPIENT", "alice")
    monkeypatch.setenv("SENDER", "")
    assert command(*words, "-d", "alice", stdin=b"x\n").status == os.EX_USAGE
    assert command(*words, stdin=b"x\n").status == os.EX_OK
    assert held(directory) == [b"Return-Path: <>\nDelivered-To: alice\nx\n"]


@pytest.mark.parametrize("address", ["alice@x.org", "alice+a", "carol", "not an address", "", "../alice"])
def test_an_address_nobody_has(command: Command, directory: Path, address: str) -> None:
    """What goes back to a stranger does not tell where our mail is."""
    outcome = command("deliver", directory, "-d", address, stdin=b"x\n")
    assert outcome.status == os.EX_NOUSER
    assert str(directory) not in outcome.err
    assert held(directory) == []


def test_the_other_layout(command: Command, tmp_path: Path) -> None:
    """--maildir with users that are listed; and without: who has no Maildir is not sent back, it may not be mounted."""
    make_maildir(tmp_path / "x.org" / "alice")
    users = tmp_path / "users"
    users.write_text("alice@x.org:{PLAIN}secret\ncarol@x.org:{PLAIN}secret\n")
    pattern = f"{tmp_path}/{{domain}}/{{local}}"
    free = ("deliver", "--maildir", pattern, "-d")
    listed = (*free[:-1], "--passwd-file", users, "-d")
    statuses = {
        (listed, "alice@X.org"): os.EX_OK,
        (listed, "bob@x.org"): os.EX_NOUSER,
        (listed, "carol@x.org"): os.EX_TEMPFAIL,
        (free, "Alice@x.org"): os.EX_OK,
        (free, "bob@x.org"): os.EX_TEMPFAIL,
        (free, "../x@x.org"): os.EX_NOUSER,
        (free[:-1], "alice@x.org"): os.EX_OK,
        (free[:-1], "bob@x.org"): os.EX_TEMPFAIL,
        (free[:-1], "../x@x.org"): os.EX_NOUSER,
        (listed[:-1], "bob@x.org"): os.EX_NOUSER,
    }
    for (words, address), status in statuses.items():
        assert command(*words, address, stdin=b"x\n").status == status, address
    stored = [path.read_bytes() for path in (tmp_path / "x.org" / "alice" / "new").iterdir()]
    assert sorted(stored) == [
        b"Delivered-To: Alice@x.org\nx\n", b"Delivered-To: alice@X.org\nx\n", b"x\n"
    ]  # fmt: skip


def test_a_full_mailbox(command: Command, directory: Path) -> None:
    """Not sent back, unless that is wanted."""
    assert command("deliver", directory, "alice", "--quota", "1K", stdin=b"x" * 1024).status == os.EX_OK
    for words, status in ((), os.EX_TEMPFAIL), (("--quota-bounce",), os.EX_NOPERM):
        outcome = command("deliver", directory, "-d", "alice", "--quota", "1K", *words, stdin=b"x")
        assert outcome.status == status
        assert len(held(directory)) == 1


def test_an_empty_users_file_sends_nothing_back(command: Command, directory: Path) -> None:
    """P1: it is what one looks like that is being written."""
    (directory / "users").write_text("")
    for words in (["alice"], ["-d", "alice"]):
        assert command("deliver", directory, *words, stdin=b"x\n").status == os.EX_TEMPFAIL


def test_help_is_no_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deliver", "--help"]) == os.EX_OK
    assert "67 no such user" in capsys.readouterr().out


# --- what can be mended while the message waits ----------------------------------------------------------------------


def no_directory(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def not_mounted(directory: Path) -> None:
    shutil.rmtree(directory / "mail")
    (directory / "mail").mkdir()


def half_a_maildir(directory: Path) -> None:
    (directory / "mail" / "alice" / "new").rmdir()


def no_maildir_but_a_file(directory: Path) -> None:
    shutil.rmtree(directory / "mail" / "alice")
    (directory / "mail" / "alice").write_text("From mbox\n")


def bad_users(directory: Path) -> None:
    (directory / "users").write_text("alice:{PLAIN}secret\nnonsense\n")


def no_users(directory: Path) -> None:
    (directory / "users").unlink()


BREAKS = [no_directory, not_mounted, half_a_maildir, no_maildir_but_a_file, bad_users, no_users]


@pytest.mark.parametrize("breaks", BREAKS)
def test_what_an_administrator_can_mend_costs_no_mail(
    command: Command, directory: Path, breaks: Callable[[Path], None]
) -> None:
    """P1: the mail system keeps the message and tries again."""
    breaks(directory)
    assert command("deliver", directory, "alice", stdin=b"x\n").status == os.EX_TEMPFAIL


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT]
)
def test_what_the_system_says(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """P1: of the message, and of the users file."""

    def fail(*_: object) -> Any:
        raise OSError(number, os.strerror(number))

    for name in ("deliver", "open_users"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            outcome = command("deliver", directory, "alice", stdin=b"x\n")
        assert outcome.status == os.EX_TEMPFAIL
        assert os.strerror(number).lower() in outcome.err


def test_a_fault_of_ours_costs_no_mail(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: Python's own status would send the message back."""

    def fail(*_: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(module, "deliver", fail)
    outcome = command("deliver", directory, "alice", stdin=b"x\n")
    assert (outcome.status, "ValueError: a mistake" in outcome.err) == (os.EX_TEMPFAIL, True)


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


# --- signals ---------------------------------------------------------------------------------------------------------


def begun(directory: Path, *prefix: str) -> subprocess.Popen[bytes]:
    """A delivery that has taken a part of the message: more than fits into a pipe, so it is reading."""
    process = subprocess.Popen(
        [*prefix, *PROGRAM, directory, "alice"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"x" * 600_000)
    process.stdin.flush()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_interrupted_it_leaves_nothing(directory: Path, number: signal.Signals) -> None:
    """P1: and the sender tries again."""
    with begun(directory) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.decode()) == (
        os.EX_TEMPFAIL, f"trio-pop3: interrupted by {number.name}, nothing is delivered\n"
    )  # fmt: skip
    assert held(directory) == []


def test_a_signal_that_was_to_be_ignored_is(directory: Path) -> None:
    """As under nohup(1)."""
    with begun(directory, "sh", "-c", "trap '' HUP; exec \"$@\"", "sh") as process:
        process.send_signal(signal.SIGHUP)
        process.communicate(b"\n", timeout=60)
    assert process.returncode == os.EX_OK
    assert held(directory) == [b"x" * 600_000 + b"\n"]


def test_cleaning_up_is_not_interrupted() -> None:
    """P1: one signal after the other, as a service manager sends them; afterwards all is as it was before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    cleaned = []

    def deliver() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")

    with pytest.raises(Failure, match="interrupted by SIGTERM") as caught, module._interruptible():
        deliver()
    assert caught.value.status == os.EX_TEMPFAIL
    assert cleaned == ["all"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_no_link_of_the_owners_is_followed(command: Command, directory: Path, tmp_path: Path) -> None:
    """Root would put a file of theirs wherever they like."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    new = directory / "mail" / "alice" / "new"
    new.rmdir()
    new.symlink_to(elsewhere)
    os.chown(new, 4711, 4711, follow_symlinks=False)
    outcome = command("deliver", directory, "alice", stdin=b"Subject: x\n\n")
    assert outcome.status == os.EX_TEMPFAIL
    assert list(elsewhere.iterdir()) == []
