"""5xx: DELE and QUIT. What is marked goes at QUIT, and nothing else ever does."""

from __future__ import annotations

from typing import Final

from .authorization import other
from .base import Group, Level, Skip, accepted, all_refused, expect, in_step, refused, says_goodbye
from .mail import Mail, mail_seen, same_messages, same_session
from .needs import DESTRUCTIVE, SECOND, messages, works
from .target import CheckedTalk, Target

UPDATE: Final = Group("Deleting mail")
MUST, SHOULD = Level.MUST, Level.SHOULD
UIDL = works("UIDL")
# STAT is looked at behind each of so many DELE, and as long as so many messages are left.
_MOST_EACH_END: Final = 10
ONE, TWO, THREE = (DESTRUCTIVE, messages(1)), (DESTRUCTIVE, messages(2)), (DESTRUCTIVE, messages(3))


@UPDATE("501", "QUIT after the login is answered with +OK, and the server closes", MUST, "RFC 1939 section 6",
        "R1939-52", "R1939-53")  # fmt: skip
def quit_after_login(target: Target) -> None:
    """E8, A14."""
    says_goodbye(target.login())


@UPDATE("502", "a session that marked nothing leaves everything as it was", MUST, "RFC 1939 section 6", "R1939-50")
def nothing_marked(target: Target) -> None:
    before = target.mail.contents
    talk = target.login()
    mail_seen(talk)
    says_goodbye(talk)
    same_messages(before, _found(target))


@UPDATE("503", "every session begins with no message marked", MUST, "RFC 1939 section 4", "R1939-22", "R1939-44",
        needs=ONE)  # fmt: skip
def nothing_marked_at_first(target: Target) -> None:
    before = target.mail.contents
    talk = target.login()
    accepted(talk, b"DELE 1")
    _hang_up(target, talk)
    same_messages(before, _found(target))


@UPDATE("504", "a message that is marked is not listed, and the others keep their numbers", MUST,
        "RFC 1939 section 5", "R1939-28", "R1939-38", "R1939-64", needs=TWO)  # fmt: skip
def marked_is_not_listed(target: Target) -> None:
    """A-18, C1, C2."""
    talk = target.login()
    before = mail_seen(talk)
    accepted(talk, b"DELE 1")
    same_session(before.without(1), mail_seen(talk))


@UPDATE("505", "a message that is marked counts for nothing in STAT", MUST, "RFC 1939 section 5", "R1939-32",
        needs=ONE)  # fmt: skip
def marked_is_not_counted(target: Target) -> None:
    """A-18, B2."""
    talk = target.login()
    sizes = mail_seen(talk).sizes
    count, octets = in_step(talk)
    for number, size in sizes.items():
        count, octets = count - 1, octets - size
        if min(number, count) > _MOST_EACH_END:
            with talk.settling():
                accepted(talk, b"DELE %d" % number)
            continue
        accepted(talk, b"DELE %d" % number)
        expect(in_step(talk) == (count, octets), "STAT is not less by that message")


@UPDATE("506", "LIST, UIDL, RETR and TOP of a message that is marked are refused", MUST, "RFC 1939 section 5",
        "R1939-39", needs=ONE)  # fmt: skip
def marked_is_out_of_reach(target: Target) -> None:
    """A-19, C2."""
    top = (b"TOP 1 0",) if "TOP" in target.commands else ()
    uidl = (b"UIDL 1",) if "UIDL" in target.commands else ()
    talk = target.login()
    accepted(talk, b"DELE 1")
    all_refused(talk, b"LIST 1", b"RETR 1", *uidl, *top)


@UPDATE("507", "DELE of a message that is marked is refused", MUST, "RFC 1939 section 5", "R1939-45", needs=ONE)
def marked_once(target: Target) -> None:
    """E3."""
    talk = target.login()
    accepted(talk, b"DELE 1")
    refused(talk, b"DELE 1")


@UPDATE("508", "DELE of a message that is not there, or of no number, is refused and marks nothing", MUST,
        "RFC 1939 section 5", "R1939-13", "R1939-39", needs=ONE)  # fmt: skip
def no_such_message(target: Target) -> None:
    """C3, A-10, A-11."""
    behind = len(target.mail.sizes) + 1
    talk = target.login()
    before = in_step(talk)
    words = (b"0", b"%d" % behind, b"-1", b"1.5", b"1x", b"1_0", b"%d" % (2**32 + 1), b"1 2")
    all_refused(talk, b"DELE", *(b"DELE " + word for word in words))
    expect(in_step(talk) == before, "STAT is not what it was")


@UPDATE("509", "RSET unmarks every message", MUST, "RFC 1939 section 5", "R1939-47", needs=TWO)
def rset_unmarks(target: Target) -> None:
    """E4."""
    talk = target.login()
    before = mail_seen(talk)
    for number in (1, len(before.sizes)):
        accepted(talk, b"DELE %d" % number)
    accepted(talk, b"RSET")
    same_session(before, mail_seen(talk))
    accepted(talk, b"LIST 1")


@UPDATE("510", "all messages marked, LIST and UIDL are empty and STAT is 0 0", MUST, "RFC 1939 section 5",
        "R1939-32", "R1939-35", "R1939-38", needs=ONE)  # fmt: skip
def all_marked(target: Target) -> None:
    """F7."""
    numbers = list(target.mail.sizes)
    talk = target.login()
    for number in numbers:
        accepted(talk, b"DELE %d" % number)
    expect(not mail_seen(talk).sizes, "something is listed")
    expect(in_step(talk) == (0, 0), "STAT is not 0 0")


@UPDATE("511", "a connection that is lost deletes nothing", MUST, "RFC 1939 section 6", "R1939-51", "R1939-44",
        needs=ONE)  # fmt: skip
def lost_connection(target: Target) -> None:
    """E1."""
    before = target.mail.contents
    talk = target.login()
    for number in target.mail.sizes:
        accepted(talk, b"DELE %d" % number)
    _hang_up(target, talk)
    same_messages(before, _found(target))


@UPDATE("512", "QUIT without its line end, and then the end, deletes nothing", MUST, "RFC 1939 section 6",
        "R1939-51", "R1939-04", needs=ONE)  # fmt: skip
def half_a_quit(target: Target) -> None:
    """A-33."""
    before = target.mail.contents
    talk = target.login()
    accepted(talk, b"DELE 1")
    talk.send_octets(b"QUIT")
    _hang_up(target, talk)
    same_messages(before, _found(target))


@UPDATE("513", "QUIT with an argument is refused and deletes nothing", MUST, "RFC 1939 section 6",
        "R1939-13", "R1939-51", needs=ONE)  # fmt: skip
def quit_with_argument(target: Target) -> None:
    """D1, A-08."""
    before = target.mail.contents
    talk = target.login()
    accepted(talk, b"DELE 1")
    refused(talk, b"QUIT x")
    _hang_up(target, talk)
    same_messages(before, _found(target))


@UPDATE("514", "QUIT after RSET deletes nothing", MUST, "RFC 1939 section 6", "R1939-47", "R1939-50", needs=ONE)
def quit_after_rset(target: Target) -> None:
    before = target.mail.contents
    talk = target.login()
    accepted(talk, b"DELE 1")
    accepted(talk, b"RSET")
    says_goodbye(talk)
    same_messages(before, _found(target))


@UPDATE("515", "RETR alone deletes nothing at QUIT, unless the server announces EXPIRE", MUST, "RFC 1939 section 6",
        "R1939-50", "R2449-29", needs=ONE)  # fmt: skip
def reading_is_not_deleting(target: Target) -> None:
    """E9."""
    if "EXPIRE" in {*(target.capabilities or ()), *(target.capabilities_inside or ())}:
        raise Skip("EXPIRE is announced")
    before = target.mail.contents
    talk = target.login()
    accepted(talk, b"RETR 1", multiline=True)
    says_goodbye(talk)
    same_messages(before, _found(target))


@UPDATE("516", "QUIT deletes the messages that were marked, and no other", MUST, "RFC 1939 section 6",
        "R1939-49", "R1939-50", "R1939-52", needs=THREE)  # fmt: skip
def deletes_what_is_marked(target: Target) -> None:
    """E2, E5, E10. Two are marked: the first one, or the last one, may be the only one that goes."""
    last = len(target.mail.sizes)
    left = target.mail.without(2).without(last).contents
    talk = target.login()
    for number in (2, last):
        accepted(talk, b"DELE %d" % number)
    says_goodbye(talk)
    same_messages(left, _found(target))


@UPDATE("517", "uids of the messages that stay are what they were, and no gone one is used again", MUST,
        "RFC 1939 section 7", "R1939-62", "R1939-63", needs=(*THREE, UIDL))  # fmt: skip
def uids_stay(target: Target) -> None:
    """F2, F3."""
    before = target.mail.uids or {}
    talk = target.login()
    accepted(talk, b"DELE 1")
    says_goodbye(talk)
    left = [uid for number, uid in before.items() if number != 1]
    expect(list((_found(target).uids or {}).values()) == left, "the uids are other ones")


@UPDATE("518", "one user's QUIT deletes nothing of another user's", MUST, "RFC 1939 section 6", "R1939-50",
        needs=(*ONE, SECOND))  # fmt: skip
def maildrops_are_apart(target: Target) -> None:
    """C7 of clients."""
    talk = target.login(other(target))
    before = mail_seen(talk).contents
    talk.leave()
    talk = target.login()
    accepted(talk, b"DELE 1")
    says_goodbye(talk)
    same_messages(before, mail_seen(target.login(other(target))))


@UPDATE("519", "a session that deletes takes no message from one that is on", MUST, "RFC 1939 section 4",
        "R1939-21", needs=ONE)  # fmt: skip
def lock_protects(target: Target) -> None:
    """A-42, C5: what the lock is for; nobody is let in, or nobody's mail vanishes."""
    first = target.login()
    accepted(first, b"RETR 1", multiline=True)
    second = target.connect()
    if not target.try_login(second).ok:
        return
    accepted(second, b"DELE 1")
    says_goodbye(second)
    accepted(first, b"RETR 1", multiline=True)


def _hang_up(target: Target, talk: CheckedTalk) -> None:
    talk.close()
    target.dropped = True


def _found(target: Target) -> Mail:
    return mail_seen(target.login())
