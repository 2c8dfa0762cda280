"""Messages on their way out: opened before `+OK`, measured, and in the form that the client can take."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from .backend import Maildrop, MessageInfo, MessageUnavailable, Retrievals
from .replies import BAD_MESSAGE, NEEDS_UTF8, OCTETS_AT_ONCE, Multiline, Owner, checked_chunk
from .rules import Headers
from .sansio import Err, Ok, TopCutter, WholeBody, octets_of
from .snapshot import Snapshot
from .surrogate import MAX_HEADER, HeaderSplitter, needs_utf8, surrogate_header

logger = logging.getLogger("trio_pop3.session")

# A message handed over whole is measured before +OK up to this size; beyond it the end of the body is checked.
_MEASURED_WHOLE: Final = 256 * 1024
# A header of this many octets is rewritten in a few milliseconds at the worst.
_AT_ONCE: Final = 4096


class Retrieval:
    """Opens the messages of one session's maildrop.

    Args:
        owner: the session, which counts and logs.
        maildrop: where the messages are.
        mail: their numbers and sizes.
        headers: what becomes of a header that is not ASCII; `Headers.PASS` once the client has asked for UTF8.
        checkpoint, aside: see `Session`.
    """

    __slots__ = ("_aside", "_checkpoint", "_mail", "_maildrop", "_observer", "_owner", "headers")

    def __init__(
        self,
        owner: Owner,
        maildrop: Maildrop,
        mail: Snapshot,
        headers: Headers,
        checkpoint: Callable[[], Awaitable[None]],
        aside: Callable[[Callable[[], bytes]], Awaitable[bytes]],
    ) -> None:
        self.headers = headers
        self._checkpoint = checkpoint
        self._aside = aside
        self._owner = owner
        self._maildrop = maildrop
        self._observer = maildrop if isinstance(maildrop, Retrievals) else None
        self._mail = mail

    async def open(
        self, number: int, status: Ok, *, octets: int | None = None, cutter: TopCutter | None = None
    ) -> Multiline | Err:
        """A message with its first octets already in hand, so that a failure can still be an `-ERR`."""
        message = self._mail.messages[number - 1]  # which may be made for this
        content = await self._maildrop.retrieve(message)
        source, rest, whole = None, None, None
        if isinstance(content, bytes):
            first = content
            if len(content) <= _MEASURED_WHOLE:
                # Encoding measures too: what will be sent like this is gone through once.
                whole = WholeBody(content) if cutter is None and len(content) <= OCTETS_AT_ONCE else None
                size = octets_of(content) if whole is None else whole.octets
                if size != self._mail.stored[number - 1]:
                    uid = self._mail.uids[number - 1]
                    logger.error("session %s: uid %s is not of its announced size", self._owner.client.session, uid)
                    return BAD_MESSAGE
        else:
            source = aiter(content)
            rest = None if content is source else content
        try:
            if source is not None:
                first = checked_chunk(await anext(source, b""))
            fitting = first if self.headers is Headers.PASS else await self._fitting(first, source)
        except BaseException:
            await self._owner.close_source(source, rest)
            raise
        if fitting is None:
            await self._owner.close_source(source, rest)
            return NEEDS_UTF8
        if fitting is not first:
            whole = None  # the header is another one
        then = None if cutter is not None or self._observer is None else partial(self._tell, self._observer, message)
        return Multiline(
            self._owner, status, fitting, source,
            content=rest, octets=octets, cutter=cutter, whole=whole, then=then,
        )  # fmt: skip

    def _tell(self, observer: Retrievals, message: MessageInfo) -> None:
        try:
            observer.retrieved(message)
        except Exception as failure:  # the client has its message; this is nothing to tell it
            self._owner.log_failure("noting a retrieval", failure)

    async def _fitting(self, first: bytes, source: AsyncIterator[bytes] | None) -> bytes | None:
        """The beginning of a message, its header in ASCII; None if such a message is not sent."""
        splitter = await _split(first, source, self._checkpoint)
        header = splitter.header
        if needs_utf8(header):
            if self.headers is Headers.REFUSE:
                return None
            header = await self._surrogate(header)
        elif source is None:
            return first
        return b"".join((header, splitter.rest, first[MAX_HEADER:]))

    async def measure_surrogates(self) -> None:
        """Find the messages that will be sent with another header, and their sizes. Reads every header."""
        if self.headers is not Headers.SURROGATE:
            return
        sizes: dict[int, int] = {}
        for number, octets in enumerate(self._mail.stored, 1):
            try:
                header = await self._header(number)
            except MessageUnavailable:
                continue  # it cannot be sent either
            if needs_utf8(header):
                sizes[number] = octets + _canonical(await self._surrogate(header)) - _canonical(header)
            await self._checkpoint()
        self._mail.resize(sizes)

    async def _surrogate(self, header: bytes) -> bytes:
        if len(header) <= _AT_ONCE:
            return surrogate_header(header)
        return await self._aside(partial(surrogate_header, header))

    async def _header(self, number: int) -> bytes:
        content = await self._maildrop.retrieve(self._mail.messages[number - 1])
        if isinstance(content, bytes):
            return (await _split(content, None, self._checkpoint)).header
        source = aiter(content)
        try:
            return (await _split(b"", source, self._checkpoint)).header
        finally:
            await self._owner.close_source(source, None if content is source else content)


async def _split(
    first: bytes, source: AsyncIterator[bytes] | None, checkpoint: Callable[[], Awaitable[None]]
) -> HeaderSplitter:
    """Read on until the header is there whole. Of `first`, which may be large, no more than that is looked at."""
    splitter = HeaderSplitter()
    splitter.feed(first[:MAX_HEADER])
    while source is not None and not splitter.done and (chunk := await anext(source, None)) is not None:
        splitter.feed(checked_chunk(chunk))
        await checkpoint()
    return splitter


def _canonical(header: bytes) -> int:
    """Octets of a header as sent, with a line behind it so that it counts like the beginning of a whole message."""
    return octets_of(header + b"x\n")
