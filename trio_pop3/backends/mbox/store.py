"""The maildrop of a user is an mbox file, such as /var/mail/NAME. File work is done in threads."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypedDict, TypeVar, Unpack, cast

import trio

from ...backend import (
    AuthenticationFailed,
    Authenticator,
    ClientInfo,
    Combined,
    CommitIncomplete,
    MaildropInUse,
    MessageInfo,
    MessageUnavailable,
    PermanentFailure,
    TemporaryFailure,
)
from ..maildir.lock import owner_note
from ..maildir.paths import PathPattern
from ..maildir.reading import RunSync
from ..maildir.store import in_threads
from .compact import JournalConflict, Places, compact, read_ordinals, recover
from .locations import LOCK_SUFFIX, state_of
from .locks import LOCK_NAMES, OpenMailbox, SessionLock
from .scan import READ_OCTETS, Found, Message, NotAnMbox, Rules, Unquoter, find
from .uids import Ordinals, dump, key_of, load, number, remaining, uid_of

logger = logging.getLogger("trio_pop3.mbox")

T = TypeVar("T")

DEFAULT_LOCKS: Final = ("dotlock", "fcntl")
# What an administrator must mend; anything else may pass.
_PERMANENT: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
# Seconds between two looks at a locked file, at first and at most.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


class MboxOptions(TypedDict, total=False):
    """The keyword arguments of `MboxStore`."""

    locks: Sequence[str]
    lock_timeout: float
    stale_lock: float
    state: str | None
    must_exist: bool
    content_length: bool
    unquote: bool
    x_uidl: bool
    limiter: trio.CapacityLimiter | None
    run_sync: RunSync | None


@dataclass(frozen=True, slots=True)
class MboxMessage(MessageInfo):
    """A message of a snapshot, where it was in the file, and what makes it known."""

    found: Found
    key: str
    ordinal: int


class MboxStore:
    """Serves mbox files found by a pattern, such as `/var/mail/{user}`.

    Messages are sent as they are stored, without the From_ line. Unique-ids are hashes of what is stored. Beside the
    mailboxes of a directory a directory `.trio-pop3` is made for the locks of sessions and the journals of commits.
    A file that is not there is an empty maildrop if its directory is there: delivery agents make it with the first
    message, and some mail readers remove it with the last.

    Args:
        pattern: see `PathPattern`, which may raise ValueError.
        locks: what is locked, in this order, while the file is read at login and rewritten at QUIT: "dotlock"
            (`NAME.lock`), "fcntl", "flock". Those that delivery uses must be among them.
        lock_timeout: how long to wait for them, in seconds, 0 or more.
        stale_lock: age at which a `NAME.lock` of somebody else is taken for left behind, in seconds, more than 0.
        state: a directory to use instead of `.trio-pop3`, for all mailboxes. It is ours alone.
        must_exist: a file that is not there is a failure.
        content_length: believe a Content-Length that leads to a From_ line or the end of the file exactly. For files
            that Solaris or its like writes, where lines that look like From_ lines are not quoted.
        unquote: the files are mboxrd: `>From ` is sent as `From `, `>>From ` as `>From `.
        x_uidl: an X-UIDL field is the unique-id, as with qpopper. Anybody can send mail that has one.
        limiter: for the default worker threads.
        run_sync: how blocking work is run instead. It must not return or raise while the work goes on.

    Raises ValueError for values that make no sense.
    """

    def __init__(
        self,
        pattern: str,
        *,
        locks: Sequence[str] = DEFAULT_LOCKS,
        lock_timeout: float = 10.0,
        stale_lock: float = 600.0,
        state: str | None = None,
        must_exist: bool = False,
        content_length: bool = False,
        unquote: bool = False,
        x_uidl: bool = False,
        limiter: trio.CapacityLimiter | None = None,
        run_sync: RunSync | None = None,
    ) -> None:
        if not locks or len(set(locks)) != len(locks) or not set(locks) <= set(LOCK_NAMES):
            raise ValueError(f"locks are one or more of {', '.join(LOCK_NAMES)}, not {', '.join(locks) or 'none'}")
        if not 0 <= lock_timeout < float("inf"):
            raise ValueError(f"lock_timeout is a number of seconds, 0 or more, not {lock_timeout!r}")
        if not 0 < stale_lock < float("inf"):
            raise ValueError(f"stale_lock is a number of seconds, more than 0, not {stale_lock!r}")
        self._pattern: Final = PathPattern(pattern)
        self._state: Final = state
        self._ways: Final = Ways(
            tuple(locks), lock_timeout, stale_lock, must_exist, x_uidl, Rules(content_length, unquote)
        )
        self._run_sync: Final = in_threads(limiter) if run_sync is None else run_sync

    async def open(self, user: str, client: ClientInfo) -> MboxMaildrop:
        """Lock the session, then the file for as long as it takes to read it. As `trio_pop3.backend.Store` says."""
        path = self._pattern.path_for(user)
        # The lock file of bob is not the mailbox of bob.lock.
        if path is None or path.endswith(".lock"):
            logger.warning("session %s: %a has no place in %r", client.session, user, self._pattern)
            raise AuthenticationFailed
        box = Mailbox(os.fsencode(path), self._state, self._ways, owner_note(user, client))
        try:
            messages = await self._read(box)
        except BaseException:
            # Failed, or cancelled when the thread had already finished. The thread is through in either case, so that
            # nothing takes a lock behind our back.
            box.close()
            raise
        return MboxMaildrop(box, messages, self._ways.lock_timeout, self._run_sync)

    async def _read(self, box: Mailbox) -> list[MboxMessage]:
        await self._run_sync(box.begin)
        try:
            return await until_unlocked(partial(self._run_sync, box.read), self._ways.lock_timeout)
        except BlockingIOError:
            logger.error("cannot read %a: it is locked by another program", os.fsdecode(box.path))
            raise TemporaryFailure("the mailbox is locked by another program") from None


@dataclass(frozen=True, slots=True)
class Ways:
    """The options that have to do with a file."""

    locks: tuple[str, ...]
    lock_timeout: float
    stale_lock: float
    must_exist: bool
    x_uidl: bool
    rules: Rules


async def until_unlocked(attempt: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Try until it does not raise BlockingIOError, or the time is over. Waits in no thread."""
    deadline, pause = None, _FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except BlockingIOError:
            now = trio.current_time()
            deadline = now + seconds if deadline is None else deadline
            if now >= deadline:
                raise
            await trio.sleep(min(pause, deadline - now))
            pause = min(2 * pause, _LONGEST_PAUSE)


class Mailbox:
    """An mbox file in a session. Blocking; every method but `close` is called in threads, one at a time."""

    def __init__(self, path: bytes, state: str | None, ways: Ways, owner: str) -> None:
        self.path: Final = path
        self._ways: Final = ways
        self._own_state: Final = state is None
        stem = state_of(path, state)
        self._state: Final = os.path.dirname(stem)
        self._places: Final = Places(stem + b".journal", stem + b".uids")
        self._session: Final = SessionLock(stem + LOCK_SUFFIX, owner)
        self._file: OpenMailbox | None = None
        self._known: dict[str, Ordinals] = {}
        self._where: dict[str, MboxMessage] = {}  # by unique-id, in the order of the file

    def begin(self) -> None:
        """Take the lock of the session. Raises as `Store.open` says."""
        try:
            _make_ours(self._state)
            self._session.acquire()
        except BlockingIOError:
            raise MaildropInUse from None
        except OSError as failure:
            raise self._unopened(failure) from None

    def read(self) -> list[MboxMessage]:
        """Lock the file, finish what a crash has cut short, and read it.

        Raises BlockingIOError if others have it locked; else as `Store.open` says.
        """
        try:
            self._file = self._locked()
            if self._file is None:
                return []
            try:
                messages = self._read(self._file)
            finally:
                self._file.unlock()
        except BlockingIOError:
            raise
        except OSError as failure:
            raise self._unopened(failure) from None
        except NotAnMbox as failure:
            logger.error("%a is not an mbox: %s", os.fsdecode(self.path), failure)
            raise PermanentFailure("the mailbox cannot be read") from None
        except JournalConflict as failure:
            logger.error(
                "a removal of mail from %a was cut short, and cannot be finished: %s. What the mailbox should hold "
                "from there on is in %a; put that right and remove it",
                os.fsdecode(self.path), failure, os.fsdecode(self._places.journal),
            )  # fmt: skip
            raise PermanentFailure("the mailbox must be looked after") from None
        self._where = {message.uid: message for message in messages}
        return messages

    def _locked(self) -> OpenMailbox | None:
        try:
            return OpenMailbox(self.path, self._ways.locks, self._ways.stale_lock)
        except FileNotFoundError:
            if self._ways.must_exist:
                raise
            os.stat(os.path.dirname(self.path))
            if os.path.lexists(self._places.journal):
                raise JournalConflict("the mailbox is gone") from None
            return None

    def _read(self, file: OpenMailbox) -> list[MboxMessage]:
        assert file.fd is not None
        if recover(file.fd, self._places, file.refresh):
            logger.warning("finished a removal of mail from %a that was cut short", os.fsdecode(self.path))
        all_found = [found for nth, found in enumerate(find(file.fd, self._ways.rules)) if nth or not found.internal]
        self._read_at = os.fstat(file.fd)
        keys = [key_of(found, self._ways.x_uidl) for found in all_found]
        self._known = load(read_ordinals(self._places))
        return [
            MboxMessage(uid_of(key, ordinal), found.octets, found, key, ordinal)
            for found, key, ordinal in zip(all_found, keys, number(keys, self._known), strict=True)
        ]

    def _unopened(self, failure: OSError) -> TemporaryFailure | PermanentFailure:
        culprit = self.path if failure.filename is None else os.fsencode(failure.filename)
        logger.error(
            "cannot open the mailbox %a: %s: %a", os.fsdecode(self.path), failure.strerror, os.fsdecode(culprit)
        )
        if failure.errno == errno.ENOENT:
            return TemporaryFailure("the mail store is not available")
        kind = PermanentFailure if failure.errno in _PERMANENT else TemporaryFailure
        return kind("the mail store cannot be read")

    @property
    def _fd(self) -> int:
        assert self._file is not None
        assert self._file.fd is not None
        return self._file.fd

    def fetch(self, message: MboxMessage) -> bytes | Stretch:
        """A message that fits into one read, or the way to read a larger one, once it is sure that it is that message.

        Raises MessageUnavailable.
        """
        if message.uid not in self._where:
            raise MessageUnavailable
        fd, found, rules = self._fd, self._where[message.uid].found, self._ways.rules
        try:
            stretch = Stretch(fd, found, rules)
            if found.stop - found.text <= READ_OCTETS:
                return b"".join(stretch)
            if not self._untouched(fd):
                for _ in stretch:
                    pass
                stretch = Stretch(fd, found, rules)
        except OSError as failure:
            logger.error("cannot read %a: %s", os.fsdecode(self.path), failure.strerror)
            raise MessageUnavailable from None
        return stretch

    def _untouched(self, fd: int) -> bool:
        """Whether nobody has written to the file since it was read, as far as the file system can tell."""
        then, now = self._read_at, os.fstat(fd)
        return (then.st_size, then.st_mtime_ns, then.st_ctime_ns) == (now.st_size, now.st_mtime_ns, now.st_ctime_ns)

    def remove(self, marked: Sequence[MboxMessage]) -> None:
        """Remove messages, or none of them. What this session has removed before is a success.

        Raises BlockingIOError if others have the file locked, CommitIncomplete.
        """
        uids = {message.uid for message in marked}
        wanted = [message for uid, message in self._where.items() if uid in uids]
        if not wanted:
            return
        file = None
        try:
            file = OpenMailbox(self.path, self._ways.locks, self._ways.stale_lock)
            self._rewrite(file, wanted, self._found_again(file, wanted[0].found.start))
        except BlockingIOError:
            raise
        except (OSError, NotAnMbox, ChangedBehindOurBackError) as failure:
            said = failure.strerror if isinstance(failure, OSError) else failure
            logger.error("cannot remove mail from %a: %s", os.fsdecode(self.path), said)
            raise CommitIncomplete(len(wanted)) from None
        finally:
            if file is not None:
                file.close()

    def _found_again(self, file: OpenMailbox, start: int) -> list[Found]:
        """What is in the file from a message on: all that was there at login, and behind it what is new."""
        assert file.fd is not None
        if not os.path.samestat(os.fstat(self._fd), os.fstat(file.fd)):
            raise ChangedBehindOurBackError("it is another file than at login")
        now = list(find(file.fd, self._ways.rules, start))
        then = [message.found for message in self._where.values() if message.found.start >= start]
        if [_identity(found) for found in then] != [_identity(found) for found in now[: len(then)]]:
            raise ChangedBehindOurBackError("it was changed since login, and not by delivery")
        return now

    def _rewrite(self, file: OpenMailbox, wanted: Sequence[MboxMessage], now: Sequence[Found]) -> None:
        assert file.fd is not None
        shown = list(self._where.values())
        keys = [message.key for message in shown]
        keys += [key_of(found, self._ways.x_uidl) for found in now if found.start > shown[-1].found.start]
        left = remaining(
            list(zip(keys, number(keys, self._known), strict=True)),
            [(message.key, message.ordinal) for message in wanted],
            self._known,
        )
        ends = {found.start: found.end for found in now}
        holes = [(message.found.start, ends[message.found.start]) for message in wanted]
        compact(file.fd, holes, self._places, dump(left), file.refresh)
        self._known = left
        gone, self._where = 0, {}
        lengths = {message.uid: end - start for message, (start, end) in zip(wanted, holes, strict=True)}
        for message in shown:
            if message.uid in lengths:
                gone += lengths[message.uid]
            else:
                self._where[message.uid] = replace(message, found=message.found.moved(-gone))

    def close(self) -> None:
        """Give everything back. Does nothing the second time."""
        try:
            file, self._file = self._file, None
            if file is not None:
                file.close()
        finally:
            self._session.release()


def _identity(found: Found) -> tuple[int, str]:
    return found.start, found.digest


class ChangedBehindOurBackError(Exception):
    """The file is not what it was at login with mail appended to it."""


def _make_ours(directory: bytes) -> None:
    """Make the directory for locks and journals. Raises OSError if there is one in which others can put things."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise OSError(errno.EPERM, "not a directory that is ours alone", directory) from None


class Stretch:
    """A message read piece by piece, which is found out at its end if it is not what it was. Blocking."""

    __slots__ = ("_at", "_found", "_message", "_unquoter", "fd")

    def __init__(self, fd: int, found: Found, rules: Rules) -> None:
        self.fd: Final = fd
        self._found: Final = found
        self._at = found.text
        self._message: Message | None = Message(found.start, os.pread(fd, found.text - found.start, found.start), rules)
        self._unquoter: Final = Unquoter() if rules.unquote else None

    def __iter__(self) -> Stretch:
        return self

    def __next__(self) -> bytes:
        """The next piece, as it is to be sent. Raises MessageUnavailable before the last piece; OSError."""
        if self._message is None:
            raise StopIteration
        piece = os.pread(self.fd, min(READ_OCTETS, self._found.stop - self._at), self._at)
        self._at += len(piece)
        last = self._at == self._found.stop
        if last:
            message, self._message = self._message, None
            now = message.finish(self._found.stop, self._found.end, piece)
            if (now.digest, now.octets) != (self._found.digest, self._found.octets):
                raise MessageUnavailable
        elif piece:
            self._message.update(piece)
        else:
            raise MessageUnavailable
        if self._unquoter is not None:
            piece = self._unquoter.update(piece) + (self._unquoter.finish() if last else b"")
        return piece


class MboxMaildrop:
    """One session's snapshot of an mbox file, and the lock on it."""

    def __init__(self, box: Mailbox, messages: Sequence[MboxMessage], lock_timeout: float, run_sync: RunSync) -> None:
        self.messages = messages
        self._box = box
        self._lock_timeout = lock_timeout
        self._run_sync = run_sync

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterator[bytes]:
        """A message of up to 256 KiB whole, in one go to a thread; a larger one in pieces of that size.

        A larger one is read twice, to be sure before anything is said. If it changes after that, the end is not sent.
        """
        content = await self._run_sync(self._box.fetch, message)
        return content if isinstance(content, bytes) else self._pieces(content)

    async def _pieces(self, stretch: Stretch) -> AsyncIterator[bytes]:
        while (piece := await self._run_sync(next, stretch, None)) is not None:
            yield piece

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Rewrite the file without these messages, under the locks that delivery takes; all of them go, or none.

        Waits for the locks as long as `open` does; may be cancelled before it has them, and is not cut after that.
        """
        if not deleted:
            return
        remove = partial(self._run_sync, self._box.remove, cast("Sequence[MboxMessage]", deleted))
        try:
            await until_unlocked(remove, self._lock_timeout)
        except BlockingIOError:
            logger.error("cannot remove mail from %a: it is locked by another program", os.fsdecode(self._box.path))
            raise CommitIncomplete(len(deleted)) from None

    async def release(self) -> None:
        """Give the lock of the session back."""
        self._box.close()


class MboxBackend(Combined):
    """mbox files, and somebody who knows the users: `MboxBackend("/var/mail/{user}", PasswdFile(path))`.

    The arguments are those of `MboxStore`.
    """

    def __init__(self, pattern: str, authenticator: Authenticator, **options: Unpack[MboxOptions]) -> None:
        super().__init__(authenticator, MboxStore(pattern, **options))
