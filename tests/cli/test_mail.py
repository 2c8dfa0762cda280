"""Options of `serve` that say what becomes of mail."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_pop3.backends.maildir.store import MaildirOptions
from trio_pop3.backends.maildir.uidlist_lock import UIDLIST_LOCK_NAME
from trio_pop3.cli import mail
from trio_pop3.cli.failure import Failure

from ..backends.maildir_helpers import Box, Users
from ..driving import CLIENT
from .command import Command


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    mail.add_to(parser)
    return parser.parse_args(words)


def options(monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    """What the store is made with."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(mail, "MaildirBackend", lambda pattern, users, **options: given.update(options))
    mail.backend(parse(*words), "/mail/{user}", Users())
    return given


def test_what_is_not_said_is_the_stores_default(monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(monkeypatch)
    assert given == {
        "follow_symlinks": False,
        "as_owner": False,
        "lock_wait": 0.0,
        "deletion": "unlink",
        "trash": ".Trash",
        "trash_days": None,
        "journal": None,
        "expire": None,
        "move_new": False,
        "dovecot_lock": False,
    }
    assert set(given) <= set(MaildirOptions.__annotations__)


def test_every_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    words = ["--lock-wait", "2.5", "--deletion", "trash", "--trash", ".Bin", "--trash-days", "14", "--journal", journal]
    words += ["--move-new", "--dovecot-lock", "--as-owner", "--follow-symlinks"]
    assert options(monkeypatch, *words, "--expire", "30") == {
        "follow_symlinks": True,
        "as_owner": True,
        "lock_wait": 2.5,
        "deletion": "trash",
        "trash": ".Bin",
        "trash_days": 14,
        "journal": journal,
        "expire": 30,
        "move_new": True,
        "dovecot_lock": True,
    }
    assert options(monkeypatch, "--expire", "never")["expire"] == "never"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--lock-wait", "-1"], 2, "--lock-wait must be 0 to 120 seconds, not -1.0"),
        (["--trash-days", "3"], 2, "--trash-days makes sense with --deletion 'trash' only"),
        (["--trash", "x"], 2, "--trash must be the name of a Maildir\\+\\+ folder, such as .Trash, not 'x'"),
        (["--expire", "-1"], 2, "--expire must be 0 to 36500 days or 'never', not -1"),
        (["--journal", "/nonexistent/journal"], 1, "cannot write the journal /nonexistent/journal: no such file"),
    ],
)
def test_one_sentence_before_anything_is_served(words: list[str], status: int, says: str) -> None:
    with pytest.raises(Failure, match=says) as caught:
        mail.backend(parse(*words), "/mail/{user}", Users())
    assert caught.value.status == status


@pytest.mark.parametrize("word", ["soon", "1.5", "Never", ""])
def test_days_are_days(word: str, command: Command) -> None:
    outcome = command("serve", "x", "--expire", word)
    assert outcome.status == 2
    said = (
        f"trio-pop3: --expire: a whole number of days is needed, or never, not {word!r}; see `trio-pop3 serve --help`"
    )
    assert outcome.err == f"{said}\n"


@pytest.mark.parametrize("flags", [[], ["--move-new"], ["--dovecot-lock"], ["--move-new", "--dovecot-lock"]])
def test_each_option_does_what_it_says_and_no_other_does(
    tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C7: new/ is left alone, and Dovecot's lock is not taken, unless it is asked for."""
    box = Box(tmp_path)
    box.put("1.a")
    backend = mail.backend(parse(*flags), f"{tmp_path}/{{user}}", Users())
    real, locked = os.listdir, set()

    def listdir(path: Any) -> Any:
        locked.add((box.path / os.fsdecode(UIDLIST_LOCK_NAME)).exists())
        return real(path)

    async def login() -> None:
        maildrop = await backend.open("alice", CLIENT)
        await maildrop.release()

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", listdir)
        trio.run(login)
    assert box.names() == ([b"1.a:2,"] if "--move-new" in flags else [b"1.a"])
    assert locked == {"--dovecot-lock" in flags}
