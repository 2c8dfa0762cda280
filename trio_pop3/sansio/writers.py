"""One event to octets. A text that could break a line, or pass for a response code, cannot get out of here."""

from __future__ import annotations

import re
from typing import Final

from . import events as ev
from .commands import BY_EVENT
from .errors import LocalProtocolError
from .grammar import CRLF, MAX_STATUS_LINE, PARAM, PASSWORD, SPACED_PARAM, TIMESTAMP, clip

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def write_status(reply: ev.Ok | ev.Err) -> bytes:
    """A status line, at most 512 octets; a longer text is clipped (RFC 1939 section 3).

    Raises LocalProtocolError if the text is empty, holds a control character, or begins with "[" (only `code` may be
    a response code).
    """
    text = reply.text
    if not text or text[0] == "[" or _CONTROL.search(text):
        raise LocalProtocolError(f"not a reply text: {text!r}")
    if reply.code is not None:
        text = f"[{reply.code.value}] {text}"
    line = (f"+OK {text}" if isinstance(reply, ev.Ok) else f"-ERR {text}").encode()
    return (line if len(line) < MAX_STATUS_LINE - 1 else clip(line, MAX_STATUS_LINE - 2)) + CRLF


def write_greeting(greeting: ev.Greeting) -> bytes:
    """The first line. Raises LocalProtocolError if it would not fit, since the timestamp must be whole."""
    text, stamp = greeting.text, greeting.timestamp
    if stamp is None:
        # An angle-bracketed address would be taken for an offer of APOP.
        if TIMESTAMP.search(text):
            raise LocalProtocolError(f"greeting text holds a timestamp: {text!r}")
        return write_status(ev.Ok(text))
    if not TIMESTAMP.fullmatch(stamp) or TIMESTAMP.search(text):
        raise LocalProtocolError(f"not one timestamp: {text!r}, {stamp!r}")
    if len(text.encode()) + len(stamp) + len("+OK  \r\n") > MAX_STATUS_LINE:
        raise LocalProtocolError("greeting longer than 512 octets")
    return write_status(ev.Ok(f"{text} {stamp}"))


def write_command(command: ev.Command, *, space_in_user: bool) -> bytes:
    """A command line. Raises LocalProtocolError if a value has no place in one."""
    row = BY_EVENT[type(command)]
    words = [row.verb]
    match command:
        case ev.Pass(password):
            words.append(_checked(password, PASSWORD))
        case ev.User(name):
            words.append(_checked(_ascii(name), SPACED_PARAM if space_in_user else PARAM))
        case ev.Apop(name, digest):
            if len(digest) != 16:
                raise LocalProtocolError("an APOP digest has 16 octets")
            words += [_checked(_ascii(name), SPACED_PARAM if space_in_user else PARAM), digest.hex().encode()]
        case ev.Top(number, lines):
            words += [_number(number), _number(lines)]
        case ev.Retr(number) | ev.Dele(number):
            words.append(_number(number))
        case ev.List(number) | ev.Uidl(number) if number is not None:
            words.append(_number(number))
    return b" ".join(words) + CRLF


def _ascii(name: str) -> bytes:
    try:
        return name.encode("ascii")
    except UnicodeEncodeError:
        raise LocalProtocolError("a user name outside ASCII needs UTF8 USER, which is not available") from None


def _checked(word: bytes, pattern: re.Pattern[bytes]) -> bytes:
    # The value stays out of the message: it may be a password.
    if not pattern.fullmatch(word):
        raise LocalProtocolError("a name or password is empty or holds octets that cannot be sent")
    return word


def _number(value: int) -> bytes:
    if not 0 <= value < 10**10:
        raise LocalProtocolError(f"not a message number or line count: {value!r}")
    return str(value).encode()
