"""`trio-pop3 serve --mbox` and its options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from trio_pop3.backends.mbox import store
from trio_pop3.cli import mail, main
from trio_pop3.cli.failure import Failure

from ..backends.maildir_helpers import Users


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    mail.add_to(parser)
    return parser.parse_args(["--mbox", "/var/mail/{user}", *words])


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `MboxOptions`, but for the two that are for Python; and their defaults are those of the store."""
    seen: list[dict[str, Any]] = []
    real = store.MboxStore.__init__

    def spy(self: store.MboxStore, pattern: str, **options: Any) -> None:
        seen.append(options)
        real(self, pattern, **options)

    monkeypatch.setattr(store.MboxStore, "__init__", spy)
    words = ["--mbox-locks", "fcntl,flock", "--mbox-lock-timeout", "3", "--mbox-stale-lock", "4", "--mbox-state", "/s",
             "--mbox-must-exist", "--mbox-content-length", "--mbox-unquote", "--mbox-x-uidl"]  # fmt: skip
    mail.backend(parsed(*words), "/var/mail/{user}", Users())
    mail.backend(parsed(), "/var/mail/{user}", Users())
    expected = {"locks": ["fcntl", "flock"], "lock_timeout": 3.0, "stale_lock": 4.0, "state": "/s", "must_exist": True,
                "content_length": True, "unquote": True, "x_uidl": True}  # fmt: skip
    assert seen[0] == expected
    assert set(expected) == set(store.MboxOptions.__annotations__) - {"limiter", "run_sync"}
    assert real.__kwdefaults__ is not None
    defaults = {name: value for name, value in real.__kwdefaults__.items() if name in expected}
    assert {**seen[1], "locks": tuple(seen[1]["locks"])} == defaults


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mbox-locks", "x"], "--mbox-locks are one or more of dotlock, fcntl, flock, not x"),
        (["--mbox-lock-timeout", "-1"], "--mbox-lock-timeout is a number of seconds"),
        (["--mbox-stale-lock", "0"], "--mbox-stale-lock is a number of seconds"),
    ],
)
def test_values_that_make_no_sense(words: list[str], said: str) -> None:
    with pytest.raises(Failure, match=said) as caught:
        mail.backend(parsed(*words), "/var/mail/{user}", Users())
    assert caught.value.status == 2


@pytest.mark.parametrize(
    "words", [["--deletion", "trash"], ["--lock-wait", "3"], ["--journal", "x"], ["--newest-days", "3"]]
)
def test_options_of_maildirs_are_refused(words: list[str]) -> None:
    """An option that does nothing is not taken; and the other way round."""
    with pytest.raises(Failure, match=f"{words[0]} is not for mbox files") as caught:
        mail.backend(parsed(*words), "/var/mail/{user}", Users())
    assert caught.value.status == 2
    arguments = parsed("--mbox-unquote")
    arguments.mbox, arguments.maildir = None, "/{user}"
    with pytest.raises(Failure, match="--mbox-unquote is not for Maildirs"):
        mail.backend(arguments, "/{user}", Users())


def test_lmtp_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--mbox", "/{user}", "--passwd-file", "x", "--lmtp", "unix:x"]) == 2
    assert "not into --mbox files" in capsys.readouterr().err


def test_one_kind_of_mail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([str(tmp_path), "--mbox", "/{user}"], ["--maildir", "/{user}", "--mbox", "/{user}"]):
        assert main(["serve", *words]) == 2
        assert "only one of DIR, --maildir and --mbox" in capsys.readouterr().err
