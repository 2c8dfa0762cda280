"""RETR from a Maildir, ours beside Dovecot on the same files: `python -m benchmarks.retrieval [ROUNDS]` (default 5).

Server CPU per message (all processes), rounds interleaved, medians and ratios; then memory of slow readers; then what
a third client waits for NOOP while one lists 100,000 messages and another reads 200 MB. Every octet that is received is
compared with what is in the file. Needs root and Dovecot; `--only` runs a part of it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import signal
import socket
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final

from .maildirs import NAMES, OURS, Server, directory, hand_over, make_maildir, serving

_SMALL: Final = 1_000
_MEDIAN: Final = 6_000
_LARGE: Final = {"4 MB": (4_000_000, 10), "20 MB": (20_000_000, 2)}
_SLOW_READERS: Final = 10
_LISTED: Final = 100_000
_LINKS: Final = 50_000
_SECONDS: Final = 10.0


def _text(octets: int, seed: int) -> bytes:
    """A message of about so many octets, stored with LF, with lines as mail has them; a few begin with a dot."""
    chance = random.Random(seed)
    block = bytearray(b"Subject: message %d\n\n" % seed)
    letters = b"abcdefghijklmnopqrstuvwxyz     ,.-"
    while len(block) < min(octets, 100_000):
        line = bytes(chance.choices(letters, k=chance.randrange(40, 78)))
        block += (b"." if chance.random() < 0.001 else b"") + line + b"\n"
    return bytes(block) * max(1, octets // len(block))


def _wire(stored: bytes) -> bytes:
    """What a client is to get behind the status line, terminator included. Written down once more, on purpose."""
    lines = stored.split(b"\n")[:-1]
    return b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines) + b".\r\n"


def _deliver(maildir: pathlib.Path, messages: Sequence[bytes]) -> None:
    make_maildir(maildir)
    for number, message in enumerate(messages, 1):
        (maildir / "cur" / f"{1_700_000_000 + number}.M{number}P1.host,S={len(message)}:2,S").write_bytes(message)


class Load:
    """What is fetched in one measurement: each message of a maildrop, `ahead` of them asked for at a time."""

    def __init__(self, user: str, wires: Sequence[bytes], ahead: int) -> None:
        self.user, self.wires, self.ahead = user, wires, ahead

    def run(self, server: Server) -> float:
        """Seconds of server CPU per message. Raises AssertionError for a wrong octet."""
        with server.login(self.user) as sock:
            self._fetch(sock, 1)  # what a first message alone costs is the login's
            before = server.cpu_seconds()
            count = 0
            for start in range(2, len(self.wires) + 1, self.ahead):
                count += self._fetch(sock, *range(start, min(start + self.ahead, len(self.wires) + 1)))
            spent = server.cpu_seconds() - before
            sock.sendall(b"QUIT\r\n")
            sock.recv(100)
        return spent / count

    def _fetch(self, sock: socket.socket, *numbers: int) -> int:
        sock.sendall(b"".join(b"RETR %d\r\n" % number for number in numbers))
        data = bytearray()
        for number in numbers:
            wire = self.wires[number - 1]
            while (end := data.find(b"\n")) < 0 or len(data) < end + 1 + len(wire):
                received = sock.recv(1 << 18)
                assert received, "the server closed the connection"
                data += received
            assert data.startswith(b"+OK"), bytes(data[:100])
            with memoryview(data) as view:
                assert view[end + 1 : end + 1 + len(wire)] == wire, f"message {number} is not what is in the file"
            del data[: end + 1 + len(wire)]
        assert not data
        return len(numbers)


def _print_table(title: str, rows: Mapping[str, Sequence[float]], columns: Sequence[str]) -> None:
    """Values of each server, and ours in units of each of the others."""
    ratios = "".join(f"{'of ' + name.rpartition(' ')[2]:>10}" for name in columns[1:])
    print(f"{title:40}" + "".join(f"{name:>16}" for name in columns) + ratios)
    for row, values in rows.items():
        shown = "".join(f"{value:16.2f}" for value in values)
        print(f"{row:40}{shown}" + "".join(f"{values[0] / value:10.2f}" for value in values[1:]), flush=True)


def cpu(work: pathlib.Path, rounds: int, names: Sequence[str]) -> None:
    """CPU per message."""
    mail = work / "mail"
    sizes = random.Random(1)
    small = [_text(int(sizes.lognormvariate(0, 0.8) * _MEDIAN), number) for number in range(_SMALL)]
    _deliver(mail / "small", small)
    wires = [_wire(message) for message in small]
    loads = {
        "RETR 6 KB, one at a time": Load("small", wires, 1),
        "RETR 6 KB, pipelined by 10": Load("small", wires, 10),
    }
    for name, (octets, count) in _LARGE.items():
        message = _text(octets, 0)
        user = name.replace(" ", "").lower()
        _deliver(mail / user, [message] * (count + 1))
        loads[f"RETR {name}"] = Load(user, [_wire(message)] * (count + 1), 1)
    hand_over(mail)
    results: dict[str, dict[str, list[float]]] = {load: {name: [] for name in names} for load in loads}
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(name, mail, work)) for name in names]
        for _ in range(rounds):
            for title, load in loads.items():
                for server in servers:
                    results[title][server.name].append(load.run(server) * 1e6)
    rows = {title: [statistics.median(result[name]) for name in names] for title, result in results.items()}
    _print_table("server CPU, microseconds per message", rows, names)


def memory(work: pathlib.Path, names: Sequence[str]) -> None:
    """What sessions whose clients read 1 kB/s of 20 MB hold above idle ones."""
    mail = work / "slow"
    for number in range(_SLOW_READERS):
        _deliver(mail / f"u{number}", [])
        for nth, octets in enumerate((20_000_000, 6_000, 6_000, 6_000), 1):
            (mail / f"u{number}" / "cur" / f"{1_700_000_000 + nth}.host:2,S").write_bytes(_text(octets, nth))
    hand_over(mail)
    rows: dict[str, list[float]] = {"idle, logged in": [], "reads 1 kB/s of 20 MB, above idle": [], "at most": []}
    for name in names:
        with serving(name, mail, work) as server, ExitStack() as stack:
            server.login("u0").close()  # what a first session loads is the server's
            time.sleep(1)
            bare = server.memory()
            socks = [
                stack.enter_context(server.login(f"u{number}", receive_buffer=4096)) for number in range(_SLOW_READERS)
            ]
            idle = server.memory()
            for sock in socks:
                sock.sendall(b"RETR 1\r\n")
            seen = []
            for _ in range(5):
                for sock in socks:
                    assert sock.recv(1000)
                time.sleep(1)
                seen.append(server.memory())
            grown = (idle - bare, statistics.median(seen) - idle, max(seen) - idle)
            for row, above in zip(rows.values(), grown, strict=True):
                row.append(above / 1024 / _SLOW_READERS)
    _print_table("memory of a session, kB", rows, names)


@contextmanager
def _beside(work: Callable[[], None]) -> Iterator[None]:
    """Runs a function in a process of its own, killed at the end of the block."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the load broke off"
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _again_and_again(sock: socket.socket, request: bytes) -> None:
    while True:
        sock.sendall(request)
        tail = b""
        while tail != b"\r\n.\r\n":
            data = sock.recv(1 << 18)
            assert data
            tail = (tail + data[-5:])[-5:]


def answers(work: pathlib.Path, names: Sequence[str]) -> None:
    """NOOP beside a listing of 100,000 messages and a message of 200 MB."""
    mail = work / "load"
    for user in ("lister", "reader", "asker"):
        make_maildir(mail / user)
    message = _text(1_000, 1)
    for number in range(_LISTED):
        path = mail / "lister" / "cur" / f"{1_700_000_000 + number}.M{number}P1.host,S={len(message)}:2,S"
        if number % _LINKS == 0:
            first = path
            path.write_bytes(message)
        else:
            os.link(first, path)
    (mail / "reader" / "cur" / "1700000000.host:2,S").write_bytes(_text(200_000_000, 1))
    hand_over(mail)
    titles = ("median", "99 %", "worst", "answers")
    print(f"{'NOOP beside LIST and RETR, milliseconds':40}" + "".join(f"{title:>10}" for title in titles))
    for name in names:
        with serving(name, mail, work) as server, ExitStack() as stack:
            lister, reader, asker = (stack.enter_context(server.login(user)) for user in ("lister", "reader", "asker"))
            for beside in (False, True):
                with ExitStack() as loads:
                    if beside:
                        loads.enter_context(_beside(partial(_again_and_again, lister, b"LIST\r\n")))
                        loads.enter_context(_beside(partial(_again_and_again, reader, b"RETR 1\r\n")))
                    times = sorted(_ask(asker, _SECONDS if beside else 2.0))
                figures = (statistics.median(times), times[len(times) * 99 // 100], times[-1], float(len(times)))
                title = f"{name}, {'beside both' if beside else 'alone'}"
                print(f"{title:40}" + "".join(f"{figure:10.2f}" for figure in figures), flush=True)


def _ask(sock: socket.socket, seconds: float) -> list[float]:
    """Milliseconds of NOOPs, one after the other."""
    end, times = time.perf_counter() + seconds, []
    while (before := time.perf_counter()) < end:
        sock.sendall(b"NOOP\r\n")
        assert sock.recv(100).startswith(b"+OK")
        times.append((time.perf_counter() - before) * 1_000)
        time.sleep(0.001)
    return times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.retrieval", allow_abbrev=False)
    parser.add_argument("rounds", type=int, nargs="?", default=5, help="default: 5")
    parser.add_argument("--only", choices=["cpu", "memory", "answers"], help="one part of it")
    parser.add_argument("--alone", action="store_true", help="without Dovecot")
    arguments = parser.parse_args()
    names = [OURS] if arguments.alone else list(NAMES)
    parts: dict[str, Callable[[pathlib.Path], None]] = {
        "cpu": lambda work: cpu(work, arguments.rounds, names),
        "memory": lambda work: memory(work, names),
        "answers": lambda work: answers(work, names),
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            with directory() as work:
                part(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
