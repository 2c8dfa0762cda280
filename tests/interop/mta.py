"""Debian's Postfix and Exim, instances of our own: their own configuration, queue, port and log."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trio_pop3

from .server import Log, eventually, program

PREFIX = Path("/opt/mta")
_LIBRARIES = PREFIX / "usr/lib/postfix"
# What `trio-pop3 deliver` imports, from wherever the tests' interpreter has it.
_PACKAGES = ("attr", "attrs", "idna", "outcome", "sniffio", "sortedcontainers", "trio")


def unpacked(path: str) -> Path:
    """A program of a mail system. Missing, it fails the test: a skipped proof is none."""
    found = PREFIX / path
    assert found.exists(), f"{found} is missing: run tests/mta/install"
    return found


@contextlib.contextmanager
def world() -> Iterator[Path]:
    """A folder that the users of mail systems can get into, with a `trio-pop3` in it that they can run."""
    root = Path(tempfile.mkdtemp(prefix="trio-pop3-mta-"))
    try:
        root.chmod(0o755)
        package = Path(trio_pop3.__file__).parent
        shutil.copytree(package, root / "lib" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _PACKAGES:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            shutil.copytree(Path(spec.origin).parent, root / "lib" / name)
        command = root / "trio-pop3"
        command.write_text(f'#!/bin/sh\nPYTHONPATH={root}/lib exec /usr/bin/python3 -m trio_pop3 "$@"\n')
        command.chmod(0o755)
        yield root
    finally:
        shutil.rmtree(root)


def give(path: Path, user: str) -> None:
    """Everything below a path to a user."""
    for each in (path, *path.rglob("*")):
        shutil.chown(each, user, user)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class MailSystem:
    """A running one."""

    port: int
    log: Log

    def send(self, message: bytes, *recipients: str, sender: str = "bob@example.net") -> None:
        """By SMTP, as anybody would."""
        words = ["--server", "127.0.0.1", "--port", str(self.port), "--from", sender, "--to", ",".join(recipients)]
        swaks(*words, message=message)

    def outcomes(self, count: int, pattern: str) -> list[tuple[str, ...]]:
        """What became of deliveries, once the log has so many."""
        return [match.groups() for match in self.log.until(pattern, count)]


def swaks(*words: str, message: bytes) -> str:
    """Raises AssertionError if the other side says no."""
    # swaks ends the message itself.
    done = subprocess.run(
        [program("swaks"), *words, "--helo", "client.example.net", "--data", "-"],
        input=message.removesuffix(b"\n"), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.decode(errors="replace")


_MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
daemon_directory = {sbin}
command_directory = {prefix}/usr/sbin
shlib_directory = {libraries}
meta_directory = {home}/etc
mail_owner = postfix
setgid_group = postdrop
import_environment = MAIL_CONFIG LD_LIBRARY_PATH={libraries}
maillog_file = {home}/log/mail.log
maillog_file_prefixes = {home}
myhostname = mail.example.org
mydestination = local.example.org
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
biff = no
default_transport = discard:
default_database_type = texthash
"""
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
discard unix - - n - - discard
retry unix - - n - - error
local unix - n n - - local
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


@contextlib.contextmanager
def postfix(home: Path, main: str, master: str = "") -> Iterator[MailSystem]:
    """A Postfix with these lines behind ours, stopped at the end of the block."""
    sbin, port = unpacked("usr/lib/postfix/sbin/master").parent, free_port()
    for folder in ("etc", "queue", "data", "log"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    shutil.chown(home / "data", "postfix")
    names = {"home": home, "sbin": sbin, "prefix": PREFIX, "libraries": _LIBRARIES, "port": port}
    (home / "etc" / "main.cf").write_text(_MAIN.format(**names) + main)
    (home / "etc" / "master.cf").write_text(_MASTER.format(**names) + master)
    _make_queue(home / "queue")
    environment = {"MAIL_CONFIG": str(home / "etc"), "LD_LIBRARY_PATH": str(_LIBRARIES), "PATH": os.defpath}
    yield from _running([str(sbin / "master"), "-c", str(home / "etc"), "-s"], environment, home / "log", port)


_QUEUE = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"
)  # fmt: skip


def _make_queue(queue: Path) -> None:
    """As Postfix's own post-install makes it."""
    for name in [
        "active",
        "bounce",
        "corrupt",
        "defer",
        "deferred",
        "flush",
        "hold",
        "incoming",
        "private",
        "saved",
        "trace",
    ]:
        (queue / name).mkdir(mode=0o700)
        shutil.chown(queue / name, "postfix")
    (queue / "pid").mkdir(mode=0o755)
    for name, mode in (("maildrop", 0o730), ("public", 0o710)):
        (queue / name).mkdir()
        shutil.chown(queue / name, "postfix", "postdrop")
        (queue / name).chmod(mode)


_EXIM = """
primary_hostname = mail.example.org
exim_path = {binary}
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/exim.pid
exim_user = Debian-exim
exim_group = Debian-exim
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
domainlist local_domains = example.org
acl_smtp_rcpt = accept
host_lookup =
rfc1413_hosts =
never_users =
keep_environment =
delay_warning =
bounce_return_message = false
begin acl
accept:
  accept
begin routers
{router}
begin transports
{transport}
begin retry
* * F,1h,15m
"""


@contextlib.contextmanager
def exim(home: Path, router: str, transport: str) -> Iterator[MailSystem]:
    """An Exim with this router and this transport, stopped at the end of the block."""
    binary, port = unpacked("usr/sbin/exim4"), free_port()
    for folder in ("spool", "log"):
        (home / folder).mkdir(parents=True, exist_ok=True)
        shutil.chown(home / folder, "Debian-exim", "Debian-exim")
    configuration = home / "exim.conf"
    configuration.write_text(_EXIM.format(home=home, binary=binary, port=port, router=router, transport=transport))
    yield from _running([str(binary), "-C", str(configuration), "-bdf", "-q1m"], dict(os.environ), home / "log", port)


def _running(command: list[str], environment: dict[str, str], logs: Path, port: int) -> Iterator[MailSystem]:
    names = [logs / "mail.log", logs / "mainlog"]
    with (
        (logs / "output").open("wb") as output,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        try:
            eventually(lambda: answers(port), bool, lambda: _said(logs))
            log = eventually(lambda: [name for name in names if name.exists()], bool, lambda: _said(logs))[0]
            yield MailSystem(port, Log(log))
        finally:
            process.terminate()
            process.wait(timeout=20)
            print(_said(logs))  # pytest shows it if the test fails


def _said(logs: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in logs.iterdir())


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
        return connection.recv(3) == b"220"
    time.sleep(0.05)
    return False
