"""Options that say where the mail is, and how it is treated."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_pop3.backends.maildir.uidlist_lock import UIDLIST_LOCK_NAME
from trio_pop3.cli import mail

from ..backends.maildir_helpers import Box, Users
from ..driving import CLIENT


@pytest.mark.parametrize("flags", [[], ["--move-new"], ["--dovecot-lock"], ["--move-new", "--dovecot-lock"]])
def test_each_option_does_what_it_says_and_no_other_does(
    tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C7: new/ is left alone, and Dovecot's lock is not taken, unless it is asked for."""
    box = Box(tmp_path)
    box.put("1.a")
    parser = argparse.ArgumentParser()
    mail.add_to(parser)
    backend = mail.backend(parser.parse_args(flags), f"{tmp_path}/{{user}}", Users())
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
