"""State machines that talk to a server and compare every answer with the model. Needs Hypothesis.

TestMyBackend = machine_for(make_backend).TestCase          # in a test file: pytest runs it
run_machine(machine_for_server(dial, "u", "p"), seed=1)     # in a program
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from typing import ClassVar, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from trio_pop3 import Profile

from . import strategies as ours
from .bench import MakeBench
from .dialect import ANY, Dialect
from .judge import Mismatch
from .model import ModelMaildrop, ModelSession
from .running import JudgedMachine
from .talk import Closed, Talk
from .transcript import octets
from .wire import Wire
from .worlds import DIALECTS, BenchWorld, ServerWorld, World, patient_login


@dataclass(slots=True)
class _Client:
    talk: Talk
    model: ModelSession
    refused: bool = False  # whether the last line was


class SessionMachine(JudgedMachine):
    """Whatever clients do, each sees what the model says, and the store holds what the model holds.

    `machine_for` and `machine_for_server` make subclasses of it. Add rules in a subclass of those; `say` sends lines
    and judges the answers.
    """

    make_world: ClassVar[Callable[[], World]]

    def __init__(self) -> None:
        super().__init__()
        self.world: Final = type(self).make_world()
        self.transcript.hide = self.world.secrets
        self.clients: Final[dict[int, _Client]] = {}
        self.commit_fails = False

    def teardown(self) -> None:
        """What is left is what the model says is left (P1)."""
        try:
            if not self.failed:
                with self.judging():
                    for user in self.world.users:
                        self.lose_all()
                        self.look(user)
        finally:
            self.lose_all()
            self.world.close()

    # --- doing -----------------------------------------------------------------------------------------------------

    def deliver(self, user: str, message: bytes) -> None:
        """A message arrives."""
        with self.judging():
            if self.world.deliver(user, message):
                self.transcript.add("D", message, user=user if len(self.world.users) > 1 else "")
                self.world.store[user].deliver(message)

    def say(self, number: int, lines: Sequence[bytes], size: int = 0) -> None:
        """A client says these lines, pipelined if the server can take that, in pieces of so many octets."""
        with self.judging():
            client = self.client(number)
            for batch in [lines] if self.world.dialect.pipelining else [[line] for line in lines]:
                if client.model.state == "over":
                    break
                for chunk in ours.cut(b"".join(line + b"\r\n" for line in batch), size):
                    client.talk.send_octets(chunk)
                for line in self.world.dialect.as_read(batch):
                    if client.model.state == "over":
                        break  # what was sent behind QUIT is not even read
                    self._judge(client, line)
            if client.model.state == "over":
                self._hang_up(number)

    def lose(self, number: int, last: bytes) -> None:
        """The line is cut, perhaps in the middle of a word; what was said last may be read, and is not answered."""
        with self.judging():
            client = self.client(number)
            client.talk.send_octets(last)
            self._hang_up(number)

    def quit(self, number: int, lines: Sequence[bytes], size: int, *, store_fails: bool) -> None:
        """A client says its last lines, perhaps while the store cannot remove messages."""
        with self.judging():
            maildrop = self.client(number).model.maildrop
            with self.world.failing() if store_fails else nullcontext(False) as self.commit_fails:
                self.say(number, lines, size)
            self.commit_fails = False
            for user in self.world.users:
                if store_fails and self.world.store[user] is maildrop:
                    self.look(user)

    def restart(self, *, crash: bool) -> None:
        """The server is stopped, or killed, and started again; all connections are gone."""
        with self.judging():
            if not crash:
                self.lose_all()
            if self.world.again(crash=crash):
                for client in self.clients.values():
                    client.model.gone()
                self.clients.clear()

    def look(self, user: str) -> None:
        """Log in afresh, and compare all there is. Settles what became of messages that a QUIT could not remove."""
        maildrop = self.world.store[user]
        world, number = self.world, max(self.clients, default=0) + 1
        # Closed also if something is wrong with it: a session that stays open holds the lock for the next example.
        with closing(
            patient_login(world.dial, user, world.users[user], self.transcript, number, patience=world.patience)
        ) as talk:
            seen = [talk.ask(b"RETR %d" % n, multiline=True).body for n in range(1, self._count(talk) + 1)]
            uids = [line.partition(b" ")[2] for line in talk.ask(b"UIDL", multiline=True).lines or ()]
            _settle(maildrop, seen, uids if "UIDL" in self.world.dialect.verbs else None)
            self.world.leave(talk)

    def _count(self, talk: Talk) -> int:
        return len(talk.ask(b"LIST", multiline=True).lines or ())

    def client(self, number: int) -> _Client:
        """A client that is connected."""
        if number not in self.clients:
            with ExitStack() as stack:
                talk = stack.enter_context(closing(Talk(self.world.dial(), self.transcript, number)))
                if not talk.reply().ok:
                    raise Mismatch("the greeting is not +OK")
                stack.pop_all()
            model = ModelSession(self.world.store, self.world.users, self.world.dialect, lambda: self.commit_fails)
            self.clients[number] = _Client(talk, model)
        return self.clients[number]

    def lose_all(self) -> None:
        for number in list(self.clients):
            self._hang_up(number)

    def _hang_up(self, number: int) -> None:
        client = self.clients.pop(number)
        self._gone(client)
        client.talk.close()

    def _gone(self, client: _Client) -> None:
        if client.model.state == "transaction":
            self.world.dropped()
        client.model.gone()

    def _judge(self, client: _Client, line: bytes) -> None:
        """Read one reply and compare it."""
        expected = client.model.expect(line)
        try:
            reply = client.talk.reply(multiline=expected.multiline)
        except Closed:
            # One that has had enough of bad lines does not read what was sent behind them.
            if not (self.world.dialect.may_close and (client.refused or not expected.ok)):
                raise
            self._gone(client)
            return
        if (reply.ok is None) != expected.challenge:
            raise Mismatch(f"{line!r} is not to be answered with {reply.text!r}")
        if reply.ok is not None:
            if expected.ok and not reply.ok and self._was_the_last(client):
                self._gone(client)
                return
            if expected.ok is not None and reply.ok != expected.ok:
                raise Mismatch(f"{line!r} must be answered {'+OK' if expected.ok else '-ERR'}")
            if reply.ok:
                expected.check(reply)
        client.refused = reply.ok is False
        expected.then(bool(reply.ok))
        if client.model.state == "over":
            client.talk.expect_end()

    def _was_the_last(self, client: _Client) -> bool:
        """Whether a refusal says that the server has had enough of bad lines: it closes behind it."""
        if not (self.world.dialect.may_close and client.refused):
            return False
        with suppress(AssertionError):
            client.talk.expect_end()
            return True
        return False

    @property
    def holders(self) -> list[int]:
        """The clients that are logged in."""
        return [number for number, client in self.clients.items() if client.model.state == "transaction"]

    # --- always ----------------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        """Every reply was read, so that the next one is that to LIST; and it says what the model says (P2).

        What was asked here is not in the transcript, unless it is what fails.
        """
        with self.judging():
            for number in self.holders:
                client, said = self.clients[number], len(self.transcript.entries)
                for line in (b"STAT", b"LIST"):
                    client.talk.send(line)
                    self._judge(client, line)
                del self.transcript.entries[said:]


def _settle(maildrop: ModelMaildrop, seen: Sequence[bytes], uids: Sequence[bytes] | None) -> None:
    """What is there is all that must be there, in order; of the doubtful ones, any may be gone."""
    rest = list(enumerate(seen))
    kept = []
    for message in maildrop.messages:
        same = rest and rest[0][1] == message.octets
        if same and uids is not None and message.uid is not None:
            same = uids[rest[0][0]] == message.uid
        if same:
            number, _ = rest.pop(0)
            kept.append(message)
            if uids is not None:
                maildrop.learn(message, uids[number])
        elif message not in maildrop.doubtful:
            if uids is not None and rest and rest[0][1] == message.octets:
                maildrop.learn(message, uids[rest[0][0]])  # says what is wrong with it
            raise Mismatch(f"a message that nobody removed is not there as it was: {message.octets!r}")
    if rest:
        raise Mismatch(f"message {rest[0][0] + 1} should not be there: {rest[0][1]!r}")
    maildrop.messages, maildrop.doubtful = kept, []


def machine_for(make_backend: MakeBench, *, profile: Profile = Profile.DEFAULT) -> type[SessionMachine]:
    """A machine that tries core, session and a backend against the model.

    Args:
        make_backend: makes a `Bench` (or an awaitable of one): a backend whose maildrops are empty, and how to deliver.
        profile: how strictly commands are read.
    """

    class BackendMachine(SessionMachine):
        @staticmethod
        def make_world() -> World:
            return BenchWorld(make_backend, profile)

    users = list(_users_of(make_backend).items())
    return _with_rules(BackendMachine, users, DIALECTS[profile], clients=3, delivers=True, removes=True)


def _users_of(make_backend: MakeBench) -> dict[str, str]:
    world = BenchWorld(make_backend, Profile.DEFAULT)
    try:
        return dict(world.users)
    finally:
        world.close()


def machine_for_server(
    dial: Callable[[], Wire],
    user: str,
    password: str,
    *,
    deliver: Callable[[bytes], object] | None = None,
    reset: Callable[[], object] | None = None,
    destructive: bool = False,
    dialect: Dialect = ANY,
) -> type[SessionMachine]:
    """A machine that tries any server against the model, on the maildrop of one user, with one client at a time.

    What is in the maildrop is looked at first, and must not be changed by others meanwhile. Raises Violation if
    something is wrong then already, ValueError if this cannot work with the server: more than 50 messages, or no USER.

    The password is in no transcript and no finding. Under pytest, Hypothesis prints what it has drawn, the password
    among it: where that matters, use `run_machine`.

    Args:
        dial: makes a connection: `lambda: SocketWire("127.0.0.1", 110)`.
        user, password: whose maildrop it is. At most 50 messages.
        deliver: puts a message into it, if there is a way.
        reset: called before each example; puts the maildrop back, so that there is always something to delete.
        destructive: whether messages may be deleted. If not, no DELE is sent, and QUIT by no session that has
            retrieved something: there are servers that remove that (RFC 2449 section 6.7).
        dialect: what the server does where the RFCs leave room; CAPA is asked for the rest.
    """

    class ServerMachine(SessionMachine):
        @staticmethod
        def make_world() -> World:
            return ServerWorld(
                dial, user, password, deliver=deliver, reset=reset, destructive=destructive, dialect=dialect
            )

    known = ServerMachine.make_world().dialect
    return _with_rules(
        ServerMachine, [(user, password)], known, clients=1, delivers=deliver is not None,
        removes=destructive,
    )  # fmt: skip


def _with_rules(
    base: type[SessionMachine],
    users: Sequence[tuple[str, str]],
    dialect: Dialect,
    *,
    clients: int,
    delivers: bool,
    removes: bool,
) -> type[SessionMachine]:
    """The machine with what can be done to this world."""
    numbers = st.integers(1, clients)
    known = [verb for verb in dialect.verbs if removes or ours.harmless(verb.encode())]
    mail = ours.mail_lines(known)
    kinds = [mail, ours.login_lines(users, known), ours.near_lines(), ours.malformed_lines(), ours.hostile_lines()]
    if dialect.bare_lf is not None:
        kinds.append(ours.bare_lines())
    if dialect.verbs >= {"UTF8", "LANG", "STLS"}:
        kinds.append(ours.other_lines())
    anything = st.one_of(kinds).filter(lambda line: removes or ours.harmless(line))
    troubles = ["", "QUIT", "DELE 1", "DELE 1\r\nQUI", "RETR 1", "stop", "kill"]
    if not removes:
        troubles = [trouble for trouble in troubles if ours.harmless(trouble.encode())]
    # The first user's maildrop is the one where things happen.
    often = [users[0], users[0], *users]
    names = st.sampled_from([user for user, _ in often])

    class Machine(base):  # type: ignore[misc, valid-type]
        @initialize(mail=st.lists(st.tuples(names, ours.messages()), max_size=6 if delivers else 0))
        def fill(self, mail: list[tuple[str, bytes]]) -> None:
            for user, message in mail:
                self.deliver(user, message)

        @rule()
        def a_moment_passes(self) -> None:
            """Nothing. Steps that do not matter shrink into the first rule by name, and go: they are small enough."""

        @precondition(lambda self: delivers)
        @rule(user=names, message=ours.messages())
        def mail_arrives(self, user: str, message: bytes) -> None:
            self.deliver(user, message)

        @rule(client=numbers, lines=st.lists(anything, min_size=1, max_size=6), size=ours.sizes)
        def talk(self, client: int, lines: list[bytes], size: int) -> None:
            """Commands and nonsense, in any pieces."""
            self.say(client, lines, size)

        @rule(client=numbers, user=st.sampled_from(often), lines=st.lists(mail, max_size=6), size=ours.sizes)
        def log_in(self, client: int, user: tuple[str, str], lines: list[bytes], size: int) -> None:
            """Most of the interesting things are behind a login."""
            name, password = map(octets, user)
            self.say(client, [b"USER " + name, b"PASS " + password, *lines], size)

        @precondition(lambda self: self.holders)
        @rule(lines=st.lists(mail, min_size=1, max_size=6), size=ours.sizes)
        def work(self, lines: list[bytes], size: int) -> None:
            """Whoever is logged in does something."""
            self.say(self.holders[0], lines, size)

        @precondition(lambda self: self.holders)
        @rule(kept=st.sets(st.integers(1, 6), max_size=2))
        def fetch_all(self, kept: set[int]) -> None:
            """What most clients do: each message is retrieved and deleted; here, all but some."""
            number = self.holders[0]
            numbers = [n for n in self.clients[number].model.left if n not in kept]
            self.say(number, [b"RETR %d" % n for n in numbers])
            if removes:
                self.quit(number, [*(b"DELE %d" % n for n in numbers), b"QUIT"], 0, store_fails=False)

        @precondition(lambda self: removes and self.holders)
        @rule(
            lines=st.lists(mail, max_size=3),
            behind=st.lists(anything, max_size=2),
            size=ours.sizes,
            fails=st.booleans(),
        )
        def leave(self, lines: list[bytes], behind: list[bytes], size: int, fails: bool) -> None:
            """With the last commands sent ahead of it, perhaps, and others behind it that are too late."""
            self.quit(self.holders[0], [*lines, b"QUIT", *behind], size, store_fails=fails)

        @rule(client=numbers, trouble=st.sampled_from(troubles))
        def trouble(self, client: int, trouble: str) -> None:
            """The line is cut, perhaps in the middle of a word; or the server is stopped, or killed, and comes back."""
            if trouble in ("stop", "kill"):
                self.restart(crash=trouble == "kill")
            else:
                self.lose(client, trouble.encode())

    Machine.__name__ = Machine.__qualname__ = base.__name__
    # One bug shows in many ways, and each would be made shorter by itself: minutes, for nothing that is new.
    Machine.TestCase.settings = settings(Machine.TestCase.settings, report_multiple_bugs=False)
    return Machine
