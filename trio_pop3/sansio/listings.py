"""The few reply texts and lines a client has to understand: STAT, scan listings, unique-ids, capabilities.

Lenient where deployed servers are sloppy: words behind the expected ones are ignored (RFC 1939 section 5 and 9).
Numbers are checked before they are believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .errors import RemoteProtocolError

# 19 digits hold any size there can be; a longer one is an attack on whoever converts it.
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
# RFC 1939 allows 70 octets; servers are known to send more.
_MOST_UID_OCTETS: Final = 512


def _number(word: str, line: str) -> int:
    if not _NUMBER.fullmatch(word):
        raise RemoteProtocolError(f"expected a number, got {line[:80]!r}")
    return int(word)


def parse_numbers(line: str) -> tuple[int, int]:
    """`count octets` of STAT, or `number octets` of a scan listing. Raises RemoteProtocolError."""
    first, _, rest = line.strip().partition(" ")
    return _number(first, line), _number(rest.strip().partition(" ")[0], line)


def parse_unique_id(line: str) -> tuple[int, str]:
    """`number uid`. Raises RemoteProtocolError, also for an empty uid or one of more than 512 octets."""
    first, _, rest = line.strip().partition(" ")
    uid = rest.strip().partition(" ")[0]
    if not uid or len(uid) > _MOST_UID_OCTETS:
        raise RemoteProtocolError(f"not a unique-id listing: {line[:80]!r}")
    return _number(first, line), uid


def parse_capabilities(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Tag -> arguments, tags in upper case; arguments of a repeated tag are joined (RFC 2449 section 5)."""
    capabilities: dict[str, tuple[str, ...]] = {}
    for line in lines:
        tag, *arguments = line.split()[:64] or [""]
        if tag:
            known = capabilities.get(tag.upper(), ())
            capabilities[tag.upper()] = tuple(dict.fromkeys((*known, *arguments)))
    return capabilities
