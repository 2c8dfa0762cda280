"""What is in a Maildir, while others work on it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir import scan, survey
from trio_pop3.backends.maildir.scan import MOST_LOOKS, MaildirMessage, Whereabouts, measure, move_new, open_message
from trio_pop3.backends.maildir.survey import snapshot

from ..driving import Dialogue
from ..sansio.strategies import messages
from ..sansio.test_body import canon
from .maildir_helpers import Box, child, open_files, uids

Listdir = Callable[[bytes], list[bytes]]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def taken(box: Box) -> Sequence[MaildirMessage]:
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
    """F1: one file under two names, as agents leave it that link and then unlink."""
    box.put("1.a", b"same\n", "new")
    os.link(box.path / "new" / "1.a", box.path / "cur" / "1.a:2,")
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


def test_one_scan_does_if_the_directories_say_so(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: nothing was renamed since long before it, until its end."""
    box.put("1.a")
    monkeypatch.setattr(scan, "SETTLED_NS", -(10**9))
    listed = before_scan(monkeypatch, lambda n: None)
    assert bases(box) == [b"1.a"]
    assert len(listed) == 2


@pytest.mark.parametrize("settled", [-(10**9), scan.SETTLED_NS])
def test_no_single_scan_does_while_files_are_renamed(box: Box, settled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5, F9: a file that is missing from the first two scans, which agree with each other, is found by the third."""
    monkeypatch.setattr(scan, "SETTLED_NS", settled)
    flags = "abcdefghijklmnopqrstuvwxyz"
    box.put("1.a:2,", part="cur")
    box.put("2.b:2,", part="cur")
    names = {"1.a": "1.a:2,", "2.b": "2.b:2,"}

    def rename(n: int) -> None:
        for base, old in names.items():
            names[base] = f"{base}:2,{flags[n % 26]}"
            box.move(f"cur/{old}", f"cur/{names[base]}")
        os.utime(box.path / "cur", (n, n))  # the clock of the file system has gone on

    listed = before_scan(monkeypatch, rename)
    spied: Listdir = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: [name for name in spied(path) if len(listed) > 4 or not name.startswith(b"1.a")]
    )
    assert set(Whereabouts(box.octets_path).look()) == {b"1.a", b"2.b"}


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
        if b"/new/" in path and box.names()[0] == b"000.x":
            for n in range(0, 200, 2):
                os.unlink(box.path / "new" / f"{n:03d}.x")
        return real(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    looks: list[int] = []
    scan_all = Whereabouts.scan

    def counted(files: Whereabouts) -> None:
        looks.append(1)
        scan_all(files)

    monkeypatch.setattr(Whereabouts, "scan", counted)
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


# --- one base name, several files ------------------------------------------------------------------------------------


def written(box: Box, *files: tuple[str, str]) -> None:
    """Files of (part, name), each written a second after the one before, and holding its path."""
    for seconds, (part, name) in enumerate(files, 1_700_000_000):
        box.put(name, f"{part}/{name}\n".encode(), part)
        os.utime(box.path / part / name, (seconds, seconds))


def shown(box: Box) -> dict[str, str]:
    """uid -> path, which is what the message holds."""
    files = Whereabouts(box.octets_path)
    found = {}
    for message in snapshot(files):
        fd, status = files.open(message)
        found[message.uid] = os.read(fd, status.st_size).decode().rstrip()
        os.close(fd)
    return found


def hashed(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:40]


@pytest.mark.parametrize(
    "names", [("cur/same:2,S", "cur/same:2,RS"), ("cur/same:2,RS", "cur/same:2,S"), ("new/same", "cur/same:2,"),
              ("cur/same", "new/same"), ("new/same", "cur/same")]
)  # fmt: skip
def test_two_files_with_one_base_name_are_two_messages(box: Box, names: tuple[str, str]) -> None:
    """F1, F5, P1: neither hides the other; the one that was there first keeps the unique-id that it had (F2)."""
    first, second = (tuple(name.split("/")) for name in names)
    written(box, (first[0], first[1]), (second[0], second[1]))
    assert shown(box) == {"same": names[0], hashed(names[1]): names[1]}


def test_what_goes_by_its_path_keeps_its_unique_id_while_that_stays(box: Box) -> None:
    """F2, P3: whatever becomes of the other files, save the one whose place it takes when it is alone."""
    written(box, ("cur", "x:2,S"), ("cur", "x:2,T"), ("cur", "x:2,R"), ("new", "x"))
    ids = shown(box)
    assert ids == {"x": "cur/x:2,S", **{hashed(path): path for path in ("cur/x:2,T", "cur/x:2,R", "new/x")}}
    box.move("cur/x:2,S", "cur/x:2,FS")
    os.unlink(box.path / "cur" / "x:2,R")
    assert shown(box).keys() == ids.keys() - {hashed("cur/x:2,R")}
    for name in ("x:2,FS", "x:2,T"):
        os.unlink(box.path / "cur" / name)
    assert shown(box) == {"x": "new/x"}


def test_names_without_a_base_name_are_their_own(box: Box) -> None:
    """F1: what begins with the flags has no identity in common with anything."""
    written(box, ("cur", ":2,a"), ("cur", ":2,b"), ("new", ":2,b"))
    assert shown(box) == {":2,a": "cur/:2,a", ":2,b": "cur/:2,b", hashed("new/:2,b"): "new/:2,b"}


@pytest.mark.parametrize("thing", ["directory", "link", "fifo"])
@pytest.mark.parametrize("part", ["new", "cur"])
def test_what_is_no_file_hides_none(box: Box, part: str, thing: str) -> None:
    """P1, H11: mail goes before whatever has its name."""
    other = "cur" if part == "new" else "new"
    written(box, (other, "1.a:2,S"))
    path = box.path / part / "1.a"
    make: dict[str, Callable[[], object]] = {
        "directory": path.mkdir,
        "link": lambda: path.symlink_to("/etc/passwd"),
        "fifo": lambda: os.mkfifo(path),
    }
    make[thing]()
    os.utime(path, (1, 1), follow_symlinks=False)
    assert shown(box) == {"1.a": f"{other}/1.a:2,S"}
    os.unlink(box.path / other / "1.a:2,S")
    assert shown(box) == {}


def test_things_that_are_no_files_and_share_a_name(box: Box) -> None:
    (box.path / "new" / "1.a").mkdir()
    (box.path / "cur" / "1.a:2,").mkdir()
    assert shown(box) == {}


@pytest.mark.parametrize("listed_before", [1, 2, 3, 4])
def test_a_file_renamed_between_two_listings_is_one_message(
    box: Box, listed_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1, C5: it may be seen under both names, in one scan or in two."""
    written(box, ("new", "1.a"))

    def move(n: int) -> None:
        if n == listed_before:
            box.move("new/1.a", "cur/1.a:2,")

    before_scan(monkeypatch, move)
    assert bases(box) == [b"1.a"]


def test_a_storm_of_renames_makes_no_doubles(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1, C5: every listing finds all files under other names, and links that come and go beside them."""
    flags = [f"{n}.x:2," for n in range(5)]
    for name in flags:
        box.put(name, part="cur")

    def rename(n: int) -> None:
        for at, old in enumerate(flags):
            flags[at] = f"{at}.x:2,{'S' * n}"
            box.move(f"cur/{old}", f"cur/{flags[at]}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(box.path / "new" / f"{(n - 1) % 5}.x")
        os.link(box.path / "cur" / flags[n % 5], box.path / "new" / f"{n % 5}.x")

    before_scan(monkeypatch, rename)
    assert bases(box) == [b"%d.x" % n for n in range(5)]


def test_a_shared_name_whose_files_all_move_is_looked_up_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5, P1: all paths of one base name are old when it is to be told which are different files."""
    written(box, ("new", "1.a"), ("cur", "1.a:2,S"))
    real, moves = os.lstat, [("new/1.a", "cur/1.a:2,T"), ("cur/1.a:2,S", "cur/1.a:2,RS")]

    def lstat(path: bytes) -> os.stat_result:
        while moves:
            box.move(*moves.pop())
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert set(shown(box).values()) == {"new/1.a", "cur/1.a:2,S"}


def test_a_message_that_moves_while_the_other_is_measured(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1, C5: neither is left out, nor counted twice."""
    written(box, ("cur", "1.a:2,S"), ("cur", "1.a:2,T"))
    real, moves = os.open, [("cur/1.a:2,T", "cur/1.a:2,ST")]

    def open_late(path: bytes, *args: int) -> int:
        if path.endswith(b"2,S") and moves:
            box.move(*moves.pop())
        return real(path, *args)

    monkeypatch.setattr(os, "open", open_late)
    assert sorted(shown(box).values()) == ["cur/1.a:2,S", "cur/1.a:2,T"]


names = st.sampled_from(["a", "a:2,", "a:2,S", "a:2,T", "b", "b:2,S", ":2,", ":2,S", "a b", "a b:2,"])
places = st.sampled_from(["new", "cur"])


@given(files=st.lists(st.tuples(places, names), unique=True), others=st.lists(st.tuples(places, names), unique=True))
def test_every_file_is_a_message_and_no_two_are_one(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str]], others: list[tuple[str, str]]
) -> None:
    """F1, P1: whatever the names; each is shown once, under a unique-id of its own, and can be read."""
    box = Box(tmp_path_factory.mktemp("box"))
    for part, name in {*others} - {*files}:
        (box.path / part / name).mkdir()
    written(box, *files)
    ids = shown(box)
    assert sorted(ids.values()) == sorted("/".join(file) for file in files)
    assert shown(box) == ids


def test_no_file_is_asked_for_its_number_without_need(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: a hundred thousand of them would be."""
    for n in range(10):
        box.put(f"{n}.x:2,S", part="cur")
    for call in ("lstat", "scandir"):
        monkeypatch.setattr(os, call, None)
    assert len(taken(box)) == 10


# --- many ------------------------------------------------------------------------------------------------------------


def test_many_are_sorted_in_portions(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4, C7: in bounded portions, since no other thread runs meanwhile; the order is the same."""
    monkeypatch.setattr(survey, "_PORTION", 8)
    monkeypatch.setattr(survey, "_SAMPLED", 2)
    for n in range(300):
        box.put(f"1{n * 7919 % 300:03d}.x")
    longest: list[int] = []

    def spied(things: list[bytes]) -> list[bytes]:
        longest.append(len(things))
        return real(things)

    real = sorted
    monkeypatch.setattr(survey, "sorted", spied, raising=False)
    assert bases(box) == [b"1%03d.x" % n for n in range(300)]
    assert max(longest[1:]) < 40


def test_a_file_that_grows_while_it_is_measured(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: as long as it was when it was opened, however fast it grows."""
    monkeypatch.setattr(scan, "READ_OCTETS", 4)
    box.put("1.a", b"12345678\n")
    real, more = os.read, [b"more\n"] * 1000

    def read(fd: int, octets: int) -> bytes:
        with open(box.path / "new" / "1.a", "ab") as file:
            file.write(more.pop() if more else b"")
        return real(fd, octets)

    monkeypatch.setattr(os, "read", read)
    assert [message.octets for message in taken(box)] == [10]


# --- finding them again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["new", "cur"])
def test_half_a_maildir_is_none(box: Box, part: str) -> None:
    """F9."""
    os.rmdir(box.path / part)
    with pytest.raises(FileNotFoundError):
        taken(box)


def test_an_empty_maildir_is_empty(box: Box) -> None:
    """F7."""
    assert not taken(box)


def test_open_finds_a_message_wherever_it_is_and_looks_once_for_all(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C6, P4: after an IMAP server has moved everything, one look serves all messages."""
    for n in range(5):
        box.put(f"{n}.x", b"%d\n" % n)
    files = Whereabouts(box.octets_path)
    found = snapshot(files)
    for n in range(5):
        box.move(f"new/{n}.x", f"cur/{n}.x:2,S")
    listed = before_scan(monkeypatch, lambda n: None)
    for n in range(5):
        fd, status = files.open(found[n])
        assert (os.read(fd, 9), status.st_size) == (b"%d\n" % n, 2)
        os.close(fd)
    assert len(listed) == 4


def test_open_says_what_is_gone_and_gives_up_in_a_storm(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C6."""
    box.put("1.a")
    files = Whereabouts(box.octets_path)
    [message] = snapshot(files)
    real, names = os.open, ["cur/1.a:2,S", "new/1.a"]

    def open_late(path: bytes, *args: int) -> int:
        box.move(names[1], names[0])
        names.reverse()
        return real(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_late)
        with pytest.raises(OSError, match="again and again"):
            files.open(message)
    os.unlink(box.path / names[1])
    with pytest.raises(FileNotFoundError):
        files.open(message)
    with pytest.raises(FileNotFoundError):
        files.open(MaildirMessage("x", 2, b"never.seen", 1))


def test_open_gives_no_other_file_that_has_the_name(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """C6, P2: what has been put in its place was never announced. Found out with one look."""
    box.put("1.a", b"shown\n")
    files = Whereabouts(box.octets_path)
    [message] = snapshot(files)
    box.put("other", b"other\n", "tmp")
    box.move("tmp/other", "new/1.a")
    before = open_files()
    with monkeypatch.context() as patch:
        listed = before_scan(patch, lambda n: None)
        with pytest.raises(FileNotFoundError):
            files.open(message)
    assert len(listed) == 4
    assert open_files() == before


@pytest.mark.parametrize("thing", ["directory", "file"])
def test_open_finds_a_message_behind_what_took_its_name(box: Box, thing: str) -> None:
    """C6, P1: moved to cur/, and something else is where it was."""
    box.put("1.a", b"shown\n")
    files = Whereabouts(box.octets_path)
    [message] = snapshot(files)
    box.move("new/1.a", "cur/1.a:2,S")
    if thing == "file":
        box.put("1.a", b"other\n", "new")
    else:
        (box.path / "new" / "1.a").mkdir()
    fd, _ = files.open(message)
    assert os.read(fd, 9) == b"shown\n"
    os.close(fd)


def test_open_message_leaks_nothing(box: Box) -> None:
    os.mkfifo(box.path / "new" / "1.fifo")
    before = open_files()
    with pytest.raises(OSError, match="not a regular file"):
        open_message(box.octets_path + b"/new/1.fifo")
    assert open_files() == before


# --- from new/ to cur/ -----------------------------------------------------------------------------------------------


def test_new_mail_is_moved_to_cur_if_it_is_wanted(box: Box) -> None:
    """C7: without flags, and shown under the same unique-id; and only then."""
    box.put("1.a")
    box.put("2.b:2,S", part="cur")
    box.put("3.c", part="tmp")
    first = box.login()
    assert uids(first) == ["1.a", "2.b"]
    assert os.listdir(box.path / "new") == ["1.a"]
    first.close()
    dialogue = Dialogue(box.backend(move_new=True))
    assert dialogue.login().startswith(b"+OK")
    assert uids(dialogue) == ["1.a", "2.b"]
    assert dialogue.ask("RETR 1").startswith(b"+OK")
    assert os.listdir(box.path / "new") == []
    assert sorted(os.listdir(box.path / "cur")) == ["1.a:2,", "2.b:2,S"]
    assert os.listdir(box.path / "tmp") == ["3.c"]


def test_what_cannot_be_moved_stays(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F5, F9: what has a name in cur/ already is not lost, what is no file is left alone."""
    box.put("1.a", b"new\n")
    box.put("1.a:2,", b"cur\n", "cur")
    box.put("2.b:2,S")
    box.put(".hidden")
    (box.path / "new" / "3.directory").mkdir()
    os.symlink("/etc/passwd", box.path / "new" / "4.link")
    before = sorted(os.listdir(box.path / "new"))
    move_new(box.octets_path)
    assert sorted(os.listdir(box.path / "new")) == before
    assert (box.path / "cur" / "1.a:2,").read_bytes() == b"cur\n"
    box.put("5.e")

    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "rename", refused)
    dialogue = Dialogue(box.backend(move_new=True))
    assert dialogue.login().startswith(b"+OK")
    assert "5.e" in uids(dialogue)


# --- a storm ---------------------------------------------------------------------------------------------------------

# Renames all files, again and again, and delivers one now and then, until its input is closed.
STORM = """
import random, select
chance, files, late = random.Random(int(sys.argv[2])), {}, 0
for part in ("new", "cur"):
    for name in os.listdir(box.path / part):
        files[name.partition(":")[0]] = part + "/" + name
bases = [*files]
print("blows", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for base in chance.choices(bases[:20], k=20) + chance.choices(bases, k=180):
        path = "cur/%s:2,%s" % (base, "".join(sorted(chance.sample("DFPRST", chance.randrange(7)))))
        os.rename(box.path / files[base], box.path / path)
        files[base] = path
    late += 1
    name = "%d.late" % (1800000000 + late)
    box.put(name, b"late\\n", "tmp")
    os.rename(box.path / "tmp" / name, box.path / "new" / name)
"""


# For minutes of it, give their number in the environment.
FILES = 2000
LOGINS = int(os.environ.get("MAILDIR_STORM_LOGINS", "4"))


@pytest.mark.parametrize("seed", [1])
def test_a_storm_of_renames_and_deliveries_hides_and_doubles_nothing(box: Box, seed: int) -> None:
    """C5, F9, P2, P3: another process renames thousands of files while we log in; a single scan misses some of them.

    No message is missing, there twice, in another place, or under another unique-id; and each is found for RETR.
    """
    expected = []
    for n in range(FILES):
        base = f"{1700000000 + n}.M1P1.with-a-name-that-is-as-long-as-they-are"
        box.put(base if n % 3 else base + ":2,", b"x\n" * (n % 7), "new" if n % 3 else "cur")
        expected.append((base, max(2, 3 * (n % 7))))
    with child(box.root, f"sys.argv.append({seed})\n" + STORM) as storm:
        assert storm.stdout is not None and storm.stdin is not None
        assert storm.stdout.readline() == "blows\n"
        for _ in range(LOGINS):
            files = Whereabouts(box.octets_path)
            found = snapshot(files)
            assert [(m.uid, m.octets) for m in found[:FILES]] == expected
            late = [m.uid for m in found[FILES:]]
            assert late == [f"{1800000001 + n}.late" for n in range(len(late))]
            for n in range(0, FILES, 200):
                fd, _ = files.open(found[n])
                os.close(fd)
        storm.stdin.close()
    assert storm.returncode == 0
    assert late
