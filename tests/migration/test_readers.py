"""Files that others wrote: whatever is in them, there is an answer or one sentence, and no answer is half of one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backends.maildir.uids import UidMapError, map_lines, parse_map
from trio_pop3.migration.courier import read_sizelist
from trio_pop3.migration.cyrus import read_list
from trio_pop3.migration.dovecot import read_uidlist
from trio_pop3.migration.formats import DOVECOT, UidlFormat
from trio_pop3.migration.old import OldIds, SourceError

from .test_courier import WRITTEN as OF_COURIER
from .test_dovecot import WRITTEN as OF_DOVECOT

OF_OURS = [*map_lines({b"a": "1", b"b": "end"})]
Reader = Callable[[bytes], OldIds]
READERS: dict[str, tuple[Reader, bytes]] = {
    "dovecot": (lambda data: read_uidlist("list", data, UidlFormat(DOVECOT)), OF_DOVECOT),
    "courier": (lambda data: read_sizelist("list", data), OF_COURIER),
    "cyrus": (lambda data: read_list("list", data, 7, UidlFormat("%u")), b"1 a\n2 b\n"),
    "map": (
        lambda data: OldIds(parse_map("list", data)),
        "\n".join([*map_lines({b"a": "1", b"b": "end"}), ""]).encode(),
    ),
}


def outcome(name: str, data: bytes) -> dict[bytes, str] | str:
    """What is read, or the sentence."""
    try:
        return dict(READERS[name][0](data).uids)
    except (SourceError, UidMapError) as failure:
        return str(failure)


@pytest.mark.parametrize("name", READERS)
@given(st.data())
def test_any_octets(name: str, data: st.DataObject) -> None:
    """P4: changed in some places, or nothing like it."""
    text = bytearray(READERS[name][1])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4) | st.sampled_from([b"\n", b" "]))
    for octets in (bytes(text), data.draw(st.binary(max_size=60))):
        found = outcome(name, octets)
        if isinstance(found, str):
            assert found.startswith("list")
            assert "\n" not in found
        else:
            assert all(base and not {*base} & {*b"/\0"} for base in found)


@pytest.mark.parametrize("name", ["dovecot", "courier", "map"])
def test_cut_anywhere(name: str) -> None:
    """P3: a file that was cut inside a line is refused; the map, which is ours, also at the end of one."""
    text = READERS[name][1]
    whole = READERS[name][0](text).uids
    for end in range(len(text)):
        found = outcome(name, text[:end])
        if text[:end].endswith(b"\n") and name != "map":
            assert isinstance(found, dict)
            assert found.items() <= whole.items()
        elif end or name != "courier":  # an empty sizelist is one
            assert isinstance(found, str)
