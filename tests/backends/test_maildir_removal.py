"""Removing what was marked and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trio_pop3.backends.maildir import removal
from trio_pop3.backends.maildir.removal import Removal
from trio_pop3.backends.maildir.scan import MOST_LOOKS, MaildirMessage, Whereabouts
from trio_pop3.backends.maildir.survey import snapshot

from .maildir_helpers import Box

NAMES = ["1.a", "2.b", "3.c"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for name in NAMES:
        box.put(name, name.encode())
    return box


class Shown:
    """What a session has seen."""

    def __init__(self, box: Box) -> None:
        self.files = Whereabouts(box.octets_path)
        self.messages = snapshot(self.files)

    def named(self, *bases: bytes) -> list[MaildirMessage]:
        return [message for message in self.messages if message.base in bases]


def remove(shown: Shown, *bases: bytes) -> int:
    """To the end; how many remain."""
    work = Removal(shown.files, shown.named(*bases))
    while not work.step():
        pass
    return work.remaining


def on_unlink(monkeypatch: pytest.MonkeyPatch, act: Callable[[bytes], None]) -> None:
    """Do something just before a file is unlinked."""
    real = os.unlink

    def unlink(path: bytes) -> None:
        act(path)
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)


def test_what_is_marked_goes_and_the_rest_stays(box: Box) -> None:
    """E10, P1: also what looks alike."""
    for name in ("1.a,S=3", "1.", "1.ab"):
        box.put(name, b"other")
    box.put("1.a", b"being written", "tmp")
    assert remove(Shown(box), b"1.a", b"3.c") == 0
    assert box.held() == {"2.b": b"2.b", "1.a,S=3": b"other", "1.": b"other", "1.ab": b"other"}
    assert (box.path / "tmp" / "1.a").exists()


def test_it_can_be_repeated(box: Box) -> None:
    """E6: what is gone is a success."""
    shown = Shown(box)
    assert remove(shown, b"1.a") == 0
    assert remove(shown, b"1.a") == 0
    assert sorted(box.held()) == ["2.b", "3.c"]


def test_renamed_since_the_snapshot(box: Box) -> None:
    """E5: found by base name."""
    shown = Shown(box)
    box.move("new/1.a", "cur/1.a:2,")
    box.move("new/2.b", "cur/2.b:2,FS")
    assert remove(shown, b"1.a", b"2.b") == 0
    assert list(box.held()) == ["3.c"]


def test_renamed_under_our_hands(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E5: between our look and our unlink, more than once."""
    moves = [("new/1.a", "cur/1.a:2,"), ("cur/1.a:2,", "cur/1.a:2,S"), ("cur/1.a:2,S", "new/1.a")]

    def move(path: bytes) -> None:
        if moves and b"1.a" in path:
            box.move(*moves.pop(0))

    on_unlink(monkeypatch, move)
    assert remove(Shown(box), b"1.a") == 0
    assert sorted(box.held()) == ["2.b", "3.c"]


def test_renamed_for_ever_is_reported(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: it ends, says that one remains, and the others are gone."""
    names, tries = ["cur/1.a:2,S", "new/1.a"], []

    def move(path: bytes) -> None:
        if b"1.a" in path:
            tries.append(path)
            box.move(names[1], names[0])
            names.reverse()

    on_unlink(monkeypatch, move)
    assert remove(Shown(box), b"1.a", b"2.b") == 1
    assert len(tries) == MOST_LOOKS
    assert sorted(box.held()) == ["1.a", "3.c"]


def test_a_message_that_is_there_twice_is_gone_from_both(box: Box) -> None:
    """E10: some agents move by link and unlink; killed in between, they leave two names."""
    os.link(box.path / "new" / "1.a", box.path / "cur" / "1.a:2,S")
    assert remove(Shown(box), b"1.a") == 0
    assert sorted(box.held()) == ["2.b", "3.c"]


def test_the_rest_is_tried_and_the_failure_counted(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E2: tried once, logged once."""

    def fail(path: bytes) -> None:
        if path.endswith(b"2.b"):
            raise OSError(errno.EIO, "Input/output error")

    on_unlink(monkeypatch, fail)
    assert remove(Shown(box), *(name.encode() for name in NAMES)) == 1
    assert list(box.held()) == ["2.b"]
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot remove '{box.path}/new/2.b': Input/output error"
    ]


def test_a_failure_that_somebody_else_made_good_is_none(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: the directory says what remains, not our tally of errors."""
    real = os.unlink

    def unlink(path: bytes) -> None:
        real(path)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", unlink)
    assert remove(Shown(box), b"1.a") == 0


def test_synced_when_it_says_so(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2, P1: after the last unlink, both directories; also when all was gone before (E6)."""
    did: list[str] = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        did.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    on_unlink(monkeypatch, lambda path: did.append("unlink"))
    shown = Shown(box)
    for expected in (["unlink", "unlink", "new", "cur"], ["new", "cur"]):
        did.clear()
        assert remove(shown, b"1.a", b"2.b") == 0
        assert did == expected


@pytest.mark.parametrize("broken", ["fsync", "listdir"])
def test_not_knowing_is_an_error(box: Box, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2."""
    shown = Shown(box)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="Input/output"):
        remove(shown, b"1.a")


def test_in_steps(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4, P1: a deadline may act between any two; what is removed then was marked."""
    monkeypatch.setattr(removal, "_REMOVED_AT_ONCE", 1)
    shown = Shown(box)
    work = Removal(shown.files, shown.named(b"1.a", b"3.c"))
    assert not work.step()
    assert sorted(box.held()) == ["2.b", "3.c"]
    assert work.step()
    assert sorted(box.held()) == ["2.b"]
    assert work.remaining == 0


# --- never another file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("marked", "left"), [(0, "second"), (1, "first")])
def test_of_two_files_with_one_base_name_the_marked_one_goes(box: Box, marked: int, left: str) -> None:
    """E10, P1: both were shown, as two messages; the other one is shown again."""
    box.put("4.d:2,S", b"first", "cur")
    os.utime(box.path / "cur" / "4.d:2,S", (1, 1))
    box.put("4.d:2,RS", b"second", "cur")
    shown = Shown(box)
    work = Removal(shown.files, [shown.named(b"4.d")[marked]])
    assert work.step()
    assert work.remaining == 0
    assert box.held()["4.d"] == left.encode()
    assert len(Shown(box).messages) == 4


def test_both_of_two_files_with_one_base_name(box: Box) -> None:
    """E10."""
    box.put("1.a:2,S", b"second", "cur")
    assert remove(Shown(box), b"1.a") == 0
    assert sorted(box.held()) == ["2.b", "3.c"]


@pytest.mark.parametrize("where", ["new/1.a:2,F", "cur/1.a:2,S"])
def test_a_file_that_came_after_the_snapshot_stays(box: Box, where: str) -> None:
    """E10, P1: it has the base name of a marked message, and was never shown."""
    shown = Shown(box)
    part, name = where.split("/")
    box.put(name, b"came later", part)
    assert remove(shown, b"1.a", b"2.b") == 0
    assert box.held() == {"1.a": b"came later", "3.c": b"3.c"}


@pytest.mark.parametrize("busy", [False, True])
def test_a_file_that_was_put_in_its_place_stays_and_is_reported(
    box: Box, busy: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E2, E10, P1: under its very name. The client is told that something is still there; once is enough to see it."""
    shown = Shown(box)
    box.put("other", b"rewritten", "tmp")
    box.move("tmp/other", "new/1.a")
    looks: list[int] = []
    look = Whereabouts.look

    def counted(files: Whereabouts) -> dict[bytes, bytes]:
        looks.append(1)
        return look(files)

    monkeypatch.setattr(Whereabouts, "look", counted)
    if busy:
        moves = [("new/2.b", "cur/2.b:2,")]
        on_unlink(monkeypatch, lambda path: box.move(*moves.pop()) if moves else None)
    assert remove(shown, b"1.a", b"2.b") == 1
    assert box.held() == {"1.a": b"rewritten", "3.c": b"3.c"}
    assert [record.getMessage() for record in caplog.records] == ["'1.a' is not the file that was shown, so it stays"]
    assert len(looks) == 1 + busy


@pytest.mark.parametrize("content", [b"longer than it was", b"1.A"], ids=["longer", "as long"])
def test_what_was_written_to_since_login_stays_and_is_reported(
    box: Box, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """E2, E10, P1: nobody was shown what it says now. The next login measures it anew, and it can be removed."""
    shown = Shown(box)
    (box.path / "new" / "1.a").write_bytes(content)
    index = box.path / ".trio-pop3.index"
    index.write_bytes(b"of no use any more")
    assert remove(shown, b"1.a", b"2.b") == 1
    assert box.held() == {"1.a": content, "3.c": b"3.c"}
    assert [record.getMessage() for record in caplog.records] == ["'1.a' has been written to since login, so it stays"]
    assert not index.exists()
    assert remove(Shown(box), b"1.a") == 0


def test_what_the_index_was_wrong_about_is_measured_anew(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P4: in a large Maildir, a file that was put in place of another is not seen at login, nor by who only deletes."""
    shown = Shown(box)
    box.put("other", b"rewritten", "tmp")
    box.move("tmp/other", "new/1.a")
    (box.path / ".trio-pop3.index").mkdir()
    assert remove(shown, b"1.a") == 1
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        "'1.a' is not the file that was shown, so it stays",
        f"cannot delete the index of {str(box.path)!r}",
    ]
    (box.path / ".trio-pop3.index").rmdir()
    (box.path / ".trio-pop3.index").write_bytes(b"wrong")
    assert remove(shown, b"1.a") == 1
    assert not (box.path / ".trio-pop3.index").exists()


@pytest.mark.parametrize("swapped", ["", "cur", "new"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_other_directories_prove_nothing(box: Box, swapped: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2, P1: not mounted any more, or renamed: that a message is not in those does not mean that it is gone."""
    box.put("4.d", b"4.d", "cur")
    shown = Shown(box)

    def swap() -> None:
        os.rename(box.path / swapped, box.root / "aside")
        Box(box.root)

    if when == "before":
        swap()
    else:
        look = Whereabouts.look

        def swapped_first(files: Whereabouts) -> dict[bytes, bytes]:
            monkeypatch.setattr(Whereabouts, "look", look)
            swap()
            return look(files)

        monkeypatch.setattr(Whereabouts, "look", swapped_first)
    with pytest.raises(OSError, match="another directory than at login"):
        remove(shown, b"1.a", b"4.d")


def test_renamed_after_the_look(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E5: gone from where the look saw it, so nobody knows yet; the next look finds it."""
    shown = Shown(box)
    box.move("new/1.a", "cur/1.a:2,")
    real, moves = os.lstat, [("cur/1.a:2,", "cur/1.a:2,S")]

    def lstat(path: bytes) -> os.stat_result:
        if path.endswith(b"2,") and moves:
            box.move(*moves.pop())
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert remove(shown, b"1.a") == 0
    assert not moves
    assert sorted(box.held()) == ["2.b", "3.c"]
