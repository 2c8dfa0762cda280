"""Who holds a lock, told without touching it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from trio_pop3.backends.maildir.holders import Holder, Locks
from trio_pop3.backends.maildir.lock import LOCK_NAME, MaildirLock, owner_note

from ..driving import CLIENT
from .maildir_helpers import Box, child, open_files


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_held_and_free(box: Box) -> None:
    """I7: what is told is told by the kernel; a note that was left behind is none."""
    before = open_files()
    assert Locks().holder(box.octets_path) is None
    lock = MaildirLock(box.octets_path, owner_note("alice", CLIENT))
    lock.acquire()
    holder = Locks().holder(box.octets_path)
    assert holder is not None
    assert holder.since is not None
    assert holder == Holder(os.getpid(), holder.since, "test", "127.0.0.1:4711", "alice")
    lock.release()
    assert Locks().holder(box.octets_path) is None
    assert open_files() == before


def test_of_two_maildirs_the_right_one(box: Box) -> None:
    other = Box(box.root, "bob")
    for which in (box, other):
        lock = MaildirLock(which.octets_path, "1 unix x")
        lock.acquire()
        lock.release()
    lock.acquire()
    locks = Locks()
    assert [locks.holder(which.octets_path) is None for which in (box, other)] == [True, False]
    lock.release()


def test_looking_disturbs_nobody(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7, I8: no lock is taken, not even for a moment."""

    def forbidden(*_: object) -> None:
        raise AssertionError("a lock was taken to look")

    lock = MaildirLock(box.octets_path, "1 unix alice")
    lock.acquire()
    with monkeypatch.context() as patch:
        for name in ("flock", "lockf", "fcntl"):
            patch.setattr(fcntl, name, forbidden)
        assert Locks().holder(box.octets_path) is not None
    lock.release()


def test_another_process_until_it_is_killed(box: Box) -> None:
    """I7: freed by kill -9, and then nobody holds it, whatever the note says."""
    script = """
from trio_pop3.backends.maildir.lock import MaildirLock
MaildirLock(box.octets_path, "s7 unix alice").acquire()
print("locked", flush=True)
sys.stdin.read()
"""
    with child(box.root, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        holder = Locks().holder(box.octets_path)
        assert holder is not None
        assert (holder.pid, holder.session, holder.user) == (process.pid, "s7", "alice")
        process.kill()
        process.wait(20)
        assert Locks().holder(box.octets_path) is None
    assert b"alice" in (box.path / os.fsdecode(LOCK_NAME)).read_bytes()


@pytest.mark.parametrize("note", [b"", b"\xff" * 300, b"1 2 3", b"%d" % os.getpid(), b"%d now s" % os.getpid()])
def test_a_note_that_is_none_of_the_holders(box: Box, note: bytes) -> None:
    """I7: a full disk, or the moment before it is written: the pid is known all the same."""
    fd = os.open(box.octets_path + b"/" + LOCK_NAME, os.O_RDWR | os.O_CREAT)
    os.write(fd, note)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert Locks().holder(box.octets_path) == Holder(os.getpid())
    os.close(fd)


@pytest.mark.parametrize(
    ("written", "shown"), [("j\xf6rg", "j\xf6rg"), ("a b", "a%20b"), ("a\n\x1b[2J", "a%0A%1B%5B2J"), ("50%", "50%")]
)
def test_a_user_is_one_word_that_can_be_printed(box: Box, written: str, shown: str) -> None:
    """H11: nobody writes a line of the list with a user name."""
    lock = MaildirLock(box.octets_path, owner_note(written, CLIENT))
    lock.acquire()
    holder = Locks().holder(box.octets_path)
    lock.release()
    assert holder is not None
    assert holder.user == shown


def test_where_stat_names_another_device_than_the_kernel(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: as on btrfs and overlayfs; the mount says what /proc/locks says."""
    lock = MaildirLock(box.octets_path, "1 unix alice")
    lock.acquire()

    real = os.fstat

    def elsewhere(fd: int) -> os.stat_result:
        return os.stat_result((0, 1, os.makedev(0, 99), *real(fd)[3:]))

    locks = Locks()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", elsewhere)
        assert locks.holder(box.octets_path) is not None
    lock.release()


def test_who_waits_does_not_hold_it(box: Box, tmp_path: Path) -> None:
    """I7: a process that sits in flock stands in /proc/locks as well, behind an arrow."""
    lock = MaildirLock(box.octets_path, "1 unix alice")
    lock.acquire()
    waits = """
import fcntl
fd = os.open(box.octets_path + b"/.trio-pop3.lock", os.O_RDWR)
print("up", flush=True)
fcntl.flock(fd, fcntl.LOCK_EX)
"""
    with child(box.root, waits) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        holder = Locks().holder(box.octets_path)
        assert holder is not None
        assert holder.pid == os.getpid()
        process.kill()
    lock.release()


def test_a_lock_file_that_points_elsewhere_is_an_error(box: Box) -> None:
    """H11."""
    os.symlink("/etc/passwd", box.octets_path + b"/" + LOCK_NAME)
    with pytest.raises(OSError, match="symbolic"):
        Locks().holder(box.octets_path)
