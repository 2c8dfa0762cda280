"""Whatever comes before POP3, cut anywhere: the same header or the same refusal, and not one octet read behind it."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trio_pop3.sansio.errors import RemoteProtocolError
from trio_pop3.sansio.proxy import ProxyHeader, ProxyHeaderParser

from .harness import read, run, same

MOST_OCTETS = 16 + 4096
ORACLE: Any = import_module("proxyprotocol.detect").ProxyProtocolDetect() if find_spec("proxyprotocol") else None


def parse(chunks: list[bytes]) -> tuple[ProxyHeader | None, bytes, bool]:
    """The header, what followed it, and whether it was refused: the octet that is wrong first depends on the cuts."""
    parser, header = ProxyHeaderParser(), None
    try:
        for chunk in chunks:
            header = parser.feed(chunk)
    except RemoteProtocolError as failure:
        assert len(str(failure)) < 80, "a long story"
        return None, b"", True
    return header, parser.rest, False


def check(header: ProxyHeader, octets: bytes) -> None:
    """What a header says is fit for logs and for decisions, and another implementation reads the same addresses."""
    assert header.local == (header.source is None) == (header.destination is None), "addresses or none"
    texts = (header.tls_version, header.cipher, header.server_name, header.client_common_name)
    assert all(text is None or (text and not re.search("[\0-\x1f\x7f]", text)) for text in texts), "a text for no log"
    assert header.tls or header.client_common_name is None, "a certificate without TLS"
    assert header.unique_id is None or 1 <= len(header.unique_id) <= 128, "unique id"
    read = ORACLE.unpack(octets) if ORACLE and not header.local else None
    for ours, theirs in ((header.source, read.source), (header.destination, read.dest)) if read else ():
        assert ours == (str(getattr(theirs[0], "ipv4_mapped", None) or theirs[0]), theirs[1]), f"{ours} is not {theirs}"


def test_one_input(data: bytes) -> None:
    """P6, G9."""
    given = read(data)
    octets = given.payload
    header, rest, refused = same([parse(chunks) for chunks in given.cuts(octets)])
    assert header or refused or len(octets) < MOST_OCTETS, "it waits for more than a header may have"
    if header is not None:
        length = len(octets) - len(rest)
        assert octets.endswith(rest), "what followed was changed"
        assert parse([octets[:length]]) == (header, b"", False), "octets behind the header changed it"
        assert parse([octets[: length - 1]]) == (None, b"", False), "it was complete before its end"
        check(header, octets[:length])


if __name__ == "__main__":
    run(test_one_input)
