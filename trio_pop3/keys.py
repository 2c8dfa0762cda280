"""Keys that stay the same when the server starts again, and are the same in all processes of a machine."""

from __future__ import annotations

import contextlib
import functools
import hmac
import re
import secrets
from typing import Final

_PLACES: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")
# Before the first boot systemd writes "uninitialized", or nothing.
_MACHINE_ID: Final = re.compile(rb"(?!0{32})[0-9a-f]{32}")
_KEY_OCTETS: Final = 32


def lasting_key(purpose: str) -> bytes:
    """32 octets for one purpose: HMAC-SHA256 of it under the id of this machine (machine-id(5)).

    What is made with such a key, as the salt of a user who does not exist, must not change when a server starts again,
    and must not differ between the processes that serve one port: what is stored, as a real user's salt, does neither,
    and so the two could be told apart. The id is made by chance when a machine is installed, and is never sent.

    What remains: another machine has another key, so who may ask both, or asks before and after a move, sees a
    difference. The id can be read by everybody who has an account on the machine, and it is no secret if it came with
    an image that others have, too. Where there is no id, the key is random, one for a purpose and process.
    """
    identity = _machine_id()
    if identity is None:
        return _passing_key(purpose)
    return hmac.digest(identity, b"trio-pop3 " + purpose.encode("utf-8", "surrogateescape"), "sha256")


def _machine_id() -> bytes | None:
    for place in _PLACES:
        # One that is not there or cannot be read is as good as none: the next is asked.
        with contextlib.suppress(OSError), open(place, "rb") as file:
            octets = file.read(64).strip()
            if _MACHINE_ID.fullmatch(octets):
                return octets
    return None


@functools.cache
def _passing_key(purpose: str) -> bytes:
    return secrets.token_bytes(_KEY_OCTETS)
