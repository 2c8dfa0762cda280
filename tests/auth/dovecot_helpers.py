"""Dovecot's side of the auth socket: scripts that play it badly, and the real one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from trio_pop3.backend import ClientInfo

CLIENT = ClientInfo("s1", "192.0.2.1", 4711, "2001:db8::1", 995, tls=True)
PASSWORD = "correct horse"
HANDSHAKE = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t4711\nCUID\t1\nCOOKIE\t00ff\nDONE\n"

Script = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def playing(script: Script, path: Path) -> AsyncIterator[None]:
    """A server on a UNIX socket that plays the script for each who connects."""
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listening.bind(os.fspath(path))
    listening.listen(128)
    listener = trio.SocketListener(listening)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, script, [listener])
        yield
        nursery.cancel_scope.cancel()
    os.unlink(path)


async def until_request(stream: trio.SocketStream) -> bytes:
    """Shake hands; the line of the request."""
    await stream.send_all(HANDSHAKE)
    got = b""
    while b"AUTH" not in got or not got.endswith(b"\n"):
        got += await stream.receive_some()
    return got.splitlines()[-1]


def answering(answer: bytes) -> Script:
    """A script that gives this answer."""

    async def script(stream: trio.SocketStream) -> None:
        await until_request(stream)
        await stream.send_all(answer)
        await stream.receive_some()

    return script


def saying(said: bytes) -> Script:
    """A script that says this, whatever it hears, and then closes."""

    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)
        await stream.send_eof()
        while await stream.receive_some():
            continue

    return script


_CONFIGURATION = """
base_dir = {top}/run
state_dir = {top}/state
log_path = {top}/log
protocols =
ssl = no
auth_debug = yes
auth_failure_delay = 0
auth_username_chars =
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  user = {user}
  unix_listener auth-client {{
    mode = 0600
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=plain {top}/users
}}
passdb {{
  driver = checkpassword
  args = {top}/broken
  username_filter = broken
}}
"""


class Dovecot:
    """The real one, with its files under a folder. `users` are lines of a passwd-file."""

    def __init__(self, top: Path, users: str) -> None:
        self.path = top / "run" / "auth-client"
        self.log = top / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = top / "dovecot.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        others = "" if user == "root" else f"default_internal_user = {user}\ndefault_login_user = {user}\n"
        self._configuration.write_text(_CONFIGURATION.format(top=top, user=user) + others)
        (top / "users").write_bytes(users.encode("utf-8", "surrogateescape"))
        (top / "broken").write_text("#!/bin/sh\nexit 111\n")
        (top / "broken").chmod(0o755)

    def start(self) -> None:
        """Returns when it listens."""
        program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program, "these tests need Dovecot: apt-get install dovecot-core"
        self._process = subprocess.Popen([program, "-F", "-c", self._configuration], stdin=subprocess.DEVNULL)
        patience = time.monotonic() + 20
        while not self._listens():
            assert self._process.poll() is None and time.monotonic() < patience, self.log.read_bytes()
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(os.fspath(self.path)) == 0

    def stop(self) -> None:
        """Returns when it is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@contextmanager
def running(top: Path, users: str) -> Iterator[Dovecot]:
    """The real one, started."""
    dovecot = Dovecot(top, users)
    dovecot.start()
    try:
        yield dovecot
    finally:
        dovecot.stop()
