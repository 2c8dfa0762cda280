"""`Pop3Connection`, both roles: order, states, limits, and the same answer however octets arrive."""

from __future__ import annotations

import re

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
    ConnectionClosed,
    Data,
    Dele,
    EndOfBody,
    Err,
    Event,
    Greeting,
    List,
    LocalProtocolError,
    Noop,
    Ok,
    Pass,
    Pop3Connection,
    Profile,
    Quit,
    RemoteProtocolError,
    Retr,
    Role,
    Shape,
    Signal,
    Stat,
    State,
    Top,
    User,
    WholeBody,
    shape_of,
)

from .dialogue import answer, client, client_logged_in, converse, drain, logged_in, server, tell
from .strategies import command_streams, cut, cuts, messages


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("login", [b"", b"USER a\r\nPASS b\r\n"])
@given(data=command_streams, places=cuts, utf8=st.booleans())
def test_server_does_not_depend_on_chunks_and_never_raises(
    profile: Profile, login: bytes, data: bytes, places: list[int], utf8: bool
) -> None:
    """P6, A9, A14, D5: same events, same octets out, SASL exchanges included; one reply a line (A13)."""
    script = login + data
    whole = converse(server(profile=profile, utf8_user=utf8), [script])
    assert converse(server(profile=profile, utf8_user=utf8), cut(script, places)) == whole
    assert converse(server(profile=profile, utf8_user=utf8), [bytes([octet]) for octet in script]) == whole


def test_replies_leave_in_order_and_nothing_is_read_ahead() -> None:
    """R2449-23, R2449-24, A14."""
    connection = logged_in()
    connection.receive_data(b"STAT\r\nRETR 1\r\nNOOP\r\n")
    assert connection.next_event() == Stat()
    assert connection.next_event() is PAUSED
    assert connection.reply_owed
    connection.send(Ok("1 2"))
    assert connection.next_event() == Retr(1)
    assert connection.send(Ok("2 octets")) == b"+OK 2 octets\r\n"
    assert connection.in_body
    assert connection.next_event() is PAUSED
    assert connection.send(Data(b".")) == b".."
    assert connection.send(EndOfBody(3)) == b"\r\n.\r\n"
    assert connection.next_event() == Noop()
    connection.send(Err("no"))
    assert connection.next_event() is NEED_DATA


def test_an_error_to_a_multiline_command_is_one_line() -> None:
    connection = logged_in()
    connection.receive_data(b"LIST\r\n")
    connection.next_event()
    assert connection.send(Err("no")) == b"-ERR no\r\n"
    assert not connection.in_body
    assert connection.next_event() is NEED_DATA


def test_a_message_of_another_size_is_not_finished() -> None:
    """P2, A10: no terminator can leave any more."""
    connection = logged_in()
    connection.receive_data(b"RETR 1\r\n")
    connection.next_event()
    connection.send(Ok("4 octets"))
    connection.send(Data(b"abc"))
    with pytest.raises(LocalProtocolError, match="announced 4 octets, sent 5"):
        connection.send(EndOfBody(4))
    assert connection.state is State.ERROR
    with pytest.raises(LocalProtocolError):
        connection.send(EndOfBody(5))


@given(messages, st.sampled_from([b"RETR 1\r\n", b"TOP 1 0\r\n"]))
def test_a_whole_body_is_what_its_parts_are(message: bytes, command: bytes) -> None:
    """P2, P6: one encoder; the size it tells is the one that an announced size is held against."""
    whole = WholeBody(message)
    sent = []
    for events in ([whole], [Data(message), EndOfBody(whole.octets)], [Data(b""), whole]):
        connection = logged_in()
        connection.receive_data(command + b"NOOP\r\n")
        connection.next_event()
        connection.send(Ok("octets follow"))
        sent.append(b"".join(connection.send(event) for event in events))
        assert not connection.in_body
        assert connection.next_event() == Noop()
    assert sent[0] == sent[1] == sent[2] == whole.wire


@pytest.mark.parametrize(("command", "begun"), [(b"RETR 1", b"a"), (b"RETR 1", b"\r"), (b"LIST", b""), (b"CAPA", b"")])
def test_a_whole_body_is_neither_a_part_nor_a_listing(command: bytes, begun: bytes) -> None:
    """P2: what would be sent twice, or is no message, is refused, and the body can go on."""
    connection = logged_in()
    connection.receive_data(command + b"\r\n")
    connection.next_event()
    connection.send(Ok("follows"))
    connection.send(Data(begun))
    with pytest.raises(LocalProtocolError, match=r"^a whole body is all of a message$"):
        connection.send(WholeBody(b"message\n"))
    assert connection.in_body
    assert connection.send(EndOfBody()).endswith(b".\r\n")


def test_pass_must_follow_user_directly() -> None:
    """R1939-67, A-15; CAPA in between is allowed."""
    connection = server()
    for line, expected in [
        (b"PASS x", BadCommand),
        (b"USER a", User),
        (b"CAPA", Capa),
        (b"PASS b", Pass),  # refused below
        (b"PASS b", BadCommand),
        (b"USER a", User),
        (b"USER b", BadCommand),
        (b"PASS b", BadCommand),
        (b"USER a", User),
        (b"XYZZY", BadCommand),
        (b"PASS b", BadCommand),
    ]:
        connection.receive_data(line + b"\r\n")
        event = connection.next_event()
        assert type(event) is expected, line
        assert isinstance(event, Event)
        if isinstance(event, Pass):
            connection.send(Err("no"))
        else:
            answer(connection, event)
    assert connection.state is State.AUTHORIZATION


def test_quit_in_transaction_is_update_from_the_moment_it_is_read() -> None:
    """R1939-49, PROTOCOL 2.4: input behind it is ignored."""
    connection = logged_in()
    connection.receive_data(b"QUIT\r\nDELE 1\r\n")
    assert connection.next_event() == Quit()
    assert connection.state.value == "update"
    assert connection.unread == 8
    connection.send(Err("some remain"))
    assert connection.state.value == "closed"
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"more")
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()


def test_a_half_line_at_the_end_is_no_command() -> None:
    """A-33; A-34: complete lines before it are."""
    connection = logged_in()
    connection.receive_data(b"DELE 1\r\nQUIT")
    connection.receive_data(b"")
    assert connection.next_event() == Dele(1)
    connection.send(Ok("fine"))
    assert connection.next_event() == ConnectionClosed()
    assert connection.state is State.TRANSACTION
    with pytest.raises(LocalProtocolError, match=r"^data received after the end of the stream$"):
        connection.receive_data(b"\r\n")


def test_bare_line_feeds_in_strict_and_default() -> None:
    """A-01."""
    for profile, expected in ((Profile.DEFAULT, Noop()), (Profile.STRICT, None)):
        connection = logged_in(profile=profile)
        connection.receive_data(b"NOOP\n")
        event = connection.next_event()
        assert event == (expected or NEED_DATA)
    connection.receive_data(b"NOOP\r\n")
    assert isinstance(connection.next_event(), BadCommand)


def test_long_lines() -> None:
    """R2449-01, A-04, I1: 255 octets are fine; too long is one error; far too long ends it."""
    connection = server()
    connection.receive_data(b"USER " + b"u" * 248 + b"\r\n")
    assert connection.next_event() == User("u" * 248)
    connection.send(Ok("fine"))
    connection.receive_data(b"PASS " + b"x" * 600 + b"\r\nCAPA\r\n")
    event = connection.next_event()
    assert isinstance(event, BadCommand) and not event.fatal
    answer(connection, event)
    assert connection.next_event() == Capa()
    answer(connection, Capa())
    connection.receive_data(b"x" * 9000)
    event = connection.next_event()
    assert isinstance(event, BadCommand) and event.fatal
    answer(connection, event)
    assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    ("event", "greeted"),
    [
        (Greeting("again"), True),
        (Ok("hi"), False),
        (Noop(), True),
        (Ok("unasked"), True),
        (Data(b""), True),
        (EndOfBody(), True),
        (WholeBody(b""), True),
        (Challenge(b""), True),
        (Challenge(b""), False),
    ],
)
def test_what_a_server_may_not_send(event: Event, greeted: bool) -> None:
    connection = server() if greeted else Pop3Connection(Role.SERVER)
    state = connection.state
    with pytest.raises(LocalProtocolError):
        connection.send(event)
    assert connection.state is state


def test_a_bad_command_is_not_answered_with_ok_and_a_body_not_with_a_status() -> None:
    connection = logged_in()
    connection.receive_data(b"XYZZY\r\nLIST\r\n")
    connection.next_event()
    with pytest.raises(LocalProtocolError, match=r"^a bad command is answered with Err$"):
        connection.send(Ok("fine"))
    connection.send(Err("no"))
    connection.next_event()
    connection.send(Ok("fine"))
    with pytest.raises(LocalProtocolError, match=r"^Err cannot be sent inside a body$"):
        connection.send(Err("too late"))
    assert connection.send(EndOfBody()) == b".\r\n"


def test_a_refusing_greeting_closes() -> None:
    """A-44."""
    connection = Pop3Connection(Role.SERVER)
    assert connection.next_event() is PAUSED
    assert connection.send(Err("full")) == b"-ERR full\r\n"
    assert connection.state is State.CLOSED


def test_send_failed_ends_everything() -> None:
    connection = logged_in()
    connection.receive_data(b"QUIT\r\n")
    connection.send_failed()
    assert connection.state is State.ERROR
    assert connection.next_event() is NEED_DATA


@pytest.mark.parametrize(
    "options", [{"max_line": 100}, {"max_dropped": 300}, {"max_status": 100}, {"max_outstanding": 0}]
)
def test_limits_below_the_rfcs_are_refused(options: dict[str, int]) -> None:
    """R2449-01, R2449-03."""
    complaint = "max_line must be at least 255 octets (RFC 2449 section 4), not 100"
    if "max_line" not in options:
        complaint = "at least: max_dropped as max_line, max_status 512, max_outstanding 1"
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        Pop3Connection(Role.SERVER, **options)  # type: ignore[arg-type]


def test_limits_may_be_as_low_as_that() -> None:
    """R2449-01, R2449-03: 255 octets of a command, 512 of a status line, one command at a time."""
    connection = server(max_line=255, max_dropped=255)
    line = b"USER " + b"u" * 248 + b"\r\n"
    assert tell(connection, line) == User("u" * 248)
    connection = client(max_status=512, max_outstanding=1)
    connection.send(User("a"))
    with pytest.raises(LocalProtocolError, match=r"^1 commands are under way; read replies first$"):
        connection.send(Pass(b"b"))
    assert tell(connection, b"+OK " + b"x" * 506 + b"\r\n") == Ok("x" * 506)
    connection.send(Pass(b"b"))


# --- client role ---------------------------------------------------------------------------------------------------


TRANSCRIPT = b"+OK 1 2\r\n+OK\r\n..a\r\n\r\n.\r\n-ERR no\r\n+OK top\r\nh\r\n.\r\n+OK\r\n.\r\n+OK bye\r\n"
SENT: list[Command] = [Stat(), Retr(1), Retr(2), Top(1, 0), List(), Quit()]


@given(cuts)
def test_client_does_not_depend_on_chunks(places: list[int]) -> None:
    """R2449-25, R1939-10, R1939-11, A14: replies find their commands, in order."""
    connection = client_logged_in()
    for command in SENT:
        connection.send(command)
    assert connection.outstanding == len(SENT)
    events: list[Event] = []
    for chunk in cut(TRANSCRIPT, places):
        if chunk:
            connection.receive_data(chunk)
        for event in drain(connection):
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                event = Data(events.pop().data + event.data)  # type: ignore[attr-defined]
            events.append(event)
    assert events == [
        Ok("1 2"), Ok(""), Data(b".a\r\n\r\n"), EndOfBody(), Err("no"), Ok("top"), Data(b"h\r\n"), EndOfBody(),
        Ok(""), EndOfBody(), Ok("bye"),
    ]  # fmt: skip
    assert connection.state is State.CLOSED


@given(st.binary(max_size=60), st.lists(st.sampled_from(SENT), max_size=4, unique=True), cuts)
def test_client_takes_any_octets(data: bytes, sent: list[Command], places: list[int]) -> None:
    """Hostile servers: an event or RemoteProtocolError, nothing else."""
    connection = client_logged_in()
    for command in sent:
        if connection._predicted is State.TRANSACTION:
            connection.send(command)
    try:
        for chunk in [*cut(data, places), b""]:
            connection.receive_data(chunk)
            drain(connection)
            if not chunk:
                break
    except RemoteProtocolError:
        assert connection.state is State.ERROR


def test_commands_sent_ahead_on_a_login_that_fails() -> None:
    """PROTOCOL 2.6: they are refused as well, and the state is what the server's is."""
    connection = client()
    for command in (User("a"), Pass(b"b"), Stat(), User("c")):
        if isinstance(command, User) and connection.outstanding:
            with pytest.raises(LocalProtocolError):
                connection.send(command)
        else:
            connection.send(command)
    connection.receive_data(b"+OK\r\n-ERR no\r\n-ERR what\r\n")
    assert len(drain(connection)) == 3
    assert connection.state is State.AUTHORIZATION
    connection.send(Apop("a", bytes(16)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"+OK unasked\r\n", "the server spoke out of turn: 'unasked'"),
        (b"-ERR idle for too long\r\n", "the server spoke out of turn: 'idle for too long'"),
        (b"+OK " + b"x" * 100 + b"\r\n", f"the server spoke out of turn: '{'x' * 80}'"),
        (b"x" * 5000, "the server sent a status line without end"),
        (b"x" * 5000 + b"\r\n", "the server sent a status line without end"),
    ],
)
def test_servers_that_leave_the_protocol(data: bytes, message: str) -> None:
    """A12, A13 from the client's side: bounded, and over."""
    connection = client_logged_in()
    connection.receive_data(data)
    with pytest.raises(RemoteProtocolError, match=f"^{message}$"):
        connection.next_event()
    assert connection.state is State.ERROR
    assert connection.next_event() is NEED_DATA


def test_the_end_of_the_stream_for_a_client() -> None:
    connection = client_logged_in()
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()
    assert connection.state is State.CLOSED
    for sent, data in ((Retr(1), b"+OK\r\nhalf"), (Stat(), b""), (None, b"half a line")):
        connection = client_logged_in()
        if sent is not None:
            connection.send(sent)
        connection.receive_data(data or b"")
        if data:
            connection.receive_data(b"")
        where = "in the middle of a reply" if isinstance(sent, Retr) else "before it had answered"
        with pytest.raises(RemoteProtocolError, match=f"^the server closed the connection {where}$"):
            drain(connection)
    connection = Pop3Connection(Role.CLIENT)
    connection.receive_data(b"")
    with pytest.raises(RemoteProtocolError):
        connection.next_event()


def test_a_refused_client() -> None:
    connection = Pop3Connection(Role.CLIENT)
    connection.receive_data(b"-ERR [SYS/TEMP] full\r\n")
    assert isinstance(connection.next_event(), Err)
    assert connection.state is State.CLOSED
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()


def test_what_a_server_says_behind_its_goodbye_is_nothing() -> None:
    """A13 from the client's side: with the reply to QUIT or after it."""
    connection = client_logged_in()
    connection.send(Quit())
    assert tell(connection, b"+OK bye\r\n+OK and another thing\r\n") == Ok("bye")
    assert connection.next_event() is NEED_DATA
    assert tell(connection, b"+OK still here\r\n") is NEED_DATA
    connection.receive_data(b"")
    assert connection.next_event() == ConnectionClosed()


def test_what_a_client_may_not_send() -> None:
    """R2449-25: also nothing behind QUIT, and no more than it can keep track of."""
    with pytest.raises(LocalProtocolError, match=r"^the server has not greeted yet$"):
        Pop3Connection(Role.CLIENT).send(Capa())
    connection = client_logged_in(max_outstanding=2)
    with pytest.raises(LocalProtocolError, match="does not send Ok"):
        connection.send(Ok("x"))
    with pytest.raises(LocalProtocolError, match=r"^User is not valid here \(state transaction\)$"):
        connection.send(User("a"))
    connection.send(Noop())
    connection.send(Quit())
    with pytest.raises(LocalProtocolError, match="not valid here"):
        connection.send(Noop())
    connection = client_logged_in(max_outstanding=2)
    connection.send(Noop())
    connection.send(Noop())
    with pytest.raises(LocalProtocolError, match=r"^2 commands are under way; read replies first$"):
        connection.send(Noop())
    connection = client_logged_in()
    for _ in range(1024):
        connection.send(Noop())
    with pytest.raises(LocalProtocolError, match=r"^1024 commands are under way; read replies first$"):
        connection.send(Noop())
    connection = client()
    connection.send(Auth("PLAIN"))
    with pytest.raises(LocalProtocolError, match=r"^Auth is to be answered first$"):
        connection.send(Stat())


def test_a_lenient_client() -> None:
    """A-01: only if it was asked to be."""
    connection = client_logged_in(lenient_terminator=True)
    connection.send(Retr(1))
    connection.receive_data(b"+OK\r\na\r\n.\n")
    assert drain(connection) == [Ok(""), Data(b"a\r\n"), EndOfBody()]
    connection = client_logged_in()
    connection.send(Retr(1))
    connection.receive_data(b"+OK\r\na\r\n.\n")
    assert connection.next_event() == Ok("")
    assert connection.in_body
    connection.receive_data(b"b\r\n.\r\n")
    assert drain(connection) == [Data(b"a\r\n\nb\r\n"), EndOfBody()]


# --- both roles on one wire ----------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([*SENT[:-1], Dele(1), Noop(), Capa()]), max_size=8), st.binary(max_size=50), cuts)
def test_what_a_client_sends_is_what_a_server_gets_and_back(
    sent: list[Command], body: bytes, places: list[int]
) -> None:
    """Our two halves joined by a wire that cuts anywhere."""
    ours, theirs = client_logged_in(), logged_in()
    for chunk in cut(b"".join(ours.send(command) for command in sent), places):
        if chunk:
            theirs.receive_data(chunk)
    replies = b""
    for command in sent:
        assert theirs.next_event() == command
        replies += theirs.send(Ok("fine"))
        if shape_of(command) is not Shape.SINGLE:
            replies += theirs.send(Data(body)) + theirs.send(EndOfBody())
    assert theirs.next_event() is NEED_DATA
    got: list[Event | Signal] = []
    for chunk in cut(replies, places):
        if chunk:
            ours.receive_data(chunk)
        got += drain(ours)
    assert [event for event in got if isinstance(event, Ok)] == [Ok("fine")] * len(sent)
    bodies = sum(shape_of(command) is not Shape.SINGLE for command in sent)
    assert sum(isinstance(event, EndOfBody) for event in got) == bodies
    assert ours.state is theirs.state
