"""The core as a state machine: `trio_pop3.testing.PairMachine`, both profiles, and more nonsense on the wire."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from trio_pop3.sansio import Apop, LocalProtocolError, Pop3Connection, Profile, Role, State, Utf8
from trio_pop3.testing import PairMachine

from .test_base64 import BAD_BASE64
from .test_commands import LENIENT
from .test_readers import BAD

LINES = [line for line in BAD if b"\n" not in line]
RESPONSES = [line for line in BAD_BASE64 if line != b"*" and not line.endswith((b"\r", b"\n"))]


class WireMachine(PairMachine):
    """What the client sends is what the server gets, what the server answers is what the client sees, states agree.

    R1939-03, R1939-07, R1939-08, R1939-13, R1939-14, R1939-48, R1939-66, R1939-67; R2449-23, R2449-24, R2449-25;
    R5034-05, R5034-15, R5034-16, R5034-22, R5034-30; R2595-04, R2595-07, R2595-19; R6856-02, R6856-20;
    A-15, A-35; A14, D5, G1, G2, G3.
    """

    @precondition(PairMachine.nobody_speaks)
    @rule(line=st.sampled_from(LINES))
    def somebody_sends_other_nonsense(self, line: bytes) -> None:
        self.nonsense(line)

    @precondition(PairMachine.response_is_due)
    @rule(line=st.sampled_from(RESPONSES))
    def the_response_is_other_nonsense(self, line: bytes) -> None:
        self.bad_response(line)


class StrictWireMachine(WireMachine):
    """The same for a server of the strict profile. AUTH alone is nothing there, so it is not sent."""

    profile = Profile.STRICT


TestWire = WireMachine.TestCase
TestStrictWire = StrictWireMachine.TestCase


def test_a_client_knows_nothing_of_what_only_the_default_profile_takes() -> None:
    """D10: the machine above needs one table, for a client never sends what strict refuses."""
    client = Pop3Connection(Role.CLIENT)
    client.receive_data(b"+OK hi\r\n+OK\r\n")
    client.next_event()
    client.send(Apop("a", bytes(16)))
    client.next_event()
    assert client.state is State.TRANSACTION
    assert set(LENIENT) == {"Utf8"}
    with pytest.raises(LocalProtocolError):
        client.send(Utf8())
