"""One line to one event: commands in both profiles, and what a client makes of status lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    Apop,
    Auth,
    AuthList,
    BadCommand,
    Capa,
    Challenge,
    Command,
    Dele,
    Err,
    Greeting,
    Lang,
    List,
    Noop,
    Ok,
    Pass,
    Profile,
    Quit,
    RemoteProtocolError,
    ResponseCode,
    Retr,
    Rset,
    SaslCancel,
    SaslResponse,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
    Xclient,
)
from trio_pop3.sansio.grammar import NAMES
from trio_pop3.sansio.readers import read_challenge, read_command, read_greeting, read_response, read_status

from .test_base64 import BAD_BASE64

BOTH = [Profile.DEFAULT, Profile.STRICT]
DIGEST = bytes(range(0xA0, 0xB0))

GOOD: list[tuple[bytes, Command]] = [
    (b"USER alice", User("alice")),
    (b"PASS secret", Pass(b"secret")),
    (b"PASS  two  spaces ", Pass(b" two  spaces ")),  # A-14, D3, R1939-71
    (b"PASS \xff\x01", Pass(b"\xff\x01")),
    (b"APOP alice " + DIGEST.hex().encode(), Apop("alice", DIGEST)),
    (b"APOP alice " + DIGEST.hex().upper().encode(), Apop("alice", DIGEST)),
    (b"CAPA", Capa()),
    (b"STAT", Stat()),
    (b"sTaT", Stat()),  # R1939-03, D4
    (b"LIST", List(None)),
    (b"LIST 2", List(2)),
    (b"RETR 007", Retr(7)),
    (b"RETR 0", Retr(0)),  # the session says that there is no such message
    (b"DELE 9999999999", Dele(9999999999)),
    (b"NOOP", Noop()),
    (b"RSET", Rset()),
    (b"QUIT", Quit()),
    (b"TOP 1 0", Top(1, 0)),
    (b"TOP 1 000000000000000005", Top(1, 5)),
    (b"TOP 1 " + b"9" * 40, Top(1, 10**10)),  # clamped
    (b"uidl", Uidl(None)),
    (b"UIDL 3", Uidl(3)),
    (b"AUTH PLAIN", Auth("PLAIN", None)),
    (b"aUtH scram-sha-256-plus", Auth("SCRAM-SHA-256-PLUS")),  # R5034-08
    (b"AUTH X_1-" + b"Y" * 16, Auth("X_1-" + "Y" * 16)),  # R4422-01: 20 octets
    (b"AUTH PLAIN =", Auth("PLAIN", b"")),  # R5034-10, H2: there, and empty
    (b"AUTH PLAIN AGEAYg==", Auth("PLAIN", b"\0a\0b")),  # R4422-04: NUL is an octet
    (b"AUTH PLAIN QUIT", Auth("PLAIN", b"A\x42\x13")),
    (b"STLS", Stls()),
    (b"utf8", Utf8()),
    (b"LANG", Lang(None)),
    (b"LANG *", Lang("*")),  # R6856-24
    (b"LANG de-CH-1996", Lang("de-CH-1996")),
    (b"LANG i-klingon", Lang("i-klingon")),
    (b"XCLIENT ADDR=192.0.2.1", Xclient((("ADDR", "192.0.2.1"),))),
    (b"xclient addr=2001:db8::1 Client-Transport=TLS", Xclient((("ADDR", "2001:db8::1"), ("CLIENT-TRANSPORT", "TLS")))),
    (b"XCLIENT FORWARD= SESSION=a=b", Xclient((("FORWARD", ""), ("SESSION", "a=b")))),
]

# R4422-01, R5034-16, R5034-18, R5034-19, R2595-03, R2449-05, R6856-02; A-37, G2 and
# A-02 A-03 A-05 A-07 A-08 A-10 A-11 A-12 A-13 C3 D1 D4, R1939-42, 56, 72, R2449-05
BAD = [
    b"", b" ", b" NOOP", b"\tNOOP", b"NOOP\t", b"NO:OP x", b"N\0OP", b"NOOP\r", b"\xffNOOP", b"XYZZY", b"X",
    b"STAT x", b"QUIT x", b"NOOP  x", b"RSET 1", b"CAPA x",
    b"LIST 1 2", b"LIST  1", b"LIST\t1", b"LIST -1", b"LIST x",
    b"RETR", b"RETR ", b"RETR x", b"RETR +1", b"RETR -1", b"RETR 1_0", b"RETR 1.5", b"RETR 0x1", b"RETR 1e0",
    b"RETR 1\n", b"RETR \xd9\xa1", b"RETR 99999999999", b"RETR 1x", b"DELE", b"RETR 1 2",
    b"TOP", b"TOP 1", b"TOP 1 ", b"TOP 1 -1", b"TOP 1  1", b"TOP x 1", b"TOP 1 x", b"TOP 1 1 1",
    b"USER", b"USER ", b"USER a b", b"USER \xe9", b"PASS", b"PASS ", b"PASS a\0b",
    b"APOP", b"APOP alice", b"APOP alice xyz", b"APOP alice " + b"0" * 31, b"APOP  " + b"0" * 32,
    b"AUTH  PLAIN", b"AUTH\tPLAIN", b"AUTH PL/AIN", b"AUTH " + b"X" * 21, b"AUTH =", b"AUTH *", b"AUTH PL\xc4IN",
    b"AUTH PLAIN *", b"AUTH PLAIN AAAA AAAA", b"AUTH PLAIN  AAAA", b"AUTH PLAIN = =",
    *(b"AUTH PLAIN " + data for data in BAD_BASE64 if data.strip(b" =") and not data.endswith(b" ")),
    b"AUTH PLAIN ==", b"AUTH PLAIN ====",
    b"STLS x", b"STLS  x", b"UTF8 x", b"UTF8 USER", b"LANG  en", b"LANG en de", b"LANG en_US", b"LANG " + b"x" * 9,
    b"LANG **", b"LANG -en", b"LANG en-", b"LANG en" + b"-a" * 8, b"LANG \xe9", b"LANG en\0",
    b"XCLIENT", b"XCLIENT x", b"XCLIENT =x", b"XCLIENT A=1  B=2", b"XCLIENT A=1 B", b"XCLIENT A=\xe9", b"XCLIENT A=\t",
    b"LAST", b"LAST 1",  # known, not served
]  # fmt: skip


def read(
    line: bytes, profile: Profile = Profile.DEFAULT, *, spaces: bool = False, utf8: bool = False
) -> Command | BadCommand:
    return read_command(line, profile=profile, names=NAMES[spaces, utf8])


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize(("line", "command"), GOOD)
def test_good_lines(line: bytes, command: Command, profile: Profile) -> None:
    """R1939-03, R2449-01, R5034-08, R5034-10, R4422-01, R4422-04, H2."""
    assert read(line, profile) == command


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize("line", BAD)
def test_bad_lines_are_events_that_owe_an_error(line: bytes, profile: Profile) -> None:
    """R1939-13, R5034-16, R5034-18, R5034-19, R2595-03, R6856-02, R4422-01, A-37, H4: no exception, and no command."""
    event = read(line, profile)
    assert isinstance(event, BadCommand)
    assert isinstance(event.reply, Err)
    assert event.reply.code is None  # PROTOCOL 5: protocol errors carry no code
    assert not event.fatal


@pytest.mark.parametrize(
    "line",
    [
        b"STAT ",
        b"LIST  ",
        b"LIST 1 ",
        b"RETR 1  ",
        b"TOP 1 2 ",
        b"USER alice ",
        b"QUIT ",
        b"AUTH PLAIN ",
        b"AUTH PLAIN = ",
        b"AUTH PLAIN AAAA ",
        b"STLS ",
        b"UTF8 ",
        b"LANG ",
        b"LANG en ",
        b"XCLIENT A=1 ",
    ],
)
def test_trailing_spaces(line: bytes) -> None:
    """A-06: dropped by default, refused in strict."""
    assert isinstance(read(line), Command)
    assert isinstance(read(line, Profile.STRICT), BadCommand)


@pytest.mark.parametrize("line", [b"AUTH", b"AUTH ", b"auth", b"AUTH   "])
def test_auth_alone_asks_for_the_mechanisms(line: bytes) -> None:
    """H1, PROTOCOL 8.4: by default; in strict it is a command without its argument."""
    assert read(line) == AuthList()
    assert isinstance(read(line, Profile.STRICT), BadCommand)


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"J\xc3\xbcrgen", "J\u00fcrgen"),
        (b"\xf0\x9f\x93\xac@\xe4\xbe\x8b.invalid", "\U0001f4ec@\u4f8b.invalid"),
        (b"J\xfcrgen", None),  # Latin-1
        (b"a\xc3", None),  # cut
        (b"\xc0\xaf", None),  # longer than it needs to be
        (b"\xed\xa0\x80", None),  # a surrogate
        (b"\xf4\x90\x80\x80", None),  # beyond Unicode
        (b"\x80", None),
        (b"J\xc3\xbc\0", None),
        (b"J\xc3\xbc\x7f", None),
    ],
)
def test_names_in_utf8_where_they_are_announced(octets: bytes, name: str | None, profile: Profile) -> None:
    """R6856-16, R6856-18: what is well-formed is a name, what is not is refused; A-03: not announced, not taken."""
    digest = DIGEST.hex().encode()
    for spaces in (False, True):
        user = read(b"USER " + octets, profile, spaces=spaces, utf8=True)
        apop = read(b"APOP " + octets + b" " + digest, profile, spaces=spaces, utf8=True)
        if name is None:
            assert isinstance(user, BadCommand) and isinstance(apop, BadCommand)
        else:
            assert (user, apop) == (User(name), Apop(name, DIGEST))
        assert isinstance(read(b"USER " + octets, profile, spaces=spaces), BadCommand)
        assert isinstance(read(b"APOP " + octets + b" " + digest, profile, spaces=spaces), BadCommand)


def test_a_user_name_with_spaces_where_it_is_allowed() -> None:
    """A-12, D3: octet for octet."""
    assert read(b"USER  a b ", spaces=True) == User(" a b ")
    assert read(b"APOP a b " + b"0" * 32, spaces=True) == Apop("a b", bytes(16))
    assert read(b"USER J\xc3\xbc rgen ", spaces=True, utf8=True) == User("J\u00fc rgen ")
    assert isinstance(read(b"USER a\tb", spaces=True), BadCommand)


@pytest.mark.parametrize("profile", BOTH)
@given(
    line=st.builds(
        bytes.__add__,
        st.sampled_from([b"", b"USER ", b"APOP ", b"AUTH ", b"LANG ", b"XCLIENT "]),
        st.binary(max_size=40),
    ),
    spaces=st.booleans(),
    utf8=st.booleans(),
)
def test_any_octets_are_a_command_or_a_bad_command(profile: Profile, line: bytes, spaces: bool, utf8: bool) -> None:
    """A9: total."""
    assert isinstance(read(line, profile, spaces=spaces, utf8=utf8), Command | BadCommand)
    assert isinstance(read_response(line), SaslResponse | SaslCancel | BadCommand)


# PROTOCOL 2.2: what spells a command is base64 in an exchange. R5034-36: an empty line is a response of no octets.
RESPONSES = [
    (b"", b""), (b"QUIT", b"A\x42\x13"), (b"NOOP", b"4\xe3\x8f"), (b"STAT", b"I0\x13"), (b"CAPA", b"\x08\x03\xc0"),
    (b"LIST", b"\x2c\x84\x93"), (b"AGEAYg==", b"\0a\0b"), (b"AGE=", b"\0a"), (b"////", b"\xff\xff\xff"),
    (b"++++", b"\xfb\xef\xbe"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "data"), RESPONSES)
def test_responses(line: bytes, data: bytes) -> None:
    """R5034-36, R4422-04."""
    assert read_response(line) == SaslResponse(data)


@pytest.mark.parametrize("line", [*(line for line in BAD_BASE64 if line != b"*"), b"STLS\0", b"PASS x", b"* ", b" *"])
def test_what_is_no_response(line: bytes) -> None:
    """R5034-16, R5034-18, R5034-19, A-37, H4: `=` too, which is only for the AUTH line."""
    event = read_response(line)
    assert isinstance(event, BadCommand)
    assert not event.fatal
    assert event.reply.code is None


def test_a_cancel_is_a_line_of_its_own() -> None:
    """R5034-15, A-37, H2."""
    assert read_response(b"*") == SaslCancel()


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        (b"TOP <script> 1", "TOP msg n"),
        (b"noop <script>", "NOOP"),
        (b"RETR", "RETR msg"),
        (b"LIST x", "LIST [msg]"),
        (b"LANG <script>", "LANG [language]"),
    ],
)
def test_usage_is_in_the_reply_and_the_input_is_not(line: bytes, usage: str) -> None:
    """A-41."""
    assert read(line) == BadCommand(Err(f"bad arguments, expected: {usage}"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"XYZZY", "unknown command"),
        (b"XYZZY a b", "unknown command"),
        (b"N\0OP", "malformed command line"),
        (b" NOOP", "malformed command line"),
        (b"X" * 33, "malformed command line"),
        (b"LAST", "command not available"),
    ],
)
def test_what_is_no_command_is_told_apart(line: bytes, text: str) -> None:
    """R2449-05, A-03, A-05: a word that is no command, and what is no word."""
    assert read(line) == BadCommand(Err(text))


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"+OK", Ok("")),  # R1957-02
        (b"+OK ", Ok("")),
        (b"+OK whatever", Ok("whatever")),  # R1939-78
        (b"-ERR", Err("")),
        (b"-ERR [IN-USE] busy", Err("busy", ResponseCode.IN_USE)),
        (b"-ERR [in-use]busy", Err("busy", ResponseCode.IN_USE)),  # R2449-37, R3206-08
        (b"-ERR [sys/temp/disk] full", Err("full", ResponseCode.SYS_TEMP)),  # R2449-38
        (b"-ERR [SYS] odd", Err("odd")),
        (b"-ERR [WHAT/EVER] odd", Err("odd")),
        (b"-ERR no [AUTH] here", Err("no [AUTH] here")),
        (b"+OK \xff", Ok("\ufffd")),
    ],
)
def test_status_lines(line: bytes, event: Ok | Err) -> None:
    assert read_status(line) == event


@pytest.mark.parametrize("line", [b"", b"+ok", b"+OKAY", b"OK", b"* BYE", b"421 bye", b"+ERR x", b"+ abc", b"ERR"])
def test_what_is_no_status_line(line: bytes) -> None:
    """A13 from the client's side."""
    with pytest.raises(RemoteProtocolError):
        read_status(line)


def test_what_is_no_status_line_is_quoted_within_reason() -> None:
    """A13: the first 80 characters."""
    with pytest.raises(RemoteProtocolError) as failure:
        read_status(b"421 " + b"x" * 100)
    assert str(failure.value) == f"expected +OK or -ERR, got '421 {'x' * 76}'"


@pytest.mark.parametrize(
    ("line", "challenge"),
    [
        (b"+ ", Challenge(b"")),
        (b"+", Challenge(b"")),  # PROTOCOL 6.1: servers are known to leave out the space
        (b"+ AGEAYg==", Challenge(b"\0a\0b")),
        *((b"+ " + data, Challenge(None)) for data in BAD_BASE64),
        (b"+ *", Challenge(None)),
        (b"+  AAAA", Challenge(None)),
        (b"+AAAA", None),
        (b"+OK done", None),
        (b"-ERR no", None),
        (b"", None),
        (b" + AAAA", None),
    ],
)
def test_challenges(line: bytes, challenge: Challenge | None) -> None:
    """R5034-11, R5034-17, R5034-18, R5034-19: what is no base64 is told from no octets, and from no challenge."""
    assert read_challenge(line) == challenge


def test_greetings() -> None:
    assert read_greeting(b"+OK [XCLIENT] hello") == Greeting("hello", None, ResponseCode.XCLIENT)
    assert read_greeting(b"+OK [xclient]hi <1.2@host>") == Greeting("hi <1.2@host>", "<1.2@host>", ResponseCode.XCLIENT)
    assert read_greeting(b"+OK hello") == Greeting("hello")
    assert read_greeting(b"+OK hi <1.2@host> there") == Greeting("hi <1.2@host> there", "<1.2@host>")
    assert read_greeting(b"-ERR [SYS/TEMP] full") == Err("full", ResponseCode.SYS_TEMP)
