"""How messages are read: with how many goes to a thread, how far ahead, and what is never handed out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import MessageUnavailable
from trio_pop3.backends.maildir import MaildirStore, reading, store
from trio_pop3.sansio import OctetCounter

from ..driving import CLIENT, run
from ..sansio.test_body import canon
from .maildir_helpers import Box, inline, open_files

FEW = 9


def content(number: int) -> bytes:
    return b"Subject: %d\n\nbody\n" % number


def name(number: int) -> str:
    return f"{1_700_000_000 + number}.x"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for number in range(FEW):
        box.put(name(number), content(number))
    return box


class Counted:
    """Runs work in place and counts how often it was asked to."""

    def __init__(self) -> None:
        self.goes = 0

    async def __call__(self, work: Callable[..., Any], *args: Any) -> Any:
        self.goes += 1
        return work(*args)


def opened(box: Box, run_sync: Any = inline) -> store.MaildirMaildrop:
    return run(MaildirStore(f"{box.root}/{{user}}", run_sync=run_sync).open("alice", CLIENT))


def goes_for(box: Box, numbers: Sequence[int]) -> int:
    """How many goes to a thread it takes to read these messages; each must be what is in its file."""
    counted = Counted()
    maildrop = opened(box, counted)
    counted.goes = 0
    for number in numbers:
        assert run(maildrop.retrieve(maildrop.messages[number])) == content(number)
    run(maildrop.release())
    return counted.goes


@pytest.mark.parametrize(
    ("numbers", "goes"),
    [
        (range(FEW), 3),  # 0-1, 2-4, 5-8: each go brings twice as many as the one before
        (range(4, FEW), 3),  # nothing is known of the first
        ([0, 0, 1, 1, 2, 2, 3, 3], 6),
        ([8, 7, 6, 5, 4], 5),
        ([0, 3, 6, 1, 4], 5),
        ([5, 5, 5], 3),
    ],
)
def test_goes_to_a_thread(box: Box, numbers: Sequence[int], goes: int) -> None:
    """P4: few for who reads on, one for each for who does not; asking twice, as after TOP, does not end the row."""
    assert goes_for(box, numbers) == goes


def test_many_small_messages_take_few_goes(tmp_path: Path) -> None:
    """P4: once under way, one in 64."""
    box = Box(tmp_path)
    for number in range(400):
        box.put(name(number), content(number))
    assert goes_for(box, range(400)) <= 7 + 400 // 65


@given(st.lists(st.integers(0, FEW - 1), max_size=30), st.integers(0, 200))
def test_any_order_gives_what_is_in_the_files(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], octets: int
) -> None:
    """P2: whatever is asked for in whatever order, with whatever room to read ahead."""
    box = Box(tmp_path_factory.mktemp("box"))
    for number in range(FEW):
        box.put(name(number), content(number))
    maildrop = opened(box)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "READ_OCTETS", 30 + octets)
        for number in numbers:
            assert run(maildrop.retrieve(maildrop.messages[number])) == content(number)
    run(maildrop.release())


# --- what was read ahead is what was announced ----------------------------------------------------------------------


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more and more\n")


def replace_by_another(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().swapcase())
    other.rename(path)


def replace_by_link(path: Path) -> None:
    secret = path.parent.parent / "secret"
    path.rename(secret)  # the very same inode: only the link is wrong
    path.symlink_to(secret)


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [append, replace_by_another, replace_by_link, replace_by_fifo, Path.unlink])
def test_what_changed_before_it_was_read_ahead_is_refused(box: Box, change: Callable[[Path], object]) -> None:
    """P2, C6, I9: read ahead or asked for, it is the message of the login or none; those around it are served."""
    maildrop = opened(box)
    before = open_files()
    change(box.path / "new" / name(3))
    for number in range(FEW):
        if number == 3:
            with pytest.raises(MessageUnavailable):
                run(maildrop.retrieve(maildrop.messages[number]))
        else:
            assert run(maildrop.retrieve(maildrop.messages[number])) == content(number)
    assert open_files() == before
    run(maildrop.release())


@pytest.mark.parametrize("size", [200, 300_000], ids=["small", "large"])
@pytest.mark.parametrize("fewer", [False, True], ids=["more line ends", "fewer line ends"])
@pytest.mark.parametrize("ahead", [False, True])
def test_what_was_rewritten_so_that_nobody_can_see_it_is_measured_anew(
    tmp_path: Path, size: int, fewer: bool, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2, P4, B6: as long as it was, and its time set back (`rsync --inplace -t`). No more than was announced is sent,
    and what the index says of it is not believed again."""
    texts = [b"x" * (size - 1) + b"\n", b"x\n" * (size // 2)]
    if fewer:
        texts.reverse()
    box = Box(tmp_path)
    for n in range(40):
        box.put(name(n), b"mail\n")
    box.put(name(40), texts[0])
    for path in (box.path / "new").iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    run(opened(box).release())
    path = box.path / "new" / name(40)
    rewrite_unseen(path, texts[1])
    assert (box.path / ".trio-pop3.index").exists()
    maildrop = opened(box)
    message = maildrop.messages[40]
    assert message.octets == len(canon(texts[0]))
    before = open_files()
    if ahead:
        assert run(maildrop.retrieve(maildrop.messages[38])) == run(maildrop.retrieve(maildrop.messages[39]))
    sent: list[bytes] = []

    async def read() -> None:
        content = await maildrop.retrieve(message)
        assert not isinstance(content, bytes)
        async for piece in content:
            sent.append(piece)  # noqa: PERF401 - also what came before a failure

    with pytest.raises(OSError if size > 256 * 1024 else MessageUnavailable):
        run(read())
    assert octets_so_far(b"".join(sent)) <= message.octets
    assert open_files() == before
    run(maildrop.release())
    maildrop = opened(box)
    assert maildrop.messages[40].octets == len(canon(texts[1]))
    run(maildrop.release())


def rewrite_unseen(path: Path, content: bytes) -> None:
    status = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def octets_so_far(sent: bytes) -> int:
    counter = OctetCounter()
    counter.update(sent)
    return counter.octets


async def test_the_same_on_the_event_loop(tmp_path: Path) -> None:
    """P2: what is in memory is measured too."""
    box = Box(tmp_path)
    box.put(name(0), b"x" * 9 + b"\n")
    maildrop = await MaildirStore(f"{box.root}/{{user}}").open("alice", CLIENT)
    path = box.path / "new" / name(0)
    rewrite_unseen(path, b"x\n" * 5)
    index = box.path / ".trio-pop3.index"
    index.write_bytes(b"wrong")
    with pytest.raises(MessageUnavailable):
        await maildrop.retrieve(maildrop.messages[0])
    assert not index.exists()
    await maildrop.release()


def test_what_is_gone_is_gone_each_time(box: Box) -> None:
    """C6: also when another look has found that it is nowhere, and when it would be the next to be read ahead."""
    maildrop = opened(box)
    for number in (1, 2, 5):
        (box.path / "new" / name(number)).unlink()
    for _ in range(2):
        for number in (1, 0, 1, 2, 3, 4, 5, 6):
            if number in (1, 2, 5):
                with pytest.raises(MessageUnavailable):
                    run(maildrop.retrieve(maildrop.messages[number]))
            else:
                assert run(maildrop.retrieve(maildrop.messages[number])) == content(number)
    run(maildrop.release())


def test_renamed_before_it_was_read_ahead(box: Box) -> None:
    """E5, C6: found where it is now."""
    maildrop = opened(box)
    for number in (3, 6):
        box.move(f"new/{name(number)}", f"cur/{name(number)}:2,S")
    for number in range(FEW):
        assert run(maildrop.retrieve(maildrop.messages[number])) == content(number)
    run(maildrop.release())


def test_a_commit_in_between_is_of_what_was_marked(box: Box) -> None:
    """P1, E6: what was read ahead does not keep anything from going, nor does it come back."""
    maildrop = opened(box)
    for number in range(4):
        run(maildrop.retrieve(maildrop.messages[number]))
    run(maildrop.commit(maildrop.messages[2:6]))
    assert sorted(box.held()) == [name(number) for number in (0, 1, 6, 7, 8)]
    assert run(maildrop.retrieve(maildrop.messages[6])) == content(6)
    with pytest.raises(MessageUnavailable):
        run(maildrop.retrieve(maildrop.messages[5]))
    run(maildrop.release())


# --- bounds ---------------------------------------------------------------------------------------------------------


def reader_of(maildrop: store.MaildirMaildrop) -> reading.Reader:
    return maildrop._reader


def test_what_is_read_ahead_is_bounded_and_given_back(tmp_path: Path) -> None:
    """P4: 256 KiB besides what was asked for, whatever the sizes; and nothing after the session."""
    box = Box(tmp_path)
    sizes = [100_000, 10, 50_000, 300_000, 70_000, 90_000, 90_000, 90_000, 250_000, 5] * 3
    for number, octets in enumerate(sizes):
        box.put(name(number), b"x" * octets)
    maildrop = opened(box)
    most = 0
    for message in maildrop.messages:
        run(maildrop.retrieve(message))
        held = sum(map(len, reader_of(maildrop)._ahead.values()))
        assert held <= 256 * 1024
        most = max(most, held)
    assert most > 150_000, "it reads ahead at all"
    run(maildrop.retrieve(maildrop.messages[0]))
    run(maildrop.retrieve(maildrop.messages[1]))
    run(maildrop.release())
    assert not hasattr(maildrop, "_reader")


def test_a_large_message_is_not_held_beside_others(tmp_path: Path) -> None:
    """P4: while its reader takes hours, nothing else is kept for it."""
    box = Box(tmp_path)
    for number in range(8):
        box.put(name(number), b"x" * (400_000 if number == 4 else 1000))
    maildrop = opened(box)
    for message in maildrop.messages[:5]:
        content = run(maildrop.retrieve(message))
    assert isinstance(content, reading.Pieces)
    assert not reader_of(maildrop)._ahead
    run(content.aclose())
    assert run(maildrop.retrieve(maildrop.messages[5])) == b"x" * 1000
    run(maildrop.release())


def test_a_slow_disk_is_not_read_ahead_for_long(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: what was asked for is waited for, the others for 20 ms together."""
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 100)  # 10 ms for each file
    maildrop = opened(box)
    held = []
    for number in range(FEW):
        assert run(maildrop.retrieve(maildrop.messages[number])) == content(number)
        held.append(len(reader_of(maildrop)._ahead))
    assert max(held) == 2  # of four that would have been next
    run(maildrop.release())
