"""Every client against the server's side of its mechanism, over a fake wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from trio_pop3.sasl import (
    MECHANISMS,
    ClientExchange,
    Identity,
    Malformed,
    Rejected,
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

from .wire import BINDING, CERTIFICATE, Backend, converse

CONTEXT = ServerContext(
    host="pop.example.com",
    port=995,
    bindings=dict([BINDING]),
    plus_offered=True,
    certificate=CERTIFICATE,
)


@dataclass
class Way:
    """How to log in as tim with a mechanism, given the secret."""

    secret: str
    client: Callable[[str], ClientExchange]
    lines: int  # that the client sends


WAYS = {
    "SCRAM-SHA-256-PLUS": Way("pencil", lambda secret: scram("tim", secret, plus=True, binding=BINDING), 3),
    "SCRAM-SHA-1-PLUS": Way(
        "pencil", lambda secret: scram("tim", secret, hash_name="sha1", plus=True, binding=BINDING), 3
    ),
    "SCRAM-SHA-256": Way("pencil", lambda secret: scram("tim", secret), 3),
    "SCRAM-SHA-1": Way("pencil", lambda secret: scram("tim", secret, hash_name="sha1"), 3),
    "EXTERNAL": Way("", lambda secret: external(), 1),
    "OAUTHBEARER": Way("t0ken", lambda secret: oauthbearer(secret, user="tim", host="pop.example.com", port=995), 1),
    "XOAUTH2": Way("t0ken", lambda secret: xoauth2("tim", secret), 1),
    "PLAIN": Way("pencil", lambda secret: plain("tim", secret), 1),
    "CRAM-MD5": Way("pencil", lambda secret: cram_md5("tim", secret), 1),
    "LOGIN": Way("pencil", lambda secret: login("tim", secret), 2),
    "ANONYMOUS": Way("", lambda secret: anonymous("tim@example.com"), 1),
}
SECRET = [name for name, way in WAYS.items() if way.secret]


def test_every_mechanism_is_tried() -> None:
    """R5034-35."""
    assert list(WAYS) == list(MECHANISMS)


@pytest.mark.parametrize("initial_response", [True, False])
@pytest.mark.parametrize("name", WAYS)
def test_login(name: str, initial_response: bool) -> None:
    """R5034-12, R5034-28, R4422-03: with an initial response and without."""
    way = WAYS[name]
    identity, lines = converse(MECHANISMS[name], way.client(way.secret), CONTEXT, initial_response=initial_response)
    assert identity == Identity("anonymous" if name == "ANONYMOUS" else "tim")
    assert len(lines) == way.lines
    assert [line.complete for line in lines] == [False] * (way.lines - 1) + [True]


@pytest.mark.parametrize("name", SECRET)
def test_a_wrong_secret(name: str) -> None:
    """H6."""
    with pytest.raises(Rejected):
        converse(MECHANISMS[name], WAYS[name].client("wrong"), CONTEXT)


@pytest.mark.parametrize("name", SECRET)
def test_an_unknown_user_fails_like_a_wrong_secret(name: str) -> None:
    """R4422-06, H7: after the same steps, with the same error."""
    told = []
    for secret, backend in (("wrong", Backend()), (WAYS[name].secret, Backend("somebody else"))):
        with pytest.raises(Rejected) as failure:
            converse(MECHANISMS[name], WAYS[name].client(secret), CONTEXT, backend)
        told.append((str(failure.value), [type(need) for need in backend.seen]))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("PLAIN", lambda: plain("tim", "pencil", "tom")),
        ("SCRAM-SHA-256", lambda: scram("tim", "pencil", authzid="tom")),
        ("SCRAM-SHA-256-PLUS", lambda: scram("tim", "pencil", authzid="tom", plus=True, binding=BINDING)),
        ("EXTERNAL", lambda: external("tom")),
    ],
)
def test_authzid_is_passed_on(name: str, client: Callable[[], ClientExchange]) -> None:
    """R4422-05, R4422-08: whether it is permitted is for the backend to say."""
    assert converse(MECHANISMS[name], client(), CONTEXT)[0] == Identity("tim", "tom")


def test_a_list_that_was_changed_on_the_way() -> None:
    """R5802-16, R5802-19: the client could bind and was not offered it; the server did offer it."""
    with pytest.raises(Malformed, match="must be used"):
        converse(MECHANISMS["SCRAM-SHA-256"], scram("tim", "pencil", could_bind=True), CONTEXT)


def test_somebody_between() -> None:
    """R5802-11: with another certificate."""
    client = scram("tim", "pencil", plus=True, binding=(BINDING[0], b"another"))
    with pytest.raises(Rejected):
        converse(MECHANISMS["SCRAM-SHA-256-PLUS"], client, CONTEXT)


def test_a_server_that_does_not_know_the_password() -> None:
    """R5802-12: it cannot just say +OK, because the client is not ready to believe it."""
    client = scram("tim", "pencil")
    first = next(client)
    assert not first.complete
    nonce = (first.data or b"").rpartition(b"r=")[2]
    final = client.send(b"r=" + nonce + b"x,s=c2l4dGVlbiBvY3RldHMuLg==,i=4096")
    assert not final.complete
    with pytest.raises(ServerRejected):
        client.send(b"v=AAAA")
