"""Limits and timeouts: what is refused, and what the profiles make of it."""

from __future__ import annotations

import math
import resource
import socket
from typing import Any

import pytest

from trio_pop3.sansio import Profile
from trio_pop3.server.options import DEFAULTS, Options, descriptors_allow


def test_defaults_are_those_of_the_specification() -> None:
    """PROTOCOL 2.7, A-31, R1939-16."""
    assert DEFAULTS.idle_timeout == 600
    assert DEFAULTS.login_timeout == 180
    assert DEFAULTS.write_timeout == 300
    assert DEFAULTS.max_bad_commands == 10
    assert DEFAULTS.max_auth_failures == 3
    assert not DEFAULTS.insecure_auth
    assert not DEFAULTS.apop


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize("name", ["login_timeout", "command_timeout", "write_timeout", "commit_timeout"])
def test_times_are_positive(name: str, value: float) -> None:
    wanted: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be a positive number of seconds, not {value!r}"):
        Options(**wanted)


@pytest.mark.parametrize("value", [-0.5, math.nan])
def test_drain_timeout_may_be_zero_and_not_less(value: float) -> None:
    assert Options(drain_timeout=0).drain_timeout == 0
    with pytest.raises(ValueError, match="drain_timeout must be 0 or more"):
        Options(drain_timeout=value)


@pytest.mark.parametrize("value", [599.999, 0, -1, math.nan])
def test_idle_timeout_is_at_least_ten_minutes(value: float) -> None:
    """R1939-16, I2: the autologout timer is not shorter than 600 s."""
    assert Options(idle_timeout=600).idle_timeout == 600
    assert Options(idle_timeout=math.inf).idle_timeout == math.inf
    with pytest.raises(ValueError, match=r"idle_timeout must be at least 600 seconds \(RFC 1939 section 3\)"):
        Options(idle_timeout=value)


@pytest.mark.parametrize(
    "name", ["max_bad_commands", "max_auth_failures", "max_connections", "max_connections_per_host"]
)
def test_counts_are_at_least_one_or_none(name: str) -> None:
    for good in (1, None):
        wanted: dict[str, Any] = {name: good}
        assert getattr(Options(**wanted), name) == good
    for bad in (0, -1):
        wanted = {name: bad}
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not {bad}"):
            Options(**wanted)


@pytest.mark.parametrize("banner", ["", "x" * 301, "a\r\nb", "caf\xe9", "<looks@like.apop>", "[SYS/TEMP] no", "tab\t"])
def test_banner_is_plain_text(banner: str) -> None:
    """A11, A12: nothing in it ends the line, begins a response code or looks like an APOP timestamp."""
    assert Options(banner="x" * 300).banner == "x" * 300
    with pytest.raises(ValueError, match="banner must be"):
        Options(banner=banner)


@pytest.mark.parametrize("name", ["", "a b", "a@b", "a>b", "\xe9", "h" * 129, "host\n"])
def test_host_name_is_one(name: str) -> None:
    """R1939-73: it stands in a msg-id."""
    with pytest.raises(ValueError, match="hostname must be a host name"):
        Options(hostname=name)


def test_timestamp_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """R1939-73: the option, else this host's name, else a name that is always good."""
    assert Options(hostname="mail.example.org").timestamp_domain == "mail.example.org"
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert DEFAULTS.timestamp_domain == "box"
    monkeypatch.setattr(socket, "gethostname", lambda: "no good <name>")
    assert DEFAULTS.timestamp_domain == "localhost"


def test_strict_never_gives_up_on_a_client() -> None:
    """A-31, D9, PROTOCOL 2.7: neither bad commands nor a slow login end a strict connection."""
    assert (DEFAULTS.bad_command_budget, DEFAULTS.login_budget) == (10, 180)
    strict = Options(profile=Profile.STRICT)
    assert (strict.bad_command_budget, strict.login_budget) == (None, math.inf)


@pytest.mark.parametrize(("soft", "places"), [(resource.RLIM_INFINITY, 10_000), (1024, 320), (67, 1), (64, 1), (3, 1)])
def test_places_leave_room_for_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, places: int) -> None:
    """Three descriptors for a session, some for the process; never less than one place."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, resource.RLIM_INFINITY))
    assert descriptors_allow() == DEFAULTS.places == places
    assert Options(max_connections=7).places == 7
