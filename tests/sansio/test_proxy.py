"""PROXY headers: what the specification says, every cut, and another implementation's word for it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from importlib import import_module

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_pop3.sansio.errors import RemoteProtocolError
from trio_pop3.sansio.proxy import ProxyHeader, ProxyHeaderParser, crc32c

from .strategies import cut, cuts

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, TCP6, UNIX = 0x00, 0x11, 0x21, 0x31
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, NETNS = 1, 2, 3, 4, 5, 0x20, 0x30
VERSION, COMMON_NAME, CIPHER, SIG_ALG = 0x21, 0x22, 0x23, 0x24
ADDRESSES4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 995)
KEEP_REAL = ProxyHeader(local=True)
FROM4 = ProxyHeader(False, ("192.0.2.1", 4711), ("198.51.100.2", 995))

Vector = tuple[int, bytes]


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def ssl(client: int, verify: int, *vectors: Vector) -> Vector:
    return SSL, struct.pack("!BI", client, verify) + b"".join(tlv(*vector) for vector in vectors)


def v2(
    family: int, block: bytes, vectors: Iterable[Vector] = (), *, command: int = PROXY, checked: bool = False
) -> bytes:
    """A header, with its checksum at the end if wanted."""
    behind = block + b"".join(tlv(*vector) for vector in vectors) + (tlv(CRC32C, bytes(4)) if checked else b"")
    header = SIGNATURE + bytes([command, family]) + struct.pack("!H", len(behind)) + behind
    return header[:-4] + naive_crc32c(header).to_bytes(4) if checked else header


def naive_crc32c(data: bytes) -> int:
    """RFC 4960 appendix B, bit by bit."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def parse(*chunks: bytes) -> tuple[ProxyHeader | None, bytes] | str:
    """The header and what followed it, or why it is none."""
    parser, header = ProxyHeaderParser(), None
    try:
        for chunk in chunks:
            header = parser.feed(chunk)
    except RemoteProtocolError as failure:
        return str(failure)
    return header, parser.rest


def parsed(header: bytes) -> ProxyHeader:
    """The meaning of a header that is whole and good."""
    outcome = parse(header + b"\x16\x03\x01rest")
    assert not isinstance(outcome, str), outcome
    assert outcome[0] is not None
    assert outcome[1] == b"\x16\x03\x01rest"
    return outcome[0]


def refused(header: bytes) -> str:
    outcome = parse(header)
    assert isinstance(outcome, str), outcome
    return outcome.removeprefix("PROXY header: ")


# --- version 1 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 995", FROM4),
        (b"PROXY TCP4 255.255.255.255 0.0.0.0 0 65535", ProxyHeader(False, ("255.255.255.255", 0), ("0.0.0.0", 65535))),
        (
            b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::1 1 2",
            ProxyHeader(False, ("2001:db8::1", 1), ("::1", 2)),
        ),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 4711 995", FROM4),
        (
            b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535",
            ProxyHeader(False, (":".join(["ffff"] * 8), 65535), (":".join(["ffff"] * 8), 65535)),
        ),
        (b"PROXY UNKNOWN", KEEP_REAL),
        (b"PROXY UNKNOWN ", KEEP_REAL),
        (b"PROXY UNKNOWN \0\xff nonsense", KEEP_REAL),
        (b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535", KEEP_REAL),
    ],
)
def test_v1(line: bytes, header: ProxyHeader) -> None:
    """RPRX-03, RPRX-05, RPRX-10: and what follows, a TLS handshake say, is not touched."""
    assert parsed(line + b"\r\n") == header


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 04711 995\r\n", "not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 65536\r\n", "not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 -1\r\n", "not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1_0\r\n", "not a port"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 \r\n", "not a port"),
        (b"PROXY TCP4 192.0.2.01 198.51.100.2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP4 192.0.2 198.51.100.2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP4 \xd9\xa1.0.0.1 198.51.100.2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP6 192.0.2.1 198.51.100.2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP6 2001:db8::1 198.51.100.2 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP6 00001::1 ::1 4711 995\r\n", "not an address of its family"),
        (b"PROXY TCP4  192.0.2.1 198.51.100.2 4711 995\r\n", "two addresses and two ports expected"),
        (b"PROXY TCP4 192.0.2.1  198.51.100.2 4711\r\n", "not an address of its family"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 995 \r\n", "two addresses and two ports expected"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n", "two addresses and two ports expected"),
        (b"PROXY TCP4\r\n", "two addresses and two ports expected"),
        (b"PROXY UDP4 192.0.2.1 198.51.100.2 4711 995\r\n", "unknown address family"),
        (b"PROXY tcp4 192.0.2.1 198.51.100.2 4711 995\r\n", "unknown address family"),
        (b"PROXY UNKNOWNX\r\n", "unknown address family"),
        (b"PROXY \r\n", "unknown address family"),
        (b"PROXY\tTCP4", "missing"),
        (b"proxy TCP4", "missing"),
        (b"CAPA\r\n", "missing"),
        (b"\x16\x03\x01", "missing"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 995\n", "CR or LF alone"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 995\rX", "CR or LF alone"),
        (b"PROXY UNKNOWN a\nb\r\n", "CR or LF alone"),
        (b"PROXY UNKNOWN a\r\r\n", "CR or LF alone"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "line too long"),
        (b"PROXY UNKNOWN " + b"x" * 92, "line too long"),
        (b"PROXY TCP4 192.0.2.1 x", "neither address nor port"),
    ],
)
def test_v1_refused(line: bytes, reason: str) -> None:
    """RPRX-03, RPRX-04: single spaces, no leading zeros, CRLF and nothing else, families that match, ports in range."""
    assert refused(line) == reason


def test_v1_at_its_longest() -> None:
    """RPRX-03: 107 octets with CRLF, not one more; G9: bounded."""
    assert parsed(b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n") == KEEP_REAL
    assert parse(b"PROXY UNKNOWN ".ljust(105, b"x")) == (None, b"")
    assert refused(b"PROXY UNKNOWN ".ljust(106, b"x")) == "line too long"


@pytest.mark.parametrize(
    "start",
    [b"Q", b"PRo", b"PROXY X", b"PROXY TCP5", b"PROXY TCP4 x", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 01 ", b"\r\n\r\n\1"],
)
def test_what_cannot_become_a_header_is_refused_at_once(start: bytes) -> None:
    """RPRX-01, RPRX-02: nothing is guessed, and nobody waits for the rest of what is no header."""
    assert parse(start[:-1]) == (None, b"")
    refused(start)


# --- version 2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "meaning"),
    [
        (v2(TCP4, ADDRESSES4), FROM4),
        (
            v2(TCP6, bytes(15) + b"\1" + bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + b"\0\1\xff\xff"),
            ProxyHeader(False, ("::1", 1), ("192.0.2.1", 65535)),
        ),
        (v2(UNIX, bytes(216)), KEEP_REAL),
        (v2(UNSPEC, b""), KEEP_REAL),
        (v2(UNSPEC, b"\xff" * 99), KEEP_REAL),
        (v2(0x10, ADDRESSES4), KEEP_REAL),
        (v2(0x01, b""), KEEP_REAL),
        (v2(UNSPEC, b"", command=LOCAL), KEEP_REAL),
        (v2(TCP4, ADDRESSES4, command=LOCAL), KEEP_REAL),
        (v2(0xFF, b"\xff" * 4096, command=LOCAL), KEEP_REAL),
    ],
)
def test_v2(header: bytes, meaning: ProxyHeader) -> None:
    """RPRX-06, RPRX-07, RPRX-08: exactly 16 + len octets, for LOCAL too, whose family and block mean nothing."""
    assert parsed(header) == meaning


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (SIGNATURE[:-1] + b"\0", "missing"),
        (SIGNATURE + b"\x11", "unknown version or command"),
        (SIGNATURE + b"\x31", "unknown version or command"),
        (SIGNATURE + b"\x22", "unknown version or command"),
        (SIGNATURE + b"\x21\x41", "unknown address family"),
        (SIGNATURE + b"\x21\x12", "not a stream"),
        (SIGNATURE + b"\x21\x22", "not a stream"),
        (SIGNATURE + b"\x21\x32", "not a stream"),
        (SIGNATURE + b"\x21\x02", "not a stream"),
        (SIGNATURE + b"\x21\x13", "not a stream"),
        (SIGNATURE + b"\x21\x11\x00\x0b", "no room for its addresses"),
        (SIGNATURE + b"\x21\x21\x00\x23", "no room for its addresses"),
        (SIGNATURE + b"\x21\x31\x00\xd7", "no room for its addresses"),
        (SIGNATURE + b"\x21\x11\x10\x01", "too long"),
        (SIGNATURE + b"\x20\x00\xff\xff", "too long"),
    ],
)
def test_v2_refused_before_it_is_complete(header: bytes, reason: str) -> None:
    """RPRX-06, RPRX-08, G9: at the octet that is wrong. Connections without streams are not ours."""
    assert parse(header[:-1]) == (None, b"")
    assert refused(header) == reason


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (b"\x04", "vector beyond its end"),
        (b"\x04\x00", "vector beyond its end"),
        (b"\x04\x00\x01", "vector beyond its end"),
        (b"\x04\xff\xffxx", "vector beyond its end"),
        (tlv(UNIQUE_ID, b"x" * 129), "unique id too long"),
        (tlv(AUTHORITY, b"a") * 2, "vector twice"),
        (tlv(AUTHORITY, b"\xff"), "text that is not UTF-8"),
        (tlv(AUTHORITY, b"mail\r\nroot"), "control characters in a text"),
        (tlv(AUTHORITY, b"mail\xe2\x80\xa8root"), "control characters in a text"),
        (tlv(SSL, b"\1\0\0\0"), "TLS vector too short"),
        (tlv(SSL, b"\1\0\0\0\0\x21\0\1"), "vector beyond its end"),
        (tlv(SSL, b"\0\0\0\0\0\x21"), "vector beyond its end"),
        (tlv(*ssl(1, 0, (VERSION, b"TLSv1.3"), (VERSION, b"TLSv1.2"))), "vector twice"),
        (tlv(*ssl(1, 0, (CIPHER, b"\xff"))), "text that is not UTF-8"),
        (tlv(CRC32C, b""), "wrong checksum"),
        (tlv(CRC32C, bytes(5)), "wrong checksum"),
    ],
)
def test_bad_vectors(vectors: bytes, reason: str) -> None:
    assert refused(v2(TCP4, ADDRESSES4 + vectors)) == reason


def test_vectors() -> None:
    """What is not known is skipped, and may come twice."""
    vectors = [
        (ALPN, b"pop3"), (NOOP, b""), (NOOP, b"xyz"), (0xE0, b"custom"), (0xE0, b"again"), (NETNS, b"blue"),
        (0xE1, b"x" * 300), (AUTHORITY, "m\u00e4il.example".encode()), (UNIQUE_ID, b"\0" * 128),
        ssl(1, 0, (VERSION, b"TLSv1.3"), (CIPHER, b"TLS_AES_256_GCM_SHA384"), (SIG_ALG, b"RSA"), (SIG_ALG, b"x")),
    ]  # fmt: skip
    expected = ProxyHeader(
        local=False,
        source=FROM4.source,
        destination=FROM4.destination,
        tls=True,
        tls_version="TLSv1.3",
        cipher="TLS_AES_256_GCM_SHA384",
        server_name="m\u00e4il.example",
        unique_id=bytes(128),
    )
    assert parsed(v2(TCP4, ADDRESSES4, vectors)) == expected
    assert parsed(v2(TCP4, ADDRESSES4, vectors, checked=True)) == expected
    assert parsed(v2(TCP4, ADDRESSES4, [(UNIQUE_ID, b""), (AUTHORITY, b"")])) == FROM4


@pytest.mark.parametrize(
    ("client", "verify", "tls", "name"),
    [
        (0b000, 0, False, None),  # no TLS: whatever else is said of it does not count
        (0b110, 0, False, None),
        (0b001, 0, True, None),  # a name without a certificate
        (0b011, 0, True, "alice"),  # a certificate on this connection
        (0b101, 0, True, "alice"),  # or earlier in this TLS session
        (0b011, 1, True, None),  # which the proxy found bad
        (0b011, 0x01000000, True, None),
        (0b1001, 0, True, None),
    ],
)
def test_tls_and_the_certificate(client: int, verify: int, tls: bool, name: str | None) -> None:
    """A name counts only with a certificate that was verified (section 2.2.6)."""
    header = parsed(v2(TCP4, ADDRESSES4, [ssl(client, verify, (COMMON_NAME, b"alice"), (VERSION, b"TLSv1.2"))]))
    assert (header.tls, header.client_common_name) == (tls, name)
    assert header.tls_version == ("TLSv1.2" if tls else None)


def test_a_unix_socket_has_no_address_and_may_have_tls() -> None:
    header = parsed(v2(UNIX, bytes(216), [ssl(1, 0), (UNIQUE_ID, b"x")]))
    assert header == ProxyHeader(local=True, tls=True, unique_id=b"x")


def test_local_says_nothing_of_tls() -> None:
    """RPRX-08."""
    assert parsed(v2(UNIX, bytes(216), [ssl(1, 0)], command=LOCAL)) == KEEP_REAL


@pytest.mark.parametrize("octet", range(16 + 12 + 7))
def test_a_flipped_octet_is_noticed(octet: int) -> None:
    """RPRX-09."""
    header = bytearray(v2(TCP4, ADDRESSES4, checked=True))
    assert parsed(bytes(header)) == FROM4
    header[octet] ^= 0x40
    # A length that grew waits for more, and the type of the vector is what makes it a sum.
    unnoticed = {15: (None, b""), 28: (FROM4, b"")}
    outcome = parse(bytes(header))
    assert outcome == unnoticed.get(octet, outcome)
    assert isinstance(outcome, str) is (octet not in unnoticed)


def test_crc32c_vectors() -> None:
    """RFC 3720 appendix B.4 and the usual check value."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


@given(st.binary())
def test_crc32c_is_what_the_definition_says(data: bytes) -> None:
    assert crc32c(data) == naive_crc32c(data)


# --- laws ----------------------------------------------------------------------------------------------------------

ports = st.integers(0, 65535)
texts = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=30)
flags = st.integers(0, 7)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Good headers of both versions."""
    version = draw(st.sampled_from((4, 6)))
    of_version = st.ip_addresses(v=4) if version == 4 else st.ip_addresses(v=6)
    ips = [draw(of_version) for _ in range(2)]
    numbers = [draw(ports), draw(ports)]
    if draw(st.booleans()):
        return f"PROXY TCP{version} {ips[0]} {ips[1]} {numbers[0]} {numbers[1]}\r\n".encode()
    block = ips[0].packed + ips[1].packed + struct.pack("!HH", *numbers)
    vectors: list[Vector] = [
        (kind, draw(texts).encode()) for kind in draw(st.sets(st.sampled_from((1, 2, 0x30, 0xE1))))
    ]
    if draw(st.booleans()):
        vectors.append(ssl(draw(flags), draw(st.integers(0, 1)), (VERSION, b"TLSv1.3"), (COMMON_NAME, b"x")))
    command = draw(st.sampled_from((PROXY, LOCAL)))
    return v2(TCP4 if version == 4 else TCP6, block, vectors, command=command, checked=draw(st.booleans()))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Headers with some octets changed, removed or added."""
    header = bytearray(draw(headers()))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(header)))
        header[place : place + draw(st.integers(0, 1))] = draw(st.binary(max_size=2))
    return bytes(header)


anything = (
    st.binary(max_size=150) | damaged() | st.binary(max_size=150).map(lambda tail: SIGNATURE + b"\x21\x11\0" + tail)
)


@given(anything, cuts)
@example(b"PROXY UNKNOWN\r\nCAPA\r\n", [15, 16])
def test_cuts_change_nothing(data: bytes, places: list[int]) -> None:
    """G9: any octets give a header, None or RemoteProtocolError, and the same wherever they are cut."""
    whole = parse(data)
    pieces, single = parse(*cut(data, places)), parse(*(data[n : n + 1] for n in range(len(data))))
    if isinstance(whole, str):
        assert len(whole) < 80
        assert isinstance(pieces, str)
        assert isinstance(single, str)
    else:
        assert whole == pieces == single


@given(headers(), st.binary(max_size=20))
def test_nothing_beyond_the_header_is_consumed(header: bytes, rest: bytes) -> None:
    """RPRX-01, RPRX-07: None until the very last octet, and the octets behind it are not looked at."""
    assert parse(header[:-1]) == (None, b"")
    outcome = parse(header + rest)
    assert not isinstance(outcome, str)
    assert outcome[0] is not None
    assert outcome[1] == rest


@given(st.ip_addresses(), ports, st.booleans())
def test_addresses_come_through(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, text: bool) -> None:
    shown = str(getattr(address, "ipv4_mapped", None) or address)
    if text:
        header = f"PROXY TCP{address.version} {address} {address.exploded} {port} {port}\r\n".encode()
    else:
        header = v2(TCP4 if address.version == 4 else TCP6, address.packed * 2 + port.to_bytes(2) * 2)
    assert parsed(header) == ProxyHeader(False, (shown, port), (shown, port))


def test_after_the_end() -> None:
    """What is fed later is rest, or refused for the same reason again."""
    parser = ProxyHeaderParser()
    header = parser.feed(b"PROXY UNKNOWN\r\nCA")
    assert header == parser.feed(b"PA\r\n") == KEEP_REAL
    assert parser.rest == b"CAPA\r\n"
    parser = ProxyHeaderParser()
    assert parser.feed(b"") is None
    reasons = set()
    for data in (b"CAPA\r\n", b"PROXY UNKNOWN\r\n", b""):
        with pytest.raises(RemoteProtocolError) as failure:
            parser.feed(data)
        reasons.add(str(failure.value))
    assert reasons == {"PROXY header: missing"}


# --- another implementation ----------------------------------------------------------------------------------------


def test_the_oracle_agrees() -> None:
    """RPRX-03, RPRX-06, RPRX-09: headers that the package proxy-protocol wrote, and ours as it reads them."""
    oracle_v1, oracle_v2 = import_module("proxyprotocol.v1"), import_module("proxyprotocol.v2")
    results, vectors = import_module("proxyprotocol.result"), import_module("proxyprotocol.tlv")
    ours4, ours6 = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")
    of_ssl = vectors.ProxyProtocolSSLTLV(
        has_ssl=True, has_cert_conn=True, verified=True, version="TLSv1.3", cipher="X", cn="alice"
    )
    said = vectors.ProxyProtocolTLV(authority="mail.example", unique_id=b"id", ssl=of_ssl)
    for ip, kind in ((ours4, results.ProxyResultIPv4), (ours6, results.ProxyResultIPv6)):
        there = (str(ip), 4711), (str(ip), 995)
        ends = (ip, 4711), (ip, 995)
        assert parsed(oracle_v1.ProxyProtocolV1().pack(kind(*ends))) == ProxyHeader(False, *there)
        assert parsed(
            oracle_v2.ProxyProtocolV2().pack(kind(*ends, protocol=socket.SOCK_STREAM, tlv=said))
        ) == ProxyHeader(False, *there, True, "TLSv1.3", "X", "mail.example", "alice", b"id")
        read = oracle_v2.ProxyProtocolV2().unpack(
            v2(TCP4 if ip.version == 4 else TCP6, ip.packed * 2 + ADDRESSES4[-4:], [(AUTHORITY, b"a")], checked=True)
        )
        assert (read.source, read.dest, read.tlv.authority) == (*ends, "a")
    assert parsed(oracle_v2.ProxyProtocolV2().pack(results.ProxyResultLocal())) == KEEP_REAL
    assert parsed(oracle_v1.ProxyProtocolV1().pack(results.ProxyResultUnknown())) == KEEP_REAL
