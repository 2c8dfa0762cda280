"""Any list of unique-ids, ours or an old server's, is read or refused in one sentence; no two messages get one."""

from __future__ import annotations

from collections.abc import Mapping

from trio_pop3.backends.maildir.uids import UidMap, UidMapError, map_lines, parse_map
from trio_pop3.migration.courier import read_sizelist
from trio_pop3.migration.cyrus import read_list
from trio_pop3.migration.dovecot import read_uidlist
from trio_pop3.migration.formats import DOVECOT, UidlFormat
from trio_pop3.migration.merge import compare, merge
from trio_pop3.migration.old import OldIds, SourceError

from .harness import read, run

READERS = (
    lambda data: OldIds(parse_map("list", data)),
    lambda data: read_uidlist("list", data, UidlFormat(DOVECOT)),
    lambda data: read_sizelist("list", data),
    lambda data: read_list("list", data, 7, UidlFormat("%v.%u")),
)


def test_one_input(data: bytes) -> None:
    """P3. The payload is the list; the options say whose it is."""
    given = read(data)
    try:
        old = READERS[given.options % len(READERS)](given.payload)
    except (SourceError, UidMapError) as failure:
        said = str(failure)
        assert said.startswith("list"), "not said where"
        assert said.isprintable(), "not one sentence"
        return
    found = merge({}, old, ())
    assert parse_map("map", "".join(f"{line}\n" for line in map_lines(found.uids)).encode()) == found.uids
    names = [*old.uids, *(uid.encode() for uid in found.uids.values() if "/" not in uid)][:200]
    served = one_to_one(UidMap(dict(found.uids)), names)
    refused = {base for base, _, _ in found.refused}
    assert {base for base, _, _ in compare(old, {b: served[b] for b in old.uids if b in served}).again} <= refused


def one_to_one(uids: UidMap, names: list[bytes]) -> Mapping[bytes, str]:
    """What messages of these names get, each of them and a second file with its name."""
    served = {name: uids.of(name, b"new/" + name, 0) for name in names}
    further = [uids.of(name, b"cur/" + name, 1) for name in served]
    assert len({*served.values(), *further}) == 2 * len(served), "two messages have one unique-id"
    return served


if __name__ == "__main__":
    run(test_one_input)
