"""Programs that fetch the one message of a maildrop over TLS, each in its own way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .certificates import HOST, Pair
from .server import PASSWORD, USER, getmail_agent, program

STLS, TLS = "STLS", "implicit TLS"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where a client finds the server, and what it knows. `home` is a folder of its own."""

    home: Path
    port: int
    over: str  # STLS or TLS
    trusted: Path
    secret: str = PASSWORD  # a password or a token
    identity: Pair | None = None  # a client certificate


Fetch = Callable[..., bytes | None]


def _run(*command: object, home: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "HOME": str(home), "FETCHMAILHOME": str(home)}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, timeout=60, check=False, env=environment, cwd=home
    )
    # pytest shows it if the test fails.
    print(*command, done.returncode, done.stdout[-500:], done.stderr[-1500:], sep="\n  ")
    return done


def curl(account: Account, login: str = "AUTH=*", *options: str, bearer: bool = False) -> bytes | None:
    """What curl writes: the message as it was on the wire. With `bearer` the secret is a token."""
    scheme = {STLS: "pop3", TLS: "pop3s"}[account.over]
    secret = (
        ["--user", f"{USER}:", "--oauth2-bearer", account.secret] if bearer else ["--user", f"{USER}:{account.secret}"]
    )
    identity = (
        [] if account.identity is None else ["--cert", account.identity.certificate, "--key", account.identity.key]
    )
    command = [program("curl"), "-sS", "--ssl-reqd", "--cacert", account.trusted, "--login-options", login, *secret]
    done = _run(*command, *identity, *options, f"{scheme}://127.0.0.1:{account.port}/1", home=account.home)
    return done.stdout if done.returncode == 0 else None


def mpop(account: Account, auth: str) -> bytes | None:
    """What mpop puts into a Maildir."""
    inbox, secret = account.home / "inbox", account.home / "secret"
    for part in ("cur", "new", "tmp"):
        (inbox / part).mkdir(parents=True, exist_ok=True)
    secret.write_text(account.secret)
    options = {
        "host": "127.0.0.1", "port": account.port, "tls": "on", "tls-starttls": _switch(account.over == STLS),
        "tls-trust-file": account.trusted, "user": USER, "passwordeval": f"cat {secret}", "auth": auth,
        "delivery": f"maildir,{inbox}", "uidls-file": account.home / "uidls", "received-header": "off", "keep": "on",
    }  # fmt: skip
    if account.identity is not None:
        options |= {"tls-cert-file": account.identity.certificate, "tls-key-file": account.identity.key}
    _run(program("mpop"), "-q", *(f"--{name}={value}" for name, value in options.items()), home=account.home)
    return _only(inbox / "new")


def fetchmail(account: Account, protocol: str, *options: str) -> bytes | None:
    """What fetchmail gives to a delivery agent."""
    inbox, rc = account.home / "inbox", account.home / "fetchmailrc"
    inbox.mkdir(exist_ok=True)
    over = {STLS: "sslproto tls1.2+", TLS: "ssl sslproto tls1.2+"}[account.over]
    rc.write_text(
        f"set invisible\npoll 127.0.0.1 protocol {protocol} port {account.port} {' '.join(options)}\n"
        f'  user "{USER}" password "{account.secret}" {over} sslcertck sslcertfile "{account.trusted}"\n'
        f'  sslcommonname "{HOST}" keep fetchall norewrite mda "cat > {inbox}/message"\n'
    )
    rc.chmod(0o600)
    _run(
        program("fetchmail"), "-f", rc, "--nosyslog", "--nodetach", "--pidfile", account.home / "pid", home=account.home
    )
    return _only(inbox)


def getmail(account: Account, *options: str) -> bytes | None:
    """What getmail gives to a delivery agent, without the Return-Path that it puts before every message."""
    assert account.over == TLS, "getmail knows no STLS for POP3"
    inbox, agent = account.home / "inbox", account.home / "agent"
    inbox.mkdir(exist_ok=True)
    getmail_agent(agent, f'cat > "{inbox}/message"')
    (account.home / "getmailrc").write_text(
        "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = 127.0.0.1\n"
        f"port = {account.port}\nusername = {USER}\npassword = {account.secret}\nca_certs = {account.trusted}\n"
        + "".join(f"{option}\n" for option in options)
        + f"[destination]\ntype = MDA_external\npath = {agent}\nallow_root_commands = true\n"
        "[options]\ndelete = false\nreceived = false\ndelivered_to = false\n"
    )
    _run(program("getmail"), f"--getmaildir={account.home}", "--rcfile=getmailrc", home=account.home)
    message = _only(inbox)
    return None if message is None else message.removeprefix(b"Return-Path: <unknown>\n")


PROGRAMS: Mapping[str, Fetch] = {"curl": curl, "mpop": mpop, "fetchmail": fetchmail, "getmail": getmail}


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _only(folder: Path) -> bytes | None:
    """The one file in a folder; None if there is none."""
    files = [path.read_bytes() for path in folder.iterdir()]
    assert len(files) < 2
    return files[0] if files else None
