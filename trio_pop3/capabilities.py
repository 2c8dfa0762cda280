"""What CAPA says on one connection: everything that is true there and then, and nothing else (RFC 2449)."""

from __future__ import annotations

from .backend import Backend, ClientInfo, Expiry, LoginDelays, Policy
from .login import Login
from .rules import Rules
from .sansio import capability_lines


async def capabilities(
    backend: Backend, rules: Rules, login: Login, client: ClientInfo, *, user: str | None, stls: bool
) -> tuple[str, ...]:
    """The lines. `user`: who is logged in; `stls`: whether STLS would be accepted."""
    return capability_lines(
        {
            "USER": None if login.refuses_passwords(client) else "",
            "SASL": " ".join(login.mechanisms(client)) or None,
            "STLS": "" if stls else None,
            "UTF8": "USER" if rules.utf8 else None,
            "LANG": "" if rules.languages else None,
            "LOGIN-DELAY": _announced(await login_delay(backend, rules, user), user, never=None),
            "EXPIRE": await _expire(backend, user),
            "IMPLEMENTATION": "trio_pop3",
        }
    )


async def login_delay(backend: Backend, rules: Rules, user: str | None) -> Policy:
    """Seconds between two logins of a user, or for nobody in particular the most there is."""
    if isinstance(backend, LoginDelays):
        return _checked(await backend.login_delay(user))
    return Policy(rules.login_delay)


async def _expire(backend: Backend, user: str | None) -> str | None:
    if not isinstance(backend, Expiry):
        return None
    return _announced(_checked(await backend.expiry(user)), user, never="NEVER")


def _announced(policy: Policy, user: str | None, *, never: str | None) -> str | None:
    """What stands behind the tag: the exact value once the user is known (RFC 2449 sections 6.5 and 6.7)."""
    if policy.value is None:
        # Of a per-user policy this is the least, so nobody's mail expires.
        return never
    return f"{policy.value} USER" if policy.per_user and user is None else str(policy.value)


def _checked(policy: object) -> Policy:
    """Raises TypeError for what a backend must not say."""
    if not isinstance(policy, Policy) or not (
        policy.value is None or (type(policy.value) is int and policy.value >= 0)
    ):
        raise TypeError(f"a policy is a Policy with None or a number that is not negative: {policy!r:.200}")
    return policy
