"""A commit that is cut short at any system call, by a kill or by the power, and what the next login finds."""

from __future__ import annotations

import errno
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.backend import CommitIncomplete, TemporaryFailure
from trio_pop3.backends.mbox.scan import Rules, find
from trio_pop3.backends.mbox.store import Mailbox, Ways

from .mbox_disk import Died, Disk
from .mbox_helpers import Box

ROOT = Path(__file__).parent.parent.parent
WAYS = Ways(("dotlock", "fcntl"), 0.0, 600.0, False, False, Rules())


def mailbox(box: Box, owner: str = "test") -> Mailbox:
    return Mailbox(os.fsencode(box.path), None, WAYS, owner)


def texts(box: Box) -> list[bytes]:
    """The messages that are in the file, as stored."""
    fd = os.open(box.path, os.O_RDONLY)
    try:
        return [os.pread(fd, found.stop - found.text, found.text) for found in find(fd, Rules())]
    finally:
        os.close(fd)


def login(box: Box) -> tuple[list[str], list[bytes]]:
    """The unique-ids and the messages that a session gets, once what was cut short is finished."""
    session = mailbox(box)
    try:
        session.begin()
        messages = session.read()
        contents = [session.fetch(message) for message in messages]
        return [message.uid for message in messages], [c if isinstance(c, bytes) else b"".join(c) for c in contents]
    finally:
        session.close()


def commit(box: Box, marked: set[int], disk: Disk) -> bool:
    """A session that removes messages; whether it lived to say so."""
    session = mailbox(box)
    disk.look()
    try:
        with disk:
            session.begin()
            messages = session.read()
            session.remove([message for nth, message in enumerate(messages) if nth in marked])
    except Died:
        return False
    except TemporaryFailure:
        return False
    except CommitIncomplete as failure:
        assert failure.remaining == len(marked)  # noqa: PT017
        return False
    finally:
        session.close()
    return True


def message(nth: int, size: int) -> bytes:
    return b"Subject: %d\n\n" % nth + b"%d" % nth * size + b"\n"


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[bytes], set[int]]:
    """Messages, some of them equal, and which of them are removed."""
    sizes = draw(st.lists(st.sampled_from([0, 1, 30, 300, 5000]), min_size=1, max_size=5))
    kinds = draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes)))
    marked = draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))
    return [message(kind, size) for kind, size in zip(kinds, sizes, strict=True)], marked


def cut(
    root: Path, plan: tuple[list[bytes], set[int]], new: list[bytes], disk: Disk, rng: random.Random | None
) -> bool:
    """A commit on that disk, a delivery after it, and what sessions find then; whether the commit lived to the end."""
    messages, marked = plan
    box, twin = Box(root), Box(root / "twin")
    twin.root.mkdir()
    for each in (box, twin):
        each.put(*messages)
    before, _ = login(twin)
    lived = commit(box, marked, disk)
    if rng is not None:
        disk.cut_power(rng)
        age_dotlock(box)
    box.put(*new)
    left = [nth for nth in range(len(messages)) if nth not in marked]
    uids, contents = login(box)
    after = [before[nth] for nth in left], [messages[nth] for nth in left]
    old = uids[: len(uids) - len(new)], contents[: len(contents) - len(new)]
    assert old == after or (not lived and old == (before, messages))
    assert contents[len(old[1]) :] == new
    assert len(set(uids)) == len(uids)
    assert sorted(os.listdir(box.state)) in (["alice.lock"], ["alice.lock", "alice.uids"])
    assert login(box) == (uids, contents)
    return lived


def age_dotlock(box: Box) -> None:
    """Whose it is may not have reached the disk; then it takes time to be stale."""
    lock = box.path.with_suffix(".lock")
    if lock.exists():
        os.utime(lock, (0, 0))


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@given(plan=plans(), torn=st.booleans(), seed=st.integers(0, 9), new=st.lists(st.just(message(7, 40)), max_size=2))
def test_cut_at_every_call(
    plan: tuple[list[bytes], set[int]], torn: bool, seed: int, new: list[bytes], power: bool
) -> None:
    """P1, P3, E1, E6: all of the marked are there or none, the others are whole with their unique-ids, and so is what
    was delivered between the crash and the next login. What was said to be gone stays gone."""
    rng = random.Random(seed) if power else None
    lived, die_at = False, 0
    while not lived:
        die_at += 1
        with tempfile.TemporaryDirectory() as directory:
            disk = Disk(Path(directory), die_at, torn)
            lived = cut(Path(directory), plan, new, disk, rng)
    assert die_at == len(disk.calls) + 1


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@given(plan=plans(), die_at=st.integers(10, 35), seed=st.integers(0, 9), new=st.booleans())
def test_cut_again_while_it_is_finished(
    plan: tuple[list[bytes], set[int]], die_at: int, seed: int, new: bool, power: bool
) -> None:
    """P1, E6: at every call of the login that goes on from where the commit was cut."""
    messages, marked = plan
    rng, lived, again = random.Random(seed), False, 0
    while not lived:
        again += 1
        with tempfile.TemporaryDirectory() as directory:
            box, disk = Box(Path(directory)), Disk(Path(directory), die_at)
            box.put(*messages)
            commit(box, marked, disk)
            if power:
                disk.cut_power(rng)
                age_dotlock(box)
            if new:
                box.put(message(7, 40))
            disk = Disk(box.root, again)
            try:
                with disk:
                    login(box)
                lived = True
            except Died:
                if power:
                    disk.cut_power(rng)
                    age_dotlock(box)
            left = [content for nth, content in enumerate(messages) if nth not in marked]
            assert login(box)[1] in (left + [message(7, 40)] * new, messages + [message(7, 40)] * new)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@given(plan=plans(), new=st.lists(st.just(message(7, 40)), max_size=1))
def test_an_error_at_every_call(plan: tuple[list[bytes], set[int]], new: list[bytes], error: int) -> None:
    """P1, E2: a call fails, and every write after it; the client is told, and nothing is lost."""
    fail_at, calls = 0, 1
    while fail_at < calls:
        fail_at += 1
        with tempfile.TemporaryDirectory() as directory:
            disk = Disk(Path(directory), fail_at, error=error)
            cut(Path(directory), plan, new, disk, None)
            calls = len(disk.calls)


# --- the same with the kernel's word for it -------------------------------------------------------------------------

CHILD = """
import os, sys
from trio_pop3.backends.mbox.scan import Rules
from trio_pop3.backends.mbox.store import Mailbox, Ways
path = os.fsencode(sys.argv[1]) + b"/alice"
session = Mailbox(path, None, Ways(("dotlock", "fcntl"), 0.0, 600.0, False, False, Rules()), "test")
session.begin()
messages = session.read()
session.remove([messages[0], messages[2]])
"""
# What changes something on a disk, and what Python calls it.
CALLS = {"openat": "open", "pwrite64": "pwrite", "write": "write", "ftruncate": "ftruncate", "fsync": "fsync",
         "rename": "rename", "link": "link", "unlink": "unlink", "mkdir": "mkdir"}  # fmt: skip
MAIL = [message(1, 10), message(2, 300), message(3, 10), message(4, 20)]


def traced(root: Path, *options: str) -> list[tuple[str, int]]:
    """Run a session under strace; the calls that changed something, each with how often it was called until then."""
    log = root.parent / f"{root.name}.strace"
    command = ["strace", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *options, sys.executable, "-c", CHILD]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*command, str(root)], check=False, timeout=60, env=environment, cwd=ROOT)
    counted: Counter[str] = Counter()
    made = []
    for line in log.read_text().splitlines():
        if match := re.match(r"(\w+)\(", line):
            counted[match[1]] += 1
            if match[1] != "openat" or "O_CREAT" in line or "O_TRUNC" in line:
                made.append((match[1], counted[match[1]]))
    return made


def filled(root: Path) -> Box:
    box = Box(root)
    root.mkdir()
    box.put(*MAIL)
    return box


def test_killed_at_every_call(tmp_path: Path) -> None:
    """P1, E1, E6: kill -9 at each system call of a real process; and these are the calls that the disk above counts."""
    calls = traced(filled(tmp_path / "whole").root)
    disk = Disk(filled(tmp_path / "counted").root)
    assert commit(Box(tmp_path / "counted"), {0, 2}, disk)
    assert [CALLS[name] for name, _ in calls] == disk.calls
    assert len(calls) > 25
    for name, nth in calls:
        box = filled(tmp_path / f"{name}{nth}")
        traced(box.root, "-e", f"inject={name}:signal=SIGKILL:when={nth}")
        box.put(message(5, 5))
        uids, contents = login(box)
        assert contents in ([*MAIL, message(5, 5)], [MAIL[1], MAIL[3], message(5, 5)])
        assert login(box) == (uids, contents)
