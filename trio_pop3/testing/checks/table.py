"""The result for a person: a table, what failed and why, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TextIO

from .base import Check, Outcome, Verdict, printable
from .runner import Report
from .target import Settings

_WORDS: Final = {Verdict.PASSED: "ok", Verdict.FAILED: "FAIL", Verdict.WARNED: "warn", Verdict.SKIPPED: "skip"}
_COLOURS: Final = {Verdict.PASSED: "32", Verdict.FAILED: "1;31", Verdict.WARNED: "33", Verdict.SKIPPED: "2"}
_MOST_COLUMNS: Final = 160
_ROW: Final = "  {number:<8}{word} {level:<6} {section:<24} {title}"


def headline(settings: Settings, seed: int) -> str:
    """What is checked, and how."""
    deleted = "messages may be deleted" if settings.destructive else "nothing is deleted"
    profile = settings.profile.name.lower()
    return (
        f"checking {settings.where} as {printable(settings.account.user)} "
        f"(TLS: {settings.encryption.value}; profile: {profile}; {deleted}; seed: {seed})"
    )


def table(report: Report, *, colour: bool, verbose: bool) -> Iterator[str]:
    """Lines: every check in its group, what failed, and the sum of it. `verbose` shows every dialogue."""
    yield f"the server says: {printable(report.greeting)}"
    for group, outcomes in _grouped(report.outcomes):
        yield ""
        yield _painted(group, "1", colour)
        if verbose:
            for outcome in outcomes:
                yield _row(outcome, colour)
                yield from _indented(outcome.dialogue)
            continue
        for _, same in groupby(outcomes, lambda outcome: outcome.verdict is Verdict.SKIPPED and outcome.sentence):
            yield from _rows(list(same), colour)
    for verdict in (Verdict.WARNED, Verdict.FAILED):
        for outcome in report.outcomes:
            if outcome.verdict is verdict:
                yield from _explained(outcome, colour)
    yield ""
    yield summary(report)


def summary(report: Report) -> str:
    """All in one line."""
    counts = ", ".join(
        f"{report.count(verdict)} {word}"
        for verdict, word in (
            (Verdict.PASSED, "passed"),
            (Verdict.FAILED, "failed"),
            (Verdict.WARNED, "with a warning"),
            (Verdict.SKIPPED, "skipped"),
        )
    )
    used = f"{_counted(report.logins, 'login')}, {report.failed_logins} with a wrong password"
    return f"{_counted(len(report.outcomes), 'check')} in {report.seconds:.1f} s: {counts}; {used}"


def listing(checks: Sequence[Check]) -> Iterator[str]:
    """What `--list` prints."""
    for check in checks:
        needs = f"  [{', '.join(need.name for need in check.needs)}]" if check.needs else ""
        yield f"{check.number}  {check.level.value:<6} {check.section:<24} {check.title}{needs}"


class Progress:
    """How far it has come, on one line of a terminal that is wiped out in the end."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._made = 0

    def __call__(self, event: Check | Outcome | str) -> None:
        if isinstance(event, str):
            self._show(f"{event}\n")
        elif isinstance(event, Check):
            self._made += 1
            self._show(f"[{self._made}/{self._total}] {event.number} {event.title}"[:78])

    def clear(self) -> None:
        """Leave no trace."""
        self._show("")

    def _show(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _grouped(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    for group in dict.fromkeys(outcome.check.group for outcome in outcomes):
        yield group, [outcome for outcome in outcomes if outcome.check.group == group]


def _rows(outcomes: list[Outcome], colour: bool) -> Iterator[str]:
    """A row for each; what is skipped in a row for one reason is one."""
    if len(outcomes) == 1 or outcomes[0].verdict is not Verdict.SKIPPED:
        yield from (_row(outcome, colour) for outcome in outcomes)
        return
    word = _painted("skip", _COLOURS[Verdict.SKIPPED], colour)
    numbers = f"{outcomes[0].check.number}-{outcomes[-1].check.number}"
    yield f"  {numbers:<8}{word} {len(outcomes)} checks: {printable(outcomes[0].sentence)}"


def _row(outcome: Outcome, colour: bool) -> str:
    check = outcome.check
    word = _painted(f"{_WORDS[outcome.verdict]:<4}", _COLOURS[outcome.verdict], colour)
    row = _ROW.format(number=check.number, word=word, level=check.level.value, section=check.section, title=check.title)
    return f"{row} ({printable(outcome.sentence)})" if outcome.verdict is Verdict.SKIPPED else row


def _explained(outcome: Outcome, colour: bool) -> Iterator[str]:
    check = outcome.check
    yield ""
    word = _painted(_WORDS[outcome.verdict], _COLOURS[outcome.verdict], colour)
    yield f"{word} {check.number} ({check.level.value}, {', '.join((check.section, *check.requirements))})"
    yield f"  {check.level.value}: {check.title}."
    yield f"  But {printable(outcome.sentence)}."
    yield from _indented(outcome.dialogue)


def _indented(dialogue: str) -> Iterator[str]:
    for line in map(printable, dialogue.splitlines()):
        more = len(line) - _MOST_COLUMNS
        yield f"      {line}" if more <= 0 else f"      {line[:_MOST_COLUMNS]}... and {more} characters"


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[m" if colour else text
