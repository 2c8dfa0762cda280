"""What is in a Maildir, while others work on it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir import scan
from trio_pop3.backends.maildir.scan import MOST_LOOKS, MaildirMessage, Whereabouts, measure, open_message, snapshot

from ..sansio.strategies import messages
from ..sansio.test_body import canon
from .maildir_helpers import Box, open_files

Listdir = Callable[[bytes], list[bytes]]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def taken(box: Box) -> list[MaildirMessage]:
    return snapshot(Whereabouts(box.octets_path))


def bases(box: Box) -> list[bytes]:
    return [message.base for message in taken(box)]


def before_scan(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> list[int]:
    """Call `act(n)` before the n-th directory is listed (two to a scan); returns a list as long as there were."""
    real: Listdir = os.listdir
    listed: list[int] = []

    def listdir(path: bytes) -> list[bytes]:
        listed.append(len(listed) + 1)
        act(listed[-1])
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    return listed


def test_new_and_cur_are_read_and_nothing_else(box: Box) -> None:
    """C7: never tmp/, no dot files, no directories; in order of delivery wherever they are."""
    box.put("3.c", part="new")
    box.put("1.a:2,S", part="cur")
    box.put("2.b", part="cur")
    box.put("4.d", part="tmp")
    box.put(".5.e", part="new")
    (box.path / "cur" / "6.f").mkdir()
    (box.path / ".Junk" / "cur").mkdir(parents=True)
    assert bases(box) == [b"1.a", b"2.b", b"3.c"]


def test_a_message_seen_in_both_counts_once(box: Box) -> None:
    """F1."""
    box.put("1.a", b"same\n", "new")
    box.put("1.a:2,", b"same\n", "cur")
    assert bases(box) == [b"1.a"]


def test_what_is_no_file_is_left_out_and_waits_for_nobody(box: Box) -> None:
    """H11, P4: a FIFO would wait for its writer for ever, a link leads anywhere."""
    (box.root / "secret").write_bytes(b"not mail\n")
    os.mkfifo(box.path / "new" / "1.fifo")
    os.symlink(box.root / "secret", box.path / "new" / "2.link")
    os.symlink(box.root / "nowhere", box.path / "new" / "3.dangling")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(box.path / "new" / "4.sock"))
    (box.path / "new" / "5.directory").mkdir()
    box.put("6.mail")
    before = open_files()
    assert bases(box) == [b"6.mail"]
    assert open_files() == before


@given(st.lists(messages, max_size=5))
def test_sizes_are_those_of_the_canonical_form(tmp_path_factory: pytest.TempPathFactory, mail: list[bytes]) -> None:
    """B1, P2: for any octets, whatever the name claims."""
    box = Box(tmp_path_factory.mktemp("box"))
    for n, content in enumerate(mail):
        box.put(f"{n}.x,S=1,W=2", content)
    assert [message.octets for message in taken(box)] == [len(canon(content)) for content in mail]


@given(messages, st.integers(1, 5))
def test_sizes_do_not_depend_on_how_the_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, octets: int
) -> None:
    """A2, B1: CR and LF may fall into different reads."""
    box = Box(tmp_path_factory.mktemp("box"))
    box.put("1.x", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "READ_OCTETS", octets)
        assert measure(box.octets_path + b"/new/1.x")[0] == len(canon(content))


def test_files_without_a_time_go_by_their_own(box: Box) -> None:
    """C7."""
    for name, seconds in [("b", 30), ("a", 10), ("c", 20)]:
        box.put(name)
        os.utime(box.path / "new" / name, (0, seconds))
    box.put("15.x")
    assert bases(box) == [b"a", b"15.x", b"c", b"b"]


@pytest.mark.parametrize("hidden", [{b"1.a"}, {b"1.a", b"2.b"}])
def test_a_file_the_first_scan_missed_is_found_by_the_second(
    box: Box, hidden: set[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C5, F9: readdir skips what is renamed meanwhile. Even if that is all there is: an empty scan is confirmed too."""
    box.put("1.a")
    box.put("2.b")
    listed = before_scan(monkeypatch, lambda n: None)
    spied: Listdir = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: [name for name in spied(path) if len(listed) > 2 or name not in hidden]
    )
    assert bases(box) == [b"1.a", b"2.b"]


def test_a_file_that_only_one_scan_saw_counts(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5, F9: two scans that agree can both have missed it; only opening it tells whether it is there."""
    box.put("1.a")
    box.put("2.b")
    listed = before_scan(monkeypatch, lambda n: None)
    spied: Listdir = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: [name for name in spied(path) if len(listed) <= 2 or name != b"1.a"]
    )
    assert bases(box) == [b"1.a", b"2.b"]


def test_two_scans_do_when_nothing_happens(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.put("1.a")
    listed = before_scan(monkeypatch, lambda n: None)
    taken(box)
    assert len(listed) == 4


def test_an_endless_storm_of_deliveries_does_not_keep_us(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: scans are bounded, and all that was seen counts."""
    listed = before_scan(monkeypatch, lambda n: box.put(f"{n}.x", part="new"))
    assert len(taken(box)) == 2 * MOST_LOOKS + 1
    assert len(listed) == 2 * (MOST_LOOKS + 1)


def test_a_file_renamed_after_the_scan_is_found_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: renamed between listing and opening, again and again, but not for ever."""
    box.put("1.a", b"one\n")
    box.put("2.b", b"second\n")
    moves = [("new/1.a", "cur/1.a:2,"), ("cur/1.a:2,", "cur/1.a:2,S"), ("cur/1.a:2,S", "cur/1.a:2,RS")]
    real = os.open

    def open_late(path: bytes, *args: int) -> int:
        if b"1.a" in path and moves:
            box.move(*moves.pop(0))
        return real(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    assert [(m.base, m.octets) for m in taken(box)] == [(b"1.a", 5), (b"2.b", 8)]
    assert not moves


def test_a_file_that_is_never_where_it_was_fails_the_login(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F9: it is there, so to leave it out would be a lie; and to go on for ever is no answer."""
    box.put("1.a")
    real, names = os.open, ["cur/1.a:2,S", "new/1.a"]

    def open_late(path: bytes, *args: int) -> int:
        if b"1.a" in path:
            box.move(names[1], names[0])
            names.reverse()
        return real(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    with pytest.raises(OSError, match="again and again"):
        taken(box)


def test_what_vanishes_is_left_out_at_the_price_of_one_look(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5, P4: a hundred files removed by somebody else after the scan do not cost a hundred scans."""
    for n in range(200):
        box.put(f"{n:03d}.x")
    real = os.open

    def open_late(path: bytes, *args: int) -> int:
        if box.names()[0] == b"000.x":
            for n in range(0, 200, 2):
                os.unlink(box.path / "new" / f"{n:03d}.x")
        return real(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    looks: list[int] = []
    look = Whereabouts.look

    def counted(files: Whereabouts) -> dict[bytes, bytes]:
        looks.append(1)
        return look(files)

    monkeypatch.setattr(Whereabouts, "look", counted)
    assert bases(box) == [b"%03d.x" % n for n in range(1, 200, 2)]
    assert len(looks) == 2


def test_mail_that_is_there_is_never_hidden(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F9: what cannot be read fails the login, and says which file it was."""
    box.put("1.good")
    box.put("2.bad")
    real = os.read

    def read(fd: int, octets: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("2.bad"):
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, octets)

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        with pytest.raises(OSError, match=r"Input/output") as caught:
            taken(box)
    assert caught.value.filename == box.octets_path + b"/new/2.bad"
    assert open_files() == before


@pytest.mark.parametrize("part", ["new", "cur"])
def test_half_a_maildir_is_none(box: Box, part: str) -> None:
    """F9."""
    os.rmdir(box.path / part)
    with pytest.raises(FileNotFoundError):
        taken(box)


def test_an_empty_maildir_is_empty(box: Box) -> None:
    """F7."""
    assert taken(box) == []


def test_open_finds_a_message_wherever_it_is_and_looks_once_for_all(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C6, P4: after an IMAP server has moved everything, one look serves all messages."""
    for n in range(5):
        box.put(f"{n}.x", b"%d\n" % n)
    files = Whereabouts(box.octets_path)
    snapshot(files)
    for n in range(5):
        box.move(f"new/{n}.x", f"cur/{n}.x:2,S")
    listed = before_scan(monkeypatch, lambda n: None)
    for n in range(5):
        fd, status = files.open(b"%d.x" % n)
        assert (os.read(fd, 9), status.st_size) == (b"%d\n" % n, 2)
        os.close(fd)
    assert len(listed) == 4


def test_open_says_what_is_gone_and_gives_up_in_a_storm(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C6."""
    box.put("1.a")
    files = Whereabouts(box.octets_path)
    files.look()
    real, names = os.open, ["cur/1.a:2,S", "new/1.a"]

    def open_late(path: bytes, *args: int) -> int:
        box.move(names[1], names[0])
        names.reverse()
        return real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_late)
        with pytest.raises(OSError, match="again and again"):
            files.open(b"1.a")
    os.unlink(box.path / names[1])
    with pytest.raises(FileNotFoundError):
        files.open(b"1.a")
    with pytest.raises(FileNotFoundError):
        files.open(b"never.seen")


def test_open_message_leaks_nothing(box: Box) -> None:
    os.mkfifo(box.path / "new" / "1.fifo")
    before = open_files()
    with pytest.raises(OSError, match="not a regular file"):
        open_message(box.octets_path + b"/new/1.fifo")
    assert open_files() == before
