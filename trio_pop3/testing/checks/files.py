"""The result for machines: JSON and JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any, Final

from .base import Outcome, Verdict, printable
from .runner import Report
from .target import Settings

JSON_VERSION: Final = 1


def as_json(report: Report, settings: Settings, *, seed: int) -> dict[str, Any]:
    """What `--json` writes. Keys stay as they are as long as `version` is 1; more may come.

    version: 1. target: host, port, tls ("none", "STLS" or "implicit TLS"), greeting. run: profile ("default" or
    "strict"), destructive, seed, seconds, logins, failed_logins, stopped (why not all checks were made; "" if they
    were). summary: how many checks passed, failed, warned, skipped. checks: in order, each with number, title, group,
    level ("MUST", "SHOULD" or "MAY"), section, requirements (ids of docs/rfc.md), verdict ("passed", "failed", "warned"
    or "skipped"), sentence (why; "" if it passed), dialogue (lines, as trio_pop3.testing.Transcript reads them),
    seconds. What is not printable is escaped.
    """
    return {
        "version": JSON_VERSION,
        "target": {
            "host": settings.host,
            "port": settings.port,
            "tls": settings.encryption.value,
            "greeting": printable(report.greeting),
        },
        "run": {
            "profile": settings.profile.name.lower(),
            "destructive": settings.destructive,
            "seed": seed,
            "seconds": round(report.seconds, 3),
            "logins": report.logins,
            "failed_logins": report.failed_logins,
            "stopped": printable(report.stopped),
        },
        "summary": {verdict.value: report.count(verdict) for verdict in Verdict},
        "checks": [_check_as_json(outcome) for outcome in report.outcomes],
    }


def _check_as_json(outcome: Outcome) -> dict[str, Any]:
    check = outcome.check
    return {
        "number": check.number,
        "title": check.title,
        "group": check.group,
        "level": check.level.value,
        "section": check.section,
        "requirements": list(check.requirements),
        "verdict": outcome.verdict.value,
        "sentence": printable(outcome.sentence),
        "dialogue": _lines(outcome),
        "seconds": round(outcome.seconds, 3),
    }


def _lines(outcome: Outcome) -> list[str]:
    return [printable(line) for line in outcome.dialogue.splitlines()]


def as_junit(report: Report, settings: Settings) -> bytes:
    """What `--junit` writes: a test case for each check. A warning does not fail; it is in system-out. One more is in
    error if not all checks were made."""
    suite = ET.Element(
        "testsuite",
        name=f"trio-pop3 check {settings.where}",
        tests=str(len(report.outcomes) + bool(report.stopped)),
        failures=str(report.count(Verdict.FAILED)),
        errors=str(int(bool(report.stopped))),
        skipped=str(report.count(Verdict.SKIPPED)),
        time=f"{report.seconds:.3f}",
    )
    for outcome in report.outcomes:
        check = outcome.check
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"pop3.{check.group.replace('.', '').replace(' ', '_')}",
            name=f"{check.number} {check.title}",
            time=f"{outcome.seconds:.3f}",
        )
        words = f"{check.level.value}, {check.section}: {printable(outcome.sentence)}"
        if outcome.verdict is Verdict.FAILED:
            ET.SubElement(case, "failure", message=words, type=check.level.value).text = "\n".join(_lines(outcome))
        elif outcome.verdict is Verdict.SKIPPED:
            ET.SubElement(case, "skipped", message=printable(outcome.sentence))
        elif outcome.verdict is Verdict.WARNED:
            ET.SubElement(case, "system-out").text = "\n".join([words, *_lines(outcome)])
    if report.stopped:
        case = ET.SubElement(suite, "testcase", classname="pop3", name="all checks are made", time="0")
        ET.SubElement(case, "error", message=printable(report.stopped))
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document
