"""The ancestor's contract: every callback, plain and async, in threads and without any event loop."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3 import backend as be
from trio_pop3.backends.callbacks import CallbackBackend

from ..driving import CLIENT, Dialogue, run
from .maildir_helpers import lines

MAIL = {"one": b"Subject: one\n\n.first\n", "two": b"Subject: two\r\n\r\nsecond", "three": b""}
SIZES = {"one": 24, "two": 24, "three": 2}
SNAPSHOT = [be.MessageInfo(uid, octets) for uid, octets in SIZES.items()]
ALICE = be.PasswordCredentials("alice", "secret")


def minimal(**callbacks: Any) -> CallbackBackend:
    """A backend with one user and three messages, and whatever a test wants to be otherwise."""
    return CallbackBackend(
        **{
            "authenticate": lambda user, password, ip: (user, password) == ("alice", "secret"),
            "list": lambda user: list(MAIL),
            "retrieve": lambda user, uid: MAIL[uid],
            **callbacks,
        }
    )


def inline(**callbacks: Any) -> CallbackBackend:
    return minimal(blocking=False, **callbacks)


async def read(content: Any) -> bytes:
    """The octets of a message, whatever form it came in."""
    return content if isinstance(content, bytes) else b"".join([chunk async for chunk in content])


async def the_whole_of(backend: CallbackBackend) -> tuple[Sequence[be.MessageInfo], list[bytes]]:
    """What is in the maildrop: snapshot and contents."""
    maildrop = await backend.open(await backend.authenticate(ALICE, CLIENT), CLIENT)
    try:
        return maildrop.messages, [await read(await maildrop.retrieve(message)) for message in maildrop.messages]
    finally:
        await maildrop.release()


# --- construction --------------------------------------------------------------------------------------------------

OPTIONAL = ["delete", "size", "connect", "disconnect", "apop"]


@pytest.mark.parametrize("name", ["authenticate", "list", "retrieve", *OPTIONAL])
def test_what_cannot_be_called_is_refused_at_once(name: str) -> None:
    """SEED 1.1: the ancestor looked at it when a client was connected."""
    with pytest.raises(TypeError, match=f"{name} must be a function, not str"):
        minimal(**{name: "not a function"})


@pytest.mark.parametrize("name", ["authenticate", "list", "retrieve"])
def test_three_callbacks_are_required(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a function"):
        minimal(**{name: None})


def test_unknown_names_are_refused() -> None:
    """SEED 1.1: a misspelt option was accepted and dropped."""
    with pytest.raises(TypeError, match="serveropts"):
        minimal(serveropts={})
    with pytest.raises(TypeError, match="retrieve"):
        CallbackBackend(authenticate=print, list=lambda user: [])  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("given", "methods", "hooks"),
    [
        ((), {"PLAIN"}, False),
        (("apop",), {"PLAIN", "APOP"}, False),
        (("connect",), {"PLAIN"}, True),
        (("disconnect",), {"PLAIN"}, True),
    ],
)
def test_only_powers_that_are_there_are_offered(given: tuple[str, ...], methods: set[str], hooks: bool) -> None:
    """D8."""
    backend = minimal(**dict.fromkeys(given, print))
    assert be.login_methods(backend) == methods
    assert isinstance(backend, be.ConnectionHooks) is hooks


# --- where it runs -------------------------------------------------------------------------------------------------


def test_a_whole_session_without_an_event_loop() -> None:
    """R1939-27, 43, 49; E5, C7: numbered as listed, deleted by id, ascending."""
    calls: list[tuple[str, ...]] = []
    session = Dialogue(inline(delete=lambda *call: calls.append(call)))
    assert session.login() == b"+OK maildrop has 3 messages (50 octets)\r\n"
    assert lines(session.ask("UIDL")) == [b"1 one", b"2 two", b"3 three"]
    assert lines(session.ask("RETR 1")) == [b"Subject: one", b"", b"..first"]
    for number in (3, 1):
        session.ask(f"DELE {number}")
    assert calls == []
    assert session.ask("QUIT") == b"+OK goodbye\r\n"
    assert calls == [("alice", "one"), ("alice", "three")]


class Called:
    """An object whose call is `async`."""

    async def __call__(self, user: str) -> list[str]:
        assert in_trio()
        return list(MAIL)


def in_trio() -> bool:
    return threading.current_thread() is threading.main_thread()


async def test_plain_functions_run_in_threads_to_their_last_step() -> None:
    """SEED 5.1: a plain function may block wherever it is: called, iterated, closed, measured."""
    places: list[tuple[str, bool]] = []

    def here(step: str, result: Any = None) -> Any:
        places.append((step, in_trio()))
        return result

    def listing(user: str) -> Iterator[str]:
        yield here("list", "one")

    def retrieve(user: str, uid: str) -> Iterator[bytes]:
        try:
            here("retrieve")
            yield MAIL[uid]
        finally:
            here("close")

    backend = minimal(
        authenticate=lambda user, password, ip: here("authenticate", True),
        list=listing,
        retrieve=retrieve,
        delete=lambda user, uid: here("delete"),
        connect=lambda client: here("connect"),
        disconnect=lambda client, reason: here("disconnect"),
        apop=lambda user, digest, timestamp: here("apop", True),
    )
    await backend.connect(CLIENT)
    assert await the_whole_of(backend) == (SNAPSHOT[:1], [MAIL["one"]])
    maildrop = await backend.open("alice", CLIENT)
    await maildrop.commit(maildrop.messages)
    await backend.authenticate(be.ApopCredentials("alice", "<1@h>", bytes(16)), CLIENT)
    await backend.disconnect(CLIENT, "quit")
    steps = {"connect", "authenticate", "list", "retrieve", "close", "delete", "apop", "disconnect"}
    assert {step for step, _ in places} == steps
    assert not any(inside for _, inside in places)


async def test_async_functions_run_where_they_belong() -> None:
    async def authenticate(user: str, password: str, ip: str | None) -> bool:
        await trio.lowlevel.checkpoint()
        return in_trio()

    async def retrieve(user: str, uid: str) -> AsyncIterator[bytes]:
        assert in_trio()
        await trio.lowlevel.checkpoint()
        yield MAIL[uid]

    backend = minimal(authenticate=authenticate, list=Called(), retrieve=retrieve)
    assert await the_whole_of(backend) == (SNAPSHOT, list(MAIL.values()))
    wrapped = minimal(list=lambda user: Called()(user), retrieve=lambda user, uid: retrieve(user, uid))
    assert await the_whole_of(wrapped) == (SNAPSHOT, list(MAIL.values()))


async def test_what_an_async_list_gives_is_read_on_the_loop() -> None:
    """I5: a view of what the loop is changing must not be read from a thread."""

    class View(dict[str, int]):
        def __iter__(self) -> Iterator[str]:
            assert in_trio()
            return iter(["one"])

    async def listing(user: str) -> dict[str, int]:
        return View()

    assert (await the_whole_of(minimal(list=listing)))[0] == SNAPSHOT[:1]


async def test_threads_are_limited_by_the_limiter_that_was_given() -> None:
    """P4: and not by the one that everybody else uses."""
    limiter = trio.CapacityLimiter(1)
    used: list[tuple[int, int]] = []

    common = trio.to_thread.current_default_thread_limiter()

    def listing(user: str) -> list[str]:
        used.append((limiter.borrowed_tokens, common.borrowed_tokens))
        return []

    await minimal(list=listing, limiter=limiter).open("alice", CLIENT)
    await minimal(list=listing).open("alice", CLIENT)
    assert used == [(1, 0), (0, 0)]


# --- who is it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "user"), [(True, "alice"), ("Alice@example.org", "Alice@example.org")])
def test_good_answers(answer: object, user: str) -> None:
    """SEED 6, 13: the user's canonical name may be given."""
    seen: list[tuple[object, ...]] = []

    def check(*arguments: object) -> object:
        seen.append(arguments)
        return answer

    backend = inline(authenticate=check, apop=check)
    assert run(backend.authenticate(ALICE, CLIENT)) == user
    credentials = be.ApopCredentials("alice", "<1@h>", b"\xab" * 16)
    assert run(backend.authenticate(credentials, CLIENT)) == user
    assert seen == [("alice", "secret", "127.0.0.1"), ("alice", "ab" * 16, "<1@h>")]


@pytest.mark.parametrize("answer", [None, False])
def test_answers_that_mean_no(answer: object) -> None:
    """R1939-76: a wrong digest is refused like a wrong password."""
    backend = inline(authenticate=lambda *_: answer, apop=lambda *_: answer)
    with pytest.raises(be.AuthenticationFailed):
        run(backend.authenticate(ALICE, CLIENT))
    with pytest.raises(be.AuthenticationFailed):
        run(backend.authenticate(be.ApopCredentials("alice", "<1@h>", bytes(16)), CLIENT))


@pytest.mark.parametrize("answer", [1, 0, "", b"alice", ["alice"], object()])
def test_answers_that_mean_nothing(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """SEED 1.3: any true value used to do. H9: a fault of ours is no fault of the password."""
    backend = inline(authenticate=lambda *_: answer)
    assert Dialogue(backend).login() == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert "TypeError" in caplog.text


def test_empty_passwords_and_other_kinds_of_credentials_are_not_even_asked_about() -> None:
    """H6."""
    backend = inline(authenticate=lambda *_: True)
    for credentials in (be.PasswordCredentials("alice", ""), be.Credentials("alice")):
        with pytest.raises(be.AuthenticationFailed):
            run(backend.authenticate(credentials, CLIENT))


def refuse(failure: Exception) -> Callable[..., Any]:
    def raising(*_: object) -> Any:
        raise failure

    return raising


def test_reasons_may_be_given() -> None:
    """SEED 1.3, H9: a result that can say why. R2449-42."""
    session = Dialogue(inline(authenticate=refuse(be.TemporaryFailure("directory is down"))))
    assert session.login() == b"-ERR [SYS/TEMP] directory is down\r\n"
    assert Dialogue(inline(list=refuse(be.LoginDelayed()))).login().startswith(b"-ERR [LOGIN-DELAY] ")
    assert Dialogue(inline(connect=refuse(be.TemporaryFailure("closed")))).greeting == b"-ERR [SYS/TEMP] closed\r\n"


def test_hooks_are_called_once_each_however_it_ends() -> None:
    """SEED 1.3: disconnect used to be called on QUIT only, and connect got nothing and could say nothing."""
    calls: list[object] = []
    backend = inline(connect=calls.append, disconnect=lambda client, reason: calls.append(reason))
    Dialogue(backend).ask("QUIT")
    session = Dialogue(backend)
    session.send(b"")
    session.close("again")
    assert calls == [CLIENT, "quit", CLIENT, "client closed"]


@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_one_hook_is_enough(name: str) -> None:
    calls: list[object] = []
    assert Dialogue(inline(**{name: lambda *_: calls.append(name)})).ask("QUIT").startswith(b"+OK")
    assert calls == [name]


# --- where is the mail ---------------------------------------------------------------------------------------------


def test_sizes_are_asked_for_once_a_message() -> None:
    """SEED 1.3: the ancestor asked for every size at every STAT and LIST, and fetched every message for it. F8."""
    calls: list[tuple[str, str]] = []

    def size(user: str, uid: str) -> int:
        calls.append((user, uid))
        return SIZES[uid]

    session = Dialogue(inline(size=size, retrieve=refuse(OSError())))
    session.login()
    for command in ("STAT", "LIST", "LIST 1", "UIDL", "STAT"):
        assert session.ask(command).startswith(b"+OK")
    assert calls == [("alice", uid) for uid in MAIL]


class Info(be.MessageInfo):
    """What a callback may want to find again."""


@pytest.mark.parametrize("items", [SIZES.items(), SNAPSHOT, [Info("one", 24), ["two", 24], ("three", 0)]])
def test_sizes_in_the_listing_are_taken_for_granted(items: Any) -> None:
    """F8, B3: no message is opened, and a zero is the empty message."""
    backend = inline(list=lambda user: iter(items), size=refuse(OSError()), retrieve=refuse(OSError()))
    messages = run(backend.open("alice", CLIENT)).messages
    assert [(message.uid, message.octets) for message in messages] == list(SIZES.items())


def streaming(user: str, uid: str) -> Iterator[bytes]:
    for start in range(len(MAIL[uid])):
        yield MAIL[uid][start : start + 1]


async def async_streaming(user: str, uid: str) -> AsyncIterator[bytes]:
    for piece in streaming(user, uid):
        yield piece


RETRIEVES = [lambda user, uid: MAIL[uid], lambda user, uid: [MAIL[uid], b""], streaming, async_streaming]


@pytest.mark.parametrize("retrieve", RETRIEVES)
@pytest.mark.parametrize("blocking", [False, True])
async def test_messages_come_in_any_form_and_are_measured_if_nobody_knows(retrieve: Any, blocking: bool) -> None:
    """B1, A-23, A-24: octets as sent, in whatever pieces."""
    assert await the_whole_of(minimal(retrieve=retrieve, blocking=blocking)) == (SNAPSHOT, list(MAIL.values()))


@pytest.mark.parametrize(
    "items", ["abc", [7], [b"one"], [("one", 2, 3)], [None], None, [("one", False)], [("one", None)], ["a b"]]
)
def test_listings_that_are_none(items: Any) -> None:
    """F1, R1939-23, R1939-24, SEED 1.3: ids used to go on the wire unchecked; one text is not a list of letters."""
    session = Dialogue(inline(list=lambda user: items, size=lambda user, uid: 2))
    for _ in range(2):
        assert re.match(rb"-ERR \[SYS/(TEMP|PERM)\] ", session.login())


@pytest.mark.parametrize("content", ["text", bytearray(b"x"), memoryview(b"x"), None, 7, ["text"], [7]])
@pytest.mark.parametrize("sized", [True, False])
def test_contents_that_are_none(content: Any, sized: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A-22: octets or nothing, and the session goes on."""
    session = Dialogue(inline(list=lambda user: [("one", 24) if sized else "one"], retrieve=lambda *_: content))
    if sized:
        session.login()
    failed = session.ask("RETR 1") if sized else session.login()
    assert failed == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert "TypeError" in caplog.text
    assert session.ask("CAPA").startswith(b"+OK")


async def test_small_chunks_of_a_plain_iterable_travel_together() -> None:
    """A thread hop for each line of a file would cost more than the file."""
    line = b"x" * 99 + b"\n"
    backend = minimal(list=lambda user: [("one", 101 * 2000)], retrieve=lambda user, uid: iter([line] * 2000))
    maildrop = await backend.open("alice", CLIENT)
    content = await maildrop.retrieve(maildrop.messages[0])
    assert not isinstance(content, bytes)
    pieces = [len(piece) async for piece in content]
    assert pieces == [65600, 65600, 65600, 3200]


@pytest.mark.parametrize("blocking", [False, True])
async def test_an_open_file_is_a_message(tmp_path: Path, blocking: bool) -> None:
    """Closed when it was read, when it was measured, and when the client had enough; or this would be a warning."""
    (tmp_path / "one").write_bytes(MAIL["one"])
    opened: list[Any] = []

    def retrieve(user: str, uid: str) -> Any:
        opened.append((tmp_path / uid).open("rb"))
        return opened[-1]

    backend = minimal(list=lambda user: ["one"], retrieve=retrieve, blocking=blocking)
    maildrop = await backend.open("alice", CLIENT)
    content: Any = await maildrop.retrieve(maildrop.messages[0])
    assert await anext(content) == MAIL["one"]
    await content.aclose()
    assert [file.closed for file in opened] == [True, True]


async def test_an_async_content_is_closed_when_it_cannot_be_measured() -> None:
    closed: list[str] = []

    async def retrieve(user: str, uid: str) -> AsyncIterator[Any]:
        try:
            yield "text"
        finally:
            closed.append(uid)

    with pytest.raises(TypeError):
        await minimal(retrieve=retrieve).open("alice", CLIENT)
    assert closed == ["one"]


class Bare:
    """An asynchronous iterable of its own making, with nothing to close."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def __aiter__(self) -> Bare:
        return self

    async def __anext__(self) -> bytes:
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop()


def test_an_async_content_without_aclose() -> None:
    backend = inline(list=lambda user: ["one"], retrieve=lambda user, uid: Bare(b"x"))
    assert run(backend.open("alice", CLIENT)).messages == [be.MessageInfo("one", 3)]


def test_a_vanished_message_is_an_error_and_not_the_end() -> None:
    """C6, A-22."""
    mail = dict(MAIL)
    session = Dialogue(inline(list=lambda user: list(SIZES.items()), retrieve=lambda user, uid: mail[uid]))
    session.login()
    del mail["two"]
    assert session.ask("RETR 2") == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert session.ask("RETR 1").startswith(b"+OK")


# --- other sessions meanwhile --------------------------------------------------------------------------------------


class Ticks:
    """Counts how often another task gets its turn."""

    def __init__(self) -> None:
        self.count = 0

    async def during(self, work: Callable[[], Any]) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            result = await work()
            nursery.cancel_scope.cancel()
        return result

    async def _tick(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


async def list_of_many(user: str) -> list[tuple[str, int]]:
    return [(str(number), 2) for number in range(20_000)]


async def unsized_list_of_many(user: str) -> list[str]:
    return [str(number) for number in range(20_000)]


async def size_of_two(user: str, uid: str) -> int:
    return 2


@pytest.mark.parametrize("callbacks", [{"list": list_of_many}, {"list": unsized_list_of_many, "size": size_of_two}])
async def test_a_long_async_list_does_not_hold_up_other_sessions(callbacks: dict[str, Any]) -> None:
    """P4: a turn for everybody after each thousand messages, though the callbacks never wait for anything."""
    ticks, backend = Ticks(), minimal(**callbacks)
    assert len((await ticks.during(lambda: backend.open("alice", CLIENT))).messages) == 20_000
    assert ticks.count >= 15


async def whole(user: str, uid: str) -> bytes:
    return b"x" * 5_000_000


async def in_crumbs(user: str, uid: str) -> AsyncIterator[bytes]:
    for _ in range(5000):
        yield b"x" * 1000


async def in_nothings(user: str, uid: str) -> AsyncIterator[bytes]:
    for _ in range(5000):
        yield b""
    yield b"x" * 5_000_000


async def list_of_one(user: str) -> list[str]:
    return ["one"]


@pytest.mark.parametrize(("retrieve", "turns"), [(whole, 3), (in_crumbs, 4900), (in_nothings, 4900)])
async def test_measuring_does_not_hold_up_other_sessions(retrieve: Any, turns: int) -> None:
    """P4, B1: whatever the message comes in."""
    ticks, backend = Ticks(), minimal(list=list_of_one, retrieve=retrieve)
    assert (await ticks.during(lambda: backend.open("alice", CLIENT))).messages == [be.MessageInfo("one", 5_000_002)]
    assert ticks.count >= turns


async def test_a_login_can_be_cancelled_in_the_middle_of_a_long_list() -> None:
    """I9, P4: and then the maildrop is free."""
    backend = minimal(list=list_of_many)
    with trio.CancelScope() as scope:
        scope.cancel()
        await backend.open("alice", CLIENT)
    assert scope.cancelled_caught
    assert len((await backend.open("alice", CLIENT)).messages) == 20_000


# --- the lock ------------------------------------------------------------------------------------------------------


def test_one_session_a_user() -> None:
    """R1939-21, A-42, I10: only the holder lets go, and only once."""
    backend = inline(authenticate=lambda user, password, ip: user)
    first, second, other = Dialogue(backend), Dialogue(backend), Dialogue(backend)
    first.login()
    assert second.login() == b"-ERR [IN-USE] maildrop in use by another session\r\n"
    assert other.login("bob").startswith(b"+OK")
    second.close()
    assert Dialogue(backend).login().startswith(b"-ERR [IN-USE] ")
    first.ask("QUIT")
    assert second.over
    assert Dialogue(backend).login().startswith(b"+OK")


def test_a_lock_that_was_given_back_cannot_be_given_back_again() -> None:
    """I10: it is somebody else's now."""
    backend = inline()
    first = run(backend.open("alice", CLIENT))
    run(first.release())
    second = run(backend.open("alice", CLIENT))
    run(first.release())
    with pytest.raises(be.MaildropInUse):
        run(backend.open("alice", CLIENT))
    run(second.release())
    run(backend.open("alice", CLIENT))


@pytest.mark.parametrize("name", ["list", "size", "retrieve"])
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("failure", [OSError(), be.TemporaryFailure(), StopIteration()])
async def test_a_maildrop_that_cannot_be_opened_is_not_locked(name: str, blocking: bool, failure: Exception) -> None:
    """D6, I9, R1939-24."""
    backend = minimal(**{name: refuse(failure)}, blocking=blocking)
    for _ in range(2):
        with pytest.raises((type(failure), RuntimeError)):
            await backend.open("alice", CLIENT)


class Gate:
    """Holds a thread until the test lets it go."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.leave = threading.Event()
        self.left: list[object] = []

    def wait(self, *result: object) -> None:
        trio.from_thread.run_sync(self.entered.set)
        assert self.leave.wait(20)
        self.left.append(result)

    async def cancel(self, work: Callable[[], Any]) -> None:
        """Run until a thread is in here, cancel, and only then let the thread go on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await self.entered.wait()
            nursery.cancel_scope.cancel()
            # Let the cancellation arrive before the thread has anything to come back with.
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            self.leave.set()


@pytest.mark.parametrize("name", ["list", "size", "retrieve"])
async def test_a_login_that_is_cancelled_half_way_holds_nothing(name: str) -> None:
    """P1, I9: the thread is waited for, and then the lock is free and the next login good."""
    gate = Gate()

    def callback(user: str, *uid: str) -> Any:
        if not gate.left:
            gate.wait(user)
        return {"list": list(MAIL), "size": 24, "retrieve": b"x"}[name]

    backend = minimal(**{name: callback})
    await gate.cancel(lambda: backend.open("alice", CLIENT))
    assert gate.left == [("alice",)]
    assert len((await backend.open("alice", CLIENT)).messages) == 3


async def test_a_generator_that_is_cancelled_while_it_is_measured_is_closed_in_its_thread() -> None:
    """P1: its `finally` runs now and there, also under a cancellation."""
    gate = Gate()
    closed: list[bool] = []

    def retrieve(user: str, uid: str) -> Iterator[bytes]:
        try:
            gate.wait(uid)
            yield b"x" * 70_000
            yield b"never reached"
        finally:
            closed.append(in_trio())

    backend = minimal(retrieve=retrieve)
    await gate.cancel(lambda: backend.open("alice", CLIENT))
    assert closed == [False]
    assert gate.left == [("one",)]


# --- UPDATE --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True])
async def test_every_deletion_is_tried(blocking: bool, caplog: pytest.LogCaptureFixture) -> None:
    """R1939-52, E2, SEED 1.3: a failure used to end it, and a False used to be nothing."""
    tried: list[str] = []

    def delete(user: str, uid: str) -> object:
        tried.append(uid)
        return {"one": OSError("disk"), "two": False, "three": None, "four": 0, "five": b""}[uid]

    def raising(user: str, uid: str) -> object:
        result = delete(user, uid)
        if isinstance(result, Exception):
            raise result
        return result

    uids = ["one", "two", "three", "four", "five"]
    backend = minimal(list=lambda user: [(uid, 2) for uid in uids], delete=raising, blocking=blocking)
    maildrop = await backend.open("alice", CLIENT)
    with pytest.raises(be.CommitIncomplete) as failure:
        await maildrop.commit(maildrop.messages)
    assert failure.value.remaining == 2
    assert tried == uids
    assert "user 'alice': delete of uid one failed: OSError at\n" in caplog.text
    assert re.search(rf"\n  {re.escape(__file__)}:\d+ in test_every_deletion.*\.raising\n", caplog.text)


@pytest.mark.parametrize("failure", [RuntimeError("LOGIN alice s3cr3t@pw failed"), KeyError("s3cr3t@pw")])
def test_what_a_failed_deletion_says_is_not_logged(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """H8, P5: it may quote a password, and the backend does not know which; nor are the lines of code logged."""
    failure.__cause__ = ValueError("s3cr3t@pw")
    session = Dialogue(inline(delete=refuse(failure)))
    session.login()
    assert session.send(b"DELE 1\r\nQUIT\r\n").endswith(b"-ERR [SYS/TEMP] 1 deleted message not removed\r\n")
    assert f"failed: {type(failure).__name__} at\n" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "raise failure" not in caplog.text


def test_deletions_that_work_are_confirmed() -> None:
    """E10, R1939-49, R1939-50: exactly the marked ones are gone at the next login."""
    mail = dict(MAIL)
    backend = inline(list=lambda user: list(mail), delete=lambda user, uid: mail.pop(uid))
    session = Dialogue(backend)
    session.login()
    session.ask("DELE 2")
    assert session.ask("QUIT") == b"+OK goodbye\r\n"
    session = Dialogue(backend)
    session.login()
    assert lines(session.ask("UIDL")) == [b"1 one", b"2 three"]


def test_without_delete_nothing_can_be_deleted_and_quit_says_so() -> None:
    """SEED 1.3: the client used to be told +OK."""
    session = Dialogue(inline())
    session.login()
    session.ask("DELE 1")
    assert session.ask("QUIT") == b"-ERR [SYS/PERM] messages cannot be deleted here\r\n"
    session = Dialogue(inline())
    session.login()
    assert session.ask("QUIT") == b"+OK goodbye\r\n"


def test_without_quit_nothing_is_deleted() -> None:
    """E1, E9, R1939-51."""
    session = Dialogue(inline(delete=refuse(AssertionError("never"))))
    session.login()
    session.ask("RETR 1")
    session.ask("DELE 1")
    session.send(b"")
    assert session.over
    assert session.session.tally.removed == 0


# --- the page ------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent.parent / "docs" / "callbacks.md"


def test_the_page_names_every_callback() -> None:
    """SEED 7.1: a porter finds every name."""
    for name in ("authenticate", "list", "retrieve", *OPTIONAL):
        assert f"\n| `{name}` |" in PAGE.read_text()


def test_the_example_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    code = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    with monkeypatch.context() as patch:
        patch.setattr(trio, "run", lambda serve: None)
        names: dict[str, Any] = {"__name__": "example"}
        exec(compile(code, str(PAGE), "exec"), names)
    backend: CallbackBackend = names["backend"]

    async def use() -> None:
        user = await backend.authenticate(be.PasswordCredentials("demo", "secret"), CLIENT)
        maildrop = await backend.open(user, CLIENT)
        assert [message.uid for message in maildrop.messages] == ["a1", "a2"]
        await maildrop.commit(maildrop.messages[:1])
        await maildrop.release()
        assert [message.uid for message in (await backend.open(user, CLIENT)).messages] == ["a2"]

    trio.run(use)
