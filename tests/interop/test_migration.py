"""Somebody else's server, then ours, at one address and on one Maildir: people's programs fetch nothing twice.

Dovecot and Courier give different unique-ids, so that every chain is walked with both: a client that has fetched
everything and left it on the server is asked again after each change of server.
"""

from __future__ import annotations

import os
import poplib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from trio_pop3.migration.formats import DOVECOT

from ..peers import Peer, courier, dovecot
from ..peers.base import FIRST, free_ports
from .server import AWKWARD, Mail, getmail_agent, message, program, serving

CONTENTS = list(AWKWARD.values())
PEERS = {"dovecot": dovecot.serving, "courier": courier.serving}


@dataclass
class Client:
    """A program that leaves mail on the server, and remembers by unique-ids what it has fetched."""

    home: Path
    port: int
    fetched: int = field(default=0)

    def __post_init__(self) -> None:
        self.inbox.mkdir(parents=True)

    @property
    def inbox(self) -> Path:
        return self.home / "inbox"

    @property
    def counted(self) -> str:
        """A shell command that takes a message. What is in it is for other tests."""
        return f"cat > /dev/null; touch {self.inbox}/$(date +%N).$$"

    def run(self, *command: object) -> int:
        """Run it, and say how many messages it has fetched."""
        environment = {**os.environ, "HOME": str(self.home), "FETCHMAILHOME": str(self.home)}
        words = [str(word) for word in command]
        done = subprocess.run(words, capture_output=True, timeout=120, check=False, env=environment, cwd=self.home)
        print(*words, done.returncode, done.stdout[-800:], done.stderr[-800:], sep="\n  ")
        assert done.returncode in self.good, done
        before, self.fetched = self.fetched, len(list(self.inbox.iterdir()))
        return self.fetched - before

    good: ClassVar[tuple[int, ...]] = (0,)

    def fetch(self) -> int:
        raise NotImplementedError


class Getmail(Client):
    def fetch(self) -> int:
        agent = self.home / "agent"
        getmail_agent(agent, self.counted)
        (self.home / "getmailrc").write_text(
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\n"
            f"port = {self.port}\nusername = {FIRST.name}\npassword = {FIRST.password}\n"
            f"[destination]\ntype = MDA_external\npath = {agent}\nallow_root_commands = true\n"
            "[options]\nread_all = false\ndelete = false\nreceived = false\ndelivered_to = false\n"
        )
        return self.run(program("getmail"), f"--getmaildir={self.home}", "--rcfile=getmailrc")


class Fetchmail(Client):
    good = (0, 1)  # 1: there is nothing new

    def fetch(self) -> int:
        rc = self.home / "fetchmailrc"
        rc.write_text(
            f"poll 127.0.0.1 protocol POP3 port {self.port} uidl\n"
            f'  user "{FIRST.name}" password "{FIRST.password}" sslproto "" keep mda "{self.counted}"\n'
        )
        rc.chmod(0o600)
        pid = self.home / "pid"
        return self.run(program("fetchmail"), "-f", rc, "--nosyslog", "--nodetach", "--pidfile", pid)


@dataclass
class Site:
    """One address, whoever serves it, and clients that go there. `maildir`: what the last server has left."""

    path: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        self.clients = [Getmail(self.path / "getmail", self.port), Fetchmail(self.path / "fetchmail", self.port)]

    @property
    def maildir(self) -> Path:
        return self.path / "maildir"

    def fetch(self) -> list[int]:
        """How many messages each client has fetched now."""
        return [client.fetch() for client in self.clients]

    @contextmanager
    def peer(self, name: str, **options: str) -> Iterator[Peer]:
        """Served by somebody else, with the mail there is, or some to begin with; their files are kept."""
        mail = self.maildir if self.maildir.exists() else CONTENTS
        with PEERS[name](mail, port=self.port, **options) as peer:
            yield peer
            self.keep(peer)

    def keep(self, peer: Peer) -> None:
        """Take what a server has on its disk now."""
        assert peer.maildir is not None
        shutil.rmtree(self.maildir, ignore_errors=True)
        subprocess.run(["cp", "-a", peer.maildir, self.maildir], check=True)

    @contextmanager
    def ours(self) -> Iterator[Path]:
        """Served by us, from the Maildir itself."""
        mail = Mail(self.path / "served")
        (mail.path / "users").write_text(f"{FIRST.name}:{{PLAIN}}{FIRST.password}\n")
        place = mail.path / "mail" / FIRST.name
        if not place.exists():
            place.symlink_to(self.maildir)
        with serving(mail, listen=f"127.0.0.1:{self.port}"):
            yield place

    def uidl(self, action: str, *options: object, status: int = 0, stdin: str = "") -> str:
        """`trio-pop3 uidl` on the Maildir."""
        words = [sys.executable, "-m", "trio_pop3", "uidl", action, "--maildir", self.maildir, *options]
        done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True, check=False)
        print(*words, done.returncode, done.stdout, done.stderr, sep="\n  ")
        assert done.returncode == status, done
        return done.stdout


@pytest.fixture
def site() -> Iterator[Site]:
    """In a place where the owner of the mail can go, as whom root writes; one below pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="trio-pop3-site-", dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        yield Site(Path(folder))


ALL, NONE = [len(CONTENTS)] * 2, [0, 0]


def deliver_to(maildir: Path) -> None:
    (maildir / "new" / "1800000000.M1P1.host").write_bytes(message("late", b"late\n"))


def unique_ids(peer: Peer) -> list[str]:
    """What UIDL says, in order."""
    pop = poplib.POP3(peer.host, peer.port, timeout=20)
    pop.user(peer.user)
    pop.pass_(peer.password)
    found = [line.split()[1].decode() for line in pop.uidl()[1]]
    pop.quit()
    return found


@pytest.mark.parametrize("name", PEERS)
def test_nothing_is_fetched_twice_after_an_import(site: Site, name: str) -> None:
    """P3, F2, F6: and what has come since is fetched once."""
    with site.peer(name):
        assert site.fetch() == ALL
        assert site.fetch() == NONE
    assert f"imported {len(CONTENTS)} unique-ids" in site.uidl("import", "--from", name)
    assert "the order is the same" in site.uidl("verify", "--from", name)
    with site.ours():
        assert site.fetch() == NONE
        deliver_to(site.maildir)
        assert site.fetch() == [1, 1]
        assert site.fetch() == NONE


@pytest.mark.parametrize("name", PEERS)
def test_without_an_import_everything_is_fetched_twice(site: Site, name: str) -> None:
    """What the other tests would see if they could not fail, and exactly what `verify` has said."""
    with site.peer(name):
        assert site.fetch() == ALL
    said = site.uidl("verify", "--from", name, status=1)
    assert re.search(rf"^{len(CONTENTS)} messages would be downloaded again:$", said, re.MULTILINE)
    with site.ours():
        assert site.fetch() == ALL


def test_from_dovecot_to_courier_to_us(site: Site) -> None:
    """Courier gives others: that costs clients a download which is not ours to save. Then there is no other."""
    with site.peer("dovecot"):
        assert site.fetch() == ALL
    with site.peer("courier"):
        assert site.fetch() == ALL
    site.uidl("import", "--from", "courier")
    assert "would be downloaded again" in site.uidl("verify", "--from", "dovecot", status=1)
    with site.ours():
        assert site.fetch() == NONE


def test_from_courier_to_dovecot_to_us(site: Site) -> None:
    """F6: Dovecot keeps Courier's unique-ids in P fields, as its migration script writes them; so do we."""
    with site.peer("courier"):
        assert site.fetch() == ALL
    header, *lines = (site.maildir / "courierpop3dsizelist").read_text().splitlines()
    validity = header.split()[2]
    known = [re.fullmatch(r"(\S+?)(?::2,\S*)? \d+ (\d+):(\d+):\d", line) for line in lines]
    (site.maildir / "dovecot-uidlist").write_text(
        f"3 V{validity} N{len(lines) + 1}\n"
        + "".join(f"{n} PUID{match[2]}-{match[3]} :{match[1]}\n" for n, match in enumerate(known, 1) if match)
    )
    shutil.copystat(site.maildir, site.maildir / "dovecot-uidlist")
    (site.maildir / "dovecot-uidlist").chmod(0o600)
    os.chown(site.maildir / "dovecot-uidlist", FIRST.uid, FIRST.uid)
    with site.peer("dovecot") as peer:
        assert unique_ids(peer) == [f"UID{n}-{validity}" for n in range(1, len(CONTENTS) + 1)]
        assert site.fetch() == NONE
    (site.maildir / "courierpop3dsizelist").unlink()
    site.uidl("import", "--from", "dovecot")
    with site.ours():
        assert site.fetch() == NONE


@pytest.mark.parametrize("name", PEERS)
def test_asking_the_old_server_itself(site: Site, name: str) -> None:
    """P3, P5: its files are not looked at. Courier counts messages with CRLF wrong: content decides then."""
    with site.peer(name) as peer:
        assert site.fetch() == ALL
        theirs = unique_ids(peer)
        site.keep(peer)
        for each in ("dovecot-uidlist", "courierpop3dsizelist"):
            (site.maildir / each).unlink(missing_ok=True)
        source = ("--from", f"pop3://{peer.user}@127.0.0.1:{site.port}")
        site.uidl("import", *source, stdin=f"{peer.password}\n")
        site.uidl("verify", *source, stdin=f"{peer.password}\n")
        imported = site.uidl("export")
        shutil.copytree(site.maildir, site.path / "kept", symlinks=True)
    assert [line.split()[0] for line in imported.splitlines()[1:-1]] == theirs
    shutil.rmtree(site.maildir)
    (site.path / "kept").rename(site.maildir)
    with site.ours():
        assert site.fetch() == NONE


FORMATS = (DOVECOT, "%u-%v", "%v.%u", "%08Xv%08Xu", "%f", "%g", "%Xu.%Xv-100%%", "%010u", "%Mf")


@pytest.mark.parametrize("text", FORMATS)
def test_formats_are_those_of_dovecot(site: Site, text: str) -> None:
    """What a real Dovecot makes of them, with a UID above nine."""
    with site.peer("dovecot", settings=f"pop3_uidl_format = {text}\n") as peer:
        theirs = unique_ids(peer)
    site.uidl("import", "--from", "dovecot", "--format", text)
    assert [line.split()[0] for line in site.uidl("export").splitlines()[1:-1]] == theirs


def test_saved_unique_ids(site: Site) -> None:
    """F6: with pop3_save_uidl Dovecot writes them down itself, and a change of its format changes nothing; as here."""
    with site.peer("dovecot", settings="pop3_uidl_format = %v.%u\npop3_save_uidl = yes\n") as peer:
        theirs = unique_ids(peer)
    assert " P" in (site.maildir / "dovecot-uidlist").read_text()
    site.uidl("import", "--from", "dovecot", "--format", "%f")
    assert [line.split()[0] for line in site.uidl("export").splitlines()[1:-1]] == theirs
