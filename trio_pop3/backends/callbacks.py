"""Plain functions as a backend: the contract of Perl's Net::Server::POP3, every name of it kept (docs/callbacks.md)."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import trio

from ..backend import (
    AuthenticationFailed,
    ClientInfo,
    CommitIncomplete,
    MaildropInUse,
    MessageInfo,
    PermanentFailure,
    Policy,
)
from ..credentials import ApopCredentials, Credentials, PasswordCredentials
from ..sansio import OctetCounter
from .loops import checkpoint

logger = logging.getLogger("trio_pop3.callbacks")

T = TypeVar("T")
Maybe: TypeAlias = T | Awaitable[T]
Answer: TypeAlias = bool | str | None
Item: TypeAlias = str | tuple[str, int] | MessageInfo
Content: TypeAlias = bytes | Iterable[bytes] | AsyncIterable[bytes]

# trio's own default; a limiter of our own so that a slow store does not starve other users of threads.
_THREADS: Final = 40
# The empty message is sent as one empty line.
_EMPTY_MESSAGE: Final = 2
# A thread hop costs as much as reading this much, so small chunks travel together.
_OCTETS_AT_ONCE: Final = 64 * 1024
# Messages looked at, and octets counted, between two checkpoints: about a millisecond.
_ITEMS_AT_ONCE: Final = 1000
_COUNTED_AT_ONCE: Final = 1024 * 1024


class CallbackBackend:
    """A backend made of functions, each plain or `async`.

    Plain functions run in worker threads, so they may block, and must stand being called from several threads; with
    `blocking=False` they run on the event loop, and must not block. One session at a time may have a user's mail.

    Args:
        authenticate: (user, password, ip) -> True, the user's canonical name, False or None. It may raise the typed
            failures. `ip` is None on a UNIX socket.
        list: (user) -> the messages, oldest first: uids, (uid, octets) pairs, or `MessageInfo`. Called once, at login.
        retrieve: (user, uid) -> the message: bytes, or an iterable or async iterable of bytes, with any line ends.
        delete: (user, uid), called at QUIT for each marked message, in ascending order. Raising, or returning False,
            means that it is still there. Without it nothing can be deleted, and the reply to QUIT says so.
        size: (user, uid) -> octets as sent, called once a message, at login, if `list` gave none; 0 is the empty
            message. Without either, each message is retrieved once at login to be measured.
        connect: (client), before the greeting; raising a `BackendError` refuses the connection.
        disconnect: (client, reason), exactly once after each `connect`, however the connection ended.
        apop: (user, digest, timestamp) -> like authenticate; `digest` is 32 lower-case hex digits. Offered only if
            `serve(..., apop=True)`.
        logindelay: seconds between two logins of a user, or (user) -> seconds; called with no user for the most of all.
            Announced, and held to.
        expiretime: days a message is kept, "NEVER", or (user) -> one of these; called with no user for the least.
            Announced; keeping the promise is up to you.
        blocking: run plain functions in threads.
        limiter: how many threads at a time; 40 of this backend's own if it is None.

    A thread cannot be cancelled: a cancelled call waits for its function to return, so nothing is left half done.

    Raises TypeError if a callback cannot be called.
    """

    def __init__(
        self,
        *,
        authenticate: Callable[[str, str, str | None], Maybe[Answer]],
        list: Callable[[str], Maybe[Iterable[Item]]],  # noqa: A002 - the name it has always had
        retrieve: Callable[[str, str], Maybe[Content]],
        delete: Callable[[str, str], object] | None = None,
        size: Callable[[str, str], Maybe[int]] | None = None,
        connect: Callable[[ClientInfo], object] | None = None,
        disconnect: Callable[[ClientInfo, str], object] | None = None,
        apop: Callable[[str, str, str], Maybe[Answer]] | None = None,
        logindelay: int | Callable[..., Maybe[int]] | None = None,
        expiretime: int | str | Callable[..., Maybe[int | str]] | None = None,
        blocking: bool = True,
        limiter: trio.CapacityLimiter | None = None,
    ) -> None:
        threads = (limiter or trio.CapacityLimiter(_THREADS)) if blocking else None

        def optional(name: str, function: object) -> _Callback | None:
            return None if function is None else _Callback(name, function, threads)

        self._authenticate: Final = _Callback("authenticate", authenticate, threads)
        self._list: Final = _Callback("list", list, threads)
        self._retrieve: Final = _Callback("retrieve", retrieve, threads)
        self._delete: Final = optional("delete", delete)
        self._size: Final = optional("size", size)
        self._holders: Final[dict[str, CallbackMaildrop]] = {}
        # Only what is there is offered: these protocols are recognised by their methods.
        if connect is not None or disconnect is not None:
            self.connect = optional("connect", connect) or _nothing
            self.disconnect = optional("disconnect", disconnect) or _nothing
        self._apop: Final = optional("apop", apop)
        self.login_methods: Final = frozenset({"PLAIN"} if apop is None else {"PLAIN", "APOP"})
        if logindelay is not None:
            self.login_delay = _Policy("logindelay", logindelay, threads)
        if expiretime is not None:
            self.expiry = _Policy("expiretime", expiretime, threads)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """See `trio_pop3.backend.Authenticator`. An empty password never does."""
        answer: object = None
        if isinstance(credentials, PasswordCredentials) and credentials.password:
            answer = await self._authenticate(credentials.user, credentials.password, client.host)
        elif isinstance(credentials, ApopCredentials) and self._apop is not None:
            answer = await self._apop(credentials.user, credentials.digest.hex(), credentials.timestamp)
        return _user_name(answer, credentials.user)

    async def open(self, user: str, client: ClientInfo) -> CallbackMaildrop:
        """See `trio_pop3.backend.Store`. The lock is one of this process, on the name that `authenticate` gave."""
        if user in self._holders:
            raise MaildropInUse
        maildrop = self._holders[user] = CallbackMaildrop(user, self._retrieve, self._delete, self._holders)
        try:
            maildrop.messages = await self._snapshot(user)
        except BaseException:
            await maildrop.release()
            raise
        return maildrop

    async def _snapshot(self, user: str) -> Sequence[MessageInfo]:
        listed = await self._list(user)
        if isinstance(listed, str):
            raise TypeError("list must give an iterable of ids, not one str")
        messages: list[MessageInfo] = []
        for number, item in enumerate(await self._list.run(tuple, listed), 1):
            messages.append(await self._described(user, item))
            if number % _ITEMS_AT_ONCE == 0:
                await checkpoint()
        return messages

    async def _described(self, user: str, item: object) -> MessageInfo:
        uid: Any  # checked, like the size, where every backend's are
        octets: Any
        match item:
            case MessageInfo():
                return item
            case str() as uid if self._size is not None:
                octets = await self._size(user, uid)
            case str() as uid:
                octets = await self._measured(user, uid)
            case (uid, octets):
                pass
            case _:
                raise TypeError(f"list must give ids, (id, octets) pairs or MessageInfo, not {type(item).__name__}")
        return MessageInfo(uid, _EMPTY_MESSAGE if type(octets) is int and octets == 0 else octets)

    async def _measured(self, user: str, uid: str) -> int:
        content = await _opened(self._retrieve, user, uid)
        counter = OctetCounter()
        if isinstance(content, bytes):
            for start in range(0, len(content), _COUNTED_AT_ONCE):
                counter.update(content[start : start + _COUNTED_AT_ONCE])
                await checkpoint()
            return counter.finish()
        chunks = aiter(content)
        try:
            async for chunk in chunks:
                counter.update(chunk)
                await checkpoint()
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()
        return counter.finish()


class CallbackMaildrop:
    """One session's mail, and the lock on it while it is its user's entry in `holders`."""

    def __init__(
        self,
        user: str,
        retrieve: _Callback,
        delete: _Callback | None,
        holders: dict[str, CallbackMaildrop],
    ) -> None:
        self.messages: Sequence[MessageInfo] = ()
        self._user = user
        self._retrieve = retrieve
        self._delete = delete
        self._holders = holders

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterable[bytes]:
        """See `trio_pop3.backend.Maildrop`."""
        return await _opened(self._retrieve, self._user, message.uid)

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Every message is tried, whatever became of the ones before. Raises CommitIncomplete, PermanentFailure."""
        if not deleted:
            return
        if self._delete is None:
            raise PermanentFailure("messages cannot be deleted here")
        remaining = 0
        for message in deleted:
            try:
                remaining += await self._delete(self._user, message.uid) is False
            except Exception as failure:
                # Its type and place only: what it says may quote a password, of another system too, and here, long
                # after the login, nothing knows which one must not be logged.
                kind, where = type(failure).__qualname__, _places(failure)
                logger.error("user %r: delete of uid %s failed: %s at%s", self._user, message.uid, kind, where)
                remaining += 1
        if remaining:
            raise CommitIncomplete(remaining)

    async def release(self) -> None:
        """See `trio_pop3.backend.Maildrop`. Without the lock this does nothing."""
        if self._holders.get(self._user) is self:
            del self._holders[self._user]


class _Callback:
    """One function, called where it belongs: in a thread if it may block, otherwise right here."""

    __slots__ = ("_function", "_threads")

    def __init__(self, name: str, function: Any, threads: trio.CapacityLimiter | None) -> None:
        if not callable(function):
            raise TypeError(f"{name} must be a function, not {type(function).__name__}")
        self._function = function
        self._threads = None if _is_async(function) else threads

    async def __call__(self, *arguments: object) -> Any:
        """What the function returns, awaited if it is to be awaited."""
        result = await self.run(self._function, *arguments)
        return await result if inspect.isawaitable(result) else result

    async def run(self, work: Callable[..., T], *arguments: Any, shield: bool = False) -> T:
        """Do something else in the same place, with `shield` also when cancelled: what was begun here is ended here."""
        if self._threads is None:
            return work(*arguments)
        with trio.CancelScope(shield=shield):
            # Boxed, since trio takes a coroutine that comes out of a thread for a mistake.
            (result,) = await trio.to_thread.run_sync(_boxed, work, *arguments, limiter=self._threads)
        return result


class _Policy:
    """A number for everybody, or a function that knows it for each user."""

    __slots__ = ("_callback", "_value")

    def __init__(self, name: str, value: Any, threads: trio.CapacityLimiter | None) -> None:
        self._callback = _Callback(name, value, threads) if callable(value) else None
        self._value = value

    async def __call__(self, user: str | None) -> Policy:
        value = self._value
        if self._callback is not None:
            value = await self._callback(*([] if user is None else [user]))
        return Policy(None if value == "NEVER" else value, per_user=self._callback is not None)


class _Chunks:
    """A plain iterable of octets, advanced where its callback runs, in pieces of 64 KiB or more."""

    __slots__ = ("_callback", "_iterator")

    def __init__(self, callback: _Callback, iterator: Iterator[bytes]) -> None:
        self._callback = callback
        self._iterator = iterator

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._callback.run(_gathered, self._iterator)
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close a generator or a file now, not when it is forgotten. Done even if cancelled."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            await self._callback.run(close, shield=True)


async def _nothing(*_: object) -> None:
    """In place of a hook that is not there."""


def _places(failure: Exception) -> str:
    """Where it came from, outermost first. Without the lines of code, which may hold a secret like any text."""
    steps = ((frame.f_code, line) for frame, line in traceback.walk_tb(failure.__traceback__))
    return "".join(f"\n  {code.co_filename}:{line} in {code.co_qualname}" for code, line in steps)


def _is_async(function: Callable[..., object]) -> bool:
    """Whether calling it cannot block: functions and objects whose call is `async`, or an async generator."""
    parts = (function, function.__call__)  # type: ignore[operator]
    return any(inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in parts)


def _boxed(work: Callable[..., T], *arguments: object) -> tuple[T]:
    return (work(*arguments),)


def _gathered(chunks: Iterator[bytes]) -> bytes:
    """What comes next, as far as 64 KiB; b"" at the end."""
    gathered: list[bytes] = []
    octets = 0
    for chunk in chunks:
        gathered.append(chunk)
        octets += len(chunk)
        if octets >= _OCTETS_AT_ONCE:
            break
    return b"".join(gathered)


async def _opened(retrieve: _Callback, user: str, uid: str) -> bytes | AsyncIterable[bytes]:
    """A message as the callback gave it, a plain iterable made asynchronous. Raises TypeError if it is neither."""
    content = await retrieve(user, uid)
    if isinstance(content, bytes) or hasattr(content, "__aiter__"):
        return content  # type: ignore[no-any-return]
    if isinstance(content, Iterable) and not isinstance(content, (str, bytearray, memoryview)):
        # Nothing may be awaited here: a cancellation would leave the content open.
        return _Chunks(retrieve, iter(content))
    raise TypeError(f"retrieve must give bytes or an iterable of bytes, not {type(content).__name__}")


def _user_name(answer: object, user: str) -> str:
    if answer is True:
        return user
    if isinstance(answer, str) and answer:
        return answer
    if answer is None or answer is False:
        raise AuthenticationFailed
    raise TypeError("authenticate and apop answer True, False, None or a name that is not empty")
