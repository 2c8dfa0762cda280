"""Where a state machine does its work: a backend in memory, or a server somewhere. Each gives it connections."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Protocol

from trio_pop3 import Profile, Rules

from .bench import Bench, MakeBench, called
from .dialect import ANY, DEFAULT, STRICT, Dialect
from .judge import Judged, Mismatch, must
from .model import Message, ModelMaildrop
from .portal import Portal
from .talk import Talk
from .transcript import Transcript, octets
from .wire import MemoryWire, Wire

DIALECTS: Final[Mapping[Profile, Dialect]] = {Profile.DEFAULT: DEFAULT, Profile.STRICT: STRICT}
NO_SECRETS: Final[Mapping[bytes, str]] = MappingProxyType({})
# More than this is no maildrop for trying things.
MOST_MESSAGES: Final = 50
# Seconds for a server to notice that a client has gone; in memory it has noticed.
_PATIENCE: Final = 10.0


class World(Protocol):
    """What a machine needs of whatever it tries."""

    @property
    def dialect(self) -> Dialect:
        """What the server does where the RFCs leave room."""
        ...

    @property
    def users(self) -> Mapping[str, str]:
        """Names and passwords."""
        ...

    @property
    def patience(self) -> float:
        """Seconds that a maildrop may stay locked after its session has ended."""
        ...

    @property
    def store(self) -> Mapping[str, ModelMaildrop]:
        """What should be in the maildrops."""
        ...

    @property
    def secrets(self) -> Mapping[bytes, str]:
        """Octets that are not to be shown, each with the name that is printed in their place."""
        ...

    def leave(self, talk: Talk) -> None:
        """End a session that has looked, and marked nothing."""
        ...

    def dial(self) -> Wire:
        """A new connection. Raises Mismatch if the lock of one that was dropped before is never given back."""
        ...

    def dropped(self) -> None:
        """A connection that was logged in was dropped."""
        ...

    def deliver(self, user: str, message: bytes) -> bool:
        """Put a message into a maildrop; False if the store cannot hold this one."""
        ...

    def again(self, *, crash: bool) -> bool:
        """The server starts anew on the same store; all connections are gone. False if that cannot be."""
        ...

    def failing(self) -> AbstractContextManager[bool]:
        """While this is entered, and if it says True, the store cannot remove messages."""
        ...

    def close(self) -> None:
        """Give back everything."""
        ...


class BenchWorld:
    """A backend behind the core and the session."""

    patience = 0.0
    secrets: Mapping[bytes, str] = NO_SECRETS  # of users who are there for the test

    def __init__(self, make_backend: MakeBench, profile: Profile) -> None:
        with ExitStack() as stack:
            self._portal: Final = stack.enter_context(Portal())
            self.rules: Final = Rules(profile=profile, max_bad_commands=None, max_auth_failures=None)
            self._bench: Final[Bench] = self._portal.run(called, make_backend)
            if self._bench.close is not None:
                stack.callback(self._portal.run, called, self._bench.close)
            self._backend = self._bench.backend
            self.users: Final[Mapping[str, str]] = self._bench.users
            self.store: Final[Mapping[str, ModelMaildrop]] = {user: ModelMaildrop() for user in self.users}
            self.dialect: Final = learnt(self.dial, DIALECTS[profile])
            self._open: Final = stack.pop_all()

    def leave(self, talk: Talk) -> None:
        leave_by_quit(talk)

    def dropped(self) -> None:
        """The session is over when its wire is closed."""

    def dial(self) -> Wire:
        return MemoryWire(self._portal, self._backend, rules=self.rules)

    def deliver(self, user: str, message: bytes) -> bool:
        try:
            self._portal.run(called, self._bench.deliver, user, message)
        except ValueError:
            return False
        return True

    def again(self, *, crash: bool) -> bool:
        if self._bench.reopen is None or (crash and self._bench.crash is None):
            return False
        if crash:
            assert self._bench.crash is not None
            self._portal.run(called, self._bench.crash)
        self._backend = self._portal.run(called, self._bench.reopen)
        return True

    @contextmanager
    def failing(self) -> Iterator[bool]:
        if self._bench.failing_commit is None:
            yield False
            return
        context = self._portal.run(called, self._bench.failing_commit)
        self._portal.run(called, context.__enter__)
        try:
            yield True
        finally:
            self._portal.run(called, context.__exit__, None, None, None)

    def close(self) -> None:
        self._open.close()


class ServerWorld:
    """A server that is there already, and of which only one maildrop is used."""

    patience = _PATIENCE

    def __init__(
        self,
        dial: Callable[[], Wire],
        user: str,
        password: str,
        *,
        deliver: Callable[[bytes], object] | None,
        reset: Callable[[], object] | None,
        destructive: bool,
        dialect: Dialect,
    ) -> None:
        self._dial: Final = dial
        self._destructive: Final = destructive
        self._account: Final = (user, password)
        self._drops = False
        secret = octets(password)
        plain = base64.b64encode(b"\0" + octets(user) + b"\0" + secret)
        self.secrets: Final[Mapping[bytes, str]] = {secret: "password", plain: "passwordplain"}
        self.users: Final[Mapping[str, str]] = {user: password}
        self._deliver: Final = deliver
        if reset is not None:
            reset()
        # What is wrong at the first look comes with the dialogue, as what is found later.
        judge = Judged()
        judge.transcript.hide = self.secrets
        with judge.judging():
            self.dialect: Final = learnt(dial, dialect, judge.transcript)
            self.store: Final[Mapping[str, ModelMaildrop]] = {user: ModelMaildrop(shared_uids=self.dialect.shared_uids)}
            self._look(self.store[user], judge.transcript)

    def dial(self) -> Wire:
        if self._drops:
            # A server may take its time to notice. A session that has retrieved nothing can say QUIT everywhere.
            self._drops = False
            with closing(patient_login(self._dial, *self._account)) as talk:
                leave_by_quit(talk)
        return self._dial()

    def dropped(self) -> None:
        self._drops = True

    def deliver(self, user: str, message: bytes) -> bool:
        if self._deliver is None:
            return False
        self._deliver(message)
        return True

    def again(self, *, crash: bool) -> bool:
        return False

    @contextmanager
    def failing(self) -> Iterator[bool]:
        yield False

    def close(self) -> None:
        """Nothing is ours."""

    def _look(self, maildrop: ModelMaildrop, transcript: Transcript) -> None:
        """What is in the maildrop to begin with."""
        with closing(patient_login(self._dial, *self._account, transcript)) as talk:
            rows = talk.ask(b"LIST", multiline=True).lines or ()
            if len(rows) > MOST_MESSAGES:
                raise ValueError(
                    f"a maildrop of {len(rows)} messages is too large to try things on; at most {MOST_MESSAGES}"
                )
            for number, row in enumerate(rows, 1):
                body = talk.ask(b"RETR %d" % number, multiline=True).body
                size = row.split(b" ")[1:2]
                bare = len(body) - 2 if self.dialect.bare_end else len(body)
                good = row.startswith(b"%d " % number) and size in ([b"%d" % len(body)], [b"%d" % bare])
                must(good, f"LIST says {row!r}, RETR {number} sends {len(body)} octets")
                maildrop.messages.append(Message(body, size=int(size[0])))
            if "UIDL" in self.dialect.verbs:
                uids = talk.ask(b"UIDL", multiline=True).lines or ()
                must(len(uids) == len(rows), f"UIDL has {len(uids)} lines, LIST {len(rows)}")
                for message, line in zip(maildrop.messages, uids, strict=True):
                    maildrop.learn(message, line.partition(b" ")[2])
            self.leave(talk)

    def leave(self, talk: Talk) -> None:
        """By QUIT only if messages may be deleted: there are servers that remove what was retrieved."""
        if self._destructive:
            leave_by_quit(talk)
        else:
            talk.close()
            self.dropped()


def leave_by_quit(talk: Talk) -> None:
    """QUIT, and see that the server closes."""
    talk.ask(b"QUIT")
    talk.expect_end()
    talk.close()


def learnt(dial: Callable[[], Wire], dialect: Dialect, transcript: Transcript | None = None) -> Dialect:
    """The dialect with what a server says of itself in CAPA.

    Raises ValueError if it announces that the ways in which a machine talks to it cannot work.
    """
    with closing(Talk(dial(), transcript)) as talk:
        talk.reply()
        lines = talk.ask(b"CAPA", multiline=True).lines or ()
    announced = {
        words[0].upper().decode("latin-1"): words[1:] for words in (line.split(b" ") for line in lines if line)
    }
    mechanisms = tuple(name.decode("latin-1") for name in announced.get("SASL", ()))
    if dialect is not ANY:
        return replace(dialect, mechanisms=mechanisms)
    if announced and mechanisms and "USER" not in announced:
        raise ValueError("the server announces AUTH, and not USER, with which dialogues begin")
    verbs = {"TOP", "UIDL"} & announced.keys() | ({"CAPA"} if lines else set()) | ({"AUTH"} if mechanisms else set())
    return replace(dialect, mechanisms=mechanisms, verbs=dialect.verbs | verbs, pipelining="PIPELINING" in announced)


def patient_login(
    dial: Callable[[], Wire],
    user: str,
    password: str,
    transcript: Transcript | None = None,
    number: int = 1,
    *,
    patience: float = _PATIENCE,
) -> Talk:
    """A session that is logged in. A server may take its time to notice that the last client is gone."""
    end = time.monotonic() + patience
    while True:
        with ExitStack() as stack:
            talk = stack.enter_context(closing(Talk(dial(), transcript, number)))
            talk.reply()
            talk.ask(b"USER " + octets(user))
            reply = talk.ask(b"PASS " + octets(password))
            if reply.ok:
                stack.pop_all()
                return talk
        if reply.code not in ("IN-USE", "LOGIN-DELAY", "SYS/TEMP") and b"lock" not in reply.text.lower():
            raise Mismatch(f"the login was refused: {reply.text!r}")
        if time.monotonic() > end:
            raise Mismatch(f"the login was refused for {patience:g} s: {reply.text!r}")
        time.sleep(0.02)
