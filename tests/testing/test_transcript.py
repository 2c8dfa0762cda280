"""Transcripts: what is printed is read back, people can read it, and nobody finds a secret in it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.testing import Transcript
from trio_pop3.testing.transcript import Entry, escape, unescape

PIECES = [b"\r\n", b"\r", b"\n", b"\t", b"\\", b"{", b"}", b"*", b" ", b"#", b"x", b"C: ", b"\\{x*30}", b"\0", b"\xff"]
REPEATED = st.tuples(st.sampled_from([b"x", b"\\", b"\n", b"\0", b"}", b" "]), st.integers(20, 60))
OCTETS = st.lists(
    st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), REPEATED.map(lambda run: run[0] * run[1])), max_size=8
).map(b"".join)
ENTRIES = st.lists(
    st.builds(Entry, st.sampled_from(["C", "S"]), OCTETS, st.integers(1, 3)) | st.builds(Entry, st.just("D"), OCTETS),
    max_size=12,
)


def alone(entries: list[Entry]) -> list[Entry]:
    """A connection that is alone loses its number."""
    several = len({entry.number for entry in entries if entry.who != "D"}) > 1
    return entries if several else [Entry(entry.who, entry.data) for entry in entries]


# --- there and back --------------------------------------------------------------------------------------------------


@given(ENTRIES)
@example([Entry("C", b"", 2), Entry("C", b"x", 2), Entry("S", b"\r\n", 1)])
def test_what_is_printed_is_read_back_up_to_pieces(entries: list[Entry]) -> None:
    printed = str(Transcript(entries))
    assert printed.isascii()
    assert not any(line.endswith(" ") for line in printed.splitlines())
    assert list(Transcript.parse(printed).turns()) == list(Transcript(alone(entries)).turns())


@given(OCTETS)
@example(b"\\n" + b"\n" * 30)
@example(b"\\x00" + b"\0" * 30)
def test_octets_are_escaped_and_back(data: bytes) -> None:
    """Also where what an escape looks like stands in front of a run of what it stands for."""
    assert unescape(escape(data)) == data


@pytest.mark.parametrize(
    ("data", "text"),
    {
        b"plain ~": "plain ~",
        b"\r\n\t\\": r"\r\n\t\\",
        b"\0\x7f\xff": r"\x00\x7f\xff",
        b"x" * 23: "x" * 23,
        b"x" * 24: r"\{x*24}",
        b"a" + b"\n" * 600 + b"b": r"a\{\n*600}b",
        b"\\" * 30: r"\{\\*30}",
        b"\0" * 30 + b"1": r"\{\x00*30}1",
    }.items(),
)
def test_escapes(data: bytes, text: str) -> None:
    assert escape(data) == text
    assert unescape(text) == data


def test_a_run_is_never_longer_than_what_can_be_read() -> None:
    text = escape(b"x" * 10_000_050)
    assert text == r"\{x*9999999}\{x*51}"
    assert len(unescape(text)) == 10_000_050


# --- how it looks ----------------------------------------------------------------------------------------------------


def test_as_people_write_it() -> None:
    transcript = Transcript(remarks=["found by chance"])
    transcript.add("D", b"Subject: x\n")
    transcript.add("S", b"+OK ready\r\n")
    transcript.add("C", b"USER al")
    transcript.add("C", b"ice\r\nPASS a \r\nST")
    transcript.add("C", b"")
    transcript.add("S", b"+OK\r\n\r\n")
    transcript.add("S", b"")
    expected = (
        "# found by chance\n"
        "D: Subject: x\\n\n"
        "S: +OK ready\n"
        "C: USER alice\n"
        "C: PASS a\\x20\n"
        "C> ST\n"
        "C! closes\n"
        "S: +OK\n"
        "S:\n"
        "S! closes\n"
    )  # fmt: skip
    assert str(transcript) == expected


def test_several_connections_are_told_apart() -> None:
    transcript = Transcript()
    transcript.add("S", b"+OK\r\n", 1)
    transcript.add("S", b"-ERR\r\n", 12)
    transcript.add("C", b"", 1)
    transcript.add("D", b"x")
    assert str(transcript) == "S1: +OK\nS12: -ERR\nC1! closes\nD: x\n"
    assert Transcript.parse(str(transcript)).entries == transcript.entries


def test_messages_that_follow_each_other_are_several() -> None:
    transcript = Transcript()
    transcript.add("D", b"a")
    transcript.add("D", b"")
    assert str(transcript) == "D: a\nD:\n"
    assert Transcript.parse(str(transcript)).entries == transcript.entries


@pytest.mark.parametrize(("most", "left"), [(30, 30), (4, 2), (5, 2), (1, 0), (0, 0), (29, 14)])
def test_shortened_keeps_both_ends_of_what_the_server_says_at_length(most: int, left: int) -> None:
    transcript = Transcript()
    transcript.add("C", b"NOOP\r\n" * 40)
    transcript.add("S", b"".join(b"%d\r\n" % n for n in range(30)))
    lines = [line for line in transcript.shortened(most).splitlines() if not line.startswith("C")]
    if most >= 30:
        assert lines == [f"S: {n}" for n in range(30)]
        return
    ends = [f"S: {n}" for n in range(30)]
    assert lines == [*ends[:left], f"# ... {30 - 2 * left} lines ...", *ends[30 - left :]]
    assert transcript.shortened(most).count("C: NOOP") == 40
    assert Transcript.parse(transcript.shortened(most))  # it is a transcript still


# --- secrets ---------------------------------------------------------------------------------------------------------

NAMES = ["first", "second", "third"]
SECRETS = st.lists(st.text("ABC", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=3, unique=True)


@given(st.lists(st.text("ABC \r\n\\", max_size=12).map(str.encode)), SECRETS)
@example([b"PASS ABC\r\n"], [b"B", b"ABC"])
@example([b"PASS A", b"BC\r\n"], [b"ABC"])
@example([b"A" * 31], [b"AAAA"])
def test_a_hidden_secret_is_in_no_output(pieces: list[bytes], secrets: list[bytes]) -> None:
    """Whole, in pieces, a part of another, and again and again. With the values it is read back."""
    hide = dict(zip(secrets, NAMES, strict=False))
    transcript = Transcript([Entry("S", piece) for piece in pieces if piece], hide=hide)
    for output in (str(transcript), transcript.shortened(2), repr(transcript)):
        for secret in secrets:
            assert secret.decode() not in output.replace("S:", "").replace("S>", "")
    back = Transcript.parse(str(transcript), {name: octets for octets, name in hide.items()})
    assert list(back.turns()) == list(transcript.turns())


def test_what_is_hidden_is_printed_by_its_name() -> None:
    transcript = Transcript(hide={b"secret": "password", b"sec": "short", b"": "nothing"})
    transcript.add("C", b"PASS secret\r\nPASS sec\r\n")
    assert str(transcript) == "C: PASS \\{password}\nC: PASS \\{short}\n"
    assert "secret" not in repr(transcript)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_blank_lines_remarks_and_indentation_are_nothing() -> None:
    text = "\n  # remark\n  C: a\n\tS:  b \n C:\n"
    assert Transcript.parse(text).entries == [Entry("C", b"a\r\n"), Entry("S", b" b \r\n"), Entry("C", b"\r\n")]


@pytest.mark.parametrize(
    ("line", "wrong"),
    {
        "X: what": "is none of C:, C>",
        "C hello": "is none of C:",
        "C! leaves": "is none of C:",
        "C! closes now": "is none of C:",
        "C:no blank": "is none of C:",
        "C>": "has no octets",
        "C> ": "has no octets",
        "C: \\q": "has something that is neither ASCII nor an escape at '\\\\q'",
        "C: caf\u00e9": "has something that is neither ASCII nor an escape at '\u00e9'",
        "D: \\x1": "has something that is neither ASCII nor an escape",
        "C: \\{\u00e9*30}": "has something that is neither ASCII nor an escape",
        "C: PASS \\{password}": "needs a value for password",
    }.items(),
)  # fmt: skip
def test_what_is_no_transcript_is_named_with_its_line(line: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="line 3") as caught:
        Transcript.parse(f"S: +OK\n\n{line}\n")
    assert str(caught.value).startswith(f"line 3 {wrong}")


def test_the_line_of_an_error_is_cut() -> None:
    with pytest.raises(ValueError, match="is none of") as caught:
        Transcript.parse("y" * 10_000)
    assert len(str(caught.value)) < 200


def test_whose_mail_it_is() -> None:
    """Of two users, one line could be either's; a name that cannot stand there is left out."""
    transcript = Transcript()
    transcript.add("D", b"one\n", user="alice")
    transcript.add("D", b"two", user="not one word")
    transcript.add("D", b"", user="bob")
    assert str(transcript) == "D alice: one\\n\nD: two\nD bob:\n"
    again = Transcript.parse(str(transcript))
    assert [(entry.user, entry.data) for entry in again.entries] == [("alice", b"one\n"), ("", b"two"), ("bob", b"")]


def test_a_secret_with_quotes_is_concealed() -> None:
    """P5: `repr` escapes a quote, or does not, by what else is in the octets."""
    transcript = Transcript(hide={b"it's": "password"})
    for octets in (b"PASS it's", b"PASS it's \"", b"it's"):
        assert "it" not in transcript.conceal(f"{octets!r} is wrong")
