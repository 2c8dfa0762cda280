"""A dialogue that was written down is said again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from trio_pop3 import MemoryBackend
from trio_pop3.testing import MemoryWire, Portal, Talk, Transcript, Violation, Wire, replay

from .scripted import AnsweringWire, ScriptedWire


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def mailbox(*messages: bytes) -> MemoryBackend:
    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    for message in messages:
        backend.deliver("alice", message)
    return backend


def scripted(*wires: Wire) -> Callable[[], Wire]:
    """Dials these, one after the other."""
    return iter(wires).__next__


# --- what was printed ------------------------------------------------------------------------------------------------


def test_what_a_run_prints_is_said_again(portal: Portal) -> None:
    """Two connections, messages that arrive in between, octets of every kind, a connection that is dropped."""
    backend = mailbox()
    transcript = Transcript(hide={b"secret": "password"})

    def deliver(message: bytes) -> None:
        transcript.add("D", message)
        backend.deliver("alice", message)

    deliver(b".\xff\r\n" + b"x" * 500 + b" \n\0")
    first = Talk(MemoryWire(portal, backend), transcript, 1)
    first.reply()
    first.send(b"USER alice", b"PASS secret", b"RETR 1")
    replies = [first.reply(), first.reply(), first.reply(multiline=True)]
    assert all(reply.ok for reply in replies)
    second = Talk(MemoryWire(portal, backend), transcript, 2)
    second.reply()
    second.send(b"USER alice", b"PASS secret")
    assert [second.reply().ok, second.reply().code] == [True, "IN-USE"]
    first.close()
    deliver(b"")
    second.send_octets(b"USER alice\r\nPASS secret\r\nDELE 1\r\nSTAT\r\nQU")
    assert [second.reply().ok for _ in range(4)] == [True] * 4
    second.send_octets(b"IT\r\n")
    second.reply()
    second.expect_end()

    again = mailbox()
    printed = str(transcript)
    assert "secret" not in printed
    said = replay(
        printed,
        lambda: MemoryWire(portal, again),
        deliver=lambda message: again.deliver("alice", message),
        values={"password": b"secret"},
    )
    assert str(said) == printed
    assert list(again.messages("alice").values()) == list(backend.messages("alice").values()) == [b""]


def test_without_a_way_to_deliver_the_messages_must_be_there(portal: Portal) -> None:
    text = """
        # the message is there already
        D: x
        S: +OK ...
        C: USER alice
        S: +OK ...
        C: PASS secret
        S: +OK maildrop has 1 ...
        C! closes
        S! closes
    """
    said = replay(text, lambda: MemoryWire(portal, mailbox(b"x")))
    assert [entry.who for entry in said.entries][:2] == ["D", "S"]
    with pytest.raises(Violation, match="maildrop has 0"):
        replay(text, lambda: MemoryWire(portal, mailbox()))


def test_messages_are_delivered_one_by_one() -> None:
    delivered: list[bytes] = []
    replay("D: a\nD:\nD: \\n\n", scripted(), deliver=delivered.append)
    assert delivered == [b"a", b"", b"\n"]


# --- how it is compared ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("S: +OK 2 320", b"+OK 2 320\r\n"),
        ("S: +OK ...", b"+OK\r\n"),
        ("S: +OK ...", b"+OK ready\r\n"),
        ("S: +OK ...", b"+OK ...\r\n"),
        ("S: -ERR [IN-USE] ...", b"-ERR [IN-USE] come later\r\n"),
        ("S: ...", b"...\r\n"),
        ("S: a\nS:\nS: .", b"a\r\n\r\n.\r\n"),
        ("S> +OK", b"+OK"),
        ("S: +OK\nS> mo", b"+OK\r\nmo"),
        ("S: a\\nb", b"a\nb\r\n"),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 3])
def test_lines_that_are_as_they_are_written(written: str, said: bytes, size: int) -> None:
    pieces = [said[start : start + size] for start in range(0, len(said), size)] if size else [said]
    wire = ScriptedWire(*pieces)
    replay(f"{written}\nS! closes\n", scripted(wire))
    assert wire.done == ["close"]


@pytest.mark.parametrize(
    ("written", "said", "wrong"),
    [
        ("S: +OK 2 320", b"+OK 2 321\r\n", r"the server says +OK 2 321\r\n where +OK 2 320\r\n was due"),
        ("S: +OK", b"+OK \r\n", "the server says"),
        ("S: +OK ...", b"-ERR no\r\n", r"the server says -ERR no\r\n where +OK ...\r\n was due"),
        ("S: ...", b"+OK\r\n", "the server says"),
        ("S: +OK\nS: .", b"+OK\r\n", r"the server closed where .\r\n was due"),
        ("S: +OK", b"+O", r"the server closed where +OK\r\n was due"),
        ("S: +OK", b"+OK\n", r"the server closed where +OK\r\n was due"),
        ("S> +OK", b"+O", "the server closed where +OK was due"),
        ("S> +OK", b"-ER", "the server says -ER where +OK was due"),
        ("S: +OK", b"", r"the server closed where +OK\r\n was due"),
        ("S! closes", b"+OK\r\n", "the server goes on where it should have closed"),
        ("S: +OK\nS! closes", b"+OK\r\nmore", "the server goes on where it should have closed"),
    ],
)
def test_a_line_that_is_not_shows_the_dialogue(written: str, said: bytes, wrong: str) -> None:
    wire = ScriptedWire(*([said] if said else []))
    with pytest.raises(Violation) as caught:
        replay(f"C: NOOP\n{written}\n", scripted(wire))
    assert caught.value.message.startswith(wrong)
    assert "C: NOOP" in str(caught.value)
    assert wire.done == ["close"]
    heard = b"".join(entry.data for entry in caught.value.transcript.entries if entry.who == "S")
    assert heard == said


def test_what_is_wrong_is_shown_without_what_is_hidden() -> None:
    """P5: the password is in the hands of whoever replays, and a server that repeats it is not the one to print it."""
    wire = AnsweringWire(lambda line: b"-ERR no such password: " + line + b"\r\n")
    with pytest.raises(Violation, match="password") as caught:
        replay("S: +OK\nC: PASS \\{password}\nS: +OK\n", scripted(wire), values={"password": b"s3cret-Wort"})
    assert wire.lines == [b"PASS s3cret-Wort"]
    assert "s3cret-Wort" not in str(caught.value)
    assert "\\{password}" in caught.value.message


def test_a_long_line_is_cut_where_it_is_shown() -> None:
    with pytest.raises(Violation) as caught:
        replay("S: +OK\n", scripted(ScriptedWire(bytes(range(32, 127)) * 100 + b"\r\n")))
    assert len(caught.value.message) < 600


def test_lines_that_stand_together_are_sent_in_one_piece() -> None:
    sent: list[bytes] = []

    class Noting(ScriptedWire):
        def send(self, data: bytes) -> None:
            sent.append(data)

    wire = Noting(b"+OK\r\n+OK\r\n")
    replay("C: NOOP\nC: NOOP\nC> QU\nS: +OK\nS: +OK\nC> IT\nC:\nC! closes\n", scripted(wire))
    assert sent == [b"NOOP\r\nNOOP\r\nQU", b"IT\r\n"]
    assert wire.done == ["finish", "close"]


def test_every_connection_is_closed_whatever_happens() -> None:
    wires = [ScriptedWire(b"+OK\r\n"), ScriptedWire(b"-ERR\r\n")]
    with pytest.raises(Violation):
        replay("S1: +OK\nS2: +OK\n", scripted(*wires))
    assert [wire.done for wire in wires] == [["close"], ["close"]]


def test_what_is_no_transcript_is_not_even_begun() -> None:
    def dial() -> Wire:
        raise AssertionError("nobody should be called")

    with pytest.raises(ValueError, match="line 2 is none of"):
        replay("C: NOOP\nhello\n", dial)
    with pytest.raises(ValueError, match="needs a value for password"):
        replay("C: PASS \\{password}", dial)


def test_a_server_that_says_nothing_is_a_finding() -> None:
    with pytest.raises(Violation, match="the script is over"):
        replay("S: +OK\n", scripted(ScriptedWire(b"+O", closes=False)))


def test_a_server_that_is_not_there_is_no_finding() -> None:
    def dial() -> Wire:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        replay("S: +OK\n", dial)
