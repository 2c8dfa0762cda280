"""The maildrop of a user is a Maildir. File work is done in threads, in pieces that are worth the way there."""

from __future__ import annotations

import copy
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypedDict, Unpack, cast

import trio

from ...backend import (
    AuthenticationFailed,
    Authenticator,
    ClientInfo,
    Combined,
    CommitIncomplete,
    MaildropInUse,
    MessageInfo,
    PermanentFailure,
    Store,
    TemporaryFailure,
)
from .access import Access, check_owning
from .arrivals import times_of_arrival
from .journal import Journal, Who
from .lock import MaildirLock, owner_note
from .paths import PathPattern, folder_component
from .reading import Reader, RunSync
from .retention import Deletion, Expire, Keeper, Retention
from .scan import MaildirMessage, Whereabouts, move_new
from .survey import snapshot
from .uidlist_lock import uidlist_locked
from .uids import UidMapError
from .waiting import patiently

logger = logging.getLogger("trio_pop3.maildir")

# Disks do not get faster when more threads wait for them.
_THREADS: Final = 16
# Clients wait a minute or two for a reply before they give up.
_LONGEST_WAIT: Final = 120
_END: Final = object()
# What an administrator must mend; anything else may pass.
_PERMANENT: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def in_threads(limiter: trio.CapacityLimiter | None = None) -> RunSync:
    """Runs blocking functions in trio's worker threads, so many at a time. Cancelled, it waits for the function."""
    if limiter is None:
        limiter = trio.CapacityLimiter(_THREADS)

    async def run_sync(work: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(work, *args, limiter=limiter)

    return run_sync


class MaildirOptions(TypedDict, total=False):
    """The keyword arguments of `MaildirStore`."""

    limiter: trio.CapacityLimiter | None
    run_sync: RunSync | None
    follow_symlinks: bool
    as_owner: bool
    lock_wait: float
    deletion: Deletion
    trash: str
    trash_days: int | None
    journal: str | os.PathLike[str] | None
    expire: Expire | None
    move_new: bool
    dovecot_lock: bool


class MaildirStore:
    """Serves Maildirs found by a pattern, such as `/var/mail/vhosts/{domain}/{local}/Maildir`.

    new/ and cur/ are read; delivery and IMAP are never held up, and unless an option says so nothing is moved and no
    flag is changed. Unique-ids are the base names of the files, or what was imported (uids.py). A Maildir that is not
    there is a failure, never an empty maildrop: clients would forget what they have fetched. Sizes are kept in
    `.trio-pop3.index` in the Maildir, which may be deleted at any time.

    Args:
        pattern: see `PathPattern`, which may raise ValueError.
        limiter: for the default worker threads.
        run_sync: how blocking work is run instead. It must not return or raise while the work goes on.
        follow_symlinks: follow every symbolic link on the way to a Maildir, and not those only that root or the user of
            this process has made.
        as_owner: work on a Maildir as its owner and group, instead of root: for users who can reach their Maildirs by
            other ways than mail. Needs Linux, and root, which owns no mail then.
        lock_wait: seconds to wait for a maildrop that another session has open, 0 to 120, before the login is refused.
            More than 0 needs trio.
        deletion: what becomes of a message that is deleted. "unlink": it is gone. "trash": it is moved to `trash`.
            "flag": it gets the flag T, as IMAP servers mark it, and is hidden from POP3, as is all that has it. "hide":
            it is hidden from POP3, and stays as it is for everybody else.
        trash: the Maildir++ folder, made if it is missing.
        trash_days: with "trash", what has been there for longer is removed at the end of sessions; None is never.
        journal: a file that gets a line for each message before it is removed: time, user, peer, session, uid, octets,
            and the folder if it is in one.
            While it cannot be written nothing is removed, and QUIT is answered `-ERR`.
        expire: days after which a message is treated as if it were deleted, counted from the first session that got it
            whole with RETR and ended in QUIT; 0 is at that QUIT; "never" is an announcement only; or a function of the
            user, which must not block, and gives for None the least of any user. Announced in CAPA (RFC 2449 section
            6.7). None: nothing is removed, and nothing announced.
        move_new: at login, move what is in new/ to cur/, as IMAP servers do.
        dovecot_lock: hold Dovecot's `dovecot-uidlist.lock` while looking at the directories, where it renames files.

    Raises ValueError for values that make no sense, and for `as_owner` with `follow_symlinks`: behind a link to others'
    mail, the others would be its owner. OSError for `as_owner` if this process may not do that.
    """

    def __init__(
        self,
        pattern: str,
        *,
        limiter: trio.CapacityLimiter | None = None,
        run_sync: RunSync | None = None,
        follow_symlinks: bool = False,
        as_owner: bool = False,
        lock_wait: float = 0,
        deletion: Deletion = "unlink",
        trash: str = ".Trash",
        trash_days: int | None = None,
        journal: str | os.PathLike[str] | None = None,
        expire: Expire | None = None,
        move_new: bool = False,
        dovecot_lock: bool = False,
    ) -> None:
        check_owning(follow_symlinks=follow_symlinks, as_owner=as_owner)
        self._follow_symlinks: Final = follow_symlinks
        self._as_owner: Final = as_owner
        self._folder: bytes | None = None  # the directory of the folder that is opened, below the Maildir
        if not 0 <= lock_wait <= _LONGEST_WAIT:
            raise ValueError(f"lock_wait must be 0 to {_LONGEST_WAIT} seconds, not {lock_wait!r}")
        self._pattern: Final = PathPattern(pattern)
        self._lock_wait: Final = lock_wait
        self._retention: Final = Retention(
            deletion, trash, trash_days, None if journal is None else Journal(journal), expire
        )
        if expire is not None:
            self.expiry = self._retention.expiry
        self._run_sync: Final = in_threads(limiter) if run_sync is None else run_sync
        self._move_new: Final = move_new
        self._dovecot_lock: Final = dovecot_lock
        # Whoever brings threads may have them work under another user's rights; the event loop has its own.
        self._at_once: Final = run_sync is None and not as_owner

    async def open(self, user: str, client: ClientInfo) -> MaildirMaildrop:
        """Lock and snapshot in one go to a thread. Raises as `trio_pop3.backend.Store` says."""
        path = self._pattern.path_for(user)
        if path is None:
            # Not a name that can have mail here; whether it can log in elsewhere is nobody's business.
            logger.warning("session %s: %a has no place in %r", client.session, user, self._pattern)
            raise AuthenticationFailed
        access = Access(
            os.fsencode(self._pattern.root), os.fsencode(path), self._folder, self._run_sync,
            follow_symlinks=self._follow_symlinks, as_owner=self._as_owner,
        )  # fmt: skip
        lock = MaildirLock(access.path, owner_note(user, client))
        try:
            locked = partial(uidlist_locked, access.path) if self._dovecot_lock else nullcontext
            files = Whereabouts(access.path, locked)
            keeper = Keeper(self._retention, files, Who.of(user, client, self._folder), access.maildir)
            reader = Reader(files, access.run_sync, at_once=self._at_once)
            attempt = partial(access.run_sync, _opened, keeper, lock, reader, self._move_new)
            messages = await patiently(lock, self._lock_wait, attempt)
        except OSError as failure:
            # On the way there; what fails behind it has been told apart.
            lock.release()
            raise _unopened(os.fsdecode(access.path), failure) from None
        except BaseException:
            # Failed, or cancelled when the thread had already finished. The thread is through in either case, so that
            # nothing takes the lock behind our back.
            lock.release()
            raise
        return MaildirMaildrop(messages, keeper, lock, access.run_sync, reader)

    def folder(self, name: str) -> MaildirStore:
        """The store of a Maildir++ folder, such as `Junk` or `Sent.2024`, of every user.

        Its `open` raises NoSuchFolder if a user has none. Raises ValueError for what is no name of a folder.
        """
        store = copy.copy(self)
        store._folder = folder_component(name).encode("ascii")
        return store


def _opened(
    keeper: Keeper, lock: MaildirLock, reader: Reader, moves_new: bool, wake: Callable[[], None] | None
) -> Sequence[MaildirMessage]:
    try:
        lock.acquire(wake)
    except BlockingIOError:
        raise MaildropInUse from None
    except OSError as failure:
        raise _unopened(os.fsdecode(keeper.files.maildir), failure) from None
    try:
        if moves_new:
            with keeper.files.locked():
                move_new(keeper.files.maildir)
        messages = keeper.shown(snapshot(keeper.files))
    except UidMapError as failure:
        logger.error("nobody can log in before it is mended: %s", failure)
        raise PermanentFailure("the mail store cannot be read") from None
    except OSError as failure:
        raise _unopened(os.fsdecode(keeper.files.maildir), failure) from None
    reader.begin(messages)
    return messages


def _unopened(path: str, failure: OSError) -> TemporaryFailure | PermanentFailure:
    if failure.errno == errno.ENOENT:
        logger.error("%a is not a Maildir with new/ and cur/: make it, or mount it", path)
        return TemporaryFailure("the mail store is not available")
    culprit = path if failure.filename is None else os.fsdecode(failure.filename)
    logger.error("cannot open the Maildir %a: %s: %a", path, failure.strerror, culprit)
    kind = PermanentFailure if failure.errno in _PERMANENT else TemporaryFailure
    return kind("the mail store cannot be read")


class MaildirMaildrop:
    """One session's snapshot of a Maildir, and the lock on it."""

    def __init__(
        self,
        messages: Sequence[MaildirMessage],
        keeper: Keeper,
        lock: MaildirLock,
        run_sync: RunSync,
        reader: Reader,
    ) -> None:
        self.messages = messages
        self._keeper = keeper
        self._files = keeper.files
        self._lock = lock
        self._run_sync = run_sync
        self._reader = reader

    async def arrivals(self) -> Sequence[float]:
        """See `trio_pop3.backend.Arrivals`: from the file names, or when the files were written."""
        times: Sequence[float] = await self._run_sync(times_of_arrival, self._files, self.messages)
        return times

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterator[bytes]:
        """A message of up to 256 KiB whole, a larger one in pieces; see `Reader`."""
        assert isinstance(message, MaildirMessage)
        return await self._reader.retrieve(message)

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Remove the files wherever they are now, and sync the directories. What is gone already is a success.

        Cut by a deadline, it has removed some of them and no other, and can be repeated.
        """
        if not deleted and self._keeper.idle:
            return
        steps = self._removing(cast("Sequence[MaildirMessage]", deleted))
        try:
            while await self._run_sync(next, steps, _END) is not _END:
                pass
        except OSError as failure:
            logger.error("cannot be sure what is gone from %a: %s", os.fsdecode(self._files.maildir), failure.strerror)
            raise CommitIncomplete(len(deleted)) from None
        if self._keeper.left:
            raise CommitIncomplete(len(self._keeper.left))

    def _removing(self, deleted: Sequence[MaildirMessage]) -> Iterator[None]:
        # In the thread, and once: there may be a hundred thousand, which are made when they are looked at.
        yield from self._keeper.commit([*deleted], self.messages)

    def retrieved(self, message: MessageInfo) -> None:
        """Note it, for the policy."""
        self._keeper.retrieved[message.uid] = None

    async def release(self) -> None:
        """Give the lock back, and all that is known of where the messages are, and what was read ahead of them."""
        del self._keeper, self._files, self._reader
        self._lock.release()


class MaildirBackend(Combined):
    """Maildirs, and somebody who knows the users: `MaildirBackend(pattern, PasswdFile(path))`.

    The arguments are those of `MaildirStore`.
    """

    folder: Callable[[str], Store]

    def __init__(self, pattern: str, authenticator: Authenticator, **options: Unpack[MaildirOptions]) -> None:
        super().__init__(authenticator, MaildirStore(pattern, **options))
