"""AUTH for a client, and both roles joined: one line at a time, and what cannot be trusted is the end."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    Apop,
    Auth,
    AuthList,
    Capa,
    Challenge,
    Command,
    ConnectionClosed,
    Data,
    EndOfBody,
    Err,
    Event,
    Lang,
    LocalProtocolError,
    Noop,
    Ok,
    Pass,
    Pop3Connection,
    Profile,
    Quit,
    RemoteProtocolError,
    ResponseCode,
    SaslCancel,
    SaslResponse,
    Stat,
    State,
    Stls,
    User,
    Utf8,
    Xclient,
)
from trio_pop3.sansio.grammar import MAX_SASL_LINE

from .dialogue import client, client_logged_in, drain, server, tell
from .strategies import cut, cuts
from .test_base64 import BAD_BASE64

A, AS, T = State.AUTHORIZATION, State.AUTHENTICATING, State.TRANSACTION
DIGEST = bytes(16)

ANYTHING: list[Command] = [
    User("a"), Apop("a", DIGEST), Auth("PLAIN"), Auth("PLAIN", b""), AuthList(), Stls(), Utf8(), Lang(), Capa(),
    Xclient((("ADDR", "192.0.2.1"),)), Stat(), Noop(), Quit(),
]  # fmt: skip


def refuses(connection: Pop3Connection, *commands: Command) -> None:
    """No octet can be got out of it, and nothing has changed."""
    before = (connection.state, connection.outstanding)
    for command in commands:
        with pytest.raises(LocalProtocolError):
            connection.send(command)
    assert (connection.state, connection.outstanding) == before


def test_a_client_in_an_exchange() -> None:
    """R5034-09, R5034-12, R5034-36, PROTOCOL 2.6: one line at a time, and nothing behind it until it is answered."""
    connection = client()
    assert connection.send(Auth("SCRAM-SHA-256")) == b"AUTH SCRAM-SHA-256\r\n"
    refuses(connection, *ANYTHING, SaslResponse(b""), SaslCancel())
    assert tell(connection, b"+ \r\n") == Challenge(b"")
    assert connection.state is AS
    refuses(connection, *ANYTHING)
    assert connection.send(SaslResponse(b"n,")) == b"biw=\r\n"
    refuses(connection, *ANYTHING, SaslResponse(b""), SaslCancel())
    assert tell(connection, b"+ dj0A\r\n") == Challenge(b"v=\0")
    assert connection.send(SaslResponse(b"")) == b"\r\n"
    assert tell(connection, b"+OK in\r\n") == Ok("in")
    assert connection.state is T
    refuses(connection, Auth("PLAIN"), AuthList(), SaslResponse(b""), SaslCancel())
    assert connection.send(Stat()) == b"STAT\r\n"


@pytest.mark.parametrize(
    ("line", "event"), [(b"+\r\n", Challenge(b"")), (b"+\n", Challenge(b"")), (b"+ \n", Challenge(b""))]
)
def test_empty_challenges_as_servers_send_them(line: bytes, event: Challenge) -> None:
    """PROTOCOL 6.1, H2: without the space too."""
    connection = client()
    connection.send(Auth("PLAIN"))
    assert tell(connection, line) == event
    assert connection.send(SaslResponse(b"\0a\0b")) == b"AGEAYg==\r\n"


@pytest.mark.parametrize("data", [line for line in BAD_BASE64 if line not in (b"AAAA\r", b"AAAA\n")])
def test_a_broken_challenge_is_cancelled(data: bytes) -> None:
    """R5034-17, R5034-18, R5034-19: the client is told, sends `*`, and gets its -ERR."""
    connection = client()
    connection.send(Auth("PLAIN"))
    assert tell(connection, b"+ " + data + b"\r\n") == Challenge(None)
    assert connection.send(SaslCancel()) == b"*\r\n"
    refuses(connection, *ANYTHING, SaslResponse(b""), SaslCancel())
    assert tell(connection, b"-ERR cancelled\r\n") == Err("cancelled")
    assert connection.state is A
    assert connection.send(Auth("PLAIN", b"")) == b"AUTH PLAIN =\r\n"


@pytest.mark.parametrize("reply", [b"+OK\r\n", b"+OK welcome\r\n", b"+ \r\n", b"+\r\n", b"+ AAAA\r\n", b"* BYE\r\n"])
def test_what_is_no_answer_to_a_cancel(reply: bytes) -> None:
    """R5034-15: exactly one -ERR follows; a server that lets in who gave up cannot be trusted."""
    connection = client()
    connection.send(Auth("PLAIN"))
    tell(connection, b"+ \r\n")
    connection.send(SaslCancel())
    with pytest.raises(RemoteProtocolError) as failure:
        tell(connection, reply)
    let_in = "the server said +OK to a cancelled authentication"
    assert (str(failure.value) == let_in) is reply.startswith(b"+OK")
    assert connection.state is State.ERROR
    refuses(connection, *ANYTHING)


@pytest.mark.parametrize("sent", [Auth("PLAIN"), Auth("PLAIN", b"\0a\0b")])
def test_a_failed_authentication_leaves_everything_as_it_was(sent: Auth) -> None:
    """R5034-30, R1734-02."""
    connection = client()
    for _ in range(2):
        connection.send(sent)
        assert tell(connection, b"-ERR [AUTH] no\r\n") == Err("no", ResponseCode.AUTH)
        assert connection.state is A
    assert connection.send(User("a")) + connection.send(Pass(b"b")) == b"USER a\r\nPASS b\r\n"
    assert tell(connection, b"+OK\r\n+OK\r\n") == Ok("")
    assert connection.next_event() == Ok("")
    assert connection.state is T


@pytest.mark.parametrize("data", [b"+ AAAA\r\n", b"+\r\n"])
def test_a_challenge_that_nobody_asked_for(data: bytes) -> None:
    """A13, R2449-25: to a command that is no part of an exchange, to none, or twice."""
    for sent in ((), (Capa(),), (Stls(),), (User("a"),), (Capa(), Auth("PLAIN"))):
        connection = client()
        for command in sent:
            connection.send(command)
        with pytest.raises(RemoteProtocolError):
            tell(connection, data)
    connection = client()
    connection.send(Auth("PLAIN"))
    connection.receive_data(b"+ \r\n" + data)
    assert connection.next_event() == Challenge()
    with pytest.raises(RemoteProtocolError):
        connection.next_event()
    assert connection.state is State.ERROR


def test_auth_may_follow_what_is_under_way() -> None:
    """R2449-25: CAPA and AUTH in one write; the challenge finds its command."""
    connection = client()
    assert connection.send(Capa()) + connection.send(Auth("PLAIN")) == b"CAPA\r\nAUTH PLAIN\r\n"
    connection.receive_data(b"+OK\r\nSASL PLAIN\r\n.\r\n+ \r\n")
    assert drain(connection) == [Ok(""), Data(b"SASL PLAIN\r\n"), EndOfBody(), Challenge()]
    assert connection.outstanding == 0


def test_auth_alone_from_a_client() -> None:
    """H1."""
    connection = client()
    assert connection.send(AuthList()) == b"AUTH\r\n"
    connection.receive_data(b"+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n")
    assert drain(connection) == [Ok(""), Data(b"PLAIN\r\nLOGIN\r\n"), EndOfBody()]
    assert connection.state is A
    connection.send(AuthList())
    assert tell(connection, b"-ERR what\r\n") == Err("what")
    assert connection.state is A


def test_what_does_not_fit_behind_auth_is_sent_when_it_is_asked_for() -> None:
    """R5034-13, R5034-20, H3: nothing has happened when it is refused."""
    token = b"t" * 9000
    connection = client()
    refuses(connection, Auth("XOAUTH2", token))
    connection.send(Auth("XOAUTH2"))
    tell(connection, b"+ \r\n")
    refuses(connection, SaslResponse(bytes(MAX_SASL_LINE)))
    assert connection.send(SaslResponse(token)) == b64encode(token) + b"\r\n"


@given(places=cuts)
def test_long_challenges(places: list[int]) -> None:
    """R5034-20: as long as a SASL line may be, and longer is the end; a status line elsewhere is no longer."""
    challenge = b"+ " + b"A" * 16_380 + b"\r\n"
    connection = client()
    connection.send(Auth("PLAIN"))
    events: list[Event] = []
    for chunk in cut(challenge, places):
        if chunk:
            connection.receive_data(chunk)
        events += drain(connection)
    assert events == [Challenge(bytes(12_285))]
    for sent, data in ((Auth("PLAIN"), b"+ " + b"A" * 16_384), (Capa(), b"+OK " + b"x" * 4096)):
        connection = client()
        connection.send(sent)
        with pytest.raises(RemoteProtocolError, match="without end"):
            tell(connection, data)


def test_a_server_that_leaves_in_an_exchange() -> None:
    connection = client()
    connection.send(Auth("PLAIN"))
    connection.receive_data(b"+ \r\n")
    connection.receive_data(b"")
    assert drain(connection) == [Challenge(), ConnectionClosed()]
    connection = client()
    connection.send(Auth("PLAIN"))
    connection.receive_data(b"")
    with pytest.raises(RemoteProtocolError, match=r"^the server closed the connection before it had answered$"):
        connection.next_event()


def test_responses_belong_into_an_exchange() -> None:
    for connection in (client(), client_logged_in()):
        refuses(connection, SaslResponse(b""), SaslCancel())


# --- both roles on one wire ----------------------------------------------------------------------------------------


def carry(data: bytes, places: list[int], receiver: Pop3Connection) -> Event:
    """The one event that comes of a line cut anywhere."""
    events = []
    for chunk in cut(data, places):
        if chunk:
            receiver.receive_data(chunk)
            if isinstance(event := receiver.next_event(), Event):
                events.append(event)
    assert len(events) == 1
    return events[0]


@given(
    initial=st.none() | st.binary(max_size=150),
    rounds=st.lists(st.tuples(st.binary(max_size=80), st.binary(max_size=80)), max_size=4),
    ok=st.booleans(),
    profile=st.sampled_from(Profile),
    places=cuts,
)
def test_what_one_side_says_is_what_the_other_gets(
    initial: bytes | None, rounds: list[tuple[bytes, bytes]], ok: bool, profile: Profile, places: list[int]
) -> None:
    """R4422-04, R5034-09, R5034-10, R5034-11, P6: any octets, none and NUL included, whatever the chunks."""
    ours, theirs = client(), server(profile=profile)
    assert carry(ours.send(Auth("X", initial)), places, theirs) == Auth("X", initial)
    for challenge, response in rounds:
        assert carry(theirs.send(Challenge(challenge)), places, ours) == Challenge(challenge)
        assert carry(ours.send(SaslResponse(response)), places, theirs) == SaslResponse(response)
    reply = Ok("in") if ok else Err("no")
    assert carry(theirs.send(reply), places, ours) == reply
    assert ours.state is theirs.state is (T if ok else A)
