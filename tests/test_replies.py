"""Somebody else's words made into reply texts, and listings by themselves."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.replies import Listing, failure_reply, safe_text
from trio_pop3.sansio import Pop3Connection, ResponseCode, Role

from .driving import run


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


@pytest.mark.parametrize("failure", [be.TemporaryFailure(Unspeakable()), Homemade()])
def test_what_cannot_be_said_gets_a_text_all_the_same(failure: be.BackendError) -> None:
    """A11: texts of classes are somebody else's, too, and a failure can be made of anything."""
    assert on_the_wire(failure).startswith(b"-ERR [SYS/TEMP] ")


@pytest.mark.parametrize("failure", [be.AuthenticationFailed(), be.MaildropInUse(), be.LoginDelayed()])
def test_codes_of_a_login_are_used_at_a_login_only(failure: be.BackendError) -> None:
    """H9, R2449-40, R2449-42."""
    assert failure_reply(failure, login=True).code is failure.code
    assert failure_reply(failure).code is ResponseCode.SYS_TEMP


def test_a_listing_lets_others_run_between_slices() -> None:
    """P4."""
    steps: list[None] = []

    async def checkpoint() -> None:
        steps.append(None)

    async def read() -> list[tuple[bytes, int]]:
        return [(piece, len(steps)) async for piece in Listing(iter([b"a", b"b"]), checkpoint)]

    assert run(read()) == [(b"a", 1), (b"b", 2)]
