"""Limits and timeouts: what is refused, and what the profiles make of it."""

from __future__ import annotations

import math
import resource
import socket
from typing import Any

import pytest

from trio_pop3.sansio import Profile
from trio_pop3.server.options import DEFAULTS, descriptors_allow, make_options


def test_defaults_are_those_of_the_specification() -> None:
    """PROTOCOL 2.7, A-31, R1939-16."""
    assert DEFAULTS.idle_timeout == 600
    assert DEFAULTS.login_timeout == 180
    assert DEFAULTS.write_timeout == 300
    assert DEFAULTS.tls_timeout == 30
    assert DEFAULTS.proxy_timeout == 5
    assert DEFAULTS.rules.max_bad_commands == 10
    assert DEFAULTS.rules.max_auth_failures == 3
    assert not DEFAULTS.rules.insecure_auth
    assert not DEFAULTS.rules.apop


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize("name", ["login_timeout", "command_timeout", "write_timeout", "commit_timeout"])
def test_times_are_positive(name: str, value: float) -> None:
    wanted: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be a positive number of seconds, not {value!r}"):
        make_options(**wanted)


@pytest.mark.parametrize("value", [-0.5, math.nan])
def test_drain_timeout_may_be_zero_and_not_less(value: float) -> None:
    assert make_options(drain_timeout=0).drain_timeout == 0
    with pytest.raises(ValueError, match="drain_timeout must be 0 or more"):
        make_options(drain_timeout=value)


@pytest.mark.parametrize("value", [599.999, 0, -1, math.nan])
def test_idle_timeout_is_at_least_ten_minutes(value: float) -> None:
    """R1939-16, I2: the autologout timer is not shorter than 600 s."""
    assert make_options(idle_timeout=600).idle_timeout == 600
    assert make_options(idle_timeout=math.inf).idle_timeout == math.inf
    with pytest.raises(ValueError, match=r"idle_timeout must be at least 600 seconds \(RFC 1939 section 3\)"):
        make_options(idle_timeout=value)


@pytest.mark.parametrize(
    "name", ["max_bad_commands", "max_auth_failures", "max_connections", "max_connections_per_host"]
)
def test_counts_are_at_least_one_or_none(name: str) -> None:
    for good in (1, None):
        wanted: dict[str, Any] = {name: good}
        options = make_options(**wanted)
        assert getattr(options if hasattr(options, name) else options.rules, name) == good
    for bad in (0, -1):
        wanted = {name: bad}
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not {bad}"):
            make_options(**wanted)


@pytest.mark.parametrize("banner", ["", "x" * 301, "a\r\nb", "caf\xe9", "<looks@like.apop>", "[SYS/TEMP] no", "tab\t"])
def test_banner_is_plain_text(banner: str) -> None:
    """A11, A12: nothing in it ends the line, begins a response code or looks like an APOP timestamp."""
    assert make_options(banner="x" * 300).rules.banner == "x" * 300
    with pytest.raises(ValueError, match="banner must be"):
        make_options(banner=banner)


@pytest.mark.parametrize("name", ["a b", "a@b", "a>b", "\xe9", "h" * 129, "host\n"])
def test_host_name_is_one(name: str) -> None:
    """R1939-73: it stands in a msg-id."""
    with pytest.raises(ValueError, match="hostname must be a host name"):
        make_options(hostname=name)


def test_timestamp_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """R1939-73: the option, else this host's name, else a name that is always good."""
    assert make_options(hostname="mail.example.org").rules.hostname == "mail.example.org"
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert make_options().rules.hostname == "box"
    monkeypatch.setattr(socket, "gethostname", lambda: "no good <name>")
    assert make_options().rules.hostname == "localhost"


def test_strict_never_gives_up_on_a_client() -> None:
    """A-31, D9, PROTOCOL 2.7: neither bad commands nor a slow login end a strict connection."""
    assert (DEFAULTS.rules.bad_command_budget, DEFAULTS.login_budget) == (10, 180)
    strict = make_options(profile=Profile.STRICT)
    assert (strict.rules.bad_command_budget, strict.login_budget) == (None, math.inf)


@pytest.mark.parametrize(("soft", "places"), [(resource.RLIM_INFINITY, 10_000), (1024, 320), (67, 1), (64, 1), (3, 1)])
def test_places_leave_room_for_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, places: int) -> None:
    """Three descriptors for a session, some for the process; never less than one place."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, resource.RLIM_INFINITY))
    assert descriptors_allow() == DEFAULTS.places == places
    assert make_options(max_connections=7).places == 7


def test_require_tls_needs_tls() -> None:
    """R2595-13, R2595-16."""
    with pytest.raises(ValueError, match="require_tls needs tls"):
        make_options(require_tls=True)
    with pytest.raises(ValueError, match="require_tls and insecure_auth contradict each other"):
        make_options(require_tls=True, insecure_auth=True)


def test_login_delay_is_whole_seconds() -> None:
    """R2449-17."""
    assert make_options(login_delay=1).rules.login_delay == 1
    with pytest.raises(ValueError, match="login_delay must be"):
        make_options(login_delay=0)
