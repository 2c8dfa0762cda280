"""Debian's Dovecot as a POP3 proxy in front of us: it logs in with its client's password, and names it by XCLIENT.

Its own password database lets in everybody, so that it is for us to say no. Dovecot 2.3 tells a POP3 server address,
port, session and hops of its client, and not (CLIENT-TRANSPORT) whether there is TLS: `XCLIENT ADDR=127.0.0.2
PORT=40380 SESSION=uZP46xBhvJ1/AAAC TTL=4`. So passwords are taken if Dovecot itself comes with TLS.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..sansio.test_body import canon
from .certificates import HOST, Authority, Pair
from .server import AWKWARD, PASSWORD, USER, Mail, Served, eventually, message, own_address, program, serving
from .test_hostile import read_all, read_until

# Where clients come from. Dovecot itself connects from 127.0.0.1.
CLIENT = "127.0.0.2"
FROM_CLIENT = r"127\.0\.0\.2:\d+"
FROM_DOVECOT = r"127\.0\.0\.1:\d+"
PORTS = {"pop3": 1110, "pop3s": 1995}

CONFIGURATION = """
base_dir = {top}/run
state_dir = {top}/state
log_path = {top}/log
protocols = pop3
ssl = yes
ssl_cert = <{pair.certificate}
ssl_key = <{pair.key}
# Login processes trust what OpenSSL does, and do not look at ssl_client_ca_file.
import_environment = $import_environment SSL_CERT_FILE={top}/ca.pem
disable_plaintext_auth = no
auth_failure_delay = 0
{users}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service auth {{
  user = {user}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    address = {address}
    port = {ports[pop3]}
  }}
  inet_listener pop3s {{
    address = {address}
    port = {ports[pop3s]}
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=plain {top}/users
  default_fields = proxy=y nopassword=y proxy_timeout=20 host=pop.example.org hostip=127.0.0.1 destuser=alice
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
"""


@contextlib.contextmanager
def dovecot(routes: Mapping[str, str], pair: Pair, authority: Authority) -> Iterator[str]:
    """Dovecot, proxying; the address that it has for itself. `routes`: name of a user -> which way Dovecot takes."""
    address, user = own_address(), pwd.getpwuid(os.geteuid()).pw_name
    # Its login processes are no processes of root's, which our own folders would keep out.
    top = Path(tempfile.mkdtemp(prefix="trio-pop3-dovecot-"))
    top.chmod(0o755)
    shutil.copy(authority.path, top / "ca.pem")
    configuration, log = top / "dovecot.conf", top / "log"
    log.touch()
    users = "" if user == "root" else f"default_internal_user = {user}\ndefault_login_user = {user}"
    configuration.write_text(
        CONFIGURATION.format(top=top, pair=pair, users=users, user=user, address=address, ports=PORTS)
    )
    (top / "users").write_text("".join(f"{name}::::::: {way}\n" for name, way in routes.items()))
    (top / "users").chmod(0o644)
    try:
        with subprocess.Popen(
            [program("dovecot"), "-F", "-c", configuration], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                eventually(lambda: process.poll() is not None or accepts(address), bool, log.read_text)
                assert process.poll() is None, log.read_text()
                yield address
            finally:
                print(log.read_text())
                process.terminate()
                process.wait(timeout=20)
    finally:
        shutil.rmtree(top)


def accepts(address: str) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, PORTS["pop3"])) == 0


@dataclass(frozen=True)
class Setting:
    """Dovecot, and what is behind it: a server that believes it, one that takes all in clear, one that does neither."""

    address: str
    served: Served
    insecure: Served
    unlisted: Served


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, pair: Pair, authority: Authority) -> Iterator[Setting]:
    with contextlib.ExitStack() as stack:

        def serve(*options: str) -> Served:
            mail = Mail(tmp_path_factory.mktemp("mail") / "served")
            mail.put(AWKWARD["dots"])
            return stack.enter_context(serving(mail, *options, *pair.options))

        believed = ("--xclient-from", "loopback")
        served = serve(*believed, "--tls-listen", "127.0.0.1:0", "--mechanism", "PLAIN", "--mechanism", "LOGIN")
        insecure, unlisted = serve(*believed, "--insecure-auth"), serve()
        routes = {
            "stls": f"port={served.port} starttls=yes",
            "stls-plain": f"port={served.port} starttls=yes proxy_mech=PLAIN",
            "stls-login": f"port={served.port} starttls=yes proxy_mech=LOGIN",
            "tls": f"port={served.ports['tls']} ssl=yes",
            "tls-plain": f"port={served.ports['tls']} ssl=yes proxy_mech=PLAIN",
            "clear": f"port={served.port}",
            "clear-plain": f"port={served.port} proxy_mech=PLAIN",
            "insecure": f"port={insecure.port}",
            "unlisted": f"port={unlisted.port}",
        }
        address = stack.enter_context(dovecot(routes, pair, authority))
        yield Setting(address, served, insecure, unlisted)


@pytest.fixture
def setting(shared: Setting) -> Setting:
    for server in (shared.served, shared.insecure, shared.unlisted):
        server.log.skip()
    return shared


def fetch(
    setting: Setting, authority: Authority, route: str, scheme: str = "pop3s", *options: str, password: str = PASSWORD
) -> bytes | None:
    """The message, fetched from Dovecot by the name that the certificate is for; None if the login was refused."""
    command = [program("curl"), "-sS", "--cacert", str(authority.path), "--interface", CLIENT, *options]
    command += ["--user", f"{route}:{password}", "--resolve", f"{HOST}:{PORTS[scheme]}:{setting.address}"]
    done = subprocess.run(
        [*command, f"{scheme}://{HOST}:{PORTS[scheme]}/1"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode in (0, 67), done
    return done.stdout if done.returncode == 0 else None


@contextlib.contextmanager
def connected(setting: Setting) -> Iterator[socket.socket]:
    """A connection to Dovecot in clear, greeting read."""
    to = (setting.address, PORTS["pop3"])
    with socket.create_connection(to, timeout=60, source_address=(CLIENT, 0)) as sock:
        assert read_until(sock, b"\r\n").startswith(b"+OK")
        yield sock


MESSAGE = canon(AWKWARD["dots"])


@pytest.mark.parametrize(("scheme", "options"), [("pop3", []), ("pop3", ["--ssl-reqd"]), ("pop3s", [])])
@pytest.mark.parametrize(
    ("route", "method"),
    [("stls", "PASS"), ("stls-plain", "PLAIN"), ("tls", "PASS"), ("tls-plain", "PLAIN")],
)  # fmt: skip
def test_the_client_is_who_dovecot_says(
    route: str, method: str, scheme: str, options: list[str], setting: Setting, authority: Authority
) -> None:
    """R2595-05, R8314-01, J2: over STLS and implicit TLS, with XCLIENT behind the handshake. The client's
    address is in our log; version and cipher of Dovecot's TLS are not the client's."""
    assert fetch(setting, authority, route, scheme, *options) == MESSAGE
    (session,) = setting.served.log.sessions(peer=FROM_CLIENT)
    assert (session["user"], session["method"]) == (USER, method)
    assert (session["tls"], session["cipher"], session["reason"]) == ("yes", "-", "quit")


def test_the_port_too(setting: Setting) -> None:
    """J2: a client of our own, which knows its port; what it says arrives, and in this order."""
    octets = len(MESSAGE)
    with connected(setting) as sock:
        port = sock.getsockname()[1]
        sock.sendall(f"USER stls\r\nPASS {PASSWORD}\r\n".encode())
        assert read_until(sock, b"\r\n", 2).endswith(b"maildrop has 1 message (%d octets)\r\n" % octets)
        sock.sendall(b"STAT\r\nLIST 1\r\nQUIT\r\n")
        assert read_all(sock) == b"+OK 1 %d\r\n+OK 1 %d\r\n+OK goodbye\r\n" % (octets, octets)
    (session,) = setting.served.log.sessions(peer=FROM_CLIENT)
    assert session["peer"] == f"{CLIENT}:{port}"


@pytest.mark.parametrize("route", ["stls", "tls-plain"])
def test_a_wrong_password(route: str, setting: Setting, authority: Authority) -> None:
    """H8, H9: we say no, and Dovecot passes it on."""
    assert fetch(setting, authority, route, password="looking-glass") is None
    (session,) = setting.served.log.sessions(peer=FROM_CLIENT)
    assert (session["user"], session["failed"]) == ("-", "1")
    assert "looking-glass" not in setting.served.log.text()


@pytest.mark.parametrize("route", ["clear", "clear-plain"])
def test_in_clear_dovecot_cannot_speak_for_others(route: str, setting: Setting, authority: Authority) -> None:
    """G7, R2595-14: a client that is not on this machine, on a connection without TLS: we cannot know better."""
    assert fetch(setting, authority, route) is None
    (session,) = setting.served.log.sessions(peer=FROM_CLIENT)
    assert (session["user"], session["tls"], session["failed"]) == ("-", "no", "0")


def test_unless_somebody_has_said_that_it_may(setting: Setting, authority: Authority) -> None:
    """G7: with `--insecure-auth`."""
    assert fetch(setting, authority, "insecure") == MESSAGE
    (session,) = setting.insecure.log.sessions(peer=FROM_CLIENT)
    assert (session["user"], session["tls"]) == (USER, "no")


def test_dovecot_gives_an_initial_response_to_login(setting: Setting, authority: Authority) -> None:
    """R5034-14: `AUTH LOGIN =` is what it says with `proxy_mech=LOGIN`. LOGIN is server-first, so that is refused."""
    assert fetch(setting, authority, "stls-login") is None
    (session,) = setting.served.log.sessions(peer=FROM_CLIENT)
    assert (session["user"], session["method"], session["failed"]) == ("-", "LOGIN", "0")


def test_a_dovecot_that_is_not_listed(setting: Setting) -> None:
    """It is told nothing of XCLIENT, so it is the client itself; and what it deletes is gone."""
    mail = setting.unlisted.mail
    before = mail.held()
    base = mail.put(message("deleted", b"deleted\n"))
    with connected(setting) as sock:
        sock.sendall(f"USER unlisted\r\nPASS {PASSWORD}\r\n".encode())
        assert read_until(sock, b"\r\n", 2).splitlines()[1].startswith(b"+OK maildrop has 2 messages")
        assert base in mail.held()
        sock.sendall(b"DELE 2\r\nQUIT\r\n")
        assert read_all(sock) == b"+OK message marked for deletion\r\n+OK goodbye\r\n"
    (session,) = setting.unlisted.log.sessions(peer=FROM_DOVECOT)
    assert (session["user"], session["tls"], session["removed"]) == (USER, "no", "1")
    assert mail.held() == before


def test_xclient_of_somebody_else_is_an_unknown_command(setting: Setting) -> None:
    """RXCL-01, J2: what Dovecot would send, sent to the server that was not told of it."""
    with socket.create_connection(("127.0.0.1", setting.unlisted.port), timeout=60) as sock:
        sock.sendall(b"XCLIENT ADDR=192.0.2.1 PORT=40380 SESSION=uZP46xBhvJ1/AAAC TTL=4\r\nNONSENSE\r\nQUIT\r\n")
        greeting, *replies = read_all(sock).splitlines()
    assert b"XCLIENT" not in greeting
    assert replies[0] == replies[1] and replies[0].startswith(b"-ERR")
    setting.unlisted.log.sessions(peer=FROM_DOVECOT)
    assert "192.0.2.1" not in setting.unlisted.log.text()
