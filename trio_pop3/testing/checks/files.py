"""The result for machines: JSON and JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any, Final

from .base import Outcome, Verdict
from .runner import Report
from .target import Settings

JSON_VERSION: Final = 1
# What XML 1.0 cannot hold, whatever it is escaped with.
_NOT_XML: Final = {octet: f"\\x{octet:02x}" for octet in range(0x20) if octet not in (0x09, 0x0A)}


def as_json(report: Report, settings: Settings, *, seed: int) -> dict[str, Any]:
    """What `--json` writes. Keys stay as they are as long as `version` is 1; more may come.

    version: 1. target: host, port, tls ("none", "STLS" or "implicit TLS"), greeting. run: profile ("default" or
    "strict"), destructive, seed, seconds, logins, failed_logins. summary: how many checks passed, failed, warned,
    skipped. checks: in order, each with number, title, group, level ("MUST", "SHOULD" or "MAY"), section, requirements
    (ids of docs/rfc.md), verdict ("passed", "failed", "warned" or "skipped"), sentence (why; "" if it passed), dialogue
    (lines, as trio_pop3.testing.Transcript reads them), seconds.
    """
    return {
        "version": JSON_VERSION,
        "target": {
            "host": settings.host,
            "port": settings.port,
            "tls": settings.encryption.value,
            "greeting": report.greeting,
        },
        "run": {
            "profile": settings.profile.name.lower(),
            "destructive": settings.destructive,
            "seed": seed,
            "seconds": round(report.seconds, 3),
            "logins": report.logins,
            "failed_logins": report.failed_logins,
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
        "sentence": outcome.sentence,
        "dialogue": outcome.dialogue.splitlines(),
        "seconds": round(outcome.seconds, 3),
    }


def as_junit(report: Report, settings: Settings) -> bytes:
    """What `--junit` writes: a test case for each check. A warning does not fail; it is in system-out."""
    suite = ET.Element(
        "testsuite",
        name=f"trio-pop3 check {settings.host}:{settings.port}",
        tests=str(len(report.outcomes)),
        failures=str(report.count(Verdict.FAILED)),
        errors="0",
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
        words = f"{check.level.value}, {check.section}: {outcome.sentence}".translate(_NOT_XML)
        if outcome.verdict is Verdict.FAILED:
            ET.SubElement(case, "failure", message=words, type=check.level.value).text = outcome.dialogue
        elif outcome.verdict is Verdict.SKIPPED:
            ET.SubElement(case, "skipped", message=outcome.sentence.translate(_NOT_XML))
        elif outcome.verdict is Verdict.WARNED:
            ET.SubElement(case, "system-out").text = f"{words}\n{outcome.dialogue}"
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document
