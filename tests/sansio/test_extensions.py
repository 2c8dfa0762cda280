"""UTF8, LANG, XCLIENT and names in UTF-8 on a connection, both roles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    NEED_DATA,
    Apop,
    BadCommand,
    Command,
    Data,
    EndOfBody,
    Err,
    Greeting,
    Lang,
    LocalProtocolError,
    Ok,
    Pass,
    Pop3Connection,
    Profile,
    ResponseCode,
    Role,
    State,
    User,
    Utf8,
    Xclient,
)
from trio_pop3.sansio.readers import WRONG_STATE

from .dialogue import client, client_logged_in, drain, in_state, server, tell
from .strategies import cut, cuts

A, AU, T = State.AUTHORIZATION, State.USER_GIVEN, State.TRANSACTION
ADDRESS = Xclient((("ADDR", "192.0.2.1"), ("TTL", "3")))


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("reply", [Ok("fine"), Err("no")])
@pytest.mark.parametrize("state", [A, AU])
def test_utf8_before_the_login(state: State, reply: Ok | Err, profile: Profile) -> None:
    """R6856-02, PROTOCOL 2.2: whatever the answer is, a pending user stays."""
    connection = in_state(state, profile=profile)
    assert tell(connection, b"UTF8\r\n") == Utf8()
    connection.send(reply)
    assert connection.state is state
    assert tell(connection, b"UTF8\r\n") == Utf8()


def test_utf8_after_the_login() -> None:
    """D10, R6856-02: mail programs do it; taken by default, refused in strict, and never sent by our client."""
    for reply in (Ok("fine"), Err("no")):
        connection = in_state(T)
        assert tell(connection, b"UTF8\r\n") == Utf8()
        connection.send(reply)
        assert connection.state is T
    connection = in_state(T, profile=Profile.STRICT)
    assert tell(connection, b"UTF8\r\n") == WRONG_STATE
    connection.send(Err("no"))
    assert connection.state is T
    for profile in Profile:
        with pytest.raises(LocalProtocolError):
            client_logged_in(profile=profile).send(Utf8())


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("state", [A, AU, T])
def test_lang_in_every_state(state: State, profile: Profile) -> None:
    """R6856-20, R6856-21, R6856-24, R6856-25: a listing without an argument, one line with one; nothing moves."""
    connection = in_state(state, profile=profile)
    assert tell(connection, b"LANG\r\n") == Lang()
    wire = connection.send(Ok("languages")) + connection.send(Data(b".x dot\r\nde Deutsch\r\n"))
    assert wire + connection.send(EndOfBody()) == b"+OK languages\r\n..x dot\r\nde Deutsch\r\n.\r\n"
    assert connection.state is state
    for line, event in ((b"LANG de\r\n", Lang("de")), (b"lang *\r\n", Lang("*"))):
        assert tell(connection, line) == event
        assert connection.send(Ok("de gut")) == b"+OK de gut\r\n"
        assert not connection.in_body
        assert connection.state is state
    assert tell(connection, b"LANG xx\r\n") == Lang("xx")
    connection.send(Err("no"))
    assert connection.state is state


@pytest.mark.parametrize("line", [b"LANG de fr\r\n", b"LANG  de\r\n", b"UTF8 USER\r\n", b"XCLIENT nonsense\r\n"])
def test_extensions_with_bad_arguments(line: bytes) -> None:
    """R1939-13, A-15: a line that is no command forgets the user, as any other."""
    connection = in_state(AU)
    assert isinstance(tell(connection, line), BadCommand)
    connection.send(Err("no"))
    assert connection.state is A


def test_lang_for_a_client() -> None:
    """R6856-20, R6856-25: the shape of the reply is that of the very command."""
    for connection in (client(), client_logged_in()):
        state = connection.state
        wire = b"".join(connection.send(command) for command in (Lang(), Lang("de"), Lang("*"), Lang()))
        assert wire == b"LANG\r\nLANG de\r\nLANG *\r\nLANG\r\n"
        connection.receive_data(b"+OK\r\nde Deutsch\r\n.\r\n+OK de gut\r\n+OK en good\r\n-ERR no\r\n")
        assert drain(connection) == [
            Ok(""), Data(b"de Deutsch\r\n"), EndOfBody(), Ok("de gut"), Ok("en good"), Err("no"),
        ]  # fmt: skip
        assert connection.state is state


@pytest.mark.parametrize("reply", [Ok("fine"), Err("no")])
@pytest.mark.parametrize("state", [A, AU])
def test_xclient_before_the_login(state: State, reply: Ok | Err) -> None:
    """PROTOCOL 8.1: a pending user is dropped, for it was another client's."""
    connection = in_state(state)
    assert tell(connection, b"XCLIENT addr=192.0.2.1 TTL=3\r\n") == ADDRESS
    connection.send(reply)
    assert connection.state is A


def test_xclient_after_the_login() -> None:
    """RXCL-02, J2."""
    assert tell(in_state(T), b"XCLIENT ADDR=192.0.2.1\r\n") == WRONG_STATE
    with pytest.raises(LocalProtocolError):
        client_logged_in().send(ADDRESS)


def test_xclient_for_a_client() -> None:
    """PROTOCOL 8.1: the greeting says that it is taken."""
    connection = Pop3Connection(Role.CLIENT)
    assert tell(connection, b"+OK [XCLIENT] hi\r\n") == Greeting("hi", None, ResponseCode.XCLIENT)
    assert connection.send(ADDRESS) == b"XCLIENT ADDR=192.0.2.1 TTL=3\r\n"
    assert tell(connection, b"+OK\r\n") == Ok("")
    assert connection.state is A


def test_a_greeting_with_a_code() -> None:
    connection = Pop3Connection(Role.SERVER)
    assert connection.send(Greeting("hi", None, ResponseCode.XCLIENT)) == b"+OK [XCLIENT] hi\r\n"
    assert connection.state is A


# --- names in UTF-8 ------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=40)


@given(name=names, digest=st.binary(min_size=16, max_size=16), profile=st.sampled_from(Profile), places=cuts)
def test_names_in_utf8_get_through(name: str, digest: bytes, profile: Profile, places: list[int]) -> None:
    """R6856-16, R6856-18, P6: cut in the middle of a character too."""
    for command in (User(name), Apop(name, digest)):
        ours, theirs = client(utf8_user=True), server(profile=profile, utf8_user=True)
        for chunk in cut(ours.send(command), places):
            if chunk:
                theirs.receive_data(chunk)
        assert theirs.next_event() == command


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize(
    "octets",
    [b"J\xfcrgen", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"J\xc3\xbc\xc3"],
)
def test_malformed_names_are_refused(octets: bytes, profile: Profile) -> None:
    """R6856-18: one error, and the next line is read."""
    for line in (b"USER " + octets, b"APOP " + octets + b" " + b"0" * 32):
        connection = in_state(A, profile=profile, utf8_user=True)
        event = tell(connection, line + b"\r\nUSER a\r\n")
        assert isinstance(event, BadCommand) and not event.fatal
        connection.send(event.reply)
        assert connection.next_event() == User("a")


def test_names_in_utf8_only_where_they_are_announced() -> None:
    """R6856-17, A-03: a server without them refuses, a client does not send them until it was told."""
    assert isinstance(tell(in_state(A), b"USER J\xc3\xbc\r\n"), BadCommand)
    connection = client()
    for command in (User("J\u00fc"), Apop("J\u00fc", bytes(16))):
        with pytest.raises(LocalProtocolError):
            connection.send(command)
    assert connection.outstanding == 0
    connection.allow_utf8_names()
    assert connection.send(User("J\u00fc")) == b"USER J\xc3\xbc\r\n"


@pytest.mark.parametrize("spaces", [False, True])
def test_allowing_utf8_names_allows_no_spaces(spaces: bool) -> None:
    """A-12, R6856-17: one has nothing to do with the other."""
    connection = client(space_in_user=spaces)
    connection.allow_utf8_names()
    command: Command = User("J\u00fc rgen")
    if spaces:
        assert connection.send(command) == b"USER J\xc3\xbc rgen\r\n"
        assert tell(server(space_in_user=True, utf8_user=True), b"USER J\xc3\xbc rgen\r\n") == command
    else:
        with pytest.raises(LocalProtocolError):
            connection.send(command)
        assert isinstance(tell(server(utf8_user=True), b"USER J\xc3\xbc rgen\r\n"), BadCommand)


def test_passwords_are_octets_with_or_without_utf8() -> None:
    """A-03, D3: whether they are UTF-8 is for the session to say."""
    for utf8 in (False, True):
        connection = in_state(AU, utf8_user=utf8)
        assert tell(connection, b"PASS \xfc \xc3\xbc \r\n") == Pass(b"\xfc \xc3\xbc ")
        connection.send(Err("no"))
        assert connection.next_event() is NEED_DATA
