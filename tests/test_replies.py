"""Somebody else's words made into reply texts, and listings by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.replies import ENCRYPT_FIRST, NOT_IN_CLEAR, Listing, failure_reply, safe_text
from trio_pop3.sansio import Pop3Connection, ResponseCode, Role

from .driving import run

SYS_TEMP = ResponseCode.SYS_TEMP


class Unspeakable:
    def __str__(self) -> str:
        raise OSError("no words")


class Homemade(be.TemporaryFailure):
    text = "[ [\r\n"


def on_the_wire(failure: be.BackendError) -> bytes:
    return Pop3Connection(Role.SERVER).send(failure_reply(failure))


@given(st.text(st.sampled_from("[ \r\n\t\x00\x7f\x85\u2028\u3000\ud800]ab") | st.characters(), max_size=600))
@example("[ [AUTH] x")
@example("\r\n [\t[SYS/PERM] x")
@example("é" * 600)
def test_any_text_is_one_line_and_no_code(text: str) -> None:
    """A11, A12, A-41, R2449-15, R1939-06: what the backend says is neither a line end nor a response code."""
    assert safe_text(text, "default")
    line = on_the_wire(be.PermanentFailure(text))
    assert line.startswith(b"-ERR [SYS/PERM] ")
    assert line[16:17] not in (b"[", b"\r")
    assert line.index(b"\r\n") == len(line) - 2 <= 510
    assert line.count(b"\n") == line.count(b"\r") == 1


def test_a_text_loses_what_would_be_a_code_and_no_more() -> None:
    """A11, R2449-15."""
    assert safe_text(" [ [XYZ] no\r\nmore ", "default") == "XYZ] no more"
    assert safe_text("[ \r\n", "default") == "default"


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (be.TemporaryFailure(Unspeakable()), b"temporary failure, try again later"),
        (Homemade(), b"request failed"),
    ],
)
def test_what_cannot_be_said_gets_a_text_all_the_same(failure: be.BackendError, text: bytes) -> None:
    """A11: texts of classes are somebody else's, too, and a failure can be made of anything."""
    assert on_the_wire(failure) == b"-ERR [SYS/TEMP] " + text + b"\r\n"


def homemade(code: Any, text: Any) -> be.BackendError:
    class Strange(be.BackendError):
        pass

    Strange.code = code
    Strange.text = text
    return Strange()


@pytest.mark.parametrize("login", [True, False])
@pytest.mark.parametrize("text", [None, 7, b"bytes", "", "[x]", "two\r\nlines", "\ud800", Unspeakable()])
@pytest.mark.parametrize("code", [None, *ResponseCode, "AUTH", 7, [], ResponseCode])
def test_failures_of_other_peoples_classes(code: Any, text: Any, login: bool) -> None:
    """A11, H9, R2449-15, R2449-16, R2449-40, R2449-42, R3206-03, R3206-04, R6856-19: a valid reply whatever they hold.

    A code is used if it is one that belongs there.
    """
    reply = failure_reply(homemade(code, text), login=login)
    codes = {ResponseCode.SYS_TEMP, ResponseCode.SYS_PERM}
    if login:
        codes |= {ResponseCode.AUTH, ResponseCode.IN_USE, ResponseCode.LOGIN_DELAY}
    assert reply.code is (code if code is None or (isinstance(code, ResponseCode) and code in codes) else SYS_TEMP)
    line = Pop3Connection(Role.SERVER).send(reply)
    assert line.startswith(b"-ERR ")
    assert line.endswith(b"\r\n")


@pytest.mark.parametrize("failure", [be.AuthenticationFailed(), be.MaildropInUse(), be.LoginDelayed()])
def test_codes_of_a_login_are_used_at_a_login_only(failure: be.BackendError) -> None:
    """H9, R2449-40, R2449-42."""
    assert failure_reply(failure, login=True).code is failure.code
    assert failure_reply(failure, login=True).text == failure.text
    assert failure_reply(failure).code is ResponseCode.SYS_TEMP


@pytest.mark.parametrize(
    ("failure", "code"),
    [(be.TemporaryFailure(), ResponseCode.SYS_TEMP), (be.PermanentFailure(), ResponseCode.SYS_PERM)],
)
def test_trouble_keeps_its_code(failure: be.BackendError, code: ResponseCode) -> None:
    """R3206-01, R3206-02, R3206-03: whatever the command."""
    for login in (True, False):
        assert failure_reply(failure, login=login).code is code


def test_the_text_of_a_failed_login_is_always_the_same() -> None:
    """H7: whatever the backend says of it."""
    failure = be.AuthenticationFailed("no such user, or is alice disabled?")
    assert failure_reply(failure, login=True) == failure_reply(be.AuthenticationFailed(), login=True)


def test_where_there_is_no_login_without_encryption() -> None:
    """R3206-07, R8314-10: the same words, with a code for PASS, APOP and AUTH alone."""
    assert NOT_IN_CLEAR.text == ENCRYPT_FIRST.text
    assert (NOT_IN_CLEAR.code, ENCRYPT_FIRST.code) == (None, ResponseCode.AUTH)


def test_a_listing_lets_others_run_between_slices() -> None:
    """P4."""
    steps: list[None] = []

    async def checkpoint() -> None:
        steps.append(None)

    async def read() -> list[tuple[bytes, int]]:
        return [(piece, len(steps)) async for piece in Listing(iter([b"a", b"b"]), checkpoint)]

    assert run(read()) == [(b"a", 1), (b"b", 2)]
