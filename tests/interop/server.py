"""The real command on a real Maildir, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

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


class Log:
    """What a server has said, in a file; a test that shares the server looks only at what came after `skip`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size

    def skip(self) -> None:
        """Nothing said so far is of interest any more."""
        self._start = self._path.stat().st_size

    def text(self) -> str:
        """What was said since, in whole lines."""
        with self._path.open("rb") as file:
            file.seek(self._start)
            said = file.read().decode(errors="replace")
        return said[: said.rfind("\n") + 1]

    def until(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """Wait until it has said this so many times."""
        return eventually(
            lambda: [*re.finditer(pattern, self.text(), re.MULTILINE)], lambda found: len(found) >= count, self.text
        )

    def sessions(self, count: int = 1, *, peer: str = r"\S+") -> list[dict[str, str]]:
        """Wait until so many sessions have ended, of clients whose address matches; their summaries, without quotes."""
        lines = self.until(rf"INFO session \w+: (user=\S+ peer={peer} .*)$", count)
        return [{key: a or b or c for key, a, b, c in _FIELD.findall(line[1])} for line in lines]


_FIELD = re.compile(r"""(\w+)=(?:'([^']*)'|"([^"]*)"|(\S+))""")


def eventually(look: Callable[[], T], good: Callable[[T], object], report: Callable[[], object] = str) -> T:
    """Look again and again until it is good, for 20 seconds."""
    patience = time.monotonic() + 20
    while not good(seen := look()):
        assert time.monotonic() < patience, (seen, report())
        time.sleep(0.005)
    return seen


@dataclass(frozen=True)
class Served:
    """A running server. `ports`: what stands behind an address ("", "tls", "proxy", "tls,proxy"), and its port."""

    mail: Mail
    ports: Mapping[str, int]
    process: subprocess.Popen[bytes]
    log: Log

    @property
    def port(self) -> int:
        """Where connections begin in clear."""
        return self.ports[""]

    @property
    def url(self) -> str:
        return f"pop3://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)


_ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)((?:,tls|,proxy)*)")


@contextlib.contextmanager
def serving(mail: Mail, *options: str, listen: str = "127.0.0.1:0") -> Iterator[Served]:
    """Start `trio-pop3 serve`. At the end of the block it must stop cleanly, unless it was killed."""
    command = [sys.executable, "-m", "trio_pop3", "serve", str(mail.path), "--listen", listen, *options]
    path = mail.path.with_suffix(".log")
    with path.open("ab") as output:
        log, everything = Log(path), Log(path)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
            try:
                started = eventually(
                    lambda: re.search("^Serving .* on (.*)\\. Ctrl-C stops", log.text(), re.MULTILINE),
                    lambda said: said is not None or process.poll() is not None,
                    log.text,
                )
                assert started is not None, f"the server did not start: {log.text()}"
                ports = {options.removeprefix(","): int(port) for port, options in _ADDRESS.findall(started[1])}
                yield Served(mail, ports, process, log)
            finally:
                if process.poll() is None:
                    process.terminate()
                    status = process.wait(timeout=40)
                    said = everything.text()
                    assert status == 0, said
                    assert "Traceback" not in said, said


# It ends when getmail waits for it, as far as can be seen from outside: asleep, with a handler for SIGCHLD (signal 17).
_AGENT = """#!/bin/sh
{command}
for wait in $(seq 500); do
    grep -q '^SigCgt:.*[13579bdf]....$' /proc/$PPID/status && grep -q '^State:.S' /proc/$PPID/status && exit 0
    sleep 0.01
done
exit 75
"""


def getmail_agent(path: Path, command: str) -> None:
    """Make a delivery agent for getmail of a shell command."""
    path.write_text(_AGENT.format(command=command))
    path.chmod(0o700)


_PACKAGES = "curl fetchmail mpop getmail6 openssl haproxy dovecot-core dovecot-pop3d"


def program(name: str) -> str:
    """The path of a real program. Missing, it fails the test: a skipped proof is none."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    assert path is not None, f"{name} is missing: apt-get install {_PACKAGES}"
    return path


def own_address() -> str:
    """A loopback address for one test: whatever port it needs there, nobody else has it."""
    return "127.{}.{}.{}".format(*(secrets.randbelow(253) + 1 for _ in range(3)))
