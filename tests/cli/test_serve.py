"""`trio-pop3 serve` as a person starts and stops it."""

from __future__ import annotations

import os
import poplib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trio_pop3.cli import main
from trio_pop3.cli.directory import make

from ..interop.server import program
from .command import Command


class Running:
    """A server in a process, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def until(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        while not (match := re.search(pattern, self.said)):
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line
        return match

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=40)
        self.said += rest
        return self.process.returncode


@contextmanager
def started(*arguments: object) -> Iterator[Running]:
    command = [sys.executable, "-u", "-m", "trio_pop3", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_nothing_to_a_message(tmp_path: Path, number: signal.Signals) -> None:
    """The first minute of a new user: one command, and the printed curl line fetches the message."""
    with started(tmp_path / "mail", "--listen", "127.0.0.1:0") as server:
        line = server.until(r"curl -s pop3://demo:(\w+)@127\.0\.0\.1:(\d+)/1\n")
        server.until("Ctrl-C stops")
        fetched = subprocess.run(line[0].split(), capture_output=True, check=True).stdout
        assert b"Subject: Welcome\r\n" in fetched
        assert server.stop(number) == 0
        assert "Traceback" not in server.said
        assert server.said.count("reason=quit") == 1
        assert line[1] not in server.said.partition("Ctrl-C stops")[2]  # not in the log
    with started(tmp_path / "mail", "--listen", "127.0.0.1:0") as server:
        server.until("Serving 1 user ")
        assert "password" not in server.said
        assert server.stop() == 0


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_password_that_nobody_can_read_is_not_made(tmp_path: Path, redirection: str, there: bool) -> None:
    """P5: one sentence, and nothing is left."""
    if there:
        (tmp_path / "mail").mkdir()
    command = [sys.executable, "-m", "trio_pop3", "serve", str(tmp_path / "mail"), "--listen", "127.0.0.1:0"]
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "standard output" in done.stderr
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["mail"] * there


def test_several_addresses(tmp_path: Path) -> None:
    make(str(tmp_path / "mail"))
    addresses = ["127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/socket"]
    options = [option for address in addresses for option in ("--listen", address)]
    with started(tmp_path / "mail", *options) as server:
        ports = server.until(r"127\.0\.0\.1:(\d+), \[::1\]:(\d+), unix:")
        server.until("Ctrl-C stops")
        for host, port in (("127.0.0.1", ports[1]), ("::1", ports[2])):
            client = poplib.POP3(host, int(port), timeout=20)
            assert "USER" in client.capa()
            client.quit()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{tmp_path}/socket")
            assert sock.recv(100).startswith(b"+OK")
        assert server.stop() == 0
    assert not (tmp_path / "socket").exists()


def test_existing_mail(tmp_path: Path) -> None:
    """--passwd-file and --maildir, with domains."""
    for part in ("cur", "new", "tmp"):
        (tmp_path / "example.org" / "alice" / "Maildir" / part).mkdir(parents=True)
    (tmp_path / "example.org" / "alice" / "Maildir" / "new" / "1.a.b").write_bytes(b"Subject: here\n\n")
    (tmp_path / "passwd").write_text("alice@example.org:{PLAIN}secret\n")
    pattern = f"{tmp_path}/{{domain}}/{{local}}/Maildir"
    with started("--passwd-file", tmp_path / "passwd", "--maildir", pattern, "--listen", "127.0.0.1:0") as server:
        port = server.until(r"on 127\.0\.0\.1:(\d+)")[1]
        url = f"pop3://127.0.0.1:{port}/1"
        curl = [program("curl"), "-s", "--user", "alice@example.org:secret", url]
        done = subprocess.run(curl, capture_output=True, check=True)
        assert done.stdout == b"Subject: here\r\n\r\n"
        assert server.stop() == 0


def test_a_user_added_while_it_runs(tmp_path: Path) -> None:
    make(str(tmp_path / "mail"))
    with started(tmp_path / "mail", "--listen", "127.0.0.1:0") as server:
        port = int(server.until(r"on 127\.0\.0\.1:(\d+)")[1])
        adding = [sys.executable, "-m", "trio_pop3", "user", "add", str(tmp_path / "mail"), "bob"]
        subprocess.run(adding, input=b"builder\n", check=True, capture_output=True)
        client = poplib.POP3("127.0.0.1", port, timeout=20)
        client.user("bob")
        assert b"0 messages" in client.pass_("builder")
        client.quit()
        assert server.stop() == 0


def test_other_machines_are_warned_of(tmp_path: Path) -> None:
    """G7, P5."""
    make(str(tmp_path / "mail"))
    with started(tmp_path / "mail", "--listen", "0.0.0.0:0") as server:
        server.until("logins from other machines will be refused")
        server.until("Ctrl-C stops")
        assert server.stop() == 0
    with started(tmp_path / "mail", "--listen", "0.0.0.0:0", "--insecure-auth") as server:
        server.until("Ctrl-C stops")
        assert server.stop() == 0
        assert "will be refused" not in server.said


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """SEED 5.4: a session that does not read cannot hold it up."""
    password = make(str(tmp_path / "mail"))
    (tmp_path / "mail" / "mail" / "demo" / "new" / "99999999999.big").write_bytes(b"x\n" * 20_000_000)
    with started(tmp_path / "mail", "--listen", "127.0.0.1:0", "--drain-timeout", "600") as server:
        port = int(server.until(r"on 127\.0\.0\.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(f"USER demo\r\nPASS {password}\r\nRETR 2\r\n".encode())
            seen = b""
            while seen.count(b"octets") < 2:
                seen += sock.recv(10_000)
            server.process.send_signal(signal.SIGTERM)
            server.until("shutting down, 1 connections open")
            assert server.stop() == 0
        assert "reason='cut off'" in server.said


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 2, "name a DIR"),
        (["{}/mail", "--passwd-file", "x", "--maildir", "y"], 2, "only one of DIR, --maildir and --mbox"),
        (["{}/mail", "--passwd-file", "x"], 2, "--passwd-file goes with --maildir or --mbox"),
        (["--passwd-file", "x"], 2, "name a DIR"),
        (["{}/mail", "--listen", "nonsense"], 2, "not an address to listen on: 'nonsense'"),
        (["{}/mail", "--listen", "127.0.0.1:99999"], 2, "not an address"),
        (["{}/mail", "--listen", "192.0.2.1:1110"], 1, "cannot listen on 192.0.2.1:1110"),
        (["{}/mail", "--idle-timeout", "10"], 2, "--idle-timeout must be at least 600"),
        (["{}/mail", "--max-connections", "0"], 2, "--max-connections must be at least 1"),
        (["{}/file", "--listen", "127.0.0.1:0"], 1, "not a directory"),
        (["{}/full", "--listen", "127.0.0.1:0"], 1, "holds no file `users`"),
        (["{}/broken", "--listen", "127.0.0.1:0"], 1, "line 2: unknown password scheme {X}"),
        (["--passwd-file", "{}/none", "--maildir", "/{{user}}", "--listen", "127.0.0.1:0"], 1, "No such file"),
        (["--passwd-file", "{}/broken/users2", "--maildir", "/mail", "--listen", "127.0.0.1:0"], 2, "path pattern"),
        (["{}/file/below", "--listen", "127.0.0.1:0"], 1, "not a directory"),
    ],
)  # fmt: skip
def test_every_failure_is_a_sentence(
    command: Command, tmp_path: Path, arguments: list[str], status: int, complaint: str
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("full", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "something").write_text("")
    (tmp_path / "broken" / "users").write_text("a:{PLAIN}x\nb:{X}y\n")
    (tmp_path / "broken" / "users2").write_text("a:{PLAIN}x\n")
    outcome = command("serve", *(argument.format(tmp_path) for argument in arguments))
    assert (outcome.status, complaint in outcome.err) == (status, True), outcome.err
    assert not (tmp_path / "mail").exists()


def test_a_port_in_use(command: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = command("serve", tmp_path / "mail", "--listen", f"127.0.0.1:{other.getsockname()[1]}")
    assert outcome.status == 1
    assert "address already in use; stop the other server" in outcome.err
    assert not (tmp_path / "mail").exists()


def test_no_permission_for_port_110(tmp_path: Path) -> None:
    """As somebody who may not; in a child, since there is no way back."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        sys.stderr = os.fdopen(writer, "w", buffering=1)
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as start:
            lowest = int(start.read())
        port = min(110, lowest - 1)
        os._exit(main(["serve", "/nonexistent/mail", "--listen", f"127.0.0.1:{port}"]))
    os.close(writer)
    with open(reader) as said:
        complaint = said.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "permission denied; ports below 1024 need" in complaint


def test_version(command: Command) -> None:
    assert re.fullmatch(r"trio-pop3 \d+\.\d+\.\d+\S*\n", command("--version").out)
    assert command().status == 2
    assert "serve" in command("--help").out
