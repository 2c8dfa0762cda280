"""Passwords checked by the real Dovecot (Debian: dovecot-core), started here with files of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trio_pop3 import backend as be
from trio_pop3.auth.dovecot import MOST_LINE_OCTETS, AuthDialogue, DovecotAuth

from .dovecot_helpers import CLIENT, PASSWORD, Dovecot, running


async def log_in(path: Path, user: str, password: str) -> str:
    return await DovecotAuth(path).authenticate(be.PasswordCredentials(user, password), CLIENT)


USERS = (
    "alice:{PLAIN}correct horse::::::\n"
    "bob:{PLAIN}pw::::::nologin=y\n"
    "carol:{PLAIN}pw::::::proxy=y host=192.0.2.9\n"
    "dave:{PLAIN}pw::::::user=david\n"
    "erin:{PLAIN}pw::::::allow_nets=192.0.2.0/24\n"
    "t\tb:{PLAIN}p w::::::\n"
    "k\udcff:{PLAIN}\udcfe::::::\n"
    "long:{PLAIN}" + "x" * 6000 + "::::::\n"
)


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with running(tmp_path_factory.mktemp("dovecot"), USERS) as real:
        yield real


@pytest.mark.parametrize(
    ("user", "password", "name"),
    [
        ("alice", PASSWORD, "alice"),
        ("Alice", PASSWORD, "alice"),
        ("alice", "wrong", None),
        ("nobody", PASSWORD, None),
        ("bob", "pw", None),
        ("carol", "pw", None),
        ("dave", "pw", "david"),
        ("erin", "pw", "erin"),
        ("t\tb", "p w", "t\tb"),
        ("alice\tuser=bob", PASSWORD, None),
        ("alice\nOK\t1\tuser=alice", PASSWORD, None),
        ("k\udcff", "\udcfe", "k\udcff"),
        ("long", "x" * 6000, "long"),
        ("alice", "x" * 12_000, None),
    ],
)
async def test_with_the_real_dovecot(dovecot: Dovecot, user: str, password: str, name: str | None) -> None:
    """H11, H6: users with controls in their names are themselves and nobody else."""
    if name is None:
        with pytest.raises(be.AuthenticationFailed):
            await log_in(dovecot.path, user, password)
    else:
        assert await log_in(dovecot.path, user, password) == name


async def test_the_real_one_knows_the_address(dovecot: Dovecot) -> None:
    elsewhere = be.ClientInfo("s2", "198.51.100.1", 4711)
    with pytest.raises(be.AuthenticationFailed):
        await DovecotAuth(dovecot.path).authenticate(be.PasswordCredentials("erin", "pw"), elsewhere)


async def test_trouble_of_the_real_one(dovecot: Dovecot) -> None:
    """H9: its second password database is broken."""
    with pytest.raises(be.TemporaryFailure):
        await log_in(dovecot.path, "broken", "pw")


async def test_the_longest_request_that_the_real_one_reads(dovecot: Dovecot) -> None:
    """What we still send is answered; were it too long, Dovecot would close the connection."""
    auth = DovecotAuth(dovecot.path)
    used = AuthDialogue(auth._parameters(CLIENT), b"\0alice\0")
    room = (MOST_LINE_OCTETS - 1 - len(used._request)) // 4 * 3
    for password in ("x" * room, "x" * (room + 6)):
        with pytest.raises(be.AuthenticationFailed):
            await auth.authenticate(be.PasswordCredentials("alice", password), CLIENT)
    assert "sent us more than" not in dovecot.log.read_text(errors="replace")


async def test_many_at_once_with_the_real_one(dovecot: Dovecot) -> None:
    auth = DovecotAuth(dovecot.path)
    names: list[str] = []

    async def one(user: str, password: str) -> None:
        names.append(await auth.authenticate(be.PasswordCredentials(user, password), CLIENT))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one, "alice", PASSWORD)
            nursery.start_soon(one, "dave", "pw")
    assert sorted(names) == ["alice"] * 50 + ["david"] * 50


def test_a_restart_of_the_real_one(tmp_path: Path) -> None:
    """H9: while it is away logins fail temporarily, and the same authenticator goes on when it is back."""

    async def attempt() -> str:
        return await auth.authenticate(be.PasswordCredentials("alice", PASSWORD), CLIENT)

    with running(tmp_path, USERS) as real:
        auth = DovecotAuth(real.path)
        assert trio.run(attempt) == "alice"
        real.stop()
        with pytest.raises(be.TemporaryFailure):
            trio.run(attempt)
        real.start()
        assert trio.run(attempt) == "alice"
        assert PASSWORD not in real.log.read_text(errors="replace")
