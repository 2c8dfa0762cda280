"""What is removed, when, and how: the policy of an operator, and what one session does of it. Blocking.

Nothing leaves but what a client has marked and what a policy that was turned on says; CAPA announces the latter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from ...backend import Policy
from .disposal import Disposal, Flag, Unlink, is_flagged
from .files import UidTimes
from .journal import Journal, Who
from .removal import Removal, inode_of
from .scan import MaildirMessage, Whereabouts
from .trash import check_folder, trash

logger = logging.getLogger("trio_pop3.maildir")

Deletion: TypeAlias = Literal["unlink", "trash", "flag", "hide"]
# Days, or that nothing is removed; of a function: for this user, or for None the least of any.
Days: TypeAlias = int | Literal["never"]
Expire: TypeAlias = Days | Callable[[str | None], Days]

HIDDEN: Final = b".trio-pop3.hidden"
RETRIEVED: Final = b".trio-pop3.retrieved"
_DAY: Final = 86400
_MOST_DAYS: Final = 36500
# Messages removed at a login; what is left is shown, and removed at the next one.
_EXPIRED_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class Retention:
    """See `MaildirStore`. Raises ValueError for values that make no sense."""

    deletion: Deletion = "unlink"
    trash: str = ".Trash"
    trash_days: int | None = None
    journal: Journal | None = None
    expire: Expire | None = None

    def __post_init__(self) -> None:
        if self.deletion not in get_args(Deletion):
            raise ValueError(f"deletion must be one of {', '.join(get_args(Deletion))}, not {self.deletion!r}")
        check_folder(self.trash)
        if self.trash_days is not None:
            if self.deletion != "trash":
                raise ValueError("trash_days makes sense with deletion 'trash' only")
            if not 1 <= self.trash_days <= _MOST_DAYS:
                raise ValueError(f"trash_days must be 1 to {_MOST_DAYS}, not {self.trash_days!r}")
        if self.expire is not None and not callable(self.expire):
            _checked(self.expire)

    def days(self, user: str | None) -> int | None:
        """Days that a message is kept after it was first retrieved; None is for ever."""
        days = self.expire(user) if callable(self.expire) else self.expire
        return None if days is None else _checked(days)

    async def expiry(self, user: str | None, /) -> Policy:
        """What CAPA announces (RFC 2449 section 6.7)."""
        return Policy(self.days(user), per_user=callable(self.expire))


def rename_uids(maildir: bytes, renamed: Mapping[str, str]) -> None:
    """What is written down of messages holds for them under new unique-ids (old -> new), too. Raises OSError.

    Before the new ones are served: otherwise what was deleted would come back as if it were new.
    """
    for name in (HIDDEN, RETRIEVED):
        file = UidTimes(maildir, name)
        times = file.read()
        fresh = {new: times[old] for old, new in renamed.items() if old in times}
        if fresh:
            file.write({**times, **fresh})


def _checked(days: Days) -> int | None:
    if days == "never":
        return None
    if type(days) is not int or not 0 <= days <= _MOST_DAYS:
        raise ValueError(f"expire must be 0 to {_MOST_DAYS} days or 'never', not {days!r}")
    return days


class Keeper:
    """One session's part in a policy. Under the lock; called in threads, one call at a time.

    home: the Maildir, which has the trash; other than that of `files` if that is a folder of it.
    left: what the last removal has not removed. retrieved: uids of what the client has got whole, in that order; the
    maildrop adds to it. Nothing here sorts or joins much at once: no other thread runs while Python does.
    """

    __slots__ = ("_days", "_hidden", "_home", "_policy", "_times", "_who", "files", "left", "retrieved")

    def __init__(self, policy: Retention, files: Whereabouts, who: Who, home: bytes) -> None:
        self._policy: Final = policy
        self.files: Final = files
        self._home: Final = home
        self._who: Final = who
        self._days: Final = policy.days(who.user)
        self._hidden: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self.left: Sequence[MaildirMessage] = ()
        self.retrieved: Final[dict[str, None]] = {}

    # --- login -----------------------------------------------------------------------------------------------------

    def shown(self, messages: Sequence[MaildirMessage]) -> Sequence[MaildirMessage]:
        """The messages that are still there for POP3, after those whose time is over have gone.

        Raises OSError if nobody knows which they are: what was deleted must not come back as if it were new.
        """
        maildir, deletion = self.files.maildir, self._policy.deletion
        if deletion != "hide" and os.path.lexists(hidden_by := b"%s/%s" % (maildir, HIDDEN)):
            logger.warning(
                "session %s: %a lists what was deleted with deletion `hide`; with `%s` it is shown again",
                self._who.session, os.fsdecode(hidden_by), deletion,
            )  # fmt: skip
        if deletion == "flag":
            messages = [message for message in messages if not self._is_flagged(message)]
        elif deletion == "hide":
            hidden = UidTimes(maildir, HIDDEN).read()
            about = {message.uid for message in messages if message.uid in hidden and self._is_alone(message)}
            self._hidden = {uid: hidden[uid] for uid in about}
            messages = [message for message in messages if message.uid not in about]
        if self._days:
            times = self._retrieval_times()
            self._times = {message.uid: times[message.uid] for message in messages if message.uid in times}
            messages = self._without_expired(messages, int(time.time()) - self._days * _DAY)
        return messages

    def _is_alone(self, message: MaildirMessage) -> bool:
        """Whether what was written down under its unique-id can be about no other file.

        Of two with one base name, which has the name for its unique-id is settled anew when one of them comes or goes.
        """
        return not self.files.shares(message.base)

    def _retrieval_times(self) -> dict[str, int]:
        try:
            return UidTimes(self.files.maildir, RETRIEVED).read()
        except OSError as failure:
            where = os.fsdecode(failure.filename)
            logger.error("cannot read %a, so mail is kept for longer: %s", where, failure.strerror)
            return {}

    def _is_flagged(self, message: MaildirMessage) -> bool:
        places = self.files.places(message.base)
        if len(places) < 2:
            return any(map(is_flagged, places))
        # Several files with one base name; those that are gone by now are none of them.
        inodes = {inode_of(self.files.full(path)) for path in places if is_flagged(path)}
        return message.inode in inodes

    def _without_expired(self, messages: Sequence[MaildirMessage], limit: int) -> Sequence[MaildirMessage]:
        due = [message for message in messages if self._times.get(message.uid, limit + 1) <= limit]
        due = [message for message in due[:_EXPIRED_AT_ONCE] if self._is_alone(message)]
        if not due:
            return messages
        for _ in self._remove(due, "expire"):
            pass
        gone = {message.uid for message in due} - {message.uid for message in self.left}
        return [message for message in messages if message.uid not in gone]

    # --- QUIT ------------------------------------------------------------------------------------------------------

    @property
    def _deletion(self) -> Deletion:
        """What is done here: what is deleted in the trash itself is gone for good."""
        if self._policy.deletion == "trash" and self.files.maildir == self._trash:
            return "unlink"
        return self._policy.deletion

    @property
    def _trash(self) -> bytes:
        return b"%s/%s" % (self._home, os.fsencode(self._policy.trash))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do at QUIT unless something is marked."""
        return self._days is None and self._policy.trash_days is None

    def commit(self, deleted: Sequence[MaildirMessage], shown: Sequence[MaildirMessage]) -> Iterator[None]:
        """Remove what is marked, and do what else is due, step by step; then see `left`.

        Raises OSError if nobody knows what is left.
        """
        self.left = ()
        if self._days == 0:
            # RFC 2449 section 6.7: what was retrieved may be treated as if it were marked.
            marked = {message.uid for message in deleted}
            deleted = [*deleted, *(m for m in shown if m.uid in self.retrieved and m.uid not in marked)]
        if deleted:
            yield from self._remove(deleted, self._deletion)
        if self._days:
            self._remember(deleted)
        if self._policy.trash_days is not None:
            yield from self._clean_trash(self._policy.trash_days)

    def _remove(self, messages: Sequence[MaildirMessage], word: str) -> Iterator[None]:
        self.left = messages
        if not self._journaled(word, messages, "nothing is removed"):
            return
        with contextlib.ExitStack() as held:
            try:
                disposal = self._disposal(held, messages)
            except OSError as failure:
                where = failure.filename if isinstance(failure.filename, bytes) else self._trash
                logger.error(
                    "session %s: cannot use %a, so nothing is removed (%d messages): %s",
                    self._who.session, os.fsdecode(where), len(messages), failure.strerror,
                )  # fmt: skip
            else:
                yield from self._disposed(messages, disposal)
        if self.left:
            self._journaled("kept", self.left, "it does not say that these are still there")

    def _disposed(self, messages: Sequence[MaildirMessage], disposal: Disposal | None) -> Iterator[None]:
        try:
            if disposal is None:
                self._hide(messages)
                self.left = ()
            else:
                removal = Removal(self.files, messages, disposal)
                while not removal.step():
                    yield
                self.left = removal.left
        except OSError:
            self._journaled("unsure", messages, "it does not say that these may still be there")
            raise

    def _journaled(self, word: str, messages: Sequence[MaildirMessage], otherwise: str) -> bool:
        """Whether the journal has it now, if there is one. Before anything is removed: a journal that lies is worse
        than mail that has to be deleted again."""
        if self._policy.journal is None:
            return True
        try:
            self._policy.journal.record(word, self._who, messages)
        except OSError as failure:
            logger.error(
                "session %s: cannot write to %r, so %s (%d messages): %s",
                self._who.session, self._policy.journal, otherwise, len(messages), failure.strerror,
            )  # fmt: skip
            return False
        return True

    def _disposal(self, held: contextlib.ExitStack, messages: Sequence[MaildirMessage]) -> Disposal | None:
        """How the files go, None if they stay. Nothing is moved yet if this raises OSError."""
        match self._deletion:
            case "trash":
                folder = held.enter_context(trash(self._home, self._policy.trash))
                if self.files.maildir != self._home:
                    folder.expect(self.files.maildir, [message.base for message in messages])
                return folder
            case "hide":
                return None
            case "flag":
                return Flag()
            case _:
                return Unlink()

    def _hide(self, messages: Sequence[MaildirMessage]) -> None:
        now = int(time.time())
        hidden = {**{message.uid: now for message in messages}, **self._hidden}
        UidTimes(self.files.maildir, HIDDEN).write(hidden)
        self._hidden = hidden

    def _remember(self, deleted: Sequence[MaildirMessage]) -> None:
        """Write down what was retrieved for the first time. If that fails, mail is kept for longer."""
        left = {message.uid for message in self.left}
        gone = {message.uid for message in deleted if message.uid not in left}
        now = int(time.time())
        fresh = {uid: now for uid in self.retrieved if uid not in self._times and uid not in gone}
        if not fresh:
            return
        times = {**self._times, **fresh}
        file = UidTimes(self.files.maildir, RETRIEVED)
        try:
            file.write(times)
        except OSError as failure:
            logger.error("cannot write %a, so mail is kept for longer: %s", os.fsdecode(file.path), failure.strerror)
        else:
            self._times = times

    def _clean_trash(self, days: int) -> Iterator[None]:
        try:
            with trash(self._home, self._policy.trash, make=False) as folder:
                yield from folder.expire(days)
        except FileNotFoundError:
            pass  # nothing was ever moved there
        except OSError as failure:
            where = os.fsdecode(self._home)
            logger.error("cannot clean %s of %a: %s", self._policy.trash, where, failure.strerror)
