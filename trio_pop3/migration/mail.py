"""The messages of our Maildir, as the readers need them. Blocking."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from ..backends.maildir.scan import READ_OCTETS, MaildirMessage, Whereabouts
from .fingerprint import Fingerprint, Prints
from .old import OldIds

_MOST_HEADER_OCTETS: Final = 1024 * 1024
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_X_UIDL: Final = re.compile(rb"^x-uidl:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)


class OurMail:
    """The messages that can have a line in a map: of two files with one base name, only the first can."""

    def __init__(self, files: Whereabouts, messages: Sequence[MaildirMessage]) -> None:
        self._files: Final = files
        self.messages: Final[dict[bytes, MaildirMessage]] = {}
        for message in messages:
            self.messages.setdefault(message.base, message)

    def header_print(self, base: bytes) -> bytes:
        """The digest of a message's header. Raises OSError."""
        return self._prints(base, only_header=True).header

    def whole_print(self, base: bytes) -> bytes:
        """The digest of a message. Raises OSError."""
        return self._prints(base, only_header=False).whole

    def _prints(self, base: bytes, *, only_header: bool) -> Prints:
        fingerprint = Fingerprint()
        fd, _ = self._files.open(self.messages[base])
        with open(fd, "rb", buffering=0) as file:
            while not (only_header and fingerprint.header_is_whole) and (piece := file.read(READ_OCTETS)):
                fingerprint.update(piece)
        return fingerprint.finish()

    def header(self, base: bytes) -> bytes:
        """The header of a message, up to 1 MiB of it. Raises OSError."""
        fd, _ = self._files.open(self.messages[base])
        try:
            text = b""
            while len(text) < _MOST_HEADER_OCTETS and (piece := os.read(fd, READ_OCTETS)):
                text += piece
                if (end := _BLANK_LINE.search(text)) is not None:
                    return text[: end.start() + 1]
            return text
        finally:
            os.close(fd)


def read_x_uidl(mail: OurMail) -> OldIds:
    """The unique-ids that an old server wrote into the messages: the first `X-UIDL` field. Raises OSError.

    A sender can write one as well: for mail only that went through a server which takes foreign ones out.
    """
    found: dict[bytes, str] = {}
    for base in mail.messages:
        match = _X_UIDL.search(mail.header(base).replace(b"\r", b""))
        if match is not None:
            found[base] = match[1].replace(b"\n", b"").strip().decode("latin-1")
    return OldIds(found)
