"""SCRAM, the server's side, against messages made by hand."""

from __future__ import annotations

import dataclasses
import re

import pytest

from trio_pop3.sansio.base64 import decode, encode
from trio_pop3.sasl import (
    MECHANISMS,
    FindKeys,
    Identity,
    Malformed,
    Mechanism,
    Rejected,
    ServerContext,
    derive_keys,
    scram_mechanism,
)
from trio_pop3.sasl.mechanisms.scram_keys import make_proof, salt_password

from .wire import BINDING, KEYS, SALT, Backend, Served

SHA256 = MECHANISMS["SCRAM-SHA-256"]
SHA256_PLUS = MECHANISMS["SCRAM-SHA-256-PLUS"]
BOUND = ServerContext(bindings=dict([BINDING]), plus_offered=True, fake_key=b"k3y")
UNBOUND = ServerContext(fake_key=b"k3y")
SALTED = salt_password(b"pencil", SALT, 4096, "sha256")


class Client:
    """A client that does what it is told, right or wrong, knowing the password "pencil"."""

    def __init__(
        self,
        first: bytes = b"n=tim,r=cnonce",
        header: bytes = b"n,,",
        *,
        mechanism: Mechanism = SHA256,
        context: ServerContext = UNBOUND,
        backend: Backend | None = None,
    ) -> None:
        self.first = first
        self.header = header
        self.served = Served(mechanism.start(context, header + first), backend)

    def begin(self) -> dict[str, str]:
        """Attributes of server-first."""
        challenge = self.served.step()
        assert isinstance(challenge, bytes)
        self.server_first = challenge
        return {part[0]: part[2:] for part in challenge.decode().split(",")}

    def finish(
        self,
        *,
        nonce: bytes | None = None,
        binding: bytes | None = None,
        extension: bytes = b"",
        salted: bytes = SALTED,
        proof: bytes | None = None,
    ) -> bytes | Identity:
        """Sends client-final, which would be good if nothing were said."""
        nonce = self.begin()["r"].encode() if nonce is None else nonce
        binding = encode(self.header) if binding is None else binding
        unproved = b"c=%b,r=%b%b" % (binding, nonce, extension)
        everything = b",".join((self.first, self.server_first, unproved))
        proof = encode(make_proof(salted, everything, "sha256")) if proof is None else proof
        return self.served.step(b"%b,p=%b" % (unproved, proof))


@pytest.mark.parametrize(
    ("mechanism", "snonce", "salt", "c1", "s1", "c2", "s2"),
    [
        (
            "SCRAM-SHA-256",
            b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            b"W22ZaJ0SNY7soEsUEjb6gQ==",
            b"biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
            (
                b"cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxp"
                b"PTQwOTY="
            ),
            (
                b"Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRl"
                b"OXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ=="
            ),
            b"dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==",
        ),
        (
            "SCRAM-SHA-1",
            b"3rfcNHYJY1ZVvWVs7j",
            b"QSXCR+Q6sek8bf92",
            b"biwsbj11c2VyLHI9ZnlrbytkMmxiYkZnT05Sdjlxa3hkYXdM",
            b"cj1meWtvK2QybGJiRmdPTlJ2OXFreGRhd0wzcmZjTkhZSlkxWlZ2V1ZzN2oscz1RU1hDUitRNnNlazhiZjkyLGk9NDA5Ng==",
            (
                b"Yz1iaXdzLHI9ZnlrbytkMmxiYkZnT05Sdjlxa3hkYXdMM3JmY05IWUpZMVpWdldWczdqLHA9djBYOHYzQnoyVDBDSkdiSlF5RjBYK0hJNFRz"
                b"PQ=="
            ),
            b"dj1ybUY5cHFWOFM3c3VBb1pXamE0ZEpSa0ZzS1E9",
        ),
    ],
)
def test_vectors(mechanism: str, snonce: bytes, salt: bytes, c1: bytes, s1: bytes, c2: bytes, s2: bytes) -> None:
    """PROTOCOL 9, R5802-24, R5034-28: the last challenge has the signature, +OK has nothing."""
    hash_name = "sha256" if "256" in mechanism else "sha1"
    keys = {hash_name: derive_keys("pencil", decode(salt), 4096, hash_name)}
    context = ServerContext(random=lambda octets: snonce)
    served = Served(MECHANISMS[mechanism].start(context, decode(c1)), Backend("user", keys=keys))
    assert served.step() == decode(s1)
    assert served.step(decode(c2)) == decode(s2)
    assert served.step(b"") == Identity("user")
    assert served.backend.seen == [FindKeys("user", hash_name)]


def test_a_good_client() -> None:
    """R5802-24: the signature is answered by an empty response, and by nothing else."""
    client = Client()
    assert re.fullmatch(rb"v=[A-Za-z0-9+/]{43}=", _octets(client.finish()))
    assert client.served.step(b"") == Identity("tim")
    client = Client()
    client.finish()
    with pytest.raises(Malformed):
        client.served.step(b"x")


def test_nonces_are_fresh() -> None:
    """R5802-09."""
    nonces = {Client().begin()["r"] for _ in range(20)}
    assert len(nonces) == 20
    assert all(nonce.startswith("cnonce") and len(nonce) > 20 for nonce in nonces)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n=tim",
        b"r=cnonce,n=tim",
        b"n=tim,r=",
        b"n=tim,r=" + b"x" * 1025,
        b"n=tim,r=c\xc3\xa9",
        b"n=tim,r=c nonce",
        b"n=t=m,r=cnonce",  # R5802-04
        b"n=\xff,r=cnonce",
        b"n=" + b"x" * 1025 + b",r=cnonce",
        b"m=x,n=tim,r=cnonce",  # R5802-02
        b"n=tim,r=cnonce,m=x",
        b"n=tim,r=cnonce,x=",
        b"n=tim,r=cnonce,xy=z",
        b"n=tim,r=cnonce,",
        b"n=tim,r=cnonce,x=a\0",
    ],
)
def test_malformed_client_first(first: bytes) -> None:
    """R5802-02, R5802-04, R5802-16: nobody is looked up."""
    client = Client(first)
    with pytest.raises(Malformed):
        client.served.step()
    assert not client.served.backend.seen


@pytest.mark.parametrize("header", [b"x,,", b"", b"n,", b"N,,", b"p=,,"])
def test_flags(header: bytes) -> None:
    """R5802-01."""
    with pytest.raises(Malformed):
        Client(header=header).served.step()


@pytest.mark.parametrize(
    ("first", "header"),
    [(b"n=,r=cnonce", b"n,,"), (b"n=\x07,r=cnonce", b"n,,"), (b"n=tim,r=cnonce", "n,a=\u00ad,".encode())],
)
def test_names_that_are_nobodys(first: bytes, header: bytes) -> None:
    """R5034-24, R4422-05, H6."""
    with pytest.raises(Rejected):
        Client(first, header).served.step()


def test_names_are_decoded_and_prepared_but_hashed_as_received() -> None:
    """R5802-06, R5034-23, R5802-15: authzid, escapes and extensions."""
    client = Client("n=t\u00ad=2C=3Dm,r=cnonce,x=y=z,z=1".encode(), b"n,a=\xe2\x85\xa8,", backend=Backend("t,=m"))
    client.finish(extension=b",x=1,y=2")
    assert client.served.step(b"") == Identity("t,=m", "IX")


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"c=biws,r=%n",
        b"r=%n,c=biws,p=%p",
        b"c=biws,r=%n,p=",
        b"c=biws,r=%n,p=%p,x=1",
        b"c=biws,r=%n,m=x,p=%p",  # R5802-02
        b"c=biws,m=x,r=%n,p=%p",
        b"c=biws,r=%n,p=AAAA",
        b"c=biws,r=%n,p=AB==",
        b"c=biws,r=%n,p=%p=",
        b"c=biws,r=%n,p=%p,p=%p",
        b"e=other-error",
    ],
)
def test_malformed_client_final(final: bytes) -> None:
    """R5802-02."""
    client = Client()
    nonce = client.begin()["r"].encode()
    proof = encode(bytes(32))
    with pytest.raises(Malformed):
        client.served.step(final.replace(b"%n", nonce).replace(b"%p", proof))


def test_a_wrong_password() -> None:
    """R5802-13: no server-final."""
    with pytest.raises(Rejected):
        Client().finish(salted=salt_password(b"pencils", SALT, 4096, "sha256"))
    with pytest.raises(Rejected):
        Client().finish(proof=encode(bytes(32)))


def test_a_nonce_that_is_not_ours() -> None:
    """R5802-08: even with a good proof."""
    client = Client()
    nonce = client.begin()["r"].encode()
    with pytest.raises(Rejected):
        client.finish(nonce=nonce + b"x")
    client = Client()
    client.begin()
    with pytest.raises(Rejected):
        client.finish(nonce=b"cnonce")


@pytest.mark.parametrize("binding", [b"biwt", b"eSws", b"biw", b"!"])
def test_a_header_that_was_changed_on_the_way(binding: bytes) -> None:
    """R5802-11: also without channel binding."""
    with pytest.raises(Rejected):
        Client().finish(binding=binding)


# --- channel binding -----------------------------------------------------------------------------------------------

P = b"p=tls-server-end-point,,"


def test_channel_binding() -> None:
    """R5802-11: as the context has it."""
    client = Client(header=P, mechanism=SHA256_PLUS, context=BOUND)
    client.finish(binding=encode(P + BINDING[1]))
    assert client.served.step(b"") == Identity("tim")


@pytest.mark.parametrize("data", [b"", b"another certificate", BINDING[1][:-1], BINDING[1] + b"x"])
def test_another_channel(data: bytes) -> None:
    """R5802-11: somebody sits between."""
    with pytest.raises(Rejected):
        Client(header=P, mechanism=SHA256_PLUS, context=BOUND).finish(binding=encode(P + data))


@pytest.mark.parametrize(
    ("mechanism", "header", "context"),
    [
        (SHA256, b"y,,", BOUND),  # R5802-16
        (SHA256_PLUS, b"y,,", BOUND),
        (SHA256_PLUS, b"n,,", BOUND),
        (SHA256, P, BOUND),
        (SHA256, P, UNBOUND),
        (SHA256_PLUS, P, UNBOUND),  # R5802-17
        (SHA256_PLUS, b"p=tls-unique,,", BOUND),
        (SHA256_PLUS, b"p=TLS-SERVER-END-POINT,,", BOUND),
    ],
)
def test_flags_and_names_must_agree(mechanism: Mechanism, header: bytes, context: ServerContext) -> None:
    """R5802-16, R5802-17, PROTOCOL 6.4: the decision table's failures."""
    client = Client(header=header, mechanism=mechanism, context=context)
    with pytest.raises(Malformed, match="channel binding"):
        client.served.step()
    assert not client.served.backend.seen


@pytest.mark.parametrize(("header", "context"), [(b"n,,", BOUND), (b"n,,", UNBOUND), (b"y,,", UNBOUND)])
def test_without_channel_binding(header: bytes, context: ServerContext) -> None:
    """R5802-18, PROTOCOL 6.4: whoever is offered the variant without -PLUS may use it."""
    client = Client(header=header, context=context)
    client.finish()
    assert client.served.step(b"") == Identity("tim")


# --- unknown users -------------------------------------------------------------------------------------------------


def test_unknown_users_look_like_others() -> None:
    """H7, R4422-06: a salt of their own, always the same, and as many iterations."""
    known = Client().begin()
    tom = [Client(b"n=tom,r=cnonce").begin() for _ in range(2)]
    kim = Client(b"n=kim,r=cnonce").begin()
    assert tom[0]["s"] == tom[1]["s"] != kim["s"]
    assert len(decode(tom[0]["s"].encode())) == len(decode(known["s"].encode()))
    assert tom[0]["i"] == kim["i"] == known["i"] == "4096"
    assert tom[0]["r"] != tom[1]["r"]
    # Like a user's, it is another one for another hash, and cannot be computed without the key.
    sha1 = Client(b"n=tom,r=cnonce", mechanism=MECHANISMS["SCRAM-SHA-1"]).begin()
    other_key = Client(b"n=tom,r=cnonce", context=ServerContext(fake_key=b"other")).begin()
    assert len({tom[0]["s"], sha1["s"], other_key["s"]}) == 3
    # And it is the same for what is prepared to the same name.
    assert Client("n=t\u00adom,r=cnonce".encode()).begin()["s"] == tom[0]["s"]


def test_unknown_users_are_refused_at_the_end() -> None:
    """H6, H7: whatever the proof is; not even one made of the nothing that is stored for them."""
    for proof in (None, encode(bytes(32))):
        client = Client(b"n=tom,r=cnonce")
        with pytest.raises(Rejected):
            client.finish(proof=proof)


def test_keys_that_are_none() -> None:
    """H6: a store that hands out empty or short keys lets nobody in."""
    for keys in (
        dataclasses.replace(KEYS["sha256"], stored_key=b""),
        dataclasses.replace(KEYS["sha256"], stored_key=KEYS["sha1"].stored_key),
    ):
        with pytest.raises(Rejected):
            Client(backend=Backend(keys={"sha256": keys})).finish()


def test_other_iterations() -> None:
    """R5802-10: what unknown users are shown can be what others have."""
    row = scram_mechanism("sha256", plus=False, fake_iterations=10_000)
    assert (row.name, row.method, row.binding) == ("SCRAM-SHA-256", "SCRAM-SHA-256", False)
    assert Client(b"n=tom,r=cnonce", mechanism=row).begin()["i"] == "10000"
    with pytest.raises(ValueError, match="at least 4096"):
        scram_mechanism("sha256", plus=False, fake_iterations=4095)
    with pytest.raises(ValueError, match="no SCRAM"):
        scram_mechanism("md5", plus=False)


def _octets(step: bytes | Identity) -> bytes:
    assert isinstance(step, bytes)
    return step
