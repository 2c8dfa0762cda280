"""What an import does to a map, and what clients would notice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir.uids import UidMap
from trio_pop3.migration.merge import Change, compare, merge
from trio_pop3.migration.old import OldIds

names = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
texts = st.sampled_from(["a", "b", "c", "1", "2", "3"])
maps = st.lists(st.tuples(names, texts), unique_by=(lambda pair: pair[0], lambda pair: pair[1])).map(dict)
olds = st.dictionaries(names, texts | st.sampled_from(["", "x" * 71, "blank blank", "\xe9"])).map(OldIds)


@given(maps, olds, st.sets(names))
def test_what_comes_of_an_import(imported: dict[bytes, str], old: OldIds, here: set[bytes]) -> None:
    """P3, F1, F6: one to one again; the old server's word counts, or is reported; and nothing else changes."""
    found = merge(imported, old, here)
    assert len(set(found.uids.values())) == len(found.uids)
    refused = {base for base, _, _ in found.refused}
    for base, uid in old.uids.items():
        assert (base in refused) is (found.uids.get(base) != uid or (imported.get(base) == uid and base in refused))
    for base, uid in imported.items():
        if found.uids.get(base) != uid:
            assert Change(base, uid, found.uids.get(base)) in found.changed
    assert len(found.changed) == len({change.base for change in found.changed})
    assert all(imported[change.base] == change.before != change.after for change in found.changed)
    assert found.added == len(found.uids.keys() - imported.keys())
    assert set(found.uids) <= set(imported) | set(old.uids)


@given(maps, olds, st.sets(names))
def test_the_same_import_again_changes_nothing(imported: dict[bytes, str], old: OldIds, here: set[bytes]) -> None:
    """So that it can be done days before, and again when the old server has stopped."""
    once = merge(imported, old, here)
    again = merge(once.uids, old, here)
    assert (again.uids, again.added, again.changed) == (once.uids, 0, [])


@given(olds, st.lists(names, unique=True))
def test_after_an_import_clients_notice_what_was_refused_and_nothing_else(old: OldIds, here: list[bytes]) -> None:
    """P3."""
    merged = merge({}, old, here)
    after = UidMap(dict(merged.uids))
    found = compare(old, {base: after.of(base, b"new/" + base, 0) for base in here})
    refused = {base for base, _, _ in merged.refused}
    # A name may be what was refused, or could not be kept.
    assert {base for base, _, _ in found.again} <= refused
    assert all(uid == old.uids[base] != ours for base, uid, ours in found.again)
    assert found.same + len(found.again) + len(found.new) == len(here)
    assert found.missing == len(old.uids.keys() - set(here))


def test_of_two_with_one_unique_id_the_one_that_is_here_keeps_it() -> None:
    """R1939-65: what a server does that allows duplicates; clients have fetched the message once."""
    old = OldIds({b"gone": "1", b"a": "1", b"b": "1"})
    found = merge({}, old, {b"a", b"b"})
    assert found.uids == {b"a": "1"}
    assert sorted(found.refused) == [(b"b", "1", "two messages have it"), (b"gone", "1", "two messages have it")]


def test_an_earlier_import_says_otherwise() -> None:
    """The other unique-id, and the other message."""
    found = merge({b"a": "1", b"b": "2", b"c": "3"}, OldIds({b"a": "7", b"d": "2"}), ())
    assert sorted(found.changed) == [Change(b"a", "1", "7"), Change(b"b", "2", None)]
    assert found.uids == {b"a": "7", b"c": "3", b"d": "2"}
    swapped = merge({b"a": "1", b"b": "2"}, OldIds({b"a": "2", b"b": "1"}), ())
    assert swapped.uids == {b"a": "2", b"b": "1"}
    assert sorted(swapped.changed) == [Change(b"a", "1", "2"), Change(b"b", "2", "1")]


def test_what_is_compared() -> None:
    old = OldIds({b"a": "1", b"b": "2", b"gone": "3"}, unsure=[b"u", b"a"])
    found = compare(old, {b"b": "2", b"a": "a", b"new": "new", b"u": "u"})
    assert (found.same, found.again) == (1, [(b"a", "1", "a"), (b"u", None, "u")])
    assert (found.new, found.missing, found.reordered) == ([b"new"], 1, 2)
    assert compare(old, {b"a": "1", b"x": "x", b"b": "2"}).reordered == 0
