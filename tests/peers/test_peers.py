"""Each server runs as we say, holds what we gave it, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import poplib
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from trio_pop3.cli import build_parser

from ..interop.server import eventually
from . import DEFAULT_MAIL, PEERS, Peer, reset
from .__main__ import arguments


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    with PEERS[request.param]() as running:
        yield running


@pytest.fixture(autouse=True)
def long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A17: poplib takes no line of more than 2048 octets by itself."""
    monkeypatch.setattr(poplib, "_MAXLINE", 10_000)


def logged_in(peer: Peer, user: str, password: str) -> poplib.POP3:
    pop = poplib.POP3(peer.host, peer.port, timeout=20)
    assert pop.user(user).startswith(b"+OK")
    assert pop.pass_(password).startswith(b"+OK")
    return pop


def bodies(pop: poplib.POP3) -> list[list[bytes]]:
    """The lines behind the header of each message, without empty ones at its end, which an mbox cannot keep apart."""
    return [_body(pop.retr(number)[1]) for number in range(1, pop.stat()[0] + 1)]


def _body(lines: list[bytes]) -> list[bytes]:
    body = lines[lines.index(b"") + 1 :]
    while body and not body[-1]:
        body.pop()
    return body


GIVEN = [_body(content.split(b"\n")) for content in DEFAULT_MAIL]


def test_what_is_printed_is_what_check_takes() -> None:
    peer = Peer(name="x", port=1110, stls=False, version="1", reset_command="cp -a 'a b' c")
    taken = build_parser().parse_args(["check", *shlex.split(arguments(peer), comments=True)])
    assert (taken.address, taken.user, taken.password, taken.second_user, taken.reset) == (
        "127.0.0.1:1110", peer.user, peer.password, f"{peer.second_user}:{peer.second_password}", peer.reset_command
    )  # fmt: skip


def test_the_mail_covers_what_it_should() -> None:
    text = b"".join(DEFAULT_MAIL)
    assert b"\n.\n" in text
    assert b"\n..\n" in text
    assert max(map(len, text.split(b"\n"))) > 2048
    assert set(range(0xA0, 0x100)) <= set(text)
    assert sum(content.endswith(b"\n\n") for content in DEFAULT_MAIL) == 1
    assert sum(not content.endswith(b"\n") for content in DEFAULT_MAIL) == 1


def test_both_users_find_the_mail(peer: Peer) -> None:
    for user, password in ((peer.user, peer.password), (peer.second_user, peer.second_password)):
        pop = logged_in(peer, user, password)
        assert bodies(pop) == GIVEN
        pop.quit()


def test_a_wrong_password_is_refused(peer: Peer) -> None:
    pop = poplib.POP3(peer.host, peer.port, timeout=20)
    pop.user(peer.user)
    with pytest.raises(poplib.error_proto, match="-ERR"):
        pop.pass_(peer.second_password)
    pop.close()


def test_what_was_deleted_comes_back(peer: Peer) -> None:
    """By `reset`, as often as one likes; the mail of the other user is what it was."""
    for _ in range(2):
        pop = logged_in(peer, peer.user, peer.password)
        for number in (2, 4):
            pop.dele(number)
        assert pop.quit().startswith(b"+OK")
        pop = logged_in(peer, peer.user, peer.password)
        assert bodies(pop) == [GIVEN[0], GIVEN[2], *GIVEN[4:]]
        pop.quit()
        reset(peer)
        pop = logged_in(peer, peer.user, peer.password)
        assert bodies(pop) == GIVEN
        pop.quit()
    pop = logged_in(peer, peer.second_user, peer.second_password)
    assert bodies(pop) == GIVEN
    pop.quit()


def test_unique_ids_survive_a_reset(peer: Peer) -> None:
    """Unless the server makes them of the second in which it first sees a message, as mailutils does."""
    found = []
    for _ in range(2):
        reset(peer)
        pop = logged_in(peer, peer.user, peer.password)
        found.append([line.split()[1] for line in pop.uidl()[1]])
        pop.quit()
    assert all(len(set(ids)) == len(DEFAULT_MAIL) for ids in found)
    assert found[0] == found[1] or peer.name == "mailutils"


def test_tls_where_it_is_offered(peer: Peer) -> None:
    assert (peer.ca is not None) == peer.stls == (peer.tls_port is not None) == (peer.name != "popa3d")
    if peer.tls_port is None:
        return
    context = ssl.create_default_context(cafile=peer.ca)
    pop = poplib.POP3(peer.host, peer.port, timeout=20)
    pop.stls(context)
    pop.user(peer.user)
    pop.pass_(peer.password)
    assert pop.stat()[0] == len(DEFAULT_MAIL)
    pop.quit()
    pop = poplib.POP3_SSL(peer.host, peer.tls_port, timeout=20, context=context)
    pop.user(peer.user)
    pop.pass_(peer.password)
    assert pop.stat()[0] == len(DEFAULT_MAIL)
    pop.quit()


def namespaces() -> set[str]:
    """The process namespaces in which something runs, or still holds a socket."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone, or nothing for us to look at
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "XZ":  # more than something to be reaped
                found.add(os.readlink(process / "ns/pid"))
    return found


def of_ours(pid: int) -> dict[str, Path]:
    """The process namespaces, other than ours, of what a process has started; and where each can be opened."""
    found, waiting = {}, [pid]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            path = Path(f"/proc/{pid}/ns/pid")
            found[os.readlink(path)] = path
    found.pop(os.readlink("/proc/self/ns/pid"), None)
    return found


FILES = ("/etc/passwd", "/etc/group", "/etc/shadow", "/proc/mounts")
FOLDERS = ("/etc/courier", "/etc/pam.d", "/run/courier", "/var/mail")


def system() -> list[object]:
    """What a server with users of its own might change."""
    return [*(Path(file).read_text() for file in FILES), *(sorted(Path(folder).rglob("*")) for folder in FOLDERS)]


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_nothing_is_left(name: str, end: signal.Signals) -> None:
    """By the command, and however it ends: no process and no user, and no file if it could still remove them."""
    before = system()
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-m", "tests.peers", name]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        host, port, user, password, folder = LINE.match(process.stdout.readline()).groups()  # type: ignore[union-attr]
        ((space, path),) = of_ours(process.pid).items()
        stack.enter_context(path.open())  # held, so that nobody else gets its number
        # With a session under way.
        pop = poplib.POP3(host, int(port), timeout=20)
        stack.callback(pop.close)
        pop.user(user)
        pop.pass_(password)
        assert system() == before
        process.send_signal(end)
        assert process.wait(timeout=20) == (-signal.SIGKILL if end is signal.SIGKILL else 0)
        if end is signal.SIGKILL:
            eventually(namespaces, lambda found: space not in found)
            shutil.rmtree(folder)
        assert space not in namespaces()
        assert not Path(folder).exists()
        assert system() == before
        with pytest.raises(ConnectionRefusedError):
            poplib.POP3(host, int(port), timeout=20)


LINE: Final = re.compile(r"([\d.]+):(\d+) --user (\S+) --password (\S+) --second-user .* --reset 'sh (/\S+)/reset'  # ")


def test_a_server_that_does_not_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is one that is not there: a skipped proof is none."""
    running = of_ours(os.getpid()).keys()
    monkeypatch.setattr("tests.peers.popa3d.UNPACKED", Path("/nonexistent"))
    with pytest.raises(AssertionError, match="tests/peers/install"), PEERS["popa3d"]():
        pass
    monkeypatch.setattr("tests.peers.mailutils._CONFIGURATION", "nonsense yes;")
    with pytest.raises(AssertionError, match="nonsense"), PEERS["mailutils"]():
        pass
    assert of_ours(os.getpid()).keys() == running


def test_an_mbox_takes_no_line_that_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="From"), PEERS["popa3d"]([b"Subject: x\n\nFrom me\n"]):
        pass
