"""`trio-pop3 check`: does a POP3 server, anybody's, do what the RFCs say?"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import secrets
import socket
import ssl
import sys
from dataclasses import replace
from typing import Any, Final

from ..testing.checks import (
    CHECKS,
    Account,
    Check,
    Encryption,
    NoTarget,
    Outcome,
    Profile,
    Report,
    Settings,
    Verdict,
    run_checks,
)
from ..testing.checks.base import printable
from ..testing.checks.files import as_json, as_junit
from ..testing.checks.properties import PROPERTY_CHECK, Unfinished, property_run
from ..testing.checks.table import Progress, headline, listing, table
from .check_files import Results, hypothesis_elsewhere, shell_reset
from .failure import Failure, complain, reason, say

_PASSWORD: Final = "TRIO_POP3_PASSWORD"
_UNUSABLE: Final = frozenset("\r\n\0")
_MOST_SECONDS: Final = 3600
_INTERRUPTED: Final = "interrupted in check 901"
# IPv6 has colons, and with a port it stands in brackets.
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<bracketed>[^][]+)\]|(?P<host>[^][:]+))(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[^][:]*:[^][:]*:[^][]*)"
)
_MOST_SHOWN: Final = 60
_PORTS: Final = {Encryption.NONE: 110, Encryption.STLS: 110, Encryption.IMPLICIT: 995}


def add_to(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "check", help="check a POP3 server, anybody's, against the RFCs", allow_abbrev=False,
        description="Makes numbered checks of a POP3 server, then has dialogues with it that are made from a seed. The "
        "exit status is 0 if every MUST holds, 1 if one does not, 2 if it could not be seen. Nothing is deleted "
        "without --destructive. It logs in about 150 times, one after the other.",
    )  # fmt: skip
    parser.add_argument("address", metavar="HOST:PORT", nargs="?", help="or [IPV6]:PORT")
    parser.add_argument("--not-loopback", action="store_true", help="HOST is not this machine, and I may test it")
    login = parser.add_argument_group("who logs in", f"The password comes from one of these, or from ${_PASSWORD}.")
    login.add_argument("--user", metavar="NAME", help="whose maildrop is looked at")
    password = login.add_mutually_exclusive_group()
    password.add_argument("--password", metavar="TEXT", help="others on this machine can see it")
    password.add_argument("--password-file", metavar="FILE", help="its first line is the password; - is standard input")
    login.add_argument("--second-user", metavar="NAME:PASSWORD", help="shows that maildrops are apart")
    encryption = parser.add_argument_group("TLS")
    begin = encryption.add_mutually_exclusive_group()
    begin.add_argument("--tls", action="store_true", help="connections begin with TLS")
    begin.add_argument("--stls", action="store_true", help="connections begin in clear, then there is STLS")
    trust = encryption.add_mutually_exclusive_group()
    trust.add_argument("--ca-file", metavar="FILE", help="certificates to trust (PEM), instead of this system's")
    trust.add_argument("--insecure-tls", action="store_true", help="take any certificate")
    what = parser.add_argument_group("what is checked", "NUMBERS is a list such as 2xx,404.")
    what.add_argument("--list", action="store_true", help="print the checks, and make none")
    what.add_argument("--only", metavar="NUMBERS", help="these checks")
    what.add_argument("--skip", metavar="NUMBERS", help="not these")
    what.add_argument(
        "--profile", choices=[profile.name.lower() for profile in Profile], default="default",
        help="default: where the RFCs leave a choice, either is good; strict: it is made as our strict profile does",
    )  # fmt: skip
    what.add_argument("--destructive", action="store_true", help="messages may be deleted")
    what.add_argument(
        "--reset", metavar="COMMAND", help="a shell command that puts the maildrop back to what it was, before each "
        "check that deletes",
    )  # fmt: skip
    what.add_argument(
        "--no-wrong-passwords", action="store_true", help="send none; otherwise about twenty, in the end, which may "
        "make a server slow to answer, or ban this host",
    )  # fmt: skip
    what.add_argument("--seed", metavar="N", type=int, help="of the dialogues, to have the same ones again")
    what.add_argument("--max-examples", metavar="N", type=int, default=50, help="how many dialogues, 0 for none (50)")
    what.add_argument(
        "--ignore-login-delay", action="store_true", help="log in sooner than a server asks for with LOGIN-DELAY"
    )
    what.add_argument("--timeout", metavar="SECONDS", type=float, default=10.0, help="to wait for a reply (10)")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--verbose", action="store_true", help="every dialogue, not only where a check fails")
    shown.add_argument("--json", metavar="FILE", help="write the result as JSON")
    shown.add_argument("--junit", metavar="FILE", help="write the result as JUnit XML")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    checks = selected(arguments.only, arguments.skip)
    if arguments.list:
        say("\n".join(listing(checks)))
        return 0
    settings = _settings(arguments)
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    with Results([arguments.json, arguments.junit]) as results:
        say(headline(settings, seed))
        if settings.destructive and settings.reset is None:
            say("without --reset the maildrop is emptied: what needs messages is skipped in the end, and next time")
        report = _made(settings, checks, seed, arguments.max_examples)
        try:
            text = json.dumps(as_json(report, settings, seed=seed), indent=2)
            results.write(f"{text}\n".encode(), as_junit(report, settings))
        finally:
            say("\n".join(table(report, colour=_wants_colour(), verbose=arguments.verbose)))
    if report.stopped:
        raise Failure(printable(report.stopped), 130 if report.stopped == _INTERRUPTED else 2)
    return 0 if report.conforms else 1


def _made(settings: Settings, checks: list[Check], seed: int, max_examples: int) -> Report:
    properties = max_examples > 0 and PROPERTY_CHECK in checks
    if PROPERTY_CHECK in checks:
        checks.remove(PROPERTY_CHECK)
    progress = Progress(sys.stderr, len(checks) + properties) if _is_terminal(sys.stderr) else None
    try:
        report = run_checks(settings, checks, watch=progress or _remark)
        if not properties or report.stopped:
            return report
        if progress:
            progress(PROPERTY_CHECK)
        return _with_dialogues(report, settings, seed, max_examples)
    except NoTarget as failure:
        raise Failure(printable(str(failure)), 2) from None
    finally:
        if progress:
            progress.clear()


def _with_dialogues(report: Report, settings: Settings, seed: int, max_examples: int) -> Report:
    """The report with check 901 in it. Whatever happens there, what was found before is not lost."""
    stopped = ""
    try:
        with hypothesis_elsewhere():
            outcome = property_run(settings, seed=seed, max_examples=max_examples)
    except (Unfinished, KeyboardInterrupt) as why:
        stopped = str(why) or _INTERRUPTED
        outcome = Outcome(PROPERTY_CHECK, Verdict.SKIPPED, stopped)
    outcomes, seconds = (*report.outcomes, outcome), report.seconds + outcome.seconds
    return replace(report, outcomes=outcomes, seconds=seconds, stopped=stopped)


def selected(only: str | None, without: str | None) -> list[Check]:
    """Checks whose numbers are wanted. Raises Failure for a number that none has."""
    everything = [*CHECKS, PROPERTY_CHECK]
    wanted = everything if only is None else _numbered(everything, "--only", only)
    unwanted = [] if without is None else _numbered(everything, "--skip", without)
    chosen = [check for check in wanted if check not in unwanted]
    if not chosen:
        raise Failure("--only and --skip leave no check", 2)
    return chosen


def _numbered(checks: list[Check], option: str, text: str) -> list[Check]:
    found: list[Check] = []
    for pattern in text.split(","):
        prefix = pattern.strip().lower().removesuffix("xx")
        matching = [
            check for check in checks
            if check.number == prefix or (len(prefix) == 1 and check.number.startswith(prefix))
        ]  # fmt: skip
        if not matching:
            raise Failure(f"{option}: no check has the number {pattern.strip()!r}; see --list", 2)
        found += matching
    return [check for check in checks if check in found]


def _settings(arguments: argparse.Namespace) -> Settings:
    encryption = Encryption.IMPLICIT if arguments.tls else Encryption.STLS if arguments.stls else Encryption.NONE
    if arguments.address is None:
        raise Failure("which server? HOST:PORT is missing", 2)
    if not arguments.user:
        raise Failure("who logs in? --user is missing", 2)
    if arguments.reset is not None and not arguments.destructive:
        raise Failure("--reset is for checks that delete: it needs --destructive", 2)
    if not 0 < arguments.timeout <= _MOST_SECONDS:
        raise Failure(f"--timeout must be more than 0 and at most {_MOST_SECONDS} seconds", 2)
    if arguments.max_examples < 0:
        raise Failure("--max-examples must be 0 or more", 2)
    host, port = _address(arguments.address, _PORTS[encryption])
    _check_loopback(host, port, arguments.not_loopback)
    return Settings(
        host=host,
        port=port,
        account=_account("--user", arguments.user, _password(arguments)),
        second=_second(arguments.second_user),
        encryption=encryption,
        tls=_context(arguments),
        timeout=arguments.timeout,
        destructive=arguments.destructive,
        waits=not arguments.ignore_login_delay,
        guesses=not arguments.no_wrong_passwords,
        reset=None if arguments.reset is None else shell_reset(arguments.reset),
        profile=Profile[arguments.profile.upper()],
    )


def _address(text: str, default_port: int) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(text)
    port = default_port if match is None or match["port"] is None else int(match["port"])
    if match is None or not 0 < port < 65536:
        shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
        raise Failure(f"not HOST:PORT: {shown!r}", 2)
    return match["bracketed"] or match["bare"] or match["host"], port


def _check_loopback(host: str, port: int, permitted: bool) -> None:
    """Raises Failure if this would test somebody else's server without a word of permission."""
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as failure:
        why = reason(failure) if isinstance(failure, OSError) else failure
        raise Failure(f"cannot find {host}: {why}", 2) from None
    if not permitted and not all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses):
        raise Failure(f"{host} is not this machine; if you may test it, say --not-loopback", 2)


def _password(arguments: argparse.Namespace) -> str:
    sources = [arguments.password, arguments.password_file, os.environ.get(_PASSWORD)]
    if sum(source is not None for source in sources) != 1:
        raise Failure(f"give the password in one way: --password, --password-file or {_PASSWORD}", 2)
    if arguments.password_file is None:
        return str(arguments.password or os.environ.get(_PASSWORD, ""))
    try:
        if arguments.password_file == "-":
            octets = sys.stdin.buffer.readline()
        else:
            with open(arguments.password_file, "rb") as file:
                octets = file.readline()
    except OSError as failure:
        raise Failure(f"{arguments.password_file}: {reason(failure)}", 2) from None
    return octets.rstrip(b"\r\n").decode("utf-8", "surrogateescape")


def _second(text: str | None) -> Account | None:
    if text is None:
        return None
    user, _, password = text.partition(":")
    return _account("--second-user", user, password)


def _account(option: str, user: str, password: str) -> Account:
    if not user or not password or _UNUSABLE & {*user, *password}:
        raise Failure(f"{option}: name and password must not be empty, nor hold a line end or a NUL", 2)
    return Account(user, password)


def _context(arguments: argparse.Namespace) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=arguments.ca_file)
    except OSError as failure:  # ssl.SSLError is one
        raise Failure(f"{arguments.ca_file}: {reason(failure)}", 2) from None
    if arguments.insecure_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _remark(event: Check | Outcome | str) -> None:
    """Where there is no terminal, only what a person has to know."""
    if isinstance(event, str):
        complain(printable(event))


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _wants_colour() -> bool:
    """https://no-color.org"""
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
