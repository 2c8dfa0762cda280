"""Where the messages of an mbox file are, how long they are as sent, and what tells them apart. Blocking; in threads.

A message begins with a From_ line that stands at the start of the file or behind an empty line, and whose date is a
date: `From sender Tue Nov 25 09:19:20 2025`. A line of the text that merely begins with `From ` is text. The empty line
in front of the next From_ line, or at the end of the file, belongs to the format and not to the message.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ...sansio import OctetCounter

READ_OCTETS: Final = 256 * 1024

_FROM: Final = re.compile(
    rb"From (?:[^\r\n]* )?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +[0-9]{1,2} +"
    rb"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?: +[A-Z]{1,5}| +[+-][0-9]{4})* +[0-9]{4}"
    rb"(?: +[A-Z]{1,5}| +[+-][0-9]{4})*(?: remote from [^\r\n]*)?[ \t]*\r?\n"
)
# Longer is no From_ line. Also what is kept in hand of a read, so that no From_ line is looked at in two parts.
_LONGEST_FROM: Final = 1000
# What may stand in front of a From_ line and not be part of the message: CRLF CRLF, to know an empty line by.
_BEFORE: Final = 4
# A header beyond this is hashed as it is; that is no header that anybody rewrites.
_LONGEST_HEADER: Final = 256 * 1024

# What mail readers and IMAP servers write into messages. Not part of what a message is known by.
_REWRITTEN: Final = re.compile(
    rb"^(?:Status|X-Status|X-UID|X-UIDL|X-Keywords|X-IMAP|X-IMAPbase|Content-Length|Lines)[ \t]*:[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*",
    re.IGNORECASE | re.MULTILINE,
)
_END_OF_HEADER: Final = re.compile(rb"(?:\A|\n)\r?\n")
_X_UIDL: Final = re.compile(
    rb"^X-UIDL[ \t]*:[ \t]*([\x21-\x7e]{1,70})[ \t]*\r?\n(?![ \t])", re.IGNORECASE | re.MULTILINE
)
_CONTENT_LENGTH: Final = re.compile(
    rb"^Content-Length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
# The message in which UW's programs keep their counters; both must be there, since a message that is hidden is lost.
_INTERNAL: Final = (
    re.compile(rb"^X-IMAP[ \t]*:", re.IGNORECASE | re.MULTILINE),
    re.compile(rb"^Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r?$", re.MULTILINE),
)

_QUOTED: Final = re.compile(rb"(?m)^>(?=>*From )")
_MAYBE_QUOTED: Final = re.compile(rb"(>+)(?:F(?:r(?:om?)?)?)?")


class NotAnMbox(ValueError):
    """The file begins with something that is no From_ line."""

    def __init__(self) -> None:
        super().__init__("what stands there does not begin with a From_ line")


@dataclass(frozen=True, slots=True)
class Rules:
    """How a file is read.

    content_length: believe a Content-Length that leads to the next From_ line, or to the end of the file, exactly.
    unquote: the file is mboxrd: one `>` is taken off each line that begins with `>From `, `>>From ` and so on.
    """

    content_length: bool = False
    unquote: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A message in the file: offsets of its From_ line, its text, the end of its text, and of what comes next."""

    start: int
    text: int
    stop: int
    end: int
    digest: str  # of the From_ line and the text, without what others rewrite
    octets: int  # as sent
    x_uidl: str | None
    internal: bool

    def moved(self, by: int) -> Found:
        """The same message, elsewhere in the file."""
        return replace(self, start=self.start + by, text=self.text + by, stop=self.stop + by, end=self.end + by)


def find(fd: int, rules: Rules, start: int = 0) -> Iterator[Found]:
    """The messages of a file from an offset on, at which a From_ line stands, or at most empty lines in front of one.

    Holds two reads in memory, whatever the size of the file. Raises NotAnMbox if there is something else; OSError.
    """
    # `data` is what stands at `at`; up to `done` it has been given to the message, up to `look` it has been looked at.
    at, data, done, look = start, b"", 0, 0
    message: Message | None = None
    while True:
        chunk = os.pread(fd, READ_OCTETS, at + len(data))
        data += chunk
        known = len(data) - (_LONGEST_FROM if chunk else 0)
        while (place := _from_line(data, look, known, at, message)) is not None:
            begin, text = place
            if message is not None:
                yield message.end_at(at + begin, data[done:begin])
            elif data[done:begin].strip(b"\r\n"):
                raise NotAnMbox
            message = Message(at + begin, data[begin:text], rules)
            if rules.content_length:
                message.trusted = _trusted(fd, at + text)
            done = look = text
        if message is None and data[done : max(0, known)].strip(b"\r\n"):
            raise NotAnMbox
        if not chunk:
            if message is not None:
                yield message.end_at(at + len(data), data[done:])
            return
        kept = max(0, known - _BEFORE)
        if message is not None and kept > done:
            message.update(data[done:kept])
            done = kept
        at, data, done, look = at + kept, data[kept:], max(0, done - kept), max(look, known) - kept


def _from_line(data: bytes, look: int, known: int, at: int, message: Message | None) -> tuple[int, int] | None:
    """Where the next From_ line begins and ends, if one begins before `known`."""
    while 0 <= (begin := data.find(b"From ", look, max(0, known) + 5)) < known:
        before = data[max(0, begin - 3) : begin]
        if message is None:
            expected = not before or before.endswith(b"\n")
        elif at + begin > message.trusted:
            expected = before.endswith((b"\n\n", b"\n\r\n"))
        else:
            expected = at + begin == message.trusted
        if expected and (match := _FROM.match(data, begin, begin + _LONGEST_FROM)) is not None:
            return begin, match.end()
        look = begin + 1
    return None


def _trusted(fd: int, text: int) -> int:
    """Where the text of a message ends by its Content-Length, if that leads to where a message can end; or 0."""
    header = os.pread(fd, READ_OCTETS, text)
    end = _END_OF_HEADER.search(header)
    length = end and _CONTENT_LENGTH.search(header, 0, end.end())
    if not end or not length:
        return 0
    stop = text + end.end() + int(length.group(1))
    behind = os.pread(fd, _LONGEST_FROM + 2, stop)
    if not behind:
        return stop if os.fstat(fd).st_size == stop else 0
    behind = behind.removeprefix(b"\r\n") if behind.startswith(b"\r\n") else behind.removeprefix(b"\n")
    return stop if not behind or _FROM.match(behind) else 0


class Message:
    """Measures and hashes one message, piece by piece."""

    __slots__ = ("_counter", "_hash", "_header", "_internal", "_octets", "_rest", "_start", "_text", "_unquoter",
                 "_x_uidl", "trusted")  # fmt: skip

    def __init__(self, start: int, from_line: bytes, rules: Rules) -> None:
        self.trusted = 0
        self._start: Final = start
        self._text: Final = start + len(from_line)
        self._octets = 0
        self._counter: Final = OctetCounter()
        self._unquoter: Final = Unquoter() if rules.unquote else None
        self._hash: Final = hashlib.blake2b(from_line.rstrip(b"\r\n") + b"\n", digest_size=20)
        self._header: bytes | None = b""
        self._rest = b""  # the last two octets: a line end at the very end makes no difference
        self._x_uidl: str | None = None
        self._internal = False

    def update(self, piece: bytes) -> None:
        """Go on with the text."""
        self._octets += len(piece)
        self._counter.update(piece if self._unquoter is None else self._unquoter.update(piece))
        if self._header is None:
            self._hash_text(piece)
            return
        self._header += piece
        if end := _END_OF_HEADER.search(self._header):
            self._hash_header(end.end())
        elif len(self._header) > _LONGEST_HEADER:
            self._hash_header(0)

    def _hash_header(self, end: int) -> None:
        assert self._header is not None
        header, rest = self._header[:end], self._header[end:]
        self._header = None
        if uidl := _X_UIDL.search(header):
            self._x_uidl = uidl.group(1).decode("ascii")
        self._internal = all(sign.search(header) for sign in _INTERNAL)
        self._hash_text(_REWRITTEN.sub(b"", header) + rest)

    def _hash_text(self, piece: bytes) -> None:
        piece = self._rest + piece
        self._hash.update(piece[:-2])
        self._rest = piece[-2:]

    def end_at(self, end: int, rest: bytes) -> Found:
        """The message ends with `rest`, in which the empty line behind it is whole, if there is one."""
        blank = len(rest) - len(_without_blank(rest, self._octets == 0))
        stop = end - blank
        if stop < self.trusted:
            blank, stop = 0, end
        return self.finish(stop, end, rest[: len(rest) - blank])

    def finish(self, stop: int, end: int, rest: bytes) -> Found:
        """The message ends at `stop` with `rest`; the next one is at `end`."""
        self.update(rest)
        if self._unquoter is not None:
            self._counter.update(self._unquoter.finish())
        if self._header is not None:
            self._hash_header(len(self._header))
        line_end = 2 if self._rest == b"\r\n" else 1 if self._rest.endswith(b"\n") else 0
        self._hash.update(self._rest[: len(self._rest) - line_end])
        return Found(
            self._start, self._text, stop, end, self._hash.hexdigest(), self._counter.finish(), self._x_uidl,
            self._internal,
        )  # fmt: skip


def _without_blank(rest: bytes, whole: bool) -> bytes:
    """The end of a message without the empty line behind it. `whole`: it is all of the text."""
    for blank in (b"\r\n", b"\n"):
        if rest.endswith(b"\n" + blank) or (whole and rest == blank):
            return rest.removesuffix(blank)
    return rest


class Unquoter:
    """Takes one `>` off each line that begins with `>From `, `>>From ` and so on, whatever the pieces are."""

    __slots__ = ("_held", "_inside")

    def __init__(self) -> None:
        self._held = b""  # of a line that may turn out to be one; however many `>` there are, one is enough to hold
        self._inside = False  # no line begins where `_held` begins

    def update(self, piece: bytes) -> bytes:
        """What can be said of the text up to here."""
        data, self._held = self._held + piece, b""
        # At the start of a line, or there is nothing to take off before the next one.
        begin = data.find(b"\n") + 1 if self._inside else 0
        if self._inside and not begin:
            return data
        last = max(begin, data.rfind(b"\n") + 1)
        self._inside = last < len(data)
        if maybe := _MAYBE_QUOTED.fullmatch(data, last):
            self._held, self._inside = data[maybe.end(1) - 1 :], False
            data = data[: maybe.end(1) - 1]
        return data[:begin] + _QUOTED.sub(b"", data[begin:])

    def finish(self) -> bytes:
        """What was held back."""
        held, self._held = self._held, b""
        return held
