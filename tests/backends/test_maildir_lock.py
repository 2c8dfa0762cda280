"""One session per Maildir, whoever else there is."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trio_pop3.backends.maildir.deliver import deliver
from trio_pop3.backends.maildir.lock import LOCK_NAME, MaildirLock, owner_note

from ..driving import CLIENT
from .maildir_helpers import Box, child, chowned, open_files


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def held_by_nobody(box: Box) -> bool:
    """Take it and give it back."""
    lock = MaildirLock(box.octets_path, "probe")
    try:
        lock.acquire()
    except BlockingIOError:
        return False
    lock.release()
    return True


def test_one_at_a_time_and_only_the_holder_releases(box: Box) -> None:
    """R1939-21, I10: a refused one that releases gives nothing back."""
    first, second = MaildirLock(box.octets_path, "1"), MaildirLock(box.octets_path, "2")
    first.acquire()
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            second.acquire()
        second.release()
    assert not held_by_nobody(box)
    first.release()
    first.release()
    second.acquire()
    first.release()
    assert not held_by_nobody(box)
    second.release()
    assert held_by_nobody(box)


def test_where_flock_does_not_tell_us_apart_from_ourselves(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1939-21, I10: on NFS it is a lock of the whole process."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    assert not held_by_nobody(box)
    assert not held_by_nobody(box)
    lock.release()
    assert held_by_nobody(box)


def test_another_path_to_the_same_maildir_is_the_same_lock(box: Box) -> None:
    """R1939-21."""
    os.symlink(box.path, box.root / "alias")
    lock = MaildirLock(os.fsencode(box.root / "alias"), "1")
    lock.acquire()
    assert not held_by_nobody(box)
    lock.release()


def test_two_maildirs_are_two_locks(box: Box) -> None:
    other = Box(box.root, "bob")
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    assert held_by_nobody(other)
    lock.release()


def test_threads_race_and_one_wins(box: Box) -> None:
    """R1939-21."""
    start, locks = threading.Barrier(8), [MaildirLock(box.octets_path, str(n)) for n in range(8)]
    won: list[MaildirLock] = []

    def race(lock: MaildirLock) -> None:
        start.wait(20)
        try:
            lock.acquire()
        except BlockingIOError:
            return
        won.append(lock)

    threads = [threading.Thread(target=race, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(won) == 1
    won[0].release()
    assert held_by_nobody(box)


@pytest.mark.parametrize("owner", ["17 192.0.2.1:4711 alice", "x" * 400, "s\xeb"])
def test_the_holder_can_be_seen(box: Box, owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: pid, time and owner, always in as many octets, also after a longer one."""
    monkeypatch.setattr(time, "time", lambda: 1700000000.9)
    for who in ("y" * 500, owner):
        lock = MaildirLock(box.octets_path, who)
        lock.acquire()
        lock.release()
    note = (box.path / os.fsdecode(LOCK_NAME)).read_bytes()
    assert len(note) == 256
    assert note.endswith(b"\n")
    expected = b"%d 1700000000 %s" % (os.getpid(), owner.encode("ascii", "replace"))
    assert note.rstrip() == expected[:255]


def test_an_owner_is_three_words() -> None:
    """I7: whatever a user is called."""
    assert owner_note("alice@example.org", CLIENT) == "test 127.0.0.1:4711 alice@example.org"
    assert owner_note("a b\n\xeb%", CLIENT) == "test 127.0.0.1:4711 a%20b%0A%C3%AB%25"


def test_a_full_disk_does_not_refuse_the_lock(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: the way out of a full disk is to fetch and delete."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    assert not held_by_nobody(box)
    lock.release()


@pytest.mark.parametrize("broken", ["open", "flock"])
def test_a_failure_holds_nothing(box: Box, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9, R1939-24."""

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os if broken == "open" else fcntl, broken, fail)
        with pytest.raises(OSError, match="Input/output"):
            MaildirLock(box.octets_path, "1").acquire()
    assert open_files() == before
    assert held_by_nobody(box)


def test_a_failing_close_still_gives_it_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: an error that close reports does not lock the user out until a restart."""
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    close = os.close

    def fail(fd: int) -> None:
        close(fd)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(OSError, match="Input/output"):
            lock.release()
    assert held_by_nobody(box)


def test_what_is_no_maildir_gets_no_lock_file(box: Box) -> None:
    """F9: an empty mount point stays empty."""
    (box.root / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        MaildirLock(os.fsencode(box.root / "empty"), "1").acquire()
    assert not list((box.root / "empty").iterdir())


def test_a_lock_file_that_points_elsewhere_is_not_followed(box: Box) -> None:
    """H11."""
    target = box.root / "precious"
    target.write_bytes(b"precious")
    os.symlink(target, box.octets_path + b"/" + LOCK_NAME)
    with pytest.raises(OSError, match="symbolic"):
        MaildirLock(box.octets_path, "1").acquire()
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["hard link", "directory"])
def test_a_lock_file_that_is_something_else_as_well(box: Box, kind: str) -> None:
    """H11: the note would be written over it."""
    target = box.root / "precious"
    target.write_bytes(b"precious")
    if kind == "directory":
        (box.path / os.fsdecode(LOCK_NAME)).mkdir()
    else:
        os.link(target, box.octets_path + b"/" + LOCK_NAME)
    before = open_files()
    with pytest.raises(OSError):  # noqa: PT011 - the kernel's word, or ours
        MaildirLock(box.octets_path, "1").acquire()
    assert target.read_bytes() == b"precious"
    assert open_files() == before


def test_what_root_makes_belongs_to_the_owner_of_the_maildir(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: or no server that is not root could lock it any more. What is there keeps its owner."""
    given, status = chowned(monkeypatch), (box.path / "cur").stat()
    for _ in range(2):
        lock = MaildirLock(box.octets_path, "1")
        lock.acquire()
        lock.release()
    assert given == [(os.fsdecode(LOCK_NAME), status.st_uid, status.st_gid)]


def test_delivery_and_others_are_not_held_up(box: Box) -> None:
    """I8: the lock is on a file of ours alone."""
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    name = deliver(box.path, b"mail\n")
    box.move(f"new/{name}", f"cur/{name}:2,S")
    fd = os.open(box.path / "cur", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    lock.release()


def test_another_process_is_kept_out_and_its_death_frees_the_lock(box: Box) -> None:
    """I7, R1939-21: a real process, killed with SIGKILL."""
    script = """
from trio_pop3.backends.maildir.lock import MaildirLock
MaildirLock(box.octets_path, "child").acquire()
print("locked", flush=True)
sys.stdin.read()
"""
    with child(box.root, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert not held_by_nobody(box)
        note = (box.path / os.fsdecode(LOCK_NAME)).read_text()
        assert note.split()[::2] == [str(process.pid), "child"]
        process.kill()
        process.wait(20)
        assert held_by_nobody(box)


def test_a_child_process_does_not_inherit_it(box: Box) -> None:
    """I7: nothing we start can keep the maildrop locked after us."""
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    with child(box.root, "print('up', flush=True); sys.stdin.read()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        lock.release()
        assert held_by_nobody(box)
        process.kill()


def test_a_process_that_is_being_started_does_not_keep_it(box: Box) -> None:
    """I7: between fork and exec it has copies of all that is open here."""
    lock = MaildirLock(box.octets_path, "1")
    lock.acquire()
    name = os.fsdecode(LOCK_NAME)
    copies = [int(opened.split()[0]) for opened in open_files() if opened.endswith(f"{box.path}/{name}")]
    assert len(copies) == 1
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=copies) as process:
        assert not held_by_nobody(box)
        lock.release()
        assert held_by_nobody(box)
        process.communicate(b"\n", timeout=60)
