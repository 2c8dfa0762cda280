"""The core as a state machine: our client and our server on a wire that cuts anywhere, against the table of states."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_pop3.sansio import (
    NEED_DATA,
    PAUSED,
    Apop,
    BadCommand,
    Capa,
    Command,
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
    Quit,
    ResponseCode,
    Retr,
    Role,
    Rset,
    Shape,
    Stat,
    State,
    Top,
    Uidl,
    User,
    shape_of,
)

from .strategies import messages
from .test_body import canon
from .test_commands import EXPECTED
from .test_readers import BAD

numbers = st.integers(0, 10**10 - 1)
commands = st.one_of(
    st.builds(User, st.sampled_from(["alice", "bob"])),
    st.builds(Pass, st.sampled_from([b"secret", b" two  spaces "])),
    st.builds(Apop, st.just("alice"), st.binary(min_size=16, max_size=16)),
    st.sampled_from([Capa(), Stat(), List(), Uidl(), Noop(), Rset()]),
    st.builds(List, numbers) | st.builds(Uidl, numbers) | st.builds(Retr, numbers) | st.builds(Dele, numbers),
    st.builds(Top, numbers, st.integers(0, 99)),
)
login = st.sampled_from([User("alice"), Pass(b"secret")])
amounts = st.integers(1, 40)


def after(state: State, command: Command, *, ok: bool) -> State | None:
    """Where a command leads, by the table written out by hand; None if it is not allowed."""
    steps = EXPECTED[type(command).__name__].get(state)
    return None if steps is None else steps[0 if ok else 1]


class WireMachine(RuleBasedStateMachine):
    """What the client sends is what the server gets; what the server answers is what the client sees; both agree on states.

    R1939-03..14, 48, 66, 67; R2449-23..25; A-15; A14, D5.
    """

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = Pop3Connection(Role.CLIENT), Pop3Connection(Role.SERVER)
        self.to_server, self.to_client = b"", self.server.send(Greeting("hi"))
        self.sent: deque[Command] = deque()  # not yet read by the server
        self.seen: deque[Event] = deque()  # what the client has still to see
        self.hoped = self.state = State.GREETING  # where the client will be if all goes well; where the server is
        self.seen.append(Greeting("hi"))

    def send(self, command: Command) -> None:
        hoped = after(self.hoped, command, ok=True)
        if hoped is None:
            with pytest.raises(LocalProtocolError):
                self.client.send(command)
        else:
            self.to_server += self.client.send(command)
            self.sent.append(command)
            self.hoped = hoped

    @rule(command=commands)
    def client_sends(self, command: Command) -> None:
        self.send(command)

    @rule(command=login)
    def client_logs_in(self, command: Command) -> None:
        self.send(command)

    @precondition(lambda self: self.hoped is State.TRANSACTION)
    @rule(several=st.lists(commands, min_size=1, max_size=5))
    def client_pipelines(self, several: list[Command]) -> None:
        for command in several:
            self.send(command)

    @rule()
    def client_quits(self) -> None:
        self.send(Quit())

    @rule(amount=amounts)
    def octets_reach_the_server(self, amount: int) -> None:
        data, self.to_server = self.to_server[:amount], self.to_server[amount:]
        if data:
            self.server.receive_data(data)

    @rule(ok=st.booleans(), body=messages, cut=st.integers(0, 60))
    def server_answers(self, ok: bool, body: bytes, cut: int) -> None:
        """The next command, if one is there whole."""
        event = self.server.next_event()
        if event is NEED_DATA:
            return
        assert self.server.next_event() is PAUSED
        expected = self.sent.popleft()
        now = after(self.state, expected, ok=ok)
        if now is None:
            # Sent ahead on a login that failed.
            assert isinstance(event, BadCommand)
            self.reply(event.reply)
            self.state = State.AUTHORIZATION if self.state is State.USER_GIVEN else self.state
            return
        assert event == expected
        self.reply(Ok("fine") if ok else Err("no", ResponseCode.SYS_TEMP))
        if ok and shape_of(expected) is not Shape.SINGLE:
            whole = shape_of(expected) is Shape.MESSAGE
            for chunk in (body[:cut], body[cut:]):
                self.to_client += self.server.send(Data(chunk))
            self.to_client += self.server.send(EndOfBody(len(canon(body)) if body or whole else 0))
            self.seen += [Data(canon(body)) if body or whole else Data(b""), EndOfBody()]
        self.state = now

    def reply(self, reply: Ok | Err) -> None:
        self.to_client += self.server.send(reply)
        self.seen.append(reply)

    @precondition(lambda self: not self.sent and not self.to_server and self.state is not State.CLOSED)
    @rule(line=st.sampled_from(BAD))
    def somebody_sends_nonsense(self, line: bytes) -> None:
        """A line that no client of ours would send; its answer is not for our client."""
        if b"\n" in line or self.server.next_event() is not NEED_DATA or self.hoped is not self.state:
            return
        self.server.receive_data(line + b"\r\n")
        event = self.server.next_event()
        assert isinstance(event, BadCommand)
        assert self.server.send(event.reply).startswith(b"-ERR ")
        if self.state is State.USER_GIVEN:
            # The server forgot the user; let the client know, as its own mistake would.
            self.to_server += self.client.send(Pass(b"late"))
            self.sent.append(Pass(b"late"))
            self.state, self.hoped = State.AUTHORIZATION, State.TRANSACTION

    @rule(amount=amounts)
    def octets_reach_the_client(self, amount: int) -> None:
        data, self.to_client = self.to_client[:amount], self.to_client[amount:]
        if data:
            self.client.receive_data(data)
        self.look()

    @rule()
    def everything_arrives(self) -> None:
        self.octets_reach_the_server(len(self.to_server) or 1)
        self.octets_reach_the_client(len(self.to_client) or 1)

    def look(self) -> None:
        """Compare what the client sees with what is to be seen; pieces of a body are matched as they come."""
        while isinstance(event := self.client.next_event(), Event):
            expected = self.seen.popleft()
            while expected == Data(b""):
                expected = self.seen.popleft()
            if isinstance(event, Data):
                assert isinstance(expected, Data)
                assert expected.data.startswith(event.data)
                self.seen.appendleft(Data(expected.data[len(event.data) :]))
            else:
                assert event == expected
            if isinstance(event, Greeting):
                self.hoped = self.state = State.AUTHORIZATION
        assert event is NEED_DATA

    @invariant()
    def both_agree_when_the_wire_is_empty(self) -> None:
        if not (self.to_client or self.sent or self.client.outstanding or self.state is State.GREETING):
            self.hoped = self.state
            assert self.client.state is self.state
            assert self.server.state is self.state


TestWire = WireMachine.TestCase
