"""Numbers, unique-ids, sizes and marks: what is taken over from a backend, and what is made of it."""

from __future__ import annotations

import gc
import re
import weakref
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.replies import DELETED_MESSAGE, NO_SUCH_MESSAGE
from trio_pop3.snapshot import Snapshot

from .driving import Dialogue, Store, info, run


async def no_checkpoint() -> None:
    """Nobody else is there."""


def taken(sizes: list[int]) -> Snapshot:
    return run(Snapshot.take([info(number, octets) for number, octets in enumerate(sizes, 1)], no_checkpoint))


sizes = st.lists(st.integers(2, 2**63 - 1), max_size=6)


@given(sizes, st.lists(st.integers(1, 6)), st.dictionaries(st.integers(1, 6), st.integers(2, 2**40)))
def test_the_numbers_add_up(octets: list[int], marks: list[int], others: dict[int, int]) -> None:
    """B2, B3, R1939-28, R1939-32, E5: with marks, with other sizes, and in any order of the two."""
    mail = taken(octets)
    marked = sorted({number for number in marks if number <= len(octets)})
    for number in marked:
        mail.delete(number)
    expected = list(octets)
    left = [size for number, size in enumerate(octets, 1) if number not in marked]
    assert mail.left == (len(left), sum(left))
    for sent in (others, {}):
        mail.resize(sent)
        expected = [sent.get(number, size) for number, size in enumerate(octets, 1)]
        left = [size for number, size in enumerate(expected, 1) if number not in marked]
        assert mail.sizes == tuple(expected)
        assert mail.octets == sum(expected)
        assert mail.left == (len(left), sum(left))
        assert mail.deleted == [mail.messages[number - 1] for number in marked]
        listed = b"".join(mail.slices(mail.sizes)).decode().split("\r\n")[:-1]
        assert listed == [f"{n} {size}" for n, size in enumerate(expected, 1) if n not in marked]
    assert mail.stored == tuple(octets)
    mail.reset()
    assert mail.left == (len(octets), sum(octets))
    assert mail.deleted == []


def test_what_is_missing() -> None:
    """R1939-39, R1939-45."""
    mail = taken([2, 3])
    mail.delete(2)
    assert [mail.missing(number) for number in (0, 1, 2, 3)] == [
        NO_SUCH_MESSAGE,
        None,
        DELETED_MESSAGE,
        NO_SUCH_MESSAGE,
    ]
    assert len(mail) == 2


def test_a_listing_that_has_begun_does_not_change() -> None:
    """A14, B2: marks are looked at once."""
    mail = taken([2] * 1500)
    slices = mail.slices(mail.sizes)
    first = next(slices)
    mail.delete(1500)
    assert (first + b"".join(slices)).count(b"\r\n") == 1500


@pytest.mark.parametrize(("messages", "checkpoints"), [(0, 0), (1, 1), (1000, 1), (1001, 2), (5000, 5)])
def test_others_get_their_turn_while_a_large_maildrop_is_checked(messages: int, checkpoints: int) -> None:
    """P4."""
    turns: list[None] = []

    async def checkpoint() -> None:
        turns.append(None)

    assert len(run(Snapshot.take([info(n) for n in range(messages)], checkpoint))) == messages
    assert len(turns) == checkpoints


# --- through a session -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mail",
    [
        [be.MessageInfo("", 2)],
        [be.MessageInfo("a b", 2)],
        [be.MessageInfo("x" * 71, 2)],
        [be.MessageInfo("a\r\n.\r\n", 2)],
        [be.MessageInfo("\u00e9", 2)],
        [be.MessageInfo(7, 2)],  # type: ignore[arg-type]
        [be.MessageInfo("a", 2), be.MessageInfo("a", 3)],
        [be.MessageInfo("a", 1)],
        [be.MessageInfo("a", -5)],
        [be.MessageInfo("a", 2.5)],  # type: ignore[arg-type]
        [be.MessageInfo("a", True)],
        [be.MessageInfo("a", "2")],  # type: ignore[arg-type]
        ["not a message"],
    ],
)
def test_a_maildrop_that_breaks_the_contract_is_refused(mail: list[object], caplog: pytest.LogCaptureFixture) -> None:
    """F1, A11, A12, R1939-61, R1939-24: before anything of it is on the wire; lock given back, reason logged."""
    store = Store(mail)
    session = Dialogue(store)
    assert session.login() == b"-ERR [SYS/PERM] the mail store returned an inconsistent maildrop\r\n"
    assert store.calls.count("release") == 1
    assert session.ask("LIST").startswith(b"-ERR")
    assert "opening the maildrop" in caplog.text


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        ([be.MessageInfo("a b", 2)], "a unique-id must be 1 to 70 characters in 0x21-0x7E: 'a b'"),
        ([be.MessageInfo("a", 1)], "a size must be an int from 2 to 2**63 - 1: 1 (uid a)"),
        ([be.MessageInfo("a", 2**63)], "a size must be an int from 2 to 2**63 - 1: 9223372036854775808 (uid a)"),
        ([be.MessageInfo("a", 2), be.MessageInfo("a", 3)], "two messages have the same unique-id"),
    ],
)
def test_what_is_wrong_with_a_maildrop_is_said(mail: list[be.MessageInfo], reason: str) -> None:
    """F1, R1939-61: to whoever wrote the backend, in the log."""
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        run(Snapshot.take(mail, no_checkpoint))


def test_a_snapshot_that_fails_in_a_typed_way_gives_the_lock_back() -> None:
    """R1939-24, I9."""
    store = Store()
    store.fail["messages"] = be.PermanentFailure("cannot parse")
    assert Dialogue(store).login() == b"-ERR [SYS/PERM] cannot parse\r\n"
    assert store.calls.count("release") == 1


def test_the_limits_of_uids_and_sizes_are_allowed() -> None:
    """R1939-61, B3, F8: and nothing is opened to list them."""
    store = Store([be.MessageInfo("!" * 70, 2), be.MessageInfo("~", 2**63 - 1)])
    session = Dialogue(store)
    session.login()
    assert session.ask("STAT") == f"+OK 2 {2**63 + 1}\r\n".encode()
    assert session.ask("UIDL 1") == b"+OK 1 " + b"!" * 70 + b"\r\n"
    session.ask("UIDL")
    session.ask("LIST")
    assert "retrieve" not in store.calls


def test_a_long_listing_comes_in_slices() -> None:
    """P4, C1, C9, F8: with a whole slice deleted, the numbers stay."""
    steps: list[None] = []

    async def checkpoint() -> None:
        steps.append(None)

    session = Dialogue(Store([info(n) for n in range(2500)]), checkpoint=checkpoint)
    session.login()
    assert len(steps) == 3
    for number in range(1001, 2001):
        session.ask(f"DELE {number}")
    steps.clear()
    rows = session.ask("LIST").split(b"\r\n")[1:-2]
    assert rows == [b"%d 3" % n for n in (*range(1, 1001), *range(2001, 2501))]
    assert len(steps) == 3


class Columns(be.MessageColumns[be.MessageInfo]):
    """A snapshot whose messages are made when they are asked for."""

    made = 0

    def message(self, at: int) -> be.MessageInfo:
        self.made += 1
        return be.MessageInfo(self.uids[at], self.octets[at])


def test_columns_are_taken_without_making_a_message() -> None:
    """P4: a hundred thousand of them cost more than all the rest."""
    columns = Columns([f"uid{n}" for n in range(2500)], array("q", range(2, 2502)))
    mail = run(Snapshot.take(columns, no_checkpoint))
    assert (mail.uids[2499], mail.sizes[2499], len(mail), columns.made) == ("uid2499", 2501, 2500, 0)
    mail.delete(7)
    assert mail.deleted == [be.MessageInfo("uid6", 8)]
    assert columns.made == 1
    assert mail.deleted != [be.MessageInfo("uid6", 9)]
    assert [message.uid for message in columns[1:4]] == ["uid1", "uid2", "uid3"]
    assert columns[-1] == be.MessageInfo("uid2499", 2501)
    assert [*columns][3] == columns[3]
    with pytest.raises(IndexError):
        columns[2500]


def test_what_is_marked_is_a_sequence_that_makes_its_messages_when_asked() -> None:
    """P4: it is handed over as it was, whatever is marked later."""
    columns = Columns([f"uid{n}" for n in range(2500)], array("q", range(2, 2502)))
    mail = run(Snapshot.take(columns, no_checkpoint))
    for number in range(2500, 0, -1):
        mail.delete(number)
    deleted = mail.deleted
    some = deleted[1:2000:3]
    mail.reset()
    assert (len(deleted), len(some), bool(mail.deleted), columns.made) == (2500, 667, False, 0)
    assert "2500" in repr(deleted)
    assert columns.made == 0
    assert (deleted[0], deleted[-1], some[1]) == (columns[0], columns[2499], columns[4])
    assert [message.uid for message in deleted] == columns.uids
    assert deleted == [*columns]
    assert deleted != 7
    with pytest.raises(IndexError):
        deleted[2500]


class CountingStore(Store):
    """Notes how many messages there were when the commit began."""

    made = -1

    async def commit(self, deleted: Sequence[be.MessageInfo]) -> None:
        assert isinstance(self.mail, Columns)
        self.made = self.mail.made
        await super().commit(deleted)


def test_quit_makes_no_message_of_those_that_are_marked() -> None:
    """P4: sixty thousand of them held up every other session for 120 ms."""
    store = CountingStore(Columns([f"uid{n}" for n in range(100)], [3] * 100))
    session = Dialogue(store)
    session.login()
    for number in range(1, 101):
        session.ask(f"DELE {number}")
    assert session.ask("QUIT").startswith(b"+OK")
    assert store.made == 0
    assert f"commit {[f'uid{n}' for n in range(100)]}" in store.calls


@pytest.mark.parametrize(
    ("uids", "octets"),
    [(["a", "a"], [2, 2]), (["a", "b"], [2]), (["a"], [2, 2]), (["a\nb"], [2]), (["a", ""], [2, 2]), (["x" * 71], [2]),
     (["\xe4"], [2]), (["a"], [1]), (["a"], [2**63]), (["a"], [True]), ([b"a"], [2]), ([None], [2])],
)  # fmt: skip
def test_columns_are_trusted_no_more_than_messages(uids: list[str], octets: list[int]) -> None:
    """F4: nothing wrong gets through, nor a unique-id with a line end in it that looks like two."""
    with pytest.raises(ValueError):  # noqa: PT011 - many texts
        run(Snapshot.take(Columns(uids, octets), no_checkpoint))


def test_a_session_on_columns() -> None:
    """The same dialogue as on a list."""
    dialogue = Dialogue(Store(Columns(["one", "two"], [3, 4])))
    assert dialogue.login().startswith(b"+OK maildrop has 2")
    assert dialogue.ask("UIDL") == b"+OK 2 messages follow\r\n1 one\r\n2 two\r\n.\r\n"
    assert dialogue.ask("LIST 2") == b"+OK 2 4\r\n"


@pytest.mark.parametrize("end", [b"QUIT\r\n", b"NOOP\r\n"], ids=["quit", "cut off"])
def test_a_session_that_is_over_holds_no_snapshot(end: bytes) -> None:
    """P4: a hundred thousand messages go at once, and not when the garbage collector comes."""
    octets = array("q", [3, 3])
    there = weakref.ref(octets)
    store = Store(Columns(["one", "two"], octets))
    del octets
    dialogue = Dialogue(store)
    dialogue.login()
    dialogue.send(b"RETR 1\r\nLIST\r\nTOP 2 0\r\nUIDL 1\r\nDELE 1\r\n")
    gc.disable()
    try:
        store.mail = ()
        assert there() is not None
        dialogue.send(end)
        dialogue.close("cut off")
        assert there() is None
    finally:
        gc.enable()
