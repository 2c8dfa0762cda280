"""Kills a process at any one of its system calls, or makes that one fail: what strace can do with `-e inject`.

A zygote imports everything once and forks for each try. The fork makes a call that nothing else makes, whenever it is
told to, until strace is seen to see it; then it does one thing and ends. strace counts what it does from there on; the
n-th call of a name is where the process dies before the kernel has done it, or where the kernel says ENOSPC or EIO
instead of doing it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

# The fork is told by a socket, since what it receives there must not be counted among what is read.
_ZYGOTE: Final = r"""
import gc, os, socket, sys
from tests.backends.crash_scenarios import *
gc.disable()
for line in sys.stdin:
    root, _, scenario = line.strip().partition(" ")
    told, tell = socket.socketpair()
    pid = os.fork()
    if not pid:
        run = SCENARIOS[scenario]
        prepared = Prepared(root)
        told.send(b"!")
        while told.recv(1) == b"?":
            os.getppid()
        status = 70
        try:
            status = run(prepared)
        finally:
            os._exit(status)
    tell.recv(1)
    print(pid, flush=True)
    while sys.stdin.readline() == "?\n":
        tell.send(b"?")
    tell.send(b"!")
    print(os.waitpid(pid, 0)[1], flush=True)
    told.close()
    tell.close()
"""
_SEEN: Final = "getppid()"
_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the process, and its calls in order, `openat` and so on."""

    status: int | None  # None: it was killed
    calls: list[str]


class Zygote:
    """A process that forks for each try."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, root: Path, scenario: str, *, inject: str = "") -> Outcome:
        """Let a fork do its one thing. `inject`: as strace has it, such as `unlink:error=EIO:when=2`."""
        assert self._process.stdin is not None
        self._say(f"{root} {scenario}")
        pid = self._line()
        log = root.with_suffix(".strace")
        words = ["strace", "-f", "-q", "-e", "signal=none", "-o", str(log), "-p", pid]
        if inject:
            words[1:1] = ["-e", f"inject={inject}"]
        strace = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            self._wait_for(strace, log)
            self._say("!")
            status = int(self._line())
            strace.wait(_SECONDS)
        finally:
            strace.kill()
            strace.communicate()
        # Without what tells the fork to go on.
        calls = re.findall(r"^\d+ +(?!recvfrom)(\w+)\(", log.read_text().rpartition(_SEEN)[2], re.MULTILINE)
        log.unlink()
        return Outcome(None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status), calls)

    def _wait_for(self, strace: subprocess.Popen[str], log: Path) -> None:
        """It may say that it is attached before it is."""
        end = time.monotonic() + _SECONDS
        while not (log.exists() and _SEEN in log.read_text()):
            assert strace.poll() is None, f"strace has ended: {strace.communicate()[1]} {log.read_text()}"
            assert time.monotonic() < end, "strace sees nothing"
            self._say("?")
            time.sleep(0.005)

    def _say(self, line: str) -> None:
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        stdin.write(line + "\n")
        stdin.flush()

    def _line(self) -> str:
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, "the zygote has ended"
        return line.strip()


@contextmanager
def zygote() -> Iterator[Zygote]:
    """One for many tries. Raises AssertionError if strace is missing."""
    assert shutil.which("strace"), "strace is missing: apt-get install strace"
    process = subprocess.Popen(
        [sys.executable, "-c", _ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Zygote(process)
    finally:
        with suppress(OSError):
            process.communicate(timeout=_SECONDS)
        process.kill()
