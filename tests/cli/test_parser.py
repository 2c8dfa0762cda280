"""What is wrong with a command line is said in one sentence."""

from __future__ import annotations

import pytest

from .command import Command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["serve", "x", "--newest-days", "x"],
            "--newest-days: a number is needed, not 'x'; see `trio-pop3 serve --help`",
        ),
        (["serve", "x", "--trash-days", "1.5"], "--trash-days: a whole number is needed, not '1.5'"),
        (["serve", "x", "--deletion", "foo"], "--deletion: invalid choice: 'foo' (choose from "),
        (["check", "--timeout", "soon"], "--timeout: a number is needed, not 'soon'; see `trio-pop3 check --help`"),
        (["lock", "list", "--bogus"], "unrecognized arguments: --bogus; see `trio-pop3 lock list --help`"),
        (["undelete", "x", "y", "--since", "foo"], "--since: a time such as 2026-11-25T09:00 is needed, not 'foo'"),
        (["undelete", "x", "y", "--since", "0001-01-01"], "--since: a time such as 2026-11-25T09:00 is needed"),
        (["user"], "the following arguments are required: ACTION; see `trio-pop3 user --help`"),
        ([], "the following arguments are required: COMMAND; see `trio-pop3 --help`"),
    ],
)
def test_one_sentence(command: Command, words: list[str], says: str) -> None:
    outcome = command(*words)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"trio-pop3: {says}")
    assert outcome.err.count("\n") == 1


def test_numbers_are_read(command: Command) -> None:
    """What follows is another complaint."""
    assert "--timeout must be" in command("check", "127.0.0.1", "--user", "x", "--timeout", "1e9").err
