"""OAUTHBEARER and XOAUTH2, both sides."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.credentials import TokenCredentials
from trio_pop3.sasl import (
    MECHANISMS,
    Identity,
    Malformed,
    Rejected,
    ServerContext,
    ServerRejected,
    oauthbearer,
    xoauth2,
)

from .wire import Backend, Served, serve

OAUTHBEARER = MECHANISMS["OAUTHBEARER"]
XOAUTH2 = MECHANISMS["XOAUTH2"]
CONTEXT = ServerContext(host="pop.example.com", port=995, scope="mail", discovery="https://example.com/.well-known/x")
tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def problem_of(served: Served, dummy: bytes) -> dict[str, Any]:
    """The JSON a client is sent before its failure; whatever it says to that."""
    challenge = served.step()
    assert isinstance(challenge, bytes)
    with pytest.raises(Rejected):
        served.step(dummy)
    problem: dict[str, Any] = json.loads(challenge)
    return problem


def bearer(*fields: bytes, header: bytes = b"n,,") -> bytes:
    return b"\x01".join((header, *fields, b"", b""))


# --- OAUTHBEARER ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "user"),
    [
        (b"n,a=tim,\x01host=pop.example.com\x01port=995\x01auth=Bearer t0ken\x01\x01", "tim"),
        (bearer(b"auth=Bearer t0ken"), ""),
        (bearer(b"auth=bEARER  t0ken", header=b"y,,"), ""),  # R7628-07
        (bearer(b"mthd=POST", b"auth=Bearer t0ken", b"qs=a=b", b"path=/", b"xyz="), ""),  # R7628-03
        (bearer(b"host=POP.Example.COM", b"auth=Bearer t0ken"), ""),
        (bearer(b"host=", b"port=", b"auth=Bearer t0ken"), ""),
        (bearer(b"port=00995", b"auth=Bearer t0ken"), ""),
    ],
)
def test_good_tokens(message: bytes, user: str) -> None:
    """R7628-02, R7628-03, R7628-04, R7628-07: and no further challenge."""
    served = serve(OAUTHBEARER, message, CONTEXT)
    assert served.step() == Identity("tim")
    assert served.backend.credentials == TokenCredentials(user, "t0ken")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",  # a dummy where there was nothing to answer
        b"n,,",
        b"n,,\x01",
        b"n,,auth=Bearer t0ken\x01\x01",
        b"n,,\x01auth=Bearer t0ken",
        b"n,,\x01auth=Bearer t0ken\x01",
        b"n,,\x01auth=Bearer t0ken\x01\x01\x01",
        b"n,,\x01\x01auth=Bearer t0ken\x01\x01",
        bearer(b"auth=Bearer t0ken", header=b"p=tls-unique,,"),
        bearer(b"auth=Bearer t0ken", header=b"n,a=t=m,"),
        bearer(b"auth=Bearer t0ken", b"auth=Bearer other"),
        bearer(b"auth=Bearer t0ken", b"noequals"),
        bearer(b"auth=Bearer t0ken\0"),
        bearer(b"=x", b"auth=Bearer t0ken"),
        bearer(*(b"x" * n + b"=" for n in range(1, 34)), b"auth=Bearer t0ken"),
        bearer() + b"\x01" * 60_000,
    ],
)
def test_malformed(message: bytes) -> None:
    """R7628-02."""
    served = serve(OAUTHBEARER, message, CONTEXT)
    with pytest.raises(Malformed):
        served.step()
    assert not served.backend.seen


@pytest.mark.parametrize(
    "message",
    [
        bearer(b"auth=Bearer wrong"),
        bearer(b"auth=Bearer t0ken", header=b"n,a=tom,"),
        bearer(b"auth=Bearer t0ken", header=b"n,a=\x07,"),  # R5034-24
        b"n,,\x01\x01",  # asks where to get a token
        bearer(b"auth="),
        bearer(b"auth=Bearer"),
        bearer(b"auth=Bearer "),
        bearer(b"auth=Basic dGlt"),
        bearer(b"auth=Bearer t0 ken"),
        bearer(b"auth=Bearer \xff"),
        bearer(b"host=imap.example.com", b"auth=Bearer t0ken"),  # R7628-04
        bearer(b"port=993", b"auth=Bearer t0ken"),
        bearer(b"port=+995", b"auth=Bearer t0ken"),
        bearer(b"port=" + b"9" * 5000, b"auth=Bearer t0ken"),
    ],
)
@pytest.mark.parametrize("dummy", [b"\x01", b"", b"anything"])
def test_what_is_rejected_is_explained_first(message: bytes, dummy: bytes) -> None:
    """R7628-04, R7628-05."""
    assert problem_of(serve(OAUTHBEARER, message, CONTEXT), dummy) == {
        "status": "invalid_token",
        "scope": "mail",
        "openid-configuration": "https://example.com/.well-known/x",
    }


def test_what_is_not_known_is_neither_compared_nor_told() -> None:
    """R7628-04, R7628-05: a name without a dot is none that clients know."""
    message = bearer(b"host=pop.example.com", b"port=995", b"auth=Bearer t0ken")
    assert serve(OAUTHBEARER, message, ServerContext(host="mx1")).step() == Identity("tim")
    assert problem_of(serve(OAUTHBEARER, b"n,,\x01\x01", ServerContext()), b"\x01") == {"status": "invalid_token"}


def test_names_are_decoded_and_prepared() -> None:
    """R5034-23."""
    served = serve(OAUTHBEARER, bearer(b"auth=Bearer t0ken", header="n,a=t\u00ad=2C=3Dm,".encode()))
    served.backend.user = "t,=m"
    assert served.step() == Identity("t,=m")


def test_client() -> None:
    """R7628-02, R7628-06: answers the JSON with ^A, and then believes nothing."""
    client = oauthbearer("t0ken", user="t,m", host="pop.example.com", port=995)
    first = next(client)
    assert first.data == b"n,a=t=2Cm,\x01host=pop.example.com\x01port=995\x01auth=Bearer t0ken\x01\x01"
    assert first.complete
    dummy = client.send(b'{"status":"invalid_token"}')
    assert dummy.data == b"\x01"
    assert not dummy.complete
    with pytest.raises(ServerRejected):
        client.send(b"")


# --- XOAUTH2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"user=tim\x01auth=Bearer t0ken\x01\x01",
        b"auth=bearer t0ken\x01user=tim\x01\x01",  # R7628-07
        "user=t\u00adim\x01auth=Bearer t0ken\x01other=x\x01\x01".encode(),
    ],
)
def test_good_xoauth2(message: bytes) -> None:
    """RXOA-01."""
    served = serve(XOAUTH2, message)
    assert served.step() == Identity("tim")
    assert served.backend.credentials == TokenCredentials("tim", "t0ken")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"user=tim",
        b"user=tim\x01auth=Bearer t0ken\x01",
        b"user=t\0m\x01auth=Bearer t0ken\x01\x01",
        b"user=\xff\x01auth=Bearer t0ken\x01\x01",
    ],
)
def test_malformed_xoauth2(message: bytes) -> None:
    served = serve(XOAUTH2, message)
    if message == b"\x01":
        # No fields at all: nobody, with nothing.
        assert isinstance(served.step(), bytes)
        return
    with pytest.raises(Malformed):
        served.step()


@pytest.mark.parametrize(
    "message",
    [
        b"user=tim\x01auth=Bearer wrong\x01\x01",
        b"user=tom\x01auth=Bearer t0ken\x01\x01",
        b"user=\x01auth=Bearer t0ken\x01\x01",
        b"auth=Bearer t0ken\x01\x01",
        b"user=tim\x01auth=Basic x\x01\x01",
        b"user=tim\x01\x01",
    ],
)
@pytest.mark.parametrize("dummy", [b"\x01", b"", b"anything"])
def test_rejected_xoauth2(message: bytes, dummy: bytes) -> None:
    """RXOA-02."""
    problem = problem_of(serve(XOAUTH2, message, CONTEXT), dummy)
    assert problem == {"status": "401", "schemes": "bearer", "scope": "mail"}


def test_xoauth2_client() -> None:
    """RXOA-01: answers the JSON with an empty line, and then believes nothing."""
    client = xoauth2("tim", "t0ken")
    first = next(client)
    assert first.data == b"user=tim\x01auth=Bearer t0ken\x01\x01"
    assert first.complete
    dummy = client.send(b'{"status":"401"}')
    assert dummy.data == b""
    assert not dummy.complete


# --- both ----------------------------------------------------------------------------------------------------------


@given(names, tokens)
def test_what_a_client_sends_is_what_a_server_sees(user: str, token: str) -> None:
    """R7628-02, RXOA-01."""
    for mechanism, client in ((OAUTHBEARER, oauthbearer(token, user=user)), (XOAUTH2, xoauth2(user, token))):
        served = serve(mechanism, next(client).data)
        served.backend = Backend(user, token=token)
        assert served.step() == Identity(user)


def test_tokens_of_12_kib() -> None:
    """H3."""
    token = "x" * 12_288
    served = serve(OAUTHBEARER, next(oauthbearer(token)).data)
    served.backend.token = token
    assert served.step() == Identity("tim")


@pytest.mark.parametrize("token", ["", "t0 ken", "t0ken\x01", "t\u00f6ken", "t0ken\n"])
def test_tokens_that_cannot_be_sent(token: str) -> None:
    """H8: and are not shown."""
    for make in (oauthbearer, partial(xoauth2, "tim")):
        with pytest.raises(ValueError, match="printable ASCII") as failure:
            make(token)
        assert not token or token not in str(failure.value)


def test_names_that_cannot_be_sent() -> None:
    """A11: what is sent for a user is never taken for something else."""
    for user in ("tim\x01auth=Bearer other", "tim\0"):
        with pytest.raises(ValueError, match="name"):
            oauthbearer("t0ken", user=user)
        with pytest.raises(ValueError, match="name"):
            xoauth2(user, "t0ken")
    with pytest.raises(ValueError, match="printable ASCII"):
        oauthbearer("t0ken", host="pop\x01")


def test_a_token_does_not_show() -> None:
    """H8, P5."""
    served = serve(OAUTHBEARER, bearer(b"auth=Bearer t0ken"))
    served.step()
    assert "t0ken" not in repr(served.backend.credentials)
