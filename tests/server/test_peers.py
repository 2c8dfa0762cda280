"""Who is connected, and how often."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_pop3.backend import ClientInfo
from trio_pop3.server.peers import HostCounter, client_info


class FakeSocket:
    """Only the two names."""

    def __init__(self, peer: Any, local: Any) -> None:
        self.getpeername = lambda: peer
        self.getsockname = lambda: local


def info(peer: Any, local: Any) -> ClientInfo:
    socket: Any = FakeSocket(peer, local)
    return client_info(socket, "s")


def test_ipv4() -> None:
    assert info(("192.0.2.7", 4711), ("192.0.2.1", 110)) == ClientInfo("s", "192.0.2.7", 4711, "192.0.2.1", 110)


def test_ipv6_loses_its_zone() -> None:
    client = info(("fe80::1%eth0", 4711, 0, 2), ("fe80::2%eth0", 110, 0, 2))
    assert (client.host, client.local_host, client.loopback) == ("fe80::1", "fe80::2", False)


def test_mapped_ipv4_is_ipv4() -> None:
    client = info(("::ffff:127.0.0.1", 4711, 0, 0), ("::ffff:127.0.0.1", 110, 0, 0))
    assert (client.host, client.local_host, client.loopback) == ("127.0.0.1", "127.0.0.1", True)


@pytest.mark.parametrize(
    ("peer", "local", "loopback"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", 2), True),
        (("127.9.9.9", 1), ("127.0.0.1", 2), True),
        (("::1", 1, 0, 0), ("::1", 2, 0, 0), True),
        (("127.0.0.1", 1), ("192.0.2.1", 2), False),
        (("192.0.2.7", 1), ("127.0.0.1", 2), False),
    ],
)
def test_loopback_means_both_ends(peer: Any, local: Any, loopback: bool) -> None:
    """G7: cleartext logins are for octets that do not leave this machine."""
    assert info(peer, local).loopback is loopback


@pytest.mark.parametrize("name", ["", b"", "/run/client", b"\0abstract"])
def test_unix(name: str | bytes) -> None:
    """A UNIX socket is of this machine and has no address."""
    client = info(name, "/run/pop3")
    assert client == ClientInfo("s", loopback=True)
    assert client.peer == "unix"


async def test_a_peer_that_is_gone() -> None:
    """I5: a client that reset its connection before we asked has no name."""
    with trio.socket.socket() as sock, pytest.raises(OSError, match="not connected"):
        client_info(sock, "s")


def client(host: str | None, *, loopback: bool = False) -> ClientInfo:
    return ClientInfo("s", host, 1, loopback=loopback)


def test_hosts_have_a_share() -> None:
    """I4: what was entered and left leaves no trace."""
    hosts = HostCounter(2)
    one, other = client("192.0.2.1"), client("192.0.2.2")
    assert [hosts.enter(one), hosts.enter(one), hosts.enter(one), hosts.enter(other)] == [True, True, False, True]
    assert len(hosts) == 2
    hosts.leave(one)
    assert hosts.enter(one)
    for who in (one, one, other):
        hosts.leave(who)
    assert len(hosts) == 0


def test_a_refused_host_leaves_no_trace() -> None:
    hosts = HostCounter(1)
    assert hosts.enter(client("192.0.2.1"))
    assert not hosts.enter(client("192.0.2.1"))
    hosts.leave(client("192.0.2.1"))
    assert len(hosts) == 0


def test_an_ipv6_network_is_one_host() -> None:
    """H10: a /64 is what one customer has."""
    hosts = HostCounter(1)
    assert hosts.enter(client("2001:db8:1:2::1"))
    assert not hosts.enter(client("2001:db8:1:2:ffff::9"))
    assert hosts.enter(client("2001:db8:1:3::1"))


@pytest.mark.parametrize("who", [client("127.0.0.1", loopback=True), client(None)])
def test_this_machine_is_not_counted(who: ClientInfo) -> None:
    hosts = HostCounter(1)
    assert hosts.enter(who)
    assert hosts.enter(who)
    hosts.leave(who)
    assert len(hosts) == 0


def test_no_limit_still_counts() -> None:
    hosts = HostCounter(None)
    assert all(hosts.enter(client("192.0.2.1")) for _ in range(1000))
    assert len(hosts) == 1
