"""courierpop3dsizelist, versions 0 to 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.migration.courier import read_sizelist
from trio_pop3.migration.old import SourceError

# As Debian's Courier wrote it.
WRITTEN = b"""\
/3 12 1795599193
1704067201.M1P1.host:2, 107 1:1795599193:0
1704067202.M2P1.host,S=9:2,S 116 2:1795599193:1
1704067203.M3 P1.host:2,S 112 7:1700000000:0
"""


def uids(data: bytes) -> dict[bytes, str]:
    return dict(read_sizelist("list", data).uids)


def test_as_courier_writes_it() -> None:
    """F6: a number may be of an earlier UIDVALIDITY, and a name may have blanks."""
    assert uids(WRITTEN) == {
        b"1704067201.M1P1.host": "UID1-1795599193",
        b"1704067202.M2P1.host,S=9": "UID2-1795599193",
        b"1704067203.M3 P1.host": "UID7-1700000000",
    }


@pytest.mark.parametrize(
    ("data", "uid"),
    [
        (b"/2 5 1795599193\n1.a:2, 107 1:1795599193\n", "UID1-1795599193"),
        (b"/3 5 0\n1.a:2, 107 1:0:0\n", "UID1"),
        (b"/1 5\n1.a:2, 107 4\n", "UID4"),
        (b"/3 5 9\n1.a:2, 107 0:9:0\n", "1.a"),
        (b"/1 5\n1.a:2, 107 0\n", "1.a"),
        (b"1.a:2, 107\n", "1.a"),
        (b"/1 5 \n1.a 107 4\n", "UID4"),
    ],
)
def test_older_versions(data: bytes, uid: str) -> None:
    assert uids(data) == {b"1.a": uid}


def test_names_that_are_unique_ids() -> None:
    """Version 0: some octets are escaped."""
    assert uids(b"1.a'b\"c+d e\xff~!:2,S 5\n") == {b"1.a'b\"c+d e\xff~!": "1.a+27b+22c+2Bd+20e+FF~!"}


@given(st.binary(min_size=1, max_size=9).filter(lambda name: not {*name} & {*b"\n/:\0"}))
def test_whatever_name_there_is(name: bytes) -> None:
    assert uids(b"/3 5 9\n%s:2,S 107 4:9:0\n" % name) == {name: "UID4-9"}
    [(base, uid)] = uids(b"%s 107\n" % name).items()
    assert base == name
    assert all(0x21 <= ord(each) <= 0x7E for each in uid)


def test_an_empty_mailbox() -> None:
    assert uids(b"/3 1 9\n") == uids(b"") == {}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"/3 5 9\n1.a:2, 107 4:9:", "line 2: cut off"), (b"1.a", "line 1: cut off"), (b"/4 5 9\n", "line 1: not a"),
        (b"/x\n", "line 1: not a"), (b"/3 5 9\n1.a:2, 107 4:9:0:1\n", "line 2: not a file name"),
        (b"/3 5 9\n1.a:2, 107 4\n", "line 2: not a"), (b"/3 5 9\n1.a:2, 107 x:9:0\n", "line 2: not a"),
        (b"/3 5 9\n1.a:2, x 4:9:0\n", "line 2: not a"), (b"/3 5 9\n107 4:9:0\n", "line 2: not a"),
        (b"/3 5 9\n\n", "line 2: not a"), (b"/2 5 9\n1.a 107 4:9:0\n", "line 2: not a"), (b"1.a\n", "line 1: not a"),
        (b"1.a\0 5\n", "line 1: not a"),
        (b"cur/1.a 5\n", "line 1: not a"), (b"1.a x\n", "line 1: not a"), (b"3 V1795564812 N13\n", "line 1: not a"),
    ],
)  # fmt: skip
def test_what_is_no_sizelist(data: bytes, why: str) -> None:
    """Nothing is guessed, and the sentence names the line."""
    with pytest.raises(SourceError, match=r"^list") as caught:
        uids(data)
    assert why in str(caught.value)
