"""The command, called as a function."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from trio_pop3.cli import main


@dataclass
class Outcome:
    """What a person sees: the exit status and the two streams."""

    status: int
    out: str
    err: str


class Command:
    """Runs `trio-pop3 ARGUMENTS`, with something on standard input."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Outcome:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        self._capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's own
            status = int(stop.code or 0)
        captured = self._capsys.readouterr()
        outcome = Outcome(status, captured.out, captured.err)
        if status:
            assert outcome.err.startswith("trio-pop3: ")
            assert outcome.err.count("\n") == 1, outcome.err  # one sentence
        assert "Traceback" not in outcome.err
        return outcome
