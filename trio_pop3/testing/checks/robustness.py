"""8xx: lines that are none, and lines that come in another way than expected."""

from __future__ import annotations

import time
from typing import Final

from ..talk import Reply
from ..wire import Silent
from .base import STAT, Group, Level, all_refused, expect, in_step, named, refused, says_goodbye
from .mail import mail_seen, same_messages
from .needs import DESTRUCTIVE, IN_CLEAR, STRICT, messages, works
from .target import CheckedTalk, Target

ROBUSTNESS: Final = Group("Robustness")
MUST, SHOULD = Level.MUST, Level.SHOULD
TOP, UIDL = works("TOP"), works("UIDL")
_MOST_OCTETS: Final = 512
_MANY: Final = 25
# Seconds, so that they do not meet again on the way.
_BETWEEN_SEGMENTS: Final = 0.003


@ROBUSTNESS("801", "an unknown command is refused, and the session goes on", MUST, "RFC 1939 section 3", "R1939-13")
def unknown(target: Target) -> None:
    """D9."""
    talk = target.connect()
    refused(talk, b"XNON")
    says_goodbye(talk)
    all_refused(target.login(), b"XNON", b"X", b"HELO example.org", b"NOOPX")


@ROBUSTNESS("802", "a status is +OK or -ERR, in capital letters, whatever was asked", MUST, "RFC 1939 section 3",
            "R1939-07", "R1939-04")  # fmt: skip
def statuses(target: Target) -> None:
    """A13. Talk raises for anything else, and for a line that does not end in CRLF."""
    talk = target.connect()
    for line in (b"XNON", b"NOOP"):
        talk.ask(line)
    talk = target.login()
    for line in (b"NOOP", b"XNON", b"RSET", b"LIST 0", b"RETR", b"STAT"):
        talk.ask(line)
    says_goodbye(talk)


@ROBUSTNESS("803", "an empty line is refused, and the session goes on", MUST, "RFC 1939 section 3", "R1939-13")
def empty_line(target: Target) -> None:
    """A-05, D4."""
    talk = target.connect()
    refused(talk, b"")
    says_goodbye(talk)
    all_refused(target.login(), b"")


@ROBUSTNESS("804", "commands are understood in any letter case", MUST, "RFC 1939 section 3", "R1939-03")
def any_case(target: Target) -> None:
    """D4."""
    talk = target.login()
    for line in (b"sTaT", b"list", b"NooP", b"rset", b"quit"):
        reply = talk.ask(line, multiline=line == b"list")
        expect(reply.ok, f"{named(line)} was refused")


@ROBUSTNESS("805", "an argument to a command that takes none is refused, and the command has no effect", MUST,
            "RFC 1939 section 3", "R1939-13")  # fmt: skip
def no_arguments(target: Target) -> None:
    """A-08, D1."""
    all_refused(target.login(), b"STAT x", b"NOOP x", b"RSET x", b"QUIT x")


@ROBUSTNESS("806", "an argument too many is refused", MUST, "RFC 1939 section 3", "R1939-13", needs=(messages(1),))
def arguments_too_many(target: Target) -> None:
    """A-08."""
    commands = target.commands
    talk = target.login()
    all_refused(
        talk,
        b"LIST 1 1",
        b"RETR 1 1",
        *((b"UIDL 1 1",) if "UIDL" in commands else ()),
        *((b"TOP 1 0 0",) if "TOP" in commands else ()),
    )


@ROBUSTNESS("807", "two spaces or a tab between command and argument are refused", MUST, "RFC 1939 section 3",
            "R1939-13", needs=(messages(1),))  # fmt: skip
def one_space(target: Target) -> None:
    """A-07."""
    all_refused(target.login(), b"LIST  1", b"LIST\t1")


@ROBUSTNESS("808", "a space before a command is refused", MUST, "RFC 1939 section 3", "R1939-13")
def space_before(target: Target) -> None:
    """A-05."""
    all_refused(target.login(), b" NOOP")


@ROBUSTNESS("809", "a space at the end of a line is ignored or refused, and the session goes on", MUST,
            "RFC 1939 section 3", "R1939-13")  # fmt: skip
def space_behind(target: Target) -> None:
    """A-06."""
    talk = target.login()
    for line in (b"NOOP ", b"RSET  ", b"LIST 0 "):
        talk.ask(line)
        in_step(talk)


@ROBUSTNESS("810", "a space at the end of a line is refused", MUST, "RFC 1939 section 3", "R1939-13",
            needs=(STRICT, messages(1)))  # fmt: skip
def space_behind_is_refused(target: Target) -> None:
    """A-06."""
    all_refused(target.login(), b"NOOP ", b"LIST 1 ")


@ROBUSTNESS("811", "LF alone ends a line, or is refused in it, and the session goes on", MUST, "RFC 1939 section 3",
            "R1939-04")  # fmt: skip
def bare_lf(target: Target) -> None:
    """A-01. Refused is the line that LF ends, or the one that it is in."""
    replies = _after_bare_lf(target)
    expect(replies in ([True, True], [False], [False, True]), "the replies are not two +OK, nor -ERR, nor -ERR and +OK")


@ROBUSTNESS("812", "LF alone ends no line", MUST, "RFC 1939 section 3", "R1939-04", "R1939-13", needs=(STRICT,))
def bare_lf_is_refused(target: Target) -> None:
    """A-01."""
    expect(_after_bare_lf(target) == [False], "it was not refused")


@ROBUSTNESS("813", "CR inside a line ends none, and is refused", MUST, "RFC 1939 section 3", "R1939-04", "R1939-13")
def bare_cr(target: Target) -> None:
    """A-02."""
    all_refused(target.login(), b"NO\rOP", b"NOOP\rNOOP")


@ROBUSTNESS("814", "NUL in a line is refused, and cuts nothing off", MUST, "RFC 1939 section 3", "R1939-13")
def nul(target: Target) -> None:
    """A-03, A8. A server may close: it has been attacked."""
    for talk, line in target.each((b"NOOP\0", b"LIST 1\0", b"\0NOOP"), target.login):
        _refused_or_closed(talk, line)


@ROBUSTNESS("815", "octets beyond ASCII, and control characters, are refused", MUST, "RFC 1939 section 3", "R1939-13")
def beyond_ascii(target: Target) -> None:
    """A-03, A9."""
    every = bytes(octet for octet in range(256) if octet not in b"\r\n")
    lines = (b"\xff\xfe", b"LIST \xb9", b"RETR \xc2\xb9", b"\x7f", every[:100], every[100:])
    for talk, line in target.each(lines, target.login):
        _refused_or_closed(talk, line)


@ROBUSTNESS("816", "a line that is too long is refused once, and its end is no command", MUST, "RFC 2449 section 4",
            "R1939-13", "R2449-01")  # fmt: skip
def long_line(target: Target) -> None:
    """A-04, I1. Wherever it is cut, what is left is a command."""
    lines = (b"XNON" + b" NOOP" * (octets // 5) for octets in (600, 1_100, 2_100, 4_200, 9_000, 40_000))
    for talk, line in target.each(lines, target.login):
        _refused_or_closed(talk, line)


@ROBUSTNESS("817", "a reply has at most 512 octets, whatever was asked", MUST, "RFC 1939 section 3", "R1939-06",
            "R2449-03")  # fmt: skip
def short_replies(target: Target) -> None:
    """A-41, A12."""
    talk = target.login()
    for line in (b"X" * 240, b"RETR " + b"x" * 240, b"\\%" * 120):
        reply = talk.ask(line)
        octets = len(b"-ERR \r\n") + len(reply.text)
        expect(octets <= _MOST_OCTETS, f"a reply has {octets} octets")


@ROBUSTNESS("818", "a reply is printable ASCII, whatever was asked", SHOULD, "RFC 2449 section 3")
def printable_replies(target: Target) -> None:
    """A-41, A11."""
    for talk, line in target.each((b"X\x1b[31m", b"RETR \x07", b"LIST \xff"), target.login):
        reply = _refused_or_closed(talk, line)
        if reply is not None:
            expect(all(0x20 <= octet < 0x7F for octet in reply.text), f"{named(line)} is given back in the reply")


@ROBUSTNESS("819", "a command is understood however it is cut into segments", MUST, "RFC 1939 section 3", "R1939-04")
def segments(target: Target) -> None:
    """D5."""
    talk = target.login()
    for octet in b"NOOP\r\nSTAT\r\n":
        talk.send_octets(bytes([octet]))
        time.sleep(_BETWEEN_SEGMENTS)
    expect(talk.reply().ok, "NOOP was refused")
    reply = talk.reply()
    expect(reply.ok and STAT.fullmatch(reply.text), "STAT was refused")
    in_step(talk)


@ROBUSTNESS("820", "a command behind QUIT is not answered", MUST, "RFC 1939 section 6", "R1939-53")
def nothing_behind_quit(target: Target) -> None:
    for talk in (target.connect(), target.login()):
        talk.send(b"QUIT", b"NOOP")
        expect(talk.reply().ok, "QUIT was refused")
        talk.expect_end()


@ROBUSTNESS("821", "a line without its end is no command when the client stops sending", SHOULD, "RFC 1939 section 3",
            "R1939-04", needs=(IN_CLEAR,))  # fmt: skip
def half_a_line(target: Target) -> None:
    """A-33."""
    talk = target.login()
    talk.send_octets(b"NOOP")
    talk.finish()
    try:
        said = talk.reply()
    except Silent:
        raise AssertionError("the server does not close when the client stops sending") from None
    except AssertionError:
        if talk.ended:
            return
        raise
    expect(not said.ok, "NOOP without its line end was answered with +OK")


@ROBUSTNESS("822", "commands are answered although the client stops sending behind them", SHOULD,
            "RFC 1939 section 3", "R1939-04", needs=(IN_CLEAR,))  # fmt: skip
def half_closed(target: Target) -> None:
    """A-34."""
    talk = target.login()
    talk.send(b"NOOP", b"STAT", b"QUIT")
    talk.finish()
    for line in ("NOOP", "STAT", "QUIT"):
        expect(talk.reply().ok, f"{line} was refused")


@ROBUSTNESS("823", "the same for marks: what stands before the end is done, and no more", SHOULD,
            "RFC 1939 section 6", "R1939-49", "R1939-51", needs=(IN_CLEAR, DESTRUCTIVE, messages(2)))  # fmt: skip
def half_closed_update(target: Target) -> None:
    """A-33, A-34: here QUIT lacks its end, so nothing is deleted."""
    before = target.mail.contents
    talk = target.login()
    talk.send_octets(b"DELE 1\r\nDELE 2\r\nQUIT")
    talk.finish()
    for _ in range(2):
        expect(talk.reply().ok, "DELE was refused")
    target.dropped = True
    same_messages(before, mail_seen(target.login()))


@ROBUSTNESS("824", "LAST is refused, or answered with a number", MUST, "RFC 1939 section 3", "R1939-13", "RLST-01")
def last(target: Target) -> None:
    """D12."""
    talk = target.login()
    reply = talk.ask(b"LAST")
    expect(not reply.ok or reply.text.split(b" ")[0].isdigit(), "it is neither")
    in_step(talk)


@ROBUSTNESS("825", "many commands that are refused do not end the session", MUST, "RFC 1939 section 3", "R1939-13",
            needs=(STRICT,))  # fmt: skip
def patience(target: Target) -> None:
    """A-31."""
    talk = target.login()
    for _ in range(_MANY):
        refused(talk, b"XNON")
    in_step(talk)


@ROBUSTNESS("826", "asking for messages that are not there does not end the session", SHOULD, "RFC 1939 section 5",
            "R1939-39")  # fmt: skip
def benign_errors(target: Target) -> None:
    """D13: clients do, and no time is lost with it."""
    talk = target.login()
    for _ in range(5):
        refused(talk, b"RETR 999999999")
    in_step(talk)


def _refused_or_closed(talk: CheckedTalk, line: bytes) -> Reply | None:
    """A line that is refused with one reply; None if the server would rather close."""
    talk.send(line)
    try:
        reply = talk.reply()
    except AssertionError:
        if talk.ended:
            return None
        raise
    expect(reply.ok is False, f"{named(line)} was not refused with -ERR")
    talk.send(b"STAT")
    try:
        after = talk.reply()
    except AssertionError:
        if talk.ended:
            return reply
        raise
    expect(after.ok and STAT.fullmatch(after.text), f"there is more than one reply to {named(line)}")
    return reply


def _after_bare_lf(target: Target) -> list[bool | None]:
    """Whether replies are +OK: those to NOOP, LF, NOOP, CRLF."""
    talk = target.login()
    talk.send_octets(b"NOOP\nNOOP\r\n")
    talk.send(b"STAT")
    replies: list[bool | None] = []
    while not ((reply := talk.reply()).ok and STAT.fullmatch(reply.text)):
        replies.append(reply.ok)
        expect(len(replies) < 4, "there are more replies than lines")
    return replies
