"""One dialogue, backend included, without an event loop: replies, gates, failures, UPDATE."""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.languages import GERMAN, LANGUAGES, Language
from trio_pop3.replies import INTERNAL_ERROR, Multiline, safe_text
from trio_pop3.rules import Rules
from trio_pop3.sansio import (
    Auth,
    AuthList,
    BadCommand,
    Challenge,
    Command,
    Dele,
    Err,
    Ok,
    Pass,
    Profile,
    Quit,
    Retr,
    Stls,
    User,
    Xclient,
)
from trio_pop3.sasl import scram
from trio_pop3.session import Session

from .driving import BOUND, CLIENT, OVER_TLS, REMOTE, CountingGate, Dialogue, Store, info, run

CODES = re.compile(rb"^\S+|\[[A-Z/-]+\]")
WRONG_STATE = b"-ERR command not valid in this state\r\n"
MAIL = [b"Subject: one\n\nfirst\n", b"Subject: two\r\n\r\n.\r\nsecond", b""]


def filled() -> MemoryBackend:
    mail = MemoryBackend()
    mail.add_user("alice", "secret")
    for content in MAIL:
        mail.deliver("alice", content)
    return mail


memory = pytest.fixture(filled)


def headlines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was being done when the backend failed, of each failure in the log."""
    lines = [message.partition("\n")[0] for message in caplog.messages]
    assert all(re.fullmatch("session test: .* failed in the backend", line) for line in lines), lines
    return [line.removeprefix("session test: ").removesuffix(" failed in the backend") for line in lines]


@pytest.fixture
def dialogue(memory: MemoryBackend) -> Dialogue:
    session = Dialogue(memory)
    assert session.login().startswith(b"+OK ")
    return session


# --- AUTHORIZATION -------------------------------------------------------------------------------------------------


def test_greeting_and_minimal_session(dialogue: Dialogue, memory: MemoryBackend) -> None:
    """R1939-02, 20, 22, 26, 46, 54; R1957-01."""
    assert dialogue.greeting == b"+OK POP3 server ready\r\n"
    assert dialogue.ask("STAT") == b"+OK 3 52\r\n"
    assert dialogue.ask("NOOP").startswith(b"+OK ")
    assert dialogue.ask("QUIT") == b"+OK goodbye\r\n"
    assert len(memory.messages("alice")) == 3


def test_user_never_tells_whether_there_is_one(memory: MemoryBackend) -> None:
    """R1939-68, 69; R3206-07; H7."""
    known, unknown = Dialogue(memory), Dialogue(memory)
    assert known.ask("USER alice") == unknown.ask("USER nobody")
    wrong = known.ask("PASS wrong")
    assert wrong == unknown.ask("PASS wrong")
    assert wrong == b"-ERR [AUTH] invalid user name or password\r\n"


def test_a_failed_login_leaves_everything_usable(memory: MemoryBackend) -> None:
    """R1939-23, 25, 26, 66: USER, APOP and QUIT work after it."""
    session = Dialogue(memory)
    session.login("alice", "wrong")
    assert session.login().startswith(b"+OK maildrop has 3 messages")


def test_three_failed_logins_end_the_connection(memory: MemoryBackend) -> None:
    """PROTOCOL 2.3."""
    session = Dialogue(memory)
    for _ in range(3):
        assert not session.over
        session.login("alice", "wrong")
    assert session.over
    assert session.session.ended == "too many failed logins"


def test_empty_passwords_never_do(memory: MemoryBackend) -> None:
    """H6, A-13, D3; an unknown user and an empty secret are not equal."""
    session = Dialogue(memory)
    session.ask("USER nobody")
    assert session.ask("PASS ").startswith(b"-ERR")
    with pytest.raises(ValueError, match="not empty"):
        memory.add_user("bob", "")


def test_passwords_are_exact(memory: MemoryBackend) -> None:
    """D3, R1939-71, A-14."""
    memory.add_user("bob", "  two  spaces ")
    assert Dialogue(memory).login("bob", "  two  spaces ").startswith(b"+OK")
    assert Dialogue(memory).login("bob", "two  spaces").startswith(b"-ERR")


def test_a_password_of_any_octets_reaches_the_backend() -> None:
    """A-03: what is not UTF-8 comes back octet for octet, where nobody was promised UTF-8."""
    seen: list[be.Credentials] = []

    class Recorder(Store):
        async def authenticate(self, credentials: be.Credentials, client: be.ClientInfo) -> str:
            seen.append(credentials)
            raise be.AuthenticationFailed

    session = Dialogue(Recorder(), utf8=False)
    session.ask("USER a")
    session.ask(b"PASS \xff\xc3\xa9")
    assert isinstance(seen[0], be.PasswordCredentials)
    assert seen[0].password.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa9"


def test_apop(memory: MemoryBackend) -> None:
    """R1939-73, 75, 76; the vector of RFC 1939 section 7."""
    stamp = "<1896.697170952@dbc.mtview.ca.us>"
    memory.add_user("mrose", "tanstaaf")
    session = Dialogue(memory, timestamp=stamp)
    assert session.greeting == f"+OK POP3 server ready {stamp}\r\n".encode()
    assert session.ask("APOP mrose " + "0" * 32).startswith(b"-ERR [AUTH]")
    assert session.ask("APOP mrose c4c9334bac560ecc979e58001b3e22fb").startswith(b"+OK ")
    assert session.session.method == "APOP"
    assert Dialogue(memory).ask("APOP mrose c4c9334bac560ecc979e58001b3e22fb") == b"-ERR APOP is not offered here\r\n"
    assert Dialogue(Store(), timestamp=stamp).ask("APOP mrose " + "0" * 32) == b"-ERR APOP is not offered here\r\n"


def test_cleartext_logins_can_be_refused(memory: MemoryBackend) -> None:
    """G7, R1939-70, R8314-10, P5: refused, not announced, and the same whatever the password."""
    session = Dialogue(memory, client=REMOTE, timestamp="<1@h>")
    assert "USER" not in session.lines("CAPA")
    assert session.ask("USER alice") == b"-ERR login without encryption is not allowed here\r\n"
    assert session.ask("PASS secret") == session.ask("PASS wrong")
    assert session.ask("APOP alice " + "0" * 32).startswith(b"-ERR [AUTH] login without encryption")


def test_one_session_at_a_time(memory: MemoryBackend) -> None:
    """R1939-21, R2449-42, A-42, I10: only the holder lets go; the state stays AUTHORIZATION."""
    first, second = Dialogue(memory), Dialogue(memory)
    first.login()
    assert second.login() == b"-ERR [IN-USE] maildrop in use by another session\r\n"
    assert second.login("alice", "wrong").startswith(b"-ERR [AUTH]")  # R2449-42: only after good credentials
    second.close()
    assert memory.locked("alice")
    first.ask("QUIT")
    third = Dialogue(memory)
    assert third.login().startswith(b"+OK")
    third.close()
    assert not memory.locked("alice")


def test_a_refused_login_leaves_a_trace(memory: MemoryBackend, caplog: pytest.LogCaptureFixture) -> None:
    """I7: who it was and why; of somebody who may be anybody there is a count, and no name."""
    caplog.set_level(logging.INFO)
    first, second = Dialogue(memory), Dialogue(memory)
    first.login()
    second.login()
    assert caplog.messages == ["session test: login of 'alice' refused: [IN-USE] maildrop in use by another session"]
    caplog.clear()
    second.login("alice", "wrong")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (be.AuthenticationFailed("bob is disabled"), b"-ERR [AUTH] invalid user name or password\r\n"),
        (be.MaildropInUse(), b"-ERR [IN-USE] maildrop in use by another session\r\n"),
        (be.LoginDelayed("wait 5 s"), b"-ERR [LOGIN-DELAY] wait 5 s\r\n"),
        (be.TemporaryFailure(), b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"),
        (be.TemporaryFailure("[AUTH] no\r\n+OK"), b"-ERR [SYS/TEMP] AUTH] no +OK\r\n"),
        (be.PermanentFailure("broken"), b"-ERR [SYS/PERM] broken\r\n"),
        (OSError("/secret/path"), b"-ERR [SYS/TEMP] internal error, try again later\r\n"),
        (ExceptionGroup("several", [OSError()]), b"-ERR [SYS/TEMP] internal error, try again later\r\n"),
    ],
)
@pytest.mark.parametrize("where", ["authenticate", "open"])
def test_failures_of_a_login(failure: Exception, reply: bytes, where: str, caplog: pytest.LogCaptureFixture) -> None:
    """D6, F9, H9, R3206-06, SEED 2.5: one reply, the state stays, nothing is held; what is not typed is logged."""
    store = Store()
    store.fail[where] = failure
    session = Dialogue(store, max_auth_failures=None)
    assert session.login() == reply
    assert headlines(caplog) == ([] if isinstance(failure, be.BackendError) else ["login"])
    assert session.ask("STAT").startswith(b"-ERR")
    store.fail.clear()
    assert session.login().startswith(b"+OK")
    assert "release" not in store.calls


@pytest.mark.parametrize("answer", [None, "", 1, b"alice"])
def test_authenticate_must_give_a_name(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()

    async def authenticate(credentials: be.Credentials, client: be.ClientInfo) -> Any:
        return answer

    store.authenticate = authenticate  # type: ignore[method-assign]
    assert Dialogue(store).login().startswith(b"-ERR [SYS/TEMP]")
    assert f"authenticate and authorize must return a user name, not {type(answer).__name__}\n" in caplog.text


def test_a_failure_is_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    """J5: whose session it was, what was being done, and the traceback with nothing behind it."""
    store = Store([info()])
    session = Dialogue(store)
    session.login()
    store.fail["retrieve"] = OSError("disk")
    session.ask("RETR 1")
    headline, first, second, *_, last = caplog.messages[0].split("\n")
    assert headline == "session test: RETR failed in the backend"
    assert first == "Traceback (most recent call last):"
    assert second.startswith('  File "')
    assert last == "OSError: disk"


@pytest.mark.parametrize("password", ["hunter2", "it's\\odd"])
def test_secrets_do_not_reach_the_log(password: str, caplog: pytest.LogCaptureFixture) -> None:
    """H8, P5: not even in an exception that quotes them, and not in a repr."""
    caplog.set_level(logging.DEBUG)
    store = Store()
    store.fail["authenticate"] = KeyError(password)
    assert Dialogue(store).login("alice", password).startswith(b"-ERR [SYS/TEMP]")
    assert "KeyError" in caplog.text
    assert password not in caplog.text
    assert repr(password)[1:-1] not in caplog.text
    assert password not in repr(be.PasswordCredentials("alice", password))
    assert "ab" * 16 not in repr(be.ApopCredentials("alice", "<1@h>", b"\xab" * 16)).replace("\\x", "")


def test_a_second_login_gives_back_what_a_cancelled_one_left() -> None:
    """P1: exactly once."""
    store = Store()
    session = Session(store, CLIENT)
    session._maildrop = store
    for command in (User("a"), Pass(b"b")):
        run(session.respond(command))
    assert store.calls == ["release", "authenticate", "open", "messages"]


# --- STLS ----------------------------------------------------------------------------------------------------------


def test_stls_where_it_has_no_place(memory: MemoryBackend) -> None:
    """R2595-02, R2595-03, R2595-04, R2595-06, R6856-11, G2: not configured, twice, too late, with words behind it."""
    assert Dialogue(memory).ask("STLS") == b"-ERR TLS is not available here\r\n"
    assert Dialogue(memory, client=OVER_TLS, stls=True).ask("STLS") == b"-ERR TLS is active already\r\n"
    session = Dialogue(memory, stls=True)
    assert session.ask("STLS now").startswith(b"-ERR bad arguments")
    session.ask("UTF8")
    assert session.ask("STLS") == b"-ERR too late for TLS, UTF8 was said\r\n"
    session.login()
    assert session.ask("STLS") == b"-ERR command not valid in this state\r\n"
    twice = Dialogue(memory, stls=True)
    twice.ask("STLS")
    twice.start_tls()
    assert twice.ask("STLS") == b"-ERR TLS is active already\r\n"


@pytest.mark.parametrize("stls", [True, False])
@pytest.mark.parametrize(
    "before", [["USER alice"], ["USER alice", "PASS wrong"], ["AUTH PLAIN", "*"], ["AUTH PLAIN ="]]
)
def test_stls_forgets_the_user(memory: MemoryBackend, stls: bool, before: list[str]) -> None:
    """G3, A-15, PROTOCOL 2.5: accepted or refused; after a failed login it is as good as ever."""
    session = Dialogue(memory, stls=stls)
    for line in (*before, "STLS"):
        session.ask(line)
    assert session.tls_due == stls
    if stls:
        session.start_tls()
    assert session.ask("PASS secret").startswith(b"-ERR")
    assert session.login().startswith(b"+OK")


@pytest.mark.parametrize(
    "between",
    [None, BadCommand(Err("what")), Auth("NTLM"), AuthList(), Stls(), Xclient((("ADDR", "192.0.2.7"),)), OVER_TLS],
)
def test_a_name_is_forgotten_by_the_session_as_well(between: BadCommand | Command | be.ClientInfo | None) -> None:
    """A-15, G3, R1939-67: nobody is asked about a password without a name, not even if the core lets one through."""
    store = Store()
    session = Session(store, CLIENT, Rules(stls=True), xclient=True)
    if between is not None:
        run(session.respond(User("alice")))
    if isinstance(between, be.ClientInfo):
        session.tls_started(between)
    elif between is not None:
        run(session.respond(between))
    assert run(session.respond(Pass(b"secret"))) == INTERNAL_ERROR
    assert store.calls == []


def test_tls_begins_anew(memory: MemoryBackend) -> None:
    """R2595-08, R2595-12, R2595-19, G1, G3, A-35, D8: language, capabilities and what was sent in clear are forgotten.

    There is no new greeting, and a client certificate alone logs nobody in.
    """
    session = Dialogue(memory, client=REMOTE, stls=True)
    assert session.ask("LANG de").startswith(b"+OK de ")
    assert "USER" not in session.lines("CAPA")
    assert session.send(b"STLS\r\nUSER alice\r\nPASS sec") == b"+OK bitte TLS beginnen\r\n"
    assert session.send(b"ret\r\nQUIT\r\n") == b""
    session.start_tls(certificate=BOUND.certificate)
    assert session.ask("NOOP") == WRONG_STATE
    assert "USER" in session.lines("CAPA")
    assert session.login().startswith(b"+OK maildrop has 3 messages")


def test_stls_inside_an_exchange_is_a_response(memory: MemoryBackend) -> None:
    """R2595-04: four letters of base64."""
    session = Dialogue(memory, stls=True)
    session.ask("AUTH PLAIN")
    assert session.ask("STLS") == b"-ERR malformed authentication message\r\n"


def test_no_exchange_outlives_the_beginning_of_tls(memory: MemoryBackend) -> None:
    """H5, I4, G3: whoever drives the session; the attempt is over."""
    gate = CountingGate()
    session = Session(memory, REMOTE, gate=gate)
    first = next(scram("alice", "secret")).data
    assert isinstance(run(session.respond(Auth("SCRAM-SHA-256", first))), Challenge)
    session.tls_started(OVER_TLS)
    assert gate.verdicts == [False]
    run(session.close("lost"))
    assert gate.verdicts == [False]


# --- UTF8 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", Profile)
def test_utf8_in_every_state(memory: MemoryBackend, profile: Profile) -> None:
    """R6856-02, A-39, D10: twice does no harm, it keeps the user, and behind the login clients like Outlook say it."""
    session = Dialogue(memory, profile=profile)
    assert session.ask("UTF8 x").startswith(b"-ERR bad arguments")
    assert session.ask("UTF8") == session.ask("UTF8") == b"+OK UTF8 mode on\r\n"
    session.ask("USER alice")
    assert session.ask("UTF8").startswith(b"+OK")
    assert session.ask("PASS secret").startswith(b"+OK")
    assert session.ask("UTF8") == (WRONG_STATE if profile is Profile.STRICT else b"+OK UTF8 mode on\r\n")
    assert session.ask("STAT") == b"+OK 3 52\r\n"


def test_utf8_may_be_off(memory: MemoryBackend) -> None:
    """R6856-03, D9: an error like others, and neither TLS nor the login suffers."""
    session = Dialogue(memory, utf8=False, stls=True)
    for _ in range(11):
        assert session.ask("UTF8") == b"-ERR UTF8 is not available here\r\n"
    session.ask("USER alice")
    session.ask("UTF8")
    assert session.ask("PASS secret").startswith(b"+OK")
    assert session.ask("UTF8") == b"-ERR UTF8 is not available here\r\n"


# --- LANG ----------------------------------------------------------------------------------------------------------


def test_which_languages_there_are(memory: MemoryBackend) -> None:
    """R6856-25."""
    klingon = Language("tlh", "tlhIngan Hol \u2014 \u00e9")
    session = Dialogue(memory, languages=(*LANGUAGES, klingon))
    assert session.lines("LANG") == ["en English", "de Deutsch", "tlh tlhIngan Hol \u2014 \u00e9"]
    assert session.ask("LANG").startswith(b"+OK languages follow\r\n")
    assert Dialogue(memory, languages=()).lines("LANG") == []


def test_a_language_is_chosen(memory: MemoryBackend) -> None:
    """R6856-20, R6856-21, R6856-22, R6856-23, R6856-24, R6856-26: in both states, and the reply is in it already.

    It is nobody's but the connection's: no user has one.
    """
    session = Dialogue(memory)
    assert session.ask("LANG de-AT") == b"+OK de die Sprache wurde gewechselt\r\n"
    assert session.ask("LANG xx") == b"-ERR diese Sprache ist nicht verf\xc3\xbcgbar\r\n"
    assert session.ask("LANG de xx").startswith(b"-ERR fehlerhafte Argumente, erwartet wird: LANG [language]")
    assert session.ask("USER alice") == b"+OK bitte PASS senden\r\n"
    assert session.ask("LANG *") == b"+OK en language changed\r\n"
    assert session.ask("LANG DE").startswith(b"+OK de ")
    assert session.ask("PASS secret") == "+OK das Postfach enthält 3 Nachrichten (52 Oktette)\r\n".encode()
    assert session.ask("XYZZY") == b"-ERR unbekannter Befehl\r\n"
    assert session.ask("LANG en") == b"+OK en language changed\r\n"
    assert session.ask("NOOP") == b"+OK nothing done\r\n"


def test_the_language_of_the_server(memory: MemoryBackend) -> None:
    """R6856-24."""
    session = Dialogue(memory, language=GERMAN)
    assert session.ask("USER alice") == b"+OK bitte PASS senden\r\n"
    session.ask("LANG en")
    assert session.ask("LANG *") == b"+OK de die Sprache wurde gewechselt\r\n"


def test_what_clients_read_is_in_no_language(memory: MemoryBackend) -> None:
    """R6856-22, R1939-30, R1939-33, R1939-59, D14, H9: data, codes, challenges and bodies are the same; texts are not.

    Every text has a translation.
    """
    script = (
        "CAPA", "AUTH", "AUTH PLAIN", "*", "USER alice", "PASS wrong", "APOP alice " + "0" * 32, "AUTH NTLM", "STLS",
        "AUTH PLAIN !", "USER alice", "PASS secret", "STAT", "LIST", "LIST 1", "LIST 9", "UIDL", "UIDL 1", "RETR 1",
        "TOP 1 0", "DELE 1", "DELE 1", "NOOP", "RSET", "UTF8", "XYZZY", "LAST", "RETR", "QUIT",
    )  # fmt: skip
    english, german = Dialogue(memory), Dialogue(filled())
    german.ask("LANG de")
    for line in script:
        status, _, body = english.ask(line).partition(b"\r\n")
        shown, _, same = german.ask(line).partition(b"\r\n")
        assert same == body
        assert (shown == status) == (line in ("STAT", "LIST 1", "UIDL 1", "AUTH PLAIN")), line
        assert CODES.findall(shown) == CODES.findall(status)


# --- TRANSACTION ---------------------------------------------------------------------------------------------------


def test_every_command_has_a_reply_and_numbers_are_plain(dialogue: Dialogue) -> None:
    """D14, A14, B4: RSET and NOOP included; ASCII decimals without sign or leading zero."""
    for command in ("STAT", "LIST", "LIST 1", "UIDL", "UIDL 1", "RETR 1", "TOP 1 1", "DELE 1", "NOOP", "RSET", "CAPA"):
        assert dialogue.ask(command).startswith(b"+OK ")
    rows = [dialogue.ask("STAT")[4:-2], dialogue.ask("LIST 1")[4:-2], *dialogue.ask("LIST").split(b"\r\n")[1:-2]]
    assert all(re.fullmatch(rb"[1-9][0-9]* [1-9][0-9]*", row) for row in rows)


def test_a_message_of_headers_only_shows_its_end(memory: MemoryBackend) -> None:
    """A7: with a blank line or without, RETR and TOP are the stored lines and then the terminator."""
    memory.add_user("bob", "secret")
    for content in (b"Subject: x\n\n", b"Subject: x\n", b"Subject: x"):
        memory.deliver("bob", content)
    session = Dialogue(memory)
    session.login("bob")
    asked = [f"{command} {n}{lines}" for n in (1, 2, 3) for command, lines in (("RETR", ""), ("TOP", " 0"))]
    bodies = [session.ask(line).partition(b"\r\n")[2] for line in asked]
    assert bodies == [b"Subject: x\r\n\r\n.\r\n"] * 2 + [b"Subject: x\r\n.\r\n"] * 4


def test_listings(dialogue: Dialogue) -> None:
    """R1939-27, 30, 31, 33, 34, 36, 37, 59, 60; A15, C4, C8."""
    assert dialogue.ask("LIST") == b"+OK 3 messages follow\r\n1 23\r\n2 27\r\n3 2\r\n.\r\n"
    assert dialogue.ask("LIST 2") == b"+OK 2 27\r\n"
    assert dialogue.ask("UIDL 3") == b"+OK 3 00000003\r\n"
    assert dialogue.ask("UIDL") == b"+OK 3 messages follow\r\n1 00000001\r\n2 00000002\r\n3 00000003\r\n.\r\n"


def test_listings_of_an_empty_maildrop(memory: MemoryBackend) -> None:
    """R1939-35, F7."""
    memory.add_user("bob", "secret")
    session = Dialogue(memory)
    session.login("bob")
    assert session.ask("LIST") == session.ask("UIDL") == b"+OK 0 messages follow\r\n.\r\n"
    assert session.ask("STAT") == b"+OK 0 0\r\n"


def test_retr_and_top(dialogue: Dialogue) -> None:
    """R1939-43, 57, 58; A-20, A-28."""
    assert dialogue.ask("RETR 2") == b"+OK 27 octets follow\r\nSubject: two\r\n\r\n..\r\nsecond\r\n.\r\n"
    assert dialogue.ask("RETR 3") == b"+OK 2 octets follow\r\n\r\n.\r\n"
    assert dialogue.ask("TOP 2 1") == b"+OK top of message follows\r\nSubject: two\r\n\r\n..\r\n.\r\n"
    assert dialogue.ask("TOP 2 0") == b"+OK top of message follows\r\nSubject: two\r\n\r\n.\r\n"
    assert dialogue.ask("TOP 2 99").partition(b"\r\n")[2] == dialogue.ask("RETR 2").partition(b"\r\n")[2]


@pytest.mark.parametrize("command", ["LIST", "UIDL", "RETR", "DELE", "TOP"])
@pytest.mark.parametrize("number", ["0", "4", "9999999999"])
def test_numbers_out_of_range(dialogue: Dialogue, command: str, number: str) -> None:
    """R1939-39, C3, D13: an error like any other, and the session goes on."""
    reply = dialogue.ask(f"{command} {number}" + (" 1" if command == "TOP" else ""))
    assert reply == b"-ERR no such message\r\n"
    assert not dialogue.over


def test_deleted_messages(dialogue: Dialogue, memory: MemoryBackend) -> None:
    """R1939-28, 32, 38, 44, 45, 47, 64; A-18, A-19, B2, C1, C2, E3, E4."""
    assert dialogue.ask("DELE 1").startswith(b"+OK")
    for command in ("LIST 1", "UIDL 1", "RETR 1", "TOP 1 0", "DELE 1"):
        assert dialogue.ask(command) == b"-ERR message already deleted\r\n"
    assert dialogue.ask("STAT") == b"+OK 2 29\r\n"
    assert dialogue.ask("LIST") == b"+OK 2 messages follow\r\n2 27\r\n3 2\r\n.\r\n"
    assert dialogue.ask("UIDL").startswith(b"+OK 2 messages follow\r\n2 ")
    assert len(memory.messages("alice")) == 3
    assert dialogue.ask("RSET").startswith(b"+OK")
    assert dialogue.ask("STAT") == b"+OK 3 52\r\n"
    assert dialogue.ask("RETR 1").startswith(b"+OK")


def test_mail_that_arrives_meanwhile_is_not_seen(dialogue: Dialogue, memory: MemoryBackend) -> None:
    """C5, PROTOCOL 2.3."""
    memory.deliver("alice", b"late")
    assert dialogue.ask("STAT") == b"+OK 3 52\r\n"
    dialogue.ask("QUIT")
    session = Dialogue(memory)
    session.login()
    assert session.ask("STAT") == b"+OK 4 58\r\n"


def test_a_vanished_message(dialogue: Dialogue, memory: MemoryBackend) -> None:
    """C6, A-22: an error, kept connection, and no asking for ever."""
    memory._mail["alice"].pop("00000002")
    gone = b"-ERR [SYS/TEMP] message not available\r\n"
    assert [dialogue.ask("RETR 2") for _ in range(10)] == [gone] * 10
    assert dialogue.ask("RETR 2") == b"-ERR too many bad commands, closing\r\n"
    assert dialogue.over


def test_a_vanished_message_among_others_is_no_offence(dialogue: Dialogue, memory: MemoryBackend) -> None:
    memory._mail["alice"].pop("00000002")
    for _ in range(20):
        dialogue.ask("RETR 2")
        assert dialogue.ask("RETR 1").startswith(b"+OK")
    assert not dialogue.over


# --- UPDATE --------------------------------------------------------------------------------------------------------


def test_quit_commits_then_releases_then_answers() -> None:
    """A-32, R1939-49, 50, 53; E2, E5: by uid, ascending, before the reply exists."""
    store = Store([info(n) for n in range(1, 10)])
    session = Session(store, CLIENT)
    for command in (User("alice"), Pass(b"secret"), Dele(9), Dele(1)):
        run(session.respond(command))
    reply = run(session.respond(Quit()))
    assert reply == Ok("goodbye")
    assert store.calls[-2:] == ["commit ['uid1', 'uid9']", "release"]
    assert session.ended == "quit"
    assert session.tally.removed == 2
    run(session.close("quit"))
    assert store.calls.count("release") == 1


def test_quit_commits_also_when_nothing_is_marked() -> None:
    """The one moment a policy that acts on a session that ended well has (R1939-80)."""
    store = Store([info()])
    session = Dialogue(store)
    session.login()
    session.ask("QUIT")
    assert store.calls[-2:] == ["commit []", "release"]


@pytest.mark.parametrize(
    ("failure", "reply", "remaining"),
    [
        (be.CommitIncomplete(1), b"-ERR [SYS/TEMP] 1 deleted message not removed\r\n", 1),
        (be.CommitIncomplete(2), b"-ERR [SYS/TEMP] 2 deleted messages not removed\r\n", 2),
        (be.PermanentFailure("read only"), b"-ERR [SYS/PERM] read only\r\n", 2),
        (OSError("/secret"), b"-ERR [SYS/TEMP] deleted messages may not have been removed\r\n", 2),
    ],
)
def test_a_commit_that_fails_is_told(
    failure: Exception, reply: bytes, remaining: int, caplog: pytest.LogCaptureFixture
) -> None:
    """R1939-52, R1939-53, E2: the lock is free all the same."""
    store = Store([info(1), info(2)])
    session = Dialogue(store)
    session.login()
    session.ask("DELE 1")
    session.ask("DELE 2")
    store.fail["commit"] = failure
    assert session.ask("QUIT") == reply
    assert headlines(caplog) == ([] if isinstance(failure, be.BackendError) else ["removing messages"])
    assert store.calls[-1] == "release"
    assert (session.session.tally.removed, session.session.tally.remaining) == (2 - remaining, remaining)


def test_a_release_that_fails_does_not_make_the_reply_untrue(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.fail["release"] = OSError("stuck")
    session = Dialogue(store)
    session.login()
    assert session.ask("QUIT") == b"+OK goodbye\r\n"
    assert store.calls.count("release") == 1
    assert "release failed" in caplog.text


@pytest.mark.parametrize("end", [b"", b"QUIT", b"QUIT x\r\n", b"quit\r"])
def test_without_a_quit_nothing_is_removed(memory: MemoryBackend, end: bytes) -> None:
    """P1, R1939-51, A-08, A-33, D1, E1, E9: and the next session starts with no marks (R1939-22)."""
    session = Dialogue(memory)
    session.login()
    session.ask("RETR 1")
    session.ask("DELE 1")
    if end:
        session.send(end)
    session.send(b"")
    assert session.over
    assert len(memory.messages("alice")) == 3
    session = Dialogue(memory)
    session.login()
    assert session.ask("STAT") == b"+OK 3 52\r\n"


def test_quit_before_login_touches_nothing() -> None:
    """R1939-29, E7."""
    store = Store()
    assert Dialogue(store).ask("QUIT") == b"+OK goodbye\r\n"
    assert store.calls == []


@pytest.mark.parametrize("between", ["NOOP", "CAPA", "USER alice", "XYZZY", "PASS", ""])
def test_pass_comes_right_behind_user(memory: MemoryBackend, between: str) -> None:
    """R1939-66, 67, 72; A-15: a name that was given before something else is forgotten; CAPA alone asks nothing."""
    session = Dialogue(memory)
    assert session.ask("PASS secret").startswith(b"-ERR")
    assert session.ask("USER").startswith(b"-ERR")
    session.ask("USER alice")
    session.ask(between)
    assert session.ask("PASS secret").startswith(b"+OK" if between == "CAPA" else b"-ERR")


@pytest.mark.parametrize("command", ["STAT", "LIST", "LIST 1", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 0", "UIDL"])
def test_nothing_of_a_maildrop_before_login(command: str) -> None:
    """R1939-48, D2: and the backend hears nothing of it."""
    store = Store([info()])
    assert Dialogue(store).ask(command).startswith(b"-ERR ")
    assert store.calls == []


@pytest.mark.parametrize("command", ["RETR", "DELE", "TOP 1", "TOP 1 -1", "TOP 1 x", "TOP x 1", "RETR -1", "DELE 1_0"])
def test_arguments_that_are_none(dialogue: Dialogue, command: str) -> None:
    """R1939-42, 56; B5, C3: no effect, and the session goes on."""
    assert dialogue.ask(command).startswith(b"-ERR ")
    assert dialogue.ask("STAT") == b"+OK 3 52\r\n"


def test_the_order_is_that_of_arrival_in_every_session(memory: MemoryBackend) -> None:
    """C7, R1939-27, F2."""
    listings = []
    for _ in range(3):
        session = Dialogue(memory)
        session.login()
        listings.append(session.ask("UIDL").partition(b"\r\n")[2])
        session.close()
        memory.deliver("alice", b"more")
    assert all(later.startswith(earlier.removesuffix(b".\r\n")) for earlier, later in pairwise(listings))
    assert listings[2].count(b"\r\n") == 6


def test_update_is_repeatable(memory: MemoryBackend) -> None:
    """E6, E10, R1939-62, 63, F2, F3: what is gone is gone, uids stay, none is used twice."""
    session = Dialogue(memory)
    session.login()
    session.ask("DELE 2")
    memory._mail["alice"].pop("00000002")
    assert session.ask("QUIT") == b"+OK goodbye\r\n"
    memory.deliver("alice", b"new")
    session = Dialogue(memory)
    session.login()
    assert session.ask("UIDL") == b"+OK 3 messages follow\r\n1 00000001\r\n2 00000003\r\n3 00000004\r\n.\r\n"


# --- manners -------------------------------------------------------------------------------------------------------


def test_ten_bad_commands_in_a_row_end_the_session(memory: MemoryBackend) -> None:
    """A-31, D9, D13: in a row; a benign error or anything good starts anew."""
    session = Dialogue(memory)
    for _ in range(9):
        assert session.ask("XYZZY") == b"-ERR unknown command\r\n"
    session.login()
    for _ in range(50):
        assert session.ask("RETR 999") == b"-ERR no such message\r\n"
    for _ in range(9):
        session.ask("XYZZY")
    assert session.ask("XYZZY") == b"-ERR too many bad commands, closing\r\n"
    assert session.over


def test_strict_never_gives_up(memory: MemoryBackend) -> None:
    """A-31."""
    for rules in ({"max_bad_commands": None}, {"profile": Profile.STRICT}):
        session = Dialogue(memory, **rules)
        for _ in range(100):
            session.ask("XYZZY")
        assert not session.over


def test_a_line_without_end_ends_the_session(memory: MemoryBackend) -> None:
    """A-04."""
    session = Dialogue(memory)
    assert session.send(b"x" * 9000).startswith(b"-ERR")
    assert session.session.ended == "line without end"


def test_last_is_refused(dialogue: Dialogue) -> None:
    """D12."""
    assert dialogue.ask("LAST") == b"-ERR command not available\r\n"


class Hooked(Store):
    async def connect(self, client: be.ClientInfo) -> None:
        self._step("connect")

    async def disconnect(self, client: be.ClientInfo, reason: str) -> None:
        self.calls.append(reason)
        self._step("disconnect")


@pytest.mark.parametrize(
    ("failure", "greeting"),
    [
        (be.TemporaryFailure("come back later"), b"-ERR [SYS/TEMP] come back later\r\n"),
        (OSError("/secret"), b"-ERR [SYS/TEMP] internal error, try again later\r\n"),
    ],
)
def test_a_backend_may_refuse_a_connection(
    failure: Exception, greeting: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """SEED 1.3: connect can refuse with words, and disconnect still follows."""
    store = Hooked()
    store.fail["connect"] = failure
    session = Dialogue(store)
    assert session.greeting == greeting
    assert headlines(caplog) == ([] if isinstance(failure, be.BackendError) else ["connect"])
    assert session.session.ended == "refused"
    session.close("refused")
    assert store.calls == ["connect", "refused", "disconnect"]


def test_who_was_never_greeted_is_not_taken_leave_of() -> None:
    """SEED 1.3: disconnect follows connect, and nothing else."""
    store = Hooked()
    run(Session(store, CLIENT).close("lost"))
    assert store.calls == []


def test_disconnect_is_called_once_however_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    """SEED 1.3, I4; a failure of it is logged."""
    store = Hooked()
    store.fail["disconnect"] = OSError("gone")
    session = Dialogue(store)
    session.login()
    session.ask("QUIT")
    session.close("again")
    assert store.calls[-2:] == ["quit", "disconnect"]
    assert store.calls.count("disconnect") == store.calls.count("release") == 1
    assert "disconnect failed" in caplog.text


@given(st.text(max_size=40))
def test_safe_text_is_one_line_and_no_code(text: str) -> None:
    """A11, R2449-15, A-41."""
    safe = safe_text(text, "default")
    assert safe
    assert not safe.startswith("[")
    assert not any(character < " " or character == "\x7f" for character in safe)


def test_replies_can_be_driven_without_the_core(memory: MemoryBackend) -> None:
    """The session is usable by itself: command in, reply out."""
    session = Session(memory, CLIENT)
    run(session.respond(User("alice")))
    assert run(session.respond(Pass(b"secret"))) == Ok("maildrop has 3 messages (52 octets)")
    reply = run(session.respond(Retr(1)))
    assert isinstance(reply, Multiline)
    assert run(session.respond(Retr(9))) == Err("no such message")
