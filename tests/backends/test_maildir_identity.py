"""Working on each Maildir as its owner. What needs root is tested as root; otherwise its refusal is."""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_pop3.backend import MessageUnavailable, NoSuchFolder, PermanentFailure
from trio_pop3.backends.maildir import MaildirStore, MaildirTarget, access, make_maildir
from trio_pop3.backends.maildir.identity import Identity, IdentityError, as_server, check_powers
from trio_pop3.backends.maildir.uids import write_map
from trio_pop3.delivery import Envelope
from trio_pop3.lmtp.grammar import Address

from ..driving import CLIENT, run
from .maildir_helpers import inline

ROOT = os.geteuid() == 0
OWNERS = {"alice": (61_001, 61_101), "bob": (61_002, 61_102)}
MAIL = {"alice": [b"one of alice\n", b"two of alice\n"], "bob": [b"one of bob\n"]}

as_root = pytest.mark.skipif(not ROOT, reason="test_who_is_not_root is what can be tested without root")


@pytest.fixture
def root() -> Iterator[Path]:
    """Two users with Maildirs that nobody else may enter; pytest's own directories are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="trio-pop3-"))
    path.chmod(0o755)
    for user, (uid, gid) in OWNERS.items():
        make_maildir(path / user)
        make_maildir(path / user / ".Junk")
        for n, content in enumerate(MAIL[user]):
            (path / user / "new" / f"170000000{n}.{user}").write_bytes(content)
        for place in [path / user, *(path / user).rglob("*")]:
            os.chown(place, uid, gid)
            place.chmod(0o600 if place.is_file() else 0o700)
    yield path
    shutil.rmtree(path)


def store(root: Path, **options: Any) -> MaildirStore:
    return MaildirStore(f"{root}/{{user}}", as_owner=True, **options)


def who(task: object = "thread-self") -> tuple[list[int], list[int], list[int]]:
    """Uids, gids (real, effective, saved, of file work) and groups of a thread, as the kernel has them."""
    with open(f"/proc/{task}/status") as status:
        found = dict(line.split(":", 1) for line in status)
    uids, gids, groups = ([*map(int, found[name].split())] for name in ("Uid", "Gid", "Groups"))
    return uids, gids, groups


def everybody() -> set[str]:
    """Who the threads of this process are."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.add(repr(who(f"self/task/{task}")))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return found


# --- two users ------------------------------------------------------------------------------------------------------


@as_root
async def test_interleaved_work_is_done_as_the_owner(root: Path) -> None:
    """H11: a thousand pieces of work for two users, in threads that are used for both; each is done as who it is for,
    and in the end no thread is anybody else than at the beginning.
    """
    before = everybody()
    assert before == {repr(who())}
    limiter = trio.CapacityLimiter(6)
    done: list[str] = []
    threads: set[int] = set()

    async def run_sync(work: Callable[..., Any], *args: Any) -> Any:
        def watched() -> Any:
            threads.add(threading.get_native_id())
            result = work(*args)
            assert repr(who()) in before
            return result

        done.append(work.__name__)
        return await trio.to_thread.run_sync(watched, limiter=limiter)

    seen: list[tuple[str, Any]] = []

    async def sessions(user: str) -> None:
        mail = store(root, run_sync=run_sync)
        for _ in range(60):
            maildrop = await mail.open(user, CLIENT)
            for message, content in zip(maildrop.messages, MAIL[user], strict=True):
                assert await maildrop.retrieve(message) == content
            seen.extend([(user, await maildrop._run_sync(who)) for _ in range(10)])
            await maildrop.release()

    async with trio.open_nursery() as nursery:
        for user in OWNERS:
            nursery.start_soon(sessions, user)
    assert len(done) > 1000
    assert len(threads) > 1
    real = os.getuid()
    for user, status in seen:
        uid, gid = OWNERS[user]
        assert status == ([real, 0, 0, uid], [os.getgid(), os.getegid(), os.getegid(), gid], [])
    assert everybody() == before


@as_root
def test_what_is_made_belongs_to_the_user(root: Path) -> None:
    maildrop = run(store(root, run_sync=inline).open("alice", CLIENT))
    lock = root / "alice" / ".trio-pop3.lock"
    assert (lock.stat().st_uid, lock.stat().st_gid) == OWNERS["alice"]
    run(maildrop.commit(maildrop.messages[:1]))
    assert [path.name for path in (root / "alice" / "new").iterdir()] == ["1700000001.alice"]
    run(maildrop.release())


@as_root
def test_folders_are_the_users_as_well(root: Path) -> None:
    run(run(store(root, run_sync=inline).folder("Junk").open("alice", CLIENT)).release())
    assert (root / "alice" / ".Junk" / ".trio-pop3.lock").stat().st_uid == OWNERS["alice"][0]
    with pytest.raises(NoSuchFolder):
        run(store(root, run_sync=inline).folder("No").open("alice", CLIENT))


@as_root
def test_an_imported_map_is_the_users(root: Path) -> None:
    """Written by an administrator; if alice could not read it, her mail would be closed to her."""
    write_map(os.fsencode(root / "alice"), {b"1700000000.alice": "old-1"})
    maildrop = run(store(root, run_sync=inline).open("alice", CLIENT))
    assert [message.uid for message in maildrop.messages] == ["old-1", "1700000001.alice"]
    run(maildrop.release())


@as_root
async def test_deliveries_are_the_users(root: Path) -> None:
    """Otherwise they could not read them, and their mail would be closed to them."""
    addresses = [(Address(user, "example.org"), user) for user in OWNERS]
    target = MaildirTarget(f"{root}/{{user}}", as_owner=True)
    delivery = target.begin(Envelope(None, addresses, b""))
    await delivery.write(b"x" * 600_000)
    assert [len(list((root / user / "tmp").iterdir())) for user in OWNERS] == [1, 1]
    for index in range(len(addresses)):
        await delivery.finish(index)
    await delivery.discard()
    for user, (uid, gid) in OWNERS.items():
        found = {(path.stat().st_uid, path.stat().st_gid) for path in (root / user).rglob("*")}
        assert found == {(uid, gid)}
        maildrop = await store(root).open(user, CLIENT)
        assert len(maildrop.messages) == len(MAIL[user]) + 1
        await maildrop.release()
    given_up = target.begin(Envelope(None, addresses, b""))
    await given_up.write(b"x" * 600_000)
    await given_up.discard()
    assert [list((root / user / "tmp").iterdir()) for user in OWNERS] == [[], []]
    assert everybody() == {repr(who())}


@as_root
@pytest.mark.parametrize("deletion", ["unlink", "trash", "flag", "hide"])
def test_every_way_of_deleting_is_the_users(root: Path, tmp_path: Path, deletion: Any) -> None:
    """But for the journal, which is the server's, and in a place that no user may enter."""
    journal = tmp_path / "journal"
    mail = store(root, run_sync=inline, deletion=deletion, journal=journal, expire=7)
    maildrop = run(mail.open("alice", CLIENT))
    maildrop.retrieved(maildrop.messages[1])
    run(maildrop.commit(maildrop.messages[:1]))
    run(maildrop.release())
    maildrop = run(mail.open("alice", CLIENT))
    run(maildrop.release())
    assert len(maildrop.messages) == 1
    assert {path.stat().st_uid for path in (root / "alice").rglob("*")} == {OWNERS["alice"][0]}
    assert journal.stat().st_uid == 0
    assert " user=alice " in journal.read_text()


@as_root
def test_files_of_others_cannot_be_read(root: Path) -> None:
    """Not those that were there, and not one that is put there later."""
    theirs = root / "alice" / "new" / "1700000009.theirs"
    theirs.write_bytes(b"secret\n")
    theirs.chmod(0o600)
    os.chown(theirs, *OWNERS["bob"])
    with pytest.raises(PermanentFailure, match="cannot be read"):
        run(store(root, run_sync=inline).open("alice", CLIENT))
    theirs.chmod(0o644)
    maildrop = run(store(root, run_sync=inline).open("alice", CLIENT))
    theirs.chmod(0o600)
    with pytest.raises(MessageUnavailable):
        run(maildrop.retrieve(maildrop.messages[-1]))
    run(maildrop.release())


@as_root
@pytest.mark.parametrize("place", ["", "new"])
def test_a_race_with_the_check_of_links_is_lost(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """H11: the link to bob's mail comes between the look at the way and the work. Alice's work is not allowed there."""
    really = access.check_way

    def raced(*args: Any) -> os.stat_result:
        status = really(*args)
        (root / "alice" / place).rename(root / "old")
        (root / "alice" / place).symlink_to(root / "bob" / place)
        return status

    monkeypatch.setattr(access, "check_way", raced)
    with pytest.raises(PermanentFailure):
        run(store(root, run_sync=inline).open("alice", CLIENT))
    assert "Permission denied" in caplog.text
    assert not (root / "bob" / ".trio-pop3.lock").exists()


@as_root
@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (0, 61_101), (61_001, 0)])
def test_mail_of_root_is_not_touched(root: Path, caplog: pytest.LogCaptureFixture, uid: int, gid: int) -> None:
    os.chown(root / "alice", uid, gid)
    with pytest.raises(PermanentFailure):
        run(store(root, run_sync=inline).open("alice", CLIENT))
    assert f"it belongs to uid {uid}, gid {gid}, and nobody's mail is touched as root" in caplog.text


def test_links_of_everybody_would_make_everybodys_mail_theirs() -> None:
    """A link to bob's Maildir would have bob as the owner."""
    with pytest.raises(ValueError, match="as_owner cannot go with follow_symlinks"):
        MaildirStore("/m/{user}", as_owner=True, follow_symlinks=True)


# --- one thread -----------------------------------------------------------------------------------------------------


@pytest.fixture
def groups() -> Iterator[None]:
    """As started from somebody's shell."""
    before = os.getgroups()
    os.setgroups([4, 27])
    yield
    os.setgroups(before)


@as_root
@pytest.mark.usefixtures("groups")
def test_one_thread_only() -> None:
    """glibc's setgroups would have changed them all."""
    before = who()
    assert before[2] == [4, 27]
    inside: list[Any] = []
    changed, seen = threading.Event(), threading.Event()

    def other() -> None:
        with Identity(61_001, 61_101).assumed():
            inside.append(who())
            changed.set()
            seen.wait(30)
        inside.append(who())

    thread = threading.Thread(target=other)
    thread.start()
    assert changed.wait(30)
    try:
        assert who() == before
        assert len(everybody()) == 2
    finally:
        seen.set()
        thread.join()
    assert (inside[0][0][3], inside[0][1][3], inside[0][2]) == (61_001, 61_101, [])
    assert inside[1] == before


@as_root
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, StopIteration])
def test_work_that_fails_leaves_nobody(failure: type[BaseException]) -> None:
    before = who()
    with pytest.raises(failure), Identity(61_001, 61_101).assumed():
        raise failure
    assert who() == before


@as_root
def test_the_server_may_write_what_is_its_own(tmp_path: Path) -> None:
    """A file that is for no user, in a directory that no user may enter."""
    with as_server():
        assert who()[0][3] == 0  # as it is
    with Identity(61_001, 61_101).assumed():
        with pytest.raises(PermissionError):
            (tmp_path / "file").touch()
        with as_server():
            (tmp_path / "file").touch()
            assert who()[0] == [0, 0, 0, 0]
        assert (who()[0][3], who()[1][3], who()[2]) == (61_001, 61_101, [])
    assert (tmp_path / "file").stat().st_uid == 0
    with as_server():
        assert who()[0][3] == 0


# --- where it cannot be done ----------------------------------------------------------------------------------------


def child(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that tries."""
    start = "import os\nfrom trio_pop3.backends.maildir import MaildirStore, identity\n"
    command = [*before, sys.executable, "-c", start + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


TRY = """
try:
    MaildirStore("/m/{user}", as_owner=True)
except OSError as failure:
    print(failure.strerror)
"""


def test_who_is_not_root() -> None:
    """Refused when the store is made, and not at the first login."""
    drop = "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n" if ROOT else ""
    assert child(drop + TRY).stdout == "only root can work as the owner of each mail store\n"


@as_root
@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("-setuid", "this process may not change who it is in threads, to 65534"),
        ("-setgid", "this process may not change the groups of its threads"),
    ],
)
def test_a_root_that_may_not(lacking: str, said: str) -> None:
    """As in containers; the process lives on to say so."""
    groups = "--clear-groups" if lacking == "-setuid" else "--groups=4"
    done = child(TRY, "setpriv", groups, "--bounding-set", lacking)
    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr


@as_root
def test_a_root_whose_powers_do_not_go(tmp_path: Path) -> None:
    """With securebits that keep them, work as alice could read everything."""
    done = child(TRY, "setpriv", "--securebits", "+no_setuid_fixup")
    assert done.stdout == "the powers of root stay with threads that are somebody else\n", done.stderr


@as_root
def test_a_machine_of_an_unknown_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    monkeypatch.setattr(os, "getgroups", lambda: [4])
    with pytest.raises(IdentityError, match="on pdp11 is not known here") as failed:
        check_powers()
    assert failed.value.errno == errno.ENOSYS


@as_root
def test_a_thread_that_cannot_come_back_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """P4 has its end where the next session would be served as the wrong user. Said in the log; nothing else runs."""
    done = child("""
become = identity._become
def refuse(who, groups):
    if who.uid == 0:
        raise identity.IdentityError(1, "no way back")
    become(who, groups)
identity._become = refuse
try:
    with identity.Identity(61001, 61101).assumed():
        print("inside", flush=True)
finally:
    print("never")
""")
    assert (done.returncode, done.stdout) == (70, "inside\n")
    assert "a thread cannot become again who it was, so the server ends" in done.stderr
    assert logging.getLogger("trio_pop3.maildir").level == logging.NOTSET
