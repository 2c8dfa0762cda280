"""Folders by login: who gets in, to what, and what strangers learn of it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3 import sasl
from trio_pop3.backend import (
    AuthenticationFailed,
    ClientInfo,
    Credentials,
    NoSuchFolder,
    PasswordCredentials,
    Policy,
    combine,
)
from trio_pop3.backends.memory import MemoryBackend
from trio_pop3.backends.views import AtMost, Folders, Union
from trio_pop3.credentials import TokenCredentials

from ..driving import CLIENT, OVER_TLS, Dialogue, run
from .views_helpers import Shelf


class Users:
    """One password for everybody; knows who was asked for. Tokens are whatever name they say."""

    login_methods = frozenset({"PLAIN", "XOAUTH2"})

    def __init__(self) -> None:
        self.asked: list[Credentials] = []

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        self.asked.append(credentials)
        if isinstance(credentials, TokenCredentials):
            return credentials.token
        if isinstance(credentials, PasswordCredentials) and credentials.password == "secret":
            return credentials.user
        raise AuthenticationFailed


class Store:
    """Says whose mail was asked for, and in which folder."""

    def __init__(self, log: list[tuple[str, str | None]], name: str | None = None) -> None:
        self._log = log
        self._name = name

    def folder(self, name: str) -> Store:
        if "/" in name or not name:
            raise ValueError("not the name of a folder")
        return Store(self._log, name)

    async def open(self, user: str, client: ClientInfo) -> be.Maildrop:
        assert type(user) is str
        self._log.append((user, self._name))
        if self._name == "No":
            raise NoSuchFolder
        return run(Shelf().open("alice", client))  # type: ignore[no-any-return]


class Site:
    """A backend with folders, and what was asked of it."""

    def __init__(self, separator: str = "+") -> None:
        self.users = Users()
        self.opened: list[tuple[str, str | None]] = []
        self.backend = Folders(combine(self.users, Store(self.opened)), separator)


@pytest.mark.parametrize(
    ("name", "user", "folder"),
    [
        ("alice", "alice", None),
        ("alice+Junk", "alice", "Junk"),
        ("alice+Sent.2024", "alice", "Sent.2024"),
        ("alice+a+b", "alice", "a+b"),
        ("alice@example.org", "alice@example.org", None),
        ("alice@example.org+Junk", "alice@example.org", "Junk"),
        ("alice+Junk@example.org", "alice@example.org", "Junk"),
        ("alice@example.org+me@home", "alice@example.org", "me@home"),
        ("+Junk", "+Junk", None),
        ("+", "+", None),
    ],
)
def test_names_of_logins(name: str, user: str, folder: str | None) -> None:
    """Wish 5: who checks logins sees the user, and the store is asked for the folder."""
    site = Site()
    dialogue = Dialogue(site.backend)
    assert dialogue.login(name).startswith(b"+OK maildrop")
    assert [credentials.user for credentials in site.users.asked] == [user]
    assert site.opened == [(user, folder)]
    assert dialogue.session.user == (user if folder is None else f"{user}+{folder}")


@pytest.mark.parametrize("folder", ["No", "", "a/b", "../../etc"])
def test_a_folder_that_is_not_there(folder: str) -> None:
    """Said to who has the password: a client that is told [AUTH] would ask for another password, again and again."""
    assert Dialogue(Site().backend).login(f"alice+{folder}") == b"-ERR [SYS/PERM] no such folder\r\n"


@given(st.sampled_from(["alice", "nobody"]), st.sampled_from(["", "+Junk", "+No", "+a/b", "+"]))
def test_strangers_learn_nothing_of_folders(user: str, suffix: str) -> None:
    """P5: without the password, every folder of everybody looks the same, and the store is never asked."""
    site = Site()
    dialogue = Dialogue(site.backend)
    assert dialogue.login(user + suffix, "wrong") == b"-ERR [AUTH] invalid user name or password\r\n"
    assert [(type(asked), asked.user) for asked in site.users.asked] == [(PasswordCredentials, user)]
    assert site.opened == []


def test_a_name_that_comes_from_elsewhere_is_not_taken_apart() -> None:
    """P5: who is called alice+Junk by the people who issue tokens is not alice, and gets no mail of hers."""
    site = Site()
    for said, is_called, opened in (
        ("", "alice+Junk", ("alice+Junk", None)),
        ("bob", "alice+Junk", ("alice+Junk", None)),
        ("bob+Later", "alice+Junk", ("alice+Junk", "Later")),
        ("alice+Junk", "alice", ("alice", "Junk")),
    ):
        user = run(site.backend.authenticate(TokenCredentials(said, is_called), CLIENT))
        run(site.backend.open(user, CLIENT))
        assert site.opened[-1] == opened
    # Nor through a view around it.
    outer = AtMost(site.backend, 1)
    run(outer.open(run(outer.authenticate(TokenCredentials("", "alice+Junk"), CLIENT)), CLIENT))
    assert site.opened[-1] == ("alice+Junk", None)


MECHANISMS = {"PLAIN": sasl.plain, "LOGIN": sasl.login, "CRAM-MD5": sasl.cram_md5, "SCRAM-SHA-256": sasl.scram}


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_leads_to_the_folder(name: str) -> None:
    """With SCRAM the name is the one on the wire, which no authenticator has given back."""
    shelf, junk = Shelf(), Shelf()
    shelf.folders["Junk"] = junk
    junk.put(b"junk\n")
    for user, reply in (
        ("alice+Junk", b"+OK maildrop has 1 "),
        ("alice", b"+OK maildrop has 0 "),
        ("bob+Junk", b"-ERR"),
    ):
        dialogue = Dialogue(Folders(shelf), client=OVER_TLS, mechanisms=sasl.MECHANISMS)
        try:
            assert dialogue.auth(name, MECHANISMS[name](user, "secret")).startswith(reply)
        finally:
            dialogue.close()


def test_apop_leads_to_the_folder() -> None:
    shelf = Shelf()
    shelf.folders["Junk"] = Shelf()
    stamp = "<1.2@host>"
    dialogue = Dialogue(Folders(shelf), timestamp=stamp)
    digest = hashlib.md5(f"{stamp}secret".encode(), usedforsecurity=False).hexdigest()
    assert dialogue.ask(f"APOP alice+Junk {digest}").startswith(b"+OK maildrop has 0")


def test_an_authorization_identity_that_is_the_same_name() -> None:
    """Some clients send their name twice (RFC 4616)."""
    site = Site()
    user = run(site.backend.authenticate(PasswordCredentials("a+J", "secret", authzid="a+J"), CLIENT))
    run(site.backend.authenticate(PasswordCredentials("a+J", "secret", authzid="b+J"), CLIENT))
    assert [(asked.user, asked.authzid) for asked in site.users.asked] == [("a", "a"), ("a", "b+J")]
    assert str(user) == "a+J"


class Chief(MemoryBackend):
    """alice may open bob's maildrop."""

    def folder(self, name: str) -> Any:
        return self

    async def authorize(self, user: str, authzid: str, client: ClientInfo) -> str:
        assert (user, authzid) == ("alice", "bob")
        return "bob"

    async def login_delay(self, user: str | None) -> Policy:
        assert user in (None, "alice")
        return Policy(7 if user else 9)

    async def expiry(self, user: str | None) -> Policy:
        return await self.login_delay(user)


def test_the_powers_behind_see_the_user_only() -> None:
    backend: Any = Folders(Chief())
    granted = run(backend.authorize("alice+Junk", "bob+Later", CLIENT))
    assert (granted.user, granted.folder, granted) == ("bob", "Later", "bob+Later")
    for method in (backend.login_delay, backend.expiry):
        assert [run(method(user)).value for user in (None, "alice", "alice+Junk")] == [9, 7, 7]


def test_an_authenticator_that_gives_no_name_is_found_out() -> None:
    """What it gives is checked by the session, as without this view."""

    class Broken(Chief):
        async def authenticate(self, credentials: Credentials, client: ClientInfo) -> Any:
            return None

    assert Dialogue(Folders(Broken())).login("alice+Junk").startswith(b"-ERR [SYS/TEMP]")


@pytest.mark.parametrize("separator", ["", "++", "a", "7", " ", "@", "/", "\n", "ä"])
def test_separators_that_make_no_sense(separator: str) -> None:
    with pytest.raises(ValueError, match="a separator is one character"):
        Folders(Chief(), separator)


def test_another_separator() -> None:
    site = Site("=")
    assert Dialogue(site.backend).login("alice=Junk").startswith(b"+OK")
    assert Dialogue(site.backend).login("alice+Junk").startswith(b"+OK")
    assert site.opened == [("alice", "Junk"), ("alice+Junk", None)]


def test_what_has_no_folders_by_login() -> None:
    with pytest.raises(TypeError, match="MemoryBackend has no folders"):
        Folders(MemoryBackend())
    with pytest.raises(TypeError, match="whole backend"):
        Folders(Store([]))


def test_a_folder_of_a_union_is_the_folder_alone() -> None:
    shelf, junk = Shelf(), Shelf()
    shelf.folders["Junk"] = junk
    shelf.put()
    uid = junk.put()
    backend = Folders(AtMost(Union(shelf, {"Junk": junk}), 5))
    dialogue = Dialogue(backend)
    assert dialogue.login() == b"+OK maildrop has 2 messages (12 octets)\r\n"
    dialogue.close()
    dialogue = Dialogue(backend)
    assert dialogue.login("alice+Junk") == b"+OK maildrop has 1 message (6 octets)\r\n"
    assert dialogue.lines("UIDL") == [f"1 {uid}"]
