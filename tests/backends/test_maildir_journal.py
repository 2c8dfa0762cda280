"""The journal: a line for each message, on disk before anything is removed, and never one too many."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
import time
from pathlib import Path

import pytest

from trio_pop3.backend import MessageInfo
from trio_pop3.backends.maildir import journal as module
from trio_pop3.backends.maildir.journal import Journal, Who

from ..driving import REMOTE
from .maildir_helpers import open_files

WHO = Who.of("alice", REMOTE)
MAIL = [MessageInfo("a1", 17), MessageInfo("a2", 4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_a_line_says_who_when_from_where_and_which(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wish 8: and nothing of what is in it."""
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 11, 25, 9, 8, 7, 2, 329, 0)))
    Journal(path).record("unlink", WHO, MAIL)
    start = "2026-11-25T09:08:07Z unlink user=alice peer=192.0.2.1:4711 session=far"
    assert path.read_text() == f"{start} uid=a1 octets=17\n{start} uid=a2 octets=4\n"


@pytest.mark.parametrize("user", ["a b", "x\ny", "=\x1b[2J", "j\xf6rg", "100%"])
def test_a_user_writes_no_line(path: Path, user: str) -> None:
    """H1."""
    Journal(path).record("unlink", Who.of(user, REMOTE), MAIL[:1])
    assert re.fullmatch(r"\S+ unlink user=[\x21-\x7e]+ peer=\S+ session=\S+ uid=a1 octets=17\n", path.read_text())


@pytest.mark.parametrize(
    ("folder", "word"),
    [(b".Junk", ".Junk"), (b".Entw&APw-rfe", ".Entw&APw-rfe"), (b".Deleted Items", ".Deleted%20Items")],
)
def test_the_folder_stands_at_the_end(path: Path, folder: bytes, word: str) -> None:
    """H1: who reads the fields by number finds them where they are without one."""
    Journal(path).record("trash", Who.of("alice", REMOTE, folder), MAIL[:1])
    assert path.read_text().split()[1:] == [
        "trash", "user=alice", "peer=192.0.2.1:4711", "session=far", "uid=a1", "octets=17", f"folder={word}",
    ]  # fmt: skip


def test_only_the_owner_may_read_it(path: Path) -> None:
    Journal(path).record("unlink", WHO, MAIL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_appended_and_rotated_by_renaming(path: Path) -> None:
    """Wish 8: it is opened anew each time."""
    journal = Journal(path)
    before = open_files()
    for uid in "abc":
        if uid == "c":
            path.rename(path.with_name("journal.1"))
        journal.record("unlink", WHO, [MessageInfo(uid, 2)])
    assert open_files() == before
    assert [line.split()[5] for line in path.with_name("journal.1").read_text().splitlines()] == ["uid=a", "uid=b"]
    assert [line.split()[5] for line in path.read_text().splitlines()] == ["uid=c"]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal("journal")
    monkeypatch.chdir("/")
    journal.record("unlink", WHO, MAIL)
    assert (tmp_path / "journal").exists()
    assert repr(journal) == f"Journal('{tmp_path}/journal')"


def test_one_write_for_a_batch_and_synced_in_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: the file, and the directory if the file is new."""
    did: list[str] = []
    write, fsync = os.write, os.fsync

    def written(fd: int, data: bytes) -> int:
        did.append(f"write {bytes(data).count(b'uid=')}")
        return write(fd, data)

    def synced(fd: int) -> None:
        did.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    monkeypatch.setattr(os, "write", written)
    monkeypatch.setattr(os, "fsync", synced)
    many = [MessageInfo(str(n), 2) for n in range(1201)]
    Journal(path).record("unlink", WHO, many)
    assert did == ["write 500", "write 500", "write 201", "sync journal", f"sync {path.parent.name}"]
    did.clear()
    Journal(path).record("unlink", WHO, MAIL)
    assert did == ["write 2", "sync journal"]


def test_a_full_disk_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: neither half a line nor lines of what will not be done, also when some batches went well."""
    journal = Journal(path)
    journal.record("unlink", WHO, MAIL)
    before = path.read_bytes()
    real, room = os.write, [60_000]

    def full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, bytes(data)[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            journal.record("unlink", WHO, [MessageInfo(str(n), 2) for n in range(1000)])
    assert path.read_bytes() == before
    journal.record("unlink", WHO, MAIL)
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().count(b"\n") == 4


@pytest.mark.parametrize("broken", ["fsync", "open"])
def test_what_cannot_be_written_is_an_error(path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2."""

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="Input/output"):
            Journal(path).record("unlink", WHO, MAIL)
    assert open_files() == before


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "journal")
    for attempt in (journal.check, lambda: journal.record("unlink", WHO, MAIL)):
        with pytest.raises(FileNotFoundError):
            attempt()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    """H11."""
    os.symlink(tmp_path / "precious", path)
    with pytest.raises(OSError, match="symbolic"):
        Journal(path).record("unlink", WHO, MAIL)


def test_checked_before_it_is_needed(path: Path) -> None:
    Journal(path).check()
    assert path.read_bytes() == b""


def test_sessions_at_once_mix_no_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: of one process, in threads; each has its lines in one piece."""
    monkeypatch.setattr(module, "_LINES_AT_ONCE", 3)
    journal = Journal(path)
    sessions = [Who(f"user{n}", str(n), "unix") for n in range(8)]
    threads = [
        threading.Thread(target=journal.record, args=("unlink", who, [MessageInfo(str(n), 2) for n in range(50)]))
        for who in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    users = [line.split()[2] for line in path.read_text().splitlines()]
    assert len(users) == 400
    assert all(len({*users[start : start + 50]}) == 1 for start in range(0, 400, 50))


def test_another_process_that_is_writing_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: for a while; a thread has to come back."""
    path.touch()
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            fcntl.flock(fd, fcntl.LOCK_UN)

    monkeypatch.setattr(time, "sleep", pause)
    Journal(path).record("unlink", WHO, MAIL)
    assert len(pauses) == 3
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError):
        Journal(path).record("unlink", WHO, MAIL)
    assert sum(pauses[3:]) == pytest.approx(5)
    os.close(fd)
    assert path.read_bytes().count(b"\n") == 2


def test_nothing_is_glued_to_half_a_line(path: Path) -> None:
    """P1: what a power cut has left of a line stays by itself."""
    path.write_bytes(b"2026-11-25T09:00:00Z unlink us")
    Journal(path).record("unlink", WHO, [MessageInfo("1.a", 2)])
    half, whole, end = path.read_bytes().split(b"\n")
    assert (half, end) == (b"2026-11-25T09:00:00Z unlink us", b"")
    assert whole.endswith(b" uid=1.a octets=2")
