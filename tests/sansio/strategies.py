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
    b"AUTH",
    b"STLS",
    b"UTF8",
    b"LANG",
    b"XCLIENT",
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
        b"PLAIN",
        b"AGEAYg==",
        b"A" * 1000,
        b"=",
        b"*",
        b"en",
        b"de-CH",
        b"ADDR=192.0.2.1",
        b"J\xc3\xbcrgen",
        b"J\xfcrgen",
    ]
)
good_lines = st.builds(
    lambda verb, words, end: b" ".join([verb, *words]) + end,
    st.sampled_from([*VERBS, b"noop", b"sTaT", b"auth", b"XYZZY", b"LAST", b""]),
    st.lists(words, max_size=3),
    st.sampled_from([b"\r\n", b"\r\n", b"\n", b" \r\n", b"\r\r\n"]),
)
# An exchange, or the beginning of one: half of these lines are base64.
SASL_LINES = [
    b"",
    b"*",
    b"=",
    b"QUIT",
    b"NOOP",
    b"AGEAYg==",
    b"AGE=",
    b"=AAA",
    b"AAA=BBB",
    b"AAAA=",
    b"AB==",
    b"A" * 1000,
    b"A" * 20_000,
]
exchanges = st.builds(
    lambda begin, lines: begin + b"".join(line + b"\r\n" for line in lines),
    st.sampled_from([b"AUTH PLAIN\r\n", b"auth x-1 =\r\n", b"AUTH PLAIN AGE=\r\n"]),
    st.lists(st.sampled_from(SASL_LINES), max_size=3),
)
command_streams = st.lists(
    good_lines | exchanges | st.binary(max_size=30) | st.just(b"A" * 600 + b"\r\n"), max_size=12
).map(b"".join)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:stop] for start, stop in pairwise(ends)]


cuts = st.lists(st.integers(0, 2000), max_size=12)
