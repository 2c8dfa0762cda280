"""What all connections of a server know together of logins: who has been guessing, and who logged in when."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from ..backend import ClientInfo
from ..credentials import Credentials
from .penalty import Penalty

# Users whose last login is remembered. Past that the oldest are forgotten, and may log in again too soon.
_MOST_USERS: Final = 100_000


class LoginGate:
    """A `trio_pop3.login.Gate` on trio's clock.

    Args:
        penalty: how long an attempt has to wait.
    """

    def __init__(self, penalty: Penalty, *, clock: Callable[[], float] = trio.current_time) -> None:
        self._penalty: Final = penalty
        self._clock: Final = clock
        # For telling the same wrong guess from another one; what is kept is of no use without it.
        self._key: Final = secrets.token_bytes(32)
        self._logins: Final[OrderedDict[str, tuple[float, int]]] = OrderedDict()

    async def enter(self, client: ClientInfo) -> None:
        """Waits as long as guessing from this client's network costs by now."""
        seconds = self._penalty.enter(client)
        try:
            await trio.sleep(seconds)
        except BaseException:
            self._penalty.leave(client, failed=False, pair=None)
            raise

    def leave(self, client: ClientInfo, credentials: Credentials | None, *, failed: bool) -> None:
        """A failure makes the next attempt wait longer, unless it is the same wrong pair again."""
        pair = credentials.fingerprint(self._key) if failed and credentials is not None else None
        self._penalty.leave(client, failed=failed, pair=pair)

    def since_login(self, user: str) -> float | None:
        """Seconds since the last successful login; refused ones do not count (PROTOCOL A-43)."""
        login = self._logins.get(user)
        return None if login is None else self._clock() - login[0]

    def logged_in(self, user: str, delay: int) -> None:
        """Remembered for as long as it matters."""
        if delay:
            now = self._clock()
            self._logins[user] = (now, delay)
            self._logins.move_to_end(user)
            while True:  # at the latest, this login is the oldest
                oldest, (when, wait) = next(iter(self._logins.items()))
                if len(self._logins) <= _MOST_USERS and now - when < wait:
                    break
                del self._logins[oldest]

    def __len__(self) -> int:
        return len(self._logins)
