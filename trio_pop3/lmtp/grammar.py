"""Grammar and limits: RFC 5321 sections 4.1.2 and 4.5.3, as RFC 2033 takes them over. Nothing here has state."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# RFC 5321 section 4.5.3.1.4 asks for 512 octets, and every extension adds some; CRLF included.
MAX_COMMAND_LINE: Final = 2048
# Past this many octets without a line end the peer is not speaking LMTP.
MAX_DROPPED_LINE: Final = 16 * 1024
# Section 4.5.3.1: a path is at most 256 octets with its brackets, a local part 64, which real senders overrun.
_MAX_ADDRESS: Final = 254
_MAX_LOCAL: Final = 128

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_STRING: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL: Final = r"[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_\x80-\U0010ffff-]*[A-Za-z0-9_\x80-\U0010ffff])?"
_DOMAIN: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[\x21-\x5a\x5e-\x7e]+\])"
_QUOTED: Final = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\x20-\x7e])*"'
# What real senders put before the @ and no grammar allows: two dots in a row, one at an end.
_LOCAL: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\U0010ffff-]+"
_PATH: Final = re.compile(
    rf"<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?(?P<local>{_LOCAL}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}))?>(?P<rest>.*)"
)
_PAIR: Final = re.compile(r"\\(.)")
_PARAMETER: Final = re.compile(
    r"(?P<key>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[\x21-\x3c\x3e-\x7e\x80-\U0010ffff]+))?"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]")

# SIZE= and the answer to "how large": never int() on what was not looked at.
SIZE: Final = re.compile(r"[0-9]{1,20}")
# What a client calls itself: a name, or an address in brackets; RFC 2033 has it as EHLO does. Postfix sends its own
# host name, others send what is none.
NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: the local part as it is meant, without quotes, and the domain; "" if there is none (`postmaster`)."""

    local: str
    domain: str = ""

    def __str__(self) -> str:
        """As it stands between the brackets, the local part quoted if it has to be."""
        local = self.local
        if not _DOT_STRING.fullmatch(local):
            local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


def read_path(text: str) -> tuple[Address, str] | None:
    """The address in `<...>` at the beginning, without a source route (RFC 5321 appendix C), and what follows it.

    None if there is none, or one that is too long or holds control characters.
    """
    match = _PATH.fullmatch(text)
    if match is None or _CONTROL.search(text):
        return None
    local, domain = match["local"], match["domain"] or ""
    if local.startswith('"'):
        local = _PAIR.sub(r"\1", local[1:-1])
    address = Address(local, domain)
    if not local or len(local.encode()) > _MAX_LOCAL or len(str(address).encode()) > _MAX_ADDRESS:
        return None
    return address, match["rest"]


def read_parameters(text: str) -> dict[str, str | None] | None:
    """`KEY` and `KEY=VALUE` behind a path, keys in upper case; None if that is not what stands there, or one twice."""
    found: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None or match["key"].upper() in found:
            return None
        found[match["key"].upper()] = match["value"]
    return found
