"""Faults in logins: what `authenticate` and the optional powers say."""

from __future__ import annotations

import secrets

import trio

from trio_pop3 import (
    ApopCredentials,
    AuthenticationFailed,
    ClientInfo,
    CramMd5Credentials,
    Credentials,
    PasswordCredentials,
    Policy,
    ScramKeys,
)
from trio_pop3.sasl import derive_keys

from ..backends import Process
from .table import fails


@fails("right_password", "logins_at_once", "maildrops_are_apart", "login_delay", "expiry")
class BobIsNobody(Process):
    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        user = await super().authenticate(credentials, client)
        return "" if user == "bob" else user


@fails("wrong_password")
class PasswordsAreStripped(Process):
    def is_password(self, user: str, password: str) -> bool:
        return super().is_password(user, password.strip(" "))


@fails("wrong_password")
class PasswordsHaveNoCase(Process):
    def is_password(self, user: str, password: str) -> bool:
        return super().is_password(user, password.lower())


@fails("unknown_user")
class NamesAreCut(Process):
    def good(self, credentials: Credentials) -> bool:
        if isinstance(credentials, PasswordCredentials):
            name = credentials.user.partition("\0")[0]
            return self.disk.passwords.get(name) == credentials.password
        return super().good(credentials)


@fails("empty_password")
class NobodyHasAnEmptyPassword(Process):
    def good(self, credentials: Credentials) -> bool:
        if isinstance(credentials, PasswordCredentials):
            return self.disk.passwords.get(credentials.user, "") == credentials.password
        return super().good(credentials)


@fails("password_of_another_user")
class AnyPasswordOfAnybody(Process):
    def is_password(self, user: str, password: str) -> bool:
        return password in self.disk.passwords.values()


@fails("odd_names_and_passwords")
class PasswordsAreUtf8(Process):
    def is_password(self, user: str, password: str) -> bool:
        return self.disk.passwords[user].encode() == password.encode()


@fails("failures_look_alike")
class SaysWhoIsUnknown(Process):
    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        if credentials.user not in self.disk.passwords:
            raise AuthenticationFailed(f"there is no {credentials.user}")
        return await super().authenticate(credentials, client)


@fails("failures_keep_the_secret")
class QuotesThePassword(Process):
    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        try:
            return await super().authenticate(credentials, client)
        except AuthenticationFailed:
            raise AuthenticationFailed from ValueError(getattr(credentials, "password", ""))


@fails("logins_at_once")
class OneLoginAtATime(Process):
    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        self.current = credentials
        await trio.lowlevel.checkpoint()
        return await super().authenticate(self.current, client)


class NobodyHasAnEmptySecret(Process):
    kind: type[Credentials]

    def good(self, credentials: Credentials) -> bool:
        if isinstance(credentials, self.kind):
            return credentials.matches(self.disk.passwords.get(credentials.user, ""))  # type: ignore[attr-defined, no-any-return]
        return super().good(credentials)


@fails("apop")
class ApopForNobody(NobodyHasAnEmptySecret):
    kind = ApopCredentials


@fails("cram_md5")
class CramMd5ForNobody(NobodyHasAnEmptySecret):
    kind = CramMd5Credentials


@fails("login_methods")
class MethodsAreOneText(Process):
    login_methods = "PLAIN APOP"


@fails("login_methods")
class ScramWithoutKeys(Process):
    scram_keys = None  # type: ignore[assignment]


@fails("scram_keys")
class AnotherSaltEachTime(Process):
    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        if await super().scram_keys(user, hash_name, client) is None:
            return None
        return derive_keys(self.disk.passwords[user], secrets.token_bytes(16), 4096, hash_name)


@fails("scram_keys")
class KeysForNobody(Process):
    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        return derive_keys(self.disk.passwords.get(user, "x"), user.encode().ljust(16), 4096, hash_name)


@fails("scram_keys")
class KeysOfAnotherPassword(Process):
    async def scram_keys(self, user: str, hash_name: str, client: ClientInfo) -> ScramKeys | None:
        return derive_keys("x", bytes(16), 4096, hash_name) if user in self.disk.passwords else None


@fails("delegation")
class EverybodyForEverybody(Process):
    async def authorize(self, user: str, authzid: str, client: ClientInfo) -> str:
        return authzid


@fails("login_delay")
class WaitsLongerThanTheMost(Process):
    async def login_delay(self, user: str | None) -> Policy:
        return Policy(60 if user == "alice" else 5, per_user=True)


@fails("login_delay")
class WaitsANumber(Process):
    async def login_delay(self, user: str | None) -> Policy:
        return 5  # type: ignore[return-value]


@fails("expiry")
class KeepsLessThanTheLeast(Process):
    async def expiry(self, user: str | None) -> Policy:
        return Policy(None if user is None else 30, per_user=True)


@fails("expiry")
class ExpiredBeforeItCame(Process):
    async def expiry(self, user: str | None) -> Policy:
        return Policy(-1)


@fails("connections")
class LastInFirstOut(Process):
    async def disconnect(self, client: ClientInfo, reason: str) -> None:
        if self.connected.pop() != client.session:
            raise RuntimeError("not the last one")
