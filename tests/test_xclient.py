"""What a proxy may say of its client, and who is believed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.xclient import ProxyLoop, client_behind

from .driving import BOUND, CLIENT, OVER_TLS, REMOTE, CountingGate, Dialogue, Store

PROXY = replace(BOUND, loopback=True, local_host="192.0.2.9", local_port=995)


@pytest.fixture
def memory() -> MemoryBackend:
    mail = MemoryBackend()
    mail.add_user("alice", "secret")
    return mail


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "field", "said"),
    [
        ("ADDR", "198.51.100.7", "host", "198.51.100.7"),
        ("ADDR", "2001:DB8:0::1", "host", "2001:db8::1"),
        ("ADDR", "::ffff:198.51.100.7", "host", "198.51.100.7"),
        ("PORT", "0", "port", 0),
        ("PORT", "65535", "port", 65535),
        ("DESTADDR", "203.0.113.5", "local_host", "203.0.113.5"),
        ("DESTPORT", "00110", "local_port", 110),
        ("DESTNAME", "pop.example.org", "server_name", "pop.example.org"),
        ("SESSION", "zBfKD1qZ+/=._-", "proxy_session", "zBfKD1qZ+/=._-"),
        ("CLIENT-TRANSPORT", "TLS", "tls", True),
        ("CLIENT-TRANSPORT", "tls", "tls", True),
        ("CLIENT-TRANSPORT", "insecure", "tls", False),
    ],
)
def test_every_attribute(name: str, value: str, field: str, said: object) -> None:
    """PROTOCOL 8.1: it says one thing; whatever the proxy says nothing of stays the proxy's."""
    client = client_behind(PROXY, ((name, value),))
    learnt = {"tls_version": None, "cipher": None, "certificate": None, "end_point": None}
    if name == "ADDR":
        learnt |= {"loopback": False, "proxied": True}  # type: ignore[dict-item]
    assert client == replace(PROXY, **learnt, **{field: said})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADDR", ""),
        ("ADDR", "198.51.100"),
        ("ADDR", "198.51.100.256"),
        ("ADDR", "[2001:db8::1]"),
        ("ADDR", "localhost"),
        ("DESTADDR", "x"),
        ("PORT", ""),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "1_0"),
        ("PORT", "110000"),
        ("PORT", "\u0661"),
        ("DESTPORT", "+1"),
        ("DESTNAME", ""),
        ("DESTNAME", "a b"),
        ("DESTNAME", "x" * 254),
        ("SESSION", ""),
        ("SESSION", "reason=quit user=[x]"),
        ("SESSION", "x" * 65),
        ("TTL", ""),
        ("TTL", "-1"),
        ("TTL", "10000"),
    ],
)
def test_values_without_sense(name: str, value: str) -> None:
    """C3, A11: and nothing of the others is taken either."""
    with pytest.raises(ValueError, match=r".*"):
        client_behind(PROXY, (("PORT", "1"), (name, value)))


def test_other_attributes_are_skipped() -> None:
    """PROTOCOL 8.1: there are servers and proxies that know more of them."""
    learnt = {"tls_version": None, "cipher": None, "certificate": None, "end_point": None}
    assert client_behind(PROXY, (("FORWARD", "QQ=="), ("LOGIN", "x"), ("TTL", "1"))) == replace(PROXY, **learnt)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0", "0000"])
def test_no_hops_left(value: str) -> None:
    """J2."""
    with pytest.raises(ProxyLoop):
        client_behind(PROXY, (("TTL", value),))


names = st.sampled_from(["ADDR", "PORT", "DESTADDR", "DESTPORT", "DESTNAME", "SESSION", "CLIENT-TRANSPORT", "TTL", "X"])
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)
addresses = st.ip_addresses().map(str)
numbers = st.integers(0, 99_999).map(str)


@given(st.lists(st.tuples(names, values | addresses | numbers), max_size=6))
def test_whatever_is_said_makes_a_client_or_an_error(attributes: list[tuple[str, str]]) -> None:
    """A9, A11, H8: nothing but the two errors, and nothing that would upset a log line."""
    try:
        client = client_behind(REMOTE, tuple(attributes))
    except (ValueError, ProxyLoop):
        return
    assert re.fullmatch(r"[!-~]+", client.peer)
    assert client.host is not None
    assert not getattr(ipaddress.ip_address(client.host), "ipv4_mapped", None)
    assert client.port is not None and 0 <= client.port <= 65535
    assert not client.loopback
    assert client.session == REMOTE.session


# --- in a session --------------------------------------------------------------------------------------------------


def test_a_proxy_that_is_not_trusted_has_no_such_command(memory: MemoryBackend) -> None:
    """RXCL-01, J2: no effect, no oracle, and it is one of the bad commands."""
    session = Dialogue(memory, client=REMOTE)
    assert session.greeting == b"+OK POP3 server ready\r\n"
    assert session.ask("XCLIENT ADDR=127.0.0.1 CLIENT-TRANSPORT=TLS") == session.ask("XYZZY")
    assert session.session.client is REMOTE
    assert session.session.tally.bad_commands == 2
    for _ in range(8):
        session.ask("XCLIENT TTL=0")
    assert session.session.ended == "too many bad commands"


def test_a_trusted_one_is_believed(memory: MemoryBackend) -> None:
    """PROTOCOL 8.1, H10: for the backend, at the gate, and for what is offered."""
    seen: list[be.ClientInfo] = []

    class Watched(MemoryBackend):
        async def authenticate(self, credentials: be.Credentials, client: be.ClientInfo) -> str:
            seen.append(client)
            return await super().authenticate(credentials, client)

    backend, gate = Watched(), CountingGate()
    backend.add_user("alice", "secret")
    session = Dialogue(backend, client=CLIENT, xclient=True, gate=gate)
    assert session.greeting == b"+OK [XCLIENT] POP3 server ready\r\n"
    assert "USER" in session.lines("CAPA")
    assert session.ask("XCLIENT ADDR=198.51.100.7 PORT=4712 SESSION=abc TTL=3") == b"+OK updated\r\n"
    assert "USER" not in session.lines("CAPA")  # it is not on this machine
    assert session.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==").startswith(b"-ERR [AUTH] login without encryption")
    session.ask("xclient client-transport=TLS")
    assert "USER" in session.lines("CAPA")
    assert session.login("alice", "wrong").startswith(b"-ERR [AUTH]")
    assert session.login().startswith(b"+OK")
    expected = replace(
        CLIENT, host="198.51.100.7", port=4712, proxy_session="abc", tls=True, loopback=False, proxied=True
    )
    assert seen == [expected, expected]
    assert [client for client, _, _ in gate.left] == [expected, expected]


@pytest.mark.parametrize("line", ["XCLIENT PORT=1", "XCLIENT PORT=x"])
def test_the_pending_user_is_forgotten(memory: MemoryBackend, line: str) -> None:
    """PROTOCOL 8.1, A-15."""
    session = Dialogue(memory, xclient=True)
    session.ask("USER alice")
    session.ask(line)
    assert session.ask("PASS secret").startswith(b"-ERR")


def test_bad_values_change_nothing(memory: MemoryBackend) -> None:
    """RXCL-01."""
    session = Dialogue(memory, xclient=True)
    for _ in range(11):
        assert session.ask("XCLIENT ADDR=198.51.100.7 PORT=x") == b"-ERR bad value in XCLIENT\r\n"
    assert session.session.client is CLIENT
    assert session.ask("XCLIENT").startswith(b"-ERR bad arguments")
    assert session.ask("XCLIENT ADDR").startswith(b"-ERR bad arguments")


def test_not_after_the_login(memory: MemoryBackend) -> None:
    """RXCL-02, J2."""
    session = Dialogue(memory, xclient=True)
    session.login()
    assert session.ask("XCLIENT ADDR=198.51.100.7") == b"-ERR command not valid in this state\r\n"
    assert session.session.client is CLIENT


def test_a_loop_ends_the_connection(memory: MemoryBackend) -> None:
    """J2: TTL."""
    session = Dialogue(memory, xclient=True)
    assert session.ask("XCLIENT ADDR=198.51.100.7 TTL=0") == b"-ERR too many hops, closing\r\n"
    assert session.over
    assert session.session.ended == "proxy loop"


@pytest.mark.parametrize(
    ("client", "transport"), [(OVER_TLS, "TLS"), (OVER_TLS, "insecure"), (CLIENT, "TLS"), (BOUND, "insecure")]
)
def test_tls_is_not_begun_twice_because_of_a_proxy(client: be.ClientInfo, transport: str) -> None:
    """R2595-02, R2595-06, G6, REXT-01: the connection's own TLS is one thing, the client's another.

    The proxy's certificate and channel binding are not the client's.
    """
    session = Dialogue(Store(), client=client, xclient=True, stls=True)
    session.ask(f"XCLIENT ADDR=198.51.100.7 CLIENT-TRANSPORT={transport}")
    assert session.ask("STLS") == b"-ERR TLS is active already\r\n"
    assert "STLS" not in session.lines("CAPA")
    assert ("USER" in session.lines("CAPA")) == (transport == "TLS")
    assert session.session.client.certificate is None
    assert session.session.client.end_point is None


def test_a_proxy_may_begin_tls_first_and_name_its_client_then(memory: MemoryBackend) -> None:
    """R5034-02, G3."""
    session = Dialogue(memory, client=REMOTE, xclient=True, stls=True)
    session.ask("STLS")
    session.start_tls(end_point=b"x", certificate=BOUND.certificate)
    session.ask("XCLIENT ADDR=198.51.100.7")
    assert session.lines("AUTH") == ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]
    session.ask("XCLIENT CLIENT-TRANSPORT=insecure")
    assert session.ask("STLS") == b"-ERR TLS is active already\r\n"
    assert session.login().startswith(b"-ERR")
