"""Folders of a Maildir: names, and sessions on them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.backend import MaildropInUse, NoSuchFolder, PermanentFailure, TemporaryFailure
from trio_pop3.backends.maildir import MaildirBackend, MaildirStore, make_maildir
from trio_pop3.backends.maildir.paths import folder_component
from trio_pop3.backends.views import Folders, NewestDays, Union

from ..driving import CLIENT, Dialogue, run
from .maildir_helpers import Box, Users, inline, uids

# What IMAP clients call folders, and what Dovecot calls the directories (seen below).
NAMES = {
    "Junk": ".Junk",
    "Sent.2024": ".Sent.2024",
    "Sent Items": ".Sent Items",
    "Entw\xfcrfe": ".Entw&APw-rfe",
    "A&B": ".A&-B",
    "\xe9&\xfc": ".&AOk-&-&APw-",
    "\u65e5\u672c\u8a9e": ".&ZeVnLIqe-",
    "x\U0001f600y": ".x&2D3eAA-y",
    "a~b+c": ".a~b+c",
}
BAD_NAMES = [
    "", ".", "..", ".Junk", "Junk.", "a..b", "../x", "a/b", "/", "a\0b", "a\nb", "a\x7f", "~root", "\udcff", "x" * 255,
    "\u65e5" * 100,
]  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put("1700000001.in", b"inbox\n")
    make_maildir(box.path / ".Junk")
    (box.path / ".Junk" / "cur" / "1700000000.junk:2,S").write_bytes(b"junk\n")
    return box


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "directory"), NAMES.items())
def test_names(name: str, directory: str) -> None:
    assert folder_component(name) == directory


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: str) -> None:
    """H11."""
    with pytest.raises(ValueError, match="name of a folder"):
        MaildirStore("/m/{user}").folder(name)


def decoded(directory: str) -> str:
    """RFC 3501 section 5.1.3, the other way round, by Python's UTF-7."""

    def part(match: re.Match[str]) -> str:
        return "&" if match[0] == "&-" else ("+" + match[1].replace(",", "/") + "-").encode().decode("utf-7")

    return re.sub("&([^-]*)-", part, directory.removeprefix("."))


@given(st.text(st.sampled_from("./~&-+\0 aü日\U0001f600") | st.characters(), max_size=12))
@example("../../etc")
@example("&-")
def test_no_name_leaves_the_maildir(name: str) -> None:
    """H11: a folder is one component, not `.` nor `..`, of printable ASCII; and no two folders share one."""
    try:
        directory = folder_component(name)
    except ValueError:
        return
    assert re.fullmatch(r"\.[ -.0-~]{1,254}", directory)
    assert ".." not in directory
    assert decoded(directory) == name


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody may enter, and somebody else than root owns."""
    path = Path(tempfile.mkdtemp(prefix="trio-pop3-"))
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path)


def test_dovecot_calls_them_the_same(shared: Path) -> None:
    """The real one makes them."""
    configuration = shared / "dovecot.conf"
    configuration.write_text(
        f"base_dir = {shared}/run\nstate_dir = {shared}/state\nlog_path = /dev/stderr\nssl = no\n"
        f"stats_writer_socket_path =\nmail_location = maildir:{shared}/Maildir\n"
    )
    configuration.chmod(0o644)
    doveadm = shutil.which("doveadm")
    assert doveadm, "this test needs Dovecot: apt-get install dovecot-core"
    # It does not touch mail as root.
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "USER": "alice", "HOME": str(shared)}
    command = [doveadm, "-c", str(configuration), "mailbox", "create", *NAMES]
    subprocess.run(command, check=True, env=environment, cwd=shared, timeout=60, **nobody)  # type: ignore[call-overload]
    made = {path.name for path in (shared / "Maildir").iterdir() if (path / "cur").is_dir()}
    assert made == set(NAMES.values())


# --- sessions -------------------------------------------------------------------------------------------------------


def test_a_folder_is_a_maildrop(box: Box) -> None:
    """Wish 5: its mail, its lock, its deletions."""
    store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline)
    folder = store.folder("Junk")
    held = run(folder.open("alice", CLIENT))
    assert [message.uid for message in held.messages] == ["1700000000.junk"]
    inbox = run(store.open("alice", CLIENT))  # not locked by it
    assert [message.uid for message in inbox.messages] == ["1700000001.in"]
    with pytest.raises(MaildropInUse):
        run(store.folder("Junk").open("alice", CLIENT))
    run(held.commit(held.messages))
    run(held.release())
    run(inbox.release())
    assert list((box.path / ".Junk" / "cur").iterdir()) == []
    assert box.names() == [b"1700000001.in"]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("missing", ["No", "Half"])
def test_no_such_folder(box: Box, missing: str, follow: bool) -> None:
    (box.path / ".Half" / "cur").mkdir(parents=True)
    store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline, follow_symlinks=follow).folder(missing)
    with pytest.raises(NoSuchFolder):
        run(store.open("alice", CLIENT))
    assert sorted(os.listdir(box.path)) == [".Half", ".Junk", "cur", "new", "tmp"]


@pytest.mark.parametrize("follow", [False, True])
def test_a_maildir_that_is_not_there_has_no_empty_folders(box: Box, follow: bool) -> None:
    """A disk that is not mounted must not look like a folder that nobody has made: clients would forget its mail."""
    store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline, follow_symlinks=follow)
    with pytest.raises(TemporaryFailure):
        run(store.folder("Junk").open("bob", CLIENT))
    box.path.rename(box.root / "elsewhere")
    with pytest.raises(TemporaryFailure):
        run(Union(store, {"Junk": store.folder("Junk")}).open("alice", CLIENT))


def test_a_folder_that_is_no_directory(box: Box) -> None:
    (box.path / ".File").write_bytes(b"")
    store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline).folder("File")
    with pytest.raises(PermanentFailure, match="cannot be read"):
        run(store.open("alice", CLIENT))


def test_folders_by_login_and_in_a_union(box: Box) -> None:
    """Wish 5: a name in UTF-8 in the login, the inbox with Junk without one."""
    make_maildir(box.path / ".Entw&APw-rfe")
    (box.path / ".Entw&APw-rfe" / "new" / "1700000005.d").write_bytes(b"draft\n")
    store = MaildirBackend(f"{box.root}/{{user}}", Users(), run_sync=inline)
    backend = Folders(Union(store, {"Junk": store.folder("Junk")}))
    dialogue = Dialogue(backend)
    assert dialogue.login() == b"+OK maildrop has 2 messages (13 octets)\r\n"
    assert uids(dialogue)[0] == "1700000001.in"
    assert dialogue.ask("DELE 2").startswith(b"+OK")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert (len(box.names()), list((box.path / ".Junk" / "cur").iterdir())) == (1, [])
    dialogue = Dialogue(backend)
    assert dialogue.login("alice+Entw\xfcrfe") == b"+OK maildrop has 1 message (7 octets)\r\n"
    assert Dialogue(backend).login("alice+No") == b"-ERR [SYS/PERM] no such folder\r\n"
    assert Dialogue(backend).login("bob+Junk").startswith(b"-ERR [SYS/TEMP]")
    dialogue.close()


@pytest.mark.parametrize("folder", ["Junk", "Trash"])
def test_the_trash_of_a_folder_is_the_users(box: Box, folder: str) -> None:
    """And what is deleted in the trash is gone."""
    make_maildir(box.path / f".{folder}")
    (box.path / f".{folder}" / "cur" / "1700000007.x:2,").write_bytes(b"x\n")
    store = MaildirStore(f"{box.root}/{{user}}", run_sync=inline, deletion="trash", trash_days=30).folder(folder)
    maildrop = run(store.open("alice", CLIENT))
    run(maildrop.commit(maildrop.messages))
    run(maildrop.release())
    assert not (box.path / f".{folder}" / ".Trash").exists()
    assert list((box.path / f".{folder}" / "cur").iterdir()) == []
    trashed = sorted(path.name for path in (box.path / ".Trash" / "cur").iterdir())
    assert trashed == ([] if folder == "Trash" else ["1700000000.junk:2,S", "1700000007.x:2,"])


# --- times of arrival -----------------------------------------------------------------------------------------------


def test_times_of_arrival(box: Box) -> None:
    """What a name begins with, if that can be a time; else when the file was written."""
    box.put("no-time", b"x\n", "cur")
    box.put("12.eml", b"x\n")
    box.put("1700000009.twice", b"one\n", "cur")
    box.put("1700000009.twice:2,S", b"two\n", "cur")
    os.utime(box.path / "cur" / "no-time", (0, 1_500_000_000))
    os.utime(box.path / "new" / "12.eml", (0, 1_600_000_000))
    maildrop = run(box.backend().open("alice", CLIENT))
    times = run(maildrop.arrivals())  # type: ignore[attr-defined]
    found = dict(zip([message.uid for message in maildrop.messages], times, strict=True))
    twice = [uid for uid in found if len(uid) == 40]
    assert found == {
        "1700000001.in": 1_700_000_001,
        "no-time": 1_500_000_000,
        "12.eml": 1_600_000_000,
        "1700000009.twice": 1_700_000_009,
        twice[0]: 1_700_000_009,
    }
    run(maildrop.release())


def test_a_message_that_has_gone_is_new(box: Box) -> None:
    """Nothing is hidden that is not known to be old."""
    box.put("no-time", b"x\n")
    maildrop = run(box.backend().open("alice", CLIENT))
    (box.path / "new" / "no-time").unlink()
    box.put("no-time", b"another\n", "cur")
    os.utime(box.path / "cur" / "no-time", (0, 1_500_000_000))
    times = run(maildrop.arrivals())  # type: ignore[attr-defined]
    assert max(times) > 1_750_000_000
    run(maildrop.release())


def test_the_newest_days_of_a_maildir(box: Box) -> None:
    day = 86_400
    for n in range(4):
        box.put(f"{1_700_000_000 - n * day}.x{n}", b"x\n")
    backend = NewestDays(box.backend(), 2.5, clock=lambda: 1_700_000_000)
    dialogue = Dialogue(backend)
    assert dialogue.login().startswith(b"+OK maildrop has 4 messages")
    assert uids(dialogue) == ["1699827200.x2", "1699913600.x1", "1700000000.x0", "1700000001.in"]
    dialogue.close()
