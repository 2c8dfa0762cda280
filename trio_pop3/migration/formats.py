"""How a server makes unique-ids of what it knows: Dovecot's `pop3_uidl_format`, and names for what others do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from .old import SourceError

DOVECOT: Final = "%08Xu%08Xv"
# Of `uidl_format` in imapd.conf(5).
CYRUS: Final = MappingProxyType({"cyrus": "%v.%u", "uidonly": "%u", "dovecot": DOVECOT, "courier": "%v-%u"})

# %u, %Xu, %08Xu, %Mf and %%, as up to Dovecot 2.3; %{uid} and %{uid | hex(8)}, as since 2.4.
_FIELD: Final = re.compile(
    r"%(?:(?P<literal>%)|(?:0(?P<width>[0-9]{1,2}))?(?P<how>[XM])?(?P<letter>[a-zA-Z])"
    r"|\{ *(?P<name>[a-z0-9]+) *(?:\| *hex\((?P<digits>[0-9]{1,2})\) *)?\})"
)
_LETTERS: Final = MappingProxyType({"uid": "u", "uidvalidity": "v", "filename": "f", "guid": "g", "md5": "m"})
# Which letters can have a modifier, hexadecimal or MD5; and which a width.
_MODIFIED: Final = MappingProxyType({"X": "uv", "M": "fg", "": "uvfg"})
_PADDED: Final = "uv"
_KNOWN: Final = "use %u, %v, %f, %g, %Xu, %08Xu and so on"
_NO_MD5: Final = (
    "%m is a hash of the header of a message in an mbox; no Maildir can have been served with it. If the Maildir was "
    "made from mboxes, ask the old server: --from pop3://USER@HOST"
)


class _Part(NamedTuple):
    """A field, and how it is written; or a text that stands for itself."""

    text: str = ""
    letter: str = ""
    how: str = ""
    width: int = 0


class UidlFormat:
    """A format such as `%08Xu%08Xv`, of %u (UID), %v (UIDVALIDITY), %f (base name) and %g (GUID).

    `X` is hexadecimal, in lower case, `M` the MD5 of a name. Raises SourceError for a format that cannot be followed,
    or that gives every message the same.
    """

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._parts: Final = [*_parts(text)]
        if not {part.letter for part in self._parts} & {"u", "f", "g"}:
            raise SourceError(f"{text!r} gives every message the same unique-id: it needs %u, %f or %g")

    def __repr__(self) -> str:
        return f"UidlFormat({self.text!r})"

    def __call__(self, uid: int, uidvalidity: int, base: bytes, guid: bytes) -> str:
        """The unique-id of a message. Octets outside ASCII come out as characters that no unique-id can have."""
        numbers, names = {"u": uid, "v": uidvalidity}, {"f": base, "g": guid}
        written = []
        for text, letter, how, width in self._parts:
            if letter in numbers:
                written.append(format(numbers[letter], f"0{width}{'x' if how == 'X' else 'd'}"))
            elif letter and how == "M":
                written.append(hashlib.md5(names[letter], usedforsecurity=False).hexdigest())
            else:
                written.append(names[letter].decode("latin-1") if letter else text)
        return "".join(written)


def _parts(text: str) -> Iterator[_Part]:
    end = 0
    for match in _FIELD.finditer(text):
        yield _literal(text, text[end : match.start()])
        end = match.end()
        if match["literal"]:
            yield _Part("%")
            continue
        letter = match["letter"] or _LETTERS.get(match["name"], "")
        if letter == "m":
            raise SourceError(_NO_MD5)
        how = match["how"] or ("X" if match["digits"] else "")
        width = match["width"] or match["digits"]
        if not letter or letter not in _MODIFIED[how] or (width and letter not in _PADDED):
            raise SourceError(f"{match[0]!r} in {text!r} is nothing we know: {_KNOWN}")
        yield _Part("", letter, how, int(width or 0))
    yield _literal(text, text[end:])


def _literal(text: str, part: str) -> _Part:
    if "%" in part:
        raise SourceError(f"a % in {text!r} begins nothing we know: {_KNOWN}")
    return _Part(part)
