"""Views that leave messages out: by age, or by number."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Final

from ...backend import Arrivals, ClientInfo, FolderStore, Maildrop, MessageInfo, PermanentFailure, Store
from ..loops import checkpoint, shielded
from .view import View

logger = logging.getLogger("trio_pop3.views")

_DAY_SECONDS: Final = 24 * 60 * 60
# Messages looked at between two checkpoints: less than a millisecond.
_AT_ONCE: Final = 1000


class Filter(View):
    """Base of these views: `_chosen` says which messages are shown. What is left out is counted in the log."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        if isinstance(store, FolderStore):
            # Of a folder as well, no more is shown than that.
            folders: FolderStore = store
            self.folder: Callable[[str], Store] = lambda name: self._around(folders.folder(name))

    def _around(self, store: Store) -> Store:
        """The same view of another store."""
        raise NotImplementedError

    async def _chosen(self, maildrop: Maildrop) -> Sequence[int]:
        """The positions of the messages that are shown, ascending from 0."""
        raise NotImplementedError

    async def open(self, user: str, client: ClientInfo) -> FilteredMaildrop:
        """Open the maildrop behind and choose. Raises as `trio_pop3.backend.Store` says."""
        maildrop = await self._store.open(user, client)
        try:
            chosen = await self._chosen(maildrop)
            shown: list[MessageInfo] = []
            everything = maildrop.messages
            for start in range(0, len(chosen), _AT_ONCE):
                shown += [everything[at] for at in chosen[start : start + _AT_ONCE]]
                await checkpoint()
        except BaseException:
            await shielded(maildrop.release)
            raise
        hidden = len(everything) - len(shown)
        if hidden:
            logger.info("session %s: %s hides %d of %d messages", client.session, self, hidden, len(everything))
        return FilteredMaildrop(maildrop, shown, chosen)


class FilteredMaildrop:
    """Some messages of another maildrop. That one is asked for them, and told to delete of them only."""

    def __init__(self, maildrop: Maildrop, messages: Sequence[MessageInfo], chosen: Sequence[int]) -> None:
        self.messages = messages
        self._maildrop = maildrop
        self._chosen = chosen
        if isinstance(maildrop, Arrivals):
            self.arrivals = self._arrivals
        if hasattr(maildrop, "retrieved"):
            self.retrieved = maildrop.retrieved

    async def _arrivals(self) -> Sequence[float]:
        assert isinstance(self._maildrop, Arrivals)
        everything = await self._maildrop.arrivals()
        return [everything[at] for at in self._chosen]

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterable[bytes]:
        """See `trio_pop3.backend.Maildrop`."""
        return await self._maildrop.retrieve(message)

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """See `trio_pop3.backend.Maildrop`."""
        await self._maildrop.commit(deleted)

    async def release(self) -> None:
        """See `trio_pop3.backend.Maildrop`."""
        await self._maildrop.release()


class NewestDays(Filter):
    """Shows the messages that have arrived within so many days; older ones are neither shown nor deleted.

    Needs a store whose maildrops know when mail arrived (`trio_pop3.backend.Arrivals`), such as Maildirs: with any
    other, nobody can log in, and the log says why. A message that has left the view does not come back, unless the
    days become more: then clients fetch it once more, as they may have forgotten that they did.

    Args:
        store: a store, or a backend.
        days: more than 0, and not necessarily whole.
        clock: seconds since the epoch.

    Raises ValueError if `days` makes no sense.
    """

    def __init__(self, store: Store, days: float, *, clock: Callable[[], float] = time.time) -> None:
        if not 0 < days < math.inf:
            raise ValueError(f"days must be more than 0, not {days!r}")
        super().__init__(store)
        self._days: Final = days
        self._clock: Final = clock

    def __repr__(self) -> str:
        return f"NewestDays({self._days})"

    def _around(self, store: Store) -> NewestDays:
        return NewestDays(store, self._days, clock=self._clock)

    async def _chosen(self, maildrop: Maildrop) -> Sequence[int]:
        if not isinstance(maildrop, Arrivals):
            logger.error("%s: %s does not know when mail arrived, so nobody can log in", self, type(maildrop).__name__)
            raise PermanentFailure("the mail store does not know how old mail is")
        oldest = self._clock() - self._days * _DAY_SECONDS
        arrivals = await maildrop.arrivals()
        if len(arrivals) != len(maildrop.messages):
            raise ValueError(f"{len(arrivals)} times of arrival for {len(maildrop.messages)} messages")
        chosen: list[int] = []
        for start in range(0, len(arrivals), _AT_ONCE):
            part = arrivals[start : start + _AT_ONCE]
            chosen += [at for at, arrived in enumerate(part, start) if arrived >= oldest]
            await checkpoint()
        return chosen


class AtMost(Filter):
    """Shows no more than so many messages at a time, the oldest: when they are deleted, the next ones are shown.

    For clients that cannot stand large maildrops. Clients that leave their mail on the server never get past these.

    Args:
        store: a store, or a backend.
        count: 1 or more messages.

    Raises ValueError if `count` makes no sense.
    """

    def __init__(self, store: Store, count: int) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1 message, not {count!r}")
        super().__init__(store)
        self._count: Final = count

    def __repr__(self) -> str:
        return f"AtMost({self._count})"

    def _around(self, store: Store) -> AtMost:
        return AtMost(store, self._count)

    async def _chosen(self, maildrop: Maildrop) -> Sequence[int]:
        return range(min(self._count, len(maildrop.messages)))
