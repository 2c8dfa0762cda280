"""Unique-ids of mbox messages: which of them last, and what it takes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.mbox.scan import Found
from trio_pop3.backends.mbox.uids import Ordinals, dump, key_of, load, number, remaining, uid_of

from .maildir_helpers import uids
from .mbox_helpers import Box

DIGEST = "0123456789abcdef0123456789abcdef01234567"
FOUND = Found(0, 0, 0, 0, DIGEST, 2, None, False)


def test_the_key() -> None:
    """F1, F3: an X-UIDL that could be that of another message is not believed."""
    named = replace(FOUND, x_uidl="abc")
    assert key_of(FOUND, True) == key_of(named, False) == DIGEST
    assert key_of(named, True) == "abc"
    for ours in (DIGEST, f"{DIGEST}-2"):
        assert key_of(replace(FOUND, x_uidl=ours, digest="f" * 40), True) == "f" * 40


def test_the_unique_id() -> None:
    """F1, F4: one of 70 octets with an ordinal is hashed."""
    assert uid_of(DIGEST, 1) == DIGEST
    assert uid_of(DIGEST, 12) == f"{DIGEST}-12"
    assert uid_of("x" * 70, 1) == "x" * 70
    assert len(uid_of("x" * 70, 2)) == 42
    assert uid_of("x" * 70, 2) != uid_of("y" * 70, 2)


keys = st.sampled_from(["a", "b", "c"])
steps = st.lists(st.one_of(keys, st.sets(st.integers(0, 5)), st.none()), max_size=12)


@given(script=steps)
def test_ordinals_are_kept_whatever_is_removed(script: list[str | set[int] | None]) -> None:
    """F2, F3, F5, P3: deliveries, our removals, and restarts; as long as one with the key is there, none comes back."""
    there: list[tuple[str, int]] = []
    known: dict[str, Ordinals] = {}
    given_out: dict[str, set[int]] = {}
    for step in script:
        if isinstance(step, str):
            there.append((step, 0))
        elif step is None:
            known = load(dump(known))
        numbered = list(zip([key for key, _ in there], number([key for key, _ in there], known), strict=True))
        for (key, before), (_, ordinal) in zip(there, numbered, strict=True):
            if before:
                assert ordinal == before
            else:
                assert ordinal not in given_out.setdefault(key, set())
                given_out[key].add(ordinal)
        there = numbered
        if isinstance(step, set):
            gone = [entry for nth, entry in enumerate(there) if nth in step]
            known = remaining(there, gone, known)
            there = [entry for entry in there if entry not in gone]
            given_out = {key: seen for key, seen in given_out.items() if key in {key for key, _ in there}}
    assert len(set(there)) == len(there)


def test_the_list_is_short() -> None:
    """Nothing is written for messages that counting tells apart."""
    numbered = [("a", 1), ("a", 2), ("b", 1)]
    assert remaining(numbered, [("b", 1)], {}) == {}
    assert remaining(numbered, [("a", 1)], {}) == {"a": Ordinals(3, (2,))}
    assert remaining(numbered, [("a", 2)], {}) == {"a": Ordinals(3, (1,))}
    assert remaining([("a", 2)], [("a", 2)], {"a": Ordinals(3, (2,))}) == {}


@pytest.mark.parametrize("noise", [b"", b"\xff\n", b"a\n", b"a 1\n", b"a 3 2 1\n", b"a 2 2\n", b"a x y\n", b"\0" * 100])
def test_noise_in_the_list(noise: bytes) -> None:
    """P3: costs ordinals at most."""
    assert load(noise) == {}
    assert load(noise + b"\nb 3 2\n") == {"b": Ordinals(3, (2,))}


def shown(box: Box) -> list[str]:
    """What a session of its own gets."""
    dialogue = box.login()
    listed = uids(dialogue)
    dialogue.close()
    return listed


# --- of sessions ------------------------------------------------------------------------------------------------


EQUAL = b"Subject: same\n\nsame\n"


def test_equal_messages_keep_theirs_when_one_goes(tmp_path: Path) -> None:
    """F2, F3, F5, P3: whichever goes, and the file is the same octets then; a new one gets a new one."""
    for gone in range(3):
        root = tmp_path / str(gone)
        root.mkdir()
        box = Box(root)
        box.put(EQUAL, EQUAL, EQUAL)
        dialogue = box.login()
        before = uids(dialogue)
        assert len(set(before)) == 3
        dialogue.send(b"DELE %d\r\nQUIT\r\n" % (gone + 1))
        left = before[:gone] + before[gone + 1 :]
        assert shown(box) == left
        box.put(EQUAL)
        after = shown(box)
        assert after[:2] == left
        assert after[2] not in before


def test_without_the_list_they_are_counted_anew(tmp_path: Path) -> None:
    """P3: what is said in docs/mbox.md: of messages that are equal in every octet, and of no others."""
    box = Box(tmp_path)
    box.put(EQUAL, EQUAL, b"Subject: other\n\n")
    dialogue = box.login()
    before = uids(dialogue)
    dialogue.send(b"DELE 1\r\nQUIT\r\n")
    (box.state / "alice.uids").unlink()
    assert shown(box) == [before[0], before[2]]


texts = st.sampled_from([b"", EQUAL, b"Subject: a\n\n>From x\n", b"Subject: b\nStatus: RO\n\n", b"x" * 3000 + b"\n"])
actions = st.lists(
    st.one_of(st.tuples(st.just("put"), texts), st.tuples(st.just("remove"), st.sets(st.integers(0, 4)))), max_size=8
)


@given(script=actions)
def test_of_whole_sessions(script: list[tuple[str, bytes | set[int]]]) -> None:
    """F2, F3, P3, E10: appended, removed in sessions, with a new store each time: uid and text stay together."""
    with tempfile.TemporaryDirectory() as directory:
        box = Box(Path(directory))
        shown: list[str] = []
        for action, what in script:
            if isinstance(what, bytes):
                box.put(what)
            dialogue = box.login()
            now = uids(dialogue)
            assert now[: len(shown)] == shown
            assert len(set(now)) == len(now)
            if isinstance(what, set):
                marks = b"".join(b"DELE %d\r\n" % (nth + 1) for nth in what if nth < len(now))
                assert dialogue.send(marks + b"QUIT\r\n").count(b"+OK") == marks.count(b"DELE") + 1
                now = [uid for nth, uid in enumerate(now) if nth not in what]
            else:
                dialogue.close()
            shown = now
            assert action
