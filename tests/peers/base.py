"""What the four servers have in common: their users and mail, and a cage that goes with us.

A server runs in mount and process namespaces of its own. There /etc/passwd, /var/mail and the like are files of ours:
nothing of the machine is changed, and nothing has to be put back. All its processes end with the first of them, which
the kernel kills when we are gone, however we went. Several may run beside each other. It takes root.
"""

from __future__ import annotations

import contextlib
import os
import poplib
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..interop.certificates import HOST, Authority, Pair
from ..interop.server import eventually

ADDRESS: Final = "127.0.0.1"
_DELIVERED: Final = 1_704_067_200  # 2024-01-01 00:00:00 UTC
# mailutils writes to the mbox when it notices that a client is gone, and then removes its lock. With -a an index is not
# younger than what it is about.
_RESET: Final = """
for wait in $(seq 200); do
    set -- {top}/mail/*.lock
    if ! [ -e "$1" ]; then
        rm -rf {top}/mail/*
        exec cp -a {top}/initial/. {top}/mail
    fi
    sleep 0.01
done
echo "a session is still open: $1" >&2
exit 1
"""
# The first process of the cage is a shell and no server: who changes user or group no longer ends with a parent.
_SUPERVISED: Final = 'sh -euc "$1" &\nwait "$!"'
# Where tests/peers/install unpacks what dpkg does not let stand beside Dovecot.
UNPACKED: Final = Path("/opt/pop3-peers")
_ENVIRONMENT: Final = MappingProxyType({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user; inside the cage one of the system. `crypted` is what `openssl passwd -6` makes of the password."""

    name: str
    password: str
    crypted: str
    uid: int


FIRST: Final = Account(
    name="pop3check1",
    password="one-wonderland",
    crypted="$6$trio.pop3.1$jH3Z7pMJxSW1zj/7H3w9JwRu1fIWagpu6lHWZrQ6ISjeHtBgfd2K9s0s7f8OYMXUXkETavqgcXzPze7WrHN7y/",
    uid=64801,
)
SECOND: Final = Account(
    name="pop3check2",
    password="two-wonderland",
    crypted="$6$trio.pop3.2$GRRVX4GiEcluNvcEb1ePQqmiTWRzwhMRSBRtm2y8K48mkfZA5DpuOuyHT2eowVqUm5bhtyeqM6W39sFWgNuDX0",
    uid=64802,
)
ACCOUNTS: Final = (FIRST, SECOND)


def _message(name: str, body: bytes) -> bytes:
    """With the header fields from which servers make unique-ids."""
    return (
        b"From: Bob <bob@example.org>\nTo: pop3check1@example.org\nSubject: %s\n"
        b"Date: Mon, 01 Jan 2024 00:00:00 +0000\nMessage-ID: <%s@example.org>\n\n" % (name.encode(), name.encode())
    ) + body


# As a delivery agent leaves it, with LF. What no mbox can hold without changing it (lines that begin with `From `) is
# missing; so is what only some servers send unchanged (NUL, bare CR).
DEFAULT_MAIL: Final[Sequence[bytes]] = (
    _message("plain", b"one\ntwo\n"),
    _message("dots", b".\n..\n...\n.a\n\n.\n"),
    _message("long", b"a line of 990 octets " + b"x" * 969 + b"\n." + b"y" * 5000 + b"\n"),
    _message("eight", bytes(range(0xA0, 0x100)) + b"\n"),
    _message("empty", b""),
    _message("unterminated", b"no line end"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server that runs. `tls_port` is for TLS from the first octet; `ca` is the file of who signed its certificate.

    `reset_command` is for a shell: it puts the mail of both users back to what it was, in a few milliseconds. Sessions
    have to be over; it fails if it sees, after two seconds, that one is not.
    """

    name: str
    host: str = ADDRESS
    port: int
    user: str = FIRST.name
    password: str = FIRST.password
    second_user: str = SECOND.name
    second_password: str = SECOND.password
    tls_port: int | None = None
    stls: bool
    ca: Path | None = None
    version: str
    reset_command: str
    maildir: Path | None = None  # of the first user, for servers that keep one; gone when the server is


def reset(peer: Peer) -> None:
    """Run its `reset_command`."""
    subprocess.run(peer.reset_command, shell=True, check=True, stdin=subprocess.DEVNULL)


def free_ports(count: int) -> list[int]:
    """Different ones on which nobody listens now, below those that the kernel gives to who asks for any."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port = 20_000 + secrets.randbelow(12_000)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind((ADDRESS, port))
                found.append(port)
        return found


def installed(path: str | Path) -> Path:
    """The path of a server's program. Missing, it fails the test: a skipped proof is none."""
    assert os.access(path, os.X_OK), f"{path} is missing: run tests/peers/install as root (Debian)"
    return Path(path)


def version(*command: str | Path) -> str:
    """The first thing in a program's output that looks like a version."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    assert found is not None, done
    return found[0]


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one server. `mail` holds what each user has, in a file or folder of that name."""

    top: Path

    @property
    def mail(self) -> Path:
        return self.top / "mail"

    @property
    def initial(self) -> Path:
        return self.top / "initial"

    @property
    def log(self) -> Path:
        return self.top / "log"

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file, whose folders are made as needed."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def keep(self) -> str:
        """Remember the mail as it is now; the command that brings it back."""
        subprocess.run(["cp", "-a", self.mail, self.initial], check=True)
        return f"sh {self.write('reset', _RESET.format(top=self.top))}"

    def certificate(self) -> tuple[Pair, Path]:
        """For `127.0.0.1`, and the file of who signed it."""
        folder = self.top / "tls"
        folder.mkdir()
        authority = Authority(folder)
        return authority.issue(HOST, ADDRESS, common_name=HOST), authority.path

    def accounts(self, service: str, *others: str) -> Mapping[str, Path]:
        """System files that know our users, for `caged`; PAM does not delay a refusal. `others` are users without a
        password, whose names are in no system file yet."""
        nobodies = [(name, 64810 + number, "/nonexistent") for number, name in enumerate(others)]
        people = [(account.name, account.uid, os.fspath(self.mail / account.name)) for account in ACCOUNTS]
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        for name, uid, home in (*nobodies, *people):
            passwd += f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n"
            group += f"{name}:x:{uid}:\n"
        self.write(f"pam.d/{service}", "auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
        shadow = "".join(f"{account.name}:{account.crypted}:19723::::::\n" for account in ACCOUNTS)
        return {
            "/etc/passwd": self.write("passwd", passwd),
            "/etc/group": self.write("group", group),
            "/etc/shadow": self.write("shadow", shadow, 0o600),
            "/etc/pam.d": self.top / "pam.d",
        }

    def fill_mboxes(self, mail: Sequence[bytes]) -> None:
        """A file for each user, as in /var/mail."""
        self.mail.mkdir()
        shutil.chown(self.mail, group="mail")
        self.mail.chmod(0o2775)
        for content in mail:
            if content.startswith(b"From ") or b"\nFrom " in content:
                raise ValueError("no mbox can hold a line that begins with 'From ' unchanged")
        # The blank line belongs to the mbox, not to the message.
        ends = (b"\n" if content.endswith(b"\n") else b"\n\n" for content in mail)
        whole = b"".join(
            b"From bob@example.org Mon Jan  1 00:00:00 2024\n" + content + end
            for content, end in zip(mail, ends, strict=True)
        )
        for account in ACCOUNTS:
            path = self.mail / account.name
            path.write_bytes(whole)
            path.chmod(0o600)
            os.chown(path, account.uid, account.uid)
            # popa3d waits until what was written within this second can no longer change unseen.
            os.utime(path, (_DELIVERED, _DELIVERED))

    def fill_maildirs(self, mail: Sequence[bytes] | Path) -> None:
        """A home with a Maildir for each user: with this mail, or a copy of one that is there already."""
        for account in ACCOUNTS:
            home = self.mail / account.name
            if isinstance(mail, Path):
                home.mkdir(parents=True)
                subprocess.run(["cp", "-a", mail, home / "Maildir"], check=True)
            else:
                for part in ("cur", "new", "tmp"):
                    (home / "Maildir" / part).mkdir(parents=True)
                for number, content in enumerate(mail, 1):
                    (home / "Maildir" / "new" / f"{_DELIVERED + number}.M{number}P1.host").write_bytes(content)
            for path in (home, *home.rglob("*")):
                os.chown(path, account.uid, account.uid)


@contextlib.contextmanager
def place(name: str) -> Iterator[Place]:
    """A folder that others may enter, for a server whose processes are not all root's; removed at the end."""
    # Not below TMPDIR, which may be closed to others, and too long for the name of a socket; in memory, to be quick.
    with tempfile.TemporaryDirectory(prefix=f"trio-pop3-peer-{name}-", dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        yield Place(Path(folder))


@contextlib.contextmanager
def caged(
    where: Place, script: str, ports: Sequence[int], covers: Mapping[str, Path] = MappingProxyType({})
) -> Iterator[None]:
    """Run a shell script, which goes on as long as a server does, until the end of the block.

    The block begins when each port accepts connections, and at its end no process is left. `covers`: path in the system
    -> ours, which the server sees in its place. Raises AssertionError, with what was said, if it does not start.
    """
    assert os.geteuid() == 0, "these servers need root: for users of their own, and for namespaces (CAP_SYS_ADMIN)"
    mounts = "".join(f"mount --bind {shlex.quote(os.fspath(ours))} {theirs}\n" for theirs, ours in covers.items())
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    with where.log.open("wb") as log:
        process = subprocess.Popen(
            [*command, "sh", "-euc", mounts + _SUPERVISED, "sh", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=where.top, env=_ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(
            lambda: process.poll() is not None or all(map(_accepts, ports)),
            bool,
            lambda: where.log.read_text(errors="replace"),
        )
        assert process.poll() is None, where.log.read_text(errors="replace")
        yield
    finally:
        _end(process)


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((ADDRESS, port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the first process of the namespace, with which all others go; `unshare` returns when they are gone."""
    if process.poll() is None:
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in first or [str(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        process.wait(timeout=20)


def visit(port: int) -> None:
    """Each user logs in once and asks for unique-ids: a server that writes them down has done so."""
    for account in ACCOUNTS:
        pop = poplib.POP3(ADDRESS, port, timeout=20)
        pop.user(account.name)
        pop.pass_(account.password)
        pop.uidl()
        pop.quit()
