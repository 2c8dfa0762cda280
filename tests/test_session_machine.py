"""Core, session and memory backend against a plain model: any commands, any chunks, two clients at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.sasl import scram

from .driving import CountingGate, Dialogue
from .model import GOOD, ModelSession, ModelStore
from .sansio.strategies import cut, cuts, messages

numbers = st.integers(0, 5).map(str)
mailbox_commands = st.one_of(
    st.tuples(st.sampled_from(["DELE", "RETR", "LIST", "UIDL"]), numbers),
    st.tuples(st.sampled_from(["STAT", "NOOP", "RSET", "LIST", "UIDL", "CAPA", "UTF8", "LANG"])),
    st.tuples(st.just("LANG"), st.sampled_from(["de", "de-AT", "*", "xx"])),
    st.tuples(st.just("TOP"), numbers, st.integers(0, 3).map(str)),
)
commands = st.one_of(
    st.tuples(st.just("USER"), st.sampled_from(["alice", "nobody"])),
    st.tuples(st.just("PASS"), st.sampled_from(["secret", "wrong"])),
    st.tuples(st.just("AUTH")),
    st.tuples(st.just("AUTH"), st.just("PLAIN")),
    st.tuples(st.just("AUTH"), st.just("PLAIN"), st.sampled_from([GOOD, "AGFsaWNlAHdyb25n", "="])),
    mailbox_commands,
)
# Lines that are none, or are refused here wherever they stand; some of them are base64.
malformed = st.sampled_from([
    b"", b"RETR", b"RETR x", b"QUIT x", b"STAT x", b"XYZZY", b"\xff\0", b"x" * 700, b"*", b"=", GOOD.encode(),
    b"AUTH NTLM", b"AUTH PLAIN !", b"AUTH SCRAM-SHA-1 =", b"STLS", b"XCLIENT ADDR=192.0.2.1", b"LAST",
    b"APOP alice c4c9334bac560ecc979e58001b3e22fb",
])  # fmt: skip
login = [("USER", "alice"), ("PASS", "secret")]
NOTHING = {"en": b"+OK nothing done\r\n", "de": b"+OK nichts zu tun\r\n"}
# A command in words, or a line that is none.
Script: TypeAlias = Sequence[tuple[str, ...] | bytes]
clients = st.integers(0, 1)
users = st.sampled_from(["alice", "alice", "nobody"])
passwords = st.sampled_from(["secret", "secret", "wrong"])


class Records(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


class SessionMachine(RuleBasedStateMachine):
    """Whatever two clients do, each sees what the model says, and the store holds what the model holds.

    A1-A5, A14, B1, B2, C1-C5, D1-D5, D7, D8, D10, E1-E7, E9, E10, F1-F3, F5, F7, H1, H2, H4, I4, I10; R1939-21..64,
    R2449-09, R5034-01, R5034-05, R5034-06, R5034-15, R5034-30, R5034-36, R4422-07, R6856-20, R6856-24, R6856-25,
    R2595-04, RXCL-01.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.backend.add_user("alice", "secret")
        self.store = ModelStore()
        self.gate = CountingGate()
        self.logged = Records()
        logging.getLogger("trio_pop3").addHandler(self.logged)
        self.real: list[Dialogue] = []
        self.model: list[ModelSession] = []
        for _ in range(2):
            self.real.append(self.dial())
            self.model.append(ModelSession(self.store))

    def teardown(self) -> None:
        logging.getLogger("trio_pop3").removeHandler(self.logged)

    def dial(self) -> Dialogue:
        return Dialogue(self.backend, gate=self.gate, max_bad_commands=None, max_auth_failures=None)

    @initialize(mail=st.lists(messages, min_size=1, max_size=4))
    def fill(self, mail: list[bytes]) -> None:
        for message in mail:
            self.deliver(message)

    @rule(message=messages)
    def deliver(self, message: bytes) -> None:
        self.store.mail[self.backend.deliver("alice", message)] = message

    @rule(client=clients, script=st.lists(commands | malformed, min_size=1, max_size=6), places=cuts)
    def talk(self, client: int, script: Script, places: list[int]) -> None:
        """Pipelined commands and nonsense, in any pieces."""
        lines = [item if isinstance(item, bytes) else " ".join(item).encode() for item in script]
        data = b"".join(line + b"\r\n" for line in lines)
        answers = b"".join(self.real[client].send(chunk) for chunk in cut(data, places) if chunk)
        model = self.model[client]
        for item in script:
            if model.state == "over":
                break  # what was sent behind QUIT is not even read
            if model.state == "authenticating":
                # Every line is a response here, even QUIT.
                ok = model.response(item if isinstance(item, bytes) else " ".join(item).encode())
                status, _, answers = answers.partition(b"\r\n")
                assert status.startswith(b"+OK " if ok else b"-ERR "), (item, status)
            elif isinstance(item, bytes):
                model.malformed()
                status, _, answers = answers.partition(b"\r\n")
                assert status.startswith(b"-ERR "), (item, status)
            else:
                answers = self.compare(item, *model.command(*item), answers)
        assert answers == b""
        if model.state == "over":
            self.again(client)

    @rule(client=clients, user=users, password=passwords, initial=st.booleans())
    def prove(self, client: int, user: str, password: str, initial: bool) -> None:
        """SCRAM, where each line depends on the one before."""
        model = self.model[client]
        reply = self.real[client].auth("SCRAM-SHA-256", scram(user, password), initial=initial)
        if model.state == "authenticating":
            model.response(b"AUTH")
        else:
            model.malformed()
            assert reply.startswith(b"+OK ") == model.authenticated(user, password)

    @rule(client=clients, script=st.lists(mailbox_commands, max_size=6), places=cuts)
    def log_in(self, client: int, script: list[tuple[str, ...]], places: list[int]) -> None:
        """Most of the interesting things are behind a login."""
        self.talk(client, [*login, *script], places)

    @precondition(lambda self: self.store.holder is not None)
    @rule(script=st.lists(mailbox_commands, min_size=1, max_size=6), places=cuts)
    def work(self, script: list[tuple[str, ...]], places: list[int]) -> None:
        """Whoever is logged in does something."""
        holder = next(client for client in (0, 1) if self.store.holder is self.model[client])
        self.talk(holder, script, places)

    @rule(
        client=clients,
        before=st.lists(mailbox_commands | malformed, max_size=4),
        behind=st.lists(commands, max_size=2),
        places=cuts,
    )
    def quit(self, client: int, before: Script, behind: Script, places: list[int]) -> None:
        """With the last commands sent ahead of it, perhaps, and others behind it that are too late."""
        self.talk(client, [*before, ("QUIT",), *behind], places)

    @rule(client=clients, last=st.sampled_from([b"", b"QUIT", b"DELE 1", b"DELE 1\r\nQUI"]))
    def lose(self, client: int, last: bytes) -> None:
        """The line is cut, perhaps in the middle of a word."""
        self.real[client].send(last or b"x")
        self.real[client].send(b"")
        self.model[client].gone()
        self.again(client)

    def again(self, client: int) -> None:
        assert self.real[client].over
        self.real[client] = self.dial()
        self.model[client] = ModelSession(self.store)

    def compare(self, words: tuple[str, ...], ok: bool | None, body: list[bytes] | None, answers: bytes) -> bytes:
        """Check one reply; returns what is left of the answers."""
        status, _, rest = answers.partition(b"\r\n")
        assert status.startswith({True: b"+OK ", False: b"-ERR ", None: b"+ "}[ok]), (words, status)
        assert len(status) <= 510
        if not ok or body is None:
            return rest
        if words[0] == "STAT" or (words[0] in ("LIST", "UIDL") and len(words) == 2):
            assert status == b"+OK " + body[0]
            return rest
        rows, end, rest = (b"\r\n" + rest).partition(b"\r\n.\r\n")
        assert end
        got = [row.removeprefix(b".") for row in rows.split(b"\r\n")[1:]]
        assert got == body, words
        return rest

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        assert self.backend.messages("alice") == self.store.mail

    @invariant()
    def nothing_went_wrong_inside(self) -> None:
        assert self.logged.records == []

    @invariant()
    def whoever_went_through_the_gate_has_come_out(self) -> None:
        assert sum(self.gate.verdicts) >= 0

    @invariant()
    def replies_are_in_the_language_that_was_asked_for(self) -> None:
        for real, model in zip(self.real, self.model, strict=True):
            if model.state == "transaction":
                assert (
                    real.ask("NOOP") == {"en": b"+OK nothing done\r\n", "de": b"+OK nichts zu tun\r\n"}[model.language]
                )

    @invariant()
    def the_lock_is_held_by_whom_the_model_says(self) -> None:
        assert self.backend.locked("alice") == (self.store.holder is not None)

    @precondition(lambda self: any(model.state == "transaction" for model in self.model))
    @invariant()
    def stat_is_the_sum_of_list(self) -> None:
        for real, model in zip(self.real, self.model, strict=True):
            if model.state == "transaction":
                sizes = [int(row.split()[1]) for row in real.ask("LIST").split(b"\r\n")[1:-2]]
                assert real.ask("STAT") == f"+OK {len(sizes)} {sum(sizes)}\r\n".encode()


TestSession = SessionMachine.TestCase
