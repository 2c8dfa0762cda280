"""Any messages in any mechanism, on either side: nobody gets in without the secret, no client believes a stranger."""

from __future__ import annotations

import re

from trio_pop3.sasl import MECHANISMS, Malformed, Rejected, ServerRejected

from .harness import read, run
from .mechanisms import CLIENTS, SECRET, Door, Script, context_of

# What a server may demand takes seconds. That is meant to be, and would keep the fuzzer from anything else.
DEMANDING = re.compile(rb"i=[0-9]{5,}")


def knock(name: str, options: int, messages: list[bytes]) -> None:
    """Somebody at our server."""
    script = Script(name, messages)
    door = Door(name, context_of(options >> 1), script.say(None) if options & 1 else None)
    try:
        challenge = door.step(None)
        while door.identity is None:
            challenge = door.step(script.say(challenge))
    except (Malformed, Rejected) as failure:
        assert len(str(failure)) < 100 and SECRET not in str(failure), f"it tells too much: {failure}"
        return
    assert door.identity.user == ("anonymous" if name == "ANONYMOUS" else "tim"), f"somebody else: {door.identity}"
    free = name == "ANONYMOUS" or (name == "EXTERNAL" and options & 32)
    assert free or script.proved or SECRET.encode() in b"\0".join(messages), "got in without the secret"


def listen(name: str, options: int, messages: list[bytes]) -> None:
    """Our client, whose user has any name, at somebody's server."""
    user = messages.pop(0).decode("utf-8", "surrogateescape")
    try:
        client = CLIENTS[name](user)
        response = next(client)
        for challenge in [*messages, *[b""] * 5]:
            assert not response.complete or "SCRAM" not in name, "it believes a server that has proved nothing"
            response = client.send(DEMANDING.sub(b"i=4096", challenge))
        raise AssertionError("a client that goes on for ever")
    except (ValueError, ServerRejected) as failure:
        assert len(str(failure)) < 100 and SECRET not in str(failure), f"it tells too much: {failure}"


KINDS = [*((knock, name) for name in MECHANISMS), *((listen, name) for name in CLIENTS)]


def test_one_input(data: bytes) -> None:
    """P5, P6. Messages have the octet 0xFD between them."""
    given = read(data)
    side, name = KINDS[given.sizes[0] % len(KINDS)]
    side(name, given.options, given.payload.split(b"\xfd", 5))


if __name__ == "__main__":
    run(test_one_input)
