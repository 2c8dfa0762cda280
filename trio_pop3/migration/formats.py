"""How a server makes unique-ids of what it knows: Dovecot's `pop3_uidl_format`, and names for what others do."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from .old import SourceError

DOVECOT: Final = "%08Xu%08Xv"
# Of `uidl_format` in imapd.conf(5).
CYRUS: Final = MappingProxyType({"cyrus": "%v.%u", "uidonly": "%u", "dovecot": DOVECOT, "courier": "%v-%u"})

# %u, %Xu, %08Xu and %%, as up to Dovecot 2.3; %{uid} and %{uid | hex(8)}, as since 2.4.
_FIELD: Final = re.compile(
    r"%(?:(?P<literal>%)|(?:0(?P<width>[0-9]{1,2}))?(?P<hex>X)?(?P<letter>[a-zA-Z])"
    r"|\{ *(?P<name>[a-z0-9]+) *(?:\| *hex\((?P<digits>[0-9]{1,2})\) *)?\})"
)
_LETTERS: Final = MappingProxyType({"uid": "u", "uidvalidity": "v", "filename": "f", "guid": "g", "md5": "m"})
_NUMBERS: Final = frozenset("uv")
_KNOWN: Final = "use %u, %v, %f, %g, %Xu, %08Xu and so on"
_NO_MD5: Final = (
    "%m is a hash of the header of a message in an mbox; no Maildir can have been served with it. If the Maildir was "
    "made from mboxes, ask the old server: --from pop3://USER@HOST"
)


class UidlFormat:
    """A format such as `%08Xu%08Xv`, of %u (UID), %v (UIDVALIDITY), %f (base name) and %g (GUID).

    Dovecot writes `X` in lower case. Raises SourceError for a format that cannot be followed.
    """

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._parts: Final = [*_parts(text)]
        # Whether two messages can never have the same.
        self.unique: Final = bool({letter for letter, _, _ in self._parts} & {"u", "f", "g"})
        if not self.unique:
            raise SourceError(f"{text!r} gives every message the same unique-id: it needs %u, %f or %g")

    def __repr__(self) -> str:
        return f"UidlFormat({self.text!r})"

    def __call__(self, uid: int, uidvalidity: int, base: bytes, guid: bytes) -> str:
        """The unique-id of a message. Octets outside ASCII come out as characters that no unique-id can have."""
        values = {"u": uid, "v": uidvalidity}
        texts = {"f": base.decode("latin-1"), "g": guid.decode("latin-1")}
        return "".join(
            format(values[letter], f"0{width}{kind}") if letter in values else texts.get(letter, kind)
            for letter, width, kind in self._parts
        )


def _parts(text: str) -> list[tuple[str, int, str]]:
    """Letter, least width, and `x` or `d`; or no letter that is a field, 0, and a text that stands for itself."""
    parts: list[tuple[str, int, str]] = []
    end = 0
    for match in _FIELD.finditer(text):
        parts.append(("", 0, text[end : match.start()]))
        end = match.end()
        if match["literal"]:
            parts.append(("%", 0, "%"))
            continue
        letter = match["letter"] or _LETTERS.get(match["name"], "")
        if letter == "m":
            raise SourceError(_NO_MD5)
        modified = match["hex"] or match["width"] or match["digits"]
        if letter not in _LETTERS.values() or (modified and letter not in _NUMBERS):
            raise SourceError(f"{match[0]!r} in {text!r} is nothing we know: {_KNOWN}")
        parts.append(
            (letter, int(match["width"] or match["digits"] or 0), "x" if match["hex"] or match["digits"] else "d")
        )
    parts.append(("", 0, text[end:]))
    if any("%" in kind for letter, _, kind in parts if not letter):
        raise SourceError(f"a % in {text!r} begins nothing we know: {_KNOWN}")
    return parts
