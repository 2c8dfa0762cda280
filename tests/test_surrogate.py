"""Surrogates: what becomes of each kind of field, where the header ends, and laws for any octets."""

from __future__ import annotations

import email
import email.header
import email.policy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.sansio import TopCutter
from trio_pop3.surrogate import MAX_HEADER, HeaderSplitter, needs_utf8, surrogate_header

from .sansio.strategies import cut, cuts, messages

NOBODY = "invalid@internationalized-address.invalid"
FIELDS = ["From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Return-Path", "Resent-From", "Resent-To", "Resent-Cc",
          "Resent-Bcc", "Resent-Sender"]  # fmt: skip


def rewritten(*lines: str, end: str = "\r\n") -> list[str]:
    """The lines of the surrogate of a header with these lines."""
    header = "".join(f"{line}{end}" for line in (*lines, "")).encode()
    surrogate = surrogate_header(header).decode("ascii")
    assert surrogate.endswith(end)
    assert all(len(line) <= 998 for line in surrogate.split(end))
    return surrogate.removesuffix(end).split(end)[:-1]


def shown(field: str) -> str:
    """What a client makes of a field's value."""
    parts = email.header.decode_header(field.partition(": ")[2])
    return "".join(text if isinstance(text, str) else text.decode(charset or "ascii") for text, charset in parts)


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "address", ["j\u00fcrgen@example.com", "jurgen@ex\u00e4mple.com", "\u00e9", "@\u00e9", "a@b <\u00e9"]
)
def test_no_address_that_somebody_could_have_is_left(name: str, address: str) -> None:
    """R6858-01, R6858-02: in every listed field an empty group, or an address in .invalid."""
    for value in (f"<{address}>", f"Jo <{address}>", address, f"Team: <{address}>;", f'"J\u00f6" <{address}>'):
        field = "".join(rewritten(f"{name}: {value}"))
        message = email.message_from_string(f"{field}\n\n", policy=email.policy.default)
        addresses = [each.addr_spec for each in getattr(message[name], "addresses", ())]
        assert set(addresses) <= {NOBODY}, field
        assert addresses or ":" in field.partition(":")[2] or field == f"{name}: <{NOBODY}>"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("J\u00fcrgen <j@example.com>", "From: =?utf-8?b?SsO8cmdlbg==?= <j@example.com>"),
        ('"M\u00fcller, \\"J\\"" <j@example.com>', "From: =?utf-8?b?TcO8bGxlciwgIkoi?= <j@example.com>"),
        ("j@example.com (J\u00fcrgen (the \\) one))", "From: =?utf-8?b?SsO8cmdlbiAodGhlICkgb25lKQ==?= <j@example.com>"),
        ("<j@example.com> (J\u00fcrgen)", "From: =?utf-8?b?SsO8cmdlbg==?= <j@example.com>"),
        ("(\u00e9) <j@example.com>", "From: =?utf-8?b?w6k=?= <j@example.com>"),
        ("<\u00e9@x> <j@example.com>", "From: <j@example.com>"),
        ("Fred  Foo <fr\u00e9d@example.com>", "From: Fred Foo:;"),
        ('"Foo, Fred" <fr\u00e9d@example.com>', "From: =?utf-8?b?Rm9vLCBGcmVk?=:;"),
        ("fr\u00e9d@example.com (Fred)", "From: Fred:;"),
        ("fr\u00e9d@example.com", "From: =?utf-8?b?ZnLDqWRAZXhhbXBsZS5jb20=?=:;"),
        ("<fr\u00e9d@example.com>", "From: =?utf-8?b?ZnLDqWRAZXhhbXBsZS5jb20=?=:;"),
        ("<fr\u00e9d@example.com", "From: =?utf-8?b?ZnLDqWRAZXhhbXBsZS5jb20=?=:;"),
        ("no address \u00e9", "From: =?utf-8?b?bm8gYWRkcmVzcyDDqQ==?=:;"),
        ('a@x,"B, \\" C"  <"b>"@x> , \u00e9@x,,\td@[IPv6:::1]',
         'From: a@x, "B, \\" C"  <"b>"@x>, =?utf-8?b?w6lAeA==?=:;, d@[IPv6:::1]'),
        ("Team: a@x, J\u00f6 <j@x>, \u00e9@x;, b@x",
         f"From: Team: a@x, =?utf-8?b?SsO2?= <j@x>, =?utf-8?b?w6lAeA==?= <{NOBODY}>;, b@x"),
        ("\u00c4: a@x", "From: =?utf-8?b?w4Q=?=: a@x;"),
        (": a@x: \u00e9;", f"From: : =?utf-8?b?YUB4OiDDqQ==?= <{NOBODY}>;"),
        ("a@x; \u00e9 <b@x>", "From: a@x, =?utf-8?b?w6k=?= <b@x>"),
        ("=?utf-8?q?J=C3=BC?= \u00e9 <j@x>", "From: =?utf-8?q?J=C3=BC?= =?utf-8?b?IMOp?= <j@x>"),
    ],
)  # fmt: skip
def test_addresses(value: str, field: str) -> None:
    """R6858-01: those in ASCII stay as they are written, the others keep what a person reads."""
    assert "".join(rewritten(f"From: {value}")) == field


def test_a_return_path_has_no_display_name() -> None:
    """R6858-02."""
    assert rewritten("Return-path: (\u00e9) <fr\u00e9d@x>") == [f"Return-path: <{NOBODY}>"]


# --- other fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        "Gr\u00fc\u00dfe",
        "a" + "\u65e5\u672c\u8a9e" * 60,
        "a \U0001f4ec  b",
        "=?utf-8?q?a?=\u00e9",
        "\u00e9 =?utf-8?x?a?= b",
        "\u00a0",
        "\u00e9\u2028x",
    ],
)
def test_a_subject_is_encoded(subject: str) -> None:
    """R6858-04: words of at most 75 octets that are whole characters, lines of about 76."""
    lines = rewritten(f"SUBJECT:   {subject} ")
    assert all(len(line) <= 85 for line in lines)
    assert all(len(word) <= 75 for line in lines for word in line.split(" "))
    assert lines[0].startswith("SUBJECT: =?")
    assert shown("\r\n".join(lines)) == subject


def test_encoded_words_in_a_subject_stay() -> None:
    """R6858-04."""
    line = " ".join(rewritten("Subject: Re: =?utf-8?q?=C3=A9?= \u00e9 =?utf-8?b?w6k=?="))
    assert "=?utf-8?q?=C3=A9?=" in line
    assert shown(line) == "Re: \u00e9 \u00e9 \u00e9"


@pytest.mark.parametrize(
    ("field", "result"),
    [
        ('Content-Type: text/plain; name="\u00e9;\\"x"; charset=utf-8', "Content-Type: text/plain; charset=utf-8"),
        ("Content-Type: text/plain (\u00e9); charset=utf-8 ;", "Content-Type: text/plain; charset=utf-8"),
        ("Content-Type: multipart/mixed; boundary=\u00e9", "Content-Type: multipart/mixed"),
        ("Content-Type: \u00e9/plain; charset=utf-8", None),
        (
            "Content-Disposition: attachment; filename=\u00e9; filename*=UTF-8''%C3%A9; size=3",
            "Content-Disposition: attachment; filename*=UTF-8''%C3%A9; size=3",
        ),
        (
            'Content-Disposition: inline; Name*0="\u00e9"; name*1=x; name*2*=y; filename*0=z; name=w',
            "Content-Disposition: inline; filename*0=z; name=w",
        ),
    ],
)
def test_parameters(field: str, result: str | None) -> None:
    """R6858-03: what cannot be represented is removed, with all its parts; the rest stays."""
    assert rewritten(field) == ([] if result is None else [result])


def test_fields_without_a_representation_are_left_out() -> None:
    """R6858-05, R6856-04: and those that are no fields; the order of the others stays, octet for octet."""
    assert rewritten(
        "Received: from x (\u00e9)", "X-Mailer: \u00e9", "Comments: \u00e9", "Message-ID: <\u00e9@x>",
        "\u00e9: x", "no colon \u00e9", "From\u00e9", "Date:  now ", " \tand  then", "X:\u00e9\r\n \r\n\tfolded",
        "no colon", "Subject: x",
    ) == ["Date:  now ", " \tand  then", "no colon", "Subject: x"]  # fmt: skip


def test_signatures_stay() -> None:
    """R6858-07: they do not hold any more, and whoever looks at them is to see that."""
    signed = ["DKIM-Signature: v=1", " b=xyz", "ARC-Seal: i=1", "X-Mailer: x"]
    assert rewritten(*signed, "Subject: \u00e9") == [*signed, "Subject: =?utf-8?b?w6k=?="]


def test_what_cannot_be_folded_is_left_out() -> None:
    """R6858-05: no line has more than 998 octets, the rewritten ones at least."""
    assert rewritten(f"To: \u00e9 <{'x' * 990}@y>", "Subject: \u00e9") == ["Subject: =?utf-8?b?w6k=?="]
    lines = rewritten("To: \u00e9@x, " + ", ".join(f"{n}@example.com" for n in range(500)))
    assert all(len(line) <= 76 for line in lines)
    assert "".join(lines).count("@") == 500


def test_line_ends_and_malformed_octets() -> None:
    """Folds use the line end of the field, and controls do not come through."""
    assert rewritten("Subject: \u00e9" + "x" * 60, "A: b", end="\n")[0].startswith("Subject: =?utf-8?b?w6l4")
    header = surrogate_header(b"Subject: \xff\r\0\x0b\n\tx\r\nTo: \xe9\r\n\r\n")
    lines = header.decode("ascii").split("\r\n")
    assert shown(lines[0]) == "\ufffd   \tx"
    assert shown(lines[1]) == "\ufffd:;"


@pytest.mark.parametrize(
    ("header", "surrogate"),
    [
        (b"", b""),
        (b"\r\n", b"\r\n"),
        (b"X: \xff\r\n\r\n", b"\r\n"),
        (b"X: \xff\n\n", b"\n"),
        (b"X: \xff\r\n", b"\r\n"),
        (b"X: \xff", b""),
        (b"A: b\r\nX: \xff", b"A: b"),
        (b"A: b\nX: \xff", b"A: b"),
        (b"A: b\r\nSubject: \xc3\xa9", b"A: b\r\nSubject: =?utf-8?b?w6k=?="),
        (b" \xff\r\nA: b\r\n\r\n", b"A: b\r\n\r\n"),
        (b"Subject: \xc3\xa9\n", b"Subject: =?utf-8?b?w6k=?=\n"),
    ],
)
def test_the_end_stays(header: bytes, surrogate: bytes) -> None:
    """A-40, R6856-09: sizes of surrogates are sums, so a header must end as it did."""
    assert surrogate_header(header) == surrogate


# --- laws ----------------------------------------------------------------------------------------------------------

NASTY = [
    "From:", "To: ", "Subject: ", "Content-Type:", "DKIM-Signature: x", "Return-Path: ", "X-Foo: ", "\u00e9",
    "\U0001f4ec", "a@b", "<", ">", "(", ")", '"', "\\", ",", ";", ":", "=", "[", "]", "*0=", "=?utf-8?q?a?=", " ", "\t",
    "x" * 70, "\r\n", "\n", "\r\n ", "\n\t", "\r", "\0",
]  # fmt: skip
octets = st.lists(
    st.sampled_from([text.encode() for text in NASTY] + [b"\xff", b"\xc3", b"\xed\xa0\x80"]) | st.binary(max_size=3),
    max_size=40,
).map(b"".join) | st.binary(max_size=80)


@given(octets)
@example(b"From: \xc3\xa9\r\n\r\n")
@example(b"\r\n\r\n\x80")
def test_any_octets_give_a_good_header(header: bytes) -> None:
    """R6856-04, R6858-01, R6858-05: total, ASCII out, ASCII in unchanged, idempotent, and it can be parsed."""
    surrogate = surrogate_header(header)
    assert surrogate.isascii()
    assert needs_utf8(header) is not header.isascii()
    assert surrogate_header(surrogate) == surrogate
    assert surrogate.endswith(b"\n") is header.endswith(b"\n")
    if header.isascii():
        assert surrogate == header
    message = email.message_from_bytes(surrogate)
    assert isinstance(message.keys(), list)


@given(octets)
def test_a_header_stays_one_header(octets: bytes) -> None:
    """Rewriting makes no blank line and loses none: what follows is still the body, and as long as before."""
    splitter = HeaderSplitter()
    splitter.feed(octets)
    surrogate = surrogate_header(splitter.header)
    again = HeaderSplitter()
    again.feed(surrogate + splitter.rest)
    assert splitter.header + splitter.rest == octets
    if splitter.done:
        assert again.done
        assert (again.header, again.rest) == (surrogate, splitter.rest)


@given(messages | octets, cuts, st.integers(2, 60))
def test_where_the_header_ends(message: bytes, places: list[int], limit: int) -> None:
    """R6858-06: where TOP sees it too, and not later than the limit: at the end of a line if there is one."""
    splitter = HeaderSplitter(limit)
    for chunk in (*cut(message, places), b""):
        splitter.feed(chunk)
        assert splitter.header + splitter.rest == message[: len(splitter.header + splitter.rest)]
    assert splitter.header + splitter.rest == message
    cutter = TopCutter(0)
    top = cutter.cut(message)
    if len(top) < limit or (len(top) == limit and cutter.done):
        assert (splitter.header, splitter.done) == (top, cutter.done)
        return
    assert splitter.done
    assert 0 < len(splitter.header) <= limit
    if b"\n" in message[:limit]:
        assert splitter.header == message[: message[:limit].rindex(b"\n") + 1]
    else:
        assert len(splitter.header) >= limit - 1


@pytest.mark.parametrize(
    ("message", "header"),
    [(b"abcd\r\nef", b"abc"), (b"abc\r\nef", b"abc"), (b"a\r\n\r\n", b"a\r\n"), (b"\nabcdef", b"\n")],
)
def test_a_limit_of_four_octets(message: bytes, header: bytes) -> None:
    """CR and LF stay together, or sizes would not add up."""
    splitter = HeaderSplitter(4 if message[:1] != b"a" or message[3:4] != b"d" else 3)
    splitter.feed(message)
    assert splitter.done
    assert splitter.header == header
    splitter.feed(b"more")
    assert splitter.rest == message[len(header) :] + b"more"


@pytest.mark.parametrize(
    "unit",
    ["\u00e9(", '\u00e9"', "\u00e9<", '<"', "(a(", "\\", "\u00e9,", "[", ":", ";*0=", "=?utf-8?q?a", "\r\n \u00e9"],
)
@pytest.mark.parametrize("name", ["From", "Subject", "Content-Type"])
def test_long_headers_take_time_in_proportion(name: str, unit: str) -> None:
    """Nothing a sender writes is looked at more often than a few times: a quadratic search would take minutes."""
    size = MAX_HEADER // len(unit.encode())
    header = f"{name}: {unit * size}\u00e9\r\n\r\n".encode()
    assert surrogate_header(header).isascii()


def test_what_would_take_long_is_left_out() -> None:
    """P4: a header that was made to take long must not take long; a field that fits behind it is still there."""
    much = "\u00e9," * 8000
    assert rewritten(f"From: {much}", "Subject: \u00e9", f"To: {much}", "X: y") == ["Subject: =?utf-8?b?w6k=?=", "X: y"]
    many = rewritten(*["Subject: \u00e9"] * 10_000)
    assert 1000 < len(many) < 2000
