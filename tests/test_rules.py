"""What may be configured, and what may not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3.keys import lasting_key
from trio_pop3.languages import ENGLISH, LANGUAGES
from trio_pop3.rules import DEFAULT_MECHANISMS, Headers, Rules
from trio_pop3.sansio import Pop3Connection, Profile, Role
from trio_pop3.sasl import MECHANISMS

from .driving import Dialogue, Store


def test_the_defaults_are_safe() -> None:
    """G7, R5034-33, R4616-06, R4505-01, R2195-03, A-31: nothing in clear, nothing old, an end to nonsense."""
    rules = Rules()
    assert not (rules.insecure_auth or rules.apop or rules.stls or rules.strict)
    assert (rules.max_bad_commands, rules.max_auth_failures) == (10, 3)
    assert set(MECHANISMS) - set(rules.mechanisms) == {"CRAM-MD5", "LOGIN", "ANONYMOUS"}
    assert rules.mechanisms is DEFAULT_MECHANISMS
    assert (rules.languages, rules.language, rules.headers) == (LANGUAGES, ENGLISH, Headers.PASS)
    assert len(rules.fake_key) == 32


def test_what_unknown_users_are_shown_is_secret_and_lasts() -> None:
    """H7, H8, P5: it does not change when a server starts again, since known users' salts do not."""
    rules = Rules()
    assert rules.fake_key == Rules().fake_key == lasting_key("salts of unknown users")
    assert "fake_key" not in repr(rules)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_bad_commands": 0}, "max_bad_commands must be at least 1"),
        ({"max_auth_failures": -1}, "max_auth_failures must be at least 1"),
        ({"login_delay": 0}, "login_delay must be a whole number of seconds"),
        ({"require_tls": True, "insecure_auth": True}, "contradict"),
        ({"banner": ""}, "banner must be"),
        ({"banner": "[AUTH] hello"}, "banner must be"),
        ({"banner": "mail <1@example.org>"}, "banner must be"),
        ({"banner": "two\r\nlines"}, "banner must be"),
        ({"banner": "Grüße"}, "banner must be"),
        ({"banner": "x" * 301}, "banner must be"),
        ({"hostname": ""}, "hostname must be a host name"),
        ({"hostname": "a b"}, "hostname must be a host name"),
        ({"hostname": "x\r\n"}, "hostname must be a host name"),
    ],
)
def test_what_makes_no_sense(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Rules(**values)


@pytest.mark.parametrize("values", [{"max_bad_commands": None, "max_auth_failures": None}, {"login_delay": 1}])
def test_what_does(values: dict[str, Any]) -> None:
    rules = Rules(**values)
    assert {name: getattr(rules, name) for name in values} == values


def test_strict_never_gives_up() -> None:
    """A-31."""
    assert Rules(profile=Profile.STRICT, max_bad_commands=1).bad_command_budget is None
    assert Rules(max_bad_commands=7).bad_command_budget == 7


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="<"), min_size=1, max_size=300))
def test_every_banner_that_is_taken_can_be_sent(banner: str) -> None:
    """R2449-03, R1939-73, A12: with a timestamp and without, and it is neither a code nor a timestamp itself."""
    if banner.startswith("["):
        with pytest.raises(ValueError, match="banner"):
            Rules(banner=banner)
        return
    greeting = Dialogue(Store(), banner=banner, xclient=True).greeting
    assert greeting == f"+OK [XCLIENT] {banner}\r\n".encode()
    stamp = f"<{'9' * 40}.{'9' * 10}@{'h' * 128}>"
    greeting = Dialogue(Store(), banner=banner, xclient=True, timestamp=stamp).greeting
    assert len(greeting) <= 512
    client = Pop3Connection(Role.CLIENT)
    client.receive_data(greeting)
    event = client.next_event()
    assert getattr(event, "timestamp", None) == stamp


def test_headers_is_one_of_three() -> None:
    """B1: a string would be none of them, and sizes would be wrong."""
    with pytest.raises(TypeError, match="headers must be one of"):
        Rules(headers="refuse")  # type: ignore[arg-type]
