"""Sets of addresses for the options: whom to believe, whom to exempt."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias, final

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNIX: Final = "unix"
_WORDS: Final = {"loopback": ("127.0.0.0/8", "::1/128")}
_FORMS: Final = "an address, a network such as 192.0.2.0/24 or 2001:db8::/32, loopback or unix"
# Of ::ffff:0:0/96, where IPv4 addresses stand in IPv6 ones.
_MAPPED_PREFIX: Final = 96
# What one customer has of IPv6, at least.
_CUSTOMER_PREFIX: Final = 64


@final
class Networks:
    """A set of hosts, made of addresses, networks in CIDR form, `loopback`, and `unix` for UNIX sockets.

    `host in networks` takes the host of a `ClientInfo`: a textual address, or None for a UNIX socket. IPv4-mapped
    IPv6 addresses and networks are the IPv4 ones they stand for; `::/0` is every IPv6 address and no IPv4 one.

    Raises ValueError, with the text in question, for what is none of these, and TypeError for a single string.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise TypeError(f"networks are a list of texts, not the one text {texts!r}")
        listed = list(texts)
        self._unix: Final = _UNIX in listed
        found = [_network(part) for text in listed if text != _UNIX for part in _WORDS.get(text, (text,))]
        four = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv4Network))
        six = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv6Network))
        self._networks: Final[tuple[_Network, ...]] = (*four, *six)

    def __contains__(self, host: str | None) -> bool:
        """Whether a host is one of them. Raises ValueError for a text that is no address."""
        if host is None:
            return self._unix
        address = _address(host)
        return any(address in network for network in self._networks)

    def __bool__(self) -> bool:
        """Whether any host is one of them."""
        return self._unix or bool(self._networks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Networks):
            return NotImplemented
        return (self._networks, self._unix) == (other._networks, other._unix)

    def __hash__(self) -> int:
        return hash((self._networks, self._unix))

    def __repr__(self) -> str:
        texts = [str(network) for network in self._networks] + [_UNIX] * self._unix
        return f"Networks({texts!r})"


def responsible(host: str | None) -> str:
    """Whom to hold to account for what a host does: an IPv4 address itself, of an IPv6 address the network of 64 bits.

    One customer has at least that, and could use a new address for each connection.
    """
    if host is None:
        return _UNIX
    address = _address(host)
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _CUSTOMER_PREFIX), strict=False))


def _address(host: str) -> _Address:
    """The address in a text, without its zone; an IPv4-mapped one as the IPv4 address it is."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> _Network:
    """The network a text names, an address as a network of one; raises ValueError if it names none."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or "%" in text:  # a zone would be ignored
        raise ValueError(f"not a network: {text!r} (use {_FORMS})")
    network = interface.network
    if interface.ip != network.network_address:
        raise ValueError(f"not a network: {text!r} has host bits set (use {network} or {interface.ip})")
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped and network.prefixlen >= _MAPPED_PREFIX:
        return ipaddress.IPv4Network((first.ipv4_mapped, network.prefixlen - _MAPPED_PREFIX))
    return network
