"""What the network and the machine do to a server: resets, halves, floods, kill -9. The real command, real sockets."""

from __future__ import annotations

import contextlib
import os
import poplib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .server import PASSWORD, USER, Mail, Served, message, serving

Dial = Callable[[Served], socket.socket]
LOGIN = f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode()
CONTENTS = [message(f"m{n}", b"body %d\n" % n * 50) for n in range(1, 7)]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    mail = Mail(tmp_path / "served")
    for content in CONTENTS:
        mail.put(content)
    with serving(mail) as server:
        yield server


def connect(server: Served) -> socket.socket:
    """A raw connection, greeting read."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    assert read_until(sock, b"\r\n").startswith(b"+OK")
    return sock


@pytest.fixture
def dial() -> Iterator[Dial]:
    """`connect`, with everything closed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(contextlib.closing(connect(server)))


def read_until(sock: socket.socket, end: bytes, count: int = 1) -> bytes:
    """Read until `end` was seen so many times."""
    seen = bytearray()
    while seen.count(end) < count:
        data = sock.recv(1 << 16)
        assert data, bytes(seen[-500:])
        seen += data
    return bytes(seen)


def read_all(sock: socket.socket) -> bytes:
    """Read until the server closes."""
    seen = bytearray()
    while data := sock.recv(1 << 16):
        seen += data
    return bytes(seen)


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def assert_serves(server: Served, held: int = len(CONTENTS)) -> None:
    """The next client finds the maildrop unlocked and whole."""
    client = poplib.POP3("127.0.0.1", server.port, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    assert client.stat()[0] == held
    client.quit()


@pytest.mark.parametrize("sent", [b"", b"USER alice", LOGIN, LOGIN + b"DELE 1\r\n", LOGIN + b"DELE 1\r\nRETR 2\r\nQUI"])
def test_reset_at_any_time_loses_nothing_and_nobody_else_notices(served: Served, sent: bytes, dial: Dial) -> None:
    """E1, I5, R1939-51."""
    sock = dial(served)
    sock.sendall(sent)
    if sent.startswith(LOGIN):
        read_until(sock, b"\r\n", 2)
    reset(sock)
    wait_until_unlocked(served)
    assert_serves(served)
    assert len(served.mail.held()) == len(CONTENTS)


def wait_until_unlocked(server: Served) -> None:
    """A reset reaches the server when the kernel says so: ask until the lock is free. Bounded by the socket timeout."""
    for _ in range(2000):
        with connect(server) as sock:
            sock.sendall(LOGIN)
            if read_until(sock, b"\r\n", 2).count(b"+OK") == 2:
                sock.sendall(b"QUIT\r\n")
                read_until(sock, b"\r\n")
                return
    raise AssertionError("the lock was not given back")


def test_half_close_answers_what_was_sent(served: Served, dial: Dial) -> None:
    """A-34: complete lines are answered, a half one is not a command (A-33): nothing is deleted."""
    sock = dial(served)
    sock.sendall(LOGIN + b"DELE 1\r\nSTAT\r\nQUIT")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock).count(b"+OK") == 4
    assert_serves(served)


def test_half_close_after_quit_still_deletes(served: Served, dial: Dial) -> None:
    """A-33: QUIT was complete, so UPDATE happens."""
    sock = dial(served)
    sock.sendall(LOGIN + b"DELE 1\r\nQUIT\r\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock).count(b"+OK") == 4
    assert_serves(served, len(CONTENTS) - 1)


def test_one_octet_per_segment(served: Served, dial: Dial) -> None:
    """D5."""
    sock = dial(served)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in LOGIN + b"STAT\r\nRETR 3\r\nQUIT\r\n":
        sock.sendall(bytes([octet]))
    assert CONTENTS[2].replace(b"\n", b"\r\n") + b".\r\n" in read_all(sock)


def test_ten_megabytes_without_a_line_end(served: Served, dial: Dial) -> None:
    """I1, A-04: one -ERR, then the end; the server holds none of it and the next client is served."""
    sock = dial(served)
    before = resident(served)
    try:
        for _ in range(160):
            sock.sendall(b"A" * 65536)
        reply = read_all(sock)
    except (ConnectionResetError, BrokenPipeError):
        reply = b"-ERR"
    assert reply.startswith(b"-ERR")
    assert reply.count(b"-ERR") == 1
    assert resident(served) - before < 4_000_000
    assert_serves(served)


def test_an_overlong_line_costs_one_error_and_its_tail_is_not_executed(served: Served, dial: Dial) -> None:
    """I1."""
    sock = dial(served)
    sock.sendall(LOGIN + b"NOOP " + b"x" * 4000 + b" DELE 1\r\nSTAT\r\nQUIT\r\n")
    replies = read_all(sock).splitlines()
    assert [line[:4] for line in replies] == [b"+OK ", b"+OK ", b"-ERR", b"+OK ", b"+OK "]
    assert replies[3].split()[1] == b"%d" % len(CONTENTS)


def test_ten_thousand_noops_beside_a_second_client(served: Served, dial: Dial) -> None:
    """P4, R2449-24: everything is answered, in order, and the second client does not wait for it."""
    flood = dial(served)
    flood.sendall(LOGIN)
    read_until(flood, b"\r\n", 2)
    other = dial(served)
    answered = threading.Event()

    def read_replies() -> None:
        read_until(flood, b"\r\n", 10_000)
        answered.set()

    reader = threading.Thread(target=read_replies)
    reader.start()
    flood.sendall(b"NOOP\r\n" * 10_000)
    other.sendall(b"CAPA\r\n")
    assert b"UIDL\r\n" in read_until(other, b"\r\n.\r\n")
    reader.join(timeout=60)
    assert answered.is_set()
    flood.sendall(b"QUIT\r\n")
    assert read_all(flood).startswith(b"+OK")


def test_a_client_that_sends_and_never_reads_is_stopped_by_its_own_window(tmp_path: Path, dial: Dial) -> None:
    """I3: memory stays bounded while replies cannot leave."""
    mail = Mail(tmp_path / "served")
    mail.put(message("big", b"0123456789" * 7 + b"\n") + b"filler line of mail, to be sent many times over\n" * 100_000)
    with serving(mail) as server:
        sock = dial(server)
        sock.sendall(LOGIN)
        read_until(sock, b"\r\n", 2)
        before = resident(server)
        sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 50_000_000:
                sent += sock.send(b"RETR 1\r\n" * 4096)
        assert sent < 20_000_000
        with connect(server) as other:
            other.sendall(b"CAPA\r\n")
            read_until(other, b"\r\n.\r\n")
        assert resident(server) - before < 8_000_000
        reset(sock)


def resident(server: Served) -> int:
    """Octets of memory the server occupies."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_kill_9_between_dele_and_quit(tmp_path: Path, dial: Dial) -> None:
    """P1, E1: nothing is gone, and the next login works at once."""
    mail = Mail(tmp_path / "served")
    for content in CONTENTS:
        mail.put(content)
    held = mail.held()
    with serving(mail) as server:
        sock = dial(server)
        sock.sendall(LOGIN + b"DELE 1\r\nDELE 2\r\n")
        read_until(sock, b"\r\n", 4)
        server.kill()
    assert mail.held() == held
    with serving(mail) as server:
        assert_serves(server)


@pytest.mark.parametrize("gone", [0, 1, 40, 150])
def test_kill_9_during_quit(tmp_path: Path, gone: int, dial: Dial) -> None:
    """P1, E6: killed when so many files were seen to be gone: unmarked mail is whole, marked mail is whole or gone."""
    mail = Mail(tmp_path / "served")
    everything = {mail.put(message(f"m{n}", b"%d\n" % n)): n for n in range(1, 401)}
    held = mail.held()
    with serving(mail) as server:
        sock = dial(server)
        sock.sendall(LOGIN + b"".join(b"DELE %d\r\n" % n for n in range(1, 401, 2)))
        read_until(sock, b"\r\n", 2 + 200)
        sock.sendall(b"QUIT\r\n")
        while len(os.listdir(mail.maildir / "new")) > 400 - gone:
            pass
        server.kill()
    left = mail.held()
    assert {base for base in held if base not in left} <= {base for base, n in everything.items() if n % 2}
    assert all(held[base] == content for base, content in left.items())
    with serving(mail) as server:
        assert_serves(server, len(left))
