"""One event to octets, and what cannot get out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.sansio import (
    Apop,
    Command,
    Dele,
    Err,
    Greeting,
    List,
    LocalProtocolError,
    Ok,
    Pass,
    Profile,
    ResponseCode,
    Retr,
    Top,
    Uidl,
    User,
)
from trio_pop3.sansio.readers import read_command, read_status
from trio_pop3.sansio.writers import write_command, write_greeting, write_status

from .test_readers import GOOD


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Ok("ready"), b"+OK ready\r\n"),  # R1939-07, R1957-01
        (Err("no"), b"-ERR no\r\n"),
        (Err("busy", ResponseCode.IN_USE), b"-ERR [IN-USE] busy\r\n"),
        (Ok("caf\u00e9"), b"+OK caf\xc3\xa9\r\n"),
    ],
)
def test_status_lines(reply: Ok | Err, line: bytes) -> None:
    assert write_status(reply) == line


@pytest.mark.parametrize("text", ["", "a\r\nb", "a\nb", "a\rb", "a\0b", "[AUTH] no", "\x7f", "\ud800"])
def test_texts_that_could_break_a_line_or_pass_for_a_code_are_refused(text: str) -> None:
    """A11, R2449-15."""
    with pytest.raises(LocalProtocolError):
        write_status(Err(text))


@given(st.text(min_size=1, max_size=700), st.sampled_from([None, *ResponseCode]))
def test_a_status_line_is_one_line_of_at_most_512_octets(text: str, code: ResponseCode | None) -> None:
    """R1939-04, R1939-06, R2449-03, A12: clipped at a character, still UTF-8."""
    try:
        line = write_status(Err(text, code))
    except LocalProtocolError:
        return
    assert len(line) <= 512
    assert line.count(b"\n") == line.count(b"\r") == 1
    assert line.endswith(b"\r\n")
    line.decode("utf-8")
    assert read_status(line[:-2]).code is code


@pytest.mark.parametrize("pad", range(4))
def test_a_clipped_line_ends_at_a_character(pad: int) -> None:
    """R1939-06."""
    line = write_status(Ok("x" * pad + "\u20ac" * 300))
    assert 508 < len(line) <= 512
    assert line.decode("utf-8").endswith("\u20ac\r\n")


@pytest.mark.parametrize(("line", "command"), GOOD)
def test_commands_are_read_back(line: bytes, command: Command) -> None:
    """R1939-04, R1939-05, R1939-75: what a client writes is what a server reads."""
    if isinstance(command, Top) and command.lines >= 10**10:
        return  # only a reader makes such a number
    written = write_command(command, space_in_user=False)
    assert written.endswith(b"\r\n")
    assert read_command(written[:-2], profile=Profile.STRICT, space_in_user=False) == command


def test_the_digest_is_sent_in_lower_case() -> None:
    """R1939-75."""
    assert write_command(Apop("a", b"\xab" * 16), space_in_user=False) == b"APOP a " + b"ab" * 16 + b"\r\n"


@pytest.mark.parametrize(
    "command",
    [
        User(""), User("a b"), User("a\r\nQUIT"), User("\u00e9"), Pass(b""), Pass(b"a\r\nQUIT"), Pass(b"a\0"),
        Apop("a", b"short"), Apop("a b", bytes(16)), Retr(-1), Dele(10**10), List(-1), Uidl(10**10),
        Top(1, -1), Top(-1, 1),
    ],
)  # fmt: skip
def test_commands_that_cannot_be_sent(command: Command) -> None:
    with pytest.raises(LocalProtocolError) as failure:
        write_command(command, space_in_user=False)
    if isinstance(command, Pass):
        assert command.password.decode() not in str(failure.value) or not command.password


def test_a_user_name_with_spaces_where_it_is_allowed() -> None:
    assert write_command(User("a b"), space_in_user=True) == b"USER a b\r\n"


def test_greetings() -> None:
    """R1939-02, R1939-73."""
    assert write_greeting(Greeting("hello")) == b"+OK hello\r\n"
    assert write_greeting(Greeting("hello", "<1@h>")) == b"+OK hello <1@h>\r\n"


@pytest.mark.parametrize(
    "greeting",
    [
        Greeting("see <a@b>"),  # would offer APOP
        Greeting("see <a@b>", "<1@h>"),
        Greeting("hello", "1@h"),
        Greeting("hello", "<1@h> <2@h>"),
        Greeting("x" * 600, "<1@h>"),  # the timestamp would be cut
        Greeting("a\r\nb"),
        Greeting(""),
    ],
)
def test_greetings_that_cannot_be_sent(greeting: Greeting) -> None:
    with pytest.raises(LocalProtocolError):
        write_greeting(greeting)
