"""What becomes of a file: flags set by the rules of Maildir, and nothing overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir.disposal import Flag, Unlink, is_flagged
from trio_pop3.backends.maildir.names import base_name
from trio_pop3.backends.maildir.removal import Removal
from trio_pop3.backends.maildir.scan import Whereabouts, snapshot

from .maildir_helpers import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("new/1.a", "cur/1.a:2,T"),
        ("cur/1.a", "cur/1.a:2,T"),
        ("cur/1.a:2,", "cur/1.a:2,T"),
        ("cur/1.a:2,FS", "cur/1.a:2,FST"),
        ("cur/1.a:2,Sab", "cur/1.a:2,STab"),
        ("cur/1.a:2,S,W=9", "cur/1.a:2,ST,W=9"),
        ("cur/1.a:1,x", "cur/1.a:2,T"),
        ("new/1.a:2,S", "cur/1.a:2,ST"),
    ],
)
def test_the_flag(box: Box, before: str, after: str) -> None:
    """E10: sorted among the others; what stands behind a comma is left alone; only cur/ has flags."""
    part, _, name = before.partition("/")
    box.put(name, b"mail", part)
    assert not is_flagged(before.encode())
    Flag().dispose(box.octets_path, before.encode())
    assert box.names() == [after.partition("/")[2].encode()]
    assert (box.path / after).read_bytes() == b"mail"
    assert is_flagged(after.encode())


names = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(name=names, part=st.sampled_from(["new", "cur"]))
def test_whatever_it_is_called_its_identity_stays(
    tmp_path_factory: pytest.TempPathFactory, name: bytes, part: str
) -> None:
    """P3: the base name is the same, or the flag is refused and the file is where it was."""
    if name in (b".", b".."):
        return
    box = Box(tmp_path_factory.mktemp("box"))
    box.put(name, b"mail", part)
    path = part.encode() + b"/" + name
    if name.startswith(b":"):
        with pytest.raises(OSError, match="no flag can be set"):
            Flag().dispose(box.octets_path, path)
        assert not is_flagged(path)
    elif not is_flagged(path):
        Flag().dispose(box.octets_path, path)
        assert is_flagged(b"cur/" + box.names()[0])
    assert [base_name(found) for found in box.names()] == [base_name(name)]


def test_another_file_of_that_name_stays(box: Box) -> None:
    """P1: a rename would put one message in the place of another."""
    box.put("1.a", b"new one")
    box.put("1.a:2,T", b"old one", "cur")
    with pytest.raises(FileExistsError):
        Flag().dispose(box.octets_path, b"new/1.a")
    assert sorted(path.read_bytes() for path in [*(box.path / "new").iterdir(), *(box.path / "cur").iterdir()]) == [
        b"new one",
        b"old one",
    ]


@pytest.mark.parametrize("disposal", [Flag(), Unlink()])
def test_what_is_not_there(box: Box, disposal: Flag | Unlink) -> None:
    with pytest.raises(FileNotFoundError):
        disposal.dispose(box.octets_path, b"new/1.a")


def remove(box: Box, *which: int, files: Whereabouts | None = None) -> int:
    """Flag these messages; how many are left."""
    files = files or Whereabouts(box.octets_path)
    messages = snapshot(files)
    work = Removal(files, [messages[n] for n in which], Flag())
    while not work.step():
        pass
    return work.remaining


def test_a_removal_that_flags(box: Box) -> None:
    """E2, E6, P1: durable, to be repeated, and no other file is touched."""
    for name in ("1.a", "2.b", "3.c"):
        box.put(name, name.encode())
    box.move("new/2.b", "cur/2.b:2,S")
    for _ in range(2):
        assert remove(box, 0, 1) == 0
        assert box.names() == [b"1.a:2,T", b"2.b:2,ST", b"3.c"]


def test_flagged_by_an_imap_client_meanwhile(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """E6: between the snapshot and QUIT; done already is done."""
    box.put("1.a")
    files = Whereabouts(box.octets_path)
    messages = snapshot(files)
    box.move("new/1.a", "cur/1.a:2,T")
    work = Removal(files, messages, Flag())
    assert work.step()
    assert work.remaining == 0
    assert not caplog.records


def test_unflagged_by_an_imap_client_under_our_hands(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: it is there again, so it remains."""
    box.put("1.a:2,", part="cur")
    real = os.rename

    def undone(old: bytes, new: bytes) -> None:
        real(old, new)
        real(new, old)

    monkeypatch.setattr(os, "rename", undone)
    assert remove(box, 0) == 1
    assert box.names() == [b"1.a:2,"]


def test_one_of_two_files_with_one_base_name(box: Box) -> None:
    """E10: the other one was not marked."""
    box.put("1.a:2,S", b"first", "cur")
    os.utime(box.path / "cur" / "1.a:2,S", (1, 1))
    box.put("1.a:2,RS", b"second", "cur")
    assert remove(box, 1) == 0
    assert {name: (box.path / "cur" / os.fsdecode(name)).read_bytes() for name in box.names()} == {
        b"1.a:2,S": b"first",
        b"1.a:2,RST": b"second",
    }


def test_synced_after_the_last_rename(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2, P1."""
    box.put("1.a")
    did: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        did.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def renamed(old: bytes, new: bytes) -> None:
        did.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    assert remove(box, 0) == 0
    assert did == ["rename", "new", "cur"]
