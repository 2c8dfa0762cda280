"""SCRAM, the server's side (RFC 5802, RFC 7677): neither the wire nor the store shows a password."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final

from ...credentials import ScramKeys
from ...sansio.base64 import decode, encode
from ..exchange import Identity, Malformed, Mechanism, Rejected, ServerContext, ServerExchange, challenge, find_keys
from ..gs2 import Gs2Header, decode_name, split_header
from ..text import prepare, prepare_authzid
from .scram_keys import (
    HASH_OCTETS,
    LEAST_ITERATIONS,
    NONCE_OCTETS,
    check_iterations,
    is_proof,
    make_nonce,
    name_of,
    sign,
)

# Attributes that are not known are ignored where they may stand; `m` says that they must not be.
_EXTENSIONS: Final = rb"(?:,(?![mp]=)[A-Za-z]=[^,\0]+)*+"
_CLIENT_FIRST: Final = re.compile(rb"n=(?P<user>[^,]*),r=(?P<nonce>[!-+\--~]{1,1024})" + _EXTENSIONS)
_CLIENT_FINAL: Final = re.compile(
    rb"(?P<unproved>c=(?P<binding>[^,]+),r=(?P<nonce>[^,]+)" + _EXTENSIONS + rb"),p=(?P<proof>[^,]+)"
)
_FAKE_SALT_OCTETS: Final = 16


@dataclass(frozen=True, slots=True)
class ScramServer:
    """The server's side of one SCRAM mechanism. See `scram_mechanism`."""

    hash_name: str
    plus: bool
    fake_iterations: int

    def __call__(self, context: ServerContext, message: bytes) -> ServerExchange:
        header, client_first = split_header(message)
        binding = self._binding(context, header)
        first = _CLIENT_FIRST.fullmatch(client_first)
        if first is None:
            raise Malformed
        authzid = prepare_authzid(header.name)
        user = prepare(decode_name(first["user"]))
        found = yield from find_keys(user, self.hash_name)
        keys = self._fake_keys(context, user) if found is None else found

        nonce = first["nonce"] + make_nonce(context.random(NONCE_OCTETS))
        server_first = b"r=%b,s=%b,i=%d" % (nonce, encode(keys.salt), keys.iterations)
        final = _CLIENT_FINAL.fullmatch((yield from challenge(server_first)))
        if final is None:
            raise Malformed
        proof = self._decode_proof(final["proof"])
        everything = b",".join((client_first, server_first, final["unproved"]))
        # All of it is looked at, so that nobody learns from the time what was wrong.
        good = (
            found is not None,
            hmac.compare_digest(final["binding"], encode(header.octets + binding)),
            hmac.compare_digest(final["nonce"], nonce),
            is_proof(proof, keys.stored_key, everything, self.hash_name),
        )
        if not all(good):
            raise Rejected("wrong proof")
        if (yield from challenge(b"v=" + encode(sign(keys.server_key, everything, self.hash_name)))):
            raise Malformed
        return Identity(user, authzid)

    def _binding(self, context: ServerContext, header: Gs2Header) -> bytes:
        """The channel binding data that the client's must equal; none without -PLUS (RFC 5802 section 6)."""
        if header.could_bind and context.plus_offered:
            raise Malformed("channel binding is offered here, so it must be used")
        if self.plus != (header.binding is not None):
            raise Malformed("channel binding goes with the mechanisms in -PLUS")
        data = b"" if header.binding is None else context.bindings.get(header.binding)
        if data is None:
            raise Malformed("unsupported channel binding")
        return data

    def _fake_keys(self, context: ServerContext, user: str) -> ScramKeys:
        """What is shown for a user who is not there, the same each time. Nobody knows a password for it."""
        salt = hmac.digest(context.fake_key, f"{self.hash_name} {user}".encode(), "sha256")[:_FAKE_SALT_OCTETS]
        nothing = bytes(HASH_OCTETS[self.hash_name])
        return ScramKeys(salt, self.fake_iterations, nothing, nothing)

    def _decode_proof(self, text: bytes) -> bytes:
        try:
            proof = decode(text)
        except ValueError:
            raise Malformed from None
        if len(proof) != HASH_OCTETS[self.hash_name]:
            raise Malformed
        return proof


def scram_mechanism(hash_name: str, *, plus: bool, fake_iterations: int = LEAST_ITERATIONS) -> Mechanism:
    """A row for the table of mechanisms.

    Args:
        hash_name: "sha1" or "sha256".
        plus: the one with channel binding, of whatever type the context has data for.
        fake_iterations: what unknown users are shown; whoever keeps keys with more than 4096 iterations says so here.

    Raises ValueError for another hash, and for less than 4096 iterations.
    """
    check_iterations(fake_iterations)
    method = name_of(hash_name)
    server = ScramServer(hash_name, plus, fake_iterations)
    return Mechanism(f"{method}-PLUS" if plus else method, server, method, binding=plus)
