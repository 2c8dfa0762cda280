"""Mail from Debian's Postfix and Exim, configured as docs/delivery.md says, and fetched by POP3."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..test_docs import BLOCKS
from .mta import MailSystem, give, postfix, world
from .server import PASSWORD, USER, Mail, Served, serving

# What mail really has in it; swaks wants a line end at the end.
BODY = b"From: bob@example.net\nSubject: x\n\n.\n..\n.a\nFrom here\n\nJ\xfcrgen \xff\n" + b"x" * 900 + b"\nlast\n"
POSTFIX = r"to=<(\S+)>, .* dsn=(\S+), status=(\w+)"
# Each is for what a mail system says of a message and its recipient, in its log.
EXIM = r"(\S\S) (\S+) .*R=trio_users"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with world() as path:
        yield path


@pytest.fixture
def home(root: Path, request: pytest.FixtureRequest) -> Path:
    """A folder for one test, short enough for UNIX sockets in it."""
    path = root / f"t{abs(hash(request.node.name)) % 10**6}"
    path.mkdir()
    return path


def block(name: str, **places: object) -> str:
    """A block of docs/delivery.md, with paths of our own in place of those."""
    code = BLOCKS[name]
    for place, ours in places.items():
        assert place in code, f"{place} is not in the block {name}"
        code = code.replace(place, str(ours))
    return code


def fetched(served: Served) -> list[bytes]:
    """Everything by POP3, headers that were added on the way left out; what was fetched is deleted."""
    client = poplib.POP3("127.0.0.1", served.port, timeout=20)
    client.user(USER)
    client.pass_(PASSWORD)
    messages = []
    for number in range(1, client.stat()[0] + 1):
        lines = client.retr(number)[1]
        messages.append(b"\n".join(lines[lines.index(b"From: bob@example.net") :]) + b"\n")
        client.dele(number)
    client.quit()
    return messages


@pytest.fixture
def served(home: Path) -> Iterator[Served]:
    """A server with LMTP, which Postfix and Exim can reach."""
    users = ("--local-part", "--extension-separator", "+", "--quota", "100K")
    with serving(Mail(home / "d"), "--lmtp", f"unix:{home}/lmtp,mode=666", *users) as server:
        yield server


def test_postfix_lmtp(home: Path, served: Served) -> None:
    """One copy for two addresses of one user, a refusal for a stranger, a wait for a full mailbox; octet for octet."""
    main = block("postfixlmtp", **{"private/trio-lmtp": home / "lmtp"})
    with postfix(home / "mta", main) as mail_system:
        recipients = [f"{USER}@example.org", f"{USER}+lists@example.org", "nobody@example.org"]
        mail_system.send(BODY, *recipients)
        outcomes = {to: (dsn, status) for to, dsn, status in mail_system.outcomes(3, POSTFIX)}
        assert outcomes == {
            recipients[0]: ("2.1.5", "sent"), recipients[1]: ("2.1.5", "sent"), recipients[2]: ("5.1.1", "bounced")
        }  # fmt: skip
        (stored,) = served.mail.held().values()
        assert stored.startswith(b"Return-Path: <bob@example.net>\nDelivered-To: alice@example.org\nReceived: from ")
        assert fetched(served) == [BODY]
        mail_system.log.skip()
        mail_system.send(BODY + b"x" * 990 + (b"\n" + b"x" * 990) * 120 + b"\n", recipients[0])
        assert mail_system.outcomes(1, POSTFIX) == [(recipients[0], "4.2.2", "deferred")]
        assert served.mail.held() == {}


def run_pipe(home: Path, mail: Mail, mail_system: MailSystem, pattern: str) -> None:
    """A message for a user and one for nobody, through a pipe."""
    give(mail.path, "mail")
    mail_system.send(BODY, f"{USER}@example.org")
    mail_system.outcomes(1, pattern)
    (stored,) = mail.held().values()
    assert stored.startswith(b"Return-Path: <bob@example.net>\nDelivered-To: alice@example.org\nReceived: from ")
    assert stored.endswith(BODY.partition(b"\n\n")[2])


def test_postfix_pipe(root: Path, home: Path) -> None:
    mail = Mail(home / "d")
    master = block("postfixpipemaster", **{"/srv/pop3": mail.path, "/usr/local/bin": root})
    master = master.replace("${recipient}", "${recipient} --local-part")
    with postfix(home / "mta", BLOCKS["postfixpipemain"], master) as mail_system:
        run_pipe(home, mail, mail_system, r"to=<alice@example.org>, relay=trio, .* dsn=(2\.0\.0), status=(sent)")
        mail_system.send(BODY, "nobody@example.org", sender="")
        assert mail_system.outcomes(1, r"to=<(nobody\S+)>, .* dsn=(\S+), status=(\w+)") == [
            ("nobody@example.org", "5.1.1", "bounced")
        ]
        (mail.maildir / "new").rename(mail.maildir / "gone")
        mail_system.send(BODY, f"{USER}@example.org")
        ((_, said),) = mail_system.outcomes(1, r"dsn=(4\.3\.0), status=deferred \((.*)\)")
        assert "no such file or directory" in said
