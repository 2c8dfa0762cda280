"""What `trio-pop3 check` leaves behind and starts: its results, a command that resets, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import IO, Any, Final

from ..testing.checks.base import printable
from .failure import Failure, reason

_RESET_SECONDS: Final = 60
# Of what a command that fails has said, from the end.
_MOST_OCTETS: Final = 4096


class Results:
    """Files for results, None for one that nobody wants.

    They are created at once: better to hear now that one cannot be. What was in them is gone. Raises Failure.
    """

    def __init__(self, paths: Sequence[str | None]) -> None:
        self._files: list[IO[bytes] | None] = []
        for path in paths:
            try:
                self._files.append(None if path is None else open(path, "wb"))  # noqa: SIM115
            except OSError as failure:
                self.__exit__()
                raise Failure(f"{path}: {reason(failure)}", 2) from None

    def write(self, *contents: bytes) -> None:
        """All of them; the first failure is raised when every one was tried."""
        failures = []
        for file, content in zip(self._files, contents, strict=True):
            if file is None:
                continue
            try:
                file.write(content)
                file.close()
            except OSError as failure:
                failures.append(Failure(f"{file.name}: {reason(failure)}", 2))
        if failures:
            raise failures[0]

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *raised: object) -> None:
        for file in self._files:
            if file is not None:
                with contextlib.suppress(OSError):  # was said when it was written
                    file.close()


def shell_reset(command: str) -> Callable[[], None]:
    """Runs a shell command. Raises Failure if it fails, or is not done after a minute; then it is ended, with all that
    it has started. What it leaves running in the background when it is done stays: it may be the server."""

    def reset() -> None:
        # Files, and no pipes: who is left in the background would keep those open.
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            shell = subprocess.Popen(  # noqa: S603 (a shell command is what was asked for)
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL, stdout=said, stderr=complained, start_new_session=True,
            )  # fmt: skip
            try:
                status = shell.wait(_RESET_SECONDS)
            except subprocess.TimeoutExpired:
                raise Failure(f"--reset was not done after {_RESET_SECONDS} seconds", 2) from None
            finally:
                if shell.returncode is None:
                    os.killpg(shell.pid, signal.SIGKILL)
                    shell.wait()
            if status:
                words = _last_line(complained) or _last_line(said) or "it said nothing"
                raise Failure(f"--reset failed with status {status}: {words}", 2)

    return reset


def _last_line(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MOST_OCTETS))
    text = file.read().decode(errors="replace").strip()
    return printable(text.rpartition("\n")[2])


@contextlib.contextmanager
def hypothesis_elsewhere() -> Iterator[None]:
    """Nothing of Hypothesis' own is left in the folder that somebody happens to be in."""
    if find_spec("hypothesis") is None:
        yield
        return
    configuration: Any = import_module("hypothesis.configuration")
    with tempfile.TemporaryDirectory(prefix="trio-pop3-check-") as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(None)
