"""Policies in whole sessions: what a client sees, what is on disk, what the journal says, what CAPA announces."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.backend import Combined
from trio_pop3.backends.maildir import MaildirStore, removal, retention
from trio_pop3.backends.maildir.files import UidTimes
from trio_pop3.backends.maildir.origin import trashed
from trio_pop3.backends.maildir.retention import Retention
from trio_pop3.backends.views import Union
from trio_pop3.testing import check_backend, maildir_bench

from ..driving import Dialogue, run
from .maildir_helpers import KINDS, Box, Users, child, inline, lines, spoil, uids

A, B, C = NAMES = ["1700000001.a", "1700000002.b", "1700000003.c"]
DAY = 86400
WAYS = ["unlink", "trash", "flag", "hide"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for name in NAMES:
        box.put(name, name.encode())
    return box


def login(box: Box, **options: Any) -> Dialogue:
    dialogue = Dialogue(box.backend(**options))
    assert dialogue.login().startswith(b"+OK")
    return dialogue


def session(box: Box, *words: str, **options: Any) -> bytes:
    """These commands and QUIT; its reply."""
    dialogue = login(box, **options)
    for word in words:
        assert dialogue.ask(word).startswith(b"+OK"), word
    return dialogue.ask("QUIT")


def shown(box: Box, **options: Any) -> list[str]:
    dialogue = login(box, **options)
    found = uids(dialogue)
    dialogue.close()
    return found


def failing(error: int = errno.ENOSPC) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


def at(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """So many days after the mail came."""
    monkeypatch.setattr(time, "time", lambda: 1700000000 + days * DAY)


def journal(box: Box) -> list[list[str]]:
    """Word and uid of each line."""
    rows = (box.root / "journal").read_text().splitlines()
    return [[row.split()[1], row.split()[5].removeprefix("uid=")] for row in rows]


# --- the contract --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"deletion": "trash"},
        {"deletion": "trash", "trash_days": 7},
        {"deletion": "flag"},
        {"deletion": "hide"},
        {"journal": True},
        {"expire": 7},
        {"expire": 0},
        {"expire": "never", "deletion": "hide", "journal": True},
        {"lock_wait": 0.001},
    ],
    ids=str,
)
async def test_every_option_keeps_the_contract(tmp_path: Path, options: dict[str, Any]) -> None:
    """P1, P2, P3: all of `check_backend`."""
    if "journal" in options:
        options = {**options, "journal": tmp_path / "journal"}
    report = await check_backend(partial(maildir_bench, run_sync=inline, **options))
    assert "commit_removes_what_is_marked" in report.passed
    assert ("expiry" in report.passed) == ("expire" in options)


# --- each way of deleting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deletion", WAYS)
def test_marked_is_gone_for_pop3_and_the_rest_is_there(box: Box, deletion: str) -> None:
    """E2, E10, P1: exactly what was marked, for every session after."""
    assert session(box, "DELE 1", "DELE 2", "RSET", "DELE 3", deletion=deletion).startswith(b"+OK")
    assert shown(box, deletion=deletion) == [A, B]
    assert session(box, "DELE 1", deletion=deletion).startswith(b"+OK")
    assert shown(box, deletion=deletion) == [B]


@pytest.mark.parametrize("deletion", WAYS)
def test_nothing_is_written_without_quit(box: Box, deletion: str) -> None:
    """E1."""

    def state() -> list[str]:
        return sorted(str(path) for path in box.root.rglob("*"))

    login(box, deletion=deletion).close()
    before = state()
    dialogue = login(
        box,
        deletion=deletion,
        journal=box.root / "journal",
        expire=7,
        **({"trash_days": 7} if deletion == "trash" else {}),
    )
    for word in ("DELE 1", "RETR 2", "DELE 2"):
        dialogue.ask(word)
    dialogue.close()
    assert state() == before


@pytest.mark.parametrize("deletion", WAYS)
def test_what_others_see(box: Box, deletion: str) -> None:
    """What each way leaves in the Maildir, for IMAP servers and others."""
    session(box, "DELE 1", deletion=deletion)
    names = {
        "unlink": [B, C],
        "trash": [B, C],
        "flag": [f"{A}:2,T", B, C],
        "hide": [A, B, C],
    }[deletion]
    assert box.names() == [name.encode() for name in names]
    assert (box.path / ".Trash" / "new" / A).exists() == (deletion == "trash")


@pytest.mark.parametrize("deletion", ["trash", "flag", "hide"])
@pytest.mark.parametrize("nth", [1, 2])
def test_kill_9_in_a_commit(box: Box, deletion: str, nth: int) -> None:
    """P1, E6: killed at a rename; no +OK was said, every message is whole, and it can be done again."""
    content = {name: name.encode() for name in NAMES}
    script = f"""
from trio_pop3.backends.maildir import retention
dialogue = Dialogue(box.backend(deletion={deletion!r}))
dialogue.login()
dialogue.send(b"DELE 1\\r\\nDELE 3\\r\\n")
real, left = os.rename, {nth}
def count(*args, **options):
    global left
    left -= 1
    return die() if not left else real(*args, **options)
os.rename = count
print(dialogue.send(b"QUIT\\r\\n"), flush=True)
"""
    with child(box.root, "from tests.driving import Dialogue\n" + script) as process:
        out, _ = process.communicate(timeout=60)
    if deletion == "hide" and nth == 2:
        assert b"+OK" in out.encode()  # it takes one rename only
        assert shown(box, deletion=deletion) == [B]
        return
    assert (process.returncode, out) == (-9, "")
    everywhere = {path.name.partition(":")[0]: path.read_bytes() for path in box.path.rglob("17*")}
    assert everywhere == content
    left = shown(box, deletion=deletion)
    assert left == (NAMES if nth == 1 else [B, C])
    numbers = [f"DELE {number}" for number, name in enumerate(left, 1) if name != B]
    assert session(box, *numbers, deletion=deletion).startswith(b"+OK")
    assert shown(box, deletion=deletion) == [B]


@pytest.mark.parametrize("deletion", ["trash", "flag", "hide"])
def test_a_full_disk(box: Box, deletion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: -ERR with the number, and all are shown again."""
    dialogue = login(box, deletion=deletion)
    dialogue.send(b"DELE 1\r\nDELE 2\r\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing())
        assert dialogue.ask("QUIT") == b"-ERR [SYS/TEMP] 2 deleted messages not removed\r\n"
    assert shown(box, deletion=deletion) == NAMES


def test_what_an_imap_client_deletes_and_brings_back(box: Box) -> None:
    """With `flag`, the flag is what counts, whoever sets it."""
    box.move(f"new/{B}", f"cur/{B}:2,ST")
    assert shown(box, deletion="flag") == [A, C]
    assert shown(box) == NAMES
    box.move(f"cur/{B}:2,ST", f"cur/{B}:2,S")
    assert shown(box, deletion="flag") == NAMES


def test_flags_of_files_with_one_base_name(box: Box) -> None:
    """E10: each by its own."""
    box.put("1800000000.x:2,S", b"first", "cur")
    os.utime(box.path / "cur" / "1800000000.x:2,S", (1, 1))
    box.put("1800000000.x:2,RT", b"second", "cur")
    assert shown(box, deletion="flag") == [*NAMES, "1800000000.x"]
    assert len(shown(box)) == 5


def test_hidden_stays_hidden_whatever_happens_to_the_file(box: Box) -> None:
    """P3: by unique-id; moved, flagged; until the file is gone, and then it is forgotten."""
    session(box, "DELE 1", "DELE 2", deletion="hide")
    box.move(f"new/{A}", f"cur/{A}:2,S")
    assert shown(box, deletion="hide") == [C]
    (box.path / "cur" / f"{A}:2,S").unlink()
    session(box, "DELE 1", deletion="hide")
    assert shown(box, deletion="hide") == []
    kept = (box.path / ".trio-pop3.hidden").read_text()
    assert [line.split()[0] for line in kept.splitlines()] == [C, B]


def test_without_its_list_nothing_hidden_is_shown_as_new(box: Box) -> None:
    """P3: the login fails, which passes; a client that downloads it all again does not."""
    session(box, "DELE 1", deletion="hide")
    (box.path / ".trio-pop3.hidden").unlink()
    os.symlink("/nonexistent", box.path / ".trio-pop3.hidden")
    dialogue = Dialogue(box.backend(deletion="hide"))
    assert dialogue.login().startswith(b"-ERR [SYS/")
    os.unlink(box.path / ".trio-pop3.hidden")
    assert shown(box, deletion="hide") == NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_is_no_file_is_named(box: Box, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """P3: an administrator is told which file to mend, and the client that it will not pass."""
    path = box.path / ".trio-pop3.hidden"
    spoil(path, kind)
    dialogue = Dialogue(box.backend(deletion="hide"))
    assert dialogue.login() == b"-ERR [SYS/PERM] the mail store cannot be read\r\n"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"cannot open the Maildir '{box.path}': not a regular file: '{path}'"
    ]


@pytest.mark.parametrize("deletion", [way for way in WAYS if way != "hide"])
def test_what_was_hidden_and_is_shown_again_is_said(box: Box, deletion: str, caplog: pytest.LogCaptureFixture) -> None:
    assert shown(box, deletion=deletion) == NAMES
    session(box, "DELE 1", deletion="hide")
    assert caplog.messages == []
    assert shown(box, deletion=deletion) == NAMES
    what = "lists what was deleted with deletion `hide`; with"
    assert caplog.messages == [f"session test: '{box.path}/.trio-pop3.hidden' {what} `{deletion}` it is shown again"]


def test_in_steps(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: a go to a thread for each."""
    monkeypatch.setattr(removal, "_REMOVED_AT_ONCE", 1)
    gone: list[str] = []

    async def counted(work: Callable[..., Any], *args: Any) -> Any:
        gone.append(work.__name__)
        return work(*args)

    assert session(box, "DELE 1", "DELE 2", "DELE 3", deletion="trash", run_sync=counted).startswith(b"+OK")
    assert (len(gone), gone[1:]) == (4, ["next", "next", "next"])


# --- the journal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deletion", WAYS)
def test_the_journal_says_what_was_done(box: Box, deletion: str) -> None:
    """P1: with octets as RETR sends them."""
    session(box, "DELE 1", "DELE 3", deletion=deletion, journal=box.root / "journal")
    assert journal(box) == [[deletion, A], [deletion, C]]
    assert "octets=14\n" in (box.root / "journal").read_text()


def test_nothing_is_removed_that_the_journal_does_not_have(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E2, P1: -ERR with the count before anything is touched; it works again when the journal does."""
    where = box.root / "journal"
    where.mkdir()
    reply = session(box, "DELE 1", "DELE 2", journal=where)
    assert reply == b"-ERR [SYS/TEMP] 2 deleted messages not removed\r\n"
    assert sorted(box.held()) == NAMES
    assert "so nothing is removed (2 messages): " in caplog.text
    where.rmdir()
    assert session(box, "DELE 1", "DELE 2", journal=where).startswith(b"+OK")
    assert journal(box) == [["unlink", A], ["unlink", B]]


def test_on_disk_before_anything_is_removed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: its sync comes before the first unlink."""
    did: list[str] = []
    fsync, unlink = os.fsync, os.unlink

    def synced(fd: int) -> None:
        did.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def unlinked(path: bytes) -> None:
        did.append("unlink")
        unlink(path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "unlink", unlinked)
    session(box, "DELE 1", journal=box.root / "journal")
    assert did == ["journal", box.root.name, "unlink", "new", "cur"]


def test_what_could_not_be_removed_is_taken_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: the journal does not claim more than was done."""
    real = os.unlink

    def unlink(path: bytes) -> None:
        if path.endswith(b"b"):
            raise OSError(errno.EIO, "Input/output error")
        real(path)

    monkeypatch.setattr(os, "unlink", unlink)
    assert b" 1 deleted message not removed" in session(box, "DELE 1", "DELE 2", journal=box.root / "journal")
    assert journal(box) == [["unlink", A], ["unlink", B], ["kept", B]]


def test_what_nobody_knows_is_said_to_be_unsure(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/new"):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert b" 1 deleted message not removed" in session(box, "DELE 1", journal=box.root / "journal")
    assert journal(box) == [["unlink", A], ["unsure", A]]


def folder(box: Box, name: str, **options: Any) -> Any:
    """A backend that shows a folder of hers; there is one message in it, if it has to be made."""
    if not (box.path / f".{name}").exists():
        Box(box.path, f".{name}").put("1700000007.j", b"junk")
    backend = box.backend(journal=box.root / "journal", **options)
    return Combined(Users(), backend.folder(name))


def deleted_in(backend: Any) -> bytes:
    """The reply to QUIT after DELE 1."""
    dialogue = Dialogue(backend)
    assert dialogue.login().startswith(b"+OK")
    assert dialogue.ask("DELE 1").startswith(b"+OK")
    return dialogue.ask("QUIT")


def test_the_journal_names_the_folder(box: Box) -> None:
    """And in a union the unique-id is that of the message in the folder."""
    backend = folder(box, "Junk")
    session(box, "DELE 1", journal=box.root / "journal")
    assert deleted_in(backend).startswith(b"+OK")
    Box(box.path, ".Junk").put("1700000008.k")
    store = box.backend(journal=box.root / "journal")
    union = Union(store, {"Junk": store.folder("Junk")})
    dialogue = Dialogue(union)
    dialogue.login()
    assert (len(uids(dialogue)), uids(dialogue)[2] == "1700000008.k") == (3, False)
    dialogue.send(b"DELE 3\r\nQUIT\r\n")
    rows = [line.split()[5:] for line in (box.root / "journal").read_text().splitlines()]
    assert rows == [
        [f"uid={A}", "octets=14"],
        ["uid=1700000007.j", "octets=6", "folder=.Junk"],
        ["uid=1700000008.k", "octets=6", "folder=.Junk"],
    ]


@pytest.mark.parametrize(("deletion", "word"), [("trash", "unlink"), ("hide", "hide"), ("flag", "flag")])
def test_the_journal_says_what_is_destroyed(box: Box, deletion: str, word: str) -> None:
    """P1: what is deleted in the trash is gone, and nobody is told to look for it there."""
    assert deleted_in(folder(box, "Trash", deletion=deletion)).startswith(b"+OK")
    assert [row[0] for row in journal(box)] == [word]
    assert (deletion == "trash") == (not list((box.path / ".Trash").glob("*/17*")))


# --- expiry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deletion", WAYS)
def test_expires_so_many_days_after_it_was_first_retrieved(
    box: Box, deletion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2449-29, P1: not a day earlier; nothing that was only looked at with TOP, or in a session without QUIT."""
    options = {"deletion": deletion, "expire": 7, "journal": box.root / "journal"}
    at(monkeypatch, 0)
    cut = login(box, **options)
    cut.ask("RETR 3")
    cut.close()
    session(box, "RETR 1", "TOP 2 5", **options)
    at(monkeypatch, 3)
    session(box, "RETR 1", "RETR 2", **options)
    at(monkeypatch, 6.99)
    assert shown(box, **options) == NAMES
    at(monkeypatch, 7)
    assert shown(box, **options) == [B, C]
    at(monkeypatch, 10)
    assert shown(box, **options) == [C]
    at(monkeypatch, 1000)
    assert shown(box, **options) == [C]
    assert journal(box) == [["expire", A], ["expire", B]]
    assert (A in box.held()) == (deletion in ("flag", "hide"))
    assert (box.path / ".Trash" / "new" / A).exists() == (deletion == "trash")


def test_retrieved_in_pieces_or_not_whole(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: only what reached the client whole counts."""
    at(monkeypatch, 0)
    box.put("1700000009.big", b"x" * 700_000)
    dialogue = login(box, expire=7)
    dialogue.ask("RETR 4")
    os.truncate(box.path / "new" / B, 3)
    dialogue.ask("RETR 2")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert [line.split()[0] for line in (box.path / ".trio-pop3.retrieved").read_text().splitlines()] == [
        "1700000009.big"
    ]


def test_what_was_deleted_is_not_remembered(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    session(box, "RETR 1", "RETR 2", "DELE 1", expire=7)
    assert [line.split()[0] for line in (box.path / ".trio-pop3.retrieved").read_text().splitlines()] == [B]


def test_what_cannot_be_remembered_is_kept_for_longer(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P1: a full disk refuses nobody, and removes nothing."""
    dialogue = login(box, expire=7)
    dialogue.ask("RETR 1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing())
        assert dialogue.ask("QUIT").startswith(b"+OK")
    assert "so mail is kept for longer: No space left on device" in caplog.text
    at(monkeypatch, 99999)
    assert shown(box, expire=7) == NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_times_that_cannot_be_read_keep_mail_for_longer(
    box: Box, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P1: nobody is refused, and nothing is removed, for want of them; it is logged."""
    at(monkeypatch, 0)
    session(box, "RETR 1", expire=7)
    path = box.path / ".trio-pop3.retrieved"
    path.unlink()
    spoil(path, kind)
    at(monkeypatch, 8)
    assert shown(box, expire=7) == NAMES
    assert f"cannot read '{path}', so mail is kept for longer: not a regular file" in caplog.text
    assert session(box, "RETR 1", expire=7).startswith(b"+OK")


def test_what_cannot_be_removed_is_still_shown(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: at a login; and it goes at a later one."""
    at(monkeypatch, 0)
    session(box, "RETR 1", "RETR 2", expire=7)
    at(monkeypatch, 8)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing(errno.EIO))
        assert shown(box, expire=7) == NAMES
    (box.root / "journal").mkdir()
    assert shown(box, expire=7, journal=box.root / "journal") == NAMES
    assert shown(box, expire=7) == [C]


def test_so_many_at_a_login(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: the rest is shown, and goes at the next."""
    monkeypatch.setattr(retention, "_EXPIRED_AT_ONCE", 2)
    at(monkeypatch, 0)
    session(box, "RETR 1", "RETR 2", "RETR 3", expire=7)
    at(monkeypatch, 8)
    assert shown(box, expire=7) == [C]
    assert shown(box, expire=7) == []


def test_expire_0_removes_at_quit_what_was_retrieved(box: Box) -> None:
    """R2449-28, A-45, A-21: RSET does not undo it, TOP does not count, and nothing goes without QUIT."""
    dialogue = login(box, expire=0)
    dialogue.ask("RETR 1")
    dialogue.close()
    assert shown(box, expire=0) == NAMES
    assert session(box, "RETR 1", "TOP 2 3", "DELE 3", "RSET", expire=0).startswith(b"+OK")
    assert shown(box, expire=0) == [B, C]
    assert session(box, "RETR 1", "DELE 1", "DELE 2", expire=0, journal=box.root / "journal").startswith(b"+OK")
    assert box.held() == {}
    assert journal(box) == [["unlink", B], ["unlink", C]]


@pytest.mark.parametrize(
    ("expire", "before", "after"),
    [
        (None, None, None),
        (0, "EXPIRE 0", "EXPIRE 0"),
        (30, "EXPIRE 30", "EXPIRE 30"),
        ("never", "EXPIRE NEVER", "EXPIRE NEVER"),
        (lambda user: {"alice": 30}.get(user, 7), "EXPIRE 7 USER", "EXPIRE 30"),
        (lambda user: {"alice": "never"}.get(user, 7), "EXPIRE 7 USER", "EXPIRE NEVER"),
    ],
)
def test_announced_from_the_policy(box: Box, expire: Any, before: str | None, after: str | None) -> None:
    """R2449-27, R2449-29, R2449-30, R2449-31: the least of any before the login, the user's own behind it."""
    dialogue = Dialogue(box.backend(expire=expire))
    for expected in (before, after):
        found = [line.decode() for line in lines(dialogue.ask("CAPA")) if line.startswith(b"EXPIRE")]
        assert found == ([] if expected is None else [expected])
        dialogue.login()


def test_the_users_own_days_count(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2449-29."""
    other = Box(box.root, "bob")
    other.put(A)
    backend = box.backend(expire=lambda user: {"alice": 30}.get(user or "", 7))
    left = {}
    for days in (0, 8):
        at(monkeypatch, days)
        for user in ("alice", "bob"):
            dialogue = Dialogue(backend)
            dialogue.ask(f"USER {user}")
            assert dialogue.ask("PASS secret").startswith(b"+OK")
            left[user] = uids(dialogue)
            dialogue.send(b"RETR 1\r\nQUIT\r\n")
    assert left == {"alice": NAMES, "bob": []}


# --- the trash -----------------------------------------------------------------------------------------------------


def test_the_trash_is_cleaned_at_quit(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: and by nothing else; whether something is deleted or not."""
    options = {"deletion": "trash", "trash_days": 7}
    assert session(box, **options).startswith(b"+OK")
    session(box, "DELE 1", **options)
    now = time.time() + 8 * DAY
    monkeypatch.setattr(time, "time", lambda: now)
    login(box, **options).close()
    session(box, deletion="trash")
    assert (box.path / ".Trash" / "new" / A).exists()
    session(box, **options)
    assert not (box.path / ".Trash" / "new" / A).exists()


def test_a_trash_that_cannot_be_cleaned_refuses_nobody(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"deletion": "trash", "trash_days": 7}
    os.symlink("/nonexistent", box.path / ".Trash")
    assert session(box, **options).startswith(b"+OK")
    assert f"cannot clean .Trash of '{box.path}': " in caplog.text


@pytest.mark.parametrize("kind", [*KINDS[1:], "file"])
def test_a_trash_that_cannot_be_used_is_named(box: Box, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """E2, P1: nothing is gone, which is certain, and the journal takes it back."""
    path = box.path / ".Trash"
    if kind == "file":
        path.touch()
    else:
        spoil(path, kind)
    reply = session(box, "DELE 1", "DELE 2", deletion="trash", journal=box.root / "journal")
    assert reply == b"-ERR [SYS/TEMP] 2 deleted messages not removed\r\n"
    assert caplog.messages == [
        f"session test: cannot use '{path}', so nothing is removed (2 messages): Not a directory"
    ]
    assert journal(box) == [["trash", A], ["trash", B], ["kept", A], ["kept", B]]
    assert sorted(box.held()) == NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_brought_back_to_its_folder_is_not_moved(
    box: Box, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P1: a folder that cannot write down what comes from it."""
    backend = folder(box, "Junk", deletion="trash")
    path = box.path / ".Junk" / ".trio-pop3.trashed"
    spoil(path, kind)
    assert deleted_in(backend) == b"-ERR [SYS/TEMP] 1 deleted message not removed\r\n"
    assert caplog.messages == [
        f"session test: cannot use '{path}', so nothing is removed (1 messages): not a regular file"
    ]
    assert (box.path / ".Junk" / "new" / "1700000007.j").exists()


def test_a_folder_remembers_what_it_sent_and_forgets_what_is_gone(box: Box) -> None:
    junk = Box(box.path, ".Junk")
    for name in NAMES:
        junk.put(name)
    backend = folder(box, "Junk", deletion="trash")
    for _ in NAMES[:2]:
        assert deleted_in(backend).startswith(b"+OK")
    assert trashed(junk.octets_path) == {A.encode(), B.encode()}
    (box.path / ".Trash" / "new" / A).rename(box.path / ".Trash" / "cur" / f"{A}:2,S")  # seen by an IMAP client
    (box.path / ".Trash" / "new" / B).unlink()
    assert deleted_in(backend).startswith(b"+OK")
    assert trashed(junk.octets_path) == {A.encode(), C.encode()}


def test_another_message_of_that_name_does_not_go_to_the_folder(box: Box) -> None:
    """P1: which is in the trash, and came from the inbox; what comes from the folder has a new name there."""
    session(box, "DELE 1", deletion="trash")
    junk = Box(box.path, ".Junk")
    junk.put(f"{A}:2,S", b"junk", "cur")
    assert deleted_in(folder(box, "Junk", deletion="trash")).startswith(b"+OK")
    (base,) = trashed(junk.octets_path)
    assert base != A.encode()
    assert (box.path / ".Trash" / "cur" / os.fsdecode(base)).read_bytes() == b"junk"


# --- values that make no sense -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deletion": "burn"}, "deletion must be one of unlink, trash, flag, hide, not 'burn'"),
        ({"trash": "Trash"}, "trash must be the name"),
        ({"trash_days": 7}, "trash_days makes sense with deletion 'trash' only"),
        ({"deletion": "trash", "trash_days": 0}, "trash_days must be 1 to 36500"),
        ({"expire": -1}, "expire must be 0 to 36500 days or 'never', not -1"),
        ({"expire": 1.5}, "expire must be"),
        ({"expire": "soon"}, "expire must be"),
    ],
)
def test_said_at_the_start(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MaildirStore("/mail/{user}", **options)


def test_a_function_that_gives_no_days(box: Box) -> None:
    """D8: CAPA and the login fail rather than announce it."""
    policy = Retention(expire=lambda user: -5)
    with pytest.raises(ValueError, match="expire must be"):
        run(policy.expiry(None))


@pytest.mark.parametrize("deletion", ["unlink", "hide"])
def test_what_is_known_of_one_is_not_done_to_another_with_its_name(box: Box, deletion: str) -> None:
    """P1: a file that came under the same base name takes the unique-id, and with it not what was due to the other."""
    marks = ["DELE 1"] if deletion == "hide" else []
    assert session(box, "RETR 1", *marks, deletion=deletion, expire=1).startswith(b"+OK")
    times = UidTimes(box.octets_path, retention.RETRIEVED)
    times.write({A: int(time.time()) - 3 * DAY})
    box.put(f"{A}:2,", b"never seen", "cur")
    os.utime(box.path / "cur" / f"{A}:2,", (1, 1))  # the older one has the name for its unique-id
    assert A in shown(box, deletion=deletion, expire=1)
    assert (box.path / "cur" / f"{A}:2,").read_bytes() == b"never seen"
