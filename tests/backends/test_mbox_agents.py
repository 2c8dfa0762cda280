"""Real delivery agents append to a mailbox while sessions remove from it: nothing is lost, nothing is there twice.

`tests/backends/install-agents` installs them.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_pop3.backends.mbox import MboxStore, store
from trio_pop3.backends.mbox import compact as compacting

from ..driving import CLIENT
from .mbox_helpers import Box, entry

EXIM = Path("/opt/delivery-agents/usr/sbin/exim4")
NUMBER = re.compile(rb"^Number: (\S+)", re.MULTILINE)
Deliver = Callable[[str], None]

# Opens the file, waits for its lock, and appends: as an agent does that knows nothing of lock files. What it opened
# before it waited must still be the mailbox when it gets the lock.
FCNTL_ONLY = """
import fcntl, os, sys
name, content = sys.argv[1], sys.argv[2].encode()
fd = os.open(name, os.O_WRONLY | os.O_APPEND)
print("open", flush=True)
fcntl.lockf(fd, fcntl.LOCK_EX)
os.write(fd, content)
os.close(fd)
"""


def numbered(number: str) -> bytes:
    """A message that has things in it that agents treat specially."""
    return b"Subject: a\nNumber: %s\n\nFrom here on\n\nFrom there\n.\n" % number.encode()


def procmail(box: Box) -> Deliver:
    """`LOCKSLEEP` is how long it waits before it looks at a lock file again, in seconds."""
    program = shutil.which("procmail")
    assert program is not None, "procmail is missing: run tests/backends/install-agents as root (Debian)"
    rc = box.root / "procmailrc"
    rc.write_text(f"LOCKSLEEP=1\nDEFAULT={box.path}\n")
    command = [program, "-f", "sender@example.org", str(rc)]
    return lambda number: _fed(command, number, {})


def exim(box: Box) -> Deliver:
    """Its own lock file, then fcntl; `lock_interval` is how long it waits between two tries."""
    assert os.access(EXIM, os.X_OK), f"{EXIM} is missing: run tests/backends/install-agents as root (Debian)"
    home = box.root / "exim"
    for part in ("spool", "log"):
        (home / part).mkdir(parents=True)
    (home / "passwd").write_text(Path("/etc/passwd").read_text() + "Debian-exim:x:65534:65534::/:/bin/false\n")
    (home / "group").write_text(Path("/etc/group").read_text() + "Debian-exim:x:65534:\n")
    (home / "conf").write_text(f"""
exim_path = {EXIM}
exim_user = nobody
exim_group = nogroup
deliver_drop_privilege = true
keep_environment = LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
spool_directory = {home}/spool
log_file_path = {home}/log/%s
primary_hostname = mx.example.org
acl_not_smtp = accept
begin routers
all:
  driver = accept
  transport = mbox
begin transports
mbox:
  driver = appendfile
  file = {box.path}
  user = nobody
  group = nogroup
  mode = 0600
  lock_interval = 1s
  lock_retries = 60
""")
    # It runs as nobody, and makes its lock file beside the mailbox.
    for path in (box.root, home / "spool", home / "log", *([box.path] if box.path.exists() else [])):
        shutil.chown(path, "nobody", "nogroup")
    wrapper = {
        "LD_PRELOAD": "libnss_wrapper.so",
        "NSS_WRAPPER_PASSWD": str(home / "passwd"),
        "NSS_WRAPPER_GROUP": str(home / "group"),
    }
    command = [str(EXIM), "-C", str(home / "conf"), "-odf", "-oi", "-f", "sender@example.org", "alice@example.org"]
    return lambda number: _fed(command, number, wrapper)


def fcntl_only(box: Box) -> Deliver:
    command = [sys.executable, "-c", FCNTL_ONLY, str(box.path)]

    def deliver(number: str) -> None:
        content = entry(numbered(number).replace(b"\nFrom", b"\n>From"))
        subprocess.run([*command, content.decode()], check=True, timeout=60, capture_output=True)

    return deliver


def _fed(command: list[str], number: str, environment: dict[str, str]) -> None:
    subprocess.run(command, input=numbered(number), check=True, timeout=60, env={**os.environ, **environment})


AGENTS = {"procmail": procmail, "exim": exim, "fcntl": fcntl_only}


class Reader:
    """Sessions, one after the other: fetch all, and remove some."""

    def __init__(self, box: Box) -> None:
        self.store = MboxStore(f"{box.root}/{{user}}", lock_timeout=30.0)
        self.known: dict[str, bytes] = {}
        self.removed: Counter[str] = Counter()
        self.rng = random.Random(1)

    async def session(self, share: float) -> int:
        maildrop = await self.store.open("alice", CLIENT)
        try:
            for message in maildrop.messages:
                content = await maildrop.retrieve(message)
                assert isinstance(content, bytes)
                assert content.count(b"Number:") == 1
                # A unique-id is one message's for ever.
                assert self.known.setdefault(message.uid, content) == content
            marked = [message for message in maildrop.messages if self.rng.random() < share]
            await maildrop.commit(marked)
            for message in marked:
                found = NUMBER.search(self.known[message.uid])
                assert found is not None
                self.removed[found[1].decode()] += 1
            return len(maildrop.messages) - len(marked)
        finally:
            await maildrop.release()


@pytest.fixture
def box() -> Iterator[Box]:
    """A mailbox where everybody can get at it; pytest's directories are for the one who runs it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        box = Box(Path(directory, "spool"))
        box.root.mkdir()
        yield box


@pytest.mark.parametrize("names", [("procmail", "procmail", "exim", "fcntl", "fcntl")], ids="-".join)
async def test_deliveries_beside_sessions(box: Box, names: tuple[str, ...]) -> None:
    """P1, E10: every message delivered is removed exactly once, by the session that marked it."""
    box.path.touch()
    each = {"procmail": 20, "exim": 20, "fcntl": 60}
    agents = {name: AGENTS[name](box) for name in set(names)}
    expected = {f"{name}-{nth}-{count}" for nth, name in enumerate(names) for count in range(each[name])}
    working = len(names)
    reader = Reader(box)

    async def deliver(nth: int, name: str) -> None:
        nonlocal working
        for count in range(each[name]):
            await trio.to_thread.run_sync(agents[name], f"{name}-{nth}-{count}")
        working -= 1

    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            for nth, name in enumerate(names):
                nursery.start_soon(deliver, nth, name)
            sessions = 0
            while working:
                await reader.session(0.5)
                sessions += 1
                await trio.sleep(0.01)
        assert await reader.session(1.0) == 0
    assert reader.removed == Counter(expected)
    assert sessions > 20
    assert box.content() == b""
    assert not list(box.root.glob("*.lock"))


def test_an_agent_that_waits_on_the_open_file_loses_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: it opened the mailbox before the commit and gets its lock after it, and it looks at no lock file.

    Had another file taken the place of the mailbox, it would append to one that is no mailbox any more.
    """
    box.put(b"Subject: 1\n\n1\n", b"Subject: 2\n\n2\n")
    content = entry(numbered("late").replace(b"\nFrom", b"\n>From"))
    command = [sys.executable, "-c", FCNTL_ONLY, str(box.path), content.decode()]
    agents: list[subprocess.Popen[str]] = []

    def compact(*args: Any) -> None:
        agents.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert agents[0].stdout is not None
        assert agents[0].stdout.readline() == "open\n"
        compacting.compact(*args)

    monkeypatch.setattr(store, "compact", compact)
    dialogue = box.login(locks=["fcntl"])
    assert dialogue.send(b"DELE 1\r\nQUIT\r\n").count(b"+OK") == 2
    with agents[0]:
        assert agents[0].wait(30) == 0
    assert box.content() == entry(b"Subject: 2\n\n2\n") + content
