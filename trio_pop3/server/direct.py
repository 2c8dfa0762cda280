"""What every command pays for, at its lowest price: a socket that is ready is used at once, a wait is noticed."""

from __future__ import annotations

import errno
import os
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, NoReturn, TypeVar

import trio

T = TypeVar("T")

_CLOSED: Final = "this socket was already closed"


class DirectSocket:
    """The socket below a `trio.SocketStream`, for a task that has it to itself.

    The stream goes through the scheduler for each octet sent, and tries to read before it waits. A server mostly can
    send and mostly has to wait, so this is half the price.
    """

    __slots__ = ("_socket",)

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket

    def send(self, data: memoryview) -> int:
        """How many octets the kernel takes now, perhaps none. No checkpoint.

        Raises what the stream raises: BrokenResourceError, ClosedResourceError.
        """
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as failure:
            _give_up(failure)

    async def receive(self, octets: int) -> bytes:
        """Some octets; b"" at the end. Always a checkpoint: others run, even if something is there already.

        Raises what the stream raises: BrokenResourceError, ClosedResourceError.
        """
        while True:
            if (fd := self._socket.fileno()) < 0:
                raise trio.ClosedResourceError(_CLOSED)
            await trio.lowlevel.wait_readable(fd)
            try:
                return os.read(self._socket.fileno(), octets)
            except BlockingIOError:
                continue
            except OSError as failure:
                _give_up(failure)


def _give_up(failure: OSError) -> NoReturn:
    if failure.errno == errno.EBADF:
        raise trio.ClosedResourceError(_CLOSED) from None
    raise trio.BrokenResourceError(f"socket connection broken: {failure}") from failure


@types.coroutine
def noticing(work: Coroutine[Any, Any, T], waits: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await a coroutine, calling `waits` just before it first suspends, and not at all if it never does.

    Most answers come without waiting for anything. A deadline that is moved for each of them costs more than they do.
    """
    try:
        wish = work.send(None)
        waits()
        while True:
            try:
                answer = yield wish
            except GeneratorExit:
                raise
            except BaseException as failure:  # noqa: ASYNC103 - it goes on where it belongs, into the work
                wish = work.throw(failure)
            else:
                wish = work.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        work.close()
