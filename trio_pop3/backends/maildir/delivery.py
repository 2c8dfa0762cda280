"""Mail for many, into their Maildirs. Blocking work is done in threads, one way there and back for a small message.

Each recipient gets a file of its own. A hard link would save a copy, but the files differ in their Delivered-To, belong
to different users, and count against different quotas. Up to 256 KiB of a message stay in memory; beyond that it is
written to every tmp/ piece by piece, and a recipient whose disk is full drops out without a word to the others.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import Final

import trio

from ...backend import TemporaryFailure
from ...delivery import DeliveryFailed, Envelope, NoSuchUser, Recipients, StoreFull, header
from ...lmtp.grammar import Address
from .access import Access, check_owning
from .deliver import Unfinished
from .paths import PathPattern
from .quota import Quota
from .reading import RunSync
from .store import in_threads

logger = logging.getLogger("trio_pop3.maildir")

_SPOOLED_OCTETS: Final = 256 * 1024
# What the system says of a name that nothing has, or that is too long for anything to have.
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_LONE_CRLF: Final = re.compile(rb"(?<!\r)\r\n")


class UnixLines:
    """CRLF to LF, as files have it; every other CR stays, and a CRLF behind a CR: so RETR gives back what came."""

    __slots__ = ("_before", "_held")

    def __init__(self) -> None:
        self._before = b""  # the octet before `_held`
        self._held = b""  # a CR that may be half a line end

    def convert(self, chunk: bytes) -> bytes:
        """One more chunk."""
        text = self._before + self._held + chunk
        start = len(self._before)
        self._held = b"\r" if text[start:].endswith(b"\r") else b""
        text = text[: len(text) - len(self._held)]
        self._before = text[-1:]
        return (_LONE_CRLF.sub(b"\n", text) if b"\r\r" in text else text.replace(b"\r\n", b"\n"))[start:]

    def finish(self) -> bytes:
        """What was held back."""
        return self._held


def delivery_failed(failure: Exception, maildir: str, quota: Quota | None) -> DeliveryFailed:
    """What a failure to deliver is to the mail system; its text is for logs."""
    if isinstance(failure, DeliveryFailed):
        return failure
    text = f"cannot deliver to {maildir}: {type(failure).__name__}: {failure}"
    if isinstance(failure, OSError):
        text = f"cannot deliver to {maildir}: {_file(failure, maildir)}{(failure.strerror or str(failure)).lower()}"
        if failure.errno == errno.ENOSPC:
            return StoreFull(text)
        if failure.errno == errno.EDQUOT:
            return (quota or Quota()).over(text)
    return DeliveryFailed(text)


def _file(failure: OSError, maildir: str) -> str:
    """Which file of the Maildir it was, if it is known."""
    if not isinstance(failure.filename, str | bytes):
        return ""
    name = os.fsdecode(failure.filename).removeprefix(maildir).strip("/")
    return f"{name}: " if name else ""


class MaildirTarget:
    """A `DeliveryTarget`: Maildirs found by a pattern.

    Args:
        pattern: see `PathPattern`, which may raise ValueError.
        knows: whether there is such a user; called in threads, and may raise TemporaryFailure or OSError. Without it
            everybody is known who has a Maildir, and nobody is ever refused for good: it may not be mounted.
        recipients: how an address becomes a user's name.
        quota: how much a Maildir may hold.
        limiter, run_sync, follow_symlinks, as_owner: as of `MaildirStore`, which has to have the same.

    Raises as `MaildirStore` does.
    """

    def __init__(
        self,
        pattern: str,
        *,
        knows: Callable[[str], bool] | None = None,
        recipients: Recipients | None = None,
        quota: Quota | None = None,
        limiter: trio.CapacityLimiter | None = None,
        run_sync: RunSync | None = None,
        follow_symlinks: bool = False,
        as_owner: bool = False,
    ) -> None:
        check_owning(follow_symlinks=follow_symlinks, as_owner=as_owner)
        self._follow_symlinks: Final = follow_symlinks
        self._as_owner: Final = as_owner
        self._pattern: Final = PathPattern(pattern)
        self._knows: Final = knows
        self._recipients: Final = recipients or Recipients()
        self._quota: Final = quota
        self._run_sync: Final = in_threads(limiter) if run_sync is None else run_sync

    async def find(self, address: Address) -> str:
        """The user's name. Raises NoSuchUser or DeliveryFailed."""
        found: str = await self._run_sync(self.find_sync, address)
        return found

    def find_sync(self, address: Address) -> str:
        """`find`, blocking."""
        try:
            return self._recipients.find(address, self._pattern.path_for, self._knows or self._has_maildir)
        except NoSuchUser:
            if self._knows is None and any(map(self._pattern.path_for, self._recipients.names(address))):
                raise DeliveryFailed(f"no Maildir for {str(address)!a}") from None
            raise
        except (TemporaryFailure, OSError) as failure:
            raise DeliveryFailed(f"cannot tell who the users are: {failure}") from None

    def _has_maildir(self, user: str) -> bool:
        """Raises DeliveryFailed if there is one, or may be, that we are not let into."""
        path = self._pattern.path_for(user)
        if path is None:
            return False
        try:
            return stat.S_ISDIR(os.stat(os.path.join(path, "new")).st_mode)
        except OSError as failure:
            if failure.errno in _NOT_THERE:
                return False
            raise delivery_failed(failure, path, None) from None

    @property
    def quota(self) -> Quota | None:
        """How much a Maildir may hold."""
        return self._quota

    @property
    def root(self) -> str:
        """What the pattern has all Maildirs in."""
        return self._pattern.root

    def begin(self, envelope: Envelope) -> MaildirDelivery:
        """A message comes. Nothing is touched yet."""
        sender = "" if envelope.sender is None else str(envelope.sender)
        copies = [
            _Copy(self._access(user), header(sender, str(address)) + envelope.trace, self._quota)
            for address, user in envelope.recipients
        ]
        return MaildirDelivery(copies, self._run_sync)

    def _access(self, user: str) -> Access:
        return Access(
            os.fsencode(self._pattern.root), os.fsencode(self.maildir_of(user)), None, self._run_sync,
            follow_symlinks=self._follow_symlinks, as_owner=self._as_owner, parts=(b"tmp", b"new"),
        )  # fmt: skip

    def maildir_of(self, user: str) -> str:
        """Where the mail of a user goes that was found. Raises NoSuchUser for any other that could have no place."""
        path = self._pattern.path_for(user)
        if path is None:
            raise NoSuchUser(f"{user!a} has no place in {self._pattern!r}")
        return path


class _Copy:
    """What one recipient gets. Blocking."""

    def __init__(self, access: Access, head: bytes, quota: Quota | None) -> None:
        self.maildir: Final = os.fsdecode(access.path)
        self._access: Final = access
        self.failure: DeliveryFailed | None = None
        self._head: Final = head
        self._quota: Final = quota
        self._file: Unfinished | None = None

    def write(self, octets: bytes) -> None:
        """Into tmp/. What goes wrong is remembered, and nothing more is written."""
        if self.failure is not None:
            return
        try:
            self._access.do(self._write, octets)
        except Exception as failure:  # of this recipient only
            self._fail(failure)

    def _write(self, octets: bytes) -> None:
        if self._file is None:
            self._file = Unfinished(self.maildir, self._quota)
            self._file.write(self._head)
        self._file.write(octets)

    def finish(self) -> None:
        """Into new/, for good. Raises DeliveryFailed."""
        if self.failure is None:
            assert self._file is not None
            file, self._file = self._file, None
            try:
                self._access.do(file.finish)
            except Exception as failure:
                self._fail(failure)
        if self.failure is not None:
            raise self.failure

    @property
    def is_open(self) -> bool:
        """Whether there is something in tmp/."""
        return self._file is not None

    def discard(self) -> None:
        """Remove it."""
        file, self._file = self._file, None
        if file is not None:
            self._access.do(file.discard)

    def _fail(self, failure: Exception) -> None:
        self._file = None  # it has removed itself
        self.failure = delivery_failed(failure, self.maildir, self._quota)
        if type(self.failure) is DeliveryFailed and not isinstance(failure, OSError):
            logger.error("this should not have happened in a delivery", exc_info=failure)


class MaildirDelivery:
    """One message on its way; see `trio_pop3.delivery.Delivery`."""

    def __init__(self, copies: Sequence[_Copy], run_sync: RunSync) -> None:
        self._copies: Final = copies
        self._run_sync: Final = run_sync
        self._lines = UnixLines()
        self._held = bytearray()
        self._complete = False

    async def write(self, octets: bytes) -> None:
        """The next octets; every 256 KiB they go to the files. Cancelled, it has written them or some of them."""
        self._held += self._lines.convert(octets)
        if len(self._held) >= _SPOOLED_OCTETS:
            await self._run_sync(self._spool, self._take())

    def _take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken

    def _spool(self, octets: bytes) -> None:
        for copy in self._copies:
            copy.write(octets)

    async def finish(self, index: int) -> None:
        """Deliver to one recipient. Raises DeliveryFailed. Cancelled, it has waited for the thread, and delivered."""
        await self._run_sync(self._finish, self._copies[index])

    def _finish(self, copy: _Copy) -> None:
        if not self._complete:
            self._complete = True
            self._spool(self._take() + self._lines.finish())
        copy.finish()

    async def discard(self) -> None:
        """Remove what was not delivered."""
        if any(copy.is_open for copy in self._copies):
            await self._run_sync(self._discard)

    def _discard(self) -> None:
        for copy in self._copies:
            copy.discard()
