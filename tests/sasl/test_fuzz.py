"""Any octets into any mechanism at any step: a challenge, an identity that was earned, Malformed or Rejected."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.credentials import Credentials
from trio_pop3.sasl import (
    MECHANISMS,
    ClientExchange,
    Identity,
    Malformed,
    Rejected,
    Response,
    ServerContext,
    ServerRejected,
    anonymous,
    cram_md5,
    external,
    login,
    oauthbearer,
    plain,
    scram,
    xoauth2,
)

from .wire import BINDING, CERTIFICATE, Backend, Served

NONCE = b"cnonce"
FRAGMENTS = [
    b"\0",
    b"\x01",
    b",",
    b"=",
    b"=2C",
    b"n,,",
    b"y,,",
    b"p=tls-server-end-point,,",
    b"a=tom",
    b"n=tim",
    b"n=tom",
    b",r=cnonce",
    b",r=",
    b"c=biws",
    b",p=",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b",m=x",
    b",x=y",
    b"user=tim",
    b"auth=Bearer ",
    b"wrong",
    b"host=",
    b"port=",
    b"tim",
    b"tim ",
    b"0" * 32,
    b"\xff",
    b"\xc2\xad",
    b"\xd8\xa71",
    b"\x07",
    b"@",
    b"x" * 1025,
    b"r=",
    b",s=c2l4dGVlbiBvY3RldHMuLg==,i=4096",
    b"v=AAAA",
    b"e=other-error",
]
messages = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=10).map(b"".join)
contexts = st.builds(
    ServerContext,
    host=st.sampled_from(["localhost", "pop.example.com"]),
    port=st.none() | st.just(995),
    bindings=st.sampled_from([{}, dict([BINDING])]),
    plus_offered=st.booleans(),
    certificate=st.none() | st.just(CERTIFICATE),
    fake_key=st.binary(max_size=4),
)


class Nobody(Backend):
    """Knows tim, and is never given the right secret."""

    def check(self, credentials: Credentials) -> str:
        raise Rejected("no")


@pytest.mark.parametrize("name", MECHANISMS)
@given(st.data())
def test_nobody_gets_in(name: str, data: st.DataObject) -> None:
    """R4422-04, H5, H6, P6: and every exchange ends."""
    served = Served(MECHANISMS[name].start(data.draw(contexts), data.draw(st.none() | messages)), Nobody())
    nonce = b""
    response: bytes | None = None
    with suppress(Malformed, Rejected):
        for _ in range(5):
            challenge = served.step(response)
            assert isinstance(challenge, bytes)
            nonce = challenge.partition(b",")[0]  # a guesser can at least copy that
            response = data.draw(messages | messages.map((b"c=biws," + nonce).__add__))
        raise AssertionError("more than five steps")


@pytest.mark.parametrize("name", MECHANISMS)
@given(st.data())
def test_whatever_the_backend_says(name: str, data: st.DataObject) -> None:
    """P6: with a backend that takes everything, an identity is one the backend named."""
    backend = Backend(user=data.draw(st.sampled_from(["tim", "anonymous"])))
    served = Served(MECHANISMS[name].start(data.draw(contexts), data.draw(st.none() | messages)), backend)
    response: bytes | None = None
    with suppress(Malformed, Rejected):
        for _ in range(5):
            step = served.step(response)
            if isinstance(step, Identity):
                assert step.user in (backend.user, "anonymous")
                assert backend.seen
                return
            response = data.draw(messages)


def same_nonce(octets: int) -> bytes:
    return NONCE


CLIENTS: dict[str, Callable[[], ClientExchange]] = {
    "plain": lambda: plain("tim", "pencil"),
    "login": lambda: login("tim", "pencil"),
    "cram_md5": lambda: cram_md5("tim", "pencil"),
    "scram": partial(scram, "tim", "pencil", random=same_nonce),
    "external": external,
    "oauthbearer": lambda: oauthbearer("t0ken"),
    "xoauth2": lambda: xoauth2("tim", "t0ken"),
    "anonymous": anonymous,
}


@pytest.mark.parametrize("name", CLIENTS)
@given(challenges=st.lists(messages | messages.map(lambda tail: b"r=" + NONCE + tail), min_size=6, max_size=6))
def test_a_client_believes_nothing_it_cannot_check(name: str, challenges: list[bytes]) -> None:
    """R4422-04, R5802-12: any challenges end in ServerRejected; SCRAM never becomes ready for a +OK."""
    client = CLIENTS[name]()
    responses: list[Response] = [next(client)]

    with pytest.raises(ServerRejected):
        responses.extend(map(client.send, challenges))
    assert name != "scram" or not any(response.complete for response in responses)
