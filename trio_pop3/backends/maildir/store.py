"""The maildrop of a user is a Maildir. File work is done in threads, in pieces that are worth the way there."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn

import trio

from ...backend import (
    ApopAuthenticator,
    AuthenticationFailed,
    Authenticator,
    ClientInfo,
    CommitIncomplete,
    MaildropInUse,
    MessageInfo,
    MessageUnavailable,
    PermanentFailure,
    TemporaryFailure,
)
from .deliver import sync_directory
from .lock import MaildirLock
from .paths import PathPattern
from .scan import READ_OCTETS, MaildirMessage, locate, open_message, snapshot

logger = logging.getLogger("trio_pop3.maildir")

RunSync = Callable[..., Awaitable[Any]]

# Files removed in one go; between two goes a deadline may act.
_REMOVED_AT_ONCE: Final = 200
# A file that is renamed between our look at the directory and our unlink is looked for again, so many times.
_MOST_ATTEMPTS: Final = 5
# Disks do not get faster when more threads wait for them.
_THREADS: Final = 16
# What an administrator must mend; anything else may pass.
_PERMANENT: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def in_threads() -> RunSync:
    """Runs blocking functions in trio's worker threads, so many at a time. Cancelled, it waits for the function."""
    limiter = trio.CapacityLimiter(_THREADS)

    async def run_sync(work: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(work, *args, limiter=limiter)

    return run_sync


class MaildirStore:
    """Serves Maildirs found by a pattern, such as `/var/mail/vhosts/{domain}/{local}/Maildir`.

    new/ and cur/ are read; nothing is moved, no flag is changed, delivery and IMAP are never held up. Unique-ids are
    the base names of the files. A Maildir that is not there is a failure, never an empty maildrop: clients would
    forget what they have fetched.

    Args:
        pattern: see `PathPattern`.
        run_sync: how blocking work is run; the default is worker threads.
    """

    def __init__(self, pattern: str, *, run_sync: RunSync | None = None) -> None:
        self._pattern: Final = PathPattern(pattern)
        self._run_sync: Final = in_threads() if run_sync is None else run_sync

    async def open(self, user: str, client: ClientInfo) -> MaildirMaildrop:
        """Lock and snapshot in one go to a thread. Raises as `trio_pop3.backend.Store` says."""
        path = self._pattern.path_for(user)
        if path is None:
            # Not a name that can have mail here; whether it can log in elsewhere is nobody's business.
            raise AuthenticationFailed
        # No await comes between the end of the thread and the end of this method: a lock cannot get lost.
        maildrop: MaildirMaildrop = await self._run_sync(self._open, os.fsencode(path), client)
        return maildrop

    def _open(self, maildir: bytes, client: ClientInfo) -> MaildirMaildrop:
        shown = os.fsdecode(maildir)
        try:
            lock = MaildirLock(maildir, client.session)
        except BlockingIOError:
            raise MaildropInUse from None
        except OSError as failure:
            raise _unopened(shown, failure) from None
        try:
            return MaildirMaildrop(maildir, snapshot(maildir), lock, self._run_sync)
        except OSError as failure:
            lock.release()
            raise _unopened(shown, failure) from None
        except BaseException:
            lock.release()
            raise


def _unopened(path: str, failure: OSError) -> TemporaryFailure | PermanentFailure:
    if failure.errno == errno.ENOENT:
        logger.error("%s is not a Maildir (%s): make it, or mount it", path, failure.strerror)
        return TemporaryFailure("the mail store is not available")
    logger.error("cannot open the Maildir %s: %s (%s)", path, failure.strerror, failure.filename)
    kind = PermanentFailure if failure.errno in _PERMANENT else TemporaryFailure
    return kind("the mail store cannot be read")


class MaildirMaildrop:
    """One session's snapshot of a Maildir, and the lock on it."""

    def __init__(
        self, maildir: bytes, messages: Sequence[MaildirMessage], lock: MaildirLock, run_sync: RunSync
    ) -> None:
        self.messages = messages
        self._maildir = maildir
        self._lock = lock
        self._run_sync = run_sync

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterator[bytes]:
        """A small message whole, in one go to a thread; a large one in pieces of 256 KiB."""
        assert isinstance(message, MaildirMessage)
        content: bytes | _Pieces = await self._run_sync(self._begin, message)
        return content

    def _begin(self, message: MaildirMessage) -> bytes | _Pieces:
        try:
            fd = self._open_wherever(message)
        except OSError as failure:
            self._unreadable(message, failure)
        try:
            first = os.read(fd, READ_OCTETS)
            if len(first) < READ_OCTETS:
                os.close(fd)
                return first
        except OSError as failure:
            os.close(fd)
            self._unreadable(message, failure)
        return _Pieces(fd, first, self._run_sync)

    def _unreadable(self, message: MaildirMessage, failure: OSError) -> NoReturn:
        if failure.errno != errno.ENOENT:
            logger.error("cannot read %s: %s", os.fsdecode(message.path), failure.strerror)
        raise MessageUnavailable from None

    def _open_wherever(self, message: MaildirMessage) -> int:
        try:
            return open_message(message.path)
        except FileNotFoundError:
            path = locate(self._maildir).get(message.base)
            if path is None:
                raise
            return open_message(path)

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Remove the files wherever they are now, and sync the directories. What is gone already is a success."""
        if not deleted:
            return
        remaining = 0
        for start in range(0, len(deleted), _REMOVED_AT_ONCE):
            remaining += await self._run_sync(self._remove, deleted[start : start + _REMOVED_AT_ONCE])
        try:
            await self._run_sync(self._sync)
        except OSError as failure:
            logger.error("cannot sync %s: %s", os.fsdecode(self._maildir), failure.strerror)
            raise CommitIncomplete(len(deleted)) from None
        if remaining:
            raise CommitIncomplete(remaining)

    def _remove(self, messages: Sequence[MaildirMessage]) -> int:
        """Remove these; returns how many could not be removed."""
        paths = {message.base: message.path for message in messages}
        failed = 0
        for _ in range(_MOST_ATTEMPTS):
            renamed = []
            for base, path in paths.items():
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    renamed.append(base)
                except OSError as failure:
                    logger.error("cannot remove %s: %s", os.fsdecode(path), failure.strerror)
                    failed += 1
            if not renamed:
                return failed
            # Renamed by somebody, or gone: only a look at the directories can tell.
            there = locate(self._maildir)
            paths = {base: there[base] for base in renamed if base in there}
        return failed + len(paths)

    def _sync(self) -> None:
        # Both: what was gone already may have been removed by a session that did not live to sync it.
        for part in (b"new", b"cur"):
            sync_directory(self._maildir + b"/" + part)

    async def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


class _Pieces:
    """A file read in pieces, each in a thread. Closed at its end, by `aclose`, or when it is forgotten."""

    def __init__(self, fd: int, first: bytes, run_sync: RunSync) -> None:
        self._fd: int | None = fd
        self._first: bytes | None = first
        self._run_sync = run_sync

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None and self._fd is not None:
            piece = await self._run_sync(os.read, self._fd, READ_OCTETS)
        if not piece:
            self._close()
            raise StopAsyncIteration
        return piece

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    async def aclose(self) -> None:
        """Close the file. No thread is reading it: a read that was cancelled has been waited for."""
        self._close()

    def __del__(self) -> None:
        self._close()


class MaildirBackend(MaildirStore):
    """Maildirs, and somebody who knows the users: `MaildirBackend(pattern, PasswdFile(path))`."""

    def __init__(self, pattern: str, authenticator: Authenticator, *, run_sync: RunSync | None = None) -> None:
        super().__init__(pattern, run_sync=run_sync)
        self.authenticate = authenticator.authenticate
        if isinstance(authenticator, ApopAuthenticator):
            self.authenticate_apop = authenticator.authenticate_apop
