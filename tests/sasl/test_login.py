"""LOGIN, both sides."""

from __future__ import annotations

import pytest

from trio_pop3.credentials import PasswordCredentials
from trio_pop3.sansio.base64 import encode
from trio_pop3.sasl import MECHANISMS, Identity, Malformed, Rejected, ServerRejected, login

from .wire import serve

LOGIN = MECHANISMS["LOGIN"]


def test_dialogue() -> None:
    """PROTOCOL 6.2."""
    served = serve(LOGIN, None)
    assert encode(_octets(served.step())) == b"VXNlcm5hbWU6"
    assert encode(_octets(served.step(b"tim"))) == b"UGFzc3dvcmQ6"
    assert served.step(b"pencil") == Identity("tim")
    assert served.backend.credentials == PasswordCredentials("tim", "pencil")


@pytest.mark.parametrize(
    ("user", "password", "failure"),
    [
        (b"", b"pencil", Rejected),
        (b"tim", b"", Rejected),
        (b"", b"", Rejected),
        (b"tim", b"wrong", Rejected),
        (b"\x07", b"pencil", Rejected),
        (b"tim\0", b"pencil", Malformed),
        (b"\xff", b"pencil", Malformed),
        (b"tim", b"\xff", Malformed),
        (b"tim", b"x" * 1025, Malformed),
    ],
)
def test_failures(user: bytes, password: bytes, failure: type[Exception]) -> None:
    """R5034-24, H6, H7: whatever the name is, the password is asked for before anything is said of it."""
    served = serve(LOGIN, None)
    served.step()
    assert served.step(user) == b"Password:"
    with pytest.raises(failure):
        served.step(password)


def test_strings_are_prepared() -> None:
    served = serve(LOGIN, None)
    served.step()
    served.step("t\u00adim".encode())
    assert served.step("pen\u00adcil".encode()) == Identity("tim")


def test_a_client_does_not_read_what_it_is_asked() -> None:
    """RLOG-02: and believes a +OK to its password only."""
    client = login("tim", "pencil")
    assert next(client).data is None
    name = client.send(b"User Name\0")
    password = client.send(b"")
    assert (name.data, name.complete) == (b"tim", False)
    assert (password.data, password.complete) == (b"pencil", True)
    with pytest.raises(ServerRejected):
        client.send(b"Password:")


def test_what_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="NUL"):
        login("tim", "\0")


def _octets(step: bytes | Identity) -> bytes:
    assert isinstance(step, bytes)
    return step
