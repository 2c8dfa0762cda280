"""Dialogues as people write them: `C:` and `S:` lines, printed, and read back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast

# Who: the client, the server, or a message that was put into the maildrop.
Who: TypeAlias = Literal["C", "S", "D"]

NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})
_SHORT: Final = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}
_LETTERS: Final = {text[1]: octet for octet, text in _SHORT.items()}
_ESCAPED: Final = {octet: f"\\x{octet:02x}" for octet in range(256) if not 0x20 <= octet < 0x7F} | _SHORT
# The same octet again and again, as often as can be written.
_RUN: Final = re.compile(rb"(.)\1{23,9999998}", re.DOTALL)
# One octet as it is printed.
_UNIT: Final = r"\\x[0-9a-f]{2}|\\[rnt\\]|[^\\]"
_PIECE: Final = re.compile(
    rf"\\\{{(?P<unit>{_UNIT})\*(?P<times>[0-9]{{1,7}})\}}|\\\{{(?P<name>[a-z]+)\}}"
    r"|\\x(?P<hex>[0-9a-f]{2})|\\(?P<letter>[rnt\\])|(?P<plain>[ -\[\]-~]+)"
)
_ENTRY: Final = re.compile(
    r"(?P<who>[CS])(?P<number>[0-9]*)(?P<kind>[:>]|! closes$)(?: (?P<text>.*))?"
    r"|D(?: (?P<user>[!-9;-~]+))?: ?(?P<mail>.*)"
)
_USER: Final = re.compile(r"[!-9;-~]+")
# What is printed of a listing or a message that goes on and on.
_MOST_LINES: Final = 30


def octets(word: str) -> bytes:
    """A name or password as it is sent; what came from a command line in another encoding, as it was."""
    return word.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Entry:
    """Octets that went one way on a connection, b"" for its end; or a message that was delivered."""

    who: Who
    data: bytes
    number: int = 1  # which connection
    user: str = ""  # whose maildrop, if there are several


@dataclass(slots=True)
class Transcript:
    r"""What was said on one connection or several, in order.

    Printed, a line of octets that ends in CRLF is `C: line` or `S: line`; octets without a line end are `C> octets`;
    `C! closes` is the end of a stream; `D: octets` is a message that was delivered, `D alice: octets` one to alice.
    With more than one connection it is `C1:`, `S1:`, `C2:` and so on; one that is alone has no number. Everything but
    printable ASCII is escaped as in Python, `\{x*600}` is 600 times x. Consecutive lines of a client were sent in one
    piece. Lines that begin with `#` are remarks.

    hide: octets -> a name of lower-case letters, printed as `\{name}` in their place: passwords. What the end of a line
    or of a turn cuts in two is not found.
    """

    entries: list[Entry] = field(default_factory=list, repr=False)  # with all that is hidden when it is printed
    hide: Mapping[bytes, str] = field(default_factory=dict, repr=False)
    remarks: list[str] = field(default_factory=list)

    def add(self, who: Who, data: bytes, number: int = 1, user: str = "") -> None:
        """Write down octets as they travel. A user whose name cannot stand there (a blank, a colon) is left out."""
        self.entries.append(Entry(who, data, number, user if _USER.fullmatch(user) else ""))

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self.lines())

    def turns(self) -> Iterator[Entry]:
        """What was said, with all that one side says at a time in one entry. Each message is one of its own."""
        for (who, number, open_), group in groupby(self.entries, lambda each: (each.who, each.number, bool(each.data))):
            if who == "D":
                yield from group
            else:
                yield Entry(who, b"".join(entry.data for entry in group) if open_ else b"", number)

    def lines(self) -> Iterator[str]:
        """What is printed, line for line."""
        several = len({entry.number for entry in self.entries if entry.who != "D"}) > 1
        yield from (f"# {remark}" for remark in self.remarks)
        for turn in self.turns():
            mark = f"{turn.who}{turn.number}" if several and turn.who != "D" else turn.who
            if turn.who == "D":
                yield self._line(f"D {turn.user}:" if turn.user else "D:", turn.data)
            elif not turn.data:
                yield f"{mark}! closes"
            else:
                *whole, rest = turn.data.split(b"\r\n")
                yield from (self._line(f"{mark}:", line) for line in whole)
                if rest:
                    yield self._line(f"{mark}>", rest)

    def _line(self, mark: str, data: bytes) -> str:
        text = escape(data, self.hide)
        # A space at the end would be lost on paper.
        return f"{mark} {text[:-1]}\\x20" if text.endswith(" ") else f"{mark} {text}" if text else mark

    def shortened(self, most_lines: int = _MOST_LINES) -> str:
        """The same for a person: without the middle of what the server said at length."""
        kept: list[str] = []
        for server, group in groupby(self.lines(), lambda line: line.startswith("S")):
            block = list(group)
            if server and len(block) > most_lines:
                half = most_lines // 2
                block = [*block[:half], f"# ... {len(block) - 2 * half} lines ...", *block[len(block) - half :]]
            kept += block
        return "".join(f"{line}\n" for line in kept)

    def conceal(self, text: str) -> str:
        """A sentence about this dialogue, without what is hidden."""
        for secret in sorted(self.hide, key=len, reverse=True):
            # As `repr` writes it alone, and where a quote of either kind stands beside it.
            both = repr(b"'\"" + secret)[5:-1]
            for shown in (both, repr(secret)[2:-1], escape(secret), secret.decode("utf-8", "replace")):
                if shown:
                    text = text.replace(shown, f"\\{{{self.hide[secret]}}}")
        return text

    @classmethod
    def parse(cls, text: str, values: Mapping[str, bytes] = NOTHING) -> Transcript:
        r"""Read back what was printed, or written by hand. `values` has what stands for each `\{name}`.

        Raises ValueError, with the number of the line, for what is no such line.
        """
        transcript = cls()
        for count, line in enumerate(text.splitlines(), 1):
            line = line.lstrip()
            if not line or line.startswith("#"):
                continue
            match = _ENTRY.fullmatch(line)
            try:
                if match is None:
                    raise ValueError("is none of C:, C>, C! closes, S:, S>, S! closes, D:, D user: and a remark")
                if match["mail"] is not None:
                    transcript.add("D", unescape(match["mail"], values), user=match["user"] or "")
                    continue
                data = unescape(match["text"] or "", values) + (b"\r\n" if match["kind"] == ":" else b"")
                if match["kind"] == ">" and not data:
                    raise ValueError("has no octets")
                transcript.add(cast(Who, match["who"]), data, int(match["number"] or 1))
            except ValueError as failure:
                raise ValueError(f"line {count} {failure}: {line[:80]!r}") from None
        return transcript


def escape(data: bytes, hide: Mapping[bytes, str] | None = None) -> str:
    """Octets as printable ASCII, with names in the place of those that are hidden; no octets hide nothing."""
    secret = max(hide or (b"",), key=len)  # the longest first: one may hold another
    if hide and secret:
        rest = {octets: name for octets, name in hide.items() if octets != secret}
        return f"\\{{{hide[secret]}}}".join(escape(part, rest) for part in data.split(secret))
    parts, start = [], 0
    for run in _RUN.finditer(data):
        parts += [_plain(data[start : run.start()]), f"\\{{{_plain(run[1])}*{len(run[0])}}}"]
        start = run.end()
    return "".join(parts) + _plain(data[start:])


def _plain(data: bytes) -> str:
    return data.decode("latin-1").translate(_ESCAPED)


def unescape(text: str, values: Mapping[str, bytes] = NOTHING) -> bytes:
    """What `escape` was given. Raises ValueError for an escape that is none, or a name without a value."""
    octets = bytearray()
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            raise ValueError(f"has something that is neither ASCII nor an escape at {text[position : position + 10]!r}")
        position = match.end()
        if match["unit"]:
            octets += unescape(match["unit"]) * int(match["times"])
        elif match["name"]:
            if match["name"] not in values:
                raise ValueError(f"needs a value for {match['name']}")
            octets += values[match["name"]]
        elif match["plain"]:
            octets += match["plain"].encode()
        else:
            octets.append(int(match["hex"], 16) if match["hex"] else _LETTERS[match["letter"]])
    return bytes(octets)
