"""What all mechanisms have in common, and the table of them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from trio_pop3.sasl import (
    MECHANISMS,
    Malformed,
    Mechanism,
    Response,
    SaslError,
    ServerContext,
    ServerRejected,
    external,
    plain,
)

from .wire import CERTIFICATE, Served, serve

SERVER_FIRST = ["CRAM-MD5", "LOGIN"]


def test_the_table_is_in_order_of_preference() -> None:
    """R5034-35, R5802-23; R4505-01: what is off unless asked for."""
    assert list(MECHANISMS) == [
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "EXTERNAL",
        "OAUTHBEARER",
        "XOAUTH2",
        "PLAIN",
        "CRAM-MD5",
        "LOGIN",
        "ANONYMOUS",
    ]
    assert {name for name, row in MECHANISMS.items() if not row.default} == {"CRAM-MD5", "LOGIN", "ANONYMOUS"}


def test_the_rows_say_where_a_mechanism_may_be_offered() -> None:
    """R4616-06, R7628-01, RLOG-01: LOGIN is treated like PLAIN."""
    assert {name for name, row in MECHANISMS.items() if row.cleartext} == {"PLAIN", "LOGIN"}
    assert {name for name, row in MECHANISMS.items() if row.tls_only} == {"OAUTHBEARER", "XOAUTH2"}
    assert {name for name, row in MECHANISMS.items() if row.binding} == {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"}
    assert {name for name, row in MECHANISMS.items() if row.certificate} == {"EXTERNAL"}
    assert [name for name, row in MECHANISMS.items() if not row.client_first] == SERVER_FIRST
    methods = {name: row.method for name, row in MECHANISMS.items() if row.method != name}
    assert methods == {
        "SCRAM-SHA-256-PLUS": "SCRAM-SHA-256",
        "SCRAM-SHA-1-PLUS": "SCRAM-SHA-1",
        "LOGIN": "PLAIN",
    }


@pytest.mark.parametrize("name", MECHANISMS)
def test_names(name: str) -> None:
    """R4422-01."""
    assert re.fullmatch(r"[A-Z0-9_-]{1,20}", name)
    assert MECHANISMS[name].name == name


@pytest.mark.parametrize("name", [name for name, row in MECHANISMS.items() if row.client_first])
def test_a_client_first_mechanism_asks_with_an_empty_challenge(name: str) -> None:
    """R4422-03, R5034-12."""
    assert serve(MECHANISMS[name], None).step() == b""


@pytest.mark.parametrize("name", SERVER_FIRST)
@pytest.mark.parametrize("initial", [b"", b"tim"])
def test_a_server_first_mechanism_takes_no_initial_response(name: str, initial: bytes) -> None:
    """R4422-02, R5034-14, A-36: not even an empty one."""
    with pytest.raises(Malformed, match="no initial response"):
        serve(MECHANISMS[name], initial).step()


def test_an_empty_initial_response_is_one() -> None:
    """R5034-10."""
    served = serve(MECHANISMS["EXTERNAL"], b"", ServerContext(certificate=CERTIFICATE))
    assert not isinstance(served.step(), bytes)


@pytest.mark.parametrize("name", MECHANISMS)
def test_an_exchange_can_be_left_at_any_time(name: str) -> None:
    """H5: a client that cancels or vanishes leaves nothing behind."""
    served = serve(MECHANISMS[name], None)
    assert isinstance(served.step(), bytes)
    served.exchange.close()
    with pytest.raises(StopIteration):
        served.exchange.send(b"")
    Served(MECHANISMS[name].start(ServerContext(), None)).exchange.close()


def test_a_client_answers_nothing_beyond_its_last_response() -> None:
    for client in (plain("tim", "pencil"), external()):
        assert next(client).complete
        with pytest.raises(ServerRejected, match="asks for more"):
            client.send(b"more")


def test_nothing_secret_shows() -> None:
    """H8, P5: neither responses nor the key for unknown users."""
    assert "pencil" not in repr(Response(b"pencil"))
    assert "k3y" not in repr(ServerContext(fake_key=b"k3y"))


def test_the_room_needs_the_standard_library_only() -> None:
    """P6: nothing of the package but the core and the credentials, and no trio."""
    code = """
import sys, trio_pop3.sasl
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("trio_pop3.")}
sys.exit(str(rooms) if "trio" in sys.modules or not rooms <= {"sasl", "sansio", "credentials", "_version"} else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_failures_have_texts_that_fit_a_reply() -> None:
    assert issubclass(Malformed, SaslError)
    assert str(Malformed()) == "malformed authentication message"


@pytest.mark.parametrize("name", ["", "lower", "A B", "A" * 21, "CAF\u00c9"])
def test_names_of_mechanisms(name: str) -> None:
    """R4422-01: it stands in CAPA."""
    with pytest.raises(ValueError, match="a mechanism's name"):
        Mechanism(name, MECHANISMS["PLAIN"].server, "PLAIN")
