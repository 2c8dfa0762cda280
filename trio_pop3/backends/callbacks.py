"""Plain functions as a backend: the contract of Perl's Net::Server::POP3, every name of it kept (docs/callbacks.md)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import trio

from ..backend import (
    ApopCredentials,
    AuthenticationFailed,
    ClientInfo,
    CommitIncomplete,
    Credentials,
    MaildropInUse,
    MessageInfo,
    PasswordCredentials,
    PermanentFailure,
)
from ..sansio import OctetCounter, octets_of

logger = logging.getLogger("trio_pop3.callbacks")

Callback = Callable[..., Any]

# trio's own default; a limiter of our own so that a slow store does not starve other users of threads.
_THREADS: Final = 40
# The empty message is sent as one empty line.
_EMPTY_MESSAGE: Final = 2


class CallbackBackend:
    """A backend made of functions, each plain or `async`.

    Plain functions run in worker threads, so they may block, and must stand being called from several threads; with
    `blocking=False` they run on the event loop, and must not block. One session at a time may have a user's mail.

    Args:
        authenticate: (user, password, ip) -> True, or the user's name, or False. It may raise the typed failures.
        list: (user) -> the messages, oldest first: uids, (uid, octets) pairs, or `MessageInfo`. Called once, at login.
        retrieve: (user, uid) -> the message: bytes, or an iterable or async iterable of bytes, with any line ends.
        delete: (user, uid), called at QUIT for each marked message. Raising, or returning False, means it is still
        there.
            Without it nothing can be deleted, and QUIT says so.
        size: (user, uid) -> octets as sent, called once a message, at login, if `list` gave none. Without either,
        each message
            is retrieved once at login to be measured.
        connect: (client), before the greeting; raising a `BackendError` refuses the connection.
        disconnect: (client, reason), exactly once after each `connect`, however the connection ended.
        apop: (user, digest, timestamp) -> like authenticate; `digest` is 32 lower-case hex digits. Offered only if
            `serve(..., apop=True)`.
        blocking: run plain functions in threads.

    Raises TypeError if a callback cannot be called.
    """

    def __init__(
        self,
        *,
        authenticate: Callback,
        list: Callback,  # noqa: A002 - the name it has always had
        retrieve: Callback,
        delete: Callback | None = None,
        size: Callback | None = None,
        connect: Callback | None = None,
        disconnect: Callback | None = None,
        apop: Callback | None = None,
        blocking: bool = True,
    ) -> None:
        named = {
            "authenticate": authenticate, "list": list, "retrieve": retrieve, "delete": delete, "size": size,
            "connect": connect, "disconnect": disconnect, "apop": apop,
        }  # fmt: skip
        for name, callback in named.items():
            required = name in ("authenticate", "list", "retrieve")
            if not callable(callback) and (required or callback is not None):
                raise TypeError(f"{name} must be a function, not {type(callback).__name__}")
        self._callbacks: Final = named
        self._blocking: Final = blocking
        self._limiter: trio.CapacityLimiter | None = None
        self._locked: set[str] = set()
        # Only what is there is offered: these protocols are recognised by their methods.
        if connect is not None or disconnect is not None:
            self.connect = self._connect
            self.disconnect = self._disconnect
        if apop is not None:
            self.authenticate_apop = self._authenticate_apop

    async def call(self, name: str, *arguments: object) -> Any:
        """Call a callback where it belongs, and await it if it is to be awaited."""
        callback = self._callbacks[name]
        assert callback is not None
        result = await self.run(callback, *arguments)
        return await result if inspect.isawaitable(result) else result

    async def run(self, function: Callback, *arguments: object) -> Any:
        """Run a plain function in a thread if it may block; a coroutine function right here."""
        if not self._blocking or inspect.iscoroutinefunction(function):
            return function(*arguments)
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(_THREADS)
        return await trio.to_thread.run_sync(partial(function, *arguments), limiter=self._limiter)

    async def authenticate(self, credentials: Credentials, client: ClientInfo) -> str:
        """See `trio_pop3.backend.Authenticator`."""
        if not isinstance(credentials, PasswordCredentials) or not credentials.password:
            raise AuthenticationFailed
        answer = await self.call("authenticate", credentials.user, credentials.password, client.host)
        return _user_name(answer, credentials.user)

    async def _authenticate_apop(self, credentials: ApopCredentials, client: ClientInfo) -> str:
        answer = await self.call("apop", credentials.user, credentials.digest.hex(), credentials.timestamp)
        return _user_name(answer, credentials.user)

    async def _connect(self, client: ClientInfo) -> None:
        if self._callbacks["connect"] is not None:
            await self.call("connect", client)

    async def _disconnect(self, client: ClientInfo, reason: str) -> None:
        if self._callbacks["disconnect"] is not None:
            await self.call("disconnect", client, reason)

    async def open(self, user: str, client: ClientInfo) -> CallbackMaildrop:
        """See `trio_pop3.backend.Store`."""
        if user in self._locked:
            raise MaildropInUse
        self._locked.add(user)
        try:
            listed = await self.run(tuple, await self.call("list", user))
            messages = [await self._described(user, item) for item in listed]
        except BaseException:
            self._locked.discard(user)
            raise
        return CallbackMaildrop(self, user, messages)

    async def _described(self, user: str, item: object) -> MessageInfo:
        if isinstance(item, MessageInfo):
            return item
        if isinstance(item, tuple):
            uid, octets = item
        elif self._callbacks["size"] is not None:
            uid, octets = item, await self.call("size", user, item)
        else:
            uid, octets = item, await self._measured(user, item)
        return MessageInfo(uid, _EMPTY_MESSAGE if octets == 0 else octets)

    async def _measured(self, user: str, uid: object) -> int:
        content = await self.content(user, uid)
        if isinstance(content, bytes):
            return octets_of(content)
        counter = OctetCounter()
        async for chunk in content:
            counter.update(chunk)
        return counter.finish()

    async def content(self, user: str, uid: object) -> bytes | AsyncIterable[bytes]:
        """A message as the callback gave it; a plain iterable is advanced where plain functions run."""
        content = await self.call("retrieve", user, uid)
        if isinstance(content, bytes) or hasattr(content, "__aiter__"):
            return content  # type: ignore[no-any-return]
        if isinstance(content, Iterable) and not isinstance(content, (str, bytearray, memoryview)):
            return _Advanced(self, content)
        raise TypeError(f"retrieve must give bytes or an iterable of bytes, not {type(content).__name__}")

    def unlock(self, user: str) -> None:
        """Let the next session have the user's mail."""
        self._locked.discard(user)

    @property
    def can_delete(self) -> bool:
        """Whether there is a callback for it."""
        return self._callbacks["delete"] is not None


def _user_name(answer: object, user: str) -> str:
    if answer is True:
        return user
    if isinstance(answer, str) and answer:
        return answer
    if answer is None or answer is False:
        raise AuthenticationFailed
    raise TypeError(f"authenticate and apop answer True, False, None or a user name, not {type(answer).__name__}")


class CallbackMaildrop:
    """One session's mail."""

    def __init__(self, backend: CallbackBackend, user: str, messages: Sequence[MessageInfo]) -> None:
        self.messages = messages
        self._backend = backend
        self._user = user

    async def retrieve(self, message: MessageInfo) -> bytes | AsyncIterable[bytes]:
        """See `trio_pop3.backend.Maildrop`."""
        return await self._backend.content(self._user, message.uid)

    async def commit(self, deleted: Sequence[MessageInfo]) -> None:
        """Every message is tried, whatever became of the ones before."""
        if deleted and not self._backend.can_delete:
            raise PermanentFailure("messages cannot be deleted here")
        remaining = 0
        for message in deleted:
            try:
                remaining += await self._backend.call("delete", self._user, message.uid) is False
            except Exception:
                logger.exception("delete failed for uid %s", message.uid)
                remaining += 1
        if remaining:
            raise CommitIncomplete(remaining)

    async def release(self) -> None:
        """See `trio_pop3.backend.Maildrop`."""
        self._backend.unlock(self._user)


class _Advanced:
    """A plain iterable of chunks, each taken where plain functions run."""

    def __init__(self, backend: CallbackBackend, chunks: Iterable[bytes]) -> None:
        self._backend = backend
        self._chunks = iter(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._backend.run(next, self._chunks, None)
        if chunk is None:
            raise StopAsyncIteration
        return chunk  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Close a generator, so that its `finally` runs now."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            await self._backend.run(close)
