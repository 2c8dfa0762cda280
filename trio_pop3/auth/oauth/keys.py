"""The public keys of an authorization server: from where they are, how long they are good, when to look again."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import trio

from .outcomes import Unavailable, imported_extra

if TYPE_CHECKING:
    from .jose import Header, Key, KeyRing

logger = logging.getLogger("trio_pop3.auth")

_MOST_OCTETS: Final = 256 * 1024
# Whoever sends tokens with made-up key ids does not decide how often the server is asked.
_SECONDS_BETWEEN_LOADS: Final = 10.0
# Keys that could not be looked up again are good for a day: an outage, not a server that was given up.
_SECONDS_STALE: Final = 86_400.0


class Keys:
    """A JWKS that is kept.

    It is loaded when it is first needed, when it is older than `refresh`, and when a token names a key that is not in
    it; at most once in 10 seconds, by the login that needs it, while others wait for it or go on with the keys that are
    there. If that fails, the keys that are there stay, for a day. A login that is cancelled leaves the loading to the
    next.

    Args:
        source: an https URL (http for a loopback address), the path of a file, or a JWKS itself. Raises ValueError for
            what is none, OSError for a file that cannot be read.
        refresh: seconds.
        timeout: seconds to load it.
        tls: for https; by default what the system trusts.
        clock: seconds, of any epoch. It may be set back: keys are then loaded again.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any],
        *,
        refresh: float,
        timeout: float,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
    ) -> None:
        with imported_extra():
            from .jose import KeyRing, parse_keys
        if refresh <= 0:
            raise ValueError("refresh must be more than 0 seconds")
        self._refresh: Final = refresh
        self._clock: Final = clock
        self._ring: KeyRing = KeyRing()
        self._read: Callable[[], Awaitable[bytes]] | None = None
        self._loading: Final = trio.Lock()
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False
        if isinstance(source, Mapping):
            self._ring = parse_keys(source)
            self.shown = "a given JWKS"
        elif isinstance(source, str) and source.lower().startswith(("https:", "http:")):
            with imported_extra():
                from .fetch import Endpoint
            endpoint = Endpoint(source, timeout=timeout, most_octets=_MOST_OCTETS, tls=tls)
            self._read, self.shown = endpoint.ask, endpoint.shown
        else:
            path = os.fspath(source)
            parse_keys(_read_file(path))  # so that a wrong path is found out now, not by the first who logs in
            self._read, self.shown = _reader(path), path

    async def find(self, header: Header) -> Key | None:
        """The key a token says it is signed with, None if there is none. Raises Unavailable if that cannot be said."""
        key = self._ring.find(header)
        if self._read is None or (key is not None and self._within(self._loaded_at, self._refresh)):
            return key
        if key is None or not self._loading.locked() or self._given_up:
            async with self._loading:
                await self._load(header, self._read)
            key = self._ring.find(header)
        if self._given_up or (key is None and self._failed):
            raise Unavailable(f"{self.shown}: no keys at hand")
        return key

    @property
    def _given_up(self) -> bool:
        return self._loaded_at is None or self._clock() - self._loaded_at >= _SECONDS_STALE

    def _within(self, since: float | None, seconds: float) -> bool:
        return since is not None and 0 <= self._clock() - since < seconds

    async def _load(self, header: Header, read: Callable[[], Awaitable[bytes]]) -> None:
        from .jose import BadKeys, parse_keys

        known = self._ring.find(header) is not None and self._within(self._loaded_at, self._refresh)
        if known or self._within(self._tried_at, _SECONDS_BETWEEN_LOADS):
            return  # somebody else has just done it
        try:
            # A thread: this may be a hundred keys, and nobody else is to wait for them.
            self._ring = await trio.to_thread.run_sync(parse_keys, await read())
        except (Unavailable, BadKeys) as failure:
            shown = failure if isinstance(failure, Unavailable) else f"{self.shown}: {failure}"
            logger.error("keys not loaded: %s", shown)
            self._failed = True
        else:
            self._failed = False
            self._loaded_at = self._clock()
        self._tried_at = self._clock()


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(_MOST_OCTETS + 1)
    return content if len(content) <= _MOST_OCTETS else b""  # which is no JWKS


def _reader(path: str) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        try:
            return await trio.to_thread.run_sync(_read_file, path)
        except OSError as failure:
            raise Unavailable(f"{path}: {failure.strerror}") from None

    return read
