"""Programs people really fetch mail with, against the real command on a Maildir."""

from __future__ import annotations

import os
import poplib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..sansio.test_body import canon
from .server import AWKWARD, PASSWORD, USER, Mail, Served, getmail_agent, message, program, serving

BIG = {
    "20 MB": message("big", b"a line of mail, no longer than it should be, and again.\n" * 360_000),
    "one line of 5 MB": message("long", b"x" * 5_000_000 + b"\n"),
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    mail = Mail(tmp_path / "served")
    for number, content in enumerate(AWKWARD.values()):
        mail.put(content, flags="S" if number % 2 else None)
    with serving(mail) as server:
        yield server


def run(*command: str, timeout: float = 120, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a client; its output is in the failure."""
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, env=env)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done


def pop(server: Served, monkeypatch: pytest.MonkeyPatch | None = None) -> poplib.POP3:
    """A poplib client, logged in; with monkeypatch its line limit is lifted (A17)."""
    if monkeypatch is not None:
        monkeypatch.setattr(poplib, "_MAXLINE", 1 << 26)
    client = poplib.POP3("127.0.0.1", server.port, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    return client


def test_poplib_gets_every_message_to_the_octet(served: Served) -> None:
    """A1-A5, A8, B1, B2, F1: sizes, sums, contents and order through a client of the standard library."""
    client = pop(served)
    count, octets = client.stat()
    listed = [int(line.split()[1]) for line in client.list()[1]]
    assert (count, octets) == (len(AWKWARD), sum(listed))
    for number, (stored, size) in enumerate(zip(AWKWARD.values(), listed, strict=True), 1):
        lines = client.retr(number)[1]
        # poplib takes off one line end: CR LF, or a bare LF.
        assert b"\r\n".join(lines) + b"\r\n" == canon(stored)
        assert size == len(canon(stored))
    assert len({line.split()[1] for line in client.uidl()[1]}) == len(AWKWARD)
    client.quit()
    assert list(served.mail.held().values()) and len(served.mail.held()) == len(AWKWARD)


def test_poplib_deletes_what_was_marked_and_nothing_else(served: Served) -> None:
    """E10, R1939-49, R1939-50."""
    bases = sorted(served.mail.held())
    client = pop(served)
    client.dele(2)
    client.dele(5)
    client.quit()
    assert sorted(served.mail.held()) == [base for n, base in enumerate(bases, 1) if n not in (2, 5)]


@pytest.mark.parametrize("name", BIG)
def test_big_messages_are_exact(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A16: streamed intact, through poplib (its line limit raised, A17) and curl."""
    mail = Mail(tmp_path / "big")
    mail.put(BIG[name])
    wanted = canon(BIG[name])
    with serving(mail) as server:
        client = pop(server, monkeypatch)
        assert client.stat() == (1, len(wanted))
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == wanted
        client.quit()
        assert run(program("curl"), "-s", f"{server.url}/1").stdout == wanted


def test_curl_gets_every_message_to_the_octet(served: Served) -> None:
    for number, stored in enumerate(AWKWARD.values(), 1):
        assert run(program("curl"), "-s", f"{served.url}/{number}").stdout == canon(stored)


def test_curl_lists_and_sends_other_commands(served: Served) -> None:
    listing = run(program("curl"), "-s", f"{served.url}/").stdout.decode().split()
    assert listing[::2] == [str(n) for n in range(1, len(AWKWARD) + 1)]
    assert listing[1::2] == [str(len(canon(stored))) for stored in AWKWARD.values()]
    uids = run(program("curl"), "-s", "-X", "UIDL", f"{served.url}/").stdout.decode().split()[1::2]
    assert uids == sorted(served.mail.held())
    top = run(program("curl"), "-s", "-X", "TOP 1 1", f"{served.url}/").stdout
    assert canon(AWKWARD["plain"]).startswith(top)
    assert top.endswith(b"\r\none\r\n")
    run(program("curl"), "-s", "-l", "-X", "DELE 1", f"{served.url}/", "-I")
    assert len(served.mail.held()) == len(AWKWARD) - 1


def test_fetchmail_keeps_and_fetches_once_and_then_all(served: Served, tmp_path: Path) -> None:
    """F2: with `keep` a second run finds nothing new; without it the maildrop is empty afterwards."""
    inbox = tmp_path / "inbox"
    rc = tmp_path / "fetchmailrc"

    def fetch(keep: str) -> int:
        rc.write_text(
            f"poll 127.0.0.1 protocol POP3 port {served.port} uidl\n"
            f'  user "{USER}" password "{PASSWORD}" sslproto "" {keep} mda "cat >> {inbox}; echo ====== >> {inbox}"\n'
        )
        rc.chmod(0o600)
        environment = {**os.environ, "FETCHMAILHOME": str(tmp_path), "HOME": str(tmp_path)}
        command = [program("fetchmail"), "-f", str(rc), "--nosyslog", "--nodetach", "--pidfile", f"{tmp_path}/pid"]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False, env=environment)
        assert done.returncode in (0, 1), done  # 1: no new mail
        return done.returncode

    assert fetch("keep") == 0
    assert inbox.read_bytes().count(b"\n======\n") == len(AWKWARD)
    assert b"Subject: unterminated" in inbox.read_bytes()
    assert len(served.mail.held()) == len(AWKWARD)
    assert fetch("keep") == 1
    served.mail.put(message("late", b"late\n"))
    assert fetch("nokeep fetchall") == 0
    assert served.mail.held() == {}


def test_mpop_empties_the_maildrop(served: Served, tmp_path: Path) -> None:
    """mpop pipelines: commands and replies must pair up (R2449-24)."""
    inbox = tmp_path / "inbox"
    for part in ("cur", "new", "tmp"):
        (inbox / part).mkdir(parents=True)
    options = {
        "host": "127.0.0.1", "port": served.port, "user": USER, "passwordeval": f"echo {PASSWORD}", "auth": "user",
        "tls": "off", "delivery": f"maildir,{inbox}", "uidls-file": tmp_path / "uidls", "pipelining": "auto",
        "received-header": "off",
    }  # fmt: skip
    keep = ["--keep=on"], ["--keep=on"], ["--keep=off"]
    counts = []
    for extra in keep:
        run(program("mpop"), "-q", *(f"--{key}={value}" for key, value in options.items()), *extra)
        counts.append(len(list((inbox / "new").iterdir())))
    assert counts == [len(AWKWARD)] * 3
    assert served.mail.held() == {}


def test_getmail_keeps_and_fetches_once_and_then_deletes(served: Served, tmp_path: Path) -> None:
    """F2. Delivers through a program, since getmail writes no Maildir for root."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    agent = tmp_path / "agent"
    getmail_agent(agent, f'cat > "{inbox}/$$"')

    def fetch(*, delete: bool) -> int:
        (tmp_path / "getmailrc").write_text(
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\n"
            f"port = {served.port}\nusername = {USER}\npassword = {PASSWORD}\n"
            f"[destination]\ntype = MDA_external\npath = {agent}\nallow_root_commands = true\n"
            f"[options]\nread_all = false\ndelete = {delete}\nreceived = false\ndelivered_to = false\n"
        )
        command = [program("getmail"), f"--getmaildir={tmp_path}", "--rcfile=getmailrc"]
        run(*command, env={**os.environ, "HOME": str(tmp_path)})
        return len(list(inbox.iterdir()))

    assert fetch(delete=False) == len(AWKWARD)
    assert len(served.mail.held()) == len(AWKWARD)
    assert fetch(delete=False) == len(AWKWARD)  # nothing twice
    fetch(delete=True)
    assert served.mail.held() == {}
    texts = [path.read_bytes() for path in inbox.iterdir()]
    assert any(re.search(rb"^\.\r?\n\.\.\r?\n\.\.\.\r?\n\.a\r?$", text, re.MULTILINE) for text in texts)
