"""Names of Maildir files: identity, order, unique-id, and new ones."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Final

_UID: Final = re.compile(rb"[\x21-\x7e]{1,70}")
_SECONDS: Final = re.compile(rb"[0-9]{1,12}(?=\.|$)")
_MICROSECONDS: Final = re.compile(rb"\.(?:[A-Z][0-9a-f]*)*?M([0-9]{1,6})")
_UNSAFE_IN_HOST: Final = re.compile(r"[^A-Za-z0-9.-]")
_HASH_DIGITS: Final = 40
_HASH: Final = re.compile(rb"[0-9a-f]{40}")
_UID_OCTETS: Final = 70
_AT_ONCE: Final = 4096
_PLAIN: Final = bytes(range(0x21, 0x7F))
# What `deliver` adds: `,S=` and a size of up to ten digits.
_SIZE_OCTETS: Final = 13

# What stands before the base name in a `sort_key`.
TIME_OCTETS: Final = 18
NO_TIME: Final = b"0" * TIME_OCTETS

_sequence = itertools.count(1)


def base_name(name: bytes) -> bytes:
    """What stays the same when a message is moved from new/ to cur/ or its flags change: its identity.

    A name that begins with the flags has nothing that stays the same: it is its own identity.
    """
    return name.partition(b":")[0] or name


def unique_id(base: bytes) -> str:
    """The UIDL of a message: its base name, or a hash of it if that is no unique-id (RFC 1939 section 7).

    A name that looks like a hash is hashed as well: it may be that of another message, and chosen for that.
    """
    if _UID.fullmatch(base) and not _HASH.fullmatch(base):
        return base.decode("ascii")
    return hashlib.sha256(base).hexdigest()[:_HASH_DIGITS]


def unique_ids(bases: Sequence[bytes]) -> list[str]:
    """`unique_id` of each of some base names: a few thousand together, if they are what they mostly are."""
    if len(bases) > _AT_ONCE:
        parts = (unique_ids(bases[at : at + _AT_ONCE]) for at in range(0, len(bases), _AT_ONCE))
        return [*itertools.chain.from_iterable(parts)]
    joined = b"\0".join(bases)
    if joined.translate(None, _PLAIN) == b"\0" * (len(bases) - 1):
        lengths = set(map(len, bases))
        if max(lengths, default=0) <= _UID_OCTETS and _HASH_DIGITS not in lengths:
            return joined.decode("ascii").split("\0") if bases else []
    return [unique_id(base) for base in bases]


def path_id(path: bytes) -> str:
    """The UIDL of a message that cannot go by its base name: a hash of its path below the Maildir, such as `cur/x:2,S`.

    Never that of a base name: its hash is of something without a slash, and no name is kept that looks like a hash.
    """
    return hashlib.sha256(path).hexdigest()[:_HASH_DIGITS]


def arrival(base: bytes, modified: int) -> tuple[int, int, bytes]:
    """Sorts messages by arrival, always the same way: seconds and microseconds from the name, then the name itself.

    A name that does not begin with a time is placed by `modified`, the file's modification time in seconds.
    """
    seconds = _SECONDS.match(base)
    if seconds is None:
        return modified, 0, base
    micro = _MICROSECONDS.match(base, seconds.end())
    return int(seconds.group()), int(micro.group(1)) if micro else 0, base


def sort_key(base: bytes) -> bytes:
    """Sorts as `arrival` does, those without a time first; it ends in the base name, behind TIME_OCTETS.

    No tuple: of a hundred thousand of those, the garbage collector would make a long stop.
    """
    seconds, micro, _ = arrival(base, 0)
    return b"%012d%06d%b" % (seconds, micro, base)


def new_name() -> str:
    """A base name no other delivery, process or host makes; with its size behind it still a unique-id as it is."""
    now = time.time_ns()
    micro = now // 1000 % 1_000_000
    stem = f"{now // 10**9}.M{micro:06d}P{os.getpid()}Q{next(_sequence)}R{secrets.token_hex(4)}."
    # A host name cut short does no harm: the random part tells hosts apart.
    host = _UNSAFE_IN_HOST.sub("-", socket.gethostname())[: _UID_OCTETS - _SIZE_OCTETS - len(stem)]
    return stem + (host or "localhost")
