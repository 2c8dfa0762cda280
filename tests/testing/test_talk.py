"""Replies, read from a scripted wire in every chunking; and what is no reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import BodyEncoder
from trio_pop3.testing import BadReply, Closed, Reply, Silent, Talk, Transcript, canonical, chunkings, messages
from trio_pop3.testing.talk import Endless
from trio_pop3.testing.transcript import Entry

from .scripted import ScriptedWire, multiline


def read(data: bytes, *, multiline: bool = False, closes: bool = True) -> Reply:
    return Talk(ScriptedWire(data, closes=closes)).reply(multiline=multiline)


# --- replies ---------------------------------------------------------------------------------------------------------

REPLIES = {
    b"+OK\r\n": (False, Reply(True, b"")),
    b"+OK \r\n": (False, Reply(True, b"")),
    b"-ERR\r\n": (False, Reply(False, b"")),
    b"+OK 2 320\r\n": (False, Reply(True, b"2 320")),
    b"-ERR [IN-USE] taken\r\n": (True, Reply(False, b"[IN-USE] taken")),
    b"+OK caf\xc3\xa9\r\n": (False, Reply(True, b"caf\xc3\xa9")),
    b"+ \r\n": (False, Reply(None, b"")),
    b"+ AQID\r\n": (True, Reply(None, b"AQID")),
    b"+ " + b"A" * 9000 + b"\r\n": (False, Reply(None, b"A" * 9000)),
    b"+OK " + b"x" * 506 + b"\r\n": (False, Reply(True, b"x" * 506)),
    b"+OK\r\n.\r\n": (True, Reply(True, b"", ())),
    b"+OK two\r\n1 2\r\n2 3\r\n.\r\n": (True, Reply(True, b"two", (b"1 2", b"2 3"))),
    b"+OK\r\n..\r\n...\r\n.x\r\n\r\n.\r\n": (True, Reply(True, b"", (b".", b"..", b"x", b""))),
    # Only CRLF ends a line of a body, and only `.` CRLF a body.
    b"+OK\r\na\nb\r.\n.\r\n..\n.\r\n.\r\n": (True, Reply(True, b"", (b"a\nb\r.\n.", b".\n."))),
}


@given(st.sampled_from(sorted(REPLIES)).flatmap(lambda data: st.tuples(st.just(data), chunkings(data))))
def test_replies_in_every_chunking(cut: tuple[bytes, list[bytes]]) -> None:
    data, pieces = cut
    is_multiline, expected = REPLIES[data]
    wire = ScriptedWire(*pieces)
    talk = Talk(wire)
    assert talk.reply(multiline=is_multiline) == expected
    assert not wire.pieces  # all of it was needed
    talk.expect_end()


@pytest.mark.parametrize("data", REPLIES)
def test_every_reply_of_the_table_is_read(data: bytes) -> None:
    is_multiline, expected = REPLIES[data]
    assert read(data, multiline=is_multiline, closes=False) == expected


@given(messages().flatmap(lambda message: st.tuples(st.just(message), chunkings(message))), st.data())
def test_a_body_that_our_server_writes_is_read_as_the_message(
    cut: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    """P2: what is stuffed is unstuffed, whatever the message, and wherever it is cut on either side."""
    message, pieces = cut
    encoder = BodyEncoder()
    wire = b"+OK\r\n" + b"".join(map(encoder.encode, pieces)) + encoder.finish(empty_line=True)
    reply = Talk(ScriptedWire(*data.draw(chunkings(wire)))).reply(multiline=True)
    assert reply.body == canonical(message)
    assert len(reply.body) == encoder.octets


def test_what_follows_a_reply_is_the_next_one() -> None:
    talk = Talk(ScriptedWire(b"+OK 1\r\n-ERR 2\r\n+OK\r\na\r\n.\r\n+OK 4\r\n"))
    texts = [talk.reply().text, talk.reply().text, talk.reply(multiline=True).body, talk.reply().text]
    assert texts == [b"1", b"2", b"a\r\n", b"4"]
    with pytest.raises(Closed):
        talk.reply()


@pytest.mark.parametrize(
    ("text", "code"),
    {
        b"[IN-USE] busy": "IN-USE",
        b"[sys/temp] later": "SYS/TEMP",
        b"[AUTH]": "AUTH",
        b"[a/b/c]d": "A/B/C",
        b"busy [IN-USE]": None,
        b"[]": None,
        b"[IN USE]": None,
        b"[/x]": None,
        b"[x/]": None,
        b"[x": None,
        b"": None,
    }.items(),
)
def test_response_codes(text: bytes, code: str | None) -> None:
    """RFC 2449 section 8: at the beginning of the text, without regard to case."""
    assert Reply(False, text).code == code


def test_a_reply_of_one_line_has_no_body() -> None:
    assert Reply(True, b"").body == b""
    assert Reply(True, b"", (b"", b"x")).body == b"\r\nx\r\n"


# --- what is none ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"", b"OK", b"+ok", b"+OKAY", b"-ERROR", b"+", b"-", b" +OK", b"* OK", b"+OK\tx"])
def test_neither_ok_nor_err(line: bytes) -> None:
    with pytest.raises(BadReply, match=r"neither \+OK nor -ERR"):
        read(line + b"\r\n")


@pytest.mark.parametrize("status", [b"+OK ", b"-ERR "])
def test_a_first_line_has_at_most_512_octets(status: bytes) -> None:
    """R2449-03."""
    good = status + b"x" * (510 - len(status))
    assert read(good + b"\r\n").text
    with pytest.raises(BadReply, match="of 513 octets, 512 are allowed"):
        read(good + b"x\r\n")
    lenient = Talk(ScriptedWire(good + b"x\r\n"), most_status_octets=513)
    assert len(lenient.reply().text) == 511 - len(status)


@pytest.mark.parametrize("data", [b"+OK\n", b"+OK\n\r\n", b"\n"])
def test_a_bare_lf_ends_no_first_line(data: bytes) -> None:
    with pytest.raises(BadReply, match="does not end in CRLF"):
        read(data)


def test_closed_where_a_reply_was_due() -> None:
    talk = Talk(ScriptedWire())
    for _ in range(2):  # and it stays so
        with pytest.raises(Closed, match="where a reply was due"):
            talk.reply()
    assert talk.ended


@pytest.mark.parametrize("data", [b"+", b"-ERR no", b"+OK\r"])
def test_closed_in_the_middle_of_a_line_is_no_way_to_close(data: bytes) -> None:
    with pytest.raises(BadReply, match="in the middle of a line") as caught:
        read(data)
    assert not isinstance(caught.value, Closed)


@pytest.mark.parametrize("data", [b"", b"a", b"a\r\n", b".", b".\r", b".\n", b"a\r\n..\r\n"])
def test_closed_in_the_middle_of_a_body(data: bytes) -> None:
    with pytest.raises(BadReply, match="in the middle of a multi-line reply") as caught:
        read(b"+OK\r\n" + data, multiline=True)
    assert not isinstance(caught.value, Closed)


def test_silence_is_told_by_the_wire() -> None:
    with pytest.raises(Silent):
        read(b"+OK\r", closes=False)


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [False, True])
def test_the_end_is_the_end(told: bool) -> None:
    talk = Talk(ScriptedWire(b"+OK\r\n"))
    talk.reply()
    if told:
        talk.expect_end()
    talk.expect_end()
    assert talk.ended


@pytest.mark.parametrize("pieces", [[b"+OK\r\nmore"], [b"+OK\r\n", b"more"]])
def test_more_than_the_end(pieces: list[bytes]) -> None:
    """What came along with the last reply, and what comes behind it."""
    talk = Talk(ScriptedWire(*pieces))
    talk.reply()
    with pytest.raises(BadReply, match='more was said where the server should have closed: "more"'):
        talk.expect_end()


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_lines_go_out_in_one_piece_and_are_written_down() -> None:
    wire = ScriptedWire(b"+OK hi\r\n", *[b"+OK\r\n"] * 2, multiline([b"1 5"]))
    talk = Talk(wire)
    talk.reply()
    talk.send(b"NOOP", b"NOOP")
    assert (talk.reply().ok, talk.reply().ok) == (True, True)
    assert talk.ask(b"LIST", multiline=True).lines == (b"1 5",)
    talk.send_octets(b"QU")
    assert wire.sent == b"NOOP\r\nNOOP\r\nLIST\r\nQU"
    assert talk.transcript.entries[:2] == [Entry("S", b"+OK hi\r\n"), Entry("C", b"NOOP\r\nNOOP\r\n")]
    assert str(talk.transcript).splitlines()[-4:] == ["S: +OK", "S: 1 5", "S: .", "C> QU"]


def test_several_talks_write_into_one_transcript() -> None:
    transcript = Transcript()
    talks = [Talk(ScriptedWire(b"+OK\r\n"), transcript, number) for number in (1, 2)]
    for talk in talks:
        talk.reply()
    assert str(transcript) == "S1: +OK\nS2: +OK\n"


def test_the_client_says_that_it_is_done() -> None:
    wire = ScriptedWire(b"+OK bye\r\n")
    talk = Talk(wire)
    talk.finish()
    assert talk.reply().ok
    talk.expect_end()
    assert wire.done == ["finish"]
    assert str(talk.transcript) == "C! closes\nS: +OK bye\nS! closes\n"


def test_a_connection_is_dropped_once() -> None:
    wire = ScriptedWire()
    talk = Talk(wire)
    talk.close()
    talk.close()
    assert wire.done == ["close", "close"]
    assert str(talk.transcript) == "C! closes\n"


def test_what_the_server_has_closed_is_not_dropped() -> None:
    talk = Talk(ScriptedWire())
    talk.expect_end()
    talk.close()
    assert str(talk.transcript) == "S! closes\n"


def test_tls_begins_behind_the_reply() -> None:
    wire = ScriptedWire(b"+OK\r\n", b"+OK begin\r\n")
    talk = Talk(wire)
    talk.reply()
    assert talk.ask(b"STLS").ok
    talk.start_tls()
    assert wire.done == ["start_tls"]
    assert str(talk.transcript).startswith("# from the first STLS on over TLS\n")


def test_octets_in_clear_behind_stls_are_no_part_of_what_is_encrypted() -> None:
    """A-35, from the client's side: what was injected in front of the handshake must not be taken for a reply."""
    wire = ScriptedWire(b"+OK begin\r\n+OK injected\r\n")
    talk = Talk(wire)
    talk.ask(b"STLS")
    with pytest.raises(BadReply, match="sent more in clear"):
        talk.start_tls()
    assert not wire.done


# --- without end, and secrets ----------------------------------------------------------------------------------------


class EndlessWire(ScriptedWire):
    """Behind its first piece the server says the same for ever."""

    def __init__(self, first: bytes, again: bytes) -> None:
        super().__init__(first, closes=False)
        self._again = again
        self.received = 0

    def receive(self) -> bytes:
        data = self.pieces.pop(0) if self.pieces else self._again
        self.received += len(data)
        return data


@pytest.mark.parametrize(
    ("first", "again", "most"),
    [
        (b"+OK ", b"x" * 65536, 2**20),
        (b"+OK\r\n", b"TOP\r\n" * 13_000, 64 * 2**20),
        (b"+OK\r\n", b"x" * 65536, 64 * 2**20),
    ],
)
def test_a_reply_without_end_is_given_up(first: bytes, again: bytes, most: int) -> None:
    """In bounded memory: of the transcript, too, only the beginning is kept."""
    wire = EndlessWire(first, again)
    talk = Talk(wire)
    talk.transcript.add("C", b"CAPA\r\n")
    with pytest.raises(Endless, match=f"of more than {most} octets"):
        talk.reply(multiline=True)
    assert most < wire.received <= most + 2 * 65536
    assert len(talk.transcript.entries) == 2
    assert "only its beginning is here" in str(talk.transcript)


def test_a_long_reply_that_ends_is_read() -> None:
    body = b"x" * (8 * 2**20)
    assert read(b"+OK\r\n" + body + b"\r\n.\r\n", multiline=True).lines == (body,)  # also if it comes at once


@pytest.mark.parametrize("secret", [b"secret" * 30, b'it\'s "quoted"' * 10, b"s\xe4cret" * 20])
@pytest.mark.parametrize("reply", [b"%s\r\n", b"-ERR %s", b"-ERR %s\n", b"+OK\r\n%s"])
def test_what_is_hidden_is_hidden_before_it_is_cut(secret: bytes, reply: bytes) -> None:
    """P5."""
    talk = Talk(ScriptedWire(reply % secret), Transcript(hide={secret: "password"}))
    with pytest.raises(BadReply) as caught:  # noqa: PT012
        talk.reply()
        talk.expect_end()
    assert "\\{password}" in str(caught.value)
    assert "ecret" not in str(caught.value)
    assert "quoted" not in str(caught.value)
