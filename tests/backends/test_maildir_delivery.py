"""`MaildirTarget`: many recipients, each for itself; and lines as they are stored."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import TemporaryFailure
from trio_pop3.backends.maildir import MaildirTarget, Quota, make_maildir
from trio_pop3.backends.maildir.deliver import Unfinished
from trio_pop3.backends.maildir.delivery import UnixLines, delivery_failed
from trio_pop3.delivery import DeliveryFailed, Envelope, NoSuchUser, OverQuota, OverQuotaForNow, Recipients, StoreFull
from trio_pop3.lmtp.grammar import Address
from trio_pop3.sansio.body import BodyEncoder

from .maildir_helpers import open_files

ALICE, BOB = Address("alice", "x.org"), Address("bob", "x.org")


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    for user in ("alice@x.org", "bob@x.org"):
        make_maildir(tmp_path / user)
    return tmp_path


def target(boxes: Path, **options: Any) -> MaildirTarget:
    knows = ["alice@x.org", "bob@x.org", "carol@x.org"].__contains__
    return MaildirTarget(f"{boxes}/{{user}}", **{"knows": knows, **options})


def held(boxes: Path, user: str) -> list[bytes]:
    """What is in new/, and nothing anywhere else."""
    assert not list((boxes / user / "tmp").iterdir())
    return [path.read_bytes() for path in (boxes / user / "new").iterdir()]


async def send(to: MaildirTarget, *chunks: bytes) -> list[Exception | None]:
    """To Alice and Bob; what became of it."""
    delivery = to.begin(Envelope(ALICE, [(ALICE, "alice@x.org"), (BOB, "bob@x.org")], b"Received: x\n"))
    outcomes: list[Exception | None] = []
    try:
        for chunk in chunks:
            await delivery.write(chunk)
        for index in range(2):
            try:
                await delivery.finish(index)
            except DeliveryFailed as failure:
                outcomes.append(failure)
            else:
                outcomes.append(None)
    finally:
        await delivery.discard()
    return outcomes


@pytest.mark.parametrize("size", [0, 10, 300_000, 1_000_000])
async def test_each_gets_a_file_of_its_own(boxes: Path, size: int) -> None:
    """P1: the size in the name is true, nobody else reads the file, the two are no hard links."""
    before = open_files()
    assert await send(target(boxes), b"Subject: x\r\n\r\n", b"y" * size, b"\r\n") == [None, None]
    for user in ("alice", "bob"):
        (stored,) = held(boxes, f"{user}@x.org")
        head = b"Return-Path: <alice@x.org>\nDelivered-To: %s@x.org\nReceived: x\n" % user.encode()
        assert stored == head + b"Subject: x\n\n" + b"y" * size + b"\n"
        (path,) = (boxes / f"{user}@x.org" / "new").iterdir()
        assert path.name.endswith(f",S={len(stored)}")
        assert path.stat().st_nlink == 1
        assert path.stat().st_mode & 0o777 == 0o600
    assert open_files() == before


@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
@pytest.mark.parametrize("size", [10, 600_000])
@pytest.mark.parametrize("user", ["alice", "bob"])
async def test_what_fails_for_one_leaves_nothing_and_spares_the_other(
    boxes: Path, user: str, size: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: a disk is full, at every step. A write that fails: see `test_a_full_disk_in_the_middle`."""
    real: Callable[..., Any] = getattr(os, call)

    def fail(what: str | int, *args: Any, **options: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fsdecode(what)
        if f"/{user}@x.org/tmp/" in path:
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(what, *args, **options)

    monkeypatch.setattr(os, call, fail)
    before = open_files()
    outcomes = await send(target(boxes), b"y" * size, b"z" * size)
    failed = user == "bob"
    assert isinstance(outcomes[failed], StoreFull)
    assert outcomes[not failed] is None
    assert held(boxes, f"{user}@x.org") == []
    assert len(held(boxes, "alice@x.org" if failed else "bob@x.org")) == 1
    assert open_files() == before


async def test_a_disk_that_is_full_for_a_moment_gets_no_half_message(
    boxes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: what comes behind a piece that could not be written is not written either."""
    real, calls = Unfinished.write, 0

    def write(unfinished: Unfinished, octets: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # Alice's first piece, behind the headers
            unfinished.discard()
            raise OSError(errno.ENOSPC, "no space left on device")
        real(unfinished, octets)

    monkeypatch.setattr(Unfinished, "write", write)
    alice, bob = await send(target(boxes), b"y" * 600_000, b"z" * 600_000)
    assert (type(alice), bob) == (StoreFull, None)
    assert held(boxes, "alice@x.org") == []
    assert len(held(boxes, "bob@x.org")) == 1


def test_a_full_disk_in_the_middle(boxes: Path) -> None:
    """P1: the file size limit of a process stands in for the disk; Alice has longer headers, and Bob's still fit."""
    script = """
import resource, signal, sys, trio
from tests.backends.test_maildir_delivery import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
boxes = Path(sys.argv[1])
head = len(b"Return-Path: <alice@x.org>\\nDelivered-To: bob@x.org\\nReceived: x\\n")
outcomes = trio.run(send, target(boxes), b"y" * 600_000, b"y" * (100_000 - head))
print(*[failure and failure.reply.code for failure in outcomes])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, boxes], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("451 None\n", "")
    assert held(boxes, "alice@x.org") == []
    assert len(held(boxes, "bob@x.org")) == 1


async def test_a_message_that_is_given_up_leaves_nothing(boxes: Path) -> None:
    """P1: large enough to be on disk."""
    before = open_files()
    delivery = target(boxes).begin(Envelope(None, [(ALICE, "alice@x.org")]))
    await delivery.discard()
    delivery = target(boxes).begin(Envelope(None, [(ALICE, "alice@x.org")]))
    await delivery.write(b"x" * 600_000)
    assert list((boxes / "alice@x.org" / "tmp").iterdir())
    await delivery.discard()
    assert held(boxes, "alice@x.org") == []
    assert open_files() == before


async def test_who_is_meant(boxes: Path) -> None:
    """A name that is in no list is nobody; without a list, whoever has a Maildir, and others wait."""
    assert await target(boxes).find(Address("Alice", "X.ORG")) == "alice@x.org"
    for address in (Address("dave", "x.org"), Address("alice"), Address("../alice", "x.org")):
        with pytest.raises(NoSuchUser):
            await target(boxes).find(address)
    free = target(boxes, knows=None)
    assert await free.find(ALICE) == "alice@x.org"
    with pytest.raises(DeliveryFailed) as caught:
        await free.find(Address("carol", "x.org"))
    assert caught.value.reply.code == 451
    with pytest.raises(NoSuchUser):
        await free.find(Address("../alice", "x.org"))
    assert await send(target(boxes / "gone"), b"x\r\n") != [None, None]


async def test_a_maildir_that_we_are_not_let_into_is_not_missing(boxes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says what is to be mended. A name too long for the file system is nobody's, and its stem may be alice."""
    real = os.stat

    def refuse(path: str, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{boxes}/bob@x.org/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    free = target(boxes, knows=None, recipients=Recipients(separator="+"))
    with pytest.raises(DeliveryFailed) as caught:
        await free.find(BOB)
    assert str(caught.value) == f"cannot deliver to {boxes}/bob@x.org: new: permission denied"
    assert caught.value.reply.code == 451
    assert await free.find(Address("alice+" + "x" * 255, "x.org")) == "alice@x.org"


@pytest.mark.parametrize("failure", [TemporaryFailure("x"), OSError(errno.EIO, "x")])
async def test_a_user_data_base_in_trouble_sends_nothing_back(boxes: Path, failure: Exception) -> None:
    """P1, F9."""

    def knows(user: str) -> bool:
        raise failure

    with pytest.raises(DeliveryFailed) as caught:
        await target(boxes, knows=knows).find(ALICE)
    assert caught.value.reply.code == 451


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (OSError(errno.ENOSPC, "x"), StoreFull), (OSError(errno.EDQUOT, "x"), OverQuotaForNow),
        (OSError(errno.EACCES, "x"), DeliveryFailed), (OSError(errno.EROFS, "x"), DeliveryFailed),
        (ValueError("x"), DeliveryFailed), (OverQuota("x"), OverQuota),
    ],
)  # fmt: skip
def test_what_a_failure_is_to_a_mail_system(failure: Exception, kind: type[DeliveryFailed]) -> None:
    assert type(delivery_failed(failure, "/m", None)) is kind
    assert (kind.status == os.EX_TEMPFAIL) == (400 <= kind.reply.code < 500)
    assert type(delivery_failed(OSError(errno.EDQUOT, "x"), "/m", Quota(1, bounce=True))) is OverQuota


@pytest.mark.parametrize("quota", [Quota(1000), Quota()])
async def test_a_quota_file_that_cannot_be_read_is_named(boxes: Path, quota: Quota) -> None:
    """And temporary: somebody can mend it."""
    (boxes / "bob@x.org" / "maildirsize").symlink_to("/nowhere")
    alice, bob = await send(target(boxes, quota=quota), b"x\r\n")
    assert alice is None
    assert isinstance(bob, DeliveryFailed)
    assert bob.reply.code == 451
    assert str(bob) == f"cannot deliver to {boxes}/bob@x.org: maildirsize: too many levels of symbolic links"
    assert held(boxes, "bob@x.org") == []


# --- addresses and names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (Recipients(), ["Al+x@b.org", "al+x@b.org"]),
        (Recipients(separator="+"), ["Al+x@b.org", "al+x@b.org", "Al@b.org", "al@b.org"]),
        (Recipients(local_part=True), ["Al+x", "al+x"]),
        (Recipients(local_part=True, separator="+"), ["Al+x", "al+x", "Al", "al"]),
    ],
)
def test_names_of_an_address(rule: Recipients, names: list[str]) -> None:
    assert list(rule.names(Address("Al+x", "B.org"))) == names
    assert list(rule.names(Address("+x"))) == ["+x"]


# --- lines ------------------------------------------------------------------------------------------------------------

TEXT = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"."]), max_size=12).map(b"".join)


@given(st.lists(TEXT, max_size=5))
def test_lines_are_the_same_however_they_are_cut(chunks: list[bytes]) -> None:
    """P6."""
    pieces, whole = UnixLines(), UnixLines()
    stored = b"".join(map(pieces.convert, chunks)) + pieces.finish()
    assert stored == whole.convert(b"".join(chunks)) + whole.finish()
    assert re.search(rb"(?<!\r)\r\n", stored) is None


@given(TEXT)
def test_pop3_sends_what_lmtp_got(text: bytes) -> None:
    """P2: but for lone LFs, which have no place on the wire."""
    lines = UnixLines()
    encoder = BodyEncoder()
    wire = encoder.encode(lines.convert(text + b"\r\n") + lines.finish()) + encoder.finish(empty_line=False)
    stuffed = (b"\r\n" + wire).removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")[2:]
    expected = text.replace(b"\r\n", b"\0").replace(b"\n", b"\0").replace(b"\0", b"\r\n") + b"\r\n"
    assert stuffed == expected
