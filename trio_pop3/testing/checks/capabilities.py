"""6xx: CAPA, what it promises, response codes, pipelining."""

from __future__ import annotations

import re
from typing import Final

from ..talk import Reply
from .base import STAT, Group, Level, Skip, accepted, escape, expect, in_step, named, refused, says_goodbye
from .needs import CAPA, GUESSES, STRICT, USER, announces, messages
from .target import NOBODY, WRONG_PASSWORD, Target, capabilities_of

CAPABILITIES: Final = Group("Capabilities")
MUST, SHOULD = Level.MUST, Level.SHOULD
PIPELINING, RESP_CODES = announces("PIPELINING"), announces("RESP-CODES")
_MOST_OCTETS: Final = 512
_LINE: Final = re.compile(rb"[\x21-\x2d\x2f-\x7e]+(?: [\x21-\x7e]+)*")
_CODE: Final = re.compile(rb"\[[\x20-\x2e\x30-\x5c\x5e-\x7e]+(?:/[\x20-\x2e\x30-\x5c\x5e-\x7e]+)*\](?: .*)?", re.DOTALL)
_ONLY_WITH_ERR: Final = ("AUTH", "IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM", "UTF8")
_LANGUAGE: Final = re.compile(rb"[A-Za-z0-9-]+(?: .*)?", re.DOTALL)
# Announced as long as it is permitted, and that it is not after the login (RFC 2595 section 4).
_BEFORE_LOGIN_ONLY: Final = {"STLS"}


@CAPABILITIES("601", "CAPA works before and after the login", MUST, "RFC 2449 section 5", "R2449-04", "R2449-06",
              needs=(CAPA,))  # fmt: skip
def capa_in_both_states(target: Target) -> None:
    """D7."""
    talk = target.login()
    accepted(talk, b"CAPA", multiline=True)
    in_step(talk)


@CAPABILITIES("602", "a line of CAPA is a tag and its arguments, a space between, in at most 512 octets", MUST,
              "RFC 2449 section 5", "R2449-07", "R2449-10", needs=(CAPA,))  # fmt: skip
def capa_lines(target: Target) -> None:
    for line in accepted(target.connect(), b"CAPA", multiline=True).lines or ():
        expect(_LINE.fullmatch(line), f'"{escape(line)}" is none')
        expect(len(line) + 2 <= _MOST_OCTETS, f"a line has {len(line) + 2} octets")


@CAPABILITIES("603", "CAPA with an argument is refused", MUST, "RFC 2449 section 5", "R2449-05", "R1939-13",
              needs=(CAPA,))  # fmt: skip
def capa_takes_no_argument(target: Target) -> None:
    """D1, A-08."""
    refused(target.connect(), b"CAPA x")


@CAPABILITIES("604", "what is announced before the login is announced after it", MUST, "RFC 2449 section 5",
              "R2449-09", "R5034-01", "R6856-01", needs=(CAPA,))  # fmt: skip
def capa_stays(target: Target) -> None:
    """D7."""
    talk = target.connect()
    before = capabilities_of(talk) or {}
    target.log_in(talk)
    missing = sorted({*before} - {*(capabilities_of(talk) or ())} - _BEFORE_LOGIN_ONLY)
    expect(not missing, f"{_are(missing)} missing after the login")


@CAPABILITIES("605", "TOP works if it is announced", MUST, "RFC 2449 section 6.1", "R2449-14",
              needs=(announces("TOP"), messages(1)))  # fmt: skip
def top_is_true(target: Target) -> None:
    """D8."""
    accepted(target.login(), b"TOP 1 0", multiline=True)


@CAPABILITIES("606", "UIDL works if it is announced", MUST, "RFC 2449 section 6.8", "R2449-14",
              needs=(announces("UIDL"),))  # fmt: skip
def uidl_is_true(target: Target) -> None:
    """D8."""
    accepted(target.login(), b"UIDL", multiline=True)


@CAPABILITIES("607", "USER works if it is announced", MUST, "RFC 2449 section 6.2", "R2449-14",
              needs=(announces("USER"),))  # fmt: skip
def user_is_true(target: Target) -> None:
    """D8."""
    accepted(target.connect(), b"USER " + target.settings.account.name)


@CAPABILITIES("608", "TOP, UIDL and USER are announced if they work", SHOULD, "RFC 2449 section 6", "R2449-14",
              needs=(CAPA,))  # fmt: skip
def what_works_is_announced(target: Target) -> None:
    """D7: clients believe CAPA."""
    working = {*target.commands, *(["USER"] if target.method == "USER" else [])}
    missing = sorted(working - {*(target.capabilities or ())})
    expect(not missing, f"{_are(missing)} not announced")


@CAPABILITIES("609", "TOP and UIDL are there", SHOULD, "RFC 1957", "R1957-03", needs=(messages(1),))
def what_clients_need(target: Target) -> None:
    missing = sorted({"TOP", "UIDL"} - target.commands)
    expect(not missing, f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not work")


@CAPABILITIES("610", "there is no capability APOP", MUST, "RFC 2449 section 6", "R2449-13", needs=(CAPA,))
def no_apop_tag(target: Target) -> None:
    for known in (target.capabilities, target.capabilities_inside):
        expect("APOP" not in (known or ()), "APOP is announced")


@CAPABILITIES("611", "a reply begins with [ only if RESP-CODES is announced", MUST, "RFC 2449 section 8",
              "R2449-16", needs=(CAPA, GUESSES))  # fmt: skip
def codes_are_announced(target: Target) -> None:
    """Every reply that was heard so far counts."""
    if "RESP-CODES" in (target.capabilities or ()):
        raise Skip("it may: RESP-CODES is announced")
    for reply in _heard(target):
        expect(not reply.text.startswith(b"["), f'a reply was "{escape(reply.text)}", and RESP-CODES is not announced')


@CAPABILITIES("612", "with RESP-CODES, what begins with [ is a response code", MUST, "RFC 2449 section 6.4",
              "R2449-15", needs=(RESP_CODES, GUESSES))  # fmt: skip
def codes_are_codes(target: Target) -> None:
    """Every reply that was heard so far counts."""
    for reply in _heard(target):
        if reply.text.startswith(b"["):
            expect(_CODE.fullmatch(reply.text), f'a reply was "{escape(reply.text)}"')


@CAPABILITIES("613", "codes that say why something failed are said with -ERR only", MUST, "RFC 3206 section 4",
              "R3206-03", "R3206-04", "R2449-40", "R2449-42", "R6856-19", needs=(RESP_CODES, GUESSES))  # fmt: skip
def codes_of_failures(target: Target) -> None:
    """Every reply that was heard so far counts."""
    for reply in _heard(target):
        expect(not (reply.ok and reply.code in _ONLY_WITH_ERR), f'a reply was +OK "{escape(reply.text)}"')


@CAPABILITIES("614", "what is no failure of the login has no [AUTH]", MUST, "RFC 3206 section 5", "R3206-04",
              "R3206-06", needs=(RESP_CODES,))  # fmt: skip
def no_code_for_syntax(target: Target) -> None:
    """H9: a client would ask its user for another password."""
    for line in (b"XNON", b"STAT"):
        expect(refused(target.connect(), line).code != "AUTH", f"{escape(line)} is refused with [AUTH]")
    expect(refused(target.login(), b"RETR 0").code != "AUTH", "RETR 0 is refused with [AUTH]")


@CAPABILITIES("615", "with PIPELINING, commands in one segment are answered in order", MUST, "RFC 2449 section 6.6",
              "R2449-23", "R2449-24", needs=(PIPELINING,))  # fmt: skip
def pipelined(target: Target) -> None:
    """A14, D5."""
    talk = target.login()
    lines = (b"NOOP", b"STAT", b"LIST", b"LIST 0", b"NOOP", b"CAPA", b"RSET", b"RETR 0", b"STAT")
    talk.send(*lines)
    for line in lines:
        reply = talk.reply(multiline=line in (b"LIST", b"CAPA"))
        expect(reply.ok is not line.endswith(b" 0"), f"the reply in the place of that to {named(line)} is another one")
        expect(line != b"STAT" or STAT.fullmatch(reply.text), "the reply in the place of that to STAT is another one")
    in_step(talk)


@CAPABILITIES("616", "with PIPELINING, commands behind PASS wait until the login is done", MUST,
              "RFC 2449 section 6.6", "R2449-23", "R2449-24", needs=(PIPELINING, USER))  # fmt: skip
def pipelined_login(target: Target) -> None:
    """D15."""
    talk, account = target.connect(), target.settings.account
    talk.send(b"USER " + account.name, b"PASS " + account.secret, b"STAT", b"QUIT")
    for line in ("USER", "PASS", "STAT", "QUIT"):
        reply = talk.reply()
        expect(reply.ok, f"{line} was refused")
        expect(line != "STAT" or STAT.fullmatch(reply.text), "the reply in the place of that to STAT is another one")
    talk.expect_end()


@CAPABILITIES("617", "with PIPELINING, commands behind a PASS that fails are refused one by one", MUST,
              "RFC 2449 section 6.6", "R2449-24", "R1939-14", needs=(PIPELINING, USER, GUESSES))  # fmt: skip
def pipelined_failure(target: Target) -> None:
    talk = target.connect()
    target.failed_logins += 1
    talk.send(b"USER " + target.settings.account.name, b"PASS " + WRONG_PASSWORD, b"STAT", b"UIDL", b"QUIT")
    if talk.reply().ok:
        expect(talk.reply().ok is False, "a wrong password was not refused")
    else:
        raise Skip("USER was refused")
    try:
        replies = [talk.reply() for _ in range(3)]
    except AssertionError:
        if talk.ended:
            raise Skip("the server closes after a login that failed") from None
        raise
    expect([reply.ok for reply in replies] == [False, False, True], "STAT, UIDL and QUIT are not -ERR, -ERR and +OK")


@CAPABILITIES("618", "LOGIN-DELAY has a number of seconds, exact after the login", MUST, "RFC 2449 section 6.5",
              "R2449-17", "R2449-19", needs=(announces("LOGIN-DELAY"),))  # fmt: skip
def login_delay(target: Target) -> None:
    before, after = _both(target, "LOGIN-DELAY")
    for words in (before, after):
        expect(words[:1] and words[0].isdecimal(), f'it has "{" ".join(words)}"')
    expect(int(before[0]) >= int(after[0]), "the value before the login is less than the one after it")


@CAPABILITIES("619", "EXPIRE has a number of days or NEVER, and before the login the least of all users", MUST,
              "RFC 2449 section 6.7", "R2449-27", "R2449-31", needs=(announces("EXPIRE"),))  # fmt: skip
def expire(target: Target) -> None:
    before, after = _both(target, "EXPIRE")
    for words in (before, after):
        expect(words[:1] and (words[0].isdecimal() or words[0] == "NEVER"), f'it has "{" ".join(words)}"')
    least, exact = (float("inf") if words[0] == "NEVER" else int(words[0]) for words in (before, after))
    expect(least <= exact, "the value before the login is more than the one after it")


@CAPABILITIES("620", "the word USER stands behind LOGIN-DELAY and EXPIRE before the login only", SHOULD,
              "RFC 2449 section 6.5", "R2449-21", "R2449-32", needs=(CAPA,))  # fmt: skip
def values_are_exact(target: Target) -> None:
    after = target.capabilities_inside or {}
    for tag in ("LOGIN-DELAY", "EXPIRE"):
        expect("USER" not in after.get(tag, ()), f"{tag} still varies with the user after the login")


@CAPABILITIES("621", "a command of 255 octets is read as one", MUST, "RFC 2449 section 4", "R2449-01", "R2449-02",
              needs=(CAPA,))  # fmt: skip
def long_command(target: Target) -> None:
    """Nobody has such a name, so it may be refused; what shows is that it is one line."""
    talk = target.connect()
    talk.ask(b"USER " + b"n" * (255 - len(b"USER \r\n")))
    says_goodbye(talk)


@CAPABILITIES("622", "UTF8 and LANG are announced before and after the login", MUST, "RFC 6856 section 2",
              "R6856-01", needs=(CAPA,))  # fmt: skip
def utf8_in_both_states(target: Target) -> None:
    before, after = target.capabilities or {}, target.capabilities_inside or {}
    for tag in ("UTF8", "LANG"):
        expect((tag in before) == (tag in after), f"{tag} is announced in one state only")


@CAPABILITIES("623", "UTF8 is answered with +OK or -ERR, and the login goes on", MUST, "RFC 6856 section 2.1",
              "R6856-02", "R6856-03", needs=(announces("UTF8"),))  # fmt: skip
def utf8(target: Target) -> None:
    talk = target.connect()
    talk.ask(b"UTF8")
    target.log_in(talk)
    in_step(talk)


@CAPABILITIES("624", "UTF8 with an argument is refused", MUST, "RFC 6856 section 2.1", "R6856-02", "R1939-13",
              needs=(announces("UTF8"),))  # fmt: skip
def utf8_takes_no_argument(target: Target) -> None:
    refused(target.connect(), b"UTF8 x")


@CAPABILITIES("625", "UTF8 is refused after the login", MUST, "RFC 6856 section 2.1", "R6856-02", "R1939-14",
              needs=(announces("UTF8"), STRICT))  # fmt: skip
def utf8_before_login_only(target: Target) -> None:
    """A-39, D10: a widespread client says it there, and gives up on a server that refuses."""
    talk = target.login()
    refused(talk, b"UTF8")
    in_step(talk)


@CAPABILITIES("626", "LANG lists tags and descriptions, before and after the login", MUST, "RFC 6856 section 3.2",
              "R6856-20", "R6856-25", needs=(announces("LANG"),))  # fmt: skip
def languages(target: Target) -> None:
    for talk in (target.connect(), target.login()):
        for line in talk.ask(b"LANG", multiline=True).lines or ():
            expect(_LANGUAGE.fullmatch(line), f'"{escape(line)}" is no tag and description')
    in_step(talk)


@CAPABILITIES("627", "LANG with a tag that is listed is answered with +OK, that tag and words", MUST,
              "RFC 6856 section 3.2", "R6856-21", needs=(announces("LANG"),))  # fmt: skip
def language(target: Target) -> None:
    talk = target.connect()
    lines = talk.ask(b"LANG", multiline=True).lines
    if not lines:
        raise Skip("no language is listed")
    tag = lines[0].partition(b" ")[0]
    text = accepted(talk, b"LANG " + tag).text
    expect(re.fullmatch(rb"[A-Za-z0-9-]+ .+", text, re.DOTALL), f'"{escape(text)}" is no tag and words')


@CAPABILITIES("628", "LANG with a tag that nobody has is refused", MUST, "RFC 6856 section 3.2", "R6856-23",
              needs=(announces("LANG"),))  # fmt: skip
def no_language(target: Target) -> None:
    refused(target.connect(), b"LANG x-none-such")


def _are(names: list[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _both(target: Target, tag: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    before, after = target.capabilities or {}, target.capabilities_inside or {}
    expect(tag in after, f"{tag} is not announced after the login")
    return before[tag], after[tag]


def _heard(target: Target) -> list[Reply]:
    """Every reply so far, and some that are made for it."""
    talk = target.connect()
    talk.ask(b"X-TRIO-POP3-NONE")
    talk.ask(b"USER " + NOBODY)
    target.refusal()
    talk = target.login()
    for line in (b"NOOP", b"RETR 0", b"X-TRIO-POP3-NONE"):
        talk.ask(line)
    return sorted(target.heard, key=lambda reply: reply.text)
