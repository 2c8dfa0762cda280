"""What to try: messages, maildrops, command lines, dialogues, and ways to cut them. Needs Hypothesis.

All of it shrinks towards few, short and plain: a list loses its items, an item becomes the first of its kind.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from trio_pop3.sansio import COMMANDS, Arguments, State

from .transcript import octets

# Line ends, dots and their neighbours, far more often than chance would have them.
_FRAGMENTS: Final = (
    b"x", b"\r\n", b"\n", b".", b"\r", b" ", b"..", b".\r\n", b"\r\n.", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\0",
    b"\xff", b"Subject: x\r\n\r\n", b"\xc3\xbc",
)  # fmt: skip
# What, and how often: Hypothesis must never have to print them.
_HUGE: Final = (
    # The first are not huge: a huge one that need not be so shrinks into one of them.
    (b"x", 1), (b".\r\n", 2), (b"x", 3), (b".\r\n", 24), (b"x", 24), (b".\r\n", 400), (b"x", 1_000), (b"y", 70_000),
)  # fmt: skip


# A beginning, and what goes on how often.
_LONG_LINES: Final = (
    (b"", b"A", 511),
    (b"", b"A", 8_000),
    (b"AUTH PLAIN ", b"A", 600),
    (b"PASS ", b"x", 600),
    (b"RETR ", b"1", 400),
)


def _repeated(unit_and_times: tuple[bytes, int]) -> bytes:
    unit, times = unit_and_times
    return unit * times


def messages(*, huge: bool = True) -> SearchStrategy[bytes]:
    """A message as a store may hold it: every line end, dots everywhere, NUL, 8-bit, huge lines, nothing at all."""
    small = st.lists(st.sampled_from(_FRAGMENTS) | st.binary(max_size=4), max_size=30).map(b"".join)
    if not huge:
        return small
    huge_ones = st.sampled_from(_HUGE).map(_repeated)
    long = st.lists(huge_ones | st.sampled_from(_FRAGMENTS), min_size=1, max_size=4).map(b"".join)
    # One in eight: they take as long as all the others together.
    return st.one_of([*[small] * 7, long])


def maildrops(*, max_size: int = 4) -> SearchStrategy[list[bytes]]:
    """The messages of a maildrop; two may well be the same."""
    return st.lists(messages(), max_size=max_size)


# Small ones are those of messages that are there.
_NUMBERS: Final = tuple(str(number).encode() for number in (1, 2, 1, 2, 3, 0, 4))
_COUNTS: Final = (b"0", b"1", b"2", b"40", b"99999999999999999999")
_WORDS: Final = {
    Arguments.NONE: (b"",),
    Arguments.NUMBER: tuple(b" " + number for number in _NUMBERS),
    Arguments.OPTIONAL_NUMBER: (b"", *(b" " + number for number in _NUMBERS)),
    Arguments.NUMBER_AND_LINES: tuple(
        b" %b %b" % (number, count) for number in (b"1", b"2", b"3", b"0") for count in _COUNTS
    ),
    Arguments.OPTIONAL_LANGUAGE: (b"", b" *", b" de", b" de-AT", b" xx"),
    Arguments.NAME_AND_DIGEST: (b" alice " + b"c4c9334bac560ecc979e58001b3e22fb",),
    Arguments.ATTRIBUTES: (b" ADDR=192.0.2.1", b" ADDR=192.0.2.1 PORT=4711"),
}
# What a session can do over and over: it stays in TRANSACTION.
_MAIL: Final = frozenset(
    row.verb
    for row in COMMANDS
    if (step := {**row.steps, **row.lenient}.get(State.TRANSACTION)) and step.ok is not State.CLOSED
)
# What changes something is worth more tries.
_OFTEN: Final = {b"DELE": 3, b"RSET": 2}


def plain(user: str, password: str) -> bytes:
    """AUTH PLAIN with its initial response."""
    return b"AUTH PLAIN " + base64.b64encode(b"\0" + octets(user) + b"\0" + octets(password))


def mail_lines(verbs: Sequence[str] | None = None) -> SearchStrategy[bytes]:
    """Commands for a session that is logged in; of these verbs only, if they are given."""
    rows = [row for row in COMMANDS if row.verb in _MAIL and (verbs is None or row.verb.decode() in verbs)]
    rows.sort(key=lambda row: row.verb != b"STAT")  # the plainest, for shrinking
    # The verb first: TOP has many forms, and is no more than one of them.
    often = [row for row in rows for _ in range(_OFTEN.get(row.verb, 1))]
    return st.one_of([st.sampled_from([row.verb + words for words in _WORDS[row.arguments]]) for row in often])


def login_lines(users: Sequence[tuple[str, str]], verbs: Sequence[str] | None = None) -> SearchStrategy[bytes]:
    """USER, PASS and AUTH: with good names and passwords for the most part, and with others."""
    names = [octets(name) for name, _ in users]
    words = [octets(password) for _, password in users]
    lines = [b"USER " + name for name in (*names, b"nobody")] + [b"PASS " + word for word in (*words, b"wrong", b" ")]
    if verbs is None or "AUTH" in verbs:
        lines += [plain(*user) for user in users]
        lines += [b"AUTH PLAIN", b"AUTH", plain("nobody", "wrong"), b"AUTH PLAIN =", b"AUTH X-NONE"]
    return st.sampled_from(lines)


# Lines that are none, wherever they stand; some of them are base64.
_MALFORMED: Final = (
    b"", b"X", b"RETR", b"RETR x", b"QUIT x", b"STAT x", b"DELE 1 2", b"DELE -1", b"DELE 1_0", b"RETR 1.5", b"LIST +1",
    b"TOP 1", b"TOP 1 -1", b"DELE \xd9\xa1", b"RETR 99999999999", b"USER", b"PASS", b"NOOP NOOP", b"XYZZY", b"*", b"=",
    b"AUTH PLAIN !", b"\xff", b"x" * 700, b"PASS a\0b", b"ST\0AT", b":", b"QUI", b"QUITQUIT",
)  # fmt: skip
# Lines on whose fate servers do not agree.
_NEAR: Final = (
    b"STAT ",
    b"LIST 1 ",
    b"RETR 007",
    b"DELE 01",
    b"NOOP  ",
    b"RETR  1",
    b"sTaT",
    b"dele 1",
    b"LIST 4294967297",
)
# A bare LF where a line should end.
_BARE: Final = (b"NOOP\nSTAT", b"RSET\n", b"\nNOOP", b"STAT\n\r", b"DELE 1\nDELE 2")
_ELSEWHERE: Final = (b"QUIT", b"STLS", b"UTF8", b"CAPA", b"LAST", b"XCLIENT ADDR=192.0.2.1")


# What ends in a deletion, on a server that removes what was retrieved as well (RFC 2449 section 6.7, EXPIRE 0).
_REMOVING: Final = (b"DELE", b"QUIT")


def harmless(line: bytes) -> bool:
    """Whether a line can remove nothing, whatever a server takes it for."""
    return not line.upper().lstrip().startswith(_REMOVING)


def malformed_lines() -> SearchStrategy[bytes]:
    """Lines that no server takes for commands."""
    return st.sampled_from(_MALFORMED)


def near_lines() -> SearchStrategy[bytes]:
    """Lines that a server may take for commands, or may not: blanks too many, zeros in front, other letter case."""
    return st.sampled_from(_NEAR)


def other_lines() -> SearchStrategy[bytes]:
    """Commands that are not about mail, where they belong or not."""
    return st.sampled_from(_ELSEWHERE)


def bare_lines() -> SearchStrategy[bytes]:
    """Lines with a bare LF in them, which ends a line, or does not."""
    return st.sampled_from(_BARE)


def hostile_lines() -> SearchStrategy[bytes]:
    """Anything but a line end."""
    short = st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))
    return short | st.sampled_from(_LONG_LINES).map(lambda parts: parts[0] + _repeated(parts[1:]))


def command_lines(users: Sequence[tuple[str, str]] = (("alice", "secret"),)) -> SearchStrategy[bytes]:
    """Valid, nearly valid, and hostile lines, without their CRLF."""
    return st.one_of(mail_lines(), login_lines(users), other_lines(), near_lines(), malformed_lines(), hostile_lines())


def dialogues(
    users: Sequence[tuple[str, str]] = (("alice", "secret"),), *, max_size: int = 8
) -> SearchStrategy[list[bytes]]:
    """What a client says in one connection, line by line: legal, illegal, with or without a login and a QUIT."""
    user, password = users[0]
    login = st.sampled_from([[], [b"USER " + user.encode(), b"PASS " + password.encode()], [plain(user, password)]])
    work = st.lists(st.one_of(mail_lines(), mail_lines(), command_lines(users)), max_size=max_size)
    ending = st.sampled_from([[], [b"QUIT"], [b"QUIT", b"NOOP"]])
    return st.builds(lambda first, then, last: [*first, *then, *last], login, work, ending)


# --- the wire --------------------------------------------------------------------------------------------------------

# How many octets at a time; 0 is all of them at once. One number, where a list of places would shrink more slowly.
sizes: Final[SearchStrategy[int]] = st.sampled_from([0, 1, 2, 3, 5, 7, 11, 17, 61])


def cut(data: bytes, size: int) -> list[bytes]:
    """The data in pieces of so many octets; 0 is one piece. No piece is empty."""
    return [data[start : start + size] for start in range(0, len(data), size)] if size else [data] if data else []


def chunkings(data: bytes) -> SearchStrategy[list[bytes]]:
    """The same octets in pieces: whole, octet by octet, or anything between."""

    def between(places: list[int]) -> list[bytes]:
        ends = sorted({0, *places, len(data)})
        return [data[start:stop] for start, stop in pairwise(ends)]

    return sizes.map(lambda size: cut(data, size)) | st.lists(st.integers(0, len(data)), max_size=12).map(between)


def disconnects(data: bytes) -> SearchStrategy[bytes]:
    """What of these octets a client gets out before it is cut off: a prefix."""
    return st.integers(0, len(data)).map(lambda octets: data[:octets])
