"""Whatever a client sends, cut anywhere: each line gets one reply, at once, and events and replies are the same."""

from __future__ import annotations

from trio_pop3 import sansio as pop3
from trio_pop3.sansio import NEED_DATA, PAUSED, Pop3Connection, State

from .harness import MOST_WAITING, Input, options_of, read, run, same


def answer(connection: Pop3Connection, event: pop3.Event, *, refuse: bool) -> bytes:
    """A reply that depends on nothing but the event."""
    if isinstance(event, pop3.BadCommand):
        return connection.send(event.reply)
    assert isinstance(event, pop3.Command), f"neither a command nor a bad line: {event}"
    if isinstance(event, pop3.Auth | pop3.SaslResponse):
        data = event.initial if isinstance(event, pop3.Auth) else event.data
        if data is None or len(data) % 3:
            return connection.send(pop3.Challenge((data or b"")[:99]))
    if refuse or isinstance(event, pop3.SaslCancel):
        return connection.send(pop3.Err("no"))
    reply = connection.send(pop3.Ok("fine"))
    body = [pop3.Data(b".x\n"), pop3.EndOfBody()] if connection.in_body else []
    return reply + b"".join(map(connection.send, body))


def converse(given: Input, chunks: list[bytes]) -> tuple[list[pop3.Event], list[bytes], int, State]:
    """What was understood, what was said, how many octets were thrown away behind STLS, and where it ended."""
    connection = Pop3Connection(pop3.Role.SERVER, **options_of(given))
    most = MOST_WAITING if b"AUTH " in given.payload.upper() else options_of(given)["max_line"]
    events, replies = [], [connection.send(pop3.Greeting("hi"))]
    for chunk in chunks:
        connection.receive_data(chunk)
        while isinstance(event := connection.next_event(), pop3.Event):
            assert connection.next_event() is PAUSED, "a second command before the first was answered"
            events.append(event)
            replies.append(answer(connection, event, refuse=given.flag(4) and len(events) % 5 == 0))
        assert event is (PAUSED if connection.state is State.TLS_PENDING else NEED_DATA), f"got stuck: {event}"
        assert connection.unread < most or connection.state is State.CLOSED, "more is held than its line may have"
    if (state := connection.state) is State.TLS_PENDING:
        connection.tls_started()
    connection.receive_data(b"")
    assert connection.next_event() == pop3.ConnectionClosed(), "something behind the end"
    return events, replies, connection.discarded, state


def test_one_input(data: bytes) -> None:
    """P6, P4."""
    given = read(data)
    events, replies, _, state = same([converse(given, chunks) for chunks in given.cuts(given.payload)])
    lines = given.payload.count(b"\r\n" if given.flag(0) else b"\n")
    fatal = bool(events) and isinstance(events[-1], pop3.BadCommand) and events[-1].fatal
    least = 0 if state in (State.CLOSED, State.TLS_PENDING) else lines
    assert least <= len(events) <= lines + fatal, "a line without a reply, or two for one"
    assert all(reply[:1] in b"+-" and reply.endswith(b"\r\n") for reply in replies), "not a reply"


if __name__ == "__main__":
    run(test_one_input)
