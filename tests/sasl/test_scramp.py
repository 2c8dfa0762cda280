"""Our SCRAM against scramp's, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient, ScramException, ScramMechanism  # type: ignore[import-untyped]
from scramp.utils import saslprep as scramp_saslprep  # type: ignore[import-untyped]

from trio_pop3.credentials import ScramKeys
from trio_pop3.sasl import MECHANISMS, Identity, Rejected, ServerContext, ServerRejected, derive_keys, scram

from .wire import BINDING, KEYS, SALT, Backend, Served

HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-1-PLUS": "sha1", "SCRAM-SHA-256-PLUS": "sha256"}
BOUND = ServerContext(bindings=dict([BINDING]), plus_offered=True)


def usable(text: str) -> bool:
    try:
        return bool(scramp_saslprep(text))
    except ScramException:
        return False


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(usable)


def scramp_against_us(name: str, password: str, backend: Backend) -> Identity:
    plus = name.endswith("-PLUS")
    peer = ScramClient([name], backend.user, password, channel_binding=BINDING if plus else None)
    served = Served(MECHANISMS[name].start(BOUND, peer.get_client_first().encode()), backend)
    peer.set_server_first(_octets(served.step()).decode())
    peer.set_server_final(_octets(served.step(peer.get_client_final().encode())).decode())
    identity = served.step(b"")
    assert isinstance(identity, Identity)
    return identity


def we_against_scramp(name: str, user: str, password: str, stored: str, *, data: bytes = BINDING[1]) -> None:
    plus = name.endswith("-PLUS")
    mechanism = ScramMechanism(name)
    info = mechanism.make_auth_info(stored, iteration_count=4096, salt=SALT)
    peer = mechanism.make_server(lambda name: info, channel_binding=BINDING if plus else None)
    client = scram(user, password, hash_name=HASHES[name], plus=plus, binding=(BINDING[0], data) if plus else None)
    peer.set_client_first((next(client).data or b"").decode())
    final = client.send(peer.get_server_first().encode())
    try:
        peer.set_client_final((final.data or b"").decode())
    except ScramException:
        # It tells the client before it gives up.
        client.send(peer.get_server_final().encode())
    assert client.send(peer.get_server_final().encode()).complete


@pytest.mark.parametrize("name", HASHES)
def test_keys(name: str) -> None:
    """R5802-23."""
    salt, stored_key, server_key, iterations = ScramMechanism(name).make_auth_info("pencil", 4096, SALT)
    assert KEYS[HASHES[name]] == ScramKeys(salt, iterations, stored_key, server_key)


@pytest.mark.parametrize("name", HASHES)
def test_its_client_against_our_server(name: str) -> None:
    """R5802-20, R5802-23."""
    assert scramp_against_us(name, "pencil", Backend()) == Identity("tim")
    with pytest.raises(Rejected):
        scramp_against_us(name, "pencils", Backend())


@pytest.mark.parametrize("name", HASHES)
def test_our_client_against_its_server(name: str) -> None:
    """R5802-14, R5802-20, R5802-23."""
    we_against_scramp(name, "tim", "pencil", "pencil")
    with pytest.raises(ServerRejected, match="invalid-proof"):
        we_against_scramp(name, "tim", "pencils", "pencil")


@pytest.mark.parametrize("name", [name for name in HASHES if name.endswith("-PLUS")])
def test_our_client_on_another_channel(name: str) -> None:
    """R5802-11."""
    with pytest.raises(ServerRejected, match="channel-bindings-dont-match"):
        we_against_scramp(name, "tim", "pencil", "pencil", data=b"another")


def test_its_client_on_another_channel() -> None:
    """R5802-11."""
    peer = ScramClient(["SCRAM-SHA-256-PLUS"], "tim", "pencil", channel_binding=(BINDING[0], b"another"))
    served = Served(MECHANISMS["SCRAM-SHA-256-PLUS"].start(BOUND, peer.get_client_first().encode()))
    peer.set_server_first(_octets(served.step()).decode())
    with pytest.raises(Rejected):
        served.step(peer.get_client_final().encode())


def test_its_client_says_when_it_could_have_bound() -> None:
    """R5802-16."""
    peer = ScramClient(["SCRAM-SHA-256"], "tim", "pencil", channel_binding=BINDING)
    first = peer.get_client_first().encode()
    assert first.startswith(b"y,,")
    assert isinstance(Served(MECHANISMS["SCRAM-SHA-256"].start(ServerContext(), first)).step(), bytes)


@given(texts, texts)
@settings(max_examples=30)
def test_any_names_and_passwords(user: str, password: str) -> None:
    """R5802-03, R5802-05, R5802-06, R5802-22."""
    prepared = scramp_saslprep(user)
    keys = {"sha256": derive_keys(password, SALT, 4096, "sha256")}
    assert scramp_against_us("SCRAM-SHA-256", password, Backend(prepared, keys=keys)) == Identity(prepared)
    we_against_scramp("SCRAM-SHA-256", user, password, password)


def _octets(step: bytes | Identity) -> bytes:
    assert isinstance(step, bytes)
    return step
