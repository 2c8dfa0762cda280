"""Options of `trio-pop3 check`, and every way in which it cannot check anything."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import trio_pop3.testing
from trio_pop3.cli import main
from trio_pop3.cli.check import selected
from trio_pop3.cli.failure import Failure
from trio_pop3.sansio import Profile
from trio_pop3.testing.checks import CHECKS, Outcome, Verdict
from trio_pop3.testing.checks.properties import PROPERTY_CHECK

from ..server.encrypted import Authority
from ..testing.check_faults import FAULTS, does
from ..testing.faulty_server import OTHER, OTHER_PASSWORD, PASSWORD, USER, Fault, FaultyServer, serving
from .command import Command

SECRETS = (PASSWORD, OTHER_PASSWORD)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def started(authority: Authority, fault: Fault, *, implicit: bool = False) -> Iterator[FaultyServer]:
    def certificate() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.files)
        return context

    with serving(fault, certificate, implicit=implicit, profile=Profile.DEFAULT) as server:
        yield server


@pytest.fixture
def server(authority: Authority) -> Iterator[FaultyServer]:
    """One that is right."""
    yield from started(authority, Fault())


def words(server: FaultyServer, *more: object) -> list[str]:
    login = ["--user", USER, "--password", PASSWORD, "--max-examples", "0", "--timeout", "2"]
    return ["check", f"127.0.0.1:{server.port}", *login, *map(str, more)]


def test_a_server_that_is_right(server: FaultyServer, authority: Authority, command: Command) -> None:
    outcome = command(*words(server, "--second-user", f"{OTHER}:{OTHER_PASSWORD}", "--ca-file", authority.ca_file))
    assert (outcome.status, outcome.err) == (0, "")
    assert ", 0 failed, 0 with a warning," in outcome.out
    assert not any(secret in outcome.out for secret in SECRETS)
    assert "\x1b" not in outcome.out


def test_without_destructive_nothing_is_deleted_or_could_be(server: FaultyServer, command: Command) -> None:
    """Not even asked for: DELE is never sent, and no QUIT behind a RETR."""
    before = server.backend.messages(USER)
    assert command(*words(server)).status == 0
    assert server.backend.messages(USER) == before
    assert not any(b"DELE" in heard.upper() for heard in server.heard)


def test_no_wrong_passwords(server: FaultyServer, command: Command) -> None:
    outcome = command(*words(server, "--no-wrong-passwords"))
    assert outcome.status == 0
    assert "no wrong password is to be sent" in outcome.out
    assert outcome.out.rstrip().endswith("0 with a wrong password")
    assert not any(b"trio-pop3-check-wrong" in heard for heard in server.heard)


@pytest.mark.parametrize(("number", "status"), [("402", 0), ("406", 1)])
def test_a_must_fails_and_a_should_warns(
    number: str, status: int, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    for server in started(authority, FAULTS[number]):
        assert main(words(server, "--only", number)) == status
    out = capsys.readouterr().out
    assert f"{'FAIL' if status else 'warn'} {number} (" in out


@pytest.mark.parametrize(("option", "implicit"), [("--stls", False), ("--tls", True)])
def test_over_tls(option: str, implicit: bool, authority: Authority, command: Command) -> None:
    for server in started(authority, Fault(), implicit=implicit):
        outcome = command(*words(server, option, "--ca-file", authority.ca_file))
        assert (outcome.status, outcome.err) == (0, "")
        assert ", 0 failed, 0 with a warning," in outcome.out
        unknown = command(*words(server, option))
        assert unknown.status == 2
        assert "--ca-file" in unknown.err
        assert command(*words(server, option, "--insecure-tls", "--only", "1xx")).status == 0


def test_a_reset_that_fails_ends_it(server: FaultyServer, command: Command) -> None:
    outcome = command(*words(server, "--destructive", "--skip", "7xx", "--reset", "echo no such thing >&2; exit 3"))
    assert outcome.status == 2
    assert outcome.err == "trio-pop3: --reset failed with status 3: no such thing\n"


def test_a_reset_that_does_not_end_is_ended(
    server: FaultyServer, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("trio_pop3.cli.check_files._RESET_SECONDS", 0.05)
    os.mkfifo(tmp_path / "nobody")
    outcome = command(*words(server, "--destructive", "--skip", "7xx", "--reset", f"cat {tmp_path}/nobody; true"))
    assert outcome.status == 2
    assert outcome.err == "trio-pop3: --reset was not done after 0.05 seconds\n"


def test_a_reset_runs_before_each_check_that_deletes(server: FaultyServer, command: Command, tmp_path: Path) -> None:
    count = tmp_path / "count"
    assert command(*words(server, "--destructive", "--only", "503,504,401", "--reset", f"echo >>{count}")).status == 0
    assert len(count.read_text().splitlines()) == 2


def test_without_reset_checks_use_what_is_there(server: FaultyServer, command: Command) -> None:
    server.backend._mail[USER].clear()
    outcome = command(*words(server, "--destructive", "--only", "5xx"))
    assert outcome.status == 0
    assert "no message in the maildrop" in outcome.out


def test_json_and_junit(server: FaultyServer, command: Command, tmp_path: Path) -> None:
    outcome = command(*words(server, "--only", "1xx", "--json", tmp_path / "j", "--junit", tmp_path / "x", "--seed", 5))
    assert outcome.status == 0
    assert "seed: 5)" in outcome.out
    assert json.loads((tmp_path / "j").read_text())["run"]["seed"] == 5
    for option in ("--json", "--junit"):
        outcome = command(*words(server, "--only", "101", option, tmp_path / "none" / "file"))
        assert (outcome.status, "no such file" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "999"], "--only: no check has the number '999'; see --list"),
        (["--only", "4xx,x"], "--only: no check has the number 'x'"),
        (["--skip", "1"], None),
        (["--only", "101", "--skip", "101"], "leave no check"),
        (["--reset", "true"], "it needs --destructive"),
        (["--timeout", "0"], "--timeout"),
        (["--max-examples", "-1"], "--max-examples"),
        (["--second-user", "bob"], "--second-user"),
        (["--second-user", ":x"], "--second-user"),
        (["--ca-file", "/nonexistent"], "/nonexistent"),
        (["--tls", "--stls"], "not allowed with"),
        (["--password-file", "-"], "not allowed with"),
        (["--profile", "lax"], "invalid choice"),
    ],
)
def test_bad_usage(server: FaultyServer, command: Command, options: list[str], said: str | None) -> None:
    outcome = command(*words(server), *options)
    assert outcome.status == (0 if said is None else 2)
    assert (said or "") in outcome.err
    assert PASSWORD not in outcome.err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:x", "not HOST:PORT"),
        (":110", "not HOST:PORT"),
        ("127.0.0.1:70000", "not HOST:PORT"),
        ("192.0.2.1", "is not this machine; if you may test it, say --not-loopback"),
        ("[2001:db8::1]:110", "2001:db8::1 is not this machine"),
        ("does-not-exist.invalid:110", "cannot find does-not-exist.invalid"),
        ("127.0.0.1:1", "cannot connect to 127.0.0.1:1"),
        ("[::1]:1", "cannot connect to [::1]:1"),
    ],
)
def test_no_server(command: Command, address: str, said: str) -> None:
    outcome = command("check", address, "--user", "u", "--password", "p", "--timeout", "2")
    assert outcome.status == 2
    assert outcome.err.startswith("trio-pop3: ")
    assert said in outcome.err


def test_somebody_who_does_not_speak_pop3(authority: Authority, command: Command) -> None:
    for server in started(authority, Fault(reply=lambda talk, line: b"220 ready\r\n")):
        outcome = command(*words(server))
        assert outcome.status == 2
        assert f"127.0.0.1:{server.port} does not speak POP3" in outcome.err


def test_a_password_that_a_server_gives_back_is_not_shown(authority: Authority, command: Command) -> None:
    """P5: whatever the server says of it."""
    for server in started(authority, does(b"PASS .*", lambda talk, line: b"-ERR " + line + b"\r\n")):
        outcome = command(*words(server))
        assert outcome.status == 2
        assert "refused the login of alice: PASS \\{password}" in outcome.err
    for server in started(authority, does(b"PASS .*", lambda talk, line: line + b"\r\n")):
        outcome = command(*words(server))
        assert outcome.status == 2
        assert 'neither +OK nor -ERR: "PASS \\{password}"' in outcome.err


def test_where_a_password_comes_from(
    server: FaultyServer, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One source, no more and no less."""
    address = f"127.0.0.1:{server.port}"
    base = ["check", address, "--user", USER, "--only", "101", "--max-examples", "0"]
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\r\nnot this\n")
    assert command(*base, "--password-file", file).status == 0
    assert command(*base, "--password-file", "-", stdin=f"{PASSWORD}\n".encode()).status == 0
    assert "give the password in one way" in command(*base).err
    monkeypatch.setenv("TRIO_POP3_PASSWORD", PASSWORD)
    assert command(*base).status == 0
    assert "give the password in one way" in command(*base, "--password", PASSWORD).err
    monkeypatch.delenv("TRIO_POP3_PASSWORD")
    assert command(*base, "--password-file", tmp_path / "none").status == 2
    assert command(*base, "--password", "a\nb").status == 2
    assert "--user is missing" in command("check", address, "--password", "x").err
    assert "HOST:PORT is missing" in command("check", "--user", "x", "--password", "x").err


def test_numbers() -> None:
    assert selected(None, None) == [*CHECKS, PROPERTY_CHECK]
    assert [check.number for check in selected("1xx,404", "103")] == ["101", "102", "104", "105", "106", "404"]
    assert selected("9xx", None) == [PROPERTY_CHECK]
    with pytest.raises(Failure, match="10x"):
        selected("10x", None)


def test_list_needs_no_server(command: Command) -> None:
    outcome = command("check", "--list", "--only", "5xx")
    assert (outcome.status, outcome.err) == (0, "")
    assert all(line.startswith("5") for line in outcome.out.splitlines())


def test_a_terminal_has_colour_and_progress(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(words(server, "--only", "101")) == 0
    shown = capsys.readouterr()
    assert "\x1b[32mok" in shown.out
    assert "[1/1] 101 the server speaks first" in shown.err
    assert shown.err.endswith("\r\x1b[K")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(words(server, "--only", "101")) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_login_delay_is_said_to_take_long(authority: Authority, command: Command) -> None:
    for server in started(authority, Fault(rules={"login_delay": 30})):
        outcome = command(*words(server, "--only", "101"))
        assert outcome.err.startswith("trio-pop3: the server asks for 30 s between logins")
        outcome = command(*words(server, "--only", "401,402", "--ignore-login-delay"))
        assert (outcome.status, outcome.err) == (0, "")


def test_dialogues_need_hypothesis(server: FaultyServer, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other checks do not: `pip install .` is enough for them."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    outcome = command(*words(server, "--only", "101,901"), "--max-examples", "5")
    assert outcome.status == 0
    assert "(needs Hypothesis: pip install 'trio-pop3[check]')" in outcome.out


def test_hypothesis_that_is_there_and_cannot_be_loaded(
    server: FaultyServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_pop3.testing.checks.properties.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(vars(trio_pop3.testing), "machine_for_server", raising=False)
    monkeypatch.delitem(sys.modules, "trio_pop3.testing.machines", raising=False)
    outcome = command(*words(server, "--only", "101,901"), "--max-examples", "5")
    assert outcome.status == 0
    assert "(needs Hypothesis: pip install 'trio-pop3[check]')" in outcome.out


def test_dialogues_are_made_from_the_seed(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = SimpleNamespace()

    def run(settings: object, *, seed: int, max_examples: int) -> Outcome:
        given.seed, given.max_examples = seed, max_examples
        return Outcome(PROPERTY_CHECK, Verdict.FAILED, "it is another one", "C: STAT\nS: -ERR\n")

    monkeypatch.setattr("trio_pop3.cli.check.property_run", run)
    assert main([*words(server, "--only", "101,9xx", "--seed", "11"), "--max-examples", "6"]) == 1
    assert (given.seed, given.max_examples) == (11, 6)
    assert "FAIL 901 (MUST, RFC 1939" in capsys.readouterr().out


def test_ctrl_c(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_pop3.cli.check.run_checks", stopped)
    assert main(words(server)) == 130
