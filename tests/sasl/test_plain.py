"""PLAIN, both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.credentials import PasswordCredentials
from trio_pop3.sansio.base64 import decode, encode
from trio_pop3.sasl import MECHANISMS, Identity, Malformed, Rejected, plain

from .wire import Backend, Served, serve

PLAIN = MECHANISMS["PLAIN"]
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def begin(message: bytes) -> Served:
    return serve(PLAIN, message)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"dGVzdAB0ZXN0AHRlc3Q=", PasswordCredentials("test", "test", authzid="test")),
        (b"AHRlc3QAdGVzdA==", PasswordCredentials("test", "test")),
    ],
)
def test_vectors(line: bytes, expected: PasswordCredentials) -> None:
    """PROTOCOL 9, R4616-01."""
    served = begin(decode(line))
    served.backend.user = served.backend.password = "test"
    assert served.step() == Identity("test", expected.authzid)
    assert served.backend.credentials == expected
    assert next(plain("test", "test", expected.authzid)).data == decode(line)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"tim\0pencil",
        b"\0tim\0pencil\0",
        b"\0\0tim\0pencil",
        b"\0tim\0caf\xe9",
        b"\0\xff\0pencil",
        b"\xff\0tim\0pencil",
        b"\0tim\0" + b"x" * 1025,
        b"\0" * 60_000,
    ],
)
def test_malformed(message: bytes) -> None:
    """R4616-05, R4422-05: two NULs, UTF-8, not too long; nobody is asked."""
    served = begin(message)
    with pytest.raises(Malformed):
        served.step()
    assert not served.backend.seen


@pytest.mark.parametrize(
    "message",
    [
        b"\0\0",
        b"\0tim\0",
        b"\0\0pencil",
        "\0tim\0\u00ad".encode(),
        "\0\u00ad\0pencil".encode(),
        b"\0tim\0bell\x07",
        "\u00ad\0tim\0pencil".encode(),
        b"\x07\0tim\0pencil",
    ],
)
def test_nothing_is_nobody(message: bytes) -> None:
    """R4616-04, R4616-05, R5034-24, R4422-05, H6: empty, or empty when prepared, or not to be prepared."""
    served = begin(message)
    with pytest.raises(Rejected):
        served.step()
    assert not served.backend.seen


@pytest.mark.parametrize("octets", [255, 1024])
def test_long_fields(octets: int) -> None:
    """R4616-03."""
    long = "x" * octets
    served = begin(f"{long}\0{long}\0{long}".encode())
    served.backend = Backend(long, long)
    assert served.step() == Identity(long, long)


def test_strings_are_prepared() -> None:
    """R4616-04, R4616-07, R5034-23: authcid, passwd and authzid, as query strings."""
    served = begin("\u2168\0t\u00adim\0pencil\u0221".encode())
    served.backend.password = "pencil\u0221"
    assert served.step() == Identity("tim", "IX")


@pytest.mark.parametrize("message", [b"\0tim\0wrong", b"\0tom\0pencil", b"\0tim\0PENCIL", b"\0TIM\0pencil"])
def test_wrong_credentials(message: bytes) -> None:
    """H6: nor is the letter case of a name or password ignored."""
    with pytest.raises(Rejected):
        begin(message).step()


@given(names, names, names | st.just(""))
def test_what_a_client_sends_is_what_a_server_sees(user: str, password: str, authzid: str) -> None:
    """R4616-01."""
    message = next(plain(user, password, authzid)).data
    assert message is not None
    served = begin(decode(encode(message)))
    served.backend = Backend(user, password)
    assert served.step() == Identity(user, authzid)


@pytest.mark.parametrize("arguments", [("ti\0m", "x"), ("tim", "\0"), ("tim", "x", "\0"), ("tim", "hunter2\udcff")])
def test_a_client_sends_no_nul_and_no_surrogate(arguments: tuple[str, ...]) -> None:
    """R4616-02, H8."""
    with pytest.raises(ValueError, match="name or password") as failure:
        plain(*arguments)
    assert "hunter2" not in str(failure.value)
