"""One event to octets. A text that could break a line, or pass for a response code, cannot get out of here."""

from __future__ import annotations

import re
from typing import Final

from . import events as ev
from .base64 import encode
from .commands import BY_EVENT
from .errors import LocalProtocolError
from .grammar import (
    ATTRIBUTE,
    CRLF,
    LANGUAGE,
    MAX_COMMAND_LINE,
    MAX_SASL_LINE,
    MAX_STATUS_LINE,
    MECHANISM,
    PASSWORD,
    TIMESTAMP,
    clip,
)

# RFC 5034 section 4: what does not fit behind AUTH is sent when it is asked for, on a line of its own.
_LONGEST: Final = {ev.Auth: 255, ev.SaslResponse: MAX_SASL_LINE}
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
        return write_status(ev.Ok(text, greeting.code))
    if not TIMESTAMP.fullmatch(stamp) or TIMESTAMP.search(text):
        raise LocalProtocolError(f"not one timestamp: {text!r}, {stamp!r}")
    code = "" if greeting.code is None else f"[{greeting.code.value}] "
    if len(text.encode()) + len(stamp) + len(f"+OK {code} \r\n") > MAX_STATUS_LINE:
        raise LocalProtocolError("greeting longer than 512 octets")
    return write_status(ev.Ok(f"{text} {stamp}", greeting.code))


def write_challenge(challenge: ev.Challenge) -> bytes:
    """A SASL challenge: the space is there even if nothing follows it (RFC 5034 section 4)."""
    if challenge.data is None:
        raise LocalProtocolError("a challenge holds octets")
    line = b"+ " + encode(challenge.data) + CRLF
    if len(line) > MAX_SASL_LINE:
        raise LocalProtocolError(f"a challenge is at most {MAX_SASL_LINE} octets")
    return line


def write_command(command: ev.Command, *, names: re.Pattern[bytes]) -> bytes:
    """A command line. Raises LocalProtocolError if a value has no place in one. `names`: user names."""
    row = BY_EVENT[type(command)]
    words = [row.verb]
    match command:
        case ev.Pass(password):
            words.append(_checked(password, PASSWORD))
        case ev.User(name):
            words.append(_name(name, names))
        case ev.Apop(name, digest):
            if len(digest) != 16:
                raise LocalProtocolError("an APOP digest has 16 octets")
            words += [_name(name, names), digest.hex().encode()]
        case ev.Auth(mechanism, initial):
            words.append(_checked(_octets(mechanism), MECHANISM))
            if initial is not None:
                words.append(encode(initial) or b"=")
        case ev.SaslResponse(data):
            words = [encode(data)]
        case ev.SaslCancel():
            words = [b"*"]
        case ev.Lang(tag) if tag is not None:
            words.append(_checked(_octets(tag), LANGUAGE))
        case ev.Xclient(attributes):
            words += [_attribute(name, value) for name, value in attributes]
            if not attributes:
                raise LocalProtocolError("XCLIENT needs attributes")
        case ev.Top(number, lines):
            words += [_number(number), _number(lines)]
        case ev.Retr(number) | ev.Dele(number):
            words.append(_number(number))
        case ev.List(number) | ev.Uidl(number) if number is not None:
            words.append(_number(number))
    line = b" ".join(words) + CRLF
    if len(line) > _LONGEST.get(type(command), MAX_COMMAND_LINE):
        raise LocalProtocolError(f"{type(command).__name__} is too long for a line")
    return line


def _octets(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # As what stands in it may be a secret, the text is not shown.
        raise LocalProtocolError("a word holds characters that have no octets") from None


def _name(name: str, names: re.Pattern[bytes]) -> bytes:
    return _checked(_octets(name), names)


def _attribute(name: str, value: str) -> bytes:
    word = _checked(_octets(f"{name}={value}"), ATTRIBUTE)
    if "=" in name:
        raise LocalProtocolError(f"not the name of an attribute: {name!r}")
    return word


def _checked(word: bytes, pattern: re.Pattern[bytes]) -> bytes:
    # The value stays out of the message: it may be a password.
    if not pattern.fullmatch(word):
        raise LocalProtocolError("a name or password is empty or holds octets that cannot be sent")
    return word


def _number(value: int) -> bytes:
    if not 0 <= value < 10**10:
        raise LocalProtocolError(f"not a message number or line count: {value!r}")
    return str(value).encode()
