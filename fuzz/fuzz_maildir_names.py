"""Any names of files: each is a legal unique-id for ever, no two messages have one, and flags change nothing."""

from __future__ import annotations

import re

from trio_pop3.backends.maildir.names import arrival, base_name, path_id, unique_id

from .harness import read, run

UID = re.compile(r"[\x21-\x7e]{1,70}")
FLAGS = (b":2,", b":2,S", b":2,DFPRST", b":1,x:y", b":", b":2,S,a=b")


def names_in(payload: bytes) -> list[bytes]:
    """What a directory can hold: names without slash and NUL, of 255 octets at most."""
    return [name[:255] for name in re.split(rb"[/\0]", payload) if name and name[:1] != b"."]


def test_one_input(data: bytes) -> None:
    """P3. The payload is file names with slashes between them."""
    given = read(data)
    named = names_in(given.payload)[:50]
    # Names are given by others: one may be just what another's unique-id is.
    named += [uid.encode() for name in named for uid in (unique_id(base_name(name)), path_id(b"cur/" + name))]
    owners: dict[str, bytes] = {}
    order: set[tuple[int, int, bytes]] = set()
    for name in named:
        base = base_name(name)
        assert base, "a message without an identity"
        assert base_name(base) == base, "the identity has another one"
        uid = unique_id(base)
        assert UID.fullmatch(uid), f"not a unique-id: {uid!r}"
        assert owners.setdefault(uid, base) == base, f"one unique-id for two messages: {uid}"
        if not name.startswith(b":"):
            assert {base_name(base + flags) for flags in FLAGS} == {base}, "flags change the identity"
        seconds, micro, last = arrival(base, given.options)
        assert 0 <= seconds < 10**12, "no time"
        assert 0 <= micro < 10**6, "no part of a second"
        assert last == base, "two messages could have one place"
        order.add((seconds, micro, last))
    assert len(order) == len(owners), "two messages in one place"
    for name in named:
        path = b"cur/" + name
        assert UID.fullmatch(path_id(path)), "not a unique-id"
        assert path_id(path) not in owners, "a path has the unique-id of a name"


if __name__ == "__main__":
    run(test_one_input)
