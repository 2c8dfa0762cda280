"""Core and session in one, under no loop at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.driving import run
from trio_pop3 import ClientInfo, MemoryBackend, MessageInfo, PermanentFailure, Rules
from trio_pop3.sansio import BadCommand, Noop
from trio_pop3.testing import Answer, Dialogue
from trio_pop3.testing.dialogue import LOCAL


class Hooked(MemoryBackend):
    """Knows of connections, and why they ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []

    async def connect(self, client: ClientInfo) -> None:
        pass

    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        self.ends.append(reason)


def mailbox(*messages: bytes) -> Hooked:
    backend = Hooked()
    backend.add_user("alice", "secret")
    for message in messages:
        backend.deliver("alice", message)
    return backend


async def pieces(answer: Answer | None) -> list[bytes]:
    assert answer is not None
    return [piece async for piece in answer]


def said(answer: Answer | None) -> bytes:
    return b"".join(run(pieces(answer)))


def hear(dialogue: Dialogue, data: bytes) -> bytes:
    """What is said to these octets."""
    dialogue.receive_data(data)
    heard = b""
    while (answer := dialogue.next_answer()) is not None:
        heard += said(answer)
    return heard


LOGIN = b"USER alice\r\nPASS secret\r\n"


def logged_in(backend: MemoryBackend) -> Dialogue:
    dialogue = Dialogue(backend)
    said(dialogue.greet())
    assert hear(dialogue, LOGIN).count(b"+OK") == 2
    return dialogue


def test_one_answer_after_another() -> None:
    backend = mailbox()
    dialogue = Dialogue(backend)
    greeting = dialogue.greet()
    assert greeting.event is None
    assert said(greeting).startswith(b"+OK ")
    assert dialogue.next_answer() is None
    dialogue.receive_data(b"NOOP\r\nXYZ")
    answer = dialogue.next_answer()
    assert answer is not None and isinstance(answer.event, BadCommand)  # before the login
    assert said(answer).startswith(b"-ERR ")
    assert dialogue.next_answer() is None
    assert hear(dialogue, b"\r\n" + LOGIN).count(b"+OK") == 2
    dialogue.receive_data(b"NOOP\r\n")
    answer = dialogue.next_answer()
    assert answer is not None and answer.event == Noop()
    assert said(answer).startswith(b"+OK")
    assert not dialogue.over


def test_a_message_comes_in_pieces() -> None:
    dialogue = logged_in(mailbox(b".x\n" * 50_000))
    dialogue.receive_data(b"RETR 1\r\n")
    parts = run(pieces(dialogue.next_answer()))
    assert parts[0].startswith(b"+OK") and parts[0].count(b"\r\n") == 1
    assert b"".join(parts[1:]) == b"..x\r\n" * 50_000 + b".\r\n"
    assert len(parts) > 3
    assert hear(dialogue, b"NOOP\r\n").startswith(b"+OK")


def test_quit_ends_it_and_what_follows_is_not_read() -> None:
    backend = mailbox(b"1", b"2")
    dialogue = logged_in(backend)
    heard = hear(dialogue, b"DELE 1\r\nQUIT\r\nRSET\r\n")
    assert heard.count(b"+OK") == 2 and heard.count(b"\r\n") == 2
    assert dialogue.over
    dialogue.receive_data(b"NOOP\r\n")
    assert dialogue.next_answer() is None
    assert list(backend.messages("alice").values()) == [b"2"]
    run(dialogue.close())
    assert len(backend.ends) == 1 and backend.ends[0] != "over"


def test_the_end_of_the_stream_ends_it_and_deletes_nothing() -> None:
    """A-33: not even when half a QUIT was said."""
    backend = mailbox(b"1")
    dialogue = logged_in(backend)
    assert hear(dialogue, b"DELE 1\r\nQUIT").count(b"+OK") == 1
    assert hear(dialogue, b"") == b""
    assert dialogue.over
    assert backend.locked("alice")
    run(dialogue.close("whatever"))
    assert not backend.locked("alice")
    assert list(backend.messages("alice").values()) == [b"1"]
    assert backend.ends == ["client closed"]


def test_whoever_closes_says_why() -> None:
    backend = mailbox(b"1")
    dialogue = logged_in(backend)
    run(dialogue.close("tired"))
    run(dialogue.close("tired again"))
    assert backend.ends == ["tired"]
    assert not backend.locked("alice")
    other = Dialogue(backend)
    said(other.greet())
    run(other.close())
    assert backend.ends == ["tired", "over"]


class Broken(Hooked):
    """Its messages break in the middle, or end too soon."""

    too_short = False

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        if not self.too_short:
            raise OSError("disk")

    async def open(self, user: str, client: ClientInfo) -> Broken:  # type: ignore[override]
        self.given_back = 0
        return self

    @property
    def messages(self) -> list[MessageInfo]:  # type: ignore[override]
        return [MessageInfo("1", 200_000)]

    async def retrieve(self, message: MessageInfo) -> AsyncIterator[bytes]:
        return self.pieces()

    async def commit(self, deleted: object) -> None:
        raise AssertionError

    async def release(self) -> None:
        self.given_back += 1


@pytest.mark.parametrize("too_short", [False, True])
def test_a_body_that_cannot_be_finished_is_no_body(too_short: bool) -> None:
    """A-22: no terminator, no -ERR, and nothing more, so that the client sees that it was cut."""
    backend = Broken()
    backend.too_short = too_short
    backend.add_user("alice", "secret")
    dialogue = logged_in(backend)
    heard = hear(dialogue, b"RETR 1\r\nNOOP\r\n")
    assert heard.startswith(b"+OK") and heard.endswith(b"x" * 1000)
    assert heard.count(b"\r\n") == 1
    assert dialogue.broken and dialogue.over
    dialogue.receive_data(b"NOOP\r\n")
    assert dialogue.next_answer() is None
    run(dialogue.close())
    assert backend.given_back == 1
    assert len(backend.ends) == 1


def test_tls_begins_where_the_caller_says_so() -> None:
    """A-35, PROTOCOL 2.5: what was sent in clear behind STLS is not read, and the user is forgotten."""
    dialogue = Dialogue(mailbox(), client=replace(LOCAL, loopback=False), rules=Rules(stls=True))
    said(dialogue.greet())
    assert hear(dialogue, b"USER alice\r\n").startswith(b"-ERR")  # in clear
    waits = [dialogue.tls_due]
    assert hear(dialogue, b"STLS\r\nQUIT\r\n").startswith(b"+OK")
    waits.append(dialogue.tls_due)
    dialogue.tls_started(replace(LOCAL, loopback=False, tls=True))
    assert [*waits, dialogue.tls_due] == [False, True, False]
    assert dialogue.next_answer() is None
    assert hear(dialogue, LOGIN).count(b"+OK") == 2
    assert b"STLS" not in hear(dialogue, b"CAPA\r\n")


class Refusing(Hooked):
    async def connect(self, client: ClientInfo) -> None:
        raise PermanentFailure("go away")


def test_a_refused_connection_is_over_behind_the_greeting() -> None:
    backend = Refusing()
    dialogue = Dialogue(backend)
    assert said(dialogue.greet()).startswith(b"-ERR ")
    assert dialogue.over
    run(dialogue.close())
    assert len(backend.ends) == 1


def test_options_are_those_of_the_session() -> None:
    dialogue = Dialogue(mailbox(), rules=Rules(apop=True), timestamp="<1@localhost>")
    assert b"<1@localhost>" in said(dialogue.greet())
    with pytest.raises(TypeError, match="no_such_option"):
        Dialogue(mailbox(), no_such_option=True)
