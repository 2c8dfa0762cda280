"""One session seen from outside: what was asked, what was answered, and whether each answer is true.

It has its own idea of POP3, in plain Python and without the core: command lines as the client sent them, replies as the
server writes them, and the calls that the store got in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_pop3 import ClientInfo, PasswordCredentials

from .chronicle import Chronicle, Minutes
from .ledger import Ledger
from .lines import Asked, Framing
from .lines import number as number_in
from .mail import Stored, top

if TYPE_CHECKING:
    from .store import Lock

# What the server is told; all in seconds. The shorter they are, the more happens on a day.
TIMEOUTS: Final[Mapping[str, Any]] = MappingProxyType({
    "login_timeout": 120.0,
    "idle_timeout": 600.0,
    "command_timeout": 60.0,
    "write_timeout": 60.0,
    "commit_timeout": 30.0,
    "drain_timeout": 20.0,
})  # fmt: skip
# Behind a client that is gone: one command's work, one write, and four times what nothing cuts (a message that is
# closed, commit, release, disconnect).
_AFTERLIFE: Final = 60.0 + 60.0 + 4 * 30.0 + 10.0
# What guessing may cost a client that has guessed wrong (docs/design.md); nobody else waits for anything.
MOST_PENALTY: Final = 15.0
_EXACTLY: Final = 1e-6
_SHORTEST: Final = 60.0
_EARLY: Final = 1.1  # a deadline may come a second early
_BEFORE_LOGIN: Final = (b"greeting", b"USER", b"PASS", b"CAPA", b"QUIT")

# Why the store did not do what it was asked -> what the reply must have behind -ERR.
CODES: Final = {
    "wrong": b" [AUTH]",
    "in use": b" [IN-USE]",
    "temporary": b" [SYS/TEMP]",
    "unavailable": b" [SYS/TEMP]",
    "permanent": b" [SYS/PERM]",
    "unexpected": b" [SYS/TEMP]",
    "incomplete": b" [SYS/TEMP]",
    "damaged": b" [SYS/PERM]",
    "cut": b" [SYS/TEMP]",  # by a deadline
}
_COMMAND: Final = re.compile(
    rb"CAPA|STAT|NOOP|RSET|QUIT|(?:LIST|UIDL)(?: \d+)?|(?:RETR|DELE) \d+|TOP \d+ \d+|(?:USER|PASS) [!-~]+"
)
_CODE: Final = re.compile(rb"\+OK|-ERR(?: \[[A-Z/-]+\])?")
_REMAINING: Final = re.compile(rb"-ERR \[SYS/TEMP\] (\d+) deleted messages? not removed")


@dataclass(slots=True)
class Outcome:
    """How a call of the store ended. "cut" until it has."""

    what: str = "cut"


@dataclass(frozen=True, slots=True)
class Told:
    """A whole reply."""

    ok: bool
    line: bytes
    lines: tuple[bytes, ...]  # of its body, without dot-stuffing
    end: int  # octets the server had written when it was whole


class Watch:
    """One session.

    Args:
        number: which of the simulation's.
        user: whose maildrop the client wants.
        host: where the client is.
    """

    def __init__(self, chronicle: Chronicle, ledger: Ledger, number: int, user: str, *, host: str) -> None:
        self.session: Final = f"{number:05d}"
        self.user: Final = user
        self.client: Final = ClientInfo(self.session, host, 4711, "192.0.2.1", 110)
        self.minutes: Final = Minutes(f"session {self.session}, {user} from {host}")
        self.over = trio.Event()  # the server is done with it
        self.connected = False
        self.gone_at: float | None = None  # the client is
        self.excuse: str | None = None  # why the server may end it
        self.crashed = False  # with its instance: nothing more is expected
        # What the store did for it.
        self.greeting = Outcome("done")
        self.logins: Final[list[Outcome]] = []
        self.fetches: Final[list[Outcome]] = []
        self.commit: Outcome | None = None
        self.lock: Lock | None = None
        self.snapshot: tuple[Stored, ...] = ()
        self.may_remove: frozenset[str] = frozenset()
        # What was said.
        self.told_all: Final[list[Told]] = []
        self._chronicle: Final = chronicle
        self._ledger: Final = ledger
        self._asked: Final = Asked()
        self._framing: Final = Framing(self._has_body)
        # The client's state, reply by reply.
        self._answered_logins = self._answered_fetches = 0
        self._transaction = self._ended = False
        self._marked: Final[set[int]] = set()
        self._bad = 0
        self._started = self._moved = self._last = trio.current_time()
        self._busy = False

    def violated(self, invariant: str, text: str) -> None:
        """See `Chronicle.violated`."""
        self._chronicle.violated(invariant, text, self.minutes)

    # --- time: P4 --------------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, *, waits: float = 0.0) -> Iterator[None]:
        """One thing the server's task does with the outside: store or wire. In between no time passes.

        So what a session waits for is its own client and its own calls of the store, and nothing of anybody else's.
        """
        now = trio.current_time()
        if self.over.is_set():
            self.violated("end", "something is done for a session that is over")
        if self._busy:
            self.violated("P4", "two things at a time are done for one session")
        if now - self._last > waits + _EXACTLY and not self.crashed:
            self.violated("P4", f"{now - self._last:.3f} s went by in which it waited for nothing of its own")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._last = trio.current_time()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The server waits for the client, and owes it nothing."""
        owed = 1 + self._asked.read - len(self.told_all)
        if owed and not (self._ended or self.excuse or self.crashed):
            self.violated("P4", f"the server wants to read and owes {owed} replies")
        with self.step():
            yield

    # --- what the client says --------------------------------------------------------------------------------------

    @property
    def asked(self) -> int:
        """Lines the client has sent whole."""
        return len(self._asked.lines)

    def sent(self, data: bytes) -> None:
        """The client sends octets."""
        self._chronicle.said(self.session, self.minutes, "C", data)
        self._asked.sent(data)

    def left(self, how: str) -> None:
        """The client says no more, or is gone."""
        self._chronicle.said(self.session, self.minutes, "C", b"")
        self._chronicle.done(self.session, self.minutes, f"the client {how}")
        self.excuse = self.excuse or how
        if self.gone_at is None:
            self.gone_at = trio.current_time()

    def taken(self, data: bytes) -> None:
        """The server reads octets."""
        self._moved = trio.current_time()
        self._asked.taken(len(data))

    # --- what the store is asked -----------------------------------------------------------------------------------

    def login(self, credentials: object) -> Outcome:
        """`authenticate` is called: with what the client sent, for the next login it sent."""
        outcome = Outcome()
        self.logins.append(outcome)
        sent = self._asked.logins[len(self.logins) - 1] if len(self.logins) <= len(self._asked.logins) else None
        asked = (credentials.user, credentials.password) if isinstance(credentials, PasswordCredentials) else None
        if sent is None or sent[:2] != asked:
            self.violated("P1", "the store is asked for a login that the client did not send")
        return outcome

    def fetch(self, message: Stored) -> Outcome:
        """`retrieve` is called: for the next RETR or TOP that names a message."""
        outcome = Outcome()
        self.fetches.append(outcome)
        _, asked, _ = self._marks()
        wanted = self.snapshot[asked[len(self.fetches) - 1] - 1] if len(self.fetches) <= len(asked) else None
        if wanted is not message:
            self.violated("P2", f"the store is asked for unique-id {message.uid}, and the client did not")
        return outcome

    def committing(self, uids: list[str]) -> Outcome:
        """`commit` is called: once, for a QUIT that was read whole, and for what the client has marked."""
        marked, _, quit_ = self._marks()
        wanted = [self.snapshot[number - 1].uid for number in sorted(marked)]
        if not quit_:
            self.violated("P1", f"a commit of {len(uids)} messages without a QUIT")
        if self.commit is not None:
            self.violated("P1", "a second commit")
        if uids != wanted:
            self.violated("P1", f"a commit of {uids}, and marked are {wanted}")
        self.may_remove = frozenset(wanted if quit_ else ())
        self.commit = Outcome()
        return self.commit

    def _marks(self) -> tuple[set[int], list[int], bool]:
        return self._asked.marks(len(self.logins) - 1, len(self.snapshot))

    def opened(self, messages: tuple[Stored, ...]) -> None:
        """`open` has given a snapshot."""
        self.snapshot = messages
        self._ledger.opened(self, messages)

    # --- what the server says --------------------------------------------------------------------------------------

    def told(self, data: bytes) -> None:
        """The server writes octets: every reply is looked at when it is whole."""
        self._chronicle.said(self.session, self.minutes, "S", data)
        self._moved = trio.current_time()
        for status, body in self._framing.feed(data):
            self._reply(status, body)

    @property
    def _line(self) -> bytes | None:
        """The line that is answered next; None for the greeting."""
        index = len(self.told_all) - 1
        return self._asked.lines[index] if 0 <= index < len(self._asked.lines) else None

    def _has_body(self) -> bool:
        verb, _, rest = (self._line or b"").partition(b" ")
        return verb in (b"CAPA", b"RETR", b"TOP") or (verb in (b"LIST", b"UIDL") and not rest)

    def _reply(self, status: bytes, body: bytes | None) -> None:
        ok = status.startswith(b"+OK")
        if not ok and not status.startswith(b"-ERR"):
            self.violated("P2", f"neither +OK nor -ERR: {status!r}")
        line = b"greeting" if self._line is None else self._line
        verb, _, argument = line.partition(b" ")
        if self._ended or len(self.told_all) > self._asked.read:
            self.violated("P2", f"a reply to nothing: {status!r}")
        known = _COMMAND.fullmatch(line) is not None or line == b"greeting"
        rule = _RULES[verb] if known else Watch._nonsense
        bad = not known or not (self._transaction or verb in _BEFORE_LOGIN)
        self._bad = self._bad + 1 if bad else 0
        code = _CODE.match(status)
        self._chronicle.replies[f"{verb.decode() if known else 'nonsense'} {code[0].decode() if code else ''}"] += 1
        self.told_all.append(Told(ok, status, tuple((body or b"").split(b"\r\n")[:-1]), self._framing.octets))
        rule(self, ok, status, body, argument)
        if self._bad == 10:
            self._over("too many bad commands")

    def _expect(self, ok: bool, status: bytes, outcome: str, good: str = "done") -> bool:
        """Whether a call of the store succeeded; the reply must say the same."""
        if ok is not (outcome == good) or not (ok or status.startswith(b"-ERR" + CODES[outcome])):
            self.violated("P2", f"{status!r} is no reply to a call of the store that ended so: {outcome}")
        return ok

    def _says(self, right: bool, status: bytes, wanted: object) -> None:
        if not right:
            self.violated("P2", f"{status!r}, where it should be {wanted!r}")

    def _greeting(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        if not self._expect(ok, status, self.greeting.what):
            self._over("refused")

    def _user(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._says(ok is not self._transaction, status, "+OK before the login")

    def _pass(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        if self._answered_logins == len(self.logins):
            self.violated("P1", "a login was answered of which the store knows nothing")
            return
        outcome = self.logins[self._answered_logins].what
        self._answered_logins += 1
        self._transaction = self._expect(ok, status, outcome)
        wrong = [login.what for login in self.logins[: self._answered_logins]].count("wrong")
        if outcome == "cut" or wrong == 3:
            self._over("too many failed logins" if wrong else "the store took too long")

    def _capa(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._says(ok and b"UIDL\r\n" in (body or b""), status, "+OK with UIDL")

    def _stat(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        left = [len(message.canonical) for _, message in self._unmarked()]
        self._in_transaction(ok, status, b"+OK %d %d" % (len(left), sum(left)))

    def _list(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._listing(ok, status, body, argument, lambda message: len(message.canonical))

    def _uidl(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._listing(ok, status, body, argument, lambda message: message.uid, invariant="P3")

    def _listing(
        self,
        ok: bool,
        status: bytes,
        body: bytes | None,
        argument: bytes,
        value: Callable[[Stored], Any],
        *,
        invariant: str = "P2",
    ) -> None:
        lines = {number: f"{number} {value(message)}".encode() for number, message in self._unmarked()}
        if not self._transaction:
            self._says(not ok, status, "-ERR")
        elif argument:
            wanted = lines.get(number_in(argument) or 0)
            self._says(ok is (wanted is not None) and (not ok or status == b"+OK " + (wanted or b"")), status, wanted)
        elif not ok or body != b"".join(line + b"\r\n" for line in lines.values()):
            self.violated(
                invariant, f"a listing is {(body or status)[:200]!r}, where it should be {list(lines.values())}"
            )

    def _unmarked(self) -> Iterator[tuple[int, Stored]]:
        for number, message in enumerate(self.snapshot, 1):
            if number not in self._marked:
                yield number, message

    def _in_transaction(self, ok: bool, status: bytes, wanted: bytes) -> None:
        right = status.startswith(wanted) if self._transaction else not ok
        self._says(right, status, wanted if self._transaction else "-ERR")

    def _named(self, argument: bytes) -> int | None:
        """The message a command names, if there is one."""
        number = number_in(argument.partition(b" ")[0])
        there = self._transaction and number is not None and 1 <= number <= len(self.snapshot)
        return number if there and number not in self._marked else None

    def _retr(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._message(ok, status, body, argument, None)

    def _top(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._message(ok, status, body, argument, int(argument.split()[1]))

    def _message(self, ok: bool, status: bytes, body: bytes | None, argument: bytes, lines: int | None) -> None:
        number = self._named(argument)
        if number is None:
            self._says(not ok, status, "-ERR")
            return
        if self._answered_fetches == len(self.fetches):
            self.violated("P2", "a message was answered of which the store knows nothing")
            return
        outcome = self.fetches[self._answered_fetches].what
        self._answered_fetches += 1
        if outcome == "damaged" and lines is not None and ok:
            return  # the end of a message, which TOP need not have read
        if outcome == "cut":
            self._over("the store took too long")
        if not self._expect(ok, status, outcome):
            return
        whole = self.snapshot[number - 1].canonical
        if lines is not None:
            self._says(body == top(whole, lines), status, f"{lines} lines of that message's body")
        elif body != whole:
            self.violated("P2", f"RETR {number} sent {len(body or b'')} octets, and these {len(whole)} are its own")

    def _dele(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        number = self._named(argument)
        self._says(ok is (number is not None), status, "-ERR" if number is None else "+OK")
        if number is not None:
            self._marked.add(number)

    def _noop(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._in_transaction(ok, status, b"+OK")

    def _rset(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._in_transaction(ok, status, b"+OK")
        self._marked.clear()

    def _quit(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._over("QUIT")
        if not self._transaction:
            self._says(ok, status, "+OK")
            return
        uids = [self.snapshot[number - 1].uid for number in self._marked]
        if ok:
            self._ledger.told_removed(self, uids)
        if self.commit is None:
            self.violated("P1", f"QUIT was answered {status!r} without a commit")
            return
        self._expect(ok, status, self.commit.what)
        if match := _REMAINING.fullmatch(status):
            self._ledger.told_remaining(self, uids, int(match[1]))
        elif self.commit.what == "incomplete":
            self.violated("P1", f"{status!r} does not say how many messages remain")
        if self.lock is not None and self.lock.expires is None:
            self.violated("P1", "QUIT was answered before the lock was given back")

    def _nonsense(self, ok: bool, status: bytes, body: bytes | None, argument: bytes) -> None:
        self._says(not ok, status, "-ERR")

    def _over(self, why: str) -> None:
        self._ended = True
        self.excuse = self.excuse or why

    # --- the end ---------------------------------------------------------------------------------------------------

    def hung_up(self) -> None:
        """The server says no more."""
        self._chronicle.said(self.session, self.minutes, "S", b"")
        if not (self.excuse or self.crashed or self._may_hang_up()):
            self.violated("P4", "the server closes a session that did nothing wrong")
        self._ended = True

    def _may_hang_up(self) -> bool:
        """Somebody took too long: the client to log in; client or store at anything; or the store failed in a body."""
        now = trio.current_time()
        late = not self._transaction and now - self._started > TIMEOUTS["login_timeout"] - _EARLY
        quiet = now - self._moved > _SHORTEST - _EARLY
        return late or quiet or (self._framing.status is not None and self.fetches[-1].what != "done")

    def crash(self) -> None:
        """Its instance has crashed."""
        self._chronicle.done(self.session, self.minutes, "its instance has crashed")
        self.crashed = True

    def still_needed(self) -> None:
        """Somebody else finds the maildrop locked: then this session must be alive, or not long dead."""
        if self.lock is not None and self.lock.expires is None and self.over.is_set():
            self.violated("P1", "a lock is held by a session that is over")

    def served(self) -> None:
        """The server's task has ended: nothing of the session may be left."""
        now = trio.current_time()
        self._chronicle.done(self.session, self.minutes, "the server is done")
        self.over.set()
        if self.crashed:
            return
        if self.lock is not None and self.lock.expires is None:
            self.violated("P1", "the session is over, and its lock is held for ever")
        if self.connected:
            self.violated("end", "the store was not told that the session is over")
        if self.gone_at is not None and now - self.gone_at > _AFTERLIFE:
            self.violated("P4", f"the server found out only after {now - self.gone_at:.0f} s that the client is gone")


_RULES: Final[dict[bytes, Callable[[Watch, bool, bytes, bytes | None, bytes], None]]] = {
    b"greeting": Watch._greeting,
    b"USER": Watch._user,
    b"PASS": Watch._pass,
    b"CAPA": Watch._capa,
    b"STAT": Watch._stat,
    b"LIST": Watch._list,
    b"UIDL": Watch._uidl,
    b"RETR": Watch._retr,
    b"TOP": Watch._top,
    b"DELE": Watch._dele,
    b"NOOP": Watch._noop,
    b"RSET": Watch._rset,
    b"QUIT": Watch._quit,
}
