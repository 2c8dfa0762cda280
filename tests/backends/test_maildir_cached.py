"""Files opened and read on the event loop: what is in memory and announced, and nothing else."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_pop3.backend import MessageUnavailable
from trio_pop3.backends.maildir import MaildirStore, cached, scan

from ..driving import CLIENT
from .maildir_helpers import Box, inline, open_files

MAIL = b"Subject: x\n\nbody\n"
NAME = "1700000001.a"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.put(NAME, MAIL)
    return box


@pytest.fixture
def path(box: Box) -> Path:
    return box.path / "new" / NAME


def whole(path: Path, inode: int | None = None, longest: int = 1000) -> bytes | None:
    wanted = path.stat().st_ino if inode is None else inode
    return cached.whole_file(os.fsencode(path), lambda status: status.st_ino == wanted, longest)


def test_this_system_can_be_asked(path: Path) -> None:
    """P4: Linux from 5.12 on a local file system; elsewhere these tests would prove nothing."""
    assert cached.can_be_asked(os.fsencode(path))
    assert whole(path) == MAIL


def test_only_what_was_announced(path: Path, tmp_path: Path) -> None:
    """P2, C6, I9: another file, a longer one, a link to the very file, a FIFO, a folder, nothing; all closed again."""
    before = open_files()
    status = path.stat()
    assert whole(path, status.st_ino + 1) is None
    assert whole(path, longest=len(MAIL) - 1) is None
    assert whole(path, longest=len(MAIL)) == MAIL
    link, fifo, folder = (tmp_path / name for name in ("link", "fifo", "folder"))
    link.symlink_to(path)
    os.mkfifo(fifo)
    folder.mkdir()
    for other in (link, fifo, folder):
        assert whole(other, other.stat().st_ino) is None
    assert whole(tmp_path / "missing", status.st_ino) is None
    assert open_files() == before


@pytest.mark.parametrize("failure", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EIO])
def test_what_cannot_be_read_at_once_is_left_to_a_thread(
    path: Path, failure: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: and nothing stays open."""
    before = open_files()

    def preadv(*_: object) -> int:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "preadv", preadv)
    assert whole(path) is None
    assert cached.can_be_asked(os.fsencode(path)) == (failure == errno.EAGAIN)
    assert open_files() == before


def test_half_a_file_in_memory_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a short read is no whole message."""
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, position, flags: real(fd, [buffers[0][:3]], position, flags))
    assert whole(path) is None


@pytest.mark.parametrize("failure", [errno.ENOSYS, errno.EPERM, errno.EAGAIN])
def test_systems_that_know_no_openat2(path: Path, failure: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: an old kernel, a sandbox; and a path that is not in memory, which is no reason to ask never again."""
    before = open_files()

    def refusing(*_: object) -> int:
        ctypes.set_errno(failure)
        return -1

    monkeypatch.setattr(cached, "_syscall", refusing)
    assert whole(path) is None
    assert cached.can_be_asked(os.fsencode(path)) == (failure == errno.EAGAIN)
    monkeypatch.setattr(cached, "_syscall", None)
    assert not cached.can_be_asked(os.fsencode(path))
    assert open_files() == before


class Goes:
    """Trio's threads, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real: Callable[..., Any] = trio.to_thread.run_sync

        async def run_sync(*args: Any, **options: Any) -> Any:
            self.count += 1
            return await real(*args, **options)

        monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


async def test_a_small_message_in_memory_needs_no_thread(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: nor does asking for it again; what is no longer there does, and is refused as ever."""
    goes = Goes(monkeypatch)
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    assert goes.count == 1
    before = open_files()
    message = maildrop.messages[0]
    for _ in range(3):
        assert await maildrop.retrieve(message) == MAIL
    assert goes.count == 1
    box.move(f"new/{NAME}", f"cur/{NAME}:2,S")
    assert await maildrop.retrieve(message) == MAIL
    assert goes.count == 2
    box.put(f"{NAME}:2,S", MAIL + b"x" * 100, "cur")
    with pytest.raises(MessageUnavailable):
        await maildrop.retrieve(message)
    assert goes.count == 3
    (box.path / "cur" / f"{NAME}:2,S").unlink()
    for _ in range(2):  # looked for, and then known to be nowhere
        with pytest.raises(MessageUnavailable):
            await maildrop.retrieve(message)
    assert open_files() == before
    await maildrop.release()


async def test_a_large_message_in_memory_needs_one(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: to be opened."""
    large = b"line\n" * 200_000
    box.put("1800000000.big", large)
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    goes = Goes(monkeypatch)
    pieces = await maildrop.retrieve(maildrop.messages[1])
    assert not isinstance(pieces, bytes)
    got = [piece async for piece in pieces]
    assert b"".join(got) == large
    assert max(map(len, got)) <= 64 * 1024
    assert goes.count == 1
    await maildrop.release()


@pytest.mark.parametrize("failure", [errno.EAGAIN, errno.EOPNOTSUPP])
async def test_a_large_message_that_is_not_in_memory(box: Box, failure: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: in threads, in pieces of 256 KiB; a file system that does not know the question is asked once."""
    large = b"line\n" * 200_000
    box.put("1800000000.big", large)
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    asked: list[None] = []

    def preadv(*_: object) -> int:
        asked.append(None)
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "preadv", preadv)
    pieces = await maildrop.retrieve(maildrop.messages[1])
    assert not isinstance(pieces, bytes)
    got = [piece async for piece in pieces]
    assert b"".join(got) == large
    assert max(map(len, got)) == scan.READ_OCTETS
    assert (len(asked) == 1) == (failure == errno.EOPNOTSUPP)
    await maildrop.release()


async def test_whoever_brings_threads_has_every_file_opened_in_them(box: Box) -> None:
    """Threads may work under the rights of another user than the event loop."""
    goes = []

    async def run_sync(work: Callable[..., Any], *args: Any) -> Any:
        goes.append(work)
        return await inline(work, *args)

    maildrop = await MaildirStore(f"{box.root}/{{user}}", run_sync=run_sync).open("alice", CLIENT)
    assert await maildrop.retrieve(maildrop.messages[0]) == MAIL
    assert len(goes) == 2
    await maildrop.release()
