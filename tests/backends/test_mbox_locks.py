"""What keeps others out of an mbox file, and whom it does not keep out."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from trio_pop3.backends.mbox import locks
from trio_pop3.backends.mbox.locks import OpenMailbox, SessionLock

from .maildir_helpers import open_files
from .mbox_helpers import Box

LOCK_IT = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put(b"Subject: x\n\n")
    return box


def opened(box: Box, *order: str, stale: float = 600.0) -> OpenMailbox:
    return OpenMailbox(os.fsencode(box.path), order or ("dotlock", "fcntl"), stale)


def lock_file(box: Box, content: bytes, age: float = 0.0) -> Path:
    path = box.path.with_suffix(".lock")
    path.write_bytes(content)
    status = path.stat()
    os.utime(path, (status.st_atime - age, status.st_mtime - age))
    return path


def lockable(box: Box) -> bool:
    """Whether another process gets the lock of POSIX, now."""
    command = [sys.executable, "-c", LOCK_IT, str(box.path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def test_held_and_given_back(box: Box) -> None:
    """I8: both locks while it is read; then the file stays open and others get at it."""
    before = open_files()
    mailbox = opened(box)
    note = box.path.with_suffix(".lock").read_bytes()
    assert note.startswith(b"%d trio-pop3 " % os.getpid())
    assert not lockable(box)
    mailbox.unlock()
    assert not box.path.with_suffix(".lock").exists()
    assert lockable(box)
    assert mailbox.fd is not None
    mailbox.close()
    mailbox.close()
    assert open_files() == before
    assert sorted(os.listdir(box.root)) == ["alice"]


@pytest.mark.parametrize("name", ["dotlock", "fcntl", "flock"])
def test_each_keeps_the_next_one_out(box: Box, name: str) -> None:
    """R1939-21: in one process as well, and closing one that was refused frees nothing."""
    first = opened(box, name)
    before = open_files()
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            opened(box, name)
    assert open_files() == before
    first.close()
    opened(box, name).close()


def test_another_process_that_uses_posix_locks(box: Box) -> None:
    """It holds its lock, so we take none, and leave no lock file behind in which it could get stuck."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK_IT, str(box.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError):
            opened(box)
        assert sorted(os.listdir(box.root)) == ["alice"]
        process.kill()
    opened(box).close()


@pytest.mark.parametrize(
    ("content", "age", "stale"),
    [
        (b"", 0.0, False),
        (b"1", 599.0, False),
        (b"99999999", 0.0, False),  # whose process is on what machine?
        (b"99999999", 601.0, True),
        (b"0", 601.0, True),
        (b"99999999 trio-pop3 another.example\n", 0.0, False),
        (b"99999999 trio-pop3 HERE\n", 0.0, True),
        (b"99999999999999999999 trio-pop3 HERE\n", 0.0, False),
        (b"1 trio-pop3 HERE\n", 599.0, False),
        (b"1 trio-pop3 HERE\n", 601.0, True),  # the number of one that died before the machine was started anew
        (b"OWN trio-pop3 HERE\n", 0.0, True),
    ],
)
def test_a_lock_file_that_was_left_behind(box: Box, content: bytes, age: float, stale: bool) -> None:
    """I7: ours as soon as its process is dead, or is this one and does not know of it. Any other by age."""
    own = b"%d" % os.getpid()
    content = content.replace(b"HERE", os.uname().nodename.encode()).replace(b"OWN", own)
    path = lock_file(box, content, age)
    if stale:
        opened(box).close()
        assert not path.exists()
    else:
        with pytest.raises(BlockingIOError):
            opened(box)
        assert path.read_bytes() == content


def test_it_is_made_to_look_new_while_it_is_held(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: long before others take it for stale."""
    mailbox = opened(box)
    path = box.path.with_suffix(".lock")
    os.utime(path, (0, 0))
    mailbox.refresh()
    assert path.stat().st_mtime == 0
    monkeypatch.setattr(locks, "_REFRESH_SECONDS", -1.0)
    mailbox.refresh()
    assert path.stat().st_mtime > 0
    mailbox.close()


def test_replaced_before_it_was_locked(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: others may rename; what we have locked is no mailbox then."""
    real = fcntl.fcntl
    new = box.root / "new"
    new.write_bytes(b"")

    def replace(fd: int, command: int, argument: bytes) -> bytes:
        if new.exists():
            new.rename(box.path)
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", replace)
    with pytest.raises(BlockingIOError, match="replaced"):
        opened(box)
    opened(box).close()


@pytest.mark.parametrize("kind", ["link", "symlink", "directory", "fifo"])
def test_what_is_no_mailbox(box: Box, kind: str) -> None:
    """H11: nobody can have us rewrite what is not theirs, or wait for ever."""
    if kind == "link":
        os.link(box.path, box.root / "other")
    else:
        box.path.rename(box.root / "other")
        make: dict[str, Callable[[Path], None]] = {
            "symlink": partial(os.symlink, "other"), "directory": os.mkdir, "fifo": os.mkfifo
        }  # fmt: skip
        make[kind](box.path)
    before = open_files()
    with pytest.raises(OSError, match=r"second name|regular|symbolic|directory"):
        opened(box)
    assert open_files() == before
    assert not box.path.with_suffix(".lock").exists()


# --- the lock of a session --------------------------------------------------------------------------------------


def test_one_session_at_a_time_and_only_the_holder_releases(box: Box) -> None:
    """R1939-21, I10."""
    path = os.fsencode(box.root / "lock")
    first, second = SessionLock(path, "1"), SessionLock(path, "2")
    first.acquire()
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            second.acquire()
        second.release()
    pid, since, owner = (box.root / "lock").read_text().split()
    assert (pid, owner) == (str(os.getpid()), "1")
    assert abs(int(since) - time.time()) < 60
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_where_flock_does_not_tell_us_apart_from_ourselves(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1939-21: on NFS it is a lock of the whole process."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    path = os.fsencode(box.root / "lock")
    first = SessionLock(path, "1")
    first.acquire()
    with pytest.raises(BlockingIOError):
        SessionLock(path, "2").acquire()
    first.release()


def test_the_lock_of_a_session_dies_with_its_process(box: Box) -> None:
    """I7: kill -9."""
    script = """
import sys
from trio_pop3.backends.mbox.locks import SessionLock
SessionLock(sys.argv[1].encode(), "child").acquire()
print("locked", flush=True)
sys.stdin.read()
"""
    path = box.root / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError):
            SessionLock(os.fsencode(path), "2").acquire()
        process.kill()
        process.wait(20)
        lock = SessionLock(os.fsencode(path), "2")
        lock.acquire()
        lock.release()


def test_a_process_that_is_being_started_does_not_keep_it(box: Box) -> None:
    """I7: between fork and exec it has copies of all that is open here."""
    path = os.fsencode(box.root / "lock")
    lock = SessionLock(path, "1")
    lock.acquire()
    copies = [int(opened.split()[0]) for opened in open_files() if opened.endswith(f" {box.root}/lock")]
    assert len(copies) == 1
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=copies) as process:
        lock.release()
        again = SessionLock(path, "2")
        again.acquire()
        again.release()
        process.communicate(b"\n", timeout=60)
