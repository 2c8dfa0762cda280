"""Guessing costs time, and only the guesser's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from trio_pop3.backend import ClientInfo
from trio_pop3.server.networks import Networks
from trio_pop3.server.penalty import Penalty

DELAYS = [0.0, 2.0, 4.0, 8.0, 15.0]
MEMORY = 900.0


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def penalty(clock: Clock) -> Penalty:
    return Penalty(Networks(["loopback", "unix", "10.0.0.0/8"]), clock=clock)


def client(host: str | None = "192.0.2.7") -> ClientInfo:
    return ClientInfo("s", host, 4711)


def attempt(penalty: Penalty, who: ClientInfo, *, failed: bool = True, pair: bytes | None = None) -> float:
    seconds = penalty.enter(who)
    penalty.leave(who, failed=failed, pair=pair)
    return seconds


def guess(penalty: Penalty, who: ClientInfo, number: int) -> list[float]:
    """So many wrong guesses, all of them different."""
    return [attempt(penalty, who, pair=b"guess %d" % index) for index in range(number)]


def test_each_guess_costs_more_than_the_last(penalty: Penalty) -> None:
    """H10: 2, 4, 8, 15 seconds, and never more: nobody is locked out."""
    assert guess(penalty, client(), 8) == [*DELAYS, 15.0, 15.0, 15.0]


def test_the_same_wrong_pair_again_costs_no_more(penalty: Penalty) -> None:
    """H10: a phone with the old password."""
    waits = [attempt(penalty, client(), pair=b"old") for _ in range(20)]
    assert waits == [0.0] + [2.0] * 19
    assert attempt(penalty, client(), pair=b"other") == 2.0
    assert [attempt(penalty, client(), pair=pair) for pair in (b"old", b"other", b"old")] == [4.0] * 3


def test_ten_wrong_pairs_are_known_the_least_recently_seen_is_forgotten(penalty: Penalty, clock: Clock) -> None:
    """H10."""
    phones = [b"phone %d" % number for number in range(10)]
    for pair in phones:
        attempt(penalty, client(), pair=pair)
    clock.now += MEMORY - 1
    for pair in phones[1:] + phones[:1]:
        attempt(penalty, client(), pair=pair)  # all known: none of them prolongs anything
    attempt(penalty, client(), pair=b"one more")  # takes the place of phone 1, and prolongs
    clock.now += MEMORY - 1
    attempt(penalty, client(), pair=phones[0])
    clock.now += 1
    assert attempt(penalty, client(), pair=phones[0]) == 0.0  # forgotten: phone 0 did not prolong


def test_a_failure_that_cannot_be_told_from_others_counts(penalty: Penalty) -> None:
    """SCRAM, CRAM-MD5 and APOP do not show the secret."""
    assert [attempt(penalty, client()) for _ in range(6)] == [*DELAYS, 15.0]


def test_a_success_changes_nothing(penalty: Penalty) -> None:
    """H10: who owns an account could otherwise make guessing at others free."""
    guess(penalty, client(), 3)
    assert attempt(penalty, client(), failed=False) == 8.0
    assert attempt(penalty, client(), failed=False, pair=b"good") == 8.0
    assert attempt(penalty, client()) == 8.0


def test_attempts_in_flight_count(penalty: Penalty) -> None:
    """H10: a hundred guesses at once are not a hundred first guesses."""
    assert [penalty.enter(client()) for _ in range(100)] == [0.0] * 10 + [2.0] * 10 + [4.0] * 10 + [8.0] * 10 + [
        15.0
    ] * 60
    assert penalty.in_flight == 100
    for _ in range(100):
        penalty.leave(client(), failed=False, pair=None)
    assert penalty.in_flight == 0
    assert attempt(penalty, client()) == 0.0


def test_each_attempt_in_flight_may_count_as_one(clock: Clock) -> None:
    penalty = Penalty(Networks(()), clock=clock, at_once=1)
    assert [penalty.enter(client()) for _ in range(6)] == [*DELAYS, 15.0]


def test_an_office_in_the_morning_does_not_hold_itself_up(penalty: Penalty) -> None:
    """H10: users behind one address who log in again and again, a few at a time, never wait."""
    for _ in range(1000):
        waits = [penalty.enter(client()) for _ in range(10)]
        for _ in waits:
            penalty.leave(client(), failed=False, pair=None)
        assert waits == [0.0] * 10


def test_failures_are_forgotten_after_a_quiet_quarter_of_an_hour(penalty: Penalty, clock: Clock) -> None:
    guess(penalty, client(), 4)
    clock.now += MEMORY - 1
    assert attempt(penalty, client(), failed=False) == 15.0
    assert len(penalty) == 1
    clock.now += 1
    assert penalty.enter(client()) == 0.0
    assert len(penalty) == 0


def test_waiting_does_not_pay(penalty: Penalty, clock: Clock) -> None:
    """Guesses an hour on one connection: at full price, and by one who keeps silent until all is forgotten."""
    full = 3600 / DELAYS[-1]
    patient = 0.0
    for _ in range(round(3600 / MEMORY)):
        patient += len(guess(penalty, client(), 4))
        clock.now += MEMORY
    assert full / patient > 10


@pytest.mark.parametrize(
    ("host", "other"),
    [
        ("192.0.2.7", "192.0.2.8"),
        ("192.0.2.7", "2001:db8::1"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
    ],
)
def test_no_user_is_locked_out_by_strangers(penalty: Penalty, host: str, other: str) -> None:
    """H10: what counts is where a guess comes from, not whose name it takes."""
    guess(penalty, client(host), 100)
    assert attempt(penalty, client(other), failed=False) == 0.0


def test_an_ipv6_network_is_one_guesser(penalty: Penalty) -> None:
    """H10: a new address for each guess is no way out."""
    waits = [attempt(penalty, client(f"2001:db8:1:2::{number:x}")) for number in range(6)]
    assert waits == [*DELAYS, 15.0]
    assert attempt(penalty, client("::ffff:192.0.2.7")) == 0.0
    assert attempt(penalty, client("192.0.2.7")) == 2.0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None, "10.1.2.3", "::ffff:10.1.2.3"])
def test_trusted_networks_never_wait(penalty: Penalty, host: str | None) -> None:
    """H10."""
    assert guess(penalty, client(host), 50) == [0.0] * 50
    assert (len(penalty), penalty.in_flight) == (0, 0)


def test_a_unix_socket_that_is_not_trusted_is_one_guesser(clock: Clock) -> None:
    assert guess(Penalty(Networks(()), clock=clock), client(None), 3) == [0.0, 2.0, 4.0]


def test_the_network_that_failed_least_recently_is_forgotten_first(clock: Clock) -> None:
    """The table is bounded."""
    penalty = Penalty(Networks(()), clock=clock, most=2)
    one, two, three = (client(f"192.0.2.{number}") for number in (1, 2, 3))
    for who in (one, two, one, three):
        attempt(penalty, who)
    assert len(penalty) == 2
    assert [attempt(penalty, who, failed=False) for who in (one, two, three)] == [4.0, 0.0, 2.0]


def test_an_attempt_that_never_entered_cannot_leave(penalty: Penalty) -> None:
    with pytest.raises(KeyError):
        penalty.leave(client(), failed=False, pair=None)


@pytest.mark.parametrize("name", ["most", "at_once"])
def test_bad_limits(name: str, clock: Clock) -> None:
    make: Callable[..., Penalty] = Penalty
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        make(Networks(()), clock=clock, **{name: 0})


@given(st.lists(st.tuples(st.booleans(), st.none() | st.binary(max_size=1))), st.integers(1, 12))
def test_monotone_until_forgotten(ends: list[tuple[bool, bytes | None]], at_once: int) -> None:
    """Whatever the attempts came to, the next waits no less than the one before, from 0 up to 15 seconds."""
    penalty = Penalty(Networks(()), clock=Clock(), at_once=at_once)
    waits = [attempt(penalty, client(), failed=failed, pair=pair) for failed, pair in ends]
    assert all(before <= after for before, after in pairwise(waits))
    assert set(waits) <= set(DELAYS)
    assert waits[:1] in ([], [0.0])


MOST = 3
HOSTS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1", None]


class PenaltyMachine(RuleBasedStateMachine):
    """Any attempts of any hosts, overlapping, with time going by."""

    attempts: Bundle[ClientInfo] = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.penalty = Penalty(Networks(["10.0.0.0/8"]), clock=self.clock, most=MOST, at_once=2)
        self.entered: list[ClientInfo] = []
        self.failed: dict[str | None, float] = {}  # upper bound of what may be known

    @rule(target=attempts, host=st.sampled_from(HOSTS))
    def enter(self, host: str | None) -> ClientInfo:
        who = client(host)
        seconds = self.penalty.enter(who)
        assert seconds in DELAYS
        alike = [one for one in self.entered if network(one.host) == network(host)]
        if host == "10.0.0.1" or (
            len(alike) < 2 and self.clock.now - self.failed.get(network(host), -MEMORY) >= MEMORY
        ):
            assert seconds == 0.0
        self.entered.append(who)
        return who

    @rule(who=consumes(attempts), failed=st.booleans(), pair=st.none() | st.binary(max_size=1))
    def leave(self, who: ClientInfo, failed: bool, pair: bytes | None) -> None:
        self.penalty.leave(who, failed=failed, pair=pair)
        self.entered.remove(who)
        if failed:
            self.failed[network(who.host)] = self.clock.now

    @rule(seconds=st.sampled_from([1.0, 100.0, MEMORY]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: not self.entered)
    @rule()
    def nothing_is_in_flight(self) -> None:
        assert self.penalty.in_flight == 0

    @invariant()
    def bounded(self) -> None:
        assert len(self.penalty) <= MOST
        assert self.penalty.in_flight == sum(who.host != "10.0.0.1" for who in self.entered)


def network(host: str | None) -> str | None:
    return "2001:db8::" if host in ("2001:db8::1", "2001:db8::2") else host


TestPenaltyMachine = PenaltyMachine.TestCase


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_of_this_machine_that_a_proxy_names_is_not_exempt(host: str) -> None:
    """H10: behind two proxies everybody may come from there."""
    penalty = Penalty(Networks(("loopback", "unix", "192.0.2.0/24")), clock=lambda: 0.0)
    for address, waits in ((host, True), ("192.0.2.7", False)):
        client = ClientInfo("1", address, 1, proxied=True)
        for _ in range(2):
            seconds = penalty.enter(client)
            penalty.leave(client, failed=True, pair=None)
        assert (seconds > 0) is waits
