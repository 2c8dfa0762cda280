"""What one connection must not stop, and what it must not let out."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import trio

logger = logging.getLogger("trio_pop3.server")


def concerns_others(failure: BaseException) -> BaseException | None:
    """The part of an exception that is for others to see: cancellation from outside, Ctrl-C, the end of the program.

    A backend can let out a cancellation that nobody outside asked for: one it remembered, or one of a cancel scope
    that it left open around a `yield`. That, and any exception in a group, is one connection's own trouble.
    """
    kinds: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit)
    if trio.current_effective_deadline() == -math.inf:
        kinds = (*kinds, trio.Cancelled)
    if isinstance(failure, BaseExceptionGroup):
        return failure.subgroup(kinds)
    return failure if isinstance(failure, kinds) else None


@contextmanager
def contained() -> Iterator[None]:
    """Ends here whatever does not concern others, and logs it."""
    try:
        yield
    except BaseException as failure:  # noqa: ASYNC103 - what concerns others is raised again
        if (more := concerns_others(failure)) is not None:
            raise more from None  # noqa: ASYNC104 - this is it
        # Not its text: it may quote a secret, and nobody here knows which.
        trace = "".join(traceback.format_tb(failure.__traceback__))
        logger.error("this should not have happened: %s\n%s", type(failure).__name__, trace.rstrip())


@contextmanager
def plain_interrupt() -> Iterator[None]:
    """Ctrl-C stays what it was, whatever nursery it came through."""
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            raise KeyboardInterrupt from None
        raise
