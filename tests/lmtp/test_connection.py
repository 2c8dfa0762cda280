"""`LmtpConnection` against a model that knows no chunks, and what each rule of RFC 2033 asks for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.lmtp import (
    BadCommand,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Event,
    LmtpConnection,
    Mail,
    Quit,
    Rcpt,
    Reply,
    State,
)
from trio_pop3.sansio import NEED_DATA, PAUSED, LocalProtocolError, Signal

from .model import MAX_SIZE, converse, expected

OK = Reply(250, "2.0.0", "ok")
GO = Reply(354, "", "go")

LINES = st.sampled_from(
    [b"LHLO x", b"MAIL FROM:<a@b>", b"MAIL FROM:<>", b"RCPT TO:<c@d>", b"RCPT TO:<e@d>", b"RCPT TO:<no@d>", b"DATA",
     b"RSET", b"NOOP", b"VRFY c", b"QUIT", b"EHLO x", b"HELO x", b"what"]
)  # fmt: skip
TEXT = st.lists(st.sampled_from([b".", b"..", b"", b"\r", b"\n", b"a", b"\0", b"\xff", b"x" * 30]), max_size=3)
# Neither two lines nor the end of the message.
TEXT_LINES = TEXT.map(lambda parts: b"".join(parts).replace(b"\r\n", b"")).filter(lambda line: line != b".")
MESSAGES = st.lists(TEXT_LINES, max_size=4).map(
    lambda lines: b"DATA\r\n" + b"".join(line + b"\r\n" for line in lines) + b"."
)
TRANSACTIONS = st.tuples(st.lists(st.sampled_from([b"RCPT TO:<c@d>", b"RCPT TO:<no@d>"]), max_size=3), MESSAGES).map(
    lambda both: b"\r\n".join([b"LHLO x", b"MAIL FROM:<a@b>", b"RCPT TO:<e@d>", *both[0], both[1]])
)
DIALOGUES = st.lists(LINES | TRANSACTIONS, max_size=8).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(octets), *(place % (len(octets) + 1) for place in cuts)})
    return [octets[start:stop] for start, stop in itertools.pairwise(places)]


@given(DIALOGUES, st.lists(st.integers(0, 2000), max_size=12))
def test_any_dialogue_cut_anywhere_is_what_the_model_says(octets: bytes, cuts: list[int]) -> None:
    """P6: pipelined, and in any pieces; one reply for each command, one for each recipient behind a message."""
    assert converse(cut(octets, cuts)) == expected(octets)


@given(st.binary(max_size=60) | DIALOGUES, st.lists(st.integers(0, 2000), max_size=12))
def test_any_octets_cut_anywhere_are_the_same(octets: bytes, cuts: list[int]) -> None:
    """P6, A9: whatever it is, it gets a reply or is waited for."""
    assert converse(cut(octets, cuts)) == converse([octets] if octets else [])


# --- the end of a message ---------------------------------------------------------------------------------------------


def in_content(recipients: int = 1) -> LmtpConnection:
    connection = LmtpConnection(hostname="here", max_size=MAX_SIZE)
    connection.send(Reply(220, "", "hello"))
    connection.receive_data(b"LHLO x\r\nMAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * recipients + b"DATA\r\n")
    connection.next_event()
    connection.send_extensions()
    for _ in range(recipients + 1):
        connection.next_event()
        connection.send(OK)
    assert connection.next_event() == Data()
    connection.send(GO)
    return connection


def events(connection: LmtpConnection) -> list[Event]:
    found: list[Event] = []
    while not isinstance(event := connection.next_event(), Signal):
        found.append(event)
        if isinstance(event, ConnectionClosed):
            break
    return found


@pytest.mark.parametrize(
    "trick", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\n.\r\n\n"]
)
def test_only_crlf_dot_crlf_ends_a_message(trick: bytes) -> None:
    """SMTP smuggling: what some take for an end is no end here, so no second message hides behind it."""
    connection = in_content()
    text = b"one" + trick + b"MAIL FROM:<evil@b>"
    connection.receive_data(text + b"\r\n.\r\n")
    got = events(connection)
    # A dot behind CRLF was put there by the sender's own stuffing, whatever follows it.
    assert b"".join(event.octets for event in got if isinstance(event, Content)) == text.replace(b"\r\n.", b"\r\n") + (
        b"\r\n"
    )
    assert isinstance(got[-1], EndOfContent)


@given(st.binary(max_size=MAX_SIZE - 2))
def test_any_message_arrives_as_it_was(message: bytes) -> None:
    """P2, A8: NUL, lone CR and LF, and octets of no known text: all of it is the message."""
    message = message.removesuffix(b"\r") + b"\r\n"
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
    connection = in_content()
    connection.receive_data(stuffed + b".\r\nQUIT\r\n")
    got = events(connection)
    assert b"".join(event.octets for event in got if isinstance(event, Content)) == message
    assert got[-1] == EndOfContent(len(message))
    connection.send(OK)
    assert connection.next_event() == Quit()


@pytest.mark.parametrize("size", [MAX_SIZE - 1, MAX_SIZE, MAX_SIZE + 1, 100_000])
def test_a_message_may_be_as_large_as_announced(size: int) -> None:
    connection = in_content()
    connection.receive_data(b"x" * (size - 2) + b"\r\n.\r\n")
    got = events(connection)
    assert got[-1] == EndOfContent(size, too_large=size > MAX_SIZE)
    handed_out = sum(len(event.octets) for event in got if isinstance(event, Content))
    assert handed_out == size if size <= MAX_SIZE else handed_out <= MAX_SIZE


def test_one_reply_for_each_recipient_and_then_the_next_command() -> None:
    """RFC 2033 section 4.2, for the same recipient twice as well."""
    connection = in_content(3)
    connection.receive_data(b".\r\nNOOP\r\n")
    assert connection.next_event() == EndOfContent(0)
    for left in (3, 2, 1):
        assert (connection.replies_due, connection.next_event()) == (left, PAUSED)
        connection.send(OK)
    assert connection.state is State.READY
    assert not isinstance(connection.next_event(), Signal)


def test_421_ends_it_at_any_time() -> None:
    for connection in (LmtpConnection(hostname="h", max_size=1), in_content()):
        assert connection.send(Reply(421, "4.3.2", "bye")) == b"421 4.3.2 bye\r\n"
        connection.receive_data(b"x\r\n.\r\n")
        assert connection.next_event() is NEED_DATA
        connection.receive_data(b"")
        assert connection.next_event() == ConnectionClosed()
        with pytest.raises(LocalProtocolError, match="data received after the end"):
            connection.receive_data(b"x")


def test_rset_forgets_the_transaction() -> None:
    """RFC 5321 section 4.1.1.5."""
    *_, again = answered(b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"RSET", b"DATA")
    assert isinstance(again, BadCommand)
    assert again.reply.text == "say MAIL first"


def test_a_client_that_leaves_in_a_message_has_sent_none() -> None:
    connection = in_content()
    connection.receive_data(b"half\r\n.")
    assert connection.unread == len(b"half\r\n.")
    connection.receive_data(b"")
    assert events(connection) == [Content(b"half"), ConnectionClosed()]


# --- commands ---------------------------------------------------------------------------------------------------------


def answered(*lines: bytes) -> list[Event]:
    """The events of lines behind LHLO, each answered."""
    connection = LmtpConnection(hostname="here", max_size=1000)
    connection.send(Reply(220, "", "hello"))
    connection.receive_data(b"LHLO x\r\n" + b"".join(line + b"\r\n" for line in lines))
    connection.next_event()
    connection.send_extensions()
    found: list[Event] = []
    for _ in lines:
        event = connection.next_event()
        assert not isinstance(event, Signal), "no event for a line"
        found.append(event)
        connection.send(event.reply if isinstance(event, BadCommand) else OK)
    return found


@pytest.mark.parametrize(
    ("line", "sender", "size", "eight_bit", "utf8"),
    [
        (b"MAIL FROM:<>", None, None, False, False),
        (b"mail from:<a@b> size=10 body=8bitmime", "a@b", 10, True, False),
        (b"MAIL FROM: <a@b>  BODY=7BIT SIZE=0", "a@b", None, False, False),
        (b"MAIL FROM:<@x.org,@y.org:a@b>", "a@b", None, False, False),
        (b'MAIL FROM:<"a b\\"<>"@[127.0.0.1]>', '"a b\\"<>"@[127.0.0.1]', None, False, False),
        (b"MAIL FROM:<a..b.@c>", '"a..b."@c', None, False, False),
        ("MAIL FROM:<jürgen@dömäin> SMTPUTF8".encode(), "jürgen@dömäin", None, False, True),
    ],
)
def test_senders(line: bytes, sender: str | None, size: int | None, eight_bit: bool, utf8: bool) -> None:
    (mail,) = answered(line)
    assert isinstance(mail, Mail)
    assert (None if mail.sender is None else str(mail.sender)) == sender
    assert (mail.size, mail.eight_bit, mail.utf8) == (size, eight_bit, utf8)


@pytest.mark.parametrize(
    ("line", "code", "enhanced"),
    [
        (b"EHLO x", 500, "5.5.1"),
        (b"HELO x", 500, "5.5.1"),
        (b"LHLO", 501, "5.5.4"),
        (b"DATA", 503, "5.5.1"),
        (b"RCPT TO:<a@b>", 503, "5.5.1"),
        (b"MAIL FROM:a@b", 501, "5.1.7"),
        (b"MAIL FROM:<a b@c>", 501, "5.1.7"),
        (b"MAIL <a@b>", 501, "5.1.7"),
        (b"MAIL FROM:<a@b>SIZE=1", 501, "5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=2", 501, "5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=+1", 501, "5.5.4"),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", 501, "5.5.4"),
        (b"MAIL FROM:<a@b> SMTPUTF8=1", 501, "5.5.4"),
        (b"MAIL FROM:<a@b> RET=FULL", 555, "5.5.4"),
        ("MAIL FROM:<ü@b>".encode(), 553, "5.6.7"),
        (b"MAIL FROM:<\xfc@b>", 500, "5.5.2"),
        (b"MAIL FROM:<a\0@b>", 500, "5.5.2"),
        (b"MAIL FROM:<a@b>\nRCPT TO:<c@d>", 500, "5.5.2"),
        (b"MAIL FROM:<" + b"a" * 300 + b"@b>", 501, "5.1.7"),
        (b"RSET now", 501, "5.5.4"),
        (b"VRFY", 501, "5.5.4"),
        (b"", 500, "5.5.2"),
        (b"MAIL FROM:<a@b> SIZE", 501, "5.5.4"),
        (b"MAIL FROM:<a@b> =", 501, "5.5.4"),
        (b"RCPT FROM:<a@b>", 503, "5.5.1"),
        (b"AUTH PLAIN", 500, "5.5.2"),
        (b"x" * 2047, 500, "5.5.6"),
        (b"x" * 20_000, 421, "4.5.6"),
    ],
)
def test_what_is_refused(line: bytes, code: int, enhanced: str) -> None:
    """RFC 2033 section 4.1 for HELO and EHLO; RFC 5321 section 4.2.4 for the rest; A9."""
    (event,) = answered(line)
    assert isinstance(event, BadCommand)
    assert (event.reply.code, event.reply.enhanced) == (code, enhanced)


def test_a_parameter_of_a_recipient_is_not_served() -> None:
    _, event = answered(b"MAIL FROM:<>", b"RCPT TO:<a@b> NOTIFY=NEVER")
    assert isinstance(event, BadCommand)
    assert event.reply.code == 555


def test_recipients() -> None:
    _, one, two, three, four = answered(
        b"MAIL FROM:<a@b>", b"RCPT TO:<Alice+x@B.org>", b"RCPT TO:<postmaster>", "RCPT TO:<ü@b>".encode(), b"RCPT TO:<>"
    )
    assert isinstance(one, Rcpt)
    assert (one.recipient.local, one.recipient.domain) == ("Alice+x", "B.org")
    assert isinstance(two, Rcpt)
    assert str(two.recipient) == "postmaster"
    assert isinstance(three, BadCommand)
    assert three.reply.enhanced == "5.6.7"
    assert isinstance(four, BadCommand)
    assert four.reply.enhanced == "5.1.3"
    _, recipient = answered(b"MAIL FROM:<> SMTPUTF8", "RCPT TO:<ü@b>".encode())
    assert isinstance(recipient, Rcpt)


# --- our own misuse ---------------------------------------------------------------------------------------------------


def test_replies_that_cannot_be_said() -> None:
    connection = LmtpConnection(hostname="here", max_size=1)
    with pytest.raises(LocalProtocolError, match="a greeting is 220"):
        connection.send(OK)
    connection.send(Reply(220, "", "x"))
    with pytest.raises(LocalProtocolError, match="no reply is due"):
        connection.send(OK)
    with pytest.raises(LocalProtocolError, match="the reply to LHLO"):
        connection.send_extensions()
    for line, reply in ((b"LHLO x", OK), (b"NOOP", GO), (b"what", OK), (b"QUIT", OK), (b"NOOP", Reply(221, "", "x"))):
        fresh = LmtpConnection(hostname="here", max_size=1)
        fresh.send(Reply(220, "", "x"))
        fresh.receive_data(line + b"\r\n")
        fresh.next_event()
        with pytest.raises(LocalProtocolError):
            fresh.send(reply)
        assert fresh.next_event() is PAUSED
    message = in_content()
    message.receive_data(b".\r\n")
    message.next_event()
    with pytest.raises(LocalProtocolError, match="354 is no answer"):
        message.send(GO)
    with pytest.raises(ValueError, match="max_size"):
        LmtpConnection(hostname="here", max_size=0)


def test_replies_are_one_line_each() -> None:
    """A11, A12."""
    for code, enhanced, text in (
        (250, "2.0.0", "a\r\nb"),
        (250, "5.0.0", "x"),
        (99, "", "x"),
        (250, "", ""),
        (250, "2", "x"),
    ):
        with pytest.raises(ValueError, match="not a reply"):
            Reply(code, enhanced, text)
    connection = LmtpConnection(hostname="here", max_size=1)
    assert len(connection.send(Reply(220, "", "x" * 1000))) == 512


def test_lhlo_lists_what_is_served() -> None:
    connection = LmtpConnection(hostname="mail.example.org", max_size=1234)
    connection.send(Reply(220, "", "x"))
    connection.receive_data(b"LHLO x\r\n")
    connection.next_event()
    assert connection.send_extensions().decode().split("\r\n") == [
        "250-mail.example.org", "250-PIPELINING", "250-ENHANCEDSTATUSCODES", "250-8BITMIME", "250-SMTPUTF8",
        "250 SIZE 1234", "",
    ]  # fmt: skip
