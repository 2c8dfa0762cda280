"""The kit against a backend that keeps everything, and against many that do not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3 import AuthenticationFailed, ClientInfo, Credentials, MemoryBackend, TokenCredentials
from trio_pop3.sansio import octets_of
from trio_pop3.testing import Bench
from trio_pop3.testing.kit import BackendFault, KitReport, backend_checks, check_backend
from trio_pop3.testing.kit.cancelling import Cut
from trio_pop3.testing.kit.mail import AWKWARD
from trio_pop3.testing.kit.trial import LONG, plain
from trio_pop3.testing.model import canonical

from .backends import Drop, Process, bench
from .faulty import FAULTS, cancelling


def faults(make: Callable[[], Any], **options: Any) -> BackendFault:
    """What the kit says of a backend, in virtual time."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with pytest.raises(BackendFault) as failed:
        trio.run(partial(check_backend, make, **options), clock=clock)
    return failed.value


def passes(make: Callable[[], Any], **options: Any) -> KitReport:
    return trio.run(partial(check_backend, make, **options), clock=trio.testing.MockClock(autojump_threshold=0))


# --- the checks ------------------------------------------------------------------------------------------------------


def test_a_backend_that_keeps_every_promise() -> None:
    """With every hook and every power, so that nothing is left out."""
    report = passes(bench)
    assert report == KitReport(tuple(backend_checks()), {})
    assert str(report) == f"{len(backend_checks())} promises kept, 0 not tried"


@pytest.fixture(scope="module", autouse=True)
def _leaks() -> Iterator[None]:
    """Closes what a leaky backend leaves."""
    yield
    while cancelling.LEAKED:
        os.close(cancelling.LEAKED.pop())


@pytest.mark.parametrize("broken", FAULTS, ids=lambda broken: broken.__name__)
def test_each_fault_is_found_by_the_check_that_names_it(broken: type[Process]) -> None:
    """And by no other that could do without: a failure that is everywhere says nothing."""
    found = faults(partial(bench, broken))
    assert {fault.check for fault in found.faults} == set(FAULTS[broken])
    assert {*found.report.passed, *found.report.skipped} == set(backend_checks()) - set(FAULTS[broken])


def test_every_check_can_fail() -> None:
    """Each is the one that names some fault."""
    assert {names[0] for names in FAULTS.values()} == set(backend_checks())


def test_awkward_messages_are_awkward() -> None:
    """B1: the sizes are computed here in another way than the server does."""
    for message in (*AWKWARD.values(), LONG):
        assert len(canonical(message)) == octets_of(message)
    everything = b"".join(AWKWARD.values())
    assert set(everything) == set(range(256))
    for part in (b"\r\r\n", b"\n.\n", b"\r\n.\r\n", b"x" * 100_000):
        assert part in everything
    assert max(map(len, AWKWARD.values())) > 1_000_000
    assert len(set(map(canonical, AWKWARD.values()))) == len(AWKWARD) - 1, "nothing and a line end are one line"


# --- what it says ----------------------------------------------------------------------------------------------------


class ForgetsTheLast(Drop):
    def __init__(self, process: Process, user: str) -> None:
        super().__init__(process, user)
        self.messages = self.messages[:-1]


class Forgetful(Process):
    drops = ForgetsTheLast

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> Any:
        raise ZeroDivisionError("made of nothing")


def _joined(*lines: str) -> str:
    return "\n".join(lines)


def test_a_fault_says_what_was_promised_and_what_happened() -> None:
    """All of them at once, each with its steps; what the backend raised is the cause."""
    fault = faults(partial(bench, Forgetful), only=["snapshot_is_frozen", "scram_keys", "right_password"])
    assert str(fault) == _joined(
        "2 promises are not kept, 1 are",
        "",
        f"scram_keys: {backend_checks()['scram_keys']}",
        "  But: ZeroDivisionError (made of nothing) was raised.",
        "    scram_keys of alice, sha256: ZeroDivisionError (made of nothing)",
        "",
        f"snapshot_is_frozen: {backend_checks()['snapshot_is_frozen']}",
        "  But: the next session sees 2 messages, not 3.",
        f"    deliver {len(plain('one'))} octets to alice",
        f"    deliver {len(plain('two'))} octets to alice",
        "    authenticate alice",
        "    open alice",
        "    retrieve 0001",
        f"    deliver {len(plain('three'))} octets to alice",
        "    retrieve 0001",
        "    release alice",
        "    open alice",
        "    retrieve 0001",
        "    retrieve 0002",
        "    release alice",
    )
    assert isinstance(fault.__cause__, ZeroDivisionError)
    assert fault.report.passed == ("right_password",)


def test_several_causes_are_a_group_and_many_steps_are_cut() -> None:
    class Useless(Process):
        async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> Any:
            raise ZeroDivisionError

        async def expiry(self, user: str | None) -> Any:
            raise LookupError

    fault = faults(partial(bench, Useless), only=["scram_keys", "expiry", "right_password"])
    assert isinstance(fault.__cause__, ExceptionGroup)
    assert [type(cause) for cause in fault.__cause__.exceptions] == [ZeroDivisionError, LookupError]

    class Disordered(Process):
        def infos(self, user: str) -> Any:
            return sorted(super().infos(user), key=lambda info: info.octets)

    text = str(faults(partial(bench, Disordered), only="order_stays"))
    assert "1 promise is not kept, 0 are" in text
    assert " steps before)" not in text
    assert re.search(
        r"\n    \(\d+ steps before\)\n", str(faults(partial(bench, Forgetful), only="every_message_is_there"))
    )


def test_no_password_is_in_a_fault() -> None:
    """P5: whatever fails."""

    def make() -> Bench:
        made = bench(Forgetful, users={"alice": "pa55w0rd-a", "bob": "pa55w0rd-b"})
        assert isinstance(made.backend, Process)
        made.backend.disk.passwords.update(made.users)
        return made

    fault = faults(make)
    assert len(fault.faults) > 10
    assert "pa55w0rd" not in str(fault)
    assert "pa55w0rd" not in repr(fault)


def test_work_without_an_end_is_a_fault() -> None:
    """P4: each step has its time, and the fault says which one it was."""

    class Hangs(Process):
        async def opened(self, user: str) -> Drop:
            await trio.sleep_forever()
            raise AssertionError

    fault = faults(partial(bench, Hangs), only="order_stays", seconds=7)
    assert "But: open alice has not come to an end in 7 seconds.\n" in str(fault)


def test_a_time_out_of_the_backend_is_its_own() -> None:
    class Impatient(Process):
        async def opened(self, user: str) -> Drop:
            with trio.fail_after(0):
                await trio.sleep_forever()
            raise AssertionError

    assert "But: TooSlowError was raised" in str(faults(partial(bench, Impatient), only="order_stays"))


# --- choosing --------------------------------------------------------------------------------------------------------


def test_checks_can_be_chosen_and_left_out() -> None:
    assert passes(bench, only="order_stays").passed == ("order_stays",)
    report = passes(bench, only=["uids_stay", "order_stays"], skip=["uids_stay"])
    assert report.passed == ("order_stays",)
    assert report.skipped == {"uids_stay": "left out, as asked"}
    assert str(report) == "1 promises kept, 1 not tried\n  uids_stay: left out, as asked"


@pytest.mark.parametrize("options", [{"only": "order"}, {"only": ["order_stays", "order"]}, {"skip": ["order"]}])
def test_unknown_names_are_an_error_that_lists_the_known_ones(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no such check: order; there are right_password, .*order_stays"):
        passes(bench, **options)


HOOKS = {
    "reopen": 7,
    "crash": 3,
    "failing_commit": 1,
    "failing_open": 1,
    "remove": 2,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_what_needs_a_hook_that_is_not_there_is_left_out_and_said(hook: str) -> None:
    without: dict[str, Any] = {hook: None}
    report = passes(lambda: bench(**without))
    assert set(report.skipped.values()) == {f"the bench has no {hook}"}
    assert len(report.skipped) == HOOKS[hook]
    assert set(report.passed) | set(report.skipped) == set(backend_checks())


class NoLock(Process):
    def lock(self, user: str) -> None:
        pass

    def unlock(self, user: str) -> None:
        pass


def test_a_store_for_several_sessions_at_once() -> None:
    """I7: if the bench says so, and the rest of the contract is as before."""
    report = passes(lambda: bench(NoLock, exclusive=False))
    assert set(report.skipped.values()) == {"the bench has exclusive=False"}
    assert len(report.skipped) == 4


def test_a_bench_with_one_user() -> None:
    report = passes(lambda: bench(users={"alice": "secret"}))
    assert report.skipped == dict.fromkeys(
        ["password_of_another_user", "maildrops_are_apart"], "the bench has one user only"
    )


def test_a_bench_whose_users_have_one_password() -> None:
    def make() -> Bench:
        made = bench(users={"alice": "same", "bob": "same"})
        assert isinstance(made.backend, Process)
        made.backend.disk.passwords.update(made.users)
        return made

    assert passes(make).skipped == {"password_of_another_user": "the users of the bench have the same password"}


class OnlyTokens(Process):
    login_methods = ("OAUTHBEARER",)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        assert isinstance(credentials, TokenCredentials)
        raise AuthenticationFailed


def test_a_backend_without_passwords() -> None:
    """Its mail is tried all the same."""
    report = passes(partial(bench, OnlyTokens))
    assert report.skipped["right_password"] == "the backend does not check PLAIN"
    assert report.skipped["apop"] == "the backend does not check APOP"
    assert report.skipped["scram_keys"] == "the backend does not offer SCRAM"
    assert len(report.skipped) == 12
    assert {"order_stays", "cancelled_session", "cancelled_login"} <= set(report.passed)


def test_powers_that_a_backend_does_not_have() -> None:
    def make() -> Bench:
        memory = MemoryBackend()
        for name, password in (("alice", "secret"), ("bob", "hidden")):
            memory.add_user(name, password)
        return Bench(backend=memory, deliver=memory.deliver)

    reasons = passes(make).skipped
    assert {reasons[name] for name in ("delegation", "login_delay", "expiry", "connections")} == {
        "the backend has no authorize",
        "the backend has no login_delay",
        "the backend has no expiry",
        "the backend has no connect and disconnect",
    }
    assert len(reasons) == 4 + 11


# --- the bench -------------------------------------------------------------------------------------------------------


def test_a_store_that_cannot_hold_some_octets() -> None:
    """It says so by ValueError, and is tried with the rest."""

    def make() -> Bench:
        made = bench()
        deliver = made.deliver

        def picky(user: str, message: bytes) -> None:
            message.decode("ascii")
            if b"\0" in message:
                raise ValueError("no NUL")
            deliver(user, message)

        return replace(made, deliver=picky)

    assert passes(make).skipped == {}


def test_a_store_that_can_hold_nothing() -> None:
    def refuse(user: str, message: bytes) -> None:
        raise ValueError

    fault = faults(lambda: bench(deliver=refuse), only=["content_comes_back", "order_stays"])
    assert "But: deliver raised ValueError for every message there is." in str(fault)
    assert "But: deliver cannot hold b'Subject: zebra\\r\\n\\r\\nThis is zebra.\\r\\n', which is plain mail." in str(
        fault
    )


def test_a_store_that_adds_to_what_it_is_given() -> None:
    """`same` says what is still the same message."""

    def make(**changed: Any) -> Bench:
        made = bench()
        deliver = made.deliver
        return replace(made, deliver=lambda user, text: deliver(user, b"Received: here\n" + text), **changed)

    assert "content_comes_back" in {fault.check for fault in faults(make).faults}

    def same(delivered: bytes, retrieved: bytes) -> bool:
        return retrieved.endswith(delivered)

    assert passes(partial(make, same=same)).skipped == {}


def test_a_maildrop_that_is_not_empty_at_first() -> None:
    def make() -> Bench:
        made = bench()
        made.deliver("alice", plain("left over"))
        return made

    assert "But: a fresh maildrop has 1 messages; the bench must make it empty." in str(
        faults(make, only="empty_maildrop")
    )


def test_a_failing_commit_that_does_not_fail() -> None:
    """Then it tries nothing, and says so."""
    fault = faults(lambda: bench(failing_commit=nullcontext), only="a_failed_commit_says_so")
    assert "it returned, and 0 of 3 marked messages are still there" in str(fault)


async def later(function: Callable[..., Any], *arguments: Any) -> Any:
    """Does it after a while."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def test_everything_about_a_bench_may_be_asynchronous() -> None:
    closed: list[bool] = []

    async def make() -> Bench:
        made: Bench = await later(bench)
        hooks: dict[str, Any] = {
            name: partial(later, getattr(made, name)) for name in ("deliver", "reopen", "crash", "remove")
        }
        return replace(made, **hooks, close=partial(later, closed.append, True))

    assert passes(make).skipped == {}
    assert len(closed) == len(backend_checks())


def test_a_bench_is_made_and_closed_for_each_check_whatever_comes_of_it() -> None:
    made: list[str] = []

    def make() -> Bench:
        made.append("made")
        return bench(Forgetful, crash=None, close=lambda: made.append("closed"))

    fault = faults(make)
    assert fault.faults
    assert fault.report.passed
    assert fault.report.skipped
    assert made == ["made", "closed"] * len(backend_checks())


def test_what_a_failed_check_holds_is_given_back() -> None:
    """A check that fails in the middle of a session leaves no lock in the store of whoever runs it."""
    made: list[Bench] = []

    class Unreadable(Drop):
        def content(self, message: Any) -> bytes:
            raise ZeroDivisionError

    class Leaving(Process):
        drops = Unreadable

    def make() -> Bench:
        made.append(bench(Leaving))
        return made[-1]

    fault = faults(make)
    assert all(not one.backend.disk.locks for one in made)  # type: ignore[attr-defined]
    steps = {fault.check: fault.steps for fault in fault.faults}
    assert steps["sizes_are_exact"][-2:] == ("retrieve 0001: ZeroDivisionError", "release afterwards")


def test_a_maker_that_fails_is_no_fault_of_the_backend() -> None:
    def make() -> Bench:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        passes(make)


async def test_it_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    """At once, wherever it is; and closes the bench."""
    closed: list[bool] = []

    class Slow(Process):
        async def opened(self, user: str) -> Drop:
            await trio.sleep(1)
            return await super().opened(user)

    with trio.move_on_after(3.5) as scope:
        await check_backend(lambda: bench(Slow, close=lambda: closed.append(True)), only="order_stays")
    assert scope.cancelled_caught
    assert trio.current_time() == 3.5
    assert closed == [True]


# --- cutting ---------------------------------------------------------------------------------------------------------


async def test_a_cut_comes_at_the_await_that_was_asked_for() -> None:
    """Before the first, at each, and behind the last, when it was not reached."""
    for at in range(5):
        done: list[int] = []
        with Cut(at) as cut:
            for number in range(3):
                await trio.lowlevel.checkpoint()
                done.append(number)
        assert done == list(range(min(max(at - 1, 0), 3)))
        assert cut.reached is (at <= 3)


async def test_a_cut_counts_the_awaits_of_tasks_that_were_started() -> None:
    """A backend may have a nursery: its awaits are awaits of the method. Those of others are not."""

    async def child(done: list[str]) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        done.append("child")

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def work(done: list[str]) -> None:
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - it must be another task
            nursery.start_soon(child, done)
        done.append("parent")

    async with trio.open_nursery() as outside:
        outside.start_soon(other)
        outcomes = []
        for at in range(10):
            done: list[str] = []
            with Cut(at) as cut:
                await work(done)
            outcomes.append((len(done), cut.reached))
        outside.cancel_scope.cancel()
    assert outcomes == sorted(outcomes, key=lambda outcome: (outcome[0], not outcome[1]))
    assert outcomes[0] == (0, True)
    assert outcomes[-1] == (2, False)
    assert sum(reached for _, reached in outcomes) >= 5


async def test_what_is_raised_in_a_cut_comes_out_of_it() -> None:
    """A failure is no cancellation; and the cut is over, so that nothing later is cancelled."""

    async def fail() -> None:
        with Cut(2):
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    for _ in range(3):
        await trio.lowlevel.checkpoint()
