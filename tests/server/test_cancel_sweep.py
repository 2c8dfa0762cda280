"""P1: cancel, cut, or fail a session at every single await, and see that no mail is lost and no reply is false.

Each sweep runs a whole dialogue once to count its awaits, then once for each of them with trouble exactly there.
"""

from __future__ import annotations

import itertools
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.credentials import ScramKeys
from trio_pop3.login import OpenGate
from trio_pop3.sasl import ClientExchange, scram
from trio_pop3.server.driver import Driver
from trio_pop3.server.options import DEFAULTS, Options, make_options

from .encrypted import Authority, Says, SecureScript
from .helpers import LOCAL, LOGIN, PASSWORD, USER, BusyBackend, Script, StepCounter, mail_for_fred

MAIL = (b"Subject: 1\r\n\r\none\r\n", b"Subject: 2\r\n\r\n" + b"two " * 30 + b"\r\n", b"", b"four\n")
MARKED = {2, 4}
WORK = (LOGIN, b"LIST\r\nUIDL 2\r\n", b"RETR 2\r\nRETR 3\r\n", b"TOP 1 1\r\n", b"DELE 2\r\nDELE 4\r\n")
# How the client ends: with QUIT alone, behind the last DELE, with more behind it, cut short, or not at all.
ENDINGS = {
    "quit": (*WORK, b"QUIT\r\n"),
    "pipelined": (b"".join(WORK) + b"QUIT\r\n",),
    "more behind": (*WORK, b"QUIT\r\nNOOP\r\n"),
    "half": (*WORK, b"QUIT\r"),
    "none": WORK,
}


@dataclass
class World:
    """One run of a dialogue, with all that can be seen of it."""

    script: Script
    backend: BusyBackend = field(default_factory=lambda: BusyBackend(mail_for_fred(*MAIL)))
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    options: Options = DEFAULTS
    implicit_tls: bool = False

    def run(self, hook: Callable[[int], None] | None = None) -> int:
        """Run it to its end; the number of steps its task took. `hook` is called behind each with its number."""
        counter = StepCounter(hook)

        async def main() -> None:
            counter.task = trio.lowlevel.current_task()
            with self.scope:
                async with self.script:
                    await Driver(
                        self.script,
                        self.backend,
                        LOCAL,
                        self.options,
                        gate=OpenGate(),
                        implicit_tls=self.implicit_tls,
                    ).run()

        trio.run(main, instruments=[counter], clock=trio.testing.MockClock(autojump_threshold=0))
        return counter.steps

    @property
    def removed(self) -> set[int]:
        """Numbers of the messages that are gone. Uids count up from 1 like numbers do."""
        return set(range(1, len(MAIL) + 1)) - {int(uid, 16) for uid in self.backend.inner.messages("fred")}

    def judge(self, *, commit_may_fail: bool = False) -> None:
        """What must hold, whatever happened."""
        counts = self.backend.counts
        assert self.removed <= MARKED, "unmarked mail is gone"
        if b"QUIT\r\n" not in self.script.asked:
            assert counts.commits_begun == 0, "a commit without a QUIT"
        if not counts.commits_begun:
            assert not self.removed, "mail is gone without a commit"
        elif not commit_may_fail:
            assert counts.commits_done == 1, "a commit was cut"
            assert self.removed == MARKED, "a commit was not whole"
        if b"+OK goodbye\r\n" in self.script.heard:
            told = MARKED if b"marked for deletion" in self.script.heard else set()
            assert self.removed == told, "what the client was told is not true"
        assert counts.releases == counts.opens, "not released once for each open"
        assert counts.disconnects == counts.connects <= 1, "not disconnected once for each connect"
        assert not self.backend.inner.locked("fred"), "the lock is held"
        assert self.script.closed


def endings() -> Iterator[tuple[tuple[bytes, ...], bool]]:
    for segments in ENDINGS.values():
        yield segments, False
    yield WORK, True


every_ending = pytest.mark.parametrize(("segments", "broken_end"), list(endings()), ids=[*ENDINGS, "reset"])


@every_ending
def test_dialogue(segments: tuple[bytes, ...], broken_end: bool) -> None:
    """The sweeps below sweep something: undisturbed, the dialogue does what it says."""
    world = World(Script(*segments, broken_end=broken_end))
    assert world.run() > 20
    world.judge()
    quits = b"QUIT\r\n" in b"".join(segments)
    assert (world.removed == MARKED) is quits
    assert (b"+OK goodbye\r\n" in world.script.heard) is quits
    assert world.backend.counts.opens == 1


@every_ending
@pytest.mark.parametrize("room", [True, False])
def test_cancelled_at_every_await(segments: tuple[bytes, ...], broken_end: bool, room: bool) -> None:
    """P1, E1, E2: whatever await a cancellation comes out of. A commit that began is finished, and is answered if the
    client has room for the answer.
    """
    steps = World(Script(*segments, broken_end=broken_end, room=room)).run()
    begun = cut = 0
    for at in range(steps + 1):
        world = World(Script(*segments, broken_end=broken_end, room=room))
        if not at:
            world.scope.cancel()
        world.run(lambda step, at=at, scope=world.scope: scope.cancel() if step == at else None)  # type: ignore[misc]
        world.judge()
        begun += world.backend.counts.commits_begun
        cut += not world.backend.counts.commits_begun
        if world.backend.counts.commits_begun and room:
            assert world.script.heard.endswith(b"+OK goodbye\r\n")
    assert cut > 15
    assert bool(begun) is (b"QUIT\r\n" in b"".join(segments))


@every_ending
@pytest.mark.parametrize("how", ["broken_at", "ends_at"])
def test_connection_lost_at_every_operation(segments: tuple[bytes, ...], broken_end: bool, how: str) -> None:
    """P1, A-33, E1: reset, or end of stream, in place of every read and every write."""
    undisturbed = World(Script(*segments, broken_end=broken_end))
    undisturbed.run()
    for at in range(1, undisturbed.script.operations + 1):
        broken_at, ends_at = (at, None) if how == "broken_at" else (None, at)
        world = World(Script(*segments, broken_end=broken_end, broken_at=broken_at, ends_at=ends_at))
        world.run()
        world.judge()
        if b"QUIT\r\n" in world.script.asked:
            assert world.removed == MARKED, "a QUIT that was read whole was not carried out"


@every_ending
def test_backend_fails_at_every_await(segments: tuple[bytes, ...], broken_end: bool) -> None:
    """P1, I5, E2: an exception out of every await of the backend; `+OK` to QUIT is never a lie."""
    seen: set[str] = set()

    def failing_at(at: int) -> tuple[Callable[[str], Awaitable[None]], Iterator[int]]:
        calls = itertools.count(1)

        async def pause(where: str) -> None:
            await trio.lowlevel.checkpoint()
            if next(calls) == at:
                seen.add(where)
                raise RuntimeError("no luck")

        return pause, calls

    undisturbed = World(Script(*segments, broken_end=broken_end))
    undisturbed.backend.pause, calls = failing_at(0)
    undisturbed.run()
    total = next(calls) - 1
    assert total > 15
    for at in range(1, total + 1):
        world = World(Script(*segments, broken_end=broken_end))
        world.backend.pause, _ = failing_at(at)
        world.run()
        world.judge(commit_may_fail=True)
    everywhere = {"connect", "authenticate", "open", "retrieve", "read", "release", "disconnect"}
    assert seen == everywhere | ({"commit"} if b"QUIT\r\n" in b"".join(segments) else set())


@every_ending
def test_cancelled_while_the_store_fails(segments: tuple[bytes, ...], broken_end: bool) -> None:
    """P1, I5: the store raises, and the cancellation comes meanwhile, at every await from the commit or end on."""

    async def fail(where: str) -> None:
        await trio.lowlevel.checkpoint()
        if where in ("commit", "release", "disconnect"):
            raise RuntimeError("no luck")

    def world() -> World:
        made = World(Script(*segments, broken_end=broken_end))
        made.backend.pause = fail
        return made

    for at in range(1, world().run() + 1):
        troubled = world()
        troubled.run(lambda step, at=at, scope=troubled.scope: scope.cancel() if step == at else None)  # type: ignore[misc]
        troubled.judge(commit_may_fail=True)
        assert not troubled.removed


# --- the same over TLS -----------------------------------------------------------------------------------------------


class ScramBackend(BusyBackend):
    """With awaits around SCRAM keys as well."""

    login_methods = frozenset({"PLAIN", "SCRAM-SHA-256"})

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        await self.pause("scram_keys")
        keys = await self.inner.scram_keys(user, hash_name, client)
        await self.pause("scram_keys")
        return keys


class Scram:
    """SCRAM as segments of a script: each says what the mechanism makes of the last challenge."""

    def __init__(self) -> None:
        self._exchange: ClientExchange = scram(USER, PASSWORD)

    def first(self, heard: bytes) -> bytes:
        data = next(self._exchange).data
        assert data is not None
        return b"AUTH SCRAM-SHA-256 " + b64encode(data) + b"\r\n"

    def further(self, heard: bytes) -> bytes:
        line = heard.splitlines()[-1]
        if not line.startswith(b"+ "):  # it was refused
            return b"NOOP\r\n"
        data = self._exchange.send(b64decode(line[2:])).data
        assert data is not None
        return b64encode(data) + b"\r\n"


def over_stls() -> tuple[Says, ...]:
    exchange = Scram()
    return exchange.first, exchange.further, exchange.further, *WORK[1:], b"QUIT\r\n"


def over_implicit_tls() -> tuple[Says, ...]:
    return *WORK, b"QUIT\r\nNOOP\r\n"


class SecureWorld(World):
    """A dialogue over TLS: STLS, SCRAM and the rest, or TLS from the beginning and a password."""

    script: SecureScript

    def __init__(self, authority: Authority, kind: str, **trouble: Any) -> None:
        implicit = kind == "implicit"
        says, clear = (over_implicit_tls(), ()) if implicit else (over_stls(), (b"CAPA\r\nSTLS\r\n",))
        super().__init__(
            SecureScript(authority.context(), *says, clear=clear, **trouble),
            ScramBackend(mail_for_fred(*MAIL)),
            options=make_options(tls=authority.tls),
            implicit_tls=implicit,
        )

    def judge(self, *, commit_may_fail: bool = False) -> None:
        super().judge(commit_may_fail=commit_may_fail)
        # Four octets at least: three come up in ciphertext by chance every now and then.
        for word in (b"+OK ", b"-ERR", b"four"):
            assert word not in self.script.raw, "something was said in clear"


every_kind = pytest.mark.parametrize("kind", ["stls", "implicit"])


@every_kind
def test_dialogue_over_tls(authority: Authority, kind: str) -> None:
    """R8314-04: undisturbed, it does what it says, and its end is announced."""
    world = SecureWorld(authority, kind)
    assert world.run() > 25
    world.judge()
    assert world.removed == MARKED
    assert world.script.heard.endswith(b"+OK goodbye\r\n")
    assert world.script.told


@every_kind
@pytest.mark.parametrize("room", [True, False])
def test_cancelled_at_every_await_over_tls(authority: Authority, kind: str, room: bool) -> None:
    """P1, E1, E2, G4, R8314-04: in the handshake, between two messages of SCRAM, in a body, in the commit, in the
    farewell of TLS. A client that was cut off is not told that it was the end, unless it was.
    """
    steps = SecureWorld(authority, kind, room=room).run()
    begun = told = unanswered = 0
    for at in range(steps + 1):
        world = SecureWorld(authority, kind, room=room)
        if not at:
            world.scope.cancel()
        world.run(lambda step, at=at, scope=world.scope: scope.cancel() if step == at else None)  # type: ignore[misc]
        world.judge()
        begun += world.backend.counts.commits_begun
        told += world.script.told
        if world.backend.counts.commits_begun and room:
            unanswered += not world.script.heard.endswith(b"+OK goodbye\r\n")
        assert world.backend.counts.commits_begun or not world.script.told
    assert 0 < told <= begun < steps
    # trio's SSLStream lets others run once between encrypting and sending.
    assert unanswered <= 1


@every_kind
@pytest.mark.parametrize("how", ["broken_at", "ends_at"])
def test_connection_lost_at_every_operation_over_tls(authority: Authority, kind: str, how: str) -> None:
    """P1, A-33, E1, G4: reset, or an end without the farewell of TLS, in place of every read and every write."""
    undisturbed = SecureWorld(authority, kind)
    undisturbed.run()
    for at in range(1, undisturbed.script.operations + 1):
        world = SecureWorld(authority, kind, **{how: at})
        world.run()
        world.judge()


@every_kind
def test_backend_fails_at_every_await_over_tls(authority: Authority, kind: str) -> None:
    """P1, I5, E2: SCRAM's keys included."""

    def failing_at(world: World, at: int) -> Iterator[int]:
        calls = itertools.count(1)

        async def pause(where: str) -> None:
            await trio.lowlevel.checkpoint()
            if next(calls) == at:
                raise RuntimeError("no luck")

        world.backend.pause = pause
        return calls

    undisturbed = SecureWorld(authority, kind)
    calls = failing_at(undisturbed, 0)
    undisturbed.run()
    for at in range(1, next(calls)):
        world = SecureWorld(authority, kind)
        failing_at(world, at)
        world.run()
        world.judge(commit_may_fail=True)
