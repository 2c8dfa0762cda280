"""Knowing a message again that another server sends: by its header, and by all of it.

Servers differ in line ends, in what they put at the end of a message, and in header fields of their own, so that none
of these count.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

# Fields that servers put into a header, or leave out of it, as they like; mostly those of mboxes.
_OF_SERVERS: Final = re.compile(
    rb"(?:content-length|lines|status|x-status|x-keywords|x-uid|x-uidl|x-imap|x-imapbase):.*\n(?:[ \t].*\n)*",
    re.IGNORECASE,
)
_MESSAGE_ID: Final = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)
_FIELD: Final = re.compile(rb".*\n(?:[ \t].*\n)*")
# No header is longer; what has no blank line up to here is taken to be body from there on.
_MOST_HEADER_OCTETS: Final = 1024 * 1024


class Prints(NamedTuple):
    """Digests of a message's header, and of all of it; and whether the header has a Message-ID, to be known by."""

    header: bytes
    whole: bytes
    named: bool


class Fingerprint:
    """Takes a message, or its header only, in pieces of any size."""

    def __init__(self) -> None:
        self._header: bytearray | None = bytearray()
        self._of_header = b""
        self._named = False
        self._body: Final = hashlib.sha256()
        self._line_ends = 0  # seen and not hashed yet: at the end of a message they do not count

    @property
    def header_is_whole(self) -> bool:
        """Whether the header has been seen to its end."""
        return self._header is None

    def update(self, piece: bytes) -> None:
        """One more piece."""
        text = piece.replace(b"\r", b"")
        if self._header is None:
            self._hash(text)
            return
        self._header += text
        # Not looked for from the beginning each time: a header may come in many pieces.
        start = max(0, len(self._header) - len(text) - 1)
        end = 0 if self._header.startswith(b"\n") else self._header.find(b"\n\n", start) + 1
        if end or self._header.startswith(b"\n"):
            self._header_ends(end)
        elif len(self._header) > _MOST_HEADER_OCTETS:
            self._header_ends(_MOST_HEADER_OCTETS)

    def _header_ends(self, end: int) -> None:
        assert self._header is not None
        header, rest = bytes(self._header[:end]), bytes(self._header[end:])
        self._header = None
        self._of_header = header_digest(header)
        self._named = _MESSAGE_ID.search(header) is not None
        self._hash(rest)

    def _hash(self, text: bytes) -> None:
        content = text.rstrip(b"\n")
        if content:
            self._body.update(b"\n" * self._line_ends)
            self._body.update(content)
            self._line_ends = 0
        self._line_ends += len(text) - len(content)

    def finish(self) -> Prints:
        """The digests."""
        if self._header is not None:
            self._header_ends(len(self._header))
        whole = hashlib.sha256(self._of_header + self._body.digest()).digest()
        return Prints(self._of_header, whole, self._named)


def header_digest(header: bytes) -> bytes:
    """Of a header with LF line ends, whether or not the last line has one."""
    text = header.rstrip(b"\n") + b"\n"
    fields = (match[0] for match in _FIELD.finditer(text))
    return hashlib.sha256(b"".join(field for field in fields if not _OF_SERVERS.fullmatch(field))).digest()
