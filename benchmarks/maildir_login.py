"""Large maildrops: `python -m benchmarks.maildir_login [MESSAGES] [ROUNDS]` (default 100000, 5).

Needs root and Dovecot. One session is login, STAT, UIDL, LIST and QUIT, a command at a time, on a Maildir of its own,
ours beside Debian's Dovecot on a copy of the same Maildir: first with what each keeps beside the mail deleted (cold),
then again with it (warm), and after one more delivery. Rounds are interleaved; medians. For ours also the growth of
resident memory in a fresh process, and how long the NOOPs of another session wait meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import trio

from tests.peers.base import ADDRESS, caged, free_ports, installed, place
from trio_pop3 import AuthenticationFailed, ClientInfo, Credentials, MaildirBackend, Pop3Listener, serve
from trio_pop3.backends.maildir import make_maildir
from trio_pop3.credentials import PasswordCredentials

from .servers import SERVERS, running

USER: Final = "alice"
BYSTANDER: Final = "bob"
PASSWORD: Final = "benchmark"
_LINE: Final = b"a line of sixty-three octets, as mail has them, with its end..\n"
# Whoever the mail belongs to: Dovecot refuses to be root.
_UID: Final = 64_800
_DOVECOT: Final = """
base_dir = {top}/run
state_dir = {top}/state
log_path = {top}/log
protocols = pop3
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
mail_max_userip_connections = 0
mail_location = maildir:{maildir}
service pop3-login {{
  inet_listener pop3 {{
    address = {address}
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={top}/home
}}
"""


class Anybody:
    """One password."""

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The name that was given."""
        if isinstance(credentials, PasswordCredentials) and credentials.password == PASSWORD:
            return credentials.user
        raise AuthenticationFailed


def fill(maildir: Path, messages: int, *, sized: bool) -> None:
    """Messages of about 4 KB, read and unread ones, always the same; `sized`: with S= and W= in their names."""
    make_maildir(maildir)
    chance = random.Random(5)
    for number in range(messages):
        lines = min(int(chance.lognormvariate(4.1, 0.8)) + 1, 2_000)
        content = b"From: a@example.org\nSubject: message %d\n\n" % number + _LINE * lines
        name = f"{1_700_000_000 + number * 37}.M{chance.randrange(10**6):06d}P{1000 + number % 3000}Q{number}.mail"
        if sized:
            name += f",S={len(content)},W={len(content) + content.count(10)}"
        path = maildir / "cur" / f"{name}:2,{'S' if number % 10 else ''}"
        path.write_bytes(content)
        os.utime(path, (1_700_000_000 + number * 37, 1_700_000_000 + number * 37))
    for path in (maildir.parent, maildir, *maildir.iterdir()):
        os.chown(path, _UID, _UID)
    with os.scandir(maildir / "cur") as entries:
        for entry in entries:
            os.chown(entry.path, _UID, _UID)


def deliver(maildir: Path, number: int) -> None:
    """One more message, as a delivery agent leaves it."""
    name = f"{1_800_000_000 + number}.M1P1.mail"
    (maildir / "tmp" / name).write_bytes(b"Subject: one more\n\n" + _LINE * 60)
    os.chown(maildir / "tmp" / name, _UID, _UID)
    os.rename(maildir / "tmp" / name, maildir / "new" / name)


@dataclass(frozen=True)
class Server:
    """One that is being measured."""

    name: str
    port: int
    maildir: Path
    cpu_seconds: Callable[[], float]
    resident: Callable[[], int]
    kept: tuple[str, ...]  # what it keeps beside the mail

    def forget(self) -> None:
        """Delete what it keeps."""
        for pattern in self.kept:
            for path in self.maildir.glob(pattern):
                path.unlink()


def session(server: Server) -> tuple[int, int]:
    """The whole dialogue; count and octets that STAT says."""
    with socket.create_connection((ADDRESS, server.port)) as sock, sock.makefile("rb") as lines:

        def ask(line: str) -> bytes:
            sock.sendall(line.encode() + b"\r\n")
            reply = lines.readline()
            if not reply.startswith(b"+OK"):
                raise ConnectionError(f"{server.name} answers {line.split()[0]} with {reply!r}")
            return reply

        lines.readline()
        ask(f"USER {USER}")
        ask(f"PASS {PASSWORD}")
        count, octets = map(int, ask("STAT").split()[1:3])
        for listing in ("UIDL", "LIST"):
            ask(listing)
            listed = 0
            while lines.readline() != b".\r\n":
                listed += 1
            if listed != count:
                raise AssertionError(f"{server.name}: {listing} has {listed} lines, STAT says {count}")
        ask("QUIT")
        return count, octets


@contextlib.contextmanager
def dovecot(maildir: Path) -> Iterator[Server]:
    """Debian's, with its index files in the Maildir, as it comes."""
    program = installed("/usr/sbin/dovecot")
    installed("/usr/lib/dovecot/pop3")
    with place("login") as where:
        [port] = free_ports(1)
        home = where.top / "home"
        home.mkdir()
        os.chown(home, _UID, _UID)
        configuration = where.write(
            "dovecot.conf",
            _DOVECOT.format(top=where.top, maildir=maildir, port=port, address=ADDRESS, password=PASSWORD, uid=_UID),
        )
        with caged(where, f"exec {program} -F -c {configuration}", [port]):
            mine = psutil.Process()
            master = next(p for p in mine.children(recursive=True) if p.name() == "dovecot")

            def cpu_seconds() -> float:
                # A pop3 process lives for one session; then its time is its parent's.
                total = 0.0
                for process in (master, *master.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        total += sum(process.cpu_times()[:4])
                return total

            yield Server("Dovecot", port, maildir, cpu_seconds, lambda: 0, ("dovecot*",))


async def _run_ours(maildir: Path, report: Callable[[int], object]) -> None:
    backend = MaildirBackend(f"{maildir.parent.parent}/{{user}}/{maildir.name}", Anybody())
    async with trio.open_nursery() as nursery:

        async def start(task_status: trio.TaskStatus[list[Pop3Listener]]) -> None:
            await serve(backend, listen=[f"{ADDRESS}:0"], task_status=task_status)

        listeners = await nursery.start(start)
        report(listeners[0].port)


@contextlib.contextmanager
def ours(maildir: Path) -> Iterator[Server]:
    """This project's, in a process of its own."""
    SERVERS["trio-pop3"] = partial(_run_ours, maildir)
    with running("trio-pop3") as server:
        yield Server("trio-pop3", server.port, maildir, server.cpu_seconds, server.resident, (".trio-pop3.index",))


def timed(server: Server) -> tuple[float, float, tuple[int, int]]:
    """Wall and CPU milliseconds of a session, and what it said."""
    cpu, wall = server.cpu_seconds(), time.perf_counter()
    said = session(server)
    wall = time.perf_counter() - wall
    time.sleep(0.05)  # until a process that has ended is counted
    return wall * 1e3, (server.cpu_seconds() - cpu) * 1e3, said


def compare(servers: list[Server], rounds: int) -> None:
    """Print medians of both and their ratios."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def measure(state: str, server: Server) -> tuple[int, int]:
        wall, cpu, said = timed(server)
        times.setdefault((state, server.name), []).append((wall, cpu))
        return said

    for number in range(rounds):
        for server in servers:
            server.forget()
        agreed = {measure("cold", server) for server in servers}
        time.sleep(2.5)  # a directory that has just changed is looked at again
        for server in servers:
            session(server)
        agreed |= {measure("warm", server) for server in servers}
        agreed |= {measure("warm", server) for server in servers}
        for server in servers:
            deliver(server.maildir, number)
        more = {measure("one more", server) for server in servers}
        if len(agreed) != 1 or len(more) != 1:
            raise AssertionError(f"they do not agree on count and octets: {agreed}, {more}")
    for state in ("cold", "warm", "one more"):
        columns = []
        for part in (0, 1):
            medians = [statistics.median(t[part] for t in times[state, server.name]) for server in servers]
            columns += [*(f"{median:10.0f}" for median in medians), f"{medians[0] / medians[1]:7.2f}"]
        print(f"  {state:<20}" + "".join(columns), flush=True)


def alone(maildir: Path) -> None:
    """Print how much a fresh server grows with its first session, and how long another session waits meanwhile."""
    other = maildir.parent.parent / BYSTANDER / maildir.name
    make_maildir(other)
    for state in ("cold", "warm"):
        with ours(maildir) as server:
            if state == "cold":
                server.forget()
            with Bystander(server) as bystander:
                before = server.resident()
                session(server)
                grown = server.resident() - before
            times = sorted(bystander.times)
            figures = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
            print(
                f"  {state}, in a fresh process: {grown / 1e6:.0f} MB more resident memory; NOOP of another session "
                f"meanwhile, ms: median {figures[0]:.1f}, 99 % {figures[1]:.1f}, worst {figures[2]:.1f} of {len(times)}"
            )


class Bystander:
    """A session of somebody else in a thread, which sends NOOP after NOOP; `times` in ms."""

    def __init__(self, server: Server) -> None:
        self.times: list[float] = []
        self._sock = socket.create_connection((ADDRESS, server.port))
        self._lines = self._sock.makefile("rb")
        self._lines.readline()
        for line in (f"USER {BYSTANDER}", f"PASS {PASSWORD}"):
            self._ask(line)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _ask(self, line: str) -> None:
        self._sock.sendall(line.encode() + b"\r\n")
        if not (reply := self._lines.readline()).startswith(b"+OK"):
            raise ConnectionError(f"{line.split()[0]} was answered with {reply!r}")

    def _run(self) -> None:
        while not self._over.wait(0.001):
            before = time.perf_counter()
            self._ask("NOOP")
            self.times.append((time.perf_counter() - before) * 1e3)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._lines.close()
        self._sock.close()


def main() -> int:
    """Measure and print."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    top = Path(tempfile.mkdtemp(prefix="trio-pop3-login-"))
    top.chmod(0o755)
    try:
        for sized in (False, True):
            first, second = (top / f"{'sized' if sized else 'plain'}-{n}" / USER / "Maildir" for n in (1, 2))
            for maildir in (first, second):
                fill(maildir, messages, sized=sized)
            print(f"{messages} messages, names {'with S= and W=' if sized else 'as they are'}, milliseconds:")
            print(f"  {'':20}{'wall':>10}{'Dovecot':>10}{'ratio':>7}{'CPU':>10}{'Dovecot':>10}{'ratio':>7}")
            with ours(first) as we, dovecot(second) as they:
                compare([we, they], rounds)
            alone(first)
    finally:
        shutil.rmtree(top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
