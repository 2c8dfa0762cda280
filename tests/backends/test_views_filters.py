"""Views that leave messages out: what is shown, and that nothing happens to the rest."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import Arrivals, NoSuchFolder, PermanentFailure, Store
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.backends.views import AtMost, NewestDays, Union

from ..driving import CLIENT, Dialogue, run
from .views_helpers import DAY, NOW, Shelf, remove, shown

AGES = st.lists(st.floats(0, 40, allow_nan=False), max_size=12)


def newest(store: Store, days: float, now: float = NOW) -> NewestDays:
    return NewestDays(store, days, clock=lambda: now)


@given(AGES, st.floats(0.1, 30), st.floats(0, 30), st.data())
def test_newest_days(ages: list[float], days: float, later: float, data: st.DataObject) -> None:
    """Wish 5, P2, P3: what is young enough, in its order and under its uid; as time goes by messages leave, and no
    other ever comes; what is hidden outlives a session that deletes all it sees.
    """
    shelf = Shelf()
    born = {shelf.put(b"%d\n" % n, NOW - age * DAY): NOW - age * DAY for n, age in enumerate(ages)}
    everything = shelf.messages("alice")
    first = shown(newest(shelf, days))
    assert list(first) == [uid for uid, arrived in born.items() if arrived >= NOW - days * DAY]
    assert first.items() <= everything.items()
    second = shown(newest(shelf, days, NOW + later * DAY))
    assert second.items() <= first.items()
    marked = data.draw(st.sets(st.sampled_from(sorted(second)))) if second else set()
    remove(newest(shelf, days, NOW + later * DAY), *marked)
    assert shelf.messages("alice") == {uid: mail for uid, mail in everything.items() if uid not in marked}


def test_what_a_session_says_is_of_the_view() -> None:
    """P2, C9: STAT, LIST and UIDL; DELE of number 1 is of the first that is shown."""
    shelf = Shelf()
    old = shelf.put(b"old\n", NOW - 9 * DAY)
    young = [shelf.put(b"young %d\n" % n, NOW - n * DAY) for n in (2, 1)]
    dialogue = Dialogue(newest(shelf, 3))
    assert dialogue.login() == b"+OK maildrop has 2 messages (18 octets)\r\n"
    assert dialogue.ask("STAT") == b"+OK 2 18\r\n"
    assert dialogue.lines("LIST") == ["1 9", "2 9"]
    assert dialogue.lines("UIDL") == [f"1 {young[0]}", f"2 {young[1]}"]
    assert dialogue.body("RETR 1") == b"young 2\r\n"
    assert dialogue.ask("RETR 3").startswith(b"-ERR")
    assert dialogue.ask("DELE 1").startswith(b"+OK")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert list(shelf.messages("alice")) == [old, young[1]]


def test_what_is_left_out_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """C9."""
    shelf = Shelf()
    shelf.put(arrived=NOW - 9 * DAY)
    shelf.put()
    with caplog.at_level(logging.INFO, "trio_pop3.views"):
        shown(newest(shelf, 3))
        shown(newest(shelf, 30))
    assert caplog.messages == ["session test: NewestDays(3) hides 1 of 2 messages"]


@pytest.mark.parametrize("days", [0, -1, math.inf, math.nan])
def test_days_that_make_no_sense(days: float) -> None:
    with pytest.raises(ValueError, match="days must be more than 0"):
        NewestDays(Shelf(), days)


@pytest.mark.parametrize("union", [False, True])
def test_a_store_that_does_not_know_how_old_mail_is(caplog: pytest.LogCaptureFixture, union: bool) -> None:
    """Refused, and never shown as if it were all new, or all old; also if it is only a part of the mail."""
    memory = MemoryBackend()
    memory.add_user("alice", "secret")
    memory.deliver("alice", b"x")
    store: Any = Union(Shelf(), {"Junk": memory}) if union else memory
    with pytest.raises(PermanentFailure, match="does not know how old"):
        run(NewestDays(store, 3).open("alice", CLIENT))
    assert "does not know when mail arrived, so nobody can log in" in caplog.text
    assert not memory.locked("alice")


def test_times_that_are_not_those_of_the_messages() -> None:
    class Wrong(Shelf):
        async def open(self, user: str, client: Any) -> Any:
            maildrop = await super().open(user, client)
            maildrop._times = {}
            maildrop.arrivals = self.none
            return maildrop

        async def none(self) -> list[float]:
            return []

    shelf = Wrong()
    shelf.put()
    with pytest.raises(ValueError, match="0 times of arrival for 1 messages"):
        run(NewestDays(shelf, 3).open("alice", CLIENT))
    assert not shelf.locked("alice")


# --- at most so many ------------------------------------------------------------------------------------------------


@given(st.integers(0, 9), st.integers(1, 9))
def test_at_most(count: int, most: int) -> None:
    """C9: the oldest, so that a client which deletes what it gets sees all of it in the end."""
    shelf = Shelf()
    uids = [shelf.put() for _ in range(count)]
    got: list[str] = []
    while mail := shown(AtMost(shelf, most)):
        assert list(mail) == uids[len(got) : len(got) + most]
        got += mail
        remove(AtMost(shelf, most), *mail)
    assert got == uids


def test_at_most_makes_sense() -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        AtMost(Shelf(), 0)


# --- around each other ----------------------------------------------------------------------------------------------


def test_the_order_of_views_matters() -> None:
    """Times of arrival go through views."""
    shelf = Shelf()
    for days in (9, 2, 1):
        shelf.put(arrived=NOW - days * DAY)
    uids = list(shelf.messages("alice"))
    assert list(shown(AtMost(newest(shelf, 3), 1))) == uids[1:2]
    assert list(shown(newest(AtMost(shelf, 1), 3))) == []
    maildrop = run(newest(AtMost(shelf, 2), 3).open("alice", CLIENT))
    assert isinstance(maildrop, Arrivals)
    assert run(maildrop.arrivals()) == [NOW - 2 * DAY]


def test_folders_are_looked_at_in_the_same_way() -> None:
    shelf, junk = Shelf(), Shelf()
    shelf.folders["Junk"] = junk
    junk.put(arrived=NOW - 9 * DAY)
    young = [junk.put(), junk.put()]
    view = AtMost(newest(shelf, 3), 1)
    assert list(shown(view.folder("Junk"))) == young[:1]
    with pytest.raises(NoSuchFolder):
        run(view.folder("No").open("alice", CLIENT))
    with pytest.raises(ValueError, match="not the name"):
        view.folder("a/b")
