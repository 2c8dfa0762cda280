"""Two servers in lockstep: equal ones agree, and one that is wrong is found."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from trio_pop3 import ClientInfo, MemoryBackend, MessageInfo, serve
from trio_pop3.testing import Failure, MemoryWire, Portal, SocketWire, Violation, Wire, differential, run_machine

from .scripted import AnsweringWire, multiline

MAIL = (b"Subject: 1\n\n.\nx\n", b"..\r\nx", b"a" * 3000)


class Forgetful(MemoryBackend):
    """Its second message has lost its last octet."""

    async def open(self, user: str, client: ClientInfo) -> Any:
        maildrop = await super().open(user, client)
        first, second, *rest = maildrop.messages
        maildrop.messages = [first, MessageInfo(second.uid, second.octets - 1), *rest]
        return maildrop


def filled(server: MemoryBackend) -> MemoryBackend:
    server.add_user("alice", "secret")
    for message in MAIL:
        server.deliver("alice", message)
    return server


class Tampered:
    """A wire on which somebody changes what is said: what the client says, or what the server says."""

    def __init__(
        self,
        wire: Wire,
        *,
        ask: Callable[[bytes], bytes] = lambda data: data,
        answer: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:
        self._wire = wire
        self._ask = ask
        self._answer = answer
        self.finish, self.start_tls, self.close = wire.finish, wire.start_tls, wire.close

    def send(self, data: bytes) -> None:
        self._wire.send(self._ask(data))

    def receive(self) -> bytes:
        return self._answer(self._wire.receive())


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def found(
    portal: Portal,
    *kinds: Callable[[], MemoryBackend],
    allow: Sequence[str] = (),
    destructive: bool = False,
    tampered: Callable[[Wire], Wire] = lambda wire: wire,
) -> Failure | None:
    """What is found of two servers, the second perhaps behind something that changes what is said."""
    servers: list[MemoryBackend] = []
    made: list[MemoryBackend] = []

    def reset() -> None:
        servers[:] = [filled(kind()) for kind in kinds]
        made.extend(servers)

    reset()
    machine = differential(
        lambda: MemoryWire(portal, servers[0]),
        lambda: tampered(MemoryWire(portal, servers[1])),
        "alice",
        "secret",
        allow=allow,
        destructive=destructive,
        reset=reset if destructive else None,
    )
    failure = run_machine(machine, seed=1, max_examples=60)
    assert not any(server.locked("alice") for server in made)
    assert destructive == any(len(server.messages("alice")) < len(MAIL) for server in made)
    return failure


# --- equal ones ------------------------------------------------------------------------------------------------------


def test_equal_servers_agree(portal: Portal) -> None:
    assert found(portal, MemoryBackend, MemoryBackend) is None


def test_equal_servers_agree_on_what_is_deleted(portal: Portal) -> None:
    """Mail is put back before each example; without that there would soon be none."""
    assert found(portal, MemoryBackend, MemoryBackend, destructive=True) is None


def test_uids_are_each_server_s_own(portal: Portal) -> None:
    """Which are the same is compared, not what they are."""

    def other() -> MemoryBackend:
        server = MemoryBackend()
        server.add_user("bob", "hidden")
        server.deliver("bob", b"")
        return server

    assert found(portal, MemoryBackend, other) is None


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_difference_is_found(portal: Portal) -> None:
    failure = found(portal, MemoryBackend, Forgetful)
    assert failure is not None
    assert "from the other" in failure.message
    assert "C2: " in str(failure.transcript)


def without_dots(wire: Wire) -> Wire:
    """It forgets to double dots."""
    return Tampered(wire, answer=lambda data: data.replace(b"\r\n..", b"\r\n."))


def deaf_to_dele(wire: Wire) -> Wire:
    """It says +OK to DELE, and goes on to list the message."""
    return Tampered(wire, ask=lambda data: re.sub(rb"(?im)^dele 0*[123] *\r$", b"NOOP\r", data))


def deaf_to_rset(wire: Wire) -> Wire:
    return Tampered(wire, ask=lambda data: data.replace(b"RSET", b"NOOP"))


def lenient(wire: Wire) -> Wire:
    return Tampered(wire, ask=lambda data: re.sub(rb"  +", b" ", data))


def uids_of(new: Callable[[bytes], bytes]) -> Callable[[Wire], Wire]:
    """UIDL has other uids."""

    def changed(data: bytes) -> bytes:
        return re.sub(rb"(?m)^([0-9]+) ([0-9a-f]{8})\r$", lambda row: row[1] + b" " + new(row[2]) + b"\r", data)

    return lambda wire: Tampered(wire, answer=changed)


def test_a_dot_that_is_forgotten_is_found(portal: Portal) -> None:
    failure = found(portal, MemoryBackend, MemoryBackend, tampered=without_dots)
    assert failure is not None
    said = str(failure.transcript)
    assert re.search(r"^C2: (RETR|TOP) ", said, re.MULTILINE)
    assert len([line for line in said.splitlines() if line.startswith("C2: ")]) == 3  # USER, PASS and what is wrong


def test_a_list_that_counts_what_is_deleted_is_found(portal: Portal) -> None:
    failure = found(portal, MemoryBackend, MemoryBackend, destructive=True, tampered=deaf_to_dele)
    assert failure is not None
    assert "C2: DELE" in str(failure.transcript) or "C2: dele" in str(failure.transcript)
    assert found(portal, MemoryBackend, MemoryBackend, tampered=deaf_to_dele) is None  # nothing is deleted


def test_an_rset_that_does_nothing_is_found(portal: Portal) -> None:
    failure = found(portal, MemoryBackend, MemoryBackend, destructive=True, tampered=deaf_to_rset)
    assert failure is not None
    assert "C2: RSET" in str(failure.transcript)


def test_a_line_that_one_of_them_takes_is_found(portal: Portal) -> None:
    failure = found(portal, MemoryBackend, MemoryBackend, tampered=lenient)
    assert failure is not None
    assert failure.message.endswith("-ERR from the one, +OK from the other")
    assert found(portal, MemoryBackend, MemoryBackend, tampered=lenient, allow=[".*  .*"]) is None


@pytest.mark.parametrize("fault", ["another each time", "the same for all"])
def test_uids_that_move_are_found(portal: Portal, fault: str) -> None:
    count = itertools.count()
    new = {
        "another each time": lambda uid: b"%08x" % next(count),
        "the same for all": lambda uid: b"x",
    }[fault]
    failure = found(portal, MemoryBackend, MemoryBackend, tampered=uids_of(new))
    assert failure is not None
    assert "was another message of the" in failure.message
    assert "C2: UIDL" in str(failure.transcript)
    allowed = found(portal, MemoryBackend, MemoryBackend, tampered=uids_of(new), allow=["uidl.*"])
    assert allowed is None


def test_a_fault_is_found_over_tcp(portal: Portal) -> None:
    ports = []
    for _ in range(2):
        server = filled(MemoryBackend())
        (listener,) = portal.start(partial(serve, server, listen=["127.0.0.1:0"], max_connections_per_host=None))
        ports.append(listener.port)
    one, other = (partial(SocketWire, "127.0.0.1", port) for port in ports)
    assert run_machine(differential(one, other, "alice", "secret"), seed=1, max_examples=15) is None
    failure = run_machine(
        differential(one, lambda: without_dots(other()), "alice", "secret"), seed=1, max_examples=60, shrink=False
    )
    assert failure is not None
    assert "C2: " in str(failure.transcript)


# --- what may differ -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allow", [["(list|stat|retr|top|rset).*"]])
def test_what_is_allowed_to_differ_may(portal: Portal, allow: list[str]) -> None:
    assert found(portal, MemoryBackend, Forgetful, allow=allow) is None


def test_what_is_allowed_is_a_whole_line(portal: Portal) -> None:
    assert found(portal, MemoryBackend, Forgetful, allow=["lis", "stat"]) is not None


# --- servers of few words --------------------------------------------------------------------------------------------

LISTS = {b"CAPA": multiline([b"TOP"]), b"USER alice": b"+OK\r\n", b"PASS secret": b"+OK\r\n", b"QUIT": b"+OK\r\n"}


def between(one: dict[bytes, bytes], other: dict[bytes, bytes], *, allow: Sequence[str] = ()) -> Any:
    """The machine for two tables, logged in."""
    machine: Any = differential(
        lambda: AnsweringWire({**LISTS, **one}),
        lambda: AnsweringWire({**LISTS, **other}),
        "alice",
        "secret",
        allow=allow,
    )()
    machine.log_in([])
    return machine


@pytest.mark.parametrize(
    ("line", "one", "other", "wrong"),
    [
        (b"NOOP", b"+OK\r\n", b"+OK fine\r\n", None),
        (b"NOOP", b"-ERR\r\n", b"-ERR no\r\n", None),
        (b"NOOP", b"+OK\r\n", b"-ERR\r\n", "b'NOOP': +OK from the one, -ERR from the other"),
        (b"NOOP", b"-ERR\r\n", b"+OK\r\n", "b'NOOP': -ERR from the one, +OK from the other"),
        (b"NOOP", b"", b"+OK\r\n", "one closed, the other says +OK"),
        (b"NOOP", b"+OK\r\n", b"", "one closed, the other says +OK"),
        (b"STAT", b"+OK 2 30\r\n", b"+OK 2 30 octets\r\n", None),
        (b"STAT", b"+OK 2 30\r\n", b"+OK 2 31\r\n", "from the one, "),
        (b"STAT", b"+OK 2\r\n", b"+OK 2 31\r\n", "from the one, "),
        (b"LIST", multiline([b"1 2", b"2 3"]), multiline([b"1 2 x", b"2 3"], b"two"), None),
        (b"list ", multiline([b"1 2", b"2 3"]), multiline([b"1 2"]), "from the one, "),
        (b"LIST 1", b"+OK 1 2\r\n", b"+OK 1 3\r\n", "from the one, "),
        (b"RETR 1", multiline([b"a"]), multiline([b"a"], b"x"), None),
        (b"retr 1", multiline([b"a"]), multiline([b"b"]), "from the one, "),
        (b"TOP 1 0", multiline([]), multiline([b""]), "from the one, "),
        (b"CAPA", multiline([b"A"]), multiline([b"B"]), None),
        (b"UIDL", multiline([b"1 a", b"2 b"]), multiline([b"1 x", b"2 y"]), None),
        (b"UIDL 1", b"+OK 1 a\r\n", b"+OK 1 x\r\n", None),
        (b"UIDL", multiline([b"1 a"]), multiline([b"2 x"]), "UIDL has other numbers"),
        (
            b"UIDL",
            multiline([b"1 a", b"2 a"]),
            multiline([b"1 x", b"2 y"]),
            "b'a' was another message of the other before",
        ),
        (
            b"UIDL",
            multiline([b"1 a", b"2 b"]),
            multiline([b"1 x", b"2 x"]),
            "b'x' was another message of the one before",
        ),
        (b"UIDL", b"-ERR\r\n", b"-ERR no\r\n", None),
        (b"NOOP", b"*\r\n", b"+OK\r\n", r"neither +OK nor -ERR"),
    ],
)
def test_what_is_compared(line: bytes, one: bytes, other: bytes, wrong: str | None) -> None:
    for first, second in ((one, other), (other, one)) if wrong is None else ((one, other),):
        machine = between({line.strip(): first, line: first}, {line: second})
        if wrong is None:
            machine.both_are_told([line, line])
            assert len(machine.talks) == 2
        else:
            with pytest.raises(Violation) as caught:
                machine.both_are_told([line])
            assert wrong in caught.value.message
        machine.teardown()


@pytest.mark.parametrize("answers", [(b"", b"-ERR\r\n"), (b"-ERR\r\n", b""), (b"", b"")])
@pytest.mark.parametrize("allow", [[], ["x+"]])
def test_one_that_has_had_enough_may_close(answers: tuple[bytes, bytes], allow: list[str]) -> None:
    """And then both are left, also where they may differ: what follows cannot be compared."""
    machine = between({b"XX": answers[0], b"NOOP": b"+OK\r\n"}, {b"XX": answers[1], b"NOOP": b"+OK\r\n"}, allow=allow)
    machine.both_are_told([b"XX", b"NOOP"])
    assert machine.talks == []
    machine.log_in([b"NOOP"])
    machine.both_are_told([b"NOOP"])
    assert len(machine.talks) == 2
    machine.both_are_left([])
    assert machine.talks == []


def test_two_that_differ_where_they_may_are_left() -> None:
    machine = between({b"XX": b"+OK\r\n"}, {}, allow=["x+"])
    machine.both_are_told([b"XX", b"NOOP"])
    assert machine.talks == []


def test_a_login_that_one_refuses_is_found() -> None:
    with pytest.raises(Violation, match="the login was refused: b'wrong'"):
        between({}, {b"PASS secret": b"-ERR wrong\r\n"})
