"""Dovecot's lock on the file names of a Maildir, and holding it while we look at them."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.backends.maildir import uidlist_lock
from trio_pop3.backends.maildir.uidlist_lock import UIDLIST_LOCK_NAME, uidlist_locked

from ..driving import Dialogue
from .maildir_helpers import Box, open_files, uids


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put("1.a")
    return box


@pytest.fixture
def lock(box: Box) -> Path:
    return box.path / os.fsdecode(UIDLIST_LOCK_NAME)


HERE = socket.gethostname()


def dead_process() -> int:
    """The number of a process that is gone."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_it_is_there_during_the_block_and_says_whose_it_is(box: Box, lock: Path) -> None:
    before = open_files()
    with uidlist_locked(box.octets_path) as held:
        assert held
        assert lock.read_text() == f"{os.getpid()}:{HERE}"
    assert sorted(os.listdir(box.path)) == ["cur", "new", "tmp"]
    with pytest.raises(ValueError, match="inside"), uidlist_locked(box.octets_path):
        raise ValueError("inside")
    assert not lock.exists()
    assert open_files() == before


def test_somebody_elses_is_left_alone(box: Box, lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a bounded wait we go on without: a scan is careful for itself."""
    lock.write_text(f"{os.getpid()}:{HERE}")
    with uidlist_locked(box.octets_path, patience=0.05) as held:
        assert not held
    assert lock.exists()
    assert "held by somebody else" in caplog.text


def test_one_that_is_given_back_is_waited_for(box: Box, lock: Path) -> None:
    lock.write_text(f"{os.getpid()}:{HERE}")
    threading.Timer(0.05, lock.unlink).start()
    with uidlist_locked(box.octets_path, patience=20) as held:
        assert held
    assert not lock.exists()


@pytest.mark.parametrize(
    ("note", "age", "broken"),
    [
        ("{dead}:{here}", 0, True),
        ("{dead}:{here}\n", 0, True),
        ("{dead}:elsewhere", 0, False),
        ("{dead}:elsewhere", 119, False),
        ("{dead}:elsewhere", 121, True),
        ("{me}:{here}", 119, False),
        ("{me}:{here}", 121, True),
        ("", 0, False),
        ("", 121, True),
        ("99999999999999999999:{here}", 0, False),
        ("-1:{here}", 0, False),
        ("noise\0\xff", 0, False),
    ],
)
def test_which_are_stale(
    box: Box, lock: Path, note: str, age: int, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its process is gone from this host; or nobody has touched it for two minutes, as Dovecot has it."""
    lock.write_text(note.format(dead=dead_process(), here=HERE, me=os.getpid()))
    os.utime(lock, (0, time.time() - age))
    with uidlist_locked(box.octets_path, patience=0) as held:
        assert held == broken
    assert lock.exists() != broken
    assert ("was left behind" in caplog.text) == broken
    assert len(os.listdir(box.path)) == 3 + (not broken)


def test_a_lock_that_was_taken_over_is_not_removed(box: Box, lock: Path) -> None:
    with uidlist_locked(box.octets_path):
        lock.unlink()
        lock.write_text("1:somebody")
    assert lock.read_text() == "1:somebody"
    lock.unlink()
    with uidlist_locked(box.octets_path):
        lock.unlink()
    assert not lock.exists()


def test_a_new_lock_in_place_of_a_stale_one_is_put_back(box: Box, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two find it stale at a time; the faster one has made its own when the slower one gets to it."""
    lock.write_text(f"{dead_process()}:{HERE}")
    real = os.rename

    def rename(old: Any, new: Any) -> None:
        lock.unlink()
        lock.write_text(f"{os.getpid()}:{HERE}")
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with uidlist_locked(box.octets_path, patience=0) as held:
        assert not held
    assert lock.read_text() == f"{os.getpid()}:{HERE}"
    assert len(os.listdir(box.path)) == 4


def test_a_directory_that_cannot_be_written_to(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with uidlist_locked(box.octets_path) as held:
            assert not held
    assert "going on without: Read-only" in caplog.text


def test_a_full_disk_makes_a_lock_without_a_note(box: Box, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with uidlist_locked(box.octets_path) as held:
            assert held
            assert lock.read_bytes() == b""
    assert not lock.exists()


@pytest.mark.parametrize("moves", [True, False])
def test_a_login_holds_it_while_it_looks(box: Box, lock: Path, moves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: and at no other time; what we move is moved under it as well."""
    held = []
    real = os.listdir

    def listdir(path: Any) -> Any:
        held.append(lock.exists())
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    dialogue = Dialogue(box.backend(dovecot_lock=True, move_new=moves))
    assert dialogue.login().startswith(b"+OK")
    assert held
    assert all(held)
    assert not lock.exists()
    assert uids(dialogue) == ["1.a"]


def test_without_the_option_nothing_is_written(box: Box, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uidlist_lock, "uidlist_locked", None)
    lock.write_text(f"{os.getpid()}:{HERE}")
    assert uids(box.login()) == ["1.a"]


def test_a_login_does_not_fail_for_it(
    box: Box, lock: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F9: whoever holds it, mail is served."""
    monkeypatch.setattr(uidlist_lock.time, "monotonic", iter(range(0, 10**6, 10)).__next__)  # type: ignore[attr-defined]
    lock.write_text(f"{os.getpid()}:{HERE}")
    with caplog.at_level(logging.WARNING):
        dialogue = Dialogue(box.backend(dovecot_lock=True))
        assert dialogue.login().startswith(b"+OK")
    assert "held by somebody else" in caplog.text
