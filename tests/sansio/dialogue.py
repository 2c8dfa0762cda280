"""Connections that have got somewhere, and a peer that answers everything."""

from __future__ import annotations

from typing import Any

from trio_pop3.sansio import (
    NEED_DATA,
    PAUSED,
    Auth,
    BadCommand,
    Challenge,
    Command,
    ConnectionClosed,
    Data,
    EndOfBody,
    Err,
    Event,
    Greeting,
    Ok,
    Pass,
    Pop3Connection,
    Role,
    SaslCancel,
    SaslResponse,
    Shape,
    State,
    Stls,
    User,
    shape_of,
)


def server(**options: Any) -> Pop3Connection:
    """A server that has greeted."""
    connection = Pop3Connection(Role.SERVER, **options)
    assert connection.send(Greeting("hi")) == b"+OK hi\r\n"
    return connection


def in_state(state: State, **options: Any) -> Pop3Connection:
    """A server in AUTHORIZATION, USER_GIVEN, AUTHENTICATING or TRANSACTION."""
    connection = server(**options)
    if state is State.AUTHENTICATING:
        assert tell(connection, b"AUTH PLAIN\r\n") == Auth("PLAIN")
        assert connection.send(Challenge()) == b"+ \r\n"
    if state in (State.USER_GIVEN, State.TRANSACTION):
        assert tell(connection, b"USER a\r\n") == User("a")
        connection.send(Ok("fine"))
    if state is State.TRANSACTION:
        assert tell(connection, b"PASS b\r\n") == Pass(b"b")
        connection.send(Ok("fine"))
    assert connection.state is state
    return connection


def logged_in(**options: Any) -> Pop3Connection:
    """A server in TRANSACTION."""
    return in_state(State.TRANSACTION, **options)


def tell(connection: Pop3Connection, data: bytes) -> object:
    """What comes of these octets."""
    connection.receive_data(data)
    return connection.next_event()


def answer(connection: Pop3Connection, event: Event) -> bytes:
    """A fixed reply to any event: nothing here depends on when it arrived."""
    if isinstance(event, BadCommand):
        return connection.send(event.reply)
    assert isinstance(event, Command)
    match event:
        case Auth(_, None) | Auth(_, b""):
            return connection.send(Challenge())
        case Auth(_, data) | SaslResponse(data) if data and len(data) % 2:
            return connection.send(Challenge(data[:9]))
        case SaslCancel() | Stls():
            return connection.send(Err("no"))
    sent = connection.send(Ok("fine"))
    if shape_of(event) is not Shape.SINGLE:
        sent += connection.send(Data(b".dots\nand\r\n")) + connection.send(EndOfBody())
    return sent


def converse(connection: Pop3Connection, chunks: list[bytes]) -> tuple[list[Event], bytes]:
    """Feed, answer everything, and report."""
    events: list[Event] = []
    sent = b""
    for chunk in [*chunks, b""]:
        connection.receive_data(chunk)
        while (event := connection.next_event()) is not NEED_DATA:
            assert isinstance(event, Event)
            events.append(event)
            if isinstance(event, ConnectionClosed):
                return events, sent
            assert connection.next_event() is PAUSED
            sent += answer(connection, event)
    return events, sent


def client(**options: Any) -> Pop3Connection:
    """A client that was greeted."""
    connection = Pop3Connection(Role.CLIENT, **options)
    assert tell(connection, b"+OK hi\r\n") == Greeting("hi")
    return connection


def client_logged_in(**options: Any) -> Pop3Connection:
    """A client in TRANSACTION."""
    connection = client(**options)
    assert connection.send(User("a")) + connection.send(Pass(b"b")) == b"USER a\r\nPASS b\r\n"
    connection.receive_data(b"+OK\r\n+OK\r\n")
    assert [connection.next_event(), connection.next_event()] == [Ok(""), Ok("")]
    assert connection.state is State.TRANSACTION
    return connection


def drain(connection: Pop3Connection) -> list[Event]:
    """All a client has to say for now; the pieces of a body are joined."""
    events: list[Event] = []
    while isinstance(event := connection.next_event(), Event):
        if isinstance(event, Data) and events and isinstance(events[-1], Data):
            event = Data(events.pop().data + event.data)  # type: ignore[attr-defined]
        events.append(event)
        if isinstance(event, ConnectionClosed):
            break
    return events
