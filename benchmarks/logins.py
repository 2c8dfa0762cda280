"""What wrong logins tell, and whom they hold up: `python -m benchmarks.logins [TRIES]` (default 200).

First: a wrong password and an unknown user, in turn, each way to log in, against a users file; the medians, their
difference, and the difference that chance makes (95 of 100 reshufflings of the same times stay below it).

Then: a logged-in session sends NOOP after NOOP while 200 connections log in with wrong passwords at the same time. The
time of each answer as the client sees it, with and without them. The penalty is off, or nearly nothing would be asked.
"""

from __future__ import annotations

import base64
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial

import trio

from trio_pop3 import MaildirBackend, Pop3Listener, serve
from trio_pop3.auth import PasswdFile
from trio_pop3.auth.schemes import HASHERS
from trio_pop3.backends.maildir import make_maildir
from trio_pop3.sasl import scram

from .servers import SERVERS, Running, running

_USERS = ("known", "busy")
_WRONG = "wrong-password"
_FLOOD = 200


def _backend(directory: str, scheme: str) -> MaildirBackend:
    with open(f"{directory}/users", "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        for user in _USERS:
            file.write(f"{user}:{HASHERS[scheme](b'right-password')}\n")
            make_maildir(f"{directory}/{user}")
    return MaildirBackend(f"{directory}/{{user}}", PasswdFile(f"{directory}/users"))


async def _run(scheme: str, report: Callable[[int], object]) -> None:
    """A server on a users file whose passwords are stored in one scheme."""
    with tempfile.TemporaryDirectory() as directory:
        options = {"max_auth_failures": None, "mechanisms": ["SCRAM-SHA-256", "PLAIN"], "max_connections": 1_000}
        backend = _backend(directory, scheme)
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[list[Pop3Listener]]) -> None:
                await serve(backend, listen=["127.0.0.1:0"], task_status=task_status, **options)  # type: ignore[arg-type]

            listeners = await nursery.start(start)
            report(listeners[0].port)


SERVERS |= {f"users in {scheme}": partial(_run, scheme) for scheme in ("SCRYPT", "SCRAM-SHA-256")}


def _connect(server: Running) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port))
    _line(sock)
    return sock


def _line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(4096)
        if not data:
            raise ConnectionError("the server closed the connection")
        line += data
    return line


def _ask(sock: socket.socket, line: bytes) -> bytes:
    sock.sendall(line + b"\r\n")
    return _line(sock)


def _by_pass(sock: socket.socket, user: str) -> bytes:
    _ask(sock, f"USER {user}".encode())
    return _ask(sock, f"PASS {_WRONG}".encode())


def _by_plain(sock: socket.socket, user: str) -> bytes:
    return _ask(sock, b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0{_WRONG}".encode()))


def _by_scram(sock: socket.socket, user: str) -> bytes:
    exchange = scram(user, _WRONG)
    first = next(exchange).data or b""
    challenge = _ask(sock, b"AUTH SCRAM-SHA-256 " + base64.b64encode(first))
    return _ask(sock, base64.b64encode(exchange.send(base64.b64decode(challenge[2:])).data or b""))


def _chance(times: list[float], share: int) -> float:
    """The difference of medians that chance makes between two parts of the same times."""
    differences = []
    for _ in range(1_000):
        random.shuffle(times)
        differences.append(abs(statistics.median(times[:share]) - statistics.median(times[share:])))
    return sorted(differences)[949]


def equal_time(tries: int) -> None:
    """Print what the time of a refusal tells."""
    titles = f"{'wrong password':>15} {'unknown user':>13} {'difference':>11} {'chance':>7}"
    print(f"{'refused logins, milliseconds':<44} {titles}")
    ways = (
        ("SCRYPT", "USER, PASS", _by_pass),
        ("SCRYPT", "PLAIN", _by_plain),
        ("SCRAM-SHA-256", "SCRAM-SHA-256", _by_scram),
    )
    for scheme, name, log_in in ways:
        with running(f"users in {scheme}") as server, _connect(server) as sock:
            times: dict[str, list[float]] = {"known": [], "nobody": []}
            answers = {log_in(sock, user) for user in times}  # the first of each makes caches warm
            for number in range(2 * tries):
                user = ("known", "nobody")[number % 2]
                before = time.perf_counter()
                answers.add(log_in(sock, user))
                times[user].append((time.perf_counter() - before) * 1_000)
            known, nobody = (statistics.median(times[user]) for user in times)
            chance = _chance(times["known"] + times["nobody"], tries)
            row = f"{known:>15.3f} {nobody:>13.3f} {abs(known - nobody):>11.3f} {chance:>7.3f}"
            print(f"{f'{name}, stored as {scheme}':<44} {row}")
            print(f"{'':<44} answers: {', '.join(sorted(answer.decode().strip() for answer in answers))}")


def _answers(sock: socket.socket, seconds: float) -> list[float]:
    """Milliseconds of NOOPs, one after the other."""
    end, times = time.perf_counter() + seconds, []
    while (before := time.perf_counter()) < end:
        _ask(sock, b"NOOP")
        times.append((time.perf_counter() - before) * 1_000)
        time.sleep(0.001)
    return times


def _flood(server: Running) -> None:
    """So many wrong logins at a time, again and again, until the process is killed."""

    def guess(number: int) -> None:
        with _connect(server) as sock:
            while True:
                _by_pass(sock, f"{_USERS[0]}{number % 2 or ''}")

    for number in range(_FLOOD):
        threading.Thread(target=guess, args=(number,), daemon=True).start()
    threading.Event().wait()


def flood(seconds: float) -> None:
    """Print how long a logged-in session waits for answers."""
    print(f"\n{'NOOP of a logged-in session, milliseconds':<44} {'median':>7} {'99 %':>7} {'worst':>7} {'answers':>8}")
    with running("users in SCRYPT") as server, _connect(server) as sock:
        _ask(sock, b"USER busy")
        if not _ask(sock, b"PASS right-password").startswith(b"+OK"):
            raise AssertionError("cannot log in")
        for name in ("alone", f"beside {_FLOOD} wrong logins at a time"):
            pid = 0
            if name != "alone":
                pid = os.fork()
                if not pid:
                    try:
                        _flood(server)
                    finally:
                        os._exit(1)
                time.sleep(1)
            times = sorted(_answers(sock, seconds))
            if pid:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            figures = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
            print(f"{name:<44} {' '.join(f'{figure:>7.2f}' for figure in figures)} {len(times):>8}")


if __name__ == "__main__":
    equal_time(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    flood(10)
