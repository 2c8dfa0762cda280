"""Users of the system, or of whatever PAM asks. Needs the extra `pam`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import trio

from ..backend import AuthenticationFailed, ClientInfo, TemporaryFailure
from ..credentials import Credentials, PasswordCredentials
from .cache import GoodLogins
from .threads import Checkers

logger = logging.getLogger("trio_pop3.auth")

# PAM holds a thread for about two seconds after a wrong password, and more if it asks another machine.
_THREADS: Final = 16
# Linux: LOGIN_NAME_MAX and PAM_MAX_RESP_SIZE, each less its NUL.
_MOST_NAME_OCTETS: Final = 255
_MOST_PASSWORD_OCTETS: Final = 511

_SUCCESS: Final = 0
# Return values of Linux-PAM (security/_pam_types.h) that speak of the user. All others speak of the system.
_REFUSALS: Final = frozenset(
    {
        6,  # PAM_PERM_DENIED
        7,  # PAM_AUTH_ERR
        10,  # PAM_USER_UNKNOWN
        11,  # PAM_MAXTRIES
        12,  # PAM_NEW_AUTHTOK_REQD: the password is to be changed first, which POP3 cannot
        13,  # PAM_ACCT_EXPIRED
        16,  # PAM_CRED_EXPIRED
        27,  # PAM_AUTHTOK_EXPIRED
    }
)


class Pam:
    """An authenticator over PAM: password and account must both be good. No session is opened, no credentials are set.

    Args:
        service: the name of the PAM service, a file in /etc/pam.d.
        limiter: for the threads that PAM runs in; 16 if none is given.
        cache_seconds: how long a good login is remembered, as a keyed hash; 0 for not at all. An account that is
            disabled can log in for so long.
        most_waiting: logins that wait for a thread; more are told to come back.
        clock: seconds that never go back.

    Raises ImportError without the extra or without PAM on this system, ValueError for a name that is none.
    """

    def __init__(
        self,
        service: str = "pop3",
        *,
        limiter: trio.CapacityLimiter | None = None,
        cache_seconds: float = 60.0,
        most_waiting: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not service or not service.isprintable() or "/" in service:
            raise ValueError(f"not the name of a PAM service: {service!r}")
        self._service: Final = service
        self._checkers: Final = Checkers(limiter or trio.CapacityLimiter(_THREADS), most_waiting, abandon=True)
        self._good: Final = GoodLogins(cache_seconds, clock=clock)
        self._conversation: Final = _conversations()

    def __repr__(self) -> str:
        return f"Pam({self._service!r})"

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """The user's name. Raises AuthenticationFailed; TemporaryFailure if PAM is out of order or too many wait."""
        if not isinstance(credentials, PasswordCredentials):
            raise AuthenticationFailed
        name, password = credentials.user.encode("utf-8", "surrogateescape"), credentials.octets
        if not _fits(name, _MOST_NAME_OCTETS) or not _fits(password, _MOST_PASSWORD_OCTETS):
            raise AuthenticationFailed
        if self._good.knows(credentials):
            await trio.lowlevel.checkpoint()
            return credentials.user
        code, reason = await self._checkers.run(self._ask, name, password)
        if code in _REFUSALS:
            raise AuthenticationFailed
        if code != _SUCCESS:
            # Not the name: people type passwords there.
            logger.error("PAM service %s: %s (%d)", self._service, reason, code)
            raise TemporaryFailure
        self._good.remember(credentials)
        return credentials.user

    def _ask(self, name: bytes, password: bytes) -> tuple[int, object]:
        # An object for each call: what it keeps between start and end is not for two threads.
        conversation = self._conversation()
        conversation.authenticate(name, password, service=self._service, resetcreds=False)
        return conversation.code, conversation.reason


def _fits(octets: bytes, most: int) -> bool:
    """PAM takes C strings; and some modules take an empty password for none at all."""
    return 0 < len(octets) <= most and b"\0" not in octets


def _conversations() -> Callable[[], Any]:
    try:
        import pam
    except ImportError:
        raise ImportError("PAM needs the extra `pam`: pip install 'trio-pop3[pam]'") from None
    make: Callable[[], Any] = pam.PamAuthenticator
    try:
        make()
    except (OSError, AttributeError) as failure:
        raise ImportError(f"PAM is not on this system: {failure}") from None
    return make
