"""The pytest plugin, in test runs of its own: fixtures, isolation, speed, and what a failure shows."""

from __future__ import annotations

import json
import os
import statistics
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import trio_pop3
from trio_pop3.testing import Pop3TestServer

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent.parent
PLUGIN = "trio_pop3.testing.plugin"
Run = Callable[..., pytest.RunResult]

FIVE_LINES = """
    import poplib

    def test_fetch(pop3_server):
        pop3_server.deliver("alice", "Subject: Hello\\n\\nWorld\\n")
        client = poplib.POP3(pop3_server.host, pop3_server.port)
        client.user("alice")
        client.pass_("secret")
        assert client.retr(1)[1] == [b"Subject: Hello", b"", b"World"]
        client.quit()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest in a process of its own, with this plugin and those that are named, and no others."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(trio_pop3.__file__).parent.parent))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-p", PLUGIN, "-W", "error", "-p", "no:cacheprovider", *arguments)

    return run


def test_the_entry_point_is_this_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"trio_pop3": PLUGIN}
    assert hasattr(import_module(PLUGIN), "pop3_server")
    needed = {"pytest", "hypothesis", "trustme"}
    assert {text.partition(">")[0] for text in project["optional-dependencies"]["testing"]} == needed


def test_five_lines(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(FIVE_LINES)
    run().assert_outcomes(passed=1)


def test_loading_it_costs_nothing(pytester: pytest.Pytester, run: Run) -> None:
    """No trio, no Hypothesis, no trustme, no ssl, and of this package the namespaces only."""
    pytester.makeconftest("""
        import json, sys
        def pytest_unconfigure():
            print("loaded:", json.dumps(sorted(sys.modules)))
    """)
    pytester.makepyfile("def test_nothing(): pass")
    result = run("-s")
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.outlines if line.startswith("loaded: ")]
    loaded = set(json.loads(line.removeprefix("loaded: ")))
    assert not loaded & {"trio", "hypothesis", "trustme", "ssl", "cryptography"}
    ours = {"trio_pop3", "trio_pop3._version", "trio_pop3.testing", PLUGIN}
    assert {name for name in loaded if name.startswith("trio_pop3")} == ours


def test_each_test_has_it_as_new(pytester: pytest.Pytester, run: Run) -> None:
    """One server for all, and nothing of one test in the next."""
    pytester.makepyfile("""
        import socket
        import pytest
        from trio_pop3.testing import NoReply

        ports = set()

        @pytest.mark.parametrize("turn", range(3))
        def test_new(pop3_server, turn):
            ports.add((pop3_server.port, pop3_server.tls_port))
            assert len(ports) == 1
            assert pop3_server.users == {"alice": "secret"}
            assert pop3_server.maildrop("alice") == []
            assert (pop3_server.asked, pop3_server.faults, pop3_server.connections) == ([], (), 0)
            pop3_server.add_user("bob", "hidden")
            pop3_server.deliver("alice", "x")
            pop3_server.configure(apop=True)
            pop3_server.fault(NoReply("NOOP"))
            with socket.create_connection((pop3_server.host, pop3_server.port)) as left_open:
                assert left_open.recv(100).startswith(b"+OK POP3 server ready <")
    """)
    run().assert_outcomes(passed=3)


def test_options_can_be_overridden_anywhere(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makeconftest("""
        import pytest

        @pytest.fixture(scope="session")
        def pop3_server_options():
            return {"apop": True}
    """)
    body = """
        def test_rules(pop3_server):
            assert (pop3_server.rules.apop, pop3_server.rules.utf8, pop3_server.host) == {}
    """
    pytester.makepyfile(
        test_conftest=body.format('(True, True, "127.0.0.1")'),
        test_module="""
        import pytest

        @pytest.fixture
        def pop3_server_options():
            return {"utf8": False, "host": "127.0.0.2"}
        """
        + body.format('(False, False, "127.0.0.2")'),
        test_then=body.format('(True, True, "127.0.0.1")'),
    )
    run().assert_outcomes(passed=3)


def test_a_backend_for_each_test(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("""
        import poplib
        import pytest
        from trio_pop3 import MemoryBackend

        made = []

        def backend():
            made.append(MemoryBackend())
            made[-1].add_user("me", "mine")
            return made[-1]

        @pytest.fixture
        def pop3_server_options():
            return {"backend": backend}

        @pytest.mark.parametrize("turn", [1, 2])
        def test_mine(pop3_server, turn):
            assert len(made) == turn
            assert pop3_server.deliver("me", "x") == "00000001"
            client = poplib.POP3(pop3_server.host, pop3_server.port)
            client.user("me")
            client.pass_("mine")
            client.quit()
    """)
    run().assert_outcomes(passed=2)


def test_servers_of_ones_own(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.fixture(scope="module")
        def strict(make_pop3_server):
            return make_pop3_server(require_tls=True)

        def test_two(strict, pop3_server):
            assert strict.port != pop3_server.port
            assert strict.rules.require_tls and not pop3_server.rules.require_tls
    """)
    run().assert_outcomes(passed=1)


@pytest.mark.parametrize("fixture", ["pop3_server", "mine", "passed_on"])
def test_a_failure_shows_what_was_said(pytester: pytest.Pytester, run: Run, fixture: str) -> None:
    """With the fixture, one of the test's own, or one that rests on it; and without the password."""
    pytester.makepyfile(f"""
        import poplib
        import pytest

        @pytest.fixture
        def mine(make_pop3_server):
            return make_pop3_server()

        @pytest.fixture
        def passed_on(request):
            return request.getfixturevalue("pop3_server")

        def test_wrong({fixture}):
            client = poplib.POP3({fixture}.host, {fixture}.port)
            client.user("alice")
            client.pass_("secret")
            assert client.stat() == (7, 7)

        def test_right(pop3_server):
            pass
    """)
    result = run("--tb=short")
    result.assert_outcomes(passed=1, failed=1)
    lines = result.outlines
    (start,) = [number for number, line in enumerate(lines) if "what the POP3 server heard and said" in line]
    section = "\n".join(lines[start + 1 : start + 12])
    assert section.startswith(
        "# connection 1\nS: +OK POP3 server ready\nC: USER alice\nS: +OK send PASS\nC: PASS \\{pas"
    )
    assert "C: STAT\nS: +OK 0 0" in section
    assert "secret" not in section


def test_a_failure_without_a_client_says_so(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("def test_wrong(pop3_server): assert not pop3_server.port")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*what the POP3 server heard and said*", "No client has connected."])


def test_a_mistake_in_a_fault_is_an_error_of_the_test(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("""
        import socket
        from trio_pop3.testing import Fault

        class Wrong(Fault):
            def apply(self, asked, plan):
                raise ZeroDivisionError

        def test_it(pop3_server):
            pop3_server.fault(Wrong(command="greeting"))
            with socket.create_connection((pop3_server.host, pop3_server.port)) as client:
                assert client.recv(1) == b""

        def test_next(pop3_server):
            with socket.create_connection((pop3_server.host, pop3_server.port)) as client:
                assert client.recv(1) == b"+"
    """)
    result = run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ExceptionGroup: the test server failed*", "*ZeroDivisionError*"])


def test_all_scripts_as_parameters(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("""
        import pytest
        from trio_pop3.testing import FAULT_SCRIPTS

        @pytest.mark.parametrize("script", FAULT_SCRIPTS)
        def test_client(pop3_server, script):
            pop3_server.faults = FAULT_SCRIPTS[script]
            assert pop3_server.faults
    """)
    result = run()
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 30


def test_in_parallel(pytester: pytest.Pytester, run: Run) -> None:
    """Each process of pytest-xdist has a server of its own."""
    pytester.makepyfile("""
        import poplib
        import pytest

        @pytest.mark.parametrize("turn", range(20))
        def test_fetch(pop3_server, turn, worker_id):
            pop3_server.deliver("alice", f"Subject: {worker_id} {turn}\\n\\n")
            client = poplib.POP3(pop3_server.host, pop3_server.port)
            client.user("alice")
            client.pass_("secret")
            assert client.retr(1)[1] == [f"Subject: {worker_id} {turn}".encode(), b""]
            client.dele(1)
            client.quit()
            assert pop3_server.maildrop("alice") == []
            assert turn != 19, "to see what is shown"
    """)
    result = run("-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=19, failed=1)
    result.stdout.fnmatch_lines(["*what the POP3 server heard and said*", "C: DELE 1", "C: QUIT"])


PRELUDE = """
    import trio
    from trio_pop3 import Pop3Client
    from trio_pop3.testing import Slow

    async def fetch(server):
        await server.deliver("alice", "Subject: Hello\\n\\n")
        server.fault(Slow(1, 60, command="RETR"))
        client = Pop3Client(server.connect())
        await client.greeting()
        await client.login("alice", "secret")
        assert await client.fetch(1) == b"Subject: Hello\\r\\n\\r\\n"
        assert trio.current_time() > 60
"""


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (
            "trio",
            """
            import pytest

            @pytest.mark.trio
            async def test_it(trio_pop3_server, autojump_clock):
                async with trio_pop3_server() as server:
                    await fetch(server)
            """,
        ),
        (
            "anyio",
            """
            import pytest
            from trio.testing import MockClock

            @pytest.mark.anyio
            @pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
            async def test_it(trio_pop3_server):
                async with trio_pop3_server() as server:
                    await fetch(server)
            """,
        ),
        (
            "no:nothing",
            """
            from trio.testing import trio_test

            @trio_test
            async def test_it(trio_pop3_server, autojump_clock):
                async with trio_pop3_server(listen=False) as server:
                    await fetch(server)

            import pytest
            from trio.testing import MockClock

            @pytest.fixture
            def autojump_clock():
                return MockClock(autojump_threshold=0)
            """,
        ),
    ],
    ids=["pytest-trio", "anyio", "trio_test"],
)
def test_on_trio(pytester: pytest.Pytester, run: Run, plugin: str, test: str) -> None:
    """The same block under whatever runs asynchronous tests, in virtual time."""
    pytester.makepyfile(PRELUDE + test.replace("\n        ", "\n"))
    run("-p", plugin).assert_outcomes(passed=1)


def test_on_trio_a_failure_shows_what_was_said(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("""
        import trio

        def test_it(trio_pop3_server):
            async def main():
                async with trio_pop3_server(apop=True) as server:
                    stream = server.connect()
                    await stream.receive_some()
                    await stream.send_all(b"QUIT\\r\\n")
                    await stream.receive_some()
                    assert server.rules.utf8 is None
            trio.run(main)
    """)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*what the POP3 server heard and said*", "*S: +OK POP3 server ready <*", "C: QUIT"])


def test_a_test_costs_less_than_5_ms_after_the_first(
    pytester: pytest.Pytester, run: Run, record_property: Callable[[str, object], None]
) -> None:
    """The median of 200: setup, a test that does nothing with it, teardown; and one that does fetch a message."""
    pytester.makeconftest("""
        import json, time
        import pytest

        spent = {}

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(item):
            start = time.perf_counter()
            result = yield
            spent.setdefault(item.originalname, []).append((time.perf_counter() - start) * 1000)
            return result

        def pytest_unconfigure():
            print("spent:", json.dumps(spent))
    """)
    pytester.makepyfile("""
        import poplib
        import pytest

        @pytest.mark.parametrize("turn", range(200))
        def test_nothing(turn):
            pass

        @pytest.mark.parametrize("turn", range(200))
        def test_trivial(pop3_server, turn):
            pop3_server.deliver("alice", "Subject: Hello\\n\\n")

        @pytest.mark.parametrize("turn", range(200))
        def test_fetch(pop3_server, turn):
            pop3_server.deliver("alice", "Subject: Hello\\n\\n")
            client = poplib.POP3(pop3_server.host, pop3_server.port)
            client.user("alice")
            client.pass_("secret")
            client.retr(1)
            client.dele(1)
            client.quit()
            assert pop3_server.maildrop("alice") == []
    """)
    result = run("-s", "-q")
    result.assert_outcomes(passed=600)
    (line,) = [line for line in result.outlines if "spent: " in line]
    spent = json.loads(line.partition("spent: ")[2])
    medians = {name: statistics.median(times) for name, times in spent.items()}
    record_property("milliseconds", {**medians, "first": spent["test_trivial"][0]})
    print({**medians, "first": spent["test_trivial"][0], "load": os.getloadavg()})
    # Over what pytest itself takes, which depends on who else is on this machine.
    assert medians["test_trivial"] - medians["test_nothing"] < 5


def test_classes_are_not_collected() -> None:
    """Its name is none that pytest takes for a test."""
    assert not Pop3TestServer.__name__.startswith("Test")
