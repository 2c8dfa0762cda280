"""SCRAM, the client's side, against messages made by hand."""

from __future__ import annotations

import pytest

from trio_pop3.sansio.base64 import decode, encode
from trio_pop3.sasl import ServerRejected, scram

from .wire import BINDING

NONCE = b"rOprNGfwEbeRWgbNEkqO"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
S1 = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
C2 = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
S2 = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_vector_sha256() -> None:
    """PROTOCOL 9, R5802-12, R5802-24: a +OK is believed after the signature only."""
    client = scram("user", "pencil", random=lambda octets: NONCE)
    first = next(client)
    final = client.send(S1)
    empty = client.send(S2)
    assert [first.data, final.data, empty.data] == [FIRST, C2, b""]
    assert [first.complete, final.complete, empty.complete] == [False, False, True]
    with pytest.raises(ServerRejected, match="asks for more"):
        client.send(b"")


def test_vector_sha1() -> None:
    """PROTOCOL 9."""
    client = scram("user", "pencil", hash_name="sha1", random=lambda octets: b"fyko+d2lbbFgONRv9qkxdawL")
    assert encode(next(client).data or b"") == b"biwsbj11c2VyLHI9ZnlrbytkMmxiYkZnT05Sdjlxa3hkYXdM"
    final = client.send(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
    assert final.data == b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    assert client.send(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").complete


def test_nonces_are_fresh() -> None:
    """R5802-09."""
    assert len({next(scram("user", "pencil")).data for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("server_first", "complaint"),
    [
        (b"", "not a SCRAM message"),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==", "not a SCRAM message"),
        (b"m=x," + S1, "not a SCRAM message"),  # R5802-02
        (S1 + b",m=x", "not a SCRAM message"),
        (S1.replace(b"gQ==", b"gQ="), "not a SCRAM message"),
        (S1.replace(b"gQ==", b"gR=="), "not a SCRAM message"),
        (S1.replace(b"4096", b"04096"), "not a SCRAM message"),
        (S1.replace(b"4096", b"+4096"), "not a SCRAM message"),
        (S1.replace(b"4096", b"9" * 5000), "not a SCRAM message"),
        (S1.replace(b"r=r", b"r=x"), "nonce"),  # R5802-07
        (S1.replace(b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b""), "nonce"),
        (S1.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b"W22ZaJ0SNQ=="), "salt is too short"),
        (S1.replace(b"4096", b"4095"), "iterations"),  # R5802-10
        (S1.replace(b"4096", b"10000001"), "iterations"),
        (b"e=unknown-user", "the server says unknown-user"),
        (b"e=other-error,x=1", "the server says other-error"),
        (b"e=\x1b[2J", "not a SCRAM message"),
    ],
)
def test_a_server_that_is_not_believed(server_first: bytes, complaint: str) -> None:
    """R5802-02, R5802-07, R5802-10, PROTOCOL 6.3."""
    client = scram("user", "pencil", random=lambda octets: NONCE)
    next(client)
    with pytest.raises(ServerRejected, match=complaint):
        client.send(server_first)


@pytest.mark.parametrize(
    ("server_final", "complaint"),
    [
        (b"v=AAAA", "does not know the password"),
        (S2[:-2] + b"5=", "does not know the password"),
        (b"", "not a SCRAM message"),
        (b"v=", "not a SCRAM message"),
        (S2 + b",m=x", "not a SCRAM message"),
        (b"e=invalid-proof", "the server says invalid-proof"),
    ],
)
def test_a_server_that_does_not_know_us(server_final: bytes, complaint: str) -> None:
    """R5802-02, R5802-12, R5802-14."""
    client = scram("user", "pencil", random=lambda octets: NONCE)
    next(client)
    client.send(S1)
    with pytest.raises(ServerRejected, match=complaint):
        client.send(server_final)


def test_extensions_are_ignored() -> None:
    """R5802-15."""
    client = scram("user", "pencil", random=lambda octets: NONCE)
    next(client)
    client.send(S1 + b",x=1,y=a=b")
    # The server's signature is over what it sent, so this one is another.
    with pytest.raises(ServerRejected, match="does not know"):
        client.send(S2 + b",x=1")
    other = scram("user", "pencil", random=lambda octets: NONCE)
    next(other)
    other.send(S1)
    assert other.send(S2 + b",x=1").complete


def test_names() -> None:
    """R5802-03, R5802-05, R5802-22: prepared and escaped; an authzid only if there is one."""
    client = scram("u\u00ad,=\u2168", "pencil", authzid="a,b", random=lambda octets: b"x")
    assert next(client).data == b"n,a=a=2Cb,n=u=2C=3DIX,r=x"


@pytest.mark.parametrize(
    ("user", "password", "authzid"),
    [
        ("", "hunter2", ""),
        ("\u00ad", "hunter2", ""),
        ("\x07", "hunter2", ""),
        ("user", "", ""),
        ("user", "hunter2\x07", ""),
        ("user", "hunter2\u0221", ""),
        ("user", "hunter2\udcff", ""),
        ("user", "hunter2", "\0"),
    ],
)
def test_what_cannot_be_sent(user: str, password: str, authzid: str) -> None:
    """R5802-05, R5802-22, H8: names are query strings, the password is a stored one."""
    with pytest.raises(ValueError, match=r"name|password|character") as failure:
        scram(user, password, authzid=authzid)
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize(
    ("binding", "plus", "could_bind", "header", "channel"),
    [
        (None, False, False, b"n,,", b"n,,"),
        (None, False, True, b"y,,", b"y,,"),  # R5802-19
        (BINDING, False, False, b"y,,", b"y,,"),
        (BINDING, True, False, b"p=tls-server-end-point,,", b"p=tls-server-end-point,," + BINDING[1]),  # R5802-20
        (BINDING, True, True, b"p=tls-server-end-point,,", b"p=tls-server-end-point,," + BINDING[1]),
    ],
)
def test_channel_binding(
    binding: tuple[str, bytes] | None, plus: bool, could_bind: bool, header: bytes, channel: bytes
) -> None:
    """R5802-19, R5802-20."""
    client = scram("user", "pencil", binding=binding, plus=plus, could_bind=could_bind, random=lambda octets: NONCE)
    assert next(client).data == header + FIRST[3:]
    final = client.send(S1).data or b""
    assert decode(final[2:].partition(b",")[0]) == channel


def test_channel_binding_that_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="needs a channel binding"):
        scram("user", "pencil", plus=True)
    with pytest.raises(ValueError, match="not a type"):
        scram("user", "pencil", plus=True, binding=("a,b", b"x"))
    with pytest.raises(ValueError, match="no SCRAM"):
        scram("user", "pencil", hash_name="md5")
