"""Dovecot's auth protocol by properties, and the client against servers that misbehave."""

from __future__ import annotations

import base64
import logging
import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.auth.dovecot import (
    MOST_LINE_OCTETS,
    Answer,
    AuthDialogue,
    DovecotAuth,
    DovecotProtocolError,
    tab_escape,
    tab_unescape,
)

from .dovecot_helpers import CLIENT, HANDSHAKE, PASSWORD, Script, answering, playing, saying, until_request

# Octets that mean something in the protocol are as likely as all others together.
octets = st.lists(st.sampled_from([b"\0", b"\1", b"\t", b"\n", b"\r", b"0", b"t"]) | st.binary(min_size=1, max_size=1))
values = octets.map(b"".join)


def dialogue(*, response: bytes = b"\0alice\0secret") -> AuthDialogue:
    return AuthDialogue([("service", "pop3")], response)


def after(*pieces: bytes) -> AuthDialogue:
    """A dialogue that has heard this."""
    one = dialogue()
    for piece in pieces:
        one.receive(piece)
    return one


# --- the protocol


@given(values)
def test_escaping_is_undone_and_safe(value: bytes) -> None:
    """H11: what is escaped stays inside its field and its line."""
    escaped = tab_escape(value)
    assert tab_unescape(escaped) == value
    assert not set(escaped) & set(b"\0\t\n\r")


@given(values)
def test_anything_can_be_unescaped(value: bytes) -> None:
    """P6."""
    assert len(tab_unescape(value)) <= len(value)


@pytest.mark.parametrize(
    ("escaped", "value"), [(b"a\1tb", b"a\tb"), (b"\1n\1r\0010\0011", b"\n\r\0\1"), (b"\1x\1", b"x"), (b"\1\n", b"\n")]
)
def test_escapes(escaped: bytes, value: bytes) -> None:
    assert tab_unescape(escaped) == value


@given(service=st.text(max_size=20), response=values)
def test_nothing_can_be_injected(service: str, response: bytes) -> None:
    """H11: whatever a user, a password or the name of a service holds, the request has the fields we gave it."""
    service = service.encode("utf-8", "replace").decode()
    one = AuthDialogue([("service", service), ("nologin", None), ("rip", "192.0.2.1\tresp=AA==\n")], response)
    line, end = one.receive(HANDSHAKE).split(b"\n")
    assert not end
    command, number, mechanism, *fields = line.split(b"\t")
    assert (command, number, mechanism) == (b"AUTH", b"1", b"PLAIN")
    assert [field.partition(b"=")[0] for field in fields] == [b"service", b"nologin", b"rip", b"resp"]
    assert tab_unescape(fields[0]) == b"service=" + service.encode()
    assert base64.b64decode(fields[3].removeprefix(b"resp="), validate=True) == response


def test_the_password_waits_for_the_handshake() -> None:
    one = dialogue()

    def answer() -> Answer | None:
        return one.answer

    assert one.greeting.startswith(b"VERSION\t1\t1\nCPID\t")
    assert b"resp" not in one.greeting
    for line in HANDSHAKE.splitlines(keepends=True)[:-1]:
        assert one.receive(line) == b""
    assert one.receive(b"DON") == b""
    assert one.receive(b"E\n") == b"AUTH\t1\tPLAIN\tservice=pop3\tresp=AGFsaWNlAHNlY3JldA==\n"
    assert one.receive(b"OK\t1\tuser=alice") == b""
    assert answer() is None
    assert one.receive(b"\nwhatever\n" + b"x" * 20_000) == b""
    assert answer() == Answer(b"alice")
    assert one.receive(b"FAIL\t1\n") == one.receive(b"") == b""
    assert answer() == Answer(b"alice")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"OK\t1\tuser=alice", Answer(b"alice")),
        (b"OK\t1\tuser=david\t\toriginal_user=dave", Answer(b"david")),
        (b"OK\t1\tx\tuser=al\1tice=1\tpass=user=bob", Answer(b"al\tice=1")),
        (b"OK\t1\tuser=alice\tnologin", Answer(None)),
        (b"OK\t1\tuser=alice\tnologin=y\treason=moved", Answer(None)),
        (b"OK\t1\tuser=alice\tproxy\thost=192.0.2.1", Answer(None)),
        (b"OK\t1\tuser=alice\tnologins", Answer(b"alice")),
        (b"FAIL\t1", Answer(None)),
        (b"FAIL\t1\tuser=alice", Answer(None)),
        (b"FAIL\t1\tuser=temp", Answer(None)),
        (b"FAIL\t1\tuser=alice\tauthz", Answer(None)),
        (b"FAIL\t1\tuser=alice\tuser_disabled", Answer(None)),
        (b"FAIL\t1\tuser=alice\tcode=user_disabled", Answer(None)),
        (b"FAIL\t1\tuser=alice\tcode=pass_expired\treason=temp", Answer(None)),
        (b"FAIL\t1\tuser=alice\ttemp", Answer(None, temporary=True)),
        (b"FAIL\t1\tuser=alice\tcode=temp_fail\treason=x", Answer(None, temporary=True)),
    ],
)
def test_answers(line: bytes, answer: Answer) -> None:
    assert after(HANDSHAKE, line + b"\n").answer == answer


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"", "connection closed without an answer"),
        (b"DONE\n", "no version"),
        (b"VERSION\t1\t2\nDONE\n", "mechanism PLAIN not offered"),
        (b"VERSION\t1\t2\nMECH\tPLAINER\nMECH\tLOGIN\tPLAIN\nMECH\nDONE\n", "mechanism PLAIN not offered"),
        (b"VERSION\t2\t0\n", "another version of the protocol"),
        (b"VERSION\n", "another version of the protocol"),
        (HANDSHAKE + b"OK\t1\n", "no user in the answer"),
        (HANDSHAKE + b"OK\t1\tuser=\tuser=bob\n", "no user in the answer"),
        (HANDSHAKE + b"OK\t2\tuser=alice\n", "not an answer to the request"),
        (HANDSHAKE + b"OK\n", "not an answer to the request"),
        (HANDSHAKE + b"FAIL\t11\n", "not an answer to the request"),
        (HANDSHAKE + b"CONT\t1\t\n", "not an answer to the request"),
        (HANDSHAKE + b"\n", "not an answer to the request"),
        (HANDSHAKE + b"ok\t1\tuser=alice\n", "not an answer to the request"),
        (HANDSHAKE + b"OK\t1\tuser=" + b"a" * MOST_LINE_OCTETS + b"\n", "line too long"),
        (b"x" * (MOST_LINE_OCTETS + 1), "line too long"),
    ],
)
def test_what_is_not_the_protocol(said: bytes, complaint: str) -> None:
    """H9, H8: it is not taken for a wrong password, and nothing of it is repeated."""
    with pytest.raises(DovecotProtocolError) as failure:
        after(said)
    assert str(failure.value) == complaint


def test_the_longest_line() -> None:
    line = b"OK\t1\tuser=".ljust(MOST_LINE_OCTETS, b"a")
    assert after(HANDSHAKE, line, b"\n").answer == Answer(b"a" * (MOST_LINE_OCTETS - 10))


Heard = tuple[bytes, Answer | None, str]


def hear(pieces: list[bytes]) -> Heard:
    """What a dialogue sends, what it takes for the answer, and what it complains of."""
    one, sent, complaint = dialogue(), b"", ""
    try:
        for piece in filter(None, pieces):
            sent += one.receive(piece)
    except DovecotProtocolError as failure:
        complaint = str(failure)
    return sent, one.answer, complaint


lines = st.sampled_from([*HANDSHAKE.split(b"\n"), b"OK\t1\tuser=al\1tice", b"FAIL\t1\ttemp", b"OK\t2", b"CONT\t1"])


@given(st.lists(lines | values.filter(lambda value: b"\n" not in value)), values, st.data())
def test_cuts_change_nothing(heard: list[bytes], rest: bytes, data: st.DataObject) -> None:
    """P6: any octets give an answer, a wait or a DovecotProtocolError, and the same in any pieces."""
    said = b"".join(line + b"\n" for line in heard) + rest
    start = data.draw(st.sampled_from([b"", HANDSHAKE]))
    said = start + said
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    pieces = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    sent, answer, complaint = hear(pieces)
    whole_sent, whole_answer, whole_complaint = hear([said])
    assert (answer, complaint) == (whole_answer, whole_complaint)
    # In one piece a request and the complaint about what followed it may come together: then it is not sent.
    assert sent == whole_sent or (complaint and not whole_sent)


# --- the client, against servers that misbehave


async def log_in(path: Path, user: str = "alice", password: str = PASSWORD, **options: float) -> str:
    return await DovecotAuth(path, **options).authenticate(  # type: ignore[arg-type]
        be.PasswordCredentials(user, password), CLIENT
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "auth-client"


def test_what_can_be_checked() -> None:
    assert isinstance(DovecotAuth(), be.LoginMethods)
    assert DovecotAuth().login_methods == {"PLAIN"}
    assert repr(DovecotAuth()) == "DovecotAuth('/run/dovecot/auth-client')"
    with pytest.raises(ValueError, match="timeout"):
        DovecotAuth(timeout=0)


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (CLIENT, b"secured\tlip=2001:db8::1\trip=192.0.2.1\tlport=995\trport=4711\t"),
        (be.ClientInfo("s", "192.0.2.1", 1), b"rip=192.0.2.1\trport=1\t"),
        (be.ClientInfo("s", loopback=True), b"secured\t"),
        (be.ClientInfo("s", "fe80::1%a\tb", 1), b"rip=fe80::1%a\1tb\trport=1\t"),
        (be.ClientInfo("s"), b""),
    ],
)
async def test_what_dovecot_is_told(path: Path, client: be.ClientInfo, told: bytes) -> None:
    requests = []

    async def script(stream: trio.SocketStream) -> None:
        requests.append(await until_request(stream))
        await stream.send_all(b"OK\t1\tuser=alice\n")

    async with playing(script, path):
        auth = DovecotAuth(path, service="pop")
        assert await auth.authenticate(be.PasswordCredentials("alice", "a\tb"), client) == "alice"
    response = base64.b64encode(b"\0alice\0a\tb")
    assert requests == [b"AUTH\t1\tPLAIN\tservice=pop\tnologin\t" + told + b"resp=" + response]


async def test_the_user_is_who_dovecot_says(path: Path) -> None:
    async with playing(answering(b"OK\t1\tuser=d\xffvid\n"), path):
        assert await log_in(path, "dave") == "d\udcffvid"


@pytest.mark.parametrize("answer", [b"FAIL\t1\tuser=alice\n", b"FAIL\t1\tuser_disabled\n", b"OK\t1\tuser=a\tnologin\n"])
async def test_refusals(path: Path, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """H7: one and the same for all of them."""
    async with playing(answering(answer), path):
        with pytest.raises(be.AuthenticationFailed):
            await log_in(path)
    assert not caplog.records


async def test_a_temporary_failure_is_one(path: Path) -> None:
    """H9."""
    async with playing(answering(b"FAIL\t1\tuser=alice\tcode=temp_fail\n"), path):
        with pytest.raises(be.TemporaryFailure):
            await log_in(path)


async def resetting(stream: trio.SocketStream) -> None:
    """Closes with octets unread."""
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (answering(b"OK\t1\n"), "no user in the answer"),
        (answering(b"CONT\t1\t\n"), "not an answer to the request"),
        (answering(b"pass=" + PASSWORD.encode() + b"\n"), "not an answer to the request"),
        (answering(b"x" * 20_000), "line too long"),
        (saying(b""), "connection closed without an answer"),
        (saying(b"+OK POP3 server ready\r\n"), "connection closed without an answer"),
        (saying(b"\0\1\2" * 10_000), "line too long"),
        (saying(HANDSHAKE[:-3]), "connection closed without an answer"),
        (saying(b"VERSION\t2\t0\n"), "another version of the protocol"),
        (resetting, "connection lost"),
    ],
)
async def test_trouble_is_no_wrong_password(
    path: Path, script: Script, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """H9, H8: a temporary failure and one line in the log, without the password."""
    caplog.set_level(logging.DEBUG)
    async with playing(script, path):
        with pytest.raises(be.TemporaryFailure) as failure:
            await log_in(path)
    assert caplog.messages == [f"s1: password not checked: Dovecot at {path}: {complaint}"]
    assert not str(failure.value) and failure.value.__context__ is None


async def test_nobody_listens(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(be.TemporaryFailure):
        await log_in(path)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(os.fspath(path))
    with pytest.raises(be.TemporaryFailure):
        await log_in(path)
    with pytest.raises(be.TemporaryFailure):
        await log_in(path.with_name("x" * 200))
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        "No such file or directory",
        "Connection refused",
        "OSError",
    ]


async def silent(stream: trio.SocketStream) -> None:
    """Says nothing."""
    await trio.sleep_forever()


async def test_silence_has_its_time(
    path: Path, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def impatient() -> None:
        with pytest.raises(be.TemporaryFailure):
            await log_in(path, timeout=7)

    async with playing(silent, path), trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(7)
    assert caplog.messages == [f"s1: password not checked: Dovecot at {path}: no answer within 7 seconds"]


async def test_octets_one_by_one(path: Path) -> None:
    async def script(stream: trio.SocketStream) -> None:
        for octet in HANDSHAKE:
            await stream.send_all(bytes([octet]))
        while b"AUTH" not in await stream.receive_some():
            continue
        for octet in b"OK\t1\tuser=alice\n":
            await stream.send_all(bytes([octet]))

    async with playing(script, path):
        assert await log_in(path) == "alice"


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("", "x"),
        ("alice", ""),
        ("alice\0", "x"),
        ("al\0ice", "x"),
        ("alice", "x\0y"),
        ("\0alice", "\0x"),
        ("alice", "x" * 13_000),
    ],
)
async def test_passwords_that_nobody_has(path: Path, user: str, password: str) -> None:
    """H6, R4616-02, R4616-05: a NUL would begin another field of the PLAIN message. Nobody is asked."""
    with pytest.raises(be.AuthenticationFailed):
        await log_in(path, user, password)


async def test_other_credentials_fail(path: Path) -> None:
    with pytest.raises(be.AuthenticationFailed):
        await DovecotAuth(path).authenticate(be.Credentials("alice"), CLIENT)


async def test_many_at_once_and_one_too_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: each gets its own answer; what is more than Dovecot takes is told to come back; room is made again."""
    monkeypatch.setattr("trio_pop3.auth.dovecot._MOST_AT_ONCE", 50)
    gate = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        request = await until_request(stream)
        user = base64.b64decode(request.rpartition(b"resp=")[2]).split(b"\0")[1]
        await gate.wait()
        await stream.send_all(b"OK\t1\tuser=%b\n" % user)

    auth = DovecotAuth(path)
    answers = {}

    async def one(user: str) -> None:
        answers[user] = await auth.authenticate(be.PasswordCredentials(user, PASSWORD), CLIENT)

    async with playing(script, path):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, f"user{number}")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(be.TemporaryFailure, match="too many"):
                await one("late")
            gate.set()
        await one("late")
    assert answers == {user: user for user in [*(f"user{number}" for number in range(50)), "late"]}


@pytest.mark.parametrize("heard", [b"", HANDSHAKE[:20], HANDSHAKE, HANDSHAKE + b"OK\t1\tus"])
async def test_a_cancelled_login_closes_its_connection(path: Path, heard: bytes) -> None:
    """H5: wherever it waits; and the next login is not hindered."""
    reached, closed = trio.Event(), trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        if closed.is_set():
            await answering(b"OK\t1\tuser=alice\n")(stream)
            return
        await stream.send_all(heard)
        await trio.testing.wait_all_tasks_blocked()
        reached.set()
        while await stream.receive_some():
            continue
        closed.set()

    auth = DovecotAuth(path)
    async with playing(script, path):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(auth.authenticate, be.PasswordCredentials("alice", PASSWORD), CLIENT)
            await reached.wait()
            nursery.cancel_scope.cancel()
        await closed.wait()
        assert await auth.authenticate(be.PasswordCredentials("alice", PASSWORD), CLIENT) == "alice"
