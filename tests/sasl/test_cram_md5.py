"""CRAM-MD5, both sides."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.credentials import CramMd5Credentials
from trio_pop3.sansio.base64 import decode
from trio_pop3.sasl import MECHANISMS, Identity, Malformed, Rejected, ServerContext, cram_md5

from .wire import Backend, Served, serve

CRAM = MECHANISMS["CRAM-MD5"]
# Gives the challenge of RFC 2195 section 2.
CONTEXT = ServerContext(
    host="postoffice.reston.mci.net", random=lambda n: (1896).to_bytes(n, "big"), clock=lambda: 697170952.9
)
CHALLENGE = decode(b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
RESPONSE = decode(b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw")


def asked(context: ServerContext = CONTEXT) -> Served:
    served = serve(CRAM, None, context)
    served.backend.password = "tanstaaftanstaaf"
    assert served.step() == CHALLENGE
    return served


def test_vector() -> None:
    """PROTOCOL 9, R2195-01, R2195-02."""
    served = asked()
    assert served.step(RESPONSE) == Identity("tim")
    assert served.backend.credentials == CramMd5Credentials(
        "tim", CHALLENGE, bytes.fromhex("b913a602c7eda7a495b4e6e7334d3890")
    )
    client = cram_md5("tim", "tanstaaftanstaaf")
    assert next(client).data is None
    response = client.send(CHALLENGE)
    assert response.data == RESPONSE
    assert response.complete


def test_challenges_are_message_ids_and_never_the_same() -> None:
    """R2195-01."""
    challenges = {serve(CRAM, None, ServerContext(host="pop.example.com")).step() for _ in range(20)}
    assert len(challenges) == 20
    for challenge in challenges:
        assert isinstance(challenge, bytes)
        assert re.fullmatch(rb"<[0-9]+\.[0-9]+@pop\.example\.com>", challenge)


def test_letter_case_of_the_digest() -> None:
    """As A-16: octets are compared, not letters."""
    assert asked().step(b"tim " + RESPONSE[4:].upper()) == Identity("tim")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"tim",
        b"tim b913",
        RESPONSE + b" ",
        RESPONSE[4:],
        RESPONSE.replace(b" ", b"\t"),
        RESPONSE[:-1] + b"g",
        b"\xff" + RESPONSE,
    ],
)
def test_malformed(response: bytes) -> None:
    with pytest.raises(Malformed):
        asked().step(response)


@pytest.mark.parametrize("response", [RESPONSE[3:], b"tom" + RESPONSE[3:], RESPONSE[:-1] + b"1", b"\x07" + RESPONSE])
def test_wrong_credentials(response: bytes) -> None:
    """R5034-24, H6: an empty name is nobody's."""
    with pytest.raises(Rejected):
        asked().step(response)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1), st.text(min_size=1, max_size=80))
def test_what_a_client_sends_is_what_a_server_sees(user: str, secret: str) -> None:
    """R2195-02: the last space divides; secrets longer than a block of MD5 are fine."""
    secret = secret.replace("\0", "")
    served = serve(CRAM, None)
    served.backend = Backend(user, secret)
    challenge = served.step()
    assert isinstance(challenge, bytes)
    client = cram_md5(user, secret)
    next(client)
    response = client.send(challenge).data
    assert response is not None
    assert served.step(response) == Identity(user)
    other = cram_md5(user, secret + "x")
    next(other)
    again = serve(CRAM, None)
    again.backend = served.backend
    again.step()
    with pytest.raises(Rejected):
        again.step(other.send(challenge).data)


def test_what_cannot_be_sent() -> None:
    """H8."""
    with pytest.raises(ValueError, match="NUL"):
        cram_md5("tim\0", "x")
