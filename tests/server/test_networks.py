"""Which hosts a set of networks has, and which texts are none."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.server.networks import Networks, responsible

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@pytest.mark.parametrize(
    ("texts", "inside", "outside"),
    [
        (["192.0.2.7"], ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.8", "2001:db8::1", None]),
        (["192.0.2.0/24"], ["192.0.2.0", "192.0.2.255"], ["192.0.3.0", None]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:db8:ffff::"], ["2001:db9::", "192.0.2.7"]),
        (["fe80::/10"], ["fe80::1%eth0"], ["fec0::1%eth0"]),
        (["0.0.0.0/0"], ["192.0.2.7", "::ffff:192.0.2.7"], ["::1", None]),
        (["::/0"], ["::1", "2001:db8::"], ["192.0.2.7", "::ffff:192.0.2.7", None]),
        (["::ffff:10.0.0.0/104"], ["10.0.0.1", "::ffff:10.1.2.3"], ["11.0.0.1", "::a00:1"]),
        (["loopback"], ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], ["128.0.0.1", "::2", None]),
        (["unix"], [None], ["127.0.0.1", "::1"]),
        (["unix", "10.0.0.0/8", "loopback"], [None, "10.1.1.1", "::1"], ["11.0.0.0"]),
        ([], [], ["127.0.0.1", "::1", None]),
    ],
)
def test_who_is_in(texts: list[str], inside: list[str | None], outside: list[str | None]) -> None:
    """G9: a list of networks decides who is believed."""
    networks = Networks(texts)
    assert all(host in networks for host in inside)
    assert not any(host in networks for host in outside)
    assert bool(networks) is bool(texts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "10.0.0",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        " 10.0.0.0/8",
        "fe80::1%eth0",
        "UNIX",
        "a.example",
    ],
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="not a network") as failure:
        Networks(["127.0.0.1", text])
    assert repr(text) in str(failure.value)
    assert "192.0.2.0/24" in str(failure.value)


@pytest.mark.parametrize(
    ("text", "network", "address"),
    [("10.0.0.1/8", "10.0.0.0/8", "10.0.0.1"), ("2001:db8::1/32", "2001:db8::/32", "2001:db8::1")],
)
def test_host_bits_are_a_mistake_of_one_kind_or_the_other(text: str, network: str, address: str) -> None:
    with pytest.raises(ValueError, match="has host bits set") as failure:
        Networks([text])
    assert str(failure.value) == f"not a network: {text!r} has host bits set (use {network} or {address})"


def test_one_text_is_no_list() -> None:
    with pytest.raises(TypeError, match=r"10\.0\.0\.0/8"):
        Networks("10.0.0.0/8")


def test_a_host_is_an_address() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        "nonsense" in Networks(["unix"])  # noqa: B015


def test_equal_sets_are_equal_however_they_were_written() -> None:
    one = Networks(["10.0.0.0/9", "10.128.0.0/9", "unix", "::1"])
    other = Networks(["unix", "::1", "10.0.0.0/8", "10.1.0.0/16"])
    assert one == other
    assert hash(one) == hash(other)
    assert one != Networks(["10.0.0.0/8", "::1"])
    assert one != "10.0.0.0/8"
    assert repr(one) == "Networks(['10.0.0.0/8', '::1/128', 'unix'])"
    assert repr(Networks(())) == "Networks([])"


def plain(address: Address) -> bool:
    return not getattr(address, "ipv4_mapped", None)


@given(st.ip_addresses().filter(plain), st.integers(0, 128), st.ip_addresses().filter(plain))
def test_the_definition(address: Address, prefix: int, other: Address) -> None:
    """Against the library's own idea, for addresses that are not IPv4-mapped."""
    network = ipaddress.ip_network((address, min(prefix, address.max_prefixlen)), strict=False)
    networks = Networks([str(network)])
    assert str(address) in networks
    assert (str(other) in networks) is (other in network)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unix"),
    ],
)
def test_who_is_responsible(host: str | None, network: str) -> None:
    """H10: an IPv4 address itself, of IPv6 what one customer has."""
    assert responsible(host) == network
