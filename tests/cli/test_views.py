"""Options that say what a maildrop shows, and whose files are touched."""

from __future__ import annotations

import argparse
import os
import poplib
import shutil
import smtplib
import tempfile
import time
from pathlib import Path

import pytest

from trio_pop3.backends.maildir import deliver, make_maildir
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.cli import views
from trio_pop3.cli.failure import Failure

from .command import Command
from .test_serve import started

DAY = 86_400


@pytest.fixture
def junk(directory: Path) -> Path:
    """alice has a message in the inbox, an old one, and one in Junk."""
    maildir = directory / "mail" / "alice"
    make_maildir(maildir / ".Junk")
    deliver(maildir, b"Subject: inbox\n\n")
    deliver(maildir / ".Junk", b"Subject: junk\n\n")
    (maildir / "cur" / f"{int(time.time()) - 9 * DAY}.old:2,S").write_bytes(b"Subject: old\n\n")
    return directory


def subjects(port: str, user: str) -> list[bytes]:
    client = poplib.POP3("127.0.0.1", int(port), timeout=20)
    try:
        client.user(user)
        client.pass_("secret")
        return [client.retr(n)[1][0].removeprefix(b"Subject: ") for n in range(1, client.stat()[0] + 1)]
    finally:
        client.quit()


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ([], {"alice": [b"old", b"inbox"]}),
        (["--with-folder", "Junk", "--with-folder", "No"], {"alice": [b"old", b"inbox", b"junk"]}),
        (["--newest-days", "1.5", "--with-folder", "Junk"], {"alice": [b"inbox", b"junk"]}),
        (["--at-most", "1"], {"alice": [b"old"]}),
        (["--folder-separator", "+"], {"alice": [b"old", b"inbox"], "alice+Junk": [b"junk"]}),
    ],
)
def test_what_is_shown(junk: Path, options: list[str], seen: dict[str, list[bytes]]) -> None:
    """Wish 5: with the real server; nothing is shown by default but the inbox."""
    with started(junk, "--listen", "127.0.0.1:0", *options) as server:
        port = server.until(r"on 127\.0\.0\.1:(\d+)")[1]
        assert {user: subjects(port, user) for user in seen} == seen
        with pytest.raises(poplib.error_proto, match="AUTH" if "+" not in options else "no such folder"):
            subjects(port, "alice+No")
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--newest-days", "0"], "--newest-days must be more than 0"),
        (["--at-most", "0"], "--at-most must be at least 1"),
        (["--with-folder", "../bob"], "not the name of a folder: '../bob'"),
        (["--folder-separator", "x"], "a separator is one character"),
        (["--as-owner", "--follow-symlinks"], "--as-owner cannot go with --follow-symlinks"),
    ],
)
def test_values_that_make_no_sense(command: Command, junk: Path, options: list[str], said: str) -> None:
    outcome = command("serve", junk, "--listen", "127.0.0.1:0", *options)
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err


@pytest.mark.parametrize("option", ["--with-folder", "--folder-separator"])
def test_a_store_without_folders(option: str) -> None:
    parser = argparse.ArgumentParser()
    views.add_to(parser)
    with pytest.raises(Failure, match=f"{option}: this mail store has no folders"):
        views.over(parser.parse_args([option, "+"]), MemoryBackend())


def test_as_owner(command: Command, junk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at the start where it cannot be done."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    outcome = command("serve", junk, "--listen", "127.0.0.1:0", "--as-owner")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "trio-pop3: --as-owner: only root can work as the owner of each mail store\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the refusal is what can be tested without root")
def test_as_owner_the_mail_of_root_is_refused(junk: Path) -> None:
    with started(junk, "--listen", "127.0.0.1:0", "--as-owner") as server:
        port = server.until(r"on 127\.0\.0\.1:(\d+)")[1]
        with pytest.raises(poplib.error_proto, match="SYS/PERM"):
            subjects(port, "alice")
        assert "nobody's mail is touched as root" in server.until("nobody's mail.*")[0] + server.said
        assert server.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="the refusal is what can be tested without root")
def test_as_owner_with_deliveries() -> None:
    """What comes in by LMTP can be read by whom it is for, who owns it; the server is root."""
    top = Path(tempfile.mkdtemp(prefix="trio-pop3-"))
    try:
        top.chmod(0o755)
        maildir = top / "mail" / "alice"
        make_maildir(maildir)
        maildir.parent.chmod(0o755)
        (top / "users").write_text("alice:{PLAIN}secret\n")
        for place in [maildir, *maildir.rglob("*")]:
            os.chown(place, 61_001, 61_001)
        options = ["--as-owner", "--listen", "127.0.0.1:0", "--lmtp", f"unix:{top}/lmtp", "--local-part"]
        with started(top, *options) as server:
            port = server.until(r"on 127\.0\.0\.1:(\d+)")[1]
            with smtplib.LMTP(str(top / "lmtp")) as sender:
                sender.sendmail("", ["alice@example.org"], b"Subject: came in\r\n\r\n")
            client = poplib.POP3("127.0.0.1", int(port), timeout=20)
            client.user("alice")
            client.pass_("secret")
            assert b"Subject: came in" in client.retr(1)[1]
            client.quit()
            assert server.stop() == 0
        assert {path.stat().st_uid for path in maildir.rglob("*")} == {61_001}
    finally:
        shutil.rmtree(top)


def test_follow_symlinks(junk: Path) -> None:
    """A link of the user's own; as root, of a stranger."""
    maildir = junk / "mail" / "alice"
    maildir.rename(junk / "moved")
    maildir.symlink_to(junk / "moved")
    if os.geteuid() == 0:
        os.chown(maildir, 4711, 4711, follow_symlinks=False)
    with started(junk, "--listen", "127.0.0.1:0", "--follow-symlinks") as server:
        assert len(subjects(server.until(r"on 127\.0\.0\.1:(\d+)")[1], "alice")) == 2
        assert server.stop() == 0
