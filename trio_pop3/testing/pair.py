"""Our client and our server on a wire that cuts anywhere, against a table of states written by hand.

Needs Hypothesis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from trio_pop3 import sansio as io
from trio_pop3.sansio import NEED_DATA, PAUSED, LocalProtocolError, Pop3Connection, Profile, Role, Shape, State

from . import strategies as ours
from .judge import Mismatch, judged, must
from .model import canonical
from .running import JudgedMachine

_A, _AU, _AS, _AT = State.AUTHORIZATION, State.USER_GIVEN, State.AUTHENTICATING, State.TLS_PENDING
_T, _X = State.TRANSACTION, State.CLOSED

Steps: TypeAlias = Mapping[State, tuple[State | None, State]]

# What a client may send where, by the RFCs and by hand: command -> {state: (after +OK, after -ERR)}. What is not here
# is not allowed. None: there is no +OK to it.
STEPS: Final[Mapping[type[io.Command], Steps]] = MappingProxyType(
    {
        io.User: {_A: (_AU, _A)},
        io.Pass: {_AU: (_T, _A)},
        io.Apop: {_A: (_T, _A)},
        io.Auth: {_A: (_T, _A), _AU: (_T, _A)},  # a challenge leads to AUTHENTICATING
        io.AuthList: {_A: (_A, _A), _AU: (_A, _A)},
        io.SaslResponse: {_AS: (_T, _A)},  # a challenge stays there
        io.SaslCancel: {_AS: (None, _A)},
        io.Stls: {_A: (_AT, _A), _AU: (_AT, _A)},
        io.Capa: {_A: (_A, _A), _AU: (_AU, _AU), _T: (_T, _T)},
        io.Utf8: {_A: (_A, _A), _AU: (_AU, _AU)},
        io.Lang: {_A: (_A, _A), _AU: (_AU, _AU), _T: (_T, _T)},
        io.Xclient: {_A: (_A, _A), _AU: (_A, _A)},
        io.Stat: {_T: (_T, _T)},
        io.List: {_T: (_T, _T)},
        io.Retr: {_T: (_T, _T)},
        io.Dele: {_T: (_T, _T)},
        io.Noop: {_T: (_T, _T)},
        io.Rset: {_T: (_T, _T)},
        io.Top: {_T: (_T, _T)},
        io.Uidl: {_T: (_T, _T)},
        io.Quit: {_A: (_X, _X), _AU: (_X, _X), _T: (_X, _X)},
    }
)
# Nothing may be sent behind these until they are answered.
WAITS: Final[frozenset[type[io.Command]]] = frozenset({io.Auth, io.SaslResponse, io.SaslCancel, io.Stls})

_octets = st.binary(max_size=40)
_numbers = st.integers(0, 10**10 - 1)
_auths = st.builds(io.Auth, st.sampled_from(["PLAIN", "SCRAM-SHA-256-PLUS"]), st.none() | _octets)
_logins = st.one_of(
    st.builds(io.User, st.sampled_from(["alice", "bob", "J\u00fcrgen"])),
    st.builds(io.Pass, st.sampled_from([b"secret", b" two  spaces "])),
    st.builds(io.Apop, st.just("alice"), st.binary(min_size=16, max_size=16)),
    _auths,
)
_responses = st.builds(io.SaslResponse, _octets) | st.just(io.SaslCancel())
_commands = st.one_of(
    _logins,
    _responses,
    st.sampled_from([io.Capa(), io.AuthList(), io.Stls(), io.Utf8(), io.Lang(), io.Lang("de"), io.Lang("*")]),
    st.just(io.Xclient((("ADDR", "192.0.2.1"),))),
    st.sampled_from([io.Stat(), io.List(), io.Uidl(), io.Noop(), io.Rset()]),
    st.builds(io.List, _numbers)
    | st.builds(io.Uidl, _numbers)
    | st.builds(io.Retr, _numbers)
    | st.builds(io.Dele, _numbers),
    st.builds(io.Top, _numbers, st.integers(0, 99)),
)
_ONE_OF_EACH: Final[tuple[io.Command, ...]] = (
    io.User("alice"), io.Pass(b"secret"), io.Apop("alice", bytes(16)), io.Auth("PLAIN"), io.Auth("PLAIN", b"\0a\0b"),
    io.AuthList(), io.SaslResponse(b""), io.SaslResponse(b"\0a\0b"), io.SaslCancel(), io.Stls(), io.Capa(), io.Utf8(),
    io.Lang(), io.Lang("de"), io.Xclient((("ADDR", "192.0.2.1"),)), io.Stat(), io.List(), io.List(1), io.Retr(1),
    io.Dele(1), io.Noop(), io.Rset(), io.Top(1, 0), io.Uidl(),
)  # fmt: skip
# +OK or -ERR, a challenge instead where one can be, a body where one is due, and how many octets of it at a time.
_Answers: TypeAlias = tuple[bool, bytes | None, bytes, int]
_answers = st.tuples(st.booleans(), st.none() | _octets, ours.messages(huge=False), ours.sizes)
_amounts = st.integers(1, 40)
_CLEAR: Final = (b"QUIT\r\n", b"USER eve\r\n", b"AUTH PLAIN\r\nAGEA", b"US", b"\r\n", b"\x16\x03\x01")
_BAD_BASE64: Final = (
    b"=",
    b"=AAA",
    b"AAA=BBB",
    b"AAAA=",
    b"AB==",
    b"A",
    b"AA",
    b"QUI",
    b"Q U I T",
    b"!",
    b"\xff",
    b" ",
)
_BEFORE_LOGIN: Final = (State.AUTHORIZATION, State.USER_GIVEN)
_NOT_LISTENING: Final = (State.CLOSED, State.AUTHENTICATING, State.TLS_PENDING)


def steps(state: State, command: io.Command) -> tuple[State | None, State] | None:
    """Where a command leads, by the table; None if it is not allowed."""
    return STEPS[type(command)].get(state)


def _bad(event: object) -> io.BadCommand:
    """An event that must be a line that is no command."""
    if not isinstance(event, io.BadCommand):
        raise Mismatch(f"the line is no command, and was read as {event}")
    return event


def _refused(connection: Pop3Connection, event: io.Event) -> None:
    """An event that may not be sent now is refused, and changes nothing."""
    before = connection.state
    try:
        connection.send(event)
    except LocalProtocolError:
        must(connection.state is before, f"{event} was refused, and the state is another")
        return
    raise Mismatch(f"{event} may not be sent in the state {before.value}, and could be")


class PairMachine(JudgedMachine):
    """What the client sends is what the server gets, what the server answers is what the client sees, states agree.

    Any commands, legal or not, one at a time or many ahead; any answers; any pieces on the way; nonsense from others,
    and octets that somebody puts behind STLS. States are those of `STEPS`.
    """

    profile: ClassVar[Profile] = Profile.DEFAULT

    def __init__(self) -> None:
        super().__init__()
        self.client = Pop3Connection(Role.CLIENT, utf8_user=True)
        self.server = Pop3Connection(Role.SERVER, utf8_user=True, profile=self.profile)
        self.to_server, self.to_client = b"", self.server.send(io.Greeting("hi"))
        self.sent: deque[io.Command] = deque()  # not yet read by the server
        self.unanswered: deque[io.Command] = deque()  # of which the client has not seen the end
        self.seen: deque[io.Event] = deque()  # what the client has still to see
        self.hoped = self.state = State.GREETING  # where the client will be if all goes well; where the server is
        self.seen.append(io.Greeting("hi"))
        self.injected = 0  # octets that somebody put behind STLS since TLS was last up
        self.discarded = 0  # all of them

    # --- the client ------------------------------------------------------------------------------------------------

    def send(self, command: io.Command) -> None:
        """The client sends a command, if it may; if not, it must be refused."""
        where = steps(self.hoped, command)
        waits = bool(self.unanswered) and type(self.unanswered[-1]) in WAITS
        if where is None or waits or (isinstance(command, io.AuthList) and self.profile is Profile.STRICT):
            if where is None or waits:
                _refused(self.client, command)
            return
        self.to_server += self.client.send(command)
        self.sent.append(command)
        self.unanswered.append(command)
        self.hoped = where[0] or where[1]

    @rule(command=_commands)
    @judged
    def client_sends(self, command: io.Command) -> None:
        self.send(command)

    @rule(command=_logins)
    @judged
    def client_logs_in(self, command: io.Command) -> None:
        self.send(command)

    @precondition(lambda self: self.hoped is State.AUTHENTICATING)
    @rule(command=_responses)
    @judged
    def client_responds(self, command: io.Command) -> None:
        self.send(command)

    @precondition(lambda self: self.hoped in _BEFORE_LOGIN)
    @rule()
    @judged
    def client_wants_tls(self) -> None:
        self.send(io.Stls())

    @precondition(lambda self: self.state is not State.CLOSED)
    @rule(turns=st.lists(st.tuples(st.integers(0, 99), _answers), min_size=1, max_size=8))
    @judged
    def a_dialogue(self, turns: list[tuple[int, _Answers]]) -> None:
        """The way from state to state, which single octets and chance would take too long to find."""
        for choice, answers in turns:
            if self.state is State.TLS_PENDING and not self.unanswered:
                self.tls_starts()
            if allowed := [command for command in _ONE_OF_EACH if steps(self.hoped, command)]:
                self.send(allowed[choice % len(allowed)])
            self.everything_is_answered(answers)

    @precondition(lambda self: self.hoped in _BEFORE_LOGIN)
    @rule(command=_auths, rounds=st.lists(st.tuples(_octets, _responses), min_size=1, max_size=3), answers=_answers)
    @judged
    def an_exchange(self, command: io.Command, rounds: list[tuple[bytes, io.Command]], answers: _Answers) -> None:
        self.everything_is_answered(answers)
        for challenge, response in rounds:
            self.send(command)
            self.everything_is_answered((True, challenge, b"", 0))
            command = response
        self.send(command)
        self.everything_is_answered(answers)

    @precondition(lambda self: self.hoped is State.TRANSACTION)
    @rule(several=st.lists(_commands, min_size=1, max_size=5))
    @judged
    def client_pipelines(self, several: list[io.Command]) -> None:
        for command in several:
            self.send(command)

    @precondition(lambda self: self.hoped not in (State.AUTHORIZATION, State.CLOSED))
    @rule(sure=st.integers(0, 4))
    @judged
    def client_quits(self, sure: int) -> None:
        """Seldom, and seldom at once: nothing comes after it."""
        if sure == 4:
            self.send(io.Quit())

    # --- the server ------------------------------------------------------------------------------------------------

    @rule(answers=_answers)
    @judged
    def server_answers(self, answers: _Answers) -> None:
        """The next command, if one is there whole."""
        ok, challenge, body, size = answers
        event = self.server.next_event()
        if not isinstance(event, io.Event):
            must(event is (PAUSED if self.state is State.TLS_PENDING else NEED_DATA), f"the server says {event}")
            return
        must(self.server.next_event() is PAUSED, "a second command was handed out before the first was answered")
        expected = self.sent.popleft()
        where = steps(self.state, expected)
        if where is None:
            # Sent ahead on a login that failed.
            self.reply(_bad(event).reply)
            self.state = State.AUTHORIZATION if self.state is State.USER_GIVEN else self.state
            return
        must(event == expected, f"{expected} was sent, the server reads {event}")
        if challenge is not None:
            if isinstance(expected, io.Auth | io.SaslResponse):
                self.reply(io.Challenge(challenge))
                self.state = State.AUTHENTICATING
                return
            _refused(self.server, io.Challenge(challenge))
        # What was put behind STLS would be read as commands after a refusal: that is another story.
        ok = ok or bool(self.injected and isinstance(expected, io.Stls))
        if ok and where[0] is None:
            _refused(self.server, io.Ok("fine"))
            ok = False
        self.reply(io.Ok("fine") if ok else io.Err("no", io.ResponseCode.SYS_TEMP))
        if ok and io.shape_of(expected) is not Shape.SINGLE:
            whole = io.shape_of(expected) is Shape.MESSAGE
            for chunk in ours.cut(body, size):
                self.to_client += self.server.send(io.Data(chunk))
            self.to_client += self.server.send(io.EndOfBody(len(canonical(body)) if body or whole else 0))
            self.seen += [io.Data(canonical(body)) if body or whole else io.Data(b""), io.EndOfBody()]
        self.state = where[0] if ok and where[0] else where[1]

    def reply(self, reply: io.Ok | io.Err | io.Challenge) -> None:
        self.to_client += self.server.send(reply)
        self.seen.append(reply)

    # --- others ----------------------------------------------------------------------------------------------------

    def nobody_speaks(self) -> bool:
        """Whether a line from somebody else would be the next that the server reads, as a command."""
        return not self.sent and not self.to_server and self.state not in _NOT_LISTENING

    def response_is_due(self) -> bool:
        """Whether the server waits for the client's line in a SASL exchange."""
        return self.state is self.hoped is State.AUTHENTICATING and not self.unanswered

    @precondition(nobody_speaks)
    @rule(line=ours.malformed_lines())
    def somebody_sends_nonsense(self, line: bytes) -> None:
        self.nonsense(line)

    @precondition(response_is_due)
    @rule(line=st.sampled_from(_BAD_BASE64))
    def the_response_is_no_base64(self, line: bytes) -> None:
        self.bad_response(line)

    @judged
    def nonsense(self, line: bytes) -> None:
        """A line that no client of ours would send; its answer is not for our client."""
        if self.server.next_event() is not NEED_DATA or self.hoped is not self.state:
            return
        self.server.receive_data(line + b"\r\n")
        answer = self.server.send(_bad(self.server.next_event()).reply)
        must(answer.startswith(b"-ERR "), f"{line!r} is answered {answer!r}")
        if self.state is State.USER_GIVEN:
            # The server forgot the user; let the client know, as its own mistake would.
            self.state = State.AUTHORIZATION
            self.send(io.Pass(b"late"))

    @judged
    def bad_response(self, line: bytes) -> None:
        """As if the client had sent it: one -ERR, and the exchange is over for both."""
        self.send(io.SaslResponse(b""))
        must(self.to_server == b"\r\n", f"a response of no octets is sent as {self.to_server!r}")
        self.to_server = b""
        self.sent.clear()
        self.server.receive_data(line + b"\r\n")
        self.reply(_bad(self.server.next_event()).reply)
        self.state = State.AUTHORIZATION

    @precondition(lambda self: bool(self.unanswered) and isinstance(self.unanswered[-1], io.Stls))
    @rule(data=st.sampled_from(_CLEAR))
    @judged
    def somebody_puts_octets_behind_stls(self, data: bytes) -> None:
        """In clear, while our client waits. If the server has refused already they would be commands: not then."""
        if self.sent or self.state is State.TLS_PENDING:
            self.to_server += data
            self.injected += len(data)

    @precondition(lambda self: self.hoped in _BEFORE_LOGIN and self.nothing_is_under_way())
    @rule(data=st.sampled_from(_CLEAR), answers=_answers)
    @judged
    def an_upgrade(self, data: bytes, answers: _Answers) -> None:
        """STLS, with somebody on the line, from its beginning to its end."""
        self.send(io.Stls())
        self.somebody_puts_octets_behind_stls(data)
        self.everything_is_answered(answers)
        self.tls_starts()

    @precondition(lambda self: self.state is State.TLS_PENDING and not self.unanswered)
    @rule()
    @judged
    def tls_starts(self) -> None:
        """Both saw the +OK. Whatever is on its way in clear arrives before the handshake."""
        self.octets_reach_the_server(len(self.to_server))
        must(self.server.next_event() is self.client.next_event() is PAUSED, "something was read before TLS was up")
        self.client.tls_started()
        self.server.tls_started()
        self.discarded += self.injected
        self.injected = 0
        must(self.server.discarded == self.discarded, "octets sent in clear behind STLS were not thrown away")
        must(self.server.next_event() is NEED_DATA, "a command sent in clear behind STLS was read")
        must(self.client.next_event() is NEED_DATA, "a reply sent in clear was read")
        self.hoped = self.state = State.AUTHORIZATION

    # --- the wire --------------------------------------------------------------------------------------------------

    @rule(amount=_amounts)
    @judged
    def octets_reach_the_server(self, amount: int) -> None:
        data, self.to_server = self.to_server[:amount], self.to_server[amount:]
        if data:
            self.transcript.add("C", data)
            self.server.receive_data(data)

    @rule(amount=_amounts)
    @judged
    def octets_reach_the_client(self, amount: int) -> None:
        data, self.to_client = self.to_client[:amount], self.to_client[amount:]
        if data:
            self.transcript.add("S", data)
            self.client.receive_data(data)
        self.look()

    @rule()
    @judged
    def everything_arrives(self) -> None:
        self.octets_reach_the_server(len(self.to_server) or 1)
        self.octets_reach_the_client(len(self.to_client) or 1)

    @rule(answers=_answers)
    @judged
    def everything_is_answered(self, answers: _Answers) -> None:
        self.octets_reach_the_client(len(self.to_client) or 1)
        self.octets_reach_the_server(len(self.to_server) or 1)
        while self.sent:
            self.server_answers(answers)
        self.octets_reach_the_client(len(self.to_client) or 1)

    def look(self) -> None:
        """Compare what the client sees with what is to be seen; pieces of a body are matched as they come."""
        while isinstance(event := self.client.next_event(), io.Event):
            expected = self.seen.popleft()
            while expected == io.Data(b""):
                expected = self.seen.popleft()
            if isinstance(event, io.Data):
                must(isinstance(expected, io.Data), f"{expected} was due, the client sees {event}")
                assert isinstance(expected, io.Data)
                must(expected.data.startswith(event.data), f"{event} is no part of {expected}")
                self.seen.appendleft(io.Data(expected.data[len(event.data) :]))
                continue
            must(event == expected, f"{expected} was sent, the client sees {event}")
            if isinstance(event, io.Greeting):
                self.hoped = self.state = State.AUTHORIZATION
            elif not (isinstance(event, io.Ok) and io.shape_of(self.unanswered[0]) is not Shape.SINGLE):
                self.unanswered.popleft()
                if isinstance(event, io.Challenge):
                    self.hoped = State.AUTHENTICATING
        must(event is (PAUSED if self.client.state is State.TLS_PENDING else NEED_DATA), f"the client says {event}")
        if self.nothing_is_under_way():
            self.hoped = self.state

    def nothing_is_under_way(self) -> bool:
        return not (self.to_client or self.sent or self.unanswered or self.state is State.GREETING)

    @invariant()
    @judged
    def both_agree_when_the_wire_is_empty(self) -> None:
        must(self.client.outstanding == len(self.unanswered), "the client counts other commands under way")
        if self.nothing_is_under_way():
            states = {self.hoped, self.state, self.client.state, self.server.state}
            must(len(states) == 1, f"the two do not agree on the state: {self.client.state}, {self.server.state}")
