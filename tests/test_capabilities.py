"""What CAPA says, and that all of it is true: on every kind of connection, before the login and behind it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.backend import Policy
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.sansio import Profile
from trio_pop3.sasl import MECHANISMS, scram

from .driving import BINDING, BOUND, CERTIFICATE, CLIENT, OVER_TLS, REMOTE, Dialogue, Store, everything, info

ALWAYS = ["TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "IMPLEMENTATION trio_pop3"]
SCRAM = ["SCRAM-SHA-256", "SCRAM-SHA-1"]
TOKENS = ["OAUTHBEARER", "XOAUTH2"]
PLUS = [f"{name}-PLUS" for name in SCRAM]
UNIX = replace(CLIENT, host=None)


@pytest.fixture
def memory() -> MemoryBackend:
    mail = MemoryBackend()
    mail.add_user("alice", "secret")
    return mail


def sasl(session: Dialogue) -> list[str]:
    """The mechanisms announced, and AUTH alone must list the same (PROTOCOL 8.4)."""
    lines = [line for line in session.lines("CAPA") if line.split()[0] == "SASL"]
    names = lines[0].split()[1:] if lines else []
    if session.session.user is None:
        assert session.lines("AUTH") == names
    return names


KINDS = [
    (REMOTE, {}, [*SCRAM]),
    (REMOTE, {"insecure_auth": True}, [*SCRAM, "PLAIN"]),
    (REMOTE, {"require_tls": True}, []),
    (CLIENT, {}, [*SCRAM, "PLAIN"]),
    (UNIX, {}, [*SCRAM, "PLAIN"]),
    (CLIENT, {"require_tls": True}, []),
    (OVER_TLS, {}, [*SCRAM, *TOKENS, "PLAIN"]),
    (OVER_TLS, {"require_tls": True}, [*SCRAM, *TOKENS, "PLAIN"]),
    (replace(OVER_TLS, end_point=BINDING[1]), {}, [*PLUS, *SCRAM, *TOKENS, "PLAIN"]),
    (replace(OVER_TLS, certificate=CERTIFICATE), {}, [*SCRAM, "EXTERNAL", *TOKENS, "PLAIN"]),
    (BOUND, {}, [*PLUS, *SCRAM, "EXTERNAL", *TOKENS, "PLAIN"]),
    (BOUND, {"mechanisms": MECHANISMS}, list(MECHANISMS)),
    (REMOTE, {"mechanisms": MECHANISMS}, [*SCRAM, "CRAM-MD5", "ANONYMOUS"]),
    (CLIENT, {"mechanisms": MECHANISMS}, [*SCRAM, "PLAIN", "CRAM-MD5", "LOGIN", "ANONYMOUS"]),
    (BOUND, {"mechanisms": {}}, []),
]


@pytest.mark.parametrize(("client", "options", "offered"), KINDS)
def test_what_is_offered_where(
    memory: MemoryBackend, client: be.ClientInfo, options: dict[str, Any], offered: list[str]
) -> None:
    """R5034-01, R5034-32, R5034-33, R4616-06, R7628-01, RLOG-01, R8314-12, R4505-01, R2195-03, G7, D8, H1.

    USER is announced where a password may be sent, an empty list is no line, and what is not announced is not served.
    """
    session = Dialogue(everything(memory), client=client, **options)
    assert sasl(session) == offered
    assert ("USER" in session.lines("CAPA")) == (client.tls or "PLAIN" in offered or (client is CLIENT and not options))
    for name in MECHANISMS:
        reply = session.ask(f"AUTH {name}")
        if name in offered:
            assert reply.startswith(b"+ ")
            assert session.ask("*") == b"-ERR authentication cancelled\r\n"
        else:
            assert reply.startswith(b"-ERR ")
    assert session.ask("USER alice").startswith(b"+OK" if "USER" in session.lines("CAPA") else b"-ERR")


@pytest.mark.parametrize(
    ("methods", "offered"),
    [
        ({"PLAIN"}, ["PLAIN"]),
        ({"SCRAM-SHA-256"}, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]),
        ({"XOAUTH2", "EXTERNAL"}, ["EXTERNAL", "XOAUTH2"]),
        ({"APOP"}, []),
        (set(), []),
    ],
)
def test_what_a_backend_cannot_check_is_not_offered(methods: set[str], offered: list[str]) -> None:
    """D8, R2449-14: and a backend that says nothing checks passwords."""

    class Some(Store):
        login_methods = methods

    session = Dialogue(Some(), client=BOUND)
    assert sasl(session) == offered
    assert ("USER" in session.lines("CAPA")) == ("PLAIN" in methods)
    assert session.ask("USER alice").startswith(b"+OK" if "PLAIN" in methods else b"-ERR passwords are not taken here")
    assert sasl(Dialogue(Store(), client=BOUND)) == ["PLAIN"]


@pytest.mark.parametrize("client", [REMOTE, CLIENT, OVER_TLS, BOUND])
@pytest.mark.parametrize(
    "options", [{}, {"insecure_auth": True}, {"login_delay": 60}, {"utf8": False, "languages": ()}]
)
def test_capa_is_the_same_before_and_after_login(
    memory: MemoryBackend, client: be.ClientInfo, options: dict[str, Any]
) -> None:
    """R2449-04, R2449-09, R5034-01, R6856-01, D7: STLS alone is gone."""
    session = Dialogue(memory, client=client, stls=True, **options)
    before = session.lines("CAPA")
    assert ("STLS" in before) != client.tls
    assert session.auth("SCRAM-SHA-256", scram("alice", "secret")).startswith(b"+OK")
    assert session.lines("CAPA") == [line for line in before if line != "STLS"]


def test_the_tags(memory: MemoryBackend) -> None:
    """R2449-06, R2449-13, R2449-14, R2449-16, R1957-03, R3206-05, R6856-01, D7: no APOP among them, offered or not."""
    session = Dialogue(memory, timestamp="<1@h>")
    tags = [line.split()[0] for line in session.lines("CAPA")]
    assert tags == ["USER", "SASL", "UTF8", "LANG", *(line.split()[0] for line in ALWAYS)]
    assert session.ask("CAPA x").startswith(b"-ERR")  # R2449-05


def test_what_is_off_is_not_announced() -> None:
    """D8, D11, R6856-01, R8314-07."""

    class Nothing(Store):
        login_methods = ()

    session = Dialogue(Nothing(), utf8=False, languages=(), profile=Profile.STRICT)
    assert session.lines("CAPA") == ALWAYS
    assert session.ask("UTF8") == b"-ERR UTF8 is not available here\r\n"
    assert session.ask("LANG de") == b"-ERR this language is not available\r\n"
    assert session.ask("STLS") == b"-ERR TLS is not available here\r\n"


def test_stls_is_announced_where_it_is_accepted(memory: MemoryBackend) -> None:
    """R2595-01, R2595-02, R2595-12, R5034-02, R6856-11, R8314-07, G3: and TLS changes the list."""
    session = Dialogue(memory, client=REMOTE, stls=True)
    assert "STLS" in session.lines("CAPA")
    assert sasl(session) == SCRAM
    assert session.ask("STLS") == b"+OK begin TLS\r\n"
    session.start_tls(end_point=BINDING[1])
    assert "STLS" not in session.lines("CAPA")
    assert sasl(session) == [*PLUS, *SCRAM, "PLAIN"]
    assert "USER" in session.lines("CAPA")
    after_utf8 = Dialogue(memory, client=REMOTE, stls=True)
    after_utf8.ask("UTF8")
    assert "STLS" not in after_utf8.lines("CAPA")


def test_a_list_that_was_announced_stays(memory: MemoryBackend) -> None:
    """R5034-01, R2449-09: what the backend can do is asked once, and once more under TLS."""

    class Fickle(Store):
        asked = 0

        @property
        def login_methods(self) -> set[str]:
            self.asked += 1
            return {"PLAIN", "XOAUTH2"} if self.asked < 3 else {"XOAUTH2"}

    session = Dialogue(Fickle(), client=CLIENT, stls=True)
    before = session.lines("CAPA")
    assert before == session.lines("CAPA")
    session.ask("STLS")
    session.start_tls()
    assert "USER" not in session.lines("CAPA")
    assert sasl(session) == ["XOAUTH2"]


class Policies(Store):
    """Says what it is told to, and whether it was asked about a user."""

    def __init__(self, delay: object = None, days: object = None) -> None:
        super().__init__()
        self.policies = {"delay": delay, "days": days}
        self.asked: list[str | None] = []

    def _policy(self, name: str, user: str | None) -> Any:
        self.asked.append(user)
        policy = self.policies[name]
        if isinstance(policy, Exception):
            raise policy
        return policy(user) if callable(policy) else policy

    async def login_delay(self, user: str | None) -> Policy:
        return self._policy("delay", user)  # type: ignore[no-any-return]

    async def expiry(self, user: str | None) -> Policy:
        return self._policy("days", user)  # type: ignore[no-any-return]


def policy_lines(session: Dialogue) -> list[str]:
    return [line for line in session.lines("CAPA") if line.startswith(("LOGIN-DELAY", "EXPIRE"))]


@pytest.mark.parametrize(
    ("delay", "days", "before", "after"),
    [
        (Policy(60), Policy(30), ["LOGIN-DELAY 60", "EXPIRE 30"], ["LOGIN-DELAY 60", "EXPIRE 30"]),
        (Policy(0), Policy(0), ["LOGIN-DELAY 0", "EXPIRE 0"], ["LOGIN-DELAY 0", "EXPIRE 0"]),
        (Policy(None), Policy(None), ["EXPIRE NEVER"], ["EXPIRE NEVER"]),
        (Policy(None, True), Policy(None, True), ["EXPIRE NEVER"], ["EXPIRE NEVER"]),
        (
            lambda user: Policy(60 if user is None else 5, per_user=True),
            lambda user: Policy(7 if user is None else 365, per_user=True),
            ["LOGIN-DELAY 60 USER", "EXPIRE 7 USER"],
            ["LOGIN-DELAY 5", "EXPIRE 365"],
        ),
        (
            lambda user: Policy(60 if user is None else None, per_user=True),
            lambda user: Policy(7 if user is None else None, per_user=True),
            ["LOGIN-DELAY 60 USER", "EXPIRE 7 USER"],
            ["EXPIRE NEVER"],
        ),
    ],
)
def test_policies(delay: object, days: object, before: list[str], after: list[str]) -> None:
    """R2449-17, R2449-19, R2449-20, R2449-21, R2449-27, R2449-29, R2449-30, R2449-31, R2449-32, R2449-33.

    The most, or the least, for any user before the login; behind it what holds for this one.
    """
    session = Dialogue(Policies(delay, days))
    assert policy_lines(session) == before
    assert session.login("bob").startswith(b"+OK")
    assert policy_lines(session) == after


def test_a_backend_knows_better_than_the_rules() -> None:
    """R2449-17, R2449-18."""
    assert policy_lines(Dialogue(Store(), login_delay=60)) == ["LOGIN-DELAY 60"]
    assert policy_lines(Dialogue(Policies(Policy(5), Policy(None)), login_delay=60)) == [
        "LOGIN-DELAY 5",
        "EXPIRE NEVER",
    ]


@pytest.mark.parametrize("policy", [None, 60, Policy(-1), Policy(True), Policy(1.5), Policy("7"), Policy(10**5000)])  # type: ignore[arg-type]
@pytest.mark.parametrize("which", ["delay", "days"])
def test_what_a_backend_must_not_say(policy: object, which: str, caplog: pytest.LogCaptureFixture) -> None:
    """R2449-17, R2449-27, A11, H9: it is logged, and no line of it is announced; a login with such a delay fails."""
    backend = Policies(Policy(None), Policy(None))
    backend.policies[which] = policy
    session = Dialogue(backend)
    assert session.ask("CAPA") == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert "CAPA failed in the backend" in caplog.text
    if policy != Policy(10**5000):
        assert "a policy is a Policy with None or a number that is not negative: " + repr(policy) in caplog.text
    if which == "delay" and policy != Policy(10**5000):
        assert session.login().startswith(b"-ERR [SYS/TEMP] internal error")
        assert "open" not in backend.calls


def test_a_policy_that_is_missed_is_no_message() -> None:
    """C6, A-22: a backend may raise the same there; no message is counted as asked for in vain because of it."""
    backend = Policies(Policy(None), Policy(None))
    backend.mail = [info()]
    session = Dialogue(backend)
    session.login()
    backend.policies["days"] = be.MessageUnavailable("gone")
    backend.fail["retrieve"] = be.MessageUnavailable("gone")
    for line, offences in (("CAPA", 0), ("RETR 1", 0), ("RETR 1", 1)):
        assert session.ask(line) == b"-ERR [SYS/TEMP] gone\r\n"
        assert session.session.tally.bad_commands == offences


def test_a_backend_that_cannot_say_now() -> None:
    """H9, R2449-11: the session goes on."""
    session = Dialogue(Policies(be.TemporaryFailure("busy"), Policy(None)))
    assert session.ask("CAPA") == b"-ERR [SYS/TEMP] busy\r\n"
    assert session.login() == b"-ERR [SYS/TEMP] busy\r\n"
    assert session.ask("QUIT").startswith(b"+OK")


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 10**9), st.integers(0, 10**9), st.booleans())
def test_capability_lines(tls: bool, utf8: bool, stls: bool, delay: int, days: int, per_user: bool) -> None:
    """R2449-02, R2449-07, R2449-10, R2449-43: short, single-spaced words; no dots in tags, none begins with X."""
    backend = Policies(Policy(delay, per_user), Policy(days, per_user))
    session = Dialogue(backend, client=BOUND if tls else CLIENT, utf8=utf8, stls=stls, mechanisms=MECHANISMS)
    lines = session.lines("CAPA")
    tags = [line.split()[0] for line in lines]
    assert len(set(tags)) == len(tags)
    for line, tag in zip(lines, tags, strict=True):
        assert len(line) <= 510
        assert re.fullmatch(r"[!-~]+(?: [!-~]+)*", line)
        assert "." not in tag
        assert not tag.startswith("X")
