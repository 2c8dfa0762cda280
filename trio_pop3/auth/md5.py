"""MD5 that can go on from a state (RFC 1321): hashlib keeps its own to itself, and a CRAM-MD5 secret is two of them."""

from __future__ import annotations

import hmac
import math
import struct
from typing import Final, TypeAlias

State: TypeAlias = tuple[int, int, int, int]

_BLOCK: Final = 64
_WORD: Final = 0xFFFFFFFF
_INITIAL: Final[State] = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES: Final = tuple(int(abs(math.sin(step + 1)) * 2**32) for step in range(64))
_SHIFTS: Final = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
# Where the word of a step is taken from in its round: factor, offset.
_ORDERS: Final = ((1, 0), (5, 1), (3, 5), (7, 0))


def _compress(state: State, block: bytes) -> State:
    """The state after one more block of 64 octets."""
    words = struct.unpack("<16I", block)
    a, b, c, d = state
    for step in range(64):
        turn = step >> 4
        match turn:
            case 0:
                mixed = (b & c) | (~b & d)
            case 1:
                mixed = (d & b) | (~d & c)
            case 2:
                mixed = b ^ c ^ d
            case _:
                mixed = c ^ (b | (~d & _WORD))
        factor, offset = _ORDERS[turn]
        total = (a + mixed + _SINES[step] + words[(factor * step + offset) & 15]) & _WORD
        shift = _SHIFTS[turn][step & 3]
        a, b, c, d = d, (b + (total << shift | total >> (32 - shift))) & _WORD, b, c
    return (state[0] + a) & _WORD, (state[1] + b) & _WORD, (state[2] + c) & _WORD, (state[3] + d) & _WORD


def resume(state: State, seen: int, data: bytes) -> bytes:
    """The digest of a text whose first `seen` octets, whole blocks, led to this state, and whose rest is given."""
    padding = b"\x80" + bytes((-len(data) - 9) % _BLOCK)
    data += padding + struct.pack("<Q", (seen + len(data)) * 8 & 2**64 - 1)
    for at in range(0, len(data), _BLOCK):
        state = _compress(state, data[at : at + _BLOCK])
    return struct.pack("<4I", *state)


def digest(data: bytes) -> bytes:
    """What `hashlib.md5` gives, slowly."""
    return resume(_INITIAL, 0, data)


def hmac_states(key: bytes) -> bytes:
    """The two states that HMAC-MD5 with this key begins in, outer then inner: 32 octets, Dovecot's `{CRAM-MD5}`."""
    if len(key) > _BLOCK:
        key = digest(key)
    key = key.ljust(_BLOCK, b"\0")
    states = (_compress(_INITIAL, bytes(octet ^ pad for octet in key)) for pad in (0x5C, 0x36))
    return b"".join(struct.pack("<4I", *state) for state in states)


def hmac_resume(states: bytes, message: bytes) -> bytes:
    """HMAC-MD5 of a message under the key whose two states these are."""
    words = struct.unpack("<8I", states)
    inner = resume((words[4], words[5], words[6], words[7]), _BLOCK, message)
    return resume((words[0], words[1], words[2], words[3]), _BLOCK, inner)


def hmac_matches(states: bytes, message: bytes, answer: bytes) -> bool:
    """Whether this is the HMAC-MD5 of a message; takes the same time whatever the answer."""
    return hmac.compare_digest(hmac_resume(states, message), answer)
