"""`trio-pop3 check` on servers, files and commands that give trouble: what was found is kept, and said in one piece."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

import trio_pop3.testing
from trio_pop3.cli import main
from trio_pop3.sansio import Profile
from trio_pop3.testing.checks import Settings

from ..server.encrypted import Authority
from ..testing.check_faults import does, greets, reads, rewrites, says
from ..testing.faulty_server import OTHER, PASSWORD, USER, Conversation, Fault, FaultyServer, serving
from .command import Outcome

LONG = "Correct-Horse-Battery-Staple-" * 5
Start = Callable[..., FaultyServer]
Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command: here 1 is the status that it mostly ends with."""

    def made(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Outcome(status, *capsys.readouterr())

    return made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with a fault."""
    authority = Authority(tmp_path)
    with ExitStack() as stack:

        def start(fault: Fault | None = None, *, implicit: bool = False, name: str = "127.0.0.1") -> FaultyServer:
            def certificate() -> ssl.SSLContext:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*authority.issue(name, name="another"))
                return context

            return stack.enter_context(
                serving(fault or Fault(), certificate, implicit=implicit, profile=Profile.DEFAULT)
            )

        yield start


def words(server: FaultyServer, *more: object, password: str = PASSWORD) -> list[str]:
    login = ["--user", USER, "--password", password, "--timeout", "1", "--seed", "1", "--max-examples", "2"]
    return ["check", f"127.0.0.1:{server.port}", *login, *map(str, more)]


class Written:
    """Both files that are written."""

    def __init__(self, folder: Path) -> None:
        self.json, self.junit = folder / "results.json", folder / "results.xml"
        self.options = ("--json", self.json, "--junit", self.junit)

    @property
    def stopped(self) -> str:
        return str(json.loads(self.json.read_text())["run"]["stopped"])

    @property
    def verdicts(self) -> dict[str, str]:
        assert ElementTree.parse(self.junit).getroot().get("errors") == str(int(bool(self.stopped)))
        return {check["number"]: check["verdict"] for check in json.loads(self.json.read_text())["checks"]}


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


# --- what was found is kept ------------------------------------------------------------------------------------------


def test_a_server_that_is_gone_in_901(
    start: Start, run: Run, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(settings: Settings) -> None:
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr(Settings, "dial_encrypted", gone)
    assert main(words(start(), "--only", "101,901", *written.options)) == 1
    assert written.verdicts == {"101": "passed", "901": "failed"}
    assert "the connection failed: connection refused" in written.json.read_text()


def test_a_maildrop_that_is_too_large_for_901(start: Start, run: Run, written: Written) -> None:
    server = start()
    for _ in range(60):
        server.backend.deliver(USER, b"Subject: many\r\n\r\n")
    assert run(*words(server, "--only", "101,901", *written.options)).status == 0
    assert written.verdicts == {"101": "passed", "901": "skipped"}
    assert "is too large to try things on; at most 50" in written.json.read_text()


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError(f"what is {PASSWORD}?"), "RuntimeError: what is \\{password}?"),
        (UnicodeEncodeError("utf-8", f"{PASSWORD}\udce4", 10, 11, "surrogates not allowed"), "UnicodeEncodeError"),
    ],
)
def test_whatever_happens_in_901(
    raised: Exception,
    said: str,
    start: Start,
    run: Run,
    written: Written,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_machine(*arguments: object, **options: object) -> object:
        raise raised

    monkeypatch.setattr(trio_pop3.testing, "run_machine", run_machine)
    outcome = run(*words(start(), "--only", "101,901", *written.options))
    assert outcome.status == 2
    assert outcome.err == f"trio-pop3: check 901 could not be made: {said}\n"
    assert "2 checks in " in outcome.out
    assert written.verdicts == {"101": "passed", "901": "skipped"}
    assert written.stopped.endswith(said)


def test_a_server_without_user_is_not_blamed_for_it_in_901(start: Start, run: Run, written: Written) -> None:
    server = start(rewrites(b"CAPA", b"USER\r\n", b""))
    assert run(*words(server, "--only", "101,901", *written.options)).status == 0
    assert written.verdicts == {"101": "passed", "901": "skipped"}


@pytest.mark.parametrize(
    ("only", "made"), [("503,504", {"503": "passed"}), ("503,901", {"503": "passed", "901": "skipped"})]
)
def test_a_reset_that_fails_in_the_middle(
    only: str, made: dict[str, str], start: Start, run: Run, written: Written, tmp_path: Path
) -> None:
    once = f"test ! -e {tmp_path}/once || {{ printf 'a\\n\\033[31mno more\\n' >&2; exit 3; }}; touch {tmp_path}/once"
    outcome = run(*words(start(), "--only", only, "--destructive", "--reset", once, *written.options))
    assert outcome.status == 2
    assert outcome.err == "trio-pop3: --reset failed with status 3: \\x1b[31mno more\n"
    assert written.verdicts == made
    assert "--reset failed" in written.stopped
    assert "503     ok" in outcome.out


def test_ctrl_c_in_901(start: Start, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_pop3.cli.check.property_run", stopped)
    assert main(words(start(), "--only", "101,901", *written.options)) == 130
    assert written.verdicts == {"101": "passed", "901": "skipped"}


def test_results_are_created_before_anything_is_checked(start: Start, run: Run, tmp_path: Path) -> None:
    server = start()
    for option in ("--json", "--junit"):
        outcome = run(*words(server, option, tmp_path / "none" / "file"))
        assert (outcome.status, outcome.out) == (2, "")
        assert "no such file" in outcome.err
    assert not server.heard


@pytest.mark.parametrize("full", ["--json", "--junit"])
def test_a_full_disk_for_one_result_does_not_cost_the_other(
    full: str, start: Start, run: Run, written: Written
) -> None:
    outcome = run(*words(start(), "--only", "101", *written.options, full, "/dev/full"))
    assert outcome.status == 2
    assert outcome.err == "trio-pop3: /dev/full: no space left on device\n"
    assert "1 check in " in outcome.out
    assert (written.junit if full == "--json" else written.json).stat().st_size > 0


# --- what a server says does nothing ---------------------------------------------------------------------------------

NASTY = "\x1b]0;x\x07\x7f\x9b31m".encode("latin-1")
SHOWN = "\\x1b]0;x\\x07\\x7f\\x9b31m"


def test_a_terminal_gets_no_control_characters(start: Start, run: Run, written: Written) -> None:
    fault = greets(b"ready", b"ready " + NASTY)
    server = start(fault)
    server._count = 100  # so that the very first greeting is one
    outcome = run(*words(server, "--only", "101", *written.options))
    assert SHOWN in outcome.out
    assert SHOWN in json.loads(written.json.read_text())["target"]["greeting"]
    refusing = start(says(b"PASS .*", b"-ERR " + NASTY + b"\r\n"))
    outcome = run(*words(refusing))
    assert outcome.err.endswith(f"refused the login of alice: {SHOWN}\n")
    announcing = start(rewrites(b"CAPA", b"TOP\r\n", b"TOP\r\nX-" + NASTY + b"\r\n", inside=False))
    outcome = run(*words(announcing, "--only", "604", *written.options))
    assert outcome.status == 1
    for text in (outcome.out, written.json.read_text(), written.junit.read_text()):
        assert not any(character in text for character in "\x1b\x07\x7f\x9b")


# --- hostile CAPA ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"", b" ", b"\xff", b"LOGIN-DELAY", b"LOGIN-DELAY x", b"LOGIN-DELAY \xb2"])
def test_lines_of_capa_that_mean_nothing(line: bytes, start: Start, run: Run) -> None:
    server = start(rewrites(b"CAPA", b"TOP\r\n", b"TOP\r\n" + line + b"\r\n"))
    outcome = run(*words(server, "--only", "602"))
    assert outcome.status == int(not line.startswith(b"LOGIN-DELAY") or b"\xb2" in line)
    assert "1 check in " in outcome.out


@pytest.mark.parametrize("seconds", [b"61", b"9" * 20, b"9" * 5000, b"1000000", b"0" * 30 + b"99"])
def test_a_login_delay_that_nobody_waits_for(seconds: bytes, start: Start, run: Run) -> None:
    server = start(rewrites(b"CAPA", b"TOP\r\n", b"TOP\r\nLOGIN-DELAY " + seconds + b"\r\n"))
    outcome = run(*words(server, "--only", "401,402"))
    assert outcome.status == 2
    assert "announces LOGIN-DELAY" in outcome.err
    assert "--ignore-login-delay" in outcome.err
    assert len(outcome.err) < 250
    assert run(*words(server, "--only", "401,402", "--ignore-login-delay")).status == 0


# --- --reset ---------------------------------------------------------------------------------------------------------


def test_a_reset_may_leave_something_in_the_background(start: Start, run: Run) -> None:
    """A server, say. It holds what it was started with for output."""
    began = time.monotonic()
    outcome = run(*words(start(), "--only", "503", "--destructive", "--reset", "sleep 20 & exit 0"))
    assert outcome.status == 0
    assert time.monotonic() - began < 10


def test_a_reset_that_is_ended_is_ended_with_what_it_started(
    start: Start, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_pop3.cli.check_files._RESET_SECONDS", 0.3)
    slow = f"sleep 60 & echo $! >{tmp_path}/pid; wait"
    outcome = run(*words(start(), "--only", "503", "--destructive", "--reset", slow))
    assert (outcome.status, outcome.err) == (2, "trio-pop3: --reset was not done after 0.3 seconds\n")
    status = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    assert not status.exists() or ") Z " in status.read_text()


def test_a_reset_that_says_much(start: Start, run: Run) -> None:
    much = "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 3"
    outcome = run(*words(start(), "--only", "503", "--destructive", "--reset", much))
    assert outcome.status == 2
    assert len(outcome.err) < 5000


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["inf", "1e12", "nan", "-1", "0"])
def test_timeouts(seconds: str, start: Start, run: Run) -> None:
    outcome = run(*words(start(), "--timeout", seconds))
    assert outcome.status == 2
    assert outcome.err == "trio-pop3: --timeout must be more than 0 and at most 3600 seconds\n"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:" + "9" * 5000, "[127.0.0.1:110", "127.0.0.1]:110", "[]:110", "127.0.0.1:", "[::1]110", "::1]:110"],
)
def test_no_address(address: str, run: Run) -> None:
    outcome = run("check", address, "--user", "u", "--password", "p")
    assert outcome.status == 2
    assert outcome.err.startswith("trio-pop3: not HOST:PORT: ")
    assert len(outcome.err) < 120


@pytest.mark.parametrize(
    ("address", "shown"),
    [("[::1]:1", "[::1]:1"), ("::1", "[::1]:110"), ("[::1]", "[::1]:110"), ("127.0.0.1", "127.0.0.1:110")],
)
def test_addresses(address: str, shown: str, run: Run) -> None:
    """None of them has a server, or one that we know."""
    outcome = run("check", address, "--user", "u", "--password", "p", "--timeout", "1")
    assert outcome.out.startswith(f"checking {shown} as u ")


def test_a_second_user_with_a_wrong_password_is_a_mistake_and_no_finding(start: Start, run: Run) -> None:
    outcome = run(*words(start(), "--second-user", f"{OTHER}:wrong"))
    assert outcome.status == 2
    assert "refused the login of bob: " in outcome.err


def test_without_reset_it_is_said_what_becomes_of_the_maildrop(start: Start, run: Run) -> None:
    server = start()
    assert "the maildrop is emptied" in run(*words(server, "--only", "101", "--destructive")).out
    assert "is emptied" not in run(*words(server, "--only", "101", "--destructive", "--reset", "true")).out
    assert "is emptied" not in run(*words(server, "--only", "101")).out


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_tls(start: Start, run: Run, tmp_path: Path) -> None:
    clear, secure, ca_file = start(), start(implicit=True), tmp_path / "ca.pem"
    for server, option in ((clear, "--stls"), (secure, "--tls")):
        assert "is not trusted" in run(*words(server, option)).err
        other = start(implicit=option == "--tls", name="other.example")
        outcome = run(*words(other, option, "--ca-file", ca_file))
        assert outcome.status == 2
        assert "is for another name" in outcome.err
        assert "--ca-file" not in outcome.err
    for trust in (["--insecure-tls"], ["--ca-file", ca_file]):
        outcome = run(*words(clear, "--tls", *trust))
        assert outcome.status == 2
        assert outcome.err.endswith(": the server does not speak TLS on this port; --stls?\n")
    outcome = run(*words(secure, "--timeout", "0.2"))
    assert outcome.status == 2
    assert "no greeting" in outcome.err
    assert outcome.err.endswith("if connections begin with TLS there: --tls\n")


def test_stls_that_cannot_be_checked_is_said_so(start: Start, run: Run) -> None:
    outcome = run(*words(start(), "--only", "101,701"))
    assert outcome.status == 0
    assert outcome.err.startswith(
        "trio-pop3: the server announces STLS, which cannot be checked: the certificate is not"
    )
    assert run(*words(start(), "--only", "101")).err == ""


# --- passwords -------------------------------------------------------------------------------------------------------


def test_a_password_that_is_no_utf_8(start: Start, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"w\xf6nd\xe4rland\n")
    server = start(reads(rb"PASS w\xf6nd\xe4rland", lambda line: b"PASS " + PASSWORD.encode()))
    login = ["--user", USER, "--password-file", file, "--max-examples", "0", "--timeout", "1"]
    outcome = run("check", f"127.0.0.1:{server.port}", *login, "--only", "1xx,2xx,4xx", "--verbose")
    assert outcome.status == 1  # of APOP, which has another secret
    assert ", 1 failed, 0 with a warning" in outcome.out
    assert "nd\\xe4r" not in outcome.out
    assert "rland" not in outcome.out


@pytest.mark.parametrize("number", ["204", "205", "215"])
def test_no_part_of_a_long_password_is_shown(number: str, start: Start, run: Run, written: Written) -> None:
    """P5: it is hidden before anything is cut."""

    def login(talk: Conversation, line: bytes) -> bytes:
        right = talk.last.startswith(b"USER") and not talk.inside
        return talk.honest(b"PASS " + PASSWORD.encode()) if right else b"+OK " + line + b"\r\n"

    server = start(does(b"PASS .*", login))
    outcome = run(*words(server, "--only", number, "--verbose", *written.options, password=LONG))
    assert outcome.status == 1
    assert '"PASS \\{password}" was not refused with -ERR' in outcome.out
    for text in (outcome.out, written.json.read_text(), written.junit.read_text()):
        assert "Battery" not in text
        assert "Correct" not in text


# --- nothing is left behind ------------------------------------------------------------------------------------------


def test_901_leaves_nothing_in_the_folder(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "trio_pop3", *words(start(), "--only", "901", "--max-examples", "5")],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert list(folder.iterdir()) == []
