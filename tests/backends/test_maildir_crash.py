"""A process is killed before every system call of a delivery, a login and a commit; or that call fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ..driving import Dialogue
from .crash import Zygote, zygote
from .crash_scenarios import MARKING, MARKS, MESSAGE, POLICY, SCENARIOS
from .maildir_helpers import Box, body, lines, uids

MAIL: Final = {
    "new/1700000001.a.host": b"Subject: one\n\nbody\n",
    "cur/1700000002.b.host:2,S": b"Subject: two\r\n\r\nno line end",
    "cur/1700000003.c.host,S=12:2,FS": b"Subject: 3\n\n",
    "new/1700000004.d.host": b".\n..\n" * 3000,
}
# What may fail, with what the kernel says of a full and of a broken disk.
WRITES: Final = frozenset({
    "openat", "write", "writev", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink",
    "unlinkat", "link", "linkat", "mkdir", "mkdirat", "ftruncate", "close",
})  # fmt: skip
READS: Final = frozenset({"read", "pread64", "preadv2", "newfstatat", "statx", "fstat", "getdents64", "lseek"})


@pytest.fixture(scope="module")
def process() -> Iterator[Zygote]:
    with zygote() as running:
        yield running


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The maildrop as it is before each try."""
    box = Box(tmp_path / "before")
    for name, content in MAIL.items():
        (box.path / name).write_bytes(content)
        os.utime(box.path / name, (1700000000, 1700000000))  # what is younger is not put into the index
    session = box.login()  # so that all files are there that a first login makes
    session.ask("QUIT")
    return tmp_path / "before"


class Tried:
    """A copy of the maildrop, and what is in it afterwards."""

    def __init__(self, before: Path, scenario: str) -> None:
        self.root = before.with_name("tried")
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(before, self.root)
        self.box = Box(self.root)
        self.scenario = scenario
        self.mail = list(MAIL.values())

    def check(self, status: int | None) -> None:
        """P1, P3: each message whole, or gone if it was marked; the same UIDs; a login that works."""
        session = Dialogue(self.box.backend(**POLICY.get(self.scenario, {})))
        assert session.login().startswith(b"+OK")
        there = dict(zip(uids(session), self._bodies(session), strict=True))
        sizes = [int(row.split()[1]) for row in lines(session.ask("LIST"))]
        assert sizes == [len(content) for content in there.values()]
        assert session.ask("QUIT").startswith(b"+OK")
        marked = MARKS if self.scenario in MARKING else frozenset()
        for number, (name, content) in enumerate(MAIL.items(), 1):
            uid = name.partition("/")[2].partition(":")[0]
            if uid in there:
                assert there.pop(uid) == canon(content)
                assert number not in marked or status != 0, "what was said to be deleted is there"
            else:
                assert number in marked, "a message is gone that nobody has deleted"
                if self.scenario in POLICY:
                    assert self._kept(uid) == content, "it is gone, and not where it should be"
        if self.scenario == "delivery":
            assert list(there.values()) in ([], [canon(MESSAGE)])
            if status is not None:
                assert len(there) == (status == 0)
        else:
            assert not there
        if status == 2:
            assert marked

    def _kept(self, uid: str) -> bytes:
        """The file of a message that is not shown: in the trash, or where it was."""
        (path,) = [path for path in self.box.path.glob("**/*") if path.name.partition(":")[0] == uid]
        return path.read_bytes()

    def _bodies(self, session: object) -> list[bytes]:
        return [body(session.ask(f"RETR {n}")) for n in range(1, len(uids(session)) + 1)]  # type: ignore[attr-defined, arg-type]


def canon(message: bytes) -> bytes:
    message = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return message if message.endswith(b"\r\n") else message + b"\r\n"


def each_of(calls: list[str]) -> list[tuple[str, int]]:
    """Name, and the how manieth of that name: so strace counts."""
    return [(name, calls[: place + 1].count(name)) for place, name in enumerate(calls)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_system_call(process: Zygote, before: Path, scenario: str) -> None:
    """P1, P3, G1."""
    whole = Tried(before, scenario)
    outcome = process.run(whole.root, scenario)
    assert outcome.status == 0
    whole.check(0)
    assert len(outcome.calls) > 10
    for name, nth in each_of(outcome.calls):
        tried = Tried(before, scenario)
        killed = process.run(tried.root, scenario, inject=f"{name}:signal=SIGKILL:when={nth}")
        assert killed.status is None, f"{name} {nth} was never made: {killed.calls[-5:]}"
        tried.check(None)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_system_call_that_may_fail_fails(process: Zygote, before: Path, scenario: str, error: str) -> None:
    """P1, P3: a full disk, and a broken one. What the client was told is true."""
    calls = process.run(Tried(before, scenario).root, scenario).calls
    may_fail = WRITES if error == "ENOSPC" else WRITES | READS
    for name, nth in each_of([name for name in calls if name in may_fail]):
        tried = Tried(before, scenario)
        outcome = process.run(tried.root, scenario, inject=f"{name}:error={error}:when={nth}")
        assert outcome.status in (0, 1, 2), f"{name} {nth}: {outcome}"
        tried.check(outcome.status)


def test_the_sweep_reaches_what_it_is_for(process: Zygote, before: Path) -> None:
    """A sweep over calls that do not matter would prove nothing."""
    calls = {name: process.run(Tried(before, name).root, name).calls for name in SCENARIOS}
    assert {"openat", "write", "fsync", "rename"} <= set(calls["delivery"])
    assert {"openat", "flock", "getdents64"} <= set(calls["login"])
    assert calls["first login"].count("rename") == 1, "the index is not written"
    assert calls["move new"].count("rename") >= 2
    assert calls["commit"].count("unlink") == 2
    assert {"hide", "trash", "flag", "unlink"} <= calls.keys()
    assert all(calls[name].count("fsync") >= 3 for name in ("hide", "trash", "flag", "unlink"))
    assert calls["commit"].count("fsync") >= 2
    assert os.path.exists(before)
