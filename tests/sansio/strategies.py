"""Octets worth trying, and ways to cut them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

# Line ends, dots and their neighbours, far more often than chance would have them.
FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"..",
    b".\r\n",
    b"\r\n.",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r.\r",
    b"\0",
    b"\xff",
    b"x",
    b" ",
]
messages = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=30).map(b"".join) | st.binary(
    max_size=60
)

VERBS = [
    b"USER",
    b"PASS",
    b"APOP",
    b"STAT",
    b"LIST",
    b"RETR",
    b"DELE",
    b"NOOP",
    b"RSET",
    b"QUIT",
    b"TOP",
    b"UIDL",
    b"CAPA",
]
words = st.sampled_from(
    [
        b"alice",
        b"1",
        b"0",
        b"2",
        b"007",
        b"-1",
        b"+1",
        b"1_0",
        b"1.5",
        b"0x1",
        b"99999999999",
        b"x" * 300,
        b"\xd9\xa1",
        b"c4" * 16,
    ]
)
good_lines = st.builds(
    lambda verb, words, end: b" ".join([verb, *words]) + end,
    st.sampled_from([*VERBS, b"noop", b"sTaT", b"XYZZY", b"AUTH", b"STLS", b"LAST", b""]),
    st.lists(words, max_size=3),
    st.sampled_from([b"\r\n", b"\r\n", b"\n", b" \r\n", b"\r\r\n"]),
)
command_streams = st.lists(good_lines | st.binary(max_size=30) | st.just(b"A" * 600 + b"\r\n"), max_size=12).map(
    b"".join
)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:stop] for start, stop in pairwise(ends)]


cuts = st.lists(st.integers(0, 2000), max_size=12)
