"""What `trio_pop3.testing.checks` says of its results: for a person, as JSON, as JUnit."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import pytest

from trio_pop3.testing.checks import CHECKS, Account, Check, Outcome, Profile, Report, Settings, Verdict
from trio_pop3.testing.checks.files import as_json, as_junit
from trio_pop3.testing.checks.table import Progress, headline, listing, table

BY_NUMBER = {check.number: check for check in CHECKS}
SETTINGS = Settings(host="127.0.0.1", port=1110, account=Account("alice", "wonderland"), profile=Profile.STRICT)


def outcome(number: str, verdict: Verdict, sentence: str = "", dialogue: str = "") -> Outcome:
    return Outcome(BY_NUMBER[number], verdict, sentence, dialogue, 0.25)


REPORT = Report(
    "ready",
    (
        outcome("101", Verdict.PASSED, dialogue="S: +OK ready\n"),
        outcome("104", Verdict.WARNED, "nothing follows +OK", "S: +OK\n"),
        outcome("105", Verdict.SKIPPED, "no APOP"),
        outcome("106", Verdict.SKIPPED, "no APOP"),
        outcome("401", Verdict.FAILED, "it is \x1b[31m <wrong> & \x00", f"C: STAT\nS: {'x' * 300}\n"),
        outcome("408", Verdict.SKIPPED, "no empty maildrop"),
    ),
    7,
    2,
    1.5,
)


def lines(*, colour: bool = False, verbose: bool = False, report: Report = REPORT) -> list[str]:
    return list(table(report, colour=colour, verbose=verbose))


def test_a_row_for_each_check_in_its_group() -> None:
    rows = lines()
    assert rows[0] == "the server says: ready"
    greeting, transaction = rows.index("Greeting"), rows.index("Transaction")
    assert rows[greeting + 1].startswith("  101     ok   MUST   RFC 1939 section 4       the server speaks first")
    assert rows[greeting + 2].startswith("  104     warn SHOULD RFC 1957                 +OK is followed")
    assert rows[greeting + 3] == "  105-106 skip 2 checks: no APOP"
    assert rows[transaction + 1].startswith("  401     FAIL MUST   RFC 1939 section 5       STAT is answered")
    assert rows[transaction + 2].endswith("STAT is 0 0 (no empty maildrop)")
    assert rows[-1] == (
        "6 checks in 1.5 s: 1 passed, 1 failed, 1 with a warning, 3 skipped; 7 logins, 2 with a wrong password"
    )


def test_what_does_not_hold_is_explained_the_worst_last() -> None:
    text = "\n".join(lines())
    warned, failed = text.index("\nwarn 104 (SHOULD, RFC 1957, R1957-01)\n"), text.index("\nFAIL 401 (MUST, ")
    assert warned < failed
    assert (
        "  SHOULD: +OK is followed by a space and words, as old clients want it.\n  But nothing follows +OK.\n" in text
    )
    assert "      S: +OK\n" in text[warned:failed]
    assert "S: +OK ready" not in text


def test_a_line_that_is_long_is_cut() -> None:
    (long,) = (line for line in lines() if "xxx" in line)
    assert long.endswith("... and 143 characters")
    assert len(long) < 200


def test_verbose_shows_every_dialogue_and_every_row() -> None:
    rows = lines(verbose=True)
    assert "      S: +OK ready" in rows
    assert [row[2:5] for row in rows if " skip " in row] == ["105", "106", "408"]


def test_colour_is_asked_for() -> None:
    assert not any("\x1b[32m" in row or "\x1b[1m" in row for row in lines())
    coloured = "\n".join(lines(colour=True))
    for code in ("32", "1;31", "33", "2"):
        assert f"\x1b[{code}m" in coloured


def test_headline() -> None:
    assert headline(SETTINGS, 42) == (
        "checking 127.0.0.1:1110 as alice (TLS: none; profile: strict; nothing is deleted; seed: 42)"
    )


def test_listing_says_what_a_check_needs() -> None:
    rows = list(listing(CHECKS))
    assert len(rows) == len(CHECKS)
    assert any(
        row.startswith("512  MUST   RFC 1939 section 6") and row.endswith("[--destructive, a message]") for row in rows
    )


def test_progress_is_on_one_line_and_leaves_no_trace() -> None:
    stream = io.StringIO()
    progress = Progress(stream, 2)
    progress(BY_NUMBER["101"])
    progress(REPORT.outcomes[0])
    progress("something to know")
    progress(BY_NUMBER["205"])
    progress.clear()
    shown = stream.getvalue()
    assert "\r\x1b[K[1/2] 101 the server speaks first" in shown
    assert shown.count("\n") == 1
    assert "\x1b[Ksomething to know\n" in shown
    assert shown.endswith("\r\x1b[K")
    assert all(len(part) < 85 for part in shown.split("\r"))


def test_json_has_the_keys_that_are_promised() -> None:
    found = json.loads(json.dumps(as_json(REPORT, SETTINGS, seed=42)))
    assert {key: value for key, value in found.items() if key != "checks"} == {
        "version": 1,
        "target": {"host": "127.0.0.1", "port": 1110, "tls": "none", "greeting": "ready"},
        "run": {
            "profile": "strict",
            "destructive": False,
            "seed": 42,
            "seconds": 1.5,
            "logins": 7,
            "failed_logins": 2,
            "stopped": "",
        },
        "summary": {"passed": 1, "failed": 1, "warned": 1, "skipped": 3},
    }
    assert found["checks"][1] == {
        "number": "104",
        "title": "+OK is followed by a space and words, as old clients want it",
        "group": "Greeting",
        "level": "SHOULD",
        "section": "RFC 1957",
        "requirements": ["R1957-01"],
        "verdict": "warned",
        "sentence": "nothing follows +OK",
        "dialogue": ["S: +OK"],
        "seconds": 0.25,
    }


def test_junit_is_xml_whatever_a_server_says() -> None:
    """A warning does not fail."""
    suite = ElementTree.fromstring(as_junit(REPORT, SETTINGS))
    assert (suite.tag, suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("testsuite", "6", "1", "3")
    cases = {str(case.get("name"))[:3]: case for case in suite.iter("testcase")}
    assert list(cases) == [each.check.number for each in REPORT.outcomes]
    assert all(str(case.get("classname")).replace(".", "").replace("_", "").isalnum() for case in cases.values())
    failure = cases["401"].find("failure")
    assert failure is not None
    assert failure.get("message") == "MUST, RFC 1939 section 5: it is \\x1b[31m <wrong> & \\x00"
    assert (failure.text or "").startswith("C: STAT")
    assert [child.tag for child in cases["104"]] == ["system-out"]
    assert [child.tag for child in cases["105"]] == ["skipped"]
    assert list(cases["101"]) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.number)
def test_every_row_fits(check: Check) -> None:
    (row,) = [
        row for row in lines(report=Report("", (Outcome(check, Verdict.PASSED),), 0, 0, 0)) if check.number in row
    ]
    assert len(row) <= 150
