"""STLS on the wire, both roles: nothing that came in clear behind it ever acts, and nothing leaves before TLS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    NEED_DATA,
    PAUSED,
    Apop,
    Auth,
    BadCommand,
    Capa,
    Challenge,
    Command,
    Data,
    EndOfBody,
    Err,
    Event,
    Greeting,
    LocalProtocolError,
    Noop,
    Ok,
    Pass,
    Pop3Connection,
    Profile,
    Quit,
    RemoteProtocolError,
    Role,
    SaslCancel,
    SaslResponse,
    State,
    Stls,
    User,
)
from trio_pop3.sansio.readers import WRONG_STATE

from .dialogue import answer, client, client_logged_in, drain, in_state, server, tell
from .strategies import command_streams, cut, cuts

A, AU, AT = State.AUTHORIZATION, State.USER_GIVEN, State.TLS_PENDING
BEFORE_LOGIN = [A, AU]

# Commands, halves of commands, exchanges and halves of exchanges: each would do something if it were read.
INJECTED = [
    b"NOOP\r\n", b"USER eve\r\n", b"USER eve\r\nPASS x\r\n", b"QUIT\r\n", b"STLS\r\n", b"XYZZY\r\n", b"\r\n", b"\n",
    b"\r", b"US", b"USER eve", b"USER eve\r", b"AUTH PLAIN AGEAYg==\r\n", b"AUTH PLAIN\r\n",
    b"AUTH PLAIN\r\nAGEAYg==\r\n",
    b"AUTH PLAIN\r\nAGEA", b"AUTH PLAIN AGEA", b"AUTH PLAIN " + b"A" * 20_000, b"x" * 9000, b"x" * 9000 + b"\r\n",
    b"\x16\x03\x01\x00\x05",
]  # fmt: skip


def pending(state: State = A, **options: object) -> Pop3Connection:
    """A server that said +OK to STLS."""
    connection = in_state(state, **options)
    assert tell(connection, b"STLS\r\n") == Stls()
    assert connection.send(Ok("go")) == b"+OK go\r\n"
    assert connection.state is AT
    return connection


# --- server role ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", INJECTED)
@given(
    state=st.sampled_from(BEFORE_LOGIN),
    profile=st.sampled_from(Profile),
    places=cuts,
    early=st.integers(0, 40) | st.integers(0, 30_000),
)
def test_what_comes_in_clear_behind_stls_never_acts(
    injected: bytes, state: State, profile: Profile, places: list[int], early: int
) -> None:
    """R2595-19, A-35, G1: with the STLS line or after the +OK, whole lines and halves; all of it is counted."""
    connection = in_state(state, profile=profile)
    for chunk in cut(b"STLS\r\n" + injected[:early], places):
        if chunk:
            connection.receive_data(chunk)
    assert connection.next_event() == Stls()
    assert connection.next_event() is PAUSED
    connection.send(Ok("go"))
    assert connection.discarded == len(injected[:early])
    for chunk in cut(injected[early:], places):
        if chunk:
            assert tell(connection, chunk) is PAUSED
    assert connection.discarded == len(injected)
    assert connection.unread == 0
    connection.tls_started()
    assert connection.state is A
    assert connection.next_event() is NEED_DATA
    # Neither the beginning of a line nor an exchange or a user is left.
    assert tell(connection, b"ER eve\r\n") == BadCommand(Err("unknown command"))
    answer(connection, BadCommand(Err("unknown command")))
    assert isinstance(tell(connection, b"AGEAYg==\r\n"), BadCommand)
    connection.send(Err("no"))
    assert tell(connection, b"PASS x\r\n") == WRONG_STATE
    connection.send(Err("no"))
    assert tell(connection, b"CAPA\r\n") == Capa()
    assert connection.discarded == len(injected)


@pytest.mark.parametrize("profile", Profile)
@given(before=command_streams, behind=st.sampled_from(INJECTED), after=command_streams, places=cuts)
def test_a_dialogue_with_tls_in_it_does_not_depend_on_chunks(
    profile: Profile, before: bytes, behind: bytes, after: bytes, places: list[int]
) -> None:
    """P6, G1: same events, same octets out, and as many thrown away; SASL exchanges on either side included."""
    clear = before + b"\r\n*\r\nSTLS\r\n" + behind

    def talk(clear_chunks: list[bytes], secret_chunks: list[bytes]) -> tuple[list[Event], bytes, int]:
        connection = server(profile=profile)
        events: list[Event] = []
        sent = b""
        for chunk in clear_chunks:
            if chunk:
                connection.receive_data(chunk)
            while isinstance(event := connection.next_event(), Event):
                events.append(event)
                sent += connection.send(Ok("go")) if isinstance(event, Stls) else answer(connection, event)
        if connection.state is AT:
            connection.tls_started()
        for chunk in secret_chunks:
            if chunk:
                connection.receive_data(chunk)
            while isinstance(event := connection.next_event(), Event):
                events.append(event)
                sent += answer(connection, event)
        return events, sent, connection.discarded

    whole = talk([clear], [after])
    assert talk(cut(clear, places), cut(after, places)) == whole
    assert talk([bytes([octet]) for octet in clear], [bytes([octet]) for octet in after]) == whole


def test_a_refused_stls_changes_nothing_but_the_pending_user() -> None:
    """R2449-24, PROTOCOL 2.2: what was sent ahead is in clear either way, and is read."""
    for state in BEFORE_LOGIN:
        connection = in_state(state)
        assert tell(connection, b"STLS\r\nPASS b\r\nCAPA\r\n") == Stls()
        assert connection.send(Err("no")) == b"-ERR no\r\n"
        assert connection.state is A
        assert connection.discarded == 0
        assert connection.next_event() == WRONG_STATE
        connection.send(Err("no"))
        assert connection.next_event() == Capa()


@pytest.mark.parametrize("profile", Profile)
def test_where_stls_is_no_command(profile: Profile) -> None:
    """R2595-03, R2595-04, G2: with an argument, after the login, and in an exchange, where it is base64."""
    for state in BEFORE_LOGIN:
        event = tell(in_state(state, profile=profile), b"STLS now\r\n")
        assert event == BadCommand(Err("bad arguments, expected: STLS"))
    connection = in_state(State.TRANSACTION, profile=profile)
    assert tell(connection, b"STLS\r\n") == WRONG_STATE
    connection.send(Err("no"))
    assert connection.state is State.TRANSACTION
    assert tell(in_state(State.AUTHENTICATING, profile=profile), b"STLS\r\n") == SaslResponse(b"I2\xd2")


@pytest.mark.parametrize("state", BEFORE_LOGIN)
def test_nothing_is_read_and_nothing_sent_while_tls_is_due(state: State) -> None:
    """R2595-05, PROTOCOL 2.1, G4: no greeting, no reply, no challenge in clear; a failed handshake is the end."""
    connection = pending(state)
    assert not connection.reply_owed
    for event in (Ok("x"), Err("x"), Greeting("x"), Challenge(b""), Data(b"x"), EndOfBody(), Stls(), Noop()):
        with pytest.raises(LocalProtocolError):
            connection.send(event)
    assert tell(connection, b"QUIT\r\n") is PAUSED
    assert connection.state is AT
    connection.send_failed()
    assert connection.state is State.ERROR
    with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
        connection.tls_started()


@pytest.mark.parametrize("state", BEFORE_LOGIN)
def test_after_tls_the_login_begins_anew(state: State) -> None:
    """R2595-08, G3: AUTHORIZATION, whoever the client is, and without the user it named in clear."""
    connection = pending(state)
    connection.tls_started()
    assert connection.state is A
    with pytest.raises(LocalProtocolError):
        connection.send(Greeting("again"))
    assert tell(connection, b"PASS b\r\nUSER a\r\nPASS b\r\n") == WRONG_STATE
    connection.send(Err("no"))
    assert connection.next_event() == User("a")
    connection.send(Ok("fine"))
    assert connection.next_event() == Pass(b"b")
    connection.send(Ok("fine"))
    assert connection.state is State.TRANSACTION


@pytest.mark.parametrize("role", Role)
def test_tls_starts_only_where_it_is_due(role: Role) -> None:
    """R2595-05."""
    connections = [Pop3Connection(role)]
    if role is Role.SERVER:
        connections += [in_state(state) for state in (A, AU, State.AUTHENTICATING, State.TRANSACTION)]
        connections.append(server())
        assert tell(connections[-1], b"STLS\r\n") == Stls()  # not answered yet
    else:
        connections += [client(), client_logged_in(), client()]
        connections[-1].send(Stls())
    for connection in connections:
        state = connection.state
        with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
            connection.tls_started()
        assert connection.state is state


# --- client role ---------------------------------------------------------------------------------------------------

ANYTHING: list[Command] = [
    Capa(), User("a"), Pass(b"b"), Apop("a", bytes(16)), Auth("PLAIN"), Auth("PLAIN", b""), SaslResponse(b""),
    SaslCancel(), Stls(), Noop(), Quit(),
]  # fmt: skip


def refuses(connection: Pop3Connection, commands: list[Command]) -> None:
    for command in commands:
        with pytest.raises(LocalProtocolError):
            connection.send(command)


def test_a_client_sends_nothing_behind_stls_until_tls_is_up() -> None:
    """R2595-05, R2595-07, PROTOCOL 2.6: not before the answer, and not before the handshake."""
    connection = client()
    assert connection.send(Stls()) == b"STLS\r\n"
    refuses(connection, ANYTHING)
    assert tell(connection, b"+OK go\r\n") == Ok("go")
    assert connection.state is AT
    assert connection.next_event() is PAUSED
    refuses(connection, ANYTHING)
    connection.tls_started()
    assert connection.state is A
    assert connection.next_event() is NEED_DATA
    assert connection.send(Capa()) == b"CAPA\r\n"
    connection.receive_data(b"+OK\r\nSASL PLAIN\r\n.\r\n")
    assert drain(connection) == [Ok(""), Data(b"SASL PLAIN\r\n"), EndOfBody()]


@pytest.mark.parametrize(
    "injected", [b"+OK CAPA\r\nSASL PLAIN\r\n.\r\n", b"-ERR no\r\n", b"+OK", b"\r\n", b"\n", b"x", b"\0"]
)
@given(places=cuts, early=st.integers(0, 40))
def test_octets_between_ok_and_tls_are_an_attack(injected: bytes, places: list[int], early: int) -> None:
    """R2595-20, G1: with the +OK or after it, one octet is enough, and none of them becomes an event."""
    connection = client()
    connection.send(Stls())
    events: list[Event] = []
    for chunk in (*cut(b"+OK go\r\n" + injected[:early], places), *cut(injected[early:], places)):
        if chunk:
            connection.receive_data(chunk)
            events += drain(connection)
    assert events == [Ok("go")]
    assert connection.next_event() is PAUSED
    with pytest.raises(RemoteProtocolError, match=r"^the server sent more in clear before TLS began$"):
        connection.tls_started()
    assert connection.state is State.ERROR
    assert connection.unread == 0
    assert connection.next_event() is NEED_DATA
    refuses(connection, ANYTHING)


@pytest.mark.parametrize("user", [False, True])
def test_a_client_that_is_refused_goes_on_in_clear_if_it_likes(user: bool) -> None:
    """R2595-16: the answer is told apart; what to do is for the caller."""
    connection = client()
    if user:
        connection.send(User("a"))
        assert tell(connection, b"+OK\r\n") == Ok("")
    connection.send(Stls())
    assert tell(connection, b"-ERR no\r\n") == Err("no")
    assert connection.state is A
    refuses(connection, [Pass(b"b")])
    assert connection.send(User("a")) == b"USER a\r\n"


def test_stls_may_follow_what_is_under_way() -> None:
    """R2595-07 forbids what comes behind it, not what comes before."""
    connection = client()
    assert connection.send(Capa()) + connection.send(Stls()) == b"CAPA\r\nSTLS\r\n"
    connection.receive_data(b"+OK\r\nSTLS\r\n.\r\n+OK go\r\n")
    assert drain(connection) == [Ok(""), Data(b"STLS\r\n"), EndOfBody(), Ok("go")]
    connection.tls_started()


def test_a_client_forgets_that_utf8_names_were_announced_in_clear() -> None:
    """R2595-10, R6856-17: who announced it may have been on the line; the server is to say it again."""
    connection = client()
    connection.allow_utf8_names()
    connection.send(Stls())
    tell(connection, b"+OK\r\n")
    connection.tls_started()
    with pytest.raises(LocalProtocolError):
        connection.send(User("J\u00fcrgen"))
    connection.allow_utf8_names()
    assert connection.send(User("J\u00fcrgen")) == b"USER J\xc3\xbcrgen\r\n"
