"""PROXY protocol, version 1 and 2 (HAProxy): what a trusted proxy says of the connection it passes on.

The header comes before everything else, TLS included. Whether there is one is a setting of the listener and never
guessed; whom to believe, and how long to wait, is for the server.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import RemoteProtocolError

# "PROXY UNKNOWN", two IPv6 addresses and two ports at their longest, and CRLF (section 2.1).
_V1_OCTETS: Final = 107
_V1_START: Final = b"PROXY "

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_OCTETS: Final = 16
# A header was meant to fit one small TCP segment (536 octets). With UNIX addresses, a unique id, names from a
# certificate and the vectors of cloud providers 1 KiB can be passed; this is what a peer may make us hold.
_MOST_BEHIND: Final = 4096
_UNIQUE_ID_OCTETS: Final = 128

_LINE_END: Final = re.compile(rb"[\r\n]")
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
# No zone: it means nothing on another machine.
_ADDRESS: Final = re.compile(rb"[0-9A-Fa-f:.]+")
_UNFINISHED: Final = re.compile(rb"[0-9A-Fa-f:.]*")
# What must not stand in a log line or a reply.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_EndPoint: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says.

    local: keep the addresses of the connection itself: a health check of the proxy (v2 LOCAL), addresses it does not
        know (v1 UNKNOWN, v2 UNSPEC), or a client on a UNIX socket. `source` and `destination` are None then, and only
        then. `tls` may still be true for the UNIX socket.
    source, destination: textual IP address and port. IPv6 in its short form, IPv4-mapped addresses as IPv4.
    tls: the client came to the proxy over TLS. Says nothing of our own connection, so nothing of channel bindings.
    tls_version, cipher: "TLSv1.3", "TLS_AES_256_GCM_SHA384".
    server_name: what the client asked for, with SNI if that was TLS.
    client_common_name: from the client's certificate, if it presented one and the proxy found it good.
    unique_id: how the proxy calls this connection, 1 to 128 octets.
    """

    local: bool
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None
    tls: bool = False
    tls_version: str | None = None
    cipher: str | None = None
    server_name: str | None = None
    client_common_name: str | None = None
    unique_id: bytes | None = None


_KEEP_REAL: Final = ProxyHeader(local=True)


class ProxyHeaderParser:
    """Takes the first octets of a connection until the header is complete.

    `rest` is what followed the header: the beginning of a TLS handshake or of POP3, to be read before anything else.
    """

    __slots__ = ("_buffer", "_failure", "_header", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self._buffer = bytearray()
        self._header: ProxyHeader | None = None
        self._failure: str | None = None

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take octets in; the header once it is complete, None while more is needed.

        Octets fed later go to `rest`. Raises RemoteProtocolError as soon as this cannot become a valid header, and
        ever after: the connection must be closed, nothing may be sent.
        """
        if self._failure is not None:
            raise RemoteProtocolError(self._failure)
        if self._header is not None:
            self.rest += data
            return self._header
        self._buffer += data
        try:
            found = _read(bytes(self._buffer[: _FIXED_OCTETS + _MOST_BEHIND]))
        except RemoteProtocolError as failure:
            self._failure = str(failure)
            self._buffer.clear()
            raise
        if found is None:
            return None
        self._header, octets = found
        self.rest = bytes(self._buffer[octets:])
        self._buffer.clear()
        return self._header


_Found: TypeAlias = tuple[ProxyHeader, int] | None


def _read(data: bytes) -> _Found:
    """The header at the start of some octets and its length, or None if it goes on behind them."""
    if data.startswith(_SIGNATURE):
        return _read_v2(data)
    return None if _SIGNATURE.startswith(data) else _read_v1(data)


def _bad(reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"PROXY header: {reason}")


# --- version 1: a line of text -------------------------------------------------------------------------------------


def _read_v1(data: bytes) -> _Found:
    if data[: len(_V1_START)] != _V1_START[: len(data)]:
        raise _bad("missing")
    line, end = data[:_V1_OCTETS], b""
    if cut := _LINE_END.search(line):
        line, end = line[: cut.start()], line[cut.start() :][:2]
        if end not in (b"\r", b"\r\n"):
            raise _bad("CR or LF alone")
    if len(line) > _V1_OCTETS - 2:
        raise _bad("line too long")
    header = _read_words(line[len(_V1_START) :].split(b" "), ended=bool(end))
    return None if header is None or end != b"\r\n" else (header, len(line) + 2)


def _read_words(words: list[bytes], *, ended: bool) -> ProxyHeader | None:
    """The meaning of a line without its first word; None if it has not ended. What has arrived is checked at once."""
    family, *values = words
    if not values and not ended and any(name.startswith(family) for name in _V1_FAMILIES):
        return None
    if family not in _V1_FAMILIES:
        raise _bad("unknown address family")
    version = _V1_FAMILIES[family]
    if version is None:
        return _KEEP_REAL
    if len(values) > 4 or (ended and len(values) < 4):
        raise _bad("two addresses and two ports expected")
    last = None if ended else values.pop()
    addresses = [_textual_address(value, version) for value in values[:2]]
    ports = [_textual_port(value) for value in values[2:]]
    if last is not None:
        if not _UNFINISHED.fullmatch(last):
            raise _bad("neither address nor port")
        return None
    return ProxyHeader(False, (addresses[0], ports[0]), (addresses[1], ports[1]))


_V1_FAMILIES: Final[Mapping[bytes, type[_IP] | None]] = {
    b"TCP4": ipaddress.IPv4Address,
    b"TCP6": ipaddress.IPv6Address,
    b"UNKNOWN": None,  # whatever follows is ignored
}


def _textual_address(word: bytes, version: type[_IP]) -> str:
    try:
        if not _ADDRESS.fullmatch(word):
            raise ValueError
        return _shown(version(word.decode("ascii")))
    except ValueError:
        raise _bad("not an address of its family") from None


def _textual_port(word: bytes) -> int:
    if not _PORT.fullmatch(word) or (port := int(word)) > 0xFFFF:
        raise _bad("not a port")
    return port


def _shown(address: _IP) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


# --- version 2: binary ---------------------------------------------------------------------------------------------

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM: Final = 1
# Octets of the address block.
_FAMILIES: Final[Mapping[int, int]] = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}

_AUTHORITY: Final = 0x02
_CRC32C: Final = 0x03
_UNIQUE_ID: Final = 0x05
_SSL: Final = 0x20
_SSL_VERSION: Final = 0x21
_SSL_COMMON_NAME: Final = 0x22
_SSL_CIPHER: Final = 0x23
# Bits of the client field: it used TLS; it showed a certificate, now or earlier in this TLS session.
_CLIENT_SSL: Final = 0x01
_CLIENT_CERTIFICATE: Final = 0x02 | 0x04


def _read_v2(data: bytes) -> _Found:
    command, family = data[12:13], data[13:14]
    if command and command[0] not in (_LOCAL, _PROXY):
        raise _bad("unknown version or command")
    if family and command[0] == _PROXY:
        _check_family(family[0])
    if len(data) < _FIXED_OCTETS:
        return None
    # LOCAL says nothing of the client, and its family and block mean nothing. Neither does a block of no family: where
    # its vectors begin cannot be known.
    skipped = command[0] == _LOCAL or not family[0] >> 4 or not family[0] & 15
    behind = int.from_bytes(data[14:16])
    if behind > _MOST_BEHIND:
        raise _bad("too long")
    if not skipped and behind < _FAMILIES[family[0] >> 4]:
        raise _bad("no room for its addresses")
    total = _FIXED_OCTETS + behind
    if len(data) < total:
        return None
    return (_KEEP_REAL if skipped else _read_block(data[:total], family[0] >> 4)), total


def _check_family(octet: int) -> None:
    if octet >> 4 not in _FAMILIES:
        raise _bad("unknown address family")
    if octet & 15 > _STREAM:
        raise _bad("not a stream")


def _read_block(header: bytes, family: int) -> ProxyHeader:
    """Addresses and vectors of a complete header that has them."""
    start = _FIXED_OCTETS + _FAMILIES[family]
    source, destination = _end_points(header[_FIXED_OCTETS:start], family)
    vectors = _vectors(header, start)
    if _CRC32C in vectors:
        _check_sum(header, *vectors[_CRC32C])
    values = {kind: header[begin:end] for kind, (begin, end) in vectors.items()}
    unique_id = values.get(_UNIQUE_ID)
    if unique_id is not None and len(unique_id) > _UNIQUE_ID_OCTETS:
        raise _bad("unique id too long")
    tls, version, cipher, common_name = _tls(values.get(_SSL))
    return ProxyHeader(
        local=source is None,
        source=source,
        destination=destination,
        tls=tls,
        tls_version=version,
        cipher=cipher,
        server_name=_text(values.get(_AUTHORITY)),
        client_common_name=common_name,
        unique_id=unique_id or None,
    )


def _end_points(block: bytes, family: int) -> tuple[_EndPoint | None, _EndPoint | None]:
    if family == _UNIX:
        return None, None
    *addresses, ports = (
        (block[:4], block[4:8], block[8:]) if family == _INET else (block[:16], block[16:32], block[32:])
    )
    source, destination = (_shown(ipaddress.ip_address(address)) for address in addresses)
    return (source, int.from_bytes(ports[:2])), (destination, int.from_bytes(ports[2:]))


def _vectors(data: bytes, start: int) -> dict[int, tuple[int, int]]:
    """Type -> where its value begins and ends. Types that we read must not come twice: which one would count?"""
    vectors: dict[int, tuple[int, int]] = {}
    while start < len(data):
        begin = start + 3
        end = begin + int.from_bytes(data[start + 1 : begin])
        if begin > len(data) or end > len(data):
            raise _bad("vector beyond its end")
        if data[start] in vectors and data[start] in _READ:
            raise _bad("vector twice")
        vectors[data[start]] = begin, end
        start = end
    return vectors


_READ: Final = frozenset({_AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL, _SSL_VERSION, _SSL_COMMON_NAME, _SSL_CIPHER})


def _tls(value: bytes | None) -> tuple[bool, str | None, str | None, str | None]:
    """Whether the client used TLS, the version, the cipher, and the name in a certificate that was found good."""
    if value is None:
        return False, None, None, None
    if len(value) < 5:
        raise _bad("TLS vector too short")
    vectors = _vectors(value, 5)
    if not value[0] & _CLIENT_SSL:
        return False, None, None, None
    version, cipher, name = (
        _text(value[slice(*vectors[kind])]) if kind in vectors else None
        for kind in (_SSL_VERSION, _SSL_CIPHER, _SSL_COMMON_NAME)
    )
    good = value[0] & _CLIENT_CERTIFICATE and not any(value[1:5])
    return True, version, cipher, name if good else None


def _text(value: bytes | None) -> str | None:
    if not value:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("text that is not UTF-8") from None
    if _CONTROLS.search(text):
        raise _bad("control characters in a text")
    return text


# --- CRC32C (RFC 4960 appendix B), reflected polynomial 0x82F63B78 ---------------------------------------------------


def _table_entry(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
    return octet


_TABLE: Final = tuple(_table_entry(octet) for octet in range(256))


def crc32c(data: bytes) -> int:
    """The CRC32C of some octets, 0 to 2**32 - 1."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _check_sum(header: bytes, begin: int, end: int) -> None:
    """The sum is over the whole header with zeros in the place of the sum (section 2.2.3)."""
    if end - begin != 4 or crc32c(header[:begin] + bytes(4) + header[end:]) != int.from_bytes(header[begin:end]):
        raise _bad("wrong checksum")
