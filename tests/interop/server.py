"""The real command on a real Maildir, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

USER, PASSWORD = "alice", "wonderland"
HEADERS = b"From: bob@example.org\nTo: alice@example.org\nSubject: %s\nMessage-ID: <%s@example.org>\n\n"


def message(name: str, body: bytes) -> bytes:
    """A message with a header, so that every client takes it for mail."""
    return HEADERS % (name.encode(), name.encode()) + body


# What stores really hold, and what breaks clients and servers.
AWKWARD = {
    "plain": message("plain", b"one\ntwo\n"),
    "dots": message("dots", b".\n..\n...\n.a\n\n.\n"),
    "crlf": message("crlf", b"one\ntwo\n").replace(b"\n", b"\r\n"),
    "mixed": message("mixed", b"lf\ncrlf\r\ncr\rcrcrlf\r\r\n"),
    "bare": message("bare", b"x\r.\ry\n.\r.\n"),
    "nul": message("nul", b"before\0after\n\0\0\n"),
    "eight": message("eight", bytes(range(128, 256)) + b"\n"),
    "unterminated": message("unterminated", b"no line end"),
    "endscr": message("endscr", b"ends in CR\r"),
    "headers": message("headers", b""),
    "bodyless": b"Subject: no blank line\n",
}


@dataclass
class Mail:
    """A directory as `trio-pop3 serve` takes it, with one user."""

    path: Path
    delivered: int = field(default=0)

    def __post_init__(self) -> None:
        for part in ("cur", "new", "tmp"):
            (self.maildir / part).mkdir(parents=True)
        users = self.path / "users"
        users.write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        users.chmod(0o600)

    @property
    def maildir(self) -> Path:
        return self.path / "mail" / USER

    def put(self, content: bytes, *, flags: str | None = None) -> str:
        """Deliver as a delivery agent would; with flags, as a mail client left it in cur/. Returns the base name."""
        self.delivered += 1
        base = f"17000000{self.delivered:02d}.M{self.delivered}P1.host"
        where = self.maildir / "new" / base if flags is None else self.maildir / "cur" / f"{base}:2,{flags}"
        where.write_bytes(content)
        return base

    def held(self) -> dict[str, bytes]:
        """Base name -> content of every message that is there now."""
        files = [*(self.maildir / "new").iterdir(), *(self.maildir / "cur").iterdir()]
        return {path.name.partition(":")[0]: path.read_bytes() for path in files}


@dataclass(frozen=True)
class Served:
    """A running server."""

    mail: Mail
    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"pop3://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)


@contextlib.contextmanager
def serving(mail: Mail, *options: str) -> Iterator[Served]:
    """Start `trio-pop3 serve`. At the end of the block it must stop cleanly, unless it was killed."""
    command = [sys.executable, "-m", "trio_pop3", "serve", str(mail.path), "--listen", "127.0.0.1:0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            seen = ""
            while not (match := re.search(r"127\.0\.0\.1:(\d+)", seen)):
                line = process.stdout.readline()
                assert line, f"the server did not start: {seen}"
                seen += line
            yield Served(mail, int(match[1]), process)
        finally:
            if process.poll() is None:
                process.terminate()
                rest, _ = process.communicate(timeout=40)
                assert process.returncode == 0, rest
                assert "Traceback" not in rest, rest


def program(name: str) -> str:
    """The path of a real program. Missing, it fails the test: a skipped proof is none."""
    path = shutil.which(name)
    assert path is not None, f"{name} is missing: apt-get install curl fetchmail mpop getmail6"
    return path
