"""One line of octets to one event: commands for a server, status lines for a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import events as ev
from .commands import BY_VERB, Arguments, Row
from .enums import Profile, ResponseCode
from .errors import RemoteProtocolError
from .grammar import DIGITS, HEX_DIGEST, KEYWORD, NUMBER, PARAM, PASSWORD, RESPONSE_CODE, SPACED_PARAM, TIMESTAMP

UNKNOWN: Final = ev.BadCommand(ev.Err("unknown command"))
NOT_SERVED: Final = ev.BadCommand(ev.Err("command not available"))
MALFORMED: Final = ev.BadCommand(ev.Err("malformed command line"))
LINE_TOO_LONG: Final = ev.BadCommand(ev.Err("command line too long"))
STREAM_TOO_LONG: Final = ev.BadCommand(ev.Err("command line far too long, closing"), fatal=True)
WRONG_STATE: Final = ev.BadCommand(ev.Err("command not valid in this state"))

# TOP counts beyond any message mean "all of it".
_ALL_LINES: Final = 10**10


def _usage(row: Row) -> ev.BadCommand:
    words = " ".join(filter(None, (row.verb.decode("ascii"), row.arguments.value)))
    return ev.BadCommand(ev.Err(f"bad arguments, expected: {words}"))


_USAGE: Final = {row.verb: _usage(row) for row in BY_VERB.values()}


def read_command(line: bytes, *, profile: Profile, space_in_user: bool) -> ev.Command | ev.BadCommand:
    """The command in a line (its end taken off), or which reply is due because it is none."""
    keyword, space, rest = line.partition(b" ")
    row = BY_VERB.get(keyword.upper())
    if row is None:
        return UNKNOWN if KEYWORD.fullmatch(keyword) else MALFORMED
    if row.event is None:
        return NOT_SERVED
    exact = row.arguments is Arguments.PASSWORD or (space_in_user and row.arguments is Arguments.NAME)
    if space and not exact and profile is Profile.DEFAULT:
        rest = rest.rstrip(b" ")
        space = b" " if rest else b""
    if row.arguments is Arguments.NONE:
        return _USAGE[row.verb] if space else row.event()
    values = _NUMBERS[row.arguments](rest) if row.arguments in _NUMBERS else _texts(row, rest, space_in_user)
    if values is None and not (row.arguments is Arguments.OPTIONAL_NUMBER and not space):
        return _USAGE[row.verb]
    return row.event(*values or ())


def _number(word: bytes) -> int | None:
    return int(word) if NUMBER.fullmatch(word) else None


def _one_number(rest: bytes) -> tuple[int] | None:
    number = _number(rest)
    return None if number is None else (number,)


def _number_and_lines(rest: bytes) -> tuple[int, int] | None:
    first, _, second = rest.partition(b" ")
    number = _number(first)
    if number is None or not DIGITS.fullmatch(second):
        return None
    lines = _number(second.lstrip(b"0") or b"0")
    return number, _ALL_LINES if lines is None else lines


_NUMBERS: Final[dict[Arguments, Callable[[bytes], tuple[int, ...] | None]]] = {
    Arguments.NUMBER: _one_number,
    Arguments.OPTIONAL_NUMBER: _one_number,
    Arguments.NUMBER_AND_LINES: _number_and_lines,
}


def _texts(row: Row, rest: bytes, space_in_user: bool) -> tuple[str | bytes, ...] | None:
    if row.arguments is Arguments.PASSWORD:
        return (rest,) if PASSWORD.fullmatch(rest) else None
    if row.arguments is Arguments.NAME:
        pattern = SPACED_PARAM if space_in_user else PARAM
        return (rest.decode("ascii"),) if pattern.fullmatch(rest) else None
    name, _, digest = rest.rpartition(b" ")
    pattern = SPACED_PARAM if space_in_user else PARAM
    if not pattern.fullmatch(name) or not HEX_DIGEST.fullmatch(digest):
        return None
    return name.decode("ascii"), bytes.fromhex(digest.decode("ascii"))


# --- client role ---------------------------------------------------------------------------------------------------

_CODES: Final = {code.value: code for code in ResponseCode}


def read_status(line: bytes) -> ev.Ok | ev.Err:
    """A status line. Raises RemoteProtocolError if it is none."""
    text = line.decode("utf-8", "replace")
    status, _, rest = text.partition(" ")
    kind = ev.Ok if status == "+OK" else ev.Err if status == "-ERR" else None
    if kind is None:
        raise RemoteProtocolError(f"expected +OK or -ERR, got {text[:80]!r}")
    code, human = split_code(rest)
    return kind(human, code)


def read_greeting(line: bytes) -> ev.Greeting | ev.Err:
    """The server's first line. Raises RemoteProtocolError if it is none."""
    status = read_status(line)
    if isinstance(status, ev.Err):
        return status
    stamp = TIMESTAMP.search(status.text)
    return ev.Greeting(status.text, stamp.group() if stamp else None)


def split_code(text: str) -> tuple[ResponseCode | None, str]:
    """A reply text without its response code, and the code if it is a known one.

    Letter case does not matter, and detail below a known code is ignored: `[sys/temp/x]` is SYS_TEMP (RFC 2449
    section 8).
    """
    match = RESPONSE_CODE.match(text)
    if match is None:
        return None, text
    name, human = match.group(1).upper(), text[match.end() :]
    while name not in _CODES and "/" in name:
        name = name.rpartition("/")[0]
    return _CODES.get(name), human
