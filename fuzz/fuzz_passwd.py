"""Any users file is read as it stands, or refused with the line to blame and without a password of it."""

from __future__ import annotations

import io
import os

from trio_pop3.auth import PasswdFile, PasswdFileError
from trio_pop3.auth.passwd import parse_users

from .fuzz_secret import TAGGED, refusal
from .harness import read, run

FILE = os.memfd_create("users")
PATH = f"/proc/self/fd/{FILE}"


def blamed(text: str, why: str) -> None:
    """The line that a refusal names is not good alone either, and its secret is not shown."""
    assert why.startswith(f"{PATH}: line "), "it does not say where"
    number = int(why.removeprefix(f"{PATH}: line ").partition(":")[0])
    *before, line = text.split("\n")[:number]
    parse_users("\n".join(before), PATH)
    name, _, rest = line.partition(":")
    if name.startswith("{"):
        name, rest = "", name  # whoever wrote this forgot the name
    match = TAGGED.fullmatch(rest.partition(":")[0])
    assert match
    tag, secret = match.groups("")
    # Of another secret the same may be said, in the same words.
    innocent = f"{name}{tag}{tag.upper()}{refusal(f'{tag}?')}{PATH}"
    assert len(secret) < 8 or secret not in why or secret in innocent, f"the error shows a password: {why}"


def test_one_input(data: bytes) -> None:
    """P5, P6. The payload is the file."""
    payload = read(data).payload
    os.ftruncate(FILE, 0)
    os.pwrite(FILE, payload, 0)
    os.fchmod(FILE, 0o600)
    text = io.TextIOWrapper(io.BytesIO(payload), "utf-8", "surrogateescape").read()
    try:
        users = PasswdFile(PATH).users
    except PasswdFileError as failure:
        blamed(text, str(failure))
        return
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    assert list(users) == [line.split(":")[0] for line in lines], "other users than there are lines"
    assert len(set(users)) == len(users), "a user twice"
    assert all(name and name == name.strip() for name in users), "a name that cannot be typed"


if __name__ == "__main__":
    run(test_one_input)
