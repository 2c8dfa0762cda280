"""Strategies: each produces all that it says, and shrinks to what a person would have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from trio_pop3.sansio import (
    COMMANDS,
    BadCommand,
    Greeting,
    Ok,
    Pop3Connection,
    Profile,
    Role,
    State,
)
from trio_pop3.testing import (
    canonical,
    chunkings,
    command_lines,
    dialogues,
    disconnects,
    hostile_lines,
    login_lines,
    mail_lines,
    maildrops,
    malformed_lines,
    messages,
    near_lines,
)
from trio_pop3.testing import strategies as ours

T = TypeVar("T")
USERS = [("alice", "secret"), ("bob", "hidden")]
# The same search each time.
ALWAYS = settings(
    max_examples=3_000, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def found(strategy: SearchStrategy[T], condition: Callable[[T], Any] = lambda _: True) -> T:
    """The simplest that Hypothesis finds; raises NoSuchExample if there is none."""
    return find(strategy, condition, settings=ALWAYS)


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        b"\r\n", b"\n", b"\r", b".", b"\0", b"\xff", b"\xc3\xbc", b"\r\n.\r\n", b"\n.\n", b"..", b" \r\n",
        b"Subject: x\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("huge", [True, False])
def test_messages_of_every_kind(kind: bytes, huge: bool) -> None:
    """Every line end, dots everywhere, NUL, 8-bit: and found with it, there is little else."""
    assert len(found(messages(huge=huge), lambda message: kind in message)) <= len(kind) + 6


@pytest.mark.parametrize("least", [999, 60_000])
def test_huge_messages(least: int) -> None:
    assert found(messages().map(len), lambda octets: octets > least)
    longest_line = messages().map(lambda message: max(map(len, message.split(b"\r\n"))))
    assert found(longest_line, lambda octets: octets > least)


@given(messages(huge=False))
def test_messages_that_are_not_huge(message: bytes) -> None:
    assert len(message) <= 30 * len(b"Subject: x\r\n\r\n")


@pytest.mark.parametrize("huge", [True, False])
def test_messages_shrink(huge: bool) -> None:
    some = messages(huge=huge)
    assert found(some) == b""
    assert found(some, lambda message: b"." in message) == b"."
    assert found(some, lambda message: message and not message.endswith(b"\n")) == b"x"
    assert len(found(some, lambda message: canonical(message).count(b"\r\n") > 1)) <= 6
    assert len(found(some, lambda message: len(message) > 2)) <= 6


def test_maildrops() -> None:
    assert found(maildrops()) == []
    assert found(maildrops(), lambda mail: len(mail) > 1) == [b"", b""]
    assert found(maildrops(), lambda mail: len(mail) == 4 and len(set(mail)) == 4)
    assert found(maildrops(max_size=9), lambda mail: len(mail) == 9) == [b""] * 9


@given(maildrops(max_size=2))
def test_maildrops_are_as_large_as_they_may(mail: list[bytes]) -> None:
    assert len(mail) <= 2


# --- lines -----------------------------------------------------------------------------------------------------------

# What leaves a session in TRANSACTION.
MAIL_VERBS = sorted(
    {
        row.verb
        for row in COMMANDS
        if any(State.TRANSACTION in steps for steps in (row.steps, row.lenient)) and row.verb != b"QUIT"
    }
)


@pytest.mark.parametrize("verb", MAIL_VERBS)
def test_mail_lines_have_every_command(verb: bytes) -> None:
    line = found(mail_lines(), lambda line: line.split(b" ")[0] == verb)
    assert len(line) <= len(verb) + 4
    assert found(mail_lines([verb.decode()])) == line


def test_mail_lines_have_every_form() -> None:
    for line in (
        b"LIST",
        b"LIST 2",
        b"RETR 0",
        b"RETR 4",
        b"TOP 1 0",
        b"TOP 3 99999999999999999999",
        b"LANG xx",
        b"UIDL 1",
    ):
        assert found(mail_lines(), line.__eq__) == line


@given(mail_lines(["NOOP", "RETR", "QUIT", "USER"]))
def test_mail_lines_are_of_these_verbs_and_about_mail(line: bytes) -> None:
    assert line.split(b" ")[0] in (b"NOOP", b"RETR")


@pytest.mark.parametrize(
    "line",
    [
        b"USER alice", b"USER bob", b"USER nobody", b"PASS secret", b"PASS hidden", b"PASS wrong", b"PASS  ",
        ours.plain("alice", "secret"), ours.plain("bob", "hidden"), ours.plain("nobody", "wrong"), b"AUTH PLAIN",
        b"AUTH", b"AUTH PLAIN =", b"AUTH X-NONE",
    ],
)  # fmt: skip
def test_login_lines(line: bytes) -> None:
    assert found(login_lines(USERS), line.__eq__) == line
    assert found(login_lines(USERS)) == b"USER alice"


@given(login_lines(USERS, ["USER", "PASS"]))
def test_login_lines_for_a_server_without_auth(line: bytes) -> None:
    assert line[:4] in (b"USER", b"PASS")


def test_plain() -> None:
    """PROTOCOL 9."""
    assert ours.plain("test", "test") == b"AUTH PLAIN AHRlc3QAdGVzdA=="


def logged_in(profile: Profile) -> Pop3Connection:
    core = Pop3Connection(Role.SERVER, profile=profile)
    core.next_event()
    core.send(Greeting("hi"))
    for line in (b"USER alice\r\n", b"PASS secret\r\n"):
        core.receive_data(line)
        core.next_event()
        core.send(Ok("fine"))
    assert core.state is State.TRANSACTION
    return core


def is_command(line: bytes, profile: Profile) -> bool:
    core = logged_in(profile)
    core.receive_data(line + b"\r\n")
    return not isinstance(core.next_event(), BadCommand)


@given(malformed_lines(), st.sampled_from(Profile))
def test_malformed_lines_are_no_commands(line: bytes, profile: Profile) -> None:
    assert b"\n" not in line
    assert not is_command(line, profile)


def test_near_lines_are_commands_for_some() -> None:
    """Each for a server that is as lenient as can be; and there are such as only one of our profiles takes."""
    for takers in ([Profile.DEFAULT, Profile.STRICT], [Profile.DEFAULT], []):

        def is_for_them(line: bytes, takers: list[Profile] = takers) -> bool:
            return takers == [profile for profile in (Profile.DEFAULT, Profile.STRICT) if is_command(line, profile)]

        verb = found(near_lines(), is_for_them).upper().split(b" ")[0]
        assert verb in (b"STAT", b"LIST", b"RETR", b"DELE", b"NOOP")


@given(ours.bare_lines())
def test_bare_lines_have_a_bare_lf(line: bytes) -> None:
    assert b"\n" in line.replace(b"\r\n", b"")


def test_other_lines() -> None:
    for line in (b"QUIT", b"STLS", b"UTF8", b"CAPA", b"LAST"):
        assert found(ours.other_lines(), line.__eq__) == line


@given(hostile_lines())
def test_hostile_lines_are_lines(line: bytes) -> None:
    assert b"\r" not in line and b"\n" not in line


def test_hostile_lines_of_every_kind() -> None:
    assert found(hostile_lines()) == b""
    for size in (511, 8_000):
        assert found(hostile_lines().map(len), size.__eq__)
    assert found(hostile_lines(), lambda line: b"\0" in line) == b"\0"
    assert len(found(hostile_lines(), lambda line: any(octet > 0x7F for octet in line))) == 1


@pytest.mark.parametrize("beginning", [b"AUTH PLAIN AAAA", b"PASS xxxxxxxxxx", b"RETR 1111111111"])
def test_commands_that_are_too_long(beginning: bytes) -> None:
    assert found(hostile_lines().map(lambda line: line[:15]), beginning.__eq__)


def test_command_lines_of_every_kind() -> None:
    some = command_lines(USERS)
    assert found(some) == b"STAT"
    for line in (b"USER bob", b"QUIT", b"STAT ", b"XYZZY", b"RETR 1"):
        assert found(some, line.__eq__) == line
    assert found(some.map(len), lambda octets: octets > 7_000)
    assert found(some, lambda line: any(octet > 0x7F for octet in line))


# --- dialogues -------------------------------------------------------------------------------------------------------


def test_dialogues() -> None:
    """They shrink to what matters, with the login if that matters."""
    some = dialogues(USERS)
    assert found(some) == []
    assert found(some, lambda lines: b"DELE 1" in lines) == [b"DELE 1"]
    assert found(some, lambda lines: b"PASS secret" in lines and b"DELE 1" in lines and lines[-1] == b"QUIT") == [
        b"USER alice", b"PASS secret", b"DELE 1", b"QUIT",
    ]  # fmt: skip
    assert found(some, lambda lines: lines[:1] == [ours.plain("alice", "secret")])
    assert found(some, lambda lines: b"QUIT" in lines[:-1])  # more behind it
    assert found(some, lambda lines: lines and lines[-1] != b"QUIT")  # cut off
    assert found(some, lambda lines: b"" in lines or b"XYZZY" in lines)


@given(dialogues(max_size=2))
def test_dialogues_are_as_long_as_they_may(lines: list[bytes]) -> None:
    assert len(lines) <= 2 + 2 + 2
    assert not any(b"\n" in line for line in lines)


# --- the wire --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200).flatmap(lambda data: st.tuples(st.just(data), chunkings(data))))
def test_pieces_are_the_whole(cut: tuple[bytes, list[bytes]]) -> None:
    data, pieces = cut
    assert b"".join(pieces) == data
    assert b"" not in pieces


@given(st.binary(max_size=200), ours.sizes)
def test_pieces_of_one_size(data: bytes, size: int) -> None:
    pieces = ours.cut(data, size)
    assert b"".join(pieces) == data
    assert b"" not in pieces
    assert {len(piece) for piece in pieces[:-1]} <= {size}


def test_chunkings_of_every_kind() -> None:
    data = b"RETR 1\r\nQUIT\r\n"
    assert found(chunkings(data)) == [data]
    assert found(chunkings(data), lambda pieces: len(pieces) == len(data))
    assert found(chunkings(data), lambda pieces: pieces[0] == b"RETR 1\r" and len(pieces) == 2)
    assert found(chunkings(b"")) == []


def test_disconnects() -> None:
    data = b"DELE 1\r\nQUIT\r\n"
    assert found(disconnects(data)) == b""
    for prefix in (b"DELE 1\r\nQUIT", b"DELE 1\r\nQUIT\r", data):
        assert found(disconnects(data), prefix.__eq__) == prefix


@given(st.binary(max_size=60).flatmap(lambda data: st.tuples(st.just(data), disconnects(data))))
def test_a_disconnect_is_a_prefix(cut: tuple[bytes, bytes]) -> None:
    data, sent = cut
    assert data.startswith(sent)
