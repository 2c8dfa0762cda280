"""Where messages begin and end in an mbox file, and what they are known by."""

from __future__ import annotations

import os
import re
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_pop3.backends.mbox import scan
from trio_pop3.backends.mbox.scan import Found, NotAnMbox, Rules, Unquoter, find
from trio_pop3.sansio import octets_of

from .mbox_helpers import DATE, FROM, entry

AS_STORED = Rules()


def found(content: bytes, rules: Rules = AS_STORED, start: int = 0) -> list[Found]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return list(find(file.fileno(), rules, start))


def texts(content: bytes, rules: Rules = AS_STORED) -> list[bytes]:
    return [content[message.text : message.stop] for message in found(content, rules)]


def digests(*messages: bytes) -> list[str]:
    return [message.digest for message in found(b"".join(entry(message) for message in messages))]


# --- boundaries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "From a@b Tue Nov 25 09:19:20 2025",
        "From a@b Tue Nov  5 09:19:20 2025",
        "From a@b  Tue Nov 25 09:19:20 2025",
        "From a@b Tue Nov 25 9:19 2025",
        "From a@b Tue Nov 25 09:19:20 CET 2025",
        "From a@b Tue Nov 25 09:19:20 +0100 2025",
        "From a@b Tue Nov 25 09:19:20 2025 +0100",
        'From "a b"@c Tue Nov 25 09:19:20 2025',
        "From MAILER-DAEMON Tue Nov 25 09:19:20 2025 ",
        "From  Tue Nov 25 09:19:20 2025",
        "From Tue Nov 25 09:19:20 2025",
        "From a Tue, Nov 25 09:19:20 2025",
        "From a Tue Nov 25 09:19:20 2025 remote from b",
    ],
)
def test_from_lines(line: str) -> None:
    """As Postfix, Exim, procmail, UUCP and others write them, with both line ends."""
    for end in (b"\n", b"\r\n"):
        content = FROM + b"A: 1\n\nx\n" + end + line.encode() + end + b"B: 2\n\ny\n\n"
        assert texts(content) == [b"A: 1\n\nx\n", b"B: 2\n\ny\n"]


@pytest.mark.parametrize(
    "line",
    [
        b"From here on",
        b"From: a@b Tue Nov 25 09:19:20 2025",
        b"from a@b Tue Nov 25 09:19:20 2025",
        b">From a@b Tue Nov 25 09:19:20 2025",
        b" From a@b Tue Nov 25 09:19:20 2025",
        b"From a@b Tue Nov 25 2025",
        b"From a@b Xyz Nov 25 09:19:20 2025",
        b"From a@b Tue Nov 25 09:19:20 2025 and more",
        b"From a@b " + b"x" * 1000 + b" Tue Nov 25 09:19:20 2025",
    ],
)
def test_what_is_no_from_line(line: bytes) -> None:
    text = b"A: 1\n\nx\n\n" + line + b"\ny\n"
    assert texts(entry(text)) == [text]


def test_a_from_line_needs_an_empty_line_before_it() -> None:
    text = b"A: 1\n\nx\n" + FROM + b"y\n"
    assert texts(entry(text)) == [text]


def test_the_end_of_the_file() -> None:
    """With an empty line, without, and without a line end: the same message, of the same size."""
    whole = found(entry(b"A: 1\n\nx\n"))
    for content in (FROM + b"A: 1\n\nx\n", FROM + b"A: 1\n\nx"):
        (message,) = found(content)
        assert (message.digest, message.octets) == (whole[0].digest, whole[0].octets)
        assert message.end == len(content)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\n", b"\n" * 600_000])
def test_no_message(content: bytes) -> None:
    """F7."""
    assert found(content) == []


@pytest.mark.parametrize("content", [b"x", b"Subject: x\n\n", b"\n\nx\n" + FROM, b"x " + FROM, b"x\n\n" + entry(b"y"),
                                     b"\n" * 600_000 + b"x"])  # fmt: skip
def test_not_an_mbox(content: bytes) -> None:
    """F9: nothing that is there is hidden, so that it is no empty maildrop."""
    with pytest.raises(NotAnMbox):
        found(content)


def test_messages_without_a_text() -> None:
    content = FROM + b"\n" + FROM + b"\n" + FROM
    assert texts(content) == [b"", b"", b""]
    assert [message.octets for message in found(content)] == [2, 2, 2]


bits = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"From ", FROM, b"\n" + FROM, b"x", b">", b">From ", b"A: b\n", b"y" * 1500]
)
files = st.lists(bits, max_size=30).map(b"".join)


def slowly(content: bytes) -> list[tuple[int, int, int]]:
    """start, text, stop, by the definition: a From_ line at the start or behind an empty line."""
    starts = [
        match
        for match in re.finditer(rb"(?m)^From (?:[^\r\n]* )?" + DATE + rb"[ \t]*\r?\n", content)
        if len(match[0]) <= scan._LONGEST_FROM  # a line that goes on and on is none
        if match.start() == 0 or re.search(rb"\n\r?\n\Z", content[: match.start()])
        or not content[: match.start()].strip(b"\r\n")
    ]  # fmt: skip
    out = []
    for match, ends in zip(starts, [*(match.start() for match in starts[1:]), len(content)], strict=True):
        text = content[match.end() : ends]
        blank = re.search(rb"(?:\A|(?<=\n))\r?\n\Z", text)
        out.append((match.start(), match.end(), match.end() + (blank.start() if blank else len(text))))
    return out


@given(content=files, size=st.sampled_from([1, 2, 7, 1003, 256 * 1024]))
def test_whatever_the_reads_are(content: bytes, size: int) -> None:
    """A2: any octets behind a From_ line, read in pieces of any size."""
    content = FROM + content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "READ_OCTETS", size)
        messages = found(content)
    assert messages == found(content)
    assert [(message.start, message.text, message.stop) for message in messages] == slowly(content)
    for message in messages:
        assert message.octets == octets_of(content[message.text : message.stop])
    for nth, message in enumerate(messages):
        assert found(content, start=message.start) == messages[nth:]
        assert message.end == (messages[nth + 1].start if nth + 1 < len(messages) else len(content))


def test_a_large_file_does_not_hold_memory(tmp_path: Path) -> None:
    """P4: one message of 64 MB, and the memory of a few reads."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(FROM + b"A: b\n\n")
        file.writelines(b"x" * 70 + b"\n" for _ in range(900_000))
    fd = os.open(path, os.O_RDONLY)
    tracemalloc.start()
    try:
        (message,) = find(fd, AS_STORED)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
        os.close(fd)
    assert message.octets == 8 + 900_000 * 72


# --- identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["Status: RO\n", "X-Status: A\n", "X-UID: 12\n", "X-Keywords:            \n", "X-IMAPbase: 1 2\n\tfolded\n",
     "X-IMAP: 1 2\n", "X-UIDL: abc\n", "Content-Length: 3\n", "Lines: 1\n", "status : O\n"],
)  # fmt: skip
def test_what_others_rewrite_does_not_count(field: str) -> None:
    """F2, P3: wherever it stands in the header."""
    plain = b"A: b\nC: d\n\ntext\n"
    for place in (0, 5, 10):
        assert digests(plain[:place] + field.encode() + plain[place:]) == digests(plain)
    assert digests(b"A: b\n\n" + field.encode()) != digests(b"A: b\n\n")
    assert digests(b"A: b\n" + field.encode()) == digests(b"A: b\n")


def test_all_else_counts() -> None:
    """F5."""
    messages = [
        b"A: b\n\ntext\n",
        b"A: c\n\ntext\n",
        b"A: b\n\ntexts\n",
        b"A: b\n\n text\n",
        b"A: b\n\ntext\n\n",
        b"A: b\n",
    ]
    assert len(set(digests(*messages))) == len(messages)
    other = entry(messages[0], b"From a@b Tue Nov 25 09:19:21 2025\n")
    assert found(other)[0].digest != found(entry(messages[0]))[0].digest


@given(text=files, later=files)
def test_what_comes_later_changes_nothing(text: bytes, later: bytes) -> None:
    """F2, P3: of a file that ends in an empty line, or in no line end, when something is appended properly."""
    first = FROM + text
    assume(not first.endswith(b"\r"))  # which a line end makes part of one
    before = found(first)
    ends = b"" if re.search(rb"\n\r?\n\Z", first) else b"\n" if first.endswith(b"\n") else b"\n\n"
    after = found(first + ends + FROM + later)
    assert [message.digest for message in before] == [message.digest for message in after[: len(before)]]
    assert [message.octets for message in before] == [message.octets for message in after[: len(before)]]


def test_the_message_of_the_folder() -> None:
    internal = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nThis text is part of\n"
    assert [message.internal for message in found(entry(internal) + entry(b"A: b\n"))] == [True, False]
    assert not found(entry(internal.replace(b"X-IMAP", b"X-None")))[0].internal
    assert not found(entry(internal.replace(b"DON'T", b"Do not")))[0].internal


@pytest.mark.parametrize(("field", "expected"), [
    (b"X-UIDL: abc", "abc"), (b"x-uidl:abc ", "abc"), (b"X-UIDL: a b", None), (b"X-UIDL: " + b"x" * 71, None),
    (b"X-UIDL:", None), (b"X-UIDL: abc\n d", None), (b"X-UIDL: \xff", None),
])  # fmt: skip
def test_x_uidl(field: bytes, expected: str | None) -> None:
    """F1."""
    assert found(entry(b"A: b\n" + field + b"\n\nX-UIDL: body\n"))[0].x_uidl == expected


# --- options ----------------------------------------------------------------------------------------------------


BODY = b"one\n\n" + FROM + b"two\n"


def test_content_length() -> None:
    """Believed if it leads to the next From_ line or the end, and to nothing else."""
    right = b"Content-Length: %d\n\n" % len(BODY) + BODY
    content = entry(right) + entry(b"A: b\n\nlast\n")
    assert texts(content, Rules(content_length=True)) == [right, b"A: b\n\nlast\n"]
    assert len(texts(content)) == 3
    assert texts(FROM + right, Rules(content_length=True)) == [right]
    for wrong in (0, 1, len(BODY) - 1, len(BODY) + 2, 10**9):
        lying = b"Content-Length: %d\n\n" % wrong + BODY
        content = entry(lying) + entry(b"A: b\n\nlast\n")
        assert texts(content, Rules(content_length=True)) == texts(content)


def test_content_length_with_no_empty_line_behind() -> None:
    content = FROM + b"Content-Length: 4\n\nabc\n" + entry(b"A: b\n")
    assert texts(content, Rules(content_length=True)) == [b"Content-Length: 4\n\nabc\n", b"A: b\n"]


@given(pieces=st.lists(st.lists(st.sampled_from([b">", b"From ", b"Fr", b"om ", b"\n", b"\r\n", b"x"])).map(b"".join)))
def test_unquoting_in_any_pieces(pieces: list[bytes]) -> None:
    """A2, B1: and the size is that of what is sent."""
    unquoter = Unquoter()
    got = b"".join([*(unquoter.update(piece) for piece in pieces), unquoter.finish()])
    assert got == re.sub(rb"(?m)^>(>*From )", rb"\1", b"".join(pieces))


@given(text=files)
def test_unquoted_sizes_and_stored_identity(text: bytes) -> None:
    """B1, F6: turning the option on changes no unique-id."""
    content = FROM + text
    for plain, unquoted in zip(found(content), found(content, Rules(unquote=True)), strict=True):
        stored = content[plain.text : plain.stop]
        assert unquoted.octets == octets_of(re.sub(rb"(?m)^>(>*From )", rb"\1", stored))
        assert unquoted.digest == plain.digest
