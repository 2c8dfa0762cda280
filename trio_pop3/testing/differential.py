"""Two servers in lockstep on equal maildrops: what one answers, the other must answer too. Needs Hypothesis."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from . import strategies as ours
from .dialect import ANY
from .judge import judged, must
from .running import JudgedMachine
from .talk import Closed, Reply, Talk
from .wire import Wire
from .worlds import learnt, patient_login

_ALONE: Final = (b"LIST", b"UIDL", b"LANG", b"AUTH")
_ALWAYS: Final = (b"RETR", b"TOP", b"CAPA")
# What is compared beyond +OK and -ERR: numbers, and messages. Other texts are for people.
_NUMBERS: Final = (b"STAT", b"LIST")
_MESSAGES: Final = (b"RETR", b"TOP")


def differential(
    first: Callable[[], Wire],
    second: Callable[[], Wire],
    user: str,
    password: str,
    *,
    allow: Collection[str] = (),
    reset: Callable[[], object] | None = None,
    destructive: bool = False,
) -> type[JudgedMachine]:
    """A machine that says the same to two servers, and compares status, sizes, messages, and which uids are equal.

    Args:
        first, second: make connections to the one and to the other.
        user, password: of a maildrop that has the same messages on both.
        allow: regular expressions of command lines (without case) on which they may differ. Where they do, both
            connections are dropped, since what follows could be anything.
        reset: called before each example; puts both maildrops back.
        destructive: whether messages may be deleted.
    """
    known = learnt(first, ANY).verbs & learnt(second, ANY).verbs
    verbs = [verb for verb in known if destructive or ours.harmless(verb.encode())]
    mail = ours.mail_lines(verbs)
    anything = st.one_of(mail, mail, ours.near_lines(), ours.malformed_lines()).filter(
        lambda line: destructive or ours.harmless(line)
    )
    allowed = [re.compile(pattern.encode(), re.IGNORECASE) for pattern in allow]

    class LockstepMachine(JudgedMachine):
        def __init__(self) -> None:
            super().__init__()
            self.talks: list[Talk] = []
            self.uids: dict[bytes, bytes] = {}  # of the first -> of the second
            self.back: dict[bytes, bytes] = {}
            if reset is not None:
                reset()

        def teardown(self) -> None:
            self.hang_up()

        def hang_up(self) -> None:
            for talk in self.talks:
                talk.close()
            self.talks = []

        @rule()
        def a_moment_passes(self) -> None:
            """Nothing: see `machines`."""

        # A login and a QUIT alone would tell nothing, and be two steps of three.

        @precondition(lambda self: not self.talks)
        @rule(lines=st.lists(mail, max_size=6))
        @judged
        def log_in(self, lines: list[bytes]) -> None:
            for number, dial in enumerate((first, second), 1):
                self.talks.append(patient_login(dial, user, password, self.transcript, number))
            self.tell(lines)

        @precondition(lambda self: self.talks)
        @rule(lines=st.lists(anything, min_size=1, max_size=6))
        @judged
        def both_are_told(self, lines: list[bytes]) -> None:
            self.tell(lines)

        @precondition(lambda self: self.talks)
        @rule(lines=st.lists(mail, max_size=6))
        @judged
        def both_are_left(self, lines: list[bytes]) -> None:
            # Without leave, not by QUIT: there are servers that remove what was retrieved.
            self.tell([*lines, b"QUIT"] if destructive else lines)
            self.hang_up()

        def tell(self, lines: Sequence[bytes]) -> None:
            for line in lines:
                if self.talks:
                    self.compare(line)

        def compare(self, line: bytes) -> None:
            """Say a line to both."""
            verb, _, words = line.upper().strip(b" ").partition(b" ")
            multiline = verb in _ALWAYS or (verb in _ALONE and not words)
            replies = [_answer(talk, line, multiline=multiline) for talk in self.talks]
            may_differ = any(pattern.fullmatch(line) for pattern in allowed)
            how = _differ(replies, verb)
            must(may_differ or not how, f"{line[:80]!r}: {how}")
            if how or None in replies:
                self.hang_up()
            elif verb == b"UIDL" and replies[0] is not None and replies[0].ok and not may_differ:
                self._compare_uids(replies)

        def _compare_uids(self, replies: Sequence[Any]) -> None:
            pairs = [_listing(reply) for reply in replies]
            must([n for n, _ in pairs[0]] == [n for n, _ in pairs[1]], "UIDL has other numbers")
            for (_, one), (_, other) in zip(*pairs, strict=True):
                must(self.uids.setdefault(one, other) == other, f"{one!r} was another message of the other before")
                must(self.back.setdefault(other, one) == one, f"{other!r} was another message of the one before")

    return LockstepMachine


def _answer(talk: Talk, line: bytes, *, multiline: bool) -> Reply | None:
    """The reply; None if the server closed instead."""
    try:
        return talk.ask(line, multiline=multiline)
    except Closed:
        return None


def _listing(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Number and value of each line of a listing, or of the one line of a reply."""
    rows = (line.split(b" ") for line in (reply.lines if reply.lines is not None else (reply.text,)))
    return [(row[0], row[1] if len(row) > 1 else b"") for row in rows]


def _differ(replies: Sequence[Reply | None], verb: bytes) -> str:
    """In what two replies differ; "" if they do not."""
    one, other = replies
    if one is None or other is None:
        # One that has had enough may close, and the other may go on.
        refused = [reply for reply in replies if reply is not None]
        return "one closed, the other says +OK" if refused and refused[0].ok else ""
    if one.ok != other.ok:
        return f"{'+OK' if one.ok else '-ERR'} from the one, {'+OK' if other.ok else '-ERR'} from the other"
    if one.ok and verb in _NUMBERS and _listing(one) != _listing(other):
        return f"{_listing(one)!r:.200} from the one, {_listing(other)!r:.200} from the other"
    if one.ok and verb in _MESSAGES and one.lines != other.lines:
        return f"{one.body!r:.200} from the one, {other.body!r:.200} from the other"
    return ""
