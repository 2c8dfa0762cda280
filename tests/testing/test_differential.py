"""Two servers in lockstep: equal ones agree, and one that is wrong is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from trio_pop3 import ClientInfo, MemoryBackend, MessageInfo
from trio_pop3.testing import Failure, MemoryWire, Portal, differential, run_machine

MAIL = (b"Subject: 1\n\n.\n", b"..\r\nx", b"a" * 3000)


class Forgetful(MemoryBackend):
    """Its second message has lost its last octet."""

    async def open(self, user: str, client: ClientInfo) -> Any:
        maildrop = await super().open(user, client)
        first, second, *rest = maildrop.messages
        maildrop.messages = [first, MessageInfo(second.uid, second.octets - 1), *rest]
        return maildrop


def found(*servers: MemoryBackend, allow: Sequence[str] = ()) -> Failure | None:
    for server in servers:
        server.add_user("alice", "secret")
        for message in MAIL:
            server.deliver("alice", message)
    with Portal() as portal:
        one, other = (lambda: MemoryWire(portal, servers[0])), (lambda: MemoryWire(portal, servers[1]))
        machine = differential(one, other, "alice", "secret", allow=allow)
        return run_machine(machine, seed=1, max_examples=40)


def test_equal_servers_agree() -> None:
    assert found(MemoryBackend(), MemoryBackend()) is None


def test_a_difference_is_found() -> None:
    failure = found(MemoryBackend(), Forgetful())
    assert failure is not None
    assert "from the other" in failure.message
    assert "C2: " in str(failure.transcript)


@pytest.mark.parametrize("allow", [["(list|stat|retr|top|rset).*"]])
def test_what_is_allowed_to_differ_may(allow: list[str]) -> None:
    assert found(MemoryBackend(), Forgetful(), allow=allow) is None
