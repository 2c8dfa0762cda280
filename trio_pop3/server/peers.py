"""Who is at the other end of a socket, and how many of them there are."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Final, TypeAlias

import trio

from ..backend import ClientInfo
from .networks import responsible

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(host: str) -> _Address:
    """The address in a socket name, without its zone; an IPv4-mapped one as the IPv4 address it is."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def client_info(socket: trio.socket.SocketType, session: str) -> ClientInfo:
    """What the kernel knows of a connection. Raises OSError if the peer is gone already."""
    peer, local = socket.getpeername(), socket.getsockname()
    if not isinstance(peer, tuple):
        return ClientInfo(session, loopback=True)
    theirs, ours = _address(peer[0]), _address(local[0])
    return ClientInfo(
        session, str(theirs), peer[1], str(ours), local[1], loopback=theirs.is_loopback and ours.is_loopback
    )


class HostCounter:
    """Connections per host: an IPv4 address, or an IPv6 network of 64 bits.

    Connections that stay on this machine are not counted: a proxy in front of the server would use them all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit: Final = limit
        self._counts: Counter[str] = Counter()

    def enter(self, client: ClientInfo) -> bool:
        """Count a connection in; False if its host has its share already. Pair a True with `leave`."""
        key = self._key(client)
        if key is None:
            return True
        if self._limit is not None and self._counts[key] >= self._limit:
            return False
        self._counts[key] += 1
        return True

    def leave(self, client: ClientInfo) -> None:
        """Count it out again."""
        key = self._key(client)
        if key is not None:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def __len__(self) -> int:
        return len(self._counts)

    def place(self) -> Place:
        """For one connection."""
        return Place(self)

    @staticmethod
    def _key(client: ClientInfo) -> str | None:
        return None if client.loopback or client.host is None else responsible(client.host)


class Place:
    """Where one connection is counted: nowhere, or under one host, which a proxy may name only later."""

    def __init__(self, hosts: HostCounter) -> None:
        self._hosts: Final = hosts
        self._client: ClientInfo | None = None

    def move(self, client: ClientInfo) -> bool:
        """Count the connection for this client from now on; False, and nowhere, if its host has its share already."""
        self.leave()
        if not self._hosts.enter(client):
            return False
        self._client = client
        return True

    def leave(self) -> None:
        """Count it no more. Does nothing the second time."""
        client, self._client = self._client, None
        if client is not None:
            self._hosts.leave(client)
