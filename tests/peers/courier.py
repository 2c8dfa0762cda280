"""Courier: users of the system by PAM, as in Debian, Maildir, STLS and TLS.

Other than in Debian SASL is on, and an address may have more than four connections. One thing has no switch: it waits
for five seconds after a wrong password.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from .base import ADDRESS, DEFAULT_MAIL, FIRST, UNPACKED, Peer, caged, free_ports, installed, place, version, visit

NAME: Final = "courier"

_DAEMONRC: Final = """
authmodulelist="authpam"
authmodulelistorig="authpam"
daemons=2
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
"""

# What /usr/sbin/pop3d and pop3d-ssl do, without a daemon.
_SCRIPT: Final = """
set -a
. /etc/courier/authdaemonrc
POP3AUTH="PLAIN LOGIN"
POP3AUTH_TLS="PLAIN LOGIN"
POP3_TLS_REQUIRED=0
COURIERTLS=/usr/bin/couriertls
TLS_CERTFILE={pem}
TLS_TRUSTCERTS=/etc/ssl/certs/ca-certificates.crt
TLS_VERIFYPEER=NONE
MAILDIRPATH=Maildir
listen="{listener} -address={address} -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup"
pop3="{login} {pop3d} Maildir"
{authdaemond} &
until [ -S /run/courier/authdaemon/socket ]; do sleep 0.01; done
POP3_TLS=1 POP3_STARTTLS=NO $listen {tls_port} $COURIERTLS -server -tcpd -user=courier $pop3 &
POP3_STARTTLS=YES exec $listen {port} $pop3
"""


@contextlib.contextmanager
def serving(mail: Sequence[bytes] | Path = DEFAULT_MAIL, *, port: int | None = None) -> Iterator[Peer]:
    """Start it; at the end of the block nothing of it is left. Raises AssertionError if it is not installed.

    `mail` may be a Maildir, of which each user gets a copy.
    """
    programs = {
        "listener": installed("/usr/sbin/couriertcpd"),
        "authdaemond": installed("/usr/lib/courier/courier-authlib/authdaemond"),
        "login": installed(UNPACKED / "usr/lib/courier/courier/courierpop3login"),
        "pop3d": installed(UNPACKED / "usr/lib/courier/courier/courierpop3d"),
    }
    with place(NAME) as where:
        where.fill_maildirs(mail)
        (where.top / "run/courier/authdaemon").mkdir(parents=True)
        pair, ca = where.certificate()
        pem = where.write("pop3d.pem", pair.key.read_text() + pair.certificate.read_text(), 0o640)
        shutil.chown(pem, group="courier")
        covers = {
            "/run": where.top / "run",
            "/etc/courier": where.write("etc/authdaemonrc", _DAEMONRC).parent,
            **where.accounts("pop3"),
        }
        free_port, tls_port = free_ports(2)
        port = port or free_port
        script = _SCRIPT.format(pem=pem, address=ADDRESS, port=port, tls_port=tls_port, **programs)
        with caged(where, script, [port, tls_port], covers):
            visit(port)
            yield Peer(
                name=NAME, port=port, tls_port=tls_port, stls=True, ca=ca, reset_command=where.keep(),
                maildir=where.mail / FIRST.name / "Maildir",
                version=version("dpkg-query", "-W", "courier-base"),
            )  # fmt: skip
