"""GNU mailutils: users of the system, mbox, STLS and TLS.

It adds an X-UIDL field to each message when a client first asks for unique-ids, and writes it to the mbox when the
session ends. The mail is as delivered, without it: after a start or a reset that happens anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from .base import ADDRESS, DEFAULT_MAIL, Peer, caged, free_ports, installed, place, version

NAME: Final = "mailutils"

_CONFIGURATION: Final = """
mode daemon;
foreground yes;
pidfile {top}/pid;
max-children 100;
logging {{ syslog no; }};
tcp-wrappers {{ enable no; }};
auth {{ authentication clear; authentication generic:system; authorization clear; authorization system; }};
tls {{ ssl-certificate-file {pair.certificate}; ssl-key-file {pair.key}; }};
server {address}:{port} {{ tls-mode ondemand; }};
server {address}:{tls_port} {{ tls-mode connection; }};
"""


@contextlib.contextmanager
def serving(mail: Sequence[bytes] = DEFAULT_MAIL) -> Iterator[Peer]:
    """Start it; at the end of the block nothing of it is left. Raises AssertionError if it is not installed."""
    program = installed("/usr/sbin/pop3d")
    with place(NAME) as where:
        where.fill_mboxes(mail)
        covers = {"/var/mail": where.mail, **where.accounts("gnu-mailutils")}
        pair, ca = where.certificate()
        port, tls_port = free_ports(2)
        configuration = where.write(
            "conf", _CONFIGURATION.format(top=where.top, pair=pair, address=ADDRESS, port=port, tls_port=tls_port)
        )
        with caged(where, f"exec {program} --config-file={configuration}", [port, tls_port], covers):
            yield Peer(
                name=NAME, port=port, tls_port=tls_port, stls=True, ca=ca, reset_command=where.keep(),
                version=version(program, "--version"),
            )  # fmt: skip
