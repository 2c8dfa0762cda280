"""What a client sends, without its secrets: for transcripts that end up in the log of a test run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# What stands in the place of a secret: octets that no client sends, and what `Transcript.hide` prints for them.
HIDDEN: Final[Mapping[bytes, str]] = MappingProxyType(
    {b"\0(password)\0": "password", b"\0(digest)\0": "digest", b"\0(sasl)\0": "sasl"}
)
_PASSWORD, _DIGEST, _SASL = HIDDEN
_SECRET: Final = re.compile(
    rb"\s*(?:(?P<password>PASS[ \t])|(?P<digest>APOP[ \t]+\S+[ \t]+)|(?P<sasl>AUTH[ \t]+\S+[ \t]+))(?=.)",
    re.IGNORECASE | re.DOTALL,
)
_BEHIND: Final = {"password": _PASSWORD, "digest": _DIGEST, "sasl": _SASL}
_PIECE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_AUTH: Final = re.compile(rb"\s*AUTH\s+\S", re.IGNORECASE)


def redacted(line: bytes, *, exchange: bool = False) -> bytes:
    """A command line, its end taken off, with what is secret in it replaced; `exchange`: it is one of SASL."""
    if exchange:
        return line if line in (b"", b"*") else _SASL
    match = _SECRET.match(line)
    return line if match is None else match[0] + _BEHIND[str(match.lastgroup)]


def shown(line: bytes, *, exchange: bool = False) -> str:
    """The same for a person, with `***` for a secret."""
    line = redacted(line, exchange=exchange)
    for secret in HIDDEN:
        line = line.replace(secret, b"***")
    return line.decode("utf-8", "backslashreplace")


def pieces_of(data: bytes) -> list[bytes]:
    """The same octets in pieces, each up to an LF, and what is behind the last."""
    return _PIECE.findall(data)


class Redactor:
    """The same for a stream, in any pieces: nothing of a secret is let through before its line is there.

    Args:
        line_end: what ends a line: b"\\n", with one CR in front of it or not, or b"\\r\\n".
    """

    def __init__(self, line_end: bytes = b"\n") -> None:
        self._line_end: Final = line_end
        self._line = b""  # the one that has not ended
        self._told = 0  # octets of what is shown of it
        self._hidden = False  # it is one of an exchange

    def feed(self, data: bytes, *, exchange: bool) -> bytes:
        """What may be shown of more octets. `exchange`: a SASL exchange was under way when they came.

        What is sent behind an AUTH in the same piece is taken for a part of the exchange.
        """
        told = bytearray()
        for piece in pieces_of(data):
            if not self._line:
                self._hidden = exchange
            self._line += piece
            ended = self._line.endswith(self._line_end)
            # Half a line end is no part of a secret.
            line = (self._line.removesuffix(b"\n") if ended else self._line).removesuffix(b"\r")
            words = redacted(line, exchange=self._hidden) + (self._line[len(line) :] if ended else b"")
            told += words[self._told :]
            self._told = len(words)
            if ended:
                exchange = exchange or _AUTH.match(line) is not None
                self._line, self._told = b"", 0
        return bytes(told)
