"""Small files of ours: whole or as they were, whatever happens."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir.files import UidTimes

from .maildir_helpers import KINDS, Box, child, chowned, open_files, spoil

NAME = b".trio-pop3.test"
uids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)


@pytest.fixture
def file(tmp_path: Path) -> UidTimes:
    return UidTimes(Box(tmp_path).octets_path, NAME)


@given(times=st.dictionaries(uids, st.integers(0, 10**12 - 1), max_size=5))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, times: dict[str, int]) -> None:
    """P3: for every unique-id that there can be."""
    file = UidTimes(Box(tmp_path_factory.mktemp("box")).octets_path, NAME)
    file.write({"old": 1})
    file.write(times)
    assert file.read() == times


def test_no_file_is_nothing(file: UidTimes) -> None:
    assert file.read() == {}


@given(noise=st.binary(max_size=100))
def test_noise_is_left_out_and_said(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    """P3: never a failed login, and what is still a line counts."""
    file = UidTimes(Box(tmp_path_factory.mktemp("box")).octets_path, NAME)
    Path(os.fsdecode(file.path)).write_bytes(noise + b"\na 5\nb\n")
    assert file.read()["a"] == 5


def test_a_damaged_file_is_logged(file: UidTimes, caplog: pytest.LogCaptureFixture) -> None:
    Path(os.fsdecode(file.path)).write_bytes(b"a 5\n\xff\nb 6\nc 7")
    assert file.read() == {"a": 5, "b": 6}
    assert [record.getMessage() for record in caplog.records] == [
        f"{os.fsdecode(file.path)!a}: 2 damaged lines are left out"
    ]
    caplog.clear()
    Path(os.fsdecode(file.path)).write_bytes(b"a 5\n\xff\n")
    file.read()
    assert "1 damaged line is left out" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_an_error(file: UidTimes, kind: str) -> None:
    """H11, P3: not an empty file, or all that was hidden would come back as new. It says which file it was."""
    spoil(Path(os.fsdecode(file.path)), kind)
    before = open_files()
    with pytest.raises(OSError, match="not a regular file") as caught:
        file.read()
    assert (caught.value.errno, caught.value.filename) == (errno.EPERM, file.path)
    assert open_files() == before


def test_a_file_that_breaks_while_it_is_read_is_named(file: UidTimes, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2."""
    file.write({"a": 1})

    def fail(fd: int) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(OSError, match="Input/output") as caught:
            file.read()
    assert caught.value.filename == file.path
    assert open_files() == before


def test_written_in_this_order(file: UidTimes, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: synced, renamed, and the directory synced."""
    did: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        did.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    def renamed(old: bytes, new: bytes) -> None:
        did.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    file.write({"a": 1})
    assert did == ["sync .trio-pop3.test.tmp", "rename", "sync alice"]
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600


@pytest.mark.parametrize("broken", ["fsync", "rename"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    file: UidTimes, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: a full disk."""
    file.write({"a": 1})
    before = (os.listdir(os.path.dirname(file.path)), open_files())

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space left"):
            file.write({"b": 2})
    assert file.read() == {"a": 1}
    assert (os.listdir(os.path.dirname(file.path)), open_files()) == before


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_kill_9_while_it_is_written(tmp_path: Path, call: str) -> None:
    """P1: the old one is there, and the next one can be written."""
    file = UidTimes(Box(tmp_path).octets_path, NAME)
    file.write({"a": 1})
    script = f"""
from trio_pop3.backends.maildir.files import UidTimes
os.{call} = die
UidTimes(box.octets_path, {NAME!r}).write({{"b": 2}})
"""
    with child(tmp_path, script) as process:
        assert process.wait(20) == -9
    assert file.read() == {"a": 1}
    file.write({"c": 3})
    assert file.read() == {"c": 3}


def test_what_root_makes_belongs_to_the_owner_of_the_maildir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is in its place: a server that is not root can read it at any time."""
    box = Box(tmp_path)
    given, status = chowned(monkeypatch), box.path.stat()
    UidTimes(box.octets_path, NAME).write({"a": 1})
    assert given == [(".trio-pop3.test.tmp", status.st_uid, status.st_gid)]
