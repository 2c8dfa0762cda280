"""Every check of `trio_pop3.testing.checks` passes on a server that is right, and fails on one that is not."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trustme

from trio_pop3.testing.checks import (
    CHECKS,
    Account,
    Check,
    Encryption,
    Level,
    Profile,
    Report,
    Settings,
    Verdict,
    run_checks,
)
from trio_pop3.testing.checks.needs import DESTRUCTIVE, ENCRYPTED, IMPLICIT_TLS, STRICT

from ..test_rfc import rows
from .check_faults import FAULTS, HONEST
from .faulty_server import CLOCK, OTHER, OTHER_PASSWORD, PASSWORD, USER, Fault, FaultyServer, serving

NUMBERS = {check.number: check for check in CHECKS}
# So many other checks may find a fault as well.
MOST = 8


@dataclass(frozen=True)
class Certificates:
    """Of the servers, and what trusts them."""

    server: Callable[[], ssl.SSLContext]
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)

    def server() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        return context

    return Certificates(server, client)


@pytest.fixture(autouse=True)
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a server that is slow on purpose."""
    monkeypatch.setattr("trio_pop3.testing.checks.target.time", CLOCK)


def settings(server: FaultyServer, check: Check, certificates: Certificates) -> Settings:
    """What a check needs, and nothing more."""
    return Settings(
        host="127.0.0.1",
        port=server.port,
        account=Account(USER, PASSWORD),
        second=Account(OTHER, OTHER_PASSWORD),
        encryption=Encryption.IMPLICIT if server.implicit else Encryption.NONE,
        tls=certificates.client,
        timeout=0.3,
        destructive=DESTRUCTIVE in check.needs,
        reset=server.fill,
        guesses=True,
        profile=server.profile,
    )


def made(fault: Fault, check: Check, certificates: Certificates, *, group: bool = False) -> Report:
    """The check, or all of its group, on a server with this fault."""
    implicit = bool({ENCRYPTED, IMPLICIT_TLS} & {*check.needs})
    profile = Profile.STRICT if STRICT in check.needs else Profile.DEFAULT
    checks = [each for each in CHECKS if each is check or (group and each.group == check.group)]
    with serving(fault, certificates.server, implicit=implicit, profile=profile) as server:
        return run_checks(settings(server, check, certificates), checks)


def test_numbers_are_there_once() -> None:
    assert len(NUMBERS) == len(CHECKS)
    assert sorted(NUMBERS) == list(NUMBERS)
    assert all(len(number) == 3 and number.isdecimal() for number in NUMBERS)


def test_every_check_has_its_fault() -> None:
    assert set(FAULTS) == set(NUMBERS)
    assert set(HONEST) <= set(NUMBERS)


def test_every_requirement_is_one() -> None:
    """Ids are those of docs/rfc.md."""
    known = set(rows())
    assert not {name for check in CHECKS for name in check.requirements} - known


def test_what_is_said_of_a_check() -> None:
    for check in CHECKS:
        assert check.title[0] == check.title[0].lower() or check.title.split()[0].isupper(), check.title
        assert not check.title.endswith(".")
        assert len(check.title) <= 110
        assert check.section.startswith("RFC ")
        assert check.requirements or check.level is not Level.MUST
    assert len({check.title for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("number", NUMBERS)
def test_passes_on_a_server_that_is_right(number: str, certificates: Certificates) -> None:
    (outcome,) = made(HONEST.get(number, Fault()), NUMBERS[number], certificates).outcomes
    assert outcome.verdict is Verdict.PASSED, (outcome.sentence, outcome.dialogue)
    assert outcome.sentence == ""


@pytest.mark.parametrize("number", NUMBERS)
def test_fails_on_a_server_that_is_not(number: str, certificates: Certificates) -> None:
    """And the fault is found by few others of its group."""
    check, fault = NUMBERS[number], FAULTS[number]
    report = made(fault, check, certificates, group=True)
    outcomes = {outcome.check.number: outcome for outcome in report.outcomes}
    verdict = Verdict.FAILED if check.level is Level.MUST else Verdict.WARNED
    assert outcomes[number].verdict is verdict, (outcomes[number].sentence, outcomes[number].dialogue)
    assert outcomes[number].sentence
    assert not outcomes[number].sentence.endswith(".")
    assert "makes no sense" not in outcomes[number].sentence
    for outcome in report.outcomes:
        assert PASSWORD not in outcome.dialogue + outcome.sentence
    found = [outcome for outcome in report.outcomes if outcome.verdict in (Verdict.FAILED, Verdict.WARNED)]
    assert fault.many or len(found) <= MOST, [(each.check.number, each.sentence) for each in found]
