"""One line of octets to one event: commands for a server, status lines for a client."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import events as ev
from .base64 import decode
from .commands import BY_VERB, Arguments, Row
from .enums import Profile, ResponseCode
from .errors import RemoteProtocolError
from .grammar import (
    ATTRIBUTE,
    DIGITS,
    HEX_DIGEST,
    KEYWORD,
    LANGUAGE,
    MECHANISM,
    NUMBER,
    PASSWORD,
    RESPONSE_CODE,
    TIMESTAMP,
)

UNKNOWN: Final = ev.BadCommand(ev.Err("unknown command"))
NOT_SERVED: Final = ev.BadCommand(ev.Err("command not available"))
MALFORMED: Final = ev.BadCommand(ev.Err("malformed command line"))
LINE_TOO_LONG: Final = ev.BadCommand(ev.Err("command line too long"))
STREAM_TOO_LONG: Final = ev.BadCommand(ev.Err("command line far too long, closing"), fatal=True)
WRONG_STATE: Final = ev.BadCommand(ev.Err("command not valid in this state"))
BAD_BASE64: Final = ev.BadCommand(ev.Err("not base64, authentication ended"))

# TOP counts beyond any message mean "all of it".
_ALL_LINES: Final = 10**10


def _usage(row: Row) -> ev.BadCommand:
    words = " ".join(filter(None, (row.verb.decode("ascii"), row.arguments.value)))
    return ev.BadCommand(ev.Err(f"bad arguments, expected: {words}"))


_USAGE: Final = {row.verb: _usage(row) for row in BY_VERB.values()}
_OPTIONAL: Final = frozenset({Arguments.OPTIONAL_NUMBER, Arguments.OPTIONAL_LANGUAGE})


def read_command(line: bytes, *, profile: Profile, names: re.Pattern[bytes]) -> ev.Command | ev.BadCommand:
    """The command in a line (its end taken off), or which reply is due because it is none. `names`: user names."""
    keyword, space, rest = line.partition(b" ")
    row = BY_VERB.get(keyword.upper())
    if row is None:
        return UNKNOWN if KEYWORD.fullmatch(keyword) else MALFORMED
    if row.event is None:
        return NOT_SERVED
    exact = row.arguments is Arguments.PASSWORD or (row.arguments is Arguments.NAME and names.fullmatch(b" "))
    if space and not exact and profile is Profile.DEFAULT:
        rest = rest.rstrip(b" ")
        space = b" " if rest else b""
    if not space:
        if row.event is ev.Auth and profile is Profile.DEFAULT:
            return ev.AuthList()
        return row.event() if row.arguments is Arguments.NONE or row.arguments in _OPTIONAL else _USAGE[row.verb]
    values = _VALUES[row.arguments](rest, names) if row.arguments in _VALUES else None
    return _USAGE[row.verb] if values is None else row.event(*values)


def read_response(line: bytes) -> ev.Command | ev.BadCommand:
    """A line in a SASL exchange (its end taken off). An empty one is a response of no octets (RFC 5034 section 4)."""
    if line == b"*":
        return ev.SaslCancel()
    data = _decoded(line)
    return BAD_BASE64 if data is None else ev.SaslResponse(data)


def _decoded(text: bytes) -> bytes | None:
    try:
        return decode(text)
    except ValueError:
        return None


def _number(word: bytes) -> int | None:
    return int(word) if NUMBER.fullmatch(word) else None


def _one_number(rest: bytes, _: re.Pattern[bytes]) -> tuple[int] | None:
    number = _number(rest)
    return None if number is None else (number,)


def _number_and_lines(rest: bytes, _: re.Pattern[bytes]) -> tuple[int, int] | None:
    first, _space, second = rest.partition(b" ")
    number = _number(first)
    if number is None or not DIGITS.fullmatch(second):
        return None
    lines = _number(second.lstrip(b"0") or b"0")
    return number, _ALL_LINES if lines is None else lines


def _password(rest: bytes, _: re.Pattern[bytes]) -> tuple[bytes] | None:
    return (rest,) if PASSWORD.fullmatch(rest) else None


def _name(rest: bytes, names: re.Pattern[bytes]) -> tuple[str] | None:
    if not names.fullmatch(rest):
        return None
    try:
        return (rest.decode(),)
    except UnicodeDecodeError:
        return None


def _name_and_digest(rest: bytes, names: re.Pattern[bytes]) -> tuple[str, bytes] | None:
    first, _, digest = rest.rpartition(b" ")
    name = _name(first, names)
    return (*name, bytes.fromhex(digest.decode("ascii"))) if name and HEX_DIGEST.fullmatch(digest) else None


def _mechanism(rest: bytes, _: re.Pattern[bytes]) -> tuple[str, bytes | None] | None:
    name, space, response = rest.partition(b" ")
    name = name.upper()
    if not MECHANISM.fullmatch(name):
        return None
    if not space:
        return name.decode("ascii"), None
    # "=" stands for no octets, since an empty word could not be seen (RFC 5034 section 4).
    initial = b"" if response == b"=" else _decoded(response) if response else None
    return None if initial is None else (name.decode("ascii"), initial)


def _language(rest: bytes, _: re.Pattern[bytes]) -> tuple[str] | None:
    return (rest.decode("ascii"),) if LANGUAGE.fullmatch(rest) else None


def _attributes(rest: bytes, _: re.Pattern[bytes]) -> tuple[tuple[tuple[str, str], ...]] | None:
    matches = [ATTRIBUTE.fullmatch(word) for word in rest.split(b" ")]
    pairs = tuple((match[1].decode("ascii").upper(), match[2].decode("ascii")) for match in matches if match)
    return (pairs,) if len(pairs) == len(matches) else None


_VALUES: Final[Mapping[Arguments, Callable[[bytes, re.Pattern[bytes]], tuple[Any, ...] | None]]] = {
    Arguments.NUMBER: _one_number,
    Arguments.OPTIONAL_NUMBER: _one_number,
    Arguments.NUMBER_AND_LINES: _number_and_lines,
    Arguments.PASSWORD: _password,
    Arguments.NAME: _name,
    Arguments.NAME_AND_DIGEST: _name_and_digest,
    Arguments.MECHANISM: _mechanism,
    Arguments.OPTIONAL_LANGUAGE: _language,
    Arguments.ATTRIBUTES: _attributes,
}


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


def read_challenge(line: bytes) -> ev.Challenge | None:
    """A SASL challenge; None if the line is none. Servers are known to leave out the space before no octets."""
    if line == b"+":
        return ev.Challenge()
    return ev.Challenge(_decoded(line[2:])) if line.startswith(b"+ ") else None


def read_greeting(line: bytes) -> ev.Greeting | ev.Err:
    """The server's first line. Raises RemoteProtocolError if it is none."""
    status = read_status(line)
    if isinstance(status, ev.Err):
        return status
    stamp = TIMESTAMP.search(status.text)
    return ev.Greeting(status.text, stamp.group() if stamp else None, status.code)


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
