"""Servers on the same Maildirs, ours beside Debian's Dovecot: started as an operator starts them. Needs root.

Dovecot runs twice: as its manual advises for speed (processes that stay, one login process for all, no flags written),
and as it is without such settings.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import psutil

PASSWORD: Final = "benchmark"
ADDRESS: Final = "127.0.0.1"
# Of nobody. Dovecot serves no mail as root.
_UID: Final = 64801
# The kernel's clock of a process, all of its threads, also those that have ended; nanoseconds.
_CPU_CLOCK: Final = 2

_COMMON: Final = """
base_dir = {top}/run
state_dir = {top}/state
log_path = {top}/log
protocols = pop3
ssl = no
disable_plaintext_auth = no
mail_max_userip_connections = 0
mail_location = maildir:{mail}/%u
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={mail}/%u
}}
service pop3-login {{
  inet_listener pop3 {{
    address = {address}
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""
_FAST: Final = """
service pop3-login {
  service_count = 0
  process_min_avail = 1
}
service pop3 {
  service_count = 0
  process_min_avail = 1
}
protocol pop3 {
  mail_max_userip_connections = 0
  pop3_no_flag_updates = yes
  pop3_fast_size_lookups = yes
}
mail_fsync = never
maildir_very_dirty_syncs = yes
"""
OURS: Final = "trio-pop3"
DOVECOTS: Final = MappingProxyType({"Dovecot, tuned": _FAST, "Dovecot, plain": ""})
NAMES: Final = (OURS, *DOVECOTS)


@dataclass(frozen=True)
class Server:
    """A server that accepts connections. `process` is the first of its processes."""

    name: str
    port: int
    process: psutil.Process

    def tree(self) -> list[psutil.Process]:
        """All of its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Time on a processor of the processes that are there now. A process that comes or goes is not noticed:
        measure while a session lasts."""
        return sum(time.clock_gettime(~process.pid << 3 | _CPU_CLOCK) for process in self.tree())

    def memory(self) -> int:
        """Octets of memory of all processes; pages that several share are counted once (PSS)."""
        rollups = [pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text() for process in self.tree()]
        return sum(int(line.split()[1]) * 1024 for text in rollups for line in text.splitlines() if line[:4] == "Pss:")

    def login(self, user: str, *, receive_buffer: int = 0) -> socket.socket:
        """A session in TRANSACTION. `receive_buffer`: octets that the kernel may hold for a reader that is slow."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect((ADDRESS, self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for line in ("", f"USER {user}\r\n", f"PASS {PASSWORD}\r\n"):
            sock.sendall(line.encode())
            reply = b""
            while not reply.endswith(b"\n"):
                data = sock.recv(4096)
                if not data:
                    raise ConnectionError(f"{self.name} closed the connection")
                reply += data
            if not reply.startswith(b"+OK"):
                raise ConnectionError(f"{self.name}: {reply!r}")
        return sock


@contextlib.contextmanager
def directory() -> Iterator[pathlib.Path]:
    """A place for Maildirs that Dovecot may enter, on the disk of TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="trio-pop3-benchmark-") as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


def make_maildir(path: pathlib.Path) -> None:
    """An empty one."""
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True)


def hand_over(path: pathlib.Path) -> None:
    """Everything below a path is Dovecot's to read and to write; ours runs as root."""
    subprocess.run(["chown", "-R", f"{_UID}:{_UID}", path], check=True)


@contextlib.contextmanager
def serving(name: str, mail: pathlib.Path, work: pathlib.Path) -> Iterator[Server]:
    """A server on the Maildirs `mail`/USER, whose files are in `work`. At the end of the block it is gone."""
    port = _free_port()
    top = pathlib.Path(tempfile.mkdtemp(dir=work))
    os.chmod(top, 0o755)
    command = _ours(top, mail, port) if name == OURS else _dovecot(top, mail, port, DOVECOTS[name])
    with open(top / "output", "wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _wait_for(port, process, top)
        yield Server(name, port, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ours(top: pathlib.Path, mail: pathlib.Path, port: int) -> Sequence[str]:
    users = top / "users"
    users.write_text("".join(f"{path.name}:{{PLAIN}}{PASSWORD}\n" for path in sorted(mail.iterdir())))
    users.chmod(0o600)
    return [
        sys.executable, "-m", "trio_pop3", "serve", "--maildir", f"{mail}/{{user}}", "--passwd-file", str(users),
        "--listen", f"{ADDRESS}:{port}", "--max-connections-per-host", "1000",
    ]  # fmt: skip


def _dovecot(top: pathlib.Path, mail: pathlib.Path, port: int, settings: str) -> Sequence[str]:
    configuration = top / "dovecot.conf"
    common = _COMMON.format(top=top, mail=mail, password=PASSWORD, uid=_UID, address=ADDRESS, port=port)
    configuration.write_text(common + settings)
    return ["/usr/sbin/dovecot", "-F", "-c", str(configuration)]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        return int(sock.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], top: pathlib.Path) -> None:
    for _ in range(200):
        with socket.socket() as sock:
            if not sock.connect_ex((ADDRESS, port)):
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    log = "\n".join(path.read_text() for path in (top / "output", top / "log") if path.exists())
    raise RuntimeError(f"the server does not start:\n{log}")
