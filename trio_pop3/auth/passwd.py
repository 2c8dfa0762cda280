"""Users in a file of Dovecot passwd-file lines: `name:{SCHEME}secret[:anything]`."""

from __future__ import annotations

import functools
import hmac
import itertools
import logging
import os
import random
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import trio

from ..backend import AuthenticationFailed, ClientInfo, TemporaryFailure
from ..credentials import ApopCredentials, CramMd5Credentials, Credentials, PasswordCredentials, ScramKeys
from ..keys import lasting_key
from ..sasl.saslprep import saslprep
from .cache import GoodLogins
from .kdf import SCRAM_SCHEMES, derive_scram
from .schemes import HASHERS, SCHEMES, BadSecret, Secret, parse_secret
from .threads import Checkers, processors_to_spare

logger = logging.getLogger("trio_pop3.auth")

# Logins that wait for a thread to hash in; more are told to come back. At 60 ms a hash this is a few seconds.
_MOST_WAITING: Final = 64
# The event loop may look at the file as often as this; threads look at it whenever they check somebody.
_SECONDS_BETWEEN_LOOKS: Final = 1.0
_SALT_OCTETS: Final = 16
# A file that was written in place may be half-written as long as its last change is not older than this.
_SETTLES_NANOSECONDS: Final = 1_000_000_000
# What a refusal waits at most so that it comes as late as the others do.
_MOST_PADDING: Final = 2.0
# Loops wait for whole milliseconds, rounded up. A chance of less than one makes what is rounded the same on average.
_GRAIN: Final = 0.001
_CHANCE: Final = random.SystemRandom()
# So many kinds of secrets are timed when a file is new; more are timed when somebody of that kind is refused.
_MOST_TIMED: Final = 16

# What stands before the salt in a secret that says how much work it is, by scheme.
_LOCKED: Final = b"!"
_CRYPT: Final = re.compile(rb"[!*]|_.{4}|\$7\$.{11}|\$[56]\$rounds=[0-9]+\$|\$(?:2[abxy]|sha1|g?y)\$[^$]*\$|\$[^$]*\$|")
_ARGON2: Final = re.compile(rb"\$[^$]*\$[^$]*\$[^$]*\$")
_SCRAM: Final = re.compile(rb"[0-9]+")
_WORK: Final[Mapping[str, re.Pattern[bytes]]] = MappingProxyType(
    {
        **{name: _CRYPT for name, scheme in SCHEMES.items() if scheme is SCHEMES["CRYPT"]},
        "SCRYPT": re.compile(rb"\$scrypt\$[^$]*\$"),
        "ARGON2I": _ARGON2,
        "ARGON2ID": _ARGON2,
        "PBKDF2": re.compile(rb"(?<=\$)[0-9]+(?=\$[^$]*\Z)"),  # stands behind it
        **dict.fromkeys(SCRAM_SCHEMES.values(), _SCRAM),
    }
)


# Secrets of one kind take the same time to check: scheme, and what stands before the salt.
Kind = tuple[str, bytes]


class PasswdFileError(Exception):
    """A users file that cannot be used: one sentence with path and line, without any secret."""


class _Version(NamedTuple):
    """What changes when a file does."""

    modified: int
    octets: int
    inode: int
    mode: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What one version of the file says."""

    users: Mapping[str, Secret]
    kinds: Mapping[Kind, Secret]  # one of each; those that are much work come first
    nobody: Secret  # checked in place of an unknown user's
    methods: frozenset[str]
    derives: bool  # some SCRAM keys are made of a password when they are asked for


class _Verdict(NamedTuple):
    """Whose secret was proved, or how many seconds a refusal has still to wait."""

    secret: Secret | None
    missing: float = 0.0


class _Costs:
    """The most that a check of each kind of secret has taken, in seconds of a processor. Used in threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._seen: Final[dict[Kind, float]] = {}

    def check(self, secret: Secret, password: bytes) -> tuple[bool, float]:
        """Whether it is that password's, and what it took to know."""
        began = self._clock()
        good = secret.is_of(password)
        return good, self._clock() - began

    def missing(self, secret: Secret, took: float, kinds: Mapping[Kind, Secret]) -> float:
        """How much sooner this check was done than one of the slowest kind in the file would have been."""
        with self._lock:
            self._note(kind_of(secret), took)
            for kind, one in itertools.islice(kinds.items(), _MOST_TIMED):
                if kind not in self._seen:
                    self._note(kind, self.check(one, b"a password of usual length")[1])
            slowest = max(self._seen.get(kind, 0.0) for kind in kinds)
        return max(0.0, min(slowest, _MOST_PADDING) - took) + _GRAIN * _CHANCE.random()

    def _note(self, kind: Kind, took: float) -> None:
        self._seen[kind] = max(took, self._seen.get(kind, 0.0))


def kind_of(secret: Secret) -> Kind:
    """What says how long a check takes: for crypt(3) the algorithm and its rounds, for a locked account a "!"."""
    pattern = _WORK.get(secret.scheme)
    if pattern is None:
        return secret.scheme, b""
    match = pattern.search(secret.octets)
    work = match[0] if match else b""
    if pattern is _CRYPT:
        return "CRYPT", _LOCKED if work == b"*" else work
    return secret.scheme, work


def parse_users(text: str, path: str) -> dict[str, Secret]:
    """The users in a passwd-file. Blank lines and lines that begin with # are skipped. Raises PasswdFileError."""
    users: dict[str, Secret] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        try:
            # A brace begins a password whose name was forgotten, and a name may be shown.
            if not colon or not name or name != name.strip() or name.startswith("{"):
                raise BadSecret("expected name:{SCHEME}secret")
            if name in users:
                raise BadSecret(f"user {name} is there already")
            users[name] = parse_secret(rest.partition(":")[0])
        except BadSecret as failure:
            raise PasswdFileError(f"{path}: line {number}: {failure}") from None
    return users


class PasswdFile:
    """An authenticator over a users file, read again whenever it changes.

    A new version that cannot be read or parsed, or whose last line has no end, is refused with a log line, and the
    users of the old one stay. So they do while the file is being written: what was put in its place by a rename, as
    `trio-pop3 user` does, counts at once; what was written in place counts when it is a second old.

    Hashing runs in as many threads as there are processors but one; what more wait is bounded. A password that was good
    is not hashed again for a while, unless what is stored for the user has changed. Every wrong password is refused
    after the time that the slowest kind of secret in the file takes (2 seconds at most), whoever it was tried for.

    Users whose password is stored as it is are shown a SCRAM salt that is made of their name and of a key which lasts
    (`trio_pop3.keys.lasting_key`): a salt that changed with each start would tell them from those whose salt is stored.
    On another machine, or with the file at another path, it is another.

    Args:
        path: the file. It is read at once: raises PasswdFileError if it cannot be used.
        limiter: for the threads that hash.
        cache_seconds: how long a good password is remembered, as a keyed hash; 0 for not at all.
        clock: seconds that never go back.
        cpu_clock: seconds that the thread which asks has computed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limiter: trio.CapacityLimiter | None = None,
        cache_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._path: Final = os.fspath(path)
        self._checkers: Final = Checkers(limiter or trio.CapacityLimiter(processors_to_spare()), _MOST_WAITING)
        self._good: Final = GoodLogins(cache_seconds, clock=clock)
        self._costs: Final = _Costs(cpu_clock)
        self._salt_key: Final = lasting_key(f"salts of {os.path.abspath(self._path)}")
        self._clock: Final = clock
        self._look_again = clock() + _SECONDS_BETWEEN_LOOKS
        self._reading: Final = threading.Lock()
        self._complaint: str | None = None
        self._seen = self._version = self._look()  # as of the last look; as of the last reading
        self._inode = None if self._version is None else self._version.inode
        try:
            self._known = self._read(again=False)
        except OSError as failure:
            raise PasswdFileError(f"{self._path}: {failure.strerror}") from None

    def __repr__(self) -> str:
        return f"PasswdFile({self._path!r})"

    @property
    def users(self) -> tuple[str, ...]:
        """The names, in file order, as of the last time the file was looked at."""
        return tuple(self._known.users)

    def knows(self, user: str) -> bool:
        """Whether there is such a user, as of the last time the file was read."""
        return user in self._known.users

    def look_up(self, user: str) -> bool:
        """Whether there is such a user now, for whoever has mail for somebody. Blocking: it reads what has changed.

        Raises TemporaryFailure if there is none in a file that is empty, cannot be read, or is being written: nobody's
        mail is to be sent back over that.
        """
        self._refresh()
        if self.knows(user):
            return True
        if not self._known.users or self._complaint or self._seen is None or self._seen != self._version:
            logger.error("no user %a in %s, and the file is not to be trusted now", user, self._path)
            raise TemporaryFailure("the users cannot be looked up now")
        return False

    @property
    def login_methods(self) -> frozenset[str]:
        """What the users' secrets allowed when the file was last read, as in `LoginMethods`. Logins read it."""
        return self._known.methods

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The user's name, for a password, APOP or CRAM-MD5.

        Raises AuthenticationFailed; TemporaryFailure if too many others wait to be checked, or if the file is empty:
        that is what it looks like while somebody rewrites it, and clients must not forget their passwords over it.
        """
        if not isinstance(credentials, PasswordCredentials | ApopCredentials | CramMd5Credentials):
            raise AuthenticationFailed
        if not self._outdated() and self._remembered(credentials, self._known.users.get(credentials.user)):
            await trio.lowlevel.checkpoint()
            return credentials.user
        verdict = await self._checkers.run(self._check, credentials)
        if verdict.secret is None:
            await trio.sleep(verdict.missing)
            raise AuthenticationFailed
        self._good.remember(credentials, verdict.secret.mark)
        return credentials.user

    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        """The keys of a user for "sha1" or "sha256", stored or made of a stored password; None if there are none.

        Raises TemporaryFailure if too many others wait to be checked.
        """
        if hash_name not in SCRAM_SCHEMES:
            return None
        return await self._checkers.run(self._keys, user, hash_name)

    # --- the file ----------------------------------------------------------------------------------------------------

    def _look(self) -> _Version | None:
        """None if there is nothing to be seen."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return _Version(status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)

    def _outdated(self) -> bool:
        """Whether the file has changed. Called in the event loop, so it looks but now and then."""
        now = self._clock()
        if now >= self._look_again:
            self._look_again = now + _SECONDS_BETWEEN_LOOKS
            self._seen = self._look()
        return self._seen != self._version

    def _in_the_making(self, version: _Version) -> bool:
        """Whether the file was written in place a moment ago. The time of another machine, far ahead, says nothing.

        A new file may have the inode of one that was removed meanwhile: it counts a second later, then.
        """
        return version.inode == self._inode and abs(time.time_ns() - version.modified) < _SETTLES_NANOSECONDS

    def _read(self, *, again: bool) -> _Known:
        # Never waits for somebody to write into a FIFO.
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, encoding="utf-8", errors="surrogateescape") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise PasswdFileError(f"{self._path}: not a regular file")
            text = file.read()
            if again and text and not text.endswith("\n"):
                raise PasswdFileError(f"{self._path}: the last line has no end, so more may follow")
            users = parse_users(text, self._path)
        if mode & stat.S_IRWXO:
            logger.warning("%s can be read by every user of this machine: chmod 600", self._path)
        return _known(users)

    def _refresh(self) -> None:
        """Read the file if it has changed. Called in threads."""
        with self._reading:
            self._seen = version = self._look()
            if version is not None and (version == self._version or self._in_the_making(version)):
                return
            try:
                known: _Known | PasswdFileError = self._read(again=True)
            except OSError as failure:
                self._version = None  # not for ever, perhaps: tried again the next time
                self._complain(f"{self._path}: {failure.strerror}")
                return
            except PasswdFileError as failure:
                known = failure
            if version is None or self._look() != version:
                return  # somebody is at it: tried again the next time
            self._version = version
            self._inode = version.inode
            if isinstance(known, PasswdFileError):
                self._complain(str(known))
            else:
                self._known = known
                self._complaint = None
                logger.info("%s: read again, %d users", self._path, len(known.users))

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("the users known so far stay: %s", complaint)

    # --- the checks, in threads --------------------------------------------------------------------------------------

    def _remembered(self, credentials: Credentials, secret: Secret | None) -> bool:
        return secret is not None and self._good.knows(credentials, secret.mark)

    def _check(self, credentials: PasswordCredentials | ApopCredentials | CramMd5Credentials) -> _Verdict:
        """The user's secret if the credentials prove it."""
        self._refresh()
        known = self._known
        if not known.users:
            raise TemporaryFailure("nobody can log in now, try again later")
        secret = known.users.get(credentials.user)
        if self._remembered(credentials, secret):
            return _Verdict(secret)
        stored = secret or known.nobody
        if not isinstance(credentials, PasswordCredentials):
            # The same work for all kinds of secrets.
            return _Verdict(secret if stored.answers(credentials) else None)
        good, took = self._costs.check(stored, credentials.octets)
        if good and secret is not None:
            return _Verdict(secret)
        return _Verdict(None, self._costs.missing(stored, took, known.kinds))

    def _keys(self, user: str, hash_name: str) -> ScramKeys | None:
        """Where keys are made of anybody's password, some are made for every name: they take the same time."""
        self._refresh()
        known = self._known
        secret = known.users.get(user)
        password = None if secret is None else secret.cleartext
        derived = self._derived(user, hash_name, password or "") if known.derives else None
        if secret is None:
            return None
        return secret.scram_keys(hash_name) if password is None else derived

    def _derived(self, user: str, hash_name: str, password: str) -> ScramKeys:
        octets = f"{hash_name}:{user}".encode("utf-8", "surrogateescape")
        salt = hmac.digest(self._salt_key, octets, "sha256")[:_SALT_OCTETS]
        return derive_scram(_as_proved(password).encode("utf-8", "surrogateescape"), hash_name, salt)


def _as_proved(password: str) -> str:
    """What clients make their proof of (RFC 5802 section 2.2); what cannot be prepared, most of them take as it is."""
    try:
        return saslprep(password, stored=False)
    except ValueError:
        return password


def _known(users: Mapping[str, Secret]) -> _Known:
    # An unknown user's check is that of most users; what others take longer, or less long, is made up for by waiting.
    counted = Counter(map(kind_of, users.values()))
    of_each = {kind_of(secret): secret for secret in users.values()}
    kinds = {kind: of_each[kind] for kind in sorted(of_each, key=lambda kind: not kind[1])}
    # A locked account is no measure: it is checked in no time.
    usual = max(counted, key=lambda kind: (kind[1] != _LOCKED, counted[kind]), default=None)
    return _Known(
        users,
        kinds,
        _somebody() if usual is None else kinds[usual],
        # Every kind of secret can be checked against a password.
        frozenset({"PLAIN"}).union(*(secret.methods for secret in kinds.values())),
        any(secret.cleartext is not None for secret in kinds.values()),
    )


@functools.cache
def _somebody() -> Secret:
    """A secret of nobody, for a file without users."""
    return parse_secret(HASHERS["SCRYPT"](os.urandom(16).hex().encode()))
