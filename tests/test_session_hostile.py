"""Backends that break the contract in every way: the wire, the log and the lock stay in order."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.sansio import Apop, Pass, Quit, Retr, User
from trio_pop3.session import Session

from .driving import CLIENT, Dialogue, Interrupt, Store, Waits, info, interrupted, run

texts = st.text(st.sampled_from("\r\n .[]\0\x85ab"), max_size=12) | st.text(max_size=80)
failures = st.sampled_from([be.TemporaryFailure, be.MessageUnavailable, be.MaildropInUse, be.BackendError, OSError])
STAMP = "<1@h>"


# --- the gate ------------------------------------------------------------------------------------------------------


class Name(str, enum.Enum):  # noqa: UP042 - a StrEnum is shown as what it is
    """Matches as one text, and is shown as another."""

    ONE = "one"

    def __str__(self) -> str:
        return "one\r\n.\r\n"


@pytest.mark.parametrize("mail", [[be.MessageInfo(Name.ONE, 2)], [be.MessageInfo("a", 2**63)], [info(1, 10**5000)]])
def test_what_only_looks_right_is_refused(mail: list[be.MessageInfo]) -> None:
    """F1, A11, B3, R1939-61."""
    store = Store(mail)
    assert Dialogue(store).login() == b"-ERR [SYS/PERM] the mail store returned an inconsistent maildrop\r\n"
    assert store.calls.count("release") == 1


def test_what_changes_after_the_check_is_not_looked_at() -> None:
    """A11, C5, B2: the snapshot is what was checked, whatever its objects say later."""
    message = SimpleNamespace(uid="one", octets=3)
    session = Dialogue(Store([message]))
    session.login()
    message.uid, message.octets = "two\r\n.\r\n+OK", 10**9
    assert session.ask("UIDL 1") == b"+OK 1 one\r\n"
    assert session.ask("UIDL") == b"+OK 1 message follows\r\n1 one\r\n.\r\n"
    assert session.ask("LIST") == b"+OK 1 message follows\r\n1 3\r\n.\r\n"
    assert session.ask("RETR 1") == b"+OK 3 octets follow\r\nx\r\n.\r\n"
    session.ask("DELE 1")
    assert session.ask("STAT") == b"+OK 0 0\r\n"


def test_a_maildrop_that_cannot_be_read_is_never_an_empty_one() -> None:
    """D6, F9, H9, R1939-23, R1939-24: temporary, the lock given back, the next try free to succeed."""
    store = Store([info()])
    store.fail["messages"] = OSError("/secret")
    session = Dialogue(store)
    assert session.login() == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert store.calls[-1] == "release"
    store.fail.clear()
    assert session.login() == b"+OK maildrop has 1 message (3 octets)\r\n"


@pytest.mark.parametrize("code", [be.AuthenticationFailed, be.MaildropInUse, be.LoginDelayed])
def test_failures_of_a_login_have_no_code_elsewhere(code: type[be.BackendError]) -> None:
    """H9, R2449-40, R2449-42."""
    store = Store([info()])
    session = Dialogue(store)
    session.login()
    store.fail.update(retrieve=code(), commit=code())
    assert session.ask("RETR 1").startswith(b"-ERR [SYS/TEMP] ")
    assert session.ask("QUIT").startswith(b"-ERR [SYS/TEMP] ")


@given(texts, texts, failures)
def test_no_words_of_a_backend_break_a_line(uid: str, text: str, kind: type[Exception]) -> None:
    """A11, A12, A14, R1939-06, R2449-15: one line a reply, at most 512 octets, whatever is raised wherever."""
    for where in ("authenticate", "open", "messages", "retrieve", "commit", "release"):
        store = Store([SimpleNamespace(uid=uid, octets=3)])
        store.fail[where] = kind(text)
        session = Dialogue(store)
        for command in ("USER a", "PASS b", "STAT", "UIDL 1", "RETR 1", "TOP 1 0", "DELE 1", "QUIT"):
            if session.over:
                break
            status, end, rest = session.ask(command).partition(b"\r\n")
            assert status.startswith((b"+OK ", b"-ERR "))
            assert end
            assert len(status) <= 510
            assert rest in (b"", b"x\r\n.\r\n")


def test_a_vanished_message_cannot_be_asked_for_in_ever_new_ways() -> None:
    """C6, P4: what is remembered is the message, not the command."""
    store = Store([info(1), info(2)])
    session = Dialogue(store)
    session.login()
    store.fail["retrieve"] = be.MessageUnavailable("gone")
    replies = [session.ask(f"TOP 2 {lines}") for lines in range(11)]
    assert replies[:10] == [b"-ERR [SYS/TEMP] gone\r\n"] * 10
    assert session.over
    assert session.session._unavailable == {2}


class Odd(be.BackendError):
    """Somebody's own failure, which happens to have the attribute."""

    def __init__(self, remaining: object) -> None:
        super().__init__("odd")
        self.remaining = remaining


@pytest.mark.parametrize("remaining", [-5, 3, 10**9, 1.0, True, "1", None, [1]])
def test_a_number_of_remaining_messages_that_cannot_be_counts_as_all(remaining: object) -> None:
    """E2, J5: what the summary says was removed is never more than that, nor fewer than none."""
    store = Store([info(1), info(2), info(3)])
    session = Dialogue(store)
    session.login()
    for number in (1, 2):
        session.ask(f"DELE {number}")
    store.fail["commit"] = Odd(remaining)
    assert session.ask("QUIT") == b"-ERR odd\r\n"
    assert (session.session.tally.removed, session.session.tally.remaining) == (0, 2)
    assert store.calls[-1] == "release"


@pytest.mark.parametrize("code", ["AUTH", 7, [], None])
@pytest.mark.parametrize("text", [None, 7, "", "\r\n"])
@pytest.mark.parametrize("where", ["connect", "authenticate", "open", "messages", "retrieve", "commit"])
def test_failures_of_other_peoples_classes_at_every_step(where: str, code: Any, text: Any) -> None:
    """A11, A13, A14, H9: wrong types where a code and a text should be still make a reply."""

    class Strange(be.BackendError):
        pass

    class Hooked(Store):
        async def connect(self, client: be.ClientInfo) -> None:
            self._step("connect")

        async def disconnect(self, client: be.ClientInfo, reason: str) -> None:
            self.calls.append(reason)

    Strange.code, Strange.text = code, text
    store = Hooked([info()])
    store.fail[where] = Strange()
    session = Dialogue(store)
    replies = [session.greeting, *map(session.ask, ("USER a", "PASS b", "RETR 1", "QUIT"))]
    told = [reply for reply in replies if reply.startswith(b"-ERR")]
    assert told[0] == (b"-ERR request failed\r\n" if code is None else b"-ERR [SYS/TEMP] request failed\r\n")


# --- secrets -------------------------------------------------------------------------------------------------------


def shown(secret: str) -> list[str]:
    """How Python may write a text."""
    return [secret, repr(secret), ascii(secret), repr(secret.encode()), repr(f"{secret} '\""), repr([f"\"'{secret}"])]


@pytest.mark.parametrize("secret", ["hunter2", "it's", "päss", "aa\\bb", "q'\"q"])
@pytest.mark.parametrize("where", ["authenticate", "open", "messages", "uid", "retrieve", "commit", "release"])
def test_no_failure_of_a_session_logs_its_password(secret: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    """H8, P5: whatever fails, whenever, and however the exception quotes it."""
    caplog.set_level(logging.DEBUG)
    for text in shown(secret):
        store = Store([info() if where != "uid" else be.MessageInfo(f"{secret} ", 2)])
        store.fail[where] = ValueError(text)
        session = Dialogue(store)
        session.login("alice", secret)
        for command in ("RETR 1", "QUIT"):
            session.ask(command)
        assert caplog.records
        assert "********" in caplog.text
        for form in shown(secret)[:4]:
            assert form.strip("b'\"") not in caplog.text.replace("********", "")
        caplog.clear()


def test_a_session_that_is_over_keeps_no_password() -> None:
    """P5."""
    session = Dialogue(Store())
    session.login()
    session.close()
    assert session.session._login.credentials is None


def test_no_failure_logs_the_digest_of_an_apop(caplog: pytest.LogCaptureFixture) -> None:
    """H8: with the timestamp it would do for guessing the secret at home."""
    digest = bytes(range(0xA0, 0xB0))

    class Apopped(Store):
        login_methods = frozenset({"APOP"})

        async def authenticate(self, credentials: be.Credentials, client: be.ClientInfo) -> str:
            assert isinstance(credentials, be.ApopCredentials)
            raise OSError(credentials.digest.hex(), credentials.digest.hex().upper(), credentials.digest)

    session = Session(Apopped(), CLIENT, timestamp=STAMP)
    run(session.respond(Apop("alice", digest)))
    assert "OSError" in caplog.text
    assert not any(form in caplog.text for form in ("a0a1", "A0A1", r"\xa0"))


# --- cut off half-way ----------------------------------------------------------------------------------------------


class Slow(Store):
    """Waits in one place, and knows whether the lock is held."""

    def __init__(self, where: str) -> None:
        super().__init__([info()])
        self.where = where
        self.held = False

    async def wait(self, where: str) -> None:
        if where == self.where:
            await Waits()

    async def connect(self, client: be.ClientInfo) -> None:
        await self.wait("connect")

    async def disconnect(self, client: be.ClientInfo, reason: str) -> None:
        self.calls.append(reason)

    async def authenticate(self, credentials: be.Credentials, client: be.ClientInfo) -> str:
        await self.wait("authenticate")
        return "alice"

    async def open(self, user: str, client: be.ClientInfo) -> Store:
        self.held = True
        try:
            await self.wait("open")
        except BaseException:
            self.held = False
            raise
        return self

    async def retrieve(self, message: be.MessageInfo) -> Any:
        await self.wait("retrieve")
        return b"x"

    async def commit(self, deleted: Sequence[be.MessageInfo]) -> None:
        await super().commit(deleted)
        await self.wait("commit")

    async def release(self) -> None:
        await super().release()
        self.held = False


STEPS: dict[str, Callable[[Session], Coroutine[Any, Any, object]]] = {
    "connect": lambda session: session.greet(),
    "user": lambda session: session.respond(User("alice")),
    "authenticate open snapshot": lambda session: session.respond(Pass(b"secret")),
    "retrieve": lambda session: session.respond(Retr(1)),
    "commit": lambda session: session.respond(Quit()),
}


@pytest.mark.parametrize("where", ["connect", "authenticate", "open", "snapshot", "retrieve", "commit"])
def test_cut_off_anywhere_nothing_is_held_and_nothing_removed(where: str) -> None:
    """P1, I9, E1, R1939-51: release once if there was something to release, disconnect exactly once."""
    store = Slow(where)
    session = Session(store, CLIENT, checkpoint=lambda: store.wait("snapshot"))
    for steps, step in STEPS.items():
        if where in steps:
            interrupted(step(session))
            break
        run(step(session))
    run(session.close("cut off"))
    run(session.close("again"))
    assert not store.held
    assert store.calls.count("release") == (where in ("snapshot", "retrieve", "commit"))
    assert store.calls.count("commit []") == (where == "commit")
    assert [call for call in store.calls if call in ("cut off", "again")] == ["cut off"]


def test_a_login_after_one_that_was_cut_off() -> None:
    """P1, R1939-24: the lock of the first goes before the second takes its own; never two at a time."""
    store = Slow("snapshot")
    session = Session(store, CLIENT, checkpoint=lambda: store.wait("snapshot"))
    run(session.respond(User("alice")))
    interrupted(session.respond(Pass(b"secret")))
    store.where = ""
    run(session.respond(User("alice")))
    run(session.respond(Pass(b"secret")))
    assert store.calls == ["messages", "release", "messages"]
    assert store.held
    run(session.close("quit"))
    assert not store.held


def test_disconnect_follows_also_a_release_that_was_cut_off() -> None:
    """SEED 1.3: exactly once, on every way out."""
    store = Slow("")
    store.fail["release"] = Interrupt()
    session = Session(store, CLIENT)
    for step in list(STEPS.values())[:3]:
        run(step(session))
    with pytest.raises(Interrupt):
        run(session.close("cut off"))
    assert store.calls[-2:] == ["release", "cut off"]
