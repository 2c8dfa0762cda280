"""curl, mpop, fetchmail and getmail log in with everything that each of them knows, over STLS and over implicit TLS.

What Debian's builds do not know, found out by trying: curl SCRAM (built without GNU SASL); mpop SCRAM with channel
binding; fetchmail anything but PASS, APOP and CRAM-MD5 (EXTERNAL is for IMAP, and STLS is not asked for before APOP);
getmail STLS and SASL, XOAUTH2 included (IMAP only).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from trio_pop3.sasl import MECHANISMS

from ..auth import oauth_server
from ..sansio.test_body import canon
from .certificates import Authority, Pair
from .programs import PROGRAMS, STLS, TLS, Account
from .server import PASSWORD, USER, Mail, Served, message, serving

# Without CR and NUL, which programs treat as they like.
MESSAGE = message("awkward", b".\n..\n...\n.a\n\n\xe4\xf6\xfc\n" + b"x" * 900 + b"\n \n\n.\n")


@dataclass(frozen=True)
class Offer:
    """What a server may offer. None is every mechanism that there is by default."""

    mechanisms: frozenset[str] | None
    apop: bool = True

    @property
    def options(self) -> list[str]:
        names = [name for name in MECHANISMS if name in (self.mechanisms or ())]
        return [*(f"--mechanism={name}" for name in names), *["--apop"] * self.apop]


EVERYTHING = Offer(frozenset(MECHANISMS) - {"ANONYMOUS"})
BY_DEFAULT = Offer(None)
# Nobody has told the server whom to take without a password, so that is no mechanism at all.
NO_SASL = Offer(frozenset({"ANONYMOUS"}), apop=False)
ONLY_XOAUTH2 = Offer(frozenset({"XOAUTH2"}))


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    program: str
    method: str  # as the server's log calls it
    arguments: tuple[str, ...] = ()  # how the program is told to
    offer: Offer = EVERYTHING
    over: tuple[str, ...] = (STLS, TLS)

    def __str__(self) -> str:
        return " ".join((self.program, self.method, *self.arguments[1:]))


WAYS = (
    # curl takes the best that is offered among those it was told: PASS only where there is nothing else, and XOAUTH2
    # where there is no OAUTHBEARER.
    Way("curl", "PASS", ("AUTH=*",), NO_SASL),
    Way("curl", "APOP", ("AUTH=+APOP",)),
    Way("curl", "PLAIN", ("AUTH=PLAIN",)),
    Way("curl", "PLAIN", ("AUTH=PLAIN", "--sasl-ir")),
    Way("curl", "LOGIN", ("AUTH=LOGIN",)),
    Way("curl", "CRAM-MD5", ("AUTH=CRAM-MD5",)),
    Way("curl", "CRAM-MD5", ("AUTH=CRAM-MD5", "--sasl-ir")),
    Way("curl", "EXTERNAL", ("AUTH=EXTERNAL",)),
    Way("curl", "EXTERNAL", ("AUTH=EXTERNAL", "--sasl-ir")),
    Way("curl", "OAUTHBEARER", ("AUTH=OAUTHBEARER",)),
    Way("curl", "OAUTHBEARER", ("AUTH=OAUTHBEARER", "--sasl-ir")),
    Way("curl", "XOAUTH2", ("AUTH=XOAUTH2",), ONLY_XOAUTH2),
    Way("curl", "XOAUTH2", ("AUTH=XOAUTH2", "--sasl-ir"), ONLY_XOAUTH2),
    Way("mpop", "PASS", ("user",)),
    Way("mpop", "APOP", ("apop",)),
    Way("mpop", "PLAIN", ("plain",)),
    Way("mpop", "LOGIN", ("login",)),
    Way("mpop", "CRAM-MD5", ("cram-md5",)),
    Way("mpop", "SCRAM-SHA-1", ("scram-sha-1",)),
    Way("mpop", "SCRAM-SHA-256", ("scram-sha-256",)),
    Way("mpop", "EXTERNAL", ("external",)),
    Way("mpop", "OAUTHBEARER", ("oauthbearer",)),
    Way("mpop", "XOAUTH2", ("xoauth2",)),
    Way("fetchmail", "PASS", ("POP3", "auth password")),
    Way("fetchmail", "APOP", ("APOP",), over=(TLS,)),
    Way("fetchmail", "CRAM-MD5", ("POP3", "auth cram-md5")),
    Way("getmail", "PASS", over=(TLS,)),
    Way("getmail", "APOP", ("use_apop = true",), over=(TLS,)),
)
# What each takes by itself if the server offers all that is offered by default, and PASS and APOP.
BY_ITSELF = (
    Way("curl", "PLAIN", ("AUTH=*",)),
    Way("mpop", "PLAIN", ("on",)),
    Way("fetchmail", "PASS", ("POP3",)),
    Way("getmail", "PASS", over=(TLS,)),
)
TOKENS = ("OAUTHBEARER", "XOAUTH2")

Serve = Callable[[Offer], Served]


@pytest.fixture(scope="module")
def issuer() -> Iterator[oauth_server.AuthorizationServer]:
    with oauth_server.serving() as server:
        yield server


@pytest.fixture(scope="module")
def serve(
    authority: Authority,
    pair: Pair,
    issuer: oauth_server.AuthorizationServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    """Servers by what they may offer, each started once."""
    running: dict[Offer, Served] = {}
    options = [
        *("--tls-listen", "127.0.0.1:0", *pair.options),
        *("--client-ca", str(authority.path), "--certificate-name", "common-name"),
        *("--oauth-jwks", f"{issuer.url}/jwks", "--oauth-issuer", oauth_server.ISSUER),
        *("--oauth-audience", oauth_server.AUDIENCE),
    ]
    with ExitStack() as stack:

        def find(offer: Offer) -> Served:
            if offer not in running:
                mail = Mail(tmp_path_factory.mktemp("mail") / "served")
                mail.put(MESSAGE)
                running[offer] = stack.enter_context(serving(mail, *options, *offer.options))
            running[offer].log.skip()
            return running[offer]

        yield find


@dataclass(frozen=True)
class Secrets:
    """What clients know that may log in."""

    token: str
    identity: Pair

    def account(self, way: Way, over: str, server: Served, home: Path, trusted: Path) -> Account:
        """An account with what this way needs to log in."""
        external = way.method == "EXTERNAL"
        return Account(
            home=home,
            port=server.ports[{STLS: "", TLS: "tls"}[over]],
            over=over,
            trusted=trusted,
            # With a password, curl would not take EXTERNAL.
            secret=self.token if way.method in TOKENS else "" if external and way.program == "curl" else PASSWORD,
            identity=self.identity if external else None,
        )


@pytest.fixture(scope="module")
def good(issuer: oauth_server.AuthorizationServer, authority: Authority) -> Secrets:
    now = int(time.time())
    claims = oauth_server.claims(email=USER, iat=now - 10, nbf=now - 10, exp=now + 600)
    token = oauth_server.sign(issuer.keys[1], "ES256", claims)
    return Secrets(token, authority.issue("alice@example.org", common_name=USER))


def fetch(way: Way, account: Account) -> bytes | None:
    extra = {"bearer": True} if way.program == "curl" and way.method in TOKENS else {}
    return PROGRAMS[way.program](account, *way.arguments, **extra)


def expected(way: Way) -> bytes:
    """curl writes what is on the wire, the others store it."""
    return canon(MESSAGE) if way.program == "curl" else MESSAGE


def each_over(ways: tuple[Way, ...]) -> pytest.MarkDecorator:
    rows = [pytest.param(way, over, id=f"{way} {over}") for way in ways for over in way.over]
    return pytest.mark.parametrize(("way", "over"), rows)


@each_over(WAYS)
def test_each_program_with_each_mechanism(
    way: Way, over: str, serve: Serve, authority: Authority, good: Secrets, tmp_path: Path
) -> None:
    """R2595-05, R2595-08, R2595-09, R8314-01, R8314-02, R8314-09, R8314-12: the message is exact, and the log says how
    it was fetched."""
    server = serve(way.offer)
    assert fetch(way, good.account(way, over, server, tmp_path, authority.path)) == expected(way)
    (session,) = server.log.sessions()
    assert session["user"] == USER
    assert session["method"] == way.method
    assert session["tls"] == "TLSv1.3"
    assert session["cipher"].startswith("TLS_")
    assert (session["failed"], session["reason"]) == ("0", "quit")


@each_over(BY_ITSELF)
def test_what_each_program_takes_by_itself(
    way: Way, over: str, serve: Serve, authority: Authority, good: Secrets, tmp_path: Path
) -> None:
    """Of what is offered by default, with nothing said of mechanisms."""
    server = serve(BY_DEFAULT)
    assert fetch(way, good.account(way, over, server, tmp_path, authority.path)) == expected(way)
    (session,) = server.log.sessions()
    assert (session["method"], session["tls"]) == (way.method, "TLSv1.3")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_wrong_secret_opens_nothing(
    way: Way, serve: Serve, authority: Authority, good: Secrets, tmp_path: Path
) -> None:
    """H6, H8: each program takes the refusal for one, and the log has no secret. For EXTERNAL there is no
    certificate, and so nothing to refuse."""
    server = serve(way.offer)
    wrong = good.token[:-8] + "AAAAAAAA" if way.method in TOKENS else "looking-glass"
    account = good.account(way, TLS, server, tmp_path, authority.path)
    account = replace(account, secret=account.secret and wrong, identity=None)
    assert fetch(way, account) is None
    sessions = server.log.sessions()
    assert {(session["user"], session["messages"]) for session in sessions} == {("-", "0/0")}
    failed = sum(int(session["failed"]) for session in sessions)
    assert (failed > 0) == (way.method != "EXTERNAL")
    assert wrong not in server.log.text()


def test_curl_gives_no_initial_response_to_login(
    serve: Serve, authority: Authority, good: Secrets, tmp_path: Path
) -> None:
    """R5034-14: LOGIN is server-first, so curl's `--sasl-ir` is refused for it, before the password is sent."""
    way = Way("curl", "LOGIN", ("AUTH=LOGIN", "--sasl-ir"))
    server = serve(way.offer)
    assert fetch(way, good.account(way, TLS, server, tmp_path, authority.path)) is None
    (session,) = server.log.sessions()
    assert (session["user"], session["failed"]) == ("-", "0")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_server_that_nobody_vouches_for_gets_no_password(
    program: str, serve: Serve, good: Secrets, tmp_path: Path
) -> None:
    """The programs do verify us in the tests above: with another authority none of them logs in."""
    way = next(way for way in WAYS if way.program == program)
    server = serve(way.offer)
    assert fetch(way, good.account(way, TLS, server, tmp_path, Authority(tmp_path).path)) is None
    assert {session["method"] for session in server.log.sessions()} == {"-"}
