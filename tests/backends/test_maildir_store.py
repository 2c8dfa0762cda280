"""Sessions on a Maildir, and what goes wrong with them."""

from __future__ import annotations

import errno
import gc
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import (
    AuthenticationFailed,
    CommitIncomplete,
    MaildropInUse,
    MessageColumns,
    MessageUnavailable,
    PasswordCredentials,
    PermanentFailure,
    TemporaryFailure,
    login_methods,
)
from trio_pop3.backends.maildir import MaildirBackend, MaildirStore, deliver, reading, removal, scan, store
from trio_pop3.backends.memory import MemoryBackend

from ..driving import CLIENT, Dialogue, run
from ..sansio.strategies import messages
from ..sansio.test_body import canon
from .maildir_helpers import Box, Users, body, child, inline, lines, open_files, uids

NAMES = ["1700000001.a", "1700000002.b", "1700000003.c"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for name in NAMES:
        box.put(name, f"Subject: {name}\n\nbody\n".encode())
    return box


def locked(box: Box) -> bool:
    """Whether somebody holds the maildrop; says so without waiting."""
    try:
        run(run(box.backend().open("alice", CLIENT)).release())
    except MaildropInUse:
        return True
    return False


def failing(error: int) -> Callable[..., Any]:
    """A system call that does not work."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


# --- what is announced is what is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@given(mail=st.lists(messages, max_size=4))
def test_list_stat_and_retr_agree(tmp_path_factory: pytest.TempPathFactory, mail: list[bytes], whole: bool) -> None:
    """B1, P2, R1939-61: any octets, handed over whole or in tiny pieces."""
    box = Box(tmp_path_factory.mktemp("box"))
    for n, content in enumerate(mail):
        box.put(f"17000000{n:02d}.x", content)
    with pytest.MonkeyPatch.context() as patch:
        if not whole:
            patch.setattr(reading, "READ_OCTETS", 3)
        dialogue = box.login()
        sizes = [int(line.split()[1]) for line in lines(dialogue.ask("LIST"))]
        got = [body(dialogue.ask(f"RETR {n}")) for n in range(1, len(mail) + 1)]
        assert dialogue.ask("STAT") == b"+OK %d %d\r\n" % (len(mail), sum(sizes))
        assert dialogue.ask("QUIT").startswith(b"+OK")
    assert got == [canon(content) for content in mail]
    assert sizes == [len(content) for content in got]


LARGE = {
    "one line": b"x" * 5_000_000,
    "short lines": b"line\n" * 200_000,
    "dots": b".\n" * 200_000,
    "a CR at the edge": b"x" * (scan.READ_OCTETS - 1) + b"\r\n.\r\n" + b"y" * 10,
    "one piece": b"x" * (scan.READ_OCTETS - 1) + b"\n",
    "one octet more": b"x" * scan.READ_OCTETS + b"\n",
    "nuls": bytes(700_000),
}


@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
async def test_large_messages_through_threads(box: Box, content: bytes) -> None:
    """B1, P2, A16: bytes up to 256 KiB, pieces of at most that beyond; the default worker threads."""
    box.put("1800000000.big", content)
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    message = maildrop.messages[-1]
    expected = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert message.octets == len(expected) + (0 if expected.endswith(b"\n") else 2)
    before = open_files()
    got = await maildrop.retrieve(message)
    if len(content) <= scan.READ_OCTETS:
        assert got == content
    else:
        assert not isinstance(got, bytes)
        pieces = [piece async for piece in got]
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= scan.READ_OCTETS
    assert open_files() == before
    await maildrop.release()


def test_an_empty_maildrop(tmp_path: Path) -> None:
    """F7."""
    dialogue = Box(tmp_path).login()
    assert (uids(dialogue), lines(dialogue.ask("LIST"))) == ([], [])
    assert dialogue.ask("STAT") == b"+OK 0 0\r\n"
    assert dialogue.ask("QUIT").startswith(b"+OK")


def test_listings_open_no_file(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8: once logged in, nothing is read to list."""
    dialogue = box.login()
    for call in ("open", "read", "listdir", "stat"):
        monkeypatch.setattr(os, call, failing(errno.EIO))
    assert uids(dialogue) == NAMES
    assert len(lines(dialogue.ask("LIST"))) == 3


def test_a_login_is_one_go_to_a_thread_and_so_is_a_message(box: Box) -> None:
    """P4: lock, scan and sizes together."""
    gone: list[str] = []

    async def counted(work: Callable[..., Any], *args: Any) -> Any:
        gone.append(work.__name__)
        return work(*args)

    dialogue = Dialogue(box.backend(run_sync=counted))
    dialogue.login()
    assert len(gone) == 1
    dialogue.ask("RETR 1")
    assert len(gone) == 2
    dialogue.send(b"DELE 1\r\nDELE 2\r\nQUIT\r\n")
    assert len(gone) == 3


async def test_what_a_commit_makes_of_its_messages_it_makes_once_and_in_a_thread(box: Box) -> None:
    """P4: it may be a sequence that makes them when they are looked at."""
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    made: list[int] = []

    class Lazy(Sequence[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, at: Any) -> Any:
            found = maildrop.messages[:2][at]
            made.append(threading.get_ident())
            return found

    await maildrop.commit(Lazy())
    await maildrop.release()
    assert len(made) == 2
    assert threading.get_ident() not in made
    assert box.names() == [NAMES[2].encode()]


# --- unique-ids and order -----------------------------------------------------------------------------------------


def test_unique_ids_and_order_survive_what_happens_to_mail(box: Box) -> None:
    """F2, P3, C7, R1939-62: flags, new/ to cur/, other deletions, sessions with and without QUIT."""
    first = box.login()
    assert uids(first) == NAMES
    first.close()
    box.move(f"new/{NAMES[1]}", f"cur/{NAMES[1]}:2,")
    box.move(f"cur/{NAMES[1]}:2,", f"cur/{NAMES[1]}:2,FS")
    box.move(f"new/{NAMES[2]}", f"cur/{NAMES[2]}:2,S")
    second = box.login()
    assert uids(second) == NAMES
    assert second.send(b"DELE 1\r\nQUIT\r\n").count(b"+OK") == 2
    assert uids(box.login()) == NAMES[1:]


def test_names_that_are_no_unique_ids(tmp_path: Path) -> None:
    """F1, F4, P3: too long, blank, not ASCII, not UTF-8, a line end: hashed, and found again for RETR and DELE."""
    box = Box(tmp_path)
    odd = [b"1700000000.\xff\xfe.h", "1700000001.h\xf6st".encode(), b"1700000002." + b"x" * 80, b"1700000003.a b",
           b"1700000004.\r\n+OK", b"1700000005.\x1b[2J"]  # fmt: skip
    for n, name in enumerate(odd):
        box.put(name, b"%d\n" % n, "cur" if n % 2 else "new")
    dialogue = box.login()
    ids = uids(dialogue)
    assert all(len(uid) == 40 and set(uid) <= set("0123456789abcdef") for uid in ids)
    assert len(set(ids)) == len(odd)
    for n in range(len(odd)):
        assert body(dialogue.ask(f"RETR {n + 1}")) == b"%d\r\n" % n
    for name in odd[::2]:
        os.rename(box.octets_path + b"/new/" + name, box.octets_path + b"/cur/" + name + b":2,S")
    dialogue.send(b"DELE 1\r\nDELE 3\r\nDELE 4\r\nQUIT\r\n")
    assert box.names() == sorted([odd[1], odd[4] + b":2,S", odd[5]])
    assert uids(box.login()) == [ids[1], ids[4], ids[5]]


def test_equal_mail_is_not_the_same_mail(box: Box) -> None:
    """F5, F3."""
    made = [deliver(box.path, b"same\n") for _ in range(3)]
    assert uids(box.login())[3:] == made


# --- others at work -----------------------------------------------------------------------------------------------


def test_mail_that_comes_and_goes_during_a_session(box: Box) -> None:
    """C5, C6: new mail waits for the next login; removed mail is -ERR and shifts nothing."""
    dialogue = box.login()
    late = deliver(box.path, b"late\n")
    box.put("1.early")
    os.unlink(box.path / "new" / NAMES[1])
    assert uids(dialogue) == NAMES
    assert dialogue.ask("RETR 2").startswith(b"-ERR [SYS/TEMP]")
    assert NAMES[2].encode() in dialogue.ask("RETR 3")
    assert dialogue.ask("TOP 2 0").startswith(b"-ERR")
    assert dialogue.send(b"DELE 2\r\nDELE 1\r\nQUIT\r\n").count(b"+OK") == 3
    assert uids(box.login()) == ["1.early", NAMES[2], late]


def test_renamed_between_login_and_retr_and_dele(box: Box) -> None:
    """E5, C6: read and removed under its new name, by its identity and not its place."""
    dialogue = box.login()
    box.move(f"new/{NAMES[0]}", f"cur/{NAMES[0]}:2,")
    assert NAMES[0].encode() in dialogue.ask("RETR 1")
    box.move(f"cur/{NAMES[0]}:2,", f"cur/{NAMES[0]}:2,S")
    assert NAMES[0].encode() in dialogue.ask("RETR 1")
    box.move(f"cur/{NAMES[0]}:2,S", f"cur/{NAMES[0]}:2,RS")
    box.put("1.first")
    assert dialogue.send(b"DELE 1\r\nQUIT\r\n").count(b"+OK") == 2
    assert sorted(box.held()) == ["1.first", *NAMES[1:]]


def test_nothing_is_touched_without_quit(box: Box) -> None:
    """E1: no name, flag or time changes, whatever was read and marked."""
    box.move(f"new/{NAMES[0]}", f"cur/{NAMES[0]}:2,F")

    def state() -> list[tuple[bytes, int, int]]:
        return [
            (part, status.st_ino, status.st_mtime_ns)
            for folder in ("new", "cur")
            for entry in os.scandir(box.octets_path + b"/" + folder.encode())
            for part, status in [(entry.name, entry.stat())]
        ]

    before = state()
    dialogue = box.login()
    dialogue.send(b"RETR 1\r\nRETR 2\r\nDELE 1\r\nDELE 2\r\n")
    dialogue.close()
    assert state() == before
    assert box.login().ask("STAT").startswith(b"+OK 3 ")


def test_quit_removes_exactly_what_was_marked(box: Box) -> None:
    """E2, E10."""
    assert box.login().send(b"DELE 1\r\nDELE 2\r\nRSET\r\nDELE 3\r\nDELE 1\r\nQUIT\r\n").count(b"+OK") == 6
    assert list(box.held()) == [NAMES[1]]
    assert uids(box.login()) == [NAMES[1]]


# --- the lock -----------------------------------------------------------------------------------------------------


def test_two_sessions(box: Box) -> None:
    """R1939-21, R1939-23, I9, I10: [IN-USE]; the refused one does not free the lock, nor does a third get in."""
    first, second = box.login(), Dialogue(box.backend())
    for _ in range(2):
        assert second.login().startswith(b"-ERR [IN-USE]")
    second.close()
    assert locked(box)
    assert first.ask("QUIT").startswith(b"+OK")
    assert not locked(box)


def test_every_way_out_frees_it(box: Box) -> None:
    """I7: QUIT, a lost connection, a login that is refused before the lock."""
    ends: list[Callable[[Dialogue], object]] = [
        lambda dialogue: dialogue.ask("QUIT"),
        lambda dialogue: dialogue.send(b""),
        lambda dialogue: dialogue.close(),
    ]
    for end in ends:
        dialogue = box.login()
        assert locked(box)
        end(dialogue)
        assert not locked(box)
    assert Dialogue(box.backend()).login(password="wrong").startswith(b"-ERR [AUTH]")
    assert not locked(box)


class CancelledAfterwards:
    """Runs the work in a thread, and lets a cancellation out when the work is done."""

    async def __call__(self, work: Callable[..., Any], *args: Any) -> Any:
        result = await trio.to_thread.run_sync(work, *args)
        await trio.lowlevel.checkpoint()
        return result


@pytest.mark.parametrize("run_sync", [None, CancelledAfterwards()], ids=["default", "checkpoint after"])
@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_cancelled_login_holds_nothing(
    box: Box, when: str, run_sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9, R1939-24, P1: either it came through and is released, or the lock is free at once."""
    started, go_on = threading.Event(), threading.Event()
    real = os.listdir

    def slow(path: bytes) -> list[bytes]:
        started.set()
        assert go_on.wait(20)
        return real(path)

    before = open_files()
    outcomes = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", slow)
        maildirs = MaildirStore(f"{box.root}/{{user}}", run_sync=run_sync)

        async def login() -> None:
            try:
                maildrop = await maildirs.open("alice", CLIENT)
            except trio.Cancelled:
                outcomes.append("cancelled")
                raise
            outcomes.append("through")
            await maildrop.release()

        async with trio.open_nursery() as nursery:
            if when == "before":
                nursery.cancel_scope.cancel()
            nursery.start_soon(login)
            if when == "during":
                await trio.to_thread.run_sync(started.wait, 20)
                nursery.cancel_scope.cancel()
                go_on.set()
    assert outcomes == ["through" if (when, run_sync) == ("during", None) else "cancelled"]
    assert open_files() == before
    assert not locked(box)


async def test_a_login_that_waits_for_a_thread_can_be_cancelled(box: Box) -> None:
    """P4: the limiter is the one given."""
    limiter = trio.CapacityLimiter(1)
    backend = MaildirBackend(f"{box.root}/{{user}}", Users(), limiter=limiter)
    async with limiter, trio.open_nursery() as nursery:
        nursery.start_soon(backend.open, "alice", CLIENT)
        await trio.testing.wait_all_tasks_blocked()
        assert limiter.statistics().tasks_waiting == 1
        nursery.cancel_scope.cancel()
    assert not locked(box)


def test_made_outside_of_trio(box: Box) -> None:
    """`trio.run(serve, backend)`: the backend is made before."""
    maildirs = MaildirStore(f"{box.root}/{{user}}")

    async def main() -> int:
        maildrop = await maildirs.open("alice", CLIENT)
        count = len(maildrop.messages)
        await maildrop.release()
        return count

    assert trio.run(main) == 3


def test_a_maildrop_goes_with_the_last_who_holds_it(box: Box) -> None:
    """P4: a hundred thousand messages are 20 MB, which must not wait for the garbage collector."""
    maildrop = run(MaildirStore(f"{box.root}/{{user}}", run_sync=inline).open("alice", CLIENT))
    run(maildrop.retrieve(maildrop.messages[0]))
    assert isinstance(maildrop.messages, MessageColumns)
    octets = weakref.ref(maildrop.messages.octets)
    gc.disable()
    try:
        run(maildrop.release())
        del maildrop
        assert octets() is None
    finally:
        gc.enable()


# --- what cannot be opened ----------------------------------------------------------------------------------------


def break_missing(box: Box, patch: pytest.MonkeyPatch) -> None:
    box.path.rename(box.root / "elsewhere")


def break_unmounted(box: Box, patch: pytest.MonkeyPatch) -> None:
    break_missing(box, patch)
    box.path.mkdir()


def break_half(box: Box, patch: pytest.MonkeyPatch) -> None:
    for path in (box.path / "new").iterdir():
        path.unlink()
    (box.path / "new").rmdir()


def break_file(box: Box, patch: pytest.MonkeyPatch) -> None:
    break_missing(box, patch)
    box.path.write_bytes(b"From mbox\n")


def break_permission(box: Box, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "listdir", failing(errno.EACCES))


def break_directory(box: Box, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "listdir", failing(errno.EIO))


def break_message(box: Box, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "read", failing(errno.EIO))


def break_descriptors(box: Box, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scan, "open_message", failing(errno.EMFILE))


@pytest.mark.parametrize(
    ("breaks", "code", "says"),
    [
        (break_missing, "SYS/TEMP", "mount it"),
        (break_unmounted, "SYS/TEMP", "mount it"),
        (break_half, "SYS/TEMP", "mount it"),
        (break_file, "SYS/PERM", "Not a directory"),
        (break_permission, "SYS/PERM", "Permission denied"),
        (break_directory, "SYS/TEMP", "Input/output error"),
        (break_message, "SYS/TEMP", "/new/1700000"),
        (break_descriptors, "SYS/TEMP", "Too many open files"),
    ],
)
def test_what_cannot_be_opened_is_never_an_empty_maildrop(
    box: Box,
    breaks: Callable[[Box, pytest.MonkeyPatch], None],
    code: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F9, D6, I9, R1939-23, R1939-24: -ERR, still AUTHORIZATION, lock free, the log says where; the client does not."""
    before = open_files()
    dialogue = Dialogue(box.backend())
    with monkeypatch.context() as patch:
        breaks(box, patch)
        reply = dialogue.login()
    assert reply.startswith(f"-ERR [{code}]".encode())
    assert str(box.root).encode() not in reply
    assert dialogue.ask("STAT").startswith(b"-ERR")
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert str(box.path) in record.getMessage()
    assert says in record.getMessage()
    assert open_files() == before
    if breaks in (break_permission, break_directory, break_message, break_descriptors):
        assert dialogue.login().startswith(b"+OK"), "the same session can log in when it is mended"


def test_a_full_disk_lets_people_fetch_and_delete(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: nothing a session needs is written."""
    for call in ("write", "pwrite", "ftruncate", "rename", "link", "mkdir"):
        monkeypatch.setattr(os, call, failing(errno.ENOSPC))
    dialogue = box.login()
    assert dialogue.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n").count(b"+OK") == 3
    assert sorted(box.held()) == NAMES[1:]


@pytest.mark.parametrize("user", ["../alice", "..", ".", "/etc", ".hidden", "-x", "a/../alice", "alice\0", "a\nb"])
def test_a_name_that_is_no_place_is_a_failed_login(box: Box, user: str, caplog: pytest.LogCaptureFixture) -> None:
    """H11: whoever vouches for it. The log has it on one line."""
    with pytest.raises(AuthenticationFailed):
        run(box.backend().open(user, CLIENT))
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert [path.name for path in box.root.iterdir()] == ["alice"]


def test_a_bad_pattern_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="pattern"):
        MaildirStore("/var/mail")


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("call", ["open", "fstat", "read"])
def test_an_unreadable_message_costs_one_error(
    box: Box, call: str, error: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """C6, I5: -ERR, logged with its path, nothing left open; the session goes on."""
    dialogue = box.login()
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(error))
        assert dialogue.ask("RETR 2").startswith(b"-ERR [SYS/TEMP]")
    assert f"'{box.path}/new/{NAMES[1]}': {os.strerror(error)}" in caplog.text
    assert open_files() == before
    assert NAMES[1].encode() in dialogue.ask("RETR 2")


def test_a_message_that_became_something_else(box: Box) -> None:
    """H11: a link or FIFO put in its place after login is not read."""
    dialogue = box.login()
    secret = box.root / "secret"
    secret.write_bytes((box.path / "new" / NAMES[0]).read_bytes())
    for name in NAMES:
        os.unlink(box.path / "new" / name)
    os.symlink(secret, box.path / "new" / NAMES[0])
    os.mkfifo(box.path / "new" / NAMES[1])
    (box.path / "new" / NAMES[2]).mkdir()
    for n in (1, 2, 3):
        assert dialogue.ask(f"RETR {n}").startswith(b"-ERR [SYS/TEMP]")


def big(box: Box) -> tuple[store.MaildirMaildrop, AsyncIterator[bytes]]:
    """A maildrop, and a message in pieces of three octets of it."""
    maildrop = run(MaildirStore(f"{box.root}/{{user}}", run_sync=inline).open("alice", CLIENT))
    got = run(maildrop.retrieve(maildrop.messages[0]))
    assert not isinstance(got, bytes)
    return maildrop, got


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("way", ["end", "close", "close at once", "forget", "fail", "close twice"])
def test_a_message_in_pieces_is_closed_on_every_way_out(
    box: Box, way: str, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: at its end, when the client left, when nobody ever asked for a piece, when the disk fails."""
    monkeypatch.setattr(reading, "READ_OCTETS", 3)
    if not cached:
        monkeypatch.setattr(reading, "NOWAIT", 0)
    before = open_files()
    maildrop, pieces = big(box)
    aclose: Callable[[], Any] = pieces.aclose  # type: ignore[attr-defined]
    assert any(NAMES[0] in name for name in open_files() - before)
    if way not in ("close at once", "forget"):
        assert run(anext(pieces)) == b"Sub"  # type: ignore[arg-type]
    if way == "end":
        run(drain(pieces))
        with pytest.raises(StopAsyncIteration):
            run(anext(pieces))  # type: ignore[arg-type]
    elif way == "forget":
        del pieces, aclose
    elif way == "fail":
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv" if cached else "pread", failing(errno.EIO))
            with pytest.raises(OSError, match="Input/output"):
                run(anext(pieces))  # type: ignore[arg-type]
    else:
        run(aclose())
        if way == "close twice":
            run(aclose())
    assert not any(NAMES[0] in name for name in open_files())
    run(maildrop.release())
    assert open_files() == before


async def drain(pieces: AsyncIterator[bytes]) -> None:
    async for _ in pieces:
        pass


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("change", [b"more\n", b"+\n", b""])
def test_a_message_that_changes_its_size_is_refused(
    box: Box, whole: bool, change: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, B6: before anything of it is sent; the next login knows its size."""
    if not whole:
        monkeypatch.setattr(reading, "READ_OCTETS", 3)
    dialogue = box.login()
    path = box.path / "new" / NAMES[0]
    with open(path, "ab") as file:
        file.write(change)
    if not change:
        os.truncate(path, 10)
    assert dialogue.ask("RETR 1").startswith(b"-ERR [SYS/TEMP]")
    assert dialogue.ask("RETR 2").startswith(b"+OK")
    dialogue.close()
    again = box.login()
    assert b"+OK 1 %d\r\n" % len(body(again.ask("RETR 1"))) == again.ask("LIST 1")


def test_a_message_that_became_longer_is_logged(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """J5."""
    dialogue = box.login()
    with open(box.path / "new" / NAMES[0], "ab") as file:
        file.write(b"x" * 100)
    assert dialogue.ask("RETR 1").startswith(b"-ERR [SYS/TEMP]")
    assert f"cannot read '{box.path}/new/{NAMES[0]}': changed since login" in caplog.text


@pytest.mark.parametrize("octets", [3, 1000])
def test_what_is_appended_while_a_message_is_read_is_not_sent(
    box: Box, octets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P4: it ends where it ended when it was opened, as announced, however fast it grows."""
    monkeypatch.setattr(reading, "READ_OCTETS", octets)
    expected = (box.path / "new" / NAMES[0]).read_bytes().replace(b"\n", b"\r\n")
    dialogue = box.login()
    real, more = os.read, [b"more and more\n"] * 1000

    def read(fd: int, octets: int) -> bytes:
        with open(box.path / "new" / NAMES[0], "ab") as file:
            file.write(more.pop() if more else b"")
        return real(fd, octets)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        assert body(dialogue.ask("RETR 1")) == expected
    assert dialogue.ask("RETR 1").startswith(b"-ERR")


def test_another_file_in_its_place_is_not_sent(box: Box) -> None:
    """P2, C6: not even one of the same size, since it was not announced; nor is it removed (E10)."""
    dialogue = box.login()
    path = box.path / "new" / NAMES[0]
    box.put("other", path.read_bytes().swapcase(), "tmp")
    box.move("tmp/other", f"new/{NAMES[0]}")
    assert dialogue.ask("RETR 1").startswith(b"-ERR [SYS/TEMP]")
    assert dialogue.send(b"DELE 1\r\nQUIT\r\n").endswith(b"-ERR [SYS/TEMP] 1 deleted message not removed\r\n")
    assert NAMES[0] in uids(box.login())


def test_a_session_with_files_of_one_base_name(tmp_path: Path) -> None:
    """F1, E10, P1: each is listed, read and removed for itself, and what is not marked is there the next time."""
    box = Box(tmp_path)
    for seconds, name in enumerate(["same:2,S", "same:2,RS", ":2,a", ":2,b"], 1):
        box.put(name, name.encode() + b"\n", "cur")
        os.utime(box.path / "cur" / name, (seconds, seconds))
    (box.path / "cur" / "hid").mkdir()
    box.put("hid", b"hid\n")
    os.utime(box.path / "new" / "hid", (9, 9))
    dialogue = box.login()
    assert len(set(uids(dialogue))) == 5
    assert [body(dialogue.ask(f"RETR {n}")) for n in range(1, 6)] == [
        b"same:2,S\r\n", b"same:2,RS\r\n", b":2,a\r\n", b":2,b\r\n", b"hid\r\n"
    ]  # fmt: skip
    assert dialogue.send(b"DELE 1\r\nDELE 3\r\nDELE 5\r\nQUIT\r\n").count(b"+OK") == 4
    assert box.names() == [b":2,b", b"hid", b"same:2,RS"]
    assert uids(box.login()) == ["same", ":2,b"]


async def test_a_cancelled_read_is_over_before_the_file_is_closed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I6: no thread reads a descriptor that somebody else has by now."""
    for limit, value in (("READ_OCTETS", 3), ("_PIECE", 3), ("NOWAIT", 0)):
        monkeypatch.setattr(reading, limit, value)
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    pieces = await maildrop.retrieve(maildrop.messages[0])
    assert not isinstance(pieces, bytes)
    source = aiter(pieces)
    await anext(source)
    waiting, go_on, did = threading.Event(), threading.Event(), []
    read, close = os.pread, os.close

    def slow(fd: int, octets: int, position: int) -> bytes:
        waiting.set()
        assert go_on.wait(20)
        did.append("read")
        return read(fd, octets, position)

    def spy_close(fd: int) -> None:
        did.append("close")
        close(fd)

    async def fetch() -> None:
        try:
            await anext(source)
        finally:
            await source.aclose()  # type: ignore[attr-defined]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", slow)
        patch.setattr(os, "close", spy_close)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            await trio.to_thread.run_sync(waiting.wait, 20)
            nursery.cancel_scope.cancel()
            go_on.set()
    assert did == ["read", "close"]
    await maildrop.release()


# --- commit -------------------------------------------------------------------------------------------------------


def test_one_of_three_cannot_be_removed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: the others are gone, the client is told how many remain, and the survivor comes back."""
    real = os.unlink

    def unlink(path: bytes) -> None:
        if path.endswith(b".b"):
            raise OSError(errno.EACCES, "Permission denied")
        real(path)

    maildrop = run(box.backend().open("alice", CLIENT))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with pytest.raises(CommitIncomplete) as caught:
            run(maildrop.commit(maildrop.messages))
        assert caught.value.remaining == 1
        run(maildrop.release())
        dialogue = box.login()
        assert uids(dialogue) == [NAMES[1]]
        reply = dialogue.send(b"DELE 1\r\nQUIT\r\n")
        assert reply.endswith(b"-ERR [SYS/TEMP] 1 deleted message not removed\r\n")
    assert uids(box.login()) == [NAMES[1]]


@pytest.mark.parametrize("broken", ["fsync", "listdir"])
def test_ok_is_not_said_of_what_may_come_back(
    box: Box, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E2, P1; and the next QUIT makes up for it (E6)."""
    maildrop = run(box.backend().open("alice", CLIENT))
    marked = maildrop.messages[:2]
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, failing(errno.EIO))
        with pytest.raises(CommitIncomplete) as caught:
            run(maildrop.commit(marked))
    assert caught.value.remaining == 2
    assert str(box.path) in caplog.text
    run(maildrop.commit(marked))
    run(maildrop.commit(marked))
    assert list(box.held()) == [NAMES[2]]
    run(maildrop.release())


def test_nothing_marked_touches_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    dialogue = box.login()
    for call in ("unlink", "listdir", "fsync"):
        monkeypatch.setattr(os, call, failing(errno.EIO))
    assert dialogue.ask("QUIT").startswith(b"+OK")


async def test_a_deadline_acts_between_steps(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, E6: what is gone was marked, what is left is whole, and it can be done again."""
    monkeypatch.setattr(removal, "_REMOVED_AT_ONCE", 1)
    scope = trio.CancelScope()

    async def cut(work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if work is next:
            scope.cancel()
        return work(*args)

    held = box.held()
    maildrop = await MaildirStore(f"{box.root}/{{user}}", run_sync=cut).open("alice", CLIENT)
    with scope:
        await maildrop.commit(maildrop.messages[:2])
    assert scope.cancelled_caught
    assert box.held() == {name: held[name] for name in NAMES[1:]}
    await maildrop.commit(maildrop.messages[:2])
    assert list(box.held()) == [NAMES[2]]
    await maildrop.release()


# --- sudden death -------------------------------------------------------------------------------------------------


def test_kill_9_of_a_logged_in_process_frees_the_lock(box: Box) -> None:
    """I7, E1, P1: between DELE and QUIT; nothing is gone, and the next login works at once."""
    held = box.held()
    script = "d = box.login(); print(d.send(b'DELE 1\\r\\nDELE 2\\r\\n').count(b'+OK'), flush=True); sys.stdin.read()"
    with child(box.root, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        assert Dialogue(box.backend()).login().startswith(b"-ERR [IN-USE]")
        process.kill()
        process.wait(20)
    assert uids(box.login()) == NAMES
    assert box.held() == held


@pytest.mark.parametrize(
    ("call", "nth", "gone"),
    [("unlink", 1, 0), ("unlink", 2, 1), ("listdir", 1, 2), ("fsync", 1, 2), ("fsync", 2, 2)],
)
def test_kill_9_during_commit(box: Box, call: str, nth: int, gone: int) -> None:
    """P1, E6: killed before that call. Marked mail is whole or gone, other mail is whole; done again, it is done."""
    held = box.held()
    script = f"""
dialogue = box.login()
dialogue.send(b"DELE 1\\r\\nDELE 3\\r\\n")
real, left = os.{call}, {nth}
def count(*args):
    global left
    left -= 1
    return die() if not left else real(*args)
os.{call} = count
print(dialogue.send(b"QUIT\\r\\n"), flush=True)
"""
    with child(box.root, script) as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-9, ""), "no +OK was said"
    survivors = [NAMES[1], NAMES[2]] if gone == 1 else [NAMES[1]] if gone else NAMES
    assert box.held() == {name: held[name] for name in survivors}
    dialogue = box.login()
    assert uids(dialogue) == survivors
    for number, name in enumerate(survivors, 1):
        if name != NAMES[1]:
            dialogue.ask(f"DELE {number}")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert box.held() == {NAMES[1]: held[NAMES[1]]}


# --- who may log in -----------------------------------------------------------------------------------------------


async def test_logins_are_the_authenticators(box: Box) -> None:
    """R1939-20."""
    backend = box.backend()
    assert await backend.authenticate(PasswordCredentials("alice", "secret"), CLIENT) == "alice"
    with pytest.raises(AuthenticationFailed):
        await backend.authenticate(PasswordCredentials("alice", "wrong"), CLIENT)


def test_apop_is_offered_if_it_can_be_checked(box: Box) -> None:
    """D8."""
    assert "APOP" not in login_methods(box.backend())
    assert "APOP" in login_methods(MaildirBackend(f"{box.root}/{{user}}", MemoryBackend(), run_sync=inline))


def test_failures_are_of_the_contract() -> None:
    """What `trio_pop3.backend` promises of the classes used here."""
    assert issubclass(MessageUnavailable, TemporaryFailure)
    assert not issubclass(PermanentFailure, TemporaryFailure)
