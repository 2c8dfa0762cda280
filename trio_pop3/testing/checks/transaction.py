"""4xx: looking at mail. Nothing here can delete any."""

from __future__ import annotations

import re
from typing import Final

from ..talk import Reply, Talk
from .base import STAT, Group, Level, Skip, accepted, all_refused, escape, expect, in_step, named
from .mail import mail_seen, scan
from .needs import EMPTY, messages, works
from .target import CheckedTalk, Target

TRANSACTION: Final = Group("Transaction")
MUST, SHOULD = Level.MUST, Level.SHOULD
TOP, UIDL = works("TOP"), works("UIDL")
_SCAN: Final = re.compile(rb"[0-9]+ [0-9]+(?: .*)?")
_SCAN_ONLY: Final = re.compile(rb"[0-9]+ [0-9]+")
_UID: Final = re.compile(rb"[\x21-\x7e]{1,70}")
# No numbers, whatever int() and strtol() make of them.
_NOT_NUMBERS: Final = (
    b"-1", b"+1", b"1.5", b"0x1", b"1e0", b"1_0", b"1x", b"x", b"\xef\xbc\x91", b"\xd9\xa1",
)  # fmt: skip
# One, if only so many bits are looked at.
_OVERFLOWS: Final = (b"%d" % (2**31 + 1), b"%d" % (2**32 + 1), b"%d" % (2**64 + 1), b"1" * 40)
_ALL_LINES: Final = 99_999_999
# Messages that are asked for one by one: so many from the beginning, and from the end.
_MOST_EACH_END: Final = 20


@TRANSACTION("401", "STAT is answered with the number of messages and of octets, in decimal", MUST,
             "RFC 1939 section 5", "R1939-30")  # fmt: skip
def stat(target: Target) -> None:
    """B4."""
    in_step(target.login())


@TRANSACTION("402", "nothing follows the two numbers of STAT", SHOULD, "RFC 1939 section 5", "R1939-31")
def stat_only(target: Target) -> None:
    match = STAT.fullmatch(accepted(target.login(), b"STAT").text)
    if match:
        expect(not match["rest"], f'"{escape(match["rest"])}" follows')


@TRANSACTION("403", "LIST has a line for each message: its number and its size", MUST, "RFC 1939 section 5",
             "R1939-34", "R1939-36", needs=(messages(1),))  # fmt: skip
def listing(target: Target) -> None:
    """A15, B4."""
    for line in accepted(target.login(), b"LIST", multiline=True).lines or ():
        expect(_SCAN.fullmatch(line), f'a line is no number, space and size: "{escape(line)}"')


@TRANSACTION("404", "nothing follows the size in a line of LIST", SHOULD, "RFC 1939 section 5", "R1939-37",
             needs=(messages(1),))  # fmt: skip
def listing_only(target: Target) -> None:
    for line in accepted(target.login(), b"LIST", multiline=True).lines or ():
        if _SCAN.fullmatch(line):
            expect(_SCAN_ONLY.fullmatch(line), f'something follows in "{escape(line)}"')


@TRANSACTION("405", "messages are numbered from 1 on, without a gap", MUST, "RFC 1939 section 4", "R1939-27",
             needs=(messages(1),))  # fmt: skip
def numbered_from_one(target: Target) -> None:
    """C4."""
    numbers = list(target.mail.sizes)
    expect(numbers == list(range(1, len(numbers) + 1)), f"the numbers begin with {numbers[:5]}")


@TRANSACTION("406", "STAT has the number of lines of LIST, and the sum of its sizes", MUST, "RFC 1939 section 5",
             "R1939-30", "R1939-34")  # fmt: skip
def stat_is_the_sum(target: Target) -> None:
    """B2, B3."""
    talk = target.login()
    count, octets = in_step(talk)
    sizes = mail_seen(talk).sizes.values()
    expect(count == len(sizes), f"STAT has {count} messages, LIST {len(sizes)}")
    expect(octets == sum(sizes), f"STAT has {octets} octets, the sizes in LIST add up to {sum(sizes)}")


@TRANSACTION("407", "LIST with a number is one line, the one that LIST has for that message", MUST,
             "RFC 1939 section 5", "R1939-33", needs=(messages(1),))  # fmt: skip
def list_one(target: Target) -> None:
    """C8."""
    _one_of_listing(target.login(), b"LIST")


@TRANSACTION("408", "LIST of an empty maildrop is +OK and the dot, STAT is 0 0", MUST, "RFC 1939 section 5",
             "R1939-35", needs=(EMPTY,))  # fmt: skip
def empty_listing(target: Target) -> None:
    """F7."""
    talk = target.login(target.empty_account)
    expect(accepted(talk, b"LIST", multiline=True).lines == (), "LIST has lines, and there is no message")
    expect(in_step(talk) == (0, 0), "STAT is not 0 0")


@TRANSACTION("409", "UIDL of an empty maildrop is +OK and the dot", MUST, "RFC 1939 section 7", "R1939-59",
             needs=(EMPTY, UIDL))  # fmt: skip
def empty_uidl(target: Target) -> None:
    """F7."""
    talk = target.login(target.empty_account)
    expect(accepted(talk, b"UIDL", multiline=True).lines == (), "UIDL has lines, and there is no message")


@TRANSACTION("410", "RETR sends as many octets as LIST says, dots not doubled, line ends counted as two", MUST,
             "RFC 1939 section 11", "R1939-36", "R1939-40", "R1939-41", "R1939-43",
             needs=(messages(1),))  # fmt: skip
def sizes_are_exact(target: Target) -> None:
    """B1. Of a message that does not end in a line end, the RFC leaves open whether RETR's CRLF counts."""
    off = _sizes(target)
    wrong = {number: pair for number, pair in off.items() if pair[1] - pair[0] not in (0, 2)}
    for number, (size, octets) in wrong.items():
        raise AssertionError(f"LIST says that message {number} has {size} octets, RETR sends {octets}")
    exact = any(size == octets for size, octets in off.values())
    expect(exact or len(off) == 1, "every message has two octets more than LIST says")


@TRANSACTION("411", "every line of a message ends in CRLF, none in LF alone", MUST, "RFC 1939 section 3",
             "R1939-12", needs=(messages(1),))  # fmt: skip
def lines_end_in_crlf(target: Target) -> None:
    """A3."""
    mail, talk = target.mail, target.login()
    for number in mail.some:
        for line in _retr(talk, number).lines or ():
            expect(b"\n" not in line, f'message {number} has LF without CR in "{escape(line)}"')


@TRANSACTION("412", "a line of a message that begins with a dot is sent with two", MUST, "RFC 1939 section 3",
             "R1939-09", needs=(messages(1),))  # fmt: skip
def dots_are_doubled(target: Target) -> None:
    """A1, A2: a dot that was not doubled shows, unless it stood alone on its line; that cannot be told from the end."""
    mail, talk = target.mail, target.login()
    found = 0
    for number in mail.some:
        for line in _dotted(talk, b"RETR %d" % number):
            found += 1
            expect(line.startswith(b".."), f'message {number} has a line "{escape(line)}", its dot not doubled')
        in_step(talk)
    if not found:
        raise Skip("no message has a line that begins with a dot")


@TRANSACTION("413", "TOP doubles dots as RETR does", MUST, "RFC 1939 section 7", "R1939-57",
             needs=(messages(1), TOP))  # fmt: skip
def top_doubles_dots(target: Target) -> None:
    """A18."""
    mail, talk = target.mail, target.login()
    found = 0
    for number in mail.some:
        for line in _dotted(talk, b"TOP %d %d" % (number, _ALL_LINES)):
            found += 1
            expect(line.startswith(b".."), f'message {number} has a line "{escape(line)}", its dot not doubled')
        in_step(talk)
    if not found:
        raise Skip("no message has a line that begins with a dot")


@TRANSACTION("414", "RETR sends the same message every time", MUST, "RFC 1939 section 5", "R1939-43",
             needs=(messages(1),))  # fmt: skip
def retr_is_repeatable(target: Target) -> None:
    mail, talk = target.mail, target.login()
    number = mail.some[0]
    expect(_retr(talk, number) == _retr(talk, number), "the second time it is another one")


@TRANSACTION("415", "RETR without a number is refused", MUST, "RFC 1939 section 5", "R1939-42")
def retr_needs_a_number(target: Target) -> None:
    """A-11."""
    all_refused(target.login(), b"RETR")


@TRANSACTION("416", "there is no message 0, and none behind the last one", MUST, "RFC 1939 section 5", "R1939-39")
def no_such_message(target: Target) -> None:
    """C3, C4."""
    behind = len(target.mail.sizes) + 1
    optional = {"UIDL": b"UIDL %d", "TOP": b"TOP %d 0"}
    verbs = [b"LIST %d", b"RETR %d", *(optional[name] for name in sorted(target.commands))]
    all_refused(target.login(), *(verb % number for verb in verbs for number in (0, behind)))


@TRANSACTION("417", "what is no decimal number is refused as one", MUST, "RFC 1939 section 3", "R1939-13")
def no_number(target: Target) -> None:
    """C3, A-10."""
    all_refused(target.login(), *(b"RETR " + word for word in _NOT_NUMBERS))


@TRANSACTION("418", "a number beyond 31, 32 and 64 bits is refused, and not cut", MUST, "RFC 1939 section 5",
             "R1939-39")  # fmt: skip
def huge_number(target: Target) -> None:
    """C3, A-10."""
    all_refused(target.login(), *(b"LIST " + word for word in _OVERFLOWS))


@TRANSACTION("419", "zeros before a number are ignored, or it is refused", MUST, "RFC 1939 section 5", "R1939-33",
             needs=(messages(1),))  # fmt: skip
def zeros_before(target: Target) -> None:
    """A-09: octal is neither."""
    talk = target.login()
    size = mail_seen(talk).sizes[1]
    reply = talk.ask(b"LIST 0001")
    expect(not reply.ok or reply.text.startswith(b"1 %d" % size), "it is taken for another number")
    reply = talk.ask(b"LIST 010")
    expect(not reply.ok or reply.text.startswith(b"10 "), "010 is not taken for 10")
    in_step(talk)


@TRANSACTION("420", "NOOP is answered with one +OK and changes nothing", MUST, "RFC 1939 section 5", "R1939-46")
def noop(target: Target) -> None:
    """A14, D14."""
    talk = target.login()
    before = in_step(talk)
    accepted(talk, b"NOOP")
    expect(in_step(talk) == before, "STAT is not what it was")


@TRANSACTION("421", "RSET is answered with one +OK, also if nothing is marked", MUST, "RFC 1939 section 5",
             "R1939-47")  # fmt: skip
def rset(target: Target) -> None:
    """A14, D14."""
    talk = target.login()
    before = in_step(talk)
    accepted(talk, b"RSET")
    expect(in_step(talk) == before, "STAT is not what it was")


@TRANSACTION("422", "TOP with 0 sends the header and the empty line behind it, and nothing of the body", MUST,
             "RFC 1939 section 7", "R1939-57", needs=(messages(1), TOP))  # fmt: skip
def top_of_nothing(target: Target) -> None:
    """A7, B5, A-20. A header with no empty line may be given one."""
    mail, talk = target.mail, target.login()
    for number in mail.some:
        _compare_top(talk, number, 0)


@TRANSACTION("423", "TOP sends as many lines of the body as it is asked for", MUST, "RFC 1939 section 7",
             "R1939-57", needs=(messages(1), TOP))  # fmt: skip
def top_of_some(target: Target) -> None:
    """B5."""
    mail, talk = target.mail, target.login()
    for number in mail.some:
        for lines in (1, 2, 7):
            _compare_top(talk, number, lines)


@TRANSACTION("424", "TOP with more lines than there are sends the whole message", MUST, "RFC 1939 section 7",
             "R1939-58", needs=(messages(1), TOP))  # fmt: skip
def top_of_all(target: Target) -> None:
    """B5."""
    mail, talk = target.mail, target.login()
    for number in mail.some:
        _compare_top(talk, number, _ALL_LINES)


@TRANSACTION("425", "TOP without two numbers is refused", MUST, "RFC 1939 section 7", "R1939-56",
             needs=(messages(1), TOP))  # fmt: skip
def top_needs_two_numbers(target: Target) -> None:
    """B5, A-11."""
    all_refused(target.login(), b"TOP", b"TOP 1", b"TOP 1 -1", b"TOP 1 x", b"TOP 1 1x")


@TRANSACTION("426", "UIDL has a line for each message: its number and its uid", MUST, "RFC 1939 section 7",
             "R1939-59", "R1939-60", needs=(messages(1), UIDL))  # fmt: skip
def uidl(target: Target) -> None:
    """A15, C1."""
    numbers, talk = list(target.mail.sizes), target.login()
    lines = accepted(talk, b"UIDL", multiline=True).lines or ()
    expect(
        [line.partition(b" ")[0] for line in lines] == [b"%d" % number for number in numbers],
        "the numbers are not those of LIST",
    )
    for line in lines:
        expect(line.count(b" ") == 1, f'not a number, a space and a uid: "{escape(line)}"')


@TRANSACTION("427", "a uid is 1 to 70 printable characters", MUST, "RFC 1939 section 7", "R1939-61",
             needs=(messages(1), UIDL))  # fmt: skip
def uids_are_printable(target: Target) -> None:
    """F1, A12."""
    for line in accepted(target.login(), b"UIDL", multiline=True).lines or ():
        uid = line.partition(b" ")[2]
        expect(_UID.fullmatch(uid), f'"{escape(uid)}", {len(uid)} octets, is none')


@TRANSACTION("428", "no two messages have the same uid", SHOULD, "RFC 1939 section 7", "R1939-63",
             needs=(messages(2), UIDL))  # fmt: skip
def uids_are_unique(target: Target) -> None:
    """F1, F5. A hash of the message is permitted, and the same for two that are equal."""
    uids = target.mail.uids or {}
    accepted(target.login(), b"UIDL", multiline=True)
    expect(len(set(uids.values())) == len(uids), "a uid is there twice")


@TRANSACTION("429", "UIDL with a number is one line, the one that UIDL has for that message", MUST,
             "RFC 1939 section 7", "R1939-59", needs=(messages(1), UIDL))  # fmt: skip
def uidl_one(target: Target) -> None:
    """C8."""
    _one_of_listing(target.login(), b"UIDL")


@TRANSACTION("430", "uids and their order are the same in the next session", MUST, "RFC 1939 section 7",
             "R1939-62", needs=(messages(1), UIDL))  # fmt: skip
def uids_last(target: Target) -> None:
    """C7, F2."""
    before = target.mail
    after = mail_seen(target.login())
    expect(before.uids == after.uids, "the uids are other ones")


@TRANSACTION("431", "the line end that RETR adds to a message without one is counted in LIST", SHOULD,
             "RFC 6856 section 2.1", "R6856-09", needs=(messages(1),))  # fmt: skip
def sizes_are_those_of_retr(target: Target) -> None:
    """A-24."""
    for number, (size, octets) in _sizes(target).items():
        expect(octets == size, f"LIST says that message {number} has {size} octets, RETR sends {octets}")


def _retr(talk: Talk, number: int) -> Reply:
    return accepted(talk, b"RETR %d" % number, multiline=True)


def _sizes(target: Target) -> dict[int, tuple[int, int]]:
    """Number -> what LIST says, and how many octets RETR sends."""
    some, talk = target.mail.some, target.login()
    sizes = mail_seen(talk).sizes
    found: dict[int, tuple[int, int]] = {}
    shown = False
    for number in some:
        with talk.settling():
            octets = len(_retr(talk, number).body)
        found[number] = sizes[number], octets
        if octets != sizes[number] and not shown:
            shown = True
            target.settled.pop()
    return found


def _one_of_listing(talk: CheckedTalk, verb: bytes) -> None:
    listing = scan(accepted(talk, verb, multiline=True))
    expect(listing, f"{named(verb)} has no line")
    numbers = sorted(listing)
    for number in sorted({*numbers[:_MOST_EACH_END], *numbers[-_MOST_EACH_END:]}):
        line = b"%s %d" % (verb, number)
        text = accepted(talk, line).text
        expected = b"%d %s" % (number, listing[number])
        expect(
            text == expected or (verb == b"LIST" and text.startswith(expected + b" ")),
            f'{named(line)} is not answered with "{escape(expected)}"',
        )
    in_step(talk)


def _dotted(talk: CheckedTalk, line: bytes) -> list[bytes]:
    """The lines of a multi-line reply that begin with a dot, as they are on the wire, without the one that ends it."""
    mark = len(talk.transcript.entries)
    accepted(talk, line, multiline=True)
    heard = b"".join(entry.data for entry in talk.transcript.entries[mark:] if entry.who == "S")
    return [line for line in heard.split(b"\r\n")[1:-2] if line.startswith(b".")]


def _compare_top(talk: CheckedTalk, number: int, lines: int) -> None:
    whole = _retr(talk, number).lines or ()
    header = whole.index(b"") + 1 if b"" in whole else len(whole)
    expected = whole[: header + lines]
    line = b"TOP %d %d" % (number, lines)
    top = accepted(talk, line, multiline=True).lines or ()
    without_end = b"" not in whole and top == (*expected, b"")
    expect(
        top == expected or without_end,
        f"{named(line)} sends {len(top)} lines, and not the {len(expected)} that RETR begins with",
    )
