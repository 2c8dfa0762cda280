"""Logins that were good a moment ago, so that a client that polls is not hashed for every time."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
import secrets
import time
from collections.abc import Callable
from typing import Final

from ..credentials import Credentials


class GoodLogins:
    """Remembers that credentials were good, for a while, and never what they were: keyed hashes only.

    The key is of this object and never leaves it. Two logins are the same if everything is: user, secret, authorization
    identity, and what else the caller names.

    Args:
        seconds: for how long. 0: nothing is remembered.
        most: how many; the oldest are forgotten first.
        clock: seconds that never go back.

    Raises ValueError for numbers out of range.
    """

    def __init__(
        self, seconds: float = 60.0, most: int = 10_000, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not seconds >= 0:
            raise ValueError(f"seconds must not be negative, not {seconds!r}")
        if most < 1:
            raise ValueError(f"most must be at least 1, not {most!r}")
        self._seconds: Final = seconds
        self._most: Final = most
        self._clock: Final = clock
        self._key: Final = secrets.token_bytes(32)
        self._until: Final[dict[bytes, float]] = {}  # in order of time

    def __repr__(self) -> str:
        return f"GoodLogins({len(self._until)} remembered)"

    def __len__(self) -> int:
        return len(self._until)

    def knows(self, credentials: Credentials, *more: str) -> bool:
        """Whether these were remembered, with the same `more`, and not too long ago. May be called in any thread."""
        mark = self._mark(credentials, more)
        return mark is not None and self._clock() < self._until.get(mark, -math.inf)

    def remember(self, credentials: Credentials, *more: str) -> None:
        """These are good. Credentials that do not show a secret (`Credentials.fingerprint`) are not remembered.

        Called in one thread only.
        """
        mark = self._mark(credentials, more)
        if mark is None or not self._seconds:
            return
        now = self._clock()
        self._until.pop(mark, None)
        self._until[mark] = now + self._seconds
        self._forget(now)

    def _forget(self, now: float) -> None:
        # Two for each that comes: so none that is over stays for long, and there are never more than `most`.
        for mark, until in list(itertools.islice(self._until.items(), 2)):
            if until <= now or len(self._until) > self._most:
                del self._until[mark]

    def _mark(self, credentials: Credentials, more: tuple[str, ...]) -> bytes | None:
        fingerprint = credentials.fingerprint(self._key)
        if fingerprint is None:
            return None
        # Parts of one length each: no two lists of texts give the same message.
        parts = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in more)
        return hmac.digest(self._key, b"".join([fingerprint, *parts]), "sha256")
