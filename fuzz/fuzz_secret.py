"""Any stored password is read, or refused without being shown; what was read is one password's, and not everybody's."""

from __future__ import annotations

import re

from trio_pop3.auth.passwd import kind_of
from trio_pop3.auth.schemes import SCHEMES, BadSecret, parse_secret
from trio_pop3.credentials import CramMd5Credentials

from .harness import read, run

# Checked here: the others are slow on purpose, and what is stored says how slow.
QUICK = {name for name in SCHEMES if not re.match("SCR|ARGON|PBKDF|.*CRYPT", name)}
TAGGED = re.compile(r"(\{[^}]*\})?(.*)", re.DOTALL)


def refusal(stored: str) -> str:
    """Why it is refused, "" if it is not."""
    try:
        parse_secret(stored)
    except BadSecret as failure:
        return str(failure)
    return ""


def test_one_input(data: bytes) -> None:
    """P5, P6. The payload is what stands between two colons."""
    stored = read(data).payload.decode("utf-8", "surrogateescape")
    match = TAGGED.fullmatch(stored)
    assert match
    tag, text = match.groups("")
    if why := refusal(stored):
        # Of another secret the same may be said, in the same words.
        shown = len(text) >= 8 and text in why and text not in f"{tag}{tag.upper()}{refusal(f'{tag}?')}"
        assert not shown, f"the error shows the password: {why}"
        return
    secret = parse_secret(stored)
    assert secret.octets, "an empty secret"
    assert kind_of(secret)[0] in SCHEMES, "a kind of secret that nobody knows"
    assert repr(secret) == f"Secret(scheme={secret.scheme!r})", "a repr that tells more than the scheme"
    assert not secret.answers(CramMd5Credentials("tim", b"<1.2@host>", bytes(16))), "any answer will do"
    if secret.scheme in QUICK:
        assert not secret.is_of(b""), "an empty password is somebody's"
        assert secret.is_of(secret.octets) is (secret.cleartext is not None), "its octets are the password, or are not"
        assert not secret.is_of(b"not the password of anybody"), "any password will do"


if __name__ == "__main__":
    run(test_one_input)
