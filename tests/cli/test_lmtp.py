"""`trio-pop3 serve --lmtp` as a person starts and stops it; what a mail system was told is true, however it ends."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_pop3.cli import main

from .command import Command
from .test_serve import Running, started

BEGIN = b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice@x.org>\r\nDATA\r\n"


class Client:
    """A mail system of few words, which has said everything up to the message."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.heard = self.socket.makefile("rb")
        self.socket.sendall(BEGIN)
        assert re.search(rb"\r\n354 ", b"".join(self.heard.readline() for _ in range(10)))

    def send(self, octets: bytes) -> bytes:
        """And what was said then, if anything."""
        self.socket.sendall(octets)
        return self.heard.readline()

    def close(self) -> None:
        self.heard.close()
        self.socket.close()


@pytest.fixture
def served(directory: Path) -> Iterator[tuple[Running, Path]]:
    path = directory.with_name("s")
    with started(directory, "--listen", "127.0.0.1:0", "--lmtp", f"unix:{path}", "--local-part") as server:
        server.until("LMTP at unix:.*/s\\. Ctrl-C stops")
        yield server, path


def held(directory: Path) -> list[Path]:
    return [*(directory / "mail" / "alice" / "new").iterdir()]


def test_sigterm_in_a_message(served: tuple[Running, Path], directory: Path) -> None:
    """P1: it is finished and acknowledged; then both servers are gone, and the socket too."""
    server, path = served
    client = Client(path)
    client.socket.sendall(b"x\r\n" * 200_000)
    server.process.send_signal(signal.SIGTERM)
    server.until("shutting down, 1 connections open")
    assert client.send(b"\r\n.\r\n").startswith(b"250 ")
    assert client.heard.readline().startswith(b"421 ")
    client.close()
    assert server.stop() == 0
    assert len(held(directory)) == 1
    assert not path.exists()


def test_a_second_signal_in_a_message(served: tuple[Running, Path], directory: Path) -> None:
    """P1: refused before any reply, and nothing is left."""
    server, path = served
    client = Client(path)
    client.socket.sendall(b"x\r\n" * 200_000)
    server.process.send_signal(signal.SIGTERM)
    server.until("shutting down, 1 connections open")
    server.process.send_signal(signal.SIGTERM)
    assert client.heard.readline().startswith(b"421 ")
    client.close()
    assert server.process.wait(timeout=20) == 0
    assert not [*(directory / "mail" / "alice" / "tmp").iterdir(), *held(directory)]


def test_one_users_file_for_both_servers(directory: Path) -> None:
    """What is wrong with it is said once, and each server says for itself that it stops."""
    (directory / "users").chmod(0o644)
    path = directory.with_name("s")
    with started(directory, "--listen", "127.0.0.1:0", "--lmtp", f"unix:{path}", "--local-part") as server:
        server.until("Ctrl-C stops")
        (directory / "users").unlink()
        for _ in range(2):
            client = Client(path)
            client.close()
        port = int(server.until(r"listening on 127\.0\.0\.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as pop3:
            pop3.sendall(b"USER alice\r\nPASS secret\r\nQUIT\r\n")
            assert b"\r\n+OK" in b"".join(iter(lambda: pop3.recv(4096), b""))
        server.process.send_signal(signal.SIGTERM)
        server.until(f"shutting down, 0 connections open on unix:{path}\n")
        server.until(f"shutting down, 0 connections open on 127.0.0.1:{port}\n")
        assert server.process.wait(timeout=20) == 0
    assert server.said.count("can be read by every user") == 1
    assert server.said.count("the users known so far stay") == 1


@pytest.mark.parametrize("after", [1, 4, 9])
def test_kill_9(served: tuple[Running, Path], directory: Path, after: int) -> None:
    """P1: what was answered 250 is there, whole; one more may be, that could not be answered any more."""
    server, path = served
    for _ in range(after):
        client = Client(path)
        assert client.send(b"Subject: whole\r\n" + b"y" * 100_000 + b"\r\n.\r\n").startswith(b"250 ")
        client.close()
    client = Client(path)
    client.socket.sendall(b"Subject: whole\r\n" + b"y" * 100_000 + b"\r\n.\r\n")
    server.process.kill()
    server.process.wait(timeout=20)
    client.close()
    assert after <= len(held(directory)) <= after + 1
    assert all(file.read_bytes().endswith(b"Subject: whole\n" + b"y" * 100_000 + b"\n") for file in held(directory))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--lmtp", "0.0.0.0:0"], "LMTP is for this machine only, .* allow it (--lmtp-insecure-network)"),
        (["--lmtp", "127.0.0.1:0,tls"], "LMTP is served without TLS"),
        (["--lmtp", "nonsense"], "not an address to listen on"),
        (["--lmtp", "127.0.0.1:0", "--quota", "x"], "--quota is a number of octets"),
        (["--lmtp", "127.0.0.1:0", "--lmtp-max-size", "0"], "--lmtp-max-size is a number of octets"),
        (["--lmtp", "127.0.0.1:0", "--lmtp-max-connections", "0"], "--lmtp-max-connections must be at least 1"),
        (["--lmtp", "unix:x,mode=9999"], "a mode is three or four octal digits, as mode=660"),
        (["--lmtp-max-connections", "-3"], "--lmtp-max-connections is for mail that comes by --lmtp"),
        (["--lmtp-max-size", "1M"], "--lmtp-max-size is for mail that comes by --lmtp"),
        (["--lmtp-insecure-network"], "--lmtp-insecure-network is for mail that comes by --lmtp"),
        (["--quota", "5M"], "--quota is for mail that comes by --lmtp"),
        (["--quota-bounce"], "--quota-bounce is for mail that comes by --lmtp"),
        (["--local-part"], "--local-part is for mail that comes by --lmtp"),
        (["--extension-separator", "+"], "--extension-separator is for mail that comes by --lmtp"),
    ],
)
def test_words_that_make_no_sense(
    words: list[str],
    why: str,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(directory.parent)  # where a socket would be
    capsys.readouterr()
    assert main(["serve", str(directory), "--listen", "127.0.0.1:0", *words]) == 2
    err = capsys.readouterr().err
    assert re.search(why.replace("(", r"\(").replace(")", r"\)"), err), err
    assert err.count("\n") == 1
