"""`trio-pop3 lock list`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from trio_pop3.backend import ClientInfo
from trio_pop3.backends.maildir import make_maildir
from trio_pop3.backends.maildir.lock import LOCK_NAME, MaildirLock, owner_note
from trio_pop3.cli import lock as module

from ..backends.mbox_helpers import Box as MboxBox
from .command import Command

CLIENT = ClientInfo("s17", "192.0.2.1", 4711)


def hold(maildir: Path, user: str = "alice") -> MaildirLock:
    lock = MaildirLock(os.fsencode(maildir), owner_note(user, CLIENT))
    lock.acquire()
    return lock


def test_what_is_open_and_nothing_else(command: Command, directory: Path) -> None:
    """I7: user, pid, session, peer, since when, where; gone from the list when it is released."""
    assert command("user", "add", directory, "bob", "--scheme", "PLAIN", stdin=b"x\n").status == 0
    lock = hold(directory / "mail" / "alice")
    other = hold(directory / "mail" / "bob")
    other.release()
    outcome = command("lock", "list", directory)
    lock.release()
    assert outcome.status == 0
    since = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
    maildir = re.escape(f"{directory}/mail/alice")
    assert re.fullmatch(rf"alice  {os.getpid()}  s17  192\.0\.2\.1:4711  {since}  {maildir}\n", outcome.out)
    assert command("lock", "list", directory).out == ""


def test_folders(command: Command, directory: Path) -> None:
    """I7: each has a lock of its own; one by its own path."""
    folder = directory / "mail" / "alice" / ".Junk"
    make_maildir(folder)
    lock = hold(folder, "alice")
    outcomes = [command("lock", "list", place) for place in (directory, directory / "mail" / "alice", folder)]
    lock.release()
    for outcome in outcomes:
        assert (outcome.status, outcome.out.count("\n")) == (0, 1)
        assert outcome.out.endswith(f"  {folder}\n")


@pytest.mark.parametrize("how", ["maildir", "pattern", "both"])
def test_maildirs_by_other_ways(command: Command, tmp_path: Path, how: str) -> None:
    """I7: a Maildir itself, and a pattern as `serve` has it; each once."""
    maildir = tmp_path / "vhosts" / "example.org" / "alice" / "Maildir"
    make_maildir(maildir)
    (tmp_path / "vhosts" / "example.org" / "no-mail" / "Maildir").mkdir(parents=True)
    lock = hold(maildir, "alice@example.org")
    pattern = ["--maildir", f"{tmp_path}/vhosts/{{domain}}/{{local}}/Maildir"]
    words: list[object] = ([] if how == "pattern" else [maildir]) + ([] if how == "maildir" else [*pattern])
    outcome = command("lock", "list", *words)
    lock.release()
    assert outcome.status == 0
    assert outcome.out.count("\n") == 1
    assert outcome.out.startswith(f"alice@example.org  {os.getpid()}  ")


def test_what_the_holder_has_not_written(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: on a full disk."""
    make_maildir(tmp_path / "box")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lock = hold(tmp_path / "box")
    outcome = command("lock", "list", tmp_path / "box")
    lock.release()
    assert outcome.out == f"-  {os.getpid()}  -  -  -  {tmp_path}/box\n"


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ("1700000000 \x1b]0;owned\x07\x1b[31mX peer\x7f root", (r"\x1b]0;owned\x07\x1b[31mX", r"peer\x7f", "root")),
        ("1700000000 s1 peer %1b[2J", ("s1", "peer", "%1b[2J")),
        ("9" * 200 + " s1 peer alice", ("s1", "peer", "alice")),
    ],
)
def test_what_its_owner_writes_into_a_lock_file_is_shown_and_not_obeyed(
    command: Command, tmp_path: Path, note: str, shown: tuple[str, str, str]
) -> None:
    """H7: the Maildir is the user's, and the terminal an administrator's. So are the names of folders."""
    box = tmp_path / "box" / ".\x1b[2J\u202efolder"
    make_maildir(tmp_path / "box")
    make_maildir(box)
    lock = hold(box)
    with (box / os.fsdecode(LOCK_NAME)).open("r+b") as file:
        file.write(f"{os.getpid()} {note}".encode().ljust(255) + b"\n")
    outcome = command("lock", "list", tmp_path / "box")
    lock.release()
    session, peer, user = shown
    assert outcome.status == 0
    assert outcome.out.removesuffix("\n").isprintable()
    assert outcome.out.startswith(f"{user}  {os.getpid()}  {session}  {peer}  ")
    assert outcome.out.endswith(f"  {tmp_path}/box/.\\x1b[2J\\u202efolder\n")


def test_one_that_cannot_be_read_does_not_hide_the_others(command: Command, directory: Path) -> None:
    make_maildir(directory / "mail" / "aaron")
    os.symlink("/etc/passwd", os.fsencode(directory / "mail" / "aaron") + b"/" + LOCK_NAME)
    lock = hold(directory / "mail" / "alice")
    outcome = command("lock", "list", directory)
    lock.release()
    assert outcome.status == 1
    assert outcome.out.startswith("alice  ")
    assert outcome.err.startswith(f"trio-pop3: cannot read the lock of {directory}/mail/aaron: ")


@pytest.mark.parametrize("state", [None, "state"])
def test_mbox_files(command: Command, tmp_path: Path, state: str | None) -> None:
    """I7: those of a pattern, wherever their locks are; alice has no mail yet."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "other").mkdir()
    own = None if state is None else str(tmp_path / state)
    sessions = [
        MboxBox(tmp_path / where, user).login(state=own) for where, user in (("spool", "alice"), ("other", "alice"))
    ]
    words = ["lock", "list", "--mbox", f"{tmp_path}/spool/{{user}}", *([] if own is None else ["--mbox-state", own])]
    outcome = command(*words)
    for session in sessions:
        session.close()
    assert (outcome.status, outcome.out.count("\n")) == (0, 1)
    assert outcome.out.startswith(f"alice  {os.getpid()}  test  127.0.0.1:4711  ")
    assert outcome.out.endswith(f"  {tmp_path}/spool/alice\n")
    assert command(*words).out == ""


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ([], 2, "name a DIR, or --maildir, or --mbox"),
        (["x", "--mbox-state", "y"], 2, "--mbox-state goes with --mbox"),
        (["/nonexistent"], 2, "/nonexistent is neither a Maildir nor a directory that `serve` serves"),
        (["--maildir", "/var/mail"], 2, "a path pattern holds"),
    ],
)
def test_wrong_usage(command: Command, words: list[str], status: int, says: str) -> None:
    outcome = command("lock", "list", *words)
    assert (outcome.status, outcome.out) == (status, "")
    assert says in outcome.err


def test_where_the_kernel_does_not_tell(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/locks")

    monkeypatch.setattr(module, "Locks", none)
    outcome = command("lock", "list", directory)
    assert outcome.status == 1
    assert "the kernel does not tell who holds locks: /proc/locks: no such file" in outcome.err
