"""Our client and our server on a fake wire, and a record of what each should see of the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from trio_pop3 import sansio as pop3
from trio_pop3.sansio import TRANSITIONS, Pop3Connection, Profile, Role, State

from .harness import canon, joined

# Commands by the letter that stands for them in scripts.
COMMANDS: Final[Mapping[str, pop3.Command]] = {
    "U": pop3.User("alice"), "J": pop3.User("J\u00fcrgen"), "P": pop3.Pass(b"secret"), "O": pop3.Pass(b" two  words "),
    "A": pop3.Apop("alice", bytes(16)), "m": pop3.Auth("PLAIN"), "M": pop3.Auth("PLAIN", b"\0a\0b"),
    "a": pop3.AuthList(), "r": pop3.SaslResponse(b""), "R": pop3.SaslResponse(b"x" * 9000), "c": pop3.SaslCancel(),
    "T": pop3.Stls(), "8": pop3.Utf8(), "g": pop3.Lang(), "G": pop3.Lang("de"), "C": pop3.Capa(),
    "x": pop3.Xclient((("ADDR", "192.0.2.1"),)), "s": pop3.Stat(), "l": pop3.List(), "L": pop3.List(1),
    "e": pop3.Retr(1), "d": pop3.Dele(10**10 - 1), "n": pop3.Noop(), "z": pop3.Rset(), "t": pop3.Top(1, 0),
    "i": pop3.Uidl(), "I": pop3.Uidl(2), "Q": pop3.Quit(),
}  # fmt: skip


class Pair:
    """Two connections and what is under way between them. What goes wrong is an AssertionError, or what they raise."""

    def __init__(self, profile: Profile) -> None:
        self.server = Pop3Connection(Role.SERVER, utf8_user=True, profile=profile)
        self.client = Pop3Connection(Role.CLIENT, utf8_user=True)
        self.sent: deque[pop3.Command] = deque()  # and not yet read by the server
        self.said: list[pop3.Event] = [pop3.Greeting("hi")]
        self.heard: list[pop3.Event] = []
        self.to_server, self.to_client = b"", self.server.send(self.said[0])

    def ask(self, command: pop3.Command) -> None:
        """The client sends a command if that is allowed."""
        # AUTH alone is nothing to a strict server.
        if isinstance(command, pop3.AuthList) and self.server.profile is Profile.STRICT:
            return
        try:
            self.to_server += self.client.send(command)
        except pop3.LocalProtocolError:
            return
        self.sent.append(command)

    def answer(self, reply: pop3.Event, body: bytes = b"") -> None:
        """The server answers the next command, if one has arrived; where this reply is not allowed, with an error."""
        state = self.server.state
        event = self.server.next_event()
        if not isinstance(event, pop3.Event):
            return
        expected = self.sent.popleft()
        if isinstance(event, pop3.BadCommand):
            # Sent ahead on a login that failed.
            assert type(expected) not in TRANSITIONS[state], f"refused in {state}: {expected}"
            reply = event.reply
        else:
            assert event == expected, f"sent was {expected}, read was {event}"
        try:
            self.to_client += self.server.send(reply)
        except pop3.LocalProtocolError:
            reply = pop3.Err("not that")
            self.to_client += self.server.send(reply)
        self.said.append(reply)
        if self.server.in_body:
            whole = canon(body) if body or pop3.shape_of(expected) is pop3.Shape.MESSAGE else b""
            self.to_client += self.server.send(pop3.Data(body)) + self.server.send(pop3.EndOfBody(len(whole)))
            self.said += [pop3.Data(whole), pop3.EndOfBody()] if whole else [pop3.EndOfBody()]

    def move(self, to_server: int, to_client: int) -> None:
        """So many octets arrive. Behind the +OK to STLS both begin TLS."""
        there, self.to_server = self.to_server[:to_server], self.to_server[to_server:]
        back, self.to_client = self.to_client[:to_client], self.to_client[to_client:]
        if there:
            self.server.receive_data(there)
        if back:
            self.client.receive_data(back)
        while isinstance(event := self.client.next_event(), pop3.Event):
            self.heard.append(event)
        if self.client.state is State.TLS_PENDING:
            self.client.tls_started()
            self.server.tls_started()

    def settle(self) -> None:
        """Everything is answered and arrives; then both must have seen the same, and stand in the same place."""
        while self.sent or self.to_server or self.to_client:
            self.move(len(self.to_server), len(self.to_client))
            self.answer(pop3.Err("enough"))
        assert joined(self.heard) == joined(self.said), "the client saw something else than the server said"
        assert self.client.outstanding == 0, "the client waits for a reply"
        assert self.client.state is self.server.state, f"{self.client.state} is not {self.server.state}"
        assert self.server.discarded == self.server.unread == self.client.unread == 0, "something was left over"
