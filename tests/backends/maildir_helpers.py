"""A Maildir to do things to behind the store's back, and the store run in place instead of in threads."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from trio_pop3.backend import AuthenticationFailed, ClientInfo, Credentials, PasswordCredentials
from trio_pop3.backends.maildir import MaildirBackend, make_maildir

from ..driving import Dialogue


async def inline(work: Callable[..., Any], *args: Any) -> Any:
    """Blocking work done right here: no threads, no suspension."""
    return work(*args)


class Users:
    """One password for everybody."""

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        if isinstance(credentials, PasswordCredentials) and credentials.password == "secret":
            return credentials.user
        raise AuthenticationFailed


class Box:
    """The Maildir of alice below a directory of Maildirs."""

    def __init__(self, root: Path, user: str = "alice") -> None:
        self.root = root
        self.path = root / user
        make_maildir(self.path)

    @property
    def octets_path(self) -> bytes:
        return os.fsencode(self.path)

    def backend(self, **options: Any) -> MaildirBackend:
        return MaildirBackend(f"{self.root}/{{user}}", Users(), **{"run_sync": inline, **options})

    def login(self) -> Dialogue:
        """A session of alice, logged in."""
        dialogue = Dialogue(self.backend())
        assert dialogue.login().startswith(b"+OK")
        return dialogue

    def put(self, name: str | bytes, content: bytes = b"mail\n", part: str = "new") -> None:
        """A file, as some delivery agent or mail client left it."""
        with open(os.path.join(self.octets_path, part.encode(), os.fsencode(name)), "wb") as file:
            file.write(content)

    def move(self, old: str, new: str) -> None:
        """Rename below the Maildir, as IMAP servers do."""
        os.rename(self.path / old, self.path / new)

    def names(self) -> list[bytes]:
        """Every file name in new/ and cur/."""
        return sorted(name for part in (b"/new", b"/cur") for name in os.listdir(self.octets_path + part))

    def held(self) -> dict[str, bytes]:
        """Base name -> content of every message that is there now."""
        files = [*(self.path / "new").iterdir(), *(self.path / "cur").iterdir()]
        return {path.name.partition(":")[0]: path.read_bytes() for path in files}


def lines(reply: bytes) -> list[bytes]:
    """The lines of a multi-line reply that went well, status and terminator left out."""
    assert reply.startswith(b"+OK")
    assert reply.endswith(b"\r\n.\r\n")
    return reply.split(b"\r\n")[1:-2]


def uids(dialogue: Dialogue) -> list[str]:
    """What UIDL says, in order."""
    return [line.split()[1].decode() for line in lines(dialogue.ask("UIDL"))]


def body(reply: bytes) -> bytes:
    """What a client gets out of RETR: terminator off, dots out."""
    assert reply.startswith(b"+OK")
    wire = reply[reply.index(b"\r\n") + 2 :]
    assert wire.endswith(b".\r\n")
    return (b"\r\n" + wire[:-3]).replace(b"\r\n.", b"\r\n")[2:]


def open_files() -> set[str]:
    """The descriptors of this process that are open on files."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found


def chowned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """As if we were root: name, user and group of whatever is given to somebody from now on."""
    given: list[tuple[str, int, int]] = []

    def fchown(fd: int, user: int, group: int) -> None:
        given.append((os.path.basename(os.readlink(f"/proc/self/fd/{fd}")), user, group))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fchown)
    return given


# What may stand where a file of ours should be.
KINDS: Final = ("directory", "FIFO", "symlink", "socket")


def spoil(path: Path, kind: str) -> None:
    """Put something else in the place of a file of ours."""
    match kind:
        case "directory":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "symlink":
            path.symlink_to("/etc/passwd")
        case _:
            os.mknod(path, stat.S_IFSOCK | 0o600)


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.backends.maildir_helpers import Box
box = Box(Path(sys.argv[1]))
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def child(root: Path, script: str) -> subprocess.Popen[str]:
    """A process of its own with `box` and `die` at hand; kill it or let it kill itself."""
    code = CHILD + script
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
