"""`trio-pop3 uidl`: import, verify, export."""

from __future__ import annotations

import errno
import getpass
import io
import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_pop3.backends.maildir import deliver
from trio_pop3.backends.maildir.files import UidTimes
from trio_pop3.backends.maildir.lock import MaildirLock
from trio_pop3.backends.maildir.retention import RETRIEVED
from trio_pop3.backends.maildir.uids import UidMapError, read_map
from trio_pop3.cli import uidl as module
from trio_pop3.cli.failure import Failure
from trio_pop3.testing import Pop3TestServer

from ..backends.maildir_helpers import Box, uids
from ..driving import Dialogue
from .command import Command

NAMES = ("1700000001.M1P1.host", "1700000002.M2P1.host", "1700000003.M3P1.host")
UIDLIST = "3 V1795564812 N9 Gf0b19c3acc5a05656e150000a4d1ea5c\n" + "".join(
    f"{number} W24 :{name}\n" for number, name in enumerate(NAMES, 1)
)
SIZELIST = "/3 9 1795599193\n" + "".join(f"{name}:2, 24 {n}:1795599193:0\n" for n, name in enumerate(NAMES, 1))
DOVECOT = [f"0000000{number}6b06250c" for number in (1, 2, 3)]
COURIER = [f"UID{number}-1795599193" for number in (1, 2, 3)]


@pytest.fixture
def box(directory: Path) -> Box:
    """The Maildir of alice in the served directory, with three messages."""
    box = Box(directory / "mail")
    for name in NAMES:
        box.put(name, f"Subject: {name}\nMessage-ID: <{name}>\n\nbody\n".encode())
    (box.path / "dovecot-uidlist").write_text(UIDLIST)
    (box.path / "courierpop3dsizelist").write_text(SIZELIST)
    return box


def served(box: Box) -> list[str]:
    session = box.login()
    found = uids(session)
    session.close()
    return found


def imported(box: Box) -> dict[bytes, str]:
    return dict(read_map(box.octets_path).uids)


# --- import -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["dovecot"], DOVECOT),
        (["dovecot", "--format", "%v.%u"], ["1795564812.1", "1795564812.2", "1795564812.3"]),
        (["courier"], COURIER),
    ],
)
def test_what_an_old_server_left_in_the_maildir(
    command: Command, directory: Path, box: Box, options: list[str], wanted: list[str]
) -> None:
    """P3, F6: by DIR and USER, and by --maildir; a second time there is nothing to do."""
    assert served(box) == [*NAMES]
    outcome = command("uidl", "import", directory, "alice", "--from", *options)
    assert outcome.status == 0, outcome.err
    assert outcome.out == (
        "imported 3 unique-ids, 3 in all\n3 of 3 messages have the unique-ids that clients know\n"
        "the order is the same\n"
    )
    assert served(box) == wanted
    before = os.stat(box.path / ".trio-pop3.uidl")
    outcome = command("uidl", "import", "--maildir", box.path, "--from", *options)
    assert (outcome.status, outcome.out.splitlines()[0]) == (0, "imported 0 unique-ids, 3 in all")
    assert os.stat(box.path / ".trio-pop3.uidl") == before


def test_a_file_from_elsewhere(command: Command, directory: Path, box: Box, tmp_path: Path) -> None:
    """Dovecot keeps it elsewhere with CONTROL=."""
    (box.path / "dovecot-uidlist").rename(tmp_path / "control")
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 1
    outcome = command("uidl", "import", directory, "alice", "--from", "dovecot", "--file", tmp_path / "control")
    assert (outcome.status, served(box)) == (0, DOVECOT)


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [([], ["77.1", "77.2"]), (["--format", "uidonly"], ["1", "2"]), (["--format", "%v-%u"], ["77-1", "77-2"])],
)
def test_cyrus(
    command: Command, directory: Path, box: Box, tmp_path: Path, setting: list[str], wanted: list[str]
) -> None:
    """A list, or names of a spool."""
    (tmp_path / "list").write_text(f"1 {NAMES[0]}\n2 {NAMES[1]}\n")
    options = ["uidl", "import", directory, "alice", "--from", "cyrus", "--uidvalidity", "77", *setting]
    assert command(*options).status == 1
    assert command(*options, "--file", tmp_path / "list").status == 0
    assert served(box) == [*wanted, NAMES[2]]
    box.put("5.", b"copied\n")
    os.utime(box.path / "new" / "5.", (1_800_000_000, 1_800_000_000))
    outcome = command(*options)
    assert outcome.status == 0, outcome.err
    assert imported(box)[b"5."] == wanted[0].replace("1", "5")


def test_x_uidl(command: Command, directory: Path, box: Box) -> None:
    box.put("1800000000.a", b"X-UIDL: kept\n\n")
    box.put("1800000001.b", b"X-UIDL: kept\n\n")
    box.put("1800000002.c", b"X-UIDL: " + b"x" * 71 + b"\n\n")
    outcome = command("uidl", "import", directory, "alice", "--from", "x-uidl")
    assert outcome.status == 0
    assert "2 messages cannot keep the old unique-id:\n" in outcome.out
    assert "  1800000001.b  kept  (two messages have it)\n" in outcome.out
    assert f"  1800000002.c  {'x' * 71}  (not 1 to 70 characters in 0x21-0x7E)\n" in outcome.out
    assert "2 messages would be downloaded again:\n" in outcome.out
    assert served(box) == [*NAMES, "kept", "1800000001.b", "1800000002.c"]


def test_a_dry_run_changes_nothing(command: Command, directory: Path, box: Box) -> None:
    outcome = command("uidl", "import", directory, "alice", "--from", "dovecot", "--dry-run")
    assert (outcome.status, outcome.out.splitlines()[0]) == (0, "would import 3 unique-ids, 3 in all")
    assert served(box) == [*NAMES]
    assert imported(box) == {}


def test_nothing_else_is_touched(command: Command, directory: Path, box: Box) -> None:
    """As docs/migration.md says it: files of ours alone, and an index only where it pays."""

    def state() -> dict[str, tuple[int, int]]:
        status = {path: path.stat() for path in box.path.rglob("*") if path.is_file()}
        return {str(path.relative_to(box.path)): (it.st_mtime_ns, it.st_ino) for path, it in status.items()}

    for number in range(40):
        box.put(f"1600000000.{number}")
    before = state()
    assert command("uidl", "verify", directory, "alice", "--from", "dovecot").status == 1
    assert {*state()} - {*before} <= {".trio-pop3.index"}
    assert command("uidl", "import", directory, "alice", "--from", "dovecot", "--dry-run").status == 0
    assert {*state()} - {*before} <= {".trio-pop3.index", ".trio-pop3.lock"}
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    assert {*state()} - {*before} <= {".trio-pop3.index", ".trio-pop3.lock", ".trio-pop3.uidl"}
    assert before.items() <= state().items()


def test_what_was_hidden_stays_hidden(command: Command, directory: Path, box: Box) -> None:
    """P3: what a client has deleted does not come back as new because its unique-id is another one now."""
    session = Dialogue(box.backend(deletion="hide", expire=1))
    session.login()
    assert session.ask("RETR 2").startswith(b"+OK")
    assert session.ask("DELE 1").startswith(b"+OK")
    assert session.ask("QUIT").startswith(b"+OK")
    command("uidl", "import", str(directory), "alice", "--from", "dovecot")
    session = Dialogue(box.backend(deletion="hide", expire=1))
    session.login()
    assert uids(session) == DOVECOT[1:]
    session.close()
    retrieved = UidTimes(box.octets_path, RETRIEVED).read()
    assert retrieved[DOVECOT[1]] == retrieved[NAMES[1]]


def test_another_import_says_otherwise(command: Command, directory: Path, box: Box) -> None:
    """P3: clients may know those of the first by now. Said, and done only with --replace."""
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    for more in ([], ["--dry-run"]):
        outcome = command("uidl", "import", directory, "alice", "--from", "courier", *more)
        assert outcome.status == 1
        assert "3 messages would change from an earlier import:\n" in outcome.out
        assert f"  {NAMES[0]}  {DOVECOT[0]} -> {COURIER[0]}\n" in outcome.out
        assert outcome.err.startswith("trio-pop3: nothing is changed: ")
        assert "--replace" in outcome.err
        assert served(box) == DOVECOT
    outcome = command("uidl", "import", directory, "alice", "--from", "courier", "--replace", "--dry-run")
    assert (outcome.status, served(box)) == (0, DOVECOT)
    assert "3 messages would change from an earlier import:\n" in outcome.out
    outcome = command("uidl", "import", directory, "alice", "--from", "courier", "--replace")
    assert (outcome.status, served(box)) == (0, COURIER)
    assert "3 messages changed from an earlier import:\n" in outcome.out
    assert f"  {NAMES[0]}  {DOVECOT[0]} -> {COURIER[0]}\n" in outcome.out


def test_a_message_whose_own_unique_id_is_given_away(
    command: Command, directory: Path, box: Box, tmp_path: Path
) -> None:
    """F1: it is said."""
    (tmp_path / "map").write_text(f"trio-pop3 uidl 1\n{NAMES[1]} {NAMES[0]}\nend\n")
    outcome = command("uidl", "import", directory, "alice", "--from", "map", "--file", tmp_path / "map")
    assert (
        f"1 message no longer with a unique-id of its own, which an import gives to another:\n  {NAMES[1]}\n"
        in outcome.out
    )
    found = served(box)
    assert found[0] == NAMES[1]
    assert re.fullmatch("[0-9a-f]{40}", found[1])
    assert found[2] == NAMES[2]


def test_while_somebody_is_logged_in(command: Command, directory: Path, box: Box) -> None:
    session = box.login()
    outcome = command("uidl", "import", directory, "alice", "--from", "dovecot")
    assert outcome.status == 1
    assert "[IN-USE]" in outcome.err
    assert imported(box) == {}
    assert command("uidl", "verify", directory, "alice", "--from", "dovecot").status == 1
    assert command("uidl", "export", directory, "alice").status == 0
    session.close()
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0


def test_the_lock_is_free_afterwards(command: Command, directory: Path, box: Box) -> None:
    """Also when the import fails."""
    (box.path / "dovecot-uidlist").write_text("nonsense\n")
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 1
    lock = MaildirLock(box.octets_path, "test")
    lock.acquire()
    lock.release()


def test_a_full_disk_changes_nothing(
    command: Command, directory: Path, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1, P3: all or nothing."""
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    box.put("1700000004.M4P1.host")
    (box.path / "dovecot-uidlist").write_text(UIDLIST + "4 :1700000004.M4P1.host\n")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        outcome = command("uidl", "import", directory, "alice", "--from", "dovecot")
    assert (outcome.status, "no space left" in outcome.err) == (1, True)
    assert served(box) == [*DOVECOT, "1700000004.M4P1.host"]
    assert sorted(path.name for path in box.path.iterdir() if path.name.startswith(".")) == [
        ".trio-pop3.lock", ".trio-pop3.uidl"
    ]  # fmt: skip


def test_mail_that_arrives_after_an_import(command: Command, directory: Path, box: Box) -> None:
    """An import days before, and one more when the old server has stopped."""
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    box.put("1700000004.M4P1.host")
    (box.path / "dovecot-uidlist").write_text(UIDLIST + "8 :1700000004.M4P1.host\n")
    outcome = command("uidl", "verify", directory, "alice", "--from", "dovecot")
    assert outcome.status == 1
    assert (
        "1 message would be downloaded again:\n  1700000004.M4P1.host  000000086b06250c -> 1700000004.M4P1.host\n"
        in outcome.out
    )
    outcome = command("uidl", "import", directory, "alice", "--from", "dovecot")
    assert outcome.out.startswith("imported 1 unique-id, 4 in all\n")
    assert command("uidl", "verify", directory, "alice", "--from", "dovecot").status == 0


# --- verify and export ------------------------------------------------------------------------------------------------


def test_verify_says_what_would_be_downloaded_again(command: Command, directory: Path, box: Box) -> None:
    outcome = command("uidl", "verify", directory, "alice", "--from", "dovecot")
    assert outcome.status == 1
    lines = "".join(f"  {name}  {uid} -> {name}\n" for name, uid in zip(NAMES, DOVECOT, strict=True))
    assert outcome.out == (
        f"3 messages would be downloaded again:\n{lines}0 of 3 messages have the unique-ids that clients know\n"
        "the order is the same\n"
    )
    assert imported(box) == {}


def test_verify_says_what_is_new_and_missing_and_in_another_order(command: Command, directory: Path, box: Box) -> None:
    lines = UIDLIST.splitlines(keepends=True)
    swapped = f"3 :{NAMES[2]}\n4 :{NAMES[1]}\n7 :1700000000.gone\n"
    (box.path / "dovecot-uidlist").write_text(lines[0] + swapped)
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    outcome = command("uidl", "verify", directory, "alice", "--from", "dovecot")
    assert (outcome.status, outcome.out.splitlines()) == (0, [
        "2 of 3 messages have the unique-ids that clients know",
        "1 message not known to the old server: new to clients as well",
        "1 message of the old server not here",
        "2 messages in another place than before; clients go by unique-ids, not by numbers",
    ])  # fmt: skip


def test_a_long_list_is_cut(command: Command, directory: Path, box: Box) -> None:
    """Unless it is asked for."""
    names = [f"18000000{number:02d}.x" for number in range(30)]
    for name in names:
        box.put(name)
    (box.path / "courierpop3dsizelist").write_text("/1 9\n" + "".join(f"{n} 5 {i}\n" for i, n in enumerate(names, 1)))
    outcome = command("uidl", "verify", directory, "alice", "--from", "courier")
    assert "30 messages would be downloaded again:\n" in outcome.out
    assert "  ... and 10 more; --all lists them\n" in outcome.out
    outcome = command("uidl", "verify", directory, "alice", "--from", "courier", "--all")
    assert f"  {names[-1]}  UID30 -> {names[-1]}\n" in outcome.out
    assert "..." not in outcome.out


def test_what_is_exported_can_be_imported(command: Command, directory: Path, box: Box, tmp_path: Path) -> None:
    """F6: with lines of messages that are gone, and strange names, into an empty map."""
    box.put(b"1800000000.\xff \\x")
    (box.path / "dovecot-uidlist").write_text(UIDLIST + "7 :1700000000.gone\n")
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    before = served(box)
    outcome = command("uidl", "export", directory, "alice")
    assert outcome.status == 0
    assert "000000076b06250c 1700000000.gone\n" in outcome.out
    assert " 1800000000.\\xff\\x20\\x5cx\n" in outcome.out
    (tmp_path / "map").write_text(outcome.out)
    for maildir in (box.path, directory / "mail" / "other"):
        if maildir != box.path:
            other = Box(directory / "mail", "other")
            for name in box.names():
                other.put(name)
        (maildir / ".trio-pop3.uidl").unlink(missing_ok=True)
        assert command("uidl", "import", "--maildir", maildir, "--from", "map", "--file", tmp_path / "map").status == 0
        assert {*read_map(os.fsencode(maildir)).uids.values()} == {*before, "000000076b06250c"}
        assert command("uidl", "export", "--maildir", maildir).out == outcome.out
    assert served(box) == before


# --- over POP3 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(pop3_server: Pop3TestServer, box: Box) -> list[str]:
    """An old server with the same mail, in another order; its unique-ids in our order."""
    found = {name: pop3_server.deliver("alice", (box.path / "new" / name).read_bytes()) for name in reversed(NAMES)}
    return [found[name] for name in NAMES]


@pytest.mark.parametrize("how", ["file", "dash", "environment", "stdin"])
def test_asking_the_old_server(
    command: Command, pop3_server: Pop3TestServer, box: Box, old: list[str], how: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """P5: the password never stands on the command line."""
    (tmp_path / "password").write_text("secret\n")
    options = {"file": ["--password-file", str(tmp_path / "password")], "dash": ["--password-file", "-"]}.get(how, [])
    if how == "environment":
        monkeypatch.setenv("TRIO_POP3_PASSWORD", "secret")
    url = f"pop3://alice@{pop3_server.host}:{pop3_server.port}"
    stdin = b"secret\r\n" if how in ("dash", "stdin") else b"wrong\n"
    outcome = command("uidl", "import", "--maildir", box.path, "--from", url, *options, stdin=stdin)
    assert outcome.status == 0, outcome.err
    assert served(box) == old
    outcome = command("uidl", "verify", "--maildir", box.path, "--from", url, *options, stdin=stdin)
    assert outcome.status == 0
    assert "3 of 3 messages have the unique-ids that clients know\n2 messages in another place" in outcome.out


def test_messages_that_cannot_be_told_apart_count_as_downloaded_again(
    command: Command, pop3_server: Pop3TestServer, box: Box, old: list[str]
) -> None:
    box.put("1800000000.x", b"Subject: same\n\nhere\n")
    pop3_server.deliver("alice", b"Subject: same\n\nthere\n")
    url = f"pop3://alice@{pop3_server.host}:{pop3_server.port}"
    assert command("uidl", "import", "--maildir", box.path, "--from", url, stdin=b"secret\n").status == 0
    outcome = command("uidl", "verify", "--maildir", box.path, "--from", url, stdin=b"secret\n")
    assert outcome.status == 1
    assert "1 message would be downloaded again:\n  1800000000.x  ? -> 1800000000.x\n" in outcome.out
    assert "1 message of the old server was not found here\n" in outcome.out


def test_over_tls(command: Command, pop3_server: Pop3TestServer, box: Box, old: list[str], tmp_path: Path) -> None:
    url = f"pop3s://alice@{pop3_server.host}:{pop3_server.tls_port}"
    words = ["uidl", "import", "--maildir", box.path, "--from", url]
    outcome = command(*words, stdin=b"secret\n")
    assert (outcome.status, "certificate verify failed" in outcome.err) == (1, True)
    (tmp_path / "none.pem").write_text("nothing\n")
    assert command(*words, "--ca-file", tmp_path / "none.pem", stdin=b"secret\n").status == 1
    assert command(*words, "--ca-file", tmp_path / "no-such-file", stdin=b"secret\n").status == 1
    assert command(*words, "--ca-file", pop3_server.ca_file, stdin=b"secret\n").status == 0
    assert served(box) == old


@pytest.mark.parametrize("stdin", [b"", b"\n", b"\xff\n"])
def test_no_password(command: Command, pop3_server: Pop3TestServer, box: Box, stdin: bytes) -> None:
    url = f"pop3://alice@{pop3_server.host}:{pop3_server.port}"
    outcome = command("uidl", "import", "--maildir", box.path, "--from", url, stdin=stdin)
    assert (outcome.status, "password" in outcome.err) == (1, True)
    assert pop3_server.asked == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without echo; at the end of the input there is no password."""
    monkeypatch.delenv("TRIO_POP3_PASSWORD", raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"answer to {prompt}")
    assert module._password(None) == "answer to Password at the old server: "

    def closed(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", closed)
    with pytest.raises(Failure, match="there is no password"):
        module._password(None)


# --- wrong usage, and Maildirs that are none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["import"], "--from"), (["import", "--from", "dovecot"], "DIR and USER, or --maildir"),
        (["import", "DIR", "--from", "dovecot"], "DIR and USER, or --maildir"),
        (["import", "DIR", "alice", "--maildir", "x", "--from", "dovecot"], "not both"),
        (["import", "--maildir", "/m/{user}", "--from", "dovecot"], "is a pattern: say whose mail it is, USER"),
        (["import", "alice", "--maildir", "/m/{name}", "--from", "dovecot"], "a path pattern holds {user}"),
        (["import", "DIR", "alice", "--from", "dovecot", "--format", "%m"], "ask the old server"),
        (["import", "DIR", "alice", "--from", "pop3://alice:secret@old"], "use --password-file"),
        (["import", "DIR", "alice", "--from", "imap://alice@old"], "not an address of a POP3 server"),
        (["export", "DIR", "alice", "--all"], "unrecognized arguments"),
        (["import", "DIR", "alice", "--from", "exchange"], "--from takes dovecot, courier, cyrus"),
        (["import", "DIR", "alice", "--from", "cyrus"], "needs --uidvalidity"),
        (["import", "DIR", "alice", "--from", "map"], "needs --file"),
        (["import", "DIR", "alice", "--from", "courier", "--format", "%u"], "--format is not for --from courier"),
        (["verify", "DIR", "alice", "--from", "dovecot", "--uidvalidity", "1"], "--uidvalidity is not for"),
        (["verify", "DIR", "alice", "--from", "x-uidl", "--file", "x"], "--file is not for"),
        (["verify", "DIR", "alice", "--from", "dovecot", "--password-file", "x"], "--password-file is not for"),
        (["verify", "DIR", "alice", "--from", "dovecot", "--dry-run"], "unrecognized arguments"),
    ],
)  # fmt: skip
def test_wrong_usage(command: Command, directory: Path, box: Box, words: list[str], why: str) -> None:
    outcome = command("uidl", *(directory if word == "DIR" else word for word in words))
    assert (outcome.status, why in outcome.err) == (2, True), outcome


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--from", "dovecot", "--file", "/no/such/file"], "/no/such/file: no such file or directory"),
    ],
)
def test_what_cannot_be_done(command: Command, directory: Path, box: Box, words: list[str], why: str) -> None:
    outcome = command("uidl", "import", directory, "alice", *words)
    assert (outcome.status, why in outcome.err) == (1, True), outcome
    assert imported(box) == {}


@pytest.mark.parametrize("action", ["import", "verify", "export"])
def test_a_damaged_map(command: Command, directory: Path, box: Box, action: str) -> None:
    """P3: it is not replaced by something else."""
    (box.path / ".trio-pop3.uidl").write_text("trio-pop3 uidl 1\na b\n")
    outcome = command("uidl", action, directory, "alice", *([] if action == "export" else ["--from", "dovecot"]))
    assert outcome.status == 1
    assert f"{box.path}/.trio-pop3.uidl line 2: " in outcome.err
    with pytest.raises(UidMapError):
        read_map(box.octets_path)


@pytest.mark.parametrize("action", ["import", "verify", "export"])
def test_no_such_maildir(command: Command, directory: Path, action: str) -> None:
    """And none is made."""
    source = [] if action == "export" else ["--from", "dovecot"]
    outcome = command("uidl", action, "--maildir", directory / "mail" / "bob", *source)
    assert (outcome.status, outcome.err) == (1, f"trio-pop3: there is no Maildir {directory}/mail/bob\n")
    assert not (directory / "mail" / "bob").exists()
    assert command("uidl", action, directory, "../alice", *source).status == 1
    assert command("uidl", action, directory, "bob", *source).err == outcome.err
    assert command("uidl", action, "/nope", "bob", *source).err == "trio-pop3: there is no Maildir /nope/mail/bob\n"


@pytest.mark.parametrize("action", ["import", "verify", "export"])
def test_a_pattern(command: Command, directory: Path, box: Box, action: str) -> None:
    """As `serve` has it, with the user behind it."""
    source = [] if action == "export" else ["--from", "dovecot"]
    words = ["uidl", action, "--maildir", f"{directory}/mail/{{user}}"]
    by_pattern = command(*words, "alice", *source, *(["--dry-run"] if action == "import" else []))
    named = command("uidl", action, directory, "alice", *source, *(["--dry-run"] if action == "import" else []))
    assert by_pattern == named
    assert by_pattern.out
    outcome = command(*words, "../bob", *source)
    assert (outcome.status, outcome.err) == (1, f"trio-pop3: '../bob' has no place in {words[-1]}\n")


# --- root, and somebody else's Maildir --------------------------------------------------------------------------------


@pytest.fixture
def theirs() -> Iterator[Box]:
    """A Maildir of `nobody`, in a place where `nobody` can go."""
    assert os.geteuid() == 0, "only root can write as somebody else"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        box = Box(Path(folder))
        box.put(NAMES[0])
        (box.path / "dovecot-uidlist").write_text(UIDLIST)
        owner = pwd.getpwnam("nobody")
        for path in (box.path, *box.path.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        yield box


def import_into(box: Box) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "trio_pop3", "uidl", "import", "--maildir", str(box.path), "--from", "dovecot"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_root_writes_as_the_owner(theirs: Box) -> None:
    """Or the server, which runs as the owner, could not read the map, nor lock the Maildir."""
    done = import_into(theirs)
    assert done.returncode == 0, done.stderr
    owner = pwd.getpwnam("nobody")
    for name in (".trio-pop3.uidl", ".trio-pop3.lock"):
        status = (theirs.path / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (owner.pw_uid, owner.pw_gid, 0o600)


def test_root_is_led_nowhere(theirs: Box, tmp_path: Path) -> None:
    """P1: the owner may put a link where the lock or the map belongs."""
    target = tmp_path / "target"
    target.write_text("precious\n")
    for name in (".trio-pop3.lock", ".trio-pop3.uidl"):
        (theirs.path / name).symlink_to(target)
        words = [
            sys.executable,
            "-m",
            "trio_pop3",
            "uidl",
            "import",
            "--maildir",
            str(theirs.path),
            "--from",
            "dovecot",
        ]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 1
        (theirs.path / name).unlink()
    assert target.read_text() == "precious\n"
    assert target.stat().st_uid == 0


def test_delivered_mail_has_its_own_unique_id(command: Command, directory: Path, box: Box) -> None:
    """Nothing is asked of a delivery: what arrives after an import goes by its name."""
    assert command("uidl", "import", directory, "alice", "--from", "dovecot").status == 0
    name = deliver(box.path, b"late\n")
    assert served(box) == [*DOVECOT, name]
