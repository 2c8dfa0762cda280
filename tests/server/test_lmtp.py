"""`serve_lmtp` and its driver: on memory streams in virtual time, and on real sockets with real Maildirs."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_pop3.backend import ClientInfo
from trio_pop3.backends.maildir import MaildirTarget, make_maildir
from trio_pop3.delivery import DeliveryFailed, Envelope, NoSuchUser, OverQuota, StoreFull
from trio_pop3.lmtp.grammar import Address
from trio_pop3.server import LmtpOptions, Pop3Listener, open_listeners, serve_lmtp
from trio_pop3.server.lmtp_driver import LmtpDriver

from .helpers import Client

PEER = ClientInfo("m1", loopback=True)
BEGIN = b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<%s>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\n..\r\nbody\r\n"
STORED = b"Subject: x\n\n.\nbody\n"


class Target:
    """Keeps mail in lists. `trouble`: what happens to a recipient; `pause`: what is awaited at each step."""

    def __init__(self) -> None:
        self.mail: dict[str, list[bytes]] = {"alice": [], "bob": [], "carol": []}
        self.trouble: dict[str, Exception] = {}
        self.pause: dict[str, Callable[[], Any]] = {}
        self.discarded = 0
        self.envelopes: list[Envelope] = []

    async def step(self, name: str) -> None:
        await self.pause.get(name, trio.lowlevel.checkpoint)()

    async def find(self, address: Address) -> str:
        await self.step("find")
        if isinstance(failure := self.trouble.get(f"find {address.local}"), Exception):
            raise failure
        if address.local.partition("+")[0] not in self.mail:
            raise NoSuchUser(f"no {address}")
        return address.local.partition("+")[0]

    def begin(self, envelope: Envelope) -> Keeping:
        self.envelopes.append(envelope)
        return Keeping(self, envelope)


class Keeping:
    def __init__(self, target: Target, envelope: Envelope) -> None:
        self.target = target
        self.users = [user for _, user in envelope.recipients]
        self.content = bytearray()

    async def write(self, octets: bytes) -> None:
        await self.target.step("write")
        self.content += octets

    async def finish(self, index: int) -> None:
        await self.target.step("finish")
        user = self.users[index]
        if isinstance(failure := self.target.trouble.get(user), Exception):
            raise failure
        self.target.mail[user].append(bytes(self.content))

    async def discard(self) -> None:
        await trio.lowlevel.checkpoint()
        self.target.discarded += 1


class Bench:
    """One connection on a memory stream."""

    def __init__(self, target: Any, **options: Any) -> None:
        self.target = target
        ours, theirs = trio.testing.memory_stream_pair()
        self.stream = theirs
        self.driver = LmtpDriver(ours, target, PEER, LmtpOptions(hostname="here", **options))
        self.client = Client(theirs)
        self._ours = ours
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def run(self) -> None:
        with self.scope:
            await self.driver.run()
        await self._ours.aclose()
        self.ended.set()

    async def lines(self, count: int) -> list[bytes]:
        return [await self.client.line() for _ in range(count)]

    async def begun(self, *recipients: bytes) -> None:
        """Everything before the message."""
        assert (await self.client.line()).startswith(b"220 ")
        await self.client.send(b"LHLO x\r\nMAIL FROM:<a@b>\r\n")
        await self.client.send(b"".join(b"RCPT TO:<%s>\r\n" % recipient for recipient in recipients) + b"DATA\r\n")
        heard = await self.lines(6 + 1 + len(recipients) + 1)
        assert heard[-1].startswith(b"354 "), heard


@asynccontextmanager
async def connected(target: Any, **options: Any) -> AsyncIterator[Bench]:
    bench = Bench(target, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        yield bench
        await bench.stream.aclose()


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


# --- replies ----------------------------------------------------------------------------------------------------------


async def test_each_recipient_has_a_reply_of_its_own(clock: object) -> None:
    """RFC 2033 section 4.2: in order, and what happens to one is nothing to the others."""
    target = Target()
    target.trouble = {"bob": StoreFull("full")}
    async with connected(target) as bench:
        await bench.begun(b"alice@x", b"bob@x", b"carol@x", b"alice+again@x")
        await bench.client.send(MESSAGE + b".\r\nQUIT\r\n")
        codes = [line[:9] for line in await bench.lines(5)]
    assert codes == [b"250 2.1.5", b"452 4.3.1", b"250 2.1.5", b"250 2.1.5", b"221 2.0.0"]
    assert {user: len(mail) for user, mail in target.mail.items()} == {"alice": 1, "bob": 0, "carol": 1}
    assert target.mail["alice"] == [MESSAGE.replace(b"..", b".")]
    assert [str(address) for address, _ in target.envelopes[0].recipients] == ["alice@x", "bob@x", "carol@x"]
    assert target.envelopes[0].trace.startswith(b"Received: from x (unix)\n\tby here with LMTP id m1;\n\t")
    assert target.discarded == 1


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (DeliveryFailed("x"), b"451 4.3.0"), (StoreFull("x"), b"452 4.3.1"), (OverQuota("x"), b"552 5.2.2"),
        (OSError(errno.EACCES, "x"), b"451 4.3.0"), (ValueError("a fault of ours"), b"451 4.3.0"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_can_be_tried_again(failure: Exception, reply: bytes, clock: object) -> None:
    """P1: at RCPT and behind the message; the connection lives, and nobody hears what the system says."""
    target = Target()
    target.trouble = {"find bob": failure, "alice": failure}
    async with connected(target) as bench:
        await bench.client.line()
        await bench.client.send(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@x>\r\nRCPT TO:<alice>\r\nDATA\r\n")
        heard = await bench.lines(10)
        assert [heard[7][:9], heard[8][:9]] == [reply, b"250 2.1.5"]
        await bench.client.send(MESSAGE + b".\r\nNOOP\r\n")
        assert [line[:9] for line in await bench.lines(2)] == [reply, b"250 2.0.0"]
    assert not any(target.mail.values())


async def test_no_recipient_no_message(clock: object) -> None:
    """RFC 2033 section 4.2: DATA is 503 if every RCPT was refused, and what was sent ahead is read as commands."""
    async with connected(Target()) as bench:
        await bench.client.send(BEGIN % b"nobody@x" + b"VRFY alice\r\nRSET\r\nQUIT\r\n")
        assert [line[:9] for line in (await bench.lines(13))[8:]] == [
            b"550 5.1.1", b"503 5.5.1", b"252 2.1.5", b"250 2.0.0", b"221 2.0.0"
        ]  # fmt: skip


async def test_limits(clock: object) -> None:
    """SIZE at MAIL (RFC 1870) and behind the message; more recipients than allowed wait for a copy of their own."""
    target = Target()
    async with connected(target, max_size=30, max_recipients=1) as bench:
        await bench.client.line()
        await bench.client.send(b"LHLO x\r\nMAIL FROM:<> SIZE=31\r\nMAIL FROM:<> SIZE=30\r\n")
        assert [line[:9] for line in (await bench.lines(8))[6:]] == [b"552 5.3.4", b"250 2.1.0"]
        await bench.client.send(b"RCPT TO:<alice>\r\nRCPT TO:<bob>\r\nDATA\r\n")
        assert [line[:9] for line in await bench.lines(2)] == [b"250 2.1.5", b"452 4.5.3"]
        await bench.client.line()
        await bench.client.send(b"x" * 29 + b"\r\n.\r\n")
        assert (await bench.client.line())[:9] == b"552 5.3.4"
    assert (target.mail["alice"], target.discarded) == ([], 1)


async def test_any_cut_is_the_same(clock: object) -> None:
    """P6, D5: octet by octet."""
    target = Target()
    async with connected(target) as bench:
        for octet in BEGIN % b"alice" + MESSAGE + b".\r\nQUIT\r\n":
            await bench.client.send(bytes([octet]))
        heard = await bench.lines(12)
    assert [line[:3] for line in heard[7:]] == [b"250", b"250", b"354", b"250", b"221"]
    assert target.mail["alice"] == [MESSAGE.replace(b"..", b".")]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_deadlines(clock: trio.testing.MockClock) -> None:
    """Dripping moves none of them; a whole command, and 64 KiB of a message, do."""
    target = Target()
    async with connected(target) as bench:
        await bench.client.line()
        await trio.sleep(200)
        await bench.client.send(b"NO")
        await trio.sleep(99)
        await bench.client.send(b"OP\r\n")
        assert (await bench.client.line())[:3] == b"250"
        await trio.sleep(299)
        await bench.client.send(b"NOO")
        await trio.sleep(2)
        assert await bench.client.rest() == b"421 4.4.2 you take too long, goodbye\r\n"
    async with connected(target) as bench:
        await bench.begun(b"alice")
        for _ in range(5):
            await trio.sleep(170)
            await bench.client.send(b"x" * 70_000)
        await trio.sleep(170)
        await bench.client.send(b"x")
        assert await bench.client.rest() == b"421 4.4.2 you take too long, goodbye\r\n"
        assert trio.current_time() - bench.driver._started == pytest.approx(5 * 170 + 180)
    assert (target.mail["alice"], target.discarded) == ([], 1)


@pytest.mark.parametrize(("step", "reply"), [("find", b"451 4.3.0"), ("write", b"421 4.3.0"), ("finish", b"451 4.3.0")])
async def test_a_store_that_does_not_answer(
    step: str, reply: bytes, clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """P4: nobody waits for ever, and nothing is acknowledged."""
    target = Target()
    target.pause = {step: trio.sleep_forever}
    async with connected(target) as bench:
        await bench.client.send(BEGIN % b"alice" + MESSAGE + b".\r\n")
        heard = await bench.lines(9 if step == "find" else 11)
        assert heard[-1][:9] == reply
    assert target.mail["alice"] == []
    assert "Traceback" not in caplog.text


async def test_a_client_that_does_not_read(clock: object, caplog: pytest.LogCaptureFixture) -> None:
    one, other = trio.testing.lockstep_stream_pair()
    began = trio.current_time()
    driver = LmtpDriver(one, Target(), PEER, LmtpOptions(hostname="here"))
    await driver.run()
    assert trio.current_time() - began == pytest.approx(60)
    assert "reason='client too slow'" in caplog.text
    assert "Traceback" not in caplog.text
    await other.aclose()


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_a_client_that_dies_in_a_message(clock: object) -> None:
    """P1: nothing of it is kept."""
    target = Target()
    async with connected(target) as bench:
        await bench.begun(b"alice")
        await bench.client.send(MESSAGE + b".\r")
        await bench.stream.aclose()
        await bench.ended.wait()
    assert (target.mail["alice"], target.discarded) == ([], 1)


async def test_a_client_that_dies_before_its_replies(clock: object) -> None:
    """Delivered and not acknowledged is delivered twice, never lost; who is not served yet will come again."""
    target = Target()
    async with connected(target) as bench:
        await bench.begun(b"alice", b"bob")
        target.pause["finish"] = bench.stream.aclose
        await bench.client.send(MESSAGE + b".\r\n")
        await bench.ended.wait()
    assert [len(target.mail[user]) for user in ("alice", "bob")] == [1, 0]
    assert target.discarded == 1


async def test_drain(clock: object) -> None:
    """An idle client hears 421 at once; a message under way is finished, and what is behind it is not begun."""
    target = Target()
    async with connected(target) as bench:
        await bench.client.line()
        bench.driver.drain()
        assert await bench.client.rest() == b"421 4.3.2 shutting down, try again later\r\n"
    async with connected(target) as bench:
        await bench.begun(b"alice")
        bench.driver.drain()
        await trio.sleep(1)
        await bench.client.send(MESSAGE + b".\r\nMAIL FROM:<>\r\nRCPT TO:<alice>\r\nDATA\r\n")
        heard = (await bench.client.rest()).split(b"\r\n")
        assert [line[:9] for line in heard] == [b"250 2.1.5", b"250 2.1.0", b"250 2.1.5", b"421 4.3.2", b""]
    assert len(target.mail["alice"]) == 1


@pytest.mark.parametrize("moment", ["command", "content", "write", "finish"])
async def test_cancelled(moment: str, clock: object) -> None:
    """P1: before the end of the message 421 and nothing kept; behind it, delivered and acknowledged."""
    target = Target()
    async with connected(target) as bench:
        await bench.begun(b"alice", b"bob")

        async def cancel() -> None:
            bench.scope.cancel()
            await trio.sleep(0.1)

        if moment == "command":
            await bench.client.send(b".\r\n")
            await bench.lines(2)
            await trio.testing.wait_all_tasks_blocked()
            bench.scope.cancel()
        elif moment == "content":
            await bench.client.send(MESSAGE)
            await trio.testing.wait_all_tasks_blocked()
            bench.scope.cancel()
        else:
            target.pause[moment] = cancel
            await bench.client.send(MESSAGE + b".\r\n")
        heard = (await bench.client.rest()).split(b"\r\n")
        codes = [line[:9] for line in heard if line]
    delivered = {"command": 1, "content": 0, "write": 0, "finish": 1}[moment]
    assert codes == [b"250 2.1.5"] * 2 * (moment == "finish") + [b"421 4.3.2"]
    assert [len(target.mail[user]) for user in ("alice", "bob")] == [delivered, delivered]
    assert target.discarded == 1


# --- on sockets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Path:
    for user in ("alice", "bob"):
        make_maildir(tmp_path / user)
    return tmp_path


@asynccontextmanager
async def lmtp(path: Path, *, shutdown: trio.Event | None = None, **options: Any) -> AsyncIterator[Client]:
    target = MaildirTarget(f"{path}/{{user}}", knows=["alice", "bob"].__contains__)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            start = partial(serve_lmtp, target, listen=[f"unix:{path}/s,mode=660"], shutdown=shutdown, **options)
            await nursery.start(start)
            async with await trio.open_unix_socket(f"{path}/s") as stream:
                yield Client(stream)
            if shutdown is None:
                nursery.cancel_scope.cancel()


def held(maildir: Path) -> list[bytes]:
    assert list((maildir / "tmp").iterdir()) == []
    return [path.read_bytes() for path in (maildir / "new").iterdir()]


async def test_delivered_to_maildirs(served: Path) -> None:
    """Octet for octet, in a file for each, and on disk before it is said."""
    async with lmtp(served) as client:
        assert stat.S_IMODE(os.stat(served / "s").st_mode) == 0o660
        await client.send(b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice>\r\nRCPT TO:<bob>\r\nDATA\r\n")
        for _ in range(11):
            await client.line()
        big = b"0123456789abcde\r\n" * 40_000
        await client.send(MESSAGE + big + b".\r\n")
        assert [(await client.line())[:3] for _ in range(2)] == [b"250", b"250"]
        for user in (b"alice", b"bob"):
            (stored,) = held(served / user.decode())
            head, trace, body = stored.partition(b"\nReceived: ")
            assert head == b"Return-Path: <a@b>\nDelivered-To: " + user
            assert trace
            assert body.partition(b"\nSubject")[2] == (STORED + big.replace(b"\r\n", b"\n"))[7:]
    assert not (served / "s").exists()


async def test_a_connection_that_breaks_leaves_no_file(served: Path) -> None:
    """P1: also one so large that it was on disk already."""
    async with lmtp(served, shutdown=(shutdown := trio.Event())) as client:
        await client.line()
        await client.send(BEGIN % b"alice")
        await client.send(b"x" * 1_000_000)
        while not list((served / "alice" / "tmp").iterdir()):
            await trio.lowlevel.checkpoint()
        await client.stream.aclose()
        shutdown.set()
    assert held(served / "alice") == []


async def test_one_full_disk_is_nothing_to_the_others(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: ENOSPC in the middle of a large message, of one of two."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if "/alice/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "full")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    async with lmtp(served) as client:
        await client.line()
        await client.send(BEGIN.replace(b"DATA", b"RCPT TO:<bob>\r\nDATA") % b"alice")
        for _ in range(10):
            await client.line()
        await client.send(b"x" * 1_000_000 + b"\r\n.\r\n")
        assert [(await client.line())[:9] for _ in range(2)] == [b"452 4.3.1", b"250 2.1.5"]
    assert held(served / "alice") == []
    assert len(held(served / "bob")) == 1


async def test_who_may_connect(tmp_path: Path) -> None:
    """Loopback and UNIX sockets only, unless a flag with "insecure" in its name is set."""
    target = MaildirTarget(f"{tmp_path}/{{user}}")
    for address in ("0.0.0.0:0", "127.0.0.1:0,tls", "127.0.0.1:0,proxy"):
        with pytest.raises(ValueError, match="LMTP is"):
            await serve_lmtp(target, listen=[address])
    with pytest.raises(ValueError, match="at least one"):
        await serve_lmtp(target, listen=[])
    with pytest.raises(ValueError, match="one mode, and of a UNIX socket"):
        await open_listeners(["127.0.0.1:0,mode=666"])
    for mode in ("9999", "66x", "66", "", "00660"):
        with pytest.raises(ValueError, match="a mode is three or four octal digits"):
            await open_listeners([f"unix:{tmp_path}/s,mode={mode}"])
    async with trio.open_nursery() as nursery:
        for address, insecure in (("127.0.0.1:0", False), ("0.0.0.0:0", True)):
            start = partial(serve_lmtp, target, listen=[address], insecure_network=insecure)
            (listener,) = await nursery.start(start)
            assert isinstance(listener, Pop3Listener)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_size", 0), ("max_recipients", 0), ("max_connections", 0), ("idle_timeout", 0), ("drain_timeout", -1),
     ("write_timeout", math.nan)],
)  # fmt: skip
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        LmtpOptions(hostname="x", **{option: value})  # type: ignore[arg-type]
