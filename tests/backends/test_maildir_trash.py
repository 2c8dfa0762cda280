"""The trash: moved there whole, come back the same, gone when its days are over."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.backends.maildir import trash as module
from trio_pop3.backends.maildir.removal import Removal
from trio_pop3.backends.maildir.scan import Whereabouts
from trio_pop3.backends.maildir.survey import snapshot
from trio_pop3.backends.maildir.trash import check_folder, trash

from .maildir_helpers import Box, chowned, open_files

DAY = 86400


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put("1700000001.a", b"one")
    box.put("1700000002.b:2,S", b"two", "cur")
    box.put("1700000003.c", b"three")
    return box


def remove(box: Box, *which: int) -> int:
    """Move these messages to the trash; how many are left."""
    files = Whereabouts(box.octets_path)
    messages = snapshot(files)
    with trash(box.octets_path, ".Trash") as folder:
        work = Removal(files, [messages[n] for n in which], folder)
        while not work.step():
            pass
    return work.remaining


def contents(box: Box) -> dict[str, bytes]:
    folder = box.path / ".Trash"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("new", "cur")
        for path in (folder / part).iterdir()
    }


def expire(box: Box, days: int) -> int:
    """The steps it took."""
    with trash(box.octets_path, ".Trash", make=False) as folder:
        return sum(1 for _ in folder.expire(days))


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = time.time() + days * DAY
    monkeypatch.setattr(time, "time", lambda: now)


# --- there ----------------------------------------------------------------------------------------------------------


def test_moved_under_its_own_name(box: Box) -> None:
    """E10, P1: with flags and all; the rest stays."""
    before = open_files()
    assert remove(box, 0, 1) == 0
    assert contents(box) == {"new/1700000001.a": b"one", "cur/1700000002.b:2,S": b"two"}
    assert box.held() == {"1700000003.c": b"three"}
    assert open_files() == before


def test_made_as_a_folder_of_the_owner(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Maildir++ has it; modes and owner are those of the Maildir."""
    box.path.chmod(0o2750)
    given, owner = chowned(monkeypatch), box.path.stat()
    remove(box, 0)
    folder = box.path / ".Trash"
    for path in (folder, folder / "tmp", folder / "new", folder / "cur"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o2750
    marker = (folder / "maildirfolder").stat()
    assert (stat.S_IMODE(marker.st_mode), marker.st_size) == (0o640, 0)
    made = (".Trash", "new", "cur", "tmp", "maildirfolder")
    assert given == [(name, owner.st_uid, owner.st_gid) for name in made]


def test_a_folder_that_is_there_is_left_as_it_is(box: Box) -> None:
    remove(box, 0)
    (box.path / ".Trash").chmod(0o711)
    (box.path / ".Trash" / "cur").chmod(0o711)
    remove(box, 0)
    assert stat.S_IMODE((box.path / ".Trash").stat().st_mode) == 0o711
    assert stat.S_IMODE((box.path / ".Trash" / "cur").stat().st_mode) == 0o711
    assert len(contents(box)) == 2


def test_half_a_folder_is_completed(box: Box) -> None:
    """P1: whoever was killed while making it."""
    (box.path / ".Trash" / "new").mkdir(parents=True)
    assert remove(box, 0, 1) == 0
    assert len(contents(box)) == 2
    assert (box.path / ".Trash" / "maildirfolder").exists()


def test_repeated_and_renamed_meanwhile(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E5, E6."""
    real, moves = os.rename, [("new/1700000001.a", "cur/1700000001.a:2,S")]

    def rename(old: Any, new: Any, **options: Any) -> None:
        if moves:
            real(*(box.path / path for path in moves.pop()))
        real(old, new, **options)

    files = Whereabouts(box.octets_path)
    messages = snapshot(files)
    monkeypatch.setattr(os, "rename", rename)
    with trash(box.octets_path, ".Trash") as folder:
        for _ in range(2):
            work = Removal(files, messages[:1], folder)
            while not work.step():
                pass
            assert work.remaining == 0
    assert contents(box) == {"cur/1700000001.a:2,S": b"one"}


def test_another_file_of_that_name_stays(box: Box) -> None:
    """P1: from a backup, say; both are kept, and the second one has another name."""
    remove(box, 0)
    box.put("1700000001.a", b"another one")
    assert remove(box, 0) == 0
    assert sorted(contents(box).values()) == [b"another one", b"one"]
    assert contents(box)["new/1700000001.a"] == b"one"


@pytest.mark.parametrize("where", [".Trash", ".Trash/cur", ".Trash/new"])
def test_a_link_leads_nothing_out_of_the_maildir(box: Box, where: str) -> None:
    """H11: nothing is moved, and the messages are still there."""
    elsewhere = box.root / "elsewhere"
    for part in ("tmp", "new", "cur"):
        (elsewhere / part).mkdir(parents=True)
    if where != ".Trash":
        (box.path / ".Trash").mkdir()
    os.symlink(elsewhere if where == ".Trash" else elsewhere / "cur", box.path / where)
    before = open_files()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - by its errno
        remove(box, 0)
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    assert len(box.held()) == 3
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
    assert open_files() == before


def test_a_failure_is_told_and_nothing_is_lost(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E2: another file system, a full disk."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        assert remove(box, 0, 2) == 2
    assert len(box.held()) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot remove '{box.path}/new/{name}': Invalid cross-device link" for name in ("1700000001.a", "1700000003.c")
    ]


def test_synced_where_it_is_before_where_it_was(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2, P1: a power cut may leave it in both places, and never in none."""
    remove(box, 2)
    did: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        did.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), box.path))
        fsync(fd)

    def renamed(*names: Any, **options: Any) -> None:
        did.append("rename")
        rename(*names, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    remove(box, 0)
    assert did == ["rename", ".Trash/new", ".Trash/cur", "new", "cur"]


@pytest.mark.parametrize(
    "name", ["", "Trash", ".", "..", "./x", ".Trash/x", "..Trash", ".a..b", ".trio-pop3.x", ".T\n", "." + "x" * 200]
)
def test_what_is_no_folder(name: str) -> None:
    """H11."""
    with pytest.raises(ValueError, match="trash must be the name of a Maildir"):
        check_folder(name)


@pytest.mark.parametrize("name", [".Trash", ".INBOX.Trash", ".Papierkorb", ".Gel\xf6scht", ".Deleted Items"])
def test_a_folder_of_another_name(box: Box, name: str) -> None:
    check_folder(name)
    with trash(box.octets_path, name) as folder:
        folder.dispose(box.octets_path, b"new/1700000001.a")
    assert (box.path / name / "new" / "1700000001.a").exists()


# --- and back -------------------------------------------------------------------------------------------------------


def test_back_with_the_same_unique_id(box: Box) -> None:
    """P3: nothing about the message has changed, neither place nor flags nor time."""
    files = Whereabouts(box.octets_path)
    before, names = [*snapshot(files)], box.names()
    remove(box, 0, 1, 2)
    with trash(box.octets_path, ".Trash", make=False) as folder:
        found = folder.contents()
        assert {one.base.decode() for one in found} == {message.uid for message in before}
        for one in found:
            folder.restore(box.octets_path, None, one)
    assert ([*snapshot(Whereabouts(box.octets_path))], box.names()) == (before, names)
    assert contents(box) == {}


def test_nothing_is_overwritten_on_the_way_back(box: Box) -> None:
    """P1."""
    remove(box, 0)
    box.put("1700000001.a", b"newer")
    with trash(box.octets_path, ".Trash", make=False) as folder:
        (one,) = folder.contents()
        with pytest.raises(FileExistsError):
            folder.restore(box.octets_path, None, one)
    assert box.held()["1700000001.a"] == b"newer"
    assert contents(box) == {"new/1700000001.a": b"one"}


@pytest.mark.parametrize("where", [".Junk", ".Junk/new"])
def test_no_link_is_followed_to_a_folder(box: Box, where: str) -> None:
    """H11: whoever makes it, also at the last moment."""
    elsewhere = Box(box.root, "bob")
    if where != ".Junk":
        (box.path / ".Junk").mkdir()
    (box.path / where).symlink_to(elsewhere.path if where == ".Junk" else elsewhere.path / "new")
    remove(box, 0)
    before = open_files()
    with trash(box.octets_path, ".Trash", make=False) as folder:
        (one,) = folder.contents()
        with pytest.raises(OSError) as caught:  # noqa: PT011 - by its errno
            folder.restore(box.octets_path, b".Junk", one)
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    assert elsewhere.names() == []
    assert contents(box) == {"new/1700000001.a": b"one"}
    assert open_files() == before


def test_what_is_listed(box: Box) -> None:
    """Regular files, with size and the time they were put there."""
    start = int(time.time())
    remove(box, 0)
    (box.path / ".Trash" / "cur" / "directory").mkdir()
    os.symlink("/etc/passwd", box.path / ".Trash" / "cur" / "link")
    with trash(box.octets_path, ".Trash", make=False) as folder:
        (one,) = folder.contents()
    assert (one.part, one.name, one.stored, one.base) == ("new", b"1700000001.a", 3, b"1700000001.a")
    assert start <= one.since <= time.time()


def test_no_trash_is_made_to_look_into_it(box: Box) -> None:
    with pytest.raises(FileNotFoundError), trash(box.octets_path, ".Trash", make=False):
        pass
    assert not (box.path / ".Trash").exists()


# --- gone -----------------------------------------------------------------------------------------------------------


def test_gone_when_its_days_are_over_and_not_before(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1."""
    remove(box, 0, 1)
    later(monkeypatch, 6.9)
    expire(box, 7)
    assert len(contents(box)) == 2
    later(monkeypatch, 0.2)
    expire(box, 7)
    assert contents(box) == {}
    assert len(box.held()) == 1


def test_the_days_count_from_when_it_was_put_there(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: not from when it was written or delivered."""
    os.utime(box.path / "new" / "1700000001.a", (1, 1))
    remove(box, 0)
    later(monkeypatch, 0.5)
    expire(box, 1)
    assert len(contents(box)) == 1


def test_only_mail_is_removed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: no directory, no link, nothing in tmp/, and what came after the limit is not even looked at."""
    remove(box, 0)
    folder = box.path / ".Trash"
    (folder / "cur" / "1.directory").mkdir()
    os.symlink("/etc/passwd", folder / "cur" / "1.link")
    (folder / "tmp" / "1.unfinished").touch()
    later(monkeypatch, 30)
    (folder / "new" / f"{int(time.time()) - 100}.young").touch()
    expire(box, 7)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.parent != folder)
    assert left == ["cur/1.directory", "cur/1.link", f"new/{int(time.time()) - 100}.young", "tmp/1.unfinished"]


def test_so_many_at_a_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: in steps, and no more in one session than it was said; the oldest first."""
    monkeypatch.setattr(module, "_LOOKED_AT", 5)
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    with trash(box.octets_path, ".Trash"):
        pass
    for n in range(8):
        (box.path / ".Trash" / "cur" / f"{1600000000 + n}.x").touch()
    later(monkeypatch, 2)
    assert expire(box, 1) == 3
    assert sorted(contents(box)) == [f"cur/{1600000000 + n}.x" for n in range(5, 8)]
    expire(box, 1)
    assert contents(box) == {}
