"""dovecot-uidlist: P and O, both versions, and what Dovecot itself would not take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.migration.dovecot import read_uidlist
from trio_pop3.migration.formats import DOVECOT, UidlFormat
from trio_pop3.migration.old import SourceError

# As Debian's Dovecot 2.3 wrote it, but for the fields of the third line.
WRITTEN = b"""\
3 V1795564812 N13 Gf0b19c3acc5a05656e150000a4d1ea5c
1 W107 :1704067201.M1P1.host
2 W116 S100 :1704067202.M2P1.host,S=100:2,S
4 G0123456789abcdef0123456789abcdef PUID7-1699999999 W12 Xunknown :1704067203.M3P1.host
12 :1704067204.M4P1.host
"""


def uids(data: bytes, text: str = DOVECOT) -> dict[bytes, str]:
    return dict(read_uidlist("list", data, UidlFormat(text)).uids)


def test_as_dovecot_writes_it() -> None:
    """F6: P wins over the format; fields nobody knows are left alone, flags are no part of a base name."""
    assert uids(WRITTEN) == {
        b"1704067201.M1P1.host": "000000016b06250c",
        b"1704067202.M2P1.host,S=100": "000000026b06250c",
        b"1704067203.M3P1.host": "UID7-1699999999",
        b"1704067204.M4P1.host": "0000000c6b06250c",
    }


def test_guids_of_single_messages() -> None:
    """%g is the base name, unless the line has a G."""
    found = uids(WRITTEN.replace(b" PUID7-1699999999", b""), "%g")
    assert found[b"1704067203.M3P1.host"] == "0123456789abcdef0123456789abcdef"
    assert found[b"1704067202.M2P1.host,S=100"] == "1704067202.M2P1.host,S=100"
    assert uids(WRITTEN, "%f")[b"1704067202.M2P1.host,S=100"] == "1704067202.M2P1.host,S=100"


def test_version_1() -> None:
    """Also Courier's courierimapuiddb; names may have blanks."""
    assert uids(b"1 1000 8\n3 1.a:2,S\n7 2.b c\n", "%v-%u") == {b"1.a": "1000-3", b"2.b c": "1000-7"}


def test_order() -> None:
    """O comes before UIDs, and messages without it behind those that have it."""
    data = b"3 V1 N9\n1 :a\n2 O2 :b\n3 O1 :c\n4 :d\n"
    assert [*uids(data)] == [b"c", b"b", b"a", b"d"]


def test_a_later_line_wins() -> None:
    """A file that was removed and put back has a new UID."""
    assert uids(b"3 V1 N9\n1 :a\n2 :b\n7 :a:2,S\n", "%u") == {b"b": "2", b"a": "7"}


def test_an_empty_mailbox() -> None:
    assert uids(b"3 V1 N1\n") == {}


@given(st.dictionaries(st.binary(min_size=1, max_size=9), st.integers(1, 2**32 - 1), max_size=5))
def test_whatever_names_there_are(messages: dict[bytes, int]) -> None:
    """Names are octets: blanks, and what looks like fields."""
    messages = {name: uid for name, uid in messages.items() if not {*name} & {*b"\n/:\0"} and name.strip(b" ")}
    for version, header, colon in (("1", b"1 7 9\n", b""), ("3", b"3 V7 N9\n", b":")):
        if version == "1":
            messages = {name: uid for name, uid in messages.items() if not name.startswith(b" ")}
        data = header + b"".join(b"%d %s%s\n" % (uid, colon, name) for name, uid in messages.items())
        assert uids(data, "%u") == {name: str(uid) for name, uid in messages.items()}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty, or cut off"), (b"3 V1 N1", "empty, or cut off"), (b"3 V1 N2\n1 :a\n2 :", "line 3: cut off"),
        (b"2 1 2\n1 S a\n", "line 1: not a dovecot-uidlist"), (b"\n", "line 1: not a dovecot-uidlist"),
        (b"3 N2\n", "line 1: no UIDVALIDITY"), (b"3 V0 N2\n", "line 1: no UIDVALIDITY"),
        (b"3 Vx N2\n", "line 1: no UIDVALIDITY"), (b"1 5\n", "line 1: no UIDVALIDITY"),
        (b"3 V9999999999 N2\n", "line 1: no UIDVALIDITY"), (b"3 V1 N2\n\n", "line 2: not a UID and a file name"),
        (b"3 V1 N2\nx :a\n", "line 2: not a UID"), (b"3 V1 N2\n0 :a\n", "line 2: not a UID"),
        (b"3 V1 N2\n1 :\n", "line 2: not a UID"), (b"3 V1 N2\n1 W5\n", "line 2: not a UID"),
        (b"3 V1 N2\n1 :a/b\n", "line 2: not a UID"), (b"3 V1 N2\n1 :a\0\n", "line 2: not a UID"),
        (b"3 V1 N2\n99999999999999999999999 :a\n", "line 2: not a UID"),
        (b"/3 7 1\n1.a 5 1:1:0\n", "line 1: not a dovecot-uidlist"),
    ],
)  # fmt: skip
def test_what_is_no_uidlist(data: bytes, why: str) -> None:
    """Nothing is guessed, and the sentence names the line."""
    with pytest.raises(SourceError, match=r"^list") as caught:
        uids(data)
    assert why in str(caught.value)
