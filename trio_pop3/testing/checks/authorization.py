"""2xx: USER, PASS, APOP, and what may be done before the login."""

from __future__ import annotations

from typing import Final

from .base import Group, Level, Skip, accepted, expect, in_step, refused, says_goodbye
from .needs import APOP, GUESSES, NO_APOP, SECOND, STRICT, USER, announces
from .target import NOBODY, WRONG_PASSWORD, Account, CheckedTalk, Target, apop_digest, delay_announced

AUTHORIZATION: Final = Group("Authorization")
MUST, SHOULD = Level.MUST, Level.SHOULD
# Not DELE: a server that takes it here would delete.
_NOT_BEFORE_LOGIN: Final = (b"STAT", b"LIST", b"LIST 1", b"RETR 1", b"NOOP", b"RSET", b"TOP 1 0", b"UIDL", b"UIDL 1")


@AUTHORIZATION("201", "QUIT before the login is answered with +OK, and the server closes", MUST, "RFC 1939 section 4",
               "R1939-29", "R1939-53")  # fmt: skip
def quit_before_login(target: Target) -> None:
    """E7, E8."""
    says_goodbye(target.connect())


@AUTHORIZATION("202", "commands for messages are refused before the login", MUST, "RFC 1939 section 3",
               "R1939-14", "R1939-48")  # fmt: skip
def no_mail_before_login(target: Target) -> None:
    """D2. A connection each: a server may give up on a client that does nothing right."""
    for talk, line in target.each(_NOT_BEFORE_LOGIN, target.connect):
        refused(talk, line)


@AUTHORIZATION("203", "commands for messages are refused between USER and PASS", MUST, "RFC 1939 section 3",
               "R1939-14", "R1939-48", needs=(USER,))  # fmt: skip
def no_mail_after_user(target: Target) -> None:
    for talk, line in target.each((b"STAT", b"LIST", b"RETR 1"), target.connect):
        accepted(talk, b"USER " + target.settings.account.name)
        refused(talk, line)


@AUTHORIZATION("204", "PASS without USER is refused", MUST, "RFC 1939 section 7", "R1939-67", needs=(USER,))
def no_pass_without_user(target: Target) -> None:
    refused(target.connect(), b"PASS " + target.settings.account.secret)


@AUTHORIZATION("205", "PASS is refused unless USER was the command before it", MUST, "RFC 1939 section 7", "R1939-67",
               needs=(USER,))  # fmt: skip
def pass_right_after_user(target: Target) -> None:
    """A-15."""
    talk, account = target.connect(), target.settings.account
    accepted(talk, b"USER " + account.name)
    refused(talk, b"NOOP")
    refused(talk, b"PASS " + account.secret)


@AUTHORIZATION("206", "a second USER is refused when a first one was accepted", MUST, "RFC 1939 section 7",
               "R1939-66", needs=(USER,))  # fmt: skip
def no_second_user(target: Target) -> None:
    """A-15."""
    talk, account = target.connect(), target.settings.account
    accepted(talk, b"USER " + account.name)
    refused(talk, b"USER " + account.name)


@AUTHORIZATION("207", "USER and PASS without an argument are refused", MUST, "RFC 1939 section 7", "R1939-72",
               needs=(USER,))  # fmt: skip
def user_and_pass_need_arguments(target: Target) -> None:
    """A-13."""
    refused(target.connect(), b"USER")
    talk = target.connect()
    accepted(talk, b"USER " + target.settings.account.name)
    refused(talk, b"PASS")


@AUTHORIZATION("208", "an empty password lets nobody in, not even a user who does not exist", MUST,
               "RFC 1939 section 7", "R1939-72", needs=(USER, GUESSES))  # fmt: skip
def no_empty_password(target: Target) -> None:
    """A-13, H6."""
    for talk, user in target.each((target.settings.account.name, NOBODY), target.connect):
        reply = target.fail_login(talk, user, b"")
        expect(reply.ok is False, "an empty password was not refused")


@AUTHORIZATION("209", "after a wrong password another login and QUIT work, unless the server closes", MUST,
               "RFC 1939 section 4", "R1939-26", "R1734-02", needs=(GUESSES,))  # fmt: skip
def wrong_password(target: Target) -> None:
    """F9 of clients: a mistyped password is no reason to give up."""
    talk = target.connect()
    reply = target.fail_login(talk, target.settings.account.name, WRONG_PASSWORD)
    expect(reply.ok is False, "a wrong password was not refused")
    if not stays_open(talk):
        return
    target.log_in(talk)
    in_step(talk)


@AUTHORIZATION("210", "the reply to USER does not tell whether there is such a user", SHOULD, "RFC 1939 section 13",
               "R1939-69", needs=(USER,))  # fmt: skip
def user_tells_nothing(target: Target) -> None:
    """H7. What is echoed of the name does not count."""
    replies = []
    for name in (target.settings.account.name, NOBODY):
        reply = target.connect().ask(b"USER " + name)
        replies.append((reply.ok, reply.text.replace(name, b"")))
    expect(replies[0] == replies[1], "the reply is another one for a user who does not exist")


@AUTHORIZATION("211", "the reply to a wrong password does not tell whether there is such a user", SHOULD,
               "RFC 1939 section 13", "R1939-69", "R4422-06", needs=(USER, GUESSES))  # fmt: skip
def pass_tells_nothing(target: Target) -> None:
    """H7."""
    known = target.refusal()
    unknown = target.fail_login(target.connect(), NOBODY, WRONG_PASSWORD)
    expect(known == unknown, "the reply is another one for a user who does not exist")


@AUTHORIZATION("212", "with AUTH-RESP-CODE, a wrong password is answered with [AUTH]", MUST, "RFC 3206 section 6",
               "R3206-06", needs=(USER, GUESSES, announces("AUTH-RESP-CODE")))  # fmt: skip
def wrong_password_has_its_code(target: Target) -> None:
    """H9."""
    code = target.refusal().code
    expect(code == "AUTH", f"the response code is {code}")


@AUTHORIZATION("213", "[AUTH] is said only by a server that announces AUTH-RESP-CODE", SHOULD, "RFC 3206 section 5",
               "R3206-05", needs=(USER, GUESSES))  # fmt: skip
def code_is_announced(target: Target) -> None:
    if target.refusal().code == "AUTH":
        expect("AUTH-RESP-CODE" in (target.capabilities or ()), "AUTH-RESP-CODE is not announced")


@AUTHORIZATION("214", "USER and PASS are understood in any letter case", MUST, "RFC 1939 section 3", "R1939-03",
               needs=(USER,))  # fmt: skip
def any_case(target: Target) -> None:
    """D4."""
    talk, account = target.connect(), target.settings.account
    accepted(talk, b"uSeR " + account.name)
    accepted(talk, b"pAsS " + account.secret)
    talk.entered()
    in_step(talk)


@AUTHORIZATION("215", "USER, PASS and APOP are refused after the login", MUST, "RFC 1939 section 7",
               "R1939-14", "R1939-66")  # fmt: skip
def no_login_after_login(target: Target) -> None:
    talk, account = target.login(), target.settings.account
    digest = b"0123456789abcdef" * 2
    for line in (b"USER " + account.name, b"PASS " + account.secret, b"APOP %s %s" % (account.name, digest)):
        with talk.settling():
            refused(talk, line)
            in_step(talk)


@AUTHORIZATION("216", "a space behind the password makes it another one", MUST, "RFC 1939 section 7", "R1939-71",
               needs=(USER, GUESSES, STRICT))  # fmt: skip
def spaces_belong_to_passwords(target: Target) -> None:
    """D3, A-14."""
    account = target.settings.account
    reply = target.fail_login(target.connect(), account.name, account.secret + b" ")
    expect(reply.ok is False, "the password was accepted with a space behind it")


@AUTHORIZATION("217", "an APOP digest of another greeting is refused, and the login stays open", MUST,
               "RFC 1939 section 7", "R1939-76", needs=(APOP, GUESSES))  # fmt: skip
def old_digest(target: Target) -> None:
    """H13."""
    earlier = target.timestamps
    assert earlier is not None
    talk, account = target.connect(), target.settings.account
    digest = apop_digest(earlier[0], account.secret)
    target.hide(digest, "digest")
    target.failed_logins += 1
    refused(talk, b"APOP %s %s" % (account.name, digest))
    if stays_open(talk):
        refused(talk, b"STAT")


@AUTHORIZATION("218", "the right APOP digest lets in a user who has APOP", MUST, "RFC 1939 section 7", "R1939-76",
               needs=(APOP,))  # fmt: skip
def right_digest(target: Target) -> None:
    """A user may have no APOP. What must not be is a `+OK` that lets nobody in."""
    talk, account = target.connect(), target.settings.account
    digest = apop_digest(talk.timestamp or b"", account.secret)
    target.hide(digest, "digest")
    reply = talk.ask(b"APOP %s %s" % (account.name, digest))
    if not reply.ok:
        target.failed_logins += 1
        raise Skip("this user has no APOP")
    talk.entered()
    in_step(talk)


@AUTHORIZATION("219", "APOP is refused when the greeting has no timestamp", MUST, "RFC 1939 section 7", "R1939-73",
               needs=(NO_APOP,))  # fmt: skip
def no_apop(target: Target) -> None:
    account = target.settings.account
    digest = apop_digest(b"", account.secret)
    target.hide(digest, "digest")
    refused(target.connect(), b"APOP %s %s" % (account.name, digest))


@AUTHORIZATION("220", "APOP without a digest, or with one that is none, is refused", MUST, "RFC 1939 section 7",
               "R1939-13", "R1939-76")  # fmt: skip
def malformed_apop(target: Target) -> None:
    for talk, line in target.each((b"APOP", b"APOP " + NOBODY, b"APOP %s 00" % NOBODY), target.connect):
        refused(talk, line)


@AUTHORIZATION("221", "while a session is on, another one on the same maildrop is refused", SHOULD,
               "RFC 1939 section 4", "R1939-21", "R1939-23")  # fmt: skip
def one_session(target: Target) -> None:
    """A-42. Not a MUST: the lock is to be held "as necessary", and 521 looks at what it is for."""
    first = target.login()
    in_step(first)
    reply = target.try_login(target.connect())
    expect(not reply.ok, "a second session was let in")
    in_step(first)


@AUTHORIZATION("222", "a session that was refused takes no lock away from the one that has it", MUST,
               "RFC 1939 section 4", "R1939-21", "R1939-24")  # fmt: skip
def lock_is_kept(target: Target) -> None:
    """I10."""
    first = target.login()
    if target.try_login(target.connect()).ok:
        raise Skip("a second session is let in")
    expect(not target.try_login(target.connect()).ok, "after a second login was refused, a third one was let in")
    in_step(first)


@AUTHORIZATION("223", "after QUIT the maildrop is free, for the next login at once", MUST, "RFC 1939 section 6",
               "R1939-53")  # fmt: skip
def lock_is_released(target: Target) -> None:
    """A-32."""
    talk = target.login()
    says_goodbye(talk)
    target.log_in(target.connect())


@AUTHORIZATION("224", "[IN-USE] is said only if the password was right", MUST, "RFC 2449 section 8.1.2", "R2449-42",
               needs=(USER, GUESSES, announces("RESP-CODES")))  # fmt: skip
def in_use_only_for_its_owner(target: Target) -> None:
    """H9: a stranger must not learn that somebody is reading mail."""
    target.login()
    reply = target.fail_login(target.connect(), target.settings.account.name, WRONG_PASSWORD)
    expect(reply.ok is False, "a wrong password was not refused")
    expect(reply.code != "IN-USE", "a wrong password was answered with [IN-USE]")


@AUTHORIZATION("225", "another user's maildrop can be opened meanwhile", MUST, "RFC 1939 section 4", "R1939-21",
               needs=(SECOND,))  # fmt: skip
def locks_are_apart(target: Target) -> None:
    first = target.login()
    in_step(target.login(other(target)))
    in_step(first)


@AUTHORIZATION("226", "one user's password does not open another user's maildrop", MUST, "RFC 1939 section 7",
               "R1939-66", "R1939-67", needs=(USER, GUESSES, SECOND))  # fmt: skip
def passwords_are_apart(target: Target) -> None:
    account = other(target)
    if account.secret == target.settings.account.secret:
        raise Skip("both users have the same password")
    reply = target.fail_login(target.connect(), target.settings.account.name, account.secret)
    expect(reply.ok is False, "the second user's password opened the first one's maildrop")


@AUTHORIZATION("227", "with LOGIN-DELAY, a login that comes too soon is refused", SHOULD, "RFC 2449 section 6.5",
               "R2449-18", needs=(announces("LOGIN-DELAY"),))  # fmt: skip
def delay_is_enforced(target: Target) -> None:
    """A-43."""
    if not delay_announced(target.capabilities):
        raise Skip("LOGIN-DELAY is 0, so that no login comes too soon")
    says_goodbye(target.login())
    reply = target.try_login(target.connect())
    expect(not reply.ok, "the next login was let in at once")


def other(target: Target) -> Account:
    """The second user, of a check that needs one."""
    account = target.settings.second
    assert account is not None
    return account


def stays_open(talk: CheckedTalk) -> bool:
    """Whether the server listens on after a login that failed; it may close (RFC 1939 section 4)."""
    talk.send(b"CAPA")
    try:
        talk.reply(multiline=True)
    except AssertionError:
        if talk.ended:
            return False
        raise
    return True
