"""A users file as an authenticator."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_pop3 import backend as be
from trio_pop3.auth import PasswdFile, PasswdFileError
from trio_pop3.auth import passwd as passwd_module
from trio_pop3.auth.kdf import derive_scram
from trio_pop3.auth.passwd import _MOST_WAITING, Kind, kind_of, parse_users
from trio_pop3.auth.schemes import HASHERS, Secret, parse_secret
from trio_pop3.credentials import CramMd5Credentials, ScramKeys, TokenCredentials

CLIENT = be.ClientInfo("test", "127.0.0.1", 4711, loopback=True)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text("# people\n\nalice:{PLAIN}secret:1000:1000::/home/alice::\nbob:{PLAIN}b o b\n")
    path.chmod(0o600)
    return path


def rewrite(path: Path, text: str) -> None:
    """As `trio-pop3 user` does it."""
    new = path.with_name("new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, path)


def settle(path: Path, seconds: float) -> None:
    """The last change was so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


async def can_log_in(file: PasswdFile, user: str, password: str) -> bool:
    try:
        return await file.authenticate(be.PasswordCredentials(user, password), CLIENT) == user
    except be.AuthenticationFailed:
        return False


async def test_users_log_in(users: Path) -> None:
    file = PasswdFile(users)
    assert file.users == ("alice", "bob")
    assert await can_log_in(file, "alice", "secret")
    assert await can_log_in(file, "bob", "b o b")
    assert not await can_log_in(file, "alice", "wrong")
    assert not await can_log_in(file, "carol", "secret")
    assert not await can_log_in(file, "carol", "")
    assert not await can_log_in(file, "alice", "")


@pytest.mark.parametrize("credentials", [be.Credentials("alice"), TokenCredentials("alice", "secret")])
async def test_other_credentials_fail(users: Path, credentials: be.Credentials) -> None:
    with pytest.raises(be.AuthenticationFailed):
        await PasswdFile(users).authenticate(credentials, CLIENT)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The schemes of the secrets that were compared with a password, in order."""
    schemes: list[str] = []
    real = Secret.is_of

    def counting(self: Secret, password: bytes) -> bool:
        schemes.append(self.scheme)
        return real(self, password)

    monkeypatch.setattr(Secret, "is_of", counting)
    return schemes


async def test_an_unknown_user_costs_what_a_known_one_does(users: Path, checked: list[str]) -> None:
    """H7: the same scheme is checked, once, whoever asks: counted, not timed."""
    file = PasswdFile(users)
    await can_log_in(file, "alice", "wrong")
    await can_log_in(file, "nobody", "wrong")
    assert checked == ["PLAIN", "PLAIN"]


def test_a_locked_account_is_no_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H7: it is checked in no time, and would tell unknown users from the others."""
    hashed: list[bytes] = []
    monkeypatch.setattr("trio_pop3.auth.schemes.crypt", lambda password, setting: hashed.append(setting))
    (tmp_path / "users").write_text(f"locked:!\nother:*\nalice:{CRYPT}\nbob:{{PLAIN}}x\n")
    assert not trio.run(can_log_in, PasswdFile(tmp_path / "users"), "nobody", "x")
    assert hashed == [CRYPT.encode(), b"*"]  # and the locked kind is timed


def test_an_empty_file_is_temporary(users: Path) -> None:
    """H9: so it looks while somebody rewrites it, and a client told [AUTH] would forget its password."""
    file = PasswdFile(users, cache_seconds=0)
    rewrite(users, "")
    for name in ("alice", "nobody"):
        with pytest.raises(be.TemporaryFailure):
            trio.run(file.authenticate, be.PasswordCredentials(name, "x"), CLIENT)
    rewrite(users, "alice:{PLAIN}secret\n")
    assert trio.run(can_log_in, file, "alice", "secret")


def test_a_fifo_is_no_users_file(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P4: nobody waits for what somebody may write into it."""
    file = PasswdFile(users, cache_seconds=0)
    os.mkfifo(users.with_name("fifo"))
    os.replace(users.with_name("fifo"), users)
    assert trio.run(can_log_in, file, "alice", "secret")
    assert "not a regular file" in caplog.text
    with pytest.raises(PasswdFileError, match="not a regular file"):
        PasswdFile(users)


@pytest.mark.parametrize("costly", ["$6$rounds=999999999$abcdefgh$x", "$5$rounds=1000001$a$x", "$2b$15$" + "a" * 53])
def test_hashes_that_take_seconds_are_refused(users: Path, costly: str) -> None:
    """P4: two guesses at such a user would stop everybody's logins."""
    users.write_text(f"alice:{{CRYPT}}{costly}\n")
    with pytest.raises(PasswdFileError, match=r"line 1: a crypt\(3\) hash that takes seconds to check"):
        PasswdFile(users)


def test_changes_are_seen_and_broken_ones_refused(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = PasswdFile(users, cache_seconds=0)
    rewrite(users, "alice:{PLAIN}changed-it\n")
    assert trio.run(can_log_in, file, "alice", "changed-it")
    assert not trio.run(can_log_in, file, "bob", "b o b")
    rewrite(users, "alice:{PLAIN}again\nthis is no line\n")
    assert trio.run(can_log_in, file, "alice", "changed-it")
    assert "line 2" in caplog.text
    users.unlink()
    assert trio.run(can_log_in, file, "alice", "changed-it")
    assert "the users known so far stay" in caplog.text
    assert "changed-it" not in caplog.text
    rewrite(users, "alice:{PLAIN}back\n")
    settle(users, 2)  # it may have the inode of the one that was removed
    assert trio.run(can_log_in, file, "alice", "back")


def test_a_complaint_is_made_once(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = PasswdFile(users, cache_seconds=0)
    for text in ("nonsense\n", None, "more nonsense\n"):
        caplog.clear()
        if text is None:
            users.unlink()
        else:
            rewrite(users, text)
        for _ in range(3):
            assert trio.run(can_log_in, file, "alice", "secret")
        assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_what_could_not_be_opened_is_tried_again(
    users: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too many open files is no reason to miss a change for ever."""
    file = PasswdFile(users)
    rewrite(users, "alice:{PLAIN}new\n")

    def refuse(*arguments: object, **options: object) -> object:
        raise OSError(24, os.strerror(24))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        assert trio.run(can_log_in, file, "alice", "secret")
    assert "Too many open files" in caplog.text
    assert trio.run(can_log_in, file, "alice", "new")


def test_what_is_written_in_place_counts_when_it_is_settled(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P4: half a file is not believed, and nobody is told that there is something wrong with it."""
    file = PasswdFile(users, cache_seconds=0)
    users.write_text("alice:{PLAIN}new\n")
    for seconds in (0.0, 0.5, -0.5):
        settle(users, seconds)
        assert trio.run(can_log_in, file, "alice", "secret")
        assert trio.run(can_log_in, file, "bob", "b o b")
    assert not caplog.records
    settle(users, 1.0)
    assert trio.run(can_log_in, file, "alice", "new")
    assert not trio.run(can_log_in, file, "bob", "b o b")
    users.write_text("alice:{PLAIN}newer\n")
    settle(users, -3600)  # by a clock that says nothing about ours
    assert trio.run(can_log_in, file, "alice", "newer")


@pytest.mark.parametrize("text", ["alice:{PLAIN}new\n", "nonsense\n"])
def test_what_changes_while_it_is_read_is_read_again(
    users: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """P4: whatever was read meanwhile, no complaint is made of it."""
    file = PasswdFile(users, cache_seconds=0)
    rewrite(users, text)

    def busy(text: str, path: str) -> dict[str, Secret]:
        users.write_text("alice:{PLAIN}newest\n")
        settle(users, 5)
        return parse_users(text, path)

    with monkeypatch.context() as patch:
        patch.setattr(passwd_module, "parse_users", busy)
        assert trio.run(can_log_in, file, "alice", "secret")
    assert not caplog.records
    assert trio.run(can_log_in, file, "alice", "newest")


def test_nobody_is_unknown_by_a_file_that_is_not_to_be_trusted(users: Path) -> None:
    """P1: a mail system sends back what is for an unknown user."""
    file = PasswdFile(users)
    rewrite(users, "alice:{PLAIN}secret\nbob:{PLAIN}b\nnew:{PLAIN}x\n")
    assert [file.look_up(user) for user in ("alice", "new", "carol")] == [True, True, False]

    def in_place() -> None:
        users.write_text("alice:{PLAIN}secret\n")

    troubles: list[Callable[[], None]] = [
        users.unlink, lambda: rewrite(users, ""), lambda: rewrite(users, "nonsense\n"), in_place
    ]  # fmt: skip
    for trouble in troubles:
        trouble()
        with pytest.raises(be.TemporaryFailure):
            file.look_up("carol")
        rewrite(users, "alice:{PLAIN}secret\n")
        settle(users, 5)
        assert [file.look_up(user) for user in ("alice", "carol")] == [True, False]
    rewrite(users, "")
    empty = PasswdFile(users)
    with pytest.raises(be.TemporaryFailure):
        empty.look_up("alice")


def test_a_file_without_its_last_line_end_is_unfinished(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    """P4: half a secret is no secret. Who starts a server knows the file to be whole."""
    users.write_text("alice:{PLAIN}secret")
    file = PasswdFile(users, cache_seconds=0)
    assert trio.run(can_log_in, file, "alice", "secret")
    rewrite(users, "bob:{PLAIN}x\nalice:{PLAIN}sec")
    assert not trio.run(can_log_in, file, "alice", "sec")
    assert trio.run(can_log_in, file, "alice", "secret")
    assert "the users known so far stay" in caplog.text
    assert "the last line has no end" in caplog.text
    rewrite(users, "bob:{PLAIN}x\nalice:{PLAIN}second\n")
    assert trio.run(can_log_in, file, "alice", "second")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("alice", "line 1: expected name:{SCHEME}secret"),
        ("a:{PLAIN}x\n:{PLAIN}x", "line 2: expected name:{SCHEME}secret"),
        ("a:{PLAIN}x\n\n a:{PLAIN}x", "line 3: expected name:{SCHEME}secret"),
        ("a:{PLAIN}x\na:{PLAIN}y", "line 2: user a is there already"),
        ("a:{PLAIN}x\n{PLAIN}hunter2:1:1\n{PLAIN}hunter2:2:2", "line 2: expected name:{SCHEME}secret"),
        ("a:", "line 1: empty password"),
        ("a:{NOPE}hunter2", "line 1: unknown password scheme {NOPE}"),
    ],
)
def test_bad_lines_are_named(text: str, complaint: str) -> None:
    """Issue A 6: bad line N in users; and no secret in the sentence."""
    with pytest.raises(PasswdFileError) as failure:
        parse_users(text, "users")
    assert str(failure.value).startswith(f"users: {complaint}")
    assert "hunter2" not in str(failure.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PasswdFileError, match="No such file"):
        PasswdFile(tmp_path / "missing")


def test_a_file_for_everybody_is_warned_of(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    users.chmod(0o644)
    PasswdFile(users)
    assert "chmod 600" in caplog.text
    assert repr(PasswdFile(users)) == f"PasswdFile({os.fspath(users)!r})"


async def test_the_queue_is_bounded(users: Path) -> None:
    """P4: more logins than can wait are told to come back, and are no wrong passwords (H9)."""
    limiter = trio.CapacityLimiter(1)
    file = PasswdFile(users, limiter=limiter)
    async with trio.open_nursery() as nursery:
        limiter.acquire_on_behalf_of_nowait("a thread that hashes")
        for _ in range(_MOST_WAITING):
            nursery.start_soon(can_log_in, file, "alice", "secret")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(be.TemporaryFailure):
            await can_log_in(file, "alice", "secret")
        limiter.release_on_behalf_of("a thread that hashes")


# --- what can be proved ---------------------------------------------------------------------------------------------

EVERYTHING = {"PLAIN", "APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"}
CRYPT = "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/"
CRAM = "{CRAM-MD5}9186d855e11eba527a7a52ca82b313e180d62234f0acc9051b527243d41e2740"  # by doveadm pw: "password"
SCRAM = HASHERS["SCRAM-SHA-256"](b"password")


@pytest.mark.parametrize(
    ("secrets", "methods"),
    [
        ([], {"PLAIN"}),
        ([CRYPT], {"PLAIN"}),
        ([CRYPT, CRAM], {"PLAIN", "CRAM-MD5"}),
        ([SCRAM, CRYPT], {"PLAIN", "SCRAM-SHA-256"}),
        ([SCRAM, CRAM], {"PLAIN", "SCRAM-SHA-256", "CRAM-MD5"}),
        ([CRYPT, "{PLAIN}x"], EVERYTHING),
        (["{cleartext}x"], EVERYTHING),
    ],
)
def test_the_secrets_say_what_can_be_proved(tmp_path: Path, secrets: list[str], methods: set[str]) -> None:
    (tmp_path / "users").write_text("".join(f"u{number}:{secret}\n" for number, secret in enumerate(secrets)))
    file = PasswdFile(tmp_path / "users")
    assert file.login_methods == methods
    assert isinstance(file, be.LoginMethods)
    assert isinstance(file, be.ScramSecrets)


class Clock:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_methods_are_those_of_the_file_as_last_read(users: Path) -> None:
    """P4: asking for them reads nothing; logins do."""
    file = PasswdFile(users)
    rewrite(users, f"alice:{CRYPT}\n")
    assert file.login_methods == EVERYTHING
    assert not trio.run(can_log_in, file, "alice", "wrong")
    assert file.login_methods == {"PLAIN"}


def apop(user: str, password: str) -> be.ApopCredentials:
    timestamp = "<1896.697170952@dbc.mtview.ca.us>"
    return be.ApopCredentials(user, timestamp, hashlib.md5((timestamp + password).encode()).digest())


def cram(user: str, password: str) -> CramMd5Credentials:
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    return CramMd5Credentials(user, challenge, hmac.digest(password.encode(), challenge, "md5"))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed"
    path.write_text(f"plain:{{PLAIN}}password\nhashed:{CRYPT}\ncram:{CRAM}\nscram:{SCRAM}\n")
    path.chmod(0o600)
    return path


async def proves(file: PasswdFile, credentials: be.Credentials) -> bool:
    try:
        return await file.authenticate(credentials, CLIENT) == credentials.user
    except be.AuthenticationFailed:
        return False


@pytest.mark.parametrize(
    ("make", "able"),
    [(be.PasswordCredentials, {"plain", "hashed", "cram", "scram"}), (apop, {"plain"}), (cram, {"plain", "cram"})],
)
async def test_every_secret_proves_what_it_can(mixed: Path, make: type[be.PasswordCredentials], able: set[str]) -> None:
    """R2195-02, H13; and nobody else gets in with anything."""
    file = PasswdFile(mixed)
    for user in ("plain", "hashed", "cram", "scram", "nobody"):
        assert await proves(file, make(user, "password")) == (user in able)
        for wrong in ("other", "", "x" * 70):
            assert not await proves(file, make(user, wrong))


# --- how long a refusal takes -----------------------------------------------------------------------------------------


KINDS = {
    "{PLAIN}x": ("PLAIN", b""),
    "{SSHA}" + "YWJj" * 8: ("SSHA", b""),
    "!": ("CRYPT", b"!"),
    "*": ("CRYPT", b"!"),
    "!$6$salt$locked": ("CRYPT", b"!"),
    CRYPT: ("CRYPT", b"$1$"),
    "{MD5-CRYPT}" + CRYPT: ("CRYPT", b"$1$"),
    "abJnggxhB/yWI": ("CRYPT", b""),
    "_J9..saltABCDEFGHIJK": ("CRYPT", b"_J9.."),
    "$6$salt$hash": ("CRYPT", b"$6$"),
    "$6$rounds=200000$salt$hash": ("CRYPT", b"$6$rounds=200000$"),
    "$2b$12$" + "a" * 53: ("CRYPT", b"$2b$12$"),
    "$y$j9T$salt$hash": ("CRYPT", b"$y$j9T$"),
    "$7$CU..../....salt$hash": ("CRYPT", b"$7$CU..../...."),
    HASHERS["SCRYPT"](b"x"): ("SCRYPT", b"$scrypt$ln=15,r=8,p=1$"),
    "{PBKDF2}$1$123$5000$" + "0" * 40: ("PBKDF2", b"5000"),
    SCRAM: ("SCRAM-SHA-256", b"4096"),
}


@pytest.mark.parametrize(("stored", "kind"), KINDS.items())
def test_what_says_how_long_a_check_takes(stored: str, kind: tuple[str, bytes]) -> None:
    """H7."""
    assert kind_of(parse_secret(stored)) == kind


def test_the_kind_of_an_argon2_hash() -> None:
    secret = Secret("ARGON2ID", b"$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$a2V5")
    assert kind_of(secret) == ("ARGON2ID", b"$argon2id$v=19$m=65536,t=3,p=1$")


def timed(path: Path, costs: dict[Kind, float], names: list[str]) -> list[float]:
    """How long a refusal takes each of these users, in the time of a thread and of the loop together."""
    computed = Clock()

    def is_of(secret: Secret, password: bytes) -> bool:
        computed.now += costs.get(kind_of(secret), 0.0)
        return False

    async def refusals() -> list[float]:
        file = PasswdFile(path, cpu_clock=computed)
        taken = []
        for name in names:
            took: list[float] = []
            real = file._costs.check

            def check(secret: Secret, password: bytes, real: Any = real, took: list[float] = took) -> Any:
                good, own = real(secret, password)
                took.append(own)
                return good, own

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(file._costs, "check", check)
                began = trio.current_time()
                assert not await can_log_in(file, name, "wrong")
                # The first check is the user's; the others time the file, once.
                taken.append(took[0] + trio.current_time() - began)
        return taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Secret, "is_of", is_of)
        return trio.run(refusals, clock=trio.testing.MockClock(autojump_threshold=0))


STORED = sorted(KINDS)


@given(st.data())
def test_every_refusal_takes_what_the_slowest_would(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """H7: known users of any kind, locked ones and unknown ones, whoever is asked for first; to a millisecond."""
    stored = data.draw(st.lists(st.sampled_from(STORED), min_size=1, max_size=8))
    costs = {kind: data.draw(st.floats(0, 1.9)) for kind in sorted(set(KINDS.values()))}
    names = data.draw(st.permutations(["nobody", "noone", *(f"u{number}" for number in range(len(stored)))]))
    path = tmp_path_factory.getbasetemp() / "timed"
    path.write_text("".join(f"u{number}:{secret}\n" for number, secret in enumerate(stored)))
    path.chmod(0o600)
    slowest = max(costs[KINDS[secret]] for secret in stored)
    assert timed(path, costs, list(names)) == pytest.approx([slowest] * len(names), abs=0.001)


def test_nobody_waits_for_long(users: Path) -> None:
    """P4."""
    assert timed(users, {("PLAIN", b""): 5.0}, ["alice", "nobody"]) == pytest.approx([5.0, 5.0], abs=0.001)
    rewrite(users, f"alice:{{PLAIN}}x\nbob:{{PLAIN}}x\ncarol:{CRYPT}\n")
    assert timed(users, {("CRYPT", b"$1$"): 5.0}, ["alice", "nobody", "carol"]) == pytest.approx(
        [2.0, 2.0, 5.0], abs=0.001
    )


def test_so_many_kinds_are_timed(users: Path, checked: list[str]) -> None:
    """P4: those that are much work first, and each but once, whatever versions of the file there are."""
    lines = [f"u{rounds}:{{PBKDF2}}$1$salt${rounds}${'0' * 40}\n" for rounds in range(1, 30)]
    users.write_text("".join(["plain:{PLAIN}x\n", *lines]))
    file = PasswdFile(users)
    assert not trio.run(can_log_in, file, "u1", "wrong")
    assert checked == ["PBKDF2"] * 16
    rewrite(users, "".join([*lines[:3], "plain:{PLAIN}x\n"]))
    assert not trio.run(can_log_in, file, "u1", "wrong")
    assert checked == [*["PBKDF2"] * 17, "PLAIN"]


async def test_a_refusal_waits_without_a_thread(
    users: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    """P4, H7: and who is right does not wait."""
    computed = Clock()
    real = Secret.is_of

    def is_of(secret: Secret, password: bytes) -> bool:
        computed.now += 1.5 * (secret.scheme == "CRYPT")
        return real(secret, password)

    monkeypatch.setattr(Secret, "is_of", is_of)
    rewrite(users, f"alice:{{PLAIN}}x\nbob:{CRYPT}\n")
    limiter = trio.CapacityLimiter(1)
    file = PasswdFile(users, limiter=limiter, cpu_clock=computed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(can_log_in, file, "alice", "wrong")
        while computed.now == 100.0 or limiter.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        assert await can_log_in(file, "alice", "x")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.4)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        mock_clock.jump(0.2)


@pytest.mark.parametrize("make", [apop, cram])
async def test_a_digest_is_refused_at_once(mixed: Path, checked: list[str], make: type[be.PasswordCredentials]) -> None:
    """H7: it is the same work for every kind of secret, and nothing is timed."""
    file = PasswdFile(mixed)
    for user in ("plain", "hashed", "cram", "scram", "nobody"):
        assert not await proves(file, make(user, "wrong"))
    assert not checked


# --- SCRAM ----------------------------------------------------------------------------------------------------------


async def keys_of(file: PasswdFile, user: str, hash_name: str = "sha256") -> ScramKeys | None:
    return await file.scram_keys(user, hash_name, CLIENT)


async def test_keys_are_stored_or_derived(mixed: Path) -> None:
    """R5802-10."""
    file = PasswdFile(mixed)
    for user, hash_name in (("plain", "sha1"), ("plain", "sha256"), ("scram", "sha256")):
        keys = await keys_of(file, user, hash_name)
        assert keys is not None
        assert keys == derive_scram(b"password", hash_name, keys.salt, keys.iterations)
        assert keys.iterations >= 4096
    for user in ("hashed", "cram", "nobody", ""):
        assert await keys_of(file, user) is None
    assert await keys_of(file, "scram", "sha1") is None
    assert await keys_of(file, "plain", "sha512") is None


@pytest.mark.parametrize(
    ("stored", "salted"),
    [("pass\u00adword", "password"), ("\u2168", "IX"), ("caf\u00e9", "caf\u00e9"), ("\u0007bell", "\u0007bell")],
    ids=["soft hyphen", "roman numeral", "composed", "cannot be prepared"],
)
async def test_keys_are_those_of_the_prepared_password(users: Path, stored: str, salted: str) -> None:
    """R5802-22: clients prepare what they prove, so a password kept as somebody typed it has to be prepared, too."""
    rewrite(users, f"alice:{{PLAIN}}{stored}\n")
    keys = await keys_of(PasswdFile(users), "alice")
    assert keys is not None
    assert keys == derive_scram(salted.encode(), "sha256", keys.salt, keys.iterations)


async def test_the_salt_of_a_user_stays(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who asks twice learns more, also not whether the password has been changed; and users have their own."""
    file = PasswdFile(users)
    alice = await keys_of(file, "alice")
    assert alice is not None
    assert await keys_of(file, "alice") == alice
    rewrite(users, "alice:{PLAIN}another\nbob:{PLAIN}another\n")
    changed, bob = await keys_of(file, "alice"), await keys_of(file, "bob")
    other_hash = await keys_of(file, "alice", "sha1")
    assert changed is not None
    assert bob is not None
    assert other_hash is not None
    assert changed.salt == alice.salt
    assert changed.stored_key != alice.stored_key
    assert len({alice.salt, bob.salt, other_hash.salt}) == 3
    # H7: over a restart and in other processes, too, as a stored salt does; but a name alone does not make a salt.
    monkeypatch.chdir(users.parent)
    assert await keys_of(PasswdFile(users.name), "alice") == changed
    os.replace(users, users.with_name("others"))
    strange = await keys_of(PasswdFile("others"), "alice")
    assert strange is not None
    assert strange.salt != alice.salt


@pytest.mark.parametrize(("secrets", "work"), [(["{PLAIN}x", SCRAM, CRYPT], 1), ([SCRAM, CRYPT], 0)])
async def test_whoever_is_asked_for_costs_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secrets: list[str], work: int
) -> None:
    """H7: keys are made once for every name or for none: counted, not timed."""
    (tmp_path / "users").write_text("".join(f"u{number}:{secret}\n" for number, secret in enumerate(secrets)))
    file = PasswdFile(tmp_path / "users")
    made: list[str] = []

    def counting(password: bytes, hash_name: str, salt: bytes) -> ScramKeys:
        made.append(hash_name)
        return derive_scram(password, hash_name, salt)

    monkeypatch.setattr(passwd_module, "derive_scram", counting)
    for user in ("u0", "u1", "u2", "nobody"):
        made.clear()
        await keys_of(file, user)
        assert made == ["sha256"] * work


async def test_the_queue_for_keys_is_bounded(users: Path) -> None:
    """P4, H9."""
    limiter = trio.CapacityLimiter(1)
    file = PasswdFile(users, limiter=limiter)
    async with trio.open_nursery() as nursery:
        limiter.acquire_on_behalf_of_nowait("a thread that hashes")
        for _ in range(_MOST_WAITING):
            nursery.start_soon(keys_of, file, "alice")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(be.TemporaryFailure):
            await keys_of(file, "alice")
        limiter.release_on_behalf_of("a thread that hashes")


# --- the cache ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The functions that were run in threads."""
    seen: list[object] = []
    real = trio.to_thread.run_sync

    async def counting(work: object, *arguments: object, **options: object) -> object:
        seen.append(work)
        return await real(work, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trio.to_thread, "run_sync", counting)
    return seen


async def test_a_good_login_is_not_hashed_again(users: Path, checked: list[str], hops: list[object]) -> None:
    clock = Clock()
    file = PasswdFile(users, clock=clock)
    for _ in range(3):
        assert await can_log_in(file, "alice", "secret")
    assert (len(checked), len(hops)) == (1, 1)
    clock.now += 59.9
    assert await can_log_in(file, "alice", "secret")
    assert (len(checked), len(hops)) == (1, 1)
    clock.now += 0.1
    assert await can_log_in(file, "alice", "secret")
    assert (len(checked), len(hops)) == (2, 2)


async def test_only_what_was_good_is_remembered(users: Path, checked: list[str]) -> None:
    """H12: of that user, with that password."""
    file = PasswdFile(users)
    assert await can_log_in(file, "alice", "secret")
    for _ in range(2):
        assert not await can_log_in(file, "bob", "secret")
        assert not await can_log_in(file, "alice", "wrong")
    assert len(checked) == 5


async def test_a_changed_password_is_not_remembered(users: Path, checked: list[str], hops: list[object]) -> None:
    """A second later at most; whose line has not changed is not hashed again."""
    clock = Clock()
    file = PasswdFile(users, clock=clock)
    assert await can_log_in(file, "alice", "secret")
    assert await can_log_in(file, "bob", "b o b")
    rewrite(users, "alice:{PLAIN}changed\nbob:{PLAIN}b o b\n")
    clock.now += 1
    assert not await can_log_in(file, "alice", "secret")
    assert (len(checked), len(hops)) == (3, 3)
    assert await can_log_in(file, "bob", "b o b")
    assert (len(checked), len(hops)) == (3, 3)
    rewrite(users, "bob:{PLAIN}b o b\n")
    clock.now += 1
    assert await can_log_in(file, "bob", "b o b")
    assert (len(checked), len(hops)) == (3, 4)
    assert not await can_log_in(file, "alice", "secret")


async def test_the_cache_can_be_off(users: Path, checked: list[str]) -> None:
    file = PasswdFile(users, cache_seconds=0)
    for _ in range(2):
        assert await can_log_in(file, "alice", "secret")
    assert len(checked) == 2


async def test_a_remembered_login_lets_others_run(users: Path) -> None:
    file = PasswdFile(users)
    assert await can_log_in(file, "alice", "secret")
    with trio.testing.assert_checkpoints():
        assert await can_log_in(file, "alice", "secret")
