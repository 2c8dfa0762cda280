"""Who is it: what `authenticate` and the optional powers around it promise."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from trio_pop3 import (
    ApopCredentials,
    AuthenticationFailed,
    BackendError,
    ConnectionHooks,
    CramMd5Credentials,
    Credentials,
    Delegation,
    Expiry,
    LoginDelays,
    PasswordCredentials,
    Policy,
    ScramKeys,
    ScramSecrets,
)
from trio_pop3.sasl import derive_keys

from .trial import Broken, Skipped, Trial, check, shown, together

# A name and a password that nobody has.
NOBODY: Final = "nobody-of-that-name"
_HASHES: Final = {"SCRAM-SHA-1": ("sha1", 20), "SCRAM-SHA-256": ("sha256", 32)}
_TIMESTAMP: Final = "<1896.697170952@dbc.mtview.ca.us>"
# What a client may send for a name or a password: octets that are no UTF-8 arrive as lone surrogates.
_ODD: Final = (
    "\udcff\udcfe",
    "\0",
    "x\0y",
    " ",
    "ü\u0301",
    "\u2168",
    "\U0001f600",
    "x" * 10_000,
    "../..",
    "'--",
    "%s{}",
)


async def _fails(trial: Trial, who: str, credentials: Credentials) -> AuthenticationFailed:
    step = f"authenticate {who}"
    return await trial.refused(AuthenticationFailed, step, trial.authenticate, credentials)


@check()
async def right_password(trial: Trial) -> None:
    """authenticate gives the name of the user whose password it is, the same each time."""
    trial.wants("PLAIN")
    for name in trial.bench.users:
        if await trial.authenticated(name) != await trial.authenticated(name):
            raise Broken(f"{name} is not the same user twice")


@check()
async def wrong_password(trial: Trial) -> None:
    """A password that differs in any way, be it by a blank, raises AuthenticationFailed."""
    trial.wants("PLAIN")
    name, right = trial.name, trial.bench.users[trial.name]
    others = {
        "quite another": secrets.token_hex(8),
        "one character more": right + "x",
        "one character less": right[:-1],
        "a blank behind": right + " ",
        "a blank before": " " + right,
        "a NUL behind": right + "\0",
        "in the other case": right.swapcase(),
        "twice": right + right,
        "the name": name,
    }
    for what, password in others.items():
        if password not in (right, ""):
            await _fails(trial, f"{name}, wrong password: {what}", PasswordCredentials(name, password))


@check()
async def unknown_user(trial: Trial) -> None:
    """A user who does not exist raises AuthenticationFailed, whatever the password."""
    trial.wants("PLAIN")
    right = trial.bench.users[trial.name]
    for name in (NOBODY, f"{trial.name}-", f"{trial.name}\0", f"../{trial.name}", f"{trial.name}/../{trial.name}"):
        await _fails(trial, f"{name!r}, password of {trial.name}", PasswordCredentials(name, right))


@check()
async def empty_password(trial: Trial) -> None:
    """An empty password raises AuthenticationFailed, for a user who exists and for one who does not."""
    trial.wants("PLAIN")
    for name in (*trial.bench.users, NOBODY):
        await _fails(trial, f"{name}, empty password", PasswordCredentials(name, ""))


@check()
async def password_of_another_user(trial: Trial) -> None:
    """A password is good for its own user only."""
    trial.wants("PLAIN")
    for name, other in ((trial.name, trial.second), (trial.second, trial.name)):
        if trial.bench.users[name] == trial.bench.users[other]:
            raise Skipped("the users of the bench have the same password")
        credentials = PasswordCredentials(name, trial.bench.users[other])
        await _fails(trial, f"{name}, password of {other}", credentials)


@check()
async def odd_names_and_passwords(trial: Trial) -> None:
    """Whatever octets a client sends for a name or a password, wrong ones raise AuthenticationFailed."""
    trial.wants("PLAIN")
    for odd in _ODD:
        await _fails(trial, f"{trial.name}, password {odd!a:.20}", PasswordCredentials(trial.name, odd))
        await _fails(trial, f"{odd!a:.20}", PasswordCredentials(odd, secrets.token_hex(8)))


@check()
async def failures_look_alike(trial: Trial) -> None:
    """AuthenticationFailed is the same, in type and text, for an unknown user and for a wrong password."""
    trial.wants("PLAIN")
    seen: set[tuple[str, str]] = set()
    for name, who in ((trial.name, "wrong password"), (NOBODY, "unknown user")):
        failure = await _fails(trial, f"{name}, {who}", PasswordCredentials(name, secrets.token_hex(8)))
        seen.add((type(failure).__qualname__, str(failure).replace(name, "NAME")))
    if len(seen) > 1:
        raise Broken(f"they can be told apart: {sorted(seen)}")


@check()
async def failures_keep_the_secret(trial: Trial) -> None:
    """No exception of authenticate, nor one behind it, quotes the password that was tried."""
    trial.wants("PLAIN")
    for name in (trial.name, NOBODY):
        password = secrets.token_hex(16)
        failure: BaseException | None = await _fails(
            trial, f"{name}, wrong password", PasswordCredentials(name, password)
        )
        while failure is not None:
            if any(password in text for text in (str(failure), repr(failure), repr(vars(failure)))):
                raise Broken(f"{type(failure).__name__} has the password in its text")
            failure = failure.__cause__ or failure.__context__


@check()
async def logins_at_once(trial: Trial) -> None:
    """Logins at the same time get each their own answer."""
    trial.wants("PLAIN")
    expected = {name: await trial.user(name) for name in trial.bench.users}
    wrong: list[str] = []

    async def right(name: str, user: str) -> None:
        if await trial.authenticated(name) != user:
            wrong.append(f"{name} became somebody else")

    async def failing(name: str) -> None:
        await _fails(trial, f"{name}, wrong password", PasswordCredentials(name, secrets.token_hex(8)))

    await together(
        *[partial(right, name, user) for name, user in expected.items() for _ in range(3)],
        *[partial(failing, name) for name in (*expected, NOBODY)],
    )
    if wrong:
        raise Broken(", ".join(wrong))


@check()
async def apop(trial: Trial) -> None:
    """The digest of APOP made with the right password gives the user's name; any other raises AuthenticationFailed."""
    trial.wants("APOP")

    def credentials(name: str, secret: str) -> Credentials:
        digest = hashlib.md5((_TIMESTAMP + secret).encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
        return ApopCredentials(name, _TIMESTAMP, digest)

    await _by_digest(trial, "APOP", credentials)


@check()
async def cram_md5(trial: Trial) -> None:
    """The digest of CRAM-MD5 made with the right password gives the user's name; any other raises
    AuthenticationFailed.
    """
    trial.wants("CRAM-MD5")
    challenge = _TIMESTAMP.encode()

    def credentials(name: str, secret: str) -> Credentials:
        return CramMd5Credentials(
            name, challenge, hmac.digest(secret.encode("utf-8", "surrogateescape"), challenge, "md5")
        )

    await _by_digest(trial, "CRAM-MD5", credentials)


async def _by_digest(trial: Trial, method: str, credentials: Callable[[str, str], Credentials]) -> None:
    name = trial.name
    right = credentials(name, trial.bench.users[name])
    user = await trial.do(f"authenticate {name} by {method}", trial.authenticate, right)
    if user != await trial.user(name):
        raise Broken(f"{method} made another user of {name}: {user!r:.80}")
    await _fails(trial, f"{name} by {method}, wrong secret", credentials(name, secrets.token_hex(8)))
    for unknown in (NOBODY, name):
        await _fails(trial, f"{unknown} by {method}, empty secret", credentials(unknown, ""))


@check()
async def login_methods(trial: Trial) -> None:
    """login_methods is a collection of names, and whoever names SCRAM has scram_keys."""
    methods: object = getattr(trial.backend, "login_methods", None)
    if methods is None:
        raise Skipped("the backend has no login_methods")
    if isinstance(methods, str) or not isinstance(methods, Collection):
        raise Broken(f"login_methods is {type(methods).__name__}, not a collection of names")
    if wrong := [method for method in methods if not isinstance(method, str) or not method]:
        raise Broken(f"login_methods has {wrong[0]!r:.80} in it")
    if any(method in _HASHES for method in methods) and not isinstance(trial.backend, ScramSecrets):
        raise Broken("login_methods has SCRAM, and the backend has no scram_keys")


@check()
async def scram_keys(trial: Trial) -> None:
    """scram_keys gives the keys of a user's password, with the same salt each time, and None for a user who does not
    exist.
    """
    backend = trial.backend
    hashes = [_HASHES[method] for method in sorted(trial.methods & set(_HASHES))]
    if not isinstance(backend, ScramSecrets) or not hashes:
        raise Skipped("the backend does not offer SCRAM")
    for hash_name, octets in hashes:
        for name, password in trial.bench.users.items():
            step = f"scram_keys of {name}, {hash_name}"
            first, again = [await trial.do(step, backend.scram_keys, name, hash_name, trial.client()) for _ in range(2)]
            if first != again:
                raise Broken(f"{step} are not the same twice")
            if first is not None:
                _check_keys(step, first, password, hash_name, octets)
        unknown = f"scram_keys of {NOBODY}, {hash_name}"
        if await trial.do(unknown, backend.scram_keys, NOBODY, hash_name, trial.client()) is not None:
            raise Broken(f"{unknown} are not None")


def _check_keys(step: str, keys: object, password: str, hash_name: str, octets: int) -> None:
    if not isinstance(keys, ScramKeys):
        raise Broken(f"{step} are {type(keys).__name__}, neither ScramKeys nor None")
    if not keys.salt or keys.iterations < 4096 or {len(keys.stored_key), len(keys.server_key)} != {octets}:
        raise Broken(f"{step} have no salt, less than 4096 iterations, or keys of another length than {octets} octets")
    try:
        right = derive_keys(password, keys.salt, keys.iterations, hash_name)
    except ValueError:
        return  # a password that cannot be prepared has none
    if keys != right:
        raise Broken(f"{step} are not those of the password")


@check()
async def delegation(trial: Trial) -> None:
    """authorize gives the name of a user, or raises AuthenticationFailed; it does so for a user who does not exist."""
    backend = trial.backend
    if not isinstance(backend, Delegation):
        raise Skipped("the backend has no authorize")
    user = await trial.user(trial.name)
    for other in trial.bench.users:
        step = f"authorize {user} for {other}"
        try:
            allowed: object = await trial.do(step, backend.authorize, user, other, trial.client())
        except AuthenticationFailed:
            continue
        if not isinstance(allowed, str) or not allowed:
            raise Broken(f"{step} gave {allowed!r:.80}, which is no name of a user")
    step = f"authorize {user} for {NOBODY}"
    await trial.refused(AuthenticationFailed, step, backend.authorize, user, NOBODY, trial.client())


@check()
async def login_delay(trial: Trial) -> None:
    """login_delay gives a Policy with seconds from 0 up, for no user the most of any."""
    backend = trial.backend
    if not isinstance(backend, LoginDelays):
        raise Skipped("the backend has no login_delay")
    for_all, *for_each = await _policies(trial, "login_delay", backend.login_delay)
    if any((policy.value or 0) > (for_all.value or 0) for policy in for_each):
        raise Broken(f"somebody waits longer than {for_all.value} seconds, which was the most")


@check()
async def expiry(trial: Trial) -> None:
    """expiry gives a Policy with days from 0 up, or None for ever, for no user the least of any."""
    backend = trial.backend
    if not isinstance(backend, Expiry):
        raise Skipped("the backend has no expiry")
    for_all, *for_each = await _policies(trial, "expiry", backend.expiry)
    ever = float("inf")
    least = ever if for_all.value is None else for_all.value
    if any((ever if policy.value is None else policy.value) < least for policy in for_each):
        raise Broken("somebody's mail is kept for less than the least")


async def _policies(trial: Trial, step: str, ask: Callable[[str | None], Awaitable[object]]) -> list[Policy]:
    """What is said for nobody in particular, and for each user."""
    said: list[Policy] = []
    for user in (None, *[await trial.user(name) for name in trial.bench.users]):
        policy = await trial.do(f"{step} of {user}", ask, user)
        if not isinstance(policy, Policy):
            raise Broken(f"{step} of {user} is {type(policy).__name__}, not a Policy")
        if policy.value is not None and (type(policy.value) is not int or policy.value < 0):
            raise Broken(f"{step} of {user} is {policy.value!r:.80}")
        said.append(policy)
    return said


@check()
async def connections(trial: Trial) -> None:
    """connect returns or raises a BackendError, and disconnect follows each without a failure, in any order."""
    backend = trial.backend
    if not isinstance(backend, ConnectionHooks):
        raise Skipped("the backend has no connect and disconnect")
    clients = [trial.client() for _ in range(3)]
    for client in clients:
        try:
            await trial.do(f"connect {client.session}", backend.connect, client)
        except BackendError as refusal:
            trial.steps.append(f"refused: {shown(refusal)}")
    for client in (clients[1], clients[0], clients[2]):
        step = f"disconnect {client.session}"
        await trial.do(step, backend.disconnect, client, "quit", shield=True)
