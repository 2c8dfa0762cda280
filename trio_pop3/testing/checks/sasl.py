"""3xx: AUTH."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from trio_pop3 import sasl

from ..talk import Reply
from .authorization import stays_open
from .base import Group, Level, Skip, accepted, expect, in_step, named, refused, says_goodbye
from .needs import GUESSES, STRICT, announces, mechanism
from .target import NOBODY, WRONG_PASSWORD, CheckedTalk, Target

SASL: Final = Group("SASL")
MUST, SHOULD = Level.MUST, Level.SHOULD
PLAIN, CRAM = mechanism("PLAIN"), mechanism("CRAM-MD5")
_SCRAM: Final = ("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-1", "sha1")
_SCRAM_256: Final = mechanism("SCRAM-SHA-256")
_MSG_ID: Final = re.compile(rb"<[\x21-\x7e]+@[\x21-\x7e]+>")
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")
_LEAST_ITERATIONS: Final = 4096


@SASL("301", "a mechanism that is not there is refused", MUST, "RFC 5034 section 4", "R5034-07")
def unknown_mechanism(target: Target) -> None:
    refused(target.connect(), b"AUTH X-TRIO-POP3-NONE")


@SASL("302", "names of mechanisms are 1 to 20 capital letters, digits, - and _", MUST, "RFC 4422 section 3.1",
      "R4422-01", needs=(announces("SASL"),))  # fmt: skip
def mechanism_names(target: Target) -> None:
    target.connect().ask(b"CAPA", multiline=True)
    for name in (target.capabilities or {})["SASL"]:
        expect(_MECHANISM.fullmatch(name), f'"{name}" is none')


@SASL("303", "AUTH PLAIN with an initial response logs in", MUST, "RFC 5034 section 4", "R5034-22",
      needs=(PLAIN,))  # fmt: skip
def plain(target: Target) -> None:
    talk = target.connect()
    accepted(talk, b"AUTH PLAIN " + target.settings.account.plain)
    _inside(talk)


@SASL("304", "AUTH and the name of a mechanism are understood in any letter case", MUST, "RFC 5034 section 5",
      "R5034-08", "R1939-03", needs=(PLAIN,))  # fmt: skip
def any_case(target: Target) -> None:
    talk = target.connect()
    accepted(talk, b"auTH plAIn " + target.settings.account.plain)
    _inside(talk)


@SASL("305", "AUTH PLAIN alone is answered with an empty challenge, and goes on with the response", MUST,
      "RFC 5034 section 4", "R5034-11", "R5034-12", "R4422-03", needs=(PLAIN,))  # fmt: skip
def plain_in_two_steps(target: Target) -> None:
    """H2."""
    talk = target.connect()
    _challenged(talk, b"AUTH PLAIN", b"")
    accepted(talk, target.settings.account.plain)
    _inside(talk)


@SASL("306", "* ends the exchange with -ERR, and the login is open for something else", MUST, "RFC 5034 section 4",
      "R5034-15", "R5034-30", "R1734-02", needs=(PLAIN,))  # fmt: skip
def cancelled(target: Target) -> None:
    """H2."""
    talk = target.connect()
    _challenged(talk, b"AUTH PLAIN", b"")
    refused(talk, b"*")
    target.log_in(talk)
    in_step(talk)


@SASL("307", "a wrong password is refused, and the login is open for something else unless the server closes", MUST,
      "RFC 5034 section 4", "R5034-21", "R5034-30", needs=(PLAIN, GUESSES))  # fmt: skip
def wrong_password(target: Target) -> None:
    message = base64.b64encode(b"\0%s\0%s" % (target.settings.account.name, WRONG_PASSWORD))
    _fails_and_goes_on(target, b"AUTH PLAIN " + message)


@SASL("308", "what is not base64 is refused, and the login is open for something else", MUST, "RFC 5034 section 4",
      "R5034-16", "R5034-18", needs=(PLAIN, GUESSES))  # fmt: skip
def no_base64(target: Target) -> None:
    """H4. What would be good without the character that does not belong there is not good."""
    good = target.settings.account.plain
    target.hide(good[:4] + b"!" + good[4:], "spoilt")
    _fails_and_goes_on(target, b"AUTH PLAIN", good[:4] + b"!" + good[4:])


@SASL("309", "= is refused but where base64 ends", MUST, "RFC 5034 section 4", "R5034-19", needs=(PLAIN, GUESSES))
def padding_inside(target: Target) -> None:
    """A-37."""
    for talk, line in target.each((b"=AAA", b"AAA=BBB="), target.connect):
        _fails_and_goes_on(target, b"AUTH PLAIN", line, again=False, talk=talk)


@SASL("310", "= as the initial response stands for no octets, which PLAIN refuses", MUST, "RFC 5034 section 4",
      "R5034-10", "R4616-05", needs=(PLAIN, GUESSES))  # fmt: skip
def empty_initial_response(target: Target) -> None:
    _fails_and_goes_on(target, b"AUTH PLAIN =", again=False)


@SASL("311", "an empty line in the exchange is a response of no octets", MUST, "RFC 5034 section 4", "R5034-36",
      needs=(PLAIN, GUESSES))  # fmt: skip
def empty_response(target: Target) -> None:
    _fails_and_goes_on(target, b"AUTH PLAIN", b"", again=False)


@SASL("312", "a line in the exchange is a response, even if it spells a command", MUST, "RFC 5034 section 4",
      "R5034-21", needs=(PLAIN, GUESSES))  # fmt: skip
def no_commands(target: Target) -> None:
    """QUIT is base64."""
    _fails_and_goes_on(target, b"AUTH PLAIN", b"QUIT", again=False)


@SASL("313", "PLAIN without exactly two NULs, or with an empty name or password, is refused", MUST,
      "RFC 4616 section 2", "R4616-04", "R4616-05", needs=(PLAIN, GUESSES))  # fmt: skip
def malformed_plain(target: Target) -> None:
    """H6."""
    account = target.settings.account
    wrong = (
        account.name + b"\0" + account.secret,
        b"\0" + account.name + b"\0",
        b"\0%s\0%s\0" % (account.name, account.secret),
    )
    for talk, message in target.each(wrong, target.connect):
        line = base64.b64encode(message)
        target.hide(line, "malformed")
        _fails_and_goes_on(target, b"AUTH PLAIN " + line, again=False, talk=talk)


@SASL("314", "PLAIN takes a name and a password of 255 octets each", MUST, "RFC 4616 section 2", "R4616-03",
      "R5034-20", needs=(PLAIN, GUESSES))  # fmt: skip
def long_plain(target: Target) -> None:
    """H3. They are wrong here, so what shows is only that they are one response."""
    line = base64.b64encode(b"n" * 255 + b"\0" + b"n" * 255 + b"\0" + b"p" * 255)
    _fails_and_goes_on(target, b"AUTH PLAIN", line, again=False)


@SASL("315", "AUTH is refused after the login", MUST, "RFC 5034 section 4", "R5034-05", "R5034-06", "R4422-07")
def no_auth_after_login(target: Target) -> None:
    talk = target.login()
    for line in (b"AUTH PLAIN " + target.settings.account.plain, b"AUTH PLAIN", b"AUTH X-TRIO-POP3-NONE"):
        with talk.settling():
            refused(talk, line)
            in_step(talk)


@SASL("316", "a challenge is +, a space and base64", MUST, "RFC 5034 section 4", "R5034-11", "R5034-15",
      needs=(announces("SASL"),))  # fmt: skip
def challenges_are_base64(target: Target) -> None:
    """H2. Every mechanism is begun, and cancelled."""
    for name in (target.capabilities or {})["SASL"]:
        talk = target.connect()
        reply = talk.ask(b"AUTH " + name.encode("latin-1"))
        if reply.ok is None:
            _decoded(reply)
            refused(talk, b"*")
        expect(not reply.ok, f"AUTH {name} logged somebody in without a word")


@SASL("317", "CRAM-MD5 with an initial response is refused: the server speaks first", MUST, "RFC 5034 section 4",
      "R5034-14", "R4422-02", needs=(CRAM,))  # fmt: skip
def server_first(target: Target) -> None:
    refused(target.connect(), b"AUTH CRAM-MD5 " + base64.b64encode(NOBODY))


@SASL("318", "the challenge of CRAM-MD5 is a message id, another one every time", MUST, "RFC 2195 section 2",
      "R2195-01", needs=(CRAM,))  # fmt: skip
def cram_challenges(target: Target) -> None:
    seen = set()
    for _ in range(2):
        talk = target.connect()
        challenge = _decoded(talk.ask(b"AUTH CRAM-MD5"))
        expect(_MSG_ID.fullmatch(challenge), "the challenge is no message id")
        seen.add(challenge)
        refused(talk, b"*")
    expect(len(seen) == 2, "a challenge was used twice")


@SASL("319", "SCRAM logs in, and the server proves that it knows the password before it says +OK", MUST,
      "RFC 5802 section 5", "R5802-24", "R5034-28", needs=(_SCRAM_256,))  # fmt: skip
def scram(target: Target) -> None:
    """A user may have nothing stored that SCRAM could use."""
    talk = target.connect()
    exchange, reply = _scram_begun(target, talk)
    try:
        proof = exchange.send(_decoded(reply)).data
        assert proof is not None
        reply = _respond(target, talk, proof)
        if reply.ok is False:
            target.failed_logins += 1
            raise Skip("this user has no SCRAM")
        exchange.send(_decoded(reply))
    except sasl.ServerRejected as failure:
        raise AssertionError(str(failure)) from None
    accepted(talk, b"")
    _inside(talk)


@SASL("320", "SCRAM asks for at least 4096 iterations", SHOULD, "RFC 7677 section 3", "R5802-10",
      needs=(_SCRAM_256,))  # fmt: skip
def iterations(target: Target) -> None:
    talk = target.connect()
    _, reply = _scram_begun(target, talk)
    match = re.search(rb",i=([0-9]+)", _decoded(reply))
    if match is None:
        raise AssertionError("there is no iteration count")
    expect(int(match[1]) >= _LEAST_ITERATIONS, f"the iteration count is {int(match[1])}")


@SASL("321", "SCRAM has another nonce every time, and begins with the client's", MUST, "RFC 5802 section 5.1",
      "R5802-08", "R5802-09", needs=(_SCRAM_256,))  # fmt: skip
def nonces(target: Target) -> None:
    seen = set()
    first = b"n,,n=%s,r=abc" % target.settings.account.name
    for _ in range(2):
        reply = target.connect().ask(b"AUTH SCRAM-SHA-256 " + base64.b64encode(first))
        match = re.match(rb"r=([^,]*)", _decoded(reply))
        if not (match and match[1].startswith(b"abc") and len(match[1]) > 3):
            raise AssertionError("the nonce does not go on from the client's")
        seen.add(match[1])
    expect(len(seen) == 2, "a nonce was used twice")


@SASL("322", "SCRAM refuses a client that answers with another nonce", MUST, "RFC 5802 section 5.1", "R5802-08",
      needs=(_SCRAM_256, GUESSES))  # fmt: skip
def another_nonce(target: Target) -> None:
    talk = target.connect()
    exchange, reply = _scram_begun(target, talk)
    proof = exchange.send(_decoded(reply)).data
    assert proof is not None
    target.failed_logins += 1
    reply = _respond(target, talk, re.sub(rb"r=", b"r=x", proof, count=1))
    _ends_in_refusal(talk, reply)


@SASL("323", "SCRAM refuses an extension that it must understand and cannot", MUST, "RFC 5802 section 5.1",
      "R5802-02", needs=(_SCRAM_256, GUESSES))  # fmt: skip
def mandatory_extension(target: Target) -> None:
    talk = target.connect()
    message = b"n,,m=x,n=%s,r=abcdefgh" % target.settings.account.name
    _ends_in_refusal(talk, talk.ask(b"AUTH SCRAM-SHA-256 " + base64.b64encode(message)))


@SASL("324", "AUTH without an argument is refused", MUST, "RFC 5034 section 4", "R1939-13", needs=(STRICT,))
def auth_alone(target: Target) -> None:
    """H1, section 8.4: some clients expect a list, which no RFC knows."""
    talk = target.connect()
    refused(talk, b"AUTH")
    says_goodbye(talk)


@SASL("325", "AUTH without an argument is answered with a list or -ERR, and the login goes on", MUST,
      "RFC 1939 section 3", "R1939-13")  # fmt: skip
def auth_alone_goes_on(target: Target) -> None:
    """H1."""
    talk = target.connect()
    talk.ask(b"AUTH", multiline=True)
    says_goodbye(talk)


def _inside(talk: CheckedTalk) -> None:
    talk.entered()
    in_step(talk)


def _decoded(reply: Reply) -> bytes:
    expect(reply.ok is None, "the server does not answer with a challenge")
    try:
        return base64.b64decode(reply.text, validate=True)
    except binascii.Error:
        raise AssertionError(f"the challenge is not base64: {named(reply.text)}") from None


def _challenged(talk: CheckedTalk, line: bytes, challenge: bytes) -> None:
    expect(_decoded(talk.ask(line)) == challenge, f"{named(line)} is answered with another challenge")


def _fails_and_goes_on(
    target: Target, first: bytes, *responses: bytes, again: bool = True, talk: CheckedTalk | None = None
) -> None:
    """The exchange ends with one -ERR. With `again`, the login works afterwards, unless the server closes."""
    talk = talk or target.connect()
    target.failed_logins += 1
    line, *rest = (first, *responses)
    for response in rest:
        _challenged(talk, line, b"")
        line = response
    refused(talk, line)
    if not stays_open(talk):
        return
    if again:
        target.log_in(talk)
        in_step(talk)
    else:
        says_goodbye(talk)


def _scram_begun(target: Target, talk: CheckedTalk) -> tuple[sasl.ClientExchange, Reply]:
    account = target.settings.account
    exchange = sasl.scram(account.user, account.password, hash_name="sha256")
    first = next(exchange).data
    assert first is not None
    return exchange, talk.ask(b"AUTH SCRAM-SHA-256 " + base64.b64encode(first))


def _respond(target: Target, talk: CheckedTalk, message: bytes) -> Reply:
    line = base64.b64encode(message)
    target.hide(line, "proof")  # what it proves could be guessed from it
    return talk.ask(line)


def _ends_in_refusal(talk: CheckedTalk, reply: Reply) -> None:
    """At once, or behind a challenge with an error in it (RFC 5802 section 5.1)."""
    if reply.ok is None:
        expect(_decoded(reply).startswith(b"e="), "the server goes on")
        reply = talk.ask(b"")
    expect(reply.ok is False, "it was not refused")
