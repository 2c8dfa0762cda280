"""THE COMMAND TABLE of LMTP: verb, reader, and the states in which it may be said. Bytes to events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from . import events as ev
from .grammar import NAME, SIZE, read_parameters, read_path
from .replies import Reply


class State(Enum):
    """Where the dialogue stands."""

    GREETING = "greeting"
    FRESH = "before LHLO"
    READY = "no transaction"
    SENDER = "sender known"
    RECIPIENTS = "recipients known"
    CONTENT = "message"
    REPLIES = "replies due"
    CLOSED = "closed"


OVERLONG: Final = ev.BadCommand(Reply(500, "5.5.6", "line too long"))
WITHOUT_END: Final = ev.BadCommand(Reply(421, "4.5.6", "that is no command line, goodbye"))
_UNKNOWN: Final = ev.BadCommand(Reply(500, "5.5.2", "command not recognized"))
_ENCODING: Final = ev.BadCommand(Reply(500, "5.5.2", "a command is text, in UTF-8 and without control characters"))
_SYNTAX: Final = ev.BadCommand(Reply(501, "5.5.4", "bad arguments"))
_PARAMETERS: Final = ev.BadCommand(Reply(501, "5.5.4", "bad parameters"))
_NOT_SERVED: Final = ev.BadCommand(Reply(555, "5.5.4", "parameter not served"))
_SENDER: Final = ev.BadCommand(Reply(501, "5.1.7", "that is no sender's address"))
_RECIPIENT: Final = ev.BadCommand(Reply(501, "5.1.3", "that is no recipient's address"))
_NOT_ASCII: Final = ev.BadCommand(Reply(553, "5.6.7", "address is not ASCII, and SMTPUTF8 was not said"))
# RFC 2033 section 4.1: "MUST NOT be supported", so that no SMTP client takes us for what we are not.
_IS_LMTP: Final = ev.BadCommand(Reply(500, "5.5.1", "this is LMTP: say LHLO"))
_OUT_OF_ORDER: Final[Mapping[State, ev.BadCommand]] = MappingProxyType(
    {
        State.FRESH: ev.BadCommand(Reply(503, "5.5.1", "say LHLO first")),
        State.READY: ev.BadCommand(Reply(503, "5.5.1", "say MAIL first")),
        # RFC 2033 section 4.2: DATA without a recipient that was accepted.
        State.SENDER: ev.BadCommand(Reply(503, "5.5.1", "no recipient was accepted, or the sender is known already")),
        State.RECIPIENTS: ev.BadCommand(Reply(503, "5.5.1", "the sender is known already")),
    }
)

_Read = Callable[[str, bool], ev.Command | ev.BadCommand]


class Row(NamedTuple):
    """One verb: what reads its arguments (given whether SMTPUTF8 was said), and where it may stand."""

    read: _Read
    states: frozenset[State]


def _lhlo(text: str, utf8: bool) -> ev.Command | ev.BadCommand:
    name = text.strip()
    return ev.Lhlo(name) if NAME.fullmatch(name) else _SYNTAX


def _mail(text: str, utf8: bool) -> ev.Command | ev.BadCommand:
    path = _after(text, "FROM:")
    found = (None, path[2:]) if path.startswith("<>") else read_path(path)
    if found is None:
        return _SENDER
    sender, rest = found
    parameters = read_parameters(rest)
    if parameters is None or (rest and not rest[0].isspace()):
        return _PARAMETERS
    size, body = parameters.pop("SIZE", "0"), (parameters.pop("BODY", "7BIT") or "").upper()
    said_utf8 = "SMTPUTF8" in parameters
    if size is None or not SIZE.fullmatch(size) or body not in ("7BIT", "8BITMIME"):
        return _PARAMETERS
    if parameters.pop("SMTPUTF8", None) is not None:
        return _PARAMETERS
    if parameters:
        return _NOT_SERVED
    if not said_utf8 and not path.isascii():
        return _NOT_ASCII
    return ev.Mail(sender, int(size) or None, eight_bit=body == "8BITMIME", utf8=said_utf8)


def _rcpt(text: str, utf8: bool) -> ev.Command | ev.BadCommand:
    path = _after(text, "TO:")
    found = read_path(path)
    if found is None:
        return _RECIPIENT
    recipient, rest = found
    if rest.strip():
        return _NOT_SERVED
    return ev.Rcpt(recipient) if utf8 or path.isascii() else _NOT_ASCII


def _after(text: str, prefix: str) -> str:
    """What stands behind `FROM:` or `TO:`, with the blanks that some clients put there; "" if that is missing."""
    word = text[: len(prefix)]
    return text[len(prefix) :].strip() if word.upper() == prefix else ""


def _bare(event: ev.Command) -> _Read:
    return lambda text, utf8: _SYNTAX if text else event


def _vrfy(text: str, utf8: bool) -> ev.Command | ev.BadCommand:
    return ev.Vrfy() if text else _SYNTAX


def _smtp(text: str, utf8: bool) -> ev.BadCommand:
    return _IS_LMTP


_ANYWHERE: Final = frozenset({State.FRESH, State.READY, State.SENDER, State.RECIPIENTS})
COMMANDS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "LHLO": Row(_lhlo, _ANYWHERE),
        "MAIL": Row(_mail, frozenset({State.READY})),
        "RCPT": Row(_rcpt, frozenset({State.SENDER, State.RECIPIENTS})),
        "DATA": Row(_bare(ev.Data()), frozenset({State.RECIPIENTS})),
        "RSET": Row(_bare(ev.Rset()), _ANYWHERE),
        "NOOP": Row(lambda text, utf8: ev.Noop(), _ANYWHERE),
        "VRFY": Row(_vrfy, _ANYWHERE),
        "QUIT": Row(_bare(ev.Quit()), _ANYWHERE),
        "HELO": Row(_smtp, _ANYWHERE),
        "EHLO": Row(_smtp, _ANYWHERE),
    }
)


def read_command(line: bytes, state: State, *, utf8: bool) -> ev.Command | ev.BadCommand:
    """A line without its end. `utf8`: the transaction has said SMTPUTF8."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return _ENCODING
    if not text.isprintable():
        return _ENCODING
    verb, _, rest = text.partition(" ")
    row = COMMANDS.get(verb.upper()) if verb.isascii() else None
    if row is None:
        return _UNKNOWN
    if state not in row.states:
        return _OUT_OF_ORDER[state]
    return row.read(rest.strip(), utf8)
