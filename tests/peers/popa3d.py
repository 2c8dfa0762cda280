"""popa3d: users of the system, mbox, no TLS, no CAPA.

Of its own it listens on port 110 only, so it is started for each connection, as by inetd; couriertcpd does that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from .base import ADDRESS, DEFAULT_MAIL, UNPACKED, Peer, caged, free_ports, installed, place, version

NAME: Final = "popa3d"


@contextlib.contextmanager
def serving(mail: Sequence[bytes] = DEFAULT_MAIL) -> Iterator[Peer]:
    """Start it; at the end of the block nothing of it is left. Raises AssertionError if it is not installed."""
    program = installed(UNPACKED / "usr/sbin/popa3d")
    listener = installed("/usr/sbin/couriertcpd")
    with place(NAME) as where:
        where.fill_mboxes(mail)
        covers = {
            # It works in /var/lib/popa3d, as the user of that name.
            "/var/lib": where.write("lib/popa3d/empty", "").parent.parent,
            "/var/mail": where.mail,
            **where.accounts("popa3d", "popa3d"),
        }
        (port,) = free_ports(1)
        options = f"-address={ADDRESS} -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup"
        with caged(where, f"exec {listener} {options} {port} {program}", [port], covers):
            yield Peer(name=NAME, port=port, stls=False, version=version(program, "-V"), reset_command=where.keep())
