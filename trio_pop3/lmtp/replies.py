"""A reply, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# RFC 5321 section 4.5.3.1.5: a reply line, CRLF included.
_MOST_OCTETS: Final = 512
_TEXT: Final = re.compile(r"[\x20-\x7e]+")
_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Reply:
    """`250 2.1.5 text`: a code of RFC 5321 and, unless it is "", one of RFC 3463 with the same first digit.

    A text that is longer than a line is cut. Raises ValueError for codes that are none, and for a text that is empty or
    holds anything but printable ASCII: nothing that a user or a file system said can begin a line of its own.
    """

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 559 or self.enhanced[:1] not in ("", str(self.code)[0]):
            raise ValueError(f"not a reply code: {self.code} {self.enhanced}")
        if (self.enhanced and not _ENHANCED.fullmatch(self.enhanced)) or not _TEXT.fullmatch(self.text):
            raise ValueError(f"not a reply: {self.enhanced!r} {self.text!r}")

    @property
    def positive(self) -> bool:
        """2xx."""
        return self.code < 300


def write(reply: Reply) -> bytes:
    """The line."""
    words = (str(reply.code), reply.enhanced, reply.text)
    return " ".join(word for word in words if word).encode("ascii")[: _MOST_OCTETS - 2] + b"\r\n"


def write_lines(code: int, lines: Sequence[str]) -> bytes:
    """A reply of several lines, as LHLO gets it."""
    marks = "-" * (len(lines) - 1) + " "
    return "".join(f"{code}{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode("ascii")
