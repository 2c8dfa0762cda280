"""Several maildrops as one: nothing is fetched twice, nothing is missed, and each part gets its own back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import (
    Arrivals,
    BackendError,
    ClientInfo,
    CommitIncomplete,
    Expiry,
    Maildrop,
    MaildropInUse,
    MessageInfo,
    PermanentFailure,
    Policy,
    Store,
    TemporaryFailure,
)
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.backends.views import AtMost, NewestDays, Union
from trio_pop3.backends.views.union import unique_id

from ..driving import CLIENT, Dialogue, run
from .views_helpers import DAY, NOW, Missing, Shelf, remove, shown

PARTS = ("", "Junk", "Later")


def shelves() -> dict[str, Shelf]:
    """The inbox, and two folders; in each of them uids count from 1."""
    return {name: Shelf() for name in PARTS}


def union(shelves: dict[str, Shelf]) -> Union:
    return Union(shelves[""], {name: shelf for name, shelf in shelves.items() if name})


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "drop", "dele"]), st.sampled_from(PARTS), st.integers(0, 5)), max_size=25
)


@given(STEPS)
def test_uids_are_for_ever(steps: list[tuple[str, str, int]]) -> None:
    """P3, wish 5: whatever comes and goes in whatever part, by whatever way, a message keeps its unique-id, no other
    ever gets it, and those of the inbox are the inbox's own, in their places.
    """
    parts = shelves()
    known: dict[str, tuple[str, str]] = {}  # uid in the union -> part and uid there
    contents = 0
    for what, name, which in steps:
        shelf = parts[name]
        uids = list(shelf.messages("alice"))
        if what == "put":
            contents += 1
            shelf.put(b"%d\n" % contents)
        elif which < len(uids):
            if what == "drop":
                shelf.drop(uids[which])
            else:
                own = uids[which]
                remove(union(parts), *(seen for seen, place in known.items() if place == (name, own)))
        found = shown(union(parts))
        expected = [(name, uid, mail) for name in PARTS for uid, mail in parts[name].messages("alice").items()]
        assert list(found.values()) == [mail for _, _, mail in expected]
        assert list(found)[: len(parts[""].messages("alice"))] == list(shown(parts[""]))
        for seen, (name, own, _) in zip(found, expected, strict=True):
            assert known.setdefault(seen, (name, own)) == (name, own)
        assert len(set(known.values())) == len(known)


@given(st.lists(st.tuples(st.sampled_from(PARTS), st.floats(0, 40, allow_nan=False)), max_size=12), st.floats(1, 30))
def test_the_newest_days_of_a_union(mail: list[tuple[str, float]], days: float) -> None:
    """Views around views: uids are those of the union, and deleting all that is shown leaves all that is not."""
    parts = shelves()
    for n, (name, age) in enumerate(mail):
        parts[name].put(b"%d\n" % n, NOW - age * DAY)
    everything = shown(union(parts))
    view = NewestDays(union(parts), days, clock=lambda: NOW)
    young = shown(view)
    assert young.items() <= everything.items()
    expected = {b"%d\n" % n for n, (_, age) in enumerate(mail) if NOW - age * DAY >= NOW - days * DAY}
    assert set(young.values()) == expected
    remove(view, *young)
    assert shown(union(parts)) == {uid: content for uid, content in everything.items() if uid not in young}


def test_a_session_with_a_union() -> None:
    """P2: the numbers of the inbox stay, and DELE reaches the part that has the message."""
    parts = shelves()
    inbox, junk = parts[""].put(b"in\n"), parts["Junk"].put(b".junk\n")
    kept = parts["Junk"].put(b"kept\n")
    dialogue = Dialogue(union(parts))
    assert dialogue.login() == b"+OK maildrop has 3 messages (17 octets)\r\n"
    assert dialogue.lines("LIST") == ["1 4", "2 7", "3 6"]
    assert dialogue.lines("UIDL")[0] == f"1 {inbox}"
    assert dialogue.body("RETR 2") == b".junk\r\n"
    assert dialogue.ask("DELE 2").startswith(b"+OK")
    assert dialogue.ask("QUIT").startswith(b"+OK")
    assert inbox == junk  # each counts for itself
    assert list(parts[""].messages("alice")) == [inbox]
    assert list(parts["Junk"].messages("alice")) == [kept]


def test_a_union_of_unions() -> None:
    parts = shelves()
    mail = [parts[name].put(name.encode() + b".\n") for name in PARTS]
    inner = Union(parts[""], {"Junk": parts["Junk"]})
    outer = Union(inner, {"Later": parts["Later"]})
    assert list(shown(outer))[:2] == list(shown(inner))
    assert list(shown(outer).values()) == [b".\n", b"Junk.\n", b"Later.\n"]
    remove(outer, list(shown(outer))[1])
    assert [list(parts[name].messages("alice")) for name in PARTS] == [mail[:1], [], mail[2:]]


def test_a_part_that_is_not_there_is_empty() -> None:
    inbox = Shelf()
    uid = inbox.put()
    assert list(shown(Union(inbox, {"Junk": Missing()}))) == [uid]


@given(st.text(), st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70))
def test_unique_ids_are_unique_ids(name: str, uid: str) -> None:
    """R1939-114: any name of a part, any unique-id of it."""
    made = unique_id(name, uid, lambda _: False)
    assert (len(made), set(made) <= set("0123456789abcdef")) == (40, True)
    assert made == unique_id(name, uid, lambda _: False)


def test_unique_ids_are_written_down() -> None:
    """P3: a version that makes others would have every client fetch everything once more."""
    assert unique_id("Junk", "1700000000.x", lambda _: False) == "ebbf8a970bb6eff612251cbefd10a3aa0b0adfcf"


def test_a_unique_id_that_the_inbox_has_already() -> None:
    """P3: somebody has a message in the inbox that is called like one of Junk in the union. Both are shown, and the
    next one that is there is shown as well.
    """
    taken = [unique_id("Junk", "00000001", lambda _: False)]
    taken.append(hashlib.sha256(f"Junk\0{taken[0]}".encode()).hexdigest()[:40])

    class Inbox(Shelf):
        def __init__(self) -> None:
            super().__init__()
            for uid in taken:
                self._mail["alice"][uid] = (MessageInfo(uid, 3), b"x")
                self.times[uid] = NOW

    junk = Shelf()
    junk.put(b"junk\n")
    found = list(run(Union(Inbox(), {"Junk": junk}).open("alice", CLIENT)).messages)
    assert [message.uid for message in found[:2]] == taken
    assert len({message.uid for message in found}) == 3


# --- locks ----------------------------------------------------------------------------------------------------------


class Recording:
    """A store that says what is asked of it, and fails where it is told to."""

    def __init__(self, name: str, log: list[str], **failures: Exception) -> None:
        self.name, self.log, self.failures = name, log, failures
        self.messages = [MessageInfo(f"{name}{n}", 3) for n in range(3)]

    def _step(self, step: str) -> None:
        self.log.append(f"{step} {self.name}")
        if step in self.failures:
            raise self.failures[step]

    async def open(self, user: str, client: ClientInfo) -> Maildrop:
        self._step("open")
        return self

    async def retrieve(self, message: MessageInfo) -> bytes:
        return b"x"

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        self.log.append(f"commit {self.name} {' '.join(message.uid for message in deleted)}".rstrip())
        if "commit" in self.failures:
            raise self.failures["commit"]

    async def release(self) -> None:
        self._step("release")


def test_all_are_locked_in_order_and_released() -> None:
    log: list[str] = []
    maildrop = run(Union(Recording("a", log), {"B": Recording("b", log), "C": Recording("c", log)}).open("u", CLIENT))
    run(maildrop.commit([]))
    run(maildrop.release())
    assert log == [
        "open a",
        "open b",
        "open c",
        "commit a",
        "commit b",
        "commit c",
        "release c",
        "release b",
        "release a",
    ]


@pytest.mark.parametrize("failure", [MaildropInUse(), TemporaryFailure(), RuntimeError("bug")])
def test_all_or_none(failure: Exception) -> None:
    """P1: what was locked already is free again."""
    log: list[str] = []
    parts = {"B": Recording("b", log, open=failure), "C": Recording("c", log)}
    with pytest.raises(type(failure)):
        run(Union(Recording("a", log), parts).open("u", CLIENT))
    assert log == ["open a", "open b", "release a"]


def test_a_part_in_use() -> None:
    """A session on the folder alone, and one on the union: one at a time, and the inbox is not held meanwhile."""
    parts = shelves()
    alone = run(parts["Junk"].open("alice", CLIENT))
    with pytest.raises(MaildropInUse):
        run(union(parts).open("alice", CLIENT))
    assert not parts[""].locked("alice")
    run(alone.release())
    together = run(union(parts).open("alice", CLIENT))
    with pytest.raises(MaildropInUse):
        run(parts["Junk"].open("alice", CLIENT))
    run(together.release())


def test_release_reaches_all() -> None:
    log: list[str] = []
    parts = {"B": Recording("b", log, release=RuntimeError("bug")), "C": Recording("c", log)}
    maildrop = run(Union(Recording("a", log), parts).open("u", CLIENT))
    with pytest.raises(RuntimeError, match="bug"):
        run(maildrop.release())
    assert log[-3:] == ["release c", "release b", "release a"]


# --- commit ---------------------------------------------------------------------------------------------------------


def committed(first: Exception | None, second: Exception | None, marked: Sequence[int] = range(6)) -> list[str]:
    """What two parts of three messages were told, if they fail so."""
    log: list[str] = []

    def part(name: str, failure: Exception | None) -> Recording:
        return Recording(name, log, **({} if failure is None else {"commit": failure}))

    maildrop = run(Union(part("a", first), {"B": part("b", second)}).open("u", CLIENT))
    try:
        run(maildrop.commit([maildrop.messages[n] for n in marked]))
    finally:
        assert [line for line in log if line.startswith("commit")] == [
            ("commit a " + " ".join(f"a{n}" for n in marked if n < 3)).rstrip(),
            ("commit b " + " ".join(f"b{n - 3}" for n in marked if n >= 3)).rstrip(),
        ]
    return log


def test_each_part_is_told_of_its_own() -> None:
    committed(None, None)
    committed(None, None, [1, 5])
    committed(None, None, [])


@pytest.mark.parametrize(
    ("first", "second", "remaining"),
    [
        (CommitIncomplete(2), None, 2),
        (None, CommitIncomplete(1), 1),
        (CommitIncomplete(2), CommitIncomplete(1), 3),
        (TemporaryFailure(), CommitIncomplete(1), 4),
        (PermanentFailure(), TemporaryFailure(), 6),
    ],
)
def test_a_partial_failure_says_how_many_remain(
    first: BackendError | None, second: BackendError | None, remaining: int
) -> None:
    """P1: of a part that does not say how many, all."""
    with pytest.raises(CommitIncomplete) as failed:
        committed(first, second)
    assert failed.value.remaining == remaining


def test_a_part_fails_that_had_nothing_to_remove() -> None:
    """It may have had other things to do; what it says is passed on."""
    with pytest.raises(TemporaryFailure, match="later"):
        committed(None, TemporaryFailure("later"), [0])


def test_a_part_fails_as_it_must_not() -> None:
    """Its traceback goes to the log, and the other part has been told."""
    with pytest.raises(ExceptionGroup) as failed:
        committed(RuntimeError("bug"), CommitIncomplete(1))
    assert [str(failure) for failure in failed.value.exceptions] == ["bug"]


# --- the rest of the contract ---------------------------------------------------------------------------------------


def test_arrivals_are_those_of_the_parts() -> None:
    parts = shelves()
    for n, name in enumerate(PARTS):
        parts[name].put(arrived=NOW + n)
    maildrop = run(union(parts).open("alice", CLIENT))
    assert isinstance(maildrop, Arrivals)
    assert run(maildrop.arrivals()) == [NOW, NOW + 1, NOW + 2]


class Expiring(Shelf):
    """Says how long mail is kept."""

    def __init__(self, days: int | None, *, per_user: bool = False) -> None:
        super().__init__()
        self._policy = Policy(days, per_user)

    async def expiry(self, user: str | None) -> Policy:
        return self._policy


@pytest.mark.parametrize(
    ("inbox", "part", "both"),
    [
        (Policy(None), Policy(None), Policy(None)),
        (Policy(None), Policy(7), Policy(7)),
        (Policy(30), Policy(7, per_user=True), Policy(7, per_user=True)),
        (Policy(0), Policy(None), Policy(0)),
    ],
)
def test_the_shortest_expiry_counts(inbox: Policy, part: Policy, both: Policy) -> None:
    """R2449-EXPIRE: what is announced is kept for all mail that is shown."""
    stores = [Expiring(policy.value, per_user=policy.per_user) for policy in (inbox, part)]
    seen = Union(stores[0], {"Junk": stores[1]})
    assert isinstance(seen, Expiry)
    assert run(seen.expiry("alice")) == both


def test_no_expiry_is_announced_for_mail_of_which_nobody_knows() -> None:
    assert not isinstance(Union(Expiring(7), {"Junk": Shelf()}), Expiry)
    assert not isinstance(Union(Shelf(), {"Junk": Expiring(7)}), Expiry)


def test_what_makes_no_union() -> None:
    class Hooked(MemoryBackend):
        async def connect(self, client: ClientInfo) -> None:
            """Nobody would call it."""

        async def disconnect(self, client: ClientInfo, reason: str) -> None:
            """Nor this."""

    with pytest.raises(ValueError, match="at least one part"):
        Union(Shelf(), {})
    with pytest.raises(TypeError, match="hooks: 'Junk'"):
        Union(Shelf(), {"Junk": Hooked()})


@pytest.mark.parametrize("around", [lambda store: store, lambda store: AtMost(store, 10**6)])
async def test_large_maildrops_are_put_together_in_slices(around: Callable[[Store], Store]) -> None:
    """P4: others get their turn."""
    import trio

    class Many(Shelf):
        async def open(self, user: str, client: ClientInfo) -> Any:
            recording = Recording("m", [])
            recording.messages = [MessageInfo(str(n), 3) for n in range(20_000)]
            return recording

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        maildrop = await around(Union(Many(), {"Junk": Many()})).open("alice", CLIENT)
        assert len(maildrop.messages) == 40_000
        await maildrop.commit(maildrop.messages)
        nursery.cancel_scope.cancel()
    assert turns >= 60
