"""Mail from Debian's Postfix and Exim, configured as docs/delivery.md says, and fetched by POP3."""

from __future__ import annotations

import poplib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..test_docs import BLOCKS
from .mta import MailSystem, exim, give, postfix, swaks, world
from .server import PASSWORD, USER, Mail, Served, serving

# What mail really has in it; swaks wants a line end at the end.
HEADER = b"From: bob@example.net\nDate: Tue, 24 Nov 2026 12:00:00 +0000\nMessage-Id: <1@example.net>\nSubject: x\n\n"
BODY = HEADER + b".\n..\n.a\nFrom here\n\nJ\xfcrgen \xff\n" + b"x" * 900 + b"\nlast\n"
POSTFIX = r"to=<(\S+)>, .* dsn=(\S+), status=(\w+)"
# Each is for what a mail system says of a message and its recipient, in its log.
EXIM = r"(=>|->|\*\*|==) (\S+) .*R=trio_users"
# An Exim with another configuration than the system's becomes nobody else.
AS_EXIM = "user = Debian-exim"


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
        # And not what comes back to the sender, now or a little later.
        ours = POSTFIX.replace(r"(\S+)>", r"(\S+@example\.org)>")
        outcomes = {to: (dsn, status) for to, dsn, status in mail_system.outcomes(3, ours)}
        assert outcomes == {
            recipients[0]: ("2.1.5", "sent"), recipients[1]: ("2.1.5", "sent"), recipients[2]: ("5.1.1", "bounced")
        }  # fmt: skip
        (stored,) = served.mail.held().values()
        assert re.match(rb"Return-Path: <bob@example.net>\nDelivered-To: alice\S*@example.org\nReceived: from ", stored)
        assert fetched(served) == [BODY]
        mail_system.log.skip()
        mail_system.send(BODY + b"x" * 990 + (b"\n" + b"x" * 990) * 120 + b"\n", recipients[0])
        assert mail_system.outcomes(1, ours) == [(recipients[0], "4.2.2", "deferred")]
        assert served.mail.held() == {}


def run_pipe(mail: Mail, mail_system: MailSystem, user: str, pattern: str) -> None:
    """A message through a pipe, to a process of a user of this machine."""
    give(mail.path, user)
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
        run_pipe(mail, mail_system, "mail", r"to=<alice@example.org>, relay=trio, .* dsn=(2\.0\.0), status=(sent)")
        mail_system.send(BODY, "nobody@example.org", sender="<>")
        assert mail_system.outcomes(1, r"to=<(nobody\S+)>, .* dsn=(\S+), status=(\w+)") == [
            ("nobody@example.org", "5.1.1", "bounced")
        ]
        (mail.maildir / "new").rename(mail.maildir / "gone")
        mail_system.send(BODY, f"{USER}@example.org")
        ((_, said),) = mail_system.outcomes(1, r"dsn=(4\.3\.0), status=deferred \((.*)\)")
        assert "no such file or directory" in said


def test_postfix_mailbox_command(root: Path, home: Path) -> None:
    """As the user, with Postfix's own idea of who is one: here `mail`, whose Maildir stands in for one at home."""
    mail = Mail(home / "d")
    (home / "mail").mkdir()
    mail.maildir.rename(home / "mail" / "Maildir")
    give(home / "mail", "mail")
    main = block("postfixmailbox", **{"/usr/local/bin": root, "/home": home})
    with postfix(home / "mta", main) as mail_system:
        mail_system.send(BODY, "mail@local.example.org")
        assert mail_system.outcomes(1, POSTFIX) == [("mail@local.example.org", "2.0.0", "sent")]
    (stored,) = [path.read_bytes() for path in (home / "mail" / "Maildir" / "new").iterdir()]
    # Postfix puts headers of its own there.
    assert re.match(rb"Return-Path: <bob@\S+\nX-Original-To: .*\nDelivered-To: mail@local.example.org\n", stored)
    assert stored.endswith(BODY.partition(b"\n\n")[2])


def test_exim_lmtp(home: Path, served: Served) -> None:
    transport = block("eximlmtptransport", **{"/run/trio-lmtp": home / "lmtp", "user = mail": AS_EXIM})
    with exim(home / "mta", BLOCKS["eximlmtprouter"], transport) as mail_system:
        mail_system.send(BODY, f"{USER}@example.org", "nobody@example.org")
        outcomes = mail_system.outcomes(2, EXIM)
        assert {to: what for what, to in outcomes} == {USER: "=>", "nobody@example.org": "**"}
        assert fetched(served) == [BODY]


def test_exim_pipe(root: Path, home: Path) -> None:
    mail = Mail(home / "d")
    transport = block("eximpipe", **{"/srv/pop3": mail.path, "/usr/local/bin": root, "user = mail": AS_EXIM})
    transport = transport.replace("--environment", "--environment --local-part")
    router = BLOCKS["eximlmtprouter"].replace("trio_lmtp", "trio_pipe")
    with exim(home / "mta", router, transport) as mail_system:
        run_pipe(mail, mail_system, "Debian-exim", EXIM)
        mail_system.log.skip()
        mail_system.send(BODY, "nobody@example.org", sender="<>")
        ((what, _),) = mail_system.outcomes(1, EXIM)
        assert what == "**"
        (mail.maildir / "new").rename(mail.maildir / "gone")
        mail_system.log.skip()
        mail_system.send(BODY, f"{USER}@example.org")
        ((what, _),) = mail_system.outcomes(1, EXIM)
        assert what == "=="


def test_block_lmtpserve(root: Path, home: Path) -> None:
    """The command of docs/delivery.md, with paths of our own, and Postfix configured for its socket."""
    mail = Mail(home / "d")
    (home / "vhosts" / "example.org").mkdir(parents=True)
    mail.maildir.rename(home / "vhosts" / "example.org" / USER)
    (home / "users").write_text(f"{USER}@example.org:{{PLAIN}}{PASSWORD}\n")
    with postfix(home / "mta", BLOCKS["postfixlmtp"]) as mail_system:
        command = block(
            "lmtpserve",
            **{
                "/var/mail/vhosts": home / "vhosts",
                "/etc/trio-pop3/users": home / "users",
                "/var/spool/postfix": home / "mta" / "queue",
            },
        )
        command = command.replace("trio-pop3", f"{sys.executable} -m trio_pop3", 1) + " --listen 127.0.0.1:0"
        with subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "; LMTP at unix:" in process.stdout.readline()
            mail_system.send(BODY, f"{USER}@example.org")
            assert mail_system.outcomes(1, POSTFIX) == [(f"{USER}@example.org", "2.1.5", "sent")]
            process.terminate()
        assert process.returncode == 0
    assert len(list((home / "vhosts" / "example.org" / USER / "new").iterdir())) == 1


@pytest.mark.parametrize("pipelined", [(), ("--pipeline",)])
def test_swaks(home: Path, served: Served, pipelined: tuple[str, ...]) -> None:
    """A client that talks LMTP by itself, command by command and pipelined."""
    envelope = ("--from", "<>", "--to", f"{USER}@x.org")
    said = swaks("--protocol", "LMTP", "--socket", f"{home}/lmtp", *envelope, *pipelined, message=BODY)
    assert "250 2.1.5 delivered" in said
    assert fetched(served) == [BODY]
