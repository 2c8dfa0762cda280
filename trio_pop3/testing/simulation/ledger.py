"""What must be in every maildrop, kept apart from the store: delivered, removed by whom, told to whom."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from .chronicle import Chronicle, Minutes
from .mail import Stored

if TYPE_CHECKING:
    from .watch import Watch


class Ledger:
    """All messages there ever were, and where each has gone."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle: Final = chronicle
        self._there: Final[dict[str, dict[str, Stored]]] = {}  # user -> uid -> message, oldest first
        self._whose: Final[dict[tuple[str, str], int]] = {}  # (user, uid) -> serial, for ever
        self._gone: Final[set[tuple[str, str]]] = set()  # of which somebody was told that they are removed
        self._owed: Final[dict[str, tuple[frozenset[str], int, Minutes]]] = {}  # marked, and how many must come back
        self.delivered = self.removed = self.lost = 0

    @property
    def left(self) -> int:
        """Messages that must still be in the store."""
        return sum(map(len, self._there.values()))

    def deliver(self, user: str, message: Stored) -> None:
        """A message is in the store from now on."""
        self.delivered += 1
        self._is(user, message)
        self._there.setdefault(user, {})[message.uid] = message

    def _is(self, user: str, message: Stored, *minutes: Minutes) -> None:
        if self._whose.setdefault((user, message.uid), message.serial) != message.serial:
            self._chronicle.violated("P3", f"unique-id {message.uid} of {user} was another message's before", *minutes)

    def lose(self, user: str, uid: str) -> None:
        """Somebody else than POP3 takes a message away."""
        if self._there[user].pop(uid, None) is not None:
            self.lost += 1

    def remove(self, watch: Watch, uid: str) -> None:
        """The store removes a message for a session, which must have asked for that."""
        if uid not in watch.may_remove:
            self._chronicle.violated("P1", f"unique-id {uid} is removed, which nobody asked for", watch.minutes)
        if self._there[watch.user].pop(uid, None) is not None:
            self.removed += 1

    def has(self, user: str, uid: str) -> bool:
        """Whether a message is still there."""
        return uid in self._there.get(user, ())

    def remaining(self, user: str, uids: Collection[str]) -> int:
        """How many of these are still there."""
        return sum(self.has(user, uid) for uid in uids)

    def told_removed(self, watch: Watch, uids: Collection[str]) -> None:
        """`+OK` to a QUIT: these are gone for good."""
        if left := self.remaining(watch.user, uids):
            self._chronicle.violated("P1", f"+OK to QUIT, and {left} marked messages are still there", watch.minutes)
        self._gone.update((watch.user, uid) for uid in uids)

    def told_remaining(self, watch: Watch, uids: Collection[str], remaining: int) -> None:
        """`-ERR` to a QUIT with a number: so many of these come back at the next login."""
        if (left := self.remaining(watch.user, uids)) != remaining:
            self._chronicle.violated(
                "P1", f"-ERR to QUIT tells of {remaining} messages that remain, and {left} do", watch.minutes
            )
        self._owed[watch.user] = (frozenset(uids), remaining, watch.minutes)

    def opened(self, watch: Watch, messages: Sequence[Stored]) -> None:
        """A session has been given a snapshot of its maildrop."""
        user = watch.user
        there = self._there.get(user, {})
        uids = [message.uid for message in messages]
        for message in messages:
            self._is(user, message, watch.minutes)
            if (user, message.uid) in self._gone:
                text = f"unique-id {message.uid} is back, of which +OK to QUIT said that it was removed"
                self._chronicle.violated("P1", text, watch.minutes)
        if uids != list(there):
            missing = sorted(set(there) - set(uids))
            self._chronicle.violated("P1", f"a maildrop is not what it must be; missing: {missing}", watch.minutes)
        if owed := self._owed.pop(user, None):
            marked, remaining, minutes = owed
            # Another program may have taken some meanwhile; POP3 cannot have.
            back = sum(uid in there for uid in marked)
            if back > remaining or len(marked & set(uids)) != back:
                text = f"{remaining} messages were to come back, and {back} did"
                self._chronicle.violated("P1", text, minutes, watch.minutes)

    def audit(self, user: str, messages: Sequence[Stored]) -> None:
        """In the end: a maildrop holds what it must."""
        if list(messages) != list(self._there.get(user, {}).values()):
            self._chronicle.violated("P1", f"{user} has not the messages that nobody removed")
