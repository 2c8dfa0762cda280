"""Messages: what is stored, and what a client must get."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from trio_pop3 import MessageInfo

_LINES: Final = (
    *(b"", b".", b"..", b".a dot in front", b"." * 7, b" .", b"From here", b"QUIT", b"+OK 3 120", b"-ERR no"),
    *(b"caf\xc3\xa9", b"\xff\x00\x1f", b"a lone \r inside", b"w" * 998, b"x" * 70, b"Zwei Zeilen und ein Punkt."),
)
# How many lines, and how often a message is of that size.
_SIZES: Final = ((0, 2), (3, 40), (40, 40), (400, 12), (6000, 2))


@dataclass(frozen=True, slots=True)
class Stored(MessageInfo):
    """A message in the store. `serial` is the same message's for ever, whatever its unique-id."""

    serial: int
    content: bytes
    canonical: bytes  # as a client must get it, without dot-stuffing


def canonical(content: bytes) -> bytes:
    """CRLF at the end of every line, the last one too. Made without the encoder that is tried here."""
    text = content.replace(b"\r\n", b"\n")
    return (text if text.endswith(b"\n") else text + b"\n").replace(b"\n", b"\r\n")


def draw(random: Random, serial: int) -> bytes:
    """A message that is like no other, with any line ends."""
    (most,) = random.choices([size for size, _ in _SIZES], [weight for _, weight in _SIZES])
    lines = random.choices(_LINES, k=random.randint(most // 2, most))
    header = [b"Message-ID: <%d@example.org>" % serial, b"Subject: number %d" % serial]
    blank = [b""] if random.random() < 0.95 else []
    end = b"\n" if random.random() < 0.7 else b"\r\n"
    return end.join([*header, *blank, *lines]) + random.choice((end, b""))


def top(message: bytes, lines: int) -> bytes:
    """Header, blank line, and so many lines of a canonical message (RFC 1939 section 7)."""
    header, blank, body = message.partition(b"\r\n\r\n")
    if not blank:
        return message
    return header + blank + b"".join(line + b"\r\n" for line in body.split(b"\r\n")[:-1][:lines])
