"""Remembering good logins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.auth import GoodLogins
from trio_pop3.credentials import ApopCredentials, Credentials, PasswordCredentials


class Clock:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = -5.0

    def __call__(self) -> float:
        return self.now


ALICE = PasswordCredentials("alice", "secret")


def test_a_while_and_no_longer() -> None:
    clock = Clock()
    good = GoodLogins(60, clock=clock)
    assert not good.knows(ALICE)
    good.remember(ALICE)
    clock.now += 59.9
    assert good.knows(ALICE)
    clock.now += 0.1
    assert not good.knows(ALICE)
    good.remember(ALICE)
    assert good.knows(ALICE)


TEXTS = st.text(st.sampled_from("ab:\0\udc80"), max_size=3)
LOGINS = st.tuples(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=2).map(tuple))


@given(LOGINS, LOGINS)
def test_everything_counts(
    one: tuple[str, str, str, tuple[str, ...]], other: tuple[str, str, str, tuple[str, ...]]
) -> None:
    """H12: user, password, authorization identity and the rest, each by itself."""
    good = GoodLogins()
    good.remember(PasswordCredentials(one[0], one[1], authzid=one[2]), *one[3])
    assert good.knows(PasswordCredentials(other[0], other[1], authzid=other[2]), *other[3]) == (one == other)


def test_the_oldest_go_first_and_what_is_over_goes() -> None:
    clock = Clock()
    good = GoodLogins(60, most=3, clock=clock)
    people = [PasswordCredentials(f"user{number}", "x") for number in range(6)]
    for person in people[:3]:
        good.remember(person)
    good.remember(people[0])  # not the oldest any more
    good.remember(people[3])
    assert [good.knows(person) for person in people] == [True, False, True, True, False, False]
    assert len(good) == 3
    clock.now += 60
    good.remember(people[4])
    good.remember(people[5])
    assert len(good) == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 40)), max_size=60))
def test_never_more_than_most(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    good = GoodLogins(60, most=4, clock=clock)
    for number, seconds in steps:
        clock.now += seconds
        good.remember(PasswordCredentials(str(number), "x"))
        assert good.knows(PasswordCredentials(str(number), "x"))
        assert len(good) <= 4


def test_off() -> None:
    good = GoodLogins(0)
    good.remember(ALICE)
    assert not good.knows(ALICE)
    assert len(good) == 0


@pytest.mark.parametrize("credentials", [Credentials("alice"), ApopCredentials("alice", "<1@x>", bytes(16))])
def test_what_shows_no_secret_is_not_remembered(credentials: Credentials) -> None:
    """A digest is good for one challenge."""
    good = GoodLogins()
    good.remember(credentials)
    assert not good.knows(credentials)


def test_nothing_is_kept_that_could_be_read() -> None:
    """P5, H8: no password, and another object's keys are others."""
    one, other = GoodLogins(), GoodLogins()
    for good in (one, other):
        good.remember(ALICE, "stored")
    assert set(one._until).isdisjoint(other._until)
    held = repr(one) + repr(one._until)
    assert "secret" not in held
    assert "stored" not in held
    assert repr(one) == "GoodLogins(1 remembered)"


@pytest.mark.parametrize("arguments", [{"seconds": -1.0}, {"seconds": float("nan")}, {"most": 0}])
def test_numbers_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        GoodLogins(**arguments)  # type: ignore[arg-type]
