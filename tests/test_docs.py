"""Every code block of README and docs runs here or in `.ci/run`: a page that lies is a failing test."""

from __future__ import annotations

import poplib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import trio_pop3

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- ci: (?P<name>[a-z]+) -->\n)?```(?P<language>[a-z]*)\n(?P<code>.*?)```", re.DOTALL)
# Shell commands: `.ci/run` and `.ci/serve` run them as a reader would.
RUN_BY_CI = {"serve", "admin", "existing", "tls", "test"}
# `test_docs_testing` and `test_docs_migration` run these.
RUN_BY_PYTEST = {
    "clienttest", "faults", "backendtest", "replay", "servertest", "migrate", "ask", "verifyall",
}  # fmt: skip
# `interop.test_mta` runs these, in a real Postfix and a real Exim.
RUN_BY_MTA = {
    "lmtpserve", "postfixlmtp", "eximlmtprouter", "eximlmtptransport", "postfixpipemaster", "postfixpipemain",
    "postfixmailbox", "eximpipe",
}  # fmt: skip


def blocks() -> dict[str, str]:
    """name -> code of every block in the pages; a block without a name must be plain text."""
    found: dict[str, str] = {}
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text()):
            if match["language"]:
                assert match["name"], f"{page.name}: a block of code without a name: {match['code'][:60]!r}"
                assert match["name"] not in found, f"{page.name}: two blocks are called {match['name']}"
                found[match["name"]] = match["code"]
    return found


BLOCKS = blocks()
POP3 = Callable[[], poplib.POP3]


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Callable[[POP3], None]], None]:
    """Runs a block that ends in `trio.run(... serve ...)`, on a free port, with a client in a thread."""

    def run(code: str, talk: Callable[[POP3], None]) -> None:
        real_run, real_serve = trio.run, trio_pop3.serve

        async def main(serve_it: Callable[[], Any]) -> None:
            shutdown = trio.Event()
            async with trio.open_nursery() as nursery:
                started: trio.abc.ReceiveChannel[int]
                send, started = trio.open_memory_channel[int](1)

                async def serve(backend: trio_pop3.Backend, **options: Any) -> None:
                    kept = {name: value for name, value in options.items() if name == "mechanisms"}
                    async with trio.open_nursery() as inner:
                        start = partial(real_serve, backend, listen=["127.0.0.1:0"], shutdown=shutdown, **kept)
                        listeners = await inner.start(start)
                        send.send_nowait(listeners[0].port)

                monkeypatch.setattr(trio_pop3, "serve", serve)
                nursery.start_soon(serve_it)
                connect = partial(poplib.POP3, "127.0.0.1", await started.receive(), timeout=20)
                await trio.to_thread.run_sync(talk, connect)
                shutdown.set()

        monkeypatch.setattr(trio, "run", lambda serve_it: real_run(main, serve_it))
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "block", "exec"), {"__name__": "__main__"})

    return run


def test_every_block_is_known() -> None:
    assert set(BLOCKS) == RUN_BY_CI | RUN_BY_PYTEST | RUN_BY_MTA | {
        name.removeprefix("test_block_") for name in globals() if "test_block_" in name
    }


def test_readme_backend_is_short() -> None:
    """The synthetic-mail backend stands in 15 lines or less."""
    assert len(BLOCKS["callbacks"].splitlines()) <= 15


def test_block_certificates(tmp_path: Path) -> None:
    """The command of docs/tls.md, with paths and ports of our own."""
    issued = trustme.CA().issue_cert("pop.example.org")
    (tmp_path / "fullchain.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    (tmp_path / "privkey.pem").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "users").write_text("alice@example.org:{PLAIN}secret\n")
    places = {"/etc/ssl/pop.example.org": tmp_path, "/etc/dovecot": tmp_path, "/var/mail/vhosts": tmp_path}
    code = BLOCKS["certificates"].replace("trio-pop3", f"{sys.executable} -m trio_pop3", 1)
    for place, ours in (*places.items(), ("*:110", "127.0.0.1:0"), ("*:995", "127.0.0.1:0")):
        assert place in code
        code = code.replace(place, str(ours))
    with subprocess.Popen(["bash", "-c", f"exec {code}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.terminate()
    assert re.search(r"Serving 1 user of .* on 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+,tls\. Ctrl-C stops\.", said)
    assert process.returncode == 0


def test_block_undelete(tmp_path: Path) -> None:
    """docs/maildir.md: the message is back where it was."""
    program = f'set -e\ntrio-pop3() {{ PYTHONPATH="{ROOT}" "{sys.executable}" -m trio_pop3 "$@"; }}\n'
    code = program + BLOCKS["undelete"]
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    (back,) = (tmp_path / "mail" / "mail" / "alice" / "new").iterdir()
    assert back.read_text() == "Subject: precious\n\nKeep me.\n"
    assert done.stdout.splitlines()[-1].split()[1:] == [back.name, str(back.stat().st_size), "INBOX"]


def test_block_mbox(tmp_path: Path) -> None:
    """The command of docs/mbox.md, with paths and a port of our own, and a login."""
    (tmp_path / "users").write_text("alice:{PLAIN}secret\n")
    (tmp_path / "alice").write_bytes(b"From a@b Tue Nov 25 09:19:20 2025\nSubject: here\n\n")
    code = BLOCKS["mbox"].replace("trio-pop3", f"{sys.executable} -m trio_pop3", 1)
    for place, ours in (("/etc/dovecot", str(tmp_path)), ("/var/mail", str(tmp_path)), ("*:110", "127.0.0.1:0")):
        assert place in code
        code = code.replace(place, ours)
    with subprocess.Popen(["bash", "-c", f"exec {code}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = re.search(r"Serving 1 user of .*/{user} on 127\.0\.0\.1:(\d+)\.", process.stdout.readline())
        assert said is not None
        client = poplib.POP3("127.0.0.1", int(said[1]), timeout=20)
        client.user("alice")
        client.pass_("secret")
        assert client.retr(1)[1] == [b"Subject: here"]
        client.dele(1)
        client.quit()
        process.terminate()
    assert process.returncode == 0
    assert (tmp_path / "alice").read_bytes() == b""


def test_block_callbacks(serving: Callable[..., None]) -> None:
    def talk(connect: POP3) -> None:
        client = connect()
        client.user("demo")
        client.pass_("secret")
        assert client.retr(1)[1] == [b"Subject: Hello", b"", b"This message was made up on the spot."]
        client.dele(1)
        client.quit()
        client = connect()
        client.user("demo")
        assert client.pass_("secret").startswith(b"+OK maildrop has 0")
        client.quit()

    serving(BLOCKS["callbacks"], talk)


@pytest.mark.parametrize("name", [name for name, code in BLOCKS.items() if "trio_pop3.serve(" in code])
def test_an_example_is_for_this_machine(name: str) -> None:
    """Whoever tries it needs no rights, and opens nothing to others."""
    assert 'host="127.0.0.1", port=1110' in BLOCKS[name]


def test_block_maildir(serving: Callable[..., None], tmp_path: Path) -> None:
    def talk(connect: POP3) -> None:
        client = connect()
        client.user("alice")
        client.pass_("secret")
        assert client.retr(1)[1] == [b"Subject: hello", b"", b"world"]
        client.quit()
        [moved] = (tmp_path / "mail" / "alice" / "cur").iterdir()
        assert moved.name.endswith(":2,")

    serving(BLOCKS["maildir"], talk)


def test_block_mechanism(serving: Callable[..., None]) -> None:
    def talk(connect: POP3) -> None:
        client = connect()
        assert b"SASL X-BACKWARDS SCRAM-SHA-256" in client._longcmd("CAPA")[1]  # type: ignore[attr-defined]
        client._putcmd("AUTH X-BACKWARDS ZGVtbw==")  # type: ignore[attr-defined]
        assert client._getline()[0].startswith(b"+ ")  # type: ignore[attr-defined]
        assert client._shortcmd("dGVyY2Vz").startswith(b"+OK maildrop")  # type: ignore[attr-defined]
        client.quit()

    serving(BLOCKS["mechanism"], talk)


def test_block_backend(serving: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "one.eml").write_bytes(b"Subject: One\n\n.\n")

    def talk(connect: POP3) -> None:
        client = connect()
        client.user("demo")
        client.pass_("secret")
        assert client.uidl()[1] == [b"1 one.eml"]
        assert client.list()[1] == [b"1 19"]
        assert client.retr(1)[1] == [b"Subject: One", b"", b"."]
        client.dele(1)
        client.quit()

    serving(BLOCKS["backend"], talk)
    assert not list((tmp_path / "inbox").iterdir())


def test_block_shown(tmp_path: Path) -> None:
    """The command of docs/views.md, on a directory of its own making."""
    code = BLOCKS["shown"].replace("trio-pop3", f"{sys.executable} -m trio_pop3", 1).replace("DIR", f"{tmp_path}/made")
    code = code.rstrip() + " --listen 127.0.0.1:0"
    with subprocess.Popen(["bash", "-c", f"exec {code}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if "Ctrl-C stops" in line)
        client = poplib.POP3("127.0.0.1", int(said.split("127.0.0.1:")[1].split(".")[0]), timeout=20)
        client.user("demo+Junk")
        with pytest.raises(poplib.error_proto, match="AUTH"):
            client.pass_("wrong")
        client.quit()
        process.terminate()
    assert process.returncode == 0


def test_block_views(serving: Callable[..., None], tmp_path: Path) -> None:
    for directory in ("alice", "alice/.Junk"):
        for part in ("cur", "new", "tmp"):
            (tmp_path / "mail" / directory / part).mkdir(parents=True)
    now = int(time.time())
    for place, age in (("new/{}.inbox", 1), (".Junk/new/{}.junk", 2), ("new/{}.old", 91)):
        path = tmp_path / "mail" / "alice" / place.format(now - age * 86_400)
        path.write_bytes(f"Subject: {path.suffix}\n\n".encode())
    (tmp_path / "users").write_text("alice:{PLAIN}secret\n")

    def talk(connect: POP3) -> None:
        client = connect()
        client.user("alice")
        client.pass_("secret")
        assert client.stat()[0] == 2
        assert client.retr(2)[1] == [b"Subject: .junk", b""]
        client.dele(2)
        client.quit()
        client = connect()
        client.user("alice+Junk")
        assert client.pass_("secret").startswith(b"+OK maildrop has 0")
        client.quit()

    serving(BLOCKS["views"], talk)


def test_block_inbox(serving: Callable[..., None]) -> None:
    def talk(connect: POP3) -> None:
        client = connect()
        client.user("demo")
        client.pass_("secret")
        assert client.uidl()[1] == [b"1 a1", b"2 a2"]
        assert client.retr(2)[1] == [b"Subject: second", b"", b"Hello again"]
        client.dele(1)
        client.quit()

    serving(BLOCKS["inbox"], talk)


def test_block_client(capsys: pytest.CaptureFixture[str]) -> None:
    """The client block, with a server of ours where it expects one."""
    backend = trio_pop3.MemoryBackend()
    backend.add_user("demo", "secret")
    backend.deliver("demo", b"Subject: One\n\n.\n")

    async def serve_and_run(client_main: Callable[[], Any]) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio_pop3.serve, backend, listen=["127.0.0.1:0"]))
            real_connect = trio_pop3.connect

            def connect(host: str, port: int) -> Any:
                assert (host, port) == ("127.0.0.1", 1110)
                return real_connect(host, listeners[0].port)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trio_pop3, "connect", connect)
                await client_main()
            nursery.cancel_scope.cancel()

    real_run = trio.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio, "run", lambda client_main: real_run(serve_and_run, client_main))
        exec(compile(BLOCKS["client"], "block", "exec"), {"__name__": "__main__"})
    assert "Subject: One" in capsys.readouterr().out
    assert backend.messages("demo") == {}
