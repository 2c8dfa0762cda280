"""One event to octets, and what cannot get out."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    Apop,
    Auth,
    AuthList,
    Challenge,
    Command,
    Dele,
    Err,
    Greeting,
    Lang,
    List,
    LocalProtocolError,
    Ok,
    Pass,
    Profile,
    ResponseCode,
    Retr,
    SaslCancel,
    SaslResponse,
    Top,
    Uidl,
    User,
    Xclient,
)
from trio_pop3.sansio.grammar import MAX_SASL_LINE, NAMES
from trio_pop3.sansio.readers import read_challenge, read_command, read_response, read_status
from trio_pop3.sansio.writers import write_challenge, write_command, write_greeting, write_status

from .test_readers import GOOD, RESPONSES

PLAIN, SPACED, UTF8 = NAMES[False, False], NAMES[True, False], NAMES[False, True]


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Ok("ready"), b"+OK ready\r\n"),  # R1939-07, R1957-01
        (Err("no"), b"-ERR no\r\n"),
        (Err("busy", ResponseCode.IN_USE), b"-ERR [IN-USE] busy\r\n"),
        (Ok("caf\u00e9"), b"+OK caf\xc3\xa9\r\n"),
    ],
)
def test_status_lines(reply: Ok | Err, line: bytes) -> None:
    assert write_status(reply) == line


@pytest.mark.parametrize("text", ["", "a\r\nb", "a\nb", "a\rb", "a\0b", "[AUTH] no", "\x7f", "\ud800"])
def test_texts_that_could_break_a_line_or_pass_for_a_code_are_refused(text: str) -> None:
    """A11, R2449-15."""
    with pytest.raises(LocalProtocolError):
        write_status(Err(text))


@given(st.text(min_size=1, max_size=700), st.sampled_from([None, *ResponseCode]))
def test_a_status_line_is_one_line_of_at_most_512_octets(text: str, code: ResponseCode | None) -> None:
    """R1939-04, R1939-06, R2449-03, A12: clipped at a character, still UTF-8."""
    try:
        line = write_status(Err(text, code))
    except LocalProtocolError:
        return
    assert len(line) <= 512
    assert line.count(b"\n") == line.count(b"\r") == 1
    assert line.endswith(b"\r\n")
    line.decode("utf-8")
    assert read_status(line[:-2]).code is code


def test_a_status_line_is_clipped_to_512_octets_and_not_before() -> None:
    """R1939-06, A12."""
    whole = b"+OK " + b"x" * 506 + b"\r\n"
    assert len(whole) == 512
    for octets in (506, 507, 508, 600):
        assert write_status(Ok("x" * octets)) == whole
    assert write_status(Ok("x" * 505)) == b"+OK " + b"x" * 505 + b"\r\n"


@pytest.mark.parametrize("pad", range(4))
def test_a_clipped_line_ends_at_a_character(pad: int) -> None:
    """R1939-06."""
    line = write_status(Ok("x" * pad + "\u20ac" * 300))
    assert 508 < len(line) <= 512
    assert line.decode("utf-8").endswith("\u20ac\r\n")


@pytest.mark.parametrize(("line", "command"), GOOD)
def test_commands_are_read_back(line: bytes, command: Command) -> None:
    """R1939-04, R1939-05, R1939-75, R5034-09: what a client writes is what a server reads."""
    if isinstance(command, Top) and command.lines >= 10**10:
        return  # only a reader makes such a number
    written = write_command(command, names=PLAIN)
    assert written.endswith(b"\r\n")
    assert read_command(written[:-2], profile=Profile.STRICT, names=PLAIN) == command


def test_the_digest_is_sent_in_lower_case() -> None:
    """R1939-75."""
    assert write_command(Apop("a", b"\xab" * 16), names=PLAIN) == b"APOP a " + b"ab" * 16 + b"\r\n"


@pytest.mark.parametrize(
    "command",
    [
        User(""), User("a b"), User("a\r\nQUIT"), User("\u00e9"), Pass(b""), Pass(b"a\r\nQUIT"), Pass(b"a\0"),
        Apop("a", b"short"), Apop("a b", bytes(16)), Retr(-1), Dele(10**10), List(-1), Uidl(10**10),
        Top(1, -1), Top(-1, 1), Pass(b"x" * 600), User("x" * 600),
        Auth(""), Auth("plain"), Auth("X" * 21), Auth("PLAIN\r\nQUIT"), Auth("A B"), Auth("PL\u00c4IN"),
        Lang(""), Lang("en US"), Lang("en_US"), Lang("en\r\nQUIT"), Lang("\u00e9"),
        Xclient((("ADDR", "a b"),)), Xclient((("ADDR", "a\r\nQUIT"),)), Xclient((("", "x"),)), Xclient((("A B", "x"),)),
    ],
)  # fmt: skip
def test_commands_that_cannot_be_sent(command: Command) -> None:
    """R4422-01, A11: what cannot be read back as it was is not written."""
    with pytest.raises(LocalProtocolError) as failure:
        write_command(command, names=PLAIN)
    if isinstance(command, Pass):
        assert command.password.decode() not in str(failure.value) or not command.password


@pytest.mark.parametrize(
    "command",
    [Auth("\ud800"), Lang("\ud800"), Xclient((("ADDR", "\ud800"),)), Xclient(()), Xclient((("A=B", "c"),))],
)
def test_commands_that_have_no_line(command: Command) -> None:
    """A11: characters without octets, no attributes at all, and a name that would be read as another are refused."""
    with pytest.raises(LocalProtocolError):
        write_command(command, names=PLAIN)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (User("a b"), "a name or password is empty or holds octets that cannot be sent"),
        (Apop("a", b"short"), "an APOP digest has 16 octets"),
        (Retr(-1), "not a message number or line count: -1"),
        (Top(1, 10**10), "not a message number or line count: 10000000000"),
        (Lang("\ud800"), "a word holds characters that have no octets"),
        (Xclient(()), "XCLIENT needs attributes"),
        (Xclient((("A=B", "c"),)), "not the name of an attribute: 'A=B'"),
        (User("x" * 600), "User is too long for a line"),
    ],
)
def test_a_command_that_cannot_be_sent_says_why(command: Command, reason: str) -> None:
    """A11: all that a caller gets to see."""
    with pytest.raises(LocalProtocolError) as failure:
        write_command(command, names=PLAIN)
    assert str(failure.value) == reason


def test_a_user_name_with_spaces_where_it_is_allowed() -> None:
    assert write_command(User("a b"), names=SPACED) == b"USER a b\r\n"


def test_a_user_name_in_utf8_where_it_is_announced() -> None:
    """R6856-16, R6856-17."""
    digest = bytes(16)
    assert write_command(User("J\u00fc"), names=UTF8) == b"USER J\xc3\xbc\r\n"
    assert write_command(Apop("J\u00fc", digest), names=UTF8) == b"APOP J\xc3\xbc " + b"0" * 32 + b"\r\n"
    for command in (User("J\u00fc"), Apop("J\u00fc", digest)):
        with pytest.raises(LocalProtocolError):
            write_command(command, names=PLAIN)
    for name in ("J\u00fc x", "J\u00fc\r\n", "\ud800", ""):
        with pytest.raises(LocalProtocolError):
            write_command(User(name), names=UTF8)


@pytest.mark.parametrize(("line", "data"), RESPONSES)
def test_responses_are_read_back(line: bytes, data: bytes) -> None:
    """R5034-36: no octets are an empty line, `=` is for the AUTH line only."""
    assert write_command(SaslResponse(data), names=PLAIN) == line + b"\r\n"
    assert read_response(line) == SaslResponse(data)


def test_auth_lines() -> None:
    """R5034-09, R5034-10, H2: no initial response and one of no octets are two things; a cancel is `*`."""
    assert write_command(Auth("PLAIN"), names=PLAIN) == b"AUTH PLAIN\r\n"
    assert write_command(Auth("PLAIN", b""), names=PLAIN) == b"AUTH PLAIN =\r\n"
    assert write_command(Auth("PLAIN", b"\0a\0b"), names=PLAIN) == b"AUTH PLAIN AGEAYg==\r\n"
    assert write_command(AuthList(), names=PLAIN) == b"AUTH\r\n"
    assert write_command(SaslCancel(), names=PLAIN) == b"*\r\n"


@given(st.binary(max_size=400), st.sampled_from(["PLAIN", "SCRAM-SHA-256-PLUS", "X"]))
def test_an_auth_line_is_at_most_255_octets(initial: bytes, mechanism: str) -> None:
    """R5034-13, R2449-01: a longer response is sent when it is asked for."""
    line = b"AUTH " + mechanism.encode() + b" " + (b64encode(initial) or b"=") + b"\r\n"
    if len(line) <= 255:
        assert write_command(Auth(mechanism, initial), names=PLAIN) == line
    else:
        with pytest.raises(LocalProtocolError) as failure:
            write_command(Auth(mechanism, initial), names=PLAIN)
        assert str(failure.value) == "Auth is too long for a line"


def test_the_octets_that_fit_behind_auth() -> None:
    """R5034-13: 255 octets and not one more; then PROTOCOL 1.6, computed there."""
    assert len(write_command(Auth("ABC", bytes(183)), names=PLAIN)) == 255
    with pytest.raises(LocalProtocolError):
        write_command(Auth("ABCD", bytes(183)), names=PLAIN)
    for mechanism, octets in (
        ("PLAIN", 240),
        ("OAUTHBEARER", 236),
        ("SCRAM-SHA-256", 232),
        ("SCRAM-SHA-256-PLUS", 228),
    ):
        assert write_command(Auth(mechanism, b"x" * (octets // 4 * 3)), names=PLAIN)
        with pytest.raises(LocalProtocolError):
            write_command(Auth(mechanism, b"x" * (octets // 4 * 3 + 1)), names=PLAIN)


@given(st.binary(max_size=100))
def test_challenges_are_read_back(data: bytes) -> None:
    """R5034-11, R5034-12, R4422-04: `+`, one space, base64 and nothing else, the space always."""
    line = write_challenge(Challenge(data))
    assert line == b"+ " + b64encode(data) + b"\r\n"
    assert read_challenge(line[:-2]) == Challenge(data)


def test_sasl_lines_are_as_long_as_a_peer_takes() -> None:
    """R5034-20, H3: 12 KiB tokens pass, and what a peer of ours would not take is not written."""
    longest = (MAX_SASL_LINE - 2) // 4 * 3
    line = write_command(SaslResponse(b"x" * longest), names=PLAIN)
    assert 12 * 1024 < len(line) <= MAX_SASL_LINE
    assert read_response(line[:-2]) == SaslResponse(b"x" * longest)
    line = write_challenge(Challenge(b"x" * longest))
    assert 12 * 1024 < len(line) <= MAX_SASL_LINE
    with pytest.raises(LocalProtocolError, match="too long"):
        write_command(SaslResponse(b"x" * (longest + 1)), names=PLAIN)
    with pytest.raises(LocalProtocolError, match="at most 16384 octets"):
        write_challenge(Challenge(b"x" * (longest + 1)))
    with pytest.raises(LocalProtocolError, match=r"^a challenge holds octets$"):
        write_challenge(Challenge(None))


@pytest.mark.parametrize(
    "secret",
    [
        Pass(b"tooth"), Auth("PLAIN", b"tooth"), SaslResponse(b"tooth"), Challenge(b"tooth"),
        Apop("a", b"tooth" * 3 + b"x"),
    ],
)  # fmt: skip
def test_no_repr_shows_a_secret(secret: Command | Challenge) -> None:
    """H8, P5: neither the octets nor their base64."""
    for shown in (repr(secret), str(secret), f"{[secret]}"):
        assert not re.search("tooth|dG9vdG|746f6f7468", shown)


@pytest.mark.parametrize("command", [Auth("PLAIN", b"tooth" * 99), SaslResponse(b"tooth" * 9999), Pass(b"tooth\n")])
def test_no_failure_shows_a_secret(command: Command) -> None:
    """H8, P5."""
    with pytest.raises(LocalProtocolError) as failure:
        write_command(command, names=PLAIN)
    assert not re.search("tooth|dG9vdG", f"{failure.value!r} {failure.value.__cause__!r} {failure.value.__context__!r}")


def test_greetings() -> None:
    """R1939-02, R1939-73."""
    assert write_greeting(Greeting("hello")) == b"+OK hello\r\n"
    assert write_greeting(Greeting("hello", "<1@h>")) == b"+OK hello <1@h>\r\n"
    assert write_greeting(Greeting("hello", None, ResponseCode.XCLIENT)) == b"+OK [XCLIENT] hello\r\n"
    assert write_greeting(Greeting("hello", "<1@h>", ResponseCode.XCLIENT)) == b"+OK [XCLIENT] hello <1@h>\r\n"


@pytest.mark.parametrize("code", [None, ResponseCode.XCLIENT])
def test_the_longest_greeting_with_a_timestamp(code: ResponseCode | None) -> None:
    """R1939-06, R2449-03, R1939-73: 512 octets, and not one of the timestamp is cut off."""
    taken = len(write_greeting(Greeting("x", "<1@h>", code))) - 1
    line = write_greeting(Greeting("x" * (512 - taken), "<1@h>", code))
    assert len(line) == 512
    assert line.endswith(b" <1@h>\r\n")
    with pytest.raises(LocalProtocolError, match="512"):
        write_greeting(Greeting("x" * (513 - taken), "<1@h>", code))


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (Greeting("see <a@b>"), "greeting text holds a timestamp: 'see <a@b>'"),  # would offer APOP
        (Greeting("see <a@b>", "<1@h>"), "not one timestamp: 'see <a@b>', '<1@h>'"),
        (Greeting("hello", "1@h"), "not one timestamp: 'hello', '1@h'"),
        (Greeting("hello", "<1@h> <2@h>"), "not one timestamp: 'hello', '<1@h> <2@h>'"),
        (Greeting("x" * 600, "<1@h>"), "greeting longer than 512 octets"),  # the timestamp would be cut
        (Greeting("a\r\nb"), r"not a reply text: 'a\r\nb'"),
        (Greeting(""), "not a reply text: ''"),
    ],
)
def test_greetings_that_cannot_be_sent(greeting: Greeting, reason: str) -> None:
    """A11, R1939-73."""
    with pytest.raises(LocalProtocolError) as failure:
        write_greeting(greeting)
    assert str(failure.value) == reason
