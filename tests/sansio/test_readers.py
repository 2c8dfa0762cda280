"""One line to one event: commands in both profiles, and what a client makes of status lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    Apop,
    BadCommand,
    Capa,
    Command,
    Dele,
    Err,
    Greeting,
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
    Stat,
    Top,
    Uidl,
    User,
)
from trio_pop3.sansio.readers import read_command, read_greeting, read_status

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
]

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
    b"AUTH PLAIN", b"STLS", b"UTF8", b"LANG", b"LAST",  # doors: known, not served
]  # fmt: skip


def read(line: bytes, profile: Profile = Profile.DEFAULT, *, space_in_user: bool = False) -> Command | BadCommand:
    return read_command(line, profile=profile, space_in_user=space_in_user)


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize(("line", "command"), GOOD)
def test_good_lines(line: bytes, command: Command, profile: Profile) -> None:
    """R1939-03, R2449-01."""
    assert read(line, profile) == command


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize("line", BAD)
def test_bad_lines_are_events_that_owe_an_error(line: bytes, profile: Profile) -> None:
    """R1939-13: never an exception, never a command."""
    event = read(line, profile)
    assert isinstance(event, BadCommand)
    assert isinstance(event.reply, Err)
    assert event.reply.code is None  # PROTOCOL 5: protocol errors carry no code
    assert not event.fatal


@pytest.mark.parametrize("line", [b"STAT ", b"LIST  ", b"LIST 1 ", b"RETR 1  ", b"TOP 1 2 ", b"USER alice ", b"QUIT "])
def test_trailing_spaces(line: bytes) -> None:
    """A-06: dropped by default, refused in strict."""
    assert isinstance(read(line), Command)
    assert isinstance(read(line, Profile.STRICT), BadCommand)


def test_a_user_name_with_spaces_where_it_is_allowed() -> None:
    """A-12, D3: octet for octet."""
    assert read(b"USER  a b ", space_in_user=True) == User(" a b ")
    assert read(b"APOP a b " + b"0" * 32, space_in_user=True) == Apop("a b", bytes(16))
    assert isinstance(read(b"USER a\tb", space_in_user=True), BadCommand)


@pytest.mark.parametrize("profile", BOTH)
@given(line=st.binary(max_size=40))
def test_any_octets_are_a_command_or_a_bad_command(profile: Profile, line: bytes) -> None:
    """A9: total."""
    assert isinstance(read(line, profile), Command | BadCommand)


def test_usage_is_in_the_reply_and_the_input_is_not() -> None:
    """A-41."""
    event = read(b"TOP <script> 1")
    assert isinstance(event, BadCommand)
    assert event.reply.text == "bad arguments, expected: TOP msg n"


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


def test_greetings() -> None:
    assert read_greeting(b"+OK hello") == Greeting("hello")
    assert read_greeting(b"+OK hi <1.2@host> there") == Greeting("hi <1.2@host> there", "<1.2@host>")
    assert read_greeting(b"-ERR [SYS/TEMP] full") == Err("full", ResponseCode.SYS_TEMP)
