"""The smallest LMTP receiver there can be: whole lines in a list, one answer each, no chunk anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trio_pop3.lmtp import (
    BadCommand,
    Command,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Lhlo,
    LmtpConnection,
    Mail,
    Quit,
    Rcpt,
    Reply,
    Rset,
)
from trio_pop3.sansio import Signal

MAX_SIZE = 60


@dataclass
class Outcome:
    """What a dialogue came to: reply codes in order, and messages with their senders and recipients."""

    codes: list[int] = field(default_factory=list)
    messages: list[tuple[str, tuple[str, ...], bytes | None]] = field(default_factory=list)


def converse(chunks: Sequence[bytes]) -> Outcome:
    """Our core, with a server that takes every recipient but those called `no`."""
    connection, outcome = LmtpConnection(hostname="here", max_size=MAX_SIZE), Outcome()
    sender, recipients, content = "", list[str](), bytearray()

    def say(code: int) -> None:
        enhanced = "" if code in (220, 354) else f"{code // 100}.0.0"
        assert connection.send(Reply(code, enhanced, "x")).startswith(b"%d " % code)
        outcome.codes.append(code)

    say(220)
    for chunk in [*chunks, b""]:
        connection.receive_data(chunk)
        while not isinstance(event := connection.next_event(), Signal | ConnectionClosed):
            match event:
                case BadCommand(reply):
                    say(reply.code)
                case Lhlo():
                    connection.send_extensions()
                    outcome.codes.append(250)
                    recipients.clear()
                case Mail():
                    sender = "" if event.sender is None else str(event.sender)
                    say(250)
                case Rcpt(recipient):
                    refused = recipient.local == "no"
                    recipients += [] if refused else [str(recipient)]
                    say(550 if refused else 250)
                case Data():
                    content.clear()
                    say(354)
                case Content(octets):
                    assert octets
                    content += octets
                case EndOfContent():
                    whole = None if event.too_large else bytes(content)
                    outcome.messages.append((sender, tuple(recipients), whole))
                    assert event.too_large or event.octets == len(content)
                    assert connection.replies_due == len(recipients)
                    for number in range(len(recipients)):
                        say(552 if event.too_large else 250 + number % 2)
                    recipients.clear()
                case Quit():
                    say(221)
                case _:
                    assert isinstance(event, Command)
                    recipients.clear() if isinstance(event, Rset) else None
                    say(250)
    return outcome


def expected(octets: bytes) -> Outcome:
    """The same, from the whole text at once."""
    outcome = Outcome([220])
    greeted, sender, recipients = False, None, list[str]()
    lines = octets.split(b"\r\n")[:-1]
    while lines:
        line = lines.pop(0)
        verb, _, rest = line.decode().partition(" ")
        code, verb = 250, verb.upper()
        if verb in ("EHLO", "HELO") or verb not in ("LHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT"):
            code = 500
        elif verb == "QUIT":
            outcome.codes.append(221)
            break
        elif verb == "LHLO":
            greeted, sender, recipients = True, None, []
        elif verb == "RSET":
            sender, recipients = None, []
        elif verb == "MAIL":
            if greeted and sender is None:
                sender = rest.removeprefix("FROM:<").removesuffix(">")
            else:
                code = 503
        elif verb == "RCPT":
            if sender is None:
                code = 503
            elif "no@" in rest:
                code = 550
            else:
                recipients.append(rest.removeprefix("TO:<").removesuffix(">"))
        elif verb == "DATA":
            if not recipients:
                outcome.codes.append(503)
                continue
            outcome.codes.append(354)
            if b"." not in lines:
                break  # it never ends
            end = lines.index(b".")
            body = b"".join(part.removeprefix(b".") + b"\r\n" for part in lines[:end])
            del lines[: end + 1]
            large = len(body) > MAX_SIZE
            outcome.messages.append((sender or "", tuple(recipients), None if large else body))
            outcome.codes += [552 if large else 250 + number % 2 for number in range(len(recipients))]
            sender, recipients = None, []
            continue
        outcome.codes.append(code)
    return outcome
