"""PAM as an authenticator: Linux-PAM itself under pam_wrapper, and what cannot be provoked there with a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_pop3.auth import Pam
from trio_pop3.backend import AuthenticationFailed, ClientInfo, Credentials, PasswordCredentials, TemporaryFailure

CLIENT = ClientInfo("test", "127.0.0.1", 4711, loopback=True)
PROGRAM = Path(__file__).with_name("pam_logins.py")

# --- Linux-PAM ------------------------------------------------------------------------------------------------------


def matrix() -> str:
    """The module that reads its users from a file. Needs libpam-wrapper; a test that finds it missing fails."""
    found = [
        path
        for folder in ("lib", "lib64", "lib/*")
        for path in Path("/usr").glob(f"{folder}/pam_wrapper/pam_matrix.so")
    ]
    assert found, "apt-get install libpam-wrapper"
    return str(found[0])


SERVICES = {
    # what pam_debug answers is what a module of that kind would
    "expired": "auth required pam_permit.so\naccount required pam_debug.so acct=acct_expired\n",
    "stale": "auth required pam_permit.so\naccount required pam_debug.so acct=new_authtok_reqd\n",
    "refused": "auth required pam_permit.so\naccount required pam_debug.so acct=perm_denied\n",
    "tried": "auth required pam_debug.so auth=maxtries\naccount required pam_permit.so\n",
    "unknown": "auth required pam_debug.so auth=user_unknown\naccount required pam_permit.so\n",
    "away": "auth required pam_debug.so auth=authinfo_unavail\naccount required pam_permit.so\n",
    "broken": "auth required pam_debug.so auth=system_err\naccount required pam_permit.so\n",
    "brokenaccount": "auth required pam_permit.so\naccount required pam_debug.so acct=system_err\n",
}


@pytest.fixture
def pam_d(tmp_path: Path) -> Path:
    """A folder in place of /etc/pam.d."""
    users = tmp_path / "users"
    users.write_text("alice:secret:pop3\nbob:hunter2:sshd\ncaf\u00e9:na\u00efve:pop3\n")
    folder = tmp_path / "pam.d"
    folder.mkdir()
    rows = [f"{kind} required {matrix()} passdb={users}\n" for kind in ("auth", "account")]
    for name, text in {**SERVICES, "pop3": "".join(rows)}.items():
        (folder / name).write_text(text)
    return folder


def log_in(pam_d: Path, *logins: tuple[str, str, str]) -> tuple[list[str], str]:
    """The outcome of each login, and the log."""
    environment = {
        **os.environ,
        "LD_PRELOAD": "libpam_wrapper.so",
        "PAM_WRAPPER": "1",
        "PAM_WRAPPER_SERVICE_DIR": str(pam_d),
    }
    command = [sys.executable, str(PROGRAM)]
    done = subprocess.run(
        command, input=json.dumps(logins), env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    outcomes: list[str] = json.loads(done.stdout.splitlines()[-1])
    return outcomes, done.stderr


def test_people_of_linux_pam(pam_d: Path) -> None:
    """ECOSYSTEM e, H7: password and account, in parallel; whoever fails, fails alike."""
    logins = {
        ("pop3", "alice", "secret"): "alice",
        ("pop3", "caf\u00e9", "na\u00efve"): "caf\u00e9",
        ("pop3", "alice", "wrong"): "AuthenticationFailed",
        ("pop3", "nobody", "secret"): "AuthenticationFailed",
        ("pop3", "bob", "hunter2"): "AuthenticationFailed",  # of another service
    }
    outcomes, log = log_in(pam_d, *[login for login in logins for _ in range(4)])
    assert outcomes == [outcome for outcome in logins.values() for _ in range(4)]
    assert "hunter2" not in log


@pytest.mark.parametrize("service", ["expired", "stale", "refused", "tried", "unknown"])
def test_accounts_that_may_not(pam_d: Path, service: str) -> None:
    """H7, H9: about the user."""
    assert log_in(pam_d, (service, "alice", "secret"))[0] == ["AuthenticationFailed"]


@pytest.mark.parametrize("service", ["away", "broken", "brokenaccount", "missing"])
def test_pam_out_of_order(pam_d: Path, service: str) -> None:
    """H9, H8: about the system; logged, without the password."""
    outcomes, log = log_in(pam_d, (service, "alice", "secret"))
    assert outcomes == ["TemporaryFailure"]
    assert f"PAM service {service}: " in log
    assert "secret" not in log


# --- a stand-in -----------------------------------------------------------------------------------------------------


class Conversation:
    """What python-pam's PamAuthenticator is to us."""

    asked: list[tuple[str, bytes, bytes]] = []  # noqa: RUF012
    answer = 0
    held: threading.Event | None = None

    def __init__(self) -> None:
        self.code = -1
        self.reason: object = None

    def authenticate(self, username: bytes, password: bytes, service: str, resetcreds: bool) -> bool:
        assert not resetcreds
        assert self.code == -1, "an object for each call"
        Conversation.asked.append((service, username, password))
        if Conversation.held is not None:
            Conversation.held.wait(10)
        self.code, self.reason = Conversation.answer, "as told"
        return not self.code


@pytest.fixture
def conversation(monkeypatch: pytest.MonkeyPatch) -> type[Conversation]:
    stand_in = types.ModuleType("pam")
    stand_in.PamAuthenticator = Conversation  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pam", stand_in)
    Conversation.asked, Conversation.answer, Conversation.held = [], 0, None
    return Conversation


async def can_log_in(pam: Pam, user: str = "alice", password: str = "secret") -> bool:
    try:
        return await pam.authenticate(PasswordCredentials(user, password), CLIENT) == user
    except AuthenticationFailed:
        return False


@pytest.mark.parametrize("code", range(40))
async def test_every_return_value(
    conversation: type[Conversation], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """H9: what speaks of the user is [AUTH], what speaks of the system is [SYS/TEMP]."""
    conversation.answer = code
    pam = Pam()
    if code == 0:
        assert await can_log_in(pam)
    elif code in {6, 7, 10, 11, 12, 13, 16, 27}:
        assert not await can_log_in(pam)
        assert not caplog.records
    else:
        with pytest.raises(TemporaryFailure):
            await can_log_in(pam)
        assert f"as told ({code})" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("ali\0ce", "secret"),
        ("alice", "secret\0junk"),  # a C string ends at the NUL, and "secret" is right
        ("alice", ""),
        ("", "secret"),
        ("x" * 256, "secret"),
        ("\u00e9" * 128, "secret"),
        ("alice", "x" * 512),
    ],
)
async def test_what_pam_is_not_asked(conversation: type[Conversation], user: str, password: str) -> None:
    """H6, H11."""
    assert not await can_log_in(Pam(), user, password)
    assert not conversation.asked


async def test_octets_reach_pam_as_they_came(conversation: type[Conversation]) -> None:
    assert await can_log_in(Pam("imap"), "\udcff" * 255, "caf\u00e9\udcfe" * 85)
    assert conversation.asked == [("imap", b"\xff" * 255, b"caf\xc3\xa9\xfe" * 85)]


async def test_other_credentials_fail(conversation: type[Conversation]) -> None:
    with pytest.raises(AuthenticationFailed):
        await Pam().authenticate(Credentials("alice"), CLIENT)
    assert not conversation.asked


async def test_a_good_login_is_remembered_for_a_while(conversation: type[Conversation]) -> None:
    """H12: of that user, with that password."""
    now = [0.0]
    pam = Pam(clock=lambda: now[0])
    for _ in range(3):
        assert await can_log_in(pam)
    assert len(conversation.asked) == 1
    with trio.testing.assert_checkpoints():
        assert await can_log_in(pam)
    now[0] = 60.0
    assert await can_log_in(pam)
    assert len(conversation.asked) == 2
    conversation.answer = 7
    for _ in range(2):
        assert not await can_log_in(pam, "bob")
        assert not await can_log_in(pam, "alice", "wrong")
    assert len(conversation.asked) == 6
    assert await can_log_in(pam)
    now[0] = 120.0
    assert not await can_log_in(pam)


async def test_the_memory_can_be_off(conversation: type[Conversation]) -> None:
    pam = Pam(cache_seconds=0)
    for _ in range(2):
        assert await can_log_in(pam)
    assert len(conversation.asked) == 2


async def test_the_queue_is_bounded(conversation: type[Conversation]) -> None:
    """P4, H9: PAM takes its time, and nobody may wait for ever."""
    limiter = trio.CapacityLimiter(1)
    pam = Pam(limiter=limiter, most_waiting=2)
    async with trio.open_nursery() as nursery:
        limiter.acquire_on_behalf_of_nowait("somebody")
        for _ in range(2):
            nursery.start_soon(can_log_in, pam)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TemporaryFailure):
            await can_log_in(pam)
        limiter.release_on_behalf_of("somebody")


async def test_who_hangs_up_does_not_wait_for_pam(conversation: type[Conversation]) -> None:
    """And does not make room for another one that hangs, either."""
    conversation.held = threading.Event()
    limiter = trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(can_log_in, Pam(limiter=limiter))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert limiter.borrowed_tokens == 1
    conversation.held.set()
    async with limiter:
        pass


# --- setting it up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", "../shadow", "a\0b", "a\nb"])
def test_names_that_are_none(conversation: type[Conversation], service: str) -> None:
    with pytest.raises(ValueError, match="not the name of a PAM service"):
        Pam(service)


def test_without_the_extra_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pam", None)
    with pytest.raises(ImportError, match=r"trio-pop3\[pam\]"):
        Pam()


@pytest.mark.parametrize("failure", [OSError("no libpam.so.0"), AttributeError("pam_start")])
def test_without_pam(conversation: type[Conversation], monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def missing(self: Conversation) -> None:
        raise failure

    monkeypatch.setattr(Conversation, "__init__", missing)
    with pytest.raises(ImportError, match="PAM is not on this system"):
        Pam()


def test_its_repr(conversation: type[Conversation]) -> None:
    assert repr(Pam()) == "Pam('pop3')"
