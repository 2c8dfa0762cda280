"""Trio for those who are not asynchronous: a loop in a thread, and a way to have things run in it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, TypeVar

import trio

T = TypeVar("T")


class Portal(contextlib.AbstractContextManager["Portal"]):
    """A trio loop in a thread of its own.

        with Portal() as portal:
            portal.run(async_function, argument)

    Leaving the block cancels everything that was started in it and waits until it is gone. What a task that was
    started has raised is raised there, as an exception group; until then `run` raises trio.RunFinishedError.
    """

    def __init__(self) -> None:
        self._ready: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._main, name="trio_pop3.testing", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Portal:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # a task has failed, and taken the loop with it
            trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def run(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What `await work(*arguments)` returns in the loop; what it raises is raised here."""
        return trio.from_thread.run(work, *arguments, trio_token=self._token)

    def start(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Start a task that goes on; returns what it gives to `task_status.started`."""
        return self.run(self._nursery.start, work, *arguments)

    def _main(self) -> None:
        try:
            trio.run(self._host)
        except BaseException as failure:  # noqa: ASYNC103 - raised again where the block is left
            self._failure = failure
        finally:
            self._ready.set()

    async def _host(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._ready.set()
            await trio.sleep_forever()
