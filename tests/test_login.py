"""Every way to log in, through a whole session: what is accepted, what is said if not, and who is told of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.credentials import ClientCertificate, Credentials, PasswordCredentials, ScramKeys
from trio_pop3.login import OpenGate
from trio_pop3.sansio import Auth, Challenge, Ok, Pass, SaslResponse, User
from trio_pop3.sansio.base64 import decode, encode
from trio_pop3.sasl import (
    MECHANISMS,
    ClientExchange,
    Identity,
    Malformed,
    Mechanism,
    Rejected,
    SaslError,
    ServerContext,
    ServerExchange,
    anonymous,
    cram_md5,
    external,
    login,
    oauthbearer,
    plain,
    scram,
    xoauth2,
)
from trio_pop3.session import Session

from .driving import (
    BINDING,
    BOUND,
    CLIENT,
    OVER_TLS,
    REMOTE,
    TOKEN,
    CountingGate,
    Dialogue,
    Interrupt,
    Store,
    Waits,
    everything,
    run,
)

WRONG = b"-ERR [AUTH] invalid user name or password\r\n"
INTERNAL = b"-ERR [SYS/TEMP] internal error, try again later\r\n"
MALFORMED = b"-ERR malformed authentication message\r\n"
DOWNGRADED = b"-ERR channel binding is offered here, so it must be used\r\n"
CANCELLED = b"-ERR authentication cancelled\r\n"

# Mechanism -> a client that knows alice's secrets, or thinks that it does.
CLIENTS: dict[str, Callable[[str, str], ClientExchange]] = {
    "SCRAM-SHA-256-PLUS": lambda user, secret: scram(user, secret, binding=BINDING, plus=True),
    "SCRAM-SHA-1-PLUS": lambda user, secret: scram(user, secret, hash_name="sha1", binding=BINDING, plus=True),
    "SCRAM-SHA-256": scram,
    "SCRAM-SHA-1": lambda user, secret: scram(user, secret, hash_name="sha1"),
    "EXTERNAL": lambda user, secret: external("" if secret == "secret" else "bob"),
    "OAUTHBEARER": lambda user, secret: oauthbearer(TOKEN if secret == "secret" else "forged", user=user),
    "XOAUTH2": lambda user, secret: xoauth2(user, TOKEN if secret == "secret" else "forged"),
    "PLAIN": plain,
    "CRAM-MD5": cram_md5,
    "LOGIN": login,
    "ANONYMOUS": lambda user, secret: anonymous("visitor"),
}
SECRET = [name for name in CLIENTS if name != "ANONYMOUS"]
BY_NAME = [name for name in SECRET if name != "EXTERNAL"]


@pytest.fixture
def memory() -> MemoryBackend:
    mail = MemoryBackend()
    mail.add_user("alice", "secret")
    mail.add_user("bob", "other")
    return mail


def dial(backend: be.Backend, **options: Any) -> Dialogue:
    """A connection on which everything is offered."""
    return Dialogue(backend, **{"client": BOUND, "mechanisms": MECHANISMS, **options})


def base64(text: str) -> str:
    return encode(text.encode()).decode()


class Desk(MemoryBackend):
    """Fails or waits where it is told to, and lets alice into bob's maildrop."""

    def __init__(self) -> None:
        super().__init__()
        for user, password in (("alice", "secret"), ("bob", "other")):
            self.add_user(user, password)
        self.fail: dict[str, BaseException] = {}
        self.waits = ""
        self.seen: list[Credentials] = []
        self.delay: be.Policy = be.Policy(None)
        self.delayed: list[str | None] = []

    async def _at(self, where: str) -> None:
        if where == self.waits:
            await Waits()
        if where in self.fail:
            raise self.fail[where]

    async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
        self.seen.append(credentials)
        await self._at("authenticate")
        return await super().authenticate(credentials, client)

    async def scram_keys(self, user: str, hash_name: str, client: be.ClientInfo) -> ScramKeys | None:
        await self._at("scram_keys")
        return await super().scram_keys(user, hash_name, client)

    async def authorize(self, user: str, authzid: str, client: be.ClientInfo) -> str:
        await self._at("authorize")
        if (user, authzid) != ("alice", "bob"):
            raise be.AuthenticationFailed
        return "bob"

    async def login_delay(self, user: str | None) -> be.Policy:
        self.delayed.append(user)
        await self._at("login_delay")
        return self.delay

    async def open(self, user: str, client: be.ClientInfo) -> Any:
        await self._at("open")
        return await super().open(user, client)


# --- good credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("initial", [True, False])
def test_every_mechanism(memory: MemoryBackend, name: str, initial: bool) -> None:
    """R5034-05, R5034-06, R5034-08, R5034-12, R5034-22, R5034-28, R5034-31, R5034-35, R4422-03, R4422-07, R1734-01, H2.

    With an initial response and without, to `+OK`, and then no second time.
    """
    gate = CountingGate()
    session = dial(everything(memory), gate=gate)
    user = "anonymous" if name == "ANONYMOUS" else "alice"
    reply = session.auth(name.lower(), CLIENTS[name]("alice", "secret"), initial=initial)
    assert reply == b"+OK maildrop has 0 messages (0 octets)\r\n"
    assert session.session.user == user
    assert session.session.method == name
    assert memory.locked(user)
    assert gate.verdicts == [False]
    assert session.ask("AUTH PLAIN") == session.ask("AUTH") == b"-ERR command not valid in this state\r\n"
    assert session.ask("STAT") == b"+OK 0 0\r\n"
    session.ask("QUIT")
    assert not memory.locked(user)


@given(st.sampled_from(["SCRAM-SHA-256", "PLAIN", "CRAM-MD5", "LOGIN"]), st.data())
def test_names_and_passwords_of_any_kind(name: str, data: st.DataObject) -> None:
    """D3, R4616-01, R5802-03: spaces, commas, equals signs, and what is not ASCII; one wrong letter and it is over."""
    letters = st.sampled_from(" ,=aéß☃\U0001d11e") | st.characters(min_codepoint=33, max_codepoint=126)
    texts = st.text(letters, min_size=1, max_size=20)
    user, password = data.draw(texts), data.draw(texts)
    backend = MemoryBackend()
    backend.add_user(user, password)
    assert dial(backend).auth(name, CLIENTS[name](user, password)).startswith(b"+OK")
    assert dial(backend).auth(name, CLIENTS[name](user, password + "x")) == WRONG


def test_what_a_mechanism_is_told_of_the_connection(memory: MemoryBackend) -> None:
    """R2195-01, R7628-04, R5802-16, REXT-01, G6: all that is known, of this connection and no other."""
    told: list[ServerContext] = []

    def server(context: ServerContext, message: bytes) -> ServerExchange:
        yield from ()
        told.append(context)
        raise Rejected

    plus = MECHANISMS["SCRAM-SHA-1-PLUS"]
    table = {"X-TEST": Mechanism("X-TEST", server, "PLAIN"), plus.name: plus}
    options = {"hostname": "pop.example.org", "oauth_scope": "mail", "oauth_discovery": "https://x", "fake_key": b"f"}
    for client in (REMOTE, replace(BOUND, local_port=995)):
        session = Dialogue(memory, client=client, mechanisms=table, **options)
        assert session.ask("AUTH X-TEST =") == WRONG
    clear, bound = told
    assert (clear.bindings, clear.plus_offered, clear.certificate) == ({}, False, None)
    assert (bound.bindings, bound.plus_offered) == ({BINDING[0]: BINDING[1]}, True)
    assert bound.certificate == BOUND.certificate
    for context in told:
        assert context.port is None  # ports are forwarded, so nobody knows which one the client meant
        assert (context.host, context.scope, context.discovery) == ("pop.example.org", "mail", "https://x")
        assert context.fake_key == b"f"


# --- bad credentials -----------------------------------------------------------------------------------------------


def transcript(session: Dialogue, name: str, client: ClientExchange) -> list[bytes]:
    """What the server says, what chance put into it left out."""
    response = next(client)
    answers = [session.ask(b"AUTH " + name.encode())]
    if response.data is not None:
        answers.append(session.ask(encode(response.data)))
    while answers[-1].startswith(b"+ "):
        asked = decode(answers[-1][2:-2])
        answers.append(session.ask(encode(client.send(asked).data or b"")))
        if name.startswith("SCRAM") and asked.startswith(b"r="):
            _, salt, iterations = asked.split(b",")
            answers[-2] = b"%d %s" % (len(salt), iterations)
        elif name == "CRAM-MD5":
            answers[-2] = b"challenge"
    return answers


@pytest.mark.parametrize("name", BY_NAME)
def test_an_unknown_user_and_a_wrong_secret_look_the_same(memory: MemoryBackend, name: str) -> None:
    """H7, H6, R4422-06, R5034-21, R3206-06, R5802-13: every line up to the last, and they count the same."""
    backend, gate = everything(memory), CountingGate()
    seen = []
    for user in ("alice", "nobody"):
        session = dial(backend, gate=gate)
        seen.append(transcript(session, name, CLIENTS[name](user, "wrong")))
        assert session.session.tally.logins_failed == 1
        assert session.session.user is None
    assert seen[0] == seen[1]
    assert seen[0][-1] == WRONG
    assert gate.verdicts == [True, True]


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_an_unknown_user_has_the_same_salt_each_time(memory: MemoryBackend, name: str) -> None:
    """H7, R4422-06: like a known one; all sessions of a server show the same, and no two users do."""
    rules: dict[str, Any] = {"fake_key": b"one server"}

    def salt(user: str, **options: Any) -> bytes:
        session = Dialogue(memory, client=OVER_TLS, **options)
        first = next(CLIENTS[name](user, "x")).data
        assert first is not None
        return decode(session.ask(f"AUTH {name} {encode(first).decode()}")[2:-2]).split(b",")[1]

    salts = [salt(user, **rules) for user in ("alice", "bob", "nobody", "noone")]
    assert len(set(salts)) == 4
    assert salts == [salt(user, **rules) for user in ("alice", "bob", "nobody", "noone")]
    assert salt("nobody", fake_key=b"another") != salts[2]
    assert salt("alice", fake_key=b"another") == salts[0]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("AUTH PLAIN " + base64("alice secret"), MALFORMED),
        ("AUTH PLAIN =", MALFORMED),
        ("AUTH PLAIN " + base64("\0alice\0secret\0"), MALFORMED),
        ("AUTH PLAIN " + encode(b"\0alice\0\xff").decode(), b"-ERR name or password is not UTF-8\r\n"),
        ("AUTH PLAIN " + base64("\0alice\0" + "x" * 2000), b"-ERR name or password too long\r\n"),
        ("AUTH SCRAM-SHA-256 " + base64("n,,n=alice"), MALFORMED),
        ("AUTH SCRAM-SHA-256 " + base64("y,,n=alice,r=x"), DOWNGRADED),
        ("AUTH CRAM-MD5 " + base64("alice"), b"-ERR this mechanism takes no initial response\r\n"),
        ("AUTH LOGIN =", b"-ERR this mechanism takes no initial response\r\n"),
        ("AUTH XOAUTH2 " + base64("user=alice"), MALFORMED),
        ("AUTH EXTERNAL " + encode(b"\xff").decode(), b"-ERR name or password is not UTF-8\r\n"),
        ("AUTH ANONYMOUS " + base64("@"), MALFORMED),
        ("AUTH NTLM", b"-ERR this mechanism is not available\r\n"),
        ("AUTH PLAIN !", b"-ERR bad arguments, expected: AUTH mechanism [initial-response]\r\n"),
        ("AUTH PLAIN\r\n!", b"-ERR not base64, authentication ended\r\n"),
        ("AUTH PLAIN\r\n=", b"-ERR not base64, authentication ended\r\n"),
        ("AUTH PLAIN\r\n*", CANCELLED),
        ("AUTH PLAIN\r\n", MALFORMED),
        ("AUTH CRAM-MD5\r\n*", CANCELLED),
        ("AUTH CRAM-MD5\r\n" + base64("alice"), MALFORMED),
        ("AUTH LOGIN\r\n" + base64("alice") + "\r\n*", CANCELLED),
        ("AUTH SCRAM-SHA-1 " + base64("n,,n=alice,r=x") + "\r\n" + base64("c=biws"), MALFORMED),
        ("AUTH PLAIN " + base64("\0alice\0wrong"), WRONG),
        ("AUTH PLAIN " + base64("\0\0"), WRONG),
        ("AUTH PLAIN " + base64("\0alice\0\u00ad"), WRONG),
        ("AUTH EXTERNAL " + base64("bob"), WRONG),
    ],
)
def test_whatever_went_wrong_was_never_tried(memory: MemoryBackend, line: str, reply: bytes) -> None:
    """R5034-07, R5034-14, R5034-15, R5034-16, R5034-21, R5034-30, R5034-36, R1734-02, R4422-02, R4422-05, R4616-05, H4.

    USER and PASS, APOP, another AUTH and CAPA all work behind it; a code only if the credentials were bad (R3206-06).
    """
    gate = CountingGate()
    session = dial(everything(memory), gate=gate, timestamp="<1896.697170952@dbc.mtview.ca.us>")
    before = session.lines("CAPA")
    assert session.ask(line).split(b"\r\n", line.count("\r\n"))[-1] == reply
    assert session.session.tally.logins_failed == (reply == WRONG)
    assert gate.verdicts in ([], [reply == WRONG])
    assert session.lines("CAPA") == before
    memory.add_user("mrose", "tanstaaf")
    attempts: list[Callable[[Dialogue], bytes]] = [
        lambda session: session.login("bob", "other"),
        lambda session: session.ask("APOP mrose c4c9334bac560ecc979e58001b3e22fb"),
        lambda session: session.auth("SCRAM-SHA-256", scram("alice", "secret")),
    ]
    for attempt in attempts:
        session = dial(everything(memory), timestamp="<1896.697170952@dbc.mtview.ca.us>")
        session.ask(line)
        assert attempt(session).startswith(b"+OK")
        session.close()


@pytest.mark.parametrize("client", [REMOTE, replace(REMOTE, local_port=110)])
@pytest.mark.parametrize("line", ["PLAIN", "LOGIN", "OAUTHBEARER", "EXTERNAL", "SCRAM-SHA-256-PLUS"])
def test_in_clear_nothing_is_looked_at(client: be.ClientInfo, line: str) -> None:
    """R8314-10, R5034-32, G7, P5: the same for good and bad credentials, and the backend hears of neither."""
    desk = Desk()
    desk_and_all = everything(desk)
    session = dial(desk_and_all, client=client)
    replies = {
        session.ask(f"AUTH {line}{response}")
        for response in ("", " =", " " + base64("\0alice\0secret"), " " + base64("\0alice\0wrong"))
    }
    assert replies == {b"-ERR [AUTH] login without encryption is not allowed here\r\n"}
    assert desk.seen == []
    assert session.session.method is None
    assert session.ask("AUTH XYZZY") == b"-ERR this mechanism is not available\r\n"


def test_what_encryption_would_not_help_with_has_no_code(memory: MemoryBackend) -> None:
    """R3206-06: the backend has no tokens, in clear or not."""
    for client in (REMOTE, OVER_TLS):
        reply = dial(memory, client=client).ask("AUTH XOAUTH2")
        assert reply == b"-ERR this mechanism is not available\r\n"


def test_failures_of_all_kinds_add_up(memory: MemoryBackend) -> None:
    """PROTOCOL 2.3: three in all, and what could not be read is not one of them."""
    session = dial(everything(memory))
    session.login("alice", "wrong")
    for line in ("AUTH PLAIN =", "AUTH NTLM", "AUTH CRAM-MD5 ="):
        session.ask(line)
    session.auth("CRAM-MD5", cram_md5("alice", "wrong"))
    assert not session.over
    assert session.auth("SCRAM-SHA-1", scram("alice", "wrong", hash_name="sha1")) == WRONG
    assert session.session.ended == "too many failed logins"


@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("AQ==", WRONG),
        ("", WRONG),
        ("*", WRONG),
        ("!", b"-ERR not base64, authentication ended\r\n"),
        (None, b""),
    ],
)
def test_a_client_that_was_told_why_has_failed(
    memory: MemoryBackend, name: str, answer: str | None, reply: bytes
) -> None:
    """R7628-05, R7628-06, RXOA-02, H10, R3206-06: whether it answers, cancels, talks nonsense or leaves.

    Otherwise tokens could be tried for nothing.
    """
    gate = CountingGate()
    session = dial(everything(memory), gate=gate, max_auth_failures=2, oauth_scope="mail")
    message = next(CLIENTS[name]("alice", "forged")).data
    assert message is not None
    for number in (1, 2):
        told = session.ask(f"AUTH {name} {encode(message).decode()}")
        assert b'"scope": "mail"' in decode(told[2:-2])
        assert gate.verdicts == [True] * number
        if answer is None:
            session.send(b"")
            assert session.session.tally.logins_failed == 1
            return
        assert session.ask(answer) == reply
        assert session.session.tally.logins_failed == number
    assert session.over
    assert gate.verdicts == [True, True]


@pytest.mark.parametrize("line", ["*", "!"])
def test_a_failure_is_counted_for_its_own_exchange_only(memory: MemoryBackend, line: str) -> None:
    """R5034-30, H10: what is cancelled after it is merely cancelled."""
    gate = CountingGate()
    session = dial(everything(memory), gate=gate)
    assert session.auth("XOAUTH2", xoauth2("alice", "forged")) == WRONG
    assert session.ask("AUTH PLAIN").startswith(b"+ ")
    assert not session.ask(line).startswith(b"-ERR [AUTH]")
    assert session.session.tally.logins_failed == 1
    assert gate.verdicts == [True]


# --- whose maildrop ------------------------------------------------------------------------------------------------


def owner_of(backend: be.Backend, name: str, exchange: ClientExchange, **options: Any) -> tuple[str | None, bytes]:
    session = dial(backend, **options)
    reply = session.auth(name, exchange)
    session.close()
    return session.session.user, reply


@pytest.mark.parametrize("authzid", ["", "alice", "\u00adalice", "bob", "carol"])
def test_other_peoples_maildrops(authzid: str) -> None:
    """R4422-05, R4422-08, R4616-07, R5034-23, R5034-24, REXT-03: nobody's but one's own, unless the backend says so."""
    desk = Desk()
    desk.add_user("carol", "third")
    plain_memory = MemoryBackend()
    plain_memory.add_user("alice", "secret")
    exchanges: dict[str, Callable[[], ClientExchange]] = {
        "PLAIN": lambda: plain("alice", "secret", authzid),
        "SCRAM-SHA-256": lambda: scram("alice", "secret", authzid=authzid),
    }
    for name, client in exchanges.items():
        own = authzid.strip("\u00ad") in ("", "alice")
        user, reply = owner_of(plain_memory, name, client())
        assert (user, reply == WRONG) == (("alice", False) if own else (None, True))
        user, reply = owner_of(desk, name, client())
        assert user == ("alice" if own else {"bob": "bob", "carol": None}[authzid])
        assert reply == WRONG or user is not None
    assert all(credentials.authzid == authzid.strip("\u00ad") for credentials in desk.seen)


def test_delegation_counts_like_everything_else() -> None:
    """H10, R4422-05: a maildrop that is not for this user is a failed login; the gate is told once."""
    gate = CountingGate()
    session = dial(Desk(), gate=gate)
    assert session.auth("PLAIN", plain("alice", "secret", "carol")) == WRONG
    assert session.auth("PLAIN", plain("bob", "other", "alice")) == WRONG
    assert gate.verdicts == [True, True]
    assert session.auth("PLAIN", plain("alice", "secret", "bob")).startswith(b"+OK")
    assert session.session.user == "bob"


def test_a_user_may_be_called_otherwise_by_the_backend() -> None:
    """R4422-08, SEED 6: the name that was given, and the one that was found, are both one's own."""

    class Aliases(MemoryBackend):
        async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
            return {"alice": "a.smith"}[credentials.user]

    backend = Aliases()
    backend.add_user("a.smith", "secret")
    for authzid in ("", "alice", "a.smith"):
        assert owner_of(backend, "PLAIN", plain("alice", "x", authzid))[0] == "a.smith"
    assert owner_of(backend, "PLAIN", plain("alice", "x", "bob")) == (None, WRONG)


def test_the_owner_of_a_certificate(memory: MemoryBackend) -> None:
    """REXT-02, REXT-03, REXT-04, R8314-12: named or not; nobody else."""
    backend = everything(memory)
    assert owner_of(backend, "EXTERNAL", external())[0] == "alice"
    assert owner_of(backend, "EXTERNAL", external("alice"))[0] == "alice"
    assert owner_of(backend, "EXTERNAL", external("bob")) == (None, WRONG)
    nobody = replace(BOUND, certificate=ClientCertificate({}, b""))
    assert owner_of(backend, "EXTERNAL", external(), client=nobody) == (None, WRONG)


@pytest.mark.parametrize("answer", [None, "", 7])
@pytest.mark.parametrize("method", ["authenticate", "authorize"])
def test_a_backend_must_give_a_name(answer: object, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """H9: a fault of ours is no fault of the password."""
    desk, gate = Desk(), CountingGate()

    async def nonsense(*_: object) -> Any:
        return answer

    setattr(desk, method, nonsense)
    session = dial(desk, gate=gate)
    assert session.auth("PLAIN", plain("alice", "secret", "bob")) == INTERNAL
    assert gate.verdicts == [False]
    assert f"authenticate and authorize must return a user name, not {type(answer).__name__}\n" in caplog.text + "\n"


@pytest.mark.parametrize("answer", ["secret", b"x", (1, 2)])
def test_scram_keys_must_be_scram_keys(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """H9."""
    desk = Desk()

    async def nonsense(*_: object) -> Any:
        return answer

    setattr(desk, "scram_keys", nonsense)  # noqa: B010 - it is not what it should be
    assert dial(desk).auth("SCRAM-SHA-256", scram("alice", "secret")) == INTERNAL
    assert f"scram_keys must return ScramKeys or None, not {type(answer).__name__}" in caplog.text


def test_a_backend_that_promises_scram_and_has_no_keys(caplog: pytest.LogCaptureFixture) -> None:
    """H9."""

    class Liar(Store):
        login_methods = frozenset({"SCRAM-SHA-1"})

    assert dial(Liar()).auth("SCRAM-SHA-1", scram("alice", "secret", hash_name="sha1")) == INTERNAL
    assert "AssertionError" in caplog.text


# --- backends that fail --------------------------------------------------------------------------------------------

FAILURES = [
    (be.MaildropInUse(), b"-ERR [IN-USE] maildrop in use by another session\r\n"),
    (be.LoginDelayed(), b"-ERR [LOGIN-DELAY] too soon after the last login\r\n"),
    (be.TemporaryFailure(), b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"),
    (be.PermanentFailure("no\r\nway"), b"-ERR [SYS/PERM] no way\r\n"),
    (be.MessageUnavailable(), b"-ERR [SYS/TEMP] message not available\r\n"),
    (be.AuthenticationFailed("alice is disabled"), WRONG),
    (OSError("/secret"), INTERNAL),
    (Malformed("\r\n+OK"), b"-ERR +OK\r\n"),
    (Malformed(""), MALFORMED),
]
STEPS = [
    (step, name)
    for step, names in {
        "authenticate": ("PLAIN", "LOGIN", "CRAM-MD5"),
        "scram_keys": ("SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"),
        "authorize": ("PLAIN", "SCRAM-SHA-256"),
        "login_delay": ("PLAIN", "SCRAM-SHA-256", "PASS"),
        "open": ("PLAIN", "CRAM-MD5", "PASS"),
    }.items()
    for name in names
]


def client_for(name: str, step: str) -> ClientExchange:
    authzid = "bob" if step == "authorize" else ""
    if name == "PLAIN":
        return plain("alice", "secret", authzid)
    return scram("alice", "secret", authzid=authzid) if name == "SCRAM-SHA-256" else CLIENTS[name]("alice", "secret")


@pytest.mark.parametrize(("step", "name"), STEPS)
@pytest.mark.parametrize(("failure", "reply"), FAILURES)
def test_failures_at_every_step(step: str, name: str, failure: Exception, reply: bytes) -> None:
    """D6, F9, H9, R3206-06, R2449-42, R1939-23, R5034-30: one reply, nothing held, the next try free to succeed.

    And only bad credentials are held against the client.
    """
    desk, gate = Desk(), CountingGate()
    desk.fail[step] = failure
    session = dial(desk, gate=gate)

    def attempt() -> bytes:
        return session.login() if name == "PASS" else session.auth(name, client_for(name, step))

    assert attempt() == reply
    assert session.session.tally.logins_failed == (reply == WRONG)
    assert gate.verdicts == [reply == WRONG]
    assert not desk.locked("alice")
    desk.fail.clear()
    assert attempt().startswith(b"+OK")
    assert gate.verdicts == [reply == WRONG, False]


@pytest.mark.parametrize("text", ["", "\r\n", "[AUTH] x", "x\r\n+OK", "\ud800", "x" * 1000])
@pytest.mark.parametrize("kind", [Malformed, Rejected, SaslError])
def test_no_words_of_a_mechanism_break_a_line(text: str, kind: type[SaslError]) -> None:
    """A11, A12, A14, R1939-06: somebody else's mechanisms may say what they like."""

    def server(context: ServerContext, message: bytes) -> ServerExchange:
        yield from ()
        raise kind(text)

    session = dial(MemoryBackend(), mechanisms={"X": Mechanism("X", server, "PLAIN")})
    reply = session.ask("AUTH X =")
    assert reply.startswith(b"-ERR ")
    assert reply.index(b"\r\n") == len(reply) - 2 <= 510
    assert reply.startswith(b"-ERR [") == (kind is not Malformed)
    assert session.ask("NOOP").startswith(b"-ERR command not valid")


def test_a_mechanism_that_asks_for_what_there_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """P4: it is told so, and is not asked for ever what it wants."""

    def server(context: ServerContext, message: bytes) -> ServerExchange:
        yield 7  # type: ignore[misc]
        return Identity("alice")

    session = dial(Desk(), mechanisms={"X": Mechanism("X", server, "PLAIN")})
    assert session.ask("AUTH X =") == INTERNAL
    assert "does not yield int" in caplog.text


# --- the gate ------------------------------------------------------------------------------------------------------


def reply_or_none(work: Coroutine[Any, Any, object]) -> object:
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    with pytest.raises(Interrupt):
        work.throw(Interrupt())
    return None


def answer(session: Session, name: str, client: ClientExchange) -> object:
    """The last reply; None if the session waits for something, where it is then cancelled."""
    response = next(client)
    event: Auth | SaslResponse = Auth(name, response.data)
    while True:
        reply = reply_or_none(session.respond(event))
        if not isinstance(reply, Challenge):
            return reply
        response = client.send(reply.data or b"")
        event = SaslResponse(response.data or b"")


@pytest.mark.parametrize(("step", "name"), [*STEPS, ("enter", "PLAIN"), ("enter", "SCRAM-SHA-256"), ("enter", "PASS")])
def test_cut_off_at_every_step(step: str, name: str) -> None:
    """I4, I5, P1, H5, J1: counted in and out once, nobody blamed, nothing held; and a session that lives can go on."""
    for again in (False, True):
        desk, gate = Desk(), CountingGate(holds_up=step == "enter")
        desk.waits = step
        session = Session(desk, BOUND, dial(desk).rules, gate=gate)

        def attempt(session: Session = session) -> object:
            if name != "PASS":
                return answer(session, name, client_for(name, step))
            run(session.respond(User("alice")))
            return reply_or_none(session.respond(Pass(b"secret")))

        assert attempt() is None
        if again:
            desk.waits, gate.holds_up = "", False
            assert isinstance(attempt(), Ok)
            assert session.user is not None
        run(session.close("cut off"))
        assert gate.verdicts == ([False] if again or step != "enter" else [])
        assert not desk.locked("alice")
        assert not desk.locked("bob")
        run(session.close("again"))
        assert len(gate.left) == len(gate.entered)


@pytest.mark.parametrize(
    ("lines", "verdicts"),
    [
        (["AUTH PLAIN"], []),
        (["AUTH LOGIN", base64("alice")], []),
        (["AUTH PLAIN", "*"], []),
        (["AUTH PLAIN =", "AUTH PLAIN " + base64("x")], []),
        (["AUTH SCRAM-SHA-256 " + base64("n,,n=alice,r=x")], [False]),
        (["AUTH SCRAM-SHA-256 " + base64("n,,n=alice,r=x"), "*"], [False]),
        (["AUTH SCRAM-SHA-256 " + base64("n,,n=alice,r=x"), "!"], [False]),
        (["AUTH SCRAM-SHA-256 " + base64("n,,n=alice,r=x"), base64("c=biws")], [False]),
        (["AUTH SCRAM-SHA-256 " + base64("n,,n=alice,r=x"), "A" * 20_000], [False]),
        (["AUTH SCRAM-SHA-256 " + base64("n,,n=alice,r=x"), "", "USER alice", "PASS wrong"], [False, True]),
        (["USER alice", "PASS wrong", "AUTH PLAIN " + base64("\0bob\0wrong")], [True, True]),
        (["USER alice", "PASS \u00ad"], []),
    ],
)
def test_the_gate_is_left_as_often_as_it_is_entered(lines: list[str], verdicts: list[bool]) -> None:
    """I4, H5, H10: a client that vanishes, cancels, or sends what cannot be read; nothing is counted twice."""
    gate = CountingGate()
    session = dial(Desk(), gate=gate)
    for line in lines:
        session.ask(line)
    session.close("vanished")
    assert gate.verdicts == verdicts
    session.close("again")
    assert gate.verdicts == verdicts


@given(st.lists(st.sampled_from([
    "AUTH PLAIN", "AUTH LOGIN", "AUTH SCRAM-SHA-1 " + base64("n,,n=alice,r=x"), "AUTH CRAM-MD5", "AUTH XYZ",
    "AUTH XOAUTH2 " + base64("user=alice\1auth=Bearer x\1\1"), "*", "", "!", base64("\0alice\0secret"),
    base64("alice"), base64("\0alice\0wrong"), "USER alice", "PASS secret", "PASS wrong", "QUIT", "CAPA", "AUTH",
    "UTF8", "LANG de", "STLS", "XCLIENT ADDR=192.0.2.7",
]), max_size=12))  # fmt: skip
def test_whatever_a_client_does_the_gate_and_the_lock_come_out_even(lines: list[str]) -> None:
    """I4, I10, H5, A14: and every line has one reply."""
    memory, gate = MemoryBackend(), CountingGate()
    memory.add_user("alice", "secret")
    session = dial(everything(memory), gate=gate, xclient=True, max_bad_commands=None, max_auth_failures=None)
    for line in lines:
        if session.over:
            break
        reply = session.ask(line)
        assert reply.startswith((b"+OK ", b"-ERR ", b"+ "))
        assert len(gate.entered) - len(gate.left) in (0, 1)
        assert memory.locked("alice") == (session.session.user == "alice" and not session.over)
    session.close()
    failed = session.session.tally.logins_failed
    assert sum(gate.verdicts) <= failed
    assert not memory.locked("alice")


def test_what_the_gate_is_told() -> None:
    """H10, H8: the credentials, for whoever tells one wrong pair from another, and the client's address."""
    gate = CountingGate()
    session = dial(Desk(), gate=gate)
    session.login("alice", "wrong")
    session.auth("SCRAM-SHA-256", scram("alice", "wrong"))
    assert gate.left == [
        (BOUND, PasswordCredentials("alice", "wrong"), True),
        (BOUND, Credentials("alice"), True),
    ]


def test_a_backend_is_told_at_every_step_who_is_connected() -> None:
    """H10, SEED 1.3: with the address, for its own log and its own limits; a second look at a password included."""
    told: list[str] = []

    def heard(step: str, client: be.ClientInfo) -> None:
        assert client is BOUND, step
        told.append(step)

    class Witness(Desk):
        async def connect(self, client: be.ClientInfo) -> None:
            heard("connect", client)

        async def disconnect(self, client: be.ClientInfo, reason: str) -> None:
            heard("disconnect", client)

        async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
            heard("authenticate", client)
            return await super().authenticate(credentials, client)

        async def scram_keys(self, user: str, hash_name: str, client: be.ClientInfo) -> ScramKeys | None:
            heard("scram_keys", client)
            return await super().scram_keys(user, hash_name, client)

        async def authorize(self, user: str, authzid: str, client: be.ClientInfo) -> str:
            heard("authorize", client)
            return await super().authorize(user, authzid, client)

        async def open(self, user: str, client: be.ClientInfo) -> Any:
            heard("open", client)
            return await super().open(user, client)

    session = dial(Witness(), timestamp="<1@h>")
    assert session.login("alice", "\ufb01sh") == WRONG
    assert session.ask("APOP alice " + "0" * 32) == WRONG
    assert session.auth("SCRAM-SHA-256", scram("alice", "secret", authzid="bob")).startswith(b"+OK")
    session.close()
    assert told == [
        "connect", "authenticate", "authenticate", "authenticate", "scram_keys", "authorize", "open", "disconnect",
    ]  # fmt: skip


def test_an_open_gate_holds_up_nobody() -> None:
    gate = OpenGate()
    run(gate.enter(CLIENT))
    gate.leave(CLIENT, None, failed=True)
    gate.logged_in("alice", 60)
    assert gate.since_login("alice") is None


# --- LOGIN-DELAY ---------------------------------------------------------------------------------------------------


def test_too_soon(memory: MemoryBackend) -> None:
    """R2449-18, R2449-40, R2449-41, A-43, H9: from the last success, refused tries not counted, the limit allowed.

    Only after good credentials, and for this user alone; nothing is locked.
    """
    gate = CountingGate()

    def attempt(user: str = "alice", password: str = "secret") -> bytes:
        session = Dialogue(memory, gate=gate, login_delay=60)
        assert session.ask(f"USER {user}") == b"+OK send PASS\r\n"
        reply = session.ask(f"PASS {password}")
        assert not session.over
        session.close()
        assert not memory.locked(user)
        return reply

    assert attempt().startswith(b"+OK")
    for gate.now in (0, 30, 59.9):
        assert attempt() == b"-ERR [LOGIN-DELAY] too soon after the last login\r\n"
        assert attempt(password="wrong") == WRONG
    assert attempt("bob", "other").startswith(b"+OK")
    assert gate.delays == [60, 60]
    gate.now = 60
    assert attempt().startswith(b"+OK")
    gate.now = 119
    assert attempt().startswith(b"-ERR [LOGIN-DELAY]")
    assert sum(gate.verdicts) == 3


def test_a_backend_has_a_delay_of_its_own_for_each_user() -> None:
    """R2449-18, R2449-21: over every way to log in, and counted for the maildrop that was opened."""
    gate, desk = CountingGate(), Desk()
    desk.delay = be.Policy(10, per_user=True)

    def attempt(client: ClientExchange) -> bytes:
        return owner_of(desk, "PLAIN", client, gate=gate, login_delay=60)[1]

    assert attempt(plain("alice", "secret", "bob")).startswith(b"+OK")
    gate.now = 9
    assert attempt(plain("bob", "other")).startswith(b"-ERR [LOGIN-DELAY]")
    assert attempt(plain("alice", "secret")).startswith(b"+OK")
    gate.now = 10
    assert attempt(plain("bob", "other")).startswith(b"+OK")
    desk.delay = be.Policy(None)
    assert attempt(plain("bob", "other")).startswith(b"+OK")
    assert gate.delays == [10, 10, 10, 0]
    assert desk.delayed == ["bob", "bob", "alice", "bob", "bob"]


def test_a_login_that_came_to_nothing_delays_none() -> None:
    """A-43: what counts is the +OK."""
    gate = CountingGate()
    store = Store(["nonsense"])
    assert Dialogue(store, gate=gate, login_delay=60).login().startswith(b"-ERR [SYS/PERM]")
    store.mail = []
    assert Dialogue(store, gate=gate, login_delay=60).login().startswith(b"+OK")


# --- names and passwords in UTF-8 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password"),
    [("alice", "IX"), ("alice", "\u2168"), ("al\u00adice", "I\u00adX"), ("\uff41lice", "IX"), ("alice", "IX\u200b")],
)
@pytest.mark.parametrize("mechanism", [None, "PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_what_looks_the_same_is_the_same(user: str, password: str, mechanism: str | None) -> None:
    """R6856-12, R6856-15, R6856-16, R5034-23, R4616-04: SASLprep for names and passwords, before UTF8 is said."""
    backend = MemoryBackend()
    backend.add_user("alice", "\u2168")
    session = dial(backend)
    reply = session.auth(mechanism, CLIENTS[mechanism](user, password)) if mechanism else session.login(user, password)
    assert reply.startswith(b"+OK")
    assert session.session.user == "alice"


def test_apop_with_a_name_in_utf8() -> None:
    """R6856-13, R6856-15, R6856-18: the name is a query string, the secret a stored one."""
    backend = MemoryBackend()
    backend.add_user("jürgen", "tanstaa\u00adf")
    stamp = "<1896.697170952@dbc.mtview.ca.us>"
    session = Dialogue(backend, timestamp=stamp)
    digest = "c4c9334bac560ecc979e58001b3e22fb"
    assert session.ask(b"APOP j\xfcrgen " + digest.encode()).startswith(b"-ERR bad arguments")
    assert session.ask(f"APOP \u0627\u0031 {digest}") == WRONG
    assert session.ask(f"APOP ju\u0308r\u00adgen {digest}").startswith(b"+OK")


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("alice", b"sec\x07ret"),
        ("alice", b"\xff"),
        ("alice", b"\xed\xa0\x80"),
        ("alice", b"\xc3"),
        ("alice", "\u0627\u0031".encode()),
        ("alice", "\ue000".encode()),
        ("al\u0627ice", b"secret"),
        ("alice", "\u00ad".encode()),
        ("\u00ad\u200b", b"secret"),
    ],
)
def test_what_cannot_be_prepared_is_refused(user: str, password: bytes) -> None:
    """R6856-14, R6856-18, R5034-24, R4616-04, H6, H7: prohibited, malformed, or nothing once prepared. Nobody is asked.

    A backend that takes an empty password for good, as directories do, must never be given one.
    """
    store = Store()
    session = Dialogue(store)
    assert session.ask(f"USER {user}").startswith(b"+OK")
    assert session.ask(b"PASS " + password) == WRONG
    assert store.calls == []
    assert session.session.tally.logins_failed == 1


def test_without_utf8_nothing_is_prepared() -> None:
    """R6856-17, A-03: names are ASCII, passwords whatever was sent."""
    seen: list[Credentials] = []

    class Recorder(Store):
        async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
            seen.append(credentials)
            raise be.AuthenticationFailed

    session = Dialogue(Recorder(), utf8=False)
    assert session.ask("USER jürgen").startswith(b"-ERR bad arguments")
    session.login("alice", "\u2168")
    assert seen == [PasswordCredentials("alice", "\u2168")]


# --- what is written down ------------------------------------------------------------------------------------------

CANARY = "canary-7f3a"
TOKENS = frozenset({"OAUTHBEARER", "XOAUTH2"})


@pytest.mark.parametrize("name", ["PASS", "APOP", *BY_NAME])
@pytest.mark.parametrize("good", [True, False])
def test_no_mechanism_leaves_its_secret_in_a_log(name: str, good: bool, caplog: pytest.LogCaptureFixture) -> None:
    """H8, P5: neither what was sent, nor what it was made of, nor base64; even if the backend quotes its arguments."""
    caplog.set_level(logging.DEBUG)
    secret = CANARY if good else CANARY + "-wrong"

    class Quoting(MemoryBackend):
        login_methods = MemoryBackend.login_methods | TOKENS  # type: ignore[misc]

        async def authenticate(self, credentials: Credentials, client: be.ClientInfo) -> str:
            parts = [getattr(credentials, part, b"") for part in ("password", "token", "digest")]
            raise OSError(f"cannot check {credentials} {parts}")

        async def scram_keys(self, user: str, hash_name: str, client: be.ClientInfo) -> ScramKeys | None:
            raise OSError(f"cannot find {user} {await super().scram_keys(user, hash_name, client)}")

    backend = Quoting()
    backend.add_user("alice", CANARY)
    session = dial(backend, timestamp="<1@h>")
    clients = {**CLIENTS, "OAUTHBEARER": lambda user, token: oauthbearer(token), "XOAUTH2": xoauth2}
    if name == "PASS":
        reply = session.login("alice", secret)
    elif name == "APOP":
        reply = session.ask("APOP alice " + "a7" * 16)
    else:
        reply = session.auth(name, clients[name]("alice", secret))
    assert reply == INTERNAL
    assert "OSError" in caplog.text
    session.close()
    # The digest in a form that no random salt has by chance.
    for form in (secret, encode(secret.encode()).decode()[:-4], "a7" * 16, r"\xa7" * 8):
        assert form not in caplog.text


def test_a_name_is_no_secret_and_who_it_was_is_known() -> None:
    """J5: for the summary: how, and who; nothing of a mechanism that was not offered."""
    session = dial(Desk())
    seen = []
    for line in ("AUTH " + CANARY.upper(), "AUTH PLAIN =", "USER alice", "PASS wrong"):
        session.ask(line)
        seen.append(session.session.method)
    assert seen == [None, "PLAIN", "PLAIN", "PASS"]
    assert session.session.user is None


def test_identities_are_what_mechanisms_say() -> None:
    """A mechanism of somebody else's that needs no backend to know who it is."""

    def server(context: ServerContext, message: bytes) -> ServerExchange:
        yield from ()
        return Identity(message.decode())

    table = {"X-TRUST": Mechanism("X-TRUST", server, "PLAIN")}
    session = dial(Desk(), mechanisms=table)
    assert session.ask("AUTH X-TRUST " + base64("alice")).startswith(b"+OK")
    assert session.session.user == "alice"


@pytest.mark.parametrize("way", ["PASS", "PLAIN", "LOGIN"])
def test_a_password_that_was_stored_as_it_is(way: str) -> None:
    """D3, R6856-12: what SASLprep changes is tried as it was sent as well; both count as one attempt."""
    asked: list[str] = []

    class Raw(MemoryBackend):
        async def authenticate(self, credentials: be.Credentials, client: be.ClientInfo) -> str:
            assert isinstance(credentials, PasswordCredentials)
            asked.append(credentials.password)
            if credentials.password != "\ufb01sh":
                raise be.AuthenticationFailed
            return credentials.user

    backend = Raw()
    backend.add_user("alice", "x-secret-x")
    gate = CountingGate()
    session = Dialogue(backend, gate=gate, mechanisms=MECHANISMS)
    for password, good in (("\ufb01sh", True), ("\ufb01shy", False)):
        session = Dialogue(backend, gate=gate, mechanisms=MECHANISMS)
        if way == "PASS":
            session.ask("USER alice")
            reply = session.ask(f"PASS {password}")
        else:
            exchange = plain("alice", password) if way == "PLAIN" else login("alice", password)
            reply = session.auth(way, exchange)
        assert reply.startswith(b"+OK" if good else b"-ERR [AUTH]")
    assert asked == ["fish", "\ufb01sh", "fishy", "\ufb01shy"]
    assert len(gate.left) == 2


def test_a_mechanism_that_returns_something_else(caplog: pytest.LogCaptureFixture) -> None:
    """I5: it is somebody else's; the session goes on."""

    def server(context: ServerContext, message: bytes) -> ServerExchange:
        yield from ()
        return "alice"  # type: ignore[return-value]

    backend = MemoryBackend()
    backend.add_user("alice", "secret")
    session = Dialogue(backend, mechanisms={"X": Mechanism("X", server, "PLAIN")})
    assert session.ask("AUTH X =") == b"-ERR [SYS/TEMP] internal error, try again later\r\n"
    assert "a mechanism returns an Identity, not str" in caplog.text
    assert session.login().startswith(b"+OK")
