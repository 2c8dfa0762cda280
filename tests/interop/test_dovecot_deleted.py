"""What IMAP sees of mail that POP3 deleted: Dovecot reads the Maildir after us. Needs dovecot-core."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..backends.maildir_helpers import Box, uids
from ..driving import Dialogue

CONFIGURATION = """
ssl = no
stats_writer_socket_path =
log_path = /dev/stderr
base_dir = {top}/run
first_valid_uid = 1
first_valid_gid = 0
mail_uid = {uid}
mail_gid = {gid}
mail_location = maildir:{maildir}
"""
# Dovecot reads no mail as root.
OTHER = 4711

Doveadm = Callable[..., list[str]]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for n in (1, 2, 3):
        box.put(f"170000000{n}.m", b"Subject: %d\n\nbody\n" % n)
    return box


@pytest.fixture
def doveadm(box: Box, tmp_path: Path) -> Doveadm:
    """Runs a command on the Maildir, as its owner; its lines."""
    uid, gid = (OTHER, OTHER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    configuration = tmp_path / "dovecot.conf"
    configuration.write_text(CONFIGURATION.format(top=tmp_path, uid=uid, gid=gid, maildir=box.path))
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)

    def run(*words: str) -> list[str]:
        if os.geteuid() == 0:
            for path in (box.path, *box.path.rglob("*")):
                os.chown(path, uid, gid)
        environment = {**os.environ, "USER": "alice", "HOME": str(tmp_path)}
        command = ["doveadm", "-c", str(configuration), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")

    return run


def delete_first(box: Box, deletion: str) -> None:
    dialogue = Dialogue(box.backend(deletion=deletion))
    assert dialogue.login().startswith(b"+OK")
    assert dialogue.send(b"DELE 1\r\nQUIT\r\n").endswith(b"+OK goodbye\r\n")


def subjects(doveadm: Doveadm, mailbox: str, *search: str) -> list[str]:
    found = doveadm("fetch", "hdr.subject", "mailbox", mailbox, *(search or ("all",)))
    return [line.removeprefix("hdr.subject: ") for line in found if line.startswith("hdr.subject")]


def test_the_trash_is_a_folder_with_the_message_in_it(box: Box, doveadm: Doveadm) -> None:
    """E10: and Dovecot's own files in it do not keep us from moving more there, or from bringing it back."""
    delete_first(box, "trash")
    assert {*doveadm("mailbox", "list")} >= {"INBOX", "Trash"}
    assert (subjects(doveadm, "INBOX"), subjects(doveadm, "Trash")) == (["2", "3"], ["1"])
    delete_first(box, "trash")
    assert (subjects(doveadm, "INBOX"), subjects(doveadm, "Trash")) == (["3"], ["1", "2"])


def test_the_flag_is_what_imap_calls_deleted(box: Box, doveadm: Doveadm) -> None:
    """E10: expunged by the one, or taken off, and then POP3 shows the message again under its old unique-id."""
    delete_first(box, "flag")
    assert subjects(doveadm, "INBOX", "deleted") == ["1"]
    doveadm("flags", "remove", "\\Deleted", "mailbox", "INBOX", "all")
    dialogue = Dialogue(box.backend(deletion="flag"))
    dialogue.login()
    assert uids(dialogue) == ["1700000001.m", "1700000002.m", "1700000003.m"]
    dialogue.close()
    delete_first(box, "flag")
    doveadm("expunge", "mailbox", "INBOX", "deleted")
    assert sorted(box.held()) == ["1700000002.m", "1700000003.m"]


def test_hidden_is_nothing_to_imap(box: Box, doveadm: Doveadm) -> None:
    """Wish 7: leave a copy."""
    delete_first(box, "hide")
    assert subjects(doveadm, "INBOX") == ["1", "2", "3"]
    doveadm("flags", "add", "\\Seen", "mailbox", "INBOX", "all")
    dialogue = Dialogue(box.backend(deletion="hide"))
    dialogue.login()
    assert uids(dialogue) == ["1700000002.m", "1700000003.m"]
