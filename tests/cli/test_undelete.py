"""`trio-pop3 undelete`: out of the trash, back to where it was."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.backends.maildir.lock import MaildirLock
from trio_pop3.backends.maildir.trash import trash
from trio_pop3.backends.maildir.uids import write_map
from trio_pop3.backends.views import Union

from ..backends.maildir_helpers import Box, lines, uids
from ..driving import Dialogue
from .command import Command

A, B, C = NAMES = ["1700000001.a", "1700000002.b", "1700000003.c"]


@pytest.fixture
def box(directory: Path) -> Box:
    """Of alice; the first two of three messages have been deleted, by POP3."""
    box = Box(directory / "mail")
    for name in NAMES:
        box.put(name, name.encode())
    box.move(f"new/{B}", f"cur/{B}:2,S")
    dialogue = Dialogue(box.backend(deletion="trash"))
    dialogue.login()
    assert dialogue.send(b"DELE 1\r\nDELE 2\r\nQUIT\r\n").endswith(b"+OK goodbye\r\n")
    return box


def shown(box: Box) -> list[bytes]:
    dialogue = box.login()
    found = lines(dialogue.ask("UIDL"))
    dialogue.close()
    return found


def test_all_of_it(command: Command, directory: Path, box: Box) -> None:
    """P3, Wish 8: clients see them under their old unique-ids, and what they have got once they do not get again."""
    outcome = command("undelete", directory, "alice", "--all")
    assert outcome.status == 0, outcome.err
    assert sorted(line.split()[1] for line in outcome.out.splitlines()) == [A, B]
    assert shown(box) == [f"{n} {name}".encode() for n, name in enumerate(NAMES, 1)]
    assert box.names() == sorted([A.encode(), B.encode() + b":2,S", C.encode()])
    assert command("undelete", directory, "alice", "--all").out == ""


def test_what_would_be_done(command: Command, directory: Path, box: Box) -> None:
    before = box.names()
    outcome = command("undelete", directory, "alice", "--all", "--dry-run")
    assert outcome.status == 0
    assert outcome.out.count("\n") == 2
    assert box.names() == before
    assert command("undelete", directory, "alice", "--all").out == outcome.out


def test_by_unique_id(command: Command, directory: Path, box: Box) -> None:
    assert command("undelete", directory, "alice", "--uid", B).status == 0
    assert sorted(box.held()) == [B, C]
    outcome = command("undelete", directory, "alice", "--uid", A, "--uid", "nonsense")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "trio-pop3: not in the trash: nonsense\n"
    assert sorted(box.held()) == [B, C]


def test_by_a_unique_id_that_was_imported(command: Command, directory: Path, box: Box) -> None:
    """P3: it is called as clients have called it."""
    write_map(box.octets_path, {B.encode(): "from-elsewhere"})
    outcome = command("undelete", directory, "alice", "--uid", "from-elsewhere")
    assert (outcome.status, outcome.out.split()[1:2]) == (0, ["from-elsewhere"])
    assert shown(box) == [b"1 from-elsewhere", f"2 {C}".encode()]


def test_since_a_time(command: Command, directory: Path, box: Box) -> None:
    """By the time it was put there."""

    def stamp(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + seconds))

    assert command("undelete", directory, "alice", "--since", stamp(3600)).out == ""
    assert command("undelete", directory, "alice", "--since", stamp(-3600)).out.count("\n") == 2
    assert sorted(box.held()) == NAMES


def test_by_a_pattern_and_another_folder(command: Command, tmp_path: Path) -> None:
    box = Box(tmp_path / "example.org")
    box.put(A)
    with trash(box.octets_path, ".Bin") as folder:
        folder.dispose(box.octets_path, b"new/" + A.encode())
    pattern = f"{tmp_path}/{{domain}}/{{local}}"
    outcome = command("undelete", "alice@example.org", "--maildir", pattern, "--trash", ".Bin", "--all")
    assert outcome.status == 0, outcome.err
    assert sorted(box.held()) == [A]


def test_what_is_there_again_is_left_in_the_trash(command: Command, directory: Path, box: Box) -> None:
    """P1: restored from a backup meanwhile, under other flags; the rest comes back."""
    box.put(f"{A}:2,F", b"from the backup", "cur")
    outcome = command("undelete", directory, "alice", "--all")
    assert outcome.status == 1
    assert outcome.err == f"trio-pop3: {A} is in INBOX already, so what is in the trash stays there\n"
    assert box.held() == {A: b"from the backup", B: B.encode(), C: C.encode()}
    assert (box.path / ".Trash" / "new" / A).read_bytes() == A.encode()


def test_of_two_with_one_name_one_comes_back(command: Command, directory: Path, box: Box) -> None:
    """P1, P3."""
    (box.path / ".Trash" / "cur" / f"{A}:2,").write_bytes(b"another one")
    assert command("undelete", directory, "alice", "--uid", A).status == 1
    assert len(box.held()) == 2
    assert len(list((box.path / ".Trash").rglob("17*"))) == 2


def test_not_while_somebody_is_logged_in(command: Command, directory: Path, box: Box) -> None:
    """R1939-21: a session may be at QUIT."""
    lock = MaildirLock(box.octets_path, "1 unix alice")
    lock.acquire()
    outcome = command("undelete", directory, "alice", "--all")
    lock.release()
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("trio-pop3: alice is logged in; see `trio-pop3 lock list`")
    assert list(box.held()) == [C]


def test_it_gives_the_lock_back(command: Command, directory: Path, box: Box) -> None:
    """I9: whatever came of it."""
    for words in (["--uid", "nonsense"], ["--all", "--trash", ".None"], ["--all"]):
        command("undelete", directory, "alice", *words)
        assert len(shown(box)) in (1, 3)


def test_synced_before_it_is_over(command: Command, directory: Path, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1."""
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
    command("undelete", directory, "alice", "--all")
    assert did == ["rename", "rename", "new", "cur", ".Trash/new", ".Trash/cur"]


# --- folders --------------------------------------------------------------------------------------------------------


JUNK = "1700000009.j"


@pytest.fixture
def union(box: Box) -> Union:
    """Her inbox and, behind it, her folder Junk, of which a message has been deleted as well."""
    Box(box.path, ".Junk").put(f"{JUNK}:2,F", b"junk", "cur")
    store = box.backend(deletion="trash")
    union = Union(store, {"Junk": store.folder("Junk")})
    dialogue = Dialogue(union)
    dialogue.login()
    assert dialogue.send(b"DELE 2\r\nQUIT\r\n").endswith(b"+OK goodbye\r\n")
    return union


def in_union(union: Union) -> list[str]:
    dialogue = Dialogue(union)
    dialogue.login()
    found = uids(dialogue)
    dialogue.close()
    return found


def test_back_to_the_folder_it_came_from(command: Command, directory: Path, box: Box) -> None:
    """P3: under the unique-id that clients of the folder know, and those of a union."""
    Box(box.path, ".Junk").put(f"{JUNK}:2,F", b"junk", "cur")
    store = box.backend(deletion="trash")
    union = Union(store, {"Junk": store.folder("Junk")})
    before = in_union(union)
    dialogue = Dialogue(union)
    dialogue.login()
    dialogue.send(b"DELE 2\r\nQUIT\r\n")
    assert in_union(union) == [C]
    outcome = command("undelete", directory, "alice", "--all")
    assert outcome.status == 0, outcome.err
    rows = sorted(line.split()[1:] for line in outcome.out.splitlines())
    assert rows == [[A, "12", "INBOX"], [B, "12", "INBOX"], [JUNK, "4", ".Junk"]]
    assert (box.path / ".Junk" / "cur" / f"{JUNK}:2,F").read_bytes() == b"junk"
    assert in_union(union) == [A, B, *before]


@pytest.mark.usefixtures("union")
def test_back_under_a_unique_id_that_was_imported_there(command: Command, directory: Path, box: Box) -> None:
    write_map(os.fsencode(box.path / ".Junk"), {JUNK.encode(): "from-elsewhere"})
    outcome = command("undelete", directory, "alice", "--uid", "from-elsewhere")
    assert (outcome.status, outcome.out.split()[1:]) == (0, ["from-elsewhere", "4", ".Junk"])


@pytest.mark.parametrize("lost", ["memory", "folder", "damaged"])
@pytest.mark.usefixtures("union")
def test_what_no_folder_remembers_goes_to_the_inbox(command: Command, directory: Path, box: Box, lost: str) -> None:
    """P1: it comes back in any case, and where is said."""
    folder = box.path / ".Junk"
    match lost:
        case "memory":
            (folder / ".trio-pop3.trashed").unlink()
        case "folder":
            shutil.rmtree(folder)
        case _:
            (folder / ".trio-pop3.trashed").write_bytes(b"\0\n")
    outcome = command("undelete", directory, "alice", "--uid", JUNK)
    assert (outcome.status, outcome.out.split()[3]) == (0, "INBOX")
    assert JUNK in box.held()


def test_the_folder_has_another_name_by_now(command: Command, directory: Path, box: Box, union: Union) -> None:
    (box.path / ".Junk").rename(box.path / ".Spam")
    outcome = command("undelete", directory, "alice", "--uid", JUNK)
    assert (outcome.status, outcome.out.split()[3]) == (0, ".Spam")
    assert (box.path / ".Spam" / "cur" / f"{JUNK}:2,F").exists()


@pytest.mark.usefixtures("union")
def test_a_link_leads_nothing_out(command: Command, directory: Path, box: Box, tmp_path: Path) -> None:
    """H11: an administrator brings back alice's mail, and alice has made her folder a link to bob's."""
    (box.path / ".Junk").rename(tmp_path / "elsewhere")
    (box.path / ".Junk").symlink_to(tmp_path / "elsewhere")
    outcome = command("undelete", directory, "alice", "--uid", JUNK)
    assert outcome.out.split()[3:] == ["INBOX"]
    assert list((tmp_path / "elsewhere").glob("*/17*")) == []


@pytest.mark.usefixtures("union")
def test_not_while_the_folder_is_open(command: Command, directory: Path, box: Box) -> None:
    """R1939-21."""
    lock = MaildirLock(os.fsencode(box.path / ".Junk"), "1 unix alice")
    lock.acquire()
    outcome = command("undelete", directory, "alice", "--all")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("trio-pop3: alice is logged in")
    assert command("undelete", directory, "alice", "--uid", A).status == 0
    lock.release()
    assert command("undelete", directory, "alice", "--all").status == 0


@pytest.mark.usefixtures("union")
def test_a_memory_that_cannot_be_read_is_named(command: Command, directory: Path, box: Box) -> None:
    path = box.path / ".Junk" / ".trio-pop3.trashed"
    path.unlink()
    path.mkdir()
    outcome = command("undelete", directory, "alice", "--all")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == f"trio-pop3: cannot undelete: {path}: not a regular file\n"


def test_nothing_to_do_is_said(command: Command, directory: Path, box: Box) -> None:
    later = "2999-01-01T00:00"
    outcome = command("undelete", directory, "alice", "--since", later)
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == "trio-pop3: nothing that is in the trash was put there since then\n"
    command("undelete", directory, "alice", "--all")
    outcome = command("undelete", directory, "alice", "--all")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "trio-pop3: nothing is in the trash\n")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["alice"], 2, "one of the arguments --all --since --uid is required"),
        (["alice", "--all"], 2, "name a DIR, or --maildir, and a USER"),
        (["DIR", "alice", "--all", "--maildir", "/x/{user}"], 2, "name a DIR, or --maildir, and a USER"),
        (["alice", "--all", "--maildir", "/x"], 2, "a path pattern holds"),
        (["../alice", "--all", "--maildir", "/x/{user}"], 1, "has no place in /x/{user}"),
        (["DIR", "../alice", "--all"], 1, "not a user name"),
        (["DIR", "alice", "--all", "--trash", "cur"], 2, "trash must be the name of a Maildir++ folder"),
        (["DIR", "alice", "--since", "yesterday"], 2, "--since"),
        (["DIR", "carol", "--all"], 1, "cannot undelete: "),
        (["DIR", "alice", "--all"], 1, "/mail/alice/.Trash: no such file or directory"),
    ],
)
def test_what_cannot_be_done(command: Command, directory: Path, words: list[str], status: int, says: str) -> None:
    outcome = command("undelete", *[str(directory) if word == "DIR" else word for word in words])
    assert (outcome.status, outcome.out) == (status, "")
    assert says in outcome.err


def test_no_link_of_the_owners_is_followed(command: Command, directory: Path, box: Box, tmp_path: Path) -> None:
    """Root would put a file of theirs wherever they like."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(box.path / "new")
    (box.path / "new").symlink_to(elsewhere)
    os.chown(box.path / "new", 4711, 4711, follow_symlinks=False)
    outcome = command("undelete", directory, "alice", "--all")
    assert outcome.status == 1
    assert outcome.err.startswith("trio-pop3: cannot undelete: ")
    assert list(elsewhere.iterdir()) == []
