"""AUTH for a server: every line of an exchange is a response, bad base64 and `*` end it, long lines get through."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import given

from trio_pop3.sansio import (
    NEED_DATA,
    PAUSED,
    Apop,
    Auth,
    AuthList,
    BadCommand,
    Capa,
    Challenge,
    ConnectionClosed,
    Data,
    EndOfBody,
    Err,
    LocalProtocolError,
    Noop,
    Ok,
    Pop3Connection,
    Profile,
    SaslCancel,
    SaslResponse,
    Stat,
    State,
    User,
)
from trio_pop3.sansio.grammar import MAX_SASL_LINE
from trio_pop3.sansio.readers import LINE_TOO_LONG, STREAM_TOO_LONG, WRONG_STATE

from .dialogue import answer, in_state, logged_in, server, tell
from .strategies import cut, cuts
from .test_base64 import BAD_BASE64
from .test_readers import RESPONSES

A, AU, AS, T = State.AUTHORIZATION, State.USER_GIVEN, State.AUTHENTICATING, State.TRANSACTION
BEFORE_LOGIN = [A, AU]
DIGEST = bytes(16)


def authenticating(**options: object) -> Pop3Connection:
    return in_state(AS, **options)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize(("line", "data"), RESPONSES)
def test_in_an_exchange_every_line_is_a_response(line: bytes, data: bytes, profile: Profile) -> None:
    """PROTOCOL 2.2, R5034-36: QUIT, NOOP and STAT are base64, and an empty line is a response of no octets."""
    connection = authenticating(profile=profile)
    for _ in range(2):
        assert tell(connection, line + b"\r\n") == SaslResponse(data)
        assert connection.next_event() is PAUSED
        assert connection.send(Challenge(b"more")) == b"+ bW9yZQ==\r\n"
        assert connection.state is AS


def test_an_exchange() -> None:
    """R5034-05, R5034-08, R5034-11, R5034-12, R5034-22, R5034-28, H2: the server's last word is a challenge, answered
    by an empty line, and `+OK` has text only."""
    connection = server()
    assert tell(connection, b"auth scram-sha-256\r\n") == Auth("SCRAM-SHA-256", None)
    assert connection.state is A
    assert connection.send(Challenge()) == b"+ \r\n"
    assert tell(connection, b"biw=\r\n") == SaslResponse(b"n,")
    assert connection.send(Challenge(b"v=\0")) == b"+ dj0A\r\n"
    assert tell(connection, b"\r\n") == SaslResponse(b"")
    assert connection.send(Ok("logged in")) == b"+OK logged in\r\n"
    assert connection.state is T


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"AUTH PLAIN\r\n", Auth("PLAIN", None)),
        (b"AUTH PLAIN =\r\n", Auth("PLAIN", b"")),
        (b"aUTH plain AGEAYg==\r\n", Auth("PLAIN", b"\0a\0b")),
    ],
)
@pytest.mark.parametrize("state", BEFORE_LOGIN)
def test_auth_may_be_answered_at_once(state: State, line: bytes, event: Auth) -> None:
    """R5034-05, R5034-10, R5034-22, G3: also where PASS was due, and then the user is forgotten."""
    connection = in_state(state)
    assert tell(connection, line) == event
    assert connection.send(Ok("fine")) == b"+OK fine\r\n"
    assert connection.state is T
    connection = in_state(state)
    tell(connection, line)
    assert connection.send(Err("no")) == b"-ERR no\r\n"
    assert connection.state is A
    assert tell(connection, b"PASS b\r\n") == WRONG_STATE


@pytest.mark.parametrize("line", [b"AUTH PLAIN\r\n", b"AUTH\r\n", b"AUTH PLAIN AGEAYg==\r\n"])
def test_auth_after_a_login_is_refused(line: bytes) -> None:
    """R5034-05, R5034-06, R4422-07."""
    connection = logged_in()
    assert tell(connection, line) == WRONG_STATE
    answer(connection, WRONG_STATE)
    assert connection.state is T
    connection = authenticating()
    assert tell(connection, b"AGEAYg==\r\n" + line) == SaslResponse(b"\0a\0b")
    connection.send(Ok("fine"))
    assert connection.next_event() == WRONG_STATE


def test_a_cancel_is_answered_with_an_error_always() -> None:
    """R5034-15, H2: the exchange is over then, and no +OK or challenge can be sent."""
    connection = authenticating()
    assert tell(connection, b"*\r\n") == SaslCancel()
    for wrong in (Ok("fine"), Challenge(b""), Data(b""), EndOfBody()):
        with pytest.raises(LocalProtocolError) as failure:
            connection.send(wrong)
        let_in = "a cancelled authentication is answered with Err"
        assert (str(failure.value) == let_in) is isinstance(wrong, Ok)
        assert connection.reply_owed
    assert connection.send(Err("cancelled")) == b"-ERR cancelled\r\n"
    assert connection.state is A
    # Outside an exchange it is nothing.
    assert isinstance(tell(connection, b"*\r\n"), BadCommand)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("line", [line for line in BAD_BASE64 if line not in (b"*", b"AAAA\r", b"AAAA\n")])
def test_bad_base64_ends_the_exchange_and_nothing_else(line: bytes, profile: Profile) -> None:
    """R5034-16, R5034-18, R5034-19, R5034-30, R1734-02, A-37, A-41, H4: every other login still works."""
    for login, event in (
        (b"APOP a " + DIGEST.hex().encode(), Apop("a", DIGEST)),
        (b"AUTH PLAIN AGEAYg==", Auth("PLAIN", b"\0a\0b")),
        (b"USER a", User("a")),
    ):
        connection = authenticating(profile=profile)
        bad = tell(connection, line + b"\r\n" + login + b"\r\n")
        assert isinstance(bad, BadCommand) and not bad.fatal
        assert connection.state is A
        for wrong in (Challenge(b""), Ok("fine")):
            with pytest.raises(LocalProtocolError):
                connection.send(wrong)
        assert connection.send(bad.reply) == b"-ERR not base64, authentication ended\r\n"
        assert connection.next_event() == event
        connection.send(Ok("fine"))
        assert connection.state is (AU if isinstance(event, User) else T)


@pytest.mark.parametrize("line_end", [b"\r\r\n", b"\n\r\n"])
def test_line_ends_inside_a_response(line_end: bytes) -> None:
    """R5034-18, A-02: a CR that ends no line is no base64; a bare LF ends a line by default only (A-01)."""
    event = tell(authenticating(profile=Profile.STRICT), b"AAAA" + line_end)
    assert isinstance(event, BadCommand)
    event = tell(authenticating(), b"AAAA" + line_end)
    assert event == SaslResponse(bytes(3)) if line_end[0] == 0x0A else isinstance(event, BadCommand)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("octets", [12 * 1024, MAX_SASL_LINE - 4])
def test_long_responses(octets: int, profile: Profile) -> None:
    """R5034-20, H3: 12 KiB of token on a line of its own, and as much as fits in 16 KiB."""
    connection = authenticating(profile=profile)
    token = b"A" * octets
    for chunk in (token[:5000], token[5000:]):
        assert tell(connection, chunk) is NEED_DATA
    assert tell(connection, b"\r\n") == SaslResponse(bytes(octets // 4 * 3))


@pytest.mark.parametrize("data", [b"A" * 16_383 + b"\r\n", b"A" * 16_384, b"A" * 40_000 + b"\r\n"])
@given(places=cuts)
def test_a_response_beyond_the_limit_ends_the_connection(data: bytes, places: list[int]) -> None:
    """R5034-20, A-38, H2, I1: there is no way back into step, and not one octet of it is kept or acted upon."""
    connection = authenticating()
    for chunk in cut(data + b"A" * 9 + b"\r\nQUIT\r\nUSER a\r\n", places):
        if chunk:
            connection.receive_data(chunk)
            if (event := connection.next_event()) is not NEED_DATA:
                break
    assert event == STREAM_TOO_LONG
    assert connection.next_event() is PAUSED
    answer(connection, STREAM_TOO_LONG)
    assert connection.state is State.CLOSED
    assert tell(connection, b"USER a\r\n") is NEED_DATA
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("state", BEFORE_LOGIN)
@pytest.mark.parametrize("verb", [b"AUTH ", b"auth ", b"aUtH "])
@given(places=cuts)
def test_long_auth_lines(verb: bytes, state: State, profile: Profile, places: list[int]) -> None:
    """R5034-20, A-04, H3: with an initial response AUTH may be as long as a response."""
    connection = in_state(state, profile=profile)
    begin = verb + b"XOAUTH2 "
    octets = (MAX_SASL_LINE - len(begin) - 2) // 4 * 4
    *chunks, last = cut(begin + b"A" * octets + b"\r\n", places)
    for chunk in chunks:
        assert tell(connection, chunk) is NEED_DATA
    assert tell(connection, last) == Auth("XOAUTH2", bytes(octets // 4 * 3))


@pytest.mark.parametrize("state", BEFORE_LOGIN)
def test_auth_lines_beyond_the_limit(state: State) -> None:
    """A-38, I1: what would be dropped could be half a secret, and the rest would be taken for a command."""
    for line in (b"AUTH PLAIN ".ljust(MAX_SASL_LINE - 1, b"A") + b"\r\n", b"AUTH PLAIN ".ljust(MAX_SASL_LINE, b"A")):
        connection = in_state(state)
        assert tell(connection, line + b"QUIT\r\n") == STREAM_TOO_LONG
        answer(connection, STREAM_TOO_LONG)
        assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    "begin",
    [b"USER ", b"PASS ", b"APOP ", b"XAUTH ", b"AUTHX ", b"AUTH\t", b" AUTH ", b"AUT ", b"LANG ", b"XCLIENT A=", b""],
)
@pytest.mark.parametrize("state", BEFORE_LOGIN)
def test_other_lines_are_no_longer_than_before(state: State, begin: bytes) -> None:
    """A-04, H3: the command line stays short; too long is one error, and the next line is read."""
    connection = in_state(state)
    assert tell(connection, begin.ljust(511, b"A") + b"\r\nCAPA\r\n") == LINE_TOO_LONG
    answer(connection, LINE_TOO_LONG)
    assert connection.next_event() == Capa()


def test_after_the_login_auth_is_a_line_like_any_other() -> None:
    """A-04."""
    connection = logged_in()
    assert tell(connection, b"AUTH PLAIN ".ljust(600, b"A") + b"\r\nNOOP\r\n") == LINE_TOO_LONG
    answer(connection, LINE_TOO_LONG)
    assert connection.next_event() == Noop()


@pytest.mark.parametrize("state", BEFORE_LOGIN)
@pytest.mark.parametrize("line", [b"AUTH\r\n", b"AUTH \r\n"])
def test_auth_alone(state: State, line: bytes) -> None:
    """H1, PROTOCOL 8.4: a listing, and the state stays but for a pending user; in strict it is refused."""
    connection = in_state(state)
    assert tell(connection, line) == AuthList()
    with pytest.raises(LocalProtocolError):
        connection.send(Challenge(b""))
    wire = connection.send(Ok("mechanisms")) + connection.send(Data(b"PLAIN\r\n")) + connection.send(EndOfBody())
    assert wire == b"+OK mechanisms\r\nPLAIN\r\n.\r\n"
    assert connection.state is A
    connection = in_state(state)
    tell(connection, line)
    assert connection.send(Err("no")) == b"-ERR no\r\n"
    assert connection.state is A
    assert isinstance(tell(in_state(state, profile=Profile.STRICT), line), BadCommand)


def test_what_is_pipelined_behind_auth() -> None:
    """R2449-24, R5034-30: read in the state that the answer leads to, never before it."""
    script = b"AUTH PLAIN\r\nAGEAYg==\r\nSTAT\r\n"
    connection = server()
    assert tell(connection, script) == Auth("PLAIN")
    assert connection.next_event() is PAUSED
    connection.send(Challenge())
    assert connection.next_event() == SaslResponse(b"\0a\0b")
    connection.send(Ok("fine"))
    assert connection.next_event() == Stat()
    # Refused at once, the response is a command that nobody knows; its text is not in the reply.
    connection = server()
    tell(connection, script)
    connection.send(Err("no"))
    event = connection.next_event()
    assert event == BadCommand(Err("unknown command"))
    answer(connection, BadCommand(Err("unknown command")))
    assert connection.next_event() == WRONG_STATE


def test_a_challenge_is_an_answer_to_auth_and_responses_only() -> None:
    """R5034-11."""
    for line in (b"USER a\r\n", b"CAPA\r\n", b"STLS\r\n", b"XYZZY\r\n", b"AUTH\r\n"):
        connection = server()
        tell(connection, line)
        with pytest.raises(LocalProtocolError, match="Challenge"):
            connection.send(Challenge(b""))
        assert connection.reply_owed
    connection = authenticating()
    with pytest.raises(LocalProtocolError):
        connection.send(Challenge(b"unasked"))
    tell(connection, b"\r\n")
    with pytest.raises(LocalProtocolError, match="octets"):
        connection.send(Challenge(None))
    with pytest.raises(LocalProtocolError, match="octets"):
        connection.send(Challenge(bytes(MAX_SASL_LINE)))
    assert connection.send(Challenge(b"1")) == b"+ MQ==\r\n"


def test_an_exchange_that_breaks_off_is_nothing() -> None:
    """H5, A-33: half a response is not handed out."""
    connection = authenticating()
    connection.receive_data(b"AGEAYg==")
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()
    assert connection.state is AS
    connection.send_failed()
    assert connection.unread == 0


def test_nothing_of_a_secret_is_in_a_repr() -> None:
    """H8, P5: of what was read; `test_writers` has what is sent."""
    connection = server()
    shown = []
    for line in (b"AUTH PLAIN " + b64encode(b"tooth"), b64encode(b"tooth"), b64encode(b"tooth") + b"="):
        connection.receive_data(line + b"\r\n")
        event = connection.next_event()
        shown.append(f"{event!r} {event} {connection!r}")
        connection.send(event.reply if isinstance(event, BadCommand) else Challenge(b"tooth"))
    assert not re.search("tooth|dG9vdG", " ".join(shown))
