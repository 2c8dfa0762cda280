"""Sessions on an mbox file, and what goes wrong with them."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import MboxBackend, MboxStore
from trio_pop3.backend import (
    AuthenticationFailed,
    CommitIncomplete,
    MaildropInUse,
    MessageUnavailable,
    PermanentFailure,
    TemporaryFailure,
)
from trio_pop3.backends.mbox import scan
from trio_pop3.testing import check_backend

from ..driving import CLIENT, Dialogue, run
from ..sansio.strategies import messages
from ..sansio.test_body import canon
from .maildir_helpers import Users, body, inline, lines, open_files, uids
from .mbox_helpers import FROM, SPLITS, Box, entry, mbox_bench

MAIL = [b"Subject: 1\n\none\n", b"Subject: 2\n\ntwo\n", b"Subject: 3\n\nthree\n"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put(*MAIL)
    return box


def opened(box: Box, **options: Any) -> Any:
    """A maildrop of alice."""
    return run(box.backend(**options).open("alice", CLIENT))


async def test_the_contract() -> None:
    """P1, P2, P3: all that can be tried from outside."""
    report = await check_backend(mbox_bench)
    assert len(report.passed) >= 48


# --- what is announced is what is sent --------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@given(mail=st.lists(messages.filter(lambda content: not SPLITS.search(content)), max_size=4))
def test_list_stat_and_retr_agree(mail: list[bytes], whole: bool) -> None:
    """B1, P2, R1939-61: any octets, handed over whole or in tiny pieces."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        if not whole:
            patch.setattr(scan, "READ_OCTETS", 5)
            patch.setattr("trio_pop3.backends.mbox.store.READ_OCTETS", 5)
        box = Box(Path(directory))
        box.put(*mail)
        dialogue = box.login()
        sizes = [int(line.split()[1]) for line in lines(dialogue.ask("LIST"))]
        got = [body(dialogue.ask(f"RETR {n}")) for n in range(1, len(mail) + 1)]
        assert dialogue.ask("STAT") == b"+OK %d %d\r\n" % (len(mail), sum(sizes))
        assert dialogue.ask("QUIT").startswith(b"+OK")
    assert sizes == [len(content) for content in got]
    # What delivery cannot leave out is a line end at the end, and with a CR before it that is CRLF.
    assert got == [canon(content + b"\r\n" if content.endswith(b"\r") else content) for content in mail]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_ends(tmp_path: Path, end: bytes) -> None:
    """B1: files of either kind, and of both."""
    box = Box(tmp_path)
    box.path.write_bytes(b"".join(entry(message) for message in MAIL).replace(b"\n", end) + entry(MAIL[0])[:-1])
    dialogue = box.login()
    assert [int(line.split()[1]) for line in lines(dialogue.ask("LIST"))] == [19, 19, 21, 19]
    assert body(dialogue.ask("RETR 4")) == b"Subject: 1\r\n\r\none\r\n"


def test_options_that_change_what_is_sent(tmp_path: Path) -> None:
    """B1: `>From` is sent as it is, or as it was before a mboxrd writer quoted it, and the unique-id stays."""
    box = Box(tmp_path)
    box.put(b"A: b\n\n>From x\n>>From y\n>from\n")
    plain, unquoted = opened(box), None
    stored = plain.messages[0]
    assert run(plain.retrieve(stored)) == b"A: b\n\n>From x\n>>From y\n>from\n"
    run(plain.release())
    unquoted = opened(box, unquote=True)
    assert run(unquoted.retrieve(unquoted.messages[0])) == b"A: b\n\nFrom x\n>From y\n>from\n"
    assert (unquoted.messages[0].uid, unquoted.messages[0].octets) == (stored.uid, stored.octets - 2)
    run(unquoted.release())


async def test_large_messages_through_threads(box: Box) -> None:
    """P2, P4, A16: pieces of 256 KiB; read twice only if the file was written to."""
    large = b"A: b\n\n" + b"x" * 70 * 20_000 + b"\n"
    box.put(large)
    maildrop = await MboxStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    for _ in range(2):
        got = await maildrop.retrieve(maildrop.messages[-1])
        assert not isinstance(got, bytes)
        pieces = [piece async for piece in got]
        assert b"".join(pieces) == large
        assert max(map(len, pieces)) <= scan.READ_OCTETS
        box.put(b"new\n")
    await maildrop.release()


def test_x_uidl(tmp_path: Path) -> None:
    """F6: if asked for; the first with it has it, as long as one is there."""
    box = Box(tmp_path)
    box.put(b"X-UIDL: abc\n\n1\n", b"X-UIDL: abc\n\n2\n")
    dialogue = box.login(x_uidl=True)
    first, second = uids(dialogue)
    assert first == "abc"
    assert re.fullmatch("[0-9a-f]{40}-2", second)
    dialogue.send(b"DELE 1\r\nQUIT\r\n")
    assert uids(box.login(x_uidl=True)) == [second]


def test_the_message_of_the_folder_is_kept_and_not_shown(tmp_path: Path) -> None:
    box = Box(tmp_path)
    internal = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nThis text is part of\n"
    box.put(internal, *MAIL)
    dialogue = box.login()
    assert len(uids(dialogue)) == 3
    dialogue.send(b"DELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n")
    assert box.content() == entry(internal)


# --- what is there, and what is not -----------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_an_empty_maildrop(tmp_path: Path, content: bytes | None) -> None:
    """F7: and a file that is not there is not made."""
    box = Box(tmp_path)
    if content is not None:
        box.path.write_bytes(content)
    dialogue = box.login()
    assert (uids(dialogue), dialogue.ask("STAT")) == ([], b"+OK 0 0\r\n")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert box.path.exists() == (content is not None)
    assert not box.path.with_suffix(".lock").exists()


def refused(box: Box, **options: Any) -> Exception:
    """Why a maildrop cannot be opened; then it is held by nobody."""
    before = open_files()
    with pytest.raises((AuthenticationFailed, TemporaryFailure, PermanentFailure)) as caught:
        opened(box, **options)
    assert open_files() == before
    return caught.value


def test_a_file_that_must_be_there(tmp_path: Path) -> None:
    """F9: `must_exist`; and without a directory it is never an empty maildrop."""
    assert isinstance(refused(Box(tmp_path), must_exist=True), TemporaryFailure)
    shutil.rmtree(tmp_path)
    assert isinstance(refused(Box(tmp_path)), TemporaryFailure)


def test_what_is_no_mbox(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """F9."""
    box.path.write_bytes(b"Subject: x\n\n")
    assert isinstance(refused(box), PermanentFailure)
    assert "does not begin with a From_ line" in caplog.text


@pytest.mark.parametrize("user", ["../alice", "alice.lock", ".trio-pop3", "a/b", "-x", ""])
def test_names_that_lead_elsewhere(box: Box, user: str) -> None:
    """H11: alice.lock is the lock file of alice, and no mailbox."""
    with pytest.raises(AuthenticationFailed):
        run(box.backend().open(user, CLIENT))
    assert sorted(os.listdir(box.root)) == ["alice"]


@pytest.mark.parametrize("how", ["mode", "file", "owner"])
def test_a_directory_for_journals_that_others_can_write_to(box: Box, how: str) -> None:
    """H11, P1: whoever can put a journal there can put anything into the mailbox."""
    if how == "file":
        box.state.write_bytes(b"")
    else:
        box.state.mkdir()
        box.state.chmod(0o777 if how == "mode" else 0o700)
        if how == "owner":
            os.chown(box.state, 1, 1)
    assert isinstance(refused(box), PermanentFailure)


def test_a_directory_for_state_of_ones_own(box: Box, tmp_path: Path) -> None:
    state = tmp_path / "state"
    maildrop = opened(box, state=str(state))
    assert sorted(os.listdir(box.root)) == ["alice", "state"]
    (name,) = os.listdir(state)
    assert name.endswith("alice.lock")
    with pytest.raises(MaildropInUse):
        opened(box, state=str(state))
    run(maildrop.release())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"locks": []}, "locks are"), ({"locks": ["dotlock", "dotlock"]}, "locks are"), ({"locks": ["x"]}, "not x"),
        ({"lock_timeout": -1}, "lock_timeout"), ({"lock_timeout": float("nan")}, "lock_timeout"),
        ({"stale_lock": 0}, "stale_lock"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MboxBackend("/var/mail/{user}", Users(), **options)
    with pytest.raises(ValueError, match="pattern"):
        MboxBackend("/var/mail", Users())


# --- others at work ---------------------------------------------------------------------------------------------


def test_one_session_and_delivery_is_not_held_up(box: Box) -> None:
    """I8, R1939-21: during a session nobody else's lock is held."""
    maildrop = opened(box)
    with pytest.raises(MaildropInUse):
        opened(box)
    assert sorted(os.listdir(box.root)) == [".trio-pop3", "alice"]
    fd = os.open(box.path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    run(maildrop.release())
    run(opened(box).release())


def test_what_is_delivered_meanwhile_stays(box: Box) -> None:
    """P1, E10: it is not seen, and not removed, with the last message or a part of the others."""
    for marks, left in ((b"DELE 1\r\nDELE 3\r\n", MAIL[1:2]), (b"DELE 1\r\n", [])):
        dialogue = box.login()
        box.put(b"Subject: new\n\n")
        assert dialogue.send(marks + b"QUIT\r\n").count(b"+OK") == marks.count(b"DELE") + 1
        new = [b"Subject: new\n\n"] * (2 - len(left))
        assert box.content() == b"".join(entry(message) for message in [*left, *new])


def test_owner_mode_and_file_stay(box: Box) -> None:
    """P1: what others know the file by; they may have it open."""
    os.chown(box.path, 1234, 5678)
    box.path.chmod(0o660)
    os.setxattr(box.path, "user.note", b"x")
    before = box.path.stat()
    assert box.login().send(b"DELE 1\r\nQUIT\r\n").count(b"+OK") == 2
    after = box.path.stat()
    assert (after.st_ino, after.st_uid, after.st_gid, after.st_mode) == (before.st_ino, 1234, 5678, before.st_mode)
    assert os.getxattr(box.path, "user.note") == b"x"


@pytest.mark.parametrize("what", ["status", "removed", "replaced", "gone", "shorter"])
def test_changed_behind_our_back(box: Box, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """E2, P1: -ERR, and nothing is removed; what cannot be found is not sent."""
    dialogue = box.login()
    content = box.content()
    changed = {
        "status": content.replace(b"Subject: 2", b"Status: RO\nSubject: 2"),
        "removed": entry(MAIL[0]) + entry(MAIL[2]),
        "replaced": content,
        "gone": None,
        "shorter": content[:-30],
    }[what]
    if what == "replaced":
        (box.root / "new").write_bytes(content)
        (box.root / "new").rename(box.path)
    elif changed is None:
        box.path.unlink()
    else:
        box.path.write_bytes(changed)
    if changed is not None and changed != content:
        assert dialogue.ask("RETR 3").startswith(b"-ERR [SYS/TEMP]")
    assert dialogue.send(b"DELE 1\r\nDELE 2\r\nQUIT\r\n").endswith(
        b"-ERR [SYS/TEMP] 2 deleted messages not removed\r\n"
    )
    assert (box.content() if box.path.exists() else None) == changed
    assert "cannot remove mail" in caplog.text
    assert not list(box.state.glob("*.journal*"))


async def test_changed_while_it_is_sent(box: Box) -> None:
    """A10, P2: the end of it is not sent."""
    box.put(b"A: b\n\n" + b"x\n" * 400_000)
    maildrop = await MboxStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    got = await maildrop.retrieve(maildrop.messages[-1])
    assert not isinstance(got, bytes)
    sent = [await anext(aiter(got))]
    with box.path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"y")

    async def rest(source: AsyncIterator[bytes]) -> None:
        sent.extend([piece async for piece in source])

    with pytest.raises(MessageUnavailable):
        await rest(got)
    assert sum(map(len, sent)) < 800_000
    await maildrop.release()


# --- locked by others -------------------------------------------------------------------------------------------


async def test_locked_at_login(box: Box, autojump_clock: trio.testing.MockClock) -> None:
    """H9: waits for it in no thread, so long; then it is a matter of trying again."""
    dotlock = box.path.with_suffix(".lock")
    dotlock.touch()
    store = MboxStore(f"{box.root}/{{user}}", lock_timeout=5.0, run_sync=inline)
    began = trio.current_time()
    with pytest.raises(TemporaryFailure, match="locked by another program"):
        await store.open("alice", CLIENT)
    assert trio.current_time() - began == 5.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_unlink_later, dotlock)
        maildrop = await store.open("alice", CLIENT)
    assert len(maildrop.messages) == 3
    dotlock.touch()
    with pytest.raises(CommitIncomplete, match="1 deleted message not removed"):
        await maildrop.commit(maildrop.messages[:1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_unlink_later, dotlock)
        await maildrop.commit(maildrop.messages[:1])
    await maildrop.release()
    assert box.content() == entry(MAIL[1]) + entry(MAIL[2])


async def _unlink_later(path: Path) -> None:
    await trio.sleep(2.0)
    os.unlink(path)


async def test_cancelled_while_it_waits(box: Box, autojump_clock: trio.testing.MockClock) -> None:
    """P1, I5: then nothing is held."""
    box.path.with_suffix(".lock").touch()
    store = MboxStore(f"{box.root}/{{user}}", run_sync=inline)
    before = open_files()
    with trio.move_on_after(1.0) as scope:
        await store.open("alice", CLIENT)
    assert scope.cancelled_caught
    assert open_files() == before
    box.path.with_suffix(".lock").unlink()
    maildrop = await store.open("alice", CLIENT)
    await maildrop.release()


# --- journals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["noise", "another file", "gone"])
def test_a_journal_that_does_not_fit(box: Box, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """P1: nothing is done to the mailbox, and the administrator is told which file to look at."""
    journal = box.state / "alice.journal"
    opened_once = box.login()
    opened_once.close()
    journal.write_bytes(b"noise")
    if what == "gone":
        box.path.unlink()
    content = box.content() if box.path.exists() else None
    assert isinstance(refused(box), PermanentFailure)
    assert (box.content() if box.path.exists() else None) == content
    assert str(journal) in caplog.text
    journal.unlink()
    run(opened(box).release())


def test_the_log_quotes_no_mail(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """P5: the log names files, and nothing of what is in them."""
    caplog.set_level(logging.DEBUG)
    dialogue = Dialogue(box.backend())
    dialogue.login()
    box.path.write_bytes(b"private text\n" + FROM)
    dialogue.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
    assert "cannot remove" in caplog.text
    assert "private" not in caplog.text
