"""TLS for tests: made when it is needed, gone when the process is, and an error that helps where there is none."""

from __future__ import annotations

import os
import poplib
import ssl
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest

from trio_pop3.testing import Pop3TestServer
from trio_pop3.testing import certificates as module
from trio_pop3.testing.certificates import certificates


def test_one_authority_for_the_process() -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(certificates())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(map(id, found)) == {id(certificates())}


def test_the_file_trusts_what_the_context_trusts() -> None:
    made = certificates()
    assert made.ca_file == made.ca_file
    ours, theirs = made.client_context(), ssl.create_default_context(cafile=made.ca_file)
    assert ours.get_ca_certs() == [each for each in theirs.get_ca_certs() if each in ours.get_ca_certs()]
    assert ours.get_ca_certs()


def test_contexts_of_clients_are_their_own() -> None:
    """A test that changes one changes nothing for the next."""
    first = certificates().client_context()
    first.check_hostname = False
    assert certificates().client_context().check_hostname


def test_the_file_is_gone_with_the_process() -> None:
    """Removed by who made it, and not by a child that was forked off."""
    code = (
        "import os, warnings\n"
        "from trio_pop3.testing.certificates import certificates\n"
        "path = certificates().ca_file\n"
        "if (child := os.fork()) == 0: raise SystemExit\n"
        "os.waitpid(child, 0)\n"
        "print(path, os.path.exists(path))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path, _, there = done.stdout.strip().partition(" ")
    assert there == "True"
    assert not os.path.exists(path)


def test_without_trustme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain works, STLS is not announced, and asking for TLS says what to install."""
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "trustme" else find_spec(name))
    with Pop3TestServer() as server:
        client = poplib.POP3(server.host, server.port)
        assert "STLS" not in client.capa()
        client.user("alice")
        client.pass_("secret")
        client.quit()
        for name in ("tls_port", "client_context", "ca_file"):
            with pytest.raises(RuntimeError, match=r"pip install 'trio-pop3\[testing\]'"):
                getattr(server, name)
