"""How checks are made one after the other: when to give up, and faults that only a second look finds."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trustme

from trio_pop3.sansio import Profile
from trio_pop3.testing.checks import CHECKS, Account, Check, Outcome, Report, Settings, Verdict, run_checks
from trio_pop3.testing.checks.base import clipped, printable

from .check_faults import does, rewrites, says
from .faulty_server import CLOCK, PASSWORD, USER, Conversation, Fault, FaultyServer, serving


@pytest.fixture(autouse=True)
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a server that is slow on purpose."""
    monkeypatch.setattr("trio_pop3.testing.checks.target.time", CLOCK)


@pytest.fixture(scope="module")
def certificate() -> trustme.LeafCert:
    return trustme.CA().issue_cert("127.0.0.1")


class Start:
    """Starts servers, and makes checks of them."""

    def __init__(self, leaf: trustme.LeafCert, stack: ExitStack) -> None:
        self._leaf = leaf
        self._stack = stack

    def __call__(self, fault: Fault) -> FaultyServer:
        def certificate() -> ssl.SSLContext:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._leaf.configure_cert(context)
            return context

        return self._stack.enter_context(serving(fault, certificate, implicit=False, profile=Profile.DEFAULT))


@pytest.fixture
def start(certificate: trustme.LeafCert) -> Iterator[Start]:
    with ExitStack() as stack:
        yield Start(certificate, stack)


def checks(*numbers: str) -> list[Check]:
    """Those with these numbers, or beginnings of numbers; all if there are none."""
    return [check for check in CHECKS if check.number.startswith(numbers or "")]


def settings(server: FaultyServer, *, destructive: bool = False) -> Settings:
    account = Account(USER, PASSWORD)
    return Settings(
        host="127.0.0.1",
        port=server.port,
        account=account,
        timeout=0.3,
        destructive=destructive,
        reset=server.fill if destructive else None,
    )


def made(start: Start, number: str, fault: Fault) -> Outcome:
    (outcome,) = run_checks(settings(start(fault), destructive=number[0] == "5"), checks(number)).outcomes
    return outcome


# --- giving up -------------------------------------------------------------------------------------------------------


def given_up(report: Report) -> bool:
    return report.stopped.startswith("gave up, since the server is of no use any more: ")


def test_a_server_that_is_gone_is_not_asked_a_hundred_times(start: Start) -> None:
    server = start(Fault())

    def watch(event: object) -> None:
        if isinstance(event, Outcome) and event.check.number == "106":
            server.shutdown()
            server.server_close()

    report = run_checks(settings(server), checks("1", "2", "4"), watch=watch)
    assert given_up(report)
    assert "refused" in report.stopped
    numbers = [outcome.check.number for outcome in report.outcomes]
    assert numbers[:6] == ["101", "102", "103", "104", "105", "106"]
    assert len(numbers) == 11
    assert not report.conforms


@pytest.mark.parametrize("groups", [["4"], ["1", "2", "6"]])
def test_logins_that_are_refused_are_not_tried_for_ever(groups: list[str], start: Start) -> None:
    """Also if there are checks between them that hold, and need no login."""

    def refused(talk: Conversation, line: bytes) -> bytes:
        talk.server.memory["logins"] = logins = talk.server.memory.get("logins", 0) + 1
        return talk.honest(line) if logins < 12 else b"-ERR sorry, " + line + b"\r\n"

    report = run_checks(settings(start(does(b"PASS .*", refused))), checks(*groups))
    assert given_up(report)
    assert 'the login was refused: "sorry, PASS \\{password}"' in report.stopped
    troubles = [outcome for outcome in report.outcomes if outcome.sentence.startswith("the login was refused: ")]
    assert len(troubles) == 5
    assert report.count(Verdict.PASSED) >= 5


def test_a_server_that_only_ignores_lines_is_not_given_up(start: Start) -> None:
    """It is there still, and there is more to be found."""
    deaf = says(rb"XNON||sTaT| NOOP|NO\rOP|LIST {2}1|(?:STAT|LIST 1|NOOP) .*", b"")
    report = run_checks(settings(start(deaf)), checks("80", "81"))
    assert report.stopped == ""
    assert len(report.outcomes) == len(checks("80", "81"))
    assert all(outcome.verdict is Verdict.FAILED for outcome in report.outcomes[:9])


def test_a_server_that_has_no_end_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_pop3.testing.talk._MOST_BODY_OCTETS", 100_000)
    endless = says(b"LIST", b"+OK\r\n" + b"1 1\r\n" * 40_000)
    report = run_checks(settings(start(endless)), checks("4"))
    assert given_up(report)
    assert "of more than 100000 octets" in report.stopped
    assert all(len(outcome.dialogue) < 100_000 for outcome in report.outcomes)


# --- a second look ---------------------------------------------------------------------------------------------------


def _one_of_two(talk: Conversation, line: bytes) -> bytes:
    """Of two that are marked, only the first goes."""
    talk.memory["marked"] = marked = talk.memory.get("marked", 0) + 1
    return talk.honest(line) if marked == 1 else b"+OK\r\n"


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        ("407", rewrites(b"LIST 3", rb" (\d+)\r", rb" 1\1\r")),
        ("429", rewrites(b"UIDL 2", rb"\r\n", b"z\r\n")),
        ("505", rewrites(b"STAT", rb"\+OK ([12]) (\d+)", rb"+OK \1 1\2")),
        ("516", does(b"DELE .*", _one_of_two)),
    ],
)
def test_it_is_not_always_the_first_message_that_is_wrong(number: str, fault: Fault, start: Start) -> None:
    assert made(start, number, Fault()).verdict is Verdict.PASSED
    assert made(start, number, fault).verdict is Verdict.FAILED


def test_without_a_delay_no_login_comes_too_soon(start: Start) -> None:
    outcome = made(start, "227", rewrites(b"CAPA", b"TOP\r\n", b"TOP\r\nLOGIN-DELAY 0\r\n"))
    assert (outcome.verdict, outcome.sentence) == (Verdict.SKIPPED, "LOGIN-DELAY is 0, so that no login comes too soon")


def test_lf_may_be_refused_in_a_line_of_its_own(start: Start) -> None:
    """A-01."""

    def split(data: bytearray) -> bytes | None:
        line, end, rest = data.partition(b"\n")
        if not end:
            return None
        data[:] = rest
        return bytes(line.removesuffix(b"\r")) if line.endswith(b"\r") else b"XLF"

    assert made(start, "811", Fault(split=split)).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("number", "fault", "sentence"),
    [
        ("609", says(b"TOP .*", b"-ERR\r\n"), "TOP does not work"),
        ("609", says(b"TOP .*|UIDL", b"-ERR\r\n"), "TOP and UIDL do not work"),
        ("608", rewrites(b"CAPA", b"TOP\r\n", b""), "TOP is not announced"),
        ("608", rewrites(b"CAPA", b"TOP\r\n|UIDL\r\n", b""), "TOP and UIDL are not announced"),
        ("611", Fault(), "it may: RESP-CODES is announced"),
    ],
)
def test_sentences(number: str, fault: Fault, sentence: str, start: Start) -> None:
    assert made(start, number, fault).sentence == sentence


# --- words -----------------------------------------------------------------------------------------------------------


def test_what_is_quoted_is_clipped() -> None:
    assert clipped('"RETR 1" was refused') == '"RETR 1" was refused'
    assert clipped(f'"{"x" * 60}" is not answered with "{"y" * 61}"') == (
        f'"{"x" * 60}" is not answered with "{"y" * 57}..."'
    )
    assert len(clipped("x" * 10_000)) < 700


def test_what_is_not_printable_is_escaped() -> None:
    """A terminal obeys some of it, XML cannot hold some of it."""
    nasty = "\0\t\n\x1b\x7f\x9b\u200e\u202e\u2066\u2028\ud800\udce4\ufffe"
    assert printable(nasty) == ("\\x00\\t\\n\\x1b\\x7f\\x9b\\u200e\\u202e\\u2066\\u2028\\ud800\\udce4\\ufffe")
    assert printable('f\xfcr \u4f60 und \\ "mich"') == 'f\xfcr \u4f60 und \\ "mich"'
