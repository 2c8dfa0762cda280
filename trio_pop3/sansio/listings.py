"""The few reply texts and lines a client has to understand: STAT, scan listings, unique-ids, capabilities.

Lenient where deployed servers are sloppy: words behind the expected ones are ignored (RFC 1939 sections 5 and 9), and
so are doubled spaces. Numbers and unique-ids are checked before they are believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .errors import RemoteProtocolError

# 19 digits hold any size there can be; a longer one is an attack on whoever converts it.
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
# RFC 1939 section 7 allows 70 octets; servers are known to send more.
_UID: Final = re.compile(r"[\x21-\x7e]{1,512}")


def parse_numbers(line: str) -> tuple[int, int]:
    """`count octets` of STAT, or `number octets` of a scan listing. Raises RemoteProtocolError."""
    first, second = _two_words(line)
    return _number(first, line), _number(second, line)


def parse_unique_id(line: str) -> tuple[int, str]:
    """`number uid`. Raises RemoteProtocolError, also for a uid that is not 1 to 512 characters in 0x21-0x7E."""
    first, uid = _two_words(line)
    if not _UID.fullmatch(uid):
        raise RemoteProtocolError(f"expected a unique-id, got {line[:80]!r}")
    return _number(first, line), uid


def parse_capabilities(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Tag -> arguments, tags in upper case; the arguments of a repeated tag are joined (RFC 2449 section 5)."""
    capabilities: dict[str, dict[str, None]] = {}
    for line in lines:
        tag, *arguments = line.split() or [""]
        if tag:
            # A dictionary keeps the order and takes a tag repeated a thousand times in its stride.
            capabilities.setdefault(tag.upper(), {}).update(dict.fromkeys(arguments))
    return {tag: tuple(arguments) for tag, arguments in capabilities.items()}


def _two_words(line: str) -> tuple[str, str]:
    first, second, *_ = (*filter(None, line.split(" ", 8)), "", "")
    return first, second


def _number(word: str, line: str) -> int:
    if not _NUMBER.fullmatch(word):
        raise RemoteProtocolError(f"expected a number, got {line[:80]!r}")
    return int(word)
