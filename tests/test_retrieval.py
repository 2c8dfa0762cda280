"""Messages on their way out: sizes, chunks, failures, and headers for clients without UTF8."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.replies import Multiline
from trio_pop3.rules import Headers
from trio_pop3.sansio import Pass, Retr, User, octets_of
from trio_pop3.session import Session
from trio_pop3.surrogate import MAX_HEADER

from .driving import CLIENT, Dialogue, Store, Waits, info, interrupted, run, streamed
from .sansio.strategies import cut, cuts, messages
from .sansio.test_body import canon


@given(st.lists(messages, min_size=1, max_size=4), st.integers(0, 4))
def test_what_is_announced_is_what_is_sent(mail: list[bytes], lines: int) -> None:
    """P2, B1, B2, B5, A-23, A-24, R1939-12, 40, 41: STAT = sum of LIST = octets of RETR; TOP is a prefix of RETR."""
    memory = MemoryBackend()
    memory.add_user("alice", "secret")
    for content in mail:
        memory.deliver("alice", content)
    session = Dialogue(memory)
    session.login()
    sizes = []
    for number, content in enumerate(mail, 1):
        sizes.append(int(session.ask(f"LIST {number}").split()[2]))
        body = session.ask(f"RETR {number}").partition(b"\r\n")[2].removesuffix(b".\r\n")
        plain = (b"\r\n" + body).replace(b"\r\n.", b"\r\n")[2:]
        assert plain == canon(content)
        assert sizes[-1] == len(plain)
        top = session.ask(f"TOP {number} {lines}").partition(b"\r\n")[2].removesuffix(b".\r\n")
        assert body.startswith(top)
    assert session.ask("STAT") == f"+OK {len(mail)} {sum(sizes)}\r\n".encode()


# --- bodies from backends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [[b"a\r", b"\n", b".", b"b"], [b"", b"a\n.", b"", b"b\r\n"], [b"a\n.b"]])
def test_streams_are_sent_like_whole_messages(chunks: list[bytes]) -> None:
    """A2, A16."""
    store = Store([info(1, 7)], streamed(*chunks))
    session = Dialogue(store)
    session.login()
    assert session.ask("RETR 1") == b"+OK 7 octets follow\r\na\r\n..b\r\n.\r\n"
    assert session.session.tally.retrieved == 1
    assert session.session.tally.retrieved_octets == 7


def test_big_pieces_are_cut() -> None:
    """P4: nothing longer than 64 KiB is encoded in one go; the harness asserts it for every chunk."""
    content = b"0123456789\n" * 100_000
    for given_as in (content, streamed(content)):
        session = Dialogue(Store([info(1, octets_of(content))], given_as))
        session.login()
        assert len(session.ask("RETR 1")) == octets_of(content) + len(b"+OK 1200000 octets follow\r\n.\r\n")


@pytest.mark.parametrize(
    "content", [b"ab", b"x" * 300, streamed(b"ab"), streamed(b"x" * 10), streamed(), b"y" * 300_000]
)
def test_a_message_of_another_size_is_never_complete(content: Any, caplog: pytest.LogCaptureFixture) -> None:
    """P2, B1: `-ERR` while that can be said, no terminator otherwise."""
    session = Dialogue(Store([info(1, 2), info(2, 7)], content))
    session.login()
    reply = session.ask("RETR 2")
    if session.broke_off:
        assert reply == b"+OK 7 octets follow\r\n"
        assert session.over
    else:
        assert reply == b"-ERR [SYS/PERM] the mail store returned a message of another size\r\n"
        assert caplog.messages == ["session test: uid uid2 is not of its announced size"]


@pytest.mark.parametrize("content", ["text", 7, None, streamed("text"), streamed(end=OSError("/secret"))])
def test_failures_before_the_first_octet(content: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A-22, SEED 7.4: still an -ERR, with none of the backend's words."""
    session = Dialogue(Store([info()], content))
    session.login()
    assert session.ask("RETR 1") == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert session.ask("NOOP").startswith(b"+OK")
    assert "RETR failed in the backend" in caplog.text


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (streamed(b"x", end=OSError("disk")), "OSError: disk"),
        (streamed(b"x", "text"), "TypeError: a message chunk must be bytes, not str"),
    ],
)
def test_failures_in_the_middle(content: Any, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    """A10: no terminator, no -ERR, the end; and why is in the log."""
    session = Dialogue(Store([info()], content))
    session.login()
    assert session.ask("RETR 1") == b"+OK 3 octets follow\r\n"
    assert session.broke_off
    assert caplog.messages[0].startswith("session test: reading a message failed in the backend\n")
    assert caplog.messages[0].endswith(f"\n{cause}")


def test_a_stream_is_closed_on_every_way_out() -> None:
    closed: list[str] = []
    store = Store([info(1, 8)], streamed(b"h\n\n", b"x", closed=closed))
    session = Dialogue(store)
    session.login()
    session.ask("RETR 1")
    assert closed == ["closed"]
    session.ask("TOP 1 0")  # left early
    assert closed == ["closed"] * 2
    store.content = streamed("text", closed=closed)
    session.ask("RETR 1")
    assert closed == ["closed"] * 3


def test_a_stream_that_cannot_be_closed_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck:
        def __aiter__(self) -> Stuck:
            return self

        async def __anext__(self) -> bytes:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise OSError("stuck")

    session = Dialogue(Store([info(1, 2)], Stuck))
    session.login()
    assert session.ask("RETR 1") == b"+OK 2 octets follow\r\n\r\n.\r\n"
    assert "closing a message failed" in caplog.text


def test_retr_and_top_count_when_they_are_complete() -> None:
    """A-21: TOP is not RETR, whoever asks what was retrieved."""
    session = Dialogue(Store([info()], streamed(b"x", end=OSError())))
    session.login()
    session.ask("RETR 1")
    assert session.session.tally.retrieved == 0
    session = Dialogue(Store([info()]))
    session.login()
    session.ask("TOP 1 5")
    assert (session.session.tally.topped, session.session.tally.retrieved) == (1, 0)
    for line in ("TOP 1 5", "RETR 1", "RETR 1"):
        session.ask(line)
    tally = session.session.tally
    assert (tally.topped, tally.retrieved, tally.retrieved_octets) == (2, 2, 6)


class Body:
    """A content whose iterator is another object; both want to be closed."""

    def __init__(self, closed: list[str], *chunks: Any, end: BaseException | None = None) -> None:
        self.closed = closed
        self.chunks = streamed(*chunks, end=end, closed=closed)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks()  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        self.closed.append("content")


@pytest.mark.parametrize(
    ("chunks", "end", "command"),
    [
        ((b"h\n\n", b"x"), None, "RETR 1"),
        ((b"h\n\n", b"x"), None, "TOP 1 0"),
        (("text",), None, "RETR 1"),
        ((), OSError(), "RETR 1"),
        ((b"h",), OSError(), "RETR 1"),
        ((b"h", 7), None, "RETR 1"),
    ],
)
def test_contents_and_their_iterators_are_both_closed(chunks: Any, end: OSError | None, command: str) -> None:
    """A10, P1: complete, left early, failed before the first octet, failed behind it."""
    closed: list[str] = []
    session = Dialogue(Store([info(1, 8)], lambda: Body(closed, *chunks, end=end)))
    session.login()
    session.ask(command)
    assert closed == ["closed", "content"]


class Itself:
    """A content that is its own iterator."""

    def __init__(self, closed: list[str]) -> None:
        self.closed = closed
        self.chunks = iter((b"Subject: x\n\n",))

    def __aiter__(self) -> Itself:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self.chunks:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.append("itself")


def test_a_content_that_is_its_own_iterator_is_closed_once() -> None:
    """P1: also where its header is measured beforehand."""
    closed: list[str] = []
    session = Dialogue(Store([info(1, 14)], lambda: Itself(closed)), headers=Headers.SURROGATE)
    session.login()
    assert closed == ["itself"]
    assert session.body("RETR 1") == b"Subject: x\r\n\r\n"
    assert closed == ["itself"] * 2


def test_a_message_that_is_cut_off_while_it_is_opened_is_closed() -> None:
    """P1: cancelled between retrieve and the first octet."""
    closed: list[str] = []

    class Slow(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            await Waits()
            yield b""

    session = Session(Store([info()], lambda: Slow(closed)), CLIENT)
    run(session.respond(User("a")))
    run(session.respond(Pass(b"b")))
    interrupted(session.respond(Retr(1)))
    assert closed == ["content"]


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 9"])
@pytest.mark.parametrize("octets", [2, 2**18, 2**18 + 1])
def test_a_wrong_size_is_an_error_while_that_can_be_said(octets: int, command: str) -> None:
    """P2, B1: a message given whole is measured up to 256 KiB; beyond, a RETR of it is not finished."""
    session = Dialogue(Store([info(1, 7)], b"x" * octets))
    session.login()
    reply = session.ask(command)
    if octets <= 2**18:
        assert reply == b"-ERR [SYS/PERM] the mail store returned a message of another size\r\n"
        assert session.ask("NOOP").startswith(b"+OK")
    elif command == "RETR 1":
        assert session.broke_off
        assert not reply.endswith(b"\r\n.\r\n")


@given(messages, cuts)
def test_streams_are_as_announced_in_any_pieces(message: bytes, places: list[int]) -> None:
    """P2, B1, A2, A-23, A-24."""
    session = Dialogue(Store([info(1, octets_of(message))], streamed(*cut(message, places))))
    session.login()
    body = session.ask("RETR 1").partition(b"\r\n")[2].removesuffix(b".\r\n")
    assert (b"\r\n" + body).replace(b"\r\n.", b"\r\n")[2:] == canon(message)
    assert session.ask("LIST 1") == f"+OK 1 {len(canon(message))}\r\n".encode()


@pytest.mark.parametrize(
    ("pieces", "octets"),
    [(1, 70_000), (7, 300_000), (65535, 300_000), (65536, 300_000), (65537, 300_000), (10**6, 10**6)],
)
@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 99999"])
def test_pieces_of_any_size_leave_in_pieces_of_64_kib(pieces: int, octets: int, command: str) -> None:
    """P4, A16: no line end in the whole message; the harness asserts the size of each piece."""
    message = b"Subject: x\n\n" + b"." * octets
    chunks = [message[start : start + pieces] for start in range(0, len(message), pieces)]
    for content in (message, streamed(*chunks)):
        session = Dialogue(Store([info(1, octets_of(message))], content))
        session.login()
        assert session.ask(command).partition(b"\r\n")[2] == b"Subject: x\r\n\r\n." + b"." * octets + b"\r\n.\r\n"


def test_nothing_again_and_again_comes_back_each_time() -> None:
    """P4: pieces without octets are handed on, so that whoever iterates can let others run."""
    session = Session(Store([info(1, 3)], streamed(*[b""] * 5, b"x")), CLIENT)
    for command in (User("a"), Pass(b"b")):
        run(session.respond(command))
    reply = run(session.respond(Retr(1)))
    assert isinstance(reply, Multiline)
    assert [run(anext(reply)) for _ in range(5)] == [b""] * 4 + [b"x"]
    with pytest.raises(StopAsyncIteration):
        run(anext(reply))


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 9"])
def test_what_did_not_reach_the_client_whole_is_not_counted(command: str) -> None:
    """J5: a client that left, a body that broke off or was of another size: only `sent` counts."""
    session = Dialogue(Store([info()], streamed(b"x", b"y", end=OSError())))
    session.login()
    session.ask(command)
    assert session.broke_off
    assert (session.session.tally.retrieved, session.session.tally.topped) == (0, 0)
    left = Session(Store([info()]), CLIENT)
    for event in (User("a"), Pass(b"b")):
        run(left.respond(event))
    reply = run(left.respond(Retr(1)))
    assert isinstance(reply, Multiline)
    run(anext(reply))
    run(reply.aclose())
    assert left.tally.retrieved == left.tally.retrieved_octets == 0
    reply.sent()
    assert (left.tally.retrieved, left.tally.retrieved_octets) == (1, 3)


class Observing(Store):
    """A maildrop that wants to know what its client has got."""

    def retrieved(self, message: be.MessageInfo) -> None:
        self._step(f"retrieved {message.uid}")


def observed(store: Store) -> list[str]:
    return [call for call in store.calls if call.startswith("retrieved")]


@pytest.mark.parametrize("content", [b"x", streamed(b"x", b"\r\n")])
def test_a_maildrop_is_told_what_was_retrieved(content: Any) -> None:
    """A-21, A-45: RETR and not TOP; whole, and each time; RSET changes nothing."""
    store = Observing([info(1), info(2)], content)
    session = Dialogue(store)
    session.login()
    for command in ("TOP 1 9", "RETR 2", "RETR 3", "RSET", "RETR 2"):
        session.ask(command)
    assert observed(store) == ["retrieved uid2", "retrieved uid2"]


@pytest.mark.parametrize(
    "content", [streamed(b"x", end=OSError()), streamed(b"much too long"), streamed(end=OSError())]
)
def test_a_maildrop_is_not_told_of_what_did_not_arrive_whole(content: Any) -> None:
    """A-21, P1."""
    store = Observing([info()], content)
    session = Dialogue(store)
    session.login()
    session.ask("RETR 1")
    assert observed(store) == []


def test_a_maildrop_that_fails_when_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """P4: the message has arrived, and the session goes on."""
    store = Observing([info()])
    store.fail["retrieved uid1"] = OSError("disk")
    session = Dialogue(store)
    session.login()
    assert session.ask("RETR 1").endswith(b"x\r\n.\r\n")
    assert session.ask("NOOP").startswith(b"+OK")
    assert "noting a retrieval failed in the backend" in caplog.text


# --- headers that are not ASCII ------------------------------------------------------------------------------------

FIELDS = [
    b"Subject: Gr\xc3\xbc\xc3\x9fe\n",
    b"From: J\xc3\xbcrgen <j@example.org>\r\n",
    "To: jürgen@exämple.org,\n  alice@example.org\n".encode(),
    b"X-Latin: caf\xe9\n",
    b"X-Note: plain\r\n",
    b"Content-Type: text/plain; name=\xc3\xbc\n",
    b"no field\n",
    b"\r",
]
headers = st.lists(st.sampled_from(FIELDS) | st.binary(max_size=5), max_size=4).map(b"".join)
mails = st.tuples(headers, st.sampled_from([b"\n", b"\r\n", b""]), messages).map(b"".join)
GREETINGS = "Subject: Grüße\nTo: alice@example.org\n\nschöne\n".encode()


def listed(session: Dialogue) -> list[int]:
    """The sizes, which must be those of STAT."""
    numbers = [int(row.split()[1]) for row in session.lines("LIST")]
    assert session.ask("STAT") == f"+OK {len(numbers)} {sum(numbers)}\r\n".encode()
    return numbers


def header_of(message: bytes) -> bytes:
    """All of it if there is no blank line, and nothing if it begins with one."""
    return (b"\r\n" + message).partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("policy", Headers)
@given(st.lists(mails, min_size=1, max_size=3), st.integers(0, 3), cuts, st.booleans())
@example([b"\xe9"], 0, [], False)
@example([b"Subject: \xc3\xa9\r"], 1, [1], True)
@example(["Subject: é\n\n.\nü".encode()], 1, [], True)
def test_sizes_are_true_under_every_policy(
    policy: Headers, mail: list[bytes], lines: int, places: list[int], stream: bool
) -> None:
    """P2, A-40, B1, B2, B5, R6856-04, R6856-05, R6856-06, R6856-09, R6858-06, D10: LIST = RETR = STAT, TOP a prefix."""
    contents = {f"uid{number}": content for number, content in enumerate(mail)}
    infos = [be.MessageInfo(uid, octets_of(content)) for uid, content in contents.items()]

    class Mail(Store):
        async def retrieve(self, message: be.MessageInfo) -> Any:
            content = contents[message.uid]
            return streamed(*cut(content, places))() if stream else content

    session = Dialogue(Mail(infos), headers=policy)
    session.login()
    for number, (octets, content) in enumerate(zip(listed(session), mail, strict=True), 1):
        plain = canon(content)
        if policy is Headers.REFUSE:
            assert octets == len(plain)
            reply = session.ask(f"RETR {number}")
            if reply.startswith(b"-ERR"):
                assert reply == b"-ERR [UTF8] this message needs UTF8\r\n"
                assert not plain.isascii()
                assert session.ask(f"TOP {number} {lines}") == reply
                continue
        sent = session.body(f"RETR {number}")
        assert len(sent) == octets
        assert sent.startswith(session.body(f"TOP {number} {lines}"))
        if policy is Headers.PASS or content.isascii():
            assert sent == plain
        else:
            assert header_of(sent).isascii()
    session.ask("DELE 1")
    session.ask("UTF8")
    assert listed(session) == [len(canon(content)) for content in mail[1:]]
    session.ask("RSET")
    assert listed(session) == [len(canon(content)) for content in mail]
    for number, content in enumerate(mail, 1):
        assert session.body(f"RETR {number}") == canon(content)


@pytest.fixture
def memory() -> MemoryBackend:
    mail = MemoryBackend()
    mail.add_user("alice", "secret")
    mail.deliver("alice", GREETINGS)
    mail.deliver("alice", b"Subject: plain\n\ntext\n")
    return mail


def test_a_surrogate(memory: MemoryBackend) -> None:
    """R6856-05, R6856-08, R6858-04, R6858-06: the header in ASCII, the body as it is, TOP of what is sent."""
    session = Dialogue(memory, headers=Headers.SURROGATE)
    session.login()
    top = b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nTo: alice@example.org\r\n\r\n"
    assert session.body("TOP 1 0") == top
    assert session.body("RETR 1") == top + "schöne\r\n".encode()
    assert session.body("RETR 2") == b"Subject: plain\r\n\r\ntext\r\n"


def test_utf8_before_the_login_is_for_everything_behind_it(memory: MemoryBackend) -> None:
    """R6856-06, R6856-09: and no header is read beforehand."""
    store = Store([info(1, octets_of(GREETINGS))], GREETINGS)
    for policy in Headers:
        session = Dialogue(store, headers=policy)
        assert session.ask("UTF8") == b"+OK UTF8 mode on\r\n"
        session.login()
        assert listed(session) == [len(canon(GREETINGS))]
        assert "retrieve" not in store.calls
        assert session.body("RETR 1") == canon(GREETINGS)
        store.calls.clear()


def test_the_code_utf8_is_for_messages_only(memory: MemoryBackend) -> None:
    """R6856-19, A-39, A-40, D13: no listing fails, asking again is no offence, and UTF8 helps at once."""
    session = Dialogue(memory, headers=Headers.REFUSE)
    session.login()
    for _ in range(12):
        assert session.ask("RETR 1") == session.ask("TOP 1 0") == b"-ERR [UTF8] this message needs UTF8\r\n"
    for command in ("STAT", "LIST", "LIST 1", "UIDL", "UIDL 1", "RETR 2", "NOOP", "DELE 1", "RSET", "CAPA", "LANG"):
        reply = session.ask(command)
        assert reply.startswith(b"+OK ")
        assert b"[UTF8]" not in reply
    assert session.session.tally.retrieved == 1
    session.ask("UTF8")
    assert session.body("RETR 1") == canon(GREETINGS)


@pytest.mark.parametrize("policy", [Headers.SURROGATE, Headers.REFUSE])
def test_a_message_of_another_size_is_noticed_all_the_same(policy: Headers) -> None:
    """P2: of the stored message, before its header is changed."""
    for content in (b"ab\n", GREETINGS, streamed(GREETINGS)):
        session = Dialogue(Store([info(1, 300)], content), headers=policy)
        session.login()
        reply = session.ask("RETR 1")
        if isinstance(content, bytes):
            assert reply.startswith(b"-ERR [SYS/PERM]")
        else:
            assert session.broke_off == (policy is Headers.SURROGATE)


def test_a_header_without_end_is_bounded() -> None:
    """P4, R6856-05: what is behind 256 KiB of it is sent as it is, and the size is still true."""
    line = "Subject: ü\n".encode()
    content = line * (MAX_HEADER // len(line) + 1000)
    for given_as in (content, streamed(*cut(content, [10, 1000, 300_000]))):
        session = Dialogue(Store([info(1, octets_of(content))], given_as), headers=Headers.SURROGATE)
        session.login()
        sent = session.body("RETR 1")
        assert [len(sent)] == listed(session)
        # Of the first 256 KiB so much is rewritten as can be in time; the rest of them is left out.
        head, found, tail = sent.partition(canon(line))
        assert found
        assert head.isascii()
        assert 0 < len(head) < MAX_HEADER
        assert len(tail) >= 999 * len(canon(line))


def test_what_is_behind_a_header_in_ascii_is_not_touched() -> None:
    """P4, R6856-06: also when it is much more than a header can be."""
    content = b"Subject: plain\n\n" + b"\xc3\xbc\n" * 300_000
    for given_as in (content, streamed(content), streamed(*cut(content, [3, 17, 500_000]))):
        for policy in Headers:
            session = Dialogue(Store([info(1, octets_of(content))], given_as), headers=policy)
            session.login()
            assert session.body("RETR 1") == canon(content)


@pytest.mark.parametrize(("fields", "times"), [(10, 0), (1000, 2)])
def test_long_headers_are_rewritten_aside(fields: int, times: int) -> None:
    """P4: it takes milliseconds, at the login for the size and at RETR once more."""
    calls: list[bytes] = []

    async def aside(work: Callable[[], bytes]) -> bytes:
        calls.append(work())
        return calls[-1]

    content = "Subject: ü\n".encode() * fields + b"\nbody\n"
    session = Dialogue(Store([info(1, octets_of(content))], content), headers=Headers.SURROGATE, aside=aside)
    session.login()
    assert session.body("RETR 1").isascii()
    assert len(calls) == times


def test_others_get_their_turn_for_each_piece_of_a_header() -> None:
    """P4: a header that comes octet by octet, or in pieces of nothing, holds up nobody."""
    turns: list[None] = []

    async def checkpoint() -> None:
        turns.append(None)

    chunks = [bytes([octet]) for octet in GREETINGS] + [b""] * 100
    store = Store([info(1, octets_of(GREETINGS))], streamed(*[b""] * 100, *chunks))
    session = Dialogue(store, headers=Headers.SURROGATE, checkpoint=checkpoint)
    session.login()
    end = GREETINGS.index(b"\n\n") + 2
    assert len(turns) > 100 + end
    turns.clear()
    session.body("RETR 1")
    assert len(turns) >= 99 + end


def test_a_message_that_is_gone_already_is_no_reason_to_refuse_a_login(memory: MemoryBackend) -> None:
    """C6, A-22: it keeps its number and its size, and is missed when it is asked for."""
    memory.deliver("alice", GREETINGS)
    memory._mail["alice"]["00000001"] = (info(1, 9), b"")  # listed, and retrieved under another name
    session = Dialogue(memory, headers=Headers.SURROGATE)
    assert session.login().startswith(b"+OK maildrop has 3 messages")
    assert session.ask("LIST 1") == b"+OK 1 9\r\n"
    assert session.ask("RETR 1") == b"-ERR [SYS/TEMP] message not available\r\n"
    # Those behind it are measured all the same.
    sent = session.body("RETR 3")
    assert sent.startswith(b"Subject: =?utf-8?")
    assert listed(session)[2] == len(sent)


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (be.TemporaryFailure("busy"), b"-ERR [SYS/TEMP] busy\r\n"),
        (OSError("/secret"), b"-ERR [SYS/PERM] the mail store returned an inconsistent maildrop\r\n"),
    ],
)
def test_headers_that_cannot_be_measured(failure: Exception, reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """D6, R1939-24, P2: no true sizes, no login. Lock given back, content closed, cause logged."""
    closed: list[str] = []
    store = Store([info()], streamed(b"Sub", end=failure, closed=closed))
    session = Dialogue(store, headers=Headers.SURROGATE)
    assert session.login() == reply
    assert closed == ["closed"]
    assert store.calls.count("release") == 1
    assert session.ask("STAT").startswith(b"-ERR")
    assert session.ask("UTF8").startswith(b"+OK")
    assert "opening the maildrop failed" in caplog.text


@pytest.mark.parametrize("policy", [Headers.SURROGATE, Headers.REFUSE])
@pytest.mark.parametrize("chunks", [(GREETINGS,), (b"Subject: \xc3\xbc\n", "text"), (b"a", b"b\n\n\xff")])
def test_contents_are_closed_whatever_becomes_of_the_header(policy: Headers, chunks: tuple[Any, ...]) -> None:
    """A10, P1: sent, refused, or failed while the end of the header was looked for; measured beforehand or not."""
    closed: list[str] = []
    store = Store([info(1, 20)], b"Subject: measured\n")
    session = Dialogue(store, headers=policy)
    session.login()
    store.content = lambda: Body(closed, *chunks)
    session.ask("RETR 1")
    assert closed == ["closed", "content"]
    store.calls.clear()
    measured = Dialogue(store, headers=policy)
    measured.login()
    if "retrieve" in store.calls:
        assert closed == ["closed", "content"] * 2
