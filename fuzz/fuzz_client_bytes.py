"""Whatever a server sends, cut anywhere: the client gets the same events, or RemoteProtocolError and nothing more."""

from __future__ import annotations

from contextlib import suppress

from trio_pop3 import sansio as pop3
from trio_pop3.sansio import NEED_DATA, PAUSED, Pop3Connection, State
from trio_pop3.sansio.listings import parse_capabilities, parse_numbers, parse_unique_id

from .harness import MOST_WAITING, Input, joined, read, run, same
from .paired import COMMANDS

BEFORE, LOGINS, AFTER = "Cag8T", ("UP", "A", "M", "mrc"), "slLeiItndzGCe"


def converse(given: Input, chunks: list[bytes]) -> tuple[list[pop3.Event], str, State, bytes]:
    """What was understood, why not more, where it ended, and what was sent."""
    client = Pop3Connection(pop3.Role.CLIENT, lenient_terminator=given.flag(0), max_status=1024)
    first, login, then, ahead = (given.options >> bit for bit in (1, 4, 6, 9))
    plan = [COMMANDS[letter] for letter in BEFORE[first & 7 :] + LOGINS[login & 3] + AFTER[then & 7 :] + "Q"]
    events, sent = [], b""
    try:
        for chunk in [*chunks, b""]:
            client.receive_data(chunk)
            while isinstance(event := client.next_event(), pop3.Event):
                events.append(event)
                if isinstance(event, pop3.ConnectionClosed):
                    return joined(events), "closed", client.state, sent
                while plan and client.outstanding < (1, 2, 5, 99)[ahead & 3] and not isinstance(event, pop3.Data):
                    with suppress(pop3.LocalProtocolError):
                        sent += client.send(plan[0])
                    del plan[0]
            assert event is (PAUSED if client.state is State.TLS_PENDING else NEED_DATA), f"got stuck: {event}"
            over = event is PAUSED or client.state is State.CLOSED  # and what came in the same chunk is left there
            assert client.unread < MOST_WAITING or over, "more is held than a line may have"
        client.tls_started()
        return joined(events), "TLS", client.state, sent
    except pop3.RemoteProtocolError as failure:
        assert client.state is State.ERROR, "an error that is none"
        assert client.next_event() in (NEED_DATA, pop3.ConnectionClosed()), "something behind the error"
        return joined(events), str(failure), client.state, sent


def test_one_input(data: bytes) -> None:
    """P6, P4. The client sends one command after the other, but for those that are not allowed where it is."""
    given = read(data)
    events, *_ = same([converse(given, chunks) for chunks in given.cuts(given.payload)])
    bodies = b"\r\n".join(event.data for event in events if isinstance(event, pop3.Data)).decode("latin-1")
    parse_capabilities(bodies.split("\r\n"))
    for line in bodies.split("\r\n"):
        for parse in (parse_numbers, parse_unique_id):
            with suppress(pop3.RemoteProtocolError):
                parse(line)


if __name__ == "__main__":
    run(test_one_input)
