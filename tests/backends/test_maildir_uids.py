"""Imported unique-ids: they win for ever, whatever else happens, and a map that is damaged changes none."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import signal
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_pop3 import Backend, MaildirStore, MemoryBackend, combine
from trio_pop3.backends.maildir import uids as module
from trio_pop3.backends.maildir.names import path_id, unique_id
from trio_pop3.backends.maildir.uids import (
    MAP_NAME,
    UidMap,
    UidMapError,
    escaped,
    map_lines,
    parse_map,
    read_map,
    write_map,
)
from trio_pop3.testing import Bench, check_backend
from trio_pop3.testing.bench import TWO_USERS

from ..driving import Dialogue
from .maildir_helpers import Box, child, open_files, uids

octets = st.binary(min_size=1, max_size=60).filter(lambda name: b"/" not in name and b"\0" not in name)
bases = octets.filter(lambda name: b":" not in name)
uid_texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)

# A few names that collide in every way there is: with each other's unique-ids, and with hashes of each other.
_PLAIN = (b"a", b"b", b"c,S=1")
NAMES = (
    *_PLAIN,
    b"\xff",
    *(unique_id(name).encode() for name in (b"\xff", hashlib.sha256(b"\xff").hexdigest()[:40].encode())),
    *(path_id(path).encode() for path in (b"new/a", b"cur/a:2,S", b"/a", b"//a", b"/\xff", b"/b")),
)
UIDS = (*(name.decode() for name in NAMES if name.isascii()), "x", "#", "\\", "end")


def one_to_one(names: st.SearchStrategy[bytes], texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[bytes, str]]:
    pairs = st.lists(st.tuples(names, texts), unique_by=(lambda pair: pair[0], lambda pair: pair[1]))
    return pairs.map(dict)


crowded = one_to_one(st.sampled_from(NAMES), st.sampled_from(UIDS))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def write(box: Box, text: bytes | str) -> None:
    (box.path / os.fsdecode(MAP_NAME)).write_bytes(text.encode() if isinstance(text, str) else text)


def text_of(found: Mapping[bytes, str]) -> str:
    return "".join(f"{line}\n" for line in map_lines(found))


# --- who has which ----------------------------------------------------------------------------------------------------


@given(crowded)
def test_all_unique_ids_differ(imported: dict[bytes, str]) -> None:
    """P3, F1, F6: of every message there can be, the second file with a base name included; imported ones win."""
    found = UidMap(dict(imported))
    keys = [(name, b"new/" + name, 0) for name in NAMES]
    keys += [(name, place + name + flags, 1) for name in NAMES for place, flags in ((b"new/", b""), (b"cur/", b":2,S"))]
    given_out = {key: found.of(*key) for key in keys}
    assert len(set(given_out.values())) == len(keys)
    assert all(given_out[name, b"new/" + name, 0] == uid for name, uid in imported.items())
    for (name, path, nth), uid in given_out.items():
        default = path_id(path) if nth else unique_id(name)
        assert uid == default or default in imported.values() or (not nth and name in imported)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2001])
def test_forgetting_leaves_nothing(count: int) -> None:
    found = UidMap({str(number).encode(): f"u{number}" for number in range(count)})
    found.forget()
    assert (found.uids, found.of(b"x", b"new/x", 0), found._taken) == ({}, "x", set())


def test_without_a_map_nothing_changes() -> None:
    empty = UidMap({})
    assert [empty.of(b"a", b"new/a", 0), empty.of(b"\xff", b"new/\xff", 0), empty.of(b"a", b"cur/a:2,S", 1)] == [
        "a", unique_id(b"\xff"), path_id(b"cur/a:2,S")
    ]  # fmt: skip


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(NAMES)),
        st.tuples(st.just("go"), st.sampled_from(NAMES)),
        st.tuples(st.just("move"), st.sampled_from(NAMES)),
        st.tuples(st.just("import"), st.tuples(st.sampled_from(NAMES), st.sampled_from(UIDS))),
    ),
    max_size=12,
)


@given(happenings)
def test_unique_ids_stay_whatever_happens(happened: list[tuple[str, Any]]) -> None:
    """P3, F2, F3, F6: arrivals, deletions, renames and logins change no unique-id, and none is ever another message's;
    an import changes those of the messages it names, and of one that has no line and whose own was given away."""
    with tempfile.TemporaryDirectory() as folder:
        box = Box(Path(folder))
        imported: dict[bytes, str] = {}
        known: dict[bytes, str] = {}
        for what, about in happened:
            if what == "arrive" and about not in {name.partition(b":")[0] for name in box.names()}:
                box.put(about)
            elif what == "go":
                for part in ("new", "cur"):
                    for name in os.listdir(os.fsencode(box.path / part)):
                        if name.partition(b":")[0] == about:
                            os.unlink(os.path.join(os.fsencode(box.path / part), name))
            elif what == "move" and about in os.listdir(os.fsencode(box.path / "new")):
                root = box.octets_path
                os.rename(root + b"/new/" + about, root + b"/cur/" + about + b":2,S")
            elif what == "import":
                name, uid = about
                if name not in imported and uid not in imported.values():
                    imported[name] = uid
                    write_map(box.octets_path, imported)
                    known = {n: u for n, u in known.items() if n != name and (n in imported or u != uid)}
            session = box.login()
            shown = dict(zip([message.base for message in _messages(box)], uids(session), strict=True))
            session.close()
            assert len(set(shown.values())) == len(shown)
            for name, uid in shown.items():
                assert known.setdefault(name, uid) == uid
                assert imported.get(name, uid) == uid
            assert len(set(known.values())) == len(known)


def _messages(box: Box) -> list[Any]:
    from trio_pop3.backends.maildir.scan import Whereabouts
    from trio_pop3.backends.maildir.survey import snapshot

    return [*snapshot(Whereabouts(box.octets_path))]


def test_a_second_file_with_an_imported_base_name_has_another_unique_id(box: Box) -> None:
    """F1: only the first can be the message that was imported."""
    box.put("1.a", b"first\n")
    box.put("1.a:2,S", b"second, and longer\n", part="cur")
    os.utime(box.path / "new" / "1.a", (1, 1))
    write_map(box.octets_path, {b"1.a": "old-1"})
    session = box.login()
    assert uids(session) == ["old-1", path_id(b"cur/1.a:2,S")]
    session.close()


def imported_bench() -> Bench:
    """Maildirs in which the first messages get imported unique-ids: one is the name of a later message."""
    folder = tempfile.TemporaryDirectory()
    users = MemoryBackend()
    boxes = {user: Box(Path(folder.name), user) for user in TWO_USERS}
    for user, box in boxes.items():
        users.add_user(user, TWO_USERS[user])
        write_map(box.octets_path, {b"1.x": "old-1", b"2.x": "3.x", b"4.x": unique_id(b"/5.x")})
    number = itertools.count(1)

    def reopen() -> Backend:
        return combine(users, MaildirStore(f"{folder.name}/{{user}}"))

    return Bench(
        backend=reopen(),
        deliver=lambda user, message: boxes[user].put(f"{next(number)}.x", message),
        reopen=reopen,
        close=folder.cleanup,
    )


def test_a_maildir_with_imported_unique_ids_keeps_every_promise() -> None:
    """P1, P2, P3."""
    trio.run(check_backend, imported_bench)


# --- the file ---------------------------------------------------------------------------------------------------------


@given(one_to_one(bases | octets.map(lambda name: b":" + name), uid_texts))
def test_what_is_written_is_read(found: dict[bytes, str]) -> None:
    """In order, whatever octets a name has and whatever characters a unique-id has."""
    text = text_of(found)
    assert text.isascii()
    assert [*parse_map("map", text.encode()).items()] == [*found.items()]


def test_a_large_one_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, blank lines and escapes anywhere, and blocks that end anywhere."""
    found = {f"17{n:08d}.M{n}P1.{'höst' if n % 97 == 0 else 'host'}".encode(): f"{n:08x}6b04940c" for n in range(3000)}
    lines = [*map_lines(found)]
    lines[1500:1500] = ["# a comment", "", "#"]
    lines[-1] = "end"
    write_bytes = "\n".join(lines).encode() + b"\n"
    (tmp_path / os.fsdecode(MAP_NAME)).write_bytes(write_bytes)
    for size in (100, 4096, 65536):
        monkeypatch.setattr(module, "_BLOCK_OCTETS", size)
        assert read_map(os.fsencode(tmp_path)).uids == found


def test_made_by_hand(box: Box) -> None:
    """Comments, blank lines, the same line twice, octets as they are."""
    box.put("1.a")
    box.put("2.\xe9")
    write(box, "trio-pop3 uidl 1\n# from the old machine\n\nold-1 1.a\nold-1 1.a\nold-2 2.\xe9\nend\n")
    session = box.login()
    assert uids(session) == ["old-1", "old-2"]
    session.close()


@given(st.data())
def test_cut_anywhere_it_is_refused(data: st.DataObject) -> None:
    """P3: a full disk, or a copy that broke off, must not give half the messages other unique-ids."""
    text = text_of({b"1.a": "old-1", b"2.b": "old-2", b"3.c": "end"}).encode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(UidMapError, match="map"):
        parse_map("map", text[:cut])


@given(st.data())
def test_changed_anywhere_it_is_refused(data: st.DataObject) -> None:
    """P3: what the disk or a copy has spoilt gives nobody another unique-id, also where it looks like a line."""
    found = {b"1.a": "old-1", b"2.b": "old-2", b"3.c": "end", b"end": "4"}
    text = text_of(found).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 4))
    instead = data.draw(st.text(st.sampled_from("\n #abcdeno012l.-:\\x"), max_size=4)).encode()
    spoilt = text[:at] + instead + text[at + length :]
    assume(spoilt != text)
    # Nothing tells that from the work of a person.
    assume(not spoilt.endswith(b"\nend\n"))
    with pytest.raises(UidMapError, match="map"):
        parse_map("map", spoilt)


def test_the_example_in_the_documentation_is_one() -> None:
    text = Path("docs/migration.md").read_text(encoding="utf-8")
    [example] = [block for block in text.split("```\n") if block.startswith("trio-pop3 uidl 1\n")]
    assert example.splitlines()[-1].startswith("end 2 ")
    assert len(parse_map("docs/migration.md", example.encode())) == 2


def test_edited_by_hand_it_says_just_end() -> None:
    text = text_of({b"1.a": "old-1", b"2.b": "old-2"})
    edited = text.replace("old-2", "old-3")
    with pytest.raises(UidMapError, match="line 4: not as it was written: restore it; or if it was edited, and all is"):
        parse_map("map", edited.encode())
    lines = edited.splitlines()
    assert parse_map("map", "\n".join([*lines[:-1], "end", ""]).encode()) == {b"1.a": "old-1", b"2.b": "old-3"}


def test_lines_and_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H11: no more is read than it takes to see that it is too much."""
    path = tmp_path / os.fsdecode(MAP_NAME)
    path.write_bytes(b"trio-pop3 uidl 1\nold-1 1.a\n" + b"#" * 50_000_000)
    octets: list[int] = []
    real = os.read

    def read(fd: int, most: int) -> bytes:
        data = real(fd, most)
        octets.append(len(data))
        return data

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(UidMapError, match="line 3: a line has 65536 octets at most"):
        read_map(os.fsencode(tmp_path))
    assert sum(octets) < 1_000_000
    octets.clear()
    os.truncate(path, 64 * 1024 * 1024 + 1)
    with pytest.raises(UidMapError, match="a map has 64 MiB at most"):
        read_map(os.fsencode(tmp_path))
    assert octets == []
    path.write_text(text_of({b"%d" % n: f"u{n}" for n in range(30)}))
    monkeypatch.setattr(module, "_MOST_LINES", 31)
    with pytest.raises(UidMapError, match="line 32: a map has 31 lines at most"):
        read_map(os.fsencode(tmp_path))
    monkeypatch.setattr(module, "_MOST_OCTETS", 100)
    with pytest.raises(UidMapError, match="MiB at most"):
        write_map(os.fsencode(tmp_path), {b"%d" % n: f"u{n}" for n in range(30)})


def test_a_line_that_is_there_twice_is_found_to_be_harmless_in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """H11: not looked for line by line at every login."""
    lines = [*map_lines({f"{n}.a".encode(): f"u{n}" for n in range(5000)})][:-1]
    whole = [f"{line}\n".encode() for line in (*lines, lines[7], "end")]
    blocks = [b"".join(whole[at : at + 1000]) for at in range(0, len(whole), 1000)]
    asked: list[int] = []
    real = module._entry

    def entry(path: bytes, number: int, line: bytes) -> tuple[bytes, str] | None:
        asked.append(number)
        return real(path, number, line)

    monkeypatch.setattr(module, "_entry", entry)
    assert len(module._understood(b"map", blocks).uids) == 5000
    assert len(asked) <= 2 * 1100  # the first block has the first line in it; all others are plain but for the last


BAD = {
    "": (1, "the first line must be"),
    "end\n": (1, "the first line must be `trio-pop3 uidl 1`"),
    "a 1.a\nend\n": (1, "the first line must be"),
    "trio-pop3 uidl 2\nend\n": (1, "written by a later version"),
    "trio-pop3 uidl 1\n": (1, "the last line must be `end`"),
    "trio-pop3 uidl 1\na 1.a\n": (2, "the last line must be `end`"),
    "trio-pop3 uidl 1\nend": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\nend\na 1.a\n": (3, "nothing may follow"),
    "trio-pop3 uidl 1\nend 0\n": (2, "the last line must be"),
    "trio-pop3 uidl 1\nend 0 0123456\n": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\nend 1 9ffbbb33\n": (2, "not as it was written"),
    "trio-pop3 uidl 1\nend\n\n": (3, "nothing may follow"),
    "trio-pop3 uidl 1\na\nend\n": (2, "not a unique-id, one blank and a base name"),
    "trio-pop3 uidl 1\na \nend\n": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\na  1.a\nend\n": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\na\t1.a\nend\n": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\na 1.a \nend\n": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\na 1.a\r\nend\n": (2, "not a unique-id, one blank"),
    "trio-pop3 uidl 1\r\na 1.a\r\nend\r\n": (1, "the first line must be"),
    "trio-pop3 uidl 1\n 1.a\nend\n": (2, "1 to 70 characters"),
    "trio-pop3 uidl 1\n" + "x" * 71 + " 1.a\nend\n": (2, "1 to 70 characters"),
    "trio-pop3 uidl 1\n\xe9 1.a\nend\n": (2, "1 to 70 characters"),
    "trio-pop3 uidl 1\na\\x20b 1.a\nend\n": (2, "1 to 70 characters"),
    "trio-pop3 uidl 1\na 1.\\a\nend\n": (2, "a backslash"),
    "trio-pop3 uidl 1\na\\ 1.a\nend\n": (2, "a backslash"),
    "trio-pop3 uidl 1\na 1.\\x0\nend\n": (2, "a backslash"),
    "trio-pop3 uidl 1\na new/1.a\nend\n": (2, "not the name of a file"),
    "trio-pop3 uidl 1\na 1.\\x2fa\nend\n": (2, "not the name of a file"),
    "trio-pop3 uidl 1\na 1.\\x00a\nend\n": (2, "not the name of a file"),
    "trio-pop3 uidl 1\na 1.a:2,S\nend\n": (2, "what stands before the colon"),
    "trio-pop3 uidl 1\na 1.a\nb 2.b\na 3.c\nend\n": (4, "the unique-id of line 2, for another message"),
    "trio-pop3 uidl 1\na 1.a\n\nb 1.a\nend\n": (4, "another unique-id for the message of line 2"),
    "trio-pop3 uidl 1\na 1.a\n" + "\0" * 4096: (3, "not a unique-id"),
}


@pytest.mark.parametrize("text", BAD)
def test_a_line_that_is_not_understood_is_a_failed_login(box: Box, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """P3 before availability: no unique-id is guessed. The log names the line, the lock is free afterwards."""
    box.put("1.a")
    write(box, text)
    line, what = BAD[text]
    before = open_files()
    dialogue = Dialogue(box.backend())
    assert dialogue.login().startswith(b"-ERR [SYS/PERM] ")
    dialogue.close()
    assert open_files() == before
    [record] = caplog.records
    assert f"{box.path}/.trio-pop3.uidl line {line}: " in record.getMessage()
    assert what in record.getMessage()
    write(box, text_of({b"1.a": "a"}))
    session = box.login()
    assert uids(session) == ["a"]
    session.close()


def test_conflicts_far_apart_are_found(tmp_path: Path) -> None:
    """Where lines are understood in bulk."""
    found = {f"{n}.a".encode(): f"u{n}" for n in range(20_000)}
    lines = [*[*map_lines(found)][:-1], "end"]
    path = tmp_path / os.fsdecode(MAP_NAME)
    for at, line, what in (
        (15_000, "u7 new", "line 15001: the unique-id of line 9, for another message"),
        (19_000, "new 8.a", "line 19001: another unique-id for the message of line 10"),
    ):
        path.write_text("\n".join([*lines[:at], line, *lines[at:]]) + "\n")
        with pytest.raises(UidMapError, match=what):
            read_map(os.fsencode(tmp_path))
    path.write_text("\n".join([*lines[:15_000], "u7 7.a", *lines[15_000:]]) + "\n")
    assert read_map(os.fsencode(tmp_path)).uids == found


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_what_is_no_file_is_a_failed_login(box: Box, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Never followed, never waited for."""
    path = box.path / os.fsdecode(MAP_NAME)
    {"directory": os.mkdir, "fifo": os.mkfifo, "link": lambda p: os.symlink("/dev/null", p)}[kind](path)
    before = open_files()
    assert Dialogue(box.backend()).login().startswith(b"-ERR [SYS/PERM] ")
    assert f"{path}: not a regular file" in caplog.text
    assert open_files() == before


@pytest.mark.parametrize(("error", "code"), [(errno.EACCES, b"SYS/PERM"), (errno.EIO, b"SYS/TEMP")])
@pytest.mark.parametrize("call", ["open", "read"])
def test_what_cannot_be_read_is_a_failed_login(
    box: Box, call: str, error: int, code: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P3, F9: nor is it taken for a map that is not there."""
    write(box, text_of({b"1.a": "a"}))
    real_open = os.open

    def failing_open(path: Any, *args: int, **options: Any) -> int:
        if os.fsencode(path).endswith(MAP_NAME):
            raise OSError(error, os.strerror(error), path)
        return real_open(path, *args, **options)

    def failing_read(*_: object) -> bytes:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, failing_open if call == "open" else failing_read)
    assert Dialogue(box.backend()).login().startswith(b"-ERR [%s] " % code)
    monkeypatch.undo()
    assert f"{os.strerror(error)}: '{box.path}/.trio-pop3.uidl'" in caplog.text


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_map_is_for_its_owner_only(box: Box) -> None:
    write_map(box.octets_path, {b"1.a": "a"})
    assert stat.S_IMODE((box.path / os.fsdecode(MAP_NAME)).stat().st_mode) == 0o600
    assert sorted(os.listdir(box.path)) == [".trio-pop3.uidl", "cur", "new", "tmp"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_map_that_cannot_be_written_leaves_the_old_one(box: Box, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, P3."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_map(box.octets_path, {b"1.a": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            write_map(box.octets_path, {b"1.a": "b"})
    assert read_map(box.octets_path).uids == {b"1.a": "a"}
    assert sorted(os.listdir(box.path)) == [".trio-pop3.uidl", "cur", "new", "tmp"]


@pytest.mark.parametrize(
    "bad",
    [
        {b"1.a:2,S": "a"},
        {b"a/b": "a"},
        {b"a\0": "a"},
        {b"": "a"},
        {b"1.a": ""},
        {b"1.a": "\xe9"},
        {b"1": "a", b"2": "a"},
    ],
)
def test_what_could_not_be_read_again_is_not_written(box: Box, bad: dict[bytes, str]) -> None:
    """P3: or nobody could log in any more."""
    write_map(box.octets_path, {b"1.a": "a"})
    with pytest.raises(UidMapError):
        write_map(box.octets_path, bad)
    assert read_map(box.octets_path).uids == {b"1.a": "a"}


@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_killed_at_any_step_it_leaves_the_old_or_the_new_one(box: Box, call: str, when: str) -> None:
    """P1, P3: and the next one is written as if nothing had been."""
    write_map(box.octets_path, {b"1.a": "old"})
    dies = f"real = os.{call}\ndef killed(*args):\n    done = real(*args) if {when == 'behind'} else None\n    die()\n"
    code = "from trio_pop3.backends.maildir.uids import write_map\n" + dies + f"os.{call} = killed\n"
    process = child(box.root, code + "write_map(box.octets_path, {b'1.a': 'new'})\n")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    renamed = (call, when) == ("rename", "behind")
    assert read_map(box.octets_path).uids == {b"1.a": "new" if renamed else "old"}
    write_map(box.octets_path, {b"1.a": "next"})
    assert read_map(box.octets_path).uids == {b"1.a": "next"}
    assert sorted(os.listdir(box.path)) == [".trio-pop3.uidl", "cur", "new", "tmp"]


def test_names_are_shown_in_ascii() -> None:
    assert escaped(b"1.a\\ \xff,S=5") == r"1.a\x5c\x20\xff,S=5"
