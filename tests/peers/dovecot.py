"""Dovecot: users of its own, Maildir, STLS and TLS."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from .base import ACCOUNTS, ADDRESS, DEFAULT_MAIL, FIRST, Peer, caged, free_ports, installed, place, version, visit

NAME: Final = "dovecot"

# A wrong password costs up to half a second, but no more by itself (auth_failure_delay) or by number (anvil's penalty).
# Without an index on disk a session that still closes writes nothing into mail just put back; UIDs are in a uidlist.
_CONFIGURATION: Final = """
base_dir = {top}/run
state_dir = {top}/state
log_path = {top}/log
protocols = pop3
ssl = yes
ssl_cert = <{pair.certificate}
ssl_key = <{pair.key}
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256 apop
auth_failure_delay = 0
mail_max_userip_connections = 0
mail_location = maildir:~/Maildir:INDEX=MEMORY
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    address = {address}
    port = {port}
  }}
  inet_listener pop3s {{
    address = {address}
    port = {tls_port}
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=plain {top}/users
}}
userdb {{
  driver = passwd-file
  args = {top}/users
}}
"""


@contextlib.contextmanager
def serving(
    mail: Sequence[bytes] | Path = DEFAULT_MAIL, *, port: int | None = None, settings: str = ""
) -> Iterator[Peer]:
    """Start it; at the end of the block nothing of it is left. Raises AssertionError if it is not installed.

    `mail` may be a Maildir, of which each user gets a copy.
    """
    program = installed("/usr/sbin/dovecot")
    installed("/usr/lib/dovecot/pop3")
    with place(NAME) as where:
        where.fill_maildirs(mail)
        users = "".join(f"{a.name}:{a.password}:{a.uid}:{a.uid}::{where.mail / a.name}\n" for a in ACCOUNTS)
        shutil.chown(where.write("users", users, 0o640), group="dovecot")
        pair, ca = where.certificate()
        free_port, tls_port = free_ports(2)
        port = port or free_port
        configuration = where.write(
            "dovecot.conf",
            _CONFIGURATION.format(top=where.top, pair=pair, address=ADDRESS, port=port, tls_port=tls_port) + settings,
        )
        with caged(where, f"exec {program} -F -c {configuration}", [port, tls_port]):
            visit(port)
            yield Peer(
                name=NAME, port=port, tls_port=tls_port, stls=True, ca=ca, reset_command=where.keep(),
                maildir=where.mail / FIRST.name / "Maildir",
                version=version(program, "--version"),
            )  # fmt: skip
