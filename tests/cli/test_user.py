"""`trio-pop3 user`."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

import pytest

from trio_pop3.auth.passwd import parse_users
from trio_pop3.auth.schemes import HASHERS

from .command import Command


def test_a_users_life(command: Command, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    assert command("user", "add", served, "bob", stdin=b"first\n").status == 0
    assert (served / "users").read_text().startswith("bob:{SCRYPT}$scrypt$ln=15,r=8,p=1$")
    assert (served / "users").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (served / "mail" / "bob").iterdir()} == {"cur", "new", "tmp"}
    assert command("user", "list", served).out == "bob\n"
    before = (served / "users").read_text()
    assert command("user", "passwd", served, "bob", stdin=b"second\n").status == 0
    assert (served / "users").read_text() != before
    outcome = command("user", "delete", served, "bob")
    assert "the mail is still in" in outcome.out
    assert (served / "mail" / "bob" / "new").is_dir()
    assert command("user", "list", served).out == ""


def test_a_generated_password_is_shown_once_and_works_in_a_url(command: Command, directory: Path) -> None:
    outcome = command("user", "add", directory, "bob", "--generate")
    password = outcome.out.splitlines()[0].removeprefix("password: ")
    assert len(password) == 16
    assert password.isalnum()
    assert password not in (directory / "users").read_text()


def test_a_password_on_stdin_is_taken_to_the_octet(command: Command, directory: Path) -> None:
    """D3: only the line end is taken off."""
    command("user", "add", directory, "bob", "--scheme", "PLAIN", stdin=b" two  spaces \r\nnext line\n")
    assert "bob:{PLAIN} two  spaces \n" in (directory / "users").read_text()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("caf\u00e9", "caf\u00e9"), ("cafe\u0301", "caf\u00e9"), ("a\u00a0b\u00ad", "a b"), ("\ufb01x", "fix")],
)
def test_a_password_is_kept_as_logins_compare_it(command: Command, directory: Path, typed: str, kept: str) -> None:
    """RFC 6856 section 2.2: a stored string is SASLprep'd."""
    assert command("user", "add", directory, "bob", "--scheme", "PLAIN", stdin=typed.encode()).status == 0
    assert f"bob:{{PLAIN}}{kept}\n" in (directory / "users").read_text()
    assert command("user", "passwd", directory, "bob", stdin=typed.encode()).status == 0
    secret = parse_users((directory / "users").read_text(), "users")["bob"]
    assert secret.is_of(kept.encode())


@pytest.mark.parametrize("scheme", HASHERS)
def test_every_scheme(command: Command, directory: Path, scheme: str) -> None:
    assert command("user", "add", directory, "bob", "--scheme", scheme, stdin=b"secret\n").status == 0
    secret = parse_users((directory / "users").read_text(), "users")["bob"]
    assert secret.scheme == scheme
    assert secret.is_of(b"secret")


def test_a_scheme_whose_extra_is_missing(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argon2.low_level", None)
    outcome = command("user", "add", directory, "bob", "--scheme", "ARGON2ID", stdin=b"secret\n")
    assert outcome.status == 1
    assert "trio-pop3[argon2]" in outcome.err
    assert "bob" not in (directory / "users").read_text()


ODD_NAMES = ["../x", "#c", "a/b", ".", "..", ".hidden", "a:b", "a b", "caf\u00e9", "", "x" * 65]


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        (["add", "alice"], b"x\n", "user alice is there already"),
        (["passwd", "carol"], b"x\n", "no user carol"),
        (["delete", "carol"], b"", "no user carol"),
        (["add", "bob"], b"\n", "must not be empty"),
        (["add", "bob"], b"", "must not be empty"),
        (["add", "bob", "--scheme", "PLAIN"], b"a:b\n", "cannot be stored"),
        (["add", "bob"], b"a\0b\n", "cannot be stored or sent"),
        (["add", "bob"], b"\xff\n", "cannot be stored or sent"),
        (["add", "bob"], "\u00ad\n".encode(), "must not be empty"),
        (["add", "bob"], "\u0221\n".encode(), "cannot be stored or sent"),  # unknown to Unicode 3.2
        (["add", "bob", "--scheme", "PLAIN"], "a\uff1ab\n".encode(), "cannot be stored"),  # becomes a colon
        *((["add", name], b"x\n", "not a user name") for name in ODD_NAMES),
    ],
)  # fmt: skip
def test_what_cannot_be_done(
    command: Command, directory: Path, arguments: list[str], stdin: bytes, complaint: str
) -> None:
    """H11, and one sentence each."""
    before = (directory / "users").read_text()
    action, name, *options = arguments
    outcome = command("user", action, directory, name, *options, stdin=stdin)
    assert outcome.status == 1
    assert complaint in outcome.err
    assert (directory / "users").read_text() == before


def test_a_name_like_an_option_is_one(command: Command, directory: Path) -> None:
    assert command("user", "add", directory, "-x").status == 2
    assert command("user", "add", directory, "--", "-x", stdin=b"x\n").status == 1


def test_a_directory_that_is_not_there(command: Command, tmp_path: Path) -> None:
    outcome = command("user", "list", tmp_path / "missing")
    assert (outcome.status, "no such file" in outcome.err.lower()) == (1, True)


def test_a_bad_line_is_named(command: Command, directory: Path) -> None:
    with (directory / "users").open("a") as users:
        users.write("nonsense\n")
    for action in (["list"], ["add", "bob"]):
        outcome = command("user", action[0], directory, *action[1:], stdin=b"x\n")
        assert "line 2" in outcome.err


@pytest.mark.parametrize(("answers", "status"), [(["one", "one"], 0), (["one", "two"], 1)])
def test_a_terminal_asks_twice(
    command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch, answers: list[str], status: int
) -> None:
    asked = iter(answers)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(asked))
    monkeypatch.setattr(
        "trio_pop3.cli.user.sys", type("Terminal", (), {"stdin": type("In", (), {"isatty": lambda: True})})
    )
    assert command("user", "add", directory, "bob").status == status


def test_no_password_is_shown_for_a_user_who_is_not_added(command: Command, directory: Path) -> None:
    name = command("user", "list", directory).out.split()[0]
    outcome = command("user", "add", directory, name, "--generate")
    assert outcome.status == 1
    assert "password" not in outcome.out


def test_end_of_input_at_the_prompt(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prompt(text: str) -> str:
        raise EOFError

    terminal = type("Terminal", (), {"stdin": type("In", (), {"isatty": lambda: True})})
    monkeypatch.setattr("trio_pop3.cli.user.sys", terminal)
    monkeypatch.setattr(getpass, "getpass", prompt)
    outcome = command("user", "add", directory, "bob")
    assert outcome.status == 1
    assert "no password was given" in outcome.err
