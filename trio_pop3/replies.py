"""What a session answers with: the fixed texts, what failures become, and replies that have a body."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias

from .backend import AuthenticationFailed, BackendError, ClientInfo
from .sansio import Challenge, Err, Ok, ResponseCode, TopCutter, WholeBody

# Octets of a body in one piece.
OCTETS_AT_ONCE: Final = 64 * 1024

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")

NO_SUCH_MESSAGE: Final = Err("no such message")
DELETED_MESSAGE: Final = Err("message already deleted")
TOO_MANY_BAD: Final = Err("too many bad commands, closing")
INTERNAL_ERROR: Final = Err("internal error, try again later", ResponseCode.SYS_TEMP)
BAD_MAILDROP: Final = Err("the mail store returned an inconsistent maildrop", ResponseCode.SYS_PERM)
BAD_MESSAGE: Final = Err("the mail store returned a message of another size", ResponseCode.SYS_PERM)
NOT_IN_CLEAR: Final = Err("login without encryption is not allowed here")
ENCRYPT_FIRST: Final = Err(NOT_IN_CLEAR.text, ResponseCode.AUTH)
NO_PASSWORDS: Final = Err("passwords are not taken here")
NO_APOP: Final = Err("APOP is not offered here")
ANOTHER_MECHANISM: Final = Err("this mechanism is not available")
CANCELLED: Final = Err("authentication cancelled")
NEEDS_UTF8: Final = Err("this message needs UTF8", ResponseCode.UTF8)

# RFC 3206 section 4 allows these everywhere; RFC 2449 section 8.1 the others in replies to PASS, APOP and AUTH.
_CODES: Final = frozenset({ResponseCode.SYS_TEMP, ResponseCode.SYS_PERM})
_CODES_OF_LOGIN: Final = _CODES | {ResponseCode.AUTH, ResponseCode.IN_USE, ResponseCode.LOGIN_DELAY}


def maildrop_has(count: int, octets: int) -> Ok:
    """What a login and RSET are answered with."""
    return Ok(f"maildrop has {count} message{'' if count == 1 else 's'} ({octets} octets)")


def messages_follow(count: int) -> Ok:
    """The first line of a listing."""
    return Ok(f"{count} message follows" if count == 1 else f"{count} messages follow")


def safe_text(text: str, default: str) -> str:
    """A reply text made from somebody else's words: one line, no controls, no leading bracket, never empty."""
    text = _UNSAFE.sub(" ", text).strip().lstrip("[ ")
    return text or default


def failure_reply(failure: BackendError, *, login: bool = False) -> Err:
    """The one place where typed failures become replies. Codes are used where they belong only."""
    try:
        text = "" if isinstance(failure, AuthenticationFailed) else str(failure)
    except Exception:
        text = ""  # made of something that cannot be shown
    code = failure.code
    # A subclass of somebody else's may hold anything.
    known = isinstance(code, ResponseCode) and code in (_CODES_OF_LOGIN if login else _CODES)
    if not (code is None or known):
        code = ResponseCode.SYS_TEMP
    usual = failure.text if isinstance(failure.text, str) else BackendError.text
    return Err(safe_text(text, "") or safe_text(usual, BackendError.text), code)


class Owner(Protocol):
    """What a reply with a body needs of the session it belongs to."""

    client: ClientInfo

    def log_failure(self, doing: str, failure: Exception) -> None:
        """The backend failed."""

    def delivered(self, octets: int | None) -> None:
        """A message was handed out whole, with its size; or its top, with None."""

    async def close_source(self, *opened: object) -> None:
        """Close what a backend gave to read a message from: whatever of it has an `aclose`."""


class BodyBroken(Exception):
    """A multi-line reply cannot be finished truthfully: close without a terminator. The reason is already logged."""


class Listing:
    """A listing in slices, made when they are asked for."""

    __slots__ = ("_checkpoint", "_slices")

    def __init__(self, slices: Iterator[bytes], checkpoint: Callable[[], Awaitable[None]]) -> None:
        self._slices = slices
        self._checkpoint = checkpoint

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._slices:
            await self._checkpoint()
            return piece
        raise StopAsyncIteration


def checked_chunk(chunk: Any) -> bytes:
    """What a backend gave as a piece of a message. Raises TypeError if it is something else than octets."""
    if not isinstance(chunk, bytes):
        raise TypeError(f"a message chunk must be bytes, not {type(chunk).__name__}")
    return chunk


class Multiline:
    """A `+OK` and the body behind it: iterate once for chunks of at most 64 KiB, and `aclose` on every way out.

    Send `status`, the chunks as `Data`, then `EndOfBody(octets)`; if that could be written, call `sent`. `octets` is
    the announced size, or None if none was. If `whole` is not None, it may be sent instead of chunks and end. Chunks
    may be empty: a backend that gives nothing again and again does not keep the iteration from coming back.
    Iterating raises BodyBroken if the backend fails or gives something else than octets.
    """

    __slots__ = (
        "_content", "_cutter", "_owner", "_pending", "_position", "_source", "_then", "octets", "status", "whole",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        status: Ok,
        first: bytes,
        source: AsyncIterator[bytes] | None = None,
        *,
        content: object = None,
        octets: int | None = None,
        cutter: TopCutter | None = None,
        then: Callable[[], None] | None = None,
        whole: WholeBody | None = None,
    ) -> None:
        self.status = status
        self.whole: Final = whole
        self.octets: Final = octets
        self._owner = owner
        self._pending = first
        self._position = 0
        self._source = source
        self._content = content  # what the source iterates over, if that wants to be closed as well
        self._cutter = cutter
        self._then = then  # called when all of it has been sent

    def __aiter__(self) -> Multiline:
        return self

    async def __anext__(self) -> bytes:
        if self._cutter is not None and self._cutter.done:
            raise StopAsyncIteration
        if self._position >= len(self._pending):
            self._pending = await self._next_from_source()
            self._position = 0
        start, self._position = self._position, self._position + OCTETS_AT_ONCE
        chunk = self._pending[start : self._position]
        return chunk if self._cutter is None else self._cutter.cut(chunk)

    async def _next_from_source(self) -> bytes:
        if self._source is None:
            raise StopAsyncIteration
        try:
            return checked_chunk(await anext(self._source))
        except StopAsyncIteration:
            raise
        except Exception as failure:
            self._owner.log_failure("reading a message", failure)
            raise BodyBroken from None

    def sent(self) -> None:
        """The end of the body could be written too: count the message."""
        if self._cutter is not None:
            self._owner.delivered(None)
        elif self.octets is not None:
            self._owner.delivered(self.octets)
        if self._then is not None:
            self._then()

    async def aclose(self) -> None:
        """Close what the backend opened. Never raises because of the backend: its failure is logged."""
        await self._owner.close_source(self._source, self._content)


Reply: TypeAlias = Ok | Err | Challenge | Multiline
