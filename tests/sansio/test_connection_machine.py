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
    Auth,
    AuthList,
    BadCommand,
    Capa,
    Challenge,
    Command,
    Data,
    Dele,
    EndOfBody,
    Err,
    Event,
    Greeting,
    Lang,
    List,
    LocalProtocolError,
    Noop,
    Ok,
    Pass,
    Pop3Connection,
    Profile,
    Quit,
    ResponseCode,
    Retr,
    Role,
    Rset,
    SaslCancel,
    SaslResponse,
    Shape,
    Stat,
    State,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
    Xclient,
    shape_of,
)

from .strategies import messages
from .test_base64 import BAD_BASE64
from .test_body import canon
from .test_commands import EXPECTED, LENIENT, WAITS
from .test_readers import BAD

octets = st.binary(max_size=40)
numbers = st.integers(0, 10**10 - 1)
auths = st.builds(Auth, st.sampled_from(["PLAIN", "SCRAM-SHA-256-PLUS"]), st.none() | octets)
logins = st.one_of(
    st.builds(User, st.sampled_from(["alice", "bob", "J\u00fcrgen"])),
    st.builds(Pass, st.sampled_from([b"secret", b" two  spaces "])),
    st.builds(Apop, st.just("alice"), st.binary(min_size=16, max_size=16)),
    auths,
)
responses = st.builds(SaslResponse, octets) | st.just(SaslCancel())
commands = st.one_of(
    logins,
    responses,
    st.sampled_from([Capa(), AuthList(), Stls(), Utf8(), Lang(), Lang("de"), Lang("*")]),
    st.just(Xclient((("ADDR", "192.0.2.1"),))),
    st.sampled_from([Stat(), List(), Uidl(), Noop(), Rset()]),
    st.builds(List, numbers) | st.builds(Uidl, numbers) | st.builds(Retr, numbers) | st.builds(Dele, numbers),
    st.builds(Top, numbers, st.integers(0, 99)),
)
ONE_OF_EACH: list[Command] = [
    User("alice"), Pass(b"secret"), Apop("alice", bytes(16)), Auth("PLAIN"), Auth("PLAIN", b"\0a\0b"), AuthList(),
    SaslResponse(b""), SaslResponse(b"\0a\0b"), SaslCancel(), Stls(), Capa(), Utf8(), Lang(), Lang("de"),
    Xclient((("ADDR", "192.0.2.1"),)), Stat(), List(), List(1), Retr(1), Dele(1), Noop(), Rset(), Top(1, 0), Uidl(),
]  # fmt: skip
# +OK or -ERR, a challenge instead where one can be, a body where one is due, and where it is cut.
Answers = tuple[bool, bytes | None, bytes, int]
answers = st.tuples(st.booleans(), st.none() | octets, messages, st.integers(0, 60))
amounts = st.integers(1, 40)
CLEAR = [b"QUIT\r\n", b"USER eve\r\n", b"AUTH PLAIN\r\nAGEA", b"US", b"\r\n", b"\x16\x03\x01"]
BEFORE_LOGIN = (State.AUTHORIZATION, State.USER_GIVEN)
NOT_LISTENING = (State.CLOSED, State.AUTHENTICATING, State.TLS_PENDING)


def steps(state: State, command: Command) -> tuple[State | None, State] | None:
    """Where a command leads, by the table written out by hand; None if it is not allowed."""
    return EXPECTED[type(command).__name__].get(state)


class WireMachine(RuleBasedStateMachine):
    """What the client sends is what the server gets, what the server answers is what the client sees, states agree.

    R1939-03, R1939-07, R1939-08, R1939-13, R1939-14, R1939-48, R1939-66, R1939-67; R2449-23, R2449-24, R2449-25;
    R5034-05, R5034-15, R5034-16, R5034-22, R5034-30; R2595-04, R2595-07, R2595-19; R6856-02, R6856-20;
    A-15, A-35; A14, D5, G1, G2, G3.
    """

    profile = Profile.DEFAULT

    def __init__(self) -> None:
        super().__init__()
        self.client = Pop3Connection(Role.CLIENT, utf8_user=True)
        self.server = Pop3Connection(Role.SERVER, utf8_user=True, profile=self.profile)
        self.to_server, self.to_client = b"", self.server.send(Greeting("hi"))
        self.sent: deque[Command] = deque()  # not yet read by the server
        self.unanswered: deque[Command] = deque()  # of which the client has not seen the end
        self.seen: deque[Event] = deque()  # what the client has still to see
        self.hoped = self.state = State.GREETING  # where the client will be if all goes well; where the server is
        self.seen.append(Greeting("hi"))
        self.injected = 0  # octets that somebody put behind STLS since TLS was last up
        self.discarded = 0  # all of them

    # --- the client ------------------------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        where = steps(self.hoped, command)
        waits = bool(self.unanswered) and type(self.unanswered[-1]).__name__ in WAITS
        if where is None or waits or (isinstance(command, AuthList) and self.profile is Profile.STRICT):
            if where is None or waits:
                with pytest.raises(LocalProtocolError):
                    self.client.send(command)
            return
        self.to_server += self.client.send(command)
        self.sent.append(command)
        self.unanswered.append(command)
        self.hoped = where[0] or where[1]

    @rule(command=commands)
    def client_sends(self, command: Command) -> None:
        self.send(command)

    @rule(command=logins)
    def client_logs_in(self, command: Command) -> None:
        self.send(command)

    @precondition(lambda self: self.hoped is State.AUTHENTICATING)
    @rule(command=responses)
    def client_responds(self, command: Command) -> None:
        self.send(command)

    @precondition(lambda self: self.hoped in BEFORE_LOGIN)
    @rule()
    def client_wants_tls(self) -> None:
        self.send(Stls())

    @precondition(lambda self: self.state is not State.CLOSED)
    @rule(turns=st.lists(st.tuples(st.integers(0, 99), answers), min_size=1, max_size=8))
    def a_dialogue(self, turns: list[tuple[int, Answers]]) -> None:
        """The way from state to state, which single octets and chance would take too long to find."""
        for choice, answers in turns:
            if self.state is State.TLS_PENDING and not self.unanswered:
                self.tls_starts()
            if allowed := [command for command in ONE_OF_EACH if steps(self.hoped, command)]:
                self.send(allowed[choice % len(allowed)])
            self.everything_is_answered(answers)

    @precondition(lambda self: self.hoped in BEFORE_LOGIN)
    @rule(command=auths, rounds=st.lists(st.tuples(octets, responses), min_size=1, max_size=3), answers=answers)
    def an_exchange(self, command: Command, rounds: list[tuple[bytes, Command]], answers: Answers) -> None:
        self.everything_is_answered(answers)
        for challenge, response in rounds:
            self.send(command)
            self.everything_is_answered((True, challenge, b"", 0))
            command = response
        self.send(command)
        self.everything_is_answered(answers)

    @precondition(lambda self: self.hoped is State.TRANSACTION)
    @rule(several=st.lists(commands, min_size=1, max_size=5))
    def client_pipelines(self, several: list[Command]) -> None:
        for command in several:
            self.send(command)

    @precondition(lambda self: self.hoped not in (State.AUTHORIZATION, State.CLOSED))
    @rule(sure=st.integers(0, 4))
    def client_quits(self, sure: int) -> None:
        """Seldom, and seldom at once: nothing comes after it."""
        if sure == 4:
            self.send(Quit())

    # --- the server ------------------------------------------------------------------------------------------------

    @rule(answers=answers)
    def server_answers(self, answers: Answers) -> None:
        """The next command, if one is there whole."""
        ok, challenge, body, cut = answers
        event = self.server.next_event()
        if not isinstance(event, Event):
            assert event is (PAUSED if self.state is State.TLS_PENDING else NEED_DATA)
            return
        assert self.server.next_event() is PAUSED
        expected = self.sent.popleft()
        where = steps(self.state, expected)
        if where is None:
            # Sent ahead on a login that failed.
            assert isinstance(event, BadCommand)
            self.reply(event.reply)
            self.state = State.AUTHORIZATION if self.state is State.USER_GIVEN else self.state
            return
        assert event == expected
        if challenge is not None:
            if isinstance(expected, Auth | SaslResponse):
                self.reply(Challenge(challenge))
                self.state = State.AUTHENTICATING
                return
            with pytest.raises(LocalProtocolError):
                self.server.send(Challenge(challenge))
        # What was put behind STLS would be read as commands after a refusal: that is another story.
        ok = ok or bool(self.injected and isinstance(expected, Stls))
        if ok and where[0] is None:
            with pytest.raises(LocalProtocolError):
                self.server.send(Ok("fine"))
            ok = False
        self.reply(Ok("fine") if ok else Err("no", ResponseCode.SYS_TEMP))
        if ok and shape_of(expected) is not Shape.SINGLE:
            whole = shape_of(expected) is Shape.MESSAGE
            for chunk in (body[:cut], body[cut:]):
                self.to_client += self.server.send(Data(chunk))
            self.to_client += self.server.send(EndOfBody(len(canon(body)) if body or whole else 0))
            self.seen += [Data(canon(body)) if body or whole else Data(b""), EndOfBody()]
        self.state = where[0] if ok and where[0] else where[1]

    def reply(self, reply: Ok | Err | Challenge) -> None:
        self.to_client += self.server.send(reply)
        self.seen.append(reply)

    # --- others ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.sent and not self.to_server and self.state not in NOT_LISTENING)
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
            self.state = State.AUTHORIZATION
            self.send(Pass(b"late"))

    @precondition(lambda self: self.state is self.hoped is State.AUTHENTICATING and not self.unanswered)
    @rule(line=st.sampled_from([line for line in BAD_BASE64 if line != b"*" and not line.endswith((b"\r", b"\n"))]))
    def the_response_is_no_base64(self, line: bytes) -> None:
        """As if the client had sent it: one -ERR, and the exchange is over for both."""
        self.send(SaslResponse(b""))
        assert self.to_server == b"\r\n"
        self.to_server = b""
        self.sent.clear()
        self.server.receive_data(line + b"\r\n")
        event = self.server.next_event()
        assert isinstance(event, BadCommand)
        self.reply(event.reply)
        self.state = State.AUTHORIZATION

    @precondition(lambda self: bool(self.unanswered) and isinstance(self.unanswered[-1], Stls))
    @rule(data=st.sampled_from(CLEAR))
    def somebody_puts_octets_behind_stls(self, data: bytes) -> None:
        """In clear, while our client waits. If the server has refused already they would be commands: not then."""
        if self.sent or self.state is State.TLS_PENDING:
            self.to_server += data
            self.injected += len(data)

    @precondition(lambda self: self.state is State.TLS_PENDING and not self.unanswered)
    @rule()
    def tls_starts(self) -> None:
        """Both saw the +OK. Whatever is on its way in clear arrives before the handshake."""
        self.octets_reach_the_server(len(self.to_server))
        assert self.server.next_event() is self.client.next_event() is PAUSED
        self.client.tls_started()
        self.server.tls_started()
        self.discarded += self.injected
        self.injected = 0
        assert self.server.discarded == self.discarded
        assert self.server.next_event() is self.client.next_event() is NEED_DATA
        self.hoped = self.state = State.AUTHORIZATION

    # --- the wire --------------------------------------------------------------------------------------------------

    @rule(amount=amounts)
    def octets_reach_the_server(self, amount: int) -> None:
        data, self.to_server = self.to_server[:amount], self.to_server[amount:]
        if data:
            self.server.receive_data(data)

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

    @rule(answers=answers)
    def everything_is_answered(self, answers: Answers) -> None:
        self.octets_reach_the_client(len(self.to_client) or 1)
        self.octets_reach_the_server(len(self.to_server) or 1)
        while self.sent:
            self.server_answers(answers)
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
                continue
            assert event == expected
            if isinstance(event, Greeting):
                self.hoped = self.state = State.AUTHORIZATION
            elif not (isinstance(event, Ok) and shape_of(self.unanswered[0]) is not Shape.SINGLE):
                self.unanswered.popleft()
                if isinstance(event, Challenge):
                    self.hoped = State.AUTHENTICATING
        assert event is (PAUSED if self.client.state is State.TLS_PENDING else NEED_DATA)
        if self.nothing_is_under_way():
            self.hoped = self.state

    def nothing_is_under_way(self) -> bool:
        return not (self.to_client or self.sent or self.unanswered or self.state is State.GREETING)

    @invariant()
    def both_agree_when_the_wire_is_empty(self) -> None:
        assert self.client.outstanding == len(self.unanswered)
        if self.nothing_is_under_way():
            assert self.hoped is self.state
            assert self.client.state is self.state
            assert self.server.state is self.state


class StrictWireMachine(WireMachine):
    """The same for a server of the strict profile. AUTH alone is nothing there, so it is not sent."""

    profile = Profile.STRICT


TestWire = WireMachine.TestCase
TestStrictWire = StrictWireMachine.TestCase


def test_a_client_knows_nothing_of_what_only_the_default_profile_takes() -> None:
    """D10: the machine above needs one table, for a client never sends what strict refuses."""
    client = Pop3Connection(Role.CLIENT)
    client.receive_data(b"+OK hi\r\n+OK\r\n")
    client.next_event()
    client.send(Apop("a", bytes(16)))
    client.next_event()
    assert client.state is State.TRANSACTION
    assert set(LENIENT) == {"Utf8"}
    with pytest.raises(LocalProtocolError):
        client.send(Utf8())
