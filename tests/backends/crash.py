"""Kills a process at any one of its system calls, or makes that one fail: what strace can do with `-e inject`.

A zygote imports everything once and forks for each try. The fork waits in a pipe until strace has it, then does one
thing and ends. strace counts what it does from there on; the n-th call is where the process dies before the kernel
has done it, or where the kernel says ENOSPC or EIO instead of doing it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

# What a fork does when it is let go: a line of Python, with `box` at hand. The pipe is a call of its own: the first.
_ZYGOTE: Final = """
import gc, os, sys
from tests.backends.crash_scenarios import *
gc.disable()
for line in sys.stdin:
    root, scenario = line.split()
    go, let = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(let)
        run = SCENARIOS[scenario]
        prepared = Prepared(root)
        os.read(go, 1)
        status = 70
        try:
            status = run(prepared)
        finally:
            os._exit(status)
    os.close(go)
    print(pid, flush=True)
    sys.stdin.readline()
    os.write(let, b"x")
    os.close(let)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
_ATTACHED: Final = re.compile(r"attached")
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
        # It says that it is attached, and not with -q.
        words.remove("-q")
        strace = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            assert _ATTACHED.search(said), said + strace.stderr.read()
            self._say("go")
            status = int(self._line())
            strace.wait(_SECONDS)
        finally:
            strace.kill()
            strace.communicate()
        calls = re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)
        log.unlink()
        return Outcome(None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status), calls)

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
