"""Surrogates: messages whose header is not ASCII, for clients that do not know UTF8 (RFC 6858, RFC 6856 section 2.1).

Only the header section is rewritten, and only in the fields that need it; a surrogate is poorer than its message, never
different in what it keeps. Everything here is total: any octets may come in, and ASCII goes out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

# Headers of real mail have 5 to 50 KiB. What is longer ends here, so that memory is bounded.
MAX_HEADER: Final = 256 * 1024

# In the domain `.invalid` nobody can ever have an address (RFC 2606, RFC 6858 section 2.1).
_NOBODY: Final = "<invalid@internationalized-address.invalid>"

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
# One field with its continuation lines; or a line that is none, such as the blank one.
_FIELD: Final = re.compile(rb"[^\n]*+(?:\n[ \t][^\n]*+)*+\n?", re.DOTALL)
_NAME: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FOLD: Final = re.compile("\r?\n(?=[ \t])")
_CONTROLS: Final = re.compile("[\0-\x08\x0a-\x1f\x7f]")

# Quoted string, comment (one may stand in another), domain literal, angle address, special, anything else. Whatever is
# not closed ends where it must.
_PIECE: Final = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?'
    r"|\((?:[^()\\]++|\\.|\((?:[^()\\]++|\\.)*+\))*+\)?"
    r"|\[[^\[\]]*+\]?"
    r'|<(?:"(?:[^"\\]++|\\.)*+"|[^<>"]++)*+>?'
    r'|[,:;)>]|[^"(\[<,:;)>]+',
    re.DOTALL,
)
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# An encoded word that is good in a phrase as well (RFC 2047 section 5).
_ENCODED_WORD: Final = re.compile(r"(?<![^ \t])(=\?[A-Za-z0-9-]{1,20}\?[BbQq]\?[A-Za-z0-9!*+/=_-]{1,50}\?=)(?![^ \t])")
# 45 octets make 60 of base64, and a word of 72; it must not exceed 75 (RFC 2047 section 2).
_WORD_OCTETS: Final = 45

_WORD: Final = re.compile(r"[ \t]+[^ \t]+")
_LINE_OCTETS: Final = 76
# Rewriting takes a millisecond or two for each KiB. Headers need a few of them; what does not fit was made to take
# long, or is a list of hundreds of recipients, and is left out.
_REWRITTEN_OCTETS: Final = 16 * 1024
# A line must not exceed 998 octets (RFC 5322 section 2.1.1), and a word longer than this cannot be folded.
_UNFOLDABLE: Final = 900

_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_NUMBERED: Final = re.compile(r"[ \t]*([^ \t=*]+)\*[0-9]")


def needs_utf8(header: bytes) -> bool:
    """Whether a header section has octets that only a client with UTF8 may be sent."""
    return not header.isascii()


class HeaderSplitter:
    """Finds the end of the header section in a message that comes in chunks.

    `header` is the section with the blank line, `rest` what followed it; until `done`, `header` is all there is so far.
    A message without a blank line is all header. A section of more than `limit` octets counts as ended with its last
    whole line within them.
    """

    __slots__ = ("_buffer", "_header", "_limit", "_searched", "rest")

    def __init__(self, limit: int = MAX_HEADER) -> None:
        self.rest = b""
        self._header: bytes | None = None
        self._buffer = bytearray(b"\n")  # as if a line had just ended: a message may begin with the blank line
        self._limit = limit
        self._searched = 0

    @property
    def done(self) -> bool:
        """Whether the end was found."""
        return self._header is not None

    @property
    def header(self) -> bytes:
        """The section, or what has come of it."""
        return bytes(self._buffer[1:]) if self._header is None else self._header

    def feed(self, chunk: bytes) -> None:
        """Take one more chunk in. Once `done`, it goes to `rest`."""
        if self._header is not None:
            self.rest += chunk
            return
        self._buffer += chunk
        match = _BLANK_LINE.search(self._buffer, self._searched, self._limit + 1)
        self._searched = max(0, len(self._buffer) - 2)
        if match is not None:
            self._end_at(match.end())
        elif len(self._buffer) > self._limit:
            self._end_at(_last_line_end(self._buffer, self._limit + 1))

    def _end_at(self, end: int) -> None:
        self._header, self.rest = bytes(self._buffer[1:end]), bytes(self._buffer[end:])
        self._buffer.clear()


def _last_line_end(buffer: bytearray, stop: int) -> int:
    """Where the last line before `stop` ends. If it is the first one, it is cut, but not between CR and LF."""
    end = buffer.rfind(b"\n", 1, stop) + 1
    return end or (stop - 1 if buffer[stop - 1] == 0x0D and stop > 2 else stop)


# --- the header ----------------------------------------------------------------------------------------------------


def surrogate_header(header: bytes) -> bytes:
    """The header section of a surrogate, in ASCII.

    A section in ASCII is returned as it is. Otherwise fields in ASCII are kept octet for octet, others are rewritten
    or, if they cannot be, left out, and so is what would take long to rewrite. The order stays, and so does the end:
    the blank line, or the lack of it, or of any line end. Never raises; octets that are no UTF-8 are shown as U+FFFD.
    """
    if not needs_utf8(header):
        return header
    fields, left = [], _REWRITTEN_OCTETS
    for field in _FIELD.findall(header):
        if field.isascii():
            fields.append(field)
        elif len(field) <= left:
            left -= len(field)
            fields.append(_rewritten(field))
    kept, end = b"".join(fields), _line_end(header)
    while not end and (superfluous := _line_end(kept)):
        kept = kept.removesuffix(superfluous)
    return kept or end


def _line_end(text: bytes) -> bytes:
    """The CRLF or LF at the end, or nothing."""
    return next((end for end in (b"\r\n", b"\n") if text.endswith(end)), b"")


def _rewritten(field: bytes) -> bytes:
    """A field as the surrogate has it; nothing if it has none."""
    match = _NAME.match(field)
    name = b"" if match is None else match[1]
    key = name.lower()
    rewrite = _REWRITERS.get(key)
    if match is None or rewrite is None:
        return b""
    end = _line_end(field)
    text = field[match.end() : len(field) - len(end)].decode("utf-8", "replace")
    value = rewrite(_CONTROLS.sub(" ", _FOLD.sub("", text)).strip(" \t"))
    folded = _folded(name.decode("ascii"), value, end.decode("ascii") or "\r\n")
    return folded.encode("ascii") + end if folded else b""


def _folded(name: str, value: str, line_end: str) -> str:
    """A field in lines of about 76 octets, broken where spaces are; "" if it has no value or no such places."""
    lines, line, words = [], f"{name}:", _WORD.findall(f" {value}")
    if not words or max(map(len, words)) > _UNFOLDABLE:
        return ""
    for word in words:
        if len(line) + len(word) > _LINE_OCTETS and line[-1] != ":":
            lines.append(line)
            line = word
        else:
            line += word
    return line_end.join([*lines, line])


# --- encoded words (RFC 2047) --------------------------------------------------------------------------------------


def _encoded(text: str) -> str:
    """Text in encoded words; those that it has already stay."""
    parts = _ENCODED_WORD.split(text)
    return " ".join(word for part in parts if part.strip(" \t") for word in _encoded_part(part))


def _encoded_part(text: str) -> Iterator[str]:
    if _ENCODED_WORD.fullmatch(text):
        yield text
        return
    octets, start = text.encode("utf-8"), 0
    while start < len(octets):
        stop = start + _WORD_OCTETS
        while stop < len(octets) and octets[stop] & 0xC0 == 0x80:
            stop -= 1
        yield f"=?utf-8?b?{base64.b64encode(octets[start:stop]).decode('ascii')}?="
        start = stop


def _phrase(text: str) -> str:
    """A display name: as it is if that is plain words."""
    return text if _ATOMS.fullmatch(text) else _encoded(text)


# --- addresses -----------------------------------------------------------------------------------------------------


def _addresses(text: str) -> str:
    """A list of addresses and groups, in which those that are not ASCII have become empty groups or nobody's."""
    finished: list[str] = []
    members: list[str] | None = None  # of the group that is open
    group = ""
    pieces: list[str] = []
    for piece in (*_PIECE.findall(text), ";"):
        if piece == ":" and members is None:
            source = "".join(pieces).strip(" \t")
            group, members, pieces = source if source.isascii() else _phrase(_plain(pieces)), [], []
        elif piece in (",", ";"):
            if any(part.strip(" \t") for part in pieces):
                (finished if members is None else members).append(_mailbox(pieces, in_group=members is not None))
            pieces = []
            if piece == ";" and members is not None:
                finished.append(f"{group}: {', '.join(members)};")
                members = None
        else:
            pieces.append(piece)
    return ", ".join(finished)


def _mailbox(pieces: list[str], *, in_group: bool) -> str:
    source = "".join(pieces).strip(" \t")
    if source.isascii():
        return source
    angle = next((piece for piece in reversed(pieces) if piece.startswith("<")), None)
    comments = [piece for piece in pieces if piece.startswith("(")]
    words = [piece for piece in pieces if not piece.startswith(("(", "<"))]
    if angle is None:
        address, display = "".join(words).strip(" \t"), _plain(comments)
        real = "@" in address
    else:
        address, display = angle[1:].removesuffix(">"), _plain(words) or _plain(comments)
        real = True
    if real and address.isascii():
        return f"{_phrase(display)} <{address}>".lstrip(" ")
    # Nobody can reply to a group without members (RFC 6854), but there is no group within a group.
    shown = _phrase(display or _plain([address]))
    return f"{shown} {_NOBODY}" if in_group else f"{shown}:;"


def _plain(pieces: list[str]) -> str:
    """What a person reads: without quotes, parentheses and superfluous spaces."""
    text = "".join(map(_unquoted, pieces)).replace("\t", " ")
    return " ".join(filter(None, text.split(" ")))


def _unquoted(piece: str) -> str:
    if piece[0] == '"':
        return _QUOTED_PAIR.sub(r"\1", piece[1:].removesuffix('"'))
    if piece[0] == "(":
        return " " + _QUOTED_PAIR.sub(r"\1", piece[1:].removesuffix(")")) + " "
    return piece


# --- MIME parameters -----------------------------------------------------------------------------------------------


def _parameters(text: str) -> str:
    """A value and its parameters, without those that are not ASCII; "" if the value is not."""
    segments: list[list[str]] = [[]]
    for piece in _PIECE.findall(text):
        if piece == ";":
            segments.append([])
        elif piece.isascii() or piece[0] != "(":
            segments[-1].append(piece)
    value, *parameters = ("".join(pieces).strip(" \t") for pieces in segments)
    if not value.isascii():
        return ""
    # A parameter in numbered parts (RFC 2231 section 3) needs all of them.
    broken = {_numbered(parameter) for parameter in parameters if not parameter.isascii()} - {""}
    kept = [
        parameter
        for parameter in parameters
        if parameter and parameter.isascii() and _numbered(parameter) not in broken
    ]
    return "; ".join([value, *kept])


def _numbered(parameter: str) -> str:
    """The name of a parameter of which this is a numbered part, or ""."""
    match = _NUMBERED.match(parameter)
    return "" if match is None else match[1].lower()


# --- the tables ----------------------------------------------------------------------------------------------------

_ADDRESS_FIELDS: Final = (
    b"bcc", b"cc", b"from", b"reply-to", b"sender", b"to",
    b"resent-bcc", b"resent-cc", b"resent-from", b"resent-sender", b"resent-to",
)  # fmt: skip

_REWRITERS: Final[Mapping[bytes, Callable[[str], str]]] = MappingProxyType(
    {
        **dict.fromkeys(_ADDRESS_FIELDS, _addresses),
        b"return-path": lambda _: _NOBODY,  # takes an address in angle brackets, and nothing beside it
        b"subject": _encoded,
        b"content-type": _parameters,
        b"content-disposition": _parameters,
    }
)
