"""What is kept of sizes: whatever becomes of it, no unique-id and no size changes."""

from __future__ import annotations

import errno
import itertools
import os
import random
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir import index, scan, survey
from trio_pop3.backends.maildir.index import INDEX_NAME, UNKNOWN, Columns, Index, load, save, state_of
from trio_pop3.backends.maildir.scan import Whereabouts
from trio_pop3.backends.maildir.survey import snapshot

from ..sansio.strategies import messages
from ..sansio.test_body import canon
from .maildir_helpers import Box, body, chowned, lines, open_files

Seen = list[tuple[str, int]]
# Times long past, no two the same: what happens within one tick of a file system's clock is another matter.
_seconds = itertools.count(1_600_000_000)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is kept at once, however little it is and however young."""
    make_eager(monkeypatch)


def make_eager(patch: pytest.MonkeyPatch, *, settled: int = 0, portion: int = index.PORTION) -> None:
    patch.setattr(survey, "_WORTH", 1)
    patch.setattr(survey, "_MANY", 1)
    for module in (scan, survey):
        patch.setattr(module, "SETTLED_NS", settled)
    for module in (index, survey):
        patch.setattr(module, "PORTION", portion)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for n in range(6):
        box.put(f"170000000{n}.x", b"%d\n" % n * (n + 1), "cur" if n % 2 else "new")
    settle(box)
    return box


def settle(box: Box) -> None:
    """Give all that has just changed a time of its own, long past."""
    for part in ("new", "cur"):
        with os.scandir(box.path / part) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_mtime > 1_690_000_000:
                    os.utime(entry.path, (0, next(_seconds)), follow_symlinks=False)
        os.utime(box.path / part, (0, next(_seconds)))


def index_path(box: Box) -> Path:
    return box.path / os.fsdecode(INDEX_NAME)


def seen(box: Box) -> Seen:
    found = snapshot(Whereabouts(box.octets_path))
    assert [(message.uid, message.octets) for message in found] == [*zip(found.uids, found.octets, strict=True)]
    return [(message.uid, message.octets) for message in found]


def seen_without(box: Box) -> Seen:
    """The truth: with nothing to remember."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "load", lambda maildir: None)
        patch.setattr(survey, "save", lambda maildir, index: None)
        return seen(box)


def unread(*_: Any) -> Any:
    raise AssertionError("a message was read")


# --- whatever becomes of it -------------------------------------------------------------------------------------------

names = st.sampled_from(
    ["1700000001.a", "1700000002.b:2,S", "1700000003.c:2,FS", "d", "e:2,", "two words:2,S", "f" * 90, "g:2,S", "g:2,T",
     "0123456789" * 4, ":2,S", "h\n"]
)  # fmt: skip
boxes = st.dictionaries(st.tuples(st.sampled_from(["new", "cur"]), names), messages, max_size=8)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes, bytes], bytes | None]:
    """From what was written, and what was written in another Maildir, to what is found; None for nothing."""
    kind = draw(st.sampled_from(["gone", "cut", "bit", "noise", "swapped", "longer", "mixed", "zeroed"]))
    where, what = draw(st.integers(0, 2**16)), draw(st.binary(max_size=40))

    def flipped(data: bytes) -> bytes:
        at = where % (8 * len(data))
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        return bytes(changed)

    def overwritten(data: bytes) -> bytes:
        at = where % len(data)
        return (data[:at] + what + data[at + len(what) :])[: len(data)]

    damage: dict[str, Callable[[bytes, bytes], bytes | None]] = {
        "gone": lambda data, other: None,
        "cut": lambda data, other: data[: where % len(data)],
        "bit": lambda data, other: flipped(data),
        "noise": lambda data, other: overwritten(data),
        "swapped": lambda data, other: other,
        "longer": lambda data, other: data + what,
        "mixed": lambda data, other: data[: where % len(data)] + other[where % len(data) :],
        "zeroed": lambda data, other: bytes(len(data)),
    }
    return damage[kind]


def filled(box: Box, mail: dict[tuple[str, str], bytes]) -> Box:
    for (part, name), content in mail.items():
        box.put(name, content, part)
    settle(box)
    return box


@given(mail=boxes, others=boxes, damage=damages(), portion=st.sampled_from([2, index.PORTION]))
def test_no_damage_changes_a_unique_id_or_a_size(
    tmp_path_factory: pytest.TempPathFactory,
    mail: dict[tuple[str, str], bytes],
    others: dict[tuple[str, str], bytes],
    damage: Callable[[bytes, bytes], bytes | None],
    portion: int,
) -> None:
    """P2, P3, C9: deleted, cut short anywhere, any bit turned, noise, another Maildir's."""
    root = tmp_path_factory.mktemp("boxes")
    box, other = filled(Box(root), mail), filled(Box(root, "bob"), others)
    with pytest.MonkeyPatch.context() as patch:
        make_eager(patch, portion=portion)
        truth = seen(box)
        assert sorted(octets for _, octets in truth) == sorted(len(canon(content)) for content in mail.values())
        seen(other)
        for target, foreign in ((box, other), (other, box)):
            save(target.octets_path, load(target.octets_path) or Index(Columns(), UNKNOWN))
            save(foreign.octets_path, load(foreign.octets_path) or Index(Columns(), UNKNOWN))
        damaged = damage(index_path(box).read_bytes(), index_path(other).read_bytes())
        if damaged is None:
            index_path(box).unlink()
        else:
            index_path(box).write_bytes(damaged)
        assert seen(box) == truth
        assert seen(box) == truth  # also with what was made of it


@given(st.binary(max_size=200), st.booleans())
def test_noise_is_no_index(tmp_path_factory: pytest.TempPathFactory, noise: bytes, headed: bool) -> None:
    """Also behind the right first line and with the right checksum."""
    box = Box(tmp_path_factory.mktemp("box"))
    if headed:
        noise = index._MAGIC + zlib.crc32(noise).to_bytes(4, sys.byteorder) + noise
    index_path(box).write_bytes(noise)
    assert load(box.octets_path) is None
    assert seen(box) == []


@pytest.mark.parametrize("longer", [False, True])
def test_one_that_is_too_long_is_not_read(box: Box, longer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """H11: whatever the file system says that it holds; a file that is not as long as its header says, neither."""
    make_eager(monkeypatch)
    truth = seen(box)
    if longer:
        os.truncate(index_path(box), index._MOST_OCTETS)
    else:
        monkeypatch.setattr(index, "_MOST_OCTETS", index_path(box).stat().st_size - 1)
    real, most = os.read, len(index._MAGIC) + 4 + index._HEADER.size

    def read(fd: int, octets: int) -> bytes:
        assert octets <= most
        return real(fd, octets)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        assert load(box.octets_path) is None
    assert seen(box) == seen(box) == truth


def test_what_would_be_too_long_is_not_written(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    make_eager(monkeypatch)
    monkeypatch.setattr(index, "_MOST_OCTETS", 100)
    assert seen(box) == seen(box)
    assert not index_path(box).exists()


@pytest.mark.parametrize(("names", "kinds"), [(6, 2**20), (2**20, 2)])
def test_names_without_end_are_not_believed(box: Box, names: int, kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """H11: not split all at once either."""
    make_eager(monkeypatch)
    seen(box)
    header = index._HEADER
    start = len(index._MAGIC) + 4 + header.size
    body = header.pack(6, 1, 2, names, kinds, 0, *UNKNOWN) + (names).to_bytes(4, sys.byteorder) + bytes(36 * 6)
    data = body + bytes(names + kinds)
    blocks: list[int] = []
    real = index._add_names

    def add(found: list[bytes], data: bytes, start: int, stop: int, *, most: int) -> None:
        try:
            real(found, data, start, stop, most=most)
        finally:
            blocks.append(len(found))

    monkeypatch.setattr(index, "_add_names", add)
    index_path(box).write_bytes(index._MAGIC + zlib.crc32(data).to_bytes(4, sys.byteorder) + data)
    assert start < index_path(box).stat().st_size
    assert load(box.octets_path) is None
    assert max(blocks) <= index._BLOCK_OCTETS + 6


@pytest.mark.parametrize("seconds", [2**34 - 2**31 - 1, -(2**31), 253_402_300_800], ids=["2446", "1901", "10000"])
@pytest.mark.parametrize("what", ["cur/1700000003.x", "cur", "new"])
def test_a_time_that_no_64_bits_hold_locks_nobody_out(
    box: Box, what: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: IMAP APPEND sets it to whatever a client says."""
    make_eager(monkeypatch)
    os.utime(box.path / what, (seconds, seconds))
    truth = seen(box)
    assert index_path(box).exists()
    assert seen(box) == truth
    dialogue = box.login()
    assert body(dialogue.ask("RETR 4")) == b"3\r\n" * 4
    assert dialogue.ask("DELE 4").startswith(b"+OK")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert len(seen(box)) == 5


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling", "link"])
def test_what_is_no_file_is_no_index(box: Box, kind: str) -> None:
    """H11: waits for nobody, follows nothing, and nothing else is overwritten."""
    truth = seen(box)
    index_path(box).unlink()
    outside = box.root / "outside"
    outside.write_bytes(b"not ours\n")
    make: dict[str, Callable[[], object]] = {
        "directory": index_path(box).mkdir,
        "fifo": lambda: os.mkfifo(index_path(box)),
        "dangling": lambda: index_path(box).symlink_to("/nowhere"),
        "link": lambda: index_path(box).symlink_to(outside),
    }
    make[kind]()
    before = open_files()
    assert seen(box) == seen(box) == truth
    assert open_files() == before
    assert outside.read_bytes() == b"not ours\n"
    assert not box.path.joinpath(os.fsdecode(INDEX_NAME) + ".tmp").exists()


# --- it is used -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_nothing_is_read_or_listed_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8: neither messages nor directories, if nothing has changed."""
    truth = seen(box)
    monkeypatch.setattr(scan, "_octets", unread)
    monkeypatch.setattr(os, "listdir", unread)
    assert seen(box) == truth


@pytest.mark.usefixtures("eager")
def test_only_what_is_new_is_read(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8: also if others were moved, renamed or removed meanwhile; the index then holds the new one too."""
    truth = seen(box)
    box.put("1700000002.y", b"new\n")
    box.move("new/1700000000.x", "cur/1700000000.x:2,")
    box.move("cur/1700000001.x", "cur/1700000001.x:2,FS")
    os.unlink(box.path / "cur" / "1700000003.x")
    settle(box)
    read: list[int] = []
    real = scan._octets

    def counted(fd: int, size: int) -> int:
        read.append(size)
        return real(fd, size)

    monkeypatch.setattr(scan, "_octets", counted)
    expected = [*truth[:3], ("1700000002.y", 5), *truth[4:]]
    assert seen(box) == expected
    assert read == [4]
    monkeypatch.setattr(scan, "_octets", unread)
    monkeypatch.setattr(os, "listdir", unread)
    assert seen(box) == expected


@pytest.mark.usefixtures("eager")
def test_it_is_written_when_something_was_learned_and_at_no_other_time(box: Box) -> None:
    seen(box)
    before = index_path(box).stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    for _ in range(2):
        seen(box)
    assert index_path(box).stat().st_ino == before.st_ino
    box.put("1800000000.y")
    settle(box)
    seen(box)
    assert index_path(box).stat().st_ino != before.st_ino


def test_a_few_small_messages_are_not_worth_a_file(box: Box) -> None:
    seen(box)
    assert not index_path(box).exists()
    for n in range(survey._WORTH):
        box.put(f"18000000{n:02d}.y")
    settle(box)
    seen(box)
    assert index_path(box).exists()


def test_a_large_message_is(box: Box) -> None:
    box.put("1800000000.y", b"x" * survey._READ_AS_LONG * survey._WORTH)
    settle(box)
    seen(box)
    assert index_path(box).exists()


# --- what changes is seen ---------------------------------------------------------------------------------------------

_FLAGS = ["", ":2,", ":2,S", ":2,FS"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "rename", "unlink", "rewrite", "replace", "double", "login"]),
        st.integers(0, 9),
        st.sampled_from(_FLAGS),
        messages,
    ),
    max_size=12,
)


def happen(box: Box, step: tuple[str, int, str, bytes]) -> None:
    """Something that others do to a Maildir."""
    what, n, flags, content = step
    there = sorted(part + "/" + name for part in ("new", "cur") for name in os.listdir(box.path / part))
    if what == "put" or not there:
        box.put(f"17000000{n:02d}.x{'' if n % 2 else flags}", content, "new" if n % 2 else "cur")
        return
    path = there[n % len(there)]
    base = path[4:].partition(":")[0] or path[4:]
    if what == "rename":
        box.move(path, f"cur/{base}{flags}")
    elif what == "unlink":
        os.unlink(box.path / path)
    elif what == "rewrite":
        (box.path / path).write_bytes(content)
    elif what == "replace":
        box.put("tmp", content, "tmp")
        box.move("tmp/tmp", path)
    elif what == "double":
        box.put(f"{base}{flags}", content, "cur")


@given(mail=boxes, happens=steps, settled=st.sampled_from([0, scan.SETTLED_NS]))
def test_whatever_others_do_is_seen_at_the_next_login(
    tmp_path_factory: pytest.TempPathFactory,
    mail: dict[tuple[str, str], bytes],
    happens: list[tuple[str, int, str, bytes]],
    settled: int,
) -> None:
    """P2, P3, F5: with an index and without, unique-ids, sizes and order are the same."""
    box = filled(Box(tmp_path_factory.mktemp("box")), mail)
    with pytest.MonkeyPatch.context() as patch:
        make_eager(patch, settled=settled)
        for step in happens:
            if step[0] == "login":
                assert seen(box) == seen_without(box)
            else:
                happen(box, step)
                settle(box)
        assert seen(box) == seen_without(box)
        assert seen(box) == seen_without(box)


def test_what_changes_within_a_tick_of_the_clock_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a file system's clock ticks every few milliseconds; what was written a moment ago is not kept."""
    monkeypatch.setattr(survey, "_WORTH", 1)
    box = Box(tmp_path)
    box.put("1.old", b"old\n")
    settle(box)
    path = box.path / "new" / "2.x"
    for content in (b"aaaa\n", b"a\n\n\n\n", b"aa\na\n", b"\n\n\n\n\n") * 10:
        path.write_bytes(content)  # always of the same size
        assert dict(seen(box)) == {"1.old": 5, "2.x": len(canon(content))}


def large(box: Box, patch: pytest.MonkeyPatch) -> None:
    """As if there were so many messages that only the first two are looked at."""
    make_eager(patch, portion=2)
    patch.setattr(random, "randrange", lambda *_: 0)
    seen(box)


@pytest.mark.parametrize("content", [b"", b"5\n" * 7, b"5\n5\n5\n5\n5\n555"], ids=["shorter", "longer", "as long"])
@pytest.mark.parametrize("way", ["rewritten", "replaced"])
def test_what_a_login_did_not_look_at_is_found_out_before_it_is_sent(
    box: Box, content: bytes, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, B6: rewritten in its place, in a large Maildir, which no directory tells: refused once, and then right."""
    large(box, monkeypatch)
    if way == "rewritten":
        (box.path / "cur" / "1700000005.x").write_bytes(content)
    else:
        box.put("tmp", content, "tmp")
        box.move("tmp/tmp", "cur/1700000005.x")
    settle(box)
    dialogue = box.login()
    assert dialogue.ask("LIST 6") == b"+OK 6 18\r\n"
    assert dialogue.ask("RETR 6").startswith(b"-ERR [SYS/TEMP]")
    assert dialogue.ask("RETR 1").startswith(b"+OK")
    dialogue.close()
    again = box.login()
    assert body(again.ask("RETR 6")) == canon(content)
    assert again.ask("LIST 6") == b"+OK 6 %d\r\n" % len(canon(content))


def test_the_same_in_another_writing_is_sent(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a file that was touched, or written again with as many octets to send, is what was announced."""
    large(box, monkeypatch)
    (box.path / "cur" / "1700000005.x").write_bytes(b"5\r\n" * 6)
    settle(box)
    assert body(box.login().ask("RETR 6")) == b"5\r\n" * 6


def test_one_that_has_changed_makes_all_suspect(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    large(box, monkeypatch)
    for n in (1, 4):
        part = "cur" if n % 2 else "new"
        (box.path / part / f"170000000{n}.x").write_bytes(b"changed\n")
    settle(box)
    assert [octets for _, octets in seen(box)] == [3, 9, 9, 12, 9, 18]


def test_each_file_has_its_turn(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large Maildir, other files are looked at each time."""
    make_eager(monkeypatch, portion=2)
    seen(box)
    looked_at: set[bytes] = set()
    real = os.lstat

    def lstat(path: bytes) -> os.stat_result:
        looked_at.add(path)
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    for logins in range(1, 400):
        seen(box)
        assert len(looked_at) <= 2 * logins
        if len(looked_at) == 6:
            return
    raise AssertionError(looked_at)


# --- when it cannot be written ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("call", ["open", "write", "rename"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_full_disk_only_means_no_index(box: Box, call: str, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F9: the login goes on, nothing is left behind, and the next one writes it."""
    real: Callable[..., Any] = getattr(os, call)

    def failing(*args: Any, **options: Any) -> Any:
        if call == "write" or (isinstance(args[0], bytes) and args[0].endswith(b".tmp")):
            raise OSError(error, os.strerror(error))
        return real(*args, **options)

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        truth = seen(box)
    assert open_files() == before
    assert sorted(os.listdir(box.path)) == ["cur", "new", "tmp"]
    assert seen(box) == truth
    assert index_path(box).exists()


@pytest.mark.usefixtures("eager")
def test_half_a_write_is_gone_on_with(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """os.write may write less than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    truth = seen(box)
    monkeypatch.setattr(scan, "_octets", unread)
    assert seen(box) == truth


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("left", ["file", "link"])
def test_what_a_dead_process_left_is_replaced(box: Box, left: str) -> None:
    """H11: and is never written through."""
    unfinished = box.path / (os.fsdecode(INDEX_NAME) + ".tmp")
    victim = box.root / "victim"
    victim.write_bytes(b"precious\n")
    if left == "file":
        os.link(victim, unfinished)
    else:
        unfinished.symlink_to(victim)
    seen(box)
    assert victim.read_bytes() == b"precious\n"
    assert load(box.octets_path) is not None
    assert not unfinished.is_symlink()
    assert not unfinished.exists()


@pytest.mark.usefixtures("eager")
def test_a_directory_that_cannot_be_written_to_is_looked_at(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: an index that could not be forgotten is believed less."""
    truth = seen(box)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    listed: list[bytes] = []
    real = os.listdir

    def listdir(path: bytes) -> list[bytes]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert seen(box) == truth
    assert listed


# --- the file ---------------------------------------------------------------------------------------------------------

numbers = st.integers(-(2**63), 2**63 - 1)
inodes = st.integers(0, 2**64 - 1)
rows = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=20).filter(lambda base: not {0, ord("/"), ord(":")} & {*base}),
        st.sampled_from([b"new/", b"cur/:2,", b"cur/:2,S"]),
        numbers, numbers, numbers, inodes,
    )
)  # fmt: skip


@given(rows, st.sampled_from([1, 3, 4096]), st.booleans())
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[bytes, bytes, int, int, int, int]],
    portion: int,
    all_: bool,
) -> None:
    box = Box(tmp_path_factory.mktemp("box"))
    columns = Columns(table=[b"new/", b"cur/:2,", b"cur/:2,S"])
    for base, kind, *values in rows:
        columns.append(base, columns.table.index(kind), *values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "PORTION", portion)
        kept = Index(columns, state_of(box.octets_path) if all_ else UNKNOWN)
        save(box.octets_path, kept)
    found = load(box.octets_path)
    assert found is not None
    if not rows:
        columns.table = []
    assert found == kept
    assert [found.columns.path(n) for n in range(len(rows))] == [kind[:4] + base + kind[4:] for base, kind, *_ in rows]
    assert [*found.columns.paths()] == [found.columns.path(n) for n in range(len(rows))]


@pytest.mark.usefixtures("eager")
def test_a_session_with_an_index_is_like_one_without(box: Box) -> None:
    """P2: LIST, UIDL, STAT, RETR, DELE; what was deleted is gone, and the rest is the same."""
    told = []
    for _ in range(2):
        dialogue = box.login()
        told.append((lines(dialogue.ask("UIDL")), lines(dialogue.ask("LIST")), dialogue.ask("STAT")))
        assert [body(dialogue.ask(f"RETR {n}")) for n in range(1, 7)] == [b"%d\r\n" % n * (n + 1) for n in range(6)]
        dialogue.ask("QUIT")
    assert told[0] == told[1]
    assert box.login().send(b"DELE 2\r\nQUIT\r\n").count(b"+OK") == 2
    assert [uid for uid, _ in seen(box)] == [f"170000000{n}.x" for n in (0, 2, 3, 4, 5)]


@pytest.mark.usefixtures("eager")
def test_flags_that_nobody_has_any_more_are_forgotten(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index does not grow with every change of flags."""
    for n in range(60):
        [old] = [name for name in os.listdir(box.path / "cur") if name.startswith("1700000001.x")]
        box.move(f"cur/{old}", f"cur/1700000001.x:2,{chr(65 + n)}")
        settle(box)
        truth = seen(box)
    kept = load(box.octets_path)
    assert kept is not None
    assert len(kept.columns.table) < 10
    monkeypatch.setattr(scan, "_octets", unread)
    assert seen(box) == truth
    dialogue = box.login()
    assert body(dialogue.ask("RETR 2")) == b"1\r\n" * 2


@pytest.mark.usefixtures("eager")
def test_imported_unique_ids_are_not_kept_there(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: an import, or its end, is seen at once, though nothing else is read or listed."""
    before = seen(box)
    monkeypatch.setattr(scan, "_octets", unread)
    monkeypatch.setattr(os, "listdir", unread)
    imported = box.path / ".trio-pop3.uidl"
    imported.write_text("trio-pop3 uidl 1\nold-7 1700000003.x\n1700000004.x 1700000000.x\nend\n")
    uids = [uid for uid, _ in seen(box)]
    assert uids[3] == "old-7"
    assert uids[0] == "1700000004.x"
    assert len(set(uids)) == 6
    assert [octets for _, octets in seen(box)] == [octets for _, octets in before]
    imported.unlink()
    assert seen(box) == before


@pytest.mark.usefixtures("eager")
def test_it_belongs_to_the_owner_of_the_maildir(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever serves it next as that user can read it."""
    given = chowned(monkeypatch)
    status = box.path.stat()
    seen(box)
    assert given == [(os.fsdecode(INDEX_NAME) + ".tmp", status.st_uid, status.st_gid)]
