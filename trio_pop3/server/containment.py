"""What one connection must not stop, and what it must not let out."""

from __future__ import annotations

import math

import trio


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
