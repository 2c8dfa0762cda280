"""Delivery: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir import Quota, deliver, make_maildir

from .maildir_helpers import Box, child, chowned, open_files, uids


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def everything(box: Box) -> list[str]:
    """Every file below the Maildir."""
    return [path.name for path in box.path.rglob("*") if path.is_file()]


def test_a_maildir_is_made_for_its_owner_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    make_maildir(path)
    deliver(path, b"kept\n")
    make_maildir(os.fspath(path))
    assert sorted(os.listdir(path)) == ["cur", "new", "tmp"]
    assert {stat.S_IMODE(os.stat(p).st_mode) for p in (path, *path.iterdir())} == {0o700}
    assert len(os.listdir(path / "new")) == 1


def test_a_half_made_maildir_is_completed(tmp_path: Path) -> None:
    (tmp_path / "x" / "new").mkdir(parents=True)
    make_maildir(tmp_path / "x")
    assert sorted(os.listdir(tmp_path / "x")) == ["cur", "new", "tmp"]


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_what_is_delivered_is_what_is_there(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    """P1, P2: octet for octet, and the size in the name is true."""
    box = Box(tmp_path_factory.mktemp("box"))
    name = deliver(box.path, iter(chunks))
    whole = deliver(box.path, b"".join(chunks))
    assert box.held() == {name: b"".join(chunks), whole: b"".join(chunks)}
    assert name.endswith(f",S={sum(map(len, chunks))}")
    assert everything(box) == os.listdir(box.path / "new")


def test_the_name_is_the_unique_id_and_nobody_else_reads_the_file(box: Box) -> None:
    """F2, F5: two that are equal are two."""
    names = [deliver(box.path, b"same\n") for _ in range(3)]
    assert uids(box.login()) == names
    assert {stat.S_IMODE(os.stat(box.path / "new" / name).st_mode) for name in names} == {0o600}


def test_everything_is_synced_in_order(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: the file before it has a name in new/, the directory before we say so."""
    did: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(fd: int) -> None:
        did.append(os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(box.path)).split("/")[1])
        assert os.fstat(fd).st_size >= 5
        fsync(fd)

    def spy_rename(old: str, new: str) -> None:
        did.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    deliver(box.path, b"mail\n")
    assert did == ["tmp", "rename", "new"]


def test_what_root_delivers_belongs_to_the_owner_of_the_maildir(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is in new/: whoever serves the Maildir as its owner could not read it, and would refuse everything."""
    given, status = chowned(monkeypatch), box.path.stat()
    name = deliver(box.path, b"mail\n", Quota(1000))
    assert given[0] == (name.partition(",")[0], status.st_uid, status.st_gid)
    assert [owner for _, *owner in given] == [[status.st_uid, status.st_gid]] * 2  # maildirsize is the other one


def test_a_file_that_cannot_be_given_to_the_owner_is_not_delivered(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: refused, and nothing is left."""

    def fchown(*_: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    before = open_files()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fchown)
    with pytest.raises(PermissionError):
        deliver(box.path, b"mail\n")
    assert everything(box) == []
    assert open_files() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_really_gives_it_away(box: Box) -> None:
    for path in (box.path, *box.path.iterdir()):
        os.chown(path, 4711, 4712)
    deliver(box.path, b"mail\n", Quota(1000))
    made = [path.stat() for path in (*(box.path / "new").iterdir(), box.path / "maildirsize")]
    assert [(status.st_uid, status.st_gid) for status in made] == [(4711, 4712)] * 2


@pytest.mark.parametrize(("call", "nth"), [("open", 1), ("fsync", 1), ("rename", 1), ("open", 2), ("fsync", 2)])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failure_leaves_nothing(box: Box, call: str, nth: int, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: the sender is told and delivers again; what was left would be there twice."""
    real, calls = getattr(os, call), 0

    def fail(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(error, os.strerror(error))
        return real(*args, **options)

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=os.strerror(error)):
            deliver(box.path, b"mail\n")
    assert calls == nth
    assert everything(box) == []
    assert open_files() == before


def test_a_full_disk_in_the_middle_leaves_nothing(box: Box) -> None:
    """P1: a real ENOSPC is a short write away; a file limit stands in for the disk."""
    script = """
import resource
from trio_pop3.backends.maildir import deliver
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    deliver(box.path, [b"x" * 70_000] * 3)
except OSError as failure:
    print(failure.strerror, flush=True)
"""
    with child(box.root, script) as process:
        out, _ = process.communicate(timeout=60)
    assert out == "File too large\n"
    assert everything(box) == []


def test_a_sender_that_fails_leaves_nothing(box: Box) -> None:
    """P1."""

    def broken() -> Iterator[bytes]:
        yield b"half a "
        raise RuntimeError("the sender is gone")

    before = open_files()
    with pytest.raises(RuntimeError, match="gone"):
        deliver(box.path, broken())
    assert everything(box) == []
    assert open_files() == before


def test_where_there_is_no_maildir_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        deliver(tmp_path / "nobody", b"mail\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("call", "nth", "there"), [("fsync", 1, 0), ("rename", 1, 0), ("fsync", 2, 1)])
def test_kill_9_leaves_it_whole_or_not_there(box: Box, call: str, nth: int, there: int) -> None:
    """P1: killed before that call; what a client sees is whole, and tmp/ is never read."""
    script = f"""
from trio_pop3.backends.maildir import deliver
real, left = os.{call}, {nth}
def count(*args):
    global left
    left -= 1
    return die() if not left else real(*args)
os.{call} = count
deliver(box.path, b"mail\\n" * 1000)
"""
    with child(box.root, script) as process:
        assert process.wait(60) == -9
    assert list(box.held().values()) == [b"mail\n" * 1000] * there
    assert len(uids(box.login())) == there


# --- tmp/ ------------------------------------------------------------------------------------------------------------

HOUR = 3600


def later(monkeypatch: pytest.MonkeyPatch, hours: float) -> float:
    """Let so much time pass; returns what was the time."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + hours * HOUR)
    return now


@pytest.mark.parametrize(("hours", "left"), [(35.9, ["1.dead"]), (36.1, [])])
def test_what_was_left_in_tmp_is_removed_after_36_hours(
    box: Box, hours: float, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: killed half-way, a delivery leaves a file that nobody else would ever remove; never one in new/ or cur/."""
    for part in ("tmp", "new", "cur"):
        box.put("1.dead", b"half a mess", part)
    later(monkeypatch, hours)
    name = deliver(box.path, b"mail\n")
    assert os.listdir(box.path / "tmp") == left
    assert box.names() == sorted([b"1.dead", b"1.dead", name.encode()])


def test_what_somebody_works_on_in_tmp_stays(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: read an hour ago; just copied, with the times of the original; no file at all."""
    box.put("1.read", part="tmp")
    (box.path / "tmp" / "directory").mkdir()
    os.symlink("nowhere", box.path / "tmp" / "link")
    now = later(monkeypatch, 40)
    os.utime(box.path / "tmp" / "1.read", (now + 39 * HOUR, 1))
    deliver(box.path, b"mail\n")
    assert sorted(os.listdir(box.path / "tmp")) == ["1.read", "directory", "link"]
    monkeypatch.undo()
    os.utime(box.path / "tmp" / "1.read", (1, 1))
    deliver(box.path, b"mail\n")
    assert sorted(os.listdir(box.path / "tmp")) == ["1.read", "directory", "link"]


def test_what_cannot_be_removed_from_tmp_does_not_hold_up_the_mail(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: tried for each of them."""
    tried: list[str] = []

    def unlink(path: str) -> None:
        tried.append(os.path.basename(path))
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("1.dead", "2.dead"):
        box.put(name, part="tmp")
    later(monkeypatch, 40)
    monkeypatch.setattr(os, "unlink", unlink)
    name = deliver(box.path, b"mail\n")
    assert list(box.held()) == [name]
    assert sorted(tried) == ["1.dead", "2.dead"]
